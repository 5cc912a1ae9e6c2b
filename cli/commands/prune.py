"""`imgsearch prune`: remove photos that are gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.store.prune import Pruned


def prune(
    *,
    offline: tuple[str, ...],
    space: tuple[str, ...],
    imported: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    index: str | None,
) -> int:
    """Remove deleted and excluded photos from the index, and free their space.

    Photos count as deleted only if they are still missing when the disk is checked again. If search has moved to
    another model, the vectors of the previous one are removed.

    Photo files are never touched. Folders that are offline (unmounted, empty, or missing many files at once) are left
    alone, and so are the vectors of a model that is not complete yet, and imported vectors whose photos are not indexed
    yet.

    Example:

      imgsearch prune --dry-run
    """
    from imgsearch.cli.loading import open_to_write
    from imgsearch.core.paths import printable
    from imgsearch.core.store.prune import prune as remove

    def on_lost(path: str) -> None:
        if verbose:
            render.say(f"{'would remove' if dry_run else 'removing'}: {printable(path)}")

    roots = [os.path.abspath(os.path.expanduser(path)) for path in offline]
    with open_to_write(index, wait=wait) as store:
        pruned = remove(store, offline=roots, spaces=space, imported=imported, dry_run=dry_run, on_lost=on_lost)
    record = {
        "photos": pruned.photos,
        "failures": pruned.failures,
        "vectors": pruned.vectors,
        "bytes": pruned.bytes,
        "dry_run": dry_run,
        "spaces": list(pruned.spaces),
        "awaited": pruned.awaited,
    }
    render.report(record, _sentence(pruned, dry_run=dry_run), as_json=as_json)
    return 0


def _sentence(pruned: Pruned, *, dry_run: bool) -> str:
    from imgsearch.core.paths import printable

    verb = "would remove" if dry_run else "removed"
    line = f"{verb} {render.count(pruned.photos, 'photo')} and {render.count(pruned.failures, 'failure')}"
    if pruned.spaces:
        models = ", ".join(map(printable, pruned.spaces))
        line += f"; {verb} the vectors of {models}"
    if not dry_run:
        line += f"; {render.size(pruned.bytes)} freed"
    if pruned.awaited:
        line += f"; imported vectors whose photos are not indexed yet: {pruned.awaited:,} (remove them with --imported)"
    return line
