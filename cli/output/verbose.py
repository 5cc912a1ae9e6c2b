"""What `--verbose` says of questions: which index was asked, by whom, how, and how long each part took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from imgsearch.core.search.explain import Explanation


class Teller:
    """Listens to how questions are answered, and hands that on to `then`."""

    def __init__(
        self,
        index: str | None,
        *,
        strategy: str,
        modality: str,
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
        who = "a running server" if self.is_warm else "this process"
        scored = ", ".join(
            f"{count:,} of {render.count(plan['allowed'][modality], modality)}"
            for modality, count in plan["scored"].items()
        )
        stages = ", ".join(f"{stage} {1000 * seconds:.1f}" for stage, seconds in record["seconds"].items())
        return [
            f"asked: {record['query']}",
            f"index: {printable(locate(self._index))} ({model}), answered by {who}",
            f"{self._plan(plan['strategy'])}: {scored} that may be shown",
            f"milliseconds: {stages}; {1000 * (time.perf_counter() - self._began):.1f} since the command was read",
        ]

    def _plan(self, strategy: str) -> str:
        """What was looked through, and why that."""
        asked = self._strategy
        if strategy == "graph":
            return "HNSW graphs gave shortlists, " + ("as --ann asks" if asked == "ann" else "which is quicker here")
        if asked == "exact":
            why = "as --exact asks"
        elif asked == "ann":
            why = "as there is no graph to use"
        elif self._has_filters:
            why = "as filters leave few enough"
        elif self._modality == "any":
            why = "as --modality any takes"
        else:
            why = "as no graph would be quicker"
        return f"every vector scanned, {why}"
