"""The files that a benchmark's server takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from imgsearch.core.errors import UsageError

from .loaders import CATEGORIES, Benchmark

if TYPE_CHECKING:
    from .gallery import Task
    from .runs import QueryResult

CIRCO_NAMES = 50
CIRR_NAMES = {"recall": 50, "recall_subset": 3}
FASHIONIQ_NAMES = 50
MAX_NAMES = 50
"""Maximum number of names that a server takes for one query."""

_SUFFIXES = {
    "cirr": tuple(f"-{metric}" for metric in CIRR_NAMES),
    "circo": ("",),
    "fashioniq": tuple(f"-{category}" for category in CATEGORIES),
}


def file_suffixes(benchmark: Benchmark) -> tuple[str, ...]:
    """The suffixes of a submission's file names, one for each file. Raises UsageError if there is no server."""
    if benchmark.name not in _SUFFIXES:
        raise UsageError(
            f"--submission: {benchmark.name} has no server to submit to", hint="write the rankings with --out"
        )
    return _SUFFIXES[benchmark.name]


def require_all_queries(task: Task) -> None:
    """Raises UsageError if queries are left out, before the run."""
    if task.left_out:
        raise UsageError(
            f"--submission needs every query, and {task.left_out:,} are left out", hint="remove --allow-missing"
        )


def submission_files(task: Task, results: Iterable[QueryResult]) -> dict[str, object]:
    """The content of each file, by suffix. Raises UsageError if a ranking is too short."""
    rankings, subsets = {}, {}
    for result in results:
        rankings[result.id], subsets[result.id] = result.ranking, result.subset
    return submission(task.benchmark, rankings, subsets)


def submission(
    benchmark: Benchmark, rankings: Mapping[str, Sequence[str]], subsets: Mapping[str, Sequence[str]]
) -> dict[str, object]:
    """The content of each file, by suffix, from rankings by query id.

    Raises UsageError if the benchmark has no server, or if a ranking is too short for it.
    """
    file_suffixes(benchmark)
    if benchmark.name == "cirr":
        return {
            f"-{metric}": {
                "version": "rc2",
                "metric": metric,
                **{q.id: _first(source[q.id], count, exact=False) for q in benchmark.queries},
            }
            for (metric, count), source in zip(CIRR_NAMES.items(), (rankings, subsets), strict=True)
        }
    if benchmark.name == "circo":
        return {
            "": {q.id: [int(n) for n in _first(rankings[q.id], CIRCO_NAMES, exact=True)] for q in benchmark.queries}
        }
    return {
        f"-{category}": [
            {**q.record, "ranking": _first(rankings[q.id], FASHIONIQ_NAMES, exact=False)}
            for q in benchmark.queries
            if q.part == category
        ]
        for category in CATEGORIES
    }


def _first(ranking: Sequence[str], count: int, *, exact: bool) -> list[str]:
    if exact and len(ranking) < count:
        raise UsageError(
            f"--submission needs {count} different pictures for each query, and the index has {len(ranking)}",
            hint="give --images the whole collection",
        )
    return list(ranking[:count])
