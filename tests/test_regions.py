"""Panoramas, long screenshots and scanned strips: several squares of one photo."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch.core.indexing import indexer
from imgsearch.core.indexing.indexer import IndexPlan, Summary
from imgsearch.core.models import registry
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.photos.preprocess import square, square_of
from imgsearch.core.photos.regions import MAX_SQUARES, PANORAMA_ASPECT, is_panorama, regions_of
from imgsearch.core.search.filters import Filters
from imgsearch.core.search.grammar import combine, explicit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.check import check
from imgsearch.core.store.export_collection import export_collection
from imgsearch.core.store.import_collection import BadExport, import_collection, open_export
from imgsearch.core.store.prune import prune
from imgsearch.core.store.records import region_keys
from imgsearch.core.store.repair import repair
from imgsearch.core.store.salvage import salvage
from imgsearch.core.store.schema import MIGRATIONS
from imgsearch.core.store.store import Store
from imgsearch.core.types import Recipe, Region, SpaceIdentity

from conftest import ALBUM, downgrade, from_album
from pictures import exif_block, noise

pytestmark = pytest.mark.usefixtures("kept_workers")

SPEC = registry.parse("builtin").to_json()
RECIPE = Recipe((16, 16), (0.5,) * 3, (0.5,) * 3)
WIDE, TALL = "wide.jpg", "tall.jpg"


class Pixels:
    """A model whose vector of a picture is its pixels, so that equal squares have equal vectors."""

    def __init__(self, recipe: Recipe = RECIPE) -> None:
        self.recipe = recipe
        name = hashlib.sha256(repr(recipe).encode()).hexdigest()
        self.identity = SpaceIdentity(name, "pixels", "pixels", None, 768, {})
        self.squares = 0

    def embed_images(self, squares):
        self.squares += len(squares)
        return _unit(squares.reshape(len(squares), -1).astype(np.float64) - 128)

    def embed_texts(self, texts):
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) for text in texts]
        return _unit(np.stack([np.random.default_rng(seed).standard_normal(768) for seed in seeds]))


def _unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def side_by_side(*names: str, side: int = 200, is_tall: bool = False) -> Image.Image:
    """Photos of the album, as squares in a row or in a column."""
    strip = Image.new("RGB", (side, side * len(names)) if is_tall else (side * len(names), side))
    for at, name in enumerate(names):
        with Image.open(ALBUM / f"{name}.jpg") as image:
            strip.paste(image.resize((side, side)), (0, at * side) if is_tall else (at * side, 0))
    return strip


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder with six photos, a wide panorama (lemon at the left end) and a tall one (banana at the lower end)."""
    folder = from_album(tmp_path / "photos", "cucumber", "garlic", "ginger", "leek", "mango", "papaya")
    side_by_side("lemon", "kiwi", "plum", "lime", "orange").save(folder / WIDE, quality=95)
    side_by_side("watermelon", "avocado", "banana", is_tall=True).save(folder / TALL, quality=95)
    side_by_side("lemon").save(tmp_path / "lemon.png")
    side_by_side("banana").save(tmp_path / "banana.png")
    return folder


WIDE_SQUARES, TALL_SQUARES = len(regions_of(1000, 200)), len(regions_of(200, 600))
PHOTOS = 8


@pytest.fixture
def model() -> Pixels:
    return Pixels()


def index(folder: str | Path, model: Pixels, *paths: Path) -> Summary:
    with Store.writing(str(folder), create=True) as store:
        space = next((s for s in store.catalog.spaces.all() if s.id == model.identity.fingerprint[:16]), None)
        return indexer.run(store, lambda: (model, SPEC), IndexPlan(tuple(map(str, paths))), space=space)


def find(folder: str | Path, model: Pixels, picture: Path, options: SearchOptions | None = None, **more):
    with Store.open(str(folder)) as store:
        query = combine(explicit(None, (str(picture),)), **more)
        return Searcher(store, lambda: model).search(query, options or SearchOptions(limit=20))


def names(hits) -> list[str]:
    return [os.path.basename(hit.path) for hit in hits]


def rows_of(folder: str | Path) -> list[tuple]:
    with closing(sqlite3.connect(os.path.join(folder, "catalog.sqlite3"))) as connection:
        return connection.execute("select key, content_hash, x, y, width, height from regions order by 1").fetchall()


def run_sql(folder: str | Path, *statements: str) -> None:
    with closing(sqlite3.connect(os.path.join(folder, "catalog.sqlite3"), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("pragma wal_checkpoint(truncate)")


def index_as_an_older_version(folder: str | Path, model: Pixels, *paths: Path) -> None:
    """An index without regions, and without what their migration added."""
    read = DecodePool.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecodePool, "read", lambda *given, regions, **more: read(*given, **more))
        index(folder, model, *paths)
    number = next(number for number, script in enumerate(MIGRATIONS) if "create table regions" in script)
    downgrade(folder, number)


# ---- Geometry


@pytest.mark.parametrize("aspect", [1.81, 2, 2.2, 3, 5, 8, 12, 17, 40, 1000])
def test_the_squares_of_a_panorama_are_evenly_spread_and_overlap(aspect):
    wide = regions_of(round(1000 * aspect), 1000)
    assert 3 <= len(wide) <= MAX_SQUARES and len(wide) % 2 == 1
    centre, *others = wide
    assert centre.x + centre.width / 2 == pytest.approx(0.5, abs=1e-5)
    assert others[0].x == 0 and others[-1].x + others[-1].width == pytest.approx(1, abs=1e-5)
    assert {(region.y, region.height) for region in wide} == {(0, 1)}
    starts = sorted(region.x for region in wide)
    steps = np.diff(starts)
    assert steps.max() - steps.min() < 1e-5
    if aspect <= 17:
        assert steps.max() <= centre.width * 2 / 3 + 1e-5
    tall = regions_of(1000, round(1000 * aspect))
    assert [(r.y, r.x, r.height, r.width) for r in tall] == [(r.x, r.y, r.width, r.height) for r in wide]


def test_an_ordinary_photo_has_no_regions():
    assert regions_of(3, 2) == regions_of(16, 9) == regions_of(9, 16) == regions_of(1, 1) == ()
    assert not is_panorama(round(1000 * PANORAMA_ASPECT), 1000) and is_panorama(1801, 1000)
    assert 17 <= len(regions_of(12_000, 1_000)) <= 23


def test_the_square_of_a_region_shows_that_part_and_no_more():
    image = side_by_side("lemon", "kiwi", "plum")
    for at in range(3):
        part = square(image.crop((200 * at, 0, 200 * at + 200, 200)), RECIPE)
        assert (square_of(image, Region(at / 3, 0, 1 / 3, 1), RECIPE) == part).all()


@pytest.mark.parametrize("size", [(1_000_000, 1), (1, 70_000), (5_000, 2)])
def test_thin_strips_have_squares_of_the_right_size(size):
    image = noise(*size)
    for region in regions_of(*size):
        assert square_of(image, region, RECIPE).shape == (16, 16, 3)


# ---- Index and search


def test_a_subject_at_the_end_of_a_panorama_is_found_and_its_place_is_said(scene, tmp_path, model, folder):
    summary = index(folder, model, scene)
    assert (summary.new, summary.skipped, model.squares) == (PHOTOS, 0, PHOTOS - 2 + WIDE_SQUARES + TALL_SQUARES)
    hits = find(folder, model, tmp_path / "lemon.png")
    assert names(hits)[0] == WIDE and sorted(names(hits)) == sorted(os.listdir(scene))
    assert hits[0].score > 0.99
    assert hits[0].place.region == Region(0, 0, 0.2, 1)
    lower = find(folder, model, tmp_path / "banana.png")
    assert names(lower)[0] == TALL and lower[0].score > 0.99
    assert (lower[0].place.region.x, lower[0].place.region.width) == (0, 1)
    assert lower[0].place.region.y == pytest.approx(2 / 3, abs=1e-3)
    assert all(hit.place.region is None for hit in hits + lower if names([hit])[0] not in (WIDE, TALL))


def test_the_centre_of_a_panorama_stays_the_vector_of_the_photo(scene, model, folder):
    index(folder, model, scene)
    with Store.open(folder) as store:
        view = store.view()
        content = hashlib.sha256((scene / WIDE).read_bytes()).digest()
        slot = store.catalog.vectors.slot_of(view.space.id, "image", content)
        with Image.open(scene / WIDE) as image:
            expected = model.embed_images(square(image, RECIPE)[None])[0]
        assert view.rows[slot] @ expected > 0.999
        assert store.calibration(view.space).pictures == PHOTOS
        assert np.count_nonzero(view.slots.mask("image")) == PHOTOS
        assert np.count_nonzero(view.slots.mask("region")) == WIDE_SQUARES + TALL_SQUARES - 2
    # a query by the panorama itself is a query by its centre
    centre = find(folder, model, scene / WIDE, SearchOptions(limit=20, include_reference=True))
    assert names(centre)[0] == WIDE and centre[0].score == pytest.approx(1, abs=1e-5)


def test_a_photo_is_one_hit_whichever_way_it_is_searched(scene, tmp_path, model, folder):
    shutil.copy(scene / WIDE, scene / "copy of wide.jpg")
    with Image.open(scene / WIDE) as image:
        image.resize((750, 150)).save(scene / "small wide.png")
    index(folder, model, scene)
    lemon = tmp_path / "lemon.png"
    exact = find(folder, model, lemon, SearchOptions(limit=20, strategy="exact"))
    assert len(exact) == len(set(names(exact))) == PHOTOS + 2
    graph = find(folder, model, lemon, SearchOptions(limit=20, strategy="ann"))
    assert [(hit.path, hit.place.region) for hit in graph] == [(hit.path, hit.place.region) for hit in exact]
    grouped = find(folder, model, lemon, SearchOptions(limit=20, group="duplicates"))
    assert len(grouped) == PHOTOS
    together = {os.path.basename(each.path) for each in (grouped[0], *grouped[0].members)}
    assert together == {WIDE, "copy of wide.jpg", "small wide.png"}
    few = find(folder, model, lemon, SearchOptions(limit=4, group="duplicates"))
    assert len(few) == 4
    only = find(folder, model, lemon, SearchOptions(limit=20, filters=Filters(glob=("wide*",))))
    assert names(only) == [WIDE] and only[0].place.region == Region(0, 0, 0.2, 1)
    with Store.open(folder) as store:
        composed = Searcher(store, lambda: model).search(
            explicit("ripe", (str(scene / WIDE),)), SearchOptions(limit=20)
        )
    assert len(composed) == PHOTOS - 1 and not together & set(names(composed))


def test_an_orientation_tag_turns_the_regions_too(tmp_path, model, folder):
    photos = tmp_path / "turned"
    photos.mkdir()
    upright = side_by_side("lemon", "kiwi", "plum", "lime")
    upright.transpose(Image.Transpose.ROTATE_90).save(photos / "pano.jpg", quality=95, exif=exif_block({0x0112: 6}))
    side_by_side("lemon").save(tmp_path / "lemon.png")
    index(folder, model, photos)
    (hit,) = find(folder, model, tmp_path / "lemon.png")
    assert hit.score > 0.99 and hit.place.region == Region(0, 0, 0.25, 1)


def test_a_batch_with_panoramas_never_mixes_up_vectors(tmp_path, folder):
    photos = tmp_path / "many"
    photos.mkdir()
    stems = sorted(path.stem for path in ALBUM.glob("*.jpg"))[:24]
    for at, stem in enumerate(stems):
        if at % 3 == 0:
            side_by_side(*stems[at : at + 3], "kiwi").save(photos / f"{stem}.png")
        else:
            side_by_side(stem).save(photos / f"{stem}.png")
        if at % 7 == 0:
            (photos / f"{stem}-broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    model = Pixels()
    model.batch_size = 5
    assert index(folder, model, photos).new == 24
    for at, stem in enumerate(stems):
        side_by_side(stem).save(tmp_path / "asked.png")
        best = find(folder, model, tmp_path / "asked.png", SearchOptions(limit=1))[0]
        assert best.score > 0.999
        if at % 3 == 0:
            assert (names([best]), best.place.region) == ([f"{stem}.png"], Region(0, 0, 0.25, 1))


def test_a_panorama_that_lacks_its_end_gets_one_square(scene, tmp_path, model, folder):
    with Image.open(scene / TALL) as image:
        image.resize((600, 1800)).save(tmp_path / "long.jpg", quality=95)
    data = (tmp_path / "long.jpg").read_bytes()
    (scene / TALL).write_bytes(data[: len(data) * 2 // 3])
    assert index(folder, model, scene).new == PHOTOS
    assert model.squares == PHOTOS - 1 + WIDE_SQUARES
    assert (
        next(hit for hit in find(folder, model, tmp_path / "banana.png") if hit.path.endswith(TALL)).place.region
        is None
    )
    assert index(folder, model, scene).unchanged == PHOTOS
    with Store.open(folder) as store:
        checked = check(store, embedder=lambda: model)
        assert (checked.findings, checked.notes) == ((), ())


@pytest.mark.parametrize("mode", ["squash", "longest"])
def test_a_model_that_sees_the_whole_picture_gets_one_square(scene, tmp_path, folder, mode):
    whole = Pixels(Recipe((16, 16), (0.5,) * 3, (0.5,) * 3, resize_mode=mode))
    assert index(folder, whole, scene).new == PHOTOS
    assert whole.squares == PHOTOS
    assert all(hit.place.region is None for hit in find(folder, whole, tmp_path / "lemon.png"))
    assert index(folder, whole, scene).unchanged == PHOTOS
    # another model of the same index has its own regions
    model = Pixels()
    assert index(folder, model, scene).new == PHOTOS
    assert find(folder, model, tmp_path / "lemon.png")[0].place.region == Region(0, 0, 0.2, 1)


# ---- Upgrade, repair, removal, transfer


def test_an_older_index_answers_and_the_next_run_adds_the_regions_of_its_panoramas_only(scene, tmp_path, model, folder):
    index_as_an_older_version(folder, model, scene)
    before = find(folder, model, tmp_path / "lemon.png")
    assert len(before) == PHOTOS and all(hit.place.region is None for hit in before) and before[0].score < 0.9
    with Store.open(folder) as store:
        checked = check(store)
        assert checked.findings == ()
        assert checked.notes == (
            "2 panoramas are found by the centre only; the next `imgsearch index` embeds the rest",
        )
    model.squares = 0
    summary = index(folder, model, scene)
    assert (summary.unchanged, summary.new, model.squares) == (PHOTOS - 2, 2, WIDE_SQUARES + TALL_SQUARES)
    assert len(rows_of(folder)) == WIDE_SQUARES + TALL_SQUARES
    assert find(folder, model, tmp_path / "lemon.png")[0].place.region == Region(0, 0, 0.2, 1)
    assert index(folder, model, scene).unchanged == PHOTOS
    with Store.open(folder) as store:
        checked = check(store, embedder=lambda: model)
        assert (checked.findings, checked.notes) == ((), ())


def test_prune_forgets_the_regions_of_deleted_panoramas(scene, tmp_path, model, folder):
    index(folder, model, scene)
    os.unlink(scene / WIDE)
    assert index(folder, model, scene).gone == 1
    assert WIDE not in names(find(folder, model, tmp_path / "lemon.png"))
    with Store.writing(folder) as store:
        pruned = prune(store)
        assert (pruned.photos, pruned.vectors) == (1, WIDE_SQUARES)
    assert len(rows_of(folder)) == TALL_SQUARES
    lower = find(folder, model, tmp_path / "banana.png")
    assert len(lower) == PHOTOS - 1 and lower[0].score > 0.99 and lower[0].place.region is not None
    with Store.open(folder) as store:
        assert check(store, embedder=lambda: model).findings == ()


def test_a_deep_check_compares_every_square_and_a_repair_embeds_the_wrong_ones(scene, tmp_path, model, folder):
    index(folder, model, scene)
    content = hashlib.sha256((scene / WIDE).read_bytes()).digest()
    first = region_keys(content, regions_of(1000, 200))[1]
    with Store.writing(folder) as store:
        space = store.active_space()
        ours, others = (
            store.catalog.vectors.slot_of(space.id, "image", key)
            for key in (first, hashlib.sha256((scene / "mango.jpg").read_bytes()).digest())
        )
        path = store.vectors(space).path
        rows = np.memmap(path, np.float32, "r+", shape=(space.slots, 768))
        rows[ours] = rows[others]
        rows.flush()
        from imgsearch.core.store.vectors import crc_of

        with store.catalog.transaction():
            store.catalog.execute("update vectors set crc = ? where slot = ?", (crc_of(rows[ours]), ours))
        store.graphs.remove(space)
        (finding,) = check(store, embedder=lambda: model).findings
        assert "wide.jpg: its vector is not that of the picture" in finding.what
        repair(store, [finding])
    model.squares = 0
    assert index(folder, model, scene).new == 1
    assert model.squares == WIDE_SQUARES
    assert find(folder, model, tmp_path / "lemon.png")[0].score > 0.99
    with Store.open(folder) as store:
        assert check(store, embedder=lambda: model).findings == ()


@pytest.mark.parametrize("change", ["x = 7", "width = 'wide'", "height = -1", "y = 0.5", "content_hash = x'00'"])
def test_impossible_regions_are_found_shown_as_none_and_made_again(scene, tmp_path, model, folder, change):
    index(folder, model, scene)
    complete = rows_of(folder)
    run_sql(folder, f"update regions set {change} where x = 0 and width < 0.5")
    hits = find(folder, model, tmp_path / "lemon.png")
    assert all(hit.place.region is None or 0 <= hit.place.region.x <= 1 for hit in hits)
    with Store.writing(folder) as store:
        findings = check(store).findings
        assert any("with wrong regions" in finding.what for finding in findings)
        repair(store, findings)
    index(folder, model, scene)
    assert rows_of(folder) == complete
    with Store.open(folder) as store:
        assert check(store, embedder=lambda: model).findings == ()


def test_a_salvaged_catalogue_keeps_the_regions(scene, tmp_path, model, folder):
    index(folder, model, scene)
    complete = rows_of(folder)
    salvage(folder)
    assert rows_of(folder) == complete
    assert find(folder, model, tmp_path / "lemon.png")[0].place.region == Region(0, 0, 0.2, 1)


@pytest.mark.parametrize("form", ["npz", "jsonl", "parquet"])
def test_regions_travel_with_an_export_and_need_no_embedding(scene, tmp_path, model, folder, form):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    index(folder, model, scene)
    path = str(tmp_path / f"out.{form}")
    with Store.open(folder) as store:
        assert export_collection(store, path, form).photos == PHOTOS
    laptop = str(tmp_path / "laptop")
    with Store.writing(laptop, create=True) as store, open_export(path) as incoming:
        taken = import_collection(store, incoming)
        assert (taken.photos, taken.pictures) == (PHOTOS, PHOTOS)
        pruned = prune(store)
        assert (pruned.vectors, pruned.awaited) == (0, PHOTOS)
    model.squares = 0
    summary = index(laptop, model, scene)
    assert (summary.reused, summary.new, model.squares) == (PHOTOS, 0, 0)
    assert rows_of(laptop) == rows_of(folder)
    assert find(laptop, model, tmp_path / "lemon.png")[0].place.region == Region(0, 0, 0.2, 1)
    with Store.writing(laptop) as store:
        assert store.catalog.vectors.count_pending_imports() == 0
        assert check(store, embedder=lambda: model).findings == ()


def test_an_export_with_an_impossible_region_is_refused(scene, tmp_path, model, folder):
    index(folder, model, scene)
    path = tmp_path / "out.jsonl"
    with Store.open(folder) as store:
        export_collection(store, str(path), "jsonl")
    path.write_text(path.read_text().replace('"region": [0.0, 0.0,', '"region": [7, 0.0,', 1))
    with (
        Store.writing(str(tmp_path / "laptop"), create=True) as store,
        open_export(str(path)) as incoming,
        pytest.raises(BadExport, match="not a region of a picture"),
    ):
        import_collection(store, incoming)


def test_an_import_without_regions_gets_them_from_the_photos(scene, tmp_path, model, folder):
    index_as_an_older_version(folder, model, scene)
    path = str(tmp_path / "out.jsonl")
    with Store.open(folder) as store:
        export_collection(store, path, "jsonl")
    laptop = str(tmp_path / "laptop")
    with Store.writing(laptop, create=True) as store, open_export(path) as incoming:
        import_collection(store, incoming)
    model.squares = 0
    assert index(laptop, model, scene).reused == PHOTOS - 2
    assert model.squares == WIDE_SQUARES + TALL_SQUARES
    assert find(laptop, model, tmp_path / "lemon.png")[0].place.region == Region(0, 0, 0.2, 1)


def test_the_command_says_the_region_in_json(imgsearch, scene, tmp_path):
    assert imgsearch("index", scene).code == 0
    records = imgsearch("query", tmp_path / "lemon.png", "--json").records
    wide = next(record for record in records if record["path"].endswith(WIDE))
    assert wide["region"] == [0.0, 0.0, 0.2, 1.0]
    assert all("region" not in record for record in records if not record["path"].endswith((WIDE, TALL)))
    assert imgsearch("query", tmp_path / "lemon.png", "--fields", "region", "-n", "1").lines == ["[0.0, 0.0, 0.2, 1.0]"]
    page = imgsearch("query", tmp_path / "lemon.png", "--html", "sheet.html")
    assert page.code == 0 and 'class="region"' in (tmp_path / "sheet.html").read_text()
