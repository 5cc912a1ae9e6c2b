"""Every way to compose a picture and words, on the queries of one benchmark, beside `lerp` at its best weight."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imgsearch.core.compose.composers import composer_for
from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.search.choices import RAW_SUM
from imgsearch.core.search.composition import METHODS, method_named

from .results import Header, Run, interval_record
from .runs import CachingEmbedder, EvalPlan, OnProgress, run_queries

if TYPE_CHECKING:
    from imgsearch.core.store.store import Store, View
    from imgsearch.core.types import Embedder, SpaceIdentity

    from .gallery import Task
    from .metrics import Interval

ALL = "all"
BASELINE = "lerp"
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))
"""Those that `lerp` is tried with, on these very queries."""
PLAIN = {"words only": 1.0, "picture only": 0.0}


@dataclass(frozen=True, slots=True)
class Way:
    """One row of the table."""

    name: str
    method: str | None
    """As for --compose. None: the weight makes it plain."""
    weight: float
    is_default: bool = False
    """The weight is the method's own. Some methods have another one for words that they are not for."""


@dataclass(frozen=True, slots=True)
class Row:
    way: Way
    run: Run
    milliseconds: float
    """Of the search for one query, its words being embedded already."""
    minus_baseline: dict[str, Interval]
    """By metric, paired by query."""

    def record(self) -> dict[str, object]:
        """As `--json` prints it."""
        return {
            "method": self.way.name,
            "weight": self.way.weight,
            "milliseconds": round(self.milliseconds, 3),
            "metrics": {name: interval_record(each, "value") for name, each in self.run.intervals.items()},
            f"minus_{BASELINE}": {
                name: interval_record(each, "difference") for name, each in self.minus_baseline.items()
            },
        }


def names_in(asked: str) -> tuple[str, ...] | None:
    """The methods that `--methods` lists; None for all of them. Raises UsageError."""
    if asked == ALL:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    if not names:
        raise UsageError("--methods is empty", hint=f"--methods {ALL}, or a list: --methods scaled,{BASELINE}")
    for name in names:
        if method_named(name).needs_origin:
            raise UsageError(f"--methods: {name} needs a starting text", hint="no benchmark has one")
    return names


def ways_for(asked: str, identity: SpaceIdentity) -> list[Way]:
    """Raises UsageError and ModelError for a method of a list that does not fit the model. `all` leaves it out, and
    `raw-sum` where it is not what the model was trained for: it embeds each picture again, which may need torch."""
    if names := names_in(asked):
        return [_way(name, identity) for name in names]
    ways = []
    for name, method in METHODS.items():
        if method.needs_origin or (name == RAW_SUM and identity.composer != RAW_SUM):
            continue
        with contextlib.suppress(UsageError, ModelError):
            ways.append(_way(name, identity))
    return ways


def _way(name: str, identity: SpaceIdentity) -> Way:
    method = composer_for(name, identity) or method_named(name)
    return Way(name, name, method.default_weight, is_default=True)


def compare(
    store: Store,
    view: View,
    embedder: Callable[[], Embedder],
    task: Task,
    plan: EvalPlan,
    header: Header,
    ways: Sequence[Way],
    on_progress: OnProgress = lambda queries: None,
) -> list[Row]:
    """First `lerp`, at the weight that is best here by the first metric of the plan. Then the other ways, the words
    alone and the picture alone, the best first."""
    caching = CachingEmbedder(embedder)

    def run(way: Way) -> tuple[Run, float]:
        options = replace(plan.options, method=way.method, weight=None if way.is_default else way.weight)
        started, embedding = time.perf_counter(), caching.seconds
        results = run_queries(store, view, lambda: caching, task, replace(plan, options=options), on_progress)
        found = Run(header, plan.metrics, tuple(results))
        seconds = time.perf_counter() - started - (caching.seconds - embedding)
        return found, 1000 * seconds / max(1, len(found.results))

    swept = {way: run(way) for way in (Way(BASELINE, BASELINE, weight) for weight in WEIGHTS)}
    best = max(swept, key=lambda way: _height(swept[way][0]))
    baseline, milliseconds = swept[best]
    plain = (Way(name, None, weight) for name, weight in PLAIN.items())
    others = [(way, *run(way)) for way in (*(way for way in ways if way.name != BASELINE), *plain)]
    others.sort(key=lambda other: -_height(other[1]))
    return [
        Row(best, baseline, milliseconds, {}),
        *(Row(way, found, taken, found.differences(baseline)) for way, found, taken in others),
    ]


def runs_needed(ways: Sequence[Way]) -> int:
    """How often `compare` runs all queries."""
    return len(WEIGHTS) + len(PLAIN) + sum(way.name != BASELINE for way in ways)


def _height(run: Run) -> float:
    """The first metric, so that more is better. Over several galleries it is the mean of their figures."""
    metric = run.metrics[0]
    figures = [each.mean for name, each in run.intervals.items() if name.rpartition("/")[2] == metric.name]
    total = sum(figures)
    return -total if metric.kind == "median_rank" else total
