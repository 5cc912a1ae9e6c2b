"""How to search: the number of hits, thresholds, filters, composition, order and grouping."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Literal

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.light_dataclass import dataclass

from . import composition
from .choices import CHANGE_METHOD, DEFAULT_METHOD, GroupBy, SearchIn, SortBy
from .composition import Method
from .filters import Filters
from .grammar import Query

Strategy = Literal["auto", "scan", "exact", "ann"]
"""Whatever is fastest, without graphs, without bytes too, or with graphs."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search. The defaults are those of `imgsearch query`."""

    limit: int = 10
    min_score: float | None = None
    min_z: float | None = None
    auto_cut: bool = False
    filters: Filters = field(default_factory=Filters)
    modality: SearchIn = "image"
    method: str | None = None
    """How a picture and words are composed: NAME, or NAME:FILE with a file of weights; None is `pdv` with --from and
    --to, else the default of the index's model."""
    weight: float | None = None
    """Of the words, 0 to 1; None is the method's default."""
    sort: SortBy = "score"
    reverse: bool = False
    group: GroupBy | None = None
    diverse: float = 0.0
    """0 ranks by relevance only, 1 by difference only."""
    strategy: Strategy = "auto"
    include_reference: bool = False
    include_offline: bool = False
    statistics: bool = True
    """Whether hits have a z-score and a percentile."""

    def validate(self) -> None:
        """Raises UsageError for a value out of range."""
        if self.limit < 1:
            raise UsageError(f"--limit {self.limit}: must be at least 1", hint="for all photos, use a large number")
        for name, value in (("--min-score", self.min_score), ("--min-z", self.min_z)):
            if value is not None and math.isnan(value):
                raise UsageError(f"{name} nan: not a number", hint="--explain and --json show the scores of this index")
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise UsageError(
                f"--weight {self.weight:g}: must be from 0 to 1", hint="0 is only the picture, 1 only the words"
            )
        if not 0 <= self.diverse <= 1:
            raise UsageError(
                f"--diverse {self.diverse:g}: must be from 0 to 1", hint="0 is only relevance, 1 only difference"
            )
        if self.method is not None:
            composition.method_named(self.method)

    def method_for(self, query: Query) -> Method:
        """The method if no composer applies. Raises QueryError for one that does not fit the query, UsageError for an
        unknown one."""
        method = composition.method_named(self.method or (CHANGE_METHOD if query.change_from else DEFAULT_METHOD))
        if method.needs_origin and query.images and query.change_from is None:
            raise QueryError(f"--compose {method.name} needs --from and --to", hint='for example: --from "blue dress"')
        if query.change_from and not method.needs_origin:
            raise QueryError(
                f"--compose {method.name} does not support --from", hint="leave out --from, or use --compose pdv"
            )
        return method

    def weight_for(self, query: Query) -> float:
        """Of the words: 1 without pictures, 0 without words."""
        if not query.images:
            return 1.0
        if query.text is None and not query.terms:
            return 0.0
        return self.method_for(query).default_weight if self.weight is None else self.weight

    def rank_depth(self) -> int:
        """The number of best photos that grouping and --diverse choose from."""
        if self.group:
            return max(GROUP_DEPTH, GROUP_DEPTH_PER_HIT * self.limit)
        if self.diverse:
            return max(DIVERSE_DEPTH, DIVERSE_DEPTH_PER_HIT * self.limit)
        return self.limit


# Enough of the best photos to fill a page of groups or of different photos, few enough to be fast.
GROUP_DEPTH = 1_000
GROUP_DEPTH_PER_HIT = 20
DIVERSE_DEPTH = 200
DIVERSE_DEPTH_PER_HIT = 10
