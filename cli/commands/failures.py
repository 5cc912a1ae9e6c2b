"""`imgsearch failures`: list the files that could not be indexed."""

from __future__ import annotations

import os

from imgsearch.cli.output import render


def failures(*, as_json: bool, index: str | None) -> int:
    """List the files that could not be indexed, with the stage that failed and the reason.

    A file that cannot be decoded is tried again when it changes, or when this installation can read more formats. One
    that could not be opened or listed is tried again in every run.

    Example:

      imgsearch failures --json | jq -r 'select(.stage == "decode") | .path'
    """
    from imgsearch.cli.loading import open_store
    from imgsearch.core.paths import path_fields, printable

    with open_store(index) as store:
        failed = store.failures()
    for one in failed:
        if as_json:
            render.emit_json({**path_fields(one.path), "stage": one.stage, "reason": one.reason})
        elif render.is_terminal():
            render.emit(f"{render.painted_path(printable(one.path))}: {printable(one.reason)} ({one.stage})")
        else:
            fields = [os.fsencode(one.path), one.stage.encode(), one.reason.encode("utf-8", "replace")]
            render.emit(b"\t".join(fields))
    render.flush()
    return 0
