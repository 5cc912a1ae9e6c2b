"""Checks whether an index is as it should be. Nothing is changed; `repair` fixes what is found."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.paths import keeps_permissions, printable
from imgsearch.core.places import CATALOG
from imgsearch.core.types import MODALITIES, Embedder, Modality

from . import repair, text_index
from .consistency import CheckedTable
from .deep_check import DeepCheck, Progress
from .graphs import Graph
from .records import NewVector, Space, is_inside, join, text_key
from .recovery import LOST_AND_FOUND, TEMPORARY, leftovers, misplaced
from .repair import Finding
from .store import Store
from .vectors import SlotMap, crc_of

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

# A unit vector of float32 is this near to length 1, whatever it was computed in.
NORM_TOLERANCE = 1e-3
# Photos that a deep check reads and embeds again by default.
SAMPLE = 1_000
# Cases of one kind of damage that are named; the rest is counted.
NAMED_CASES = 5
DAMAGED = f"{CATALOG}.damaged"
"""The name under which the damaged catalogue is kept after a salvage."""
# Files that file managers and network disks put into any folder.
BY_THE_SYSTEM = (".DS_Store", "._", ".nfs", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check read and found."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """Remarks about what is in order."""
    photos: int = 0
    vectors: int = 0
    read_again: int = 0
    """Photos that were read and embedded again."""
    edition: int = -1
    """The edition of the catalogue that was checked."""


def check(
    store: Store,
    *,
    embedder: Callable[[], Embedder] | None = None,
    sample: int = SAMPLE,
    on_progress: Progress = lambda what, done, total: None,
) -> Checked:
    """Check the catalogue and all files of an open index.

    With an `embedder`, that of the active space, the check is deep: the database page by page, the graphs vector by
    vector, and `sample` photos (0: all) read and embedded again. Raises IndexDamaged if the catalogue cannot be read.
    """
    return _confirmed(store, lambda: _check(store, embedder, sample, on_progress))


def quick_check(store: Store) -> Checked:
    """Check the catalogue as a database and the files, but neither rows nor vectors, which takes a moment.

    Raises IndexDamaged if the catalogue cannot be read.
    """
    return _confirmed(store, lambda: _check(store, None, 0, lambda what, done, total: None, is_quick=True))


def _confirmed(store: Store, run: Callable[[], Checked]) -> Checked:
    """Run a check again if a writer changed the index during it: only damage is found twice."""
    checked = run()
    for _ in range(3):
        edition = store.catalog.edition()
        if not checked.findings or edition == checked.edition:
            break
        again = run()
        still = tuple(finding for finding in again.findings if finding in checked.findings)
        checked = replace(again, findings=still)
    return checked


def _check(
    store: Store,
    embedder: Callable[[], Embedder] | None,
    sample: int,
    on_progress: Progress,
    *,
    is_quick: bool = False,
) -> Checked:
    findings: list[Finding] = []
    edition = -1
    checks = _Checks(store, embedder is not None)
    photos = vectors = again = 0
    with store.catalog.reading(), _structural(findings):
        on_progress("checking the catalogue", 0, 0)
        edition = store.catalog.edition()
        findings.extend(checks.database())
        of_rows = () if is_quick else (checks.roots, checks.photos, checks.texts)
        for part in (*of_rows, checks.files, checks.without_vectors):
            findings.extend(part())
        for space in checks.spaces():
            on_progress(f"checking the vectors of {space.identity.name}", 0, 0)
            findings.extend(checks.space(space, is_quick=is_quick))
        if not is_quick:
            photos = store.catalog.photos.count_present()
            vectors = store.catalog.vectors.count_all()
    if embedder is not None and not any(finding.is_structural for finding in findings):
        deep_check = DeepCheck(store, embedder, sample, on_progress)
        with _structural(findings):
            findings.extend(deep_check.findings())
        again = deep_check.read_again
        checks.notes += deep_check.notes
    return Checked(tuple(findings), tuple(checks.notes), photos, vectors, again, edition)


@contextlib.contextmanager
def _structural(findings: list[Finding]) -> Iterator[None]:
    """Damage that ends the check is a finding too."""
    try:
        yield
    except IndexDamaged as error:
        findings.append(Finding("catalogue", str(error), is_structural=True))


def without_catalogue(folder: str) -> Finding | None:
    """The finding that an index seems to be empty because its vectors have lost their catalogue."""
    with contextlib.suppress(OSError):
        if os.listdir(os.path.join(folder, "spaces")):
            path = printable(os.path.join(folder, CATALOG))
            what = f"{path}: is empty or missing, but there are vectors"
            return Finding("catalogue", what, is_structural=True)
    return None


class _Checks:
    """The checks that read no photo. Each yields what it finds."""

    def __init__(self, store: Store, deep: bool) -> None:
        self._store = store
        self._catalog = store.catalog
        self._deep = deep
        self.notes: list[str] = []

    # the database

    def database(self) -> Iterator[Finding]:
        for error in self._catalog.consistency.file_errors(deep=self._deep):
            yield Finding("catalogue", f"{self._file(CATALOG)}: {error}", is_structural=True)
        for table, count in self._catalog.consistency.count_orphans():
            yield Finding("catalogue", f"{_count(count, 'dangling reference')} in {table}", repair.delete_orphans)
        edition = self._catalog.get_info("edition")
        if edition is None or not edition.isdigit():
            yield Finding("catalogue", f"no edition ({edition!r}), so stale files look current", repair.set_new_edition)
        active = self._catalog.get_info("active_space")
        if active is not None and active not in {space.id for space in self.spaces()}:
            yield Finding(
                "catalogue", f"search uses space {printable(active)}, which is missing", repair.choose_active_space
            )

    def spaces(self) -> list[Space]:
        return self._catalog.spaces.all()

    # what its rows say

    def roots(self) -> Iterator[Finding]:
        """Names of roots, and of the photos in them."""
        self._catalog.roots.all()  # raises for an invalid one
        tables: tuple[CheckedTable, ...] = ("photos", "failures")
        for table in tables:
            names = self._catalog.consistency.file_names(table)
            bad = [key for key, folder, name in names if not _is_name(folder, name)]
            if bad:
                yield Finding(
                    "photos",
                    f"{_count(len(bad), table[:-1])} with a name that leads out of its root",
                    repair.delete_rows(table, bad),
                )

    def photos(self) -> Iterator[Finding]:
        bad = self._catalog.consistency.photos_with_impossible_facts()
        if bad:
            what = f"{_count(len(bad), 'photo')} with impossible metadata"
            yield Finding("photos", what, repair.delete_rows("photos", bad))

    def texts(self) -> Iterator[Finding]:
        wrong = [key for key, text in self._catalog.consistency.texts() if not _is_key_of(key, text)]
        if wrong:
            yield Finding("texts", _count(len(wrong), "damaged text"), repair.delete_texts(wrong))
        yield from self._notes()
        yield from self._readings()

    def _notes(self) -> Iterator[Finding]:
        """The user's own texts. No photo holds them, so they cannot be read again."""
        bad = [(of, key) for of, key, text, _ in self._catalog.notes.all() if not _is_key_of(key, text)]
        if bad:
            yield Finding("texts", _count(len(bad), "damaged note"), repair.fix_notes(bad))
        loose = self._catalog.consistency.count_unattached_notes()
        if loose:
            yield Finding("texts", f"{_count(loose, 'photo')} with a missing note", repair.attach_notes)
        active = self._store.active_space()
        if active is not None and (lacking := len(self._catalog.notes.without_vectors(active.id))):
            self.notes.append(
                f"{lacking} {'note has' if lacking == 1 else 'notes have'} no vector of {active.identity.name}; "
                "the next `imgsearch index` embeds them"
            )

    def _readings(self) -> Iterator[Finding]:
        """The texts in pictures. `imgsearch ocr` can read them again."""
        bad = [of for of, key, text in self._catalog.readings.all_texts() if not _is_key_of(key, text)]
        if bad:
            yield Finding("texts", _count(len(bad), "damaged OCR text"), repair.delete_readings(bad))
        if loose := self._catalog.consistency.count_unattached_readings():
            yield Finding("texts", f"{_count(loose, 'photo')} with missing OCR text", repair.attach_readings)

    def without_vectors(self) -> Iterator[Finding]:
        """Photos that search cannot find, unless a space that is still being built has their vectors."""
        active = self._store.active_space()
        if active is None or active.state != "complete":
            return
        missing = set(self._catalog.photos.without_vectors(active.id))
        lost = missing.intersection(*(self._catalog.photos.without_vectors(space.id) for space in self.spaces()))
        if lost:
            # No fix: the run after the repair embeds them.
            yield Finding("vectors", f"{_count(len(lost), 'photo')} without a vector: {self._some(sorted(lost))}")
        if missing - lost:
            self.notes.append(
                f"{_count(len(missing - lost), 'photo')} without a vector of {active.identity.name}, which search uses,"
                " but with one of another, incomplete model; `imgsearch index` without --model embeds them"
            )
        if lacking := self._catalog.regions.count_photos_without(active.id):
            self.notes.append(
                f"{lacking:,} {'panorama is' if lacking == 1 else 'panoramas are'} found by the centre only; the next "
                "`imgsearch index` embeds the rest"
            )

    # the files

    def files(self) -> Iterator[Finding]:
        """Files that nothing names, files of the wrong kind, and files that others can read."""
        left = set(leftovers(self._store))
        if left:
            self.notes.append(
                f"an interrupted run left {len(left)} {'file' if len(left) == 1 else 'files'}; "
                "the next `imgsearch index` cleans up"
            )
        stale = {path for space in self.spaces() for path in self._store.graphs.stale_files(space)}
        if stale:
            self.notes.append(
                f"{len(stale)} {'file' if len(stale) == 1 else 'files'} of HNSW graphs that are no longer used; "
                "the next `imgsearch index` removes them"
            )
        for path in self._unknown(left | stale):
            yield Finding("files", f"{printable(path)}: not part of this index", repair.move_aside(path))
        if damage := text_index.is_damaged(self._store.folder):
            yield Finding("files", f"{self._file(text_index.FILE)}: {damage}", repair.remove_text_index)
        for path in misplaced(self._store):
            yield Finding("files", f"{printable(path)}: not the expected kind of file", repair.move_aside(path))
        if keeps_permissions(self._store.folder):
            for path in self._open_to_others():
                yield Finding(
                    "files", f"{printable(path)}: other users may read or write it", repair.make_private(path)
                )

    def _unknown(self, left: set[str]) -> Iterator[str]:
        top = {CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm", f"{CATALOG}-journal", "lock", "spaces", LOST_AND_FOUND}
        top |= {text_index.FILE, text_index.JOURNAL}
        spaces = {space.id: space for space in self.spaces()}
        yield from self._others_than(self._store.folder, top, left)
        yield from self._others_than(os.path.join(self._store.folder, "spaces"), set(spaces), left)
        for space in spaces.values():
            graphs = [os.path.basename(graph.path) for graph in self._store.graphs.all_of(space)]
            known = {f"vectors.{space.generation}.{ending}" for ending in ("f32", "i8", "i8.json")}
            known |= {"slots.u8", *graphs, *(f"{name}.json" for name in graphs)}
            yield from self._others_than(self._store.space_folder(space.id), known, left)

    def _others_than(self, folder: str, known: set[str], left: set[str]) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                is_ours = entry.name in known or entry.path in left or entry.name.startswith(DAMAGED)
                is_temporary = entry.name.endswith(TEMPORARY)  # of a running writer
                if not (is_ours or is_temporary or entry.name.startswith(BY_THE_SYSTEM)):
                    yield entry.path

    def _open_to_others(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self._store.folder):
            folders[:] = [name for name in folders if name != LOST_AND_FOUND]
            whole = [name for name in names if not name.endswith(".new")]
            for path in (folder, *(os.path.join(folder, name) for name in whole)):
                with contextlib.suppress(OSError):
                    mode = os.lstat(path).st_mode
                    if stat.S_IMODE(mode) & 0o077 and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                        yield path

    # one space

    def space(self, space: Space, *, is_quick: bool) -> Iterator[Finding]:
        """All checks of a space, or quickly those that read no vector."""
        sound = () if is_quick else (yield from self._rows(space))
        yield from self._flat(space, sound)
        yield from self._slots(space)
        yield from self._bytes(space, is_quick=is_quick)
        yield from self._calibration(space)
        yield from self._graphs(space, sound)

    def _rows(self, space: Space) -> Generator[Finding, None, Sequence[NewVector]]:
        """Returns the vectors that the catalogue describes well."""
        vectors = self._catalog.vectors.all(space.id)
        lost = [v for v in vectors if not (isinstance(v.slot, int) and 0 <= v.slot < space.slots)]
        if lost:
            slots = [v.slot for v in lost]
            yield Finding(
                "vectors",
                f"{_count(len(lost), 'vector')} of {space.identity.name} in slots that do not exist, such as "
                f"{slots[0]} of {space.slots}",
                repair.forget_vectors(space, slots),
            )
        gone = {v.slot for v in lost}
        sound = [v for v in vectors if v.slot not in gone]
        odd = [v.slot for v in sound if not (isinstance(v.key, bytes) and len(v.key) == 32)]
        if odd:
            what = f"{_count(len(odd), 'vector')} without a content hash"
            yield Finding("vectors", what, repair.forget_vectors(space, odd))
        wrong = self._catalog.regions.wrong(space.id)
        if wrong:
            said = f"{_count(len(wrong), 'panorama')} with wrong regions"
            yield Finding("vectors", said, repair.delete_regions(space, wrong))
        return sound

    def _flat(self, space: Space, vectors: Sequence[NewVector]) -> Iterator[Finding]:
        """The file of the vectors: its length, and whether these vectors are those that were written."""
        flat = self._store.vectors(space)
        try:
            stored = flat.count_rows()
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            yield Finding("vectors", f"{printable(flat.path)}: cannot be read: {said}")
            return
        except IndexDamaged:
            return  # a link, pipe or folder: `files` finds it
        if stored < space.slots:
            yield Finding(
                "vectors",
                f"{printable(flat.path)}: has {stored} vectors, but the catalogue expects {space.slots}",
                repair.cut_space(space, stored),
            )
        crcs = {v.slot: v.crc for v in vectors}
        bad: list[int] = []
        for start, rows in flat.blocks(min(stored, space.slots)) if crcs else ():
            bad += _wrong_rows(rows, start, crcs)
        if bad:
            places = self._catalog.places.of_slots(space.id, bad[:NAMED_CASES], include_offline=True)
            whose = self._some([place.id for place in places])
            yield Finding(
                "vectors",
                f"{printable(flat.path)}: {_count(len(bad), 'damaged vector')}, such as slot {bad[0]}"
                + (f" ({whose})" if whose else ""),
                repair.forget_vectors(space, bad),
            )

    def _slots(self, space: Space) -> Iterator[Finding]:
        path = self._store.slots_path(space)
        edition = self._catalog.edition()
        kept = SlotMap.load(path, space.slots, edition)
        said = ""
        if kept is not None:
            try:
                is_right = kept == SlotMap.build(space.slots, self._catalog.vectors.live_slots(space.id))
            except IndexDamaged:
                return  # found in the vectors already
            said = "" if is_right else "disagrees with the catalogue"
        elif not os.path.lexists(path):
            said = "is missing" if space.state == "complete" else ""
        elif not SlotMap.is_whole(path):
            said = "is damaged"
        if said:
            yield Finding("slots", f"{printable(path)}: {said}", repair.remove_file(path))

    def _bytes(self, space: Space, *, is_quick: bool) -> Iterator[Finding]:
        """The bytes that are made from the vectors."""
        kept, flat = self._store.byte_vectors(space), self._store.vectors(space)
        info, said = kept.info(), ""
        if info is None:
            if kept.exists():
                said = "is damaged; it is not used"
            elif kept.is_due(space.slots) and self._is_finished(space):
                said = "is missing"
        elif info.count > space.slots:
            said = "has more vectors than the catalogue"
        elif not is_quick:
            with contextlib.suppress(IndexDamaged, OSError):  # of the vectors: `_flat` finds it
                said = "disagrees with the vectors" if kept.differ(flat.blocks(info.count)) else ""
        if said:
            yield Finding("bytes", f"{printable(kept.path)}: {said}", lambda _: kept.remove())

    def _calibration(self, space: Space) -> Iterator[Finding]:
        try:
            calibration = self._store.calibration(space)
        except IndexDamaged as error:
            yield Finding("catalogue", str(error), repair.forget_calibration(space))
            return
        if calibration is None:
            return
        parts = (calibration.image_mean, calibration.text_mean, calibration.phrases)
        if not all(np.isfinite(part).all() and np.abs(part).max(initial=0) <= 1.01 for part in parts):
            yield Finding(
                "catalogue", f"the calibration of {space.identity.name} is invalid", repair.forget_calibration(space)
            )

    def _graphs(self, space: Space, vectors: Sequence[NewVector]) -> Iterator[Finding]:
        for modality in MODALITIES:
            for graph in self._store.graphs.of(space, modality):
                yield from self._graph(space, graph, modality, vectors)

    def _graph(self, space: Space, graph: Graph, modality: Modality, vectors: Sequence[NewVector]) -> Iterator[Finding]:
        if not Graph.available():
            return
        said = ""
        info, is_ours = graph.info(), graph.is_ours()
        if not graph.exists():
            # If the slot map is stale, a run was interrupted before it made the graphs.
            if self._is_finished(space) and self._store.graphs.is_due(space, modality, graph):
                said = "is missing"
        elif info is None or not (is_ours or graph.matches_checksum()):
            said = "is damaged; it is not used"
        elif not is_ours:
            self.notes.append(
                f"{printable(graph.path)}: made by another user or on another computer, so it is not used; the next "
                "`imgsearch index` makes a new one"
            )
        elif info.generation != space.generation:
            said = "belongs to another generation of vectors"
        elif self._deep and graph.load(space.generation):
            covered = {v.slot for v in vectors if v.modality == modality and graph.first <= v.slot < graph.upto}
            if graph.slots() != covered:
                said = f"holds {len(graph.slots()):,} vectors, not {len(covered):,}"
        if said:
            yield Finding("graph", f"{printable(graph.path)}: {said}", repair.remove_graph(graph))

    def _is_finished(self, space: Space) -> bool:
        path = self._store.slots_path(space)
        return space.state == "complete" and SlotMap.load(path, space.slots, self._catalog.edition()) is not None

    # naming

    def _file(self, name: str) -> str:
        return printable(os.path.join(self._store.folder, name))

    def _some(self, ids: Sequence[int]) -> str:
        """The paths of a few of these photos, and how many more there are."""
        return _named([place.path for place in self._catalog.places.by_id(ids[:NAMED_CASES])], len(ids))


def _wrong_rows(rows: Vectors, start: int, crcs: dict[int, int | None]) -> list[int]:
    """Slots from `start` on whose vector is not of unit length, or not the one whose checksum is in `crcs`."""
    with np.errstate(all="ignore"):
        is_unit = np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1) <= NORM_TOLERANCE
    return [
        slot
        for slot, row in enumerate(rows, start)
        if slot in crcs and not (is_unit[slot - start] and crcs[slot] in (None, crc_of(row)))
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def _named(paths: Sequence[str], count: int) -> str:
    shown = ", ".join(printable(path) for path in paths)
    return shown + (f" and {count - len(paths):,} more" if count > len(paths) else "")


def _is_name(folder: object, name: object) -> bool:
    try:
        relpath = join(folder, name)  # type: ignore[arg-type]
    except IndexDamaged:
        return False
    return is_inside(relpath)


def _is_key_of(key: object, text: object) -> bool:
    return isinstance(text, str) and key == text_key(text)
