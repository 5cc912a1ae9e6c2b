"""Reading the text in pictures, after they are indexed: which pictures, in which order, and how it is kept.

The index is locked only for the moment of a checkpoint, so that a reading of hours never keeps other programs from
writing. What was read belongs to the content of a photo: a renamed or copied one is not read again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from imgsearch.core.errors import UsageError
from imgsearch.core.late import LateModule
from imgsearch.core.models.phrases import neutral_phrases
from imgsearch.core.paths import printable, processor_cores
from imgsearch.core.photos import ocr
from imgsearch.core.photos.codecs import codecs
from imgsearch.core.store.lock import OnWait
from imgsearch.core.store.notes import as_note
from imgsearch.core.store.reading_table import Reading, Scope, Unread
from imgsearch.core.store.records import Root, Space, text_key
from imgsearch.core.store.roots import within
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import SkipPhoto, TextLine

from .changes import RETRIED_STAGES, Event, Listener

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from imgsearch.core.photos.decode_pool import DecodePool
    from imgsearch.core.types import Vectors
else:
    np = LateModule("numpy")

# Lower than the decoders of `index`: only what no other program wants.
NICENESS = 19
# Of wall time, on a machine where other programs come first. A page takes a second or two.
READ_SECONDS = 300.0
# What a worker uses for a picture of ocr.MAX_SIDE, with its models.
WORKER_BYTES = 1 << 30
CHECKPOINT_PHOTOS = 64
CHECKPOINT_SECONDS = 5.0
# How often the derived files are brought up to date, which takes longer the larger the index is.
REFRESH_SECONDS = 60.0
MAX_TEXT_CHARACTERS = 20_000
# Vectors in memory to tell which pictures look like text: 20 MB at 512 dimensions.
ROWS_AT_ONCE = 10_000

TEXT_PHRASES = (
    "a page of text",
    "a sign with words on it",
    "a receipt",
    "a screenshot of text",
    "a document with printed text",
    "a label with small print",
    "a poster with large letters",
    "handwritten notes on paper",
)
THRESHOLD = 0.75
"""From this likeness on a picture is read. All of 208 pages and signs are above, and a quarter of ordinary photos
(bench/ocr.py)."""
RULES = "likeness 1"
"""Change it with the phrases or the threshold, so that pictures that were left out are looked at again."""

Embed = Callable[[Space, Sequence[str]], "Vectors"]
"""The vectors of texts, by the model of a space."""


@dataclass(slots=True)
class ReadSummary:
    """What a run did, in photos with different contents."""

    read: int = 0
    with_text: int = 0
    unlikely: int = 0
    """Not read, because they do not look like text."""
    failed: int = 0
    was_stopped: bool = False
    seconds: float = 0.0


def scopes_of(store: Store, paths: Sequence[str], *, remembered: bool = False) -> list[Scope]:
    """What these absolute paths name in the index, or without any, all of it; with `remembered`, only in roots that
    have OCR set. Raises UsageError for a path that is not in the index."""
    roots = [root for root in store.catalog.roots.all() if root.ocr or not remembered]
    if not paths:
        return [Scope(root.id) for root in roots]
    wanted = {root.id for root in roots}
    found = []
    for path in paths:
        over = [(root, relpath) for root, relpath in store.roots_over(path)]
        inside = [root for root in store.catalog.roots.all() if _is_below(path, root)]
        if not over and not inside:
            raise UsageError(
                f"{printable(path)}: not in the index", hint=f"index it first: imgsearch index {printable(path)}"
            )
        found += [Scope(root.id, relpath) for root, relpath in over if root.id in wanted]
        found += [Scope(root.id) for root in inside if root.id in wanted]
    return list(dict.fromkeys(found))


def _is_below(path: str, root: Root) -> bool:
    """Whether a root is that folder, or is in it."""
    return root.path == path or within(Root(-1, path, "folder", None, "online"), root) is not None


def require_library() -> str:
    """The version of the library. Raises UsageError without it."""
    found = ocr.version()
    if found is None:
        raise UsageError("reading the text in pictures needs RapidOCR", hint=f"install it: {ocr.INSTALL}")
    return found


def read_texts(
    folder: str,
    scopes: Callable[[Store], Sequence[Scope]],
    embed: Embed,
    *,
    everything: bool = False,
    workers: int | None = None,
    on_event: Listener = lambda event: None,
    on_wait: OnWait = lambda writer: None,
    stop: threading.Event | None = None,
) -> ReadSummary:
    """Read the text in the photos of an index that were not read yet: those that look like text, or with `everything`
    all of them. Set `stop` to stop after the pictures at hand.

    Raises UsageError without the library, and ImgsearchError if it does not work.
    """
    run = _Run(folder, embed, require_library(), on_event, on_wait, stop or threading.Event())
    started = time.perf_counter()
    run.read(run.plan(scopes, everything=everything), workers)
    run.summary.was_stopped = run.stop.is_set()
    run.summary.seconds = time.perf_counter() - started
    return run.summary


class _Todo(NamedTuple):
    content_hash: bytes
    path: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one photo. `reading` is None if it should be tried again another time."""

    todo: _Todo
    reading: Reading | None
    skipped: SkipPhoto | None = None


@dataclass(slots=True)
class _Run:
    folder: str
    embed: Embed
    reader: str
    on_event: Listener
    on_wait: OnWait
    stop: threading.Event
    summary: ReadSummary = field(default_factory=ReadSummary)
    _readings: list[Reading] = field(default_factory=list)
    _committed_at: float = field(default_factory=time.monotonic)
    _refreshed_at: float = field(default_factory=time.monotonic)

    def plan(self, scopes: Callable[[Store], Sequence[Scope]], *, everything: bool) -> list[_Todo]:
        """The photos to read. The others are marked as unlikely."""
        with Store.open(self.folder) as store:
            unread = store.catalog.readings.unread(
                scopes(store), reader=self.reader, rules=RULES, everything=everything
            )
            if not unread:
                return []
            likely = set(unread) if everything else self._likely(store, unread)
            paths = {place.id: place.path for place in store.catalog.places.by_id([each.photo_id for each in likely])}
        unlikely = [each for each in unread if each not in likely]
        self.summary.unlikely = len(unlikely)
        if unlikely:
            self._readings = [Reading(each.content_hash, "unlikely", RULES) for each in unlikely]
            self._commit()
        return [_Todo(each.content_hash, paths[each.photo_id]) for each in unread if each.photo_id in paths]

    def _likely(self, store: Store, unread: Sequence[Unread]) -> set[Unread]:
        """Those whose vectors look like text, and those without a vector."""
        space = store.active_space()
        if space is None:
            return set(unread)
        slots = store.catalog.vectors.slots_by_key(space.id, "image")
        view = store.view(space)
        known = [each for each in unread if 0 <= slots.get(each.content_hash, -1) < view.space.slots]
        if not known:
            return set(unread)
        calibration = store.calibration(space)
        neutral = self.embed(space, neutral_phrases()) if calibration is None else calibration.phrases
        texts = self.embed(space, TEXT_PHRASES)
        likely = set(unread)
        for start in range(0, len(known), ROWS_AT_ONCE):
            some = known[start : start + ROWS_AT_ONCE]
            likeness = text_likeness(view.rows[[slots[each.content_hash] for each in some]], texts, neutral)
            likely -= {each for each, value in zip(some, likeness, strict=True) if value < THRESHOLD}
        return likely

    # reading

    def read(self, todo: Sequence[_Todo], workers: int | None) -> None:
        from imgsearch.core.photos.decode_pool import DecodePool, memory_available

        self.on_event(Event("reading", count=len(todo)))
        if todo and not self.stop.is_set():
            count = workers or max(1, min(processor_cores(), len(todo), memory_available() // WORKER_BYTES))
            with (
                DecodePool(count, seconds=READ_SECONDS, niceness=NICENESS) as pool,
                closing(_outcomes(pool, todo)) as outcomes,
            ):
                for outcome in outcomes:
                    if outcome is not None:
                        self._take(outcome)
                    if self._is_due():
                        self._commit()
                    if self.stop.is_set():
                        break
        self._commit()
        if self.summary.read or self.summary.unlikely:
            self._refresh()

    def _take(self, outcome: _Outcome) -> None:
        skipped, reading = outcome.skipped, outcome.reading
        if skipped is not None:
            self.summary.failed += 1
            self.on_event(Event("skipped", path=outcome.todo.path, stage=skipped.stage, reason=skipped.reason))
        if reading is not None:
            self._readings.append(reading)
            if reading.state == "read":
                self.summary.read += 1
                self.summary.with_text += bool(reading.lines)
                self.on_event(Event("read", path=outcome.todo.path, count=len(reading.lines)))

    # keeping

    def _is_due(self) -> bool:
        if not self._readings:
            return False
        is_old = time.monotonic() - self._committed_at >= CHECKPOINT_SECONDS
        return is_old or len(self._readings) >= CHECKPOINT_PHOTOS

    def _commit(self) -> None:
        """One checkpoint, with the vectors of its texts. Waits for another program that writes."""
        if self._readings:
            with Store.writing(self.folder, wait=self.on_wait) as store:
                space = store.space_to_search()
                texts = {text_key(reading.text): reading.text for reading in self._readings if reading.text}
                lacking = [key for key in texts if not store.catalog.vectors.has(space.id, "text", key)]
                vectors = self.embed(space, [texts[key] for key in lacking]) if lacking else ()
                batch = Batch(texts=dict(zip(lacking, vectors, strict=True)), readings=self._readings)
                store.commit(space, batch, codecs=codecs())
            self.on_event(Event("checkpoint", count=len(self._readings)))
            self._readings = []
        self._committed_at = time.monotonic()
        if time.monotonic() - self._refreshed_at >= REFRESH_SECONDS:
            self._refresh()

    def _refresh(self) -> None:
        with Store.writing(self.folder, wait=self.on_wait) as store:
            space = store.space_to_search()
            store.update_graphs(space, self.stop.is_set)
            store.refresh_slots(store.reload(space))
            store.update_text_index()
        self._refreshed_at = time.monotonic()


def text_likeness(rows: Vectors, texts: Vectors, neutral: Vectors) -> Vectors:
    """How much each picture looks like one of the text phrases: in standard deviations over the neutral ones.

    All are unit vectors of one space, (n, dim). Works for every model, whatever the scale of its cosines.
    """
    others = rows @ neutral.T
    spread = np.maximum(others.std(axis=1), 1e-6)
    likeness: Vectors = ((rows @ texts.T).max(axis=1) - others.mean(axis=1)) / spread
    return likeness


def _outcomes(pool: DecodePool, todo: Sequence[_Todo]) -> Generator[_Outcome | None, None, None]:
    """What comes of each photo, as soon as it is known. Yields None from time to time while nothing is."""
    from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

    waiting = deque(todo)
    futures: set[Future[_Outcome]] = set()
    reader = require_library()
    with ThreadPoolExecutor(pool.count, thread_name_prefix="ocr") as threads:
        try:
            while waiting or futures:
                while waiting and len(futures) < pool.count:
                    futures.add(threads.submit(_outcome, pool, waiting.popleft(), reader))
                done, futures = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
                yield None
        finally:
            if futures:  # the run was stopped; what is half read is read again another time
                pool.close()


def _outcome(pool: DecodePool, todo: _Todo, reader: str) -> _Outcome:
    try:
        found = pool.text(todo.path)
    except SkipPhoto as skipped:
        # A file that cannot be opened may be there again tomorrow, and there may be more memory.
        is_lasting = skipped.stage not in RETRIED_STAGES
        failed = Reading(todo.content_hash, "failed", reader, reason=skipped.reason)
        return _Outcome(todo, failed if is_lasting else None, skipped)
    if found.content_hash != todo.content_hash:
        changed = SkipPhoto("read", "changed since it was indexed")
        return _Outcome(todo, None, changed)
    return _Outcome(todo, Reading(todo.content_hash, "read", reader, _cleaned(found.lines)))


def _cleaned(lines: Sequence[TextLine]) -> tuple[TextLine, ...]:
    """The lines without control characters, and without empty ones, up to MAX_TEXT_CHARACTERS."""
    kept, length = [], 0
    for line in lines:
        text = as_note(line.text)
        length += len(text) + 1
        if length > MAX_TEXT_CHARACTERS:
            break
        if text:
            kept.append(TextLine(text, line.score, line.region))
    return tuple(kept)
