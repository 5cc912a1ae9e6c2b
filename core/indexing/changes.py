"""What is new, changed or gone: the folders on disk compared with the catalogue.

A survey only looks. The indexer reads and embeds what it finds, and calls `mark_missing` afterwards: a photo is only
gone if it has not turned up elsewhere.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from imgsearch.core.paths import has_video_extension, printable
from imgsearch.core.photos.codecs import codecs
from imgsearch.core.photos.walk import FolderWalk, Listing, Walk, named_photo
from imgsearch.core.store.catalog import Catalog
from imgsearch.core.store.records import KnownFailure, KnownPhoto, Root, join, pair_name, sidecar_stamp, split
from imgsearch.core.store.roots import NOT_THERE, Rules, Target, seen_from, targets, why_offline, within
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import DECODE_SECONDS, Photo, Sidecar, Skipped

from .folder_digests import FolderDigests

# These may succeed on another try although the file has not changed: permissions, mounts, disks, memory.
RETRIED_STAGES = ("walk", "read", "memory")

# A root that lost more than this share of its photos, and more than this number, counts as unmounted, not as emptied.
LOST_SHARE = 0.2
LOST_PHOTOS = 50

# Why the video of a Live Photo is no photo of its own.
OF_LIVE_PHOTO = "the video of a Live Photo"


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What to index and how."""

    paths: tuple[str, ...]
    """Absolute paths of files and folders. Empty: every root of the index."""
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    video: bool | None = None
    """Whether to index videos. None: as before."""
    dry_run: bool = False
    decode: Literal["fast", "exact"] = "fast"
    batch_size: int | None = None
    workers: int | None = None
    seconds: float = DECODE_SECONDS
    """Time limit for decoding one file."""
    ocr: bool | None = None
    """Whether later runs also read the text in pictures. None: as before."""
    min_age_seconds: float = 0
    """A file modified more recently than this may still be incomplete, and is left to a later run."""
    graph_age_seconds: float = 0
    """An HNSW graph written more recently than this does not grow."""

    @property
    def rules(self) -> Rules:
        return Rules(self.exclude, self.hidden, self.video, self.ocr)


@dataclass(slots=True)
class Summary:
    """What a run did. Seconds are wall time, except `decode`, which is summed over the workers."""

    found: int = 0
    new: int = 0
    changed: int = 0
    reused: int = 0
    """Known photos at a new path: renamed, moved or copied. Their vectors were reused."""
    damaged: int = 0
    """How many of these three are damaged."""
    unchanged: int = 0
    skipped: int = 0
    known_failures: int = 0
    not_pictures: int = 0
    gone: int = 0
    excluded: int = 0
    being_written: int = 0
    """Left to a later run because they are still being written."""
    named_places: int = 0
    """Photos whose coordinates were looked up; some have none but the sea around."""
    offline: tuple[str, ...] = ()
    was_stopped: bool = False
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "walk", "decode", "embed", "write", "total"), 0.0)
    )

    @property
    def indexed(self) -> int:
        return self.new + self.changed + self.reused


EventKind = Literal[
    "loading",
    "walking",
    "planned",
    "photo",
    "skipped",
    "passed",
    "gone",
    "would_index",
    "checkpoint",
    "notice",
    "reading",
    "read",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a run. docs/json.md says which fields go with which kind."""

    kind: EventKind
    path: str | None = None
    count: int = 0
    stage: str | None = None
    reason: str | None = None


Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Todo:
    """A file to read."""

    root_id: int
    photo: Photo
    is_change: bool = False
    """This path had other content before."""
    failed_before: str | None = None
    """Why it could not be read the last time, if it is tried again."""


class TodoList:
    """The files to read, in a temporary table, because a million of them would not fit in memory."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("create table todo (item text not null)")
        self._connection.execute("begin")
        self._count = 0

    def append(self, todo: Todo) -> None:
        photo = todo.photo
        beside = [[s.relpath, s.size, s.mtime_ns] for s in photo.sidecars]
        stat = [photo.size, photo.mtime_ns, photo.inode]
        place = [photo.root, photo.relpath, *stat, beside, photo.pair, photo.named, photo.video]
        row = json.dumps([todo.root_id, todo.is_change, todo.failed_before, place])
        self._connection.execute("insert into todo values (?)", (row,))
        self._count += 1

    def close(self) -> None:
        self._connection.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Todo]:
        for (item,) in self._connection.execute("select item from todo order by rowid"):
            root_id, is_change, failed_before, place = json.loads(item)
            root, relpath, size, mtime_ns, inode, beside, pair, named, video = place
            sidecars = tuple(Sidecar(*sidecar) for sidecar in beside)
            photo = Photo(root, relpath, size, mtime_ns, inode, sidecars, pair, named, video)
            yield Todo(root_id, photo, is_change, failed_before)


@dataclass(frozen=True, slots=True)
class _Missing:
    """Photos that were not found where a root, or a folder of it, was walked to the end."""

    root: Root
    start: str
    photos: tuple[tuple[int, str], ...]
    """(id, relpath)"""
    unreadable: frozenset[tuple[bytes, bytes]] = frozenset()
    """(folder, name) of what could not be read."""


class Survey:
    """Compares what a plan names with the catalogue. Counts into `summary`; rows to write go into `batch`."""

    def __init__(
        self,
        store: Store,
        plan: IndexPlan,
        space_id: str | None,
        summary: Summary,
        on_event: Listener,
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._catalog: Catalog = store.catalog
        self._plan = plan
        self._space_id = space_id
        self._summary = summary
        self._on_event = on_event
        self._stop = stop
        self._named: set[str] = set()
        self._kept_by_name: set[int] = set()
        """Ids of photos that were indexed by name, not found by a walk."""
        self._missing: list[_Missing] = []
        self._with_videos = False
        """Whether the root that is looked at is indexed with its videos."""
        self.batch = Batch()

    def run(self, todo: TodoList) -> None:
        """Put the files to read into `todo`. Raises UsageError for a path that does not exist."""
        chosen = targets(self._store, self._plan.paths, self._plan.rules, dry_run=self._plan.dry_run)
        places = [(target.root.id, target.start) for target in chosen if target.photo is None]
        with closing(FolderDigests(self._catalog, places, self._space_id)) as digests:
            self._check_named([target for target in chosen if target.photo], todo)
            for target in chosen:
                if self._stop.is_set():
                    return
                if target.photo is None:
                    self._check_target(target, digests, todo)

    def mark_missing(self) -> None:
        """Mark what is gone. Call it when everything that was found is written."""
        for lost in self._missing:
            self._mark_missing(lost)

    # comparing

    def _check_target(self, target: Target, digests: FolderDigests, todo: TodoList) -> None:
        root = target.root
        why = why_offline(root)
        if why and (self._catalog.photos.any_in_root(root.id) or why == NOT_THERE):
            self._set_offline(root, why)
        elif root.kind == "files":
            self._check_files(root, todo)
        else:
            self._walk(target, digests, todo)

    def _check_named(self, chosen: Sequence[Target], todo: TodoList) -> None:
        """Compare files given by name, one folder at a time."""
        by_folder: dict[tuple[int, bytes], list[Photo]] = {}
        roots = {target.root.id: target.root for target in chosen}
        for target in chosen:
            assert target.photo is not None
            if target.photo.path not in self._named:
                self._named.add(target.photo.path)
                by_folder.setdefault((target.root.id, split(target.photo.relpath)[0]), []).append(target.photo)
        for (root_id, _), photos in by_folder.items():
            self._check_photos(roots[root_id], photos, todo)
        for root in roots.values():
            if root.state == "offline":
                self._notice_hidden(root)

    def _walk(self, target: Target, digests: FolderDigests, todo: TodoList) -> None:
        root, start = target.root, target.start
        walk = walk_of(self._catalog, target, Walk)
        with_failures = frozenset(self._catalog.failures.folders_below(root.id, os.fsencode(start)))
        visited: set[bytes] = set()
        self._with_videos = bool(target.rules.video)
        # Videos of earlier runs, which wanted them: this one does not see them.
        videos = {} if self._with_videos else self._catalog.photos.videos_of(root.id)
        lost: list[tuple[int, str]] = []
        unreadable: set[tuple[bytes, bytes]] = set()
        for found in walk.listings():
            if self._stop.is_set():
                return
            if isinstance(found, Skipped):
                unreadable.add(self._walk_failure(root, found))
                continue
            folder = os.fsencode(found.relpath)
            if folder in videos:
                found = found.without(videos[folder])
                if not found:
                    continue
            visited.add(folder)
            self._on_event(Event("walking", count=self._summary.found))
            failures = self._catalog.failures.in_folder(root.id, folder) if folder in with_failures else {}
            if not self._is_unchanged_folder(root, found, failures, digests):
                lost += self._compare(root, folder, found, todo)
        for other in self._catalog.photos.folders_below(root.id, os.fsencode(start)):
            if other not in visited:
                lost += self._missing_from(root, other, self._catalog.photos.in_folder(root.id, other, None), set())
        if start and root.state == "offline":
            self._notice_hidden(root)
        kept = tuple(item for item in lost if not walk.is_unread(item[1]) and root.path_of(item[1]) not in self._named)
        self._check_again([item for item in kept if item[0] in self._kept_by_name], root, todo)
        self._missing.append(_Missing(root, start, kept, frozenset(unreadable)))

    def _check_again(self, lost: Sequence[tuple[int, str]], root: Root, todo: TodoList) -> None:
        """Look for photos that were once given by name and that a walk does not reach."""
        for _, relpath in lost:
            photo = named_photo(root.path_of(relpath))
            if isinstance(photo, Photo):
                self._check_photos(root, [seen_from(root, relpath, photo)], todo)

    def _check_files(self, root: Root, todo: TodoList) -> None:
        """Look up files that were given by name one by one. Their folder is not walked."""
        lost = []
        for folder in self._catalog.photos.folders_below(root.id, b""):
            known = self._catalog.photos.in_folder(root.id, folder, None)
            for name in known.keys() | self._catalog.failures.in_folder(root.id, folder).keys():
                relpath = join(folder, name)
                photo = named_photo(root.path_of(relpath))
                if isinstance(photo, Photo):
                    self._check_photos(root, [seen_from(root, relpath, photo)], todo)
                elif name in known and known[name].state == "present":
                    lost.append((known[name].id, relpath))
                elif name not in known and not self._plan.dry_run:
                    with self._catalog.transaction():
                        self._catalog.failures.delete(root.id, folder, name)
        self._missing.append(_Missing(root, "", tuple(lost)))

    def _is_unchanged_folder(
        self, root: Root, found: Listing, failures: Mapping[bytes, KnownFailure], digests: FolderDigests
    ) -> bool:
        """Whether nothing in a folder has changed. If so, its photos are counted here."""
        if self._named:
            return False
        still_failing = self._still_failing(found, failures) if failures else {}
        photos = found.without(still_failing) if still_failing else found
        if len(still_failing) < len(failures) or not digests.is_unchanged(root.id, photos):
            return False
        self._count_unchanged(len(photos))
        self._summary.found += len(still_failing)
        for failure in still_failing.values():
            self._count_failure(failure)
        return True

    def _still_failing(self, found: Listing, failures: Mapping[bytes, KnownFailure]) -> dict[str, KnownFailure]:
        """The failures of a folder that would fail again, by file name."""
        still_failing = {}
        for at, name in enumerate(found.names):
            failure = failures.get(os.fsencode(name))
            if (
                failure
                and failure.stage not in RETRIED_STAGES
                and self._is_same_failure(failure, self._as_wanted(found.photo(at)))
            ):
                still_failing[name] = failure
        return still_failing

    def _count_failure(self, failure: KnownFailure) -> None:
        self._summary.known_failures += not failure.is_silent
        self._summary.not_pictures += failure.is_silent

    def _compare(self, root: Root, folder: bytes, found: Listing, todo: TodoList) -> list[tuple[int, str]]:
        """Sort the photos of one folder into known and to do. Returns (id, relpath) of those that are missing."""
        known = self._catalog.photos.in_folder(root.id, folder, self._space_id)
        failures = self._catalog.failures.in_folder(root.id, folder)
        names = os.fsencode("/".join(found.names)).split(b"/")
        plain = {} if self._named else _simple_photos(known, failures)
        rest = [
            at for at, name in enumerate(names) if plain.get(name) != found.stat(at) or found.names[at] in found.beside
        ]
        self._count_unchanged(len(found) - len(rest))
        self._sort(root, map(found.photo, rest), known, failures, todo)
        return self._missing_from(root, folder, known, set(names), failures.keys())

    def _check_photos(self, root: Root, photos: Sequence[Photo], todo: TodoList) -> None:
        """Compare photos of one folder that were given by name."""
        folder = split(photos[0].relpath)[0]
        known = self._catalog.photos.in_folder(root.id, folder, self._space_id)
        failures = self._catalog.failures.in_folder(root.id, folder)
        self._sort(root, photos, known, failures, todo)
        self._missing_from(root, folder, known, {split(photo.relpath)[1] for photo in photos}, failures.keys())

    def _count_unchanged(self, photos: int) -> None:
        self._summary.found += photos
        self._summary.unchanged += photos

    def _sort(
        self,
        root: Root,
        photos: Iterable[Photo],
        known_photos: Mapping[bytes, KnownPhoto],
        failures: Mapping[bytes, KnownFailure],
        todo: TodoList,
    ) -> None:
        """Sort photos of one folder into known and to do."""
        inodes: dict[int, set[bytes]] = {}
        for name, row in known_photos.items():
            inodes.setdefault(row.inode, set()).add(name)
        for photo in photos:
            name = split(photo.relpath)[1]
            if photo.path in self._named and not photo.named:
                continue
            self._summary.found += 1
            known, failure = known_photos.get(name), failures.get(name)
            photo = self._as_wanted(photo, known)
            failed_before = failure.reason if failure and self._is_same_failure(failure, photo) else None
            if failure and failed_before and failure.stage not in RETRIED_STAGES:
                self._count_failure(failure)
            elif (
                known
                and known.has_vectors
                and _is_unchanged(known, photo)
                and not (photo.video and known.pair != pair_name(photo))
                and name in inodes.get(photo.inode, {name})  # otherwise another file of this folder now has its name
            ):
                self._summary.unchanged += 1
                is_moved = (known.inode, known.pair) != (photo.inode, pair_name(photo))
                if known.state != "present" or is_moved or failure or (photo.named and not known.named):
                    self.batch.found_again.append((known, photo))
            elif self._is_being_written(photo):
                self._summary.being_written += 1
            else:
                is_change = known is not None and known.state == "present" and not _is_unchanged(known, photo)
                todo.append(Todo(root.id, photo, is_change, failed_before))

    def _as_wanted(self, photo: Photo, known: KnownPhoto | None = None) -> Photo:
        """A video with whether it is wanted there: in this root, or because it was once given by name."""
        if not has_video_extension(photo.relpath):
            return photo
        is_named = photo.named or bool(known and known.named)
        return replace(photo, video=self._with_videos or is_named, named=is_named)

    def _is_being_written(self, photo: Photo) -> bool:
        now, min_age = time.time_ns(), self._plan.min_age_seconds * 1e9
        times = [photo.mtime_ns, *(sidecar.mtime_ns for sidecar in photo.sidecars)]
        return any(abs(now - mtime_ns) < min_age for mtime_ns in times)

    def _is_same_failure(self, failure: KnownFailure, photo: Photo) -> bool:
        if (failure.size, failure.mtime_ns, failure.codecs) != (photo.size, photo.mtime_ns, codecs()):
            return False
        if failure.is_silent and photo.video:
            return failure.reason == OF_LIVE_PHOTO and photo.pair is not None and not photo.named
        return not (failure.is_silent and photo.named)

    def _missing_from(
        self,
        root: Root,
        folder: bytes,
        known: dict[bytes, KnownPhoto],
        found: set[bytes],
        failed: Collection[bytes] | None = None,
    ) -> list[tuple[int, str]]:
        """(id, relpath) of a folder's present photos that were not found. Failures of deleted files are removed."""
        if failed is None:
            failed = self._catalog.failures.in_folder(root.id, folder).keys()
        vanished = [
            name for name in failed if name not in found and not os.path.lexists(root.path_of(join(folder, name)))
        ]
        if vanished and not self._plan.dry_run:
            with self._catalog.transaction():
                for name in vanished:
                    self._catalog.failures.delete(root.id, folder, name)
        lost = [
            (row, join(folder, name)) for name, row in known.items() if row.state == "present" and name not in found
        ]
        self._kept_by_name |= {row.id for row, _ in lost if row.named}
        return [(row.id, relpath) for row, relpath in lost]

    def _walk_failure(self, root: Root, skipped: Skipped) -> tuple[bytes, bytes]:
        """Record a folder that could not be listed. It counts as new only the first time."""
        relpath = os.path.relpath(skipped.path, root.path)
        folder, name = split("" if relpath == "." else relpath)
        known = self._catalog.failures.in_folder(root.id, folder).get(name)
        if known and known.reason == skipped.reason:
            self._summary.known_failures += 1
        else:
            self._summary.skipped += 1
            place = Photo(root.path, join(folder, name), 0, 0, 0)
            self.batch.failures.append((root.id, place, skipped, False))
            self._on_event(Event("skipped", path=skipped.path, stage=skipped.stage, reason=skipped.reason))
        return folder, name

    # missing photos

    def _mark_missing(self, lost: _Missing) -> None:
        """Mark photos as gone or excluded, or the whole root as offline if too many are missing."""
        root = lost.root
        gone = {item[0]: item[1] for item in lost.photos if not os.path.exists(root.path_of(item[1]))}
        excluded = [item[0] for item in lost.photos if item[0] not in gone and item[0] not in self._kept_by_name]
        missing = len(gone)
        if missing > LOST_PHOTOS:
            missing -= sum(self._catalog.photos.has_copy(photo_id, gone) for photo_id in gone)  # moved, not missing
            present = self._catalog.photos.count_present(root.id)
            if missing > LOST_PHOTOS and missing > LOST_SHARE * present:
                self._set_offline(root, f"{missing:,} of its {present:,} photos are missing")
                return
        self._summary.gone += len(gone)
        self._summary.excluded += len(excluded)
        for relpath in gone.values():
            self._on_event(Event("gone", path=root.path_of(relpath)))
        if self._plan.dry_run:
            return
        fixed = self._catalog.failures.of_walk(root.id, os.fsencode(lost.start)) - lost.unreadable
        is_back = root.state != "online" and not lost.start
        if not (gone or excluded or fixed or is_back):
            return  # a run that changes nothing leaves the derived files valid
        with self._catalog.transaction():
            self._catalog.photos.set_state(gone, "gone")
            self._catalog.photos.set_state(excluded, "excluded")
            for folder, name in fixed:
                self._catalog.failures.delete(root.id, folder, name)
            if is_back:
                self._notice(f"{printable(root.path)} is back online")
                self._catalog.roots.update(root.id, state="online", note=None)

    def _set_offline(self, root: Root, why: str) -> None:
        self._summary.offline = (*self._summary.offline, root.path)
        shown = printable(root.path)
        self._notice(
            f"{shown}: {why}; marked offline: its photos are kept but hidden. If they were deleted on purpose, run: "
            f"imgsearch prune --offline {shown}"
        )
        if not self._plan.dry_run and (root.state, root.note) != ("offline", why):
            with self._catalog.transaction():
                self._catalog.roots.update(root.id, state="offline", note=why)

    def _notice_hidden(self, root: Root) -> None:
        self._notice(f"{printable(root.path)} is offline: its photos stay hidden until the whole root is indexed again")

    def _notice(self, reason: str) -> None:
        self._on_event(Event("notice", reason=reason))


def folders_of(store: Store, plan: IndexPlan) -> dict[str, bool]:
    """The folders that a run of this plan visits, each with whether hidden files count there.

    An offline root gives only its own folder. Raises UsageError for a path that does not exist.
    """
    found: dict[str, bool] = {}
    for target in targets(store, plan.paths, plan.rules, dry_run=True):
        root = target.root
        if target.photo is not None or root.kind == "files":
            folders = store.catalog.photos.folders_below(root.id, b"")
            found |= {os.path.dirname(root.path_of(join(folder, b"x"))): True for folder in folders}
        elif why_offline(root):
            found[root.path] = target.rules.hidden
        else:
            walk = walk_of(store.catalog, target, FolderWalk)
            deque(walk.listings(), maxlen=0)
            found |= dict.fromkeys(walk.entered, target.rules.hidden)
    return found


W = TypeVar("W", bound=Walk)


def walk_of(catalog: Catalog, target: Target, kind: type[W]) -> W:
    """A walk over a target by its rules. It does not enter other roots or the index itself."""
    root, rules = target.root, target.rules
    return kind(
        root.path,
        target.start,
        exclude=rules.exclude,
        hidden=rules.hidden,
        video=bool(rules.video),
        elsewhere=[*_roots_inside(catalog, root), *_identity(os.path.dirname(catalog.path))],
        others=_other_roots(catalog, root),
    )


def _other_roots(catalog: Catalog, root: Root) -> list[str]:
    """Real paths of the other online roots: a link that leads into one is not followed."""
    others = (other for other in catalog.roots.all() if other.id != root.id and other.kind == "folder")
    return [os.path.realpath(other.path) for other in others if other.state == "online"]


def _roots_inside(catalog: Catalog, root: Root) -> Iterator[tuple[int, int]]:
    for other in catalog.roots.all():
        if within(root, other) and other.kind == "folder":
            yield from _identity(other.path)


def _identity(folder: str) -> Iterator[tuple[int, int]]:
    with suppress(OSError):
        info = os.stat(folder)
        yield info.st_dev, info.st_ino


def _simple_photos(known: Mapping[bytes, KnownPhoto], failures: Collection[bytes]) -> dict[bytes, tuple[int, int, int]]:
    """Size, modification time and inode of the photos that have neither sidecar, pair nor failure."""
    return {
        name: (row.size, row.mtime_ns, row.inode)
        for name, row in known.items()
        if row.state == "present"
        and row.has_vectors
        and row.sidecars == "[]"
        and row.pair is None
        and name not in failures
    }


def _is_unchanged(known: KnownPhoto, photo: Photo) -> bool:
    return (known.size, known.mtime_ns, known.sidecars) == (photo.size, photo.mtime_ns, sidecar_stamp(photo))
