"""`imgsearch export` and `imgsearch import`: from one machine's index to another's, and hostile files."""

from __future__ import annotations

import io
import json
import os
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch.core.errors import ImgsearchError, UsageError
from imgsearch.core.indexing import indexer
from imgsearch.core.indexing.indexer import IndexPlan
from imgsearch.core.models.phrases import neutral_phrases
from imgsearch.core.store.export_collection import export_collection, format_of
from imgsearch.core.store.import_collection import BadExport
from imgsearch.core.store.store import Store

from conftest import ALBUM
from pictures import exif_block

FORMS = ("npz", "jsonl", "parquet")


@pytest.fixture(params=FORMS)
def form(request) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return request.param


@pytest.fixture
def shelf(photos: Path) -> Path:
    """Six photos, a copy, one with a caption, one with a sidecar, and one of an odd name."""
    shutil.copy(photos / "lemon.jpg", photos / "lemon-copy.jpg")
    image = Image.open(ALBUM / "kiwi.jpg")
    image.save(photos / "kiwi.jpg", exif=exif_block({270: "a kiwi <script>alert(1)</script>", 272: "X-T5"}))
    (photos / "banana.txt").write_text("breakfast in the garden")
    odd = os.path.join(os.fsencode(photos), b"caf\xe9\n\xe2\x80\xae.jpg")
    Path(os.fsdecode(odd)).write_bytes((ALBUM / "garlic.jpg").read_bytes())
    return photos


def hits(imgsearch, *words) -> list[tuple[str, float]]:
    records = imgsearch("query", *words, "--json", "-n", "20", "--modality", "any").records
    return [(r.get("path_b64", r["path"]), r["score"]) for r in records]


def test_photos_embedded_on_one_machine_are_not_embedded_again_on_another(
    imgsearch, shelf, tmp_path, form, counting, monkeypatch
):
    imgsearch("index", shelf)
    imgsearch("notes", "add", shelf / "watermelon.jpg", "the party at the lake")
    before = hits(imgsearch, "fruit"), hits(imgsearch, "party at the lake"), hits(imgsearch, shelf / "lemon.jpg")
    outcome = imgsearch("export", f"out.{form}")
    assert outcome.code == 0 and "exported 9 photos and 3 texts of builtin" in outcome.err

    laptop = tmp_path / "laptop"
    monkeypatch.setenv("IMGSEARCH_INDEX", str(laptop))
    (record,) = imgsearch("import", f"out.{form}", "--json").records
    assert record == {
        "photos": 9, "vectors": 8, "text_vectors": 3, "notes": 1, "model": "builtin", "is_active": True,
    }  # fmt: skip
    with Store.writing(str(laptop)) as store:
        space = store.active_space()
        model = space.model
        summary = indexer.run(store, lambda: (counting, model), IndexPlan((str(shelf),)), space=space)
    assert (summary.reused, summary.new, counting.pictures) == (9, 0, 0)
    phrases = set(neutral_phrases())
    assert [text for text in counting.texts if text not in phrases] == []
    after = hits(imgsearch, "fruit"), hits(imgsearch, "party at the lake"), hits(imgsearch, shelf / "lemon.jpg")
    for ours, theirs in zip(after, before, strict=True):
        assert [path for path, _ in ours] == [path for path, _ in theirs]
        assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-4)
    assert imgsearch("check", "--deep").code == 0


def test_imported_vectors_go_to_the_same_photos_elsewhere_and_to_no_others(imgsearch, shelf, tmp_path, monkeypatch):
    imgsearch("index", shelf)
    imgsearch("export", "out.npz")
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(shelf / "lemon.jpg", there / "renamed.jpg")
    shutil.copy(ALBUM / "leek.jpg", there / "banana.jpg")  # another photo under a name of the export
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "laptop"))
    imgsearch("import", "out.npz")
    assert "(1 new, 1 moved or copied)" in imgsearch("index", there).err
    (first, *_) = imgsearch("query", ALBUM / "leek.jpg", "--json", "--include-reference").records
    assert first["path"] == str(there / "banana.jpg") and first["cosine"] > 0.999


def test_the_three_formats_hold_the_same(imgsearch, shelf):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet

    imgsearch("index", shelf)
    for form in FORMS:
        imgsearch("export", f"out.{form}")
    lines = [json.loads(line) for line in Path("out.jsonl").read_bytes().splitlines()]
    assert [line["record"] for line in lines] == ["header", *["photo"] * 9, *["text"] * 2, "end"]
    photos = [line for line in lines if line["record"] == "photo"]
    with np.load("out.npz", allow_pickle=False) as data:
        beside = [json.loads(line) for line in data["photos"].tobytes().splitlines()]
        vectors = data["vectors"]
        texts = [json.loads(line)["text"] for line in data["texts"].tobytes().splitlines()]
        assert data["text_vectors"].shape == (2, 256)
    table = pyarrow.parquet.read_table("out.parquet").to_pylist()
    assert [row["record"] for row in table] == [line["record"] for line in lines[1:-1]]
    for photo, record, vector, row in zip(photos, beside, vectors, table, strict=False):
        assert {key: value for key, value in photo.items() if key not in ("record", "vector")} == record
        assert np.array_equal(np.array(photo["vector"], np.float32), vector)
        assert np.array_equal(np.array(row["vector"], np.float32), vector)
        assert abs(np.linalg.norm(vector) - 1) < 1e-5
        assert row["content_hash"].hex() == photo["content_hash"] and row["texts"] == photo["texts"]
        assert os.path.getsize(os.fsdecode(row["path_bytes"])) == row["size"] == photo["size"]
    kiwi = next(photo for photo in photos if photo["path"].endswith("kiwi.jpg"))
    assert kiwi["camera"] == "X-T5"
    assert kiwi["texts"] == [{"text": "a kiwi <script>alert(1)</script>", "source": "exif:ImageDescription"}]
    assert sorted(texts) == ["a kiwi <script>alert(1)</script>", "breakfast in the garden"]
    assert next(photo for photo in photos if "path_b64" in photo)["path"].startswith(str(shelf))


def embedded(counting, index: Path, *folders: Path) -> int:
    """Pictures that a run over those folders, or over all that the index has, had to embed."""
    counting.pictures = 0
    with Store.writing(str(index)) as store:
        space = store.active_space()
        indexer.run(store, lambda: (counting, space.model), IndexPlan(tuple(map(str, folders))), space=space)
    return counting.pictures


def vectors(imgsearch) -> dict[str, int]:
    """How many there are of each model."""
    (status,) = imgsearch("status", "--json").records
    return {space["model"]: space["vectors"] for space in status["spaces"]}


def test_imported_vectors_wait_for_photos_that_are_indexed_later(imgsearch, shelf, tmp_path, counting, monkeypatch):
    imgsearch("index", shelf)
    imgsearch("export", "out.npz")
    laptop, library = tmp_path / "laptop", tmp_path / "library"
    monkeypatch.setenv("IMGSEARCH_INDEX", str(laptop))
    assert imgsearch("import", "out.npz").code == 0
    assert "imported vectors whose photos are not indexed yet: 10" in imgsearch("prune").err
    library.mkdir()
    shutil.copy(shelf / "lemon.jpg", library / "one.jpg")
    assert embedded(counting, laptop, library) == 0
    (laptop / "catalog.sqlite3").chmod(0o644)  # something to repair
    assert imgsearch("check", "--repair").code == 0
    assert imgsearch("prune", "--json").records[0]["awaited"] == 9
    for name in ("kiwi.jpg", "banana.jpg", "banana.txt"):
        shutil.copy(shelf / name, library)
    assert embedded(counting, laptop) == 0
    assert imgsearch("prune", "--json").records[0]["awaited"] == 5
    assert imgsearch("query", "breakfast in the garden", "--modality", "text", "-l").lines[0].endswith("/banana.jpg")
    (library / "kiwi.jpg").unlink()  # a photo that was here once is waited for no more
    imgsearch("index")
    assert (imgsearch("prune", "--json").records[0]["vectors"], vectors(imgsearch)) == (2, {"builtin": 8})
    assert imgsearch("check", "--deep").code == 0
    outcome = imgsearch("prune", "--imported")
    assert "wait" not in outcome.err and vectors(imgsearch) == {"builtin": 3}
    assert imgsearch("import", "out.npz", "--json").records[0]["vectors"] == 6
    assert imgsearch("check").code == 0


def test_an_imported_note_needs_no_photo_and_can_be_removed(imgsearch, shelf, tmp_path, form, monkeypatch):
    imgsearch("index", shelf)
    imgsearch("notes", "add", shelf / "watermelon.jpg", "the party at the lake")
    imgsearch("export", f"out.{form}")
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "laptop"))
    imgsearch("import", f"out.{form}")
    imgsearch("prune")
    assert vectors(imgsearch) == {"builtin": 11}, "a note keeps its vector"
    imgsearch("index", shelf)
    assert imgsearch("prune", "--json").records[0]["awaited"] == 0, "all photos were met"
    imgsearch("notes", "remove", shelf / "watermelon.jpg")
    assert imgsearch("prune", "--json").records[0]["vectors"] == 1


def test_importing_half_a_file_and_then_all_equals_importing_all(imgsearch, shelf, tmp_path, counting, monkeypatch):
    imgsearch("index", shelf)
    data = imgsearch("export", "-").out.splitlines(keepends=True)
    before = imgsearch("query", "fruit", "--json").out
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "laptop"))
    outcome = imgsearch("import", "-", stdin=b"".join(data[:5]))
    assert outcome.code == 2 and "truncated" in outcome.err
    assert imgsearch("prune").code == 0  # what came over stays
    assert vectors(imgsearch) == {"builtin": 4}
    assert imgsearch("import", "-", "--json", stdin=b"".join(data)).records[0]["vectors"] == 4
    assert embedded(counting, tmp_path / "laptop", shelf) == 0
    assert imgsearch("query", "fruit", "--json").out == before


def test_an_index_of_another_model_switches_to_the_imported_one_without_embedding(
    imgsearch, shelf, tmp_path, other, monkeypatch
):
    """The photos lie elsewhere than on the box, were indexed before, and so does the model."""
    box = tmp_path / "box"
    shutil.copytree(shelf, box)
    other = f"local-dir:{shutil.copytree(other.removeprefix('local-dir:'), tmp_path / 'theirs', symlinks=True)}"
    imgsearch("index", box, "--model", other)
    imgsearch("notes", "add", box / "watermelon.jpg", "sour")
    before = [name.split("/")[-1] for name in imgsearch("query", "fruit", "-l").lines]
    imgsearch("export", "out.npz")
    shutil.rmtree(box)

    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "laptop"))
    imgsearch("index", shelf, "--model", "builtin")
    imgsearch("notes", "add", shelf / "banana.jpg", "sweet")
    outcome = imgsearch("import", "out.npz")
    assert f"imgsearch index FOLDER --model {other}" in outcome.err
    assert imgsearch("prune", "--json").records[0]["spaces"] == []
    shutil.move(other.removeprefix("local-dir:"), tmp_path / "model")
    outcome = imgsearch("index", "--model", f"local-dir:{tmp_path / 'model'}")
    assert "9 unchanged" in outcome.err and f"search now uses {other}" in outcome.err
    assert [name.split("/")[-1] for name in imgsearch("query", "fruit", "-l").lines] == before
    for words, name in (("sour", "watermelon.jpg"), ("sweet", "banana.jpg")):
        assert imgsearch("query", words, "--modality", "text", "-l", "-n", "1").lines[0].endswith(name)
    (shelf / "new.jpg").write_bytes((ALBUM / "leek.jpg").read_bytes())
    assert "indexed 1 photo, 9 unchanged" in imgsearch("index").err  # by the model where it lies here
    assert imgsearch("check", "--deep").code == 0


def test_json_lines_go_through_pipes(imgsearch, shelf, tmp_path, monkeypatch):
    imgsearch("index", shelf)
    data = imgsearch("export", "-").out
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "laptop"))
    assert imgsearch("import", "-", "--json", stdin=data).records[0]["vectors"] == 8
    assert imgsearch("import", "-", "--json", stdin=data).records[0]["vectors"] == 0
    outcome = imgsearch("import", "-", stdin=b"PK\x03\x04 no")
    assert outcome.code == 2 and "standard input: not JSON Lines" in outcome.err


def test_an_imported_second_model_waits_until_it_is_indexed_with(imgsearch, photos, tmp_path, monkeypatch):
    imgsearch("index", photos)
    lines = imgsearch("export", "-").out.splitlines()
    header = json.loads(lines[0])
    header["model"]["fingerprint"] = "ab" * 32
    lines[0] = json.dumps(header).encode()
    (record,) = imgsearch("import", "-", "--json", stdin=b"\n".join(lines)).records
    assert (record["vectors"], record["is_active"]) == (6, False)
    (status,) = imgsearch("status", "--json").records
    assert [(space["state"], space["vectors"], space["is_active"]) for space in status["spaces"]] == [
        ("complete", 6, True),
        ("building", 6, False),
    ]
    assert imgsearch("query", "lemon").code == 0


def test_an_export_appears_complete_or_not_at_all(imgsearch, shelf, tmp_path, monkeypatch):
    imgsearch("index", shelf)
    (tmp_path / "out.npz").write_bytes(b"what was there before")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    outcome = imgsearch("export", "out.npz")
    assert outcome.code == 2 and "out.npz: no space left on device" in outcome.err
    monkeypatch.undo()
    assert (tmp_path / "out.npz").read_bytes() == b"what was there before"
    assert [name for name in os.listdir(tmp_path) if name.startswith(".export")] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("out", "unknown format"), ("out.csv", "unknown format"), ("nowhere/out.npz", "no such file"),
     ("photos", "unknown format")],
)  # fmt: skip
def test_a_name_that_cannot_be_written_says_why(imgsearch, photos, name, said):
    imgsearch("index", photos)
    outcome = imgsearch("export", name)
    assert (outcome.code, said in outcome.err) == (2, True)


def test_a_folder_or_a_device_is_never_replaced(imgsearch, photos, tmp_path):
    imgsearch("index", photos)
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("folder.npz", "pipe.npz"):
        outcome = imgsearch("export", name)
        assert outcome.code == 2 and "not a regular file" in outcome.err
        assert imgsearch("import", name).code == 2


# --------------------------------------------------------------------------------------------------- bad files

FINGERPRINT = "cd" * 32
UNIT = [0.6, 0.8]


def header(**changes: object) -> dict:
    spec = '{"name": "builtin", "arch": "builtin"}'
    model = {
        "fingerprint": FINGERPRINT,
        "name": "n",
        "arch": "a",
        "weights": None,
        "dim": 2,
        "details": {},
        "spec": spec,
    }
    model |= {key: changes.pop(key) for key in list(changes) if key in model}
    return {
        "record": "header",
        "format": "imgsearch-export",
        "version": 1,
        "model": model,
        "photos": 1,
        "texts": 0,
    } | changes


def photo(**changes: object) -> dict:
    return {"record": "photo", "content_hash": "11" * 32, "vector": UNIT, "texts": []} | changes


END = {"record": "end", "photos": 1, "texts": 0}


def lines(*records: object) -> bytes:
    return b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records)


HOSTILE = {
    "no export": lines({"format": "other"}),
    "a newer version": lines(header(version=2)),
    "no model": lines(header() | {"model": None}),
    "a fingerprint that leads out": lines(header(fingerprint="../../../../etc/passwd")),
    "no dimension": lines(header(dim=0)),
    "a huge dimension": lines(header(dim=10**9)),
    "a dimension that is a truth": lines(header(dim="2")),
    "details that are none": lines(header(details={"a": 1})),
    "no spec": lines(header(spec="{}")),
    "a name with control characters": lines(header(name="\x1b[2Jx")),
    "no JSON": lines(header(), b"{{{"),
    "deep JSON": lines(header(), b"[" * 200_000),
    "truncated": lines(header(), photo()),
    "lines missing": lines(header(), END),
    "an unknown record": lines(header(), {"record": "code"}),
    "a list": lines(header(), [1]),
    "no vector": lines(header(), photo(vector=None)),
    "a short vector": lines(header(), photo(vector=[1.0])),
    "not a number": lines(header(), b'{"record":"photo","content_hash":"%s","vector":[NaN,1]}' % (b"11" * 32)),
    "infinite": lines(header(), b'{"record":"photo","content_hash":"%s","vector":[1e999,1]}' % (b"11" * 32)),
    "huge integers": lines(header(), photo(vector=[10**400, 1])),
    "truths": lines(header(), photo(vector=[True, False])),
    "words": lines(header(), photo(vector=["0.6", "0.8"])),
    "not of unit length": lines(header(), photo(vector=[3.0, 4.0])),
    "no hash": lines(header(), photo(content_hash="../x")),
    "a short hash": lines(header(), photo(content_hash="11")),
    "a text that is none": lines(header(), {"record": "text", "text": 5, "vector": UNIT}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_gives_a_one_line_error(imgsearch, tmp_path, case):
    (tmp_path / "bad.jsonl").write_bytes(HOSTILE[case])
    outcome = imgsearch("import", "bad.jsonl")
    assert outcome.code == 2
    first, *rest = outcome.err.splitlines()
    assert first.startswith(f"imgsearch: {tmp_path}/bad.jsonl: ") and len(rest) == 1 and "\x1b" not in outcome.err
    assert imgsearch("status").code in (0, 4)


def npz(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def blob(*records: object) -> bytes:
    return npy(np.frombuffer(lines(*records), np.uint8))


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_hostile_arrays_give_a_one_line_error_and_are_never_run(imgsearch, tmp_path):
    good = {
        "header": blob(header()),
        "vectors": npy(np.array([UNIT], "<f4")),
        "photos": blob(photo()),
        "text_vectors": npy(np.zeros((0, 2), "<f4")),
        "texts": npy(np.zeros(0, np.uint8)),
    }
    path = tmp_path / "out.npz"
    npz(path, **good)
    assert imgsearch("import", path, "--json").records[0]["vectors"] == 1
    pickled = io.BytesIO()
    np.save(pickled, np.array([Evil()], object), allow_pickle=True)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 2)})
    bad = {
        "pickled header": good | {"header": pickled.getvalue()},
        "pickled vectors": good | {"vectors": pickled.getvalue()},
        "more rows than bytes": good | {"vectors": huge.getvalue()},
        "doubles": good | {"vectors": npy(np.array([UNIT]))},
        "flat": good | {"vectors": npy(np.array(UNIT, "<f4"))},
        "not finite": good | {"vectors": npy(np.array([[np.nan, 1]], "<f4"))},
        "code for a header": good | {"vectors": b"\x93NUMPY\x01\x00\x10\x00__import__('os')"},
        "fewer photos": good | {"photos": blob()},
        "more photos": good | {"photos": blob(photo(), photo())},
        "no array": good | {"photos": b"photos"},
    }
    for case, members in bad.items():
        npz(path, **members)
        outcome = imgsearch("import", path)
        assert (case, outcome.code, len(outcome.err.splitlines())) == (case, 2, 2)
        assert outcome.err.startswith(f"imgsearch: {path}: ")
    for missing in good:
        npz(path, **{name: data for name, data in good.items() if name != missing})
        assert f"holds no {missing}" in imgsearch("import", path).err
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", npy(np.zeros(10_000_000, np.uint8)))
    assert "compressed" in imgsearch("import", path).err
    assert not (tmp_path / "pwned").exists()


def test_a_cut_or_corrupted_export_gives_a_one_line_error(imgsearch, photos, tmp_path, form, monkeypatch):
    imgsearch("index", photos)
    imgsearch("export", f"out.{form}")
    data = (tmp_path / f"out.{form}").read_bytes()
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "laptop"))
    generator = np.random.default_rng(5)
    for cut in generator.integers(0, len(data) - 1, 25):
        (tmp_path / "bad").write_bytes(data[:cut])
        outcome = imgsearch("import", "bad")
        assert (int(cut), outcome.code, "Traceback" in outcome.err) == (int(cut), 2, False)
    for at in generator.integers(0, len(data), 40):
        corrupted = bytearray(data)
        corrupted[at] ^= 1 << int(generator.integers(8))
        (tmp_path / "bad").write_bytes(corrupted)
        outcome = imgsearch("import", "bad")
        assert outcome.code in (0, 2) and "Traceback" not in outcome.err, int(at)


def test_parquet_of_another_program_is_refused(imgsearch, tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow.table({"a": [1]}), tmp_path / "a.parquet")
    assert "not JSON" in imgsearch("import", "a.parquet").err
    table = arrow.table({"a": [1]}).replace_schema_metadata({"imgsearch": json.dumps(header())})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert "its columns are not those of an export" in imgsearch("import", "a.parquet").err


def test_a_known_vector_is_never_replaced(imgsearch, photos, tmp_path):
    imgsearch("index", photos)
    before = imgsearch("query", "lemon", "--json").out
    text = imgsearch("export", "-").out.decode()
    other = [json.loads(line) for line in text.splitlines()]
    swapped = [record for record in other if record["record"] == "photo"]
    swapped[0]["vector"], swapped[1]["vector"] = swapped[1]["vector"], swapped[0]["vector"]
    assert imgsearch("import", "-", "--json", stdin=lines(*other)).records[0]["vectors"] == 0
    assert imgsearch("query", "lemon", "--json").out == before


def test_memory_does_not_grow_with_the_photos(folder, tmp_path, counting):
    """Photos made up in the catalogue, with vectors of 256 dimensions: a thousand, then nine."""
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(ALBUM / "lemon.jpg", photos)
    with Store.writing(folder, create=True) as store:
        indexer.run(store, lambda: (counting, '{"name": "builtin", "arch": "builtin"}'), IndexPlan((str(photos),)))
        space = store.active_space()
        generator = np.random.default_rng(0)
        peaks = []
        for count in (1_024, 8_192):
            _make_up(store, space.id, count, generator)
            peaks.append(_peak(store, tmp_path / "out.npz"))
        assert peaks[1] < 1.5 * peaks[0]


def _make_up(store: Store, space_id: str, count: int, generator: np.random.Generator) -> None:
    from imgsearch.core.store.store import Batch

    space = store.catalog.spaces.get(space_id)
    rows = generator.standard_normal((count, 256)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    keys = [generator.bytes(32) for _ in range(count)]
    store.commit(space, Batch(images=dict(zip(keys, rows, strict=True))), codecs="")
    with store.catalog.transaction():
        columns = [
            row[1]
            for row in store.catalog.rows("pragma table_info(photos)")
            if row[1] not in ("id", "name", "content_hash")
        ]
        for number, key in enumerate(keys):
            store.catalog.rows(
                f"insert into photos (name, content_hash, {', '.join(columns)}) "
                f"select :name, :key, {', '.join(columns)} from photos limit 1",
                name=b"%d-%d.jpg" % (count, number),
                key=key,
            )


def _peak(store: Store, path: Path) -> int:
    tracemalloc.start()
    try:
        export_collection(store, str(path), "npz")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_parquet_without_pyarrow_says_what_to_install(imgsearch, photos, monkeypatch):
    import sys

    imgsearch("index", photos)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    outcome = imgsearch("export", "out.parquet")
    assert outcome.code == 2 and "imgsearch-cli[parquet]" in outcome.err
    assert not Path("out.parquet").exists()


def test_only_json_lines_go_to_standard_output():
    with pytest.raises(UsageError):
        format_of("-", "npz")
    assert format_of("x", "npz") == "npz" and format_of("X.JSONL", None) == "jsonl"
    assert issubclass(BadExport, ImgsearchError)


def test_a_parquet_export_of_an_older_version_is_read(imgsearch, shelf, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    imgsearch("index", shelf, "--model", "builtin")
    imgsearch("export", "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    parquet.write_table(table.drop_columns(["is_damaged"]), tmp_path / "older.parquet")
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "laptop"))
    outcome = imgsearch("import", "older.parquet")
    assert (outcome.code, "imported new vectors of 8 pictures" in outcome.err) == (0, True)
