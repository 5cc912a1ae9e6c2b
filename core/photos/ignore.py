"""Which files and folders a walk ignores: junk by its name, and gitignore patterns.

pathspec turns a line into a regular expression. Which line applies is found here, entry by entry on the way down, as
git does it: an ignored folder is never listed.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imgsearch.core.errors import UsageError

IGNORE_FILE = ".imgsearchignore"
MAX_IGNORE_BYTES = 1 << 20
"""Longer than any real list. A misnamed file must not fill the memory."""
MAX_PATTERN_LENGTH = 4096
"""Longer than any path."""

_JUNK_FOLDERS = (
    frozenset([".imgsearch", ".git", ".hg", ".svn", ".bzr", "node_modules", "__pycache__"])
    | {"$recycle.bin", "recycler", "#recycle", "@recycle", ".trash", ".trashes", ".dtrash", "lost+found"}
    | {"system volume information", ".spotlight-v100", ".fseventsd", ".temporaryitems", "__macosx", "@tmp"}
    | {".documentrevisions-v100", ".appledouble", ".appledb", "#snapshot", ".stversions"}
    | {"@eadir", ".@__thumb", ".thumbnails"}
)
"""In lower case: our index and version control; trash; folders of systems and network drives; thumbnails."""
_JUNK_FOLDER_STARTS = (".trash-",)
_JUNK_FOLDER_ENDINGS = (".lrdata", ".lrcat-data")
_PHOTO_LIBRARIES = (".photoslibrary", ".aplibrary", ".migratedphotolibrary")
_LIBRARY_ORIGINALS = ("originals", "masters")
"""The folders in a library of Photos or Aperture that hold the user's own files."""
_JUNK_FILES = frozenset([IGNORE_FILE, ".DS_Store", "Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini"])
_JUNK_FILE_ENDINGS = (".part", ".partial", ".crdownload", ".opdownload")


def is_junk_file(name: str, hidden: bool) -> bool:
    return name in _JUNK_FILES or name.endswith(_JUNK_FILE_ENDINGS) or (hidden and name.startswith("._"))


def is_junk_folder(name: str, above: str) -> bool:
    lower = name.lower()
    return (
        lower in _JUNK_FOLDERS
        or lower.startswith(_JUNK_FOLDER_STARTS)
        or lower.endswith(_JUNK_FOLDER_ENDINGS)
        or (above.lower().endswith(_PHOTO_LIBRARIES) and lower not in _LIBRARY_ORIGINALS)
    )


@dataclass(frozen=True, slots=True)
class Pattern:
    regex: re.Pattern[str] | None
    """Matches the whole path without a trailing slash. None: matches every path."""
    folders_only: bool
    ignores: bool


@dataclass(frozen=True, slots=True)
class Layer:
    """The patterns of one ignore file, last line first."""

    base: int
    """How many characters to drop from a relpath to make it relative to the ignore file's folder."""
    patterns: tuple[Pattern, ...]


Rules = tuple[Layer, ...]
"""The layer that decides first."""


def is_ignored(relpath: str, is_folder: bool, rules: Rules) -> bool:
    # A dot in a regular expression does not match a newline, which a name may contain. No name contains NUL.
    text = relpath.replace("\n", "\0")
    for layer in rules:
        part = text[layer.base :]
        for pattern in layer.patterns:
            if pattern.folders_only and not is_folder:
                continue
            if pattern.regex is None or pattern.regex.fullmatch(part):
                return pattern.ignores
    return False


def apply_to_files(rules: Rules) -> bool:
    return any(not pattern.folders_only for layer in rules for pattern in layer.patterns)


def exclude_rules(texts: Sequence[str]) -> Rules:
    if not texts:
        return ()
    # There are no comments on a command line, and `#recycle` is a folder.
    layer, bad = layer_of(["\\" + text if text.startswith("#") else text for text in texts], 0)
    bad += [number for number, text in enumerate(texts, 1) if not text.strip()]
    if bad:
        raise UsageError(
            f"not a pattern: {texts[bad[0] - 1]!r}",
            hint="--exclude takes a gitignore pattern, such as 'drafts/' or '*.png'",
        )
    return (layer,)


def read_ignore_file(path: str) -> list[str]:
    """The lines of an ignore file, none if it does not exist. Raises OSError if it cannot be read."""
    try:
        # Without O_NONBLOCK a FIFO of that name would block the walk forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        content = file.read(MAX_IGNORE_BYTES + 1)
    if len(content) > MAX_IGNORE_BYTES:
        raise OSError(0, f"longer than {MAX_IGNORE_BYTES} bytes, not used")
    content = content.removeprefix(b"\xef\xbb\xbf")
    return [os.fsdecode(line.removesuffix(b"\r")) for line in content.split(b"\n")]


def layer_of(lines: Iterable[str], base: int) -> tuple[Layer, list[int]]:
    """The patterns, and the numbers (from 1) of the lines that are not valid patterns."""
    patterns: list[Pattern] = []
    bad: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            patterns.append(_pattern(line))
        except (ValueError, re.error):
            bad.append(number)
    return Layer(base, tuple(reversed(patterns))), bad


def _pattern(line: str) -> Pattern:
    """The pattern of one line of a gitignore file. Raises ValueError or re.error for an invalid one."""
    ignores = not line.startswith("!")
    body = line if ignores else line[1:]
    while body.endswith(" ") and not body.endswith("\\ "):
        body = body[:-1]
    folders_only = body.endswith("/")
    if folders_only:
        body = body[:-1]
    if not body or len(body) > MAX_PATTERN_LENGTH:
        raise ValueError(line)
    if body.endswith("/**") and not {"", "**"}.issuperset(body.split("/")):
        body += "/*"  # the contents of the folder, not the folder itself, so that `!` can include some of it
    if body.startswith(("!", "#")):
        body = "\\" + body
    if body.endswith(" ") and not body.endswith("\\ "):
        body = body[:-1] + "\\ "  # it was before a slash and is part of the name

    # Importing pathspec takes 25 ms, and most walks have no patterns.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # for `[[a]`, which a later Python may read differently
        compiled = GitIgnoreSpecPattern(body.replace("\n", "\0"))
    if compiled.include is None or compiled.regex is None:  # for example a reversed range
        raise ValueError(line)
    regex: re.Pattern[str] = compiled.regex
    return Pattern(None if regex.pattern == "." else regex, folders_only, ignores)
