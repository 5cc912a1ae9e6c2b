"""`imgsearch models`: list the models that have an alias, and move models between machines."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.models.registry import Alias
    from imgsearch.core.models.towers import Towers


def show(*, as_json: bool) -> int:
    """List the models that have an alias. Its help is in the table of commands."""
    from imgsearch.core.models.registry import ALIASES

    records = [_record(alias) for alias in ALIASES.values()]
    render.listing(records, _lines(records), as_json=as_json)
    return 0


def export(*, model: str, file: str, offline: bool, as_json: bool, quiet: bool) -> int:
    """Write a model to a file, for machines without torch.

    The file contains the converted model, and `imgsearch models import` checks and installs it. A model that was not
    used on this machine before is downloaded and converted first, which needs torch. Models whose tokenizer needs torch
    cannot be exported. Neither can `builtin`, which is part of every installation.

    Examples:

      imgsearch models export lite lite.tar

      imgsearch models export lite - | ssh laptop imgsearch models import -
    """
    from imgsearch.cli.output.progress import Line
    from imgsearch.core.errors import UsageError
    from imgsearch.core.models.model_file import write_model
    from imgsearch.core.paths import path_fields, printable, size
    from imgsearch.core.writing import fsync_path, replacing

    if as_json and file == "-":
        raise UsageError("--json cannot be combined with -, which is the model", hint="leave out --json")
    path = os.path.abspath(os.path.expanduser(file))
    if file != "-" and os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{printable(path)}: not a regular file", hint="to write to a pipe, use -")
    towers = _towers(model, offline=offline)
    with contextlib.ExitStack() as opened:
        out: Any = opened.enter_context(replacing(path)) if file != "-" else sys.stdout.buffer
        line = opened.enter_context(Line())
        written = write_model(towers, out, lambda done, total: line.count("exporting", done, total))
    if file != "-":
        fsync_path(os.path.dirname(path))
    render.flush()
    record = {**path_fields(path), "model": model, "fingerprint": towers.manifest.fingerprint, "bytes": written}
    to = "" if file == "-" else f" to {printable(path)}"
    render.report(record, f"exported {printable(model)}{to} ({size(written)})", as_json=as_json)
    return 0


def _towers(model: str, *, offline: bool) -> Towers:
    """The complete towers of a model, made if necessary. Raises ModelError and UsageError."""
    from imgsearch.cli import loading
    from imgsearch.core.errors import ModelError, UsageError
    from imgsearch.core.models.onnx_embedder import has_torch
    from imgsearch.core.models.registry import BUILTIN
    from imgsearch.core.models.towers import Towers
    from imgsearch.core.paths import printable

    if model == "auto":
        raise UsageError("auto is not a model", hint="name one: imgsearch models lists them")
    spec = loading.named(model)
    if spec.arch == BUILTIN:
        raise UsageError(f"{BUILTIN} is part of every installation", hint="list the others with: imgsearch models")
    towers = Towers.of_model(spec)
    if towers is None or (towers.is_worth_retrying() and has_torch()):
        whole = loading.load_to_convert(spec, offline=offline)
        loading.export_towers(whole)
        towers = Towers.of_model(spec)
        same = Towers.find(whole.identity.fingerprint)
        if towers is None and same and same.spec:
            name = printable(same.spec.name)
            raise ModelError(f"{printable(model)} is the same model as {name}", hint=f"export {name}")
    if towers is None:
        raise ModelError(f"{printable(model)} was not converted to ONNX", hint="see the message above")
    for reason in towers.manifest.lacking.values():
        raise ModelError(f"{printable(model)} cannot be used without torch: {reason}", hint="choose another model")
    return towers


def import_file(*, file: str, as_json: bool, quiet: bool) -> int:
    """Install a model from a file that `imgsearch models export` wrote.

    Every file inside is checked against its SHA-256, and the model is tried once. It is installed completely or not at
    all, in your cache folder. The checksums do not prove who made the file, so take it from people you trust.

    Example:

      imgsearch models import lite.tar && imgsearch index ~/Photos --model lite
    """
    import shlex

    from imgsearch.cli.output.progress import Line
    from imgsearch.core.models.model_file import opened, read_model
    from imgsearch.core.paths import printable, size

    path = os.path.abspath(os.path.expanduser(file))
    with contextlib.ExitStack() as stack:
        source: Any = stack.enter_context(opened(path)) if file != "-" else _standard_input()
        line = stack.enter_context(Line())
        where = "standard input" if file == "-" else printable(path)
        found = read_model(source, where, lambda done, total: line.count("importing", done, total))
    name = printable(found.name)
    did = f"imported {name} ({size(found.bytes)})" if found.is_new else f"{name} was imported before"
    use = f"use it with: imgsearch index ~/Photos --model {printable(shlex.quote(found.name))}"
    record = {"model": name, "fingerprint": found.fingerprint, "bytes": found.bytes, "is_new": found.is_new}
    render.report(record, f"{did}; {use}", as_json=as_json)
    return 0


def _standard_input() -> Any:
    return sys.stdin.buffer if sys.stdin is not None else open(os.devnull, "rb")


def _record(alias: Alias) -> dict[str, Any]:
    from imgsearch.core.models.hub import cached
    from imgsearch.core.models.onnx_embedder import can_do_without_torch, has_torch
    from imgsearch.core.models.registry import RECOMMENDED

    is_downloaded = cached(alias.spec)
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
        "cached": is_downloaded,
        "usable": can_do_without_torch(alias.spec) or (is_downloaded and has_torch()),
        "recommended": alias.name == RECOMMENDED,
        "needs_extra": alias.needs_extra,
        "composer": alias.composer,
        "note": alias.note,
    }


def _lines(records: list[dict[str, Any]]) -> list[str]:
    header = ("name", "dim", "download", "here", "COCO", "Flickr", "languages", "licence", "")
    rows = [header] + [
        (
            record["name"],
            str(record["dim"]),
            f"{record['download_mb']:,} MB" if record["download_mb"] else "-",
            "yes" if record["usable"] else "no",
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
