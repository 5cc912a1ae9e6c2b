"""The result of `imgsearch eval` as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgsearch.core.paths import printable

from . import render

if TYPE_CHECKING:
    from imgsearch.core.evaluation.results import Run


def print_result(run: Run, before: Run | None, *, as_json: bool) -> None:
    """The result, and with `before` the comparison."""
    if as_json:
        record = run.record()
        if before:
            record["compared"] = run.comparison(before)
        render.emit_json(record)
    else:
        for line in [*_table(run), *(_comparison(run, before) if before else ())]:
            render.emit(line)
    render.flush()


def _table(run: Run) -> Iterator[str]:
    """The header, then one line per metric: percent, except for ranks."""
    header = run.header
    named: dict[str, object] = {"benchmark": header["benchmark"], "model": header["model"]}
    if "method" in header:
        named["compose"] = f"{header['method']}, weight {header['weight']:g}"
    named["search"] = f"{header['search']}, corrected for hubness" if header["hubness"] else header["search"]
    named |= header["protocol"]
    counts: dict[str, object] = dict(header["counts"])
    for key, count in counts.items():
        if count or not key.startswith(("missing", "left_out")):
            named["pictures ranked" if key == "gallery" else key] = _number(count)
    width = max(map(len, named))
    yield from (f"{key.replace('_', ' '):{width}}  {printable(str(value))}" for key, value in named.items())
    if header["counts"]["missing_pictures"]:
        yield "pictures are missing: these numbers are not comparable to any others"
    if run.intervals:
        yield ""
        width = max(map(len, run.intervals))
        yield f"{'metric':{width}}  {'value':>8}   95 % interval   (percent; ranks are absolute)"
        for name, interval in run.intervals.items():
            value, low, high = (_figure(name, figure) for figure in interval)
            yield f"{name:{width}}  {value:>8}   {low:>6} to {high:>6}"


def _comparison(run: Run, before: Run) -> Iterator[str]:
    header = before.header
    other: list[object] = [header.get("model")]
    if "method" in header:
        other += [header.get("method"), f"weight {header.get('weight')}"]
    other.append(header.get("search"))
    if header.get("hubness"):
        other.append("corrected for hubness")
    yield ""
    yield f"compared with {', '.join(printable(str(value)) for value in other)}"
    changed = run.protocol_differences(before)
    if changed:
        yield f"the protocols differ: {', '.join(changed)}"
    differences = run.differences(before)
    width = max(map(len, [*differences, "metric"]))
    yield f"{'metric':{width}}  {'this':>8}  {'that':>8}  {'difference':>10}   95 % interval, paired"
    for name, interval in differences.items():
        this, that = _figure(name, run.intervals[name].mean), _figure(name, before.intervals[name].mean)
        value, low, high = (_figure(name, figure, sign="+") for figure in interval)
        yield f"{name:{width}}  {this:>8}  {that:>8}  {value:>10}   {low:>6} to {high:>6}"


def _figure(name: str, figure: float, sign: str = "") -> str:
    if name.endswith("median_rank"):
        return f"{figure:{sign}.1f}"
    return f"{100 * figure:{sign}.2f}"


def _number(count: object) -> str:
    if isinstance(count, dict):
        return ", ".join(f"{part} {number:,}" for part, number in count.items())
    return f"{count:,}"
