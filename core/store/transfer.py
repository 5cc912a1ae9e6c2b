"""What an index knows, handed on in one file: to other programs, or to the index of another machine.

A file holds the identity of a model, the photos with their facts, texts and vectors, and the texts with theirs. Three
forms say the same: JSON Lines, NumPy's npz (no pickles), Parquet (docs/json.md). Whoever takes a file in believes
nothing of what it says about files: a vector is kept for the hash of the content that it belongs to, and a photo is
given it when `index` has read the very same bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ImgsearchError, ModelError, UsageError
from imgsearch.core.models.registry import ModelSpec
from imgsearch.core.paths import fsync_path, naming, path_fields, printable
from imgsearch.core.photos.codecs import codecs
from imgsearch.core.types import MODALITIES, CarriedText, SpaceIdentity

from .notes import NOTE, as_note
from .records import Place, text_key
from .schema import FACT_COLUMNS, MAX_DIM, TEXT_FACTS, WHOLE_FACTS
from .store import Batch, Store, View

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

    from .records import Space

Form = Literal["jsonl", "npz", "parquet"]
FORMS: tuple[Form, ...] = ("npz", "parquet", "jsonl")
FORMAT = "imgsearch-export"
VERSION = 1

# Read from the catalogue, and committed, at once: a checkpoint's worth.
PHOTOS_AT_ONCE = 1_024
# The longest line taken in: 65,536 numbers, and every text that a photo may carry, with room to spare.
MAX_LINE_BYTES = 16 << 20
MAX_TEXT_CHARACTERS = 1 << 20
MAX_HEADER_BYTES = 1 << 20
MAX_ROW_GROUP_BYTES = 4 << 30
# A unit vector of float32 that was computed in half precision is this near to length 1.
NORM_TOLERANCE = 1e-3
CONTENT_BYTES = 32


Progress = Callable[[int, int], None]
"""How many photos are done, of how many."""


class BadExport(ImgsearchError):
    """A file that is no export of ours, or a damaged one."""


# ------------------------------------------------------------------------------------------------------- export


@dataclass(frozen=True, slots=True)
class Exported:
    """What went into a file."""

    photos: int
    texts: int
    left_out: int
    """Photos that have no vector of this model."""
    model: str


def form_of(path: str, named: str | None) -> Form:
    """By `--format`, else by the file's extension. Raises UsageError."""
    ending = os.path.splitext(path)[1].lower().removeprefix(".")
    form = named or ("jsonl" if path == "-" else ending)
    for known in FORMS:
        if form == known:
            if path == "-" and known != "jsonl":
                raise UsageError(f"{known} cannot be written to standard output", hint="name a file, or use jsonl")
            return known
    raise UsageError(f"{printable(path)}: of what form?", hint="end it in .npz, .parquet or .jsonl, or say --format")


def export(
    store: Store, path: str, form: Form, *, output: IO[bytes] | None = None, on_progress: Progress = lambda n, of: None
) -> Exported:
    """Write what the active space holds to a file that is there whole or not at all, or as JSON Lines to `output`.

    Photos are read from the catalogue some at a time, so memory does not grow with them. Raises IndexNotFound,
    IndexDamaged, UsageError (a library that is not installed, a path that is no file's).
    """
    with store.catalog.reading():
        view = store.view()
        if output is not None:
            return _written(_Lines(output), store, view, on_progress)
        with _whole_file(path) as file:
            return _written(_WRITERS[form](file), store, view, on_progress)


class _Writer(Protocol):
    def begin(self, header: dict[str, Any]) -> None: ...

    def photos(self, records: Sequence[dict[str, Any]], vectors: Vectors) -> None: ...

    def texts(self, texts: Sequence[str], vectors: Vectors) -> None: ...

    def end(self) -> None: ...


def _written(writer: _Writer, store: Store, view: View, on_progress: Progress) -> Exported:
    space, catalog = view.space, store.catalog
    photos, texts = catalog.vectors.count_present(space.id)
    present = catalog.value("select count(*) from photos where state = 'present'")
    writer.begin(_header(space, photos, texts))
    done = 0
    for places in catalog.places.with_vectors(space.id, PHOTOS_AT_ONCE):
        carried = catalog.places.texts_of([place.id for place in places])
        records = [_photo_record(place, carried.get(place.id, [])) for place in places]
        writer.photos(records, _rows(store, view, [place.slot for place in places]))
        on_progress(done := done + len(places), photos)
    for chunk in catalog.vectors.texts(space.id, PHOTOS_AT_ONCE):
        writer.texts([text for text, _ in chunk], _rows(store, view, [slot for _, slot in chunk]))
    writer.end()
    return Exported(photos, texts, present - photos, space.identity.name)


def _rows(store: Store, view: View, slots: Sequence[int]) -> Vectors:
    store.verify_checksums(view, slots)
    return np.ascontiguousarray(view.rows[list(slots)], np.float32)


def _header(space: Space, photos: int, texts: int) -> dict[str, Any]:
    identity = space.identity
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {
            "fingerprint": identity.fingerprint,
            "name": identity.name,
            "arch": identity.arch,
            "weights": identity.weights,
            "dim": identity.dim,
            "details": identity.details,
            "spec": space.model,
        },
        "photos": photos,
        "texts": texts,
    }


def _photo_record(place: Place, texts: Sequence[CarriedText]) -> dict[str, Any]:
    return {
        **path_fields(place.path),
        **path_fields(place.root, "root"),
        "content_hash": place.content_hash.hex(),
        "size": place.size,
        "mtime_ns": place.mtime_ns,
        **place.facts,
        "keywords": list(place.keywords),
        "texts": [{"text": carried.text, "source": carried.source} for carried in texts],
    }


@contextlib.contextmanager
def _whole_file(path: str) -> Iterator[IO[bytes]]:
    """A file beside, which takes that name when it is complete and on the disk."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{printable(path)}: not a regular file", hint="for a pipe, export JSON Lines to -")
    folder = os.path.dirname(os.path.abspath(path))
    with naming(path):
        descriptor, temporary = tempfile.mkstemp(prefix=".export-", suffix=".new", dir=folder)
    try:
        with naming(path):
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        fsync_path(folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")


class _Lines:
    """One JSON object a line: the header, photos, texts, and an end by which a file that was cut short is told."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._numbers = ""
        self._counts = {"photos": 0, "texts": 0}

    def begin(self, header: dict[str, Any]) -> None:
        self._numbers = ",".join(["%.9g"] * header["model"]["dim"])  # nine digits tell any two float32 apart
        self._file.write(_line({"record": "header", **header}) + b"\n")

    def photos(self, records: Sequence[dict[str, Any]], vectors: Vectors) -> None:
        for record, vector in zip(records, vectors, strict=True):
            self._write({"record": "photo", **record}, vector)
        self._counts["photos"] += len(records)

    def texts(self, texts: Sequence[str], vectors: Vectors) -> None:
        for text, vector in zip(texts, vectors, strict=True):
            self._write({"record": "text", "text": text}, vector)
        self._counts["texts"] += len(texts)

    def _write(self, record: dict[str, Any], vector: Vectors) -> None:
        numbers = self._numbers % tuple(vector.tolist())
        self._file.write(b'%s, "vector": [%s]}\n' % (_line(record)[:-1], numbers.encode("ascii")))

    def end(self) -> None:
        self._file.write(_line({"record": "end", **self._counts}) + b"\n")
        self._file.flush()


class _Arrays:
    """An npz: the vectors as arrays, and beside them, as bytes, one line of JSON for each of their rows."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._beside: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._array: IO[bytes] | None = None
        self._name = ""
        self._header: dict[str, Any] = {}

    def begin(self, header: dict[str, Any]) -> None:
        self._header = header
        self._write_bytes("header", io.BytesIO(_line(header)))
        self._open("vectors", header["photos"])

    def photos(self, records: Sequence[dict[str, Any]], vectors: Vectors) -> None:
        self._add([_line(record) for record in records], vectors)

    def texts(self, texts: Sequence[str], vectors: Vectors) -> None:
        if self._name == "vectors":
            self._close("photos")
            self._open("text_vectors", self._header["texts"])
        self._add([_line({"text": text}) for text in texts], vectors)

    def end(self) -> None:
        if self._name == "vectors":
            self.texts([], np.zeros((0, self._header["model"]["dim"]), np.float32))
        self._close("texts")
        self._zip.close()
        self._beside.close()

    def _open(self, name: str, rows: int) -> None:
        self._name = name
        self._array = self._zip.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)
        shape = (rows, self._header["model"]["dim"])
        self._array.write(_array_head("<f4", shape))

    def _add(self, lines: Sequence[bytes], vectors: Vectors) -> None:
        assert self._array is not None
        self._array.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        self._beside.write(b"".join(line + b"\n" for line in lines))

    def _close(self, beside: str) -> None:
        assert self._array is not None
        self._array.close()
        self._write_bytes(beside, self._beside)
        self._beside.seek(0)
        self._beside.truncate()

    def _write_bytes(self, name: str, source: IO[bytes]) -> None:
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        with self._zip.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as array:
            array.write(_array_head("|u1", (size,)))
            while data := source.read(1 << 20):
                array.write(data)


def _array_head(kind: str, shape: tuple[int, ...]) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind, "fortran_order": False, "shape": shape})
    return head.getvalue()


class _Table:
    """A Parquet table with a row for every photo and, behind them, for every text."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._arrow, self._parquet = _pyarrow()
        self._writer: Any = None
        self._schema: Any = None

    def begin(self, header: dict[str, Any]) -> None:
        self._schema = _schema(self._arrow, header["model"]["dim"]).with_metadata({"imgsearch": _line(header)})
        self._writer = self._parquet.ParquetWriter(self._file, self._schema)

    def photos(self, records: Sequence[dict[str, Any]], vectors: Vectors) -> None:
        self._write([_row_of(record) for record in records], vectors)

    def texts(self, texts: Sequence[str], vectors: Vectors) -> None:
        self._write([{"record": "text", "text": text} for text in texts], vectors)

    def _write(self, rows: list[dict[str, Any]], vectors: Vectors) -> None:
        names = self._schema.names[:-1]
        columns = [self._arrow.array([row.get(name) for row in rows], self._schema.field(name).type) for name in names]
        flat = self._arrow.array(np.ascontiguousarray(vectors).ravel())
        columns.append(self._arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
        self._writer.write_batch(self._arrow.record_batch(columns, schema=self._schema))

    def end(self) -> None:
        self._writer.close()


def _row_of(record: dict[str, Any]) -> dict[str, Any]:
    """A photo's record with its hash and odd names as bytes."""
    from base64 import b64decode

    row = {**record, "record": "photo", "content_hash": bytes.fromhex(record["content_hash"])}
    row["path_bytes"] = b64decode(record["path_b64"]) if "path_b64" in record else record["path"].encode()
    return row


def _schema(arrow: Any, dim: int) -> Any:
    facts = [
        (name, arrow.string() if name in TEXT_FACTS else arrow.int64() if name in WHOLE_FACTS else arrow.float64())
        for name in FACT_COLUMNS
    ]
    carried = arrow.struct([("text", arrow.string()), ("source", arrow.string())])
    return arrow.schema(
        [
            ("record", arrow.string()),
            ("path", arrow.string()),
            ("path_bytes", arrow.binary()),
            ("root", arrow.string()),
            ("content_hash", arrow.binary()),
            ("size", arrow.int64()),
            ("mtime_ns", arrow.int64()),
            *facts,
            ("keywords", arrow.list_(arrow.string())),
            ("texts", arrow.list_(carried)),
            ("text", arrow.string()),
            ("vector", arrow.list_(arrow.float32(), dim)),
        ]
    )


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            "Parquet needs a library that is not installed",
            hint="pip install 'imgsearch-cli[parquet]', or use .npz or .jsonl",
        ) from None
    return pyarrow, parquet


_WRITERS: dict[Form, Callable[[IO[bytes]], _Writer]] = {"jsonl": _Lines, "npz": _Arrays, "parquet": _Table}


# ------------------------------------------------------------------------------------------------------- import


@dataclass(frozen=True, slots=True)
class Item:
    """One vector of a file: of a picture's content, with the notes about it, or of a text."""

    vector: Vectors
    content_hash: bytes | None = None
    text: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """An opened export: whose vectors it holds, how many, and those."""

    identity: SpaceIdentity
    model: str
    """The `ModelSpec`, as JSON."""
    photos: int
    items: Iterator[Item]


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What an index took over."""

    photos: int
    """In the file."""
    pictures: int
    """Vectors of contents that had none."""
    texts: int
    notes: int
    model: str
    is_active: bool
    """Whether it is the model that search uses."""


@contextlib.contextmanager
def opened(path: str, stream: IO[bytes] | None = None) -> Iterator[Incoming]:
    """A file of any of the forms, told by its content; or JSON Lines from a stream. Raises BadExport, OSError.

    Nothing in it is believed: every item is looked at when it is read.
    """
    name = "standard input" if stream else printable(path)
    with _named(name), contextlib.ExitStack() as stack:
        source: Any = stream or stack.enter_context(_regular(path))
        file = io.BufferedReader(source)
        start = file.peek(4)[:4]
        if start[:1] == b"{":
            yield _lines_in(file)
        elif stream:
            raise BadExport("not JSON Lines", hint="only these come through a pipe")
        elif start == b"PK\x03\x04":
            yield _arrays_in(stack.enter_context(zipfile.ZipFile(file)))
        elif start == b"PAR1":
            yield _table_in(path)
        else:
            raise BadExport("no export of imgsearch", hint="make one with: imgsearch export FILE")


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with a file says which file it is."""
    try:
        yield
    except BadExport as error:
        raise BadExport(f"{name}: {error}", hint=error.hint or "export it again") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BadExport(f"{name}: damaged ({error})", hint="export or copy it again") from None


@contextlib.contextmanager
def _regular(path: str) -> Iterator[IO[bytes]]:
    """A file to read. Raises OSError, and BadExport for a folder and its like."""
    with naming(path), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BadExport("not a regular file", hint="a pipe is read from -")
        yield file


def take_in(store: Store, incoming: Incoming, *, on_progress: Progress = lambda n, of: None) -> TakenIn:
    """Keep the vectors of contents that have none, and notes. The store is open for writing.

    What was taken over stays, also if the file turns out to be damaged further on (BadExport): every vector is
    looked at by itself. Photos get them from the next run of `index` that meets them, by the hash of their bytes.
    """
    space = _space_of(store, incoming)
    before = _counts(store, space)
    seen = notes = 0
    batch, noted = Batch(is_for_later=True), list[tuple[bytes, str]]()

    def commit(space: Space) -> Space:
        nonlocal notes
        if noted:  # first, for a note waits for no photo: it keeps its vector by itself
            with store.catalog.transaction():
                notes += sum(store.catalog.notes.add(content, text) for content, text in noted)
        space = store.commit(space, batch, codecs=codecs())
        batch.images.clear()
        batch.texts.clear()
        noted.clear()
        return space

    try:
        for item in incoming.items:
            if item.content_hash is not None:
                batch.images.setdefault(item.content_hash, item.vector)
                noted.extend((item.content_hash, text) for text in item.notes)
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
    return TakenIn(
        photos=seen,
        pictures=after["image"] - before["image"],
        texts=after["text"] - before["text"],
        notes=notes,
        model=space.identity.name,
        is_active=active is not None and active.id == space.id,
    )


def _counts(store: Store, space: Space) -> dict[str, int]:
    """How many vectors there are of each modality."""
    sql = "select count(*) from vectors where space_id = :space and modality = :modality"
    return {each: int(store.catalog.value(sql, space=space.id, modality=each)) for each in MODALITIES}


def _space_of(store: Store, incoming: Incoming) -> Space:
    fingerprint = incoming.identity.fingerprint
    for space in store.catalog.spaces.all():
        if space.identity.fingerprint == fingerprint:  # what the index itself says of the model stays
            if space.identity.dim != incoming.identity.dim:
                raise BadExport(f"its vectors have {incoming.identity.dim} numbers, the index's {space.identity.dim}")
            return space
    return store.space_for(incoming.identity, incoming.model)


# what a file says, looked at


def _identity(header: Any) -> tuple[SpaceIdentity, str, int]:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BadExport("no export of imgsearch", hint="make one with: imgsearch export FILE")
    if header.get("version") != VERSION:
        raise BadExport(
            f"of version {header.get('version')!r:.20}, and this one knows {VERSION}", hint="upgrade imgsearch"
        )
    model = header.get("model")
    if not isinstance(model, dict):
        raise BadExport("names no model")
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
        raise BadExport("describes a model that cannot be")
    try:
        recorded = ModelSpec.from_json(str(spec))
    except ModelError as error:
        raise BadExport(f"describes a model that cannot be ({error})") from None
    identity = SpaceIdentity(fingerprint, str(name), str(arch), weights, dim, details)
    return identity, recorded.to_json(), photos


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 4_096 and value.isprintable()


def _unit(values: Any, dim: int, where: str) -> Vectors:
    """float32, (dim,), of length 1. Raises BadExport for anything else."""
    if isinstance(values, list):
        if len(values) != dim or not all(type(value) in (int, float) for value in values):
            raise BadExport(f"{where}: no vector of {dim} numbers")
        try:
            values = np.array(values, np.float64)
        except OverflowError:
            raise BadExport(f"{where}: no vector of {dim} numbers") from None
    with np.errstate(all="ignore"):
        vector = np.ascontiguousarray(values, np.float32)
        norm = float(np.linalg.norm(vector.astype(np.float64)))
    if vector.shape != (dim,) or not abs(norm - 1) <= NORM_TOLERANCE:
        raise BadExport(f"{where}: no unit vector of {dim} numbers")
    return vector


def _photo_item(record: Any, values: Any, dim: int, where: str) -> Item:
    if not isinstance(record, dict):
        raise BadExport(f"{where}: no photo")
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
    return Item(_unit(values, dim, where), content_hash=content, notes=notes)


def _text_item(record: Any, values: Any, dim: int, where: str) -> Item:
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str) or not text or len(text) > MAX_TEXT_CHARACTERS:
        raise BadExport(f"{where}: no text")
    return Item(_unit(values, dim, where), text=text)


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise BadExport(f"{where}: no JSON") from None


# JSON Lines


def _lines_in(file: IO[bytes]) -> Incoming:
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
    raise BadExport("cut short")


def _bounded(file: IO[bytes], where: str) -> bytes:
    line = file.readline(MAX_LINE_BYTES)
    if len(line) >= MAX_LINE_BYTES:
        raise BadExport(f"{where}: too long")
    return line


# npz


def _arrays_in(archive: zipfile.ZipFile) -> Incoming:
    head = _array(archive, "header", "|u1")
    if head.count > MAX_HEADER_BYTES:
        raise BadExport("its header is too long")
    identity, model, photos = _identity(_parsed(head.file.read(head.count), "header"))
    return Incoming(identity, model, photos, _array_items(archive, identity.dim))


def _array_items(archive: zipfile.ZipFile, dim: int) -> Iterator[Item]:
    for beside, name, item in (("photos", "vectors", _photo_item), ("texts", "text_vectors", _text_item)):
        vectors, lines = _array(archive, name, "<f4", dim), _array(archive, beside, "|u1")
        for number in range(vectors.count):
            where = f"{beside}, row {number}"
            data = vectors.file.read(4 * dim)
            if len(data) != 4 * dim:
                raise BadExport("cut short")
            record = _parsed(_bounded(lines.file, where), where)
            yield item(record, np.frombuffer(data, "<f4"), dim, where)
        if lines.file.read(1):
            raise BadExport(f"{beside}: more of them than vectors")


@dataclass(frozen=True, slots=True)
class _Array:
    """An array in an archive, to be read from its beginning."""

    file: IO[bytes]
    count: int
    """Its rows."""


def _array(archive: zipfile.ZipFile, name: str, kind: str, dim: int | None = None) -> _Array:
    """Raises BadExport unless the archive holds an array of that type there, uncompressed and of its full length."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise BadExport(f"holds no {name}", hint="make one with: imgsearch export FILE") from None
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise BadExport(f"{name} is compressed or encrypted, which imgsearch does not do")
    file = archive.open(info)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=1_000)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise BadExport(f"{name}: no array") from None
    tail = () if dim is None else (dim,)
    size = np.dtype(kind).itemsize * (dim or 1)
    is_sane = dtype == np.dtype(kind) and not is_fortran and len(shape) == 1 + len(tail) and shape[1:] == tail
    if not is_sane or not 0 <= shape[0] <= info.file_size // size:
        raise BadExport(f"{name}: not the array that it should be")
    source: Any = file
    return _Array(io.BufferedReader(source, 1 << 16), int(shape[0]))


# Parquet


def _table_in(path: str) -> Incoming:
    arrow, parquet = _pyarrow()
    try:
        table = parquet.ParquetFile(path)
        about = table.metadata
        head = (about.metadata or {}).get(b"imgsearch", b"")
        if len(head) > MAX_HEADER_BYTES:
            raise BadExport("its header is too long")
        identity, model, photos = _identity(_parsed(head, "header"))
        sizes = (about.row_group(number).total_byte_size for number in range(about.num_row_groups))
        if not table.schema_arrow.equals(_schema(arrow, identity.dim)):
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
        for batch in table.iter_batches(PHOTOS_AT_ONCE, columns=["record", "content_hash", "texts", "text", "vector"]):
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
