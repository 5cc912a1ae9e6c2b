"""Runs the queries of a benchmark through `Searcher` and computes the metrics of each ranking.

Searches are deep enough and leave nothing out; what a protocol excludes is removed here. Only captions (image to text)
are ranked here, because they are not photos of an index.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np  # noqa: TID253

from imgsearch.core.compose.composers import composer_for
from imgsearch.core.search.grammar import Query, Term
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.scorer import top
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store, View
from imgsearch.core.types import Embedder

from .gallery import IMAGE_TO_TEXT, Task
from .loaders import BenchmarkQuery
from .metrics import SUBSET, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import Recipe, SpaceIdentity, Squares, Vectors

# Large enough to share one scan of the vectors, small enough for the progress bar to move.
QUERIES_PER_BATCH = 256
PICTURES_PER_BATCH = 256
# Extra hits per search, for what a protocol excludes; and the factor for the next search if there are too few.
SPARE = 8
DEEPER = 8

OnProgress = Callable[[int], object]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """What to measure, and how to search."""

    metrics: tuple[Metric, ...]
    keep: int
    """Number of names of each ranking to keep."""
    options: SearchOptions
    """For every search, except for `limit`, which the run chooses."""
    has_submission: bool = False
    """A submission needs the ranking of each query's subset too."""

    @property
    def needs_subsets(self) -> bool:
        return self.has_submission or any(metric.kind == SUBSET for metric in self.metrics)

    @property
    def depth(self) -> int:
        return max([self.keep, *(metric.k or 0 for metric in self.metrics)])


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The ranking of one query and its metrics."""

    id: str
    part: str
    group: str
    figures: dict[str, float]
    """By the name of the metric."""
    ranking: tuple[str, ...]
    subset: tuple[str, ...] = ()


class CachingEmbedder:
    """Embeds each text once: captions are queries first, and then the gallery."""

    def __init__(self, embedder: Callable[[], Embedder]) -> None:
        self._load = embedder
        self._vectors: dict[str, Vectors] = {}
        self.seconds = 0.0
        """Spent embedding."""

    @property
    def identity(self) -> SpaceIdentity:
        return self._load().identity

    @property
    def recipe(self) -> Recipe:
        return self._load().recipe

    def embed_images(self, squares: Squares) -> Vectors:
        with self._timed():
            return self._load().embed_images(squares)

    def embed_with(self, text: str, vector: Vectors) -> Vectors:
        with self._timed():
            return self._load().embed_with(text, vector)

    def raw_images(self, squares: Squares) -> Vectors:
        with self._timed():
            return self._load().raw_images(squares)

    def raw_texts(self, texts: Sequence[str]) -> Vectors:
        with self._timed():
            return self._load().raw_texts(texts)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            with self._timed():
                self._vectors.update(zip(new, self._load().embed_texts(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


def run_queries(
    store: Store,
    view: View,
    embedder: Callable[[], Embedder],
    task: Task,
    plan: EvalPlan,
    on_progress: OnProgress = lambda queries: None,
) -> Iterator[QueryResult]:
    """The results of all queries, part by part. `on_progress` is called with the number of queries just answered."""
    caching = CachingEmbedder(embedder)
    searcher = Searcher(store, lambda: caching, view, composer_for)
    for _, part in groupby(task.queries, lambda query: query.part):
        queries, results = list(part), {}
        for query, ranking in _rankings(searcher, queries, task, plan):
            results[query.id] = query_result(query, ranking, plan)
            on_progress(1)
        yield from (results[query.id] for query in queries)
    if task.pictures:
        yield from _image_to_text(caching, view, task, plan, on_progress)


def _rankings(
    searcher: Searcher, queries: list[BenchmarkQuery], task: Task, plan: EvalPlan
) -> Iterator[tuple[BenchmarkQuery, list[str]]]:
    """Each query with its ranking of the gallery, as deep as needed, in any order.

    Photos outside the gallery take up places, and a relevant one may be far down. A query whose ranking is too short
    is searched again, deeper.
    """
    total = max(1, task.total)
    names = task.names[queries[0].part]
    limit = SPARE + math.ceil(plan.depth * total / max(1, len(names)))
    while queries:
        is_last = limit >= total
        limit = min(limit, total)
        too_short = []
        for batch in _batched(queries, QUERIES_PER_BATCH):
            hits_of = searcher.search_many(
                [_search_query(query, task.references) for query in batch], replace(plan.options, limit=limit)
            )
            for query, hits in zip(batch, hits_of, strict=True):
                in_gallery = [names[hit.path] for hit in hits if hit.path in names]
                ranking = [name for name in in_gallery if name not in query.exclude]
                if is_last or _is_deep_enough(query, ranking, plan, len(names)):
                    yield query, ranking
                else:
                    too_short.append(query)
        queries, limit = too_short, limit * DEEPER


def _search_query(query: BenchmarkQuery, references: Mapping[str, str]) -> Query:
    images = () if query.image is None else (references[query.image],)
    if len(query.texts) > 1:
        return Query(query.id, images=images, terms=tuple(Term(text=text) for text in query.texts))
    return Query(query.id, text=query.texts[0] if query.texts else None, images=images)


def _is_deep_enough(query: BenchmarkQuery, ranking: Sequence[str], plan: EvalPlan, size: int) -> bool:
    if len(ranking) < min(plan.depth, size - len(query.exclude)):
        return False
    if plan.needs_subsets and not set(query.subset) <= set(ranking):
        return False
    if query.relevant and any(metric.needs_first for metric in plan.metrics):
        return not {name for name, grade in query.relevant.items() if grade > 0}.isdisjoint(ranking)
    return True


def query_result(query: BenchmarkQuery, ranking: list[str], plan: EvalPlan) -> QueryResult:
    """The metrics of a ranking that no longer contains what the protocol excludes."""
    subset_names = set(query.subset)
    subset = [name for name in ranking if name in subset_names]
    figures = {}
    for metric in plan.metrics if query.relevant else ():
        is_target_only = metric.kind == "recall" and query.target is not None
        grades = {str(query.target): 1.0} if is_target_only else query.relevant
        figures[metric.name] = metric.of(subset if metric.kind == SUBSET else ranking, grades)
    group = query.group or query.id
    return QueryResult(query.id, query.part, group, figures, tuple(ranking[: plan.keep]), tuple(subset))


def _image_to_text(
    embedder: CachingEmbedder, view: View, task: Task, plan: EvalPlan, on_progress: OnProgress
) -> Iterator[QueryResult]:
    """For each picture all captions by cosine; ties in the order of the file."""
    captions = [
        (f"{picture}#{number}", picture, text)
        for picture in task.pictures
        for number, text in enumerate(task.benchmark.captions[picture])
    ]
    names = [name for name, _, _ in captions]
    relevant: dict[str, dict[str, float]] = {picture: {} for _, picture, _ in captions}
    for name, picture, _ in captions:
        relevant[picture][name] = 1.0
    vectors = np.concatenate(
        [embedder.embed_texts([text for _, _, text in batch]) for batch in _batched(captions, QUERIES_PER_BATCH)]
    )
    depth = len(names) if any(metric.needs_first for metric in plan.metrics) else plan.depth
    for batch in _batched(task.pictures.items(), PICTURES_PER_BATCH):
        rows = view.rows[[place.slot for _, place in batch]]
        for (picture, _), scores in zip(batch, rows @ vectors.T, strict=True):
            ranking = [names[i] for i in _best(scores, depth)]
            query = BenchmarkQuery(
                f"{IMAGE_TO_TEXT}/{picture}", relevant=relevant[picture], group=picture, part=IMAGE_TO_TEXT
            )
            yield query_result(query, ranking, plan)
            on_progress(1)


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the `count` best scores, ties in order."""
    near = top(scores, count)
    return near[np.argsort(-scores[near], kind="stable")][:count]


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch
