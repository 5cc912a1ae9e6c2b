"""`imgsearch composers`: list the methods of --compose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.compose.composers import Listed


def composers(*, as_json: bool, index: str | None) -> int:
    """List the ways to combine a picture and words that fit the index's model.

    The default is marked with *. Methods whose weights are for another model come last, with the reason. The column
    PACS is the mAP on pictures in four styles, measured with the built-in model; see docs/composition.md.

    Example:

      imgsearch composers --json | jq -r 'select(.fits) | .name'
    """
    from imgsearch.cli.loading import open_store
    from imgsearch.core.compose.composers import listed

    with open_store(index) as store:
        identity = store.space_to_search().identity
    records = [_record(each) for each in listed(identity)]
    render.listing(records, _lines(records), as_json=as_json)
    return 0


def _record(listed: Listed) -> dict[str, Any]:
    """Keys are only ever added (docs/json.md)."""
    method, file = listed.method, listed.file
    return {
        "name": method.name,
        "fits": not listed.reason,
        "reason": listed.reason or None,
        "is_default": listed.is_default,
        "default_weight": listed.default_weight,
        "needs": ["picture", "words", *(["from"] if method.needs_origin else [])],
        "weights": "none" if not method.is_learned else "shipped",
        "model": file.model if file else None,
        "version": file.version if file else None,
        "training_data": file.training_data if file else None,
        "licence": file.licence if file else None,
        "pacs_map": listed.pacs_map,
        "summary": method.summary,
    }


def _lines(records: list[dict[str, Any]]) -> list[str]:
    rows = [("  name", "weight", "PACS", "weights", "")]
    for record in records:
        figure = "-" if record["pacs_map"] is None else f"{record['pacs_map']:.3f}"
        what = record["summary"] if record["fits"] else f"does not fit: {record['reason']}"
        name = f"{'*' if record['is_default'] else ' '} {record['name']}"
        rows.append((name, f"{record['default_weight']:g}", figure, record["weights"], what))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in rows
    ]
    sources = [
        f"  {record['name']}: version {record['version']}; from {record['training_data']}; {record['licence']}"
        for record in records
        if record["fits"] and record["licence"]
    ]
    return [*lines, *(["", "weights:", *sources] if sources else [])]
