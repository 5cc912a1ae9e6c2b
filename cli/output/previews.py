"""`--preview`: draws photos on the terminal, with its graphics protocol if it has one, else with half blocks."""

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

# Maximum size of a photo in cells: a terminal of 40 rows shows three photos with their names.
COLUMNS, ROWS = 36, 11
# Pixels of that many cells on a high-resolution screen; the same as on contact sheets, so that they share the cache.
SIDE = 480


class Previews:
    """Draws hits. Make one only for a terminal."""

    def __init__(self) -> None:
        self._draw = _iterm2 if _is_iterm2() else _Blocks()
        self.protocol = self._draw.protocol if isinstance(self._draw, _Blocks) else "iTerm2's own"
        """Name of the graphics protocol."""

    def of(self, hits: Sequence[Hit]) -> Iterator[str]:
        """For each hit the text that draws it, or a line that says why it cannot be drawn."""
        from imgsearch.core.paths import printable, processor_cores
        from imgsearch.core.photos.thumbnails import Thumbnails

        if not hits:
            return
        with Thumbnails(workers=min(processor_cores(), len(hits))) as thumbnails:
            pictures = thumbnails.jpegs(((hit.path, hit.place.content_hash, hit.place.at) for hit in hits), SIDE)
            with contextlib.closing(pictures):
                for picture in pictures:
                    if isinstance(picture, bytes):
                        yield self._draw(picture)
                    else:
                        yield f"  (no picture: {printable(picture.reason)})\n"


def previews_here() -> Previews | None:
    """None if the terminal cannot draw. Raises UsageError if textual-image is missing."""
    from imgsearch.core.errors import UsageError

    if not render.is_terminal():
        return None
    if os.environ.get("TERM", "dumb") == "dumb":
        render.warn("--preview: this terminal cannot draw (TERM is dumb or not set)")
        return None
    try:
        return Previews()
    except ImportError:
        raise UsageError("--preview needs textual-image", hint="pip install textual-image") from None


def _is_iterm2() -> bool:
    """tmux does not pass its protocol on."""
    names = (os.environ.get("TERM_PROGRAM"), os.environ.get("LC_TERMINAL"))
    return ("iTerm.app" in names or "iTerm2" in names) and "TMUX" not in os.environ


def _iterm2(jpeg: bytes) -> str:
    """The JPEG in iTerm2's own protocol, which textual-image does not support."""
    data = base64.b64encode(jpeg).decode("ascii")
    size = f"width={COLUMNS};height={ROWS};preserveAspectRatio=1"
    return f"\x1b]1337;File=inline=1;size={len(jpeg)};{size}:{data}\a\n"


class _Blocks:
    """Kitty's protocol, sixels or half blocks; textual-image queries the terminal."""

    def __init__(self) -> None:
        self._asks = sys.stdin is not None and sys.stdin.isatty()  # else nothing reads the answer
        logging.getLogger("textual_image").setLevel(logging.ERROR)  # it warns about terminals that do not answer
        with self._without_terminal():
            from textual_image import renderable

        self._image: Any = renderable.Image if self._asks else renderable.HalfcellImage
        names = {"TGPImage": "kitty's", "SixelImage": "sixel"}
        self.protocol = names.get(self._image.__name__.rpartition(".")[2], "half blocks")
        # Kitty gets the number of a picture as a colour, which must not be rounded.
        self._colours: Any = "truecolor" if self._image is renderable.TGPImage else "auto"

    def __call__(self, jpeg: bytes) -> str:
        from rich.console import Console

        out = io.StringIO()
        console = Console(
            file=out,
            force_terminal=True,
            no_color=False,  # --preview implies colours
            color_system=self._colours,
            width=min(COLUMNS, max(1, render.columns(sys.stdout) - 1)),
            height=ROWS,
        )
        render.flush()  # kitty's pictures bypass this buffer
        with self._without_terminal():
            console.print(self._image(io.BytesIO(jpeg), width="auto", height="auto"), end="")
        return out.getvalue()

    @contextlib.contextmanager
    def _without_terminal(self) -> Iterator[None]:
        """Without a keyboard the library queries the terminal anyway and fails, so it must not see one."""
        if self._asks:
            yield
            return
        terminal, sys.__stdout__ = sys.__stdout__, io.StringIO()  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            sys.__stdout__ = terminal  # type: ignore[misc]
