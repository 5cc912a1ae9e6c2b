"""After a change of the model: `imgsearch prune` gives back the room of the vectors that nothing asks any more."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from imgsearch.core.errors import StoreError
from imgsearch.core.store.prune import prune
from imgsearch.core.store.store import Store


def spaces(imgsearch) -> list[tuple[str, str, bool]]:
    (record,) = imgsearch("status", "--json").records
    return sorted((space["model"], space["state"], space["is_active"]) for space in record["spaces"])


def hits(imgsearch, *words) -> list[tuple[str, float]]:
    return [(record["path"], record["score"]) for record in imgsearch("query", *words, "--json", "-n", "6").records]


def test_after_two_changes_of_the_model_one_set_of_vectors_and_the_same_hits_remain(imgsearch, photos, other, tmp_path):
    for model in ("builtin", other, "builtin"):
        assert imgsearch("index", photos, "--model", model).code == 0
    assert spaces(imgsearch) == [("builtin", "complete", True), (other, "complete", False)]
    before = hits(imgsearch, "a yellow banana"), hits(imgsearch, photos / "lemon.jpg", "--ann")
    size = imgsearch("status", "--json").records[0]["bytes"]
    outcome = imgsearch("prune")
    assert outcome.code == 0 and f"removed the vectors of {other}; " in outcome.err
    assert spaces(imgsearch) == [("builtin", "complete", True)]
    assert (hits(imgsearch, "a yellow banana"), hits(imgsearch, photos / "lemon.jpg", "--ann")) == before
    assert len(os.listdir(tmp_path / "index" / "spaces")) == 1
    assert imgsearch("status", "--json").records[0]["bytes"] < size
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.sqlite3")) as connection:
        for table in ("vectors", "calibrations"):
            assert connection.execute(f"select count(distinct space_id) from {table}").fetchone() == (1,)
    assert "6 unchanged" in imgsearch("index").err


def test_a_dry_run_removes_nothing(imgsearch, photos, other):
    for model in ("builtin", other):
        imgsearch("index", photos, "--model", model)
    outcome = imgsearch("prune", "--dry-run")
    assert outcome.err == "imgsearch: would remove 0 photos and 0 failures; would remove the vectors of builtin\n"
    assert imgsearch("prune", "--dry-run", "--json").records[0]["spaces"] == ["builtin"]
    assert len(spaces(imgsearch)) == 2


def test_json_has_exactly_the_documented_keys(imgsearch, photos, other):
    for model in ("builtin", other):
        imgsearch("index", photos, "--model", model)
    (record,) = imgsearch("prune", "--json").records
    assert record.pop("bytes") > 0
    assert record == {"photos": 0, "failures": 0, "vectors": 0, "dry_run": False, "spaces": ["builtin"], "awaited": 0}
    documented = (Path(__file__).parents[1] / "docs" / "json.md").read_text().split("imgsearch prune`")[1]
    assert all(f"`{key}`" in documented for key in record)


@pytest.fixture
def building(imgsearch, photos, other, tmp_path):
    """An index of which the other model has not seen everything yet."""
    assert imgsearch("index", photos, "--model", "builtin").code == 0
    assert imgsearch("index", photos / "lemon.jpg", "--model", other).code == 0
    assert spaces(imgsearch) == [("builtin", "complete", True), (other, "building", False)]


def test_a_model_that_is_not_complete_is_kept(imgsearch, building, other):
    assert "removed the vectors" not in imgsearch("prune").err
    assert len(spaces(imgsearch)) == 2


@pytest.mark.parametrize("by", ["model", "id"])
def test_a_named_model_that_is_not_complete_is_removed(imgsearch, building, other, by):
    (name,) = [space[by] for space in imgsearch("status", "--json").records[0]["spaces"] if not space["is_active"]]
    outcome = imgsearch("prune", "--space", name)
    assert outcome.code == 0 and f"removed the vectors of {other}" in outcome.err
    assert spaces(imgsearch) == [("builtin", "complete", True)]


def test_the_model_that_search_uses_and_unknown_ones_are_refused(imgsearch, building, photos):
    (photos / "lemon.jpg").unlink()
    imgsearch("index")
    for name, error in (
        ("builtin", "builtin: search uses this model, so it cannot be removed"),
        ("nonsense", "nonsense: not a model of this index"),
    ):
        outcome = imgsearch("prune", "--space", name)
        assert outcome.code == 2 and outcome.err.startswith(f"imgsearch: {error}\n  ")
    assert len(spaces(imgsearch)) == 2
    assert imgsearch("status", "--json").records[0]["gone"] == 1


def test_a_name_that_two_models_have_asks_for_the_id(imgsearch, building, other, tmp_path):
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.sqlite3")) as connection, connection:
        connection.execute("update spaces set name = 'builtin'")
        ids = [row[0] for row in connection.execute("select id from spaces order by created_at, id")]
    outcome = imgsearch("prune", "--space", "builtin")
    assert outcome.code == 2 and f"give an id: {', '.join(ids)}" in outcome.err


def test_a_model_that_was_removed_can_come_back(imgsearch, photos, other):
    for model in ("builtin", other):
        imgsearch("index", photos, "--model", model)
    before = hits(imgsearch, "a yellow banana", "--ann")
    imgsearch("index", photos, "--model", "builtin")
    imgsearch("prune")
    assert "indexed 6 photos" in imgsearch("index", photos, "--model", other).err
    assert hits(imgsearch, "a yellow banana", "--ann") == before


def test_a_crash_before_the_folder_is_removed_leaves_nothing_that_is_used(imgsearch, photos, other, monkeypatch):
    """The folder is there, but nothing names it: a space made there again must not use its graph."""
    for model in ("builtin", other):
        imgsearch("index", photos, "--model", model)
    before = hits(imgsearch, "a yellow banana", "--ann")
    imgsearch("index", photos, "--model", "builtin")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert imgsearch("prune").code == 130
    assert spaces(imgsearch) == [("builtin", "complete", True)]
    for name in ("lemon", "carrots"):
        (photos / f"{name}.jpg").rename(photos / f"{name}-now-last.jpg")
    imgsearch("index", photos, "--model", other)
    after = hits(imgsearch, "a yellow banana", "--ann")
    assert [score for _, score in after] == pytest.approx([score for _, score in before], abs=1e-5)
    assert all(os.path.exists(path) for path, _ in after)


def test_a_reader_whose_model_was_removed_gets_an_error(imgsearch, photos, other, tmp_path):
    imgsearch("index", photos, "--model", "builtin")
    with Store.open(str(tmp_path / "index")) as reader:
        space = reader.view().space
        imgsearch("index", photos, "--model", other)
        with Store.writing(str(tmp_path / "index")) as store:
            assert prune(store).spaces == ("builtin",)
        with pytest.raises(StoreError, match="builtin") as caught:
            reader.view(space)
        assert "again" in caught.value.hint
