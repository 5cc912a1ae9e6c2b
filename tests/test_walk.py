"""The walk over real folders: what it finds, in which order, and what it says of the rest."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch.core.errors import UsageError
from imgsearch.core.photos import ignore
from imgsearch.core.photos.walk import Walk, named_photo
from imgsearch.core.types import Photo, Skipped


def plant(root: Path, *relpaths: str) -> None:
    """Files of one byte; a name that ends with a slash is an empty folder."""
    for relpath in relpaths:
        path = root / relpath
        if relpath.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


def found(walk: Iterable[Photo | Skipped]) -> list[str]:
    """The relpaths of the photos; anything else is a failure of the test."""
    items = list(walk)
    assert [item for item in items if isinstance(item, Skipped)] == []
    return [item.relpath for item in items if isinstance(item, Photo)]


def skipped(walk: Iterable[Photo | Skipped]) -> list[Skipped]:
    return [item for item in walk if isinstance(item, Skipped)]


def test_photo_carries_what_change_detection_needs(tmp_path: Path) -> None:
    plant(tmp_path, "sea/beach.jpg")
    info = (tmp_path / "sea/beach.jpg").stat()

    (photo,) = Walk(str(tmp_path))

    assert photo == Photo(str(tmp_path), "sea/beach.jpg", 1, info.st_mtime_ns, info.st_ino)
    assert photo.path == str(tmp_path / "sea/beach.jpg")


def test_files_come_before_sub_folders_each_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    plant(tmp_path, "b.jpg", "B.jpg", "a/z.jpg", "a/é.jpg", "a/c/1.jpg", "A/2.jpg", "z.jpg", "10.jpg", "9.jpg")

    walk = Walk(str(tmp_path))

    assert found(walk) == [
        *("10.jpg", "9.jpg", "B.jpg", "b.jpg", "z.jpg"),
        *("A/2.jpg", "a/z.jpg", "a/é.jpg", "a/c/1.jpg"),
    ]
    assert walk.folders == 4
    assert walk.unread == set()


def test_every_regular_file_is_found_whatever_its_extension(tmp_path: Path) -> None:
    plant(tmp_path, "clip.mp4", "no extension", "notes.py", "photo")

    assert found(Walk(str(tmp_path))) == ["clip.mp4", "no extension", "notes.py", "photo"]


def test_a_walk_is_iterated_once(tmp_path: Path) -> None:
    walk = Walk(str(tmp_path))
    list(walk)

    with pytest.raises(RuntimeError):
        list(walk)


def test_hidden_files_and_folders_are_found_only_when_asked_for(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", ".b.jpg", ".private/c.jpg")

    assert found(Walk(str(tmp_path))) == ["a.jpg"]
    assert found(Walk(str(tmp_path), hidden=True)) == [".b.jpg", "a.jpg", ".private/c.jpg"]


def test_a_hidden_start_is_walked(tmp_path: Path) -> None:
    plant(tmp_path, ".private/c.jpg", ".private/.d.jpg")

    assert found(Walk(str(tmp_path), ".private")) == [".private/c.jpg"]
    assert found(Walk(str(tmp_path / ".private"))) == ["c.jpg"]


@pytest.mark.parametrize("hidden", [False, True])
def test_junk_is_ignored_even_with_hidden(tmp_path: Path, hidden: bool) -> None:
    plant(
        tmp_path,
        *(
            "@eaDir/t.jpg",
            ".thumbnails/t.jpg",
            "$RECYCLE.BIN/t.jpg",
            "$Recycle.Bin/t.jpg",
            ".Trash-1000/t.jpg",
        ),
        *("System Volume Information/t.jpg", "node_modules/t.jpg", ".git/t.jpg", "lost+found/t.jpg"),
        *("deep/#recycle/t.jpg", "__MACOSX/._t.jpg", ".imgsearch/t.jpg", "Catalog Previews.lrdata/t.jpg"),
        *("._a.jpg", "Thumbs.db", ".DS_Store", "desktop.ini", "b.jpg.part", "c.jpg.crdownload"),
        *("a.jpg", "node_modules.jpg", "deep/trash.jpg"),
    )
    write(tmp_path / ".imgsearchignore", "")

    assert found(Walk(str(tmp_path), hidden=hidden)) == ["a.jpg", "node_modules.jpg", "deep/trash.jpg"]


def test_a_photo_library_shows_its_originals_and_none_of_its_previews(tmp_path: Path) -> None:
    plant(
        tmp_path,
        *("Family.photoslibrary/originals/1/a.heic", "Family.photoslibrary/resources/derivatives/a.jpg"),
        *("Family.photoslibrary/database/x", "Old.aplibrary/Masters/b.jpg", "Old.aplibrary/Thumbnails/b.jpg"),
    )

    assert found(Walk(str(tmp_path))) == [
        "Family.photoslibrary/originals/1/a.heic",
        "Old.aplibrary/Masters/b.jpg",
    ]
    assert found(Walk(str(tmp_path / "Family.photoslibrary"))) == ["originals/1/a.heic"]


def test_fifos_and_sockets_are_no_photos(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")

    assert found(Walk(str(tmp_path))) == ["a.jpg"]


# Ignore files and --exclude


def test_ignore_file_speaks_for_its_folder_and_below(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "a.jpg", "sub/b.png", "sub/b.jpg", "drafts/c.jpg", "sub/drafts/d.jpg", "x/drafts")
    write(tmp_path / ".imgsearchignore", "# no screenshots", "", "*.png", "drafts/")

    assert found(Walk(str(tmp_path))) == ["a.jpg", "sub/b.jpg", "x/drafts"]


def test_anchored_pattern_starts_at_the_folder_of_its_file(tmp_path: Path) -> None:
    plant(tmp_path, "raw/a.jpg", "sub/raw/b.jpg", "sub/sub/raw/c.jpg")
    write(tmp_path / "sub/.imgsearchignore", "/raw")

    assert found(Walk(str(tmp_path))) == ["raw/a.jpg", "sub/sub/raw/c.jpg"]


def test_a_deeper_ignore_file_takes_up_again_what_a_higher_one_ignores(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "sub/b.png", "sub/c.png", "sub/deep/b.png")
    write(tmp_path / ".imgsearchignore", "*.png")
    write(tmp_path / "sub/.imgsearchignore", "!b.png")
    write(tmp_path / "sub/deep/.imgsearchignore", "b.png")

    assert found(Walk(str(tmp_path))) == ["sub/b.png"]


def test_nothing_below_an_ignored_folder_can_be_taken_up_again(tmp_path: Path) -> None:
    plant(tmp_path, "drafts/keep.jpg", "other/keep.jpg", "other/lose.jpg")
    write(tmp_path / ".imgsearchignore", "drafts/", "!drafts/keep.jpg", "other/**", "!other/keep.jpg")
    write(tmp_path / "drafts/.imgsearchignore", "!keep.jpg")

    assert found(Walk(str(tmp_path))) == ["other/keep.jpg"]


def test_a_list_of_what_is_wanted_can_be_written(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "a.jpg", "sub/b.png", "sub/b.jpg")
    write(tmp_path / ".imgsearchignore", "*", "!*/", "!*.jpg")

    assert found(Walk(str(tmp_path))) == ["a.jpg", "sub/b.jpg"]


def test_exclude_has_the_last_word(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png", "sub/a.png", "sub/c.jpg", "#recycled/d.jpg")
    write(tmp_path / ".imgsearchignore", "b.png")
    write(tmp_path / "sub/.imgsearchignore", "!a.png")

    assert found(Walk(str(tmp_path), exclude=["a.png", "!b.png", "#recycled"])) == ["b.png", "sub/c.jpg"]


@pytest.mark.parametrize("pattern", ["", " ", "/", "!", "a\\", "[z-a]"])
def test_exclude_without_a_meaning_is_wrong_usage(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="not a pattern"):
        Walk(str(tmp_path), exclude=["*.png", pattern])


def test_a_bad_line_of_an_ignore_file_is_reported_and_the_others_apply(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.jpg")
    write(tmp_path / ".imgsearchignore", "# mine", "a\\", "*.png")

    items = list(Walk(str(tmp_path)))

    assert skipped(items) == [Skipped(str(tmp_path / ".imgsearchignore"), "walk", "line 2 is not a valid pattern")]
    assert [item.relpath for item in items if isinstance(item, Photo)] == ["b.jpg"]


def test_ignore_file_may_be_written_on_windows_or_in_latin_1(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.jpg", os.fsdecode(b"caf\xe9.jpg"))
    (tmp_path / ".imgsearchignore").write_bytes(b"\xef\xbb\xbf*.png\r\ncaf\xe9.*\r\n")

    assert found(Walk(str(tmp_path))) == ["b.jpg"]


def test_an_ignore_file_too_long_or_not_regular_is_reported_and_not_used(tmp_path: Path) -> None:
    plant(tmp_path, "a/a.jpg", "b/b.jpg")
    (tmp_path / "a/.imgsearchignore").write_bytes(b"*.jpg\n" * (ignore.MAX_IGNORE_BYTES // 6 + 1))
    os.mkfifo(tmp_path / "b/.imgsearchignore")

    items = list(Walk(str(tmp_path)))

    assert skipped(items) == [
        Skipped(str(tmp_path / "a/.imgsearchignore"), "walk", "longer than 1048576 bytes, not used"),
        Skipped(str(tmp_path / "b/.imgsearchignore"), "walk", "not a regular file"),
    ]
    assert [item.relpath for item in items if isinstance(item, Photo)] == ["a/a.jpg", "b/b.jpg"]


def test_patterns_match_names_that_hold_a_newline_or_are_not_utf_8(tmp_path: Path) -> None:
    plant(tmp_path, "two\nlines/drafts/a.jpg", "b\n.png", "c.png\n", os.fsdecode(b"\xff\xfe.png"), "d.jpg")

    assert found(Walk(str(tmp_path), exclude=["drafts/", "*.png"])) == ["c.png\n", "d.jpg"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_ignore_files_mean_what_git_means_by_them(tmp_path: Path) -> None:
    plant(
        tmp_path,
        *("a.jpg", "b.png", "keep /x.jpg", "[a]/a.jpg", "a*/b.jpg", "deep/er/a.jpg", "deep/er/b.png"),
        *("deep/foo/a.jpg", "foo/deep/a.jpg", "foo/a.jpg", "bar/deep/b.jpg", "bar/a.jpg", "bar/x y.jpg"),
    )
    for folder, lines in {
        "": ["/foo/**", "!/foo/deep/", "*.png", "keep /", "bar/*/", "\\[a\\]", "# a.jpg", "er ", "!er/"],
        "deep": ["/*", "!er", "!/foo/", "/foo/a.*"],
        "bar": ["x y.jpg  ", "!x?y.jpg", "[!a-w] y.jpg"],
    }.items():
        for name in (".gitignore", ".imgsearchignore"):
            write(tmp_path / folder / name, *lines)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    listed = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"],
        check=True,
        capture_output=True,
    ).stdout

    by_git = {os.fsdecode(name) for name in listed.split(b"\0") if name}

    assert set(found(Walk(str(tmp_path)))) == {name for name in by_git if "/." not in "/" + name}


# Links


def test_a_loop_of_links_shows_each_photo_once(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/loop").symlink_to("..")
    (tmp_path / "b/loop").symlink_to("../a")
    (tmp_path / "self").symlink_to("self")

    assert found(Walk(str(tmp_path))) == ["a/1.jpg", "b/2.jpg"]


def test_a_real_folder_wins_over_a_link_that_comes_first(tmp_path: Path) -> None:
    plant(tmp_path, "real/1.jpg")
    (tmp_path / "a link").symlink_to("real")

    assert found(Walk(str(tmp_path))) == ["real/1.jpg"]


def test_linked_folders_outside_come_last_and_once(tmp_path: Path) -> None:
    plant(tmp_path, "away/1.jpg", "away/deep/2.jpg", "root/z/3.jpg")
    (tmp_path / "root/album").symlink_to(tmp_path / "away")
    (tmp_path / "root/z/again").symlink_to(tmp_path / "away")

    assert found(Walk(str(tmp_path / "root"))) == ["z/3.jpg", "album/1.jpg", "album/deep/2.jpg"]
    assert found(Walk(str(tmp_path / "root"), follow_links=False)) == ["z/3.jpg"]


def test_a_link_to_a_hidden_store_is_the_place_of_its_photos(tmp_path: Path) -> None:
    plant(tmp_path, ".store/1.jpg", "b/")
    (tmp_path / "b/album").symlink_to("../.store")

    assert found(Walk(str(tmp_path))) == ["b/album/1.jpg"]
    assert found(Walk(str(tmp_path), "b")) == ["b/album/1.jpg"]


def test_a_linked_file_is_a_photo_with_the_size_of_its_target(tmp_path: Path) -> None:
    plant(tmp_path, "away/1.jpg", "root/")
    (tmp_path / "away/1.jpg").write_bytes(b"12345")
    (tmp_path / "root/link.jpg").symlink_to(tmp_path / "away/1.jpg")

    assert [(photo.relpath, photo.size) for photo in Walk(str(tmp_path / "root")) if isinstance(photo, Photo)] == [
        ("link.jpg", 5)
    ]
    assert found(Walk(str(tmp_path / "root"), follow_links=False)) == []


def test_what_lay_behind_a_dangling_link_is_unread_and_a_dangling_photo_is_gone(tmp_path: Path) -> None:
    (tmp_path / "usb").symlink_to("/nowhere/at/all")
    (tmp_path / "photo.jpg").symlink_to("/nowhere/at/all.jpg")

    walk = Walk(str(tmp_path))

    assert found(walk) == []
    assert walk.unread == {"usb"}
    assert walk.is_unread("usb/trip/1.jpg")
    assert not walk.is_unread("photo.jpg")
    assert not walk.is_unread("usb2/1.jpg")


def test_a_refresh_of_a_sub_folder_knows_the_ignore_files_above_and_nothing_beside(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.jpg", "b/2.jpg", "b/3.png", "b/c/4.jpg", "b/c/5.png")
    write(tmp_path / ".imgsearchignore", "*.png")

    assert found(Walk(str(tmp_path), "b/c")) == ["b/c/4.jpg"]
    assert found(Walk(str(tmp_path), "b", exclude=["/b/c"])) == ["b/2.jpg"]


def test_a_refresh_of_a_sub_folder_does_not_claim_what_a_link_leads_to_elsewhere_in_the_root(
    tmp_path: Path,
) -> None:
    plant(tmp_path, "a/1.jpg", "b/2.jpg", "drafts/3.jpg")
    write(tmp_path / ".imgsearchignore", "drafts/")
    (tmp_path / "b/to a").symlink_to("../a")
    (tmp_path / "b/to drafts").symlink_to("../drafts")
    (tmp_path / "b/up").symlink_to("..")

    whole = found(Walk(str(tmp_path)))

    assert whole == ["a/1.jpg", "b/2.jpg", "b/to drafts/3.jpg"]
    assert found(Walk(str(tmp_path), "b")) == [name for name in whole if name.startswith("b/")]


def test_a_link_above_the_root_does_not_lead_a_refresh_back_into_the_root(tmp_path: Path) -> None:
    plant(tmp_path, "root/a/1.jpg", "root/b/2.jpg", "other/3.jpg")
    (tmp_path / "root/b/out").symlink_to("../..")

    whole = found(Walk(str(tmp_path / "root")))

    assert whole == ["a/1.jpg", "b/2.jpg", "b/out/other/3.jpg"]
    assert found(Walk(str(tmp_path / "root"), "b")) == ["b/2.jpg", "b/out/other/3.jpg"]


# What cannot be read


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """Listing this folder fails. The test may run as root, whom no permission stops."""
    real = os.scandir

    def scandir(opened: int) -> object:
        if os.path.samefile(opened, folder):
            raise OSError(number, os.strerror(number))
        return real(opened)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EIO, "input/output error"),
        (errno.ENAMETOOLONG, "path too long"),
    ],
)
def test_an_unreadable_folder_is_reported_and_the_rest_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    plant(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    refuse(monkeypatch, tmp_path / "b", number)

    walk = Walk(str(tmp_path))
    items = list(walk)

    assert skipped(items) == [Skipped(str(tmp_path / "b"), "walk", reason)]
    assert [item.relpath for item in items if isinstance(item, Photo)] == ["a/1.jpg", "c/3.jpg"]
    assert walk.unread == {"b"}
    assert walk.is_unread("b/2.jpg") and not walk.is_unread("a/gone.jpg")


def test_an_unreadable_root_leaves_everything_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.jpg")
    refuse(monkeypatch, tmp_path, errno.EACCES)

    walk = Walk(str(tmp_path))

    assert list(walk) == [Skipped(str(tmp_path), "walk", "permission denied")]
    assert walk.unread == {""}
    assert walk.is_unread("a.jpg") and walk.is_unread("any/thing.jpg")


@pytest.mark.parametrize(("root", "reason"), [("none", "no such file or directory"), ("a.jpg", "not a directory")])
def test_a_root_that_is_no_folder_leaves_everything_unread(tmp_path: Path, root: str, reason: str) -> None:
    plant(tmp_path, "a.jpg")

    walk = Walk(str(tmp_path / root))

    assert list(walk) == [Skipped(str(tmp_path / root), "walk", reason)]
    assert walk.unread == {""}


def test_a_folder_that_cannot_be_entered_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a/1.jpg", "a/2.jpg", "a/sub/3.jpg", "b/4.jpg")
    real = os.scandir

    class Sealed:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.entry, self.name = entry, entry.name

        def __getattr__(self, name: str) -> object:
            return getattr(self.entry, name)

        def stat(self) -> os.stat_result:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    class Listing:
        def __init__(self, entries: list[object]) -> None:
            self.entries = entries

        def __enter__(self) -> list[object]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    def scandir(opened: int) -> object:
        is_sealed = os.path.samefile(opened, tmp_path / "a")
        return Listing([Sealed(entry) for entry in real(opened)]) if is_sealed else real(opened)

    monkeypatch.setattr(os, "scandir", scandir)
    walk = Walk(str(tmp_path))
    items = list(walk)

    assert skipped(items) == [Skipped(str(tmp_path / "a"), "walk", "permission denied")]
    assert [item.relpath for item in items if isinstance(item, Photo)] == ["b/4.jpg"]
    assert walk.unread == {"a"}


def test_a_file_and_a_folder_deleted_on_the_way_are_deleted(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b/b.jpg", "b/keep.jpg", "sub/c.jpg", "sub/deep/d.jpg", "z/e.jpg")
    walk = Walk(str(tmp_path))
    items = iter(walk)

    first = next(items)
    (tmp_path / "b" / "b.jpg").unlink()
    shutil.rmtree(tmp_path / "sub")

    assert found([first, *items]) == ["a.jpg", "b/keep.jpg", "z/e.jpg"]
    assert walk.unread == set()


def test_a_file_deleted_after_its_folder_was_listed_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    real = os.scandir

    def scandir(opened: int) -> object:
        with real(opened) as scan:
            entries = list(scan)
        (tmp_path / "b.jpg").unlink()
        return contextlib.nullcontext(entries)

    monkeypatch.setattr(os, "scandir", scandir)
    walk = Walk(str(tmp_path))

    assert found(walk) == ["a.jpg", "c.jpg"]
    assert walk.unread == set()


def test_a_folder_deleted_with_its_parent_is_deleted(tmp_path: Path) -> None:
    plant(tmp_path, "sub/c.jpg", "sub/deep/d.jpg", "z/e.jpg")
    walk = Walk(str(tmp_path))
    items = iter(walk)

    first = next(items)
    shutil.rmtree(tmp_path / "sub")

    assert found([first, *items]) == ["sub/c.jpg", "z/e.jpg"]
    assert walk.unread == set()


@pytest.mark.parametrize("mount_point", ["", "usb"])
def test_photos_on_a_disk_that_went_away_meanwhile_are_unread(tmp_path: Path, mount_point: str) -> None:
    root = tmp_path / "root"
    plant(root, "usb/1.jpg", "usb/2.jpg", "usb/trip/3.jpg", "z/4.jpg")
    walk = Walk(str(root))
    items = iter(walk)

    first = next(items)
    (root / mount_point).rename(tmp_path / "elsewhere")
    (root / mount_point).mkdir()  # the empty folder that a disk is mounted on

    seen = ["usb/1.jpg", "usb/2.jpg"]  # their folder was looked at as a whole
    assert found([first, *items]) == ([*seen, "z/4.jpg"] if mount_point else seen)
    assert walk.unread == {mount_point}
    assert walk.is_unread("usb/trip/3.jpg")


def test_a_root_that_vanishes_on_the_way_leaves_everything_unread(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plant(root, "a.jpg", "b.jpg", "sub/c.jpg")
    walk = Walk(str(root))
    items = iter(walk)

    first = next(items)
    root.rename(tmp_path / "elsewhere")

    assert found([first, *items]) == ["a.jpg", "b.jpg"]  # the root was looked at as a whole
    assert walk.unread == {""}


# Names


def test_names_that_are_not_utf_8_hold_newlines_or_look_alike_are_all_found(tmp_path: Path) -> None:
    names = [
        *(
            b"\xff\xfe.jpg",
            b"dir\xff/\xe9.jpg",
            b"new\nline.jpg",
            b"tab\tquote'\".jpg",
            b" lead and trail .jpg ",
        ),
        *("é.jpg".encode(), "e\u0301.jpg".encode(), "🌊.jpg".encode(), b"\x1b[31mred.jpg", b"-n.jpg"),
    ]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass

    relpaths = [os.fsencode(relpath) for relpath in found(Walk(str(tmp_path)))]

    assert relpaths == [*sorted(name for name in names if b"/" not in name), b"dir\xff/\xe9.jpg"]


def deepen(folder: Path, names: Iterable[str]) -> None:
    """Sub-folders one in the other, past the length a path may have, with a photo in each."""
    descriptor = os.open(folder, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
        os.close(os.open("p.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def flatten(folder: Path) -> None:
    """Move the sub-folders up, so that the test's folder can be deleted by path again."""
    while True:
        sub = [name for name in os.listdir(folder / "top") if name != "p.jpg"]
        if not sub:
            return
        below = folder / "top" / sub[0]
        below.rename(folder / "next")
        shutil.rmtree(folder / "top")
        (folder / "next").rename(folder / "top")


def test_a_tree_of_1500_levels_is_walked(tmp_path: Path) -> None:
    deepen(tmp_path, ["top", *["d"] * 1499])
    try:
        assert len(found(Walk(str(tmp_path)))) == 1500
    finally:
        flatten(tmp_path)


def test_a_path_too_long_for_the_system_is_reported_and_the_rest_is_walked(tmp_path: Path) -> None:
    deepen(tmp_path, ["top", *["d" * 250] * 20])
    plant(tmp_path, "z/a.jpg")
    try:
        walk = Walk(str(tmp_path))
        items = list(walk)
    finally:
        flatten(tmp_path)

    (trouble,) = skipped(items)
    assert trouble.stage == "walk" and trouble.reason == "path too long"
    assert walk.unread == {trouble.path.removeprefix(f"{tmp_path}/")}
    photos = [item for item in items if isinstance(item, Photo)]
    assert photos[-1].relpath == "z/a.jpg"
    assert len(photos) > 10


# What belongs together


def sidecars(photo: Photo) -> list[tuple[str, int]]:
    return [(sidecar.relpath, sidecar.size) for sidecar in photo.sidecars]


def test_sidecars_are_attached_and_no_photos_themselves(tmp_path: Path) -> None:
    plant(
        tmp_path,
        *("s/beach.jpg", "s/beach.xmp", "s/beach.jpg.XMP", "s/beach.txt", "s/beach.jpg.txt"),
        *("s/dune.jpg", "s/notes.txt", "s/clip.mp4", "s/clip.txt", "other/beach.jpg"),
    )
    (tmp_path / "s/beach.txt").write_text("warm sand")

    photos = {item.relpath: item for item in Walk(str(tmp_path)) if isinstance(item, Photo)}

    assert list(photos) == ["other/beach.jpg", "s/beach.jpg", "s/clip.mp4", "s/dune.jpg"]
    assert sidecars(photos["s/beach.jpg"]) == [
        ("s/beach.txt", 9),
        ("s/beach.xmp", 1),
        ("s/beach.jpg.XMP", 1),
        ("s/beach.jpg.txt", 1),
    ]
    assert photos["s/beach.jpg"].sidecars[0].mtime_ns == (tmp_path / "s/beach.txt").stat().st_mtime_ns
    assert [photos[name].sidecars for name in ("other/beach.jpg", "s/clip.mp4", "s/dune.jpg")] == [(), (), ()]


def test_an_ignored_sidecar_says_nothing(tmp_path: Path) -> None:
    plant(tmp_path, "beach.jpg", "beach.txt", "beach.xmp")

    (photo,) = Walk(str(tmp_path), exclude=["*.txt"])

    assert isinstance(photo, Photo) and sidecars(photo) == [("beach.xmp", 1)]


def test_a_raw_file_knows_the_jpeg_of_the_same_shot(tmp_path: Path) -> None:
    plant(
        tmp_path,
        *("d/IMG_1.CR2", "d/img_1.jpg", "d/IMG_1.JPG", "d/IMG_2.nef", "d/IMG_2.heic", "d/IMG_3.dng"),
        *("d/IMG_3.png", "d/IMG_4.ARW", "d/IMG_4.HIF", "d/IMG_4.jpeg", "IMG_3.jpg"),
    )

    pairs = {item.relpath: item.pair for item in Walk(str(tmp_path)) if isinstance(item, Photo)}

    assert {name: pair for name, pair in pairs.items() if pair} == {
        "d/IMG_1.CR2": "d/IMG_1.JPG",
        "d/IMG_2.nef": "d/IMG_2.heic",
        "d/IMG_4.ARW": "d/IMG_4.jpeg",
    }
    assert len(pairs) == 11


# One file by name


def test_a_named_file_is_a_photo_of_its_folder_with_what_lies_beside_it(tmp_path: Path) -> None:
    plant(tmp_path, "d/.a.nef", "d/.a.jpg", "d/.a.xmp", "d/b.txt")
    info = (tmp_path / "d/.a.nef").stat()

    photo = named_photo(str(tmp_path / "d/.a.nef"))

    assert isinstance(photo, Photo)
    assert (photo.root, photo.relpath, photo.size) == (str(tmp_path / "d"), ".a.nef", 1)
    assert (photo.mtime_ns, photo.inode, photo.named) == (info.st_mtime_ns, info.st_ino, True)
    assert sidecars(photo) == [(".a.xmp", 1)]
    assert photo.pair == ".a.jpg"


def test_a_named_text_file_is_read_like_any_other(tmp_path: Path) -> None:
    plant(tmp_path, "b.txt")

    photo = named_photo(str(tmp_path / "b.txt"))

    assert isinstance(photo, Photo) and photo.named and photo.sidecars == ()


def test_a_relative_name_and_dots_after_a_link_lead_where_the_system_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, "away/deep/", "away/a.jpg", "here/")
    (tmp_path / "here/link").symlink_to("../away/deep")
    monkeypatch.chdir(tmp_path / "here")

    dotted = named_photo("link/../a.jpg")
    plain = named_photo("../away/a.jpg")

    assert isinstance(dotted, Photo) and isinstance(plain, Photo)
    assert dotted.path == plain.path == str(tmp_path / "away/a.jpg")


def test_a_name_that_is_no_regular_file_is_skipped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    pipe, none, device = str(tmp_path / "pipe.jpg"), str(tmp_path / "none.jpg"), "/dev/null"
    long = f"{tmp_path}/{'x' * 250 + '/'}" * 20

    assert named_photo(pipe) == Skipped(pipe, "walk", "not a regular file")
    assert named_photo(device) == Skipped(device, "walk", "not a regular file")
    assert named_photo(str(tmp_path)) == Skipped(str(tmp_path), "walk", "not a regular file")
    assert named_photo(none) == Skipped(none, "walk", "no such file or directory")
    trouble = named_photo(long + "a.jpg")
    assert isinstance(trouble, Skipped) and trouble.reason == "path too long"


# Any tree

names = st.sampled_from(["a", "b", "c.jpg", "d.nef", "d.jpg", "é", "x\ny", "\udcff.png", "~", "Z", " "])
trees = st.recursive(
    st.none(),  # a file
    lambda below: st.dictionaries(names, below, max_size=4),
    max_leaves=20,
)


def grow(folder: str, tree: dict[str, object]) -> None:
    os.mkdir(folder)
    for name, below in tree.items():
        path = f"{folder}/{name}"
        if isinstance(below, dict):
            grow(path, below)
        else:
            with open(path, "wb"):
                pass


@given(tree=st.dictionaries(names, trees, max_size=5))
def test_any_tree_gives_the_files_that_a_plain_recursion_gives(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    root = str(tmp_path_factory.mktemp("tree") / "root")
    grow(root, tree)
    expected = {os.path.relpath(os.path.join(above, name), root) for above, _, files in os.walk(root) for name in files}

    relpaths = found(Walk(root))

    assert set(relpaths) == expected
    assert len(relpaths) == len(expected)
    assert relpaths == sorted(relpaths, key=lambda relpath: place(os.fsencode(relpath)))


def place(relpath: bytes) -> list[tuple[bool, bytes]]:
    """The documented order as a sort key: at each level files first, then by bytes."""
    *folders, name = relpath.split(b"/")
    return [*((True, folder) for folder in folders), (False, name)]
