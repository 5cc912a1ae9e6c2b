"""Repairs of an index: each finding of `check` carries the one that fixes it.

Nothing is made up. Derived files are made again, lost vectors are left for the next run to embed, and unknown files are
moved to `lost+found`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from . import text_index
from .catalog import Catalog
from .consistency import CheckedTable
from .graphs import Graph
from .prune import compact
from .records import Space
from .recovery import put_aside
from .store import Store

Fix = Callable[[Store], None]
Part = Literal["catalogue", "photos", "texts", "vectors", "graph", "slots", "bytes", "files"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with an index."""

    part: Part
    what: str
    """One line that names the file, photo or row."""
    fix: Fix | None = field(default=None, compare=False)
    """Fixes it, or makes the next run do so if something must be embedded again."""
    is_structural: bool = False
    """Whether the catalogue is damaged as a database, so that it must be salvaged."""


def repair(store: Store, findings: Sequence[Finding]) -> bool:
    """Fix what can be fixed; the store is open for writing.

    Returns whether `index` must run over its roots, to find and embed what was lost.
    """
    for finding in findings:
        if finding.fix is not None:
            finding.fix(store)
    for space in store.catalog.spaces.all():
        compact(store, space)
    for space in store.catalog.spaces.all():
        store.update_graphs(space)
        store.save_slots(space)
    store.update_text_index()
    return any(finding.part in ("catalogue", "photos", "texts", "vectors") for finding in findings)


def _change(change: Callable[[Catalog], object]) -> Fix:
    """One transaction of the catalogue."""

    def fix(store: Store) -> None:
        with store.catalog.transaction():
            change(store.catalog)

    return fix


delete_orphans = _change(Catalog.delete_orphans)
set_new_edition = _change(lambda catalog: catalog.consistency.set_new_edition())
attach_notes = _change(lambda catalog: catalog.notes.attach())
attach_readings = _change(lambda catalog: catalog.readings.attach())


def choose_active_space(store: Store) -> None:
    complete = [space for space in store.catalog.spaces.all() if space.state == "complete"]
    with store.catalog.transaction():
        store.catalog.consistency.clear_active_space()
        if complete:
            store.catalog.set_info("active_space", complete[0].id)


def delete_rows(table: CheckedTable, keys: Sequence[int | str]) -> Fix:
    return _change(lambda catalog: catalog.consistency.delete_rows(table, keys))


def delete_texts(keys: Sequence[bytes]) -> Fix:
    return _change(lambda catalog: catalog.consistency.delete_texts(keys))


def read_again(photo_id: int) -> Fix:
    return _change(lambda catalog: catalog.consistency.set_unread(photo_id))


def forget_calibration(space: Space) -> Fix:
    return _change(lambda catalog: catalog.spaces.delete_calibration(space.id))


def fix_notes(bad: Sequence[tuple[bytes, bytes]]) -> Fix:
    """Keep a damaged note that is still a text, under the key of what it says now."""

    def fix(store: Store) -> None:
        with store.catalog.transaction():
            for of, key, text, _ in store.catalog.notes.all():
                if (of, key) in bad:
                    store.catalog.notes.remove(of, [key])
                    if isinstance(of, bytes) and isinstance(text, str):
                        store.catalog.notes.add(of, text)

    return fix


def delete_readings(contents: Sequence[bytes]) -> Fix:
    """Forget what OCR read in these contents, so that they are read again."""
    return _change(lambda catalog: catalog.readings.delete(contents))


def remove_text_index(store: Store) -> None:
    text_index.remove(store.folder)


def remove_file(path: str) -> Fix:
    def fix(_store: Store) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    return fix


def make_private(path: str) -> Fix:
    def fix(_store: Store) -> None:
        with contextlib.suppress(FileNotFoundError):
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
            os.chmod(path, 0o700 if is_folder else 0o600)

    return fix


def move_aside(path: str) -> Fix:
    return lambda store: put_aside(store, path)


def delete_regions(space: Space, contents: Sequence[bytes]) -> Fix:
    """Delete the regions of these contents, so that they are embedded again."""

    def fix(store: Store) -> None:
        with store.catalog.transaction():
            store.catalog.regions.delete(space.id, contents)

    return fix


def forget_vectors(space: Space, slots: Sequence[int]) -> Fix:
    """Forget the vectors in these slots, so that their contents are embedded again."""
    return lambda store: store.forget(space, slots)


def cut_space(space: Space, slots_left: int) -> Fix:
    return lambda store: store.forget(space, range(slots_left, space.slots), slots_left=slots_left)


def remove_graph(graph: Graph) -> Fix:
    return lambda store: graph.remove()
