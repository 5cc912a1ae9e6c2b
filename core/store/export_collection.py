"""Export of an index to one file, for other programs or for the index of another machine.

A file holds the identity of a model, the photos with their facts, texts and vectors, and the texts with theirs. Three
formats say the same: JSON Lines, NumPy's npz without pickles, and Parquet (docs/json.md).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import numpy as np  # noqa: TID253

from imgsearch.core.errors import UsageError
from imgsearch.core.paths import path_fields, printable
from imgsearch.core.types import CarriedText, Region
from imgsearch.core.writing import fsync_path, replacing

from .records import Place
from .region_table import StoredRegion
from .schema import FACT_COLUMNS, PLACE_COLUMNS, TEXT_FACTS, TRUTH_FACTS, WHOLE_FACTS
from .store import Store, View

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

    from .records import Space

Format = Literal["jsonl", "npz", "parquet"]
FORMATS: tuple[Format, ...] = ("npz", "parquet", "jsonl")
FORMAT_NAME = "imgsearch-export"
VERSION = 1
# Photos read from the catalogue, and committed by an import, at once: a checkpoint's worth.
PHOTOS_AT_ONCE = 1_024

Progress = Callable[[int, int], None]
"""Called with the number of photos done, and of all photos."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written to a file."""

    photos: int
    texts: int
    left_out: int
    """Photos without a vector of this model."""
    model: str


def format_of(path: str, name: str | None) -> Format:
    """The named format, or else that of the file's extension. Raises UsageError."""
    extension = os.path.splitext(path)[1].lower().removeprefix(".")
    wanted = name or ("jsonl" if path == "-" else extension)
    for known in FORMATS:
        if wanted == known:
            if path == "-" and known != "jsonl":
                raise UsageError(f"{known} cannot be written to standard output", hint="name a file, or use jsonl")
            return known
    raise UsageError(f"{printable(path)}: unknown format", hint="end its name in .npz, .parquet or .jsonl")


def export_collection(
    store: Store,
    path: str,
    form: Format,
    *,
    output: IO[bytes] | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Exported:
    """Write the active space to a file, or as JSON Lines to `output`. The file appears complete or not at all.

    Photos are read a block at a time, so memory does not grow with them. Raises IndexNotFound, IndexDamaged, and
    UsageError for a missing library or a path that is not a regular file.
    """
    if output is not None:  # its reader may be slow: no transaction is held while it is written
        return _write(_LinesWriter(output), store, store.view(), on_progress)
    with store.catalog.reading():
        view = store.view()
        with _replaced(path) as file:
            return _write(_WRITERS[form](file), store, view, on_progress)


class _Writer(Protocol):
    def begin(self, header: dict[str, Any]) -> None: ...

    def photos(self, records: Sequence[dict[str, Any]], vectors: Vectors) -> None: ...

    def texts(self, texts: Sequence[str], vectors: Vectors) -> None: ...

    def end(self) -> None: ...


def _write(writer: _Writer, store: Store, view: View, on_progress: Progress) -> Exported:
    space, catalog = view.space, store.catalog
    with catalog.reading():
        photos, texts = catalog.vectors.count_present(space.id)
        present = catalog.photos.count_present()
        has_regions = catalog.regions.any(space.id)
    writer.begin(_header(space, photos, texts, has_regions=has_regions))
    done = 0
    for records, vectors in _photo_batches(store, view):
        writer.photos(records, vectors)
        on_progress(done := done + len(records), photos)
    for batch, vectors in _text_batches(store, view):
        writer.texts(batch, vectors)
    writer.end()
    return Exported(photos, texts, present - photos, space.identity.name)


def _photo_batches(store: Store, view: View) -> Iterator[tuple[list[dict[str, Any]], Vectors]]:
    """Records and vectors. Each batch is consistent in itself; between two of them the index may change."""
    batches = store.catalog.places.with_vectors(view.space.id, PHOTOS_AT_ONCE)
    while True:
        with store.catalog.reading():
            places = next(batches, None)
            if places is None:
                return
            ids = [place.id for place in places]
            carried = store.catalog.places.texts_of(ids)
            regions = store.catalog.regions.of_photos(view.space.id, ids)
            vectors = _rows(store, view, [place.slot for place in places])
            parts = {photo_id: _region_records(store, view, found) for photo_id, found in regions.items()}
        yield [_photo_record(place, carried.get(place.id, [])) | parts.get(place.id, {}) for place in places], vectors


def _text_batches(store: Store, view: View) -> Iterator[tuple[list[str], Vectors]]:
    """Texts and vectors, as `_photo_batches`."""
    batches = store.catalog.vectors.texts(view.space.id, PHOTOS_AT_ONCE)
    while True:
        with store.catalog.reading():
            batch = next(batches, None)
            if batch is None:
                return
            vectors = _rows(store, view, [slot for _, slot in batch])
        yield [text for text, _ in batch], vectors


def _rows(store: Store, view: View, slots: Sequence[int]) -> Vectors:
    space = store.reload(view.space)
    if (space.generation, space.slots) != (view.space.generation, view.space.slots):  # a writer was here meanwhile
        view = replace(view, space=space, rows=store.vectors(space).rows(space.slots))
    store.verify_checksums(view, slots)
    return np.ascontiguousarray(view.rows[list(slots)], np.float32)


def _header(space: Space, photos: int, texts: int, *, has_regions: bool) -> dict[str, Any]:
    identity = space.identity
    return {
        "format": FORMAT_NAME,
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
        "has_regions": has_regions,
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


def _region_records(store: Store, view: View, regions: Sequence[StoredRegion]) -> dict[str, Any]:
    """What a panorama's or video's own vector shows, and its other regions with their vectors."""
    own, *others = (_numbers(each.region) for each in regions)
    vectors = _rows(store, view, [each.slot for each in regions[1:]]).tolist() if others else []
    return {
        "region": own,
        "regions": [{"region": region, "vector": vector} for region, vector in zip(others, vectors, strict=True)],
    }


def _numbers(region: Region) -> list[float]:
    return [region.x, region.y, region.width, region.height, *([] if region.at is None else [region.at])]


@contextlib.contextmanager
def _replaced(path: str) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when it is complete and on disk."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{printable(path)}: not a regular file", hint="for a pipe, export JSON Lines to -")
    with replacing(path) as file:
        yield file
    fsync_path(os.path.dirname(os.path.abspath(path)))


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")


class _LinesWriter:
    """One JSON object per line: the header, photos, texts, and an end record that shows that the file is complete."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._numbers = ""
        self._counts = {"photos": 0, "texts": 0}

    def begin(self, header: dict[str, Any]) -> None:
        self._numbers = ",".join(["%.9g"] * header["model"]["dim"])  # nine digits identify any float32
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


class _NpzWriter:
    """An npz: arrays of vectors, and for each an array of bytes with one line of JSON per row.

    `numpy.savez` needs whole arrays in memory, so the members are written here, block by block, after numpy's headers.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._lines: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
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
        self._lines.close()

    def _open(self, name: str, rows: int) -> None:
        self._name = name
        self._array = self._zip.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)
        shape = (rows, self._header["model"]["dim"])
        self._array.write(_array_head("<f4", shape))

    def _add(self, lines: Sequence[bytes], vectors: Vectors) -> None:
        assert self._array is not None
        self._array.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        self._lines.write(b"".join(line + b"\n" for line in lines))

    def _close(self, lines: str) -> None:
        assert self._array is not None
        self._array.close()
        self._write_bytes(lines, self._lines)
        self._lines.seek(0)
        self._lines.truncate()

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


class _ParquetWriter:
    """A Parquet table with a row for every photo, then one for every text."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._arrow, self._parquet = pyarrow()
        self._writer: Any = None
        self._schema: Any = None

    def begin(self, header: dict[str, Any]) -> None:
        schema = parquet_schema(self._arrow, header["model"]["dim"], has_regions=header["has_regions"])
        self._schema = schema.with_metadata({"imgsearch": _line(header)})
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
    """A photo's record with its hash and path as bytes."""
    from base64 import b64decode

    row = {**record, "record": "photo", "content_hash": bytes.fromhex(record["content_hash"])}
    row["path_bytes"] = b64decode(record["path_b64"]) if "path_b64" in record else record["path"].encode()
    return row


def parquet_schema(arrow: Any, dim: int, *, has_regions: bool) -> Any:
    kinds = (TEXT_FACTS, arrow.string()), (WHOLE_FACTS, arrow.int64()), (TRUTH_FACTS, arrow.bool_())
    columns = (*FACT_COLUMNS, *PLACE_COLUMNS)
    facts = [(name, next((kind for names, kind in kinds if name in names), arrow.float64())) for name in columns]
    carried = arrow.struct([("text", arrow.string()), ("source", arrow.string())])
    place = arrow.list_(arrow.float64())
    part = arrow.struct([("region", place), ("vector", arrow.list_(arrow.float32()))])
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
            *([("region", place), ("regions", arrow.list_(part))] if has_regions else []),
            ("vector", arrow.list_(arrow.float32(), dim)),
        ]
    )


def pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`. Raises UsageError if they are not installed."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            "Parquet needs a library that is not installed",
            hint="pip install 'imgsearch-cli[parquet]', or use .npz or .jsonl",
        ) from None
    return arrow, parquet


_WRITERS: dict[Format, Callable[[IO[bytes]], _Writer]] = {
    "jsonl": _LinesWriter,
    "npz": _NpzWriter,
    "parquet": _ParquetWriter,
}
