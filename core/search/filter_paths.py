"""--under, --root, --name and --glob: folders, roots, and patterns of names and paths as SQL."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.paths import on_disk, printable
from imgsearch.core.store.records import Root, below
from imgsearch.core.store.store import Store

from .filter_sql import MAX_NAME_BYTES, Parameters, any_of, name_pattern, refused, shown


def in_folders(folders: Sequence[str], store: Store, value: Parameters) -> str:
    """In one of these folders or below."""
    tests: list[str] = []
    for folder in folders:
        found = list(_in_folder(folder, store, value))
        if not found:
            raise QueryError(
                f"{printable(folder)}: nothing indexed under this folder",
                hint="`imgsearch status` lists what is indexed",
            )
        tests += found
    return any_of(tests)


def _in_folder(folder: str, store: Store, value: Parameters) -> Iterator[str]:
    """The part of each root that the folder is in, and each root in the folder."""
    path = _path(folder)
    for root, relpath in store.roots_over(path):
        top = os.fsencode(relpath)
        if store.catalog.photos.any_below(root.id, top):
            low, high = below(top)
            yield (
                f"(p.root_id = {value(root.id)} and (p.folder = {value(top)} "
                f"or (p.folder >= {value(low)} and p.folder < {value(high)})))"
            )
    for spelling in dict.fromkeys((path, os.path.realpath(path))):
        for root in store.catalog.roots.all():
            if any(top.startswith(spelling.rstrip("/") + "/") for top in _spellings(root)):
                yield f"p.root_id = {value(root.id)}"


def in_roots(typed: Sequence[str], store: Store, value: Parameters) -> str:
    known = store.catalog.roots.all()
    chosen = {root.id for each in typed for root in _roots(each, known)}
    return f"p.root_id in ({', '.join(value(root_id) for root_id in sorted(chosen))})"


def _roots(typed: str, known: Sequence[Root]) -> list[Root]:
    """The roots with that path, else the root with that name."""
    path = _path(typed)
    spellings = {path, os.path.realpath(path)}
    if found := [root for root in known if spellings & set(_spellings(root))]:
        return found
    found = [root for root in known if os.path.basename(root.path) == typed.rstrip("/")]
    if not found:
        raise QueryError(
            f"{printable(typed)}: not a root of this index", hint="`imgsearch status` lists what is indexed"
        )
    if len(found) > 1:
        raise UsageError(
            f"--root {shown(typed)}: {len(found)} roots have this name",
            hint="give the path: " + " or ".join(printable(root.path) for root in found[:3]),
        )
    return found


def _path(typed: str) -> str:
    if not typed:
        raise UsageError("empty folder name", hint="is a shell variable unset?")
    if not _can_be_path(typed):
        raise UsageError(
            f"{printable(typed)}: not a valid folder name", hint="`imgsearch status` lists what is indexed"
        )
    return on_disk(os.path.abspath(os.path.expanduser(typed)))


def _can_be_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _spellings(root: Root) -> tuple[str, ...]:
    """The root's path, and its real path."""
    return tuple(dict.fromkeys((root.path, os.path.realpath(root.path))))


def matches_name(typed: Sequence[str], value: Parameters) -> str:
    for each in typed:
        if not each.strip() or "/" in each:
            takes = "a shell pattern of a file name (for a path use --glob)"
            raise refused("--name", each, takes, "IMG_3551 or '*beach*'")
    return f"is_named(p.name, {value(json.dumps([_folded(each) for each in typed]))})"


def is_named(name: object, patterns: str) -> bool:
    """Whether any pattern matches the file name, or the name without its extension."""
    if not isinstance(name, bytes) or len(name) > MAX_NAME_BYTES:
        return False
    whole = _folded(os.fsdecode(name))
    spellings = {whole, os.path.splitext(whole)[0]}
    return any(like.match(each) for like in _of_names(patterns) for each in spellings)


@lru_cache(maxsize=64)
def _of_names(listed: str) -> tuple[re.Pattern[str], ...]:
    return tuple(name_pattern(pattern) for pattern in json.loads(listed))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def matches_glob(typed: Sequence[str], store: Store, value: Parameters) -> Iterator[str]:
    patterns = [_glob(each) for each in typed]
    if inside := [pattern for pattern in patterns if pattern[0] != "/"]:
        yield f"is_at(null, p.folder, p.name, {value(json.dumps(inside))})"
    if whole := [pattern for pattern in patterns if pattern[0] == "/"]:
        listed = value(json.dumps(whole))
        for root in store.catalog.roots.all():
            for top in _spellings(root):
                is_below = f"is_at({value(os.fsencode(top))}, p.folder, p.name, {listed})"
                yield f"(p.root_id = {value(root.id)} and {is_below})"


def _glob(typed: str) -> str:
    """The pattern for a path: a name may be in any folder, and a final slash or ** means everything below."""
    pattern = os.path.expanduser(typed) if typed.startswith("~/") else typed
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or pattern.startswith("!") or re.search(r"\{[^{}]*,[^{}]*\}", pattern):
        takes = "a shell pattern for a name, or with a slash for a path, without .., ! and {,}; may be repeated"
        raise refused("--glob", typed, takes, "'IMG_*.jpg', '2024/**/*.png' or '/photos/**'")
    if pattern.endswith("/"):
        parts.append("**")
    if parts[-1] == "**":
        parts.append("*")
    if "/" not in pattern:
        parts.insert(0, "**")
    return "/" * pattern.startswith("/") + "/".join(parts)


def is_at(top: bytes | None, folder: object, name: object, patterns: str) -> bool:
    """Whether any pattern matches the path in its root, or with `top` the whole path."""
    if not isinstance(folder, bytes) or not isinstance(name, bytes) or len(folder) + len(name) > MAX_NAME_BYTES:
        return False
    likes = _name_patterns(top, folder, patterns)
    if not likes:
        return False
    shown = _nfc(name)
    return any(like.match(shown) for like in likes)


@lru_cache(maxsize=1_024)
def _name_patterns(top: bytes | None, folder: bytes, patterns: str) -> tuple[re.Pattern[str], ...]:
    """The name patterns for a folder: the last part of each pattern whose other parts match the folder.

    Cached, because consecutive photos are in the same folder.
    """
    path = [_nfc(part) for part in (top or b"").split(b"/") + folder.split(b"/") if part]
    return tuple(like for *folders, like in _paths(patterns) if like is not None and _matches_folder(folders, path))


def _nfc(name: bytes) -> str:
    text = os.fsdecode(name)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


_MATCHES_NOTHING = re.compile(r"(?!)")
_Pattern = tuple[re.Pattern[str] | None, ...]
"""One for each part of a path; None for any number of folders."""


@lru_cache(maxsize=64)
def _paths(listed: str) -> tuple[_Pattern, ...]:
    return tuple(
        tuple(
            None if part == "**" else name_pattern(unicodedata.normalize("NFC", part))
            for part in pattern.split("/")
            if part
        )
        for pattern in json.loads(listed)
    )


def _matches_folder(pattern: Sequence[re.Pattern[str] | None], path: Sequence[str]) -> bool:
    """Only the last None has to be retried: it can match everything that an earlier one can."""
    at = part = 0
    retry: tuple[int, int] | None = None
    while at < len(path):
        like = pattern[part] if part < len(pattern) else _MATCHES_NOTHING
        if like is None:
            part += 1
            retry = at, part
        elif like.match(path[at]):
            at, part = at + 1, part + 1
        elif retry:
            retry = retry[0] + 1, retry[1]
            at, part = retry
        else:
            return False
    return all(like is None for like in pattern[part:])
