"""The indexing loop: walk, find what is new, decode ahead, embed in batches, commit in checkpoints, report.

It is handed a store and a way to get the model; the model is only loaded when there is something to embed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from imgsearch.core.errors import IndexDamaged, UsageError
from imgsearch.core.late import LateModule
from imgsearch.core.models.onnx_embedder import OnnxEmbedder
from imgsearch.core.models.phrases import neutral_vectors
from imgsearch.core.paths import has_picture_extension, is_network_filesystem, printable
from imgsearch.core.photos import gazetteer, timezones
from imgsearch.core.photos.codecs import codecs, version_of
from imgsearch.core.store.calibration import CALIBRATION_VERSION, Calibration, calibrate, sampled
from imgsearch.core.store.catalog import Catalog
from imgsearch.core.store.records import NewPhoto, Space, region_keys, text_key
from imgsearch.core.store.store import Batch, RunProgress, Store
from imgsearch.core.types import CarriedText, Embedder, NotAPicture, Region, Skipped, SkipPhoto

from .changes import OF_LIVE_PHOTO, Event, IndexPlan, Listener, Summary, Survey, Todo, TodoList

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from imgsearch.core.photos import preprocess
    from imgsearch.core.photos.decode_pool import DecodedPhoto, DecodePool
    from imgsearch.core.types import Squares, Vectors
else:  # not needed where nothing is new
    np, preprocess = LateModule("numpy"), LateModule("imgsearch.core.photos.preprocess")

# A kill costs at most one checkpoint.
CHECKPOINT_PHOTOS = 256
CHECKPOINT_SECONDS = 2.0
# Decoded squares waiting for the model: enough to ride out one slow file, small enough to stay in memory.
LOOKAHEAD_BATCHES = 3
DEFAULT_BATCH = 32
# The number of photos whose place names are one transaction: a twentieth of a second.
NAMED_AT_ONCE = 1_000
# A file that takes longer than this no longer holds up those behind it.
PATIENCE_SECONDS = 0.5
# The video of a Live Photo takes three seconds. A longer one of the same name is a video of its own.
LIVE_SECONDS = 6.0

__all__ = ["Event", "IndexPlan", "Summary", "run"]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A file that was read and, unless its content is known, made into a square, or several for a panorama."""

    todo: Todo
    result: NewPhoto | Skipped | None
    """None: not a picture, and its name did not claim so."""
    squares: Squares | None
    regions: tuple[Region, ...]
    """Of a panorama or a video: what each square shows."""
    seconds: float
    nothing: str = "not a picture"
    """Why there is no result."""


def run(
    store: Store,
    embedder: Callable[[], tuple[Embedder, str]],
    plan: IndexPlan,
    *,
    space: Space | None = None,
    on_event: Listener = lambda event: None,
    stop: threading.Event | None = None,
    workers: DecodePool | None = None,
) -> Summary:
    """Index what the plan names into `store`, which must be open for writing.

    `embedder` returns the model and its `ModelSpec` as JSON; it is called at most once. `space` is the space that
    model's vectors belong to if that is known without loading it. Set `stop` to stop after the current batch.
    `workers` read the photos; without any, the run starts its own. Raises UsageError for a path that cannot be indexed
    at all, and where videos are asked for without the library for them.
    """
    if plan.video and version_of("av") == "none":
        raise UsageError("--video needs a library that is not installed", hint="pip install 'imgsearch-cli[video]'")
    with contextlib.ExitStack() as stack:

        def readers() -> DecodePool:
            from imgsearch.core.photos.decode_pool import DecodePool

            return workers or stack.enter_context(DecodePool(plan.workers, seconds=plan.seconds))

        return _Loop(store, embedder, plan, space, on_event, stop or threading.Event(), readers).run()


class _Loop:
    def __init__(
        self,
        store: Store,
        embedder: Callable[[], tuple[Embedder, str]],
        plan: IndexPlan,
        space: Space | None,
        on_event: Listener,
        stop: threading.Event,
        workers: Callable[[], DecodePool],
    ) -> None:
        self.store = store
        self.catalog = store.catalog
        self.plan = plan
        self.space = space
        self.on_event = on_event
        self.stop = stop
        self.summary = Summary()
        self._get_embedder = embedder
        self._get_workers = workers
        self._embedder: Embedder | None = None
        self._batch = Batch()
        self._committed_at = time.perf_counter()
        self._planned = self._done = 0
        self._has_no_gazetteer = False
        self._reported: set[str] = set()

    @cached_property
    def workers(self) -> DecodePool:
        return self._get_workers()

    # the whole run

    def run(self) -> Summary:
        started = time.perf_counter()
        if is_network_filesystem(self.store.folder):
            self.on_event(Event("notice", reason="the index is on a network disk: queries wait while it is written"))
        if self.space is None and not self.plan.dry_run:
            self._load()
        with contextlib.closing(TodoList()) as todo:
            self._follow(todo)
        self.summary.was_stopped = self.stop.is_set()
        self.summary.seconds["total"] = time.perf_counter() - started
        return self.summary

    def _follow(self, todo: TodoList) -> None:
        space_id = self.space.id if self.space else None
        survey = Survey(self.store, self.plan, space_id, self.summary, self.on_event, self.stop)
        with self._timed("walk"):
            survey.run(todo)
        self._batch = survey.batch
        self._planned = len(todo)
        self.on_event(Event("planned", count=len(todo)))
        if self.plan.dry_run:
            for item in todo:
                if has_picture_extension(item.photo.relpath) or item.photo.named or item.photo.video:
                    reason = "changed" if item.is_change else "new"
                    self.on_event(Event("would_index", path=item.photo.path, reason=reason))
                    self.summary.new += not item.is_change
                    self.summary.changed += item.is_change
            survey.mark_missing()
            return
        self._work(todo)
        if not self.stop.is_set():
            survey.mark_missing()
            self._embed_notes()
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
            self.on_event(Event("loading"))
            with self._timed("load"):
                self._embedder, model = self._get_embedder()
            self.space = self.store.space_for(self._embedder.identity, model)
        return self._embedder

    # reading, embedding, writing

    def _work(self, todo: TodoList) -> None:
        if not len(todo):
            self._checkpoint()
            return
        embedder = self._load()
        if isinstance(embedder, OnnxEmbedder):
            embedder.expect(len(todo))
        size = self.plan.batch_size or int(getattr(embedder, "batch_size", DEFAULT_BATCH))
        if self.plan.batch_size and hasattr(embedder, "batch_size"):
            embedder.batch_size = size
        waiting: list[_Prepared] = []
        self._committed_at = time.perf_counter()
        with contextlib.closing(self._prepared(todo, size * LOOKAHEAD_BATCHES)) as prepared:
            for item in prepared:
                if item is not None:
                    self.summary.seconds["decode"] += item.seconds
                    if item.squares is None:
                        self._take(item, None)
                    else:
                        waiting.append(item)
                if _count_squares(waiting) >= size or (waiting and self._is_checkpoint_due(waiting)):
                    self._embed(waiting, size)
                    waiting = []
                if self._is_checkpoint_due(waiting):
                    self._checkpoint()
                if self.stop.is_set():
                    break
        self._embed(waiting, size)
        self._checkpoint()

    def _prepared(self, todo: TodoList, lookahead: int) -> Generator[_Prepared | None, None, None]:
        """Files read and decoded by the workers, at most `lookahead` of them or of their squares ahead. They come in
        order, except that a slow one does not hold up the others. Yields None from time to time while none is ready."""
        from concurrent.futures import ThreadPoolExecutor, wait

        futures: deque[Future[_Prepared]] = deque()
        ready = _SquareCount()
        assert self.space is not None
        known = _Contents(self.store, self.space)
        with contextlib.closing(known), ThreadPoolExecutor(self.workers.count, thread_name_prefix="read") as pool:
            try:
                for item in todo:
                    futures.append(pool.submit(self._prepare, item, known))
                    futures[-1].add_done_callback(ready.add)
                    while len(futures) >= lookahead + self.workers.count or ready.squares > lookahead:
                        for prepared in _next_of(futures):
                            ready.remove(prepared)
                            yield prepared
                while futures:
                    yield from _next_of(futures)
            finally:
                for future in futures:
                    future.cancel()
                if wait(futures, timeout=PATIENCE_SECONDS).not_done:  # their results are no longer needed
                    self.workers.close()

    def _prepare(self, todo: Todo, known: _Contents) -> _Prepared:
        """Read one file, in a thread with its own worker. Everything about the file stays in one object, so nothing can
        be attached to another."""
        started = time.perf_counter()
        assert self._embedder is not None
        recipe = self._embedder.recipe
        photo = todo.photo
        squares: Squares | None = None
        regions: tuple[Region, ...] = ()
        result: NewPhoto | Skipped | None
        try:
            draft_side = preprocess.draft_side(recipe) if self.plan.decode == "fast" else 0
            read = self.workers.read(photo, recipe, draft_side=draft_side, known=known, regions=True)
            duration = read.facts.duration_seconds
            if duration is not None and photo.pair and not photo.named and duration <= LIVE_SECONDS:
                return _Prepared(todo, None, None, (), time.perf_counter() - started, OF_LIVE_PHOTO)
            if read.squares is None and not known.has_regions(read):
                read = self.workers.read(photo, recipe, draft_side=draft_side, regions=True)
            result = NewPhoto(photo, read.content_hash, read.size, read.mtime_ns, read.facts)
            squares, regions = read.squares, read.regions
        except NotAPicture:
            result = None
        except SkipPhoto as skipped:
            result = Skipped(photo.path, skipped.stage, skipped.reason)
        return _Prepared(todo, result, squares, regions, time.perf_counter() - started)

    def _embed(self, waiting: Sequence[_Prepared], size: int) -> None:
        """Embed a batch of squares. Each vector stays with the item its square came from."""
        if not waiting:
            return
        with self._timed("embed"):
            squares = np.concatenate([item.squares for item in waiting if item.squares is not None])
            parts = range(0, len(squares), size)
            vectors = np.concatenate([self._load().embed_images(squares[at : at + size]) for at in parts])
        at = 0
        for item in waiting:
            count = _count_squares([item])
            self._take(item, vectors[at : at + count])
            at += count

    def _take(self, item: _Prepared, vectors: Vectors | None) -> None:
        """`vectors`: one for each square of the item."""
        self._done += 1
        result = item.result
        if result is None:
            self.summary.not_pictures += 1
            nothing = Skipped(item.todo.photo.path, "decode", item.nothing)
            self._batch.failures.append((item.todo.root_id, item.todo.photo, nothing, True))
            self.on_event(Event("passed", path=item.todo.photo.path))
            return
        if isinstance(result, Skipped):
            self._skip(item.todo, result)
            return
        if vectors is not None and not np.isfinite(vectors).all():
            self._skip(item.todo, Skipped(result.photo.path, "embed", "the model gave no finite vector"))
            return
        if vectors is not None:
            keys = region_keys(result.content_hash, item.regions)
            for key, vector in zip(keys, vectors, strict=True):
                self._batch.images.setdefault(key, vector)
            if item.regions:
                self._batch.regions[result.content_hash] = item.regions
        texts = tuple((text_key(carried.text), carried) for carried in result.facts.texts)
        self._batch.photos.append((item.todo.root_id, result, texts))
        self.summary.damaged += result.facts.is_damaged
        if item.todo.is_change:
            self.summary.changed += 1
        elif vectors is None:
            self.summary.reused += 1
        else:
            self.summary.new += 1
        self.on_event(Event("photo", path=result.photo.path))
        self._report_problems(result)

    def _report_problems(self, read: NewPhoto) -> None:
        """Say what is wrong with a photo's sidecars, once for each that several photos share."""
        for problem in read.facts.problems:
            path = os.path.join(os.path.dirname(read.photo.path), problem)
            if path not in self._reported:
                self._reported.add(path)
                self.on_event(Event("notice", reason=f"{printable(path)}; the photo is indexed without it"))

    def _skip(self, todo: Todo, skipped: Skipped) -> None:
        if todo.failed_before == skipped.reason:
            self.summary.known_failures += 1
            return
        self.summary.skipped += 1
        self._batch.failures.append((todo.root_id, todo.photo, skipped, False))
        self.on_event(Event("skipped", path=skipped.path, stage=skipped.stage, reason=skipped.reason))

    # checkpoints

    def _is_checkpoint_due(self, waiting: Sequence[_Prepared]) -> bool:
        count = len(self._batch) + len(waiting)
        return count >= CHECKPOINT_PHOTOS or (
            count > 0 and time.perf_counter() - self._committed_at >= CHECKPOINT_SECONDS
        )

    def _checkpoint(self) -> None:
        if len(self._batch) and not self.plan.dry_run:
            self._embed_texts()
            with self._timed("write"):
                assert self.space is not None
                self.space = self.store.commit(
                    self.space, self._batch, codecs=codecs(), progress=RunProgress(self._done, self._planned)
                )
            self.on_event(Event("checkpoint", count=len(self._batch)))
        self._batch = Batch()
        self._committed_at = time.perf_counter()
        self._name_places()

    def _name_places(self) -> None:
        """Name the places of photos that have coordinates: of this checkpoint, and of earlier runs where the extra was
        not installed or its data was older. Without such photos nothing is loaded."""
        data = gazetteer.version()
        if data is None or self._has_no_gazetteer:
            return
        self.catalog.place_names.start(data)
        while not self.stop.is_set() and (lacking := self.catalog.place_names.lacking(NAMED_AT_ONCE)):
            with self._timed("write"):
                try:
                    names = gazetteer.gazetteer().names([(north, east) for _, north, east in lacking])
                except gazetteer.GazetteerError as error:
                    self._has_no_gazetteer = True
                    self.on_event(Event("notice", reason=str(error)))
                    return
                ids = [photo_id for photo_id, _, _ in lacking]
                local = self._local_times(lacking)
                with self.catalog.transaction():
                    self.catalog.place_names.save(data, dict(zip(ids, names, strict=True)))
                    self.catalog.place_names.save_local_times(local)
            self.summary.named_places += len(lacking)

    def _local_times(self, located: Sequence[tuple[int, float, float]]) -> dict[int, tuple[str, str]]:
        """Local times of photos (id, latitude, longitude) whose date is known in UTC only."""
        in_utc = self.catalog.place_names.in_utc([photo_id for photo_id, _, _ in located])
        if not in_utc or not timezones.available():
            return {}
        times = {
            photo_id: timezones.local_time(in_utc[photo_id], latitude, longitude)
            for photo_id, latitude, longitude in located
            if photo_id in in_utc
        }
        return {photo_id: time for photo_id, time in times.items() if time}

    def _embed_texts(self) -> None:
        """Embed the texts of this checkpoint that have no vector yet. Equal texts share one."""
        assert self.space is not None
        wanted: dict[bytes, CarriedText] = {
            key: carried
            for _, _, texts in self._batch.photos
            for key, carried in texts
            if not self.catalog.vectors.has(self.space.id, "text", key)
        }
        if not wanted:
            return
        with self._timed("embed"):
            vectors = self._load().embed_texts([carried.text for carried in wanted.values()])
        self._batch.texts.update(zip(wanted, vectors, strict=True))

    # the end of a run

    def _embed_notes(self) -> None:
        """Embed the user's notes that have no vector of this model yet, and texts that OCR read."""
        assert self.space is not None
        own = self.catalog.notes.without_vectors(self.space.id)
        lacking = list((own | self.catalog.readings.without_vectors(self.space.id)).items())
        for start in range(0, len(lacking), CHECKPOINT_PHOTOS):
            if self.stop.is_set():
                return
            notes = dict(lacking[start : start + CHECKPOINT_PHOTOS])
            with self._timed("embed"):
                vectors = self._load().embed_texts(list(notes.values()))
            with self._timed("write"):
                batch = Batch(texts=dict(zip(notes, vectors, strict=True)))
                self.space = self.store.commit(self.space, batch, codecs=codecs())
        if own:
            self.on_event(Event("notice", reason=f"embedded {len(own):,} of your notes"))

    def _finish(self) -> None:
        """Write derived files and switch to a completed space. All of it can be rebuilt from the catalogue."""
        assert self.space is not None
        if self.stop.is_set() or self.store.is_up_to_date(self.space):
            return  # a stale slot map tells the next run to finish
        self._calibrate(self.space)
        with self._timed("write"):
            age = self.plan.graph_age_seconds
            self.store.update_graphs(self.space, self.stop.is_set, min_age_seconds=age)
            if self.stop.is_set():
                return
            self.store.update_text_index()
            self.store.save_slots(self.space)  # a complete space has all its files, at any moment
            self._complete(self.space)
            for space in self.store.catalog.spaces.all():
                self.store.refresh_slots(space)

    def _complete(self, space: Space) -> None:
        """Let search use a space that is complete, and say so if it used another one before."""
        before = self.store.active_space()
        missing = self.store.complete(space)
        if before is None or before.id == space.id:
            return
        reason = f"search now uses {space.identity.name}"
        if missing:
            reason = (
                f"{missing:,} photos or notes have no vector of {space.identity.name} yet; search uses "
                f"{before.identity.name} until they do"
            )
        self.on_event(Event("notice", reason=reason))

    def _calibrate(self, space: Space) -> None:
        calibration = self.store.calibration(space)
        live = live_pictures(self.store, space)
        if live and (calibration is None or calibration.is_due(len(live))):
            with self._timed("write"):
                renew_calibration(self.store, space, live, lambda: self._phrases(space))

    def _phrases(self, space: Space) -> Vectors:
        with self._timed("embed"):
            return neutral_vectors(space.identity, self._load)


def live_pictures(store: Store, space: Space) -> list[int]:
    """The slots of the pictures that present photos show."""
    with store.catalog.reading():
        return [row[0] for row in store.catalog.vectors.live_slots(space.id) if row[1] == "image"]


def renew_calibration(store: Store, space: Space, live: Sequence[int], phrases: Callable[[], Vectors]) -> Calibration:
    """Measure a space by its live pictures, at least one; `phrases` gives the neutral ones where it has none."""
    try:
        known = store.calibration(space)
    except IndexDamaged:  # the new calibration does not need the old one
        known = None
    is_known = known is not None and known.version == CALIBRATION_VERSION
    vectors = known.phrases if known is not None and is_known else phrases()
    measured = calibrate(store.view(space).rows[sampled(live)], vectors, count=len(live))
    store.save_calibration(space, measured)
    return measured


class _Contents:
    """The contents whose pictures have a vector already, for the workers to ask: on a connection of its own, which
    sees what is committed and nothing else."""

    def __init__(self, store: Store, space: Space) -> None:
        self._catalog = Catalog(store.catalog.path, write=False)
        self._space_id = space.id
        self._lock = threading.Lock()

    def __contains__(self, content_hash: object) -> bool:
        with self._lock:
            return isinstance(content_hash, bytes) and self._catalog.vectors.has(self._space_id, "image", content_hash)

    def has_regions(self, read: DecodedPhoto) -> bool:
        """Whether its regions have vectors, too. An older imgsearch made none. Which moments a video has is not known
        without its frames."""
        regions = self._catalog.regions
        with self._lock:
            if read.facts.duration_seconds is not None:
                return regions.are_complete(self._space_id, read.content_hash)
            return not read.regions or regions.are_whole(self._space_id, read.content_hash, read.regions)

    def close(self) -> None:
        self._catalog.close()


def _count_squares(items: Sequence[_Prepared]) -> int:
    return sum(len(item.squares) for item in items if item.squares is not None)


class _SquareCount:
    """The number of squares in memory, of files that are ready and not taken yet."""

    def __init__(self) -> None:
        self.squares = 0
        self._lock = threading.Lock()

    def add(self, future: Future[_Prepared]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._change(_count_squares([future.result()]))

    def remove(self, item: _Prepared | None) -> None:
        if item is not None:
            self._change(-_count_squares([item]))

    def _change(self, number: int) -> None:
        with self._lock:
            self.squares += number


def _next_of(futures: deque[Future[_Prepared]]) -> Iterator[_Prepared | None]:
    """The first file once it is ready; if that takes long, those behind it that are; else None."""
    from concurrent.futures import wait

    wait([futures[0]], timeout=PATIENCE_SECONDS)
    if futures[0].done():
        yield futures.popleft().result()
        return
    ready = [future for future in futures if future.done()]
    for future in ready:
        futures.remove(future)
    yield from (future.result() for future in ready)
    yield None
