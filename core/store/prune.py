"""Pruning: forget photos and models that are no longer needed, and free their disk space."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from imgsearch.core.errors import IndexDamaged, UsageError
from imgsearch.core.paths import printable
from imgsearch.core.writing import fsync_path

from .records import NewVector, Root, Space, join
from .recovery import clean_up, orphans
from .roots import why_offline
from .status import bytes_on_disk
from .store import Store
from .vectors import ROWS_AT_ONCE, crc_of


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or with `dry_run` would be."""

    photos: int
    failures: int
    vectors: int
    """Rows of the spaces that are kept."""
    bytes: int
    spaces: tuple[str, ...] = ()
    """Names of the models whose vectors were all removed."""
    awaited: int = 0
    """Imported vectors that are kept although no photo has their content or text yet."""


def prune(
    store: Store,
    *,
    offline: Sequence[str] = (),
    spaces: Sequence[str] = (),
    imported: bool = False,
    dry_run: bool = False,
    on_lost: Callable[[str], None] = lambda path: None,
) -> Pruned:
    """Forget photos that are gone, after looking at the disk again, and remove their vectors.

    Offline roots are kept, except those in `offline` (absolute paths), whose missing photos are forgotten. Spaces that
    search no longer uses are removed; one that is still being built only if it is in `spaces` (model or id). Imported
    vectors without a photo are kept, unless `imported`. `on_lost` is called with the path of each photo to forget.
    Raises UsageError for a name that is not an offline root, or not a space that can be removed.
    """
    named = _named_roots(store, offline)
    superseded = _superseded(store, spaces)
    removed = tuple(space.identity.name for space in superseded)
    photos = []
    for root in store.catalog.roots.all():
        for number, folder, name in _lost_photos(store, root, root.id in named):
            photos.append(number)
            on_lost(root.path_of(join(folder, name)))
    failures = [row for root in store.catalog.roots.all() for row in _lost_failures(store, root)]
    if dry_run:
        pending = 0 if imported else store.catalog.vectors.count_pending_imports()
        return Pruned(len(photos), len(failures), 0, 0, removed, pending)
    before = bytes_on_disk(store.folder)
    store.remove_spaces(superseded)
    slots = sum(space.slots for space in store.catalog.spaces.all())
    with store.catalog.transaction():
        store.catalog.photos.delete(photos)
        if imported:
            store.catalog.vectors.clear_pending_imports()
        store.catalog.regions.delete_stale()
        store.catalog.readings.delete_stale()
        for root_id, folder, name in failures:
            store.catalog.failures.delete(root_id, folder, name)
        for root in store.catalog.roots.all():
            if root.id in named:
                if why_offline(root) is None:
                    store.catalog.roots.update(root.id, state="online", note=None)
                else:
                    store.catalog.roots.delete(root.id)
    for space in store.catalog.spaces.all():
        compact(store, space)
    for space in store.catalog.spaces.all():
        store.update_graphs(space)
        store.save_slots(space)
    store.update_text_index()
    if store.catalog.spaces.all():  # a catalogue without spaces may itself be damaged
        for orphan in orphans(store):
            if os.path.isdir(orphan) and not os.path.islink(orphan):
                shutil.rmtree(orphan)
    store.catalog.vacuum()
    return Pruned(
        photos=len(photos),
        failures=len(failures),
        vectors=slots - sum(space.slots for space in store.catalog.spaces.all()),
        bytes=max(0, before - bytes_on_disk(store.folder)),
        spaces=removed,
        awaited=store.catalog.vectors.count_pending_imports(),
    )


def _superseded(store: Store, named: Sequence[str]) -> list[Space]:
    """The named spaces, and complete ones that search no longer uses."""
    active = store.active_space()
    wanted = {_named_space(store, name, active).id for name in named}
    if active is not None and active.state == "complete":
        wanted |= {space.id for space in store.catalog.spaces.all() if space.state == "complete"} - {active.id}
    return [space for space in store.catalog.spaces.all() if space.id in wanted]


def _named_space(store: Store, name: str, active: Space | None) -> Space:
    found = [space for space in store.catalog.spaces.all() if name in (space.id, space.identity.name)]
    if not found:
        raise UsageError(f"{printable(name)}: not a model of this index", hint="`imgsearch status` lists them")
    if len(found) > 1:
        ids = ", ".join(space.id for space in found)
        raise UsageError(
            f"{printable(name)}: {len(found)} models of this index have this name", hint=f"give an id: {ids}"
        )
    if active is not None and found[0].id == active.id:
        raise UsageError(
            f"{printable(name)}: search uses this model, so it cannot be removed",
            hint="index everything with another one first: imgsearch index --model NAME",
        )
    return found[0]


def _named_roots(store: Store, offline: Sequence[str]) -> set[int]:
    named = set()
    for path in offline:
        root = next((root for root in store.catalog.roots.all() if root.path == path), None)
        if root is None or root.state != "offline":
            raise UsageError(
                f"{printable(path)}: not an offline root of this index", hint="`imgsearch status` lists them"
            )
        named.add(root.id)
    return named


def _lost_photos(store: Store, root: Root, is_named: bool) -> list[tuple[int, bytes, bytes]]:
    """Id, folder and name of photos to forget: gone, excluded, or missing in a root that was named."""
    if is_named:
        is_there = why_offline(root) is None
        photos = store.catalog.photos.of_root(root.id)
        return [photo[:3] for photo in photos if not (is_there and _exists(root, photo[1], photo[2]))]
    if root.state == "offline" or why_offline(root) is not None:
        return []
    photos = store.catalog.photos.not_present(root.id)
    return [photo[:3] for photo in photos if photo[3] == "excluded" or not _exists(root, photo[1], photo[2])]


def _lost_failures(store: Store, root: Root) -> list[tuple[int, bytes, bytes]]:
    if root.state == "offline" or why_offline(root) is not None:
        return []
    failures = store.catalog.failures.of_root(root.id)
    return [(root.id, folder, name) for folder, name in failures if not _exists(root, folder, name)]


def _exists(root: Root, folder: bytes, name: bytes) -> bool:
    return os.path.lexists(root.path_of(join(folder, name)))


def compact(store: Store, space: Space) -> Space:
    """Write the live vectors to a new generation and switch to it with one commit.

    Raises IndexDamaged for a vector that is not the one that was written: it must not get a new slot and checksum.
    """
    live = store.catalog.vectors.in_use(space.id)
    if len(live) == space.slots:
        return space
    generation = space.generation + 1
    _copy_vectors(store, space, live, generation)
    with store.catalog.transaction():
        renumbered = (replace(vector, slot=slot) for slot, vector in enumerate(live))
        store.catalog.vectors.replace_all(space.id, renumbered)
        store.catalog.spaces.update(space.id, generation=generation, slots=len(live))
    store.graphs.remove(space)
    clean_up(store)
    return store.reload(space)


def _copy_vectors(store: Store, space: Space, vectors: Sequence[NewVector], generation: int) -> None:
    old, new = store.vectors(space), store.vectors(space, generation)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new.path)
    rows = old.rows(space.slots)
    for start in range(0, max(len(vectors), 1), ROWS_AT_ONCE):
        chunk = vectors[start : start + ROWS_AT_ONCE]
        chosen = rows[[vector.slot for vector in chunk]]
        if any(v.crc not in (None, crc_of(row)) for v, row in zip(chunk, chosen, strict=True)):
            raise IndexDamaged(f"{printable(old.path)}: holds a damaged vector")
        new.append(start, chosen)
    fsync_path(os.path.dirname(new.path))
