"""`imgsearch init`: create an index beside the photos, which moves with them."""

from __future__ import annotations

import os

from imgsearch.cli.output import render


def init(*, folder: str, quiet: bool) -> int:
    """Create a portable index: DIR/.imgsearch/, used by every command that runs in DIR or below.

    Photos inside DIR are stored with paths relative to it, so folder and index can be moved or mounted elsewhere
    together.

    Example:

      imgsearch init ~/Photos && cd ~/Photos && imgsearch index
    """
    from imgsearch.core.errors import UsageError
    from imgsearch.core.paths import printable
    from imgsearch.core.places import CATALOG, PORTABLE
    from imgsearch.core.store.store import Store

    if not folder:
        raise UsageError("empty folder name", hint="is a shell variable unset?")
    top = os.path.abspath(os.path.expanduser(folder))
    if not os.path.isdir(top):
        raise UsageError(f"{printable(folder)}: not a folder", hint="create it first, or choose another")
    target = os.path.join(top, PORTABLE)
    if os.path.lexists(target) and not os.path.isdir(target):
        raise UsageError(f"{printable(target)}: exists and is not a folder", hint="move it, or choose another folder")
    if os.path.exists(os.path.join(target, CATALOG)):
        render.say(f"{printable(target)} exists already")
        return 0
    with Store.writing(target, create=True):
        pass
    render.say(f"created {printable(target)}; fill it with: cd {printable(top)} && imgsearch index")
    return 0
