"""Import of vectors and notes from a file that `export_collection` wrote, perhaps on another machine.

What the file says about files is not trusted: a vector is kept for the hash of the content that it was made from, and a
photo gets it once `index` has read exactly those bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import stat
import tokenize
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ImgsearchError, ModelError
from imgsearch.core.models.registry import ModelSpec
from imgsearch.core.paths import printable
from imgsearch.core.photos.codecs import codecs
from imgsearch.core.photos.regions import MAX_PARTS
from imgsearch.core.types import MODALITIES, Region, SpaceIdentity, TextLine
from imgsearch.core.writing import naming

from .export_collection import FORMAT_NAME, PHOTOS_AT_ONCE, VERSION, Progress, parquet_schema, pyarrow
from .notes import NOTE, as_note
from .reading_table import OCR, Reading
from .records import as_region, region_keys, text_key
from .schema import MAX_DIM, PLACE_COLUMNS
from .store import Batch, Store

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

    from .records import Space

# The longest line that is read: 25 times 65,536 numbers, and every text that a photo may carry, with room to spare.
MAX_LINE_BYTES = 64 << 20
MAX_TEXT_CHARACTERS = 1 << 20
MAX_HEADER_BYTES = 1 << 20
MAX_ROW_GROUP_BYTES = 4 << 30
LATER_COLUMNS = frozenset(("is_damaged", "date_from", "duration_seconds", *PLACE_COLUMNS))
"""Columns that older exports lack."""
# A unit vector of float32 that was computed in half precision is this near to length 1.
NORM_TOLERANCE = 1e-3
CONTENT_BYTES = 32
IMPORTED = "import"
"""What read the texts that come from a file."""


class BadExport(ImgsearchError):
    """A file that is not an export of imgsearch, or is damaged."""


@dataclass(frozen=True, slots=True)
class Item:
    """One vector of a file: of a photo's content, with the notes about it, or of a text."""

    vector: Vectors
    content_hash: bytes | None = None
    text: str | None = None
    notes: tuple[str, ...] = ()
    reading: Reading | None = None
    """The text in the photo, without the places of its lines."""
    regions: tuple[Region, ...] = ()
    """Of a panorama: what `vector` shows, and then each of `parts`."""
    parts: tuple[Vectors, ...] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """An opened export: its model and its vectors."""

    identity: SpaceIdentity
    model: str
    """The `ModelSpec`, as JSON."""
    photos: int
    items: Iterator[Item]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import added to an index."""

    photos: int
    """Photos in the file."""
    pictures: int
    """New vectors of photos' contents."""
    texts: int
    notes: int
    model: str
    is_active: bool
    """Whether search uses this model."""


@contextlib.contextmanager
def open_export(path: str, stream: IO[bytes] | None = None) -> Iterator[Incoming]:
    """Open a file of any format, recognised by its content, or JSON Lines from a stream. Raises BadExport, OSError.

    The file is not trusted: every item is checked when it is read, and memory stays bounded.
    """
    name = "standard input" if stream else printable(path)
    with _named_errors(name), contextlib.ExitStack() as stack:
        source: Any = stream or stack.enter_context(_open_regular(path))
        file = io.BufferedReader(source)
        start = file.peek(4)[:4]
        if start[:1] == b"{":
            yield _read_lines(file)
        elif stream:
            raise BadExport("not JSON Lines", hint="other formats cannot be read from a pipe")
        elif start == b"PK\x03\x04":
            yield _read_npz(stack.enter_context(zipfile.ZipFile(file)))
        elif start == b"PAR1":
            yield _read_parquet(path)
        else:
            raise BadExport("not an export of imgsearch", hint="make one with: imgsearch export FILE")


@contextlib.contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Put the name of the file in front of every error."""
    try:
        yield
    except BadExport as error:
        raise BadExport(f"{name}: {error}", hint=error.hint or "export it again") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BadExport(f"{name}: damaged ({error})", hint="export or copy it again") from None


@contextlib.contextmanager
def _open_regular(path: str) -> Iterator[IO[bytes]]:
    """A regular file to read. Raises OSError, BadExport."""
    with naming(path), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BadExport("not a regular file", hint="to read from a pipe, use -")
        yield file


def import_collection(
    store: Store, incoming: Incoming, *, on_progress: Progress = lambda done, total: None
) -> Imported:
    """Add the notes, and the vectors of contents that have none. The store is open for writing.

    What was added stays if the file turns out to be damaged further on (BadExport): every vector is checked by itself.
    The next run of `index` gives them to photos by the hash of their bytes.
    """
    space = _space_of(store, incoming)
    before = _counts(store, space)
    seen = notes = 0
    batch, noted = Batch(is_for_later=True), list[tuple[bytes, str]]()

    def commit(space: Space) -> Space:
        nonlocal notes
        if noted:  # first: a note keeps its vector without a photo
            with store.catalog.transaction():
                notes += sum(store.catalog.notes.add(content, text) for content, text in noted)
        batch.readings[:] = [
            each for each in batch.readings if not store.catalog.readings.has(each.content_hash, "read")
        ]
        space = store.commit(space, batch, codecs=codecs())
        batch.images.clear()
        batch.regions.clear()
        batch.texts.clear()
        batch.readings.clear()
        noted.clear()
        return space

    try:
        for item in incoming.items:
            if item.content_hash is not None:
                keys = region_keys(item.content_hash, item.regions)
                for key, vector in zip(keys, (item.vector, *item.parts), strict=True):
                    batch.images.setdefault(key, vector)
                if item.regions and not store.catalog.regions.has(space.id, item.content_hash):
                    batch.regions[item.content_hash] = item.regions
                noted.extend((item.content_hash, text) for text in item.notes)
                if item.reading is not None:
                    batch.readings.append(item.reading)
                seen += 1
            elif item.text is not None:
                batch.texts.setdefault(text_key(item.text), item.vector)
            if len(batch.images) + len(batch.texts) + len(noted) >= PHOTOS_AT_ONCE:
                space = commit(space)
                on_progress(seen, incoming.photos)
    finally:
        space = commit(space)
    store.refresh_slots(space)
    after = _counts(store, space)
    active = store.active_space()
    return Imported(
        photos=seen,
        pictures=after["image"] - before["image"],
        texts=after["text"] - before["text"],
        notes=notes,
        model=space.identity.name,
        is_active=active is not None and active.id == space.id,
    )


def _counts(store: Store, space: Space) -> dict[str, int]:
    """How many vectors there are of each modality."""
    return {each: store.catalog.vectors.count(space.id, each) for each in MODALITIES}


def _space_of(store: Store, incoming: Incoming) -> Space:
    fingerprint = incoming.identity.fingerprint
    for space in store.catalog.spaces.all():
        if space.identity.fingerprint == fingerprint:  # keep what the index says about the model
            if space.identity.dim != incoming.identity.dim:
                raise BadExport(f"its vectors have {incoming.identity.dim} numbers, the index's {space.identity.dim}")
            return space
    return store.space_for(incoming.identity, incoming.model)


# checks of what a file says


def _identity(header: Any) -> tuple[SpaceIdentity, str, int]:
    if not isinstance(header, dict) or header.get("format") != FORMAT_NAME:
        raise BadExport("not an export of imgsearch", hint="make one with: imgsearch export FILE")
    if header.get("version") != VERSION:
        raise BadExport(
            f"version {header.get('version')!r:.20}; this imgsearch reads {VERSION}", hint="upgrade imgsearch"
        )
    model = header.get("model")
    if not isinstance(model, dict):
        raise BadExport("has no model")
    fingerprint, dim, details = model.get("fingerprint"), model.get("dim"), model.get("details")
    name, arch, spec, weights = (model.get(key) for key in ("name", "arch", "spec", "weights"))
    photos = header.get("photos")
    if not (
        isinstance(fingerprint, str)
        and re.fullmatch(r"[0-9a-f]{64}", fingerprint) is not None
        and isinstance(dim, int)
        and 1 <= dim <= MAX_DIM
        and all(_is_name(each) for each in (name, arch, spec))
        and (weights is None or _is_name(weights))
        and isinstance(details, dict)
        and all(_is_name(key) and isinstance(value, str) for key, value in details.items())
        and isinstance(photos, int)
    ):
        raise BadExport("describes an invalid model")
    try:
        recorded = ModelSpec.from_json(str(spec))
    except ModelError as error:
        raise BadExport(f"describes an invalid model ({error})") from None
    identity = SpaceIdentity(fingerprint, str(name), str(arch), weights, dim, details)
    return identity, recorded.to_json(), photos


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 4_096 and value.isprintable()


def _unit(values: Any, dim: int, where: str) -> Vectors:
    """float32, (dim,), unit length. Raises BadExport for anything else."""
    if isinstance(values, list):
        if len(values) != dim or not all(type(value) in (int, float) for value in values):
            raise BadExport(f"{where}: not a vector of {dim} numbers")
        try:
            values = np.array(values, np.float64)
        except OverflowError:
            raise BadExport(f"{where}: not a vector of {dim} numbers") from None
    with np.errstate(all="ignore"):
        vector = np.ascontiguousarray(values, np.float32)
        norm = float(np.linalg.norm(vector.astype(np.float64)))
    if vector.shape != (dim,) or not abs(norm - 1) <= NORM_TOLERANCE:
        raise BadExport(f"{where}: not a unit vector of {dim} numbers")
    return vector


def _photo_item(record: Any, values: Any, dim: int, where: str) -> Item:
    if not isinstance(record, dict):
        raise BadExport(f"{where}: not a photo")
    given = record.get("content_hash")
    try:
        content = given if isinstance(given, bytes) else bytes.fromhex(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        content = b""
    if len(content) != CONTENT_BYTES:
        raise BadExport(f"{where}: no content hash")
    texts = record.get("texts") or []
    noted = (
        [text for text in texts if isinstance(text, dict) and text.get("source") == NOTE]
        if isinstance(texts, list)
        else []
    )
    notes = tuple(note for text in noted if isinstance(text.get("text"), str) and (note := as_note(text["text"])))
    own = record.get("region")
    regions: list[Region] = []
    parts: list[Vectors] = []
    if own is not None:
        regions.append(_region(own, where))
        others = record.get("regions") or []
        if not isinstance(others, list) or len(others) >= MAX_PARTS:
            raise BadExport(f"{where}: not a list of regions")
        for other in others:
            place, vector = (other.get("region"), other.get("vector")) if isinstance(other, dict) else (None, None)
            regions.append(_region(place, where))
            parts.append(_unit(vector if isinstance(vector, list) else [], dim, where))
    vector, reading = _unit(values, dim, where), _reading(content, texts)
    return Item(vector, content, notes=notes, reading=reading, regions=tuple(regions), parts=tuple(parts))


def _reading(content_hash: bytes, texts: Any) -> Reading | None:
    """What OCR has read in a photo, from the texts of its record."""
    for text in texts if isinstance(texts, list) else ():
        if isinstance(text, dict) and text.get("source") == OCR and isinstance(text.get("text"), str):
            lines = tuple(
                TextLine(line, 0.0, Region(0.0, 0.0, 0.0, 0.0))
                for each in text["text"][:MAX_TEXT_CHARACTERS].split("\n")
                if (line := as_note(each))
            )
            return Reading(content_hash, "read", IMPORTED, lines)
    return None


def _region(numbers: Any, where: str) -> Region:
    region = as_region(numbers) if isinstance(numbers, list) else None
    if region is None:
        raise BadExport(f"{where}: not a region of a picture")
    return region


def _text_item(record: Any, values: Any, dim: int, where: str) -> Item:
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str) or not text or len(text) > MAX_TEXT_CHARACTERS:
        raise BadExport(f"{where}: no text")
    return Item(_unit(values, dim, where), text=text)


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise BadExport(f"{where}: not JSON") from None


# JSON Lines


def _read_lines(file: IO[bytes]) -> Incoming:
    header = _parsed(_bounded(file, "line 1"), "line 1")
    identity, model, photos = _identity(header)
    return Incoming(identity, model, photos, _line_items(file, identity.dim))


def _line_items(file: IO[bytes], dim: int) -> Iterator[Item]:
    counts = {"photos": 0, "texts": 0}
    number = 1
    while line := _bounded(file, f"line {number + 1}"):
        number += 1
        where = f"line {number}"
        record = _parsed(line, where)
        kind = record.get("record") if isinstance(record, dict) else None
        if kind == "end":
            if {key: record.get(key) for key in counts} != counts:
                raise BadExport("lines are missing")
            return
        if kind == "photo":
            counts["photos"] += 1
            yield _photo_item(record, record.get("vector"), dim, where)
        elif kind == "text":
            counts["texts"] += 1
            yield _text_item(record, record.get("vector"), dim, where)
        else:
            raise BadExport(f"{where}: neither a photo nor a text")
    raise BadExport("truncated")


def _bounded(file: IO[bytes], where: str) -> bytes:
    line = file.readline(MAX_LINE_BYTES)
    if len(line) >= MAX_LINE_BYTES:
        raise BadExport(f"{where}: too long")
    return line


# npz


def _read_npz(archive: zipfile.ZipFile) -> Incoming:
    file, length = _array(archive, "header", "|u1")
    if length > MAX_HEADER_BYTES:
        raise BadExport("its header is too long")
    identity, model, photos = _identity(_parsed(file.read(length), "header"))
    return Incoming(identity, model, photos, _array_items(archive, identity.dim))


def _array_items(archive: zipfile.ZipFile, dim: int) -> Iterator[Item]:
    for beside, name, item in (("photos", "vectors", _photo_item), ("texts", "text_vectors", _text_item)):
        vectors, count = _array(archive, name, "<f4", dim)
        lines, _ = _array(archive, beside, "|u1")
        for number in range(count):
            where = f"{beside}, row {number}"
            data = vectors.read(4 * dim)
            if len(data) != 4 * dim:
                raise BadExport("truncated")
            record = _parsed(_bounded(lines, where), where)
            yield item(record, np.frombuffer(data, "<f4"), dim, where)
        if lines.read(1):
            raise BadExport(f"{beside}: longer than its vectors")


def _array(archive: zipfile.ZipFile, name: str, kind: str, dim: int | None = None) -> tuple[IO[bytes], int]:
    """The bytes of an array and the number of its rows. (`numpy.load` would put all of it in memory.)

    Raises BadExport unless the archive holds an array of that type, uncompressed and of its full length.
    """
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise BadExport(f"holds no {name}", hint="make one with: imgsearch export FILE") from None
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise BadExport(f"{name} is compressed or encrypted, which is not supported")
    file = archive.open(info)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=1_000)
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        raise BadExport(f"{name}: not an array") from None
    tail = () if dim is None else (dim,)
    size = np.dtype(kind).itemsize * (dim or 1)
    is_sane = dtype == np.dtype(kind) and not is_fortran and len(shape) == 1 + len(tail) and shape[1:] == tail
    if not is_sane or not 0 <= shape[0] <= info.file_size // size:
        raise BadExport(f"{name}: not the expected type or shape")
    source: Any = file
    return io.BufferedReader(source, 1 << 16), int(shape[0])


# Parquet


def _read_parquet(path: str) -> Incoming:
    arrow, parquet = pyarrow()
    try:
        table = parquet.ParquetFile(path)
        about = table.metadata
        head = (about.metadata or {}).get(b"imgsearch", b"")
        if len(head) > MAX_HEADER_BYTES:
            raise BadExport("its header is too long")
        identity, model, photos = _identity(_parsed(head, "header"))
        sizes = (about.row_group(number).total_byte_size for number in range(about.num_row_groups))
        kinds = [parquet_schema(arrow, identity.dim, has_regions=has_regions) for has_regions in (False, True)]
        for name in LATER_COLUMNS.difference(table.schema_arrow.names):
            kinds = [kind.remove(kind.get_field_index(name)) for kind in kinds]
        if not any(table.schema_arrow.equals(kind) for kind in kinds):
            raise BadExport("its columns are not those of an export")
        if any(not 0 <= size <= MAX_ROW_GROUP_BYTES for size in sizes):
            raise BadExport("its parts are too large")
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadExport(f"damaged ({_one_line(error)})") from None
    return Incoming(identity, model, photos, _table_items(arrow, table, identity.dim))


def _table_items(arrow: Any, table: Any, dim: int) -> Iterator[Item]:
    row = 0
    try:
        wanted = ["record", "content_hash", "texts", "text", "region", "regions", "vector"]
        columns = [name for name in wanted if name in table.schema_arrow.names]
        for batch in table.iter_batches(PHOTOS_AT_ONCE, columns=columns):
            batch.validate(full=True)
            column = batch.column("vector")
            if column.null_count or column.values.null_count:
                raise BadExport(f"row {row} and after: a vector is missing")
            vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
            records = batch.drop_columns(["vector"]).to_pylist()
            for record, vector in zip(records, vectors, strict=True):
                where = f"row {row}"
                item = {"photo": _photo_item, "text": _text_item}.get(record["record"])
                if item is None:
                    raise BadExport(f"{where}: neither a photo nor a text")
                yield item(record, vector, dim, where)
                row += 1
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadExport(f"damaged ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
