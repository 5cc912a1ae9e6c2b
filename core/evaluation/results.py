"""The result of a benchmark run: metrics with intervals, its file, and the comparison with another run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NotRequired, TypedDict

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.paths import printable

from .gallery import Counts, Task
from .metrics import Interval, Metric, Resampled, Sample, resampled
from .runs import QueryResult

SEED = 0
MEAN = "mean"
COMPARED = ("benchmark", "protocol", "model", "method", "weight", "search", "hubness")
"""The keys of a run's header that a comparison repeats."""
_HINT = "--compare takes a file that --out wrote"


class Header(TypedDict):
    """What was run and how, as it stands in the JSON (docs/evaluation.md)."""

    benchmark: str
    protocol: dict[str, str | int]
    model: str
    method: NotRequired[str]
    weight: NotRequired[float]
    search: str
    hubness: bool
    counts: Counts
    interval: str
    queries_sha256: str


@dataclass(frozen=True)
class Run:
    """A finished run."""

    header: Header
    metrics: tuple[Metric, ...]
    results: tuple[QueryResult, ...]

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """By metric, with its part (`t2i/recall@1`), and the mean over all galleries (`mean/recall@10`)."""
        return {name: figures.interval for name, figures in self._resampled.items()}

    def record(self) -> dict[str, object]:
        """The result as `--json` prints it."""
        return {
            **self.header,
            "metrics": {name: interval_record(interval, "value") for name, interval in self.intervals.items()},
        }

    def file(self) -> dict[str, object]:
        """The result with every query, for a later comparison."""
        return self.record() | {
            "queries": [
                {
                    "id": result.id,
                    "part": result.part,
                    "group": result.group,
                    "figures": {name: _finite_or_null(figure) for name, figure in result.figures.items()},
                    "ranking": list(result.ranking),
                }
                for result in self.results
            ]
        }

    def differences(self, other: Run) -> dict[str, Interval]:
        """By metric that both runs have: this run's minus the other's, with the interval of the paired difference."""
        mine, theirs = self._resampled, other._resampled
        return {name: (mine[name] - theirs[name]).interval for name in mine if name in theirs}

    def comparison(self, other: Run) -> dict[str, object]:
        """The comparison as `--json` prints it."""
        repeated = {key: other.header.get(key) for key in COMPARED}
        return {
            "with": repeated | {"gallery": other.header["counts"]["gallery"]},
            "protocols_differ": self.protocol_differences(other),
            "metrics": {
                name: interval_record(interval, "difference") for name, interval in self.differences(other).items()
            },
        }

    def protocol_differences(self, other: Run) -> list[str]:
        """The keys of the protocols that differ; a gallery of another size is another gallery."""
        mine, theirs = (
            {**run.header["protocol"], "gallery": (run.header["protocol"].get("gallery"), _gallery_size(run))}
            for run in (self, other)
        )
        return [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]

    @cached_property
    def _resampled(self) -> dict[str, Resampled]:
        by_part: dict[str, list[QueryResult]] = {}
        for result in sorted(self.results, key=lambda result: (result.part, result.id)):
            if result.figures:
                by_part.setdefault(result.part, []).append(result)
        galleries = _gallery_size(self)
        found: dict[str, Resampled] = {}
        for part in dict.fromkeys(result.part for result in self.results if result.figures):
            for metric in self.metrics:
                if all(metric.name in result.figures for result in by_part[part]):
                    name = f"{part}/{metric.name}" if part else metric.name
                    found[name] = _resample([by_part[part]], metric)
        parts = galleries if isinstance(galleries, dict) else {}
        for metric in self.metrics:
            if parts and all(f"{part}/{metric.name}" in found for part in parts):
                found[f"{MEAN}/{metric.name}"] = _resample(list(by_part.values()), metric)
        return found


def _gallery_size(run: Run) -> int | dict[str, int]:
    return run.header["counts"]["gallery"]


def _resample(parts: Sequence[Sequence[QueryResult]], metric: Metric) -> Resampled:
    samples = [
        Sample([result.figures[metric.name] for result in part], [result.group for result in part]) for part in parts
    ]
    return resampled(samples, SEED, statistic=metric.statistic)


def interval_record(interval: Interval, mean: str) -> dict[str, float | None]:
    """The interval in JSON; `mean` is the key of its first number."""
    return dict(zip((mean, "low", "high"), map(_finite_or_null, interval), strict=True))


def _finite_or_null(figure: float) -> float | None:
    """JSON has no infinity: null means that nothing relevant was found."""
    return figure if math.isfinite(figure) else None


def read_run(path: str, metrics: tuple[Metric, ...], task: Task) -> Run:
    """A run that `--out` wrote, of the same queries. Raises UsageError, QueryError."""
    try:
        with open(path, encoding="utf-8") as file:
            run = _parse_run(json.load(file, parse_constant=_finite, parse_float=_finite), metrics)
        digest = run.header["queries_sha256"]
    except OSError as error:
        raise UsageError(f"{printable(path)}: {(error.strerror or str(error)).lower()}", hint=_HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise QueryError(f"{printable(path)}: not a run", hint=_HINT) from error
    if digest != task.digest:
        raise UsageError(
            f"{printable(path)}: a run of other queries ({printable(str(run.header.get('benchmark')))})",
            hint="only runs of the same queries and the same relevant pictures can be compared",
        )
    if sorted((result.part, result.id, result.group) for result in run.results) != task.keys:
        raise QueryError(f"{printable(path)}: its queries do not match its digest", hint=_HINT)
    if not any(metric.name in result.figures for metric in metrics for result in run.results):
        raise UsageError(f"{printable(path)}: no metric in common", hint="give both runs the same --metrics")
    return run


def _parse_run(record: Any, metrics: tuple[Metric, ...]) -> Run:
    """From the JSON of `Run.file`. Anything else raises one of the errors that `read_run` catches."""
    if not isinstance(record["protocol"], dict) or not isinstance(record["counts"]["gallery"], int | dict):
        raise TypeError("no protocol, or no gallery")
    results = tuple(
        QueryResult(
            str(query["id"]),
            str(query["part"]),
            str(query["group"]),
            {str(name): _parse_figure(str(name), figure) for name, figure in query["figures"].items()},
            tuple(query["ranking"]),
        )
        for query in record.pop("queries")
    )
    return Run(record, metrics, results)


def _parse_figure(name: str, figure: object) -> float:
    """Only a rank may be null."""
    if figure is None and name == "median_rank":
        return math.inf
    if isinstance(figure, bool) or not isinstance(figure, int | float):
        raise TypeError(f"{name} is not a number")
    return float(figure)


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"{digits} is not finite")
    return float(digits)
