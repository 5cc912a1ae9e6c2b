"""Browse the photos of an index: by date, by number, with the filters of a query."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgsearch.core.photos import gazetteer
from imgsearch.core.places import CATALOG
from imgsearch.core.search.filter_conditions import condition
from imgsearch.core.search.filters import Filters
from imgsearch.core.store.files import SALVAGED
from imgsearch.core.store.place_names import NamedPlace, by_town
from imgsearch.core.store.records import Place, Root
from imgsearch.core.store.store import RunProgress, Store

if TYPE_CHECKING:
    from imgsearch.core.types import CarriedText

MAX_CAMERAS = 100


@dataclass(frozen=True, slots=True)
class Summary:
    """What an index contains."""

    model: str
    photos: int
    roots: tuple[tuple[Root, int], ...]
    """Each with its number of photos."""
    cameras: tuple[tuple[str, int], ...]
    """Each with its number of photos, most first."""
    edition: int
    """Changes with every commit to the index."""
    progress: RunProgress | None
    """How far a run is that fills the index at this moment."""


class Library:
    """The present photos of online roots. Thread-safe, and independent of searches."""

    def __init__(self, folder: str) -> None:
        self._opened = OpenIndex(folder)
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._opened.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Store]:
        with self._lock:
            store, _ = self._opened.store()
            with store.catalog.reading():
                yield store

    def photo(self, number: int) -> Place | None:
        with self._reading() as store:
            return next(iter(_visible(store, [number])), None)

    def photos_by_id(self, numbers: Sequence[int]) -> list[Place]:
        """In this order, without those that are not in the index."""
        with self._reading() as store:
            return _visible(store, numbers)

    def roots(self) -> list[str]:
        """The paths of the roots that are online."""
        with self._reading() as store:
            return [root.path for root in store.catalog.roots.all() if root.state == "online"]

    def texts(self, number: int) -> list[CarriedText]:
        """The texts of a photo, and its notes."""
        with self._reading() as store:
            return store.catalog.places.texts_of([number]).get(number, [])

    def photos(self, filters: Filters, *, limit: int, offset: int) -> list[Place]:
        """The newest first, undated last. Raises UsageError, QueryError for invalid filters."""
        with self._reading() as store:
            chosen = condition(filters, store=store)
            numbers = store.catalog.places.newest(chosen.sql, limit=limit, offset=offset, **chosen.parameters)
            return _visible(store, numbers)

    def days(self, filters: Filters) -> list[tuple[str, int]]:
        """The number of photos taken on each day, the last day first."""
        with self._reading() as store:
            chosen = condition(filters, store=store)
            return store.catalog.places.count_by_day(chosen.sql, **chosen.parameters)

    def places(self, filters: Filters) -> list[NamedPlace]:
        """The towns of the photos that match, those with most photos first."""
        with self._reading() as store:
            chosen = condition(filters, store=store)
            return by_town(store.catalog.place_names.all(chosen.sql, **chosen.parameters))

    def hint_on_places(self) -> str | None:
        """Why there are no place names, and what to do about it; None if there are some."""
        with self._reading() as store:
            located, named = store.catalog.place_names.count()
        if named:
            return None
        if not located:
            return "No places: none of the photos has coordinates (GPS)."
        what = "imgsearch index" if gazetteer.version() else f"{gazetteer.INSTALL}, then: imgsearch index"
        return f"No places yet: {located:,} photos have coordinates, but no place names. Add them with: {what}"

    def summary(self) -> Summary:
        with self._reading() as store:
            roots = tuple((root, store.catalog.photos.count_present(root.id)) for root in store.catalog.roots.all())
            return Summary(
                model=store.space_to_search().identity.name,
                photos=sum(count for root, count in roots if root.state == "online"),
                roots=roots,
                cameras=tuple(store.catalog.places.cameras(MAX_CAMERAS)),
                edition=store.catalog.edition(),
                progress=store.progress(),
            )


def _visible(store: Store, numbers: Sequence[int]) -> list[Place]:
    online = {root.path for root in store.catalog.roots.all() if root.state == "online"}
    places = {place.id: place for place in store.catalog.places.by_id(numbers)}
    return [
        place
        for number in numbers
        if (place := places.get(number)) and place.state == "present" and place.root in online
    ]


class OpenIndex:
    """An open index, opened again when its catalogue is replaced by another file."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._store: Store | None = None
        self._stamp: tuple[int | bool, ...] = ()

    def store(self) -> tuple[Store, bool]:
        """The store, and whether it was opened again. Raises IndexNotFound and other StoreErrors."""
        stamp = self._current_stamp()
        if self._store is not None and stamp == self._stamp:
            return self._store, False
        self.close()
        self._store = Store.open(self._folder)
        self._stamp = stamp
        return self._store, True

    def close(self) -> None:
        store, self._store = self._store, None
        if store:
            store.close()

    def _current_stamp(self) -> tuple[int | bool, ...]:
        try:
            info = os.lstat(os.path.join(self._folder, CATALOG))
        except OSError:
            return ()
        return info.st_dev, info.st_ino, os.path.lexists(os.path.join(self._folder, SALVAGED))


def filters_from_json(record: dict[str, Any]) -> Filters:
    """Raises TypeError for an unknown filter."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return Filters(**values)
