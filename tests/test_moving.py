"""`imgsearch roots`: folders that were renamed and disks that are mounted elsewhere keep their vectors."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from imgsearch.core.errors import UsageError
from imgsearch.core.indexing import indexer
from imgsearch.core.indexing.indexer import IndexPlan
from imgsearch.core.store import roots
from imgsearch.core.store.store import Store

from test_indexing import index, present
from test_roots import draw, shown

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture
def p(tmp_path: Path) -> Path:
    """`p/top.png`, `p/sub/x.png`."""
    for number, name in enumerate(("top.png", "sub/x.png")):
        draw(tmp_path / "p" / name, number)
    return tmp_path / "p"


def move(folder: str, old: Path, new: Path) -> roots.Moved:
    with Store.writing(folder) as store:
        return roots.move(store, str(old), str(new))


def listed(folder: str) -> list[tuple[str, str, str]]:
    with Store.open(folder) as store:
        return [(root.path, root.kind, root.state) for root in store.catalog.roots.all()]


def places(folder: str) -> list[tuple[str, str]]:
    """(path, state) of every photo row."""
    with Store.open(folder) as store:
        rows = store.catalog.rows("select root_id, folder, name, state from photos")
        tops = {root.id: root for root in store.catalog.roots.all()}
    return sorted((tops[r[0]].path_of(os.path.join(os.fsdecode(r[1]), os.fsdecode(r[2]))), r[3]) for r in rows)


def never():
    raise AssertionError("the model was loaded")


# ------------------------------------------------------------------------------------------- the command


def test_a_renamed_folder_is_moved_in_the_index_and_nothing_is_embedded_again(imgsearch, photos, tmp_path):
    assert imgsearch("index", photos, "--model", "builtin").code == 0
    before = imgsearch("query", "a yellow banana", "--json", "-n", "6").records
    photos.rename(tmp_path / "album")
    moved = imgsearch("roots", "move", photos, tmp_path / "album")
    assert (moved.code, moved.out) == (0, b"")
    assert moved.err == f"imgsearch: moved 6 photos; they belong to {tmp_path}/album\n"
    after = imgsearch("query", "a yellow banana", "--json", "-n", "6").records
    there = [record["path"].replace("/photos/", "/album/") for record in before]
    assert [record["path"] for record in after] == there
    assert [record["score"] for record in after] == [record["score"] for record in before]
    again = imgsearch("index")
    assert again.code == 0 and "indexed 0 photos, 6 unchanged" in again.err


def test_roots_are_listed_in_three_forms(imgsearch, photos, tmp_path):
    assert imgsearch("index", photos / "lemon.jpg", tmp_path / "photos", "--model", "builtin").code == 0
    (root,) = imgsearch("roots", "list", "--json").records
    assert root == imgsearch("status", "--json").records[0]["roots"][0]
    assert root == {"path": str(photos), "kind": "folder", "state": "online", "note": None, "photos": 6}
    assert imgsearch("roots", "list").lines == [f"{photos}\tfolder\tonline\t6"]


@pytest.mark.parametrize("arguments", [[], ["roots"]])
def test_a_command_group_alone_prints_its_help(imgsearch, arguments):
    outcome = imgsearch(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == imgsearch(*arguments, "--help").out.rstrip(b"\n") + b"\n"


def test_a_move_under_json_is_one_object_with_exactly_the_documented_keys(imgsearch, photos, tmp_path):
    imgsearch("index", photos, "--model", "builtin")
    photos.rename(tmp_path / "album")
    (tmp_path / "album" / "lemon.jpg").unlink()
    outcome = imgsearch("roots", "move", photos, "album", "--json")
    (record,) = outcome.records
    root = {"path": f"{tmp_path}/album", "kind": "folder", "state": "online", "note": None, "photos": 6}
    assert outcome.err == "" and record == {
        "old": str(photos),
        "new": f"{tmp_path}/album",
        "roots": [root],
        "photos": 6,
        "looked_up": 6,
        "missing": 1,
    }
    documented = (Path(__file__).parents[1] / "docs" / "json.md").read_text().split("roots move")[1]
    assert all(f"`{key}`" in documented for key in record)


def test_missing_photos_are_reported_and_gone_after_the_next_run(imgsearch, photos, tmp_path):
    imgsearch("index", photos, "--model", "builtin")
    photos.rename(tmp_path / "album")
    (tmp_path / "album" / "lemon.jpg").unlink()
    assert "1 of 6 photos looked up are missing or changed" in imgsearch("roots", "move", photos, "album").err
    assert "5 unchanged, 1 gone" in imgsearch("index").err


def test_an_impossible_move_is_refused_and_changes_nothing(imgsearch, photos, tmp_path):
    imgsearch("index", photos, "--model", "builtin")
    (tmp_path / "empty").mkdir()
    shutil.copytree(tmp_path / "photos", photos / "below")
    imgsearch("index", "--json")
    catalogue = (tmp_path / "index" / "catalog.sqlite3").read_bytes()
    for old, new, error, hint in (
        (photos, "nowhere", f"{tmp_path}/nowhere: no such folder", "mount its disk"),
        (photos, photos / "lemon.jpg", f"{photos}/lemon.jpg: no such folder", "mount its disk"),
        (
            photos,
            "empty",
            f"{tmp_path}/empty: none of the photos of {photos} is there (12 looked up)",
            "mount the disk",
        ),
        ("empty", photos, f"{tmp_path}/empty: not a root of this index", "`imgsearch roots list` shows them"),
        (
            photos / "below",
            "empty",
            f"{photos}/below: not a root, but a folder inside one: {photos}",
            "by their content",
        ),
        (photos, photos, f"{photos}: the photos are already there", "give the old folder, then the new one"),
        ("", photos, "empty folder name", "shell variable unset"),
    ):
        outcome = imgsearch("roots", "move", old, new)
        assert (outcome.code, outcome.out) == (2, b"")
        first, second = outcome.err.splitlines()
        assert first == f"imgsearch: {error}" and hint in second
    assert (tmp_path / "index" / "catalog.sqlite3").read_bytes() == catalogue


def test_a_portable_index_keeps_its_roots_relative(imgsearch, photos, tmp_path, monkeypatch):
    monkeypatch.delenv("IMGSEARCH_INDEX")
    top = tmp_path / "disk"
    top.mkdir()
    photos.rename(top / "2023")
    imgsearch("init", top)
    monkeypatch.chdir(top)
    assert imgsearch("index", "2023", "--model", "builtin").code == 0
    (top / "2023").rename(top / "old years")
    assert imgsearch("roots", "move", "2023", "old years").code == 0
    with sqlite3.connect(top / ".imgsearch" / "catalog.sqlite3") as connection:
        assert connection.execute("select path, device from roots").fetchall() == [(b"old years", None)]
    connection.close()
    monkeypatch.chdir(tmp_path)
    top.rename(tmp_path / "elsewhere")
    (hit,) = imgsearch("query", "a lemon", "-l", "-n1", "--index", tmp_path / "elsewhere").lines
    assert hit == f"{tmp_path}/elsewhere/old years/lemon.jpg"


# ---------------------------------------------------------------------------------------------- one root


def test_an_unmounted_disk_that_is_mounted_elsewhere_is_back_with_its_vectors(folder, p, counting):
    index(folder, counting, p)
    before = present(folder)
    p.rename(p.parent / "mnt")
    with Store.writing(folder) as store, store.catalog.transaction():
        store.catalog.roots.update(store.catalog.roots.all()[0].id, device=1)  # of the disk as it was mounted before
    index(folder, counting)
    assert shown(folder) == [] and listed(folder) == [(str(p), "folder", "offline")]
    assert move(folder, p, p.parent / "mnt").missing == 0
    assert listed(folder) == [(str(p.parent / "mnt"), "folder", "online")]
    after = present(folder)
    for path, vector in before.items():
        assert np.array_equal(after[path.replace("/p/", "/mnt/")], vector)
    with Store.writing(folder) as store:
        root = store.catalog.roots.all()[0]
        assert (root.note, root.device) == (None, os.stat(root.path).st_dev)
        summary = indexer.run(store, never, IndexPlan(()), space=store.active_space())
    assert (summary.unchanged, summary.indexed, summary.gone) == (2, 0, 0)


def test_readers_need_not_build_the_slot_map_again(folder, p, counting):
    index(folder, counting, p)
    p.rename(p.parent / "q")
    move(folder, p, p.parent / "q")
    with Store.open(folder) as store:
        assert store.is_up_to_date(store.active_space())


def test_all_roots_in_the_old_folder_move_along(folder, p, counting):
    draw(p / "one.png", 7)
    index(folder, counting, p / "sub", p / "one.png")
    p.rename(p.parent / "q")
    assert move(folder, p, p.parent / "q").photos == 2
    assert sorted(listed(folder)) == [
        (str(p.parent / "q"), "files", "online"),
        (str(p.parent / "q" / "sub"), "folder", "online"),
    ]
    assert shown(folder) == [str(p.parent / "q" / "one.png"), str(p.parent / "q" / "sub" / "x.png")]


def test_a_missing_root_among_several_is_offline(folder, p, counting):
    draw(p / "other" / "y.png", 8)
    index(folder, counting, p / "sub", p / "other")
    (p.parent / "q").mkdir()
    (p / "sub").rename(p.parent / "q" / "sub")
    assert move(folder, p, p.parent / "q").missing == 1
    assert listed(folder) == [
        (str(p.parent / "q" / "other"), "folder", "offline"),
        (str(p.parent / "q" / "sub"), "folder", "online"),
    ]


def test_photos_moved_down_into_a_folder_of_their_own_root(folder, p, counting):
    index(folder, counting, p / "sub", p)
    index(folder, counting, p.parent / "p" / "sub")
    p.rename(p.parent / "q")
    (p / "deep").mkdir(parents=True)
    (p.parent / "q").rename(p / "deep" / "q")
    move(folder, p, p / "deep" / "q")
    assert shown(folder) == [str(p / "deep" / "q" / "sub" / "x.png"), str(p / "deep" / "q" / "top.png")]


def test_a_root_takes_the_old_path_of_another_one(folder, p, counting):
    draw(p / ".h" / "a" / "z.png", 5)
    draw(p / ".h" / "z.png", 6)
    index(folder, counting, p)
    index(folder, counting, p / ".h")
    assert len(listed(folder)) == 2
    p.rename(p.parent / "q")
    (p / ".h").parent.mkdir()
    (p.parent / "q").rename(p / ".h")
    move(folder, p, p / ".h")
    assert listed(folder) == [(str(p / ".h"), "folder", "online"), (str(p / ".h" / ".h"), "folder", "online")]
    assert len(shown(folder)) == 4 and index(folder, counting).unchanged == 4


@pytest.mark.parametrize("typed", ["link", "real"])
def test_a_root_is_known_by_either_name_of_a_linked_folder(folder, p, counting, typed):
    p.rename(p.parent / "real")
    (p.parent / "link").symlink_to(p.parent / "real")
    index(folder, counting, p.parent / ("real" if typed == "link" else "link"))
    shutil.copytree(p.parent / "real", p.parent / "new")
    move(folder, p.parent / typed, p.parent / "new")
    assert shown(folder) == [str(p.parent / "new" / "sub" / "x.png"), str(p.parent / "new" / "top.png")]


def test_a_link_left_at_the_old_place_makes_no_difference(folder, p, counting):
    index(folder, counting, p)
    p.rename(p.parent / "big")
    p.symlink_to(p.parent / "big")
    move(folder, p, p.parent / "big")
    assert listed(folder) == [(str(p.parent / "big"), "folder", "online")]


def test_names_that_are_not_utf8_move(folder, tmp_path, counting):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    draw(odd / "a.png", 1)
    index(folder, counting, odd)
    odd.rename(tmp_path / os.fsdecode(b"th\xe9"))
    move(folder, odd, tmp_path / os.fsdecode(b"th\xe9"))
    assert shown(folder) == [str(tmp_path / os.fsdecode(b"th\xe9") / "a.png")]


def test_a_sample_of_a_thousand_photos_is_looked_up(folder, p, counting):
    index(folder, counting, p)
    with Store.writing(folder) as store, store.catalog.transaction():
        columns = [row[1] for row in store.catalog.rows("pragma table_info(photos)") if row[1] not in ("id", "name")]
        listed_columns = ", ".join(columns)
        store.catalog.rows(
            f"""
            with recursive n(i) as (select 1 union all select i + 1 from n where i < 4998)
            insert into photos (name, {listed_columns})
            select cast('n' || i as blob), {listed_columns} from n, (select * from photos limit 1)
            """
        )
    p.rename(p.parent / "q")
    moved = move(folder, p, p.parent / "q")
    assert (moved.photos, moved.looked_up) == (5000, 1000)
    assert moved.missing in (998, 999, 1000)


def test_photos_marked_gone_are_looked_up_too(folder, p, counting):
    index(folder, counting, p)
    shutil.copytree(p, p.parent / "q")
    (p / "top.png").unlink()
    (p / "sub" / "x.png").unlink()
    (p / "notes.txt").touch()
    assert index(folder, counting).gone == 2
    (p.parent / "empty").mkdir()
    with pytest.raises(UsageError, match="none of the photos"):
        move(folder, p, p.parent / "empty")
    move(folder, p, p.parent / "q")
    counting.pictures = 0
    index(folder, counting)
    assert len(shown(folder)) == 2 and counting.pictures == 0


# -------------------------------------------------------------------------------------- among other roots


def test_a_root_that_moved_into_another_one_becomes_a_part_of_it(folder, p, counting):
    draw(p.parent / "library" / "own.png", 9)
    index(folder, counting, p, p.parent / "library")
    counting.pictures = 0
    p.rename(p.parent / "library" / "p")
    moved = move(folder, p, p.parent / "library" / "p")
    assert [root.path for root in moved.roots] == [str(p.parent / "library")]
    assert listed(folder) == [(str(p.parent / "library"), "folder", "online")]
    assert index(folder, counting).unchanged == 3 and counting.pictures == 0


def test_a_root_that_a_walk_from_above_does_not_reach_stays_a_root(folder, p, counting):
    draw(p.parent / "library" / "own.png", 9)
    index(folder, counting, p, p.parent / "library")
    p.rename(p.parent / "library" / ".p")
    move(folder, p, p.parent / "library" / ".p")
    assert listed(folder) == [
        (str(p.parent / "library"), "folder", "online"),
        (str(p.parent / "library" / ".p"), "folder", "online"),
    ]
    assert index(folder, counting).unchanged == 3


def test_photos_indexed_at_both_places_stay_once(folder, p, counting):
    """The copy was indexed before anybody said that the folder had moved."""
    q = p.parent / "q"
    draw(p / "left.png", 21)
    index(folder, counting, p)
    shutil.copytree(p, q)
    (q / "left.png").unlink()
    draw(q / "new.png", 20)
    index(folder, counting, q)
    move(folder, p, q)
    assert listed(folder) == [(str(q), "folder", "online")]
    there = [str(q / name) for name in ("left.png", "new.png", "sub/x.png", "top.png")]
    assert places(folder) == [(path, "present") for path in there]
    summary = index(folder, counting)
    assert (summary.unchanged, summary.gone) == (3, 1)


@pytest.mark.parametrize("newer", ["old", "new"])
def test_of_two_rows_for_one_file_the_matching_one_is_kept(folder, p, counting, newer):
    index(folder, counting, p)
    shutil.copytree(p, p.parent / "q")
    draw(p.parent / "q" / "top.png", 44)
    os.utime(p.parent / "q" / "top.png", ns=(5, 5))
    index(folder, counting, p.parent / "q")
    true = present(folder)[str((p.parent / "q" if newer == "new" else p) / "top.png")]
    if newer == "old":
        shutil.copy2(p / "top.png", p.parent / "q")
    move(folder, p, p.parent / "q")
    assert np.array_equal(present(folder)[str(p.parent / "q" / "top.png")], true)
    assert len(places(folder)) == 2


def test_a_present_row_replaces_a_gone_one(folder, p, counting):
    index(folder, counting, p)
    shutil.copytree(p, p.parent / "q")
    index(folder, counting, p.parent / "q")
    (p.parent / "q" / "top.png").unlink()
    index(folder, counting)
    shutil.copy2(p / "top.png", p.parent / "q")
    move(folder, p, p.parent / "q")
    assert len(shown(folder)) == 2 and {state for _, state in places(folder)} == {"present"}


def test_a_root_moved_above_another_one_merges_with_it(folder, p, counting):
    q = p.parent / "q"
    index(folder, counting, p)
    shutil.copytree(p, q)
    draw(q / "sub" / "y.png", 30)
    index(folder, counting, q / "sub")
    counting.pictures = 0
    move(folder, p, q)
    assert listed(folder) == [(str(q), "folder", "online")]
    assert [path for path, _ in places(folder)] == [
        str(q / "sub" / "x.png"),
        str(q / "sub" / "y.png"),
        str(q / "top.png"),
    ]
    assert index(folder, counting).unchanged == 3 and counting.pictures == 0


def test_a_root_moved_above_a_hidden_one_leaves_it_its_photos(folder, p, counting):
    q = p.parent / "q"
    draw(p / ".h" / "y.png", 31)
    index(folder, counting, p, hidden=True)
    index(folder, counting, p)
    index(folder, counting, p / ".h" / "y.png")
    shutil.copytree(p, q)
    index(folder, counting, q / ".h")
    move(folder, p, q)
    assert len(listed(folder)) == 2 and len(places(folder)) == 3
    assert len(shown(folder)) == 3


def test_a_folder_moved_to_where_single_files_were_given_merges_with_them(folder, p, counting):
    q = p.parent / "q"
    index(folder, counting, p)
    shutil.copytree(p, q)
    index(folder, counting, q / "top.png")
    assert ("files" in kinds(folder)) and len(listed(folder)) == 2
    move(folder, p, q)
    assert listed(folder) == [(str(q), "folder", "online")]
    with Store.open(folder) as store:
        assert store.catalog.rows("select name from photos where named = 1") == [(b"top.png",)]
    assert shown(folder) == [str(q / "sub" / "x.png"), str(q / "top.png")]


def kinds(folder: str) -> list[str]:
    return [kind for _, kind, _ in listed(folder)]


def test_single_files_moved_into_a_walked_folder_stay_named(folder, p, counting):
    draw(p / ".k.png", 33)
    index(folder, counting, p / ".k.png")
    draw(p.parent / "q" / "own.png", 34)
    index(folder, counting, p.parent / "q")
    (p / ".k.png").rename(p.parent / "q" / ".k.png")
    move(folder, p, p.parent / "q")
    assert listed(folder) == [(str(p.parent / "q"), "folder", "online")]
    index(folder, counting)
    assert len(shown(folder)) == 2


def test_a_photo_that_was_named_stays_named_when_the_other_row_is_kept(folder, p, counting):
    index(folder, counting, p / "top.png")
    shutil.copytree(p, p.parent / "q")
    index(folder, counting, p.parent / "q")
    move(folder, p, p.parent / "q")
    with Store.open(folder) as store:
        rows = store.catalog.rows("select name, named from photos order by name")
    assert rows == [(b"top.png", 1), (b"x.png", 0)]


def test_a_move_that_fails_midway_changes_nothing(folder, p, counting, monkeypatch):
    draw(p.parent / "library" / "own.png", 9)
    index(folder, counting, p, p.parent / "library")
    p.rename(p.parent / "library" / "p")
    before = (listed(folder), places(folder))

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("imgsearch.core.store.root_table.RootTable.merge_into", fail)
    with pytest.raises(OSError, match="no space left"):
        move(folder, p, p.parent / "library" / "p")
    assert (listed(folder), places(folder)) == before


def test_errors_under_json_name_the_folder(imgsearch, photos, tmp_path):
    imgsearch("index", photos, "--model", "builtin")
    outcome = imgsearch("roots", "move", "gone", photos, "--json")
    assert json.loads(outcome.err)["error"] == f"{tmp_path}/gone: not a root of this index"
