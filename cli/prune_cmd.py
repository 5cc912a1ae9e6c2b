"""`imgsearch prune`: forget what is gone."""

from __future__ import annotations

import os
from typing import Annotated, Optional

import typer

from . import options, render


def prune(
    offline: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this at run time
        typer.Option(
            "--offline", metavar="ROOT", help="Also forget what is missing in this offline root; may be repeated."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be forgotten, and do nothing.")] = False,
    as_json: options.Json = False,
    index: options.Index = None,
) -> int:
    """Forget photos that are gone, or are passed over now (--exclude, ignore files), and give their room back.

    Whether a photo is gone is looked up on the disk once more.

    No photo is ever touched. Folders that are offline (unmounted, empty, or missing much at once) are left alone.

    Example:

      imgsearch prune --dry-run
    """
    from imgsearch.core.prune import prune as forget
    from imgsearch.core.store import Store, locate

    roots = [os.path.abspath(os.path.expanduser(path)) for path in offline or []]
    with Store.writing(locate(index)) as store:
        pruned = forget(store, offline=roots, dry_run=dry_run)
    if as_json:
        render.emit_json(
            {
                "photos": pruned.photos,
                "failures": pruned.failures,
                "vectors": pruned.vectors,
                "bytes": pruned.bytes,
                "dry_run": dry_run,
            }
        )
        render.flush()
        return 0
    verb = "would forget" if dry_run else "forgot"
    line = f"{verb} {render.count(pruned.photos, 'photo')} and {render.count(pruned.failures, 'failure')}"
    render.say(line if dry_run else f"{line}; {render.size(pruned.bytes)} freed")
    return 0
