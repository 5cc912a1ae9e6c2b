"""Keep an index and its model in memory, and answer queries from any thread.

It follows what other processes commit: new photos, a prune, another model, an index that is removed and made again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.compose.composers import composer_for
from imgsearch.core.models.towers import QueryEmbedder
from imgsearch.core.search.explain import Explanation
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.grouping import Hit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher, with_places
from imgsearch.core.store.records import Space
from imgsearch.core.store.store import Store
from imgsearch.core.store.vectors import fault_in

from .library import OpenIndex

if TYPE_CHECKING:
    from imgsearch.core.search.natural import Phrase
    from imgsearch.core.types import Recipe, SpaceIdentity, Squares, Vectors

# Texts whose vectors are kept: 8 MB at 512 dimensions. `basic` alone embeds several hundred.
MAX_TEXTS = 4_096


class Busy(Exception):
    """Another query is being answered."""


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """The answer to one query."""

    hits: list[Hit]
    explanation: Explanation | None
    offline: tuple[str, ...]
    """If there are no hits: the paths of offline roots, which were not searched."""
    progress: str | None
    """How far a run is that fills the index at this moment."""
    phrases: tuple[Phrase, ...]
    """Words of the query that were read as filters."""


class Engine:
    """Answers queries one at a time, never from a state of the index that is older than the query.

    `embedder_for` returns the embedder of a space, which is kept while that space is searched.
    """

    def __init__(self, folder: str, embedder_for: Callable[[Space], QueryEmbedder]) -> None:
        self.folder = folder
        self._embedder_for = embedder_for
        self._opened = OpenIndex(folder)
        self._searcher: Searcher | None = None
        self._embedder: _CachingEmbedder | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._opened.close()
            self._searcher = None

    def warm_up(self) -> QueryEmbedder:
        """Load what a query needs. Returns the embedder, which may have loaded the whole model.

        Raises ModelError, StoreError.
        """
        with self._lock:
            searcher = self._current()
            assert self._embedder is not None
            self._embedder.warm_up()
            fault_in(searcher.view.rows)
            return self._embedder.behind

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the space that is searched. Raises ModelError, StoreError."""
        with self._lock:
            self._current()
            assert self._embedder is not None
            return self._embedder.embed_texts(texts)

    def search(
        self,
        query: Query,
        options: SearchOptions,
        *,
        explain: bool = False,
        patience: float = -1,
        on_accept: Callable[[], None] = lambda: None,
    ) -> EngineAnswer:
        """The hits of one query. Raises QueryError, UsageError, ModelError, StoreError, OSError.

        With `patience`, waits that many seconds for other queries and then raises Busy. `on_accept` is called when the
        wait is over.
        """
        if not self._lock.acquire(timeout=patience):
            raise Busy
        try:
            on_accept()
            explanations: list[Explanation] = []
            searcher = self._current()
            query = with_places(query, searcher.store)
            hits = searcher.search(query, options, on_explained=explanations.append if explain else None)
            offline = () if hits or options.include_offline else _offline_roots(searcher.store)
            progress = searcher.store.progress()
            explanation = explanations[0] if explanations else None
            return EngineAnswer(hits, explanation, offline, str(progress) if progress else None, query.phrases)
        finally:
            self._lock.release()

    def _current(self) -> Searcher:
        store, is_new = self._opened.store()
        space = store.space_to_search()
        known = self._searcher
        if known is None or is_new or known.view.space.id != space.id:
            if self._embedder is None or self._embedder.identity != space.identity:
                self._embedder = _CachingEmbedder(self._embedder_for(space))
            embedder = self._embedder
            known = self._searcher = Searcher(store, lambda: embedder, store.view(space), composer_for)
        return known


def _offline_roots(store: Store) -> tuple[str, ...]:
    return tuple(root.path for root in store.catalog.roots.all() if root.state == "offline")


class _CachingEmbedder:
    """An embedder that keeps the vectors of the last texts in memory.

    The key is all texts of a call: the last bits of a vector depend on the batch, and the answer must be the same as
    without a server to the last digit.
    """

    def __init__(self, behind: QueryEmbedder) -> None:
        self.behind = behind
        self._vectors: OrderedDict[tuple[str, ...], Vectors] = OrderedDict()

    @property
    def identity(self) -> SpaceIdentity:
        return self.behind.identity

    @property
    def recipe(self) -> Recipe:
        return self.behind.recipe

    def warm_up(self) -> None:
        """Run both towers once."""
        self.behind.embed_texts(["a photo"])
        height, width = self.behind.recipe.size
        self.behind.embed_images(np.zeros((1, height, width, 3), np.uint8))

    def embed_images(self, squares: Squares) -> Vectors:
        return self.behind.embed_images(squares)

    def embed_with(self, text: str, vector: Vectors) -> Vectors:
        return self.behind.embed_with(text, vector)

    def raw_images(self, squares: Squares) -> Vectors:
        return self.behind.raw_images(squares)

    def raw_texts(self, texts: Sequence[str]) -> Vectors:
        return self.behind.raw_texts(texts)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        key = tuple(texts)
        if key not in self._vectors:
            self._vectors[key] = self.behind.embed_texts(key)
        self._vectors.move_to_end(key)
        while sum(map(len, self._vectors)) > MAX_TEXTS and len(self._vectors) > 1:
            self._vectors.popitem(last=False)
        return self._vectors[key]
