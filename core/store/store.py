"""Catalogue and vectors as one thing: who may write, in which order, and what a reader sees.

Truth and order: vectors are appended and made durable first, then one catalogue commit names their slots. A reader
takes the committed count and never looks beyond it; the next writer overwrites what an interrupted one left there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from imgsearch.core.errors import IndexDamaged, IndexLocked, IndexNotFound, IndexTooOld, StoreError, UsageError
from imgsearch.core.late import LateModule
from imgsearch.core.paths import free_name, fsync_path, naming, printable
from imgsearch.core.places import CATALOG as CATALOG
from imgsearch.core.places import PORTABLE as PORTABLE
from imgsearch.core.places import locate as locate
from imgsearch.core.places import remember_index
from imgsearch.core.types import CarriedText, Modality, Photo, Skipped, SpaceIdentity

from .calibration import Calibration
from .catalog import Catalog, Known, NewPhoto, NewVector, Place, Root, Space, join, split
from .vectors import CHECK_HINT, HNSW_SHARE, ROWS_AT_ONCE, FlatVectors, Graph, SlotMap, crc_of, graph_slots

if TYPE_CHECKING:
    import numpy as np

    from imgsearch.core.types import Vectors
else:
    np = LateModule("numpy")

LOST_AND_FOUND = "lost+found"
TEMPORARY = (".new", ".new-wal", ".new-shm", ".new-journal")
"""How the names of files end that are being written."""
SALVAGED = f"{CATALOG}.salvaged.new"
"""A catalogue that was saved and has yet to be put in its place."""
MODALITIES: tuple[Modality, ...] = ("image", "text")

_GRAPH_FILE = re.compile(r"hnsw\.(?:image|text)(?:\.\d+)?(?:\.json)?")
"""Without a number: as they were named when there was one graph a modality."""
# From this cosine on a photo that was changed in its place still is the same picture, and its notes stay with it: what
# editing does hardly goes below, and of 10,000 pairs of different photos 2 lie above (docs/benchmarks.md).
SAME_PICTURE = 0.7
# A waiting writer looks so often whether the lock is free: soon enough for a person, and next to no work.
LOCK_POLL_SECONDS = 0.1
UPDATE_SECONDS = 3.0
"""How long a reader waits for another process that brings the catalogue up to date, which takes a moment."""


@dataclass(slots=True)
class Batch:
    """What one checkpoint writes."""

    photos: list[tuple[int, NewPhoto, tuple[tuple[bytes, CarriedText], ...]]] = field(default_factory=list)
    """(root id, photo, its texts with their keys)"""
    images: dict[bytes, Vectors] = field(default_factory=dict)
    """Unit vectors by content hash, for contents that have none yet."""
    texts: dict[bytes, Vectors] = field(default_factory=dict)
    found_again: list[tuple[Known, Photo]] = field(default_factory=list)
    failures: list[tuple[int, Photo, Skipped, bool]] = field(default_factory=list)
    """(root id, photo, why, whether it is to be passed over silently)"""
    is_for_later: bool = False
    """Whether the vectors are kept also where no photo has their contents and texts yet."""

    def __len__(self) -> int:
        return len(self.photos) + len(self.found_again) + len(self.failures)


@dataclass(frozen=True, slots=True)
class View:
    """One consistent state of one space, to search in."""

    space: Space
    rows: Vectors
    slots: SlotMap
    edition: int
    """The catalogue's, of which it is a view."""


@dataclass(frozen=True, slots=True)
class Status:
    """What an index holds."""

    roots: tuple[tuple[Root, int], ...]
    """Each with its number of present photos."""
    photos: dict[str, int]
    """How many are `present`, `gone`, `excluded` or, whatever else they are, in an `offline` root."""
    failed: int
    texts: int
    spaces: tuple[Space, ...]
    active: Space | None
    covered: frozenset[str]
    """Ids of spaces that have every HNSW graph that they should; what is in none of them is scanned."""
    in_graphs: dict[str, int]
    """How many vectors are in HNSW graphs, by the id of the space."""
    bytes: int


class Store:
    """An open index. Only a store opened for writing holds the lock and may change anything."""

    def __init__(self, folder: str, *, write: bool) -> None:
        self.folder = folder
        self.base = os.path.dirname(folder) if os.path.basename(folder) == PORTABLE else None
        self.catalog = Catalog(os.path.join(folder, CATALOG), write=write, base=self.base)
        self.repairs: list[str] = []
        """What was put right on opening for writing, a line each."""

    @classmethod
    def open(cls, folder: str, *, update: bool = True) -> Store:
        """Open for reading; with `update`, one that an older imgsearch made is brought up to date first. Raises
        IndexNotFound, IndexTooNew, IndexTooOld, IndexDamaged."""
        _require_catalog(folder)
        until = time.monotonic() + UPDATE_SECONDS
        while True:
            try:
                return cls(folder, write=False)
            except IndexTooOld:
                if not update:
                    raise
            _bring_up_to_date(folder, until)

    @classmethod
    @contextlib.contextmanager
    def writing(
        cls, folder: str, *, create: bool = False, wait: Callable[[str], None] | None = None
    ) -> Iterator[Store]:
        """Open for writing, alone. If another process writes: raises IndexLocked, or with `wait` waits for its end.

        `wait` is called once before that, with what is known of that process: its number, or "unknown".
        """
        is_new = not os.path.lexists(os.path.join(folder, CATALOG))
        if not is_new:
            _require_catalog(folder)
        else:
            if not create:
                raise IndexNotFound(f"no index at {printable(folder)}", hint="make one with: imgsearch index FOLDER")
            _make_folder(folder)
        with locked(folder, wait):
            # SQLite gives its helper files the mode of the catalogue.
            os.close(os.open(os.path.join(folder, CATALOG), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            store = cls(folder, write=True)
            try:
                store.repairs = [*store._tidied(), *store._mended()]
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

    # what an interrupted run or a bad disk left

    def _tidied(self) -> list[str]:
        """Remove the files of an interrupted run that nothing names."""
        self._own_folders()
        for space in self.catalog.spaces():
            for graph in self._all_graphs(space):
                graph.finish()
            for path in self.stale_graphs(space):
                _is_removed(path)
        removed = [path for path in self.leftovers() if not os.path.isdir(path) and _is_removed(path)]
        if not removed:
            return []
        return [f"removed {len(removed)} leftover {'file' if len(removed) == 1 else 'files'} of an interrupted run"]

    def leftovers(self) -> list[str]:
        """Files that an interrupted run of ours leaves: half-written ones, and the vectors before or after a prune."""
        found = []
        for folder in (self.folder, os.path.join(self.folder, "spaces")):
            found += _entries(folder, lambda name: name.endswith(TEMPORARY) and name != SALVAGED)
        for space in self.catalog.spaces():
            folder = self.space_folder(space.id)
            found += _entries(folder, lambda name: name.endswith(".new"))
            if self._holds_all(space):  # else the catalogue is not the one that these belong to
                beside = {f"vectors.{space.generation + step}.f32" for step in (-1, 1)}
                found += _entries(folder, beside.__contains__)
        return found

    def _holds_all(self, space: Space) -> bool:
        try:
            return self.flat(space).held() >= space.slots
        except (IndexDamaged, OSError):
            return False

    def orphans(self) -> list[str]:
        """Folders of spaces that the catalogue does not know."""
        known = {space.id for space in self.catalog.spaces()}
        return _entries(
            os.path.join(self.folder, "spaces"),
            lambda name: re.fullmatch(r"[0-9a-f]{16}", name) is not None and name not in known,
        )

    def misplaced(self) -> list[str]:
        """Links, pipes and folders in place of an index's own files, and the other way round."""
        spaces = self.catalog.spaces()
        folders = self._own_folders()
        files = []
        for space in spaces:
            graphs = [graph.path for graph in self._all_graphs(space)]
            files += [self.flat(space).path, self.slots_path(space), *graphs, *(f"{path}.json" for path in graphs)]
        return [
            path
            for paths, is_right in ((folders, stat.S_ISDIR), (files, stat.S_ISREG))
            for path in paths
            if (mode := _mode(path)) is not None and not is_right(mode)
        ]

    def _own_folders(self) -> list[str]:
        """Raises StoreError for a link: nothing is written or removed where somebody's link may lead."""
        spaces = self.catalog.spaces()
        folders = [os.path.join(self.folder, "spaces"), *(self.space_folder(space.id) for space in spaces)]
        for folder in folders:
            if os.path.islink(folder):
                raise StoreError(
                    f"{printable(folder)}: a link, which an index has not",
                    hint="put the folder itself back there; a whole index lies anywhere with --index",
                )
        return folders

    def put_aside(self, path: str) -> None:
        """Move what nobody knows into `lost+found`."""
        if os.path.lexists(path):
            aside = os.path.join(self.folder, LOST_AND_FOUND)
            if not os.path.isdir(aside):
                aside = free_name(aside)
            os.makedirs(aside, mode=0o700, exist_ok=True)
            os.rename(path, free_name(os.path.join(aside, os.path.basename(path))))

    def _mended(self) -> list[str]:
        """Vectors that the catalogue names and the file does not hold: their contents are to be embedded again."""
        lines = []
        for path in self.misplaced():
            self.put_aside(path)
            lines.append(f"{printable(path)}: not what an index has there; moved to {LOST_AND_FOUND}")
        for space in self.catalog.spaces():
            flat = self.flat(space)
            held = flat.held()
            if held >= space.slots:
                continue
            lines.append(
                f"{printable(flat.path)}: {space.slots - held:,} of {space.slots:,} vectors are lost; "
                "`imgsearch index` embeds them again"
            )
            self.forget(space, range(held, space.slots), slots_left=held)
        for space in self.catalog.spaces():
            os.makedirs(self.space_folder(space.id), mode=0o700, exist_ok=True)
            self._add_checksums(space)
        return lines

    def _add_checksums(self, space: Space) -> None:
        """For vectors that an older imgsearch wrote without."""
        bare = [vector.slot for vector in self.catalog.vectors_of(space.id, without_crc=True)]
        slots = [slot for slot in bare if isinstance(slot, int) and 0 <= slot < space.slots]
        if slots:
            rows = self.flat(space).rows(space.slots)
            with self.catalog.transaction():
                self.catalog.set_crcs(space.id, ((slot, crc_of(rows[slot])) for slot in slots))

    def forget(self, space: Space, slots: Iterable[int], *, slots_left: int | None = None) -> None:
        """Leave the contents behind those slots without a vector, so that the next run embeds them again.

        `slots_left` cuts the space down to its first so many slots.
        """
        slots = list(slots)
        end = space.slots if slots_left is None else slots_left
        for graph in self._all_graphs(space):  # first: numbers beyond the end will mean other contents
            if graph.upto > end or any(isinstance(slot, int) and graph.first <= slot < graph.upto for slot in slots):
                graph.remove()
        with self.catalog.transaction():
            self.catalog.forget_vectors(space.id, slots)
            if slots_left is not None:
                self.catalog.update_space(space.id, slots=slots_left)
            if space.id != self.catalog.get_info("active_space"):
                self.catalog.update_space(space.id, state="building")

    # spaces

    def active_space(self) -> Space | None:
        """The space that search answers from: the first one made, until another is complete."""
        space_id = self.catalog.get_info("active_space")
        if space_id is not None:
            return self.catalog.space(space_id)
        spaces = self.catalog.spaces()
        return spaces[0] if spaces else None

    def space_for(self, identity: SpaceIdentity, model: str) -> Space:
        """The space of that model, made if there is none. `model` is the `ModelSpec` as JSON."""
        known = next((s for s in self.catalog.spaces() if s.identity.fingerprint == identity.fingerprint), None)
        if known:
            values = {}
            if not identity.details.keys() <= known.identity.details.keys():  # an earlier version recorded less
                values["details"] = json.dumps(known.identity.details | identity.details, sort_keys=True)
            if model != known.model:  # the same weights lie elsewhere now, or here and not where an import came from
                values["model"] = model
            if values:
                with self.catalog.transaction():
                    self.catalog.update_space(known.id, **values)
                return self._again(known)
            return known
        space_id = identity.fingerprint[:16]
        folder = self.space_folder(space_id)
        with self.catalog.transaction():
            self.catalog.add_space(space_id, identity, model)
            if self.catalog.get_info("active_space") is None:
                self.catalog.set_info("active_space", space_id)
        for level in (os.path.dirname(folder), folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(level, 0o700)
            fsync_path(os.path.dirname(level))
        space = self.catalog.space(space_id)
        assert space is not None
        return space

    def complete(self, space: Space) -> int:
        """Let search answer from this space, if every present photo and its texts have their vectors there, and every
        note.

        Returns how many photos and notes have not. Photos that failed with this installation are not waited for.
        """
        missing = len(self.catalog.without_vectors(space.id)) + len(self.catalog.notes_without_vectors(space.id))
        active = self.active_space()
        if missing or (space.slots == 0 and active is not None and active.slots > 0):
            return missing
        if space.state != "complete" or self.catalog.get_info("active_space") != space.id:
            with self.catalog.transaction():
                self.catalog.update_space(space.id, state="complete")
                self.catalog.set_info("active_space", space.id)
        return 0

    def remove_spaces(self, spaces: Sequence[Space]) -> None:
        """Forget spaces with all that was made for them. Never the active one: search would have nothing to ask."""
        for space in spaces:
            self._remove_graphs(space)  # first: where its folder outlives it, a new space must not find these there
        with self.catalog.transaction():
            for space in spaces:
                self.catalog.delete_space(space.id)
        for space in spaces:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.space_folder(space.id))

    # writing

    def commit(self, space: Space, batch: Batch, *, codecs: str) -> Space:
        """Make one checkpoint durable: vectors first, then the rows that name them. Returns the space as it is now."""
        new: list[NewVector] = []
        rows: list[Vectors] = []
        wanted: tuple[tuple[Modality, dict[bytes, Vectors]], ...] = (
            ("image", batch.images),
            ("text", batch.texts),
        )
        for modality, vectors in wanted:
            for key, row in vectors.items():
                if not self.catalog.has_vector(space.id, modality, key):
                    new.append(NewVector(space.slots + len(new), modality, key, crc_of(row)))
                    rows.append(row)
        if rows:
            flat = self.flat(space)
            flat.rows(space.slots)  # raises where vectors are missing: a hole would pass for vectors of zeros
            flat.append(space.slots, np.stack(rows))
        edited = list(self._edited(space, batch))
        with self.catalog.transaction():
            self.catalog.add_vectors(space.id, new)
            self.catalog.update_space(space.id, slots=space.slots + len(new))
            for before, after in edited:
                self.catalog.copy_notes(before, after)
            for root_id, photo, texts in batch.photos:
                self.catalog.write_photo(root_id, photo, texts)
            for known, found in batch.found_again:
                self.catalog.touch_photo(known.id, found)
            for root_id, failed, skipped, is_silent in batch.failures:
                self.catalog.write_failure(root_id, failed, skipped, codecs=codecs, is_silent=is_silent)
            if batch.is_for_later:
                self.catalog.await_photos(batch.images, batch.texts)
            self.catalog.await_no_more(_met(batch))
        return self._again(space)

    def _edited(self, space: Space, batch: Batch) -> Iterator[tuple[bytes, bytes]]:
        """The contents before and after of photos that were changed in their places, have notes, and still show the
        same. (Cameras give the names of old photos to new ones.)"""
        if not self.catalog.has_notes():
            return
        for root_id, photo, _ in batch.photos:
            before = self.catalog.content_at(root_id, *split(photo.photo.relpath))
            if before in (None, photo.content_hash) or not self.catalog.has_notes(before):
                continue
            ones = [self._vector_of(space, before), batch.images.get(photo.content_hash)]
            if ones[1] is None:
                ones[1] = self._vector_of(space, photo.content_hash)
            if ones[0] is not None and ones[1] is not None and float(ones[0] @ ones[1]) >= SAME_PICTURE:
                yield before, photo.content_hash

    def _vector_of(self, space: Space, content_hash: bytes) -> Vectors | None:
        slot = self.catalog.slot_of(space.id, "image", content_hash)
        if slot is None or not 0 <= slot < space.slots:
            return None
        return np.array(self.flat(space).rows(space.slots)[slot])

    def is_up_to_date(self, space: Space) -> bool:
        """Whether nothing was committed since this space's derived files were made."""
        if space.state != "complete" or self.catalog.get_info("active_space") != space.id:
            return False
        if not self._is_covered(space):
            return False
        return SlotMap.is_current(self.slots_path(space), space.slots, self.catalog.edition())

    def save_slots(self, space: Space) -> None:
        """Write the derived slot map, so that readers need not build it from the catalogue."""
        with self.catalog.reading():
            edition = self.catalog.edition()
            slots = SlotMap.build(space.slots, self.catalog.live_slots(space.id))
        slots.save(self.slots_path(space), edition)

    def renew_slots(self, space: Space) -> None:
        """The same after a small change, but where a graph is due now: a run makes that, and tells by the slot map."""
        if self._is_covered(space):
            self.save_slots(space)

    # graphs

    def _is_covered(self, space: Space) -> bool:
        """Whether every graph is there that can be made."""
        # In this order: most collections have no graphs, and need not load what makes them.
        return self._has_graphs(space, lambda graph: graph.is_sound(space.generation)) or not Graph.available()

    def graphs(self, space: Space, modality: Modality) -> list[Graph]:
        """The HNSW graphs that there can be, one for each full range of slots. The tail is left to be scanned."""
        span = graph_slots()
        path = os.path.join(self.space_folder(space.id), f"hnsw.{modality}.")
        return [
            Graph(f"{path}{number}", space.identity.dim, number * span, (number + 1) * span)
            for number in range(space.slots // span if span else 0)
        ]

    def _all_graphs(self, space: Space) -> list[Graph]:
        return [graph for modality in MODALITIES for graph in self.graphs(space, modality)]

    def is_due(self, space: Space, modality: Modality, graph: Graph) -> bool:
        """Whether enough vectors lie in its range for a graph to pay."""
        enough = max(1, int((graph.upto - graph.first) * HNSW_SHARE))
        return len(self._slots_of(space, modality, graph, limit=enough)) == enough

    def _has_graphs(self, space: Space, is_right: Callable[[Graph], bool]) -> bool:
        """Whether every graph that is due is right."""
        return all(
            is_right(graph) or not self.is_due(space, modality, graph)
            for modality in MODALITIES
            for graph in self.graphs(space, modality)
        )

    def update_graphs(self, space: Space, stop: Callable[[], bool] = lambda: False) -> bool:
        """Make the graphs that are due and not sound. False without hnswlib, or if `stop` said so before all were."""
        for path in self.stale_graphs(space):
            _is_removed(path)
        if not self._all_graphs(space):
            return True
        if not Graph.available():
            return False
        rows = self.flat(space).rows(space.slots)
        for modality in MODALITIES:
            for graph in self.graphs(space, modality):
                if graph.is_sound(space.generation):
                    continue
                if not self.is_due(space, modality, graph):
                    graph.remove()
                    continue
                slots = self._slots_of(space, modality, graph)
                if not graph.build(rows, slots, generation=space.generation, stop=stop):
                    return False
        return True

    def _slots_of(self, space: Space, modality: Modality, graph: Graph, limit: int = -1) -> list[int]:
        rows = self.catalog.rows(
            "select slot from vectors where space_id = :space and slot >= :first and slot < :upto "
            "and modality = :modality order by slot limit :limit",
            space=space.id,
            modality=modality,
            first=graph.first,
            upto=graph.upto,
            limit=limit,
        )
        return [row[0] for row in rows]

    def stale_graphs(self, space: Space) -> list[str]:
        """Files of graphs of a range that is none now: an earlier version's, or of another `$IMGSEARCH_HNSW_SLOTS`."""
        current = {path for graph in self._all_graphs(space) for path in (graph.path, f"{graph.path}.json")}
        return [path for path in self._graph_files(space) if path not in current and not os.path.isdir(path)]

    def _graph_files(self, space: Space) -> list[str]:
        return _entries(self.space_folder(space.id), lambda name: _GRAPH_FILE.fullmatch(name) is not None)

    def _remove_graphs(self, space: Space) -> None:
        for path in self._graph_files(space):
            _is_removed(path)

    def compact(self, space: Space) -> Space:
        """Write the live vectors to a new generation and switch to it with one commit. Raises IndexDamaged where a
        vector is not what it was when it was written: it must not get a new name."""
        live = [
            NewVector(*row)
            for row in self.catalog.rows(
                """
                select slot, modality, key, crc from vectors v where space_id = :space and (
                    (modality = 'image' and exists (select 1 from photos p where p.content_hash = v.key))
                    or (modality = 'text' and exists (select 1 from photo_texts t where t.key = v.key))
                    or (modality = 'text' and exists (select 1 from notes n where n.key = v.key))
                    or exists (select 1 from awaited a where a.key = v.key)
                ) order by slot
                """,
                space=space.id,
            )
        ]
        if len(live) == space.slots:
            return space
        generation = space.generation + 1
        old = self.flat(space)
        new = FlatVectors(self._vectors_path(space.id, generation), space.identity.dim)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new.path)
        rows = old.rows(space.slots)
        for start in range(0, max(len(live), 1), ROWS_AT_ONCE):
            chunk = live[start : start + ROWS_AT_ONCE]
            chosen = rows[[vector.slot for vector in chunk]]
            if any(v.crc not in (None, crc_of(row)) for v, row in zip(chunk, chosen, strict=True)):
                raise IndexDamaged(f"{printable(old.path)}: holds a damaged vector", hint=CHECK_HINT)
            new.append(start, chosen)
        fsync_path(os.path.dirname(new.path))
        with self.catalog.transaction():
            self.catalog.rows("delete from vectors where space_id = :space", space=space.id)
            renumbered = (replace(vector, slot=slot) for slot, vector in enumerate(live))
            self.catalog.add_vectors(space.id, renumbered)
            self.catalog.update_space(space.id, generation=generation, slots=len(live))
        self._remove_graphs(space)
        self._tidied()
        return self._again(space)

    # calibration

    def calibration(self, space: Space) -> Calibration | None:
        row = self.catalog.row(
            "select pictures, image_mean, text_mean, low_image, low_text, phrases, version "
            "from calibrations where space_id = :space",
            space=space.id,
        )
        if row is None:
            return None
        try:
            calibration = Calibration(
                pictures=int(row[0]),
                image_mean=np.frombuffer(row[1], np.float32).reshape(space.identity.dim),
                text_mean=np.frombuffer(row[2], np.float32).reshape(space.identity.dim),
                low_image=float(row[3]),
                low_text=float(row[4]),
                phrases=np.frombuffer(row[5], np.float32).reshape(-1, space.identity.dim),
                version=int(row[6]),
            )
            if not calibration.is_sound():
                raise ValueError
            return calibration
        except (TypeError, ValueError):
            raise IndexDamaged(
                f"{printable(self.catalog.path)}: the calibration of {space.identity.name} is damaged", hint=CHECK_HINT
            ) from None

    def save_calibration(self, space: Space, calibration: Calibration) -> None:
        with self.catalog.transaction():
            self.catalog.upsert(
                "calibrations",
                {
                    "space_id": space.id,
                    "version": calibration.version,
                    "pictures": calibration.pictures,
                    "image_mean": calibration.image_mean.astype(np.float32).tobytes(),
                    "text_mean": calibration.text_mean.astype(np.float32).tobytes(),
                    "low_image": calibration.low_image,
                    "low_text": calibration.low_text,
                    "phrases": calibration.phrases.astype(np.float32).tobytes(),
                },
                pk="space_id",
            )

    # reading

    def space_to_search(self) -> Space:
        """The active space. Raises IndexNotFound while nothing was ever indexed."""
        space = self.active_space()
        if space is None:
            raise IndexNotFound(
                f"nothing indexed yet in {printable(self.folder)}", hint="fill it with: imgsearch index FOLDER"
            )
        return space

    def view(self, space: Space | None = None) -> View:
        """A consistent state to search in. Raises IndexDamaged, or IndexNotFound while nothing was ever indexed."""
        for attempt in range(3):
            with self.catalog.reading():
                current = self._again(space) if space else self.space_to_search()
                edition = self.catalog.edition()
                try:
                    rows = self.flat(current).rows(current.slots)
                except IndexDamaged:
                    # A prune may have switched generations between our two looks.
                    if attempt == 2:
                        raise
                    continue
                slots = SlotMap.load(self.slots_path(current), current.slots, edition)
                if slots is None:
                    slots = SlotMap.build(current.slots, self.catalog.live_slots(current.id))
                return View(current, rows, slots, edition)
        raise AssertionError("unreachable")

    def verify_checksums(self, view: View, slots: Sequence[int]) -> None:
        """Check that the vectors in these slots are those that were written. Raises IndexDamaged."""
        crcs = self.catalog.crcs_of(view.space.id, slots)
        if any(crc_of(view.rows[slot]) != crc for slot, crc in crcs.items()):
            raise self.damaged_vector()

    def damaged_vector(self) -> IndexDamaged:
        return IndexDamaged(f"{printable(self.folder)}: a vector is damaged", hint=CHECK_HINT)

    def place_of(self, path: str) -> Place | None:
        """What the catalogue says of the photo at that absolute path, if it lies in a root and is known."""
        for root, relpath in self.roots_over(path):
            place = self.catalog.place_at(root.id, relpath)
            if place is not None:
                return place
        return None

    def roots_over(self, path: str) -> Iterator[tuple[Root, str]]:
        """The roots that contain `path`, as typed or with links resolved, with the path relative to each."""
        for spelling in dict.fromkeys((path, os.path.realpath(path))):
            for root in self.catalog.roots():
                for top in dict.fromkeys((root.path, os.path.realpath(root.path))):
                    if spelling == top:
                        yield root, ""
                    elif spelling.startswith(top.rstrip("/") + "/"):
                        yield root, spelling[len(top.rstrip("/")) + 1 :]

    def failures(self) -> list[Skipped]:
        """What could not be indexed, by path; what was silently passed over is left out."""
        roots = {root.id: root.path for root in self.catalog.roots()}
        rows = self.catalog.rows(
            "select root_id, folder, name, stage, reason from failures where not is_silent "
            "order by root_id, folder, name"
        )
        return [Skipped(os.path.join(roots[row[0]], join(row[1], row[2])), row[3], row[4]) for row in rows]

    def status(self) -> Status:
        """What the index holds, in numbers."""
        count = self.catalog.value
        with self.catalog.reading():
            by_state = dict(
                self.catalog.rows(
                    """
                    select case when r.state = 'offline' then 'offline' else p.state end, count(*)
                    from photos p join roots r on r.id = p.root_id group by 1
                    """
                )
            )
            active = self.active_space()
            spaces = tuple(self.catalog.spaces())
            return Status(
                roots=tuple(
                    (root, count("select count(*) from photos where root_id = :id and state = 'present'", id=root.id))
                    for root in self.catalog.roots()
                ),
                photos=by_state,
                failed=count("select count(*) from failures where not is_silent"),
                texts=count(
                    """
                    select count(distinct t.key) from photo_texts t
                    join photos p on p.id = t.photo_id and p.state = 'present'
                    """
                ),
                spaces=spaces,
                active=active,
                covered=frozenset(space.id for space in spaces if self._has_graphs(space, _is_of(space))),
                in_graphs={space.id: self._in_graphs(space) for space in spaces},
                bytes=self.bytes_on_disk(),
            )

    def _in_graphs(self, space: Space) -> int:
        notes = [graph.note() for graph in self._all_graphs(space) if _is_of(space)(graph)]
        return sum(note["count"] for note in notes if note)

    def bytes_on_disk(self) -> int:
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_size
        return total

    # paths inside the index

    def space_folder(self, space_id: str) -> str:
        return os.path.join(self.folder, "spaces", space_id)

    def _vectors_path(self, space_id: str, generation: int) -> str:
        return os.path.join(self.space_folder(space_id), f"vectors.{generation}.f32")

    def slots_path(self, space: Space) -> str:
        return os.path.join(self.space_folder(space.id), "slots.u8")

    def flat(self, space: Space) -> FlatVectors:
        return FlatVectors(self._vectors_path(space.id, space.generation), space.identity.dim)

    def _again(self, space: Space) -> Space:
        current = self.catalog.space(space.id)
        if current is None:
            raise StoreError(
                f"{printable(self.folder)}: the vectors of {printable(space.identity.name)} were removed meanwhile",
                hint="run the same command again: search uses another model now",
            )
        return current


def _bring_up_to_date(folder: str, until: float) -> None:
    """A writer does so on opening, and here no more. Where another process is at it, wait a little, and look again.

    Raises IndexLocked where it still is then: a writer of the older version.
    """
    try:
        with locked(folder), contextlib.closing(Catalog(os.path.join(folder, CATALOG), write=True)):
            pass
    except IndexLocked as error:
        if time.monotonic() > until:
            raise IndexLocked(
                f"{error}, and made by an older version", hint="it can be searched when that process has ended"
            ) from error
        time.sleep(LOCK_POLL_SECONDS)


def _require_catalog(folder: str) -> None:
    try:
        is_regular = stat.S_ISREG(os.lstat(os.path.join(folder, CATALOG)).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise IndexNotFound(f"no index at {printable(folder)}", hint="make one with: imgsearch index FOLDER") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(
            f"{printable(folder)}: {reason}", hint="check its permissions, or name another index with --index"
        ) from error
    if os.path.lexists(os.path.join(folder, SALVAGED)):
        raise IndexDamaged(
            f"{printable(folder)}: a repair was interrupted", hint="finish it with: imgsearch check --repair"
        )
    if not is_regular:
        raise IndexDamaged(
            f"{printable(os.path.join(folder, CATALOG))}: not a regular file", hint="name another index with --index"
        )


def _met(batch: Batch) -> Iterator[bytes]:
    """The contents and texts of the photos of a checkpoint."""
    for _, photo, texts in batch.photos:
        yield photo.content_hash
        yield from (key for key, _ in texts)
    for known, _ in batch.found_again:
        yield known.content_hash


def _is_of(space: Space) -> Callable[[Graph], bool]:
    """Whether a graph says that it is of the vectors that the space has now."""
    return lambda graph: (graph.note() or {}).get("generation") == space.generation


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return None


def _entries(folder: str, is_meant: Callable[[str], bool]) -> list[str]:
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder) if is_meant(name))
    except OSError:
        return []


def _is_removed(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder) and not set(os.listdir(folder)) <= {"lock", "spaces"}:
        raise UsageError(
            f"{printable(folder)}: not empty and not an index",
            hint="name a new or empty folder with --index, or make DIR/.imgsearch with: imgsearch init DIR",
        )
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, stat.S_IRWXU)
    except OSError as error:
        raise StoreError(
            f"{printable(folder)}: cannot make the index here ({error.strerror})", hint="choose another with --index"
        ) from error


@contextlib.contextmanager
def locked(folder: str, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Held by the one process that may write. Raises IndexLocked, or with `wait` waits (see `Store.writing`)."""
    path = os.path.join(folder, "lock")
    while not _is_file_at(path, descriptor := _locked(path, wait)):
        os.close(descriptor)  # the index was removed, and perhaps made anew, while this one waited
    try:
        with naming(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(path: str, wait: Callable[[str], None] | None) -> int:
    """The lock file, opened and locked."""
    descriptor = _opened_lock(path)
    try:
        if not _try_lock(path, descriptor):
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            if wait is None:
                raise IndexLocked(
                    f"{printable(os.path.dirname(path))}: in use by another imgsearch (process {owner})",
                    hint="add --wait to go on when it has finished; queries can be asked meanwhile",
                )
            wait(owner)
            while not _try_lock(path, descriptor):
                time.sleep(LOCK_POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _opened_lock(path: str) -> int:
    """The lock file as a descriptor. It is written to, so it must be no link into somebody's files."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if os.path.islink(path):
            raise _not_a_lock(path) from None
        raise StoreError(
            f"{printable(os.path.dirname(path))}: cannot write to the index ({error.strerror})",
            hint="check its permissions and free space, or choose another with --index",
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_lock(path)
    return descriptor


def _not_a_lock(path: str) -> StoreError:
    return StoreError(
        f"{printable(path)}: not a regular file, so it is not used as the lock",
        hint="remove it if it is not yours, or choose another index with --index",
    )


def writer_of(folder: str) -> str | None:
    """The number of the process that writes to the index, or "unknown"; None where nobody does. Raises OSError."""
    try:
        descriptor = os.open(os.path.join(folder, "lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go at once: a writer hardly ever meets it
        return None
    except BlockingIOError:
        return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(descriptor)


def _try_lock(path: str, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"{printable(path)}: cannot be locked ({error.strerror})", hint="put the index on a local disk with --index"
        ) from error
    return True


def _is_file_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
