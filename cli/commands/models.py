"""`imgsearch models`: list the models that have an alias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.models.registry import Alias


def models(*, as_json: bool) -> int:
    """List the models that have an alias: download size, quality, licence, and whether they are downloaded.

    The columns COCO and Flickr are the published recall@1 from text to image, in percent. Any other open_clip model
    works too: --model ARCH/TAG.

    Example:

      imgsearch models --json | jq -r 'select(.cached) | .name'
    """
    from imgsearch.core.models.registry import ALIASES

    records = [_record(alias) for alias in ALIASES.values()]
    if as_json:
        for record in records:
            render.emit_json(record)
    else:
        for line in _lines(records):
            render.emit(line)
    render.flush()
    return 0


def _record(alias: Alias) -> dict[str, Any]:
    from imgsearch.core.models.hub import cached
    from imgsearch.core.models.registry import RECOMMENDED

    return {
        "name": alias.name,
        "arch": alias.arch,
        "weights": alias.weights,
        "dim": alias.dim,
        "download_mb": alias.download_mb,
        "licence": alias.licence,
        "commercial_use": alias.commercial,
        "languages": alias.languages,
        "coco_recall_at_1": alias.coco,
        "flickr30k_recall_at_1": alias.flickr30k,
        "cached": cached(alias.spec),
        "recommended": alias.name == RECOMMENDED,
        "needs_extra": alias.needs_extra,
        "note": alias.note,
    }


def _lines(records: list[dict[str, Any]]) -> list[str]:
    header = ("name", "dim", "download", "here", "COCO", "Flickr", "languages", "licence", "")
    rows = [header] + [
        (
            record["name"],
            str(record["dim"]),
            f"{record['download_mb']:,} MB" if record["download_mb"] else "-",
            "yes" if record["cached"] else "no",
            _percent(record["coco_recall_at_1"]),
            _percent(record["flickr30k_recall_at_1"]),
            record["languages"],
            record["licence"],
            record["note"],
        )
        for record in records
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def _percent(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}"
