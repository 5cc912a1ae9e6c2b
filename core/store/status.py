"""What an index holds, in numbers."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from imgsearch.core.light_dataclass import dataclass

if TYPE_CHECKING:
    from .reading_table import ReadingCounts
    from .records import Root, Space
    from .store import Store


@dataclass(frozen=True, slots=True)
class Status:
    """What an index holds."""

    roots: tuple[tuple[Root, int], ...]
    """Each with its number of present photos."""
    photos: dict[str, int]
    """How many are `present`, `gone`, `excluded`, or in an `offline` root whatever else they are."""
    failed: int
    damaged: int
    """How many of the present photos are damaged."""
    texts: int
    located: int
    """How many of the present photos have coordinates."""
    named_places: int
    """How many of these have a name for the place."""
    readings: ReadingCounts
    """How many of the present photos OCR has read."""
    spaces: tuple[Space, ...]
    active: Space | None
    covered: frozenset[str]
    """Ids of the spaces whose HNSW graphs are complete; vectors in no graph are scanned."""
    in_graphs: dict[str, int]
    """How many vectors are in HNSW graphs, by the id of the space."""
    bytes: int


def status_of(store: Store) -> Status:
    catalog = store.catalog
    with catalog.reading():
        spaces = tuple(catalog.spaces.all())
        located, named = catalog.place_names.count()
        return Status(
            roots=tuple((root, catalog.photos.count_present(root.id)) for root in catalog.roots.all()),
            photos=catalog.photos.count_by_state(),
            failed=catalog.failures.count_reported(),
            damaged=len(catalog.photos.damaged()),
            texts=catalog.photos.count_texts(),
            located=located,
            named_places=named,
            readings=catalog.readings.counts(),
            spaces=spaces,
            active=store.active_space(),
            covered=frozenset(space.id for space in spaces if store.graphs.are_complete(space)),
            in_graphs={space.id: store.graphs.count_vectors(space) for space in spaces},
            bytes=bytes_on_disk(store.folder),
        )


def bytes_on_disk(folder: str) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
