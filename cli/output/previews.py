"""`--preview`: photos drawn on the terminal, in its own graphics where it has any, else in half blocks."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from . import render

if TYPE_CHECKING:
    from imgsearch.core.search.grouping import Hit

# Of a drawing at most, in cells: three photos and their names are seen at once on a terminal of 40 rows.
COLUMNS, ROWS = 36, 11
# The pixels of so many cells on a fine screen; as on contact sheets, so that both find them in the cache.
SIDE = 480


class Previews:
    """Draws hits. Make one only for a terminal."""

    def __init__(self) -> None:
        self._draw = _iterm2 if _is_iterm2() else _Blocks()
        self.protocol = self._draw.protocol if isinstance(self._draw, _Blocks) else "iTerm2's own"
        """How they are drawn, for `imgsearch doctor`."""

    def of(self, hits: Sequence[Hit]) -> Iterator[str]:
        """For each hit the lines that draw it, or one that says why it cannot be drawn."""
        from imgsearch.core.paths import printable, processor_cores
        from imgsearch.core.photos.thumbnails import Thumbnails

        if not hits:
            return
        with Thumbnails(workers=min(processor_cores(), len(hits))) as thumbnails:
            pictures = thumbnails.jpegs(((hit.path, hit.place.content_hash) for hit in hits), SIDE)
            with contextlib.closing(pictures):
                for picture in pictures:
                    if isinstance(picture, bytes):
                        yield self._draw(picture)
                    else:
                        yield f"  (no picture: {printable(picture.reason)})\n"


def previews_here() -> Previews | None:
    """None where nothing can be drawn. Raises UsageError without the library for it."""
    from imgsearch.core.errors import UsageError

    if not render.is_terminal():
        return None
    if os.environ.get("TERM", "dumb") == "dumb":
        render.warn("--preview: this terminal draws nothing (TERM is dumb or not set)")
        return None
    try:
        return Previews()
    except ImportError:
        raise UsageError("--preview needs textual-image", hint="pip install textual-image") from None


def _is_iterm2() -> bool:
    """tmux passes its protocol on to nobody."""
    names = (os.environ.get("TERM_PROGRAM"), os.environ.get("LC_TERMINAL"))
    return ("iTerm.app" in names or "iTerm2" in names) and "TMUX" not in os.environ


def _iterm2(jpeg: bytes) -> str:
    """The JPEG itself, in iTerm2's own protocol, which the library does not speak."""
    data = base64.b64encode(jpeg).decode("ascii")
    size = f"width={COLUMNS};height={ROWS};preserveAspectRatio=1"
    return f"\x1b]1337;File=inline=1;size={len(jpeg)};{size}:{data}\a\n"


class _Blocks:
    """Kitty's protocol, sixels or half blocks, as textual-image finds out by asking the terminal."""

    def __init__(self) -> None:
        self._asks = sys.stdin is not None and sys.stdin.isatty()  # else the answer would come where nobody reads it
        logging.getLogger("textual_image").setLevel(logging.ERROR)  # how a terminal answers is nobody's concern
        with self._unasked():
            from textual_image import renderable

        self._image: Any = renderable.Image if self._asks else renderable.HalfcellImage
        names = {"TGPImage": "kitty's", "SixelImage": "sixel"}
        self.protocol = names.get(self._image.__name__.rpartition(".")[2], "half blocks")
        # The number of a picture is said to kitty as a colour, which must not be rounded.
        self._colours: Any = "truecolor" if self._image is renderable.TGPImage else "auto"

    def __call__(self, jpeg: bytes) -> str:
        from rich.console import Console

        out = io.StringIO()
        console = Console(
            file=out,
            force_terminal=True,
            no_color=False,  # who asks for pictures asks for colours
            color_system=self._colours,
            width=min(COLUMNS, max(1, render.columns(sys.stdout) - 1)),
            height=ROWS,
        )
        render.flush()  # kitty's pictures go out at once, past this
        with self._unasked():
            console.print(self._image(io.BytesIO(jpeg), width="auto", height="auto"), end="")
        return out.getvalue()

    @contextlib.contextmanager
    def _unasked(self) -> Iterator[None]:
        """Without a keyboard the library asks the terminal all the same, and stumbles: it shall see none."""
        if self._asks:
            yield
            return
        terminal, sys.__stdout__ = sys.__stdout__, io.StringIO()  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            sys.__stdout__ = terminal  # type: ignore[misc]
