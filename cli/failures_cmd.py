"""`imgsearch failures`: what could not be indexed, and why."""

from __future__ import annotations

import os

from . import options, render


def failures(as_json: options.Json = False, index: options.Index = None) -> int:
    """List the files that could not be indexed, each with the stage that failed and the reason.

    They are not tried again until they change, or until this installation can read more formats.

    Example:

      imgsearch failures --json | jq -r 'select(.stage == "decode") | .path'
    """
    from imgsearch.core.catalog import join
    from imgsearch.core.paths import path_fields, printable

    from .loading import open_store

    with open_store(index) as store:
        roots = {root.id: root.path for root in store.catalog.roots()}
        rows = store.catalog.rows(
            "select root_id, folder, name, stage, reason from failures where not is_silent "
            "order by root_id, folder, name"
        )
    for root_id, folder, name, stage, reason in rows:
        path = os.path.join(roots[root_id], join(folder, name))
        if as_json:
            render.emit_json({**path_fields(path), "stage": stage, "reason": reason})
        elif render.is_terminal():
            render.emit(f"{printable(path)}: {printable(reason)} ({stage})")
        else:
            render.emit(b"\t".join([os.fsencode(path), stage.encode(), reason.encode("utf-8", "replace")]))
    render.flush()
    return 0
