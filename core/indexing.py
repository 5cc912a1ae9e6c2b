"""The indexing loop: walk, find what is new, decode ahead, embed in batches, commit in checkpoints, report.

It is handed a store and a way to get the model; the model is only loaded when there is something to embed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np  # noqa: TID253

from . import decode, preprocess
from .calibration import CALIBRATION_VERSION, calibrate, neutral_phrases
from .catalog import Catalog, Known, KnownFailure, NewPhoto, Root, Space, join, sidecar_stamp, split
from .errors import UsageError
from .paths import has_picture_extension, printable
from .store import Batch, Store
from .types import CarriedText, Embedder, NotAPicture, Photo, Sidecar, Skipped, SkipPhoto
from .walk import Walk, named_photo

if TYPE_CHECKING:
    from .types import Squares, Vectors

# A kill costs at most one checkpoint.
CHECKPOINT_PHOTOS = 256
CHECKPOINT_SECONDS = 2.0
# Decoded squares waiting for the model: enough to ride out one slow file, small enough to stay in memory.
LOOKAHEAD_BATCHES = 3
DEFAULT_BATCH = 32

# Nothing in the file need change for these to go away: permissions, mounts, a disk that works again.
RETRIED_STAGES = ("walk", "read")

# A root that lost more than this share of its photos, and more than this many, is taken for unmounted, not emptied.
LOST_SHARE = 0.2
LOST_PHOTOS = 50


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What to index and how."""

    paths: tuple[str, ...]
    """Files and folders, absolute. None at all: every root the index has."""
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    dry_run: bool = False
    decode: Literal["fast", "exact"] = "fast"
    batch_size: int | None = None
    workers: int | None = None


@dataclass(slots=True)
class Summary:
    """What a run did. Seconds are wall time, but for `decode`, which is summed over the workers."""

    found: int = 0
    new: int = 0
    changed: int = 0
    reused: int = 0
    """New places of photos that were known already: renamed, moved or copied; no picture was embedded."""
    unchanged: int = 0
    skipped: int = 0
    known_failures: int = 0
    passed_over: int = 0
    gone: int = 0
    excluded: int = 0
    offline: tuple[str, ...] = ()
    was_stopped: bool = False
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "walk", "decode", "embed", "write", "total"), 0.0)
    )

    @property
    def indexed(self) -> int:
        return self.new + self.changed + self.reused


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for whoever shows progress.

    `kind`: walking (count so far), planned (count to do), photo (path), skipped (path, stage, reason), gone (path),
    would_index (path, reason), checkpoint (count), notice (reason), stage (reason).
    """

    kind: Literal[
        "walking",
        "planned",
        "photo",
        "skipped",
        "passed",
        "gone",
        "would_index",
        "checkpoint",
        "notice",
        "stage",
    ]
    path: str | None = None
    count: int = 0
    stage: str | None = None
    reason: str | None = None


Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class _Todo:
    root_id: int
    photo: Photo
    is_change: bool = False
    failed_before: str | None = None
    """Why it could not be read the last time, if it is tried again all the same."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A file read and, unless its content is known already, made into a square."""

    todo: _Todo
    result: NewPhoto | Skipped | None
    """None: no picture, and nobody said it was."""
    square: Squares | None
    seconds: float


def run(
    store: Store,
    embedder: Callable[[], tuple[Embedder, str]],
    plan: IndexPlan,
    *,
    space: Space | None = None,
    on_event: Listener = lambda event: None,
    stop: threading.Event | None = None,
) -> Summary:
    """Index what the plan names into `store`, which must be open for writing.

    `embedder` returns the model and its `ModelSpec` as JSON; it is called at most once. `space` is the space that
    model's vectors belong to if that is known without loading it. Set `stop` to end in order after the current
    batch. Raises UsageError for a path that cannot be indexed at all.
    """
    loop = _Loop(store, embedder, plan, space, on_event, stop or threading.Event())
    return loop.run()


class _Loop:
    def __init__(
        self,
        store: Store,
        embedder: Callable[[], tuple[Embedder, str]],
        plan: IndexPlan,
        space: Space | None,
        on_event: Listener,
        stop: threading.Event,
    ) -> None:
        self.store = store
        self.catalog = store.catalog
        self.plan = plan
        self.space = space
        self.on_event = on_event
        self.stop = stop
        self.summary = Summary()
        self._get_embedder = embedder
        self._embedder: Embedder | None = None
        self._codecs = decode.codecs()
        self._batch = Batch()
        self._committed_at = time.perf_counter()

    # the whole run

    def run(self) -> Summary:
        started = time.perf_counter()
        roots = self._roots()
        if self.space is None and not self.plan.dry_run:
            self._load()
        with contextlib.closing(_TodoList()) as todo:
            self._follow(roots, todo)
        self.summary.was_stopped = self.stop.is_set()
        self.summary.seconds["total"] = time.perf_counter() - started
        return self.summary

    def _follow(self, roots: Sequence[tuple[Root, str | Photo]], todo: _TodoList) -> None:
        with self._timed("walk"):
            for root, start in roots:
                self._survey(root, start, todo)
        self.on_event(Event("planned", count=len(todo)))
        if self.plan.dry_run:
            for item in todo:
                if has_picture_extension(item.photo.relpath) or item.photo.named:
                    reason = "changed" if item.is_change else "new"
                    self.on_event(Event("would_index", path=item.photo.path, reason=reason))
                    self.summary.new += not item.is_change
                    self.summary.changed += item.is_change
        else:
            self._work(todo)
            self._finish()

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.summary.seconds[stage] += time.perf_counter() - started

    def _load(self) -> Embedder:
        if self._embedder is None:
            with self._timed("load"):
                self._embedder, model = self._get_embedder()
            self.space = self.store.space_for(self._embedder.identity, model)
        return self._embedder

    # which roots, and where in them to start

    def _roots(self) -> list[tuple[Root, str | Photo]]:
        """(root, folder below it to walk) or (root, the one file named)."""
        chosen: list[tuple[Root, str | Photo]] = []
        if not self.plan.paths:
            return [(root, "") for root in self.catalog.roots()]
        for path in self.plan.paths:
            if os.path.isdir(path):
                chosen.append(self._folder_root(path))
                continue
            known = next((root for root in self.catalog.roots() if root.path == path), None)
            if known is not None:  # not there now: the survey will find it offline
                chosen.append((known, ""))
                continue
            photo = named_photo(path)
            if isinstance(photo, Skipped):
                if not os.path.lexists(path):
                    raise UsageError(
                        f"{printable(path)}: no such file or folder", hint="give folders or pictures that exist"
                    )
                photo = Photo(os.path.dirname(path), os.path.basename(path), 0, 0, 0, named=True)
            chosen.append(self._file_root(photo))
        return chosen

    def _folder_root(self, path: str) -> tuple[Root, str]:
        for root, relpath in self.store.roots_over(path):
            if root.kind == "folder" and not _is_hidden(relpath):
                return root, relpath
        device = self._device(path)
        if self.plan.dry_run:
            return Root(-1, path, "folder", device, "online"), ""
        with self.catalog.transaction():
            same = next((root for root in self.catalog.roots() if root.path == path), None)
            if same is None:
                root_id = self.catalog.add_root(path, "folder", device)
            else:
                root_id = same.id
                self.catalog.update_root(root_id, kind="folder", device=device)
            for child in self.catalog.roots():
                relpath = os.path.relpath(child.path, path)
                if child.id != root_id and not relpath.startswith("../") and not _is_hidden(relpath):
                    self.catalog.move_into(child, root_id, relpath)
        return next(root for root in self.catalog.roots() if root.id == root_id), ""

    def _device(self, path: str) -> int | None:
        """What tells a mounted disk from its empty mount point. A root that moves with its index may change it."""
        base = self.store.base
        moves_along = base is not None and f"{path}/".startswith(f"{base.rstrip('/')}/")
        return None if moves_along else os.stat(path).st_dev

    def _file_root(self, photo: Photo) -> tuple[Root, Photo]:
        for root, relpath in self.store.roots_over(photo.path):
            if relpath:
                return root, _moved_to(photo, root, relpath)
        device = self._device(photo.root)
        if self.plan.dry_run:
            return Root(-1, photo.root, "files", device, "online"), photo
        with self.catalog.transaction():
            root_id = self.catalog.add_root(photo.root, "files", device)
        return next(root for root in self.catalog.roots() if root.id == root_id), photo

    # what is new, changed, gone

    def _survey(self, root: Root, start: str | Photo, todo: _TodoList) -> None:
        if isinstance(start, Photo):
            self._compare(root, [start], todo, is_whole_folder=False)
            return
        if root.kind == "files":
            self._survey_files(root, todo)
            return
        offline = why_offline(root)
        if offline and self._has_photos(root):
            self._set_offline(root, offline)
            return
        walk = Walk(root.path, start, exclude=self.plan.exclude, hidden=self.plan.hidden)
        visited: set[bytes] = set()
        lost: list[tuple[int, str]] = []
        photos: list[Photo] = []
        folder: bytes | None = None
        for item in walk:
            if self.stop.is_set():
                return
            if isinstance(item, Skipped):
                self._walk_failure(root, item)
                continue
            its_folder = split(item.relpath)[0]
            if its_folder != folder:
                lost += self._compare(root, photos, todo)
                photos, folder = [], its_folder
                visited.add(its_folder)
                self.on_event(Event("walking", count=self.summary.found))
            photos.append(item)
        lost += self._compare(root, photos, todo)
        top = os.fsencode(start)
        for other in self.catalog.folders_below(root.id, top):
            if other not in visited:
                lost += self._missing(root, other, set())
        self._settle(root, [item for item in lost if not walk.is_unread(item[1])])

    def _has_photos(self, root: Root) -> bool:
        return self.catalog.value("select 1 from photos where root_id = :root", root=root.id) is not None

    def _survey_files(self, root: Root, todo: _TodoList) -> None:
        """Files that were named one by one are looked up one by one; their folder is not walked."""
        lost = []
        for folder in self.catalog.folders_below(root.id, b""):
            for name, known in self.catalog.known_in_folder(root.id, folder, None).items():
                relpath = join(folder, name)
                photo = named_photo(_path_of(root, relpath))
                if isinstance(photo, Photo):
                    self._compare(root, [_moved_to(photo, root, relpath)], todo, is_whole_folder=False)
                elif known.state == "present":
                    lost.append((known.id, relpath))
        self._settle(root, lost)

    def _compare(
        self, root: Root, photos: Sequence[Photo], todo: _TodoList, *, is_whole_folder: bool = True
    ) -> list[tuple[int, str]]:
        """Sort one folder's photos into known and to do. Returns the (id, relpath) of present ones not seen."""
        if not photos:
            return []
        folder = split(photos[0].relpath)[0]
        space_id = self.space.id if self.space else None
        known_photos = self.catalog.known_in_folder(root.id, folder, space_id)
        failures = self.catalog.failures_in_folder(root.id, folder)
        for photo in photos:
            self.summary.found += 1
            name = split(photo.relpath)[1]
            known, failure = known_photos.get(name), failures.get(name)
            failed_before = None
            if failure and self._is_known_failure(failure, photo):
                failed_before = failure.reason
            if failure and failed_before and failure.stage not in RETRIED_STAGES:
                self.summary.known_failures += not failure.is_silent
                self.summary.passed_over += failure.is_silent
            elif known and known.has_vectors and _is_unchanged(known, photo):
                self.summary.unchanged += 1
                if known.state != "present" or known.inode != photo.inode:
                    self._batch.found_again.append((known, photo))
            else:
                is_change = known is not None and known.state == "present"
                todo.append(_Todo(root.id, photo, is_change, failed_before))
        if not is_whole_folder:
            return []
        return self._missing(root, folder, {split(photo.relpath)[1] for photo in photos})

    def _is_known_failure(self, failure: KnownFailure, photo: Photo) -> bool:
        if (failure.size, failure.mtime_ns, failure.codecs) != (photo.size, photo.mtime_ns, self._codecs):
            return False
        return not (failure.is_silent and photo.named)

    def _missing(self, root: Root, folder: bytes, seen: set[bytes]) -> list[tuple[int, str]]:
        known = self.catalog.known_in_folder(root.id, folder, None)
        failures = self.catalog.failures_in_folder(root.id, folder).keys() - seen
        vanished = [name for name in failures if not os.path.lexists(_path_of(root, join(folder, name)))]
        if vanished and not self.plan.dry_run:
            with self.catalog.transaction():
                for name in vanished:
                    self.catalog.forget_failure(root.id, folder, name)
        return [
            (row.id, join(folder, name)) for name, row in known.items() if row.state == "present" and name not in seen
        ]

    def _settle(self, root: Root, lost: Sequence[tuple[int, str]]) -> None:
        """Photos that the walk did not meet: deleted, or merely excluded now - unless the root looks unmounted."""
        gone = [item for item in lost if not os.path.lexists(_path_of(root, item[1]))]
        excluded = [item for item in lost if item not in set(gone)] if len(gone) < len(lost) else []
        present = self.catalog.value(
            "select count(*) from photos where root_id = :root and state = 'present'", root=root.id
        )
        if len(gone) > LOST_PHOTOS and len(gone) > LOST_SHARE * present:
            self._set_offline(root, f"{len(gone)} of its {present} photos are missing")
            return
        self.summary.gone += len(gone)
        self.summary.excluded += len(excluded)
        for _, relpath in gone:
            self.on_event(Event("gone", path=_path_of(root, relpath)))
        if self.plan.dry_run:
            return
        with self.catalog.transaction():
            self.catalog.set_photo_state((item[0] for item in gone), "gone")
            self.catalog.set_photo_state((item[0] for item in excluded), "excluded")
            if root.state != "online":
                self.on_event(Event("notice", reason=f"{printable(root.path)} is back online"))
            self.catalog.update_root(root.id, state="online", note=None)

    def _set_offline(self, root: Root, why: str) -> None:
        self.summary.offline = (*self.summary.offline, root.path)
        self.on_event(
            Event(
                "notice",
                reason=f"{printable(root.path)}: {why}; taken to be offline, its photos are kept and hidden",
            )
        )
        if not self.plan.dry_run:
            with self.catalog.transaction():
                self.catalog.update_root(root.id, state="offline", note=why)

    def _walk_failure(self, root: Root, skipped: Skipped) -> None:
        """A folder that could not be listed: told every time, counted as new only the first time."""
        relpath = os.path.relpath(skipped.path, root.path)
        folder, name = split("" if relpath == "." else relpath)
        known = self.catalog.failures_in_folder(root.id, folder).get(name)
        place = Photo(root.path, join(folder, name), 0, 0, 0)
        self._skip(_Todo(root.id, place, failed_before=known.reason if known else None), skipped)

    # reading, embedding, writing

    def _work(self, todo: _TodoList) -> None:
        if not len(todo):
            self._checkpoint()
            return
        embedder = self._load()
        size = self.plan.batch_size or int(getattr(embedder, "batch_size", DEFAULT_BATCH))
        waiting: list[_Prepared] = []
        with contextlib.closing(self._prepared(todo, size * LOOKAHEAD_BATCHES)) as prepared:
            for item in prepared:
                self.summary.seconds["decode"] += item.seconds
                if item.square is None:
                    self._take(item, None)
                else:
                    waiting.append(item)
                if len(waiting) >= size:
                    self._embed(waiting)
                    waiting = []
                if self._is_checkpoint_due():
                    self._embed(waiting)
                    waiting = []
                    self._checkpoint()
                if self.stop.is_set():
                    break
        self._embed(waiting)
        self._checkpoint()

    def _prepared(self, todo: _TodoList, lookahead: int) -> Generator[_Prepared, None, None]:
        """Files read and decoded by worker threads, in order, never more than `lookahead` ahead."""
        workers = self.plan.workers or cores()
        futures: deque[Future[_Prepared]] = deque()
        assert self.space is not None
        known = _Contents(self.store, self.space)
        with contextlib.closing(known), ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            try:
                for item in todo:
                    futures.append(pool.submit(self._prepare, item, known))
                    if len(futures) >= lookahead + workers:
                        yield futures.popleft().result()
                while futures:
                    yield futures.popleft().result()
            finally:
                for future in futures:
                    future.cancel()

    def _prepare(self, todo: _Todo, known: Container[bytes]) -> _Prepared:
        """One file, in a worker: everything about it travels together, so nothing can be attached to another."""
        started = time.perf_counter()
        assert self._embedder is not None
        recipe = self._embedder.recipe
        photo = todo.photo
        square: Squares | None = None
        result: NewPhoto | Skipped | None
        try:
            picture = decode.read_picture(
                photo.path,
                sidecars=photo.sidecars,
                known=known,
                draft_side=preprocess.draft_side(recipe) if self.plan.decode == "fast" else 0,
                named=photo.named,
            )
            result = NewPhoto(photo, picture.content_hash, picture.size, picture.mtime_ns, picture.facts)
            if picture.image is not None:
                square = preprocess.square(picture.image, recipe)
        except NotAPicture:
            result = None
        except SkipPhoto as skipped:
            result = Skipped(photo.path, skipped.stage, skipped.reason)
        return _Prepared(todo, result, square, time.perf_counter() - started)

    def _embed(self, waiting: Sequence[_Prepared]) -> None:
        """Vectors for a batch of squares, each handed on with the very item its square came from."""
        if not waiting:
            return
        with self._timed("embed"):
            squares = np.stack([item.square for item in waiting if item.square is not None])
            vectors = self._load().embed_images(squares)
        for item, vector in zip(waiting, vectors, strict=True):
            self._take(item, vector)

    def _take(self, item: _Prepared, vector: Vectors | None) -> None:
        result = item.result
        if result is None:
            self.summary.passed_over += 1
            nothing = Skipped(item.todo.photo.path, "decode", "not a picture")
            self._batch.failures.append((item.todo.root_id, item.todo.photo, nothing, True))
            self.on_event(Event("passed", path=item.todo.photo.path))
            return
        if isinstance(result, Skipped):
            self._skip(item.todo, result)
            return
        if vector is not None and not np.isfinite(vector).all():
            self._skip(item.todo, Skipped(result.photo.path, "embed", "the model gave no finite vector"))
            return
        if vector is not None:
            self._batch.images.setdefault(result.content_hash, vector)
        texts = tuple((text_key(carried.text), carried) for carried in result.facts.texts)
        self._batch.photos.append((item.todo.root_id, result, texts))
        if item.todo.is_change:
            self.summary.changed += 1
        elif vector is None:
            self.summary.reused += 1
        else:
            self.summary.new += 1
        self.on_event(Event("photo", path=result.photo.path))

    def _skip(self, todo: _Todo, skipped: Skipped) -> None:
        if todo.failed_before == skipped.reason:
            self.summary.known_failures += 1
            return
        self.summary.skipped += 1
        self._batch.failures.append((todo.root_id, todo.photo, skipped, False))
        self.on_event(Event("skipped", path=skipped.path, stage=skipped.stage, reason=skipped.reason))

    # checkpoints

    def _is_checkpoint_due(self) -> bool:
        return len(self._batch) >= CHECKPOINT_PHOTOS or (
            len(self._batch) > 0 and time.perf_counter() - self._committed_at >= CHECKPOINT_SECONDS
        )

    def _checkpoint(self) -> None:
        if len(self._batch) and not self.plan.dry_run:
            self._embed_texts()
            with self._timed("write"):
                if self.space is None:
                    self._load()
                assert self.space is not None
                self.space = self.store.commit(self.space, self._batch, codecs=self._codecs)
            self.on_event(Event("checkpoint", count=len(self._batch)))
        self._batch = Batch()
        self._committed_at = time.perf_counter()

    def _embed_texts(self) -> None:
        """Vectors for the texts of this checkpoint that have none yet; equal texts share one."""
        assert self.space is not None
        wanted: dict[bytes, CarriedText] = {
            key: carried
            for _, _, texts in self._batch.photos
            for key, carried in texts
            if not self.catalog.has_vector(self.space.id, "text", key)
        }
        if not wanted:
            return
        with self._timed("embed"):
            vectors = self._load().embed_texts([carried.text for carried in wanted.values()])
        self._batch.texts.update(zip(wanted, vectors, strict=True))

    # the end of a run

    def _finish(self) -> None:
        """Derived files and the switch to a completed space. All of it can be made again from the catalogue."""
        if self.space is None:
            return
        with self._timed("write"):
            if not self.stop.is_set():
                self._calibrate()
                self.store.update_graphs(self.space)
            self.store.complete(self.space)
            self.store.save_slots(self.space)

    def _calibrate(self) -> None:
        assert self.space is not None
        with self.catalog.reading():
            live = [row[0] for row in self.catalog.live_slots(self.space.id) if row[1] == "image"]
        if not live:
            return
        calibration = self.store.calibration(self.space)
        if calibration and not calibration.is_due(len(live)):
            return
        phrases = (
            calibration.phrases
            if calibration and calibration.version == CALIBRATION_VERSION
            else self._load().embed_texts(neutral_phrases())
        )
        rows = self.store.view(self.space).rows[live]
        self.store.save_calibration(self.space, calibrate(rows, phrases))


class _Contents:
    """The contents whose pictures have a vector already, for the workers to ask: on a connection of its own, which
    sees what is committed and nothing else."""

    def __init__(self, store: Store, space: Space) -> None:
        self._catalog = Catalog(store.catalog.path, write=False)
        self._space_id = space.id
        self._lock = threading.Lock()

    def __contains__(self, content_hash: object) -> bool:
        with self._lock:
            return isinstance(content_hash, bytes) and self._catalog.has_vector(self._space_id, "image", content_hash)

    def close(self) -> None:
        self._catalog.close()


class _TodoList:
    """The photos to read, kept in a temporary table: a first walk over a million files must not fill the memory."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("create table todo (item text not null)")
        self._connection.execute("begin")
        self._count = 0

    def append(self, todo: _Todo) -> None:
        photo = todo.photo
        row = [
            todo.root_id,
            todo.is_change,
            todo.failed_before,
            photo.root,
            photo.relpath,
            photo.size,
            photo.mtime_ns,
            photo.inode,
            [[s.relpath, s.size, s.mtime_ns] for s in photo.sidecars],
            photo.pair,
            photo.named,
        ]
        self._connection.execute("insert into todo values (?)", (json.dumps(row),))
        self._count += 1

    def close(self) -> None:
        self._connection.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Todo]:
        for (item,) in self._connection.execute("select item from todo order by rowid"):
            (root_id, is_change, failed_before, root, relpath, size, mtime_ns, inode, sidecars, pair, named) = (
                json.loads(item)
            )
            beside = tuple(Sidecar(*s) for s in sidecars)
            photo = Photo(root, relpath, size, mtime_ns, inode, beside, pair, named)
            yield _Todo(root_id, photo, is_change, failed_before)


def cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def text_key(text: str) -> bytes:
    """The key of a text item: equal texts, wherever they are carried, share one vector."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _path_of(root: Root, relpath: str) -> str:
    return f"{root.path.rstrip('/')}/{relpath}"


def _is_unchanged(known: Known, photo: Photo) -> bool:
    return (known.size, known.mtime_ns, known.sidecars) == (photo.size, photo.mtime_ns, sidecar_stamp(photo))


def _is_hidden(relpath: str) -> bool:
    """Whether a walk from above would not come here by itself; such a folder, named, is a root of its own."""
    return any(part.startswith(".") for part in relpath.split("/"))


def _moved_to(photo: Photo, root: Root, relpath: str) -> Photo:
    """The same file as seen from a root above its folder."""
    folder = os.path.dirname(relpath)

    def below(name: str) -> str:
        return os.path.join(folder, os.path.basename(name))

    return Photo(
        root.path,
        relpath,
        photo.size,
        photo.mtime_ns,
        photo.inode,
        tuple(Sidecar(below(s.relpath), s.size, s.mtime_ns) for s in photo.sidecars),
        None if photo.pair is None else below(photo.pair),
        photo.named,
    )


def why_offline(root: Root) -> str | None:
    """Why this root looks unmounted rather than changed, if it does."""
    try:
        device = os.stat(root.path).st_dev
        with os.scandir(root.path) as entries:
            is_empty = next(iter(entries), None) is None
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if is_empty:
        return "empty"
    if root.device is not None and device != root.device:
        return "on another device than before"
    return None
