"""Which folders an index looks after, which part of them a run is about, and where they have moved.

A root is a folder that is walked, or one of which only single files were named. Every photo belongs to one root: a
folder named above an indexed one takes it in, unless a walk from above would not come there or it is on another disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from imgsearch.core.errors import UsageError
from imgsearch.core.paths import mtime_ns, printable
from imgsearch.core.photos.walk import named_photo, reaches
from imgsearch.core.types import Photo, Sidecar, Skipped

from .records import Root, join
from .store import Store

NOT_THERE = "not there"

# Photos of a root that are looked up before it is moved: a second on a slow network disk, and enough to tell a folder
# with other photos.
MAX_SAMPLED_PHOTOS = 1_000


@dataclass(frozen=True, slots=True)
class Rules:
    """How a root is indexed; stored with it for the runs that do not name it."""

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    video: bool | None = None
    """Whether videos are indexed. None: as it was."""
    ocr: bool | None = None
    """Whether runs also read the text in pictures. None: as it was."""

    @classmethod
    def of(cls, root: Root) -> Rules:
        return cls(root.exclude, root.hidden, root.video, root.ocr)

    def in_root(self, root: Root) -> Rules:
        """These rules, with those that were not given as the root has them."""
        video = root.video if self.video is None else self.video
        return replace(self, video=video, ocr=root.ocr if self.ocr is None else self.ocr)

    def in_unnamed(self, root: Root) -> Rules:
        """For a root that was not named: its own rules, but `video` and `ocr` as they were given."""
        return replace(self, exclude=root.exclude, hidden=root.hidden).in_root(root)


@dataclass(frozen=True, slots=True)
class Target:
    """A root and what of it a run looks at: all of it, the folder `start` below it, or one file that was named."""

    root: Root
    start: str = ""
    rules: Rules = Rules()
    photo: Photo | None = None


def targets(store: Store, paths: Sequence[str], rules: Rules, *, dry_run: bool = False) -> list[Target]:
    """What to look at for these absolute paths; for none of them, every root. Makes and merges roots as needed.

    Raises UsageError for a path that is not there.
    """
    resolver = _Resolver(store, rules, dry_run)
    if not paths:
        return [resolver.unnamed(root) for root in store.catalog.roots.all()]
    known = {root.path for root in store.catalog.roots.all()}
    folders = [path for path in paths if os.path.isdir(path) or path in known]
    for path in paths:
        if path not in folders and not os.path.lexists(path):
            raise UsageError(f"{printable(path)}: no such file or folder", hint="give folders or pictures that exist")
    chosen: list[Target] = []
    # From the top down, so that a folder finds the root that was made for one above it.
    for path in sorted(folders, key=lambda path: (len(os.path.realpath(path)), path)):
        chosen += [target for target in resolver.folder(path) if not _is_covered(target, chosen)]
    chosen = [replace(target, root=resolver.current(target.root)) for target in chosen]
    files = [resolver.file(path) for path in paths if path not in folders]
    # Files first: the walk then knows that they were named.
    return [*files, *chosen]


class _Resolver:
    def __init__(self, store: Store, rules: Rules, dry_run: bool) -> None:
        self._store = store
        self._catalog = store.catalog
        self._rules = rules
        self._dry_run = dry_run

    def current(self, root: Root) -> Root:
        return next((r for r in self._catalog.roots.all() if r.id == root.id), root)

    def folder(self, path: str) -> list[Target]:
        """The part of a root that this folder is; a root of its own comes with the roots left inside it."""
        for root, relpath in self._over(path):
            if root.kind == "folder" and (
                not relpath
                or reaches(relpath, hidden=self._rules.hidden or root.hidden)
                or self._catalog.photos.any_below(root.id, os.fsencode(relpath))
            ):
                if not relpath:
                    return self._whole(root)
                rules = self._rules
                has_own = bool(rules.exclude or rules.hidden)
                return [Target(root, relpath, rules.in_root(root) if has_own else rules.in_unnamed(root))]
        if self._dry_run:
            same = self._at(path)
            made = Root(same.id if same else -1, path, "folder", device_of(self._store, path), "online")
            inside = [other for other in self._catalog.roots.all() if other.kind == "folder" and within(made, other)]
            return [Target(made, rules=self._rules), *map(self.unnamed, inside)]
        return self._whole(self._new_root(path, "folder"))

    def unnamed(self, root: Root) -> Target:
        """All of a root that was not named."""
        rules = self._rules.in_unnamed(root)
        self._keep(rules, root)
        return Target(root, rules=rules)

    def file(self, path: str) -> Target:
        photo = named_photo(path)
        if isinstance(photo, Skipped):  # there, but no regular file: the failures will say so
            photo = Photo(os.path.dirname(path), os.path.basename(path), 0, 0, 0, named=True)
        over = list(self._over(photo.path))
        for root, relpath in over:
            place = self._catalog.places.at(root.id, relpath)
            if place is not None and place.state == "present":
                return Target(root, photo=seen_from(root, relpath, photo))
        for root, relpath in over:
            hidden = self._rules.hidden or root.hidden
            folder, name = os.path.split(relpath)
            if root.kind == "folder" and reaches(folder, hidden=hidden) and (hidden or name[:1] != "."):
                return Target(root, photo=seen_from(root, relpath, photo))
        for root, relpath in over:
            if "/" not in relpath:
                return Target(root, photo=seen_from(root, relpath, photo))
        if self._dry_run:
            device = device_of(self._store, photo.root)
            return Target(Root(-1, photo.root, "files", device, "online"), photo=photo)
        return Target(self._new_root(photo.root, "files"), photo=photo)

    def _over(self, path: str) -> Iterator[tuple[Root, str]]:
        """The roots over a path, the deepest first."""
        return iter(sorted(self._store.roots_over(path), key=lambda item: -len(item[0].path)))

    def _whole(self, root: Root) -> list[Target]:
        """A root looked at from its top: its rules are those typed now, and it takes in what it can."""
        rules = self._rules.in_root(root)
        self._keep(rules, root)
        if not self._dry_run:
            self._take_in(root)
        inside = [self.unnamed(other) for other in self._catalog.roots.all() if within(root, other)]
        return [Target(self.current(root), rules=rules), *inside]

    def _keep(self, rules: Rules, root: Root) -> None:
        if not self._dry_run and Rules.of(root) != rules:
            with self._catalog.transaction():
                self._catalog.roots.set_rules(
                    root.id, rules.exclude, hidden=rules.hidden, video=bool(rules.video), ocr=bool(rules.ocr)
                )

    def _take_in(self, root: Root) -> None:
        for child in self._catalog.roots.all():
            relpath = within(root, child)
            if relpath is not None and _is_walked_along(root.path, child, relpath, hidden=self._rules.hidden):
                with self._catalog.transaction():
                    self._catalog.roots.merge_into(child, root.id, relpath)

    def _new_root(self, path: str, kind: Literal["folder", "files"]) -> Root:
        same = self._at(path)
        with self._catalog.transaction():
            if same is None:
                self._catalog.roots.add(path, kind, device_of(self._store, path))
            else:
                self._catalog.roots.update(same.id, kind=kind, device=device_of(self._store, path))
        made = self._at(path)
        assert made is not None
        return made

    def _at(self, path: str) -> Root | None:
        return next((root for root in self._catalog.roots.all() if root.path == path), None)


def device_of(store: Store, path: str) -> int | None:
    """What tells a mounted disk from its empty mount point. A root that moves with its index may change it."""
    base = store.base
    moves_along = base is not None and f"{path}/".startswith(f"{base.rstrip('/')}/")
    return None if moves_along else os.stat(path).st_dev


def _is_walked_along(top: str, child: Root, relpath: str, *, hidden: bool) -> bool:
    """Whether a walk from a folder comes to a root below it, on the same disk."""
    if child.state != "online" or why_offline(child) is not None:
        return False
    return os.stat(child.path).st_dev == os.stat(top).st_dev and reaches(relpath, hidden=hidden)


def _is_covered(target: Target, chosen: Sequence[Target]) -> bool:
    """Whether a target chosen before looks at all that this one does."""
    return any(
        other.root.id == target.root.id
        and (not other.start or f"{target.start}/".startswith(f"{other.start}/"))
        and reaches(target.start.removeprefix(other.start).strip("/"), hidden=target.root.hidden)
        for other in chosen
    )


def within(root: Root, other: Root) -> str | None:
    """Where another root lies below this one, as a relpath; None if it does not, or is this very folder spelt alike.

    A root of single files in this very folder lies at "".
    """
    if other.id == root.id:
        return None
    for top in dict.fromkeys((root.path, os.path.realpath(root.path))):
        for path in dict.fromkeys((other.path, os.path.realpath(other.path))):
            if path == top:
                return "" if other.kind == "files" else None
            if path.startswith(top.rstrip("/") + "/"):
                return path[len(top.rstrip("/")) + 1 :]
    return None


def seen_from(root: Root, relpath: str, photo: Photo) -> Photo:
    """The same file as a photo of a root above its folder."""
    folder = os.path.dirname(relpath)

    def below(name: str) -> str:
        return os.path.join(folder, os.path.basename(name))

    return replace(
        photo,
        root=root.path,
        relpath=relpath,
        sidecars=tuple(Sidecar(below(s.relpath), s.size, s.mtime_ns) for s in photo.sidecars),
        pair=None if photo.pair is None else below(photo.pair),
    )


def why_offline(root: Root) -> str | None:
    """Why this root looks unmounted rather than changed, if it does."""
    try:
        device = os.stat(root.path).st_dev
        with os.scandir(root.path) as entries:
            is_empty = next(iter(entries), None) is None
    except FileNotFoundError:
        return NOT_THERE
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if is_empty:
        return "empty"
    if root.device is not None and device != root.device:
        return "on another device than before"
    return None


# ------------------------------------------------------------------------------- where roots have moved


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved, and how much of it was found in its new place."""

    roots: tuple[Root, ...]
    """Those that the photos belong to now."""
    photos: int
    """Present photos of the roots that were moved."""
    looked_up: int
    """How many of them were looked up on disk, spread over all."""
    missing: int
    """How many of those are missing or of another size."""


def move(store: Store, old: str, new: str) -> Moved:
    """Record that a root, or all roots in a folder, have moved. No photo is read or embedded.

    Both are absolute paths; `old` need not exist. Raises UsageError if `old` is not a root, if `new` is not a folder,
    and if none of the photos is found there.
    """
    paths = _destinations(store, old, new)
    sample = store.catalog.photos.sample(paths, MAX_SAMPLED_PHOTOS)
    found = (_stat(f"{paths[root_id].rstrip('/')}/{join(folder, name)}") for root_id, folder, name, _ in sample)
    missing = sum(info is None or info.st_size != row[3] for info, row in zip(found, sample, strict=True))
    if sample and missing == len(sample):
        raise UsageError(
            f"{printable(new)}: none of the photos of {printable(old)} is there ({len(sample):,} looked up)",
            hint="mount the disk first, or name the folder that has them at the same relative paths",
        )
    photos = sum(store.catalog.photos.count_present(root_id) for root_id in paths)
    with store.catalog.transaction():
        homes = _Move(store, paths).run()
    for space in store.catalog.spaces.all():
        store.save_slots(space)
    roots = tuple(root for root in store.catalog.roots.all() if root.id in homes)
    return Moved(roots, photos, len(sample), missing)


def _destinations(store: Store, old: str, new: str) -> dict[int, str]:
    """The new path of every root that is, or lies in, the old folder."""
    if not os.path.isdir(new):
        raise UsageError(f"{printable(new)}: no such folder", hint="mount its disk, or move the photos there, first")
    roots = store.catalog.roots.all()
    as_indexed = {root.id: root.path for root in roots}
    resolved = {root.id: os.path.realpath(root.path) for root in roots}
    paths = _replanted(as_indexed, old, new) or _replanted(resolved, os.path.realpath(old), new)
    if not paths:
        raise _no_root(store, old)
    if all(root.path == paths.get(root.id, root.path) for root in roots):
        raise UsageError(
            f"{printable(new)}: the photos are already there", hint="give the old folder, then the new one"
        )
    return paths


def _replanted(places: Mapping[int, str], old: str, new: str) -> dict[int, str]:
    """Those of the places that are at or below one folder, put below another."""
    top, to = old.rstrip("/") + "/", new.rstrip("/") + "/"
    slashed = {root_id: place.rstrip("/") + "/" for root_id, place in places.items()}
    return {
        root_id: (to + place.removeprefix(top)).rstrip("/") or "/"
        for root_id, place in slashed.items()
        if place.startswith(top)
    }


def _no_root(store: Store, path: str) -> UsageError:
    above = next((root for root, _ in store.roots_over(path) if root.kind == "folder"), None)
    if above is None:
        return UsageError(f"{printable(path)}: not a root of this index", hint="`imgsearch roots list` shows them")
    return UsageError(
        f"{printable(path)}: not a root, but a folder inside one: {printable(above.path)}",
        hint="photos that moved inside a root are recognised by their content; run: imgsearch index",
    )


def _stat(path: str) -> os.stat_result | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


class _Move:
    """Roots on their way to other paths, inside one transaction.

    At the end they nest with the roots that stay as if they had been indexed there: one that a walk comes to from
    above is a part of the upper root, and no file is known twice.
    """

    def __init__(self, store: Store, paths: Mapping[int, str]) -> None:
        self._store = store
        self._catalog = store.catalog
        self._paths = dict(paths)
        self._staying = {root.id: root for root in self._catalog.roots.all() if root.id not in paths}

    def run(self) -> set[int]:
        """Ids of the roots that have the photos in the end."""
        moving = [root for root in self._catalog.roots.all() if root.id in self._paths]
        homes = {self._meet(replace(root, path=self._paths[root.id])) for root in moving}
        self._catalog.roots.set_paths({root_id: path for root_id, path in self._paths.items() if root_id in homes})
        for root_id in homes:
            self._arrive(root_id)
        roots = {root.id: root for root in self._catalog.roots.all()}
        self._staying = {root_id: roots[root_id] for root_id in self._staying}
        arrived = [roots[root_id] for root_id in homes - self._staying.keys()]
        nested = {self._nest(root) for root in sorted(arrived, key=lambda root: len(root.path))}
        return nested | (homes & self._staying.keys())

    def _meet(self, root: Root) -> int:
        """Make one of two roots if there is one at the new place; the id of the one that is left."""
        places = {root.path, os.path.realpath(root.path)}
        other = next((r for r in self._staying.values() if places & {r.path, os.path.realpath(r.path)}), None)
        if other is None:
            return root.id
        if (root.kind, other.kind) == ("folder", "files"):
            self._absorb(root, other, "", newcomer=root)
            return root.id
        self._absorb(other, root, "", newcomer=root)
        return other.id

    def _arrive(self, root_id: int) -> None:
        """What is known of a root's disk is of the new one."""
        root = next(root for root in self._catalog.roots.all() if root.id == root_id)
        why = why_offline(replace(root, device=None))
        device = None if why == NOT_THERE else device_of(self._store, root.path)
        self._catalog.roots.update(root_id, state="offline" if why else "online", note=why, device=device)

    def _nest(self, root: Root) -> int:
        """Put a root that arrived together with those above and below it; the id of the one its photos are in."""
        above = [(r, relpath) for r in self._staying.values() if r.kind == "folder" and (relpath := within(r, root))]
        below = [(r, relpath) for r in self._staying.values() if root.kind == "folder" and (relpath := within(root, r))]
        above.sort(key=lambda item: -len(item[0].path))
        home = next(((r, relpath) for r, relpath in above if self._belongs_to(r, root, relpath)), None)
        for other, relpath in below:
            if home is None and _is_walked_along(root.path, other, relpath, hidden=root.hidden):
                self._absorb(root, other, relpath, newcomer=root)
            else:
                self._drop_doubles(root, other, relpath, newcomer=root)
        for other, relpath in above:
            self._drop_doubles(other, root, relpath, newcomer=root)
        if home is None:
            return root.id
        upper, relpath = home
        self._absorb(upper, root, relpath, newcomer=root)
        return upper.id

    def _belongs_to(self, upper: Root, root: Root, relpath: str) -> bool:
        if upper.state != "online" or root.state != "online" or why_offline(upper) is not None:
            return False
        return _is_walked_along(upper.path, root, relpath, hidden=upper.hidden) or self._catalog.photos.any_below(
            upper.id, os.fsencode(relpath)
        )

    def _absorb(self, upper: Root, lower: Root, relpath: str, *, newcomer: Root) -> None:
        """Make a root a part of the one above it, or of the other one in the very same folder."""
        self._drop_doubles(upper, lower, relpath, newcomer=newcomer)
        self._catalog.roots.merge_into(lower, upper.id, relpath)
        self._staying.pop(lower.id, None)

    def _drop_doubles(self, upper: Root, lower: Root, relpath: str, *, newcomer: Root) -> None:
        """Of every file that both roots know, only what is true of it is kept."""
        dropped: list[int] = []
        named: list[int] = []
        for row in self._catalog.photos.known_to_both(upper.id, lower.id, relpath):
            below, above = _Claim(lower is not newcomer, *row[2:7]), _Claim(upper is not newcomer, *row[7:])
            found = _stat(lower.path_of(join(row[0], row[1])))
            false, true = sorted((below, above), key=lambda claim: claim.truth(found))
            dropped.append(false.id)
            named += [true.id] if false.named else []
        self._catalog.photos.delete(dropped)
        self._catalog.photos.set_named(named)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one of two roots says of a file."""

    was_there: bool
    """Of the root that did not move."""
    id: int
    size: int
    mtime_ns: int
    state: str
    named: int

    def truth(self, found: os.stat_result | None) -> tuple[bool, ...]:
        """The greater, the truer."""
        has_size = found is not None and found.st_size == self.size
        is_it = found is not None and has_size and mtime_ns(found) == self.mtime_ns
        return is_it, has_size, self.state == "present", self.was_there
