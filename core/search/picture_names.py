"""File names of pictures in a query, looked up on disk."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Sequence

from imgsearch.core.errors import QueryError
from imgsearch.core.paths import has_picture_extension, on_disk, printable

MAX_SHOWN = 200
"""Characters of a query in a message."""


def existing_picture(words: str, directory: str | None) -> str | None:
    """The absolute path if these words name an existing file and have a picture's extension or a `/`."""
    if not (has_picture_extension(words) or "/" in words):
        return None
    path = _resolved(words, directory)
    if not _is_file(path):
        return None
    # `a/../b.jpg and like a/../c.jpg` does not name c.jpg, although abspath would make it do so.
    return path if ".." not in words or _is_file(on_disk(_joined(words, directory))) else None


def looks_like_picture(words: str, directory: str | None) -> bool:
    """Whether the words are meant as a path: a picture's extension, or one word with a `/` that starts with `/`, `.`,
    `~` or the name of an existing folder. `AC/DC` and `24/7` are words."""
    if has_picture_extension(words):
        return True
    if "/" not in words or re.search(r"\s", words):
        return False
    first = words.partition("/")[0]
    return first in ("", ".", "..") or first.startswith("~") or _is(_resolved(first, directory), stat.S_ISDIR)


def given_pictures(names: Sequence[str], option: str, directory: str | None) -> tuple[str, ...]:
    """The absolute paths of the values of an option. Raises QueryError for a file that does not exist."""
    paths = []
    for name in names:
        if not name:
            raise QueryError(f"{option}: empty file name", hint="is a shell variable unset?")
        path = _resolved(name, directory)
        if not _is_file(path):
            raise QueryError(why_not_picture(name, directory), hint=f"check the name given to {option}")
        paths.append(path)
    return tuple(paths)


def why_not_picture(words: str, directory: str | None) -> str:
    """A message: the file does not exist, is a folder, or cannot be read."""
    name = shown(words)
    try:
        mode = os.stat(_resolved(words, directory)).st_mode
    except PermissionError:
        return f"{name}: permission denied"
    except (OSError, ValueError):
        return f"{name}: no such picture"
    return f"{name}: is a folder, not a picture" if stat.S_ISDIR(mode) else f"{name}: not a file"


def shown(words: str) -> str:
    """For a message: printable, at most MAX_SHOWN characters."""
    return printable(words if len(words) <= MAX_SHOWN else words[:MAX_SHOWN] + "...")


def _resolved(words: str, directory: str | None) -> str:
    return on_disk(os.path.abspath(_joined(words, directory)))


def _joined(words: str, directory: str | None) -> str:
    with contextlib.suppress(ValueError):  # a user name with NUL or a lone surrogate in it
        words = os.path.expanduser(words)
    return os.path.join(directory or os.getcwd(), words)


def _is_file(path: str) -> bool:
    return _is(path, stat.S_ISREG)


def _is(path: str, kind: Callable[[int], bool]) -> bool:
    try:
        return bool(kind(os.stat(path).st_mode))
    except (OSError, ValueError):
        return False
