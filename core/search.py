"""A question to hits: score every live vector (or a graph's shortlist), rank, and name the photos.

The exact scan of the mapped flat file is the oracle, and for one question usually the fastest way. A graph's
candidates are always scored again exactly. Ties break by path, after the search.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np  # noqa: TID253

from . import compose
from .calibration import Calibration
from .catalog import Place, below
from .errors import IndexDamaged, QueryError, UsageError
from .grammar import Query
from .light import QueryEmbedder
from .paths import mtime_ns, on_disk, printable, processor_cores
from .store import Store, View
from .types import Embedder, Modality, Photo, SkipPhoto
from .vectors import CHECK_HINT, HNSW_EF, Graph, crc_of, fault_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .types import Vectors

    Mask = NDArray[np.bool_]
    Slots = NDArray[np.int64]

SearchIn = Literal["image", "text", "any"]
Strategy = Literal["auto", "exact", "ann"]

# What the planner weighs, in seconds, from bench/search.py on 2 cores: a scan reads every vector once for a block of
# questions; a graph is verified and read whole once, and then costs the same for any question (docs/benchmarks.md).
SCAN_SECONDS_PER_FLOAT = 1.5e-10
SCAN_SECONDS_PER_FLOAT_TOGETHER = 2e-11
GRAPH_LOAD_SECONDS_PER_FLOAT = 3.5e-9
GRAPH_SECONDS_PER_QUESTION = 2e-3

# Scores of this many (question, picture) pairs are held at once: the more questions share a block, the less each costs.
SCORES_AT_ONCE = 32_000_000
# As many products with one vector are faster than one with a matrix (bench/search.py).
ONE_BY_ONE = 3
# A graph's shortlist: enough that exact scoring of it finds what an exact scan would.
SHORTLIST = 200
SHORTLIST_PER_HIT = 10
# Modalities are put on one scale by the mean and spread of a question's scores over so many of each.
BACKGROUND = 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """How to answer. The defaults are those of `imgsearch query`."""

    limit: int = 10
    min_score: float | None = None
    under: tuple[str, ...] = ()
    modality: SearchIn = "image"
    method: str = compose.DEFAULT_METHOD
    weight: float | None = None
    """Of the words, 0 to 1; None is the method's own default."""
    strategy: Strategy = "auto"
    include_reference: bool = False
    include_offline: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A photo that answers, with the score it was ranked by."""

    query: str
    rank: int
    score: float
    method: str
    """`text`, `image`, or the composition method: it names the scale of `score`."""
    modality: Modality
    """Whether the picture or a text it carries matched."""
    place: Place
    model: str

    @property
    def path(self) -> str:
        return self.place.path


class _Reference(NamedTuple):
    """The unit vector of a query's pictures, their content hashes, and their paths as the index knows them."""

    vector: Vectors
    contents: frozenset[bytes]
    paths: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Question:
    """A query with its vectors. `reference` is None for words alone."""

    query: Query
    method: str
    words: Vectors | None
    reference: Vectors | None
    weight: float
    hidden_paths: frozenset[str] = frozenset()
    hidden_contents: frozenset[bytes] = frozenset()

    @property
    def is_composed(self) -> bool:
        return self.words is not None and self.reference is not None


class Searcher:
    """Answers queries from one index. Load it once and ask it many times.

    `embedder` gives the model that made the index's active space; it is called only when something has to be
    embedded, so a query by an indexed photo loads no model.
    """

    def __init__(self, store: Store, embedder: Callable[[], Embedder], view: View | None = None) -> None:
        self.store = store
        self._embedder = embedder
        self.view: View = view or store.view()
        self._graphs: dict[str, Graph | None] = {}
        """What was loaded, by path; None for what could not be."""
        self._faulted_in: View | None = None
        self._forgone = 0.0
        """Seconds that questions scanned for would have taken less, had the graphs been loaded."""

    def search(self, query: Query, options: Options | None = None) -> list[Hit]:
        """The hits of one query, best first. Raises QueryError, UsageError."""
        (hits,) = self.search_many([query], options)
        return hits

    def search_many(
        self,
        queries: Sequence[Query],
        options: Options | None = None,
        *,
        on_error: Callable[[Query, QueryError], None] | None = None,
    ) -> Iterator[list[Hit]]:
        """The hits of each query, in order; words are embedded together and vectors read once per block.

        With `on_error` a query whose picture cannot be used is handed to it, and has no hits; without, it raises.
        """
        options = options or Options()
        _validate(options)
        words = self._words(queries, options)
        with self._consistent():
            questions = [self._question(query, words, options, on_error) for query in queries]
            allowed = self._allowed(options)
            use_graph = self._plans_graph(options, len(questions))
            scores = self.view.space.slots * (3 if any(q and q.is_composed for q in questions) else 1)
            block = max(1, SCORES_AT_ONCE // max(1, scores))
            for start in range(0, len(questions), block):
                part = questions[start : start + block]
                answers = self._answers([question for question in part if question], options, allowed, use_graph)
                for question in part:
                    yield next(answers) if question else []

    @contextlib.contextmanager
    def _consistent(self) -> Iterator[None]:
        """A read transaction in which the catalogue is of the very state that `view` is of.

        Something may be committed between two questions, and a prune renumbers slots.
        """
        catalog = self.store.catalog
        while True:
            if self.view.edition != catalog.edition():
                self.view = self.store.view(self.view.space)
                self._graphs = {path: graph for path, graph in self._graphs.items() if graph and graph.is_current()}
            with catalog.reading():
                if self.view.edition == catalog.edition():
                    yield
                    return

    # from queries to vectors

    def _words(self, queries: Sequence[Query], options: Options) -> dict[str, Vectors]:
        """The vectors of all words that count for something, by their text."""
        needed = sorted({q.text for q in queries if q.text is not None and self._weight(q, options) > 0})
        return dict(zip(needed, self._embedder().embed_texts(needed), strict=True)) if needed else {}

    def _weight(self, query: Query, options: Options) -> float:
        if not query.images:
            return 1.0
        if query.text is None:
            return 0.0
        if options.weight is not None:
            return options.weight
        return compose.method_named(options.method).default_weight

    def _question(
        self,
        query: Query,
        words: dict[str, Vectors],
        options: Options,
        on_error: Callable[[Query, QueryError], None] | None,
    ) -> _Question | None:
        """At weight 0 and 1 a composed query is the plain one: same vectors, same exclusions."""
        weight = self._weight(query, options)
        text = words.get(query.text or "")
        if weight >= 1:
            return _Question(query, "text", text, None, 1.0)
        if weight > 0 and options.modality != "image":
            hint = f"leave out --modality {options.modality}"
            self._refused(query, QueryError("a picture plus words finds pictures only", hint=hint), on_error)
            return None
        try:
            reference = self._reference(query)
        except QueryError as error:
            self._refused(query, error, on_error)
            return None
        hide = not options.include_reference
        paths = reference.paths | frozenset(query.images) if hide else frozenset()
        if weight <= 0:
            return _Question(query, "image", None, reference.vector, 0.0, hidden_paths=paths)
        return _Question(
            query,
            options.method,
            text,
            reference.vector,
            weight,
            hidden_paths=paths,
            hidden_contents=reference.contents if hide else frozenset(),
        )

    def _refused(self, query: Query, error: QueryError, on_error: Callable[[Query, QueryError], None] | None) -> None:
        if on_error is None:
            raise error
        on_error(query, error)

    def _reference(self, query: Query) -> _Reference:
        """What a query's pictures stand for; the vector of several is their normalised mean."""
        vectors, contents, paths = zip(*(self._picture(path) for path in query.images), strict=True)
        mean = np.mean(vectors, axis=0, dtype=np.float64)
        norm = float(np.linalg.norm(mean))
        if norm < 1e-6:
            raise QueryError("these pictures cancel each other out", hint="ask with fewer of them")
        return _Reference(np.asarray(mean / norm, np.float32), frozenset(contents), frozenset(paths))

    def _picture(self, path: str) -> tuple[Vectors, bytes, str]:
        """The stored vector if these very bytes are indexed, wherever they lie, else a fresh one; the bytes' hash;
        and the path as the index knows it, which may be another than was typed where there are links."""
        place = self.store.place_of(path)
        if place is not None:
            found = os.stat(path)
            if (found.st_size, mtime_ns(found)) == (place.size, place.mtime_ns):
                vector = self._stored(place.content_hash)
                if vector is not None:
                    return vector, place.content_hash, place.path
        content_hash = _hash_of(path)
        vector = self._stored(content_hash)
        known_path = path if place is None else place.path
        return (self._fresh_vector(path) if vector is None else vector), content_hash, known_path

    def _stored(self, content_hash: bytes) -> Vectors | None:
        slot = self.store.catalog.slot_of(self.view.space.id, "image", content_hash)
        if slot is None:
            return None
        if not 0 <= slot < len(self.view.rows):
            raise self._damaged()
        self._vouch_for([slot])
        return np.array(self.view.rows[slot])

    def _fresh_vector(self, path: str) -> Vectors:
        from .preprocess import draft_side  # Pillow only when pixels are needed
        from .workers import Workers

        embedder = self._embedder()
        if isinstance(embedder, QueryEmbedder):
            embedder.expect("image")
        photo = Photo(os.path.dirname(path), os.path.basename(path), os.stat(path).st_size, 0, 0, named=True)
        try:
            with Workers(1, niceness=0) as workers:  # a picture asked with is no more to be trusted than others
                read = workers.read(photo, embedder.recipe, draft_side=draft_side(embedder.recipe))
        except SkipPhoto as skipped:
            raise QueryError(f"{printable(path)}: {skipped.reason}", hint="ask with another picture") from skipped
        assert read.square is not None
        vector: Vectors = embedder.embed_images(read.square[None])[0]
        if not np.isfinite(vector).all():
            raise QueryError(f"{printable(path)}: the model gives no vector for this picture")
        return vector

    # from vectors to hits

    def _allowed(self, options: Options) -> dict[Modality, Mask]:
        """Per modality, a boolean per slot: live, and under the folders asked for."""
        modalities: tuple[Modality, ...] = ("image", "text") if options.modality == "any" else (options.modality,)
        masks = {
            modality: self.view.slots.mask(modality, include_offline=options.include_offline) for modality in modalities
        }
        if options.under:
            condition, parameters = _under(self.store, options.under)
            slots = np.asarray(self.store.catalog.slots_where(self.view.space.id, condition, **parameters), np.int64)
            chosen = np.zeros(self.view.space.slots, bool)
            chosen[slots[slots < len(chosen)]] = True
            masks = {modality: mask & chosen for modality, mask in masks.items()}
        return masks

    def _plans_graph(self, options: Options, questions: int) -> bool:
        """Whether shortlists from graphs are expected to cost less than scanning, or were asked for.

        Graphs pay for questions that come one by one: once those scanned for would have paid for the loading, they are
        loaded.
        """
        if options.strategy != "auto":
            return options.strategy == "ann" and Graph.available()
        if options.under or options.modality == "any":
            return False
        if compose.method_named(options.method).needs_all:
            return False
        graphs = [
            graph
            for graph in self.store.graphs(self.view.space, options.modality)
            if self._graphs.get(graph.path, graph) is not None and graph.note()
        ]
        if not graphs:
            return False
        dim = self.view.space.identity.dim
        covered = sum(graph.upto - graph.first for graph in graphs)
        scan = _scan_seconds(self.view.space.slots * dim, questions)
        ask = _scan_seconds((self.view.space.slots - covered) * dim, questions)
        effort = max(1.0, max(SHORTLIST, SHORTLIST_PER_HIT * options.limit) / HNSW_EF)
        ask += len(graphs) * questions * effort * GRAPH_SECONDS_PER_QUESTION
        unloaded = sum(graph.upto - graph.first for graph in graphs if graph.path not in self._graphs)
        load = unloaded * dim * GRAPH_LOAD_SECONDS_PER_FLOAT
        if ask + load - self._forgone < scan:
            return Graph.available()
        self._forgone += max(0.0, scan - ask)
        return False

    def _loaded(self, modality: Modality) -> list[Graph]:
        """The graphs of the view that can be used, in memory."""
        space = self.view.space
        graphs = self.store.graphs(space, modality)
        new = [graph for graph in graphs if graph.path not in self._graphs]
        if new:
            from concurrent.futures import ThreadPoolExecutor

            # What takes long is the checksum, outside Python's lock.
            with ThreadPoolExecutor(processor_cores()) as pool:
                for graph, is_loaded in zip(new, pool.map(lambda g: g.load(space.generation), new), strict=True):
                    self._graphs[graph.path] = graph if is_loaded else None
        return [loaded for graph in graphs if (loaded := self._graphs[graph.path]) is not None]

    def _answers(
        self,
        questions: Sequence[_Question],
        options: Options,
        allowed: dict[Modality, Mask],
        use_graph: bool,
    ) -> Iterator[list[Hit]]:
        found = [self._found(questions, modality, mask, options, use_graph) for modality, mask in allowed.items()]
        for question, *parts in zip(questions, *found, strict=True):
            yield self._hits(question, dict(zip(allowed, parts, strict=True)), options)

    def _found(
        self, questions: Sequence[_Question], modality: Modality, mask: Mask, options: Options, use_graph: bool
    ) -> Iterator[tuple[Slots, Any]]:
        """For each question the slots worth ranking, with their scores: every one that is allowed, or a shortlist."""
        graphs = self._loaded(modality) if use_graph else []
        lists = self._shortlists(questions, modality, mask, options, graphs) if graphs else [None] * len(questions)
        whole = self._scan([q for q, near in zip(questions, lists, strict=True) if near is None], modality, mask)
        listed = [q for q, near in zip(questions, lists, strict=True) if near is not None]
        rest = [self._scan(listed, modality, mask, part) for part in _uncovered(graphs, len(mask))]
        for question, near in zip(questions, lists, strict=True):
            if near is None:
                yield next(whole)
            else:
                parts = [(near, self._sane(self._scores([question], modality, near)[0])), *map(next, rest)]
                yield _joined(parts)

    def _scan(
        self, questions: Sequence[_Question], modality: Modality, mask: Mask, part: slice = slice(None)
    ) -> Iterator[tuple[Slots, Any]]:
        """For each question the allowed slots, of all or of a part of them, with their scores."""
        if questions:
            if self._faulted_in is not self.view:
                self._faulted_in = self.view
                fault_in(self.view.rows)
            live = np.flatnonzero(mask[part])
            slots = live + part.start if part.start else live
            for scores in self._scores(questions, modality, part):
                yield slots, self._sane(scores if len(live) == len(scores) else scores[live])

    def _directions(self, question: _Question, modality: Modality) -> tuple[list[Vectors], list[float]]:
        """The vectors whose dot products a question needs, and what to subtract from each."""
        if not question.is_composed or modality == "text":
            single = question.words if question.reference is None else question.reference
            assert single is not None
            return [single], [0.0]
        assert question.words is not None and question.reference is not None
        calibration = self._calibration(question.method)
        if calibration is None:
            return [question.reference, question.words], [0.0, 0.0]
        a = question.reference - calibration.image_mean
        b = question.words - calibration.text_mean
        return [a, b], [float(a @ calibration.image_mean), float(b @ calibration.image_mean)]

    def _calibration(self, method: str) -> Calibration | None:
        if not compose.method_named(method).is_centred:
            return None
        calibration = self.store.calibration(self.view.space)
        if calibration is None:
            raise UsageError(
                f"--compose {method} needs an index that was completed once",
                hint="finish it with `imgsearch index`, or use --compose lerp",
            )
        return calibration

    def _scores(self, questions: Sequence[_Question], modality: Modality, slots: Slots | slice) -> list[Any]:
        """Scores of each question over those slots, float32."""
        directions: list[Vectors] = []
        offsets: list[float] = []
        spans: list[int] = []
        for question in questions:
            vectors, shifts = self._directions(question, modality)
            directions += vectors
            offsets += shifts
            spans.append(len(vectors))
        with np.errstate(all="ignore"):  # what a damaged vector gives is looked at below
            products = _products(directions, self.view.rows[slots])
            if any(offsets):
                products -= np.asarray(offsets, np.float32)[:, None]
        scores, at = [], 0
        for question, span in zip(questions, spans, strict=True):
            if span == 1:
                scores.append(products[at])
            else:
                scores.append(self._composed(question, products[at], products[at + 1]))
            at += span
        return scores

    def _sane(self, scores: Any) -> Any:
        """Scores that can be ranked. Raises IndexDamaged where a vector was none."""
        if not np.isfinite(scores).all():
            raise self._damaged()
        return scores

    def _vouch_for(self, slots: Sequence[int]) -> None:
        """Nothing is shown on the word of a vector that is not the one that was written."""
        crcs = self.store.catalog.crcs_of(self.view.space.id, slots)
        if any(crc_of(self.view.rows[slot]) != crc for slot, crc in crcs.items()):
            raise self._damaged()

    def _damaged(self) -> IndexDamaged:
        return IndexDamaged(f"{printable(self.store.folder)}: a vector is damaged", hint=CHECK_HINT)

    def _composed(self, question: _Question, s_v: Any, s_t: Any) -> Any:
        method = compose.method_named(question.method)
        assert question.words is not None and question.reference is not None
        context = compose.Context(cosine=float(question.words @ question.reference))
        calibration = self._calibration(question.method)
        if calibration is not None:
            context = replace(context, low_image=calibration.low_image, low_text=calibration.low_text)
        if method.needs_all and len(s_v) == self.view.space.slots:
            # Dead slots and texts are no part of the collection that a method measures itself against.
            live = self.view.slots.mask("image", include_offline=True)
            scores = np.zeros_like(s_v)
            scores[live] = method.combine(s_v[live], s_t[live], question.weight, context)
            return scores
        return method.combine(s_v, s_t, question.weight, context)

    def _shortlists(
        self,
        questions: Sequence[_Question],
        modality: Modality,
        mask: Mask,
        options: Options,
        graphs: Sequence[Graph],
    ) -> list[Slots | None]:
        """For each question the slots nearest to it in all graphs. None where a scan is better: a filter or a method
        leaves too few, or the graphs do not find as many as they should."""
        lists: list[Slots | None] = [None] * len(questions)
        from concurrent.futures import ThreadPoolExecutor

        asked: list[int] = []
        queries: list[Vectors] = []
        for i, question in enumerate(questions):
            if question.is_composed and compose.method_named(question.method).needs_all:
                continue
            directions = [_unit(direction) for direction in self._directions(question, modality)[0]]
            if len(directions) == 2:
                directions.append(directions[0] + directions[1])
            queries += directions
            asked += [i] * len(directions)
        per_graph = SHORTLIST_PER_HIT * options.limit
        k = max(SHORTLIST, per_graph)
        with ThreadPoolExecutor(processor_cores()) as pool:
            answers = list(pool.map(lambda graph: graph.nearest(np.stack(queries), k), graphs)) if asked else []
        if not asked or any(answer is None for answer in answers):
            return lists
        of = np.asarray(asked)
        for i in dict.fromkeys(asked):
            parts = []
            for graph, answer in zip(graphs, answers, strict=True):
                assert answer is not None
                slots = np.unique(answer[of == i].astype(np.int64))
                slots = slots[slots < len(mask)]
                slots = slots[mask[slots]]
                if len(slots) < min(per_graph, int(np.count_nonzero(mask[graph.first : graph.upto]))):
                    break  # what is left of its shortlist may not be the nearest that are allowed
                parts.append(slots)
            else:
                lists[i] = np.concatenate(parts)
        return lists

    def _hits(self, question: _Question, scored: dict[Modality, tuple[Slots, Any]], options: Options) -> list[Hit]:
        if options.modality == "any":
            scored = {m: (slots, self._standardised(question, m, scores)) for m, (slots, scores) in scored.items()}
        slots, scores = _joined(list(scored.values()))
        if options.min_score is not None:
            keep = scores >= options.min_score
            slots, scores = slots[keep], scores[keep]
        ranked = self._ranked(question, slots, scores, options)
        return [
            Hit(
                query=question.query.typed,
                rank=rank,
                score=score,
                method=question.method,
                modality="image" if place.text is None else "text",
                place=place,
                model=self.view.space.identity.name,
            )
            for rank, (score, place) in enumerate(ranked, start=1)
        ]

    def _standardised(self, question: _Question, modality: Modality, scores: Any) -> Any:
        """Scores as distances from this question's mean over the modality, in its standard deviations.

        A handful of captions is no background to stand out from, so texts are also held against the neutral phrases.
        """
        live = np.flatnonzero(self.view.slots.mask(modality))
        if len(live) > BACKGROUND:
            live = live[:: len(live) // BACKGROUND]
        background = self._scores([question], modality, live)[0]
        calibration = self.store.calibration(self.view.space)
        if modality == "text" and calibration is not None:
            (direction,), _ = self._directions(question, modality)
            background = np.concatenate([background, calibration.phrases @ direction])
        spread = float(background.std()) if len(background) else 0.0
        return (scores - (background.mean() if len(background) else 0.0)) / (spread if spread > 1e-6 else 1.0)

    def _ranked(self, question: _Question, slots: Slots, scores: Any, options: Options) -> list[tuple[float, Place]]:
        """The best photos, each once, ties by path. Slots are opened until there are enough photos."""
        take = options.limit + len(question.hidden_paths) + len(question.hidden_contents) + 8
        where, parameters = _under(self.store, options.under) if options.under else ("", {})
        while True:
            chosen = _top(scores, take)
            score_of = {int(slots[i]): float(scores[i]) for i in chosen}
            best: dict[int, tuple[float, Place]] = {}
            for place in self.store.catalog.places_of_slots(
                self.view.space.id,
                list(score_of),
                include_offline=options.include_offline,
                where=where,
                **parameters,
            ):
                if place.path in question.hidden_paths or place.content_hash in question.hidden_contents:
                    continue
                score = score_of[place.slot]
                if place.id not in best or score > best[place.id][0]:
                    best[place.id] = (score, place)
            if len(best) >= options.limit or len(chosen) == len(scores):
                ranked = sorted(best.values(), key=lambda item: (-item[0], os.fsencode(item[1].path)))[: options.limit]
                self._vouch_for([place.slot for _, place in ranked])
                return ranked
            take *= 4


def _scan_seconds(floats: int, questions: int) -> float:
    return floats * (SCAN_SECONDS_PER_FLOAT + (questions - 1) * SCAN_SECONDS_PER_FLOAT_TOGETHER)


def _uncovered(graphs: Sequence[Graph], slots: int) -> Iterator[slice]:
    """The ranges of slots that none of these graphs, which are in order, covers."""
    start = 0
    for graph in graphs:
        if start < graph.first:
            yield slice(start, graph.first)
        start = graph.upto
    if start < slots:
        yield slice(start, slots)


def _products(directions: Sequence[Vectors], rows: Vectors) -> NDArray[np.float32]:
    """The dot product of each direction with each row: float32, (directions, rows)."""
    products = np.empty((len(directions), len(rows)), np.float32)
    if len(directions) <= ONE_BY_ONE:
        for direction, row in zip(directions, products, strict=True):
            np.dot(rows, np.asarray(direction, np.float32), out=row)
    else:
        np.matmul(np.stack(directions), rows.T, out=products)
    return products


def _joined(parts: Sequence[tuple[Slots, Any]]) -> tuple[Slots, Any]:
    """Slots with their scores as one. What is one already is not copied: at a million photos that is felt."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([slots for slots, _ in parts]), np.concatenate([scores for _, scores in parts])


def _hash_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise QueryError(f"{printable(path)}: {error.strerror}", hint="ask with another picture") from error


def _top(scores: Any, count: int) -> Any:
    """Indices of the `count` best scores and of all that tie with the last of them."""
    if len(scores) <= count:
        return np.arange(len(scores))
    cut = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.flatnonzero(scores >= cut)


def _unit(vector: Vectors) -> Vectors:
    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm if norm > 1e-9 else 1.0)


def _validate(options: Options) -> None:
    if options.limit < 1:
        raise UsageError(f"--limit {options.limit}: at least 1")
    if options.min_score is not None and math.isnan(options.min_score):
        raise UsageError("--min-score nan: give a number")
    if options.weight is not None and not 0 <= options.weight <= 1:
        raise UsageError(f"--weight {options.weight:g}: between 0 (picture only) and 1 (words only)")
    compose.method_named(options.method)


def _under(store: Store, folders: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """A condition over `p` and `r` for photos at or below any of these folders."""
    parts: list[str] = []
    values: dict[str, Any] = {}
    for folder in folders:
        before = len(parts)
        if not folder:
            raise UsageError("an empty name for a folder")
        path = on_disk(os.path.abspath(os.path.expanduser(folder)))
        for root, relpath in store.roots_over(path):
            n = len(parts)
            top = os.fsencode(relpath)
            if not store.catalog.has_photos_below(root.id, top):
                continue
            low, high = below(top)
            values |= {f"root{n}": root.id, f"top{n}": top, f"low{n}": low, f"high{n}": high}
            parts.append(
                f"(p.root_id = :root{n} and (p.folder = :top{n} or (p.folder >= :low{n} and p.folder < :high{n})))"
            )
        for spelling in dict.fromkeys((path, os.path.realpath(path))):
            for root in store.catalog.roots():
                tops = (root.path, os.path.realpath(root.path))
                if any(top.startswith(spelling.rstrip("/") + "/") for top in tops):
                    n = len(parts)
                    values[f"root{n}"] = root.id
                    parts.append(f"(p.root_id = :root{n})")
        if len(parts) == before:
            raise QueryError(
                f"{printable(folder)}: nothing indexed under this folder",
                hint="`imgsearch status` lists what is indexed",
            )
    return " or ".join(parts), values
