"""`imgsearch prune`: forget what is gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from imgsearch.cli import options
from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.store.prune import Pruned


def prune(
    offline: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this at run time
        typer.Option(
            "--offline", metavar="ROOT", help="Also forget what is missing in this offline root; may be repeated."
        ),
    ] = None,
    space: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--space",
            metavar="MODEL",
            help="Also remove the vectors of this model, complete or not: its name or id in `imgsearch status`; may "
            "be repeated.",
        ),
    ] = None,
    imported: Annotated[
        bool, typer.Option("--imported", help="Also forget imported vectors of photos that were not met here.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be forgotten, and do nothing.")] = False,
    wait: options.Wait = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    index: options.Index = None,
) -> int:
    """Forget photos that are gone, or are passed over now (--exclude, ignore files), and give their room back.

    Whether a photo is gone is looked up on the disk once more. When search has moved to another model, the vectors
    of the one before are removed.

    No photo is ever touched. Folders that are offline (unmounted, empty, or missing much at once) are left alone,
    and so are the vectors of a model that are not complete yet, and imported ones that wait for their photos.

    Example:

      imgsearch prune --dry-run
    """
    from imgsearch.cli.loading import open_to_write
    from imgsearch.core.paths import printable
    from imgsearch.core.store.prune import prune as forget

    def on_lost(path: str) -> None:
        if verbose:
            render.say(f"{'would forget' if dry_run else 'forgetting'}: {printable(path)}")

    roots = [os.path.abspath(os.path.expanduser(path)) for path in offline or []]
    with open_to_write(index, wait=wait) as store:
        pruned = forget(store, offline=roots, spaces=space or [], imported=imported, dry_run=dry_run, on_lost=on_lost)
    if as_json:
        render.emit_json(
            {
                "photos": pruned.photos,
                "failures": pruned.failures,
                "vectors": pruned.vectors,
                "bytes": pruned.bytes,
                "dry_run": dry_run,
                "spaces": list(pruned.spaces),
                "awaited": pruned.awaited,
            }
        )
        render.flush()
        return 0
    render.say(_sentence(pruned, dry_run=dry_run))
    return 0


def _sentence(pruned: Pruned, *, dry_run: bool) -> str:
    from imgsearch.core.paths import printable

    verb = "would forget" if dry_run else "forgot"
    line = f"{verb} {render.count(pruned.photos, 'photo')} and {render.count(pruned.failures, 'failure')}"
    if pruned.spaces:
        models = ", ".join(map(printable, pruned.spaces))
        line += f"; {'would remove' if dry_run else 'removed'} the vectors of {models}"
    if not dry_run:
        line += f"; {render.size(pruned.bytes)} freed"
    if pruned.awaited:
        line += f"; imported vectors that wait for their photos: {pruned.awaited:,} (forget them with --imported)"
    return line
