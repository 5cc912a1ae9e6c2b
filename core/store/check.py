"""Whether an index keeps its promises, and what can be mended where it does not.

`check` only looks. `repair` mends what it can without inventing anything: what is derived is made again, what is lost
is left to be embedded again, what nobody knows is put aside in `lost+found`.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np  # noqa: TID253

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.paths import keeps_permissions, printable
from imgsearch.core.photos import preprocess
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.photos.walk import named_photo
from imgsearch.core.places import CATALOG
from imgsearch.core.types import MODALITIES, Embedder, Modality, NotAPicture, Photo, SkipPhoto

from .graphs import Graph
from .prune import compact
from .records import NewVector, Place, Space, is_inside, join, sidecar_stamp, text_key
from .recovery import LOST_AND_FOUND, TEMPORARY, leftovers, misplaced, put_aside
from .schema import FACT_COLUMNS
from .store import Store
from .vectors import SlotMap, crc_of

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

# A unit vector of float32 is this near to length 1, whatever it was computed in.
NORM_TOLERANCE = 1e-3
# Vectors of the same picture agree to this cosine, however it was decoded and at whatever precision embedded; those of
# different pictures hardly ever do.
SAME_COSINE = 0.98
# Photos that --deep reads and embeds again, unless told otherwise.
SAMPLE = 1_000
# Another sample in every process, and the same one at every look of a process.
_SEED = random.SystemRandom().getrandbits(32)
# Of one kind of damage, so many cases are named and the rest counted.
NAMED_CASES = 5
DAMAGED = f"{CATALOG}.damaged"
"""What a salvaged catalogue is kept as."""
# What file managers and network disks put into any folder.
BY_THE_SYSTEM = (".DS_Store", "._", ".nfs", "Thumbs.db", "desktop.ini")

Progress = Callable[[str, int, int], None]
"""What is being done, and how much of how much of it has been; 0 of 0 where that is not counted."""

Part = Literal["catalogue", "photos", "texts", "vectors", "graph", "slots", "files"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as promised."""

    part: Part
    what: str
    """One line that names the file, the photo or the row."""
    mend: Callable[[Store], None] | None = field(default=None, compare=False)
    """Mends it or, where something has to be embedded again, makes the next run do so."""
    is_structural: bool = False
    """Whether the catalogue is damaged as a database, which calls for a new one."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check looked at and found."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """What is in order and yet worth a line."""
    photos: int = 0
    vectors: int = 0
    read_again: int = 0
    """Photos that were read and embedded again."""
    edition: int = -1
    """The catalogue's, of which all this is true."""


def check(
    store: Store,
    *,
    embedder: Callable[[], Embedder] | None = None,
    sample: int = SAMPLE,
    on_progress: Progress = lambda what, done, total: None,
) -> Checked:
    """Hold every promise of an open index against what is there.

    With an `embedder`, the active space's, also deeply: the database page by page, the graphs vector by vector, and
    `sample` photos (0: all) read and embedded again. Raises IndexDamaged where the catalogue cannot be read at all.
    """
    return _twice(store, lambda: _look(store, embedder, sample, on_progress))


def glance(store: Store) -> Checked:
    """What can be seen in a moment: the catalogue as a database, the files, and that none is too short. No vector and
    no row is held against another. Raises IndexDamaged where the catalogue cannot be read at all."""
    return _twice(store, lambda: _glance(store))


def _twice(store: Store, look: Callable[[], Checked]) -> Checked:
    """What a writer changes meanwhile may look like damage; what is damaged looks the same twice."""
    checked = look()
    for _ in range(3):
        edition = store.catalog.edition()
        if not checked.findings or edition == checked.edition:
            break
        again = look()
        still = tuple(finding for finding in again.findings if finding in checked.findings)
        checked = replace(again, findings=still)
    return checked


def _glance(store: Store) -> Checked:
    findings: list[Finding] = []
    edition = -1
    looker = _Look(store, deep=False)
    with store.catalog.reading(), _structural(findings):
        edition = store.catalog.edition()
        for part in (looker.database, looker.files, looker.without_vectors):
            findings.extend(part())
        for space in looker.spaces():
            findings.extend(looker.glance(space))
    return Checked(tuple(findings), tuple(looker.notes), edition=edition)


def _look(
    store: Store,
    embedder: Callable[[], Embedder] | None,
    sample: int,
    on_progress: Progress,
) -> Checked:
    findings: list[Finding] = []
    edition = -1
    looker = _Look(store, embedder is not None)
    photos = vectors = again = 0
    with store.catalog.reading(), _structural(findings):
        on_progress("checking the catalogue", 0, 0)
        edition = store.catalog.edition()
        findings.extend(looker.database())
        for part in (looker.roots, looker.photos, looker.texts, looker.files, looker.without_vectors):
            findings.extend(part())
        for space in looker.spaces():
            on_progress(f"checking the vectors of {space.identity.name}", 0, 0)
            findings.extend(looker.space(space))
        photos = store.catalog.value("select count(*) from photos where state = 'present'")
        vectors = store.catalog.value("select count(*) from vectors")
    if embedder is not None and not any(finding.is_structural for finding in findings):
        deep_look = _DeepLook(store, embedder, sample, on_progress)
        with _structural(findings):
            findings.extend(deep_look.findings())
        again = deep_look.looked_at
        looker.notes += deep_look.notes
    return Checked(tuple(findings), tuple(looker.notes), photos, vectors, again, edition)


@contextlib.contextmanager
def _structural(findings: list[Finding]) -> Iterator[None]:
    """What makes looking on impossible is a finding too."""
    try:
        yield
    except IndexDamaged as error:
        findings.append(Finding("catalogue", str(error), is_structural=True))


def without_catalogue(folder: str) -> Finding | None:
    """The finding that vectors have lost their catalogue, where an index seems to hold nothing."""
    with contextlib.suppress(OSError):
        if os.listdir(os.path.join(folder, "spaces")):
            path = printable(os.path.join(folder, CATALOG))
            what = f"{path}: is empty or gone, and there are vectors that it should name"
            return Finding("catalogue", what, is_structural=True)
    return None


def repair(store: Store, findings: Sequence[Finding]) -> bool:
    """Mend what can be mended; the store is open for writing. Returns whether a run over its roots has to follow, which
    finds and embeds what was lost."""
    for finding in findings:
        if finding.mend is not None:
            finding.mend(store)
    for space in store.catalog.spaces.all():
        compact(store, space)
    for space in store.catalog.spaces.all():
        store.update_graphs(space)
        store.save_slots(space)
    return any(finding.part in ("catalogue", "photos", "texts", "vectors") for finding in findings)


class _Look:
    """What can be seen without reading a photo."""

    def __init__(self, store: Store, deep: bool) -> None:
        self._store = store
        self._catalog = store.catalog
        self._deep = deep
        self.notes: list[str] = []

    # the database

    def database(self) -> Iterator[Finding]:
        pragma = "integrity_check" if self._deep else "quick_check"
        for (said,) in self._catalog.rows(f"pragma {pragma}(10)"):
            if said != "ok":
                yield Finding("catalogue", f"{self._file(CATALOG)}: {said}", is_structural=True)
        for table, count in self._catalog.rows('select "table", count(*) from pragma_foreign_key_check group by 1'):
            yield Finding("catalogue", f"{count} rows of {table} name a row that is not there", _drop_homeless)
        edition = self._catalog.get_info("edition")
        if edition is None or not edition.isdigit():
            yield Finding("catalogue", f"no edition ({edition!r}): readers cannot tell what is stale", _new_edition)
        active = self._catalog.get_info("active_space")
        if active is not None and active not in {space.id for space in self.spaces()}:
            yield Finding("catalogue", f"search is to answer from space {printable(active)}, which is none", _no_active)

    def spaces(self) -> list[Space]:
        return self._catalog.spaces.all()

    # what its rows say

    def roots(self) -> Iterator[Finding]:
        """Their names, and those of all that lies in them."""
        self._catalog.roots.all()  # raises for one that cannot be
        for table in ("photos", "failures"):
            bad = [
                row[0]
                for row in self._catalog.rows(f"select rowid_, folder, name from {_with_rowid(table)}")  # noqa: S608
                if not _is_name(row[1], row[2])
            ]
            if bad:
                yield Finding("photos", f"{len(bad)} {table} have names that lead out of their root", _drop(table, bad))

    def photos(self) -> Iterator[Finding]:
        bad = self._catalog.rows(
            """
            select id from photos
            where typeof(content_hash) <> 'blob' or length(content_hash) <> 32
                or typeof(size) <> 'integer' or size < 0 or typeof(mtime_ns) <> 'integer'
                or typeof(width) <> 'integer' or typeof(height) <> 'integer' or width < 1 or height < 1
                or state not in ('present', 'gone', 'excluded') or not json_valid(keywords)
            """
        )
        if bad:
            ids = [row[0] for row in bad]
            yield Finding("photos", f"{len(ids)} photos have facts that cannot be", _drop("photos", ids))

    def texts(self) -> Iterator[Finding]:
        wrong = [key for key, text in self._catalog.rows("select key, text from texts") if not _is_key_of(key, text)]
        if wrong:
            yield Finding("texts", f"{len(wrong)} texts are not those that were embedded", _drop_texts(wrong))
        yield from self._notes()

    def _notes(self) -> Iterator[Finding]:
        """The user's own texts, which no photo holds: they cannot be found again."""
        bad = [(of, key) for of, key, text, _ in self._catalog.notes.all() if not _is_key_of(key, text)]
        if bad:
            yield Finding("texts", f"{len(bad)} notes are not those that were made", _mend_notes(bad))
        loose = self._catalog.value(
            """
            select count(*) from notes n cross join photos p on p.content_hash = n.content_hash
            where not exists (select 1 from photo_texts t where t.photo_id = p.id and t.key = n.key)
            """
        )
        if loose:
            yield Finding("texts", f"{loose} photos lack a note that was made about them", _attach_notes)
        active = self._store.active_space()
        if active is not None and (lacking := len(self._catalog.notes.without_vectors(active.id))):
            self.notes.append(
                f"{lacking} {'note has' if lacking == 1 else 'notes have'} no vector of {active.identity.name}; "
                "the next `imgsearch index` embeds them"
            )

    def without_vectors(self) -> Iterator[Finding]:
        """Photos that search cannot find. What a model has whose space is still being built, it will find later."""
        active = self._store.active_space()
        if active is None or active.state != "complete":
            return
        missing = set(self._catalog.photos.without_vectors(active.id))
        lost = missing.intersection(*(self._catalog.photos.without_vectors(space.id) for space in self.spaces()))
        if lost:
            # Nothing to mend here: the run after the repair embeds them.
            yield Finding("vectors", f"{len(lost)} photos have no vector: {self._some(sorted(lost))}")
        if missing - lost:
            self.notes.append(
                f"{len(missing - lost):,} photos have no vector of {active.identity.name}, which search uses, but one "
                "of another model that is not complete yet; `imgsearch index` without --model embeds them"
            )

    # the files

    def files(self) -> Iterator[Finding]:
        """Files that nothing names, and files that are not what they should be."""
        left = set(leftovers(self._store))
        if left:
            self.notes.append(
                f"an interrupted run has left {len(left)} {'file' if len(left) == 1 else 'files'}; "
                "the next `imgsearch index` cleans up"
            )
        stale = {path for space in self.spaces() for path in self._store.graphs.stale_files(space)}
        if stale:
            self.notes.append(
                f"{len(stale)} {'file' if len(stale) == 1 else 'files'} of HNSW graphs that are not used any more; "
                "the next `imgsearch index` removes them"
            )
        for path in self._unknown(left | stale):
            yield Finding("files", f"{printable(path)}: nothing in the catalogue names it", _put_aside(path))
        for path in misplaced(self._store):
            yield Finding("files", f"{printable(path)}: is not what an index has there", _put_aside(path))
        if keeps_permissions(self._store.folder):
            for path in self._open_to_others():
                yield Finding("files", f"{printable(path)}: others may read or write it", _make_private(path))

    def _unknown(self, left: set[str]) -> Iterator[str]:
        top = {CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm", f"{CATALOG}-journal", "lock", "spaces", LOST_AND_FOUND}
        spaces = {space.id: space for space in self.spaces()}
        yield from self._others_than(self._store.folder, top, left)
        yield from self._others_than(os.path.join(self._store.folder, "spaces"), set(spaces), left)
        for space in spaces.values():
            graphs = [os.path.basename(graph.path) for graph in self._store.graphs.all_of(space)]
            known = {f"vectors.{space.generation}.f32", "slots.u8", *graphs, *(f"{name}.json" for name in graphs)}
            yield from self._others_than(self._store.space_folder(space.id), known, left)

    def _others_than(self, folder: str, known: set[str], left: set[str]) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                is_ours = entry.name in known or entry.path in left or entry.name.startswith(DAMAGED)
                is_temporary = entry.name.endswith(TEMPORARY)  # of a writer that works right now
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

    def space(self, space: Space) -> Iterator[Finding]:
        vectors = self._catalog.vectors.all(space.id)
        lost = [v for v in vectors if not (isinstance(v.slot, int) and 0 <= v.slot < space.slots)]
        if lost:
            slots = [v.slot for v in lost]
            yield Finding(
                "vectors",
                f"{len(lost)} vectors of {space.identity.name} are said to lie in slots that there are not, such as "
                f"{slots[0]} of {space.slots}",
                lambda store: store.forget(space, slots),
            )
        gone = {v.slot for v in lost}
        sound = [v for v in vectors if v.slot not in gone]
        odd = [v.slot for v in sound if not (isinstance(v.key, bytes) and len(v.key) == 32)]
        if odd:
            yield Finding("vectors", f"{len(odd)} vectors have no content", lambda store: store.forget(space, odd))
        yield from self._length(space)
        yield from self._flat(space, sound)
        yield from self._slots(space)
        yield from self._calibration(space)
        yield from self._graphs(space, sound)

    def glance(self, space: Space) -> Iterator[Finding]:
        """What can be seen of it without reading its vectors."""
        yield from self._length(space)
        yield from self._slots(space)
        yield from self._calibration(space)
        yield from self._graphs(space, ())

    def _length(self, space: Space) -> Iterator[Finding]:
        flat = self._store.vectors(space)
        try:
            held = flat.count_rows()
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            yield Finding("vectors", f"{printable(flat.path)}: cannot be read: {said}")
            return
        except IndexDamaged:
            return  # a link, pipe or folder, which is said of the files; when it is put aside, they are lost
        if held < space.slots:
            yield Finding(
                "vectors",
                f"{printable(flat.path)}: holds {held} vectors where the catalogue names {space.slots}",
                lambda store: store.forget(space, range(held, space.slots), slots_left=held),
            )

    def _flat(self, space: Space, vectors: Sequence[NewVector]) -> Iterator[Finding]:
        flat = self._store.vectors(space)
        try:
            held = flat.count_rows()
        except (OSError, IndexDamaged):
            return  # said of its length
        crcs = {v.slot: v.crc for v in vectors}
        bad: list[int] = []
        for start, rows in flat.blocks(min(held, space.slots)):
            bad += _wrong_rows(rows, start, crcs)
        if bad:
            whose = self._some(self._ids_of(space, bad))
            yield Finding(
                "vectors",
                f"{printable(flat.path)}: {len(bad)} vectors are not those that were written, such as slot {bad[0]}"
                + (f" ({whose})" if whose else ""),
                lambda store: store.forget(space, bad),
            )

    def _slots(self, space: Space) -> Iterator[Finding]:
        path = self._store.slots_path(space)
        edition = self._catalog.edition()
        kept = SlotMap.load(path, space.slots, edition)
        if kept is not None:
            try:
                is_right = kept == SlotMap.build(space.slots, self._catalog.vectors.live_slots(space.id))
            except IndexDamaged:
                return  # said of the vectors already
            if not is_right:
                yield Finding("slots", f"{printable(path)}: does not say what the catalogue says", _made_again(path))
        elif not os.path.lexists(path):
            if space.state == "complete":
                yield Finding("slots", f"{printable(path)}: is missing", _made_again(path))
        elif not SlotMap.is_whole(path):
            yield Finding("slots", f"{printable(path)}: is damaged", _made_again(path))

    def _calibration(self, space: Space) -> Iterator[Finding]:
        def forget(store: Store) -> None:
            with store.catalog.transaction():
                store.catalog.spaces.delete_calibration(space.id)

        try:
            calibration = self._store.calibration(space)
        except IndexDamaged as error:
            yield Finding("catalogue", str(error), forget)
            return
        if calibration is None:
            return
        parts = (calibration.image_mean, calibration.text_mean, calibration.phrases)
        if not all(np.isfinite(part).all() and np.abs(part).max(initial=0) <= 1.01 for part in parts):
            yield Finding("catalogue", f"the calibration of {space.identity.name} is none", forget)

    def _graphs(self, space: Space, vectors: Sequence[NewVector]) -> Iterator[Finding]:
        for modality in MODALITIES:
            for graph in self._store.graphs.of(space, modality):
                yield from self._graph(space, graph, modality, vectors)

    def _graph(self, space: Space, graph: Graph, modality: Modality, vectors: Sequence[NewVector]) -> Iterator[Finding]:
        if not Graph.available():
            return
        if not graph.exists():
            # While the slot map is stale a run was interrupted before it came to the graphs.
            if self._is_finished(space) and self._store.graphs.is_due(space, modality, graph):
                yield Finding("graph", f"{printable(graph.path)}: is missing", lambda store: graph.remove())
            return
        info, is_ours = graph.info(), graph.is_ours()
        if info is None or not (is_ours or graph.matches_checksum()):
            said = "is damaged; it is not used"
            yield Finding("graph", f"{printable(graph.path)}: {said}", lambda store: graph.remove())
        elif not is_ours:
            self.notes.append(
                f"{printable(graph.path)}: made by another user or on another computer, so it is not used; the next "
                "`imgsearch index` makes a new one"
            )
        elif info.generation != space.generation:
            said = "is of another generation of vectors"
            yield Finding("graph", f"{printable(graph.path)}: {said}", lambda store: graph.remove())
        elif self._deep and graph.load(space.generation):
            covered = {v.slot for v in vectors if v.modality == modality and graph.first <= v.slot < graph.upto}
            if graph.slots() != covered:
                said = f"holds {len(graph.slots()):,} vectors, not the {len(covered):,} that it should"
                yield Finding("graph", f"{printable(graph.path)}: {said}", lambda store: graph.remove())

    def _is_finished(self, space: Space) -> bool:
        path = self._store.slots_path(space)
        return space.state == "complete" and SlotMap.load(path, space.slots, self._catalog.edition()) is not None

    # naming

    def _file(self, name: str) -> str:
        return printable(os.path.join(self._store.folder, name))

    def _ids_of(self, space: Space, slots: Sequence[int]) -> list[int]:
        return [
            place.id for place in self._catalog.places.of_slots(space.id, slots[:NAMED_CASES], include_offline=True)
        ]

    def _some(self, ids: Sequence[int]) -> str:
        """A few of these photos by their paths."""
        return _named([place.path for place in self._catalog.places.by_id(ids[:NAMED_CASES])], len(ids))


def _wrong_rows(rows: Vectors, start: int, crcs: dict[int, int | None]) -> list[int]:
    """Slots from `start` on that have a name and hold no unit vector, or not the one whose checksum is kept."""
    with np.errstate(all="ignore"):
        is_unit = np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1) <= NORM_TOLERANCE
    return [
        slot
        for slot, row in enumerate(rows, start)
        if slot in crcs and not (is_unit[slot - start] and crcs[slot] in (None, crc_of(row)))
    ]


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


# Reading photos again


class _DeepLook:
    """Photos read and embedded again, held against what the index says of them."""

    def __init__(self, store: Store, embedder: Callable[[], Embedder], sample: int, on_progress: Progress) -> None:
        self._store = store
        self._catalog = store.catalog
        self._get_embedder = embedder
        self._sample = sample
        self._on_progress = on_progress
        self.looked_at = 0
        self.notes: list[str] = []

    def findings(self) -> Iterator[Finding]:
        space = self._store.active_space()
        chosen = self._chosen()
        if space is None or not chosen:
            return
        try:
            view = self._store.view(space)
        except IndexDamaged:
            return  # said of the vectors already
        embedder = self._get_embedder()
        changed = 0
        with DecodePool() as workers:
            for number, (place, stamp) in enumerate(chosen):
                if number % 100 == 0:
                    self._on_progress("reading photos again", number, len(chosen))
                photo = named_photo(place.path)
                if not isinstance(photo, Photo) or (photo.size, photo.mtime_ns) != (place.size, place.mtime_ns):
                    changed += 1
                    continue
                if sidecar_stamp(photo) != stamp:
                    changed += 1
                    continue
                self.looked_at += 1
                yield from self._look_at(place, photo, workers, embedder, space, view.rows)
        yield from self._look_at_texts(embedder, space, view.rows)
        if changed:
            self.notes.append(f"{changed:,} photos of the sample have changed or are not there: see `imgsearch index`")

    def _chosen(self) -> list[tuple[Place, str]]:
        rows = self._catalog.rows(
            """
            select p.id, p.sidecars from photos p join roots r on r.id = p.root_id
            where p.state = 'present' and r.state = 'online' order by p.id
            """
        )
        if self._sample and len(rows) > self._sample:
            rows = random.Random(_SEED).sample(rows, self._sample)  # noqa: S311
        places = {place.id: place for place in self._catalog.places.by_id([row[0] for row in rows])}
        return [(places[row[0]], row[1]) for row in rows]

    def _look_at(
        self, place: Place, photo: Photo, workers: DecodePool, embedder: Embedder, space: Space, rows: Vectors
    ) -> Iterator[Finding]:
        path = printable(place.path)
        try:
            read = workers.read(photo, embedder.recipe, draft_side=preprocess.draft_side(embedder.recipe))
        except (SkipPhoto, NotAPicture) as error:
            yield Finding("photos", f"{path}: was indexed and cannot be read now: {error}", _read_again(place.id))
            return
        if read.content_hash != place.content_hash:
            yield Finding(
                "photos",
                f"{path}: its bytes are not those that were indexed, though its size and time are",
                _read_again(place.id),
            )
            return
        wrong = [column for column in FACT_COLUMNS if getattr(read.facts, column) != place.facts[column]]
        wrong += ["keywords"] if read.facts.keywords != place.keywords else []
        wrong += ["texts"] if self._texts_of(place) != {text_key(text.text) for text in read.facts.texts} else []
        if wrong:
            yield Finding("photos", f"{path}: the file says otherwise of its {', '.join(wrong)}", _read_again(place.id))
        slot = self._catalog.vectors.slot_of(space.id, "image", place.content_hash)
        if slot is None or read.square is None or not 0 <= slot < len(rows):
            return  # said already
        cosine = float(embedder.embed_images(read.square[None])[0] @ rows[slot])
        if not cosine >= SAME_COSINE:
            yield Finding(
                "vectors",
                f"{path}: its vector is not that of the picture (cosine {cosine:.3f})",
                lambda store: store.forget(space, [slot]),
            )

    def _texts_of(self, place: Place) -> set[bytes]:
        return {
            row[0]
            for row in self._catalog.rows(
                "select key from photo_texts where photo_id = :id and source <> 'note'", id=place.id
            )
        }

    def _look_at_texts(self, embedder: Embedder, space: Space, rows: Vectors) -> Iterator[Finding]:
        texts = self._catalog.rows(
            """
            select v.slot, x.text from texts x
            cross join vectors v on v.space_id = :space and v.modality = 'text' and v.key = x.key
            """,
            space=space.id,
        )
        if self._sample and len(texts) > self._sample:
            texts = random.Random(_SEED).sample(texts, self._sample)  # noqa: S311
        known = [(slot, text) for slot, text in texts if 0 <= slot < len(rows)]
        if not known:
            return
        fresh = embedder.embed_texts([text for _, text in known])
        cosines = np.einsum("ij,ij->i", fresh, rows[[slot for slot, _ in known]])
        bad = [slot for (slot, _), cosine in zip(known, cosines, strict=True) if not cosine >= SAME_COSINE]
        if bad:
            yield Finding(
                "vectors",
                f"{len(bad)} vectors are not those of their texts",
                lambda store: store.forget(space, bad),
            )


# Mending

UNREAD = "?"
"""In place of a photo's sidecars: no photo has these, so the next run reads it again."""


def _sql(store: Store, statement: str, **values: object) -> None:
    with store.catalog.transaction():
        store.catalog.rows(statement, **values)


def _drop_homeless(store: Store) -> None:
    with store.catalog.transaction():
        store.catalog.delete_orphans()


def _new_edition(store: Store) -> None:
    _sql(store, "insert or replace into info values ('edition', cast(strftime('%s', 'now') as text))")


def _no_active(store: Store) -> None:
    _sql(store, "delete from info where key = 'active_space'")
    complete = [space for space in store.catalog.spaces.all() if space.state == "complete"]
    if complete:
        with store.catalog.transaction():
            store.catalog.set_info("active_space", complete[0].id)


def _drop(table: str, ids: Sequence[int]) -> Callable[[Store], None]:
    def mend(store: Store) -> None:
        with store.catalog.transaction():
            for one in ids:
                store.catalog.rows(f"delete from {table} where {_key_of(table)} = :id", id=one)  # noqa: S608

    return mend


def _drop_texts(keys: Sequence[bytes]) -> Callable[[Store], None]:
    def mend(store: Store) -> None:
        with store.catalog.transaction():
            for key in keys:
                store.catalog.rows(
                    "update photos set sidecars = :mark "
                    "where id in (select photo_id from photo_texts where key = :key)",
                    mark=UNREAD,
                    key=key,
                )
                store.catalog.rows("delete from photo_texts where key = :key", key=key)
                store.catalog.rows("delete from texts where key = :key", key=key)
                store.catalog.rows("delete from vectors where modality = 'text' and key = :key", key=key)

    return mend


def _mend_notes(bad: Sequence[tuple[bytes, bytes]]) -> Callable[[Store], None]:
    """A note that still is a text is kept under the key of what it says now."""

    def mend(store: Store) -> None:
        with store.catalog.transaction():
            for of, key, text, _ in store.catalog.notes.all():
                if (of, key) in bad:
                    store.catalog.notes.remove(of, [key])
                    if isinstance(of, bytes) and isinstance(text, str):
                        store.catalog.notes.add(of, text)

    return mend


def _attach_notes(store: Store) -> None:
    with store.catalog.transaction():
        store.catalog.notes.attach()


def _read_again(photo_id: int) -> Callable[[Store], None]:
    return lambda store: _sql(
        store, "update photos set sidecars = :mark, mtime_ns = -1 where id = :id", mark=UNREAD, id=photo_id
    )


def _made_again(path: str) -> Callable[[Store], None]:
    def mend(_store: Store) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    return mend


def _make_private(path: str) -> Callable[[Store], None]:
    def mend(_store: Store) -> None:
        with contextlib.suppress(FileNotFoundError):
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
            os.chmod(path, 0o700 if is_folder else 0o600)

    return mend


def _put_aside(path: str) -> Callable[[Store], None]:
    return lambda store: put_aside(store, path)


def _with_rowid(table: str) -> str:
    """The table with what tells its rows apart as `rowid_`."""
    return f"(select {_key_of(table)} as rowid_, folder, name from {table})"  # noqa: S608


def _key_of(table: str) -> str:
    return "id" if table == "photos" else "cast(root_id as text) || ':' || hex(folder) || ':' || hex(name)"
