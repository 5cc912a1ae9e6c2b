"""`imgsearch failures`: list the files that could not be indexed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.types import Skipped

DAMAGED = "damaged: the end of the file is missing; the rest is indexed"


def failures(*, show_all: bool, as_json: bool, index: str | None) -> int:
    """List the files that could not be indexed, with the stage that failed and the reason.

    A file that cannot be decoded is tried again when it changes, or when this installation can read more formats. One
    that could not be opened or listed is tried again in every run.

    The stage `ocr` means that a photo is indexed, but its text could not be read.

    A truncated photo is indexed if at least a quarter of it can be decoded. --all lists these photos too.

    Example:

      imgsearch failures --json | jq -r 'select(.stage == "decode") | .path'
    """
    from imgsearch.cli.loading import open_store
    from imgsearch.core.paths import path_fields, printable
    from imgsearch.core.types import Skipped

    with open_store(index) as store:
        found = [(one, False) for one in sorted([*store.failures(), *store.failed_readings()], key=_path)]
        if show_all:
            found += [(Skipped(path, "decode", DAMAGED), True) for path in store.damaged()]
    for one, is_damaged in sorted(found, key=lambda pair: _path(pair[0])) if show_all else found:
        if as_json:
            record = {**path_fields(one.path), "stage": one.stage, "reason": one.reason}
            render.emit_json(record | ({"is_damaged": is_damaged} if show_all else {}))
        elif render.is_terminal():
            render.emit(f"{render.painted_path(printable(one.path))}: {printable(one.reason)} ({one.stage})")
        else:
            fields = [os.fsencode(one.path), one.stage.encode(), one.reason.encode("utf-8", "replace")]
            render.emit(b"\t".join(fields))
    render.flush()
    return 0


def _path(one: Skipped) -> str:
    return one.path
