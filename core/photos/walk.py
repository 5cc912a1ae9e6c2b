"""Files on disk that may be photos.

`Walk` lists a folder and everything below it; `named_photo` takes one file by name. Both only list and `stat`: whether
a file is a picture is decided later, by its content. Each folder is one `Listing`, in columns, because most files are
unchanged since the last run and need no object of their own.

**Order.** A folder's files in the byte order of their names, then its subfolders in the same order. Folders behind a
symbolic link come last, so that the real location of a photo wins over a link to it.

**Links.** A link to a file is a photo of its own (its content hash makes that cheap). A folder is visited once,
identified by device and inode, no matter how many links or mounts lead to it.

**What is ignored.** Hidden files and folders, unless `hidden`. Junk (trash, thumbnails, previews, version control,
partial downloads), even with `hidden`: most of it would show a photo twice. Whatever matches `.imgsearchignore` or
`exclude`. None of this applies to the folder where the walk starts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from imgsearch.core.paths import (
    MAX_INTEGER,
    MIN_INTEGER,
    PICTURE_EXTENSIONS,
    RAW_EXTENSIONS,
    extension,
    has_video_extension,
    inode,
    is_raw,
    mtime_ns,
)
from imgsearch.core.types import Photo, Sidecar, Skipped

from . import takeout_names
from .ignore import (
    IGNORE_FILE,
    Rules,
    apply_to_files,
    exclude_rules,
    is_ignored,
    is_junk_file,
    is_junk_folder,
    layer_of,
    read_ignore_file,
)

_SIDECAR_ENDINGS = frozenset([".xmp", ".txt", ".json"])
_COMPANION_ENDINGS = {name[-4:] for name in _SIDECAR_ENDINGS | RAW_EXTENSIONS}
"""The last four characters of names that mean sidecars or pairs. Most folders have none."""
_PAIR_ENDINGS = (".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".hif")
"""What a camera writes beside its RAW file, most common first."""
_PLAIN_ENDINGS = frozenset([".jpg", ".JPG", "jpeg", "JPEG", "heic", "HEIC", ".png", ".PNG", "webp", ".mp4", ".MOV"])
"""The last four characters of most names. Such a file is not junk and has no companions of its own."""

_Beside = tuple[tuple[Sidecar, ...], str | None]
_Entries = dict[str, os.DirEntry[str]]


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one folder in the byte order of their names, column by column."""

    root: str
    relpath: str
    names: list[str]
    sizes: list[int]
    mtimes_ns: list[int]
    inodes: list[int]
    beside: Mapping[str, _Beside]
    """Name -> sidecars and, for a RAW file or a video, the relpath of its pair; only for files that have any."""

    def photo(self, at: int) -> Photo:
        name, prefix = self.names[at], self.relpath + "/" if self.relpath else ""
        return Photo(self.root, prefix + name, *self.stat(at), *self.beside.get(name, ((), None)))

    def stat(self, at: int) -> tuple[int, int, int]:
        """Size in bytes, modification time in nanoseconds, inode."""
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
    """Yields the files of `root` (an absolute path) as `Photo`, and what could not be read as `Skipped`.

    `start`: the relative path of a subfolder to walk instead of the whole root. `exclude`: gitignore patterns relative
    to the root; they override `.imgsearchignore` files, also with `!`. Raises UsageError for an invalid pattern.
    `video`: also look for sidecars and pairs of videos. `elsewhere`: (device, inode) of folders not to enter.
    `others`: real paths of folders not to enter through a link. Iterate a walk, or its `listings`, only once.
    """

    folders: int
    """The number of folders listed so far."""
    unread: set[str]
    """Relative paths of folders and files that could not be read and of broken links; "" is the root. What is there is
    unknown: see `is_unread`."""

    def __init__(
        self,
        root: str,
        start: str = "",
        *,
        exclude: Sequence[str] = (),
        hidden: bool = False,
        video: bool = False,
        follow_links: bool = True,
        elsewhere: Iterable[tuple[int, int]] = (),
        others: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.start = start
        self.folders = 0
        self.unread = set()
        self._base = root if root.endswith("/") else root + "/"
        self._exclude = exclude_rules(exclude)
        self._hidden = hidden
        self._video = video
        self._follow_links = follow_links
        self._others = tuple(f"{other.rstrip('/')}/" for other in others)
        self._seen: set[tuple[int, int]] = set(elsewhere)
        self._begun = False

    def is_unread(self, relpath: str) -> bool:
        """Whether the walk could not tell if this file still exists, so that it must not count as deleted."""
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
        """One listing per folder that has files."""
        if self._begun:
            raise RuntimeError("a Walk is iterated once")
        self._begun = True
        rules = self._exclude
        for above in _ancestors(self.start):
            rules, problems = self._with_ignore_file(above, rules)
            yield from problems
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
            if not self._enter(path, folder):
                return
            # With an open folder the system need not resolve the whole path for each file.
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
            folder.rules, problems = self._with_ignore_file(folder.relpath, folder.rules)
            yield from problems
        yield from self._sort_entries(folder, entries)
        yield from self._stat_files(folder, entries)

    def _enter(self, path: str, folder: _Folder) -> bool:
        """Whether to visit the folder, which then counts as visited."""
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

    def _sort_entries(self, folder: _Folder, entries: _Entries) -> Iterator[Skipped]:
        """Fill the folder's `files`, `folders` and `links`."""
        hidden, rules, prefix = self._hidden, folder.rules, folder.prefix
        files = [] if apply_to_files(rules) else _plain_files(entries)
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
                if is_junk_file(name, hidden) or (rules and is_ignored(prefix + name, False, rules)):
                    continue
                files.append(name)
                if name[-4:].lower() in _COMPANION_ENDINGS:
                    folder.has_companions = True
            elif kind == "nowhere":
                # It may lead to a folder on a disk that is not mounted now. With a photo's name it is just broken.
                if extension(name) not in PICTURE_EXTENSIONS:
                    self.unread.add(prefix + name)
            elif kind != "other" and self._is_wanted(prefix + name, True, rules):
                if kind == "link":
                    folder.links.append(_Folder(prefix + name, rules, linked=True))
                else:
                    folder.folders.append(_Folder(prefix + name, rules, folder.linked))
        folder.files = _in_order(files)
        if self._video and not folder.has_companions:
            folder.has_companions = any(map(has_video_extension, folder.files))

    def _kind(self, entry: os.DirEntry[str]) -> str:
        """`folder`, `link` (to a folder), `file` (link to a file), `nowhere` (broken link) or `other`."""
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

    def _stat_files(self, folder: _Folder, entries: _Entries) -> Iterator[Listing | Skipped]:
        companions = _Companions(folder.files, video=self._video) if folder.has_companions else None
        names = [name for name in folder.files if name not in companions.sidecar_files] if companions else folder.files
        try:
            stats = [entries[name].stat() for name in names]
        except OSError:
            names, stats, problems = self._stat_each(folder, names, entries)
            yield from problems
        if not names:
            return
        yield Listing(
            self.root,
            folder.relpath,
            names,
            [info.st_size for info in stats],
            _mtimes_ns(stats),
            [info.st_ino & MAX_INTEGER for info in stats],
            self._beside(folder.prefix, names, companions) if companions else {},
        )

    def _beside(self, prefix: str, names: Iterable[str], companions: _Companions) -> dict[str, _Beside]:
        found: dict[str, _Beside] = {}
        for name in names:
            sidecars = tuple(_sidecars(self._base, prefix, companions.sidecars(name)))
            pair = companions.pair(name)
            if sidecars or pair:
                found[name] = sidecars, None if pair is None else prefix + pair
        return found

    def _stat_each(
        self, folder: _Folder, names: Sequence[str], entries: _Entries
    ) -> tuple[list[str], list[os.stat_result], list[Skipped]]:
        """The names that could be read, their stat results, and the others as `Skipped`."""
        seen: dict[str, os.stat_result] = {}
        problems: list[Skipped] = []
        for name in names:
            try:
                seen[name] = entries[name].stat()
            except OSError as error:
                if isinstance(error, PermissionError) and not entries[name].is_symlink():
                    # A folder that may be listed but not entered: one line for it, not one per file.
                    folder.folders.clear()
                    problems += self._failed(folder.relpath, error)
                    break
                problems += self._failed(folder.prefix + name, error)
        return list(seen), list(seen.values()), problems

    def _absolute(self, relpath: str) -> str:
        return self._base + relpath if relpath else self.root

    def _is_wanted(self, relpath: str, is_folder: bool, rules: Rules) -> bool:
        """Whether the walk includes an entry with this name."""
        above, _, name = relpath.rpartition("/")
        if name[0] == "." and not self._hidden:
            return False
        if is_folder and is_junk_folder(name, above or self.root):
            return False
        return not (rules and is_ignored(relpath, is_folder, rules))

    def _has_real_place(self, path: str) -> bool:
        """Whether a link out of `start` leads to a folder that a walk of the whole root reaches without a link.

        Then its photos belong to that folder, and a partial walk must not yield them a second time.
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
        """Record what could not be read, and report it unless it was deleted after it was listed."""
        path = self._absolute(relpath)
        if isinstance(error, FileNotFoundError) and relpath != self.start and not os.path.lexists(path):
            self._vanished(relpath)
            return
        self.unread.add(relpath)
        yield Skipped(path, "walk", _reason(error))

    def _vanished(self, relpath: str) -> None:
        """Tell a deleted file from one whose disk was unmounted.

        It was deleted if the nearest folder above that still exists is the one that was listed. Otherwise that folder
        is the empty mount point of a disk that was there a moment ago.
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

    def _with_ignore_file(self, relpath: str, rules: Rules) -> tuple[Rules, list[Skipped]]:
        """The rules below a folder: its own before those from above, and `exclude` before all."""
        prefix = relpath + "/" if relpath else ""
        path = self._base + prefix + IGNORE_FILE
        try:
            lines = read_ignore_file(path)
        except OSError as error:
            return rules, [Skipped(path, "walk", _reason(error))]
        layer, bad = layer_of(lines, len(prefix))
        problems = [Skipped(path, "walk", f"line {number} is not a valid pattern") for number in bad]
        first = len(self._exclude)
        return (*rules[:first], layer, *rules[first:]) if layer.patterns else rules, problems


class FolderWalk(Walk):
    """A walk that reads no files. After iterating it, `entered` has the paths of all its folders."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.entered: list[str] = []

    def _list(self, folder: _Folder, descriptor: int) -> Iterator[Listing | Skipped]:
        self.entered.append(self._absolute(folder.relpath))
        return super()._list(folder, descriptor)

    def _stat_files(self, folder: _Folder, entries: _Entries) -> Iterator[Listing | Skipped]:
        return iter(())


def may_matter(name: str, *, hidden: bool = False) -> bool:
    """Whether a file of this name can make a difference to a walk of its folder."""
    return name == IGNORE_FILE or ((hidden or name[:1] != ".") and not is_junk_file(name, hidden))


def reaches(relpath: str, *, hidden: bool = False) -> bool:
    """Whether a walk of the root reaches that folder: nothing on the way is hidden or junk."""
    folders = [*_ancestors(relpath)[1:], relpath] if relpath else []
    return all(
        (hidden or not os.path.basename(folder).startswith("."))
        and not is_junk_folder(os.path.basename(folder), _parent(folder))
        for folder in folders
    )


def named_photo(path: str) -> Photo | Skipped:
    """A file given by name, as a photo of its own folder; or why it cannot be one."""
    folder, name = os.path.split(path)
    folder = os.path.realpath(folder) if ".." in folder.split("/") else os.path.abspath(folder)
    base = folder if folder.endswith("/") else folder + "/"
    try:
        info = os.stat(base + name)
    except OSError as error:
        is_broken_link = isinstance(error, FileNotFoundError) and os.path.islink(base + name)
        return Skipped(base + name, "walk", "a broken link" if is_broken_link else _reason(error))
    if not stat.S_ISREG(info.st_mode):
        return Skipped(base + name, "walk", "not a regular file")
    try:
        companions = _companions_of(folder, os.stat(folder).st_mtime_ns)
    except OSError:  # in some folders files can be opened but not listed
        companions = _Companions([], video=True)
    return Photo(
        folder,
        name,
        info.st_size,
        mtime_ns(info),
        inode(info),
        tuple(_sidecars(base, "", companions.sidecars(name))),
        companions.pair(name),
        named=True,
        video=has_video_extension(name),
    )


@dataclass(slots=True)
class _Folder:
    """A folder of the walk and, after its visit, what it contains."""

    relpath: str
    rules: Rules
    linked: bool = False
    """Reached through a link."""
    files: list[str] = field(default_factory=list)
    has_companions: bool = False
    folders: list[_Folder] = field(default_factory=list)
    links: list[_Folder] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return self.relpath + "/" if self.relpath else ""


class _Companions:
    """Which files of a folder belong together: sidecars, pairs of RAW and JPEG, and with `video` those of a video and
    JPEG."""

    def __init__(self, names: Collection[str], *, video: bool) -> None:
        self._video = video
        self.sidecar_files: set[str] = set()
        """Including those without a photo."""
        self._sidecars: dict[str, list[str]] = {}
        self._developed: dict[str, list[str]] = {}
        json_files = []
        for name in names:
            stem, ending = os.path.splitext(name)
            ending = ending.lower()
            if ending in _SIDECAR_ENDINGS:
                self.sidecar_files.add(name)
                if ending == ".json":
                    json_files.append(name)
                else:
                    self._sidecars.setdefault(stem, []).append(name)
            elif ending in _PAIR_ENDINGS:
                self._developed.setdefault(stem.casefold(), []).append(name)
        others = [name for name in names if name not in self.sidecar_files]
        self._takeout = takeout_names.pair(others, json_files) if json_files else {}

    def sidecars(self, name: str) -> list[str]:
        """`beach.txt` and `beach.xmp`, then `beach.jpg.txt` and `beach.jpg.xmp`, then `beach.jpg.json` of a Takeout."""
        stem, ending = os.path.splitext(name)
        if not (self._sidecars or self._takeout) or not (ending.lower() in PICTURE_EXTENSIONS or self._is_video(name)):
            return []
        exported = self._takeout.get(name)
        return [*self._sidecars.get(stem, ()), *self._sidecars.get(name, ()), *([exported] if exported else ())]

    def pair(self, name: str) -> str | None:
        """For a RAW file, the picture of the same shot, and for a video the one of its name: first by exact spelling,
        then by the most common format."""
        if not (is_raw(name) or self._is_video(name)):
            return None
        stem = os.path.splitext(name)[0]
        return min(
            self._developed.get(stem.casefold(), ()),
            key=lambda other: (not other.startswith(stem), _PAIR_ENDINGS.index(extension(other)), other),
            default=None,
        )

    def _is_video(self, name: str) -> bool:
        return self._video and has_video_extension(name)


@lru_cache(maxsize=1)
def _companions_of(folder: str, mtime_ns: int) -> _Companions:
    """Cached for the next file of the same folder: `imgsearch index *.jpg` names thousands."""
    with os.scandir(folder) as scan:
        names = sorted((entry.name for entry in scan if _is_file(entry)), key=os.fsencode)
    return _Companions(names, video=True)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _sidecars(base: str, prefix: str, names: Iterable[str]) -> Iterator[Sidecar]:
    for name in names:
        try:
            info = os.stat(base + prefix + name)
        except OSError:  # deleted in the meantime; the photo does not need it
            continue
        yield Sidecar(prefix + name, info.st_size, mtime_ns(info))


def _plain_files(entries: _Entries) -> list[str]:
    """Files whose name alone shows that they are included and have no companions."""
    try:
        return [
            name
            for name, entry in entries.items()
            if name[-4:] in _PLAIN_ENDINGS and name[0] != "." and entry.is_file(follow_symlinks=False)
        ]
    except OSError:  # a disk that cannot tell files from folders without `stat`
        return []


def _mtimes_ns(stats: Sequence[os.stat_result]) -> list[int]:
    found = [info.st_mtime_ns for info in stats]
    is_sane = min(found) >= MIN_INTEGER and max(found) <= MAX_INTEGER
    return found if is_sane else [mtime_ns(info) for info in stats]


def _in_order(names: Iterable[str]) -> list[str]:
    """In byte order, which for ASCII is that of the characters."""
    return sorted(names) if "".join(names).isascii() else sorted(names, key=os.fsencode)


def _parent(relpath: str) -> str:
    return relpath.rpartition("/")[0]


def _ancestors(relpath: str) -> list[str]:
    """The folders above, from the root: "", `a`, `a/b` for `a/b/c`; none for the root."""
    parts = relpath.split("/") if relpath else []
    return ["/".join(parts[:count]) for count in range(len(parts))]


def _reason(error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "path too long"
    return (error.strerror or type(error).__name__).lower()
