"""From files to an index, through the loop that the command uses and with the real model."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from imgsearch.core.errors import IndexDamaged, IndexLocked, IndexNotFound, IndexTooNew, UsageError
from imgsearch.core.indexing import indexer
from imgsearch.core.indexing.changes import folders_of
from imgsearch.core.indexing.indexer import Event, IndexPlan, Summary
from imgsearch.core.models import registry
from imgsearch.core.places import locate
from imgsearch.core.store.prune import prune
from imgsearch.core.store.store import Store
from imgsearch.core.types import Embedder

from conftest import Counting

pytestmark = pytest.mark.usefixtures("kept_workers")

SPEC = registry.parse("builtin").to_json()


def index(folder: str, model: Embedder, *paths: Path, on_event=lambda event: None, **plan: object) -> Summary:
    with Store.writing(folder, create=True) as store:
        active = store.active_space()
        return indexer.run(
            store,
            lambda: (model, SPEC),
            IndexPlan(tuple(str(path) for path in paths), **plan),
            space=active,
            on_event=on_event,
        )


def present(folder: str) -> dict[str, np.ndarray]:
    """Every photo that search could show, by path, with its stored vector."""
    with Store.open(folder) as store:
        view = store.view()
        live = np.flatnonzero(view.slots.mask("image"))
        places = store.catalog.places.of_slots(view.space.id, live.tolist(), include_offline=False)
        return {place.path: np.array(view.rows[place.slot]) for place in places}


def one_vector(model: Embedder, path: Path) -> np.ndarray:
    from imgsearch.core.photos.decode import read_picture
    from imgsearch.core.photos.preprocess import draft_side, square

    picture = read_picture(str(path), draft_side=draft_side(model.recipe))
    return model.embed_images(square(picture.image, model.recipe)[None])[0]


def test_every_photo_gets_its_own_vector_even_when_others_fail_in_the_middle_of_a_batch(
    folder, photos, counting, model
):
    for n in range(40):
        source = sorted(photos.glob("[a-z]*.jpg"))[n % 6]
        with Image.open(source) as image:
            image.rotate(n * 7).save(photos / f"{n:02}.jpg")
        if n % 3 == 0:
            (photos / f"{n:02}-broken.jpg").write_bytes(source.read_bytes()[:900])
        if n % 5 == 0:
            (photos / f"{n:02}-notes.txt").write_text("no picture")
    summary = index(folder, counting, photos, batch_size=7, workers=3)
    assert (summary.new, summary.skipped) == (46, 14)
    vectors = present(folder)
    assert len(vectors) == 46
    for path, vector in vectors.items():
        assert float(vector @ one_vector(model, Path(path))) > 0.9999, path
        assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5


def test_a_second_run_embeds_nothing_and_loads_no_model(folder, photos, model):
    index(folder, model, photos)

    def never() -> tuple[Embedder, str]:
        raise AssertionError("the model was loaded for nothing")

    with Store.writing(folder) as store:
        summary = indexer.run(store, never, IndexPlan(()), space=store.active_space())
    assert (summary.indexed, summary.unchanged) == (0, 6)


def test_a_changed_photo_is_embedded_again_and_its_old_vector_is_no_longer_found(folder, photos, counting):
    index(folder, counting, photos)
    before = present(folder)
    lemon = photos / "lemon.jpg"
    shutil.copy(photos / "carrots.jpg", lemon)
    with Image.open(lemon) as image:
        image.rotate(90).save(lemon)
    counting.pictures = 0
    summary = index(folder, counting, photos)
    assert (summary.changed, counting.pictures) == (1, 1)
    after = present(folder)
    assert after.keys() == before.keys()
    assert float(after[str(lemon)] @ before[str(lemon)]) < 0.99


def test_a_renamed_and_a_copied_photo_keep_their_vector(folder, photos, counting):
    index(folder, counting, photos)
    before = present(folder)
    (photos / "new").mkdir()
    (photos / "lemon.jpg").rename(photos / "new" / "zitrone.jpg")
    shutil.copy(photos / "carrots.jpg", photos / "copy.jpg")
    counting.pictures = 0
    summary = index(folder, counting, photos)
    assert counting.pictures == 0
    assert (summary.reused, summary.gone) == (2, 1)
    after = present(folder)
    assert str(photos / "lemon.jpg") not in after
    assert np.array_equal(after[str(photos / "new" / "zitrone.jpg")], before[str(photos / "lemon.jpg")])
    assert np.array_equal(after[str(photos / "copy.jpg")], before[str(photos / "carrots.jpg")])


def test_a_deleted_photo_leaves_and_comes_back_with_its_vector(folder, photos, counting):
    index(folder, counting, photos)
    before = present(folder)
    stored = (photos / "lemon.jpg").read_bytes()
    (photos / "lemon.jpg").unlink()
    assert index(folder, counting, photos).gone == 1
    assert str(photos / "lemon.jpg") not in present(folder)
    (photos / "lemon.jpg").write_bytes(stored)
    counting.pictures = 0
    index(folder, counting, photos)
    assert counting.pictures == 0
    assert np.array_equal(present(folder)[str(photos / "lemon.jpg")], before[str(photos / "lemon.jpg")])


def test_a_failure_is_reported_once_and_tried_again_when_the_file_changes(folder, photos, model):
    good = (photos / "lemon.jpg").read_bytes()
    (photos / "bad.jpg").write_bytes(good[:1000])
    assert index(folder, model, photos).skipped == 1
    again = index(folder, model, photos)
    assert (again.skipped, again.known_failures) == (0, 1)
    (photos / "bad.jpg").write_bytes(good + b"\0")
    repaired = index(folder, model, photos)
    assert (repaired.indexed, repaired.skipped, repaired.known_failures) == (1, 0, 0)
    with Store.open(folder) as store:
        assert store.catalog.value("select count(*) from failures") == 0


def test_a_photo_that_becomes_unreadable_leaves_the_results(folder, photos, model):
    index(folder, model, photos)
    (photos / "lemon.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    assert index(folder, model, photos).skipped == 1
    assert str(photos / "lemon.jpg") not in present(folder)


def test_a_file_that_is_no_picture_is_silent_unless_it_claims_to_be_one_or_was_named(folder, photos, model):
    (photos / "notes.txt").write_text("words")
    (photos / "data").write_bytes(bytes(range(256)))
    (photos / "fake.png").write_text("words")
    summary = index(folder, model, photos)
    assert (summary.skipped, summary.not_pictures) == (1, 2 - 1)  # .txt files are never looked into
    assert index(folder, model, photos).skipped == 0
    named = index(folder, model, photos / "data")
    assert named.skipped == 1
    with Store.open(folder) as store:
        rows = store.catalog.rows("select name, stage, reason from failures where not is_silent order by name")
    assert [(row[0], row[1]) for row in rows] == [(b"data", "decode"), (b"fake.png", "decode")]


def test_names_of_any_bytes_are_kept_exactly(folder, tmp_path, photos, model):
    source = (photos / "lemon.jpg").read_bytes()
    odd = tmp_path / "odd"
    odd.mkdir()
    names = [b"sp ace.jpg", b"new\nline.jpg", b"caf\xe9.jpg", b'it\'s "quoted".jpg', b"-dash.jpg", "é.jpg".encode()]
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(odd), name), "wb") as file:
            file.write(source + bytes([number]))
    assert index(folder, model, odd).new == len(names)
    assert {os.fsencode(os.path.basename(path)) for path in present(folder)} == set(names)
    assert index(folder, model, odd).unchanged == len(names)


def test_texts_that_photos_carry_are_embedded_once_each_and_follow_their_sidecar(folder, photos, counting):
    note = PngImagePlugin.PngInfo()
    note.add_text("Description", "a harbour at dawn")
    for name in ("one.png", "two.png"):
        with Image.open(photos / ("lemon.jpg" if name == "one.png" else "carrots.jpg")) as image:
            image.save(photos / name, pnginfo=note)
    (photos / "banana.txt").write_text("breakfast on the balcony")
    index(folder, counting, photos)
    assert counting.texts.count("a harbour at dawn") == 1
    assert counting.texts.count("breakfast on the balcony") == 1
    (photos / "banana.txt").write_text("supper on the balcony")
    counting.pictures = 0
    summary = index(folder, counting, photos)
    assert (summary.changed, counting.pictures) == (1, 0)
    assert "supper on the balcony" in counting.texts
    with Store.open(folder) as store:
        view = store.view()
        places = store.catalog.places.of_slots(
            view.space.id, np.flatnonzero(view.slots.mask("text")).tolist(), include_offline=False
        )
    assert sorted((os.path.basename(place.path), place.text) for place in places) == [
        ("banana.jpg", "supper on the balcony"),
        ("one.png", "a harbour at dawn"),
        ("two.png", "a harbour at dawn"),
    ]


def test_an_unmounted_root_is_offline_not_emptied(folder, tmp_path, photos, model):
    index(folder, model, photos)
    photos.rename(tmp_path / "elsewhere")
    photos.mkdir()
    summary = index(folder, model)
    assert summary.offline == (str(photos),) and summary.gone == 0
    assert present(folder) == {}
    photos.rmdir()
    assert index(folder, model, photos).offline == (str(photos),)
    (tmp_path / "elsewhere").rename(photos)
    summary = index(folder, model)
    assert (summary.unchanged, summary.indexed, summary.offline) == (6, 0, ())
    assert len(present(folder)) == 6


def test_a_root_that_lost_most_of_its_photos_is_taken_for_offline(folder, tmp_path, photos, model):
    many = tmp_path / "many"
    many.mkdir()
    for n in range(60):
        Image.new("RGB", (40, 40), (n * 4, 255 - n * 4, 90)).save(many / f"{n}.png")
    index(folder, model, many)
    for n in range(55):
        (many / f"{n}.png").unlink()
    summary = index(folder, model)
    assert summary.gone == 0 and summary.offline == (str(many),)
    with Store.writing(folder) as store:
        with pytest.raises(UsageError, match="not an offline root"):
            prune(store, offline=[str(photos)])
        assert prune(store).photos == 0
        assert prune(store, offline=[str(many)]).photos == 55
    assert len(present(folder)) == 5


def test_prune_forgets_what_is_gone_and_compacts_its_vectors(folder, photos, model):
    index(folder, model, photos)
    before = present(folder)
    stored = (photos / "lemon.jpg").read_bytes()
    (photos / "lemon.jpg").unlink()
    (photos / "carrots.jpg").unlink()
    index(folder, model)
    (photos / "carrots.jpg").write_bytes((photos / "banana.jpg").read_bytes())  # back since the last walk
    with Store.writing(folder) as store:
        assert prune(store, dry_run=True).photos == 1
        assert prune(store).photos == 1
        space = store.active_space()
        assert (space.generation, space.slots) == (1, 5)
        assert sorted(os.listdir(f"{folder}/spaces/{space.id}")) == [
            "hnsw.image.0",
            "hnsw.image.0.json",
            "hnsw.image.1",
            "hnsw.image.1.json",
            "slots.u8",
            "vectors.1.f32",
        ]
    after = present(folder)
    assert all(np.array_equal(after[path], before[path]) for path in after)
    (photos / "lemon.jpg").write_bytes(stored)
    assert index(folder, model).indexed == 2


def test_a_folder_above_an_indexed_one_takes_it_in_without_embedding_again(folder, tmp_path, photos, counting):
    (photos / "deep").mkdir()
    shutil.copy(photos / "lemon.jpg", photos / "deep" / "lemon.jpg")
    index(folder, counting, photos / "deep", photos / "banana.jpg")
    counting.pictures = 0
    summary = index(folder, counting, tmp_path, exclude=("index/",))
    assert (summary.unchanged, counting.pictures) == (2, 4)
    with Store.open(folder) as store:
        assert [root.path for root in store.catalog.roots.all()] == [str(tmp_path)]
    assert len(present(folder)) == 7


def test_a_file_named_alone_does_not_bring_its_folder_along(folder, photos, model):
    index(folder, model, photos / "lemon.jpg")
    assert list(present(folder)) == [str(photos / "lemon.jpg")]
    index(folder, model)
    assert list(present(folder)) == [str(photos / "lemon.jpg")]


def test_what_is_excluded_later_leaves_the_results_and_comes_back(folder, photos, counting):
    index(folder, counting, photos)
    assert index(folder, counting, photos, exclude=("lemon*",)).excluded == 1
    assert str(photos / "lemon.jpg") not in present(folder)
    counting.pictures = 0
    index(folder, counting, photos)
    assert str(photos / "lemon.jpg") in present(folder) and counting.pictures == 0


def test_a_stopped_run_keeps_what_it_did_and_the_next_one_goes_on(folder, photos, counting):
    for n in range(60):
        Image.new("RGB", (40, 40), (n * 4, 99, 255 - n * 4)).save(photos / f"{n}.png")
    stop = threading.Event()
    seen = []

    def on_event(event: Event) -> None:
        seen.append(event.kind)
        if seen.count("photo") >= 20:
            stop.set()

    with Store.writing(folder, create=True) as store:
        summary = indexer.run(
            store, lambda: (counting, SPEC), IndexPlan((str(photos),), batch_size=4), on_event=on_event, stop=stop
        )
    assert summary.was_stopped and 20 <= summary.new < 66
    assert len(present(folder)) == summary.new
    rest = index(folder, counting, photos)
    assert (rest.unchanged, rest.new) == (summary.new, 66 - summary.new)
    assert counting.pictures == 66


def test_a_dry_run_changes_nothing(folder, photos, model):
    events: list[Event] = []
    summary = index(folder, model, photos, dry_run=True, on_event=events.append)
    assert summary.new == 6
    assert sorted(os.path.basename(e.path or "") for e in events if e.kind == "would_index")[0] == "banana.jpg"
    with Store.open(folder) as store:
        assert store.catalog.roots.all() == [] and store.catalog.spaces.all() == []


def test_another_model_fills_a_second_space_while_search_stays_on_the_first(folder, photos, model):
    index(folder, model, photos)

    class Other(Counting):
        identity = property(lambda self: type(model.identity)("f" * 64, "other", "other", None, 256, {}))

    with Store.writing(folder) as store:
        first = store.active_space()
        plan = IndexPlan((str(photos / "lemon.jpg"),))
        indexer.run(store, lambda: (Other(model), '{"name": "other", "arch": "other"}'), plan)
        assert store.active_space() == first
        assert len(store.catalog.spaces.all()) == 2
        indexer.run(store, lambda: (Other(model), '{"name": "other", "arch": "other"}'), IndexPlan(()))
        assert store.active_space().identity.name == "other"
    assert len(present(folder)) == 6


def test_two_writers_exclude_each_other_and_readers_go_on(folder, photos, model):
    index(folder, model, photos)
    with Store.writing(folder):
        with pytest.raises(IndexLocked, match=f"process {os.getpid()}"), Store.writing(folder):
            pass
        assert len(present(folder)) == 6


def test_an_index_is_private_to_its_owner(folder, photos, model):
    index(folder, model, photos)
    for top, _, names in os.walk(folder):
        assert os.stat(top).st_mode & 0o777 == 0o700, top
        for name in names:
            assert os.stat(os.path.join(top, name)).st_mode & 0o077 == 0, name


def test_no_index_a_newer_one_and_a_damaged_one_are_told_apart(tmp_path, folder, photos, model):
    with pytest.raises(IndexNotFound):
        Store.open(str(tmp_path / "none"))
    index(folder, model, photos)
    with sqlite3.connect(f"{folder}/catalog.sqlite3") as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(IndexTooNew):
        Store.open(folder)
    Path(folder, "catalog.sqlite3").write_bytes(b"this is no database" * 300)
    for leftover in Path(folder).glob("catalog.sqlite3-*"):
        leftover.unlink()
    with pytest.raises(IndexDamaged):
        Store.open(folder)


def test_a_folder_that_holds_something_else_is_not_made_an_index(tmp_path, photos):
    with pytest.raises(UsageError, match="not empty and not an index"), Store.writing(str(photos), create=True):
        pass
    assert sorted(os.listdir(photos))[0] == "banana.jpg"


def test_a_portable_index_moves_with_its_photos(tmp_path, photos, model):
    portable = str(photos / ".imgsearch")
    index(portable, model, photos)
    moved = tmp_path / "moved"
    photos.rename(moved)
    assert set(map(os.path.dirname, present(str(moved / ".imgsearch")))) == {str(moved)}
    summary = index(str(moved / ".imgsearch"), model)
    assert (summary.unchanged, summary.offline) == (6, ())


def test_which_index_is_used(tmp_path, monkeypatch):
    monkeypatch.delenv("IMGSEARCH_INDEX", raising=False)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert locate(None) == os.path.join(os.environ["XDG_DATA_HOME"], "imgsearch", "index")
    (tmp_path / ".imgsearch").mkdir()
    assert locate(None) == str(tmp_path / ".imgsearch")
    monkeypatch.setenv("IMGSEARCH_INDEX", "~/x")
    assert locate(None) == os.path.expanduser("~/x")
    assert locate(str(tmp_path)) == str(tmp_path / ".imgsearch")


def test_a_calibration_is_renewed_when_the_index_has_grown_by_a_tenth(folder, photos, counting):
    index(folder, counting, photos)
    with Store.open(folder) as store:
        first = store.calibration(store.active_space())
    assert first is not None and first.pictures == 6
    shutil.copy(photos / "lemon.jpg", photos / "copy of lemon.jpg")
    index(folder, counting, photos)
    with Store.open(folder) as store:
        assert store.calibration(store.active_space()).pictures == 6  # a copy is no new vector
    Image.new("RGB", (50, 50), "purple").save(photos / "purple.png")
    index(folder, counting, photos)
    with Store.open(folder) as store:
        assert store.calibration(store.active_space()).pictures == 7


def test_the_list_of_neutral_phrases_is_clean():
    from imgsearch.core.models.phrases import neutral_phrases

    phrases = neutral_phrases()
    assert len(phrases) == len(set(phrases)) >= 250
    assert all(phrase == phrase.strip() and phrase for phrase in phrases)


def test_facts_are_kept(folder, tmp_path, model):
    from PIL.TiffImagePlugin import IFDRational

    from pictures import corners, exif_block

    exif = exif_block(
        main={0x010F: "Canon", 0x0110: "Canon EOS 6D", 0x0112: 6},
        exif={0x9003: "2024:07:01 18:03:11", 0x9011: "+02:00", 0x829A: IFDRational(1, 250), 0x8827: 400},
    )
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    corners(96, 64).save(pictures / "shot.jpg", exif=exif)
    index(folder, model, pictures)
    with Store.open(folder) as store:
        place = store.place_of(str(pictures / "shot.jpg"))
    assert place is not None
    wanted = {"taken_at": "2024-07-01T18:03:11", "taken_offset": "+02:00", "iso": 400, "width": 64, "height": 96}
    assert {key: place.facts[key] for key in wanted} == wanted
    assert place.facts["exposure_seconds"] == pytest.approx(1 / 250)
    assert json.dumps(place.facts)


def test_a_file_that_is_still_being_written_is_left_to_a_later_run(folder, photos, model):
    for path in photos.iterdir():
        os.utime(path, (1e9, 1e9))
    index(folder, model, photos, min_age_seconds=60)
    shutil.copyfile(photos / "lemon.jpg", photos / "coming.jpg")
    (photos / "banana.txt").write_text("a caption that is still being typed")
    shutil.copyfile(photos / "lemon.jpg", photos / "carrots.jpg")
    (photos / "watermelon.jpg").rename(photos / "moved.jpg")

    early = index(folder, model, photos, min_age_seconds=60)

    assert (early.being_written, early.new, early.changed, early.reused, early.gone) == (3, 0, 0, 1, 1)
    names = {"banana", "lemon", "red-delicious", "carrots", "oatly-oat-milk", "moved"}
    assert {Path(path).stem for path in present(folder)} == names  # those as they were
    late = index(folder, model, photos)
    assert (late.being_written, late.reused, late.changed) == (0, 1, 2)
    assert {Path(path).stem for path in present(folder)} == {*names, "coming"}


def test_an_index_never_indexes_its_own_folder(photos, model):
    folder = str(photos / "my index")
    index(folder, model, photos)
    seen = []
    summary = index(folder, model, photos, on_event=seen.append)
    assert summary.found == 6
    assert [event.path for event in seen if event.path] == []


def test_the_folders_that_a_run_comes_to(folder, photos, tmp_path, model):
    for name in ("a/b", "Exports/c", ".hidden/d", "node_modules", "away"):
        (photos / name).mkdir(parents=True)
    (tmp_path / "linked" / "e").mkdir(parents=True)
    (photos / "link").symlink_to(tmp_path / "linked")
    (photos / "a" / "back").symlink_to(photos)
    (photos / "away" / "note").write_text("seen")
    plain = ["", "a", "a/b", "away", "link", "link/e"]

    def folders(*paths: Path, **plan: object) -> dict[str, bool]:
        with Store.writing(folder, create=True) as store:
            found = folders_of(store, IndexPlan(tuple(map(str, paths)), **plan))
        return {os.path.relpath(path, photos).removeprefix("."): hidden for path, hidden in sorted(found.items())}

    assert folders(photos, exclude=("Exports/",)) == dict.fromkeys(plain, False)
    index(folder, model, photos, exclude=("Exports/",))
    assert folders() == dict.fromkeys(plain, False)
    assert folders(photos / "a") == dict.fromkeys(["a", "a/b"], False)
    photos.rename(tmp_path / "gone")
    assert folders(photos) == {"": False}
