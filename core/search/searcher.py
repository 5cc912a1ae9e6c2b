"""Search: encode the queries, score the photos of one state of the index, rank them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import QueryError
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.store.reading_table import OCR
from imgsearch.core.store.store import Store, View
from imgsearch.core.types import Embedder

from . import relevance
from .best import ROWS_AT_ONCE
from .composition import Composers, no_composers
from .encoding import QueryEncoder
from .explain import Explanation, Timings
from .filters import Filters
from .grammar import Query
from .grouping import Hit
from .options import SearchOptions
from .ranking import Batch, Ranker
from .scorer import BACKGROUND, Scorer
from .scoring import EncodedQuery

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

    from .filter_sql import Condition
    from .natural import Phrase

# Scores of a block of queries that are held in memory: the more queries share a block, the less each costs.
MAX_SCORES = 32_000_000
# Hits of a block of queries that are held in memory.
MAX_HITS = 200_000

OnError = Callable[[Query, QueryError], None]
OnExplained = Callable[[Explanation], None]


@dataclass(frozen=True, slots=True)
class _Answer:
    """The hits of one query, or why it has none."""

    hits: list[Hit]
    explanation: Explanation | None = None
    error: tuple[Query, QueryError] | None = None


class Searcher:
    """Answers queries from one index.

    `embedder` returns the model of the index's active space. It is called only to embed words or a picture outside the
    index: a query by an indexed photo loads no model. `composers` finds the weights of learned composition methods.
    """

    def __init__(
        self,
        store: Store,
        embedder: Callable[[], Embedder],
        view: View | None = None,
        composers: Composers = no_composers,
    ) -> None:
        self.store = store
        self._encoder = QueryEncoder(store, embedder, composers)
        self._scorer = Scorer(store, view or store.view())

    @property
    def view(self) -> View:
        """The state of the index that the last queries were answered from."""
        return self._scorer.view

    def search(
        self, query: Query, options: SearchOptions | None = None, *, on_explained: OnExplained | None = None
    ) -> list[Hit]:
        """The hits of one query, best first. Raises QueryError, UsageError."""
        (hits,) = self.search_many([query], options, on_explained=on_explained)
        return hits

    def search_many(
        self,
        queries: Sequence[Query],
        options: SearchOptions | None = None,
        *,
        on_error: OnError | None = None,
        on_explained: OnExplained | None = None,
    ) -> Iterator[list[Hit]]:
        """The hits of each query, in order. Words are embedded together, and vectors are read once per block.

        With `on_error`, a query with an unusable picture is passed to it and has no hits; without, it raises.
        `on_explained` gets the explanation of each query before its hits are yielded. No read transaction is open
        while this waits for its caller.
        """
        options = options or SearchOptions()
        options.validate()
        queries = [with_places(query, self.store) for query in queries]
        timings = Timings()
        with timings.of("embed"):
            texts = self._encoder.embed_texts(queries, options, self.view.space.identity)
        search = _Search(self.store, self._encoder, options, texts, len(queries), timings)
        start = 0
        while start < len(queries):
            with self._snapshot():
                answers = search.block(
                    self._scorer, queries[start:], explain=on_explained is not None, keep_errors=on_error is not None
                )
            start += len(answers)
            for answer in answers:
                if answer.error and on_error:
                    on_error(*answer.error)
                if answer.explanation and on_explained:
                    on_explained(answer.explanation)
                yield answer.hits

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """A read transaction in which catalogue and view are the same state of the index.

        Another process may commit between two calls, and a prune renumbers slots.
        """
        catalog = self.store.catalog
        while True:
            if self.view.edition != catalog.edition():
                self._scorer = Scorer(self.store, self.store.view(self.view.space), self._scorer)
            with catalog.reading():
                if self.view.edition == catalog.edition():
                    yield
                    return


def with_places(query: Query, store: Store) -> Query:
    """The query with the places in its words as filters, if it was read with `natural`."""
    if not query.reads_places:
        return query
    from . import place_words

    return place_words.with_places(query, store)


class _Search:
    """One call of `search_many`, block by block."""

    def __init__(
        self,
        store: Store,
        encoder: QueryEncoder,
        options: SearchOptions,
        texts: dict[str, Vectors],
        count: int,
        timings: Timings,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._options = options
        self._texts = texts
        self._count = count
        self._timings = timings
        self._prepared: tuple[Scorer, tuple[Phrase, ...], Batch] | None = None

    def block(self, scorer: Scorer, queries: Sequence[Query], *, explain: bool, keep_errors: bool) -> list[_Answer]:
        """The answers of the first queries, as many as fit in memory and have the same filters."""
        phrases = queries[0].phrases
        if not queries[0].has_positive_part:
            return [self._listed(scorer, queries[0], explain=explain)]
        with self._timings.of("prepare"):
            encoded: list[EncodedQuery | tuple[Query, QueryError]] = []
            widest = 0
            for query in queries:
                if encoded and len(encoded) >= self._size(scorer.view, widest):
                    break
                if query.phrases != phrases or not query.has_positive_part:
                    break
                one = self._encode(query, scorer.view, keep_errors=keep_errors)
                if isinstance(one, EncodedQuery) and not (one.is_single and not self._options.group):
                    widest = max(widest, len(one.directions))
                encoded.append(one)
            usable = [one for one in encoded if isinstance(one, EncodedQuery)]
            batch = self._batch(scorer, usable, phrases)
        answers = self._answers(scorer, batch, usable, explain=explain)
        return [next(answers) if isinstance(one, EncodedQuery) else _Answer([], error=one) for one in encoded]

    def _size(self, view: View, widest: int) -> int:
        """The number of queries in a block, whose widest query that needs all scores has that number of directions."""
        at_once = min(view.space.slots, BACKGROUND + ROWS_AT_ONCE)
        by_scores = MAX_SCORES // max(1, view.space.slots * (widest + 1) if widest else at_once)
        by_hits = MAX_HITS // max(1, min(self._options.rank_depth(), view.space.slots))
        return max(1, min(by_scores, by_hits))

    def _encode(self, query: Query, view: View, *, keep_errors: bool) -> EncodedQuery | tuple[Query, QueryError]:
        try:
            return self._encoder.encode(query, self._options, self._texts, view)
        except QueryError as error:
            if not keep_errors:
                raise
            return query, error

    def _batch(self, scorer: Scorer, queries: Sequence[EncodedQuery], phrases: tuple[Phrase, ...]) -> Batch:
        """What the queries of a block share; the same for the next block while the index does not change."""
        if self._prepared is None or self._prepared[:2] != (scorer, phrases):
            options = self._options
            chosen = self._condition(phrases)
            batch = Batch(
                options=options,
                condition=chosen,
                allowed=scorer.allowed(options, chosen),
                use_graph=scorer.plans_graph(options, queries, self._count, has_filters=chosen is not None),
                timings=self._timings,
            )
            self._prepared = scorer, phrases, batch
        return self._prepared[2]

    def _condition(self, phrases: tuple[Phrase, ...]) -> Condition | None:
        """The filters that were given, and those of the words; None without any."""
        filters = self._options.filters, _filters_of(phrases)
        if not any(filters):
            return None
        from .filter_conditions import condition

        return condition(*filters, store=self._store)

    def _listed(self, scorer: Scorer, query: Query, *, explain: bool) -> _Answer:
        """The answer to a query of filters alone."""
        from .listing import listed

        with self._timings.of("search"):
            chosen = self._condition(query.phrases)
            hits = self._with_lines(listed(query, self._options, chosen, self._store, scorer.view))
        explanation = Explanation.of_listing(query, scorer.view, self._options, self._timings) if explain else None
        return _Answer(hits, explanation)

    def _answers(
        self, scorer: Scorer, batch: Batch, queries: Sequence[EncodedQuery], *, explain: bool
    ) -> Iterator[_Answer]:
        options, timings = self._options, self._timings
        needs_all = options.statistics or options.min_z is not None or options.auto_cut or options.modality == "any"
        with timings.of("search"):
            measured = {
                modality: scorer.backgrounds(queries, modality, is_wanted=needs_all) for modality in batch.allowed
            }
        shortlist_for = options.rank_depth() if batch.use_graph else None
        # How many of the best photos the hits are chosen from. A group may be of any size.
        photos = None if options.group else options.rank_depth()
        if photos is not None and (options.auto_cut or any(query.corrects_hubness for query in queries)):
            photos = max(relevance.CANDIDATES, 2 * photos)
        found = {
            modality: scorer.candidates(
                queries,
                measured[modality],
                modality,
                mask,
                shortlist_for=shortlist_for,
                photos=photos,
                use_bytes=options.strategy in ("auto", "scan"),
            )
            for modality, mask in batch.allowed.items()
        }
        ranker = Ranker(self._store, scorer, batch)
        for at, query in enumerate(queries):
            with timings.of("search"):
                scored = {modality: next(each) for modality, each in found.items()}
            backgrounds = {modality: measured[modality][at] for modality in batch.allowed}
            with timings.of("rank"):
                ranking = ranker.rank(query, scored, backgrounds)
            explanation = Explanation.of(query, scorer, batch, scored, backgrounds, ranking) if explain else None
            yield _Answer(self._with_lines(ranking.hits), explanation)

    def _with_lines(self, hits: list[Hit]) -> list[Hit]:
        typed = self._options.filters.text_contains
        if not typed and all(hit.place.text_source != OCR for hit in hits):
            return hits
        from .matched_lines import patterns_of, with_lines

        return with_lines(hits, self._store, patterns_of(typed))


def _filters_of(phrases: Sequence[Phrase]) -> Filters:
    values: dict[str, Any] = {}
    for name, value in (each for phrase in phrases for each in phrase.filters):
        values[name] = value if isinstance(value, str) else (*values.get(name, ()), *value)
    return Filters(**values)
