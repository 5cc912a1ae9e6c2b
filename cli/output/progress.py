"""The progress of a run: a bar on a terminal, JSON events, and the summary."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imgsearch.core.paths import path_fields, printable

from . import render

if TYPE_CHECKING:
    from imgsearch.core.indexing.indexer import Event, Summary
    from imgsearch.core.indexing.reading import ReadSummary


# Maximum width of a bar. A longer one is not easier to read, and wraps when the terminal gets narrower.
MAX_COLUMNS = 76
REDRAW_SECONDS = 0.05
# The format of a bar by minimum width.
FORMS = (
    (60, "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"),
    (30, "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining}"),
    (0, "{n_fmt}/{total_fmt}"),
)
WITHOUT_TOTAL = "{desc} {n_fmt} [{elapsed}, {rate_noinv_fmt}]"


def is_drawn() -> bool:
    """Whether stderr is a terminal that can draw, and not the log of a CI."""
    return (
        sys.stderr.isatty()
        and not render.is_quiet()
        and os.environ.get("TERM", "dumb") != "dumb"
        and os.environ.get("CI", "").lower() in ("", "0", "false")
    )


class Line:
    """The last line of a terminal, redrawn on every update; nothing if stderr is not a terminal.

    The cursor stays at its start. So the next drawing erases the whole line even if a narrower terminal wrapped it, and
    what the terminal itself writes, such as ^C, does not make it longer.
    """

    def __init__(self, *, is_wanted: bool = True) -> None:
        self.is_shown = is_wanted and is_drawn()
        self._drawn_at: float | None = None

    def draw(self, *texts: str) -> None:
        """The first text that fits, else the start of the last one."""
        now = time.monotonic()
        if not self.is_shown or (self._drawn_at is not None and now - self._drawn_at < REDRAW_SECONDS):
            return
        width = render.columns(sys.stderr) - 1  # terminals differ in where the cursor goes after the last column
        text = next((each for each in texts if len(each) <= width), texts[-1][:width])
        self._write(f"\r{text}\x1b[J\r")
        self._drawn_at = now

    def count(self, what: str, done: int, total: int) -> None:
        """Draws N of TOTAL."""
        share = f"{100 * done // max(1, total)} %"
        numbers = f"{done:,} of {total:,}"
        self.draw(f"{what}: {numbers} ({share})", f"{numbers} ({share})", numbers, share)

    def clear(self) -> None:
        if self._drawn_at is not None:
            self._write("\r\x1b[J")
            self._drawn_at = None

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # the terminal is gone; the work goes on
            self.is_shown = False


class Stages:
    """The current stage of a command on a terminal, and with `verbose` the time of each stage."""

    def __init__(self, *, verbose: bool) -> None:
        self._line = Line()
        self._is_verbose = verbose
        self._what = ""
        self._began = 0.0

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        if what != self._what:
            self._report()
            self._what, self._began = what, time.monotonic()
        if total:
            self._line.count(printable(what), done, total)
        else:
            self._line.draw(printable(what))

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._line.clear()
        if kind is None:
            self._report()

    def _report(self) -> None:
        if self._is_verbose and self._what:
            self._line.clear()
            render.say(f"{printable(self._what)}: {time.monotonic() - self._began:.2f} s")


def bar(line: Line, *, desc: str, unit: str, total: float | None, unit_scale: bool = False) -> Any:
    """A tqdm bar that is drawn on `line` in a format that fits."""
    from tqdm import tqdm

    class LineBar(tqdm):  # type: ignore[misc,unused-ignore]
        monitor_interval = 0  # no thread

        @property
        def format_dict(self) -> dict[str, Any]:
            width = min(MAX_COLUMNS, render.columns(sys.stderr) - 1)
            form = next((form for least, form in FORMS if width >= least), "")
            if self.total is None:
                form = WITHOUT_TOTAL
            return {**super().format_dict, "ncols": max(1, width), "bar_format": form}

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            if msg is None:
                line.draw(str(self))
            else:
                line.clear()
            return False

        def clear(self, nolock: bool = False) -> None:
            line.clear()

    return LineBar(
        file=sys.stderr,
        miniters=1,
        smoothing=0.1,
        leave=False,
        desc=desc,
        unit=unit,
        total=total,
        unit_scale=unit_scale,
    )


class Progress:
    """Receives the events of a run. Bars and messages go to stderr, JSON events to stdout."""

    def __init__(self, *, as_json: bool, quiet: bool, verbose: bool, stop: threading.Event) -> None:
        self._as_json = as_json
        self.stop = stop
        self.is_deserted = False
        """The reader of the events is gone, so the run stops."""
        self._quiet = quiet
        self._verbose = verbose
        self._line = Line(is_wanted=not (quiet or as_json))
        self._bar: Any = None
        self._skipped = 0

    def __call__(self, event: Event) -> None:
        if self._as_json and not self.is_deserted:
            try:
                render.emit_json(event_record(event))
                render.flush()
            except BrokenPipeError:
                self.is_deserted = True
                self.stop.set()
        if event.kind == "loading":
            self._line.draw("loading the model")
        elif event.kind == "walking":
            self._line.draw(f"looking for files: {event.count:,}", f"{event.count:,} files", f"{event.count:,}")
        elif event.kind == "planned":
            self._start(event.count, "indexing")
        elif event.kind == "reading":
            self.close()
            self._start(event.count, "reading text")
        elif event.kind in ("photo", "passed", "skipped", "read"):
            self._step(event)
        if event.kind == "skipped":
            if not (self._as_json or self._quiet):
                self.say(f"{printable(event.path or '')}: {printable(event.reason or '')} ({event.stage})", render.warn)
        elif event.kind == "notice":
            if not self._as_json:
                self.say(event.reason or "")
        elif event.kind in ("photo", "would_index", "gone", "read") and self._verbose and not self._as_json:
            label = {"photo": "indexed", "gone": "gone", "read": f"read {render.count(event.count, 'line')}"}.get(
                event.kind, event.reason
            )
            self.say(f"{label}: {printable(event.path or '')}")

    def say(self, message: str, printer: Callable[[str], None] = render.say) -> None:
        """Print a line on stderr, above the bar if there is one."""
        self._line.clear()
        printer(message)
        if self._bar is not None:
            self._bar.refresh()

    def _start(self, count: int, desc: str) -> None:
        self._line.clear()
        if count and self._line.is_shown:
            self._bar = bar(self._line, total=count, unit=" photos", desc=desc)

    def _step(self, event: Event) -> None:
        self._skipped += event.kind == "skipped"
        if self._bar is not None:
            if event.kind == "skipped":
                self._bar.set_postfix_str(f"{self._skipped} skipped", refresh=False)
            self._bar.update(1)

    def close(self) -> None:
        self._line.clear()
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Download:
    """A bar on a terminal during a download."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, fetched: int, total: int | None) -> None:
        if not is_drawn():
            return
        if self._bar is None:
            self._bar = bar(Line(), total=total, unit="B", unit_scale=True, desc="downloading")
        self._bar.update(fetched - self._bar.n)

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def event_record(event: Event) -> dict[str, object]:
    """An event as `--json` prints it, without empty keys."""
    record: dict[str, object] = {"event": event.kind}
    if event.path is not None:
        record |= path_fields(event.path)
    if event.kind in ("walking", "planned", "checkpoint", "reading"):
        record["count"] = event.count
    if event.kind == "read":
        record["lines"] = event.count
    if event.stage is not None:
        record["stage"] = event.stage
    if event.reason is not None:
        record["reason"] = event.reason
    return record


def summary_record(summary: Summary) -> dict[str, object]:
    """The last line of `index --json`."""
    return {
        "event": "stopped" if summary.was_stopped else "done",
        "found": summary.found,
        "new": summary.new,
        "changed": summary.changed,
        "reused": summary.reused,
        "damaged": summary.damaged,
        "unchanged": summary.unchanged,
        "skipped": summary.skipped,
        "known_failures": summary.known_failures,
        "passed_over": summary.not_pictures,
        "gone": summary.gone,
        "excluded": summary.excluded,
        "named_places": summary.named_places,
        "seconds": {stage: round(seconds, 3) for stage, seconds in summary.seconds.items()},
    }


def read_record(summary: ReadSummary) -> dict[str, object]:
    """The last line of a run that read the text in pictures."""
    return {
        "event": "ocr_stopped" if summary.was_stopped else "ocr_done",
        "read": summary.read,
        "with_text": summary.with_text,
        "unlikely": summary.unlikely,
        "skipped": summary.failed,
        "seconds": round(summary.seconds, 3),
    }


def read_line(summary: ReadSummary) -> str:
    """The same as text."""
    if not (summary.read or summary.unlikely or summary.failed):
        return "no photos with text left to read"
    parts = [f"read the text in {render.count(summary.read, 'photo')} ({summary.with_text:,} with text)"]
    parts += [f"{summary.unlikely:,} left out: unlikely to contain text"] if summary.unlikely else []
    parts += [f"{summary.failed:,} skipped"] if summary.failed else []
    return f"{', '.join(parts)}; {summary.seconds:.1f} s"


def summary_lines(summary: Summary, *, dry_run: bool) -> list[str]:
    """The summary as text."""
    if dry_run:
        parts = [f"would index {render.count(summary.new, 'new file')}"]
        parts += [f"{summary.changed:,} changed"] if summary.changed else []
    else:
        parts = [f"indexed {render.count(summary.indexed, 'photo')}"]
        kinds = {"new": summary.new, "changed": summary.changed, "moved or copied": summary.reused}
        named = [f"{number:,} {kind}" for kind, number in kinds.items() if number]
        if len(named) > 1 or summary.new != summary.indexed:
            parts[0] += f" ({', '.join(named)})"
        parts += [f"{summary.damaged:,} of them damaged"] if summary.damaged else []
    tail = {
        "unchanged": summary.unchanged,
        "gone": summary.gone,
        "now excluded": summary.excluded,
        "skipped": summary.skipped,
        "known to fail (see `imgsearch failures`)": summary.known_failures,
    }
    parts += [f"{number:,} {kind}" for kind, number in tail.items() if number]
    parts += [f"looked up {render.count(summary.named_places, 'place')}"] if summary.named_places else []
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
        listed = ", ".join(f"{stage} {seconds[key]:.1f}" for stage, key in stages.items())
        lines.append(f"{seconds['total']:.1f} s: {listed}{rate}")
    return lines
