"""The result of `imgsearch eval` as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from imgsearch.core.paths import printable

from . import render

if TYPE_CHECKING:
    from imgsearch.core.evaluation.methods import Row
    from imgsearch.core.evaluation.results import Header, Run


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


def print_methods(header: Header, rows: Sequence[Row], *, as_json: bool) -> None:
    """The methods in one table, first the one that the others are compared with."""
    if as_json:
        render.emit_json({**header, "methods": [row.record() for row in rows]})
    else:
        for line in [*_heading(header), "", *_methods(rows)]:
            render.emit(line)
    render.flush()


def _methods(rows: Sequence[Row]) -> Iterator[str]:
    against = rows[0].way.name
    names = list(rows[0].run.intervals)
    names = [name for name in names if name.startswith("mean/")] or names
    shown, first = {name: max(8, len(name)) for name in names}, names[0]
    width = max(len(row.way.name) for row in rows)
    columns = "".join(f"  {name:>{size}}" for name, size in shown.items())
    yield f"{'method':{width}}  weight{columns}  ms/query  {first} minus {against}, 95 % interval"
    for row in rows:
        figures = "".join(f"  {_figure(name, row.run.intervals[name].mean):>{size}}" for name, size in shown.items())
        line = f"{row.way.name:{width}}  {row.way.weight:>6g}{figures}  {row.milliseconds:>8.2f}"
        if row.minus_baseline:
            value, low, high = (_figure(first, figure, sign="+") for figure in row.minus_baseline[first])
            line += f"  {value:>6}   {low:>6} to {high:>6}"
        yield line
    yield ""
    yield f"percent; ranks are absolute. {against} has the weight that is best for these queries"


def _table(run: Run) -> Iterator[str]:
    """The header, then one line per metric: percent, except for ranks."""
    yield from _heading(run.header)
    if run.intervals:
        yield ""
        width = max(map(len, run.intervals))
        yield f"{'metric':{width}}  {'value':>8}   95 % interval   (percent; ranks are absolute)"
        for name, interval in run.intervals.items():
            value, low, high = (_figure(name, figure) for figure in interval)
            yield f"{name:{width}}  {value:>8}   {low:>6} to {high:>6}"


def _heading(header: Header) -> Iterator[str]:
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
