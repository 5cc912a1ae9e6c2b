"""An open index: who may write to it, in which order, and what a reader sees.

Vectors are appended and made durable first, then one catalogue commit names their slots. A reader takes the committed
count and never looks beyond it; the next writer overwrites rows that an interrupted one left there.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from imgsearch.core.errors import (
    IndexDamaged,
    IndexLocked,
    IndexNotFound,
    IndexTooOld,
    IndexUnusable,
    StoreError,
    UsageError,
)
from imgsearch.core.late import LateModule
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import printable
from imgsearch.core.places import CATALOG, PORTABLE, remember_index
from imgsearch.core.types import CarriedText, Modality, Photo, Region, Skipped, SpaceIdentity
from imgsearch.core.writing import fsync_path

from .byte_vectors import ByteRows, ByteVectors
from .calibration import Calibration
from .catalog import Catalog
from .files import SALVAGED
from .graphs import Graphs
from .lock import POLL_SECONDS, OnWait, write_lock, writer_of
from .reading_table import Reading
from .records import KnownPhoto, NewPhoto, NewVector, Place, Root, Space, join, region_keys, split
from .vectors import FlatVectors, SlotMap, crc_of

if TYPE_CHECKING:
    import numpy as np

    from imgsearch.core.types import Vectors

    from .status import Status
else:
    np = LateModule("numpy")

# From this cosine on, a photo that was edited in place still shows the same, and keeps its notes. Of 10,000 pairs of
# different Flickr8k photos, 2 are above with the built-in model. Light, contrast, saturation and mirroring keep all of
# 80 photos above; turning grey, a quarter turn or cutting off a fifth of each side puts many below.
SAME_PICTURE = 0.7
PROGRESS = "progress"
"""The key of a run's progress in the catalogue."""
UPDATE_SECONDS = 3.0
"""How long a reader waits for another process that upgrades the catalogue, which takes a moment."""


@dataclass(slots=True)
class Batch:
    """What one checkpoint writes."""

    photos: list[tuple[int, NewPhoto, tuple[tuple[bytes, CarriedText], ...]]] = field(default_factory=list)
    """(root id, photo, its texts with their keys)"""
    images: dict[bytes, Vectors] = field(default_factory=dict)
    """Unit vectors by content hash or key of a region, for those that have none yet."""
    regions: dict[bytes, tuple[Region, ...]] = field(default_factory=dict)
    """The regions of panoramas by content hash; their vectors are in `images`."""
    texts: dict[bytes, Vectors] = field(default_factory=dict)
    found_again: list[tuple[KnownPhoto, Photo]] = field(default_factory=list)
    failures: list[tuple[int, Photo, Skipped, bool]] = field(default_factory=list)
    """(root id, photo, why, whether it is left out of reports)"""
    readings: list[Reading] = field(default_factory=list)
    """What OCR has read."""
    is_for_later: bool = False
    """Whether vectors are kept although no photo has their content or text yet."""

    def __len__(self) -> int:
        return len(self.photos) + len(self.found_again) + len(self.failures)


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How many files an index run has done, of those that it planned."""

    done: int
    planned: int

    def __str__(self) -> str:
        return f"{self.done:,} of {self.planned:,} photos"


@dataclass(frozen=True, slots=True)
class View:
    """One consistent state of one space, to search in."""

    space: Space
    rows: Vectors
    slots: SlotMap
    edition: int
    """The edition of the catalogue that it shows."""


class Store:
    """An open index. Only a store opened for writing holds the lock and may change anything."""

    def __init__(self, folder: str, *, write: bool) -> None:
        self.folder = folder
        self.base = os.path.dirname(folder) if os.path.basename(folder) == PORTABLE else None
        self.catalog = Catalog(os.path.join(folder, CATALOG), write=write, base=self.base)
        self.graphs = Graphs(folder, self.catalog)
        self.repairs: list[str] = []
        """What was repaired on opening for writing, a line each."""

    @classmethod
    def open(cls, folder: str, *, update: bool = True) -> Store:
        """Open for reading. With `update`, the catalogue of an older imgsearch is upgraded first.

        Raises IndexNotFound, IndexTooNew, IndexTooOld, IndexDamaged.
        """
        _require_catalog(folder)
        until = time.monotonic() + UPDATE_SECONDS
        while True:
            try:
                return cls(folder, write=False)
            except IndexTooOld:
                if not update:
                    raise
            _upgrade(folder, until)

    @classmethod
    @contextlib.contextmanager
    def writing(cls, folder: str, *, create: bool = False, wait: OnWait | None = None) -> Iterator[Store]:
        """Open for writing, and repair what needs it. If another process writes, raises IndexLocked, or with `wait`
        calls that and waits."""
        from .recovery import recover

        is_new = not os.path.lexists(os.path.join(folder, CATALOG))
        if not is_new:
            _require_catalog(folder)
        else:
            if not create:
                raise IndexNotFound(f"no index at {printable(folder)}")
            _make_folder(folder)
        with write_lock(folder, wait):
            # SQLite gives its log the permissions of the catalogue.
            os.close(os.open(os.path.join(folder, CATALOG), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            store = cls(folder, write=True)
            try:
                store.repairs = recover(store)
                if is_new:
                    remember_index(folder)
                yield store
            finally:
                store.close()

    def close(self) -> None:
        self.catalog.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # spaces

    def active_space(self) -> Space | None:
        """The space that search uses: the first one made, until another is complete."""
        space_id = self.catalog.get_info("active_space")
        if space_id is not None:
            return self.catalog.spaces.get(space_id)
        spaces = self.catalog.spaces.all()
        return spaces[0] if spaces else None

    def space_for(self, identity: SpaceIdentity, model: str) -> Space:
        """The space of that model, made if needed. `model` is the `ModelSpec` as JSON."""
        known = next((s for s in self.catalog.spaces.all() if s.identity.fingerprint == identity.fingerprint), None)
        if known:
            values = {}
            if not identity.details.keys() <= known.identity.details.keys():  # an earlier version recorded less
                values["details"] = json.dumps(known.identity.details | identity.details, sort_keys=True)
            if model != known.model:  # the weights have moved, or the space was imported
                values["model"] = model
            if values:
                with self.catalog.transaction():
                    self.catalog.spaces.update(known.id, **values)
                return self.reload(known)
            return known
        space_id = identity.fingerprint[:16]
        folder = self.space_folder(space_id)
        with self.catalog.transaction():
            self.catalog.spaces.add(space_id, identity, model)
            if self.catalog.get_info("active_space") is None:
                self.catalog.set_info("active_space", space_id)
        for level in (os.path.dirname(folder), folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(level, 0o700)
            fsync_path(os.path.dirname(level))
        space = self.catalog.spaces.get(space_id)
        assert space is not None
        return space

    def complete(self, space: Space) -> int:
        """Make search use this space if every present photo, with its texts, and every note has its vectors there.

        Returns how many photos, notes and texts read by OCR lack them. Photos that failed are not counted.
        """
        missing = len(self.catalog.photos.without_vectors(space.id)) + len(self.catalog.notes.without_vectors(space.id))
        missing += len(self.catalog.readings.without_vectors(space.id))
        active = self.active_space()
        if missing or (space.slots == 0 and active is not None and active.slots > 0):
            return missing
        if space.state != "complete" or self.catalog.get_info("active_space") != space.id:
            with self.catalog.transaction():
                self.catalog.spaces.update(space.id, state="complete")
                self.catalog.set_info("active_space", space.id)
        return 0

    def remove_spaces(self, spaces: Sequence[Space]) -> None:
        """Delete spaces and their files. Must not name the active one, which search uses."""
        import shutil

        for space in spaces:
            self.graphs.remove(space)  # first: if the folder stays, a new space must not find them there
        with self.catalog.transaction():
            for space in spaces:
                self.catalog.spaces.delete(space.id)
        for space in spaces:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.space_folder(space.id))

    # writing

    def commit(self, space: Space, batch: Batch, *, codecs: str, progress: RunProgress | None = None) -> Space:
        """Make one checkpoint durable: vectors first, then the rows that name them. Returns the updated space."""
        new = self._append_vectors(space, batch)
        edited = list(self._edited(space, batch))
        with self.catalog.transaction():
            self.catalog.vectors.add(space.id, new)
            self.catalog.regions.add(space.id, batch.regions)
            self.catalog.spaces.update(space.id, slots=space.slots + len(new))
            for before, after in edited:
                self.catalog.notes.copy(before, after)
            for root_id, photo, texts in batch.photos:
                self.catalog.photos.write(root_id, photo, texts)
            for known, found in batch.found_again:
                self.catalog.photos.mark_present(known.id, found)
            for root_id, failed, skipped, is_silent in batch.failures:
                self.catalog.failures.write(root_id, failed, skipped, codecs=codecs, is_silent=is_silent)
            for reading in batch.readings:
                self.catalog.readings.add(reading)
            if batch.is_for_later:
                parts = {key for of, regions in batch.regions.items() for key in region_keys(of, regions)[1:]}
                self.catalog.vectors.add_pending_imports(batch.images.keys() - parts, batch.texts)
            self.catalog.vectors.clear_pending_imports(_keys_of(batch))
            if progress is not None:
                self.catalog.set_info(PROGRESS, f"{progress.done} {progress.planned}")
        return self.reload(space)

    def progress(self) -> RunProgress | None:
        """How far the run is that fills the index at this moment; None if there is none, or it has nothing left."""
        done, _, planned = (self.catalog.get_info(PROGRESS) or "").partition(" ")
        if not (done.isdecimal() and planned.isdecimal() and int(done) < int(planned)):
            return None
        try:
            return RunProgress(int(done), int(planned)) if writer_of(self.folder) else None
        except OSError:
            return None

    def _append_vectors(self, space: Space, batch: Batch) -> list[NewVector]:
        """Append the vectors that the space lacks. Returns the rows that will name them."""
        new: list[NewVector] = []
        rows: list[Vectors] = []
        by_modality: tuple[tuple[Modality, dict[bytes, Vectors]], ...] = (
            ("image", batch.images),
            ("text", batch.texts),
        )
        for modality, vectors in by_modality:
            for key, row in vectors.items():
                if not self.catalog.vectors.has(space.id, modality, key):
                    new.append(NewVector(space.slots + len(new), modality, key, crc_of(row)))
                    rows.append(row)
        if rows:
            flat = self.vectors(space)
            flat.rows(space.slots)  # raises if vectors are missing: a hole would look like vectors of zeros
            flat.append(space.slots, np.stack(rows))
        return new

    def forget(self, space: Space, slots: Iterable[int], *, slots_left: int | None = None) -> None:
        """Forget the vectors in these slots, so that the next run embeds their contents again.

        With `slots_left`, the space keeps only its first `slots_left` slots.
        """
        slots = list(slots)
        end = space.slots if slots_left is None else slots_left
        self.graphs.remove_covering(space, slots, end)  # first: slots from `end` on will get other contents
        self.byte_vectors(space).cut(end)
        with self.catalog.transaction():
            self.catalog.vectors.delete(space.id, slots)
            if slots_left is not None:
                self.catalog.spaces.update(space.id, slots=slots_left)
            if space.id != self.catalog.get_info("active_space"):
                self.catalog.spaces.update(space.id, state="building")

    def _edited(self, space: Space, batch: Batch) -> Iterator[tuple[bytes, bytes]]:
        """The contents before and after of photos that were edited in place, have notes, and still show the same.

        (Cameras reuse the names of old photos for new ones.)
        """
        if not self.catalog.notes.exist():
            return
        for root_id, photo, _ in batch.photos:
            before = self.catalog.photos.content_at(root_id, *split(photo.photo.relpath))
            if before in (None, photo.content_hash) or not self.catalog.notes.exist(before):
                continue
            old, new = self._vector_of(space, before), batch.images.get(photo.content_hash)
            if new is None:
                new = self._vector_of(space, photo.content_hash)
            if old is not None and new is not None and float(old @ new) >= SAME_PICTURE:
                yield before, photo.content_hash

    def _vector_of(self, space: Space, content_hash: bytes) -> Vectors | None:
        slot = self.catalog.vectors.slot_of(space.id, "image", content_hash)
        if slot is None or not 0 <= slot < space.slots:
            return None
        return np.array(self.vectors(space).rows(space.slots)[slot])

    def is_up_to_date(self, space: Space) -> bool:
        """Whether the space's derived files were made after the last commit."""
        if space.state != "complete" or self.catalog.get_info("active_space") != space.id:
            return False
        if not self.graphs.are_up_to_date(space) or self.byte_vectors(space).is_due(space.slots):
            return False
        return SlotMap.is_current(self.slots_path(space), space.slots, self.catalog.edition())

    def save_slots(self, space: Space) -> None:
        """Write the slot map, so that readers need not build it from the catalogue, and the bytes of new vectors."""
        with self.catalog.reading():
            edition = self.catalog.edition()
            slots = SlotMap.build(space.slots, self.catalog.vectors.live_slots(space.id))
        byte_vectors = self.byte_vectors(space)
        if byte_vectors.is_due(space.slots):
            byte_vectors.update(self.vectors(space).rows(space.slots), np.flatnonzero(slots.mask("image")))
        slots.save(self.slots_path(space), edition)

    def refresh_slots(self, space: Space) -> None:
        """Write the slot map after a small change, unless a graph is missing: a stale map tells the next run to make
        one."""
        if self.graphs.are_up_to_date(space):
            self.save_slots(space)

    def update_text_index(self) -> None:
        """Bring the full-text index up to date."""
        from . import text_index

        text_index.update(self.catalog, self.folder)

    def update_graphs(
        self, space: Space, stop: Callable[[], bool] = lambda: False, *, min_age_seconds: float = 0
    ) -> bool:
        """Make the graphs that are due, or let them grow, but none that is younger than `min_age_seconds`.

        False without hnswlib, or if `stop` ended it early.
        """
        return self.graphs.update(
            space, lambda: self.vectors(space).rows(space.slots), stop, min_age_seconds=min_age_seconds
        )

    # calibration

    def calibration(self, space: Space) -> Calibration | None:
        return self.catalog.spaces.calibration(space)

    def save_calibration(self, space: Space, calibration: Calibration) -> None:
        with self.catalog.transaction():
            self.catalog.spaces.set_calibration(space.id, calibration)

    # reading

    def space_to_search(self) -> Space:
        """The active space. Raises IndexNotFound if nothing is indexed yet."""
        space = self.active_space()
        if space is None:
            raise IndexNotFound(
                f"nothing indexed yet in {printable(self.folder)}", hint="fill it with: imgsearch index FOLDER"
            )
        return space

    def view(self, space: Space | None = None) -> View:
        """A consistent state to search in. Raises IndexDamaged, or IndexNotFound if nothing is indexed yet."""
        for attempt in range(3):
            with self.catalog.reading():
                current = self.reload(space) if space else self.space_to_search()
                edition = self.catalog.edition()
                try:
                    rows = self.vectors(current).rows(current.slots)
                except IndexDamaged:
                    # A prune may have switched generations after the catalogue was read.
                    if attempt == 2:
                        raise
                    continue
                slots = SlotMap.load(self.slots_path(current), current.slots, edition)
                if slots is None:
                    slots = SlotMap.build(current.slots, self.catalog.vectors.live_slots(current.id))
                return View(current, rows, slots, edition)
        raise AssertionError("unreachable")

    def byte_rows(self, view: View) -> ByteRows | None:
        """The bytes of the view's vectors or of the first of them; None if there are none that can be used."""
        return self.byte_vectors(view.space).load(view.space.slots)

    def verify_checksums(self, view: View, slots: Sequence[int]) -> None:
        """Raises IndexDamaged unless the vectors in these slots are those that were written."""
        crcs = self.catalog.vectors.checksums(view.space.id, slots)
        if any(crc_of(view.rows[slot]) != crc for slot, crc in crcs.items()):
            raise self.damaged_vector()

    def damaged_vector(self) -> IndexDamaged:
        return IndexDamaged(f"{printable(self.folder)}: a vector is damaged")

    def place_of(self, path: str) -> Place | None:
        """The indexed photo at that absolute path."""
        for root, relpath in self.roots_over(path):
            place = self.catalog.places.at(root.id, relpath)
            if place is not None:
                return place
        return None

    def roots_over(self, path: str) -> Iterator[tuple[Root, str]]:
        """The roots that contain `path`, as given or with links resolved, each with the path relative to it."""
        for spelling in dict.fromkeys((path, os.path.realpath(path))):
            for root in self.catalog.roots.all():
                for top in dict.fromkeys((root.path, os.path.realpath(root.path))):
                    if spelling == top:
                        yield root, ""
                    elif spelling.startswith(top.rstrip("/") + "/"):
                        yield root, spelling[len(top.rstrip("/")) + 1 :]

    def failures(self) -> list[Skipped]:
        """Files that could not be indexed, by path, without those that are left out of reports."""
        roots = {root.id: root.path for root in self.catalog.roots.all()}
        return [
            Skipped(os.path.join(roots[root_id], join(folder, name)), stage, reason)
            for root_id, folder, name, stage, reason in self.catalog.failures.reported()
        ]

    def failed_readings(self) -> list[Skipped]:
        """The indexed photos in which OCR could read no text."""
        reasons = dict(self.catalog.readings.failed())
        places = self.catalog.places.by_id(list(reasons))
        return [Skipped(place.path, "ocr", str(reasons[place.id])) for place in places]

    def damaged(self) -> list[str]:
        """The indexed photos of which only a part could be read, by path."""
        return [place.path for place in self.catalog.places.by_id(self.catalog.photos.damaged())]

    def status(self) -> Status:
        from .status import status_of

        return status_of(self)

    # files of the index

    def space_folder(self, space_id: str) -> str:
        return os.path.join(self.folder, "spaces", space_id)

    def slots_path(self, space: Space) -> str:
        return os.path.join(self.space_folder(space.id), "slots.u8")

    def vectors(self, space: Space, generation: int | None = None) -> FlatVectors:
        """The vector file of the space's generation, or of another one."""
        number = space.generation if generation is None else generation
        return FlatVectors(os.path.join(self.space_folder(space.id), f"vectors.{number}.f32"), space.identity.dim)

    def byte_vectors(self, space: Space) -> ByteVectors:
        path = os.path.join(self.space_folder(space.id), f"vectors.{space.generation}.i8")
        return ByteVectors(path, space.identity.dim)

    def reload(self, space: Space) -> Space:
        """The space as it is now. Raises StoreError if it was removed."""
        current = self.catalog.spaces.get(space.id)
        if current is None:
            raise StoreError(
                f"{printable(self.folder)}: the vectors of {printable(space.identity.name)} have just been removed",
                hint="run the same command again: search uses another model now",
            )
        return current


def _upgrade(folder: str, until: float) -> None:
    """Upgrade the catalogue. If another process holds the lock, wait a moment and return: the caller tries again.

    Raises IndexLocked from `until` on: then it is a writer of the older version.
    """
    try:
        with write_lock(folder), contextlib.closing(Catalog(os.path.join(folder, CATALOG), write=True)):
            pass
    except IndexLocked as error:
        if time.monotonic() > until:
            raise IndexLocked(
                f"{error}, and made by an older version", hint="it can be searched once that process has ended"
            ) from error
        time.sleep(POLL_SECONDS)


def _require_catalog(folder: str) -> None:
    try:
        is_regular = stat.S_ISREG(os.lstat(os.path.join(folder, CATALOG)).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise IndexNotFound(f"no index at {printable(folder)}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise IndexUnusable(f"{printable(folder)}: {reason}") from error
    if os.path.lexists(os.path.join(folder, SALVAGED)):
        raise IndexDamaged(
            f"{printable(folder)}: a repair was interrupted", hint="finish it with: imgsearch check --repair"
        )
    if not is_regular:
        raise IndexDamaged(
            f"{printable(os.path.join(folder, CATALOG))}: not a regular file", hint="choose another index with --index"
        )


def _keys_of(batch: Batch) -> Iterator[bytes]:
    """Keys of the contents and texts of a checkpoint's photos."""
    for _, photo, texts in batch.photos:
        yield photo.content_hash
        yield from (key for key, _ in texts)
    for known, _ in batch.found_again:
        yield known.content_hash


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder) and not set(os.listdir(folder)) <= {"lock", "spaces"}:
        raise UsageError(
            f"{printable(folder)}: not empty and not an index",
            hint="name a new or empty folder, or make DIR/.imgsearch with: imgsearch init DIR",
        )
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, stat.S_IRWXU)
    except OSError as error:
        raise IndexUnusable(f"{printable(folder)}: cannot make an index here ({error.strerror})") from error
