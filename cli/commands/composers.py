"""`imgsearch composers`: list the methods of --compose, and import published weights."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.compose.composers import Listed
    from imgsearch.core.search.choices import PseudoWordName


def show(*, as_json: bool, index: str | None) -> int:
    """List the ways to combine a picture and words. Its help is in the table of commands."""
    from imgsearch.cli.loading import open_store
    from imgsearch.core.compose.composers import listed

    with open_store(index) as store:
        identity = store.space_to_search().identity
    records = [_record(each) for each in listed(identity)]
    render.listing(records, _lines(records), as_json=as_json)
    return 0


def import_file(
    *,
    method: str,
    file: str,
    out: str | None,
    model: str | None,
    feature_norm: float | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Convert the published weights of a method to a file for `imgsearch query --compose`.

    FILE is what the authors of Pic2Word, SEARLE or LinCIR published. Another process reads it, with torch, and refuses
    everything in it but tensors. The weights are for one model: ViT-B-32/openai for 512 dimensions, ViT-L-14/openai for
    768, unless --model names another. They are used with an index of that model.

    The networks were trained on picture vectors of any length, and an index holds vectors of length 1.
    --feature-norm is the length that they are given.

    Examples:

      imgsearch composers import searle SEARLE_ViT-L14.pt

      imgsearch query "in the snow like dog.jpg" --compose searle:searle.safetensors
    """
    from typing import cast

    from imgsearch.core.compose.composer_file import write
    from imgsearch.core.compose.published import PUBLISHED, convert
    from imgsearch.core.errors import UsageError
    from imgsearch.core.models.checkpoint import read
    from imgsearch.core.models.onnx_embedder import has_torch
    from imgsearch.core.paths import path_fields, printable
    from imgsearch.core.writing import replacing

    if method not in PUBLISHED:
        raise UsageError(f"no published weights for {printable(method)}", hint=f"one of: {', '.join(PUBLISHED)}")
    if not has_torch():
        raise UsageError(
            "importing weights needs torch, which is not installed", hint="do it on a machine with torch, and copy FILE"
        )
    path, target = (os.path.abspath(os.path.expanduser(each)) for each in (file, out or f"{method}.safetensors"))
    if os.path.isdir(target) or not os.path.isdir(os.path.dirname(target)):
        raise UsageError(f"--out {printable(target)}: not a file in an existing folder", hint="give the name of a file")
    name = cast("PseudoWordName", method)
    found = convert(name, path, read(path, PUBLISHED[name].key), model=model, feature_norm=feature_norm)
    with replacing(target, mode=0o666) as opened:
        write(opened, found.metadata, found.tensors)
    said = found.metadata
    norm = round(float(found.tensors["feature_norm"][0]), 4)
    record = {
        **path_fields(target),
        "method": method,
        "model": said["arch"],
        "dim": int(said["dim"]),
        "feature_norm": norm,
        "licence": said["licence"],
        "read": {name: list(shape) for name, shape in found.read.items()},
        "ignored": list(found.ignored),
    }
    lines = ["read " + ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in found.read.items())]
    if found.ignored:
        lines.append(f"not read: {', '.join(found.ignored)}")
    lines += [
        f"licence of the weights: {said['licence']}",
        f"for an index of {said['arch']}, whose picture vectors are taken to have length {norm:g}",
        f"wrote {target}; use it with: --compose {method}:{shlex.quote(target)}",
    ]
    render.report(record, *map(printable, lines), as_json=as_json)
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
        "weights": "none" if not method.is_learned else "shipped" if file else "file",
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
