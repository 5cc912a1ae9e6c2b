"""`imgsearch roots`: list the folders of an index, and move them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.store.roots import Moved


def show(*, as_json: bool, index: str | None) -> int:
    """List the roots, with their kind, whether they are online, and the number of their photos.

    A root of kind `folder` is indexed as a whole; in one of kind `files`, only single pictures are.

    Example:

      imgsearch roots list --json | jq -r 'select(.state == "offline") | .path'
    """
    from imgsearch.cli.loading import open_store
    from imgsearch.core.paths import printable

    with open_store(index) as store:
        listed = store.status().roots
    for root, photos in listed:
        if as_json:
            render.emit_json(render.root_record(root, photos))
        elif render.is_terminal():
            state = f"offline: {root.note}" if root.state == "offline" else "online"
            render.emit(f"{printable(root.path)}  {render.count(photos, 'photo')}, {root.kind}, {state}")
        else:
            fields = [os.fsencode(root.path), root.kind.encode(), root.state.encode(), str(photos).encode()]
            render.emit(b"\t".join(fields))
    render.flush()
    return 0


def move(*, old: str, new: str, wait: bool, as_json: bool, quiet: bool, index: str | None) -> int:
    """Tell the index that the photos of OLD are now in NEW.

    Use it when a folder was renamed, or a disk is mounted elsewhere. Nothing is embedded again, and no file is touched.
    Up to 1,000 of the photos are looked up in NEW first; if none is there, nothing is changed. All roots inside OLD are
    moved. If NEW is inside another root, OLD becomes part of that root.

    Example:

      imgsearch roots move ~/Photos /media/disk/Photos
    """
    from imgsearch.cli.loading import open_to_write
    from imgsearch.core.errors import UsageError
    from imgsearch.core.store import roots as core

    if not (old and new):
        raise UsageError("empty folder name", hint="is a shell variable unset?")
    was, now = (os.path.abspath(os.path.expanduser(path)) for path in (old, new))
    with open_to_write(index, wait=wait) as store:
        moved = core.move(store, was, now)
        counts = {root.id: photos for root, photos in store.status().roots}
    render.report(_record(was, now, moved, counts), *_lines(moved), as_json=as_json)
    return 0


def _record(old: str, new: str, moved: Moved, counts: dict[int, int]) -> dict[str, Any]:
    from imgsearch.core.paths import path_fields

    return {
        **path_fields(old, "old"),
        **path_fields(new, "new"),
        "roots": [render.root_record(root, counts[root.id]) for root in moved.roots],
        "photos": moved.photos,
        "looked_up": moved.looked_up,
        "missing": moved.missing,
    }


def _lines(moved: Moved) -> list[str]:
    from imgsearch.core.paths import printable

    places = ", ".join(printable(root.path) for root in moved.roots)
    lines = [f"moved {render.count(moved.photos, 'photo')}; they belong to {places}"]
    if moved.missing:
        lines.append(
            f"{moved.missing:,} of {render.count(moved.looked_up, 'photo')} looked up are missing or changed; the "
            "next `imgsearch index` looks for them, and marks missing ones as gone"
        )
    return lines
