"""What a question scores a photo by: dot products in, one number a photo out.

A question is one clause or several. A clause is a vector, or a picture's and the words' put together by a composition
method. Several clauses are brought to one scale by what they give over a background sample of the collection. What is
not wanted is a penalty on the same scale, and never more than a set number of deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.store.calibration import low_end

from .composition import Context, Method, Spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors

    from .grammar import Query

    Scores = NDArray[np.float32]

# A photo that shows what is not wanted loses so many deviations of the score for each by which it stands out, at
# most PENALTY_CAP times: bench/relevance.py, docs/composition.md.
PENALTY = 0.75
PENALTY_CAP = 3.0


NO_CONTEXT = Context(cosine=0.0)


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing asked for: one vector, or a picture's and the words', with what to subtract from each product.

    `directions`: float32 (dim,) each. `heading`: the unit vector whose cosine stands for the whole clause.
    """

    kind: str
    """`text`, `image`, `sum`, or the name of a composition method."""
    directions: tuple[Vectors, ...]
    heading: Vectors
    offsets: tuple[float, ...] = (0.0,)
    method: Method | None = None
    weight: float = 1.0
    context: Context = NO_CONTEXT
    words: Vectors | None = None
    """The unit vector of the words, as asked ..."""
    picture: Vectors | None = None
    """... and of the picture: what a photo is judged by, whatever the method makes of the two."""

    def scores(self, products: Sequence[Scores], context: Context) -> Scores:
        sides = [p - np.float32(o) if o else p for p, o in zip(products, self.offsets, strict=True)]
        return sides[0] if self.method is None else self.method.combine(sides[0], sides[1], self.weight, context)

    def measured(self, products: Sequence[Scores]) -> Context:
        """The context that the method needs, with what the sides give over the background."""
        if self.method is None or not self.method.needs_background:
            return self.context
        image, text = (p - np.float32(o) for p, o in zip(products, self.offsets, strict=True))
        measured = replace(self.context, image=Spread.over(image), text=Spread.over(text))
        if self.method.is_centred:
            measured = replace(measured, low_image=low_end(image), low_text=low_end(text))
        return measured


@dataclass(frozen=True, slots=True)
class Question:
    """A query with its vectors: what each photo is scored by, and which are left out."""

    query: Query
    main: Clause | None
    any_of: tuple[Clause, ...] = ()
    all_of: tuple[Clause, ...] = ()
    negatives: tuple[Vectors, ...] = ()
    hidden_paths: frozenset[str] = frozenset()
    hidden_contents: frozenset[bytes] = frozenset()
    corrects_hubness: bool = False
    """Whether photos that are near to everything lose a bias."""
    copies_of: tuple[Vectors, ...] = ()
    """Pictures whose near-copies are left out."""

    @property
    def clauses(self) -> tuple[Clause, ...]:
        return (*([self.main] if self.main else []), *self.any_of, *self.all_of)

    @property
    def method(self) -> str:
        """Names the scale of the score."""
        if self.any_of or self.all_of:
            return "all" if self.all_of or self.main else "any"
        assert self.main is not None
        return self.main.kind

    @property
    def directions(self) -> list[Vectors]:
        """All vectors that a photo's is multiplied with, in the order in which `scores` takes the products."""
        return [d for clause in self.clauses for d in clause.directions] + list(self.negatives)

    @property
    def needs_background(self) -> bool:
        """Whether it cannot be scored without knowing what it gives over a sample of the collection."""
        return bool(
            self.any_of
            or self.all_of
            or self.negatives
            or any(clause.method is not None and clause.method.needs_background for clause in self.clauses)
        )

    def joined(self, parts: Sequence[Scores]) -> Scores:
        """One figure from those of the clauses, in their order: the least of what all must hold, of alternatives the
        best."""
        first = 1 if self.main else 0
        last = first + len(self.any_of)
        needed = [*parts[:first], *parts[last:]]
        if self.any_of:
            needed.append(np.maximum.reduce(parts[first:last]))
        return np.asarray(np.minimum.reduce(needed), np.float32)

    def cosines(self, rows: Vectors) -> Scores:
        """The cosine of each photo to what is asked for."""
        return np.asarray(self.joined([rows @ clause.heading for clause in self.clauses]), np.float32)


@dataclass(frozen=True, slots=True)
class Background:
    """What a question gives over a sample of the collection.

    `scores`: float32, ascending, with every penalty: what z and percentile are taken against.
    """

    contexts: tuple[Context, ...]
    clauses: tuple[Spread, ...]
    wanted: Spread
    """Of the score before penalties."""
    negatives: tuple[Spread, ...]
    """Around the median, not the mean."""
    scores: Scores
    spread: Spread
    """Of those scores."""

    def z(self, scores: Scores) -> Scores:
        return self.spread.z(scores)

    def percentile(self, scores: Scores) -> NDArray[np.float64]:
        """The share of the background below each score, in percent."""
        if not len(self.scores):
            return np.zeros(len(scores))
        return np.asarray(np.searchsorted(self.scores, scores, side="left") * (100 / len(self.scores)), np.float64)


def background(question: Question, products: Sequence[Scores], biases: Scores | None = None) -> Background:
    """Measure a question by its products with a background sample, (directions, sample).

    `biases`: what each photo of the sample loses, float32 (sample,).
    """
    groups = _grouped(question, products)
    contexts = tuple(c.measured(p) for c, p in zip(question.clauses, groups, strict=True))
    parts = [c.scores(p, x) for c, p, x in zip(question.clauses, groups, contexts, strict=True)]
    clauses = tuple(Spread.over(part) for part in parts)
    wanted = _joined(question, parts, clauses)
    negatives = tuple(
        replace(Spread.over(p), mean=float(np.median(p)) if len(p) else 0.0) for p in _unwanted(question, products)
    )
    measured = Background(contexts, clauses, Spread.over(wanted), negatives, wanted, Spread())
    final = wanted - _penalty(question, products, measured)
    if biases is not None:
        final = final - biases
    return replace(measured, scores=np.sort(final), spread=Spread.over(final))


def scores(question: Question, products: Sequence[Scores], measured: Background | None) -> Scores:
    """The score of each photo: float32, as many as each of the products holds.

    `measured` may be None for a question that does not need it.
    """
    contexts = measured.contexts if measured else tuple(clause.context for clause in question.clauses)
    groups = _grouped(question, products)
    parts = [c.scores(p, x) for c, p, x in zip(question.clauses, groups, contexts, strict=True)]
    if measured is None:
        return parts[0]
    wanted = _joined(question, parts, measured.clauses)
    return wanted - _penalty(question, products, measured) if question.negatives else wanted


def _grouped(question: Question, products: Sequence[Scores]) -> list[Sequence[Scores]]:
    """The products of each clause."""
    groups, at = [], 0
    for clause in question.clauses:
        groups.append(products[at : at + len(clause.directions)])
        at += len(clause.directions)
    return groups


def _unwanted(question: Question, products: Sequence[Scores]) -> Sequence[Scores]:
    return products[len(products) - len(question.negatives) :]


def _joined(question: Question, parts: Sequence[Scores], spreads: Sequence[Spread]) -> Scores:
    """One score from those of the clauses; of several, on the scale of their deviations."""
    if not (question.any_of or question.all_of):
        return parts[0]
    return question.joined([spread.z(part) for part, spread in zip(parts, spreads, strict=True)])


def _penalty(question: Question, products: Sequence[Scores], measured: Background) -> Scores | np.float32:
    """How far each photo stands out by what is not wanted, in deviations of the score; the worst counts."""
    if not question.negatives:
        return np.float32(0)
    excess = [spread.z(p) for spread, p in zip(measured.negatives, _unwanted(question, products), strict=True)]
    worst = np.clip(np.maximum.reduce(excess), 0, PENALTY_CAP)
    return np.asarray(worst * np.float32(PENALTY * measured.wanted.deviation), np.float32)
