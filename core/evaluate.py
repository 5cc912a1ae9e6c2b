"""Benchmark figures from rankings.

A ranking is a list of names, best first, none twice; what is relevant to a query is a set of such names, never
empty. Recalls, precisions and gains are fractions of 1, ranks count from 1.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np  # noqa: TID253

if TYPE_CHECKING:
    from numpy.typing import NDArray

Name = TypeVar("Name", bound=Hashable)

# Resampled queries held at once: 32 MB of indices.
DRAWS_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """A mean with the ends of its 95 % interval, in the unit of what was averaged."""

    mean: float
    low: float
    high: float


def recall_at_k(rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]], k: int) -> float:
    """The share of queries with at least one relevant name among their first `k`.

    This is what retrieval papers print as R@k, with one relevant picture (text -> image) or any of several
    captions (image -> text); for several relevant pictures see `share_found_at_k`.
    """
    hits = [not set(right).isdisjoint(ranking[:k]) for ranking, right in _pairs(rankings, relevant)]
    return float(np.mean(hits))


def share_found_at_k(rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]], k: int) -> float:
    """The share of all that is relevant to a query found among its first `k`, averaged over queries.

    Recall as textbooks define it. With an exact ranking's first k as `relevant` it is the recall of an
    approximate index.
    """
    shares = [len(set(right) & set(ranking[:k])) / len(set(right)) for ranking, right in _pairs(rankings, relevant)]
    return float(np.mean(shares))


def average_precision(ranking: Sequence[Name], relevant: Collection[Name], k: int | None = None) -> float:
    """The mean of the precisions at each relevant name, over the whole ranking or its first `k`.

    Divided by min(number relevant, k), as CIRCO's AP@K (Baldrati et al. 2023): by the number found, a ranking that
    finds little would look good, by the number relevant no short ranking could reach 1.
    """
    _check(ranking, relevant)
    right = set(relevant)
    is_right = np.fromiter((name in right for name in ranking[:k]), bool)
    at = np.flatnonzero(is_right)
    precisions = np.arange(1, len(at) + 1) / (at + 1)
    return float(precisions.sum()) / min(len(right), len(right) if k is None else k)


def mean_average_precision(
    rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]], k: int | None = None
) -> float:
    """`average_precision`, averaged over queries: mAP, or mAP@k."""
    return float(np.mean([average_precision(ranking, right, k) for ranking, right in _pairs(rankings, relevant)]))


def median_rank(rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]]) -> float:
    """The median over queries of the rank of the first relevant name; a query that finds none counts as infinite."""
    ranks = []
    for ranking, right in _pairs(rankings, relevant):
        wanted = set(right)
        ranks.append(next((rank for rank, name in enumerate(ranking, start=1) if name in wanted), math.inf))
    return float(np.median(ranks))


def ndcg_at_k(ranking: Sequence[Name], grades: Mapping[Name, float], k: int) -> float:
    """Normalised discounted cumulative gain of the first `k` (Burges et al. 2005).

    Gain 2^grade - 1, discount log2(1 + rank), divided by that of the best `k` names there are. `grades` holds 0 for
    the irrelevant or leaves them out; at least one is above 0.
    """
    _check(ranking, [name for name, grade in grades.items() if grade > 0])
    best = sorted(grades.values(), reverse=True)[:k]
    return _discounted([grades.get(name, 0.0) for name in ranking[:k]]) / _discounted(best)


def _discounted(grades: Sequence[float]) -> float:
    gains = np.exp2(np.asarray(grades, np.float64)) - 1
    return float(np.sum(gains / np.log2(np.arange(2, len(gains) + 2))))


def paired_bootstrap(
    differences: Sequence[float] | NDArray[np.float64],
    seed: int,
    rounds: int = 10_000,
    groups: Sequence[Hashable] | None = None,
) -> Interval:
    """The mean difference between two systems over the same queries, with its 95 % percentile interval.

    `differences`: one number a query, the one system's figure minus the other's. Queries are drawn with replacement
    `rounds` times (Efron & Tibshirani 1993, ch. 13); with `groups`, one label a query, whole groups are drawn, which
    is the honest width where queries share a reference or a set of right answers.
    """
    values = np.asarray(differences, np.float64)
    labels = range(len(values)) if groups is None else groups
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    member = np.array([numbers[label] for label in labels])
    sums, counts = np.bincount(member, values), np.bincount(member)
    generator = np.random.default_rng(seed)
    means = np.empty(rounds)
    block = max(1, DRAWS_AT_ONCE // len(counts))
    for start in range(0, rounds, block):
        drawn = generator.integers(0, len(counts), (min(block, rounds - start), len(counts)))
        means[start : start + block] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def _pairs(
    rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]]
) -> list[tuple[Sequence[Name], Collection[Name]]]:
    pairs = list(zip(rankings, relevant, strict=True))
    if not pairs:
        raise ValueError("no queries to average over")
    for ranking, right in pairs:
        _check(ranking, right)
    return pairs


def _check(ranking: Sequence[Hashable], relevant: Collection[Hashable]) -> None:
    """A name ranked twice would count twice; a query without an answer has no figure."""
    if not relevant:
        raise ValueError("a query to which nothing is relevant")
    if len(set(ranking)) != len(ranking):
        raise ValueError("a name stands twice in one ranking")
