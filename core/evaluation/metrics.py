"""Metrics of rankings, and their bootstrap intervals.

A ranking is a list of names, best first, without repeats. The relevant names of a query are a set that is never empty.
Recall, precision and gain are fractions of 1; ranks count from 1. A ranking has no ties.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np  # noqa: TID253

from imgsearch.core.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Name = TypeVar("Name", bound=Hashable)
Floats = TypeVar("Floats", float, "NDArray[np.float64]")

# Resampled queries held at once: 32 MB of indices.
DRAWS_AT_ONCE = 4_000_000
# Enough for the ends of an interval to be stable in the printed digits.
ROUNDS = 10_000


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval, in the unit of the averaged values."""

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


hit_rate_at_k = recall_at_k
"""The textbook name of what retrieval papers call R@k."""


def share_found_at_k(rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]], k: int) -> float:
    """The share of a query's relevant names that are among its first `k`, averaged over queries.

    Recall as in textbooks. With the first k of an exact ranking as `relevant`, it is the recall of an approximate
    index.
    """
    shares = [_found(ranking, right, k) / len(set(right)) for ranking, right in _pairs(rankings, relevant)]
    return float(np.mean(shares))


def precision_at_k(rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]], k: int) -> float:
    """The share of relevant names among the first `k`, averaged over queries. A short ranking counts as k names."""
    return float(np.mean([_found(ranking, right, k) / k for ranking, right in _pairs(rankings, relevant)]))


def average_precision(ranking: Sequence[Name], relevant: Collection[Name], k: int | None = None) -> float:
    """The mean of the precisions at each relevant name, over the whole ranking or its first `k`.

    Divided by min(number relevant, k), as CIRCO's AP@K (Baldrati et al. 2023). Divided by the number found, a ranking
    that finds little would score high; divided by the number relevant, a short ranking could not reach 1.
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


def first_rank(ranking: Sequence[Name], relevant: Collection[Name]) -> float:
    """The rank of the first relevant name; infinite if there is none."""
    _check(ranking, relevant)
    right = set(relevant)
    return next((rank for rank, name in enumerate(ranking, start=1) if name in right), math.inf)


def mean_reciprocal_rank(
    rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]], k: int | None = None
) -> float:
    """1 / rank of the first relevant name, 0 if the ranking or its first `k` have none, averaged: MRR, or MRR@k."""
    return float(np.mean([1 / first_rank(ranking[:k], right) for ranking, right in _pairs(rankings, relevant)]))


def median_rank(rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]]) -> float:
    """The median over queries of the rank of the first relevant name; a query that finds none counts as infinite."""
    return float(np.median([first_rank(ranking, right) for ranking, right in _pairs(rankings, relevant)]))


def ndcg_at_k(ranking: Sequence[Name], grades: Mapping[Name, float], k: int) -> float:
    """Normalised discounted cumulative gain of the first `k` (Burges et al. 2005).

    Gain 2^grade - 1, discount log2(1 + rank), divided by that of the best `k` names. Irrelevant names have
    grade 0 or none; at least one grade is above 0.
    """
    _check(ranking, [name for name, grade in grades.items() if grade > 0])
    best = sorted(grades.values(), reverse=True)[:k]
    return _discounted([grades.get(name, 0.0) for name in ranking[:k]]) / _discounted(best)


def _discounted(grades: Sequence[float]) -> float:
    gains = np.exp2(np.asarray(grades, np.float64)) - 1
    return float(np.sum(gains / np.log2(np.arange(2, len(gains) + 2))))


# ------------------------------------------------------------------------------------------- metrics by name

Statistic = Literal["mean", "median"]

_METRICS: dict[str, Callable[[Sequence[str], Mapping[str, float], int], float]] = {
    "recall": lambda ranking, grades, k: recall_at_k([ranking], [_relevant(grades)], k),
    "hit_rate": lambda ranking, grades, k: hit_rate_at_k([ranking], [_relevant(grades)], k),
    "share_found": lambda ranking, grades, k: share_found_at_k([ranking], [_relevant(grades)], k),
    "precision": lambda ranking, grades, k: precision_at_k([ranking], [_relevant(grades)], k),
    "map": lambda ranking, grades, k: average_precision(ranking, _relevant(grades), k),
    "ndcg": lambda ranking, grades, k: ndcg_at_k(ranking, grades, k),
    "mrr": lambda ranking, grades, k: mean_reciprocal_rank([ranking], [_relevant(grades)], k or None),
    "median_rank": lambda ranking, grades, k: first_rank(ranking, _relevant(grades)),
}
WITHOUT_K = {"mrr", "median_rank"}
SUBSET = "recall_subset"
"""`recall` in a ranking of the five pictures of the reference's set (CIRR)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as in `--metrics`: `recall@10`, `map@5`, `mrr`, `median_rank`."""

    kind: str
    k: int | None

    @property
    def name(self) -> str:
        return self.kind if self.k is None else f"{self.kind}@{self.k}"

    @property
    def statistic(self) -> Statistic:
        """How the values of single queries are combined."""
        return "median" if self.kind == "median_rank" else "mean"

    @property
    def needs_first(self) -> bool:
        """Whether a ranking must go on until it has a relevant name."""
        return self.k is None

    def of(self, ranking: Sequence[str], grades: Mapping[str, float]) -> float:
        """The value for one query. Names with a grade above 0 are relevant; how far above matters to `ndcg` only."""
        kind = "recall" if self.kind == SUBSET else self.kind
        return _METRICS[kind](ranking, grades, self.k or 0)


def metric_named(name: str) -> Metric:
    """Raises UsageError with the known names."""
    match = re.fullmatch(r"([a-z_]+)(?:@([1-9]\d{0,8}))?", name.strip().lower())
    kind, k = match.groups() if match else ("", None)
    if kind not in (*_METRICS, SUBSET) or (k is None and kind not in WITHOUT_K) or (k and kind == "median_rank"):
        known = ", ".join(kind if kind == "median_rank" else f"{kind}@K" for kind in (*_METRICS, SUBSET))
        raise UsageError(f"no metric {name!r}", hint=f"one of: {known}, mrr")
    return Metric(kind, int(k) if k else None)


# ------------------------------------------------------------------------------------------------- intervals


class Sample(NamedTuple):
    """One figure per query, and optionally one group label per query: whole groups are drawn."""

    figures: Sequence[float] | NDArray[np.float64]
    groups: Sequence[Hashable] | None = None


class Resampled(NamedTuple):
    """A statistic over the queries, and over resamples of the same size with replacement (`draws`, float64)."""

    value: float
    draws: NDArray[np.float64]

    def __sub__(self, other: Resampled) -> Resampled:
        """The paired difference; both must have the same queries and seed."""
        return Resampled(_difference(self.value, other.value), _difference(self.draws, other.draws))

    @property
    def interval(self) -> Interval:
        """The value with its 95 % percentile interval (Efron & Tibshirani 1993, ch. 13)."""
        is_finite = bool(np.isfinite(self.draws).all())
        ends = np.percentile(self.draws, (2.5, 97.5), method="linear" if is_finite else "nearest")
        return Interval(self.value, *map(float, ends))


def resampled(samples: Sequence[Sample], seed: int, rounds: int = ROUNDS, statistic: Statistic = "mean") -> Resampled:
    """A statistic of the figures. Several samples are drawn from separately, and their statistics are averaged."""
    generator = np.random.default_rng(seed)
    over = np.mean if statistic == "mean" else np.median
    values = [float(over(np.asarray(sample.figures, np.float64))) for sample in samples]
    draws = [_draws(sample, generator, rounds, statistic) for sample in samples]
    return Resampled(float(np.mean(values)), np.mean(draws, axis=0))


def paired_bootstrap(
    differences: Sequence[float] | NDArray[np.float64],
    seed: int,
    rounds: int = ROUNDS,
    groups: Sequence[Hashable] | None = None,
) -> Interval:
    """The mean difference between two systems over the same queries, with its 95 % percentile interval.

    `differences`: one number per query, one system's figure minus the other's. Queries are drawn with replacement
    `rounds` times (Efron & Tibshirani 1993, ch. 13). With `groups`, one label per query, whole groups are drawn: the
    right width if queries share a reference or a set of relevant names.
    """
    return resampled([Sample(differences, groups)], seed, rounds).interval


def _draws(sample: Sample, generator: np.random.Generator, rounds: int, statistic: Statistic) -> NDArray[np.float64]:
    values = np.asarray(sample.figures, np.float64)
    labels = range(len(values)) if sample.groups is None else sample.groups
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    member = np.array([numbers[label] for label in labels])
    over = _means if statistic == "mean" else _medians
    draws = np.empty(rounds)
    block = max(1, DRAWS_AT_ONCE // len(numbers))
    for start in range(0, rounds, block):
        drawn = generator.integers(0, len(numbers), (min(block, rounds - start), len(numbers)))
        draws[start : start + block] = over(values, member, drawn)
    return draws


def _means(values: NDArray[np.float64], member: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    sums, counts = np.bincount(member, values), np.bincount(member)
    return np.asarray(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))


def _medians(values: NDArray[np.float64], member: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts how often each value was drawn, in sorted order."""
    order = np.argsort(values, kind="stable")
    ordered, owners = values[order], member[order]
    medians = np.empty(len(drawn))
    for i, row in enumerate(drawn):
        upto = np.cumsum(np.bincount(row, minlength=int(member.max()) + 1)[owners])
        low, high = np.searchsorted(upto, ((upto[-1] - 1) // 2 + 1, upto[-1] // 2 + 1))
        medians[i] = ordered[low] if ordered[low] == ordered[high] else (ordered[low] + ordered[high]) / 2
    return medians


def _difference(a: Floats, b: Floats) -> Floats:
    """a - b; 0 where both are infinite (both found nothing)."""
    with np.errstate(invalid="ignore"):
        found = np.where(np.isinf(a) & np.isinf(b), 0.0, np.subtract(a, b))
    return found if isinstance(a, np.ndarray) else float(found)


def _pairs(
    rankings: Sequence[Sequence[Name]], relevant: Sequence[Collection[Name]]
) -> list[tuple[Sequence[Name], Collection[Name]]]:
    pairs = list(zip(rankings, relevant, strict=True))
    if not pairs:
        raise ValueError("no queries to average over")
    for ranking, right in pairs:
        _check(ranking, right)
    return pairs


def _relevant(grades: Mapping[str, float]) -> set[str]:
    return {name for name, grade in grades.items() if grade > 0}


def _found(ranking: Sequence[Name], relevant: Collection[Name], k: int) -> int:
    return len(set(relevant) & set(ranking[:k]))


def _check(ranking: Sequence[Hashable], relevant: Collection[Hashable]) -> None:
    """A repeated name would count twice; a query without a relevant name has no metric."""
    if not relevant:
        raise ValueError("a query has no relevant name")
    if len(set(ranking)) != len(ranking):
        raise ValueError("a ranking has a name twice")
