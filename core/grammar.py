"""What a typed query means: words, a picture, or a picture plus a change.

sunset over the sea          words
beach.jpg                    the picture, if it exists; a bare word needs a picture's extension or a `/`
red dress like this.jpg      words and picture: the rightmost ` like ` whose whole remainder is a picture
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from .errors import QueryError
from .paths import has_picture_extension, on_disk, printable

_LIKE = re.compile(r"(?:^|(?<=\s))like\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Query:
    """A question, ready to be answered. At least one of `text` and `images` is given."""

    typed: str
    text: str | None = None
    images: tuple[str, ...] = ()
    """Absolute paths of pictures that exist."""


def parse(typed: str, *, directory: str | None = None) -> Query:
    """Read a query as typed; relative paths are relative to `directory` (default: the working directory).

    Raises QueryError for an empty query, and for a picture that is plainly meant but is not on disk.
    """
    words = typed.strip()
    if not words:
        raise QueryError("an empty query", hint='say what to look for: imgsearch query "sunset over the sea"')
    picture = _existing_picture(typed, directory) or _existing_picture(words, directory)
    if picture:
        return Query(typed, images=(picture,))
    missing = words if _looks_like_picture(words) else None
    for match in reversed(list(_LIKE.finditer(words))):
        remainder = words[match.end() :].strip()
        picture = _existing_picture(remainder, directory)
        if picture:
            change = words[: match.start()].strip()
            return Query(typed, text=change or None, images=(picture,))
        if missing in (None, words) and _looks_like_picture(remainder):
            missing = remainder
    if missing is not None:
        raise QueryError(_why_not(missing, directory), hint=f"to search for the words: --text {_quoted(typed)}")
    return Query(typed, text=words)


def explicit(text: str | None, images: tuple[str, ...], *, typed: str | None = None) -> Query:
    """A query from `--text` and `--image`, taken as they are. Raises QueryError for a picture that is not there."""
    paths = []
    for image in images:
        if not image:
            raise QueryError("an empty name for a picture")
        path = on_disk(os.path.abspath(os.path.expanduser(image)))
        if not _is_file(path):
            raise QueryError(_why_not(image, None), hint="check the name given to --image")
        paths.append(path)
    if text is not None and not text.strip():
        raise QueryError("empty words", hint="give --text something to look for")
    if typed is None:
        typed = " like ".join(part for part in (text, *images) if part)
    return Query(typed, text=text, images=tuple(paths))


def _existing_picture(words: str, directory: str | None) -> str | None:
    """The absolute path, if these words name a picture: they exist, and have its extension or a `/`."""
    if not (has_picture_extension(words) or "/" in words):
        return None
    path = _resolved(words, directory)
    return path if _is_file(path) else None


def _looks_like_picture(words: str) -> bool:
    """Whether a path was plainly meant: a picture's extension, or a `/` in what is otherwise one word."""
    return has_picture_extension(words) or ("/" in words and not re.search(r"\s", words))


def _resolved(words: str, directory: str | None) -> str:
    return on_disk(os.path.abspath(os.path.join(directory or os.getcwd(), os.path.expanduser(words))))


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _why_not(words: str, directory: str | None) -> str:
    try:
        mode = os.stat(_resolved(words, directory)).st_mode
    except PermissionError:
        return f"{printable(words)}: permission denied"
    except (OSError, ValueError):
        return f"{printable(words)}: no such picture"
    return (
        f"{printable(words)}: is a folder, not a picture" if stat.S_ISDIR(mode) else f"{printable(words)}: not a file"
    )


def _quoted(words: str) -> str:
    import shlex

    return shlex.quote(printable(words))
