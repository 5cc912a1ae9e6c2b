"""`--html`: writes the hits as a contact sheet, and opens it with `--open`."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import render

if TYPE_CHECKING:
    from imgsearch.core.search.grouping import Hit
    from imgsearch.core.search.options import SearchOptions

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Sheet:
    """Where to write the page, and whether to open it."""

    path: str
    opens: bool = False

    @property
    def is_stdout(self) -> bool:
        return self.path == STDOUT

    def write(self, query: str, hits: Sequence[Hit], options: SearchOptions) -> None:
        """Raises UsageError if the file exists and is not a contact sheet, ImgsearchError if it cannot be written."""
        import datetime

        from imgsearch.core.paths import printable, processor_cores
        from imgsearch.core.photos.thumbnails import Thumbnails
        from imgsearch.core.serving import contact_sheet

        facts = contact_sheet.facts_of(hits, options, made_at=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"))
        with Thumbnails(workers=min(processor_cores(), max(1, len(hits)))) as thumbnails:
            pieces = contact_sheet.page(query, facts, contact_sheet.cards(hits, thumbnails))
            if self.is_stdout:
                for piece in pieces:
                    render.emit(piece.encode("utf-8"), end=b"")
                render.flush()
                return
            try:
                size = contact_sheet.write(self.path, pieces)
            except OSError as error:
                raise _unwritable(self.path, error) from error
        render.say(f"{printable(self.path)}: {render.count(len(hits), 'photo')}, {render.size(size)}")
        if self.opens:
            _open(os.path.abspath(self.path))


def sheet_for(html: str | None, *, opens: bool, limit: int, has_many: bool, prints_otherwise: bool) -> Sheet | None:
    """The sheet of `--html` and `--open`. Raises UsageError if other options conflict, before any work."""
    from imgsearch.core.errors import UsageError
    from imgsearch.core.serving import contact_sheet

    if html is None:
        if opens:
            raise UsageError("--open needs --html", hint="--html sheet.html --open")
        return None
    if not html:
        raise UsageError("--html needs a file name", hint="--html sheet.html")
    if has_many:
        raise UsageError("--html takes one query, not `-`", hint="make one sheet per query")
    if limit > contact_sheet.MAX_PHOTOS:
        hint = f"ask for fewer with: -n {contact_sheet.MAX_PHOTOS}"
        raise UsageError(f"a contact sheet holds at most {contact_sheet.MAX_PHOTOS:,} photos", hint=hint)
    if html == STDOUT:
        if prints_otherwise or opens:
            raise UsageError(
                "--html - writes the page to stdout, where nothing else can go", hint="give a file: --html sheet.html"
            )
        return Sheet(html)
    html = os.path.expanduser(html)
    try:
        if os.path.isdir(html):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        contact_sheet.refuse_unless_page(html)
        os.stat(os.path.dirname(os.path.abspath(html)))
    except (OSError, ValueError) as error:
        raise _unwritable(html, error) from error
    return Sheet(html, opens)


def _unwritable(path: str, error: OSError | ValueError) -> Exception:
    from imgsearch.core.errors import ImgsearchError

    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return ImgsearchError(f"{path}: cannot be written: {reason}", hint="give another file with --html")


def _open(path: str) -> None:
    """Open the page in the user's browser without waiting, and discard the output of the browser."""
    import shutil
    import subprocess

    from imgsearch.core.paths import printable
    from imgsearch.core.serving.contact_sheet import file_url

    opener = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    if opener is None:
        render.say(f"no browser found; the page is at {printable(file_url(path))}")
        return
    try:
        subprocess.run(  # the shell exits at once and leaves it running
            ["/bin/sh", "-c", '"$@" &', "sh", opener, path],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        render.say(f"{opener} failed ({reason}); the page is at {printable(file_url(path))}")
