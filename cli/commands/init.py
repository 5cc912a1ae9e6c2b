"""`imgsearch init`: an index that lies beside the photos and moves with them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from imgsearch.cli import options
from imgsearch.cli.output import render


def init(
    folder: Annotated[str, typer.Argument(metavar="[DIR]", help="The folder that holds the photos.")] = ".",
    quiet: options.Quiet = False,
) -> int:
    """Make a portable index: DIR/.imgsearch/, used by every command run in DIR or below.

    Photos inside DIR are kept relative to it, so folder and index can be moved or mounted elsewhere together.

    Example:

      imgsearch init ~/Photos && cd ~/Photos && imgsearch index
    """
    from imgsearch.core.errors import UsageError
    from imgsearch.core.paths import printable
    from imgsearch.core.places import CATALOG, PORTABLE
    from imgsearch.core.store.store import Store

    if not folder:
        raise UsageError("an empty name for a folder", hint="is a variable of your shell unset?")
    top = os.path.abspath(os.path.expanduser(folder))
    if not os.path.isdir(top):
        raise UsageError(f"{printable(folder)}: not a folder", hint="make it first, or name another")
    target = os.path.join(top, PORTABLE)
    if os.path.lexists(target) and not os.path.isdir(target):
        raise UsageError(f"{printable(target)}: is in the way, and no folder", hint="move it, or choose another folder")
    if os.path.exists(os.path.join(target, CATALOG)):
        render.say(f"{printable(target)} is there already")
        return 0
    with Store.writing(target, create=True):
        pass
    render.say(f"made {printable(target)}; fill it with: cd {printable(top)} && imgsearch index")
    return 0
