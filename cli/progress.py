"""What is seen while an index run goes on: a bar on a terminal, JSON events on request, and the closing summary."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from imgsearch.core.paths import path_fields, printable

from . import render

if TYPE_CHECKING:
    from imgsearch.core.indexing import Event, Summary


class Progress:
    """Listens to a run. Bars and messages go to stderr, JSON events to stdout."""

    def __init__(self, *, as_json: bool, quiet: bool, verbose: bool, stop: threading.Event) -> None:
        self._as_json = as_json
        self._stop = stop
        self.is_deserted = False
        """Whoever read the events is gone: the run ends in order, and quietly."""
        self._quiet = quiet
        self._verbose = verbose
        self._bar: Any = None
        self._skipped = 0

    def __call__(self, event: Event) -> None:
        if self._as_json and not self.is_deserted:
            try:
                render.emit_json(event_record(event))
                render.flush()
            except BrokenPipeError:
                self.is_deserted = True
                self._stop.set()
        if event.kind == "planned":
            self._start(event.count)
        elif event.kind in ("photo", "passed", "skipped"):
            self._step(event)
        if event.kind == "skipped":
            if not (self._as_json or self._quiet):
                self.say(f"{printable(event.path or '')}: {printable(event.reason or '')} ({event.stage})")
        elif event.kind == "notice":
            if not self._as_json:
                self.say(event.reason or "")
        elif event.kind in ("photo", "would_index", "gone") and self._verbose and not self._as_json:
            label = {"photo": "indexed", "gone": "gone"}.get(event.kind, event.reason)
            self.say(f"{label}: {printable(event.path or '')}")

    def say(self, message: str) -> None:
        """One line to the person, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        render.say(message)
        if self._bar is not None:
            self._bar.refresh()

    def _start(self, count: int) -> None:
        if count and sys.stderr.isatty() and not (self._quiet or self._as_json):
            from tqdm import tqdm

            self._bar = tqdm(
                total=count,
                unit=" photos",
                unit_scale=False,
                dynamic_ncols=True,
                smoothing=0.1,
                leave=False,
                desc="indexing",
            )

    def _step(self, event: Event) -> None:
        self._skipped += event.kind == "skipped"
        if self._bar is not None:
            if event.kind == "skipped":
                self._bar.set_postfix_str(f"{self._skipped} skipped", refresh=False)
            self._bar.update(1)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Download:
    """A bar on a terminal while weights are fetched."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, fetched: int, total: int | None) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, unit="B", unit_scale=True, leave=False, disable=None, desc="fetching", dynamic_ncols=True
            )
        self._bar.update(fetched - self._bar.n)

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def event_record(event: Event) -> dict[str, Any]:
    """An event as `--json` shows it; keys that say nothing are left out."""
    record: dict[str, Any] = {"event": event.kind}
    if event.path is not None:
        record |= path_fields(event.path)
    if event.kind in ("walking", "planned", "checkpoint"):
        record["count"] = event.count
    if event.stage is not None:
        record["stage"] = event.stage
    if event.reason is not None:
        record["reason"] = event.reason
    return record


def summary_record(summary: Summary) -> dict[str, Any]:
    """The last line of `index --json`."""
    return {
        "event": "stopped" if summary.was_stopped else "done",
        "found": summary.found,
        "new": summary.new,
        "changed": summary.changed,
        "reused": summary.reused,
        "unchanged": summary.unchanged,
        "skipped": summary.skipped,
        "known_failures": summary.known_failures,
        "passed_over": summary.passed_over,
        "gone": summary.gone,
        "excluded": summary.excluded,
        "seconds": {stage: round(seconds, 3) for stage, seconds in summary.seconds.items()},
    }


def summary_lines(summary: Summary, *, dry_run: bool) -> list[str]:
    """The closing summary for a person."""
    if dry_run:
        parts = [f"would index {render.count(summary.new, 'new file')}"]
        parts += [f"{summary.changed:,} changed"] if summary.changed else []
    else:
        parts = [f"indexed {render.count(summary.indexed, 'photo')}"]
        kinds = {"new": summary.new, "changed": summary.changed, "moved or copied": summary.reused}
        named = [f"{number:,} {kind}" for kind, number in kinds.items() if number]
        if len(named) > 1 or summary.new != summary.indexed:
            parts[0] += f" ({', '.join(named)})"
    tail = {
        "unchanged": summary.unchanged,
        "gone": summary.gone,
        "now excluded": summary.excluded,
        "skipped": summary.skipped,
        "known to fail (see `imgsearch failures`)": summary.known_failures,
    }
    parts += [f"{number:,} {kind}" for kind, number in tail.items() if number]
    lines = [", ".join(parts)]
    seconds = summary.seconds
    if not dry_run:
        rate = f", {summary.indexed / seconds['total']:.3g} photos/s" if summary.indexed and seconds["total"] else ""
        stages = {
            "load model": "load",
            "walk": "walk",
            "read+decode (all workers)": "decode",
            "embed": "embed",
            "write": "write",
        }
        told = ", ".join(f"{stage} {seconds[key]:.1f}" for stage, key in stages.items())
        lines.append(f"{seconds['total']:.1f} s: {told}{rate}")
    return lines
