"""Folders in folders, links to folders, folders that come and go: every photo stays one photo."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from imgsearch.core.store.prune import prune
from imgsearch.core.store.store import Store

from test_indexing import index, present

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture
def p(tmp_path: Path) -> Path:
    """`p/top.png`, `p/sub/x.png`, `p/.h/y.png`, `p/node_modules/z.png`."""
    for number, name in enumerate(("top.png", "sub/x.png", ".h/y.png", "node_modules/z.png")):
        draw(tmp_path / "p" / name, number)
    return tmp_path / "p"


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), (number * 37 % 256, number * 91 % 256, 255 - number % 256)).save(path)


def shown(folder: str) -> list[str]:
    """The photos that search can show, each as often as it would."""
    with Store.open(folder) as store:
        rows = store.catalog.rows(
            "select 1 from photos p join roots r on r.id = p.root_id where p.state = 'present' and r.state = 'online'"
        )
    paths = sorted(present(folder))
    assert len(rows) == len(paths)
    return paths


def failures(folder: str) -> list[str]:
    with Store.open(folder) as store:
        return [os.path.basename(failure.path) for failure in store.failures()]


def test_a_folder_and_one_inside_it_are_walked_once(folder, p, counting):
    for paths in ((p / "sub", p), (p, p / "sub"), (p / "sub" / "x.png", p), (p, p / "top.png")):
        shutil.rmtree(folder, ignore_errors=True)
        counting.pictures = 0
        summary = index(folder, counting, *paths)
        assert (summary.new, counting.pictures) == (2, 2), paths
        assert shown(folder) == [str(p / "sub" / "x.png"), str(p / "top.png")]


def test_a_file_given_below_an_indexed_folder_is_not_shown_twice(folder, p, counting):
    index(folder, counting, p / "sub")
    index(folder, counting, p / "top.png")
    index(folder, counting, p / "sub" / "x.png")
    assert shown(folder) == [str(p / "sub" / "x.png"), str(p / "top.png")]
    index(folder, counting, p)
    assert shown(folder) == [str(p / "sub" / "x.png"), str(p / "top.png")]
    assert counting.pictures == 2


def test_hidden_photos_are_not_duplicated_when_given_by_name(folder, p, counting):
    index(folder, counting, p, hidden=True)
    index(folder, counting, p / ".h")
    assert len(shown(folder)) == 3
    index(folder, counting)  # the rules of the last time it was named
    assert len(shown(folder)) == 3


def test_a_file_given_by_name_stays_although_a_walk_does_not_reach_it(folder, p, counting):
    index(folder, counting, p)
    index(folder, counting, p / ".h" / "y.png", p / "node_modules")
    assert len(shown(folder)) == 4
    summary = index(folder, counting)
    assert (summary.excluded, summary.gone) == (0, 0)
    assert len(shown(folder)) == 4


def test_a_folder_reached_through_a_link_becomes_part_of_the_real_one(folder, p, counting):
    (p.parent / "link").symlink_to(p)
    index(folder, counting, p.parent / "link" / "sub")
    index(folder, counting, p)
    assert shown(folder) == [str(p / "sub" / "x.png"), str(p / "top.png")]
    assert counting.pictures == 2


def test_excludes_are_remembered_until_the_folder_is_given_again(folder, p, counting):
    index(folder, counting, p, exclude=("sub/",))
    index(folder, counting)
    assert shown(folder) == [str(p / "top.png")]
    index(folder, counting, p)
    assert len(shown(folder)) == 2


def test_renaming_a_large_folder_hides_nothing(folder, p, counting):
    for number in range(120):
        draw(p / ("a" if number % 2 else "b") / f"{number}.png", number + 10)
    index(folder, counting, p)
    counting.pictures = 0
    (p / "a").rename(p / "renamed")
    summary = index(folder, counting)
    assert (summary.reused, summary.gone, summary.offline, counting.pictures) == (60, 60, (), 0)
    assert len(shown(folder)) == 122


def test_an_unmounted_folder_stays_offline_when_one_above_it_is_indexed(folder, p, counting):
    index(folder, counting, p / "sub")
    (p / "sub").rename(p.parent / "disk")
    (p / "sub").mkdir()
    index(folder, counting)
    assert index(folder, counting, p).gone == 0
    with Store.writing(folder) as store:
        assert prune(store).photos == 0
    (p / "sub").rmdir()
    (p.parent / "disk").rename(p / "sub")
    index(folder, counting, p)
    assert shown(folder) == [str(p / "sub" / "x.png"), str(p / "top.png")]
    assert counting.pictures == 2


def test_single_files_go_offline_with_their_folder_and_can_be_pruned(folder, p, counting):
    index(folder, counting, p / "top.png")
    p.rename(p.parent / "away")
    summary = index(folder, counting)
    assert (summary.gone, summary.offline) == (0, (str(p),))
    with Store.writing(folder) as store:
        assert prune(store, offline=[str(p)]).photos == 1
        assert store.catalog.roots.all() == []


def test_indexing_a_part_of_a_root_does_not_set_it_online(folder, p, counting):
    for number in range(70):
        draw(p / "b" / f"{number}.png", number + 10)
    index(folder, counting, p)
    for number in range(60):
        (p / "b" / f"{number}.png").unlink()
    assert index(folder, counting).offline == (str(p),)
    notices = []
    index(folder, counting, p / "sub", on_event=lambda event: notices.append(event.reason or ""))
    assert shown(folder) == []
    assert any("is offline" in notice for notice in notices)


def test_walk_failures_are_deleted_when_they_are_fixed(folder, p, counting):
    (p / ".imgsearchignore").write_text("sub\\\n")
    assert index(folder, counting, p).skipped == 1
    assert index(folder, counting, p).skipped == 0
    assert failures(folder) == [".imgsearchignore"]
    (p / ".imgsearchignore").write_text("node_modules\n")
    index(folder, counting, p)
    assert failures(folder) == []


def test_a_given_file_that_failed_and_was_fixed_is_indexed_by_the_next_run(folder, p, counting):
    good = (p / "top.png").read_bytes()
    (p / "top.png").write_bytes(good[:60])
    assert index(folder, counting, p / "top.png").skipped == 1
    (p / "top.png").write_bytes(good)
    assert index(folder, counting).new == 1
    assert failures(folder) == []


def test_a_broken_link_to_a_photo_is_gone_and_not_deleted(folder, p, counting):
    draw(p.parent / "far" / "one.png", 5)
    (p / "link.png").symlink_to(p.parent / "far" / "one.png")
    index(folder, counting, p)
    (p.parent / "far").rename(p.parent / "unmounted")
    assert index(folder, counting).gone == 1
    with Store.writing(folder) as store:
        assert prune(store).photos == 0
    (p.parent / "unmounted").rename(p.parent / "far")
    index(folder, counting)
    assert str(p / "link.png") in shown(folder)


def test_a_raw_file_gets_its_jpeg_later(folder, p, counting):
    shutil.copy(p / "top.png", p / "shot.dng")
    index(folder, counting, p)
    draw(p / "shot.jpg", 50)
    index(folder, counting)
    with Store.open(folder) as store:
        place = store.place_of(str(p / "shot.dng"))
    assert place is not None and place.pair == "shot.jpg"


def test_a_file_given_by_name_stays_when_walks_skip_it(folder, p, counting):
    draw(p / ".k.png", 60)
    for _ in range(2):
        assert index(folder, counting, p, p / ".k.png").excluded == 0
        assert str(p / ".k.png") in shown(folder)
    index(folder, counting)
    assert str(p / ".k.png") in shown(folder)
    draw(p / ".k.png", 61)
    assert index(folder, counting).changed == 1
    (p / ".k.png").unlink()
    assert index(folder, counting).gone == 1


def test_a_hidden_photo_that_was_skipped_and_then_given_stays(folder, p, counting):
    index(folder, counting, p, hidden=True)
    index(folder, counting, p)
    index(folder, counting, p / ".h" / "y.png")
    index(folder, counting)
    assert str(p / ".h" / "y.png") in shown(folder)


def test_a_restored_photo_is_no_longer_a_failure(folder, p, counting):
    index(folder, counting, p)
    shutil.copy2(p / "top.png", p.parent / "kept.png")
    (p / "top.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert index(folder, counting).skipped == 1
    shutil.copy2(p.parent / "kept.png", p / "top.png")
    index(folder, counting)
    assert failures(folder) == [] and str(p / "top.png") in shown(folder)


def test_renamed_and_hard_linked_files_do_not_change_again(folder, p, counting):
    draw(p / "z.png", 70)
    os.link(p / "z.png", p / "y.png")
    index(folder, counting, p)
    (p / "z.png").rename(p / "a.png")
    index(folder, counting)
    last = index(folder, counting)
    assert (last.reused, last.indexed, last.gone) == (0, 0, 0)


def test_two_files_that_swapped_names_are_distinguished(folder, p, counting):
    draw(p / "one.bmp", 80)
    draw(p / "two.bmp", 81)
    for name in ("one.bmp", "two.bmp"):
        os.utime(p / name, ns=(1, 1))
    index(folder, counting, p)
    before = present(folder)
    (p / "one.bmp").rename(p / "x")
    (p / "two.bmp").rename(p / "one.bmp")
    (p / "x").rename(p / "two.bmp")
    index(folder, counting)
    after = present(folder)
    assert (after[str(p / "one.bmp")] == before[str(p / "two.bmp")]).all()
    assert (after[str(p / "two.bmp")] == before[str(p / "one.bmp")]).all()


def test_a_link_into_another_root_shows_nothing_twice(folder, p, counting):
    draw(p.parent / "c" / "own.png", 90)
    (p.parent / "c" / "link").symlink_to(p / "sub")
    index(folder, counting, p.parent / "c")
    index(folder, counting, p)
    index(folder, counting)
    assert shown(folder) == [str(p.parent / "c" / "own.png"), str(p / "sub" / "x.png"), str(p / "top.png")]


def test_a_missing_folder_is_reported_the_same_each_time(folder, p, counting):
    (p.parent / "empty").mkdir()
    index(folder, counting, p, p.parent / "empty")
    (p.parent / "empty").rmdir()
    assert [index(folder, counting).skipped for _ in range(3)] == [0, 0, 0]


def test_a_dry_run_above_an_indexed_folder_counts_what_is_inside(folder, p, counting):
    index(folder, counting, p / "sub")
    draw(p / "sub" / "new.png", 95)
    assert index(folder, counting, p, dry_run=True).new == 2
