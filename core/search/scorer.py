"""Scores of photos: an exact scan of the vectors, or a shortlist that is scored exactly.

The shortlist comes from a scan of the vectors' bytes, or from the HNSW graphs. Small collections, and many queries at
once, are scanned exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np  # noqa: TID253

from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import processor_cores
from imgsearch.core.photos.regions import MAX_PARTS
from imgsearch.core.store.graphs import HNSW_EF, Graph
from imgsearch.core.store.vectors import fault_in
from imgsearch.core.types import Modality

from . import best, relevance, scoring
from .encoding import unit
from .options import SearchOptions
from .scoring import Background, EncodedQuery

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.store.byte_vectors import ByteRows
    from imgsearch.core.store.calibration import Calibration
    from imgsearch.core.store.store import Store, View
    from imgsearch.core.types import Vectors

    from .filter_sql import Condition
    from .scoring import Scores

    Mask = NDArray[np.bool_]
    Slots = NDArray[np.int64]

# Costs in seconds, from bench/search.py on 2 cores: a scan reads every vector once for a block of queries; a graph is
# verified and read once, and then costs the same for each query (docs/benchmarks.md).
SCAN_SECONDS_PER_FLOAT = 1.5e-10
SCAN_SECONDS_PER_FLOAT_TOGETHER = 2e-11
BYTES_SECONDS_PER_FLOAT = 6e-11
GRAPH_LOAD_SECONDS_PER_FLOAT = 3.5e-9
GRAPH_SECONDS_PER_QUERY = 2e-3

# Up to this many products with one vector each are faster than one matrix product (bench/search.py).
ONE_BY_ONE = 3
# So few rows are multiplied by `best.products`, so that their scores do not depend on how they were found.
FEW_ROWS = 4_096
# Vectors are copied to be scored, instead of scored where they are, if the filters leave a smaller share of them.
SPARSE = 1 / 8
# The size of a graph's shortlist: exact scoring of it finds what an exact scan finds.
SHORTLIST = 200
SHORTLIST_PER_HIT = 10
# The size of the sample for z-scores and percentiles: the error of a mean is 1/64 of a deviation.
BACKGROUND = 4_096
# How far the length of a vector in the background sample may be from 1.
UNIT_ERROR = 1e-2


@dataclass(frozen=True, slots=True)
class Scored:
    """The candidates of one query: slots, int64 (n,), with their scores, float32 (n,)."""

    slots: Slots
    scores: Scores
    count: int
    """How many slots were scored: more than are here if only the best are kept."""
    strategy: Literal["scan", "bytes", "graph"] = "scan"
    """How they were found: by scanning all vectors, by scanning their bytes first, or by graphs."""


class Scorer:
    """Scores queries over one state of the index. `previous` passes on the graphs that are still current."""

    def __init__(self, store: Store, view: View, previous: Scorer | None = None) -> None:
        self.view = view
        self._store = store
        self._samples: dict[Modality, Vectors] = {}
        self._is_faulted_in = False
        self._graphs: dict[str, Graph | None] = {}
        """Loaded graphs by path; None for one that cannot be loaded."""
        self._unused_seconds = 0.0
        """Seconds that earlier scans would have saved if the graphs had been loaded."""
        if previous:
            self._graphs = {path: graph for path, graph in previous._graphs.items() if graph and graph.is_current()}
            self._unused_seconds = previous._unused_seconds

    @cached_property
    def calibration(self) -> Calibration | None:
        return self._store.calibration(self.view.space)

    def allowed(self, options: SearchOptions, condition: Condition | None) -> dict[Modality, Mask]:
        """Per modality, bool (slots,): live and matched by the filters."""
        modalities: tuple[Modality, ...] = ("image", "text") if options.modality == "any" else (options.modality,)
        masks = {modality: self.live(modality, include_offline=options.include_offline) for modality in modalities}
        if condition is not None:
            found = self._store.catalog.places.slots_where(self.view.space.id, condition.sql, **condition.parameters)
            slots = np.asarray(found, np.int64)
            matches = np.zeros(self.view.space.slots, bool)
            matches[slots[slots < len(matches)]] = True
            masks = {modality: mask & matches for modality, mask in masks.items()}
        return masks

    def live(self, modality: Modality, *, include_offline: bool) -> Mask:
        """Bool (slots,): live, regions of pictures included."""
        mask = self.view.slots.mask(modality, include_offline=include_offline)
        if modality == "image" and self._region_count:
            mask |= self.view.slots.mask("region", include_offline=include_offline)
        return mask

    @cached_property
    def _region_count(self) -> int:
        return int(np.count_nonzero(self.view.slots.mask("region", include_offline=True)))

    def slots_of(self, photos: int, modality: Modality) -> int:
        """How many of the best slots certainly belong to that number of photos, because a panorama has several."""
        return photos + (min(self._region_count, (MAX_PARTS - 1) * photos) if modality == "image" else 0)

    # ---- What a query scores over the whole collection

    def backgrounds(
        self, queries: Sequence[EncodedQuery], modality: Modality, *, is_wanted: bool
    ) -> list[Background | None]:
        """The background of each query; None for one that does not need it, unless `is_wanted`."""
        needing = [query for query in queries if is_wanted or query.needs_background]
        if not needing:
            return [None] * len(queries)
        rows = self.sample(modality)
        products = _by_query(needing, _products(needing, rows))
        biases = self.biases(rows) if any(query.corrects_hubness for query in needing) else None
        return [
            scoring.background(query, next(products), rows, biases if query.corrects_hubness else None)
            if is_wanted or query.needs_background
            else None
            for query in queries
        ]

    def biases(self, rows: Vectors) -> Scores:
        """The hubness bias of each row."""
        return relevance.biases(rows, rows[:0] if self.calibration is None else self.calibration.phrases)

    def sample(self, modality: Modality) -> Vectors:
        """Vectors of the modality, evenly spaced over the collection, offline roots included, without regions.

        The neutral phrases are added to the texts, because a few captions are too small a sample.
        """
        if modality not in self._samples:
            live = np.flatnonzero(self.view.slots.mask(modality, include_offline=True))
            rows = np.array(self.view.rows[live[:: max(1, -(-len(live) // BACKGROUND))]])
            with np.errstate(all="ignore"):  # damaged vectors are left out; those of hits are verified by checksum
                rows = rows[np.abs(np.linalg.norm(rows, axis=1) - 1) < UNIT_ERROR]
            calibration = self.calibration if modality == "text" else None
            self._samples[modality] = rows if calibration is None else np.concatenate([rows, calibration.phrases])
        return self._samples[modality]

    # ---- From vectors to scores

    def candidates(
        self,
        queries: Sequence[EncodedQuery],
        backgrounds: Sequence[Background | None],
        modality: Modality,
        mask: Mask,
        *,
        shortlist_for: int | None = None,
        photos: int | None = None,
        use_bytes: bool = False,
    ) -> Iterator[Scored]:
        """For each query its candidates: every allowed slot, or with `shortlist_for` (a number of hits) a shortlist.

        With `photos`, a scan may leave out slots that do not belong to that number of best photos; with
        `use_bytes` too, a scan of the bytes may find them.
        """
        graphs = self._loaded(modality) if shortlist_for is not None else []
        lists: list[Slots | None] = [None] * len(queries)
        if graphs and shortlist_for is not None:
            lists = self._shortlists(queries, mask, shortlist_for, graphs, self._shortlist(shortlist_for, modality))
        both = list(zip(queries, backgrounds, strict=True))
        unlisted = [at for at, near in enumerate(lists) if near is None]
        single = [at for at in unlisted if photos is not None and modality == "image" and queries[at].is_single]
        kept: dict[int, Scored] = {}
        if photos is not None and len(single) > ONE_BY_ONE:
            kept = dict(zip(single, self._best([both[at] for at in single], mask, photos), strict=True))
        elif photos is not None and use_bytes:
            found = {at: self._best_by_bytes(*both[at], mask, photos) for at in single}
            kept = {at: scored for at, scored in found.items() if scored is not None}
        scanned = self._scan([both[at] for at in unlisted if at not in kept], mask)
        listed = [pair for pair, near in zip(both, lists, strict=True) if near is not None]
        rest = [self._scan(listed, mask, part) for part in _uncovered(graphs, len(mask))]
        for at, (pair, near) in enumerate(zip(both, lists, strict=True)):
            if near is None:
                yield kept.pop(at) if at in kept else next(scanned)
            else:
                scores = self._check_finite(self._scores([pair], near)[0])
                shortlist = Scored(near, scores, len(near), "graph")
                yield concatenated([shortlist, *map(next, rest)])

    def _best(
        self, queries: Sequence[tuple[EncodedQuery, Background | None]], mask: Mask, photos: int
    ) -> Iterator[Scored]:
        """For each query the allowed slots that certainly belong to that number of best photos, with their scores."""
        slots = np.flatnonzero(mask)
        self._prepare_scan(slots)
        excluded = max(len(query.excluded_paths) for query, _ in queries)
        with np.errstate(all="ignore"):
            directions = [query.directions[0] for query, _ in queries]
            found = best.best_slots(directions, self.view.rows, slots, self.slots_of(photos + excluded, "image"))
            for (query, background), near in zip(queries, found, strict=True):
                products = best.products(query.directions[0], self.view.rows[near])
                scores = scoring.scores(query, [products], background)
                yield Scored(near, self._check_finite(scores), len(slots))

    def _best_by_bytes(
        self, query: EncodedQuery, background: Background | None, mask: Mask, photos: int
    ) -> Scored | None:
        """The same for one query, from the bytes; None if a scan is needed or faster."""
        slots = np.flatnonzero(mask)
        if self._byte_rows is None or len(slots) < SPARSE * self.view.space.slots:
            return None
        covered = int(np.searchsorted(slots, len(self._byte_rows.rows)))
        if (len(slots) - covered) * best.SCAN_SHARE > len(slots):
            return None
        (direction,) = query.directions
        with np.errstate(all="ignore"):
            about = self._byte_rows.products(direction)
            about = about if covered == len(about) else about[slots[:covered]]
            count = self.slots_of(photos + len(query.excluded_paths), "image")
            found = best.best_by_shortlist(direction, self.view.rows, slots, about, count)
            if found is None:
                return None
            scores = scoring.scores(query, [found[1]], background)
        return Scored(found[0], self._check_finite(scores), len(slots), "bytes")

    @cached_property
    def _byte_rows(self) -> ByteRows | None:
        return self._store.byte_rows(self.view)

    def _scan(
        self, queries: Sequence[tuple[EncodedQuery, Background | None]], mask: Mask, part: slice = slice(None)
    ) -> Iterator[Scored]:
        """For each query the allowed slots in a range, with their scores."""
        if queries:
            live = np.flatnonzero(mask[part])
            slots = live + part.start if part.start else live
            is_sparse = self._prepare_scan(slots)
            for scores in self._scores(queries, slots if is_sparse else part):
                allowed = scores if len(live) == len(scores) else scores[live]
                yield Scored(slots, self._check_finite(allowed), len(slots))

    def _prepare_scan(self, slots: Slots) -> bool:
        """Map the vectors, unless so few of them will be scored that it does not pay. Returns whether they are few."""
        is_sparse = len(slots) < SPARSE * self.view.space.slots
        if not (is_sparse or self._is_faulted_in):
            self._is_faulted_in = True
            fault_in(self.view.rows)
        return is_sparse

    def _scores(self, queries: Sequence[tuple[EncodedQuery, Background | None]], slots: Slots | slice) -> list[Scores]:
        with np.errstate(all="ignore"):  # `_check_finite` reports what a damaged vector gives
            products = _by_query(
                [query for query, _ in queries], _products([query for query, _ in queries], self.view.rows[slots])
            )
            return [scoring.scores(query, part, back) for (query, back), part in zip(queries, products, strict=True)]

    def _check_finite(self, scores: Scores) -> Scores:
        """Raises IndexDamaged for a score that is not a number."""
        if not np.isfinite(scores).all():
            raise self._store.damaged_vector()
        return scores

    # ---- Graphs

    def plans_graph(
        self, options: SearchOptions, queries: Sequence[EncodedQuery], count: int, *, has_filters: bool
    ) -> bool:
        """Whether graphs are requested, or expected to be faster than scanning for `count` queries like these.

        When the scans so far have cost more than loading the graphs would have, the graphs are loaded.
        """
        if options.strategy != "auto":
            return options.strategy == "ann" and Graph.available()
        if has_filters or options.modality == "any" or not queries:
            return False
        if any(query.needs_scan for query in queries):
            return False
        graphs = [
            graph
            for graph in self._store.graphs.of(self.view.space, options.modality)
            if self._graphs.get(graph.path, graph) is not None and graph.info()
        ]
        if not graphs:
            return False
        dim = self.view.space.identity.dim
        covered = sum(graph.upto - graph.first for graph in graphs)
        scan = _scan_seconds(self.view.space.slots * dim, count)
        if count <= ONE_BY_ONE and self._byte_rows is not None:
            scan = min(scan, count * self.view.space.slots * dim * BYTES_SECONDS_PER_FLOAT)
        ask = _scan_seconds((self.view.space.slots - covered) * dim, count)
        effort = max(1.0, self._shortlist(options.rank_depth(), options.modality) / HNSW_EF)
        ask += len(graphs) * count * effort * GRAPH_SECONDS_PER_QUERY
        unloaded = sum(graph.upto - graph.first for graph in graphs if graph.path not in self._graphs)
        load = unloaded * dim * GRAPH_LOAD_SECONDS_PER_FLOAT
        if ask + load - self._unused_seconds < scan:
            return Graph.available()
        self._unused_seconds += max(0.0, scan - ask)
        return False

    def _loaded(self, modality: Modality) -> list[Graph]:
        """The usable graphs of the view, loaded."""
        space = self.view.space
        graphs = self._store.graphs.of(space, modality)
        new = [graph for graph in graphs if graph.path not in self._graphs]
        if new:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(processor_cores()) as pool:  # checksums release the interpreter lock
                for graph, is_loaded in zip(new, pool.map(lambda g: g.load(space.generation), new), strict=True):
                    self._graphs[graph.path] = graph if is_loaded else None
        return [loaded for graph in graphs if (loaded := self._graphs[graph.path]) is not None]

    def graph_vectors(self, modality: Modality) -> int:
        """How many vectors the graphs used here cover. The others are scanned."""
        return sum(map(len, self._loaded(modality)))

    def _shortlist(self, hits: int, modality: Modality) -> int:
        """The size of a graph's shortlist."""
        return max(SHORTLIST, SHORTLIST_PER_HIT * hits, 2 * self.slots_of(hits, modality))

    def _shortlists(
        self, queries: Sequence[EncodedQuery], mask: Mask, hits: int, graphs: Sequence[Graph], size: int
    ) -> list[Slots | None]:
        """For each query the nearest allowed slots of all graphs. None if a scan is needed: the best photos may be
        elsewhere, or too few of the nearest are allowed."""
        lists: list[Slots | None] = [None] * len(queries)
        owners: list[int] = []
        directions: list[Vectors] = []
        for i, query in enumerate(queries):
            if query.needs_scan:
                continue
            own = [unit(direction) for direction in query.directions]
            if len(own) == 2:
                own.append(own[0] + own[1])
            directions += own
            owners += [i] * len(own)
        if not owners:
            return lists
        from concurrent.futures import ThreadPoolExecutor

        per_graph = SHORTLIST_PER_HIT * hits
        with ThreadPoolExecutor(processor_cores()) as pool:
            answers = list(pool.map(lambda graph: graph.nearest(np.stack(directions), size), graphs))
        if any(answer is None for answer in answers):
            return lists
        owner = np.asarray(owners)
        for i in dict.fromkeys(owners):
            parts = []
            for graph, answer in zip(graphs, answers, strict=True):
                assert answer is not None
                slots = np.unique(answer[owner == i].astype(np.int64))
                slots = slots[slots < len(mask)]
                slots = slots[mask[slots]]
                if len(slots) < min(per_graph, int(np.count_nonzero(mask[graph.first : graph.upto]))):
                    break  # the rest of this shortlist may not be the nearest allowed slots
                parts.append(slots)
            else:
                lists[i] = np.concatenate(parts)
        return lists


def top(scores: Scores, count: int) -> NDArray[np.int64]:
    """Indices of the `count` best scores, and of all that tie with the last of them."""
    if len(scores) <= count:
        return np.arange(len(scores))
    cut = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.flatnonzero(scores >= cut)


def _by_query(queries: Sequence[EncodedQuery], products: Scores) -> Iterator[list[Scores]]:
    """The rows of products that belong to each query."""
    at = 0
    for query in queries:
        count = len(query.directions)
        yield list(products[at : at + count])
        at += count


def _products(queries: Sequence[EncodedQuery], rows: Vectors) -> Scores:
    """The dot product of each direction of the queries with each row: float32, (directions, rows)."""
    directions = [direction for query in queries for direction in query.directions]
    products = np.empty((len(directions), len(rows)), np.float32)
    if len(directions) <= ONE_BY_ONE and len(rows) <= FEW_ROWS:
        for direction, row in zip(directions, products, strict=True):
            row[:] = best.products(direction, rows)
        return products

    def multiply(part: slice) -> None:
        if len(directions) <= ONE_BY_ONE:
            for direction, row in zip(directions, products, strict=True):
                np.dot(rows[part], np.asarray(direction, np.float32), out=row[part])
        else:
            np.matmul(np.stack(directions), rows[part].T, out=products[:, part])

    best.in_parts(multiply, len(rows))
    return products


def concatenated(parts: Sequence[Scored]) -> Scored:
    if len(parts) == 1:  # not copied: a million scores take milliseconds
        return parts[0]
    return Scored(
        np.concatenate([part.slots for part in parts]),
        np.concatenate([part.scores for part in parts]),
        sum(part.count for part in parts),
        parts[0].strategy,
    )


def _scan_seconds(floats: int, queries: int) -> float:
    return floats * (SCAN_SECONDS_PER_FLOAT + (queries - 1) * SCAN_SECONDS_PER_FLOAT_TOGETHER)


def _uncovered(graphs: Sequence[Graph], slots: int) -> Iterator[slice]:
    """The ranges of slots that none of these sorted graphs covers."""
    start = 0
    for graph in graphs:
        if start < graph.first:
            yield slice(start, graph.first)
        start = graph.upto
    if start < slots:
        yield slice(start, slots)
