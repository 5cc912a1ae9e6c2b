"""How imgsearch fares on this machine: what works, what does not, and how to mend it.

It only looks: nothing is made, fetched or sent, but for the two helper files that SQLite needs beside a catalogue that
is read. Whatever is broken becomes a finding, an exception never. What could crash or hang - libraries, the GPU, disks
that do not answer - is asked in processes of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import stat
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from imgsearch.core.errors import ImgsearchError, IndexNotFound, IndexTooOld, ModelError
from imgsearch.core.models.onnx_towers import FORMAT, MANIFEST, SHIPPED, TOWERS, Manifest, OnnxTowers
from imgsearch.core.models.registry import (
    ALIASES,
    BUILTIN,
    DIR_PREFIX,
    RECOMMENDED,
    ModelSpec,
    cached,
    hub_cache,
    hub_files,
    offline_variable,
    weights_unchanged,
)
from imgsearch.core.paths import cache_folder, filesystem, is_network_filesystem, printable, size
from imgsearch.core.places import PORTABLE, locate
from imgsearch.core.serving import protocol
from imgsearch.core.store.lock import writer_of
from imgsearch.core.store.store import Store

from . import machine, shells
from .findings import About, Finding, install, typed
from .probe import Probe, Unanswered

if TYPE_CHECKING:
    from imgsearch.core.store.catalog import Space

# A disk that has not said within this time whether a folder is there does not answer.
FOLDER_SECONDS = 5.0
LOW_DISK_BYTES = 1_000_000_000
DAY_SECONDS = 86_400
# Of many folders or reasons so many are named and the rest counted.
NAMED = 8
MODELS, INDEX, SERVE = About("models"), About("index"), About("serve")

Look = Callable[[], Iterator[Finding]]


class Examination:
    """One look at everything. Hold it open while its findings are read."""

    def __init__(self, index: str | None, *, script_of: shells.ScriptOf, terminal: Look, settings: Look) -> None:
        """`index` is `--index`; `terminal` and `settings` look at what only the command line knows."""
        self._index = index
        self._script_of = script_of
        self._terminal = terminal
        self._settings = settings
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Examination:
        try:
            # All at once, and the slowest first: it is asked for its answer after the others.
            self._devices = self._probe("devices", seconds=machine.DEVICE_SECONDS)
            self._libraries = {
                name: self._probe("library", name, seconds=machine.LIBRARY_SECONDS) for name in machine.LIBRARIES
            }
        except BaseException:
            self._opened.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def _probe(self, *question: str, seconds: float) -> Probe:
        return self._opened.enter_context(contextlib.closing(Probe(*question, seconds=seconds)))

    def findings(self, on_topic: Callable[[str], None] = lambda topic: None) -> Iterator[Finding]:
        """All of them, topic by topic, as they are found. `on_topic` hears what is looked at next."""
        for about, waits_for, look in self._looks():
            on_topic(waits_for)
            yield from about.safely(look)

    def _looks(self) -> tuple[tuple[About, str, Look], ...]:
        """Each with what it is about, and what it waits for."""
        return (
            (machine.PROGRAM, "the program", machine.program),
            (machine.PROGRAM, "the libraries", lambda: machine.libraries(self._libraries)),
            (machine.DEVICE, "the processor", machine.cores),
            (machine.DEVICE, "the memory", machine.memory),
            (machine.DEVICE, "torch, which takes some seconds to load", lambda: machine.devices(self._devices)),
            (machine.CODECS, "the decoders", lambda: machine.codecs(self._libraries)),
            (MODELS, "the models", models),
            (MODELS, "the built-in model", builtin),
            (MODELS, "the light towers", lambda: light_towers(self._index)),
            (INDEX, "the index", self._index_health),
            (SERVE, "the gallery", machine.gallery),
            (SERVE, "the socket", lambda: server(self._index)),
            (About("settings"), "the settings", self._settings),
            (About("terminal"), "the terminal", self._terminal),
            (shells.ABOUT, "the shells", lambda: shells.completions(self._script_of)),
        )

    def _index_health(self) -> Iterator[Finding]:
        """What may crash a process does not come into this one."""
        breaks = [name for name in ("numpy", "hnswlib") if _crashes(self._libraries[name])]
        yield from index(self._index, may_check=not breaks)


def _crashes(asked: Probe) -> bool:
    try:
        asked.answer()
    except Unanswered as why:
        return "ModuleNotFoundError" not in str(why)
    return False


# ---- Models ----------------------------------------------------------------------------------------------------------


def models() -> Iterator[Finding]:
    """The hub's cache: which models are here, and whether their files are whole."""
    folder = hub_cache()
    here = [name for name, alias in ALIASES.items() if name != BUILTIN and cached(alias.spec)]
    names = f"with {', '.join(here)}" if here else "with none of the models that have a short name"
    switch = offline_variable()
    if os.path.isdir(folder):
        yield MODELS.ok(f"{folder}: {size(_bytes_below(folder))}, {names}")
        yield from _writable(folder, "nothing can be fetched")
        yield from _damaged(folder)
    elif os.path.lexists(folder):
        fix = f"mv {typed(folder)} {typed(folder)}.old"
        yield MODELS.problem(f"{folder} is not a folder: nothing can be fetched", fix)
    if RECOMMENDED not in here:
        fetched = f"imgsearch index FOLDER --model {RECOMMENDED}"
        if switch:
            found = f"{RECOMMENDED}, the recommended model, is not here, and {switch} forbids to fetch it"
            yield MODELS.note(found, f"unset {switch}; {fetched}")
        else:
            megabytes = ALIASES[RECOMMENDED].download_mb
            yield MODELS.note(f"{RECOMMENDED}, the recommended model, is not here ({megabytes} MB)", fetched)
        yield from _room(folder, "for the recommended model")
    elif switch:
        yield MODELS.note(f"{switch} is set: nothing is fetched", f"unset {switch}")


def _writable(folder: str, consequence: str) -> Iterator[Finding]:
    if not os.access(folder, os.W_OK | os.X_OK):
        yield MODELS.warning(f"{folder} cannot be written: {consequence}", f"chmod u+rwx {typed(folder)}")


def _room(folder: str, purpose: str) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(folder)).free
    if free < LOW_DISK_BYTES:
        yield MODELS.warning(f"{size(free)} free at {folder}, too little {purpose}", "free some space there")


def _existing(path: str) -> str:
    """The path, or the nearest folder above that is there."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _bytes_below(folder: str) -> int:
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                info = os.lstat(os.path.join(top, name))
                total += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return total


def _damaged(cache: str) -> Iterator[Finding]:
    """Repositories of open_clip models with files that are incomplete. Others in that cache are not ours to judge."""
    known = {files.repo: alias for alias in ALIASES.values() if (files := hub_files(alias.spec))}
    for repo, alias in known.items():
        folder = os.path.join(cache, "models--" + repo.replace("/", "--"))
        if not os.path.isdir(folder):
            continue
        again = f"rm -r {typed(folder)} && imgsearch index FOLDER --model {alias.name}"
        for path in _files_below(os.path.join(folder, "snapshots")):
            if trouble := weights_trouble(path):
                shown = os.path.basename(path)
                yield MODELS.problem(f"{alias.name}: {shown} {trouble}: the model cannot be loaded", again)
        partial = [path for path in _files_below(os.path.join(folder, "blobs")) if path.endswith(".incomplete")]
        if partial and not cached(alias.spec):
            found = f"{alias.name}: its download was interrupted ({size(sum(map(os.path.getsize, partial)))} are here)"
            yield MODELS.note(found, f"imgsearch index FOLDER --model {alias.name}")


def _files_below(folder: str) -> Iterator[str]:
    for top, _, names in os.walk(folder):
        yield from (os.path.join(top, name) for name in sorted(names))


def weights_trouble(path: str) -> str | None:
    """What is wrong with a file of a model, as far as its ends tell; None where nothing is."""
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if not path.endswith(".safetensors"):
                return None if length or not path.endswith((".bin", ".pt")) else "is empty"
            head = file.read(8)
            size_of_head = struct.unpack("<Q", head)[0] if len(head) == 8 else length
            if size_of_head + 8 > length:
                return f"is cut off after {size(length)}"
            tensors = json.loads(file.read(size_of_head))
            ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
            should = 8 + size_of_head + max(ends, default=0)
            return f"is cut off after {size(length)} of {size(should)}" if length < should else None
    except FileNotFoundError:
        return "is a link to a file that is not there"
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return "is damaged"


def builtin() -> Iterator[Finding]:
    """Every byte of the built-in model, held against the sums that were shipped with it."""
    bad = []
    with open(os.path.join(SHIPPED, "SHA256SUMS"), encoding="ascii") as file:
        sums = [line.split() for line in file]
    for digest, name in sums:
        try:
            with open(os.path.join(SHIPPED, name), "rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != digest:
                    bad.append(f"{name} is not as it was shipped")
        except OSError as error:
            bad.append(f"{name} cannot be read ({(error.strerror or str(error)).lower()})")
    if bad:
        found = f"the built-in model in {SHIPPED} is damaged: {', '.join(bad)}"
        again = install("--force-reinstall", "--no-deps", ".")
        yield MODELS.problem(found, f"in the folder of imgsearch's source: {again}")
    else:
        yield MODELS.ok(f"{BUILTIN}: all of its {len(sums)} files are as they were shipped")


def light_towers(option: str | None) -> Iterator[Finding]:
    """What answers questions without torch, in the user's cache, for the models of the index and for others."""
    cache = cache_folder()
    if os.path.isdir(cache):
        yield MODELS.ok(f"{cache}: {size(_bytes_below(cache))} of what can be made again")
        yield from _writable(cache, "every query loads the whole model, and nothing is remembered")
    elif os.path.lexists(cache):
        found = f"{cache} is not a folder: every query loads the whole model, and nothing is remembered"
        yield MODELS.warning(found, f"mv {typed(cache)} {typed(cache)}.old")
    used = {space.identity.fingerprint for space in _spaces_of(option)}
    stale: list[str] = []
    for folder in _subfolders(os.path.join(cache, "light")):
        fingerprint = _fingerprint(folder)
        if fingerprint is None or OnnxTowers.find(fingerprint, folder) is None:
            yield MODELS.note(f"{folder}: not complete, or of another version; not used", f"rm -r {typed(folder)}")
        elif used and fingerprint not in used:
            stale.append(folder)
    if stale:
        found = f"{size(sum(map(_bytes_below, stale)))} of quick towers are for models that this index does not use"
        yield MODELS.note(f"{found}; others may", "rm -r " + " ".join(map(typed, stale)))


def _subfolders(folder: str) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    return []


def _fingerprint(folder: str) -> str | None:
    """Of the model that the light towers there were made for."""
    try:
        with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
            manifest = Manifest.from_json(file.read())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return manifest.fingerprint if manifest.format == FORMAT else None


def _spaces_of(option: str | None) -> list[Space]:
    """Of the index; none where it cannot be read, which is said of the index."""
    try:
        with Store.open(locate(option), update=False) as store:
            return store.catalog.spaces()
    except (ImgsearchError, OSError):
        return []


# ---- The index -------------------------------------------------------------------------------------------------------


def index(option: str | None, *, may_check: bool = True) -> Iterator[Finding]:
    """Which index is used and why, where it lies, who writes to it, and whether it is whole."""
    folder = locate(option)
    why = _why(option, folder)
    if not os.path.lexists(folder):
        free = shutil.disk_usage(_existing(folder)).free
        yield INDEX.note(f"none yet at {folder} ({why}); {size(free)} free there", _index_pictures())
        return
    yield INDEX.ok(f"{folder} ({why})")
    for look in (_disk, _owner, _writer):
        yield from INDEX.safely(lambda look=look: look(folder))  # type: ignore[misc]
    try:
        store = Store.open(folder, update=False)
    except IndexTooOld as error:
        yield INDEX.note(f"{error}; the next imgsearch that uses it brings it up to date", "imgsearch status")
        return
    except IndexNotFound as error:
        yield from _without_catalogue(folder, error)
        return
    except ImgsearchError as error:
        yield INDEX.raised(error)
        return
    with store:
        for look_into in (_holds, _roots, _failures, _models_of, _notes):
            yield from INDEX.safely(lambda look=look_into: look(store))  # type: ignore[misc]
        if may_check:
            yield from INDEX.safely(lambda: _glance(store))
        else:
            found = "not checked: a library that this takes cannot be loaded (see above)"
            yield INDEX.note(found, "imgsearch check, when it can")


def _why(option: str | None, folder: str) -> str:
    if option:
        return "--index, typed or settled"
    if os.environ.get("IMGSEARCH_INDEX"):
        return "$IMGSEARCH_INDEX"
    return f"the nearest {PORTABLE}/" if os.path.basename(folder) == PORTABLE else "in your data directory"


def _disk(folder: str) -> Iterator[Finding]:
    kind, free = filesystem(folder), shutil.disk_usage(folder).free
    if is_network_filesystem(folder):
        found = f"on a network disk ({kind}): safe, but slower, and queries wait while something is written"
        yield INDEX.note(found, "imgsearch index FOLDER --index DIR, with DIR on a disk of this machine")
    if free < LOW_DISK_BYTES:
        yield INDEX.warning(f"{size(free)} free on its disk", "free some space there, or name another with --index")
    else:
        yield INDEX.ok(f"{size(free)} free on its disk{f' ({kind})' if kind else ''}")


def _owner(folder: str) -> Iterator[Finding]:
    owner = os.stat(folder).st_uid
    if owner != os.getuid():
        found = f"belongs to another user (uid {owner}); take no index from somebody whom you do not trust"
        yield INDEX.warning(found, "name another with --index, or make one: imgsearch index FOLDER --index DIR")
    if not os.access(folder, os.R_OK | os.X_OK):
        yield INDEX.problem("cannot be read by you", f"chmod -R u+rwX {typed(folder)}")
    elif not os.access(folder, os.W_OK):
        yield INDEX.note("can be searched, but not be written by you", f"chmod -R u+rwX {typed(folder)}")


def _writer(folder: str) -> Iterator[Finding]:
    writer = writer_of(folder)
    if writer is not None:
        whose = "a process" if writer == "unknown" else f"process {writer}"
        yield INDEX.note(f"{whose} is writing to it now; queries can be asked", "commands that write take --wait")
    with contextlib.suppress(FileNotFoundError):
        days = (time.time() - os.stat(os.path.join(folder, "lock")).st_mtime) / DAY_SECONDS
        if days >= 1:
            yield INDEX.ok(f"last opened for writing {days:,.0f} {'day' if days < 1.5 else 'days'} ago")


def _without_catalogue(folder: str, error: ImgsearchError) -> Iterator[Finding]:
    if importlib.util.find_spec("numpy"):
        from imgsearch.core.store.check import without_catalogue

        if lost := without_catalogue(folder):
            yield INDEX.problem(lost.what, "imgsearch check --repair")
            return
    yield INDEX.note(str(error), _index_pictures())


def _holds(store: Store) -> Iterator[Finding]:
    status = store.status()
    counts = [f"{status.photos.get('present', 0):,} photos"]
    hidden = {state: status.photos.get(state, 0) for state in ("gone", "excluded", "offline")}
    counts += [f"{count:,} {state}" for state, count in hidden.items() if count]
    yield INDEX.ok(f"{', '.join(counts)}; {status.texts:,} texts; {size(status.bytes)}")
    if status.active is None:
        yield INDEX.note("nothing is indexed yet", _index_pictures())


def _index_pictures() -> str:
    import platformdirs

    pictures = platformdirs.user_pictures_dir()
    return f"imgsearch index {typed(pictures) if os.path.isdir(pictures) else 'FOLDER'}"


def _roots(store: Store) -> Iterator[Finding]:
    """The folders as the catalogue has them, and as they are now."""
    roots = store.catalog.roots()
    with contextlib.closing(Probe("folders", *(root.path for root in roots), seconds=FOLDER_SECONDS)) as asked:
        states = [answer.get("state", answer.get("error")) for answer in asked.answers()] if roots else []
    states += ["does not answer"] * (len(roots) - len(states))
    there = 0
    for root, state in zip(roots, states, strict=True):
        path = printable(root.path)
        if state == "there" and root.state == "offline":
            found = f"{path} is offline in the index ({root.note or 'lost'}), and there now"
            yield INDEX.note(found, f"imgsearch index {typed(root.path)}")
        elif state == "missing":
            fix = f"mount its disk; if it was moved: imgsearch roots move {typed(root.path)} NEW; "
            fix += f"if it is gone for good: imgsearch prune --offline {typed(root.path)}"
            yield INDEX.warning(f"{path} is not there: its photos cannot be opened", fix)
        elif state != "there":
            yield INDEX.warning(f"{path} {state}", f"ls -ld {typed(root.path)}, and mend what it says")
        else:
            there += 1
    if there:
        yield INDEX.ok(f"{there} of {len(roots)} folders are there" if len(roots) > 1 else "its folder is there")


def _failures(store: Store) -> Iterator[Finding]:
    rows = store.catalog.rows("select stage, reason, count(*) from failures where not is_silent group by 1, 2")
    reasons: Counter[str] = Counter()
    for stage, reason, count in rows:
        # A reason that holds a path or a name would tell what somebody's photos are called.
        is_plain = "pip install" in str(reason) or not set("/\\'\"") & set(str(reason))
        reasons[str(reason) if is_plain else f"{stage} failed"] += count
    if reasons:
        named = [f"{count:,} x {reason}" for reason, count in reasons.most_common(NAMED)]
        more = [f"{len(reasons) - NAMED} other reasons"] if len(reasons) > NAMED else []
        found = f"{reasons.total():,} files could not be indexed: {'; '.join([*named, *more])}"
        yield INDEX.note(found, "imgsearch failures")


def _models_of(store: Store) -> Iterator[Finding]:
    active = store.active_space()
    for space in store.catalog.spaces():
        name = printable(space.identity.name)
        if active is not None and space.id == active.id:
            yield INDEX.ok(f"model {name}, {space.identity.dim}-d, {space.slots:,} vectors")
            yield from _is_here(space, name)
            yield from _towers(space, name)
            yield from _graphs(store, space)
        elif space.state == "building":
            found = f"model {name} is not complete ({space.slots:,} vectors), and not searched yet"
            fix = f"imgsearch index --model {typed(name)}; or forget it: imgsearch prune --space {typed(name)}"
            yield INDEX.note(found, fix)
        else:
            yield INDEX.note(f"model {name} is not searched any more ({space.slots:,} vectors)", "imgsearch prune")


def _is_here(space: Space, name: str) -> Iterator[Finding]:
    """Whether more photos can be embedded with it."""
    try:
        spec = ModelSpec.from_json(space.model)
    except ModelError as error:
        yield INDEX.warning(str(error), f"imgsearch index --model {RECOMMENDED}")
        return
    if spec.checkpoint and not os.path.isfile(spec.checkpoint):
        yield INDEX.warning(f"the weights of {name} are not there: {spec.checkpoint}", "put them there again")
    elif not weights_unchanged(spec, space.identity.details.get("weights_sha256")):
        found = f"the weights of {name} were changed: they are another model now"
        yield INDEX.warning(found, f"put the old ones back, or embed anew: imgsearch index --model {typed(name)}")
    elif (hub_files(spec) or spec.arch.startswith(DIR_PREFIX)) and not cached(spec):
        found = f"{name} is not on this machine: no photo can be added"
        switch = offline_variable()
        yield INDEX.warning(
            found, f"unset {switch}; imgsearch index" if switch else "imgsearch index, which fetches it"
        )


def _towers(space: Space, name: str) -> Iterator[Finding]:
    light = OnnxTowers.find(space.identity.fingerprint)
    if light is None:
        found = f"queries load the whole model {name}, some seconds each: its quick towers are not made yet"
        yield INDEX.note(found, 'imgsearch query "anything", once')
        return
    lacking = {tower: why for tower, why in light.manifest.lacking.items() if tower in TOWERS}
    for tower, why in lacking.items():
        ways = {"text": "words", "image": "pictures"}
        again = "imgsearch index, which tries again" if light.is_worth_retrying() else "nothing: this model is so"
        yield INDEX.note(f"queries by {ways[tower]} load the whole model {name}: {why}", again)
    if not lacking:
        yield INDEX.ok("queries are answered without loading the whole model")


def _graphs(store: Store, space: Space) -> Iterator[Finding]:
    due = len(store.graphs.all_of(space))
    stale = store.graphs.stale_files(space)
    if due and importlib.util.find_spec("hnswlib") is None:
        fix = install(machine.REQUIREMENTS["hnswlib"])
        yield INDEX.note("HNSW graphs are not used: hnswlib is not installed", fix)
    elif stale:
        yield INDEX.note(f"{len(stale)} files of HNSW graphs are not used any more", "imgsearch index")
    elif not due:
        yield INDEX.ok("HNSW graphs: none needed, every vector is scanned")
    elif space.id in store.status().covered:
        yield INDEX.ok("HNSW graphs are those of its vectors")
    else:
        yield INDEX.note("HNSW graphs are not complete; what is in none is scanned", "imgsearch index")


def _notes(store: Store) -> Iterator[Finding]:
    active = store.active_space()
    waiting = len(store.catalog.notes_without_vectors(active.id)) if active else 0
    if waiting:
        yield INDEX.note(f"{waiting:,} of your notes are not searchable with this model yet", "imgsearch index")


def _glance(store: Store) -> Iterator[Finding]:
    """What `check` sees without reading every vector. It names photos, which is not said here."""
    from imgsearch.core.store.check import glance

    checked = glance(store)
    parts = Counter(finding.part for finding in checked.findings)
    if any(finding.is_structural for finding in checked.findings):
        yield INDEX.problem("the catalogue is damaged", "imgsearch check, then: imgsearch check --repair")
    elif parts:
        told = ", ".join(f"{count} of {part}" for part, count in parts.items())
        report = INDEX.warning if set(parts) <= {"graph", "slots"} else INDEX.problem
        yield report(f"not as it should be: {told}", "imgsearch check, then: imgsearch check --repair")
    else:
        yield INDEX.ok("whole at a glance; every vector is looked at by: imgsearch check")


# ---- Warm answers ----------------------------------------------------------------------------------------------------


def server(option: str | None) -> Iterator[Finding]:
    """Whether an `imgsearch serve` answers for this index, and would answer this program."""
    try:
        folder = locate(option)
        path = protocol.socket_path(folder)
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except (ImgsearchError, FileNotFoundError):
        is_socket = False
    if not is_socket:
        yield SERVE.ok("no server is running for this index; queries find their answers alone")
        return
    try:
        answers = _is_taken(path, folder)
    except (ConnectionRefusedError, FileNotFoundError):
        found = "a server for this index was killed and has left its socket; queries pass it over"
        yield SERVE.note(found, f"rm {typed(path)}")
        return
    if answers:
        yield SERVE.ok(f"a server of this version answers queries to this index ({path})")
    else:
        found = "a server runs for this index, and does not take this program's questions: it is of another version, "
        yield SERVE.note(found + "was started with other settings, or hangs", "end it, then: imgsearch serve")


def _is_taken(path: str, folder: str) -> bool:
    """Asks nothing: a server that would take our questions says that it is here, another one hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        connection.connect(path)
        if protocol.peer(connection) != os.getuid():
            return False
        try:
            protocol.send(connection, {"from": protocol.identity(folder)})
            return bool(protocol.receive(connection, time.monotonic() + 1.0))
        except (protocol.Odd, OSError, ValueError):
            return False
