"""Scores of photos for a query: from dot products to one number per photo.

A query has one or more clauses. A clause is a vector, or the vectors of a picture and words with a composition method.
Scores of several clauses are normalised by a background sample of the collection. Negatives subtract a penalty on the
same scale, capped at a number of standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.light_dataclass import dataclass, replace
from imgsearch.core.store.calibration import low_end

from .composition import Context, Method, Spread
from .relevance import near_copies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

    from .grammar import Query

    Scores = NDArray[np.float32]

# Standard deviations of the score that a photo loses per standard deviation of its score for a negative, at most
# PENALTY_CAP of them (bench/relevance.py, docs/composition-figures.md).
PENALTY = 0.75
PENALTY_CAP = 3.0

_NO_CONTEXT = Context(cosine=0.0)


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a query: one vector, or two that a method combines; `offsets` are subtracted from products.

    `directions`: float32 (dim,) each. `heading`: the unit vector whose cosine is reported for the clause.
    """

    kind: str
    """`text`, `image`, `sum`, or the name of a composition method."""
    directions: tuple[Vectors, ...]
    heading: Vectors
    offsets: tuple[float, ...] = (0.0,)
    method: Method | None = None
    weight: float = 1.0
    context: Context = _NO_CONTEXT
    words: Vectors | None = None
    """The unit vector of the words, before composition."""
    picture: Vectors | None = None
    """The unit vector of the picture, before composition."""
    declined: str = ""
    """The learned method that was asked for, or is the default, and is not for these words."""

    def scores(self, products: Sequence[Scores], context: Context) -> Scores:
        sides = [p - np.float32(o) if o else p for p, o in zip(products, self.offsets, strict=True)]
        if self.method is None or len(sides) == 1:
            return sides[0]
        return self.method.combine(sides[0], sides[1], self.weight, context)

    def measured(self, products: Sequence[Scores], rows: Vectors) -> Context:
        """The context of the method, with the statistics of the products over a background sample: its rows."""
        if self.method is None or not self.method.needs_background:
            return self.context
        image, text = (p - np.float32(o) for p, o in zip(products, self.offsets, strict=True))
        if self.method.without_copies and self.picture is not None:
            others = ~near_copies(rows, self.picture)
            image, text = image[others], text[others]
        measured = replace(self.context, image=Spread.over(image), text=Spread.over(text))
        if self.method.is_centred:
            measured = replace(measured, low_image=low_end(image), low_text=low_end(text))
        return measured


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query with its vectors, and the photos that it excludes."""

    query: Query
    main: Clause | None
    any_of: tuple[Clause, ...] = ()
    all_of: tuple[Clause, ...] = ()
    negatives: tuple[Vectors, ...] = ()
    excluded_paths: frozenset[str] = frozenset()
    excluded_contents: frozenset[bytes] = frozenset()
    corrects_hubness: bool = False
    """Whether a hubness bias is subtracted."""
    excluded_copies: tuple[Vectors, ...] = ()
    """Vectors of pictures whose near copies are excluded."""

    @property
    def clauses(self) -> tuple[Clause, ...]:
        return (*([self.main] if self.main else []), *self.any_of, *self.all_of)

    @property
    def method(self) -> str:
        """The name of the score's scale."""
        if self.any_of or self.all_of:
            return "all" if self.all_of or self.main else "any"
        assert self.main is not None
        return self.main.kind

    @property
    def directions(self) -> list[Vectors]:
        """All vectors to multiply photos with, in the order in which `scores` takes the products."""
        return [d for clause in self.clauses for d in clause.directions] + list(self.negatives)

    @property
    def is_single(self) -> bool:
        """Whether photos are in the order of one dot product, and no number of them that is unknown is excluded."""
        return len(self.directions) == 1 and not (self._is_combined or self.excluded_copies)

    @property
    def needs_background(self) -> bool:
        """Whether scoring needs statistics over a sample of the collection."""
        return self._is_combined or any(method.needs_background for method in self._methods)

    @property
    def needs_scan(self) -> bool:
        """Whether its best photos may be far from all of its directions."""
        return self._is_combined or any(method.needs_scan for method in self._methods)

    @property
    def _is_combined(self) -> bool:
        """Whether the score is made from those of several clauses."""
        return bool(self.any_of or self.all_of or self.negatives)

    @property
    def _methods(self) -> list[Method]:
        return [clause.method for clause in self.clauses if clause.method is not None]

    def joined(self, parts: Sequence[Scores]) -> Scores:
        """One score from those of the clauses, in their order: the maximum of alternatives, then the minimum."""
        first = 1 if self.main else 0
        last = first + len(self.any_of)
        needed = [*parts[:first], *parts[last:]]
        if self.any_of:
            needed.append(np.maximum.reduce(parts[first:last]))
        return np.asarray(np.minimum.reduce(needed), np.float32)

    def cosines(self, rows: Vectors) -> Scores:
        """The cosine of each photo to the query, without penalties."""
        return np.asarray(self.joined([rows @ clause.heading for clause in self.clauses]), np.float32)


@dataclass(frozen=True, slots=True)
class Background:
    """Statistics of a query over a sample of the collection.

    `scores`: float32, ascending, penalties included: the reference for z-scores and percentiles.
    """

    contexts: tuple[Context, ...]
    clauses: tuple[Spread, ...]
    positive: Spread
    """Of the scores before penalties."""
    negatives: tuple[Spread, ...]
    """`mean` is the median here."""
    scores: Scores
    spread: Spread
    """Of `scores`."""

    def z(self, scores: Scores) -> Scores:
        return self.spread.z(scores)

    def percentile(self, scores: Scores) -> NDArray[np.float64]:
        """The share of the background below each score, in percent."""
        if not len(self.scores):
            return np.zeros(len(scores))
        return np.asarray(np.searchsorted(self.scores, scores, side="left") * (100 / len(self.scores)), np.float64)


def background(
    query: EncodedQuery, products: Sequence[Scores], rows: Vectors, biases: Scores | None = None
) -> Background:
    """The background of a query, from a sample: its rows, and their products with the query, (directions, sample).

    `biases`: the hubness bias of each photo in the sample, float32 (sample,).
    """
    groups = _by_clause(query, products)
    contexts = tuple(c.measured(p, rows) for c, p in zip(query.clauses, groups, strict=True))
    parts = [c.scores(p, x) for c, p, x in zip(query.clauses, groups, contexts, strict=True)]
    clauses = tuple(Spread.over(part) for part in parts)
    positive = _joined(query, parts, clauses)
    spread = clauses[0] if positive is parts[0] else Spread.over(positive)
    negatives = tuple(
        replace(Spread.over(p), mean=float(np.median(p)) if len(p) else 0.0)
        for p in _negative_products(query, products)
    )
    measured = Background(contexts, clauses, spread, negatives, positive, Spread())
    final = positive - _penalty(query, products, measured) if query.negatives else positive
    if biases is not None:
        final = final - biases
    return replace(measured, scores=np.sort(final), spread=spread if final is positive else Spread.over(final))


def scores(query: EncodedQuery, products: Sequence[Scores], measured: Background | None) -> Scores:
    """The score of each photo: float32, (photos,). `measured` may be None for a query that does not need it."""
    contexts = measured.contexts if measured else tuple(clause.context for clause in query.clauses)
    groups = _by_clause(query, products)
    parts = [c.scores(p, x) for c, p, x in zip(query.clauses, groups, contexts, strict=True)]
    if measured is None:
        return parts[0]
    positive = _joined(query, parts, measured.clauses)
    return positive - _penalty(query, products, measured) if query.negatives else positive


def _by_clause(query: EncodedQuery, products: Sequence[Scores]) -> list[Sequence[Scores]]:
    """The products of each clause."""
    groups, at = [], 0
    for clause in query.clauses:
        groups.append(products[at : at + len(clause.directions)])
        at += len(clause.directions)
    return groups


def _negative_products(query: EncodedQuery, products: Sequence[Scores]) -> Sequence[Scores]:
    return products[len(products) - len(query.negatives) :]


def _joined(query: EncodedQuery, parts: Sequence[Scores], spreads: Sequence[Spread]) -> Scores:
    """One score from those of the clauses; several are z-scores."""
    if not (query.any_of or query.all_of):
        return parts[0]
    return query.joined([spread.z(part) for part, spread in zip(parts, spreads, strict=True)])


def _penalty(query: EncodedQuery, products: Sequence[Scores], measured: Background) -> Scores:
    """The penalty of each photo: its highest z-score for a negative, on the scale of the score."""
    excess = [spread.z(p) for spread, p in zip(measured.negatives, _negative_products(query, products), strict=True)]
    worst = np.clip(np.maximum.reduce(excess), 0, PENALTY_CAP)
    return np.asarray(worst * np.float32(PENALTY * measured.positive.deviation), np.float32)
