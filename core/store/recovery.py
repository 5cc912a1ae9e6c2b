"""What a writer repairs when it opens an index: what an interrupted run or a bad disk left behind."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from imgsearch.core.errors import IndexDamaged, IndexUnusable
from imgsearch.core.paths import free_name, printable

from . import text_index
from .files import SALVAGED, list_paths, try_unlink
from .vectors import crc_of

if TYPE_CHECKING:
    from .records import Space
    from .store import Store

LOST_AND_FOUND = "lost+found"
TEMPORARY = (".new", ".new-wal", ".new-shm", ".new-journal")
"""Endings of the names of files that are being written."""


def recover(store: Store) -> list[str]:
    """Clean up and repair an index that was opened for writing. Returns a line for each thing that was repaired."""
    return [*clean_up(store), *_move_misplaced(store), *_forget_lost_vectors(store)]


def clean_up(store: Store) -> list[str]:
    """Remove the files of an interrupted run that the catalogue does not name."""
    _own_folders(store)
    for space in store.catalog.spaces.all():
        for graph in store.graphs.all_of(space):
            graph.finish_rename()
        for path in store.graphs.stale_files(space):
            try_unlink(path)
        store.byte_vectors(space).cut(space.slots)  # if the catalogue is an older one that was put back
    removed = [path for path in leftovers(store) if not os.path.isdir(path) and try_unlink(path)]
    if not removed:
        return []
    return [f"removed {len(removed)} leftover {'file' if len(removed) == 1 else 'files'} of an interrupted run"]


def leftovers(store: Store) -> list[str]:
    """Files that an interrupted run leaves: half-written ones, and the vectors before or after a prune."""
    found = []
    for folder in (store.folder, os.path.join(store.folder, "spaces")):
        found += list_paths(folder, lambda name: name.endswith(TEMPORARY) and name != SALVAGED)
    for space in store.catalog.spaces.all():
        folder = store.space_folder(space.id)
        found += list_paths(folder, lambda name: name.endswith(".new"))
        if _holds_all_vectors(store, space):  # else the catalogue may belong to the other generation
            endings = ("f32", "i8", "i8.json")
            beside = {f"vectors.{space.generation + step}.{ending}" for step in (-1, 1) for ending in endings}
            found += list_paths(folder, beside.__contains__)
    return found


def _holds_all_vectors(store: Store, space: Space) -> bool:
    try:
        return store.vectors(space).count_rows() >= space.slots
    except (IndexDamaged, OSError):
        return False


def orphans(store: Store) -> list[str]:
    """Folders of spaces that the catalogue does not know."""
    known = {space.id for space in store.catalog.spaces.all()}
    return list_paths(
        os.path.join(store.folder, "spaces"),
        lambda name: re.fullmatch(r"[0-9a-f]{16}", name) is not None and name not in known,
    )


def misplaced(store: Store) -> list[str]:
    """Links, pipes and folders where an index has a file, and anything else where it has a folder."""
    folders = _own_folders(store)
    files = [text_index.path_of(store.folder)]
    for space in store.catalog.spaces.all():
        byte_vectors = store.byte_vectors(space)
        files += [store.vectors(space).path, store.slots_path(space), byte_vectors.path, byte_vectors.info_path]
        files += [path for graph in store.graphs.all_of(space) for path in (graph.path, graph.info_path)]
    return [
        path
        for paths, is_right in ((folders, stat.S_ISDIR), (files, stat.S_ISREG))
        for path in paths
        if (mode := _mode(path)) is not None and not is_right(mode)
    ]


def _own_folders(store: Store) -> list[str]:
    """Raises IndexUnusable for a link: nothing is written or removed where it leads."""
    spaces = store.catalog.spaces.all()
    folders = [os.path.join(store.folder, "spaces"), *(store.space_folder(space.id) for space in spaces)]
    for folder in folders:
        if os.path.islink(folder):
            raise IndexUnusable(
                f"{printable(folder)}: is a link, which is not allowed inside an index",
                hint="replace the link with the folder itself",
            )
    return folders


def put_aside(store: Store, path: str) -> None:
    """Move an unknown file or folder into `lost+found`."""
    if os.path.lexists(path):
        aside = os.path.join(store.folder, LOST_AND_FOUND)
        if not os.path.isdir(aside):
            aside = free_name(aside)
        os.makedirs(aside, mode=0o700, exist_ok=True)
        os.rename(path, free_name(os.path.join(aside, os.path.basename(path))))


def _move_misplaced(store: Store) -> list[str]:
    paths = misplaced(store)
    for path in paths:
        put_aside(store, path)
    return [f"{printable(path)}: not the expected kind of file; moved to {LOST_AND_FOUND}" for path in paths]


def _forget_lost_vectors(store: Store) -> list[str]:
    """Forget vectors that the catalogue names and the file does not hold, so that they are embedded again."""
    lines = []
    for space in store.catalog.spaces.all():
        vectors = store.vectors(space)
        count = vectors.count_rows()
        if count >= space.slots:
            continue
        lines.append(
            f"{printable(vectors.path)}: {space.slots - count:,} of {space.slots:,} vectors are lost; "
            "`imgsearch index` embeds them again"
        )
        store.forget(space, range(count, space.slots), slots_left=count)
    for space in store.catalog.spaces.all():
        os.makedirs(store.space_folder(space.id), mode=0o700, exist_ok=True)
        _add_checksums(store, space)
    return lines


def _add_checksums(store: Store, space: Space) -> None:
    """For vectors that an older imgsearch wrote without one."""
    bare = [vector.slot for vector in store.catalog.vectors.all(space.id, without_crc=True)]
    slots = [slot for slot in bare if isinstance(slot, int) and 0 <= slot < space.slots]
    if slots:
        rows = store.vectors(space).rows(space.slots)
        with store.catalog.transaction():
            store.catalog.vectors.set_checksums(space.id, ((slot, crc_of(rows[slot])) for slot in slots))


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return None
