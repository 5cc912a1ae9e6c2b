"""Checks of the index and its server."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgsearch.core.errors import ImgsearchError, IndexNotFound, IndexTooOld, ModelError
from imgsearch.core.models.hub import cached, hub_files, offline_variable
from imgsearch.core.models.registry import DIR_PREFIX, RECOMMENDED, ModelSpec, weights_unchanged
from imgsearch.core.models.towers import TOWERS, Towers
from imgsearch.core.paths import filesystem, is_network_filesystem, printable, size
from imgsearch.core.places import PORTABLE, locate
from imgsearch.core.serving import protocol
from imgsearch.core.store.lock import writer_of
from imgsearch.core.store.store import Store

from .findings import LOW_DISK_BYTES, Finding, free_bytes, note, ok, problem, safely, warning
from .fixes import is_light, typed, with_torch
from .probe import Probe

if TYPE_CHECKING:
    from imgsearch.core.store.records import Root, Space
    from imgsearch.core.store.status import Status

FOLDER_SECONDS = 5.0
"""A disk that takes longer to find its folders does not respond."""


def index(option: str | None, *, may_check: bool = True) -> Iterator[Finding]:
    """Which index is used and why, its disk and owner, who writes to it, and whether it is intact."""
    folder = locate(option)
    if option or os.environ.get("IMGSEARCH_INDEX"):
        why = "--index or a setting" if option else "$IMGSEARCH_INDEX"
    else:
        why = f"the nearest {PORTABLE}/" if os.path.basename(folder) == PORTABLE else "in your data directory"
    if not os.path.lexists(folder):
        yield note(f"no index yet at {folder} ({why}); {size(free_bytes(folder))} free there", _index_pictures())
        return
    yield ok(f"{folder} ({why})")
    for check_folder in (_disk, _owner, _writer):
        yield from safely(check_folder, folder)
    try:
        store = Store.open(folder, update=False)
    except IndexTooOld as error:
        yield note(f"{error}; the next command that uses it upgrades it", "imgsearch status")
        return
    except IndexNotFound as error:
        if may_check and (lost := _lost_catalogue(folder)):
            yield problem(lost, "imgsearch check --repair")
        else:
            yield note(str(error), _index_pictures())
        return
    with store:
        yield from safely(_contents, store)
        if may_check:
            yield from safely(_quick_check, store)
        else:
            found = "not checked: a library that this needs cannot be loaded (see above)"
            yield note(found, "fix that library first, then: imgsearch check")


def _index_pictures() -> str:
    import platformdirs

    pictures = platformdirs.user_pictures_dir()
    return f"imgsearch index {typed(pictures) if os.path.isdir(pictures) else 'FOLDER'}"


def _disk(folder: str) -> Iterator[Finding]:
    kind, free = filesystem(folder), free_bytes(folder)
    if is_network_filesystem(folder):
        found = f"on a network disk ({kind}): safe, but slower, and queries wait for writers"
        yield note(found, "imgsearch index FOLDER --index DIR, with DIR on a local disk")
    if free < LOW_DISK_BYTES:
        yield warning(f"{size(free)} free on its disk", "free some space there, or give another --index")
    else:
        yield ok(f"{size(free)} free on its disk{f' ({kind})' if kind else ''}")


def _owner(folder: str) -> Iterator[Finding]:
    owner = os.stat(folder).st_uid
    if owner != os.getuid():
        found = f"belongs to another user (uid {owner}); only use an index from someone you trust"
        yield warning(found, "give another --index, or make one: imgsearch index FOLDER --index DIR")
    if not os.access(folder, os.R_OK | os.X_OK):
        yield problem("you cannot read it", f"chmod -R u+rwX {typed(folder)}")
    elif not os.access(folder, os.W_OK):
        yield note("you can search it, but not write to it", f"chmod -R u+rwX {typed(folder)}")


def _writer(folder: str) -> Iterator[Finding]:
    writer = writer_of(folder)
    if writer is not None:
        whose = "a process" if writer == "unknown" else f"process {writer}"
        yield note(f"{whose} is writing to it now; searching works", "to write, wait for it with --wait")


def _lost_catalogue(folder: str) -> str | None:
    from imgsearch.core.store.check import without_catalogue

    lost = without_catalogue(folder)
    return lost.what if lost else None


def _contents(store: Store) -> Iterator[Finding]:
    status = store.status()
    states = {state: status.photos.get(state, 0) for state in ("gone", "excluded", "offline")}
    counts = [f"{status.photos.get('present', 0):,} photos", *(f"{n:,} {state}" for state, n in states.items() if n)]
    yield ok(f"{', '.join(counts)}; {status.texts:,} texts; {size(status.bytes)}")
    if status.active is None:
        yield note("no photos are indexed yet", _index_pictures())
    elif waiting := len(store.catalog.notes.without_vectors(status.active.id)):
        yield note(f"{waiting:,} of your notes are not yet searchable with this model", "imgsearch index")
    yield from safely(_roots, [root for root, _ in status.roots])
    yield from safely(_failures, store)
    yield from safely(_spaces, status)


def _roots(roots: list[Root]) -> Iterator[Finding]:
    """Whether the indexed folders exist."""
    with contextlib.closing(Probe("folders", *(root.path for root in roots), seconds=FOLDER_SECONDS)) as probe:
        states = [answer["state"] for answer in probe.answers if "state" in answer]
    states += ["does not respond"] * (len(roots) - len(states))
    present = 0
    for root, state in zip(roots, states, strict=True):
        path, word = printable(root.path), typed(root.path)
        if state == "present" and root.state == "offline":
            found = f"{path} is offline in the index ({root.note or 'lost'}), but present now"
            yield note(found, f"imgsearch index {word}")
        elif state == "missing":
            fix = f"mount its disk; if it was moved: imgsearch roots move {word} NEW; "
            fix += f"if it is gone for good: imgsearch prune --offline {word}"
            yield warning(f"{path} is missing: its photos cannot be opened", fix)
        elif state != "present":
            yield warning(f"{path} {state}", f"ls -ld {word}, and fix what it shows")
        else:
            present += 1
    if present:
        yield ok(f"{present} of {len(roots)} folders are present" if len(roots) > 1 else "its folder is present")


def _failures(store: Store) -> Iterator[Finding]:
    reasons: Counter[str] = Counter()
    for stage, reason, count in store.catalog.failures.count_by_reason():
        # A reason with a path or a quoted name would reveal the names of photos.
        is_plain = "pip install" in reason or not set("/\\'\"") & set(reason)
        reasons[reason if is_plain else f"{stage} failed"] += count
    if reasons:
        named = "; ".join(f"{count:,} x {reason}" for reason, count in reasons.most_common())
        yield note(f"{reasons.total():,} files could not be indexed: {named}", "imgsearch failures")


def _spaces(status: Status) -> Iterator[Finding]:
    for space in status.spaces:
        name = printable(space.identity.name)
        if status.active is not None and space.id == status.active.id:
            yield ok(f"model {name}, {space.identity.dim}-d, {space.slots:,} vectors")
            yield from _weights(space, name)
            yield from _towers(space, name)
            if space.id not in status.covered:
                yield note("HNSW graphs do not cover all vectors; searches scan the rest", "imgsearch index")
        elif space.state == "building":
            found = f"model {name} is incomplete ({space.slots:,} vectors) and not searched yet"
            fix = f"imgsearch index --model {typed(name)}; or remove it: imgsearch prune --space {typed(name)}"
            yield note(found, fix)
        else:
            yield note(f"model {name} is no longer searched ({space.slots:,} vectors)", "imgsearch prune")


def _weights(space: Space, name: str) -> Iterator[Finding]:
    """Whether the model can embed more photos."""
    try:
        spec = ModelSpec.from_json(space.model)
    except ModelError as error:
        yield warning(str(error), f"imgsearch index --model {RECOMMENDED}")
        return
    if spec.checkpoint and not os.path.isfile(spec.checkpoint):
        yield warning(f"the weights of {name} are missing: {spec.checkpoint}", "restore that file")
    elif not weights_unchanged(spec, space.identity.details.get("weights_sha256")):
        found = f"the weights of {name} have changed: they are another model now"
        yield warning(found, f"restore the old ones, or embed again: imgsearch index --model {typed(name)}")
    elif (hub_files(spec) or spec.arch.startswith(DIR_PREFIX)) and not cached(spec):
        switch = offline_variable()
        fix = f"unset {switch}; imgsearch index" if switch else "imgsearch index, which downloads it"
        yield warning(f"{name} is not downloaded: no photos can be added", fix)


def _towers(space: Space, name: str) -> Iterator[Finding]:
    light = Towers.find(space.identity.fingerprint)
    if light is None:
        cost = "needs torch for" if is_light() else "loads the whole model"
        found = f"each query {cost} {name}, which takes seconds: its ONNX towers do not exist yet"
        yield note(found, with_torch('imgsearch query "anything"') + ", once")
        return
    lacking = {tower: why for tower, why in light.manifest.lacking.items() if tower in TOWERS}
    ways = {"text": "words", "image": "pictures"}
    again = "imgsearch index, which tries again" if light.is_worth_retrying() else "none: the model cannot do it"
    for tower, why in lacking.items():
        yield note(f"queries by {ways[tower]} load the whole model {name}: {why}", again)
    if not lacking:
        yield ok("queries do not load the whole model")


def _quick_check(store: Store) -> Iterator[Finding]:
    """What `imgsearch check` finds without reading every vector, without the names of photos."""
    from imgsearch.core.store.check import quick_check

    found = quick_check(store).findings
    parts = Counter(each.part for each in found)
    fix = "imgsearch check, then: imgsearch check --repair"
    if any(each.is_structural for each in found):
        yield problem("the catalogue is damaged", fix)
    elif parts:
        report = warning if set(parts) <= {"graph", "slots", "bytes"} else problem
        yield report("damaged: " + ", ".join(f"{count} of {part}" for part, count in parts.items()), fix)
    else:
        yield ok("no damage found (for a check of every vector: imgsearch check)")


# ---- The server ------------------------------------------------------------------------------------------------------


def server(option: str | None) -> Iterator[Finding]:
    """Whether an `imgsearch serve` of this index is running, and answers this program."""
    path = ""
    with contextlib.suppress(ImgsearchError):
        path = protocol.socket_path(locate(option))
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileNotFoundError
        if _accepts(path, locate(option)):
            yield ok(f"a server of this version answers the queries of this index ({path})")
        else:
            found = "a server for this index does not accept queries of this program: it has another version, other "
            yield note(found + "settings, or hangs", "stop it, then: imgsearch serve")
    except FileNotFoundError:
        yield ok("no server is running for this index; each query loads the index and the model itself")
    except ConnectionRefusedError:
        found = "a server for this index was killed and left its socket, which queries ignore"
        yield note(found, f"rm {typed(path)}")


def _accepts(path: str, folder: str) -> bool:
    """Sends no query: a server that accepts this program says so, another one hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        connection.connect(path)
        try:
            if protocol.peer(connection) == os.getuid():
                protocol.send(connection, {"from": protocol.identity(folder)})
                return bool(protocol.receive(connection, time.monotonic() + 1.0))
        except (protocol.ProtocolError, OSError):
            pass
    return False
