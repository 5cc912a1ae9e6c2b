"""What `--verbose` prints about queries: the index, the process that answered, the plan, and the time of each part."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from imgsearch.core.search.explain import Explanation


class QueryLog:
    """Prints how each query was answered, and passes that on to `then`."""

    def __init__(
        self,
        index: str | None,
        strategy: str,
        modality: str,
        *,
        has_filters: bool,
        then: Callable[[Explanation], None] | None = None,
    ) -> None:
        self._index = index
        self._strategy, self._modality = strategy, modality
        self._has_filters = has_filters
        self._then = then
        self._began = time.perf_counter()
        self.is_warm = False
        """Whether a running server answered."""

    def __call__(self, explanation: Explanation) -> None:
        render.flush()
        for line in self._lines(explanation.record):
            render.say(line)
        if self._then:
            self._then(explanation)

    def _lines(self, record: dict[str, Any]) -> list[str]:
        from imgsearch.core.paths import printable
        from imgsearch.core.places import locate

        plan = record["plan"]
        model = f"{printable(record['model'])}, {render.count(plan['vectors'], 'vector')}"
        process = "a running server" if self.is_warm else "this process"
        scored = ", ".join(
            f"{count:,} of {render.count(plan['allowed'][modality], modality)}"
            for modality, count in plan["scored"].items()
        )
        stages = ", ".join(f"{stage} {1000 * seconds:.1f}" for stage, seconds in record["seconds"].items())
        has_filters = self._has_filters or "phrases" in record
        how = f"{self._plan(plan, has_filters=has_filters)}: {scored}{' that match the filters' * has_filters}"
        if plan["strategy"] == "list":
            how = "nothing scanned; photos that match the filters, by time"
        return [
            f"query: {record['query']}",
            f"index: {printable(locate(self._index))} ({model}), answered by {process}",
            how,
            f"milliseconds: {stages}; {1000 * (time.perf_counter() - self._began):.1f} since the start",
        ]

    def _plan(self, plan: dict[str, Any], *, has_filters: bool) -> str:
        """What was scanned, and why."""
        asked = self._strategy
        if plan["strategy"] == "graph":
            covered = f"HNSW graphs of {render.count(sum(plan['in_graphs'].values()), 'vector')} gave shortlists "
            return covered + ("(--ann)" if asked == "ann" else "(faster here)")
        if plan["strategy"] == "bytes":
            return "one byte per dimension of all vectors scanned, then the best exactly (faster here)"
        if asked == "exact":
            why = "--exact"
        elif asked == "ann":
            why = "there are no graphs"
        elif has_filters:
            why = "faster with these filters"
        elif self._modality == "any":
            why = "--modality any"
        else:
            why = "faster here"
        return f"all vectors scanned ({why})"
