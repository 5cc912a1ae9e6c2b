"""Files on disk that may be photos.

`Walk` lists a folder and everything below it; `named_photo` looks at one file that was given by name. Both
only list and `stat`: whether a file is a picture is decided later, by its content. A folder is handed on as one
`Listing`, in columns: nearly all files are as they were the last time, and of those no object of their own is made.

**Order.** A folder's files in the order of their names' bytes, then its sub-folders in the same order.
Folders that are reached through a symbolic link come after all the others, so that a real place wins over a
link to it.

**Links.** A link to a file is a photo of its own (its content hash makes that cheap). A folder is visited
once, told by device and inode, whatever number of links or mounts lead to it.

**What is passed over.** Dot-names, unless `hidden`. Junk (trash, thumbnails, previews, version control,
unfinished downloads), even if `hidden`: most of it would show a photo twice. What an `.imgsearchignore` file
or `exclude` says. None of this is asked about the folder where the walk starts.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import warnings
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from imgsearch.core.errors import UsageError
from imgsearch.core.paths import (
    LEAST_INTEGER,
    MOST_INTEGER,
    PICTURE_EXTENSIONS,
    RAW_EXTENSIONS,
    extension,
    inode,
    is_raw,
    mtime_ns,
)
from imgsearch.core.types import Photo, Sidecar, Skipped

IGNORE_FILE = ".imgsearchignore"
MAX_IGNORE_BYTES = 1 << 20
"""No list that a person keeps is longer, and a wrongly named file must not fill the memory."""
MAX_PATTERN_LENGTH = 4096
"""No path is longer."""

_JUNK_FOLDERS = (
    frozenset([".imgsearch", ".git", ".hg", ".svn", ".bzr", "node_modules", "__pycache__"])
    | {"$recycle.bin", "recycler", "#recycle", "@recycle", ".trash", ".trashes", ".dtrash", "lost+found"}
    | {"system volume information", ".spotlight-v100", ".fseventsd", ".temporaryitems", "__macosx", "@tmp"}
    | {".documentrevisions-v100", ".appledouble", ".appledb", "#snapshot", ".stversions"}
    | {"@eadir", ".@__thumb", ".thumbnails"}
)
"""In lower case: ours and version control; trash; what systems and network drives keep; thumbnails."""
_JUNK_FOLDER_STARTS = (".trash-",)
_JUNK_FOLDER_ENDINGS = (".lrdata", ".lrcat-data")
_PHOTO_LIBRARIES = (".photoslibrary", ".aplibrary", ".migratedphotolibrary")
_LIBRARY_ORIGINALS = ("originals", "masters")
"""Of the folders in a library package of Photos or Aperture those that hold the user's own files."""
_JUNK_FILES = frozenset([IGNORE_FILE, ".DS_Store", "Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini"])
_JUNK_FILE_ENDINGS = (".part", ".partial", ".crdownload", ".opdownload")

_SIDECAR_ENDINGS = frozenset([".xmp", ".txt"])
_COMPANY_ENDINGS = _SIDECAR_ENDINGS | {name[-4:] for name in RAW_EXTENSIONS}
"""The last four characters of the names that give a folder sidecars or pairs; most folders have none."""
_PAIR_ENDINGS = (".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".hif")
"""What a camera writes beside its RAW file, the most usual first."""
_PLAIN_ENDINGS = frozenset([".jpg", ".JPG", "jpeg", "JPEG", "heic", "HEIC", ".png", ".PNG", "webp", ".mp4", ".MOV"])
"""The last four characters of most names: such a file is no junk, and brings no company."""

_Beside = tuple[tuple[Sidecar, ...], str | None]
_Entries = dict[str, os.DirEntry[str]]


@dataclass(frozen=True, slots=True)
class Listing:
    """The photos of one folder as they were found, in the order of their names' bytes, column by column."""

    root: str
    relpath: str
    names: list[str]
    sizes: list[int]
    mtimes_ns: list[int]
    inodes: list[int]
    beside: Mapping[str, _Beside]
    """By name, only of photos that have any: the sidecars, and of a RAW file the relpath of its pair."""

    def photo(self, at: int) -> Photo:
        name, prefix = self.names[at], self.relpath + "/" if self.relpath else ""
        return Photo(self.root, prefix + name, *self.stat(at), *self.beside.get(name, ((), None)))

    def stat(self, at: int) -> tuple[int, int, int]:
        """Size, time and inode."""
        return self.sizes[at], self.mtimes_ns[at], self.inodes[at]

    def without(self, names: Collection[str]) -> Listing:
        left = [at for at, name in enumerate(self.names) if name not in names]
        return replace(
            self,
            names=[self.names[at] for at in left],
            sizes=[self.sizes[at] for at in left],
            mtimes_ns=[self.mtimes_ns[at] for at in left],
            inodes=[self.inodes[at] for at in left],
        )

    def __len__(self) -> int:
        return len(self.names)

    def photos(self) -> Iterator[Photo]:
        return map(self.photo, range(len(self.names)))


class Walk:
    """The files of `root` (an absolute path) as `Photo`, what could not be looked at as `Skipped`.

    `start` is the relative path of a sub-folder to look at alone. `exclude` holds gitignore patterns relative
    to the root; they have the last word over `.imgsearchignore` files, also with `!`. A pattern that means
    nothing raises UsageError. With `follow_links=False` links are passed over. `elsewhere` are (device, inode) of
    folders that are somebody else's and not entered, `others` the real paths of folders that a link is not followed
    into. An object is iterated once, or its `listings` are.
    """

    folders: int
    """How many folders were listed so far."""
    unread: set[str]
    """Relative paths of folders that could not be listed, of files that could not be looked at and of links
    that lead nowhere; "" is the root itself. Nothing is known of what lies there: see `is_unread`."""

    def __init__(
        self,
        root: str,
        start: str = "",
        *,
        exclude: Sequence[str] = (),
        hidden: bool = False,
        follow_links: bool = True,
        elsewhere: Iterable[tuple[int, int]] = (),
        others: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.start = start
        self.folders = 0
        self.unread = set()
        self._base = root if root.endswith("/") else root + "/"
        self._exclude = _excluding(exclude)
        self._hidden = hidden
        self._follow_links = follow_links
        self._others = tuple(f"{other.rstrip('/')}/" for other in others)
        self._seen: set[tuple[int, int]] = set(elsewhere)
        self._begun = False

    def is_unread(self, relpath: str) -> bool:
        """Whether the walk could not tell if this file is still there: do not take it for deleted."""
        while relpath and relpath not in self.unread:
            relpath = _parent(relpath)
        return relpath in self.unread

    def __iter__(self) -> Iterator[Photo | Skipped]:
        for found in self.listings():
            if isinstance(found, Skipped):
                yield found
            else:
                yield from found.photos()

    def listings(self) -> Iterator[Listing | Skipped]:
        """A folder at a time; one without photos has no listing."""
        if self._begun:
            raise RuntimeError("a Walk is iterated once")
        self._begun = True
        rules = self._exclude
        for above in _ancestors(self.start):
            rules, troubles = self._with_ignore_file(above, rules)
            yield from troubles
        pending = [_Folder(self.start, rules)]
        links: deque[_Folder] = deque()
        while pending or links:
            folder = pending.pop() if pending else links.popleft()
            yield from self._visit(folder)
            pending.extend(reversed(folder.folders))
            links.extend(folder.links)

    def _visit(self, folder: _Folder) -> Iterator[Listing | Skipped]:
        path = self._absolute(folder.relpath)
        try:
            if not self._is_new(path, folder):
                return
            # What is looked at through the open folder is not searched for from the top, file by file.
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            yield from self._failed(folder.relpath, error)
            return
        try:
            found = list(self._list(folder, descriptor))
        finally:
            os.close(descriptor)
        yield from found

    def _list(self, folder: _Folder, descriptor: int) -> Iterator[Listing | Skipped]:
        try:
            with os.scandir(descriptor) as scan:
                entries = {entry.name: entry for entry in scan}
        except OSError as error:
            yield from self._failed(folder.relpath, error)
            return
        self.folders += 1
        if IGNORE_FILE in entries:
            folder.rules, troubles = self._with_ignore_file(folder.relpath, folder.rules)
            yield from troubles
        yield from self._sort_out(folder, entries)
        yield from self._look_at(folder, entries)

    def _is_new(self, path: str, folder: _Folder) -> bool:
        """Whether the folder is to be visited; from now on it is not."""
        info = os.stat(path)
        identity = info.st_dev, info.st_ino
        if identity in self._seen and folder.relpath != self.start:
            return False
        if folder.linked and self.start and self._has_real_place(path):
            return False
        if folder.linked and self._others and f"{os.path.realpath(path)}/".startswith(self._others):
            return False
        self._seen.add(identity)
        return True

    def _sort_out(self, folder: _Folder, entries: _Entries) -> Iterator[Skipped]:
        """Put what is wanted of the entries into the folder's `files`, `folders` and `links`."""
        hidden, rules, prefix = self._hidden, folder.rules, folder.prefix
        files = [] if _concern_files(rules) else _plain_files(entries)
        others = entries.keys() - files if len(files) < len(entries) else ()
        for name in _in_order(others):
            if name[0] == "." and not hidden:
                continue
            entry = entries[name]
            try:
                kind = "file" if entry.is_file(follow_symlinks=False) else self._kind(entry)
            except OSError as error:
                if self._is_wanted(prefix + name, False, rules):
                    yield from self._failed(prefix + name, error)
                continue
            if kind == "file":
                if _is_junk_file(name, hidden) or (rules and _is_ignored(prefix + name, False, rules)):
                    continue
                files.append(name)
                if name[-4:].lower() in _COMPANY_ENDINGS:
                    folder.has_company = True
            elif kind == "nowhere":
                # It may have led to a folder on a disk that is away now. Of a photo only the link is left.
                if extension(name) not in PICTURE_EXTENSIONS:
                    self.unread.add(prefix + name)
            elif kind != "other" and self._is_wanted(prefix + name, True, rules):
                if kind == "link":
                    folder.links.append(_Folder(prefix + name, rules, linked=True))
                else:
                    folder.folders.append(_Folder(prefix + name, rules, folder.linked))
        folder.files = _in_order(files)

    def _kind(self, entry: os.DirEntry[str]) -> str:
        """`folder`, `link` (to a folder), `file` (a link to one), `nowhere` or `other`."""
        if not entry.is_symlink():
            return "folder" if entry.is_dir() else "other"
        if not self._follow_links:
            return "other"
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return "nowhere"
            raise
        return "link" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"

    def _look_at(self, folder: _Folder, entries: _Entries) -> Iterator[Listing | Skipped]:
        company = _Company(folder.files) if folder.has_company else None
        names = [name for name in folder.files if name not in company.sidecar_files] if company else folder.files
        try:
            stats = [entries[name].stat() for name in names]
        except OSError:
            names, stats, troubles = self._look_at_each(folder, names, entries)
            yield from troubles
        if not names:
            return
        yield Listing(
            self.root,
            folder.relpath,
            names,
            [info.st_size for info in stats],
            _mtimes_ns(stats),
            [info.st_ino & MOST_INTEGER for info in stats],
            self._beside(folder.prefix, names, company) if company else {},
        )

    def _beside(self, prefix: str, names: Iterable[str], company: _Company) -> dict[str, _Beside]:
        found: dict[str, _Beside] = {}
        for name in names:
            sidecars = tuple(_sidecars(self._base, prefix, company.sidecars(name)))
            pair = company.pair(name)
            if sidecars or pair:
                found[name] = sidecars, None if pair is None else prefix + pair
        return found

    def _look_at_each(
        self, folder: _Folder, names: Sequence[str], entries: _Entries
    ) -> tuple[list[str], list[os.stat_result], list[Skipped]]:
        """The names of those that can be looked at, what was seen, and what is to be said of the others."""
        seen: dict[str, os.stat_result] = {}
        troubles: list[Skipped] = []
        for name in names:
            try:
                seen[name] = entries[name].stat()
            except OSError as error:
                if isinstance(error, PermissionError) and not entries[name].is_symlink():
                    # A folder that may be listed and not entered: one line for it, not one for each file.
                    folder.folders.clear()
                    troubles += self._failed(folder.relpath, error)
                    break
                troubles += self._failed(folder.prefix + name, error)
        return list(seen), list(seen.values()), troubles

    def _absolute(self, relpath: str) -> str:
        return self._base + relpath if relpath else self.root

    def _is_wanted(self, relpath: str, is_folder: bool, rules: _Rules) -> bool:
        """Whether the walk takes up an entry of this name that it found in a folder."""
        above, _, name = relpath.rpartition("/")
        if name[0] == "." and not self._hidden:
            return False
        if is_folder and _is_junk_folder(name, above or self.root):
            return False
        return not (rules and _is_ignored(relpath, is_folder, rules))

    def _has_real_place(self, path: str) -> bool:
        """Whether a link out of `start` leads to where a walk of the whole root comes without a link.

        Then the photos there belong to that place, and a partial walk must not show them a second time.
        """
        real_root, real_path = os.path.realpath(self.root), os.path.realpath(path)
        if real_path == real_root:
            return True
        relpath = real_path.removeprefix(real_root.rstrip("/") + "/")
        if relpath == real_path:
            return False
        rules = self._exclude
        for below in [*_ancestors(relpath)[1:], relpath]:
            rules, _ = self._with_ignore_file(_parent(below), rules)
            if not self._is_wanted(below, True, rules):
                return False
        return True

    def _failed(self, relpath: str, error: OSError) -> Iterator[Skipped]:
        """Note what could not be looked at; say so unless it vanished after it was listed."""
        path = self._absolute(relpath)
        if isinstance(error, FileNotFoundError) and relpath != self.start and not os.path.lexists(path):
            self._vanished(relpath)
            return
        self.unread.add(relpath)
        yield Skipped(path, "walk", _reason(error))

    def _vanished(self, relpath: str) -> None:
        """Tell what was deleted from what went away with its disk.

        Deleted: the next folder up that is still there is the one that was listed. Otherwise that folder is
        the empty mount point of a disk that was there a moment ago.
        """
        while relpath != self.start:
            relpath = _parent(relpath)
            try:
                info = os.stat(self._absolute(relpath))
            except FileNotFoundError:
                continue
            except OSError:
                break
            if (info.st_dev, info.st_ino) in self._seen:
                return
            break
        self.unread.add(relpath)

    def _with_ignore_file(self, relpath: str, rules: _Rules) -> tuple[_Rules, list[Skipped]]:
        """The rules below a folder: its own come before those from above, `exclude` before all."""
        prefix = relpath + "/" if relpath else ""
        path = self._base + prefix + IGNORE_FILE
        try:
            lines = _ignore_lines(path)
        except OSError as error:
            return rules, [Skipped(path, "walk", _reason(error))]
        layer, bad = _layer(lines, len(prefix))
        troubles = [Skipped(path, "walk", f"line {number} is not a pattern") for number in bad]
        first = len(self._exclude)
        return (*rules[:first], layer, *rules[first:]) if layer.patterns else rules, troubles


class FolderWalk(Walk):
    """A walk that looks at no file: iterate it, and `entered` has the paths of all folders that it came to."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.entered: list[str] = []

    def _list(self, folder: _Folder, descriptor: int) -> Iterator[Listing | Skipped]:
        self.entered.append(self._absolute(folder.relpath))
        return super()._list(folder, descriptor)

    def _look_at(self, folder: _Folder, entries: _Entries) -> Iterator[Listing | Skipped]:
        return iter(())


def may_matter(name: str, *, hidden: bool = False) -> bool:
    """Whether a file of this name, or what becomes of it, can make a difference to a walk of its folder."""
    return name == IGNORE_FILE or ((hidden or name[:1] != ".") and not _is_junk_file(name, hidden))


def reaches(relpath: str, *, hidden: bool = False) -> bool:
    """Whether a walk of the root comes to that folder by itself: nothing on the way is a dot-name or junk."""
    folders = [*_ancestors(relpath)[1:], relpath] if relpath else []
    return all(
        (hidden or not os.path.basename(folder).startswith("."))
        and not _is_junk_folder(os.path.basename(folder), _parent(folder))
        for folder in folders
    )


def named_photo(path: str) -> Photo | Skipped:
    """The file given by name as a photo of its own folder; or why it cannot be one."""
    folder, name = os.path.split(path)
    folder = os.path.realpath(folder) if ".." in folder.split("/") else os.path.abspath(folder)
    base = folder if folder.endswith("/") else folder + "/"
    try:
        info = os.stat(base + name)
    except OSError as error:
        leads_nowhere = isinstance(error, FileNotFoundError) and os.path.islink(base + name)
        return Skipped(base + name, "walk", "a link that leads nowhere" if leads_nowhere else _reason(error))
    if not stat.S_ISREG(info.st_mode):
        return Skipped(base + name, "walk", "not a regular file")
    try:
        company = _company_of(folder, os.stat(folder).st_mtime_ns)
    except OSError:  # a folder may let its files be opened and not be listed
        company = _Company([])
    return Photo(
        folder,
        name,
        info.st_size,
        mtime_ns(info),
        inode(info),
        tuple(_sidecars(base, "", company.sidecars(name))),
        company.pair(name),
        named=True,
    )


@dataclass(slots=True)
class _Folder:
    """One folder of the walk, and what was found in it once it was visited."""

    relpath: str
    rules: _Rules
    linked: bool = False
    """Reached through a link that this walk followed."""
    files: list[str] = field(default_factory=list)
    has_company: bool = False
    folders: list[_Folder] = field(default_factory=list)
    links: list[_Folder] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return self.relpath + "/" if self.relpath else ""


class _Company:
    """Which of a folder's files belong together."""

    def __init__(self, names: Iterable[str]) -> None:
        self.sidecar_files: set[str] = set()
        """Also those whose photo is not there."""
        self._sidecars: dict[str, list[str]] = {}
        self._developed: dict[str, list[str]] = {}
        for name in names:
            stem, ending = os.path.splitext(name)
            ending = ending.lower()
            if ending in _SIDECAR_ENDINGS:
                self.sidecar_files.add(name)
                self._sidecars.setdefault(stem, []).append(name)
            elif ending in _PAIR_ENDINGS:
                self._developed.setdefault(stem.casefold(), []).append(name)

    def sidecars(self, name: str) -> list[str]:
        """`beach.txt` and `beach.xmp`, then `beach.jpg.txt` and `beach.jpg.xmp`."""
        stem, ending = os.path.splitext(name)
        if not self._sidecars or ending.lower() not in PICTURE_EXTENSIONS:
            return []
        return [*self._sidecars.get(stem, ()), *self._sidecars.get(name, ())]

    def pair(self, name: str) -> str | None:
        """For a RAW file the picture of the same shot: the one spelt alike, then the most usual kind."""
        if not is_raw(name):
            return None
        stem = os.path.splitext(name)[0]
        return min(
            self._developed.get(stem.casefold(), ()),
            key=lambda other: (not other.startswith(stem), _PAIR_ENDINGS.index(extension(other)), other),
            default=None,
        )


@lru_cache(maxsize=1)
def _company_of(folder: str, mtime_ns: int) -> _Company:
    """Kept for the next file of the same folder: `imgsearch index *.jpg` names thousands."""
    with os.scandir(folder) as scan:
        return _Company(sorted((entry.name for entry in scan if _is_file(entry)), key=os.fsencode))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _sidecars(base: str, prefix: str, names: Iterable[str]) -> Iterator[Sidecar]:
    for name in names:
        try:
            info = os.stat(base + prefix + name)
        except OSError:  # it vanished; the photo can do without
            continue
        yield Sidecar(prefix + name, info.st_size, mtime_ns(info))


def _plain_files(entries: _Entries) -> list[str]:
    """Those of which the name says at once that a walk takes them up, and alone."""
    try:
        return [
            name
            for name, entry in entries.items()
            if name[-4:] in _PLAIN_ENDINGS and name[0] != "." and entry.is_file(follow_symlinks=False)
        ]
    except OSError:  # a disk that does not tell files from folders, and one that cannot be looked at
        return []


def _mtimes_ns(stats: Sequence[os.stat_result]) -> list[int]:
    found = [info.st_mtime_ns for info in stats]
    is_sane = min(found) >= LEAST_INTEGER and max(found) <= MOST_INTEGER
    return found if is_sane else [mtime_ns(info) for info in stats]


def _in_order(names: Iterable[str]) -> list[str]:
    """In the order of their bytes, which is that of the characters as long as these are ASCII."""
    return sorted(names) if "".join(names).isascii() else sorted(names, key=os.fsencode)


def _is_junk_file(name: str, hidden: bool) -> bool:
    return name in _JUNK_FILES or name.endswith(_JUNK_FILE_ENDINGS) or (hidden and name.startswith("._"))


def _is_junk_folder(name: str, above: str) -> bool:
    lower = name.lower()
    return (
        lower in _JUNK_FOLDERS
        or lower.startswith(_JUNK_FOLDER_STARTS)
        or lower.endswith(_JUNK_FOLDER_ENDINGS)
        or (above.lower().endswith(_PHOTO_LIBRARIES) and lower not in _LIBRARY_ORIGINALS)
    )


def _parent(relpath: str) -> str:
    return relpath.rpartition("/")[0]


def _ancestors(relpath: str) -> list[str]:
    """The folders above, from the root: of `a/b/c` they are "", `a`, `a/b`; of the root there are none."""
    parts = relpath.split("/") if relpath else []
    return ["/".join(parts[:count]) for count in range(len(parts))]


def _reason(error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "path too long"
    return (error.strerror or type(error).__name__).lower()


# Patterns. pathspec turns a line into a regular expression; which line decides is found here, entry by entry
# on the way down as git does it: a folder that is ignored is never listed.


@dataclass(frozen=True, slots=True)
class _Pattern:
    regex: re.Pattern[str] | None
    """For the whole path without a closing slash; None for every path."""
    folders_only: bool
    ignores: bool


@dataclass(frozen=True, slots=True)
class _Layer:
    """The patterns of one ignore file, the last line first."""

    base: int
    """How much of a relpath to drop so that it starts at the ignore file's folder."""
    patterns: tuple[_Pattern, ...]


_Rules = tuple[_Layer, ...]
"""The layer with the last word first."""


def _is_ignored(relpath: str, is_folder: bool, rules: _Rules) -> bool:
    # A dot in a regular expression does not match a newline, which a name may hold; NUL no name can.
    text = relpath.replace("\n", "\0")
    for layer in rules:
        part = text[layer.base :]
        for pattern in layer.patterns:
            if pattern.folders_only and not is_folder:
                continue
            if pattern.regex is None or pattern.regex.fullmatch(part):
                return pattern.ignores
    return False


def _concern_files(rules: _Rules) -> bool:
    return any(not pattern.folders_only for layer in rules for pattern in layer.patterns)


def _excluding(texts: Sequence[str]) -> _Rules:
    if not texts:
        return ()
    # A comment makes no sense on a command line, and `#recycle` is a folder.
    layer, bad = _layer(["\\" + text if text.startswith("#") else text for text in texts], 0)
    bad += [number for number, text in enumerate(texts, 1) if not text.strip()]
    if bad:
        raise UsageError(
            f"not a pattern: {texts[bad[0] - 1]!r}",
            hint="--exclude takes what a line of a .gitignore file may say, such as 'drafts/' or '*.png'",
        )
    return (layer,)


def _ignore_lines(path: str) -> list[str]:
    """The lines of an ignore file; none where there is no such file. OSError if it cannot be read."""
    try:
        # Without O_NONBLOCK a FIFO of that name would stop the walk for good.
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


def _layer(lines: Iterable[str], base: int) -> tuple[_Layer, list[int]]:
    """The lines' patterns, and the numbers (from 1) of the lines that are none."""
    patterns: list[_Pattern] = []
    bad: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            patterns.append(_pattern(line))
        except (ValueError, re.error):
            bad.append(number)
    return _Layer(base, tuple(reversed(patterns))), bad


def _pattern(line: str) -> _Pattern:
    """The pattern of one line of a gitignore file; ValueError or re.error where it has no meaning."""
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
        body += "/*"  # what lies below the folder, not the folder itself, so that `!` can take up some of it
    if body.startswith(("!", "#")):
        body = "\\" + body
    if body.endswith(" ") and not body.endswith("\\ "):
        body = body[:-1] + "\\ "  # it stood before a slash, and is part of the name

    # pathspec takes 25 ms to import, and most walks have no patterns.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `[[a]`, for a Python that may read it otherwise
        compiled = GitIgnoreSpecPattern(body.replace("\n", "\0"))
    if compiled.include is None or compiled.regex is None:  # such as a range that runs backwards
        raise ValueError(line)
    regex: re.Pattern[str] = compiled.regex
    return _Pattern(None if regex.pattern == "." else regex, folders_only, ignores)
