"""Which folders an index looks after, and which part of them a run is about.

A root is a folder that is walked, or one of which only single files were named. Every photo belongs to one root: a
folder named above an indexed one takes it in, unless a walk from above would not come there or it is on another disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .catalog import Root
from .errors import UsageError
from .paths import printable
from .store import Store
from .types import Photo, Sidecar, Skipped
from .walk import named_photo, reaches

NOT_THERE = "not there"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a walk passes over; remembered with a root for the runs that do not name it."""

    exclude: tuple[str, ...] = ()
    hidden: bool = False

    @classmethod
    def of(cls, root: Root) -> Rules:
        return cls(root.exclude, root.hidden)


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
    if not paths:
        return [Target(root, rules=Rules.of(root)) for root in store.catalog.roots()]
    known = {root.path for root in store.catalog.roots()}
    folders = [path for path in paths if os.path.isdir(path) or path in known]
    for path in paths:
        if path not in folders and not os.path.lexists(path):
            raise UsageError(f"{printable(path)}: no such file or folder", hint="give folders or pictures that exist")
    resolver = _Resolver(store, rules, dry_run)
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
        return next((r for r in self._catalog.roots() if r.id == root.id), root)

    def folder(self, path: str) -> list[Target]:
        """The part of a root that this folder is; a root of its own comes with the roots left inside it."""
        for root, relpath in self._over(path):
            if root.kind == "folder" and (
                not relpath
                or reaches(relpath, hidden=self._rules.hidden or root.hidden)
                or self._catalog.has_photos_below(root.id, os.fsencode(relpath))
            ):
                if not relpath:
                    return self._whole(root)
                return [Target(root, relpath, Rules.of(root) if self._rules == Rules() else self._rules)]
        if self._dry_run:
            same = self._at(path)
            made = Root(same.id if same else -1, path, "folder", self._device(path), "online")
            inside = [other for other in self._catalog.roots() if other.kind == "folder" and within(made, other)]
            return [Target(made, rules=self._rules), *(Target(other, rules=Rules.of(other)) for other in inside)]
        return self._whole(self._new_root(path, "folder"))

    def file(self, path: str) -> Target:
        photo = named_photo(path)
        if isinstance(photo, Skipped):  # there, but no regular file: the failures will say so
            photo = Photo(os.path.dirname(path), os.path.basename(path), 0, 0, 0, named=True)
        over = list(self._over(photo.path))
        for root, relpath in over:
            place = self._catalog.place_at(root.id, relpath)
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
            return Target(Root(-1, photo.root, "files", self._device(photo.root), "online"), photo=photo)
        return Target(self._new_root(photo.root, "files"), photo=photo)

    def _over(self, path: str) -> Iterator[tuple[Root, str]]:
        """The roots over a path, the deepest first."""
        return iter(sorted(self._store.roots_over(path), key=lambda item: -len(item[0].path)))

    def _whole(self, root: Root) -> list[Target]:
        """A root looked at from its top: its rules are those typed now, and it takes in what it can."""
        if not self._dry_run:
            if Rules.of(root) != self._rules:
                with self._catalog.transaction():
                    self._catalog.set_rules(root.id, self._rules.exclude, self._rules.hidden)
            self._take_in(root)
        inside = [Target(other, rules=Rules.of(other)) for other in self._catalog.roots() if within(root, other)]
        return [Target(self.current(root), rules=self._rules), *inside]

    def _take_in(self, root: Root) -> None:
        for child in self._catalog.roots():
            relpath = within(root, child)
            if child.id == root.id or relpath is None:
                continue
            is_here = child.state == "online" and why_offline(child) is None
            same_disk = is_here and os.stat(child.path).st_dev == os.stat(root.path).st_dev
            if same_disk and reaches(relpath, hidden=self._rules.hidden):
                with self._catalog.transaction():
                    self._catalog.move_into(child, root.id, relpath)

    def _new_root(self, path: str, kind: Literal["folder", "files"]) -> Root:
        same = self._at(path)
        with self._catalog.transaction():
            if same is None:
                self._catalog.add_root(path, kind, self._device(path))
            else:
                self._catalog.update_root(same.id, kind=kind, device=self._device(path))
        made = self._at(path)
        assert made is not None
        return made

    def _at(self, path: str) -> Root | None:
        return next((root for root in self._catalog.roots() if root.path == path), None)

    def _device(self, path: str) -> int | None:
        """What tells a mounted disk from its empty mount point. A root that moves with its index may change it."""
        base = self._store.base
        moves_along = base is not None and f"{path}/".startswith(f"{base.rstrip('/')}/")
        return None if moves_along else os.stat(path).st_dev


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
