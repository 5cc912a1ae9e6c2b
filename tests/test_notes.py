"""`imgsearch notes`: the user's own texts, which nothing that happens to files and index may lose."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from imgsearch.core.store.notes import MAX_CHARACTERS, as_note
from imgsearch.core.store.records import text_key
from imgsearch.core.store.store import Store

from conftest import ALBUM, downgrade
from pictures import exif_block

NOTE = "the summer we lost the dog"


@pytest.fixture
def noted(imgsearch, photos) -> Path:
    """Six indexed photos, of which the lemon has a note."""
    assert imgsearch("index", photos).code == 0
    assert imgsearch("notes", "add", photos / "lemon.jpg", NOTE).code == 0
    return photos


def found(imgsearch, modality: str = "text") -> list[tuple[str, str | None, str | None]]:
    """Of the best photo for the words of the note: its name, the text that answers, and where that stood."""
    records = imgsearch("query", "we lost the dog in summer", "--modality", modality, "--json").records
    return [(os.path.basename(r["path"]), r.get("text"), r.get("text_source")) for r in records if r.get("text")]


def listed(imgsearch) -> list[tuple[str, list[str], bool]]:
    return [
        (r["text"], sorted(os.path.basename(p["path"]) for p in r["photos"]), r["searchable"])
        for r in imgsearch("notes", "list", "--json").records
    ]


def test_a_note_is_found_at_once(imgsearch, noted):
    assert found(imgsearch) == [("lemon.jpg", NOTE, "note")]
    assert found(imgsearch, "any")[0] == ("lemon.jpg", NOTE, "note")
    assert listed(imgsearch) == [(NOTE, ["lemon.jpg"], True)]
    assert imgsearch("notes", "list").out == os.fsencode(noted / "lemon.jpg") + b"\t" + NOTE.encode() + b"\n"
    assert imgsearch("check", "--deep").code == 0


def test_a_note_survives_runs_copies_and_renames(imgsearch, noted):
    imgsearch("index")
    shutil.copy(noted / "lemon.jpg", noted / "copy.jpg")
    (noted / "lemon.jpg").rename(noted / "renamed.jpg")
    imgsearch("index")
    assert sorted(found(imgsearch)) == [("copy.jpg", NOTE, "note"), ("renamed.jpg", NOTE, "note")]
    imgsearch("prune")
    assert listed(imgsearch) == [(NOTE, ["copy.jpg", "renamed.jpg"], True)]


def test_a_note_stays_with_an_edited_photo_but_not_with_another_of_its_name(imgsearch, noted):
    image = Image.open(noted / "lemon.jpg")
    image.save(noted / "lemon.jpg", quality=88, exif=exif_block({270: "a lemon on the table"}))
    imgsearch("index")
    assert ("lemon.jpg", NOTE, "note") in found(imgsearch)
    shutil.copy(ALBUM / "oatly-natural-oatghurt.jpg", noted / "lemon.jpg")
    imgsearch("index")
    assert found(imgsearch) == []
    assert [places for _, places, _ in listed(imgsearch)] == [[], []]  # of the photo before and after it was edited


def test_a_note_outlives_the_file_and_prune(imgsearch, noted):
    (noted / "lemon.jpg").unlink()
    imgsearch("index")
    assert (found(imgsearch), listed(imgsearch)) == ([], [(NOTE, [], True)])
    imgsearch("prune")
    assert listed(imgsearch) == [(NOTE, [], True)]
    shutil.copy(ALBUM / "lemon.jpg", noted / "back.jpg")
    imgsearch("index")
    assert found(imgsearch) == [("back.jpg", NOTE, "note")]


def test_a_note_survives_repair_and_a_salvaged_catalogue(imgsearch, noted, tmp_path):
    path = tmp_path / "index" / "catalog.sqlite3"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("delete from photo_texts")
        database.execute("delete from texts")
    outcome = imgsearch("check", "--json")
    assert outcome.code == 6 and "1 photo with a missing note" in outcome.out.decode()
    imgsearch("check", "--repair")
    assert found(imgsearch) == [("lemon.jpg", NOTE, "note")]
    data = bytearray(path.read_bytes())
    data[:100] = os.urandom(100)
    path.write_bytes(data)
    assert imgsearch("query", "dog").code == 4
    imgsearch("check", "--repair")
    assert found(imgsearch) == [("lemon.jpg", NOTE, "note")]
    assert imgsearch("check").code == 0


def test_a_damaged_note_is_reported_and_repaired(imgsearch, noted, tmp_path):
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.sqlite3")) as database, database:
        database.execute("update notes set text = 'the winter we found the cat'")
    assert "1 damaged note" in imgsearch("check").out.decode()
    imgsearch("check", "--repair")
    assert listed(imgsearch)[0][:2] == ("the winter we found the cat", ["lemon.jpg"])
    assert listed(imgsearch)[0][2] is True and imgsearch("check").code == 0


def test_a_note_that_fills_the_range_of_a_graph_is_not_damage(imgsearch, noted):
    for number in range(6):  # graphs of four vectors, see conftest.py
        imgsearch("notes", "add", noted / "lemon.jpg", f"lemon number {number}")
        assert imgsearch("check").code == 0
    imgsearch("index")
    (status,) = imgsearch("status", "--json").records
    assert status["hnsw_covers_all"] and imgsearch("check").code == 0


def test_one_or_all_notes_of_a_photo_are_removed(imgsearch, noted):
    imgsearch("notes", "add", noted / "lemon.jpg", "sour")
    imgsearch("notes", "add", noted / "banana.jpg", "sour")
    assert imgsearch("notes", "remove", noted / "lemon.jpg", "--text", "sour").code == 0
    assert listed(imgsearch) == [(NOTE, ["lemon.jpg"], True), ("sour", ["banana.jpg"], True)]
    (noted / "lemon.jpg").unlink()
    assert "removed 1 note" in imgsearch("notes", "remove", noted / "lemon.jpg").err
    assert imgsearch("notes", "remove", noted / "lemon.jpg").code == 1
    assert found(imgsearch) == [("banana.jpg", "sour", "note")]
    assert imgsearch("notes", "list", noted / "banana.jpg", "--json").records[0]["text"] == "sour"


def test_a_text_of_the_file_stays_when_the_same_note_is_removed(imgsearch, photos):
    (photos / "lemon.txt").write_text(NOTE)
    imgsearch("index", photos)
    imgsearch("notes", "add", photos / "lemon.jpg", NOTE)
    assert found(imgsearch) == [("lemon.jpg", NOTE, "sidecar:lemon.txt")]
    imgsearch("notes", "remove", photos / "lemon.jpg")
    assert found(imgsearch) == [("lemon.jpg", NOTE, "sidecar:lemon.txt")]
    imgsearch("notes", "add", photos / "lemon.jpg", NOTE)
    (photos / "lemon.txt").unlink()
    imgsearch("index")
    assert found(imgsearch) == [("lemon.jpg", NOTE, "note")]


def test_a_note_is_added_to_several_photos_once(imgsearch, photos):
    imgsearch("index", photos)
    outcome = imgsearch("notes", "add", photos / "lemon.jpg", photos / "banana.jpg", "fruit", "--json")
    (record,) = outcome.records
    assert record == {"text": "fruit", "files": 2, "added": 2}
    assert imgsearch("notes", "add", photos / "lemon.jpg", "fruit", "--json").records[0]["added"] == 0


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("  two\n\twords\r\n", "two words"), ("\x1b[31mred\x07", "[31mred"), ("\u202eevil\u2066", "evil"),
     ("<script>alert('x')</script>", "<script>alert('x')</script>"), ("cafe\u0301", "caf\u00e9"),
     ("\ud800broken", "broken"), ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
     ("a" * 9_999, "a" * MAX_CHARACTERS), ("\x00\u200b", "")],
)  # fmt: skip
def test_how_text_is_cleaned(typed, kept):
    assert as_note(typed) == kept == as_note(kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["lemon.jpg", " \n "], "an empty note"), (["lemon.jpg", "x" * 5_000], "more than 2,000 characters"),
     (["nowhere.jpg", "x"], "not in the index"), (["x"], "a photo and a text"), (["", "x"], "empty photo name")],
)  # fmt: skip
def test_an_invalid_note_is_refused_and_changes_nothing(imgsearch, photos, arguments, said):
    imgsearch("index", photos)
    *names, text = arguments
    outcome = imgsearch("notes", "add", *(str(photos / name) if name else "" for name in names), text)
    assert (outcome.code, said in outcome.err) == (2, True)
    assert imgsearch("notes", "list").code == 1


def test_a_note_needs_an_unchanged_photo(imgsearch, photos):
    imgsearch("index", photos)
    shutil.copy(ALBUM / "kiwi.jpg", photos / "lemon.jpg")
    outcome = imgsearch("notes", "add", photos / "lemon.jpg", "sour")
    assert outcome.code == 2 and "changed since it was indexed" in outcome.err
    (photos / "banana.jpg").unlink()
    assert imgsearch("notes", "add", photos / "banana.jpg", "sweet").code == 2


def test_photos_with_odd_names(imgsearch, photos):
    path = os.path.join(os.fsencode(photos), b"\xe9 '\n\xe2\x80\xae.jpg")
    Path(os.fsdecode(path)).write_bytes((ALBUM / "garlic.jpg").read_bytes())
    imgsearch("index", photos)
    assert imgsearch("notes", "add", os.fsdecode(path), "odd").code == 0
    (record,) = imgsearch("notes", "list", "--json").records
    assert set(record["photos"][0]) == {"path", "path_b64"}


def test_the_next_run_restores_a_missing_vector(imgsearch, noted, tmp_path):
    (noted / "banana.txt").write_text("the summer we found the cat")
    imgsearch("index")
    with Store.writing(str(tmp_path / "index")) as store:
        space = store.active_space()
        store.forget(space, [store.catalog.vectors.slot_of(space.id, "text", text_key(NOTE))])
    assert "1 note not embedded" in imgsearch("notes", "list").err
    assert "the next `imgsearch index` embeds them" in imgsearch("check").err
    outcome = imgsearch("index")
    assert "6 unchanged" in outcome.err and "embedded 1 of your notes" in outcome.err
    assert listed(imgsearch) == [(NOTE, ["lemon.jpg"], True)]
    assert ("lemon.jpg", NOTE, "note") in found(imgsearch)
    assert "notes" not in imgsearch("index").err


def test_another_model_embeds_the_notes_before_search_uses_it(imgsearch, noted, other):
    imgsearch("notes", "add", noted / "banana.jpg", "of a photo that goes")
    (noted / "banana.jpg").unlink()
    outcome = imgsearch("index", "--model", other)
    assert outcome.code == 0 and "search now uses" in outcome.err and "embedded 2 of your notes" in outcome.err
    assert found(imgsearch) == [("lemon.jpg", NOTE, "note")]
    assert listed(imgsearch) == [(NOTE, ["lemon.jpg"], True), ("of a photo that goes", [], True)]
    assert "5 unchanged" in imgsearch("index").err
    assert imgsearch("check", "--deep").code == 0


def test_search_waits_for_the_notes(noted, tmp_path, counting):
    """A run that is stopped between the photos and the notes."""
    from imgsearch.core.indexing import indexer
    from imgsearch.core.types import SpaceIdentity

    class Other(type(counting)):
        identity = SpaceIdentity("ab" * 32, "other", "other", None, 256, {})

    stop = threading.Event()
    other = Other(counting._model)
    embed_texts = other.embed_texts

    def stops(texts):
        stop.set()
        return embed_texts(texts)

    other.embed_texts = stops
    plan = indexer.IndexPlan((str(noted),))
    with Store.writing(str(tmp_path / "index")) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexer, "CHECKPOINT_PHOTOS", 1)
        for photo in store.catalog.rows("select distinct content_hash from photos"):
            store.catalog.notes.add(photo[0], f"a note about {photo[0].hex()}")
        indexer.run(store, lambda: (other, "{}"), plan, stop=stop)
        space = next(space for space in store.catalog.spaces.all() if space.identity.name == "other")
        assert 0 < len(store.catalog.notes.without_vectors(space.id)) < 7
        assert store.catalog.photos.without_vectors(space.id) == []
        assert store.complete(space) > 0 and store.active_space().identity.name == "builtin"
        indexer.run(store, lambda: (other, "{}"), plan)
        assert store.active_space().id == space.id


def test_a_catalogue_of_the_previous_version_is_upgraded(imgsearch, photos, tmp_path):
    imgsearch("index", photos)
    downgrade(tmp_path / "index", 2)
    assert imgsearch("query", "lemon").code == 0
    assert imgsearch("notes", "add", photos / "lemon.jpg", NOTE).code == 0
    with Store.open(str(tmp_path / "index")) as store:
        assert store.catalog.notes.exist()
