"""What an index answers after its disk failed: every call in turn, and then the same command again.

python tests/faults.py                     every call of every scenario and kind of fault (long)
python tests/faults.py --every 5           every 5th, and of the many on the catalogue every 50th
python tests/faults.py changes full 37     only that one, told in full

The disk is a folder below which faults.c lets calls fail; the commands run in this process, so that the model
is loaded once. Exit code 1: a problem was found, and printed as the arguments that show it again. 77: cannot run here.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgsearch.cli import app
from imgsearch.core.errors import IndexNotFound
from imgsearch.core.indexing import indexer
from imgsearch.core.models import registry
from imgsearch.core.photos import decode_pool
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.search.grammar import explicit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store import prune, repair
from imgsearch.core.store.graphs import Graph
from imgsearch.core.store.store import Store
from imgsearch.core.store.vectors import SlotMap
from imgsearch.core.types import MODALITIES, Embedder

from chosen import Remembering

CANNOT_RUN = 77
ALBUM = Path(__file__).parent / "album"
WORK = "IMGSEARCH_FAULTS"
"""In the environment of the process that has faults.c loaded: the folder to work in."""

# As in faults.c.
WRITE, CREATE, RENAME, TRUNCATE, UNLINK, SYNC = 1, 2, 4, 8, 16, 32
STICKY, SHORT, LOSE = 1, 2, 4
NEEDS_ROOM = WRITE | CREATE | RENAME


@dataclass(frozen=True)
class Kind:
    classes: int
    error: int
    flags: int = 0


KINDS = {
    "full-once": Kind(NEEDS_ROOM, errno.ENOSPC),
    "full": Kind(NEEDS_ROOM, errno.ENOSPC, STICKY),
    "full-midway": Kind(NEEDS_ROOM, errno.ENOSPC, STICKY | SHORT),
    "quota": Kind(NEEDS_ROOM, errno.EDQUOT, STICKY),
    "short": Kind(WRITE, 0, SHORT),
    "write": Kind(WRITE, errno.EIO),
    "sync": Kind(SYNC, errno.EIO, LOSE),
    "sync-ever": Kind(SYNC, errno.EIO, LOSE | STICKY),
    "create": Kind(CREATE, errno.EACCES),
    "rename": Kind(RENAME, errno.EIO),
    "truncate": Kind(TRUNCATE, errno.EIO),
    "unlink": Kind(UNLINK, errno.EIO),
}

# A run has several checkpoints to lose.
PHOTOS_A_CHECKPOINT = 2
WORDS = ("a lemon", "milk in a carton")
REFERENCE = "lemon.jpg"
"""A photo that is in every state of the folder: the picture asked with."""


class Disk:
    """The shim, and the folder that it watches."""

    def __init__(self, library: str, folder: Path) -> None:
        self.folder = folder
        self._shim = ctypes.CDLL(library)
        self._shim.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_long, ctypes.c_int, ctypes.c_uint]
        self._shim.faults_fired.restype = ctypes.c_long
        self._shim.faults_fired_at.restype = self._shim.faults_trace.restype = ctypes.c_char_p

    @contextlib.contextmanager
    def failing(self, kind: Kind, n: int) -> Iterator[None]:
        """The n-th call of that kind fails; none with n = 0."""
        self._shim.faults_arm(os.fsencode(self.folder), kind.classes, n, kind.error, kind.flags)
        try:
            yield
        finally:
            self._shim.faults_disarm()

    def forget(self) -> None:
        """What is on the disk now is durable."""
        self._shim.faults_forget()

    def is_durable(self, path: Path) -> bool:
        """Whether a file, its data and its name, would survive if the plug were pulled now."""
        return bool(self._shim.faults_is_durable(os.fsencode(path)))

    def calls(self) -> list[str]:
        """The calls that might have failed, in order."""
        return os.fsdecode(self._shim.faults_trace()).splitlines()

    fired = property(lambda self: self._shim.faults_fired())
    fired_at = property(lambda self: os.fsdecode(self._shim.faults_fired_at()))


# Another model: the built-in one, its numbers moved along.
OTHER_MODEL = "ViT-B-32/laion2b_s34b_b79k"


class Moved:
    def __init__(self, model: Remembering) -> None:
        self._model, self.recipe = model, model.recipe
        fingerprint = hashlib.sha256(b"moved").hexdigest()
        self.identity = replace(model.identity, fingerprint=fingerprint, name=OTHER_MODEL)

    def embed_images(self, squares):
        return np.roll(self._model.embed_images(squares), 7, axis=1)

    def embed_texts(self, texts):
        return np.roll(self._model.embed_texts(texts), 7, axis=1)


# the folder of photos, from state to state


def lay_out(photos: Path) -> None:
    """Ten photos, one of them with a caption beside it and one a copy; and one that is broken."""
    (photos / "market").mkdir(parents=True)
    for name in ("banana", REFERENCE[:-4], "carrots", "watermelon", "kiwi"):
        shutil.copy2(ALBUM / f"{name}.jpg", photos)
    for name in ("oatly-oat-milk", "arla-standard-milk", "leek", "mango"):
        shutil.copy2(ALBUM / f"{name}.jpg", photos / "market")
    shutil.copy2(ALBUM / "leek.jpg", photos / "market" / "leek again.jpg")
    (photos / "market" / "mango.txt").write_text("the mango of the last day")
    (photos / "broken.jpg").write_bytes((ALBUM / "plum.jpg").read_bytes()[:300])


def change(photos: Path) -> None:
    """Two are new, one is another picture now, one is deleted, one renamed, and one has another caption."""
    shutil.copy2(ALBUM / "orange.jpg", photos)
    shutil.copy2(ALBUM / "papaya.jpg", photos / "market")
    shutil.copyfile(ALBUM / "peach.jpg", photos / "banana.jpg")
    (photos / "carrots.jpg").unlink()
    (photos / "kiwi.jpg").rename(photos / "market" / "kiwi, cut.jpg")
    (photos / "market" / "mango.txt").write_text("a mango, ripe at last")


def delete(photos: Path) -> None:
    (photos / "watermelon.jpg").unlink()
    (photos / "market" / "oatly-oat-milk.jpg").unlink()


def leave(photos: Path) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    arguments: Callable[[Path], list[str]]
    prepare: Callable[[Path], None]
    """What happens to the photos before."""
    commits: int
    """Of vectors, at least: without, there is nothing to lose."""


def _index(*more: str) -> Callable[[Path], list[str]]:
    return lambda photos: ["index", *more, "--batch-size", str(PHOTOS_A_CHECKPOINT), "--workers", "1"]


# Each starts where the one before ended.
SCENARIOS = {
    "new": Scenario(lambda photos: [*_index("--model", "builtin")(photos), str(photos)], lay_out, commits=4),
    "changes": Scenario(_index(), change, commits=2),
    "deletions": Scenario(_index(), delete, commits=0),
    "prune": Scenario(lambda photos: ["prune"], leave, commits=1),
    "model": Scenario(_index("--model", OTHER_MODEL), leave, commits=3),
}


# what an index says


@dataclass
class Content:
    """All that is true in an index, without the numbers that rows, slots and editions happen to have."""

    photos: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """By path below the root: (state, content hash, the rest of the row)."""
    texts: set[tuple[str, str, str]] = field(default_factory=set)
    failures: set[tuple[Any, ...]] = field(default_factory=set)
    roots: list[tuple[Any, ...]] = field(default_factory=list)
    spaces: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    active: str | None = None
    vectors: set[tuple[str, str, bytes]] = field(default_factory=set)
    files: set[str] = field(default_factory=set)

    def present(self) -> dict[str, bytes]:
        return {path: row[1] for path, row in self.photos.items() if row[0] == "present"}

    def difference(self, other: Content, but: Sequence[str] = ()) -> list[str]:
        """What is said otherwise there, by name."""
        return [
            f"{name}: {_short(getattr(self, name), getattr(other, name))}"
            for name in self.__dataclass_fields__
            if name not in but and getattr(self, name) != getattr(other, name)
        ]


def _short(ours: Any, theirs: Any) -> str:
    if isinstance(ours, dict):
        ours, theirs = set(ours.items()), set(theirs.items())
    if isinstance(ours, set):
        return f"only here {sorted(map(str, ours - theirs))}, missing {sorted(map(str, theirs - ours))}"[:600]
    return f"{ours} instead of {theirs}"[:600]


_PHOTO_COLUMNS = "size mtime_ns sidecars pair named format width height orientation taken_at camera latitude longitude"


def content_of(index: Path) -> Content:
    with Store.open(str(index)) as store, store.catalog.reading():
        columns = ", ".join(_PHOTO_COLUMNS.split())
        rows = store.catalog.rows(f"select id, folder, name, state, content_hash, {columns} from photos")
        path_of = {row[0]: os.fsdecode(os.path.join(row[1], row[2])) for row in rows}
        failures = store.catalog.rows("select folder, name, stage, reason, is_silent from failures")
        active = store.active_space()
        return Content(
            photos={path_of[row[0]]: row[3:] for row in rows},
            texts={
                (path_of[row[0]], row[1], row[2])
                for row in store.catalog.rows(
                    "select p.photo_id, t.text, p.source from photo_texts p join texts t on t.key = p.key"
                )
            },
            failures={(os.fsdecode(os.path.join(row[0], row[1])), *row[2:]) for row in failures},
            roots=store.catalog.rows("select path, kind, state, exclude, hidden from roots order by path"),
            spaces={each.identity.name: (each.identity.fingerprint, each.state) for each in store.catalog.spaces.all()},
            active=active and active.identity.name,
            vectors=set(store.catalog.rows("select space_id, modality, key from vectors")),
            files={
                os.path.relpath(os.path.join(folder, name), index)
                for folder, _, names in os.walk(index)
                for name in names
                if not name.startswith("hnsw.")  # which there are depends on slots: `_final` looks at each
            },
        )


class Witness:
    """The right vector of every content, and with them the right answer to any question."""

    def __init__(self, embedders: dict[str, Any]) -> None:
        self._embedders = embedders
        self._vectors: dict[tuple[str, str, bytes], Any] = {}

    def learn(self, index: Path, photos: Path) -> None:
        """From an index of a disk that did not fail, whose hashes are those of the files."""
        with Store.open(str(index)) as store:
            for row in store.catalog.rows("select folder, name, content_hash from photos where state = 'present'"):
                path = os.fsencode(photos) + b"/" + (row[0] + b"/" + row[1] if row[0] else row[1])
                assert hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).digest() == row[2], path
            for space in store.catalog.spaces.all():
                view = store.view(space)
                for slot, modality, key in store.catalog.rows(
                    "select slot, modality, key from vectors where space_id = :id", id=space.id
                ):
                    place = (space.identity.fingerprint, modality, key)
                    row = np.array(view.rows[slot])
                    assert abs(np.linalg.norm(row) - 1) < 1e-3, (place, slot)
                    assert place not in self._vectors or np.allclose(self._vectors[place], row, atol=1e-5), place
                    self._vectors[place] = row

    def problems(self, index: Path, photos: Path) -> Iterator[str]:
        """What is wrong with what that index answers now."""
        yield from _damage(index)
        with Store.open(str(index)) as store:
            for space in store.catalog.spaces.all():
                view, fingerprint = store.view(space), space.identity.fingerprint
                rows = store.catalog.rows(
                    "select slot, modality, key from vectors where space_id = :id order by slot", id=space.id
                )
                known = {m: {slot for slot, modality, _ in rows if modality == m} for m in MODALITIES}
                for slot, modality, key in rows:
                    if slot >= space.slots:
                        yield f"{modality} {key.hex()[:8]} has slot {slot} of {space.slots}"
                        continue
                    right = self._vectors.get((fingerprint, modality, key))
                    if right is None or not np.allclose(view.rows[slot], right, atol=1e-5):
                        yield f"{modality} {key.hex()[:8]} has a wrong vector in slot {slot}"
                built = SlotMap.build(space.slots, store.catalog.vectors.live_slots(space.id))
                for modality in MODALITIES:
                    if not (view.slots.mask(modality) == built.mask(modality)).all():
                        yield f"the slot map takes other {modality} slots for live than the catalogue"
                    for graph in store.graphs.of(space, modality):
                        if Graph.available() and graph.load(space.generation) and not graph.slots() <= known[modality]:
                            yield f"a {modality} graph covers slots that are none"
            active = store.active_space()
            if active is not None and active.slots:
                yield from self._wrong_answers(store, active, photos)

    def _wrong_answers(self, store: Any, space: Any, photos: Path) -> Iterator[str]:
        embedder = self._embedders[space.identity.fingerprint]
        fingerprint = space.identity.fingerprint
        reference = photos / REFERENCE
        hashed = hashlib.sha256(reference.read_bytes()).digest()
        vectors = [*embedder.embed_texts(WORDS), self._vectors.get((fingerprint, "image", hashed))]
        if vectors[-1] is None:
            return
        queries = [explicit(words, ()) for words in WORDS] + [explicit(None, (str(reference),))]
        rows = store.catalog.rows("select folder, name, content_hash from photos where state = 'present'")
        places = {os.path.join(os.fsencode(photos), row[0], row[1]): row[2] for row in rows}
        for strategy in ("exact", "ann"):
            searcher = Searcher(store, lambda: embedder)
            options = SearchOptions(limit=100, strategy=strategy, include_reference=True)
            for query, vector, hits in zip(queries, vectors, searcher.search_many(queries, options), strict=True):
                shown = {os.fsencode(hit.path): hit.score for hit in hits}
                right = {
                    path: float(vector @ self._vectors[fingerprint, "image", key])
                    for path, key in places.items()
                    if (fingerprint, "image", key) in self._vectors
                }
                if shown.keys() != right.keys() or len(hits) != len(shown):
                    lost, extra = right.keys() - shown.keys(), shown.keys() - right.keys()
                    yield f"{strategy} {query.typed!r}: lost {sorted(lost)}, extra {sorted(extra)}"
                elif any(abs(shown[path] - right[path]) > 1e-5 for path in right):
                    yield f"{strategy} {query.typed!r}: wrong scores"
                elif [hit.score for hit in hits] != sorted((hit.score for hit in hits), reverse=True):
                    yield f"{strategy} {query.typed!r}: wrong order"


def _damage(index: Path) -> Iterator[str]:
    """What SQLite itself finds wrong with the catalogue."""
    connection = sqlite3.connect(f"file:{index / 'catalog.sqlite3'}?mode=ro", uri=True)
    with contextlib.closing(connection):
        found = connection.execute("pragma integrity_check").fetchall()
        if found != [("ok",)]:
            yield f"integrity_check: {found}"
        if foreign := connection.execute("pragma foreign_key_check").fetchall():
            yield f"foreign_key_check: {foreign}"


# running a command


@dataclass
class Outcome:
    code: int | None
    err: str


@contextlib.contextmanager
def _captured(into: Any) -> Iterator[None]:
    """Everything written to standard output and error, also by libraries."""
    saved = os.dup(1), os.dup(2)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(into.fileno(), 1)
    os.dup2(into.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def run_command(arguments: Sequence[str], disk: Disk, kind: Kind, n: int) -> Outcome:
    """The command on a disk that fails at call n."""
    with tempfile.TemporaryFile(dir=os.environ[WORK]) as file:
        with _captured(file):
            try:
                with disk.failing(kind, n):
                    code: int | None = app.exit_code(list(arguments))
            except SystemExit as stop:
                code = int(stop.code or 0)
            except BaseException:
                code = None
                traceback.print_exc()
        file.seek(0)
        err = file.read().decode("utf-8", "replace")
    return Outcome(code, err)


def _no_torch() -> Embedder:
    raise AssertionError("the built-in model runs without torch")


@dataclass
class Trial:
    """What one fault did."""

    fired: bool
    call: str
    code: int | None
    shown: str
    problems: list[str]


class Bench:
    """Runs scenarios and says what went wrong."""

    def __init__(self, disk: Disk, work: Path) -> None:
        from imgsearch.cli import loading
        from imgsearch.core.models import onnx_embedder

        self.disk, self.work = disk, work
        self.index, self.photos = disk.folder / "index", work / "photos"
        spec = registry.parse("builtin")
        loaded = onnx_embedder.find(spec, device="cpu", precision="auto", whole=_no_torch, say=print)
        assert loaded
        model = Remembering(loaded)
        moved = Moved(model)
        by_name = {"builtin": model, OTHER_MODEL: moved}
        loading.load_model = lambda spec, **_: by_name[spec.name]
        self.witness = Witness({one.identity.fingerprint: one for one in (model, moved)})
        # One process reads the photos of all runs: starting one takes longer than a run.
        self._workers = DecodePool(1, niceness=0)
        decode_pool.DecodePool = self._kept_workers
        # Checkpoints by number only: calls are counted, so nothing may depend on time.
        assert indexer.CHECKPOINT_PHOTOS and indexer.CHECKPOINT_SECONDS
        indexer.CHECKPOINT_PHOTOS, indexer.CHECKPOINT_SECONDS = PHOTOS_A_CHECKPOINT, 1e9
        self.committed: dict[str, bytes] = {}
        self.images: list[tuple[Path, dict[str, bytes]]] = []
        """The index as it was on the disk right after a commit, with what had been committed."""
        self.hasty: list[str] = []
        """Vectors that were committed before they were durable."""
        really_commit, really_compact = Store.commit, prune.compact

        def commit(store, space, batch, **more):
            result = really_commit(store, space, batch, **more)
            self.committed |= {new.photo.relpath: new.content_hash for _, new, _ in batch.photos}
            self._note_commit(result)
            return result

        def compact(store, space):
            result = really_compact(store, space)
            self._note_commit(result)
            return result

        Store.commit = commit  # type: ignore[method-assign]
        prune.compact = repair.compact = compact

    def close(self) -> None:
        self._workers.close()

    def _kept_workers(self, *_: object, **__: object) -> contextlib.nullcontext[DecodePool]:
        if self._workers._is_closed:  # by a run that was stopped
            self._workers = DecodePool(1, niceness=0)
        return contextlib.nullcontext(self._workers)

    def _note_commit(self, space: Any) -> None:
        image = self.work / f"image {len(self.images)}"
        if self.disk.fired:
            shutil.copytree(self.index, image)
        self.images.append((image, dict(self.committed)))
        file = self.index / "spaces" / space.id / f"vectors.{space.generation}.f32"
        if space.slots and not self.disk.is_durable(file):
            self.hasty.append(f"{file.name} was committed before it was durable")

    def start(self, name: str) -> None:
        """Bring the photos and the index to where the scenario begins, and see how it ends on a sound disk."""
        scenario = SCENARIOS[name]
        self.pristine = self.work / f"before {name}"
        self.before = Content()
        if self.index.exists():
            self.before = content_of(self.index)
            shutil.copytree(self.index, self.pristine)
        scenario.prepare(self.photos)
        self.arguments = [*scenario.arguments(self.photos), "--index", str(self.index)]
        self._forget()
        outcome = run_command(self.arguments, self.disk, KINDS["full"], 0)
        assert outcome.code in (0, 3), outcome
        assert len(self.images) >= scenario.commits, "too few checkpoints"
        self.code = outcome.code
        self.witness.learn(self.index, self.photos)
        self.after = content_of(self.index)
        self.index.rename(self.work / f"after {name}")

    def finish(self, name: str) -> None:
        self._clear()
        (self.work / f"after {name}").rename(self.index)

    def _clear(self) -> None:
        shutil.rmtree(self.index, ignore_errors=True)

    def _forget(self) -> None:
        for image, _ in self.images:
            shutil.rmtree(image, ignore_errors=True)
        self.committed, self.images, self.hasty = {}, [], []
        self.disk.forget()

    def _restore(self) -> None:
        self._clear()
        self._forget()
        if self.pristine.exists():
            shutil.copytree(self.pristine, self.index)

    def calls(self, kind: Kind) -> list[str]:
        """The calls of that kind that the command makes on a sound disk."""
        self._restore()
        run_command(self.arguments, self.disk, kind, 0)
        return self.disk.calls()

    def try_one(self, kind: Kind, n: int) -> Trial:
        """The command on a disk that fails at call n, and again on one that does not."""
        self._restore()
        outcome = run_command(self.arguments, self.disk, kind, n)
        fired, call, committed = self.disk.fired > 0, self.disk.fired_at, self.committed
        problems = [*_bad_manners(outcome, self.disk.folder)]
        with self.disk.failing(kind, 0):  # nothing fails, and nothing waits for the real disk
            problems += _told("afterwards", self._judged(outcome, committed))
            for number, (image, by_then) in enumerate(self.images, start=1):
                if image.exists():
                    problems += _told(f"if killed after commit {number}", self._killed(image, by_then))
        again = run_command(self.arguments, self.disk, kind, 0)
        if again.code in (0, 3):
            with self.disk.failing(kind, 0):
                problems += _told("after the same command again", self._final())
        else:
            problems.append(f"the same command again ends {again.code}: {again.err.strip()[-600:]}")
        return Trial(fired, call, outcome.code, outcome.err, [*problems, *dict.fromkeys(self.hasty)])

    def _judged(self, outcome: Outcome, committed: dict[str, bytes]) -> Iterator[str]:
        """What is wrong with the index that a command left behind."""
        try:
            now = content_of(self.index)
        except IndexNotFound as error:
            if committed or self.before.photos:
                yield f"the index is lost: {error}"
            elif outcome.code in (0, 3):
                yield f"no index, but exit code {outcome.code}"
            return
        yield from self.witness.problems(self.index, self.photos)
        old, new, present = self.before.present(), self.after.present(), now.present()
        for path, key in present.items():
            if key not in (old.get(path), new.get(path)):
                yield f"{path}: neither what it was nor what it is"
        kept = {path: key for path, key in old.items() if new.get(path) == key}
        yield from _lost(kept | committed, present)
        if lost := set(old.values()) & set(new.values()) - set(present.values()):
            yield f"{len(lost)} renamed and lost"
        if outcome.code in (0, 3):
            yield from (f"done, but {difference}" for difference in now.difference(self.after, but=("files",)))

    def _killed(self, image: Path, committed: dict[str, bytes]) -> Iterator[str]:
        """What would be wrong if the process had been killed right after that commit."""
        yield from _lost(committed, content_of(image).present())
        yield from self.witness.problems(image, self.photos)

    def _final(self) -> Iterator[str]:
        """What is wrong with the index once the command went through."""
        now = content_of(self.index)
        yield from now.difference(self.after)
        yield from self.witness.problems(self.index, self.photos)
        with Store.open(str(self.index)) as store:
            for space in store.catalog.spaces.all():
                if not store.is_up_to_date(space) and space.identity.name == now.active:
                    yield "the slot map is stale"
                for modality in MODALITIES:
                    for graph in store.graphs.of(space, modality):
                        is_due = Graph.available() and store.graphs.is_due(space, modality, graph)
                        if is_due and not graph.load(space.generation):
                            yield f"a graph of {space.identity.name} cannot be loaded"
                        if graph.exists() and not is_due:
                            yield f"a graph of {space.identity.name} covers too little"
                if stale := store.graphs.stale_files(space):
                    yield f"{len(stale)} graphs that are of no use"
            if store.status().covered != frozenset(space.id for space in store.catalog.spaces.all()):
                yield "the graphs do not cover everything"


def _lost(committed: dict[str, bytes], present: dict[str, bytes]) -> Iterator[str]:
    return (f"{path}: committed and lost" for path, key in committed.items() if present.get(path) != key)


def _told(when: str, problems: Iterator[str]) -> Iterator[str]:
    """The problems, and as one more whatever keeps the index from being read."""
    try:
        yield from (f"{when}, {problem}" for problem in problems)
    except Exception as error:
        yield f"{when}, it cannot be read: {type(error).__name__}: {error}"


def _bad_manners(outcome: Outcome, disk: Path) -> Iterator[str]:
    """What a person may not be shown."""
    if "Traceback" in outcome.err or outcome.code not in (0, 2, 3, 4):
        yield f"exit code {outcome.code}: {outcome.err.strip()[-1500:]}"
    elif outcome.code in (2, 4):
        complaints = [line for line in outcome.err.splitlines() if line.startswith("imgsearch: ")]
        if not any(str(disk) in line for line in complaints):
            yield f"the error names no file: {complaints[-1:] or outcome.err}"
        if "imgsearch index FOLDER" in outcome.err:
            yield f"an index that is being made is said to be none: {outcome.err.strip()[-300:]}"
        if "move the index folder away" in outcome.err:
            yield f"a sound index is called damaged: {outcome.err.strip()[-300:]}"


# from the command line


def compiled(folder: Path) -> Path | None:
    """faults.c as a library, if there is a compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    library = folder / "faults.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"], check=True)
    return library


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", choices=SCENARIOS)
    parser.add_argument("kind", nargs="?", choices=KINDS)
    parser.add_argument("n", nargs="?", type=int)
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only every K-th call, see above")
    parser.add_argument("--json", metavar="FILE", help="append every outcome, one JSON object a line")
    arguments = parser.parse_args()
    if WORK in os.environ:
        return sweep(arguments, Path(os.environ[WORK]))
    if sys.platform != "linux" or sys.maxsize < 2**32:
        print("only on 64-bit Linux")
        return CANNOT_RUN
    with tempfile.TemporaryDirectory() as work:
        library = compiled(Path(work))
        if library is None:
            print("no C compiler")
            return CANNOT_RUN
        temporary = Path(work) / "disk" / "tmp"
        temporary.mkdir(parents=True)
        environment = os.environ | {
            "IMGSEARCH_HNSW_SLOTS": "4",
            WORK: work,
            "LD_PRELOAD": str(library),
            "SQLITE_TMPDIR": str(temporary),
            "HF_HUB_OFFLINE": "1",
            "XDG_CACHE_HOME": f"{work}/cache",
            "XDG_DATA_HOME": f"{work}/data",
        }
        return subprocess.run([sys.executable, __file__, *sys.argv[1:]], env=environment).returncode


def sweep(arguments: argparse.Namespace, work: Path) -> int:
    library = os.environ.pop("LD_PRELOAD")  # children are spared
    with contextlib.closing(Bench(Disk(library, work / "disk"), work)) as bench:
        return _sweep(bench, arguments)


def _spread(calls: Sequence[str], every: int, offset: int) -> list[int]:
    """The numbers of the calls to fail, from 1 on; other ones with another offset."""
    on_catalog = [n for n, call in enumerate(calls, start=1) if "catalog." in call]
    others = [n for n, call in enumerate(calls, start=1) if "catalog." not in call]
    sparse = 1 if every == 1 else 10 * every
    return sorted([*others[offset % every :: every], *on_catalog[7 * offset % sparse :: sparse]])


def _sweep(bench: Bench, arguments: argparse.Namespace) -> int:
    bad = total = 0
    for name in SCENARIOS:
        bench.start(name)
        for offset, (kind_name, kind) in enumerate(KINDS.items()):
            if arguments.scenario not in (None, name) or arguments.kind not in (None, kind_name):
                continue
            started, calls = time.perf_counter(), bench.calls(kind)
            tried = found = 0
            for n in [arguments.n] if arguments.n else _spread(calls, arguments.every, offset):
                trial = bench.try_one(kind, n)
                tried, found = tried + trial.fired, found + bool(trial.problems)
                if arguments.n:
                    print(f"{trial.call or 'not reached'}: exit code {trial.code}\n{trial.shown}")
                if trial.problems:
                    print(f"python tests/faults.py {name} {kind_name} {n}    # {trial.call}")
                    print(*(f"    {problem}" for problem in trial.problems), sep="\n", flush=True)
                if arguments.json:
                    with open(arguments.json, "a", encoding="utf-8") as log:
                        record = {"scenario": name, "kind": kind_name, "n": n, **asdict(trial)}
                        log.write(json.dumps(record) + "\n")
            bad, total = bad + found, total + tried
            counts = f"{len(calls)} calls, {tried} failed in turn, {found} bad"
            print(f"{name} {kind_name}: {counts}, {time.perf_counter() - started:.1f} s", flush=True)
        bench.finish(name)
        if name == arguments.scenario:
            break
    print(f"{total} faults, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
