"""A question to hits: score every live vector (or a graph's shortlist), rank, and name the photos.

The exact scan of the mapped flat file is the oracle, and for one question usually the fastest way. A graph's
candidates are always scored again exactly. Ties break by path, after the search.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.paths import processor_cores
from imgsearch.core.store.catalog import Place
from imgsearch.core.store.store import Store, View
from imgsearch.core.store.vectors import HNSW_EF, Graph, fault_in
from imgsearch.core.types import Embedder, Modality

from . import composition, relevance, scoring
from .composition import Spread
from .encoding import Asker, Options, unit
from .explain import Explanation, Timings
from .filters import Condition, condition
from .grammar import Query
from .grouping import Hit, arranged, depth
from .scoring import Background, Question

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.store.calibration import Calibration
    from imgsearch.core.types import Vectors

    Mask = NDArray[np.bool_]
    Slots = NDArray[np.int64]

__all__ = ["Hit", "Options", "Searcher"]

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
# A question's z and percentile are taken over so many of a modality, always the same: the error of a mean is then 1/64
# of a deviation.
BACKGROUND = 4_096
# How far a vector of the background may be from unit length.
UNIT_ERROR = 1e-2
# The greatest number that a score can be compared with: they are float32, and any number may be asked for.
MOST_SCORE = 3.4028234e38


class Searcher:
    """Answers queries from one index. Load it once and ask it many times.

    `embedder` gives the model that made the index's active space; it is called only when something has to be
    embedded, so a query by an indexed photo loads no model.
    """

    def __init__(self, store: Store, embedder: Callable[[], Embedder], view: View | None = None) -> None:
        self.store = store
        self.view: View = view or store.view()
        self._asker = Asker(store, embedder)
        self._graphs: dict[str, Graph | None] = {}
        """What was loaded, by path; None for what could not be."""
        self._faulted_in: View | None = None
        self._samples: tuple[View, dict[Modality, Vectors]] | None = None
        self._measured: tuple[View, Calibration | None] | None = None
        self._forgone = 0.0
        """Seconds that questions scanned for would have taken less, had the graphs been loaded."""

    def search(
        self,
        query: Query,
        options: Options | None = None,
        *,
        on_explained: Callable[[Explanation], None] | None = None,
    ) -> list[Hit]:
        """The hits of one query, best first. Raises QueryError, UsageError."""
        (hits,) = self.search_many([query], options, on_explained=on_explained)
        return hits

    def search_many(
        self,
        queries: Sequence[Query],
        options: Options | None = None,
        *,
        on_error: Callable[[Query, QueryError], None] | None = None,
        on_explained: Callable[[Explanation], None] | None = None,
    ) -> Iterator[list[Hit]]:
        """The hits of each query, in order; words are embedded together and vectors read once per block.

        With `on_error` a query whose picture cannot be used is handed to it, and has no hits; without, it raises.
        `on_explained` is told of each query how it was answered, before its hits come.
        """
        options = options or Options()
        _validate(options)
        timings = Timings()
        with timings.of("embed"):
            texts = self._asker.texts(queries, options, self.view.space.identity)
        with self._consistent():
            with timings.of("prepare"):
                questions = [self._question(query, options, texts, on_error) for query in queries]
                asked = [question for question in questions if question]
                chosen = condition(options.filters, self.store) if options.filters else None
                allowed = self._allowed(options, chosen)
                use_graph = self._plans_graph(options, asked)
            widest = max((len(question.directions) for question in asked), default=1)
            block = max(1, SCORES_AT_ONCE // max(1, self.view.space.slots * (widest + 1)))
            for start in range(0, len(questions), block):
                part = questions[start : start + block]
                run = _Run(options, chosen, allowed, use_graph, timings, on_explained)
                answers = self._answers([question for question in part if question], run)
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

    def _question(
        self,
        query: Query,
        options: Options,
        texts: dict[str, Vectors],
        on_error: Callable[[Query, QueryError], None] | None,
    ) -> Question | None:
        try:
            return self._asker.question(query, options, texts, self.view)
        except QueryError as error:
            if on_error is None:
                raise
            on_error(query, error)
            return None

    # which vectors

    def _allowed(self, options: Options, chosen: Condition | None) -> dict[Modality, Mask]:
        """Per modality, a boolean per slot: live, and picked by the filters."""
        modalities: tuple[Modality, ...] = ("image", "text") if options.modality == "any" else (options.modality,)
        masks = {
            modality: self.view.slots.mask(modality, include_offline=options.include_offline) for modality in modalities
        }
        if chosen is not None:
            found = self.store.catalog.slots_where(self.view.space.id, chosen.sql, **chosen.parameters)
            slots = np.asarray(found, np.int64)
            picked = np.zeros(self.view.space.slots, bool)
            picked[slots[slots < len(picked)]] = True
            masks = {modality: mask & picked for modality, mask in masks.items()}
        return masks

    def _plans_graph(self, options: Options, questions: Sequence[Question]) -> bool:
        """Whether shortlists from graphs are expected to cost less than scanning, or were asked for.

        Graphs pay for questions that come one by one: once those scanned for would have paid for the loading, they are
        loaded.
        """
        if options.strategy != "auto":
            return options.strategy == "ann" and Graph.available()
        if options.filters or options.modality == "any" or not questions:
            return False
        if any(question.needs_background for question in questions):
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
        scan = _scan_seconds(self.view.space.slots * dim, len(questions))
        ask = _scan_seconds((self.view.space.slots - covered) * dim, len(questions))
        effort = max(1.0, max(SHORTLIST, SHORTLIST_PER_HIT * depth(options)) / HNSW_EF)
        ask += len(graphs) * len(questions) * effort * GRAPH_SECONDS_PER_QUESTION
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

    def _answers(self, questions: Sequence[Question], run: _Run) -> Iterator[list[Hit]]:
        measured = {modality: self._backgrounds(questions, modality, run) for modality in run.allowed}
        found = [self._found(questions, modality, measured[modality], run) for modality in run.allowed]
        for at, question in enumerate(questions):
            with run.timings.of("search"):
                scored = dict(zip(run.allowed, [next(each) for each in found], strict=True))
            backgrounds = {modality: measured[modality][at] for modality in run.allowed}
            with run.timings.of("rank"):
                hits = self._hits(question, scored, backgrounds, run)
            if run.on_explained:
                run.on_explained(self._explanation(question, scored, backgrounds, run))
            yield hits

    # what a question gives over the collection as a whole

    def _backgrounds(self, questions: Sequence[Question], modality: Modality, run: _Run) -> list[Background | None]:
        options = run.options
        is_wanted = options.statistics or options.min_z is not None or options.auto_cut or options.modality == "any"
        needing = [question for question in questions if is_wanted or question.needs_background]
        if not needing:
            return [None] * len(questions)
        with run.timings.of("search"):
            rows = self._sample(modality)
            groups = iter(_split(needing, self._products(needing, rows)))
            biases = self._biases(rows) if any(question.corrects_hubness for question in needing) else None
            return [
                scoring.background(question, next(groups), biases if question.corrects_hubness else None)
                if is_wanted or question.needs_background
                else None
                for question in questions
            ]

    def _calibration(self) -> Calibration | None:
        """That of the view's space, read once."""
        if self._measured is None or self._measured[0] is not self.view:
            self._measured = self.view, self.store.calibration(self.view.space)
        return self._measured[1]

    def _biases(self, rows: Vectors) -> NDArray[np.float32]:
        calibration = self._calibration()
        return relevance.biases(rows, rows[:0] if calibration is None else calibration.phrases)

    def _sample(self, modality: Modality) -> Vectors:
        """Vectors of the modality, evenly spread over all there are, disks that are not here now included.

        A handful of captions is no background to stand out from, so to the texts the neutral phrases are added.
        """
        if self._samples is None or self._samples[0] is not self.view:
            self._samples = self.view, {}
        samples = self._samples[1]
        if modality not in samples:
            live = np.flatnonzero(self.view.slots.mask(modality, include_offline=True))
            rows = np.array(self.view.rows[live[:: max(1, -(-len(live) // BACKGROUND))]])
            with np.errstate(
                all="ignore"
            ):  # a damaged vector is no measure; what is shown is looked at by its checksum
                rows = rows[np.abs(np.linalg.norm(rows, axis=1) - 1) < UNIT_ERROR]
            calibration = self._calibration() if modality == "text" else None
            samples[modality] = rows if calibration is None else np.concatenate([rows, calibration.phrases])
        return samples[modality]

    # from vectors to scores

    def _found(
        self, questions: Sequence[Question], modality: Modality, measured: Sequence[Background | None], run: _Run
    ) -> Iterator[tuple[Slots, Any]]:
        """For each question the slots worth ranking, with their scores: every one that is allowed, or a shortlist."""
        mask = run.allowed[modality]
        graphs = self._loaded(modality) if run.use_graph else []
        lists = self._shortlists(questions, mask, run.options, graphs) if graphs else [None] * len(questions)
        both = list(zip(questions, measured, strict=True))
        whole = self._scan([b for b, near in zip(both, lists, strict=True) if near is None], mask)
        listed = [b for b, near in zip(both, lists, strict=True) if near is not None]
        rest = [self._scan(listed, mask, part) for part in _uncovered(graphs, len(mask))]
        for each, near in zip(both, lists, strict=True):
            if near is None:
                yield next(whole)
            else:
                run.shortlisted.add(id(each[0]))
                parts = [(near, self._sane(self._scores([each], near)[0])), *map(next, rest)]
                yield _joined(parts)

    def _scan(
        self, questions: Sequence[tuple[Question, Background | None]], mask: Mask, part: slice = slice(None)
    ) -> Iterator[tuple[Slots, Any]]:
        """For each question the allowed slots, of all or of a part of them, with their scores."""
        if questions:
            if self._faulted_in is not self.view:
                self._faulted_in = self.view
                fault_in(self.view.rows)
            live = np.flatnonzero(mask[part])
            slots = live + part.start if part.start else live
            for scores in self._scores(questions, part):
                yield slots, self._sane(scores if len(live) == len(scores) else scores[live])

    def _scores(self, questions: Sequence[tuple[Question, Background | None]], slots: Slots | slice) -> list[Any]:
        """Scores of each question over those slots, float32."""
        with np.errstate(all="ignore"):  # what a damaged vector gives is looked at by `_sane`
            products = self._products([question for question, _ in questions], self.view.rows[slots])
            groups = _split([question for question, _ in questions], products)
            return [scoring.scores(q, group, m) for (q, m), group in zip(questions, groups, strict=True)]

    def _sane(self, scores: Any) -> Any:
        """Scores that can be ranked. Raises IndexDamaged where a vector was none."""
        if not np.isfinite(scores).all():
            raise self.store.damaged_vector()
        return scores

    def _products(self, questions: Sequence[Question], rows: Vectors) -> NDArray[np.float32]:
        return _products([d for question in questions for d in question.directions], rows)

    def _shortlists(
        self, questions: Sequence[Question], mask: Mask, options: Options, graphs: Sequence[Graph]
    ) -> list[Slots | None]:
        """For each question the slots nearest to it in all graphs. None where a scan is better: a filter or a method
        leaves too few, or the graphs do not find as many as they should."""
        lists: list[Slots | None] = [None] * len(questions)
        from concurrent.futures import ThreadPoolExecutor

        asked: list[int] = []
        queries: list[Vectors] = []
        for i, question in enumerate(questions):
            if question.needs_background:
                continue
            directions = [unit(direction) for direction in question.directions]
            if len(directions) == 2:
                directions.append(directions[0] + directions[1])
            queries += directions
            asked += [i] * len(directions)
        per_graph = SHORTLIST_PER_HIT * depth(options)
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

    # from scores to hits

    def _hits(
        self,
        question: Question,
        scored: dict[Modality, tuple[Slots, Any]],
        measured: dict[Modality, Background | None],
        run: _Run,
    ) -> list[Hit]:
        options = run.options
        kept = []
        for modality, (slots, scores) in scored.items():
            background = measured[modality]
            if question.corrects_hubness:
                best = _top(scores, max(relevance.CANDIDATES, 2 * depth(options)))
                slots, scores = slots[best], scores[best] - self._biases(self.view.rows[slots[best]])
            if options.modality == "any":
                assert background is not None
                scores = background.z(scores)
            floor = _floor(background, options)
            run.floors[modality] = floor
            if floor > -math.inf:
                keep = scores >= min(max(floor, -MOST_SCORE), MOST_SCORE)
                slots, scores = slots[keep], scores[keep]
            if options.auto_cut:
                slots, scores = self._cut(question, modality, slots, scores, run)
            kept.append((slots, scores))
        slots, scores = _joined(kept)
        wanted = depth(options)
        while True:
            ranked = self._ranked(question, slots, scores, run, wanted)
            hits = arranged(self._described(question, ranked, measured, options), options, self.view.rows)
            if not options.group or len(hits) >= options.limit or len(ranked) < wanted:
                return hits
            wanted *= 4  # one group may have taken in all of them

    # where relevance stops

    def _cut(self, question: Question, modality: Modality, slots: Slots, scores: Any, run: _Run) -> tuple[Slots, Any]:
        """Only the slots that answer. How good an answer has to be is found without the filters: what they leave is
        not more relevant for being alone."""
        candidates = max(relevance.CANDIDATES, 2 * depth(run.options))
        best = _top(scores, candidates)
        judged = self._standing(question, modality, slots[best])
        run.cuts[modality] = None
        if judged is None:
            return slots, scores
        mask = self.view.slots.mask(modality, include_offline=run.options.include_offline)
        if run.chosen is None:
            of_all = judged
        else:
            unfiltered = replace(run, allowed={modality: mask}, chosen=None)
            background = self._backgrounds([question], modality, unfiltered)
            (found,) = self._found([question], modality, background, unfiltered)
            of_all = self._standing(question, modality, found[0][_top(found[1], candidates)]) or judged
        standing, is_itself = of_all
        first = float(standing[~is_itself].max(initial=-math.inf))
        least = relevance.least_standing(first, int(np.count_nonzero(mask)))
        run.cuts[modality] = first, least
        keep = best[judged[0] >= least]
        return slots[keep], scores[keep]

    def _standing(
        self, question: Question, modality: Modality, slots: Slots
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """How well the question describes each of these; and which of them it was asked with."""
        calibration = self._calibration()
        rows = self.view.rows[slots]
        phrases = rows[:0] if calibration is None else calibration.phrases
        parts = [
            relevance.standing(clause, rows, phrases, self._sample(modality))
            for clause in (question.main, *question.any_of, *question.all_of)
            if clause is not None
        ]
        judged = [part for part in parts if part is not None]
        if len(judged) < len(parts):
            return None
        standings = question.joined([standing for standing, _ in judged])
        return standings, np.logical_or.reduce([is_itself for _, is_itself in judged])

    def _described(
        self,
        question: Question,
        ranked: Sequence[tuple[float, Place]],
        measured: dict[Modality, Background | None],
        options: Options,
    ) -> list[Hit]:
        identity = self.view.space.identity
        rows = self.view.rows[[place.slot for _, place in ranked]] if ranked else np.zeros((0, identity.dim), "f4")
        cosines = question.cosines(rows)
        probabilities = relevance.probabilities(question, rows, identity)
        statistics = _statistics([(score, _modality(place)) for score, place in ranked], measured, options)
        return [
            Hit(
                query=question.query.typed,
                rank=at + 1,
                score=score,
                method=question.method,
                modality=_modality(place),
                place=place,
                model=identity.name,
                cosine=float(cosines[at]),
                z=statistics[at][0],
                percentile=statistics[at][1],
                # The scale is that of a picture and words, not of two texts.
                probability=None if probabilities is None or place.text is not None else float(probabilities[at]),
            )
            for at, (score, place) in enumerate(ranked)
        ]

    def _ranked(
        self, question: Question, slots: Slots, scores: Any, run: _Run, wanted: int
    ) -> list[tuple[float, Place]]:
        """The best photos, each once, ties by path. Slots are opened until there are enough photos."""
        take = wanted + len(question.hidden_paths) + len(question.hidden_contents) + 8
        where, parameters = (run.chosen.sql, run.chosen.parameters) if run.chosen else ("", {})
        while True:
            opened = _top(scores, take)
            score_of = {int(slots[i]): float(scores[i]) for i in opened}
            best: dict[int, tuple[float, Place]] = {}
            for place in self.store.catalog.places_of_slots(
                self.view.space.id,
                list(score_of),
                include_offline=run.options.include_offline,
                where=where,
                **parameters,
            ):
                score = score_of[place.slot]
                if self._is_shown(question, place) and (place.id not in best or score > best[place.id][0]):
                    best[place.id] = (score, place)
            if len(best) >= wanted or len(opened) == len(scores):
                ranked = sorted(best.values(), key=lambda item: (-item[0], os.fsencode(item[1].path)))[:wanted]
                self.store.verify_checksums(self.view, [place.slot for _, place in ranked])
                return ranked
            take *= 4

    def _is_shown(self, question: Question, place: Place) -> bool:
        if place.path in question.hidden_paths or place.content_hash in question.hidden_contents:
            return False
        row = self.view.rows[[place.slot]]
        return not any(relevance.near_copies(row, of)[0] for of in question.copies_of)

    def _explanation(
        self,
        question: Question,
        scored: dict[Modality, tuple[Slots, Any]],
        measured: dict[Modality, Background | None],
        run: _Run,
    ) -> Explanation:
        return Explanation.of(
            question,
            run.options,
            space=self.view.space,
            calibration=self._calibration(),
            plan="graph" if id(question) in run.shortlisted else "scan",
            scored={modality: len(slots) for modality, (slots, _) in scored.items()},
            allowed={modality: int(np.count_nonzero(mask)) for modality, mask in run.allowed.items()},
            measured=measured,
            floors=run.floors,
            cuts=run.cuts,
            timings=run.timings,
        )


@dataclass(slots=True)
class _Run:
    """What the questions of one call share."""

    options: Options
    chosen: Condition | None
    allowed: dict[Modality, Mask]
    use_graph: bool
    timings: Timings
    on_explained: Callable[[Explanation], None] | None
    shortlisted: set[int] = field(default_factory=set)
    floors: dict[Modality, float] = field(default_factory=dict)
    cuts: dict[Modality, tuple[float, float] | None] = field(default_factory=dict)
    """With --auto-cut: the best standing there is, and the least that is shown."""


def _modality(place: Place) -> Modality:
    return "image" if place.text is None else "text"


def _statistics(
    ranked: Sequence[tuple[float, Modality]], measured: dict[Modality, Background | None], options: Options
) -> list[tuple[float | None, float | None]]:
    """The z and the percentile of each score, by the background of its modality."""
    found: list[tuple[float | None, float | None]] = [(None, None)] * len(ranked)
    for modality, background in measured.items():
        at = [i for i, (_, each) in enumerate(ranked) if each == modality]
        if background is None or not options.statistics or not at:
            continue
        scores = np.asarray([ranked[i][0] for i in at], np.float32)
        z = scores if options.modality == "any" else background.z(scores)
        if options.modality == "any":  # they are on its scale already
            scores = scores * np.float32(background.spread.deviation) + np.float32(background.spread.mean)
        for i, each, percentile in zip(at, z, background.percentile(scores), strict=True):
            found[i] = float(each), float(percentile)
    return found


def _floor(measured: Background | None, options: Options) -> float:
    """The least score that is shown. It knows nothing of filters: they never bring up what is not relevant."""
    floors = [-math.inf if options.min_score is None else options.min_score]
    if options.min_z is not None and measured is not None:
        spread = Spread() if options.modality == "any" else measured.spread
        floors.append(spread.mean + options.min_z * spread.deviation)
    return max(floors)


def _split(questions: Sequence[Question], products: NDArray[np.float32]) -> Iterator[list[NDArray[np.float32]]]:
    """The products of each question."""
    at = 0
    for question in questions:
        count = len(question.directions)
        yield list(products[at : at + count])
        at += count


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


def _top(scores: Any, count: int) -> Any:
    """Indices of the `count` best scores and of all that tie with the last of them."""
    if len(scores) <= count:
        return np.arange(len(scores))
    cut = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.flatnonzero(scores >= cut)


def _validate(options: Options) -> None:
    if options.limit < 1:
        raise UsageError(f"--limit {options.limit}: at least 1", hint="for all there are, give a large number")
    for name, value in (("--min-score", options.min_score), ("--min-z", options.min_z)):
        if value is not None and math.isnan(value):
            raise UsageError(f"{name} nan: no number", hint="--explain and --json show what scores are like here")
    if options.weight is not None and not 0 <= options.weight <= 1:
        raise UsageError(f"--weight {options.weight:g}: no share", hint="0 is the picture alone, 1 the words alone")
    if not 0 <= options.diverse <= 1:
        raise UsageError(f"--diverse {options.diverse:g}: no share", hint="0 is relevance alone, 1 difference alone")
    if options.method is not None:
        composition.method_named(options.method)
