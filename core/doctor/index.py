"""Checks of the index and its server."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import stat
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from imgsearch.core.errors import ImgsearchError, IndexNotFound, IndexTooOld, ModelError
from imgsearch.core.models.hub import cached, hub_files, offline_variable
from imgsearch.core.models.onnx_towers import TOWERS, OnnxTowers
from imgsearch.core.models.registry import (
    DIR_PREFIX,
    RECOMMENDED,
    ModelSpec,
    weights_unchanged,
)
from imgsearch.core.paths import filesystem, is_network_filesystem, printable, size
from imgsearch.core.places import PORTABLE, locate
from imgsearch.core.serving import protocol
from imgsearch.core.store.lock import writer_of
from imgsearch.core.store.store import Store

from .findings import LOW_DISK_BYTES, SERVE, Finding, Topic, existing_folder, install, requirement, typed
from .probe import Probe

if TYPE_CHECKING:
    from imgsearch.core.store.records import Space

FOLDER_SECONDS = 5.0
"""A disk that takes longer to find its folders does not respond."""
MAX_NAMED = 8
"""Maximum number of reasons to list."""
INDEX = Topic("index")


def index(option: str | None, *, may_check: bool = True) -> Iterator[Finding]:
    """Which index is used and why, its disk and owner, who writes to it, and whether it is intact."""
    folder = locate(option)
    why = _why(option, folder)
    if not os.path.lexists(folder):
        free = shutil.disk_usage(existing_folder(folder)).free
        yield INDEX.note(f"no index yet at {folder} ({why}); {size(free)} free there", _index_pictures())
        return
    yield INDEX.ok(f"{folder} ({why})")
    for check_folder in (_disk, _owner, _writer):
        yield from INDEX.safely(partial(check_folder, folder))
    try:
        store = Store.open(folder, update=False)
    except IndexTooOld as error:
        yield INDEX.note(f"{error}; the next command that uses it upgrades it", "imgsearch status")
        return
    except IndexNotFound as error:
        yield from _without_catalogue(folder, error)
        return
    except ImgsearchError as error:
        yield INDEX.raised(error)
        return
    with store:
        for check_store in (_counts, _roots, _failures, _spaces, _notes):
            yield from INDEX.safely(partial(check_store, store))
        if may_check:
            yield from INDEX.safely(partial(_quick_check, store))
        else:
            found = "not checked: a library that this needs cannot be loaded (see above)"
            yield INDEX.note(found, "fix that library first, then: imgsearch check")


def _why(option: str | None, folder: str) -> str:
    if option:
        return "--index or a setting"
    if os.environ.get("IMGSEARCH_INDEX"):
        return "$IMGSEARCH_INDEX"
    return f"the nearest {PORTABLE}/" if os.path.basename(folder) == PORTABLE else "in your data directory"


def _disk(folder: str) -> Iterator[Finding]:
    kind, free = filesystem(folder), shutil.disk_usage(folder).free
    if is_network_filesystem(folder):
        found = f"on a network disk ({kind}): safe, but slower, and queries wait for writers"
        yield INDEX.note(found, "imgsearch index FOLDER --index DIR, with DIR on a local disk")
    if free < LOW_DISK_BYTES:
        yield INDEX.warning(f"{size(free)} free on its disk", "free some space there, or give another --index")
    else:
        yield INDEX.ok(f"{size(free)} free on its disk{f' ({kind})' if kind else ''}")


def _owner(folder: str) -> Iterator[Finding]:
    owner = os.stat(folder).st_uid
    if owner != os.getuid():
        found = f"belongs to another user (uid {owner}); only use an index from someone you trust"
        yield INDEX.warning(found, "give another --index, or make one: imgsearch index FOLDER --index DIR")
    if not os.access(folder, os.R_OK | os.X_OK):
        yield INDEX.problem("you cannot read it", f"chmod -R u+rwX {typed(folder)}")
    elif not os.access(folder, os.W_OK):
        yield INDEX.note("you can search it, but not write to it", f"chmod -R u+rwX {typed(folder)}")


def _writer(folder: str) -> Iterator[Finding]:
    writer = writer_of(folder)
    if writer is not None:
        whose = "a process" if writer == "unknown" else f"process {writer}"
        yield INDEX.note(f"{whose} is writing to it now; searching works", "to write, wait for it with --wait")


def _without_catalogue(folder: str, error: ImgsearchError) -> Iterator[Finding]:
    if importlib.util.find_spec("numpy"):
        from imgsearch.core.store.check import without_catalogue

        if lost := without_catalogue(folder):
            yield INDEX.problem(lost.what, "imgsearch check --repair")
            return
    yield INDEX.note(str(error), _index_pictures())


def _counts(store: Store) -> Iterator[Finding]:
    status = store.status()
    counts = [f"{status.photos.get('present', 0):,} photos"]
    hidden = {state: status.photos.get(state, 0) for state in ("gone", "excluded", "offline")}
    counts += [f"{count:,} {state}" for state, count in hidden.items() if count]
    yield INDEX.ok(f"{', '.join(counts)}; {status.texts:,} texts; {size(status.bytes)}")
    if status.active is None:
        yield INDEX.note("no photos are indexed yet", _index_pictures())


def _index_pictures() -> str:
    import platformdirs

    pictures = platformdirs.user_pictures_dir()
    return f"imgsearch index {typed(pictures) if os.path.isdir(pictures) else 'FOLDER'}"


def _roots(store: Store) -> Iterator[Finding]:
    """Whether the indexed folders exist."""
    roots = store.catalog.roots.all()
    with contextlib.closing(Probe("folders", *(root.path for root in roots), seconds=FOLDER_SECONDS)) as probe:
        states = [answer.get("state", answer.get("error")) for answer in probe.answers()] if roots else []
    states += ["does not respond"] * (len(roots) - len(states))
    present = 0
    for root, state in zip(roots, states, strict=True):
        path = printable(root.path)
        if state == "present" and root.state == "offline":
            found = f"{path} is offline in the index ({root.note or 'lost'}), but present now"
            yield INDEX.note(found, f"imgsearch index {typed(root.path)}")
        elif state == "missing":
            fix = f"mount its disk; if it was moved: imgsearch roots move {typed(root.path)} NEW; "
            fix += f"if it is gone for good: imgsearch prune --offline {typed(root.path)}"
            yield INDEX.warning(f"{path} is missing: its photos cannot be opened", fix)
        elif state != "present":
            yield INDEX.warning(f"{path} {state}", f"ls -ld {typed(root.path)}, and fix what it shows")
        else:
            present += 1
    if present:
        yield INDEX.ok(f"{present} of {len(roots)} folders are present" if len(roots) > 1 else "its folder is present")


def _failures(store: Store) -> Iterator[Finding]:
    reasons: Counter[str] = Counter()
    for stage, reason, count in store.catalog.failures.count_by_reason():
        # A reason with a path or a quoted name would reveal the names of photos.
        is_plain = "pip install" in reason or not set("/\\'\"") & set(reason)
        reasons[reason if is_plain else f"{stage} failed"] += count
    if reasons:
        named = [f"{count:,} x {reason}" for reason, count in reasons.most_common(MAX_NAMED)]
        more = [f"{len(reasons) - MAX_NAMED} other reasons"] if len(reasons) > MAX_NAMED else []
        found = f"{reasons.total():,} files could not be indexed: {'; '.join([*named, *more])}"
        yield INDEX.note(found, "imgsearch failures")


def _spaces(store: Store) -> Iterator[Finding]:
    active = store.active_space()
    for space in store.catalog.spaces.all():
        name = printable(space.identity.name)
        if active is not None and space.id == active.id:
            yield INDEX.ok(f"model {name}, {space.identity.dim}-d, {space.slots:,} vectors")
            yield from _weights(space, name)
            yield from _towers(space, name)
            yield from _graphs(store, space)
        elif space.state == "building":
            found = f"model {name} is incomplete ({space.slots:,} vectors) and not searched yet"
            fix = f"imgsearch index --model {typed(name)}; or remove it: imgsearch prune --space {typed(name)}"
            yield INDEX.note(found, fix)
        else:
            yield INDEX.note(f"model {name} is no longer searched ({space.slots:,} vectors)", "imgsearch prune")


def _weights(space: Space, name: str) -> Iterator[Finding]:
    """Whether the model can embed more photos."""
    try:
        spec = ModelSpec.from_json(space.model)
    except ModelError as error:
        yield INDEX.warning(str(error), f"imgsearch index --model {RECOMMENDED}")
        return
    if spec.checkpoint and not os.path.isfile(spec.checkpoint):
        yield INDEX.warning(f"the weights of {name} are missing: {spec.checkpoint}", "restore that file")
    elif not weights_unchanged(spec, space.identity.details.get("weights_sha256")):
        found = f"the weights of {name} have changed: they are another model now"
        yield INDEX.warning(found, f"restore the old ones, or embed again: imgsearch index --model {typed(name)}")
    elif (hub_files(spec) or spec.arch.startswith(DIR_PREFIX)) and not cached(spec):
        found = f"{name} is not downloaded: no photos can be added"
        switch = offline_variable()
        yield INDEX.warning(
            found, f"unset {switch}; imgsearch index" if switch else "imgsearch index, which downloads it"
        )


def _towers(space: Space, name: str) -> Iterator[Finding]:
    light = OnnxTowers.find(space.identity.fingerprint)
    if light is None:
        found = f"each query loads the whole model {name}, which takes seconds: its ONNX towers do not exist yet"
        yield INDEX.note(found, 'imgsearch query "anything", once')
        return
    lacking = {tower: why for tower, why in light.manifest.lacking.items() if tower in TOWERS}
    for tower, why in lacking.items():
        ways = {"text": "words", "image": "pictures"}
        again = "imgsearch index, which tries again" if light.is_worth_retrying() else "none: the model cannot do it"
        yield INDEX.note(f"queries by {ways[tower]} load the whole model {name}: {why}", again)
    if not lacking:
        yield INDEX.ok("queries do not load the whole model")


def _graphs(store: Store, space: Space) -> Iterator[Finding]:
    due = len(store.graphs.all_of(space))
    stale = store.graphs.stale_files(space)
    if due and importlib.util.find_spec("hnswlib") is None:
        fix = install(requirement("hnswlib"))
        yield INDEX.note("HNSW graphs are not used: hnswlib is not installed", fix)
    elif stale:
        yield INDEX.note(f"{len(stale)} files of HNSW graphs are no longer used", "imgsearch index")
    elif not due:
        yield INDEX.ok("HNSW graphs: not needed, every search scans all vectors")
    elif space.id in store.status().covered:
        yield INDEX.ok("HNSW graphs cover all vectors")
    else:
        yield INDEX.note("HNSW graphs do not cover all vectors; searches scan the rest", "imgsearch index")


def _notes(store: Store) -> Iterator[Finding]:
    active = store.active_space()
    waiting = len(store.catalog.notes.without_vectors(active.id)) if active else 0
    if waiting:
        yield INDEX.note(f"{waiting:,} of your notes are not yet searchable with this model", "imgsearch index")


def _quick_check(store: Store) -> Iterator[Finding]:
    """What `imgsearch check` finds without reading every vector, without the names of photos."""
    from imgsearch.core.store.check import quick_check

    checked = quick_check(store)
    parts = Counter(finding.part for finding in checked.findings)
    if any(finding.is_structural for finding in checked.findings):
        yield INDEX.problem("the catalogue is damaged", "imgsearch check, then: imgsearch check --repair")
    elif parts:
        counted = ", ".join(f"{count} of {part}" for part, count in parts.items())
        report = INDEX.warning if set(parts) <= {"graph", "slots"} else INDEX.problem
        yield report(f"damaged: {counted}", "imgsearch check, then: imgsearch check --repair")
    else:
        yield INDEX.ok("no damage found (for a check of every vector: imgsearch check)")


# ---- The server ------------------------------------------------------------------------------------------------------


def server(option: str | None) -> Iterator[Finding]:
    """Whether an `imgsearch serve` of this index is running, and answers this program."""
    try:
        folder = locate(option)
        path = protocol.socket_path(folder)
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except (ImgsearchError, FileNotFoundError):
        is_socket = False
    if not is_socket:
        yield SERVE.ok("no server is running for this index; each query starts on its own")
        return
    try:
        answers = _accepts(path, folder)
    except (ConnectionRefusedError, FileNotFoundError):
        found = "a server for this index was killed and left its socket, which queries ignore"
        yield SERVE.note(found, f"rm {typed(path)}")
        return
    if answers:
        yield SERVE.ok(f"a server of this version answers the queries of this index ({path})")
    else:
        found = "a server for this index does not accept queries of this program: it has another version, other "
        yield SERVE.note(found + "settings, or hangs", "stop it, then: imgsearch serve")


def _accepts(path: str, folder: str) -> bool:
    """Sends no query: a server that accepts this program says so, another one hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        connection.connect(path)
        if protocol.peer(connection) != os.getuid():
            return False
        try:
            protocol.send(connection, {"from": protocol.identity(folder)})
            return bool(protocol.receive(connection, time.monotonic() + 1.0))
        except (protocol.ProtocolError, OSError):
            return False
