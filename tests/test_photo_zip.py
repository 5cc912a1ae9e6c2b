"""Archives of photos and notes about several, as the gallery makes them: what they hold, and what they never do."""

import io
import json
import os
import shutil
import socket
import tracemalloc
import zipfile

import pytest
from gallery import Client, index, opened
from hypothesis import given
from hypothesis import strategies as st

from imgsearch.core.search.filters import Filters
from imgsearch.core.serving.library import Library
from imgsearch.core.serving.photo_zip import LEFT_OUT, Names, safe_name, zipped
from imgsearch.core.store.store import Store

from conftest import ALBUM, PATIENCE_SECONDS, wait_until

LARGE = 48 << 20


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Equal names in three folders, hostile names, a link out of the root, and a large file."""
    base = tmp_path_factory.mktemp("zip")
    photos, outside = base / "photos", base / "outside"
    for folder in (photos / "a", photos / "b", photos / "c", outside):
        folder.mkdir(parents=True)
    for number, name in enumerate(("banana", "lemon", "plum")):
        shutil.copy(ALBUM / f"{name}.jpg", photos / "abc"[number] / ("IMG.JPG" if number else "img.jpg"))
    for name, source in {b"a\\..\\..\\up.jpg": "kiwi", b"con.jpg": "leek", b"\xff\n.jpg": "lime"}.items():
        shutil.copy(ALBUM / f"{source}.jpg", os.path.join(os.fsencode(photos), name))
    for name in ("gone", "fifo", "changed"):
        shutil.copy(ALBUM / "mango.jpg", photos / f"{name}.jpg")
    shutil.copy(ALBUM / "peach.jpg", outside / "secret.jpg")
    (photos / "link.jpg").symlink_to(outside / "secret.jpg")
    (photos / "large.jpg").write_bytes((ALBUM / "orange.jpg").read_bytes())
    os.truncate(photos / "large.jpg", LARGE)
    index(base)
    (photos / "gone.jpg").unlink()
    (photos / "fifo.jpg").unlink()
    os.mkfifo(photos / "fifo.jpg")
    (photos / "changed.jpg").write_bytes(b"another picture")
    return base


@pytest.fixture(scope="module")
def client(library):
    with opened(library) as gallery:
        yield Client(gallery)


@pytest.fixture(scope="module")
def places(library):
    """By their paths below the root."""
    found = Library(str(library / "index"))
    try:
        return {place.relpath: place for place in found.photos(Filters(), limit=100, offset=0)}
    finally:
        found.close()


def archive_of(client, numbers):
    status, ticket = client.json("/api/zip", {"photos": numbers})
    assert status == 200, ticket
    status, headers, data = client(ticket["address"])
    assert (status, headers["content-type"]) == (200, "application/zip")
    assert headers["content-disposition"] == 'attachment; filename="photos.zip"'
    return zipfile.ZipFile(io.BytesIO(data))


def test_photos_are_zipped_byte_by_byte_under_their_names(client, places, library):
    names = ["c/IMG.JPG", "a/img.jpg", "b/IMG.JPG", "a\\..\\..\\up.jpg", "con.jpg", "\udcff\n.jpg"]
    archive = archive_of(client, [places[name].id for name in [*names, "c/IMG.JPG"]])  # once, even if asked twice
    assert archive.testzip() is None
    stored = ["IMG.JPG", "img (2).jpg", "IMG (3).JPG", "a_.._.._up.jpg", "_con.jpg", "\ufffd_.jpg"]
    assert archive.namelist() == stored
    for name, within in zip(names, stored, strict=True):
        assert archive.read(within) == (library / "photos" / name).read_bytes()
    assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_STORED}


def test_what_is_not_as_indexed_or_not_inside_is_left_out_and_listed(client, places, library):
    names = ["gone.jpg", "a/img.jpg", "fifo.jpg", "changed.jpg", "link.jpg"]
    archive = archive_of(client, [places[name].id for name in names])
    assert archive.namelist() == ["img.jpg", LEFT_OUT]
    folder = library / "photos"
    assert archive.read(LEFT_OUT).decode().splitlines() == [
        f"{folder}/gone.jpg: no such file or directory",
        f"{folder}/fifo.jpg: it has changed since it was indexed",
        f"{folder}/changed.jpg: it has changed since it was indexed",
        f"{folder}/link.jpg: a link to outside the indexed folders",
    ]


@pytest.mark.parametrize("size", [LARGE // 2, 2 * LARGE])
def test_a_file_that_changes_while_it_is_read_does_not_break_the_archive(places, library, tmp_path, size):
    shutil.copy(library / "photos" / "large.jpg", tmp_path / "before.jpg")
    large, info = library / "photos" / "large.jpg", (library / "photos" / "large.jpg").stat()
    pieces = zipped([places["large.jpg"], places["a/img.jpg"]], [str(library / "photos")])
    data = [next(pieces)]
    os.truncate(large, size)
    try:
        archive = zipfile.ZipFile(io.BytesIO(b"".join([*data, *pieces])))
    finally:
        os.truncate(large, LARGE)
        large.write_bytes((tmp_path / "before.jpg").read_bytes())
        os.utime(large, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert archive.testzip() is None
    assert archive.namelist() == ["large.jpg", "img.jpg", LEFT_OUT]
    assert archive.getinfo("large.jpg").file_size == min(size, LARGE)
    assert archive.read(LEFT_OUT).decode() == f"{large}: perhaps incomplete: it changed while it was read\n"
    assert archive.read("img.jpg") == (library / "photos/a/img.jpg").read_bytes()


def test_a_large_archive_needs_little_memory(places, library):
    pieces = zipped([places["large.jpg"]] * 3, [str(library / "photos")])
    tracemalloc.start()
    try:
        assert sum(map(len, pieces)) > 3 * LARGE
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_large_format_is_used_where_a_size_needs_it(places, library, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", LARGE - 1)
    data = b"".join(zipped([places["a/img.jpg"], places["large.jpg"], places["b/IMG.JPG"]], [str(library / "photos")]))
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    assert [each.extract_version for each in archive.infolist()] == [20, 45, 45]


def test_a_browser_that_goes_away_ends_the_work(client, places, library):
    _, ticket = client.json("/api/zip", {"photos": [places["large.jpg"].id]})
    request = (
        f"GET {ticket['address']} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {client.gallery.token}\r\n\r\n"
    )
    large = str(library / "photos" / "large.jpg")
    with socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(request.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        wait_until(lambda: large in open_files())  # and not to its end: nobody reads
    wait_until(lambda: large not in open_files())


def open_files():
    found = []
    for each in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{each}"))
        except OSError:  # closed meanwhile
            continue
    return found


def test_an_archive_needs_the_token_and_photos_of_the_index(client, places):
    number = places["a/img.jpg"].id
    assert client.json("/api/zip", {"photos": [number]}, token=False)[0] == 401
    assert client.json("/api/zip", {"photos": [number]}, headers={"origin": "http://other.example"})[0] == 403
    assert client.json("/api/zip", {"photos": [number, 10**9]})[1]["error"] == "no such photo: 1000000000"
    assert client.json("/api/zip", {"photos": []})[0] == 422
    assert client.json("/api/zip", {"photos": [number] * 2001})[1]["error"] == "zip.photos: at most 2000"
    _, ticket = client.json("/api/zip", {"photos": [number]})
    assert client(ticket["address"], token=False)[0] == 401
    assert client("/api/zip/" + "0" * 32)[0] == 404


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("IMG_1.jpg", "IMG_1.jpg"),
        ("Käse am Fluß 👨‍👩‍👧.jpg", "Käse am Fluß 👨‍👩‍👧.jpg"),
        ("..", "_"),
        ("...", "_"),
        ("", "_"),
        ("a\\b:c*?.jpg", "a_b_c__.jpg"),
        ("C:\\x.jpg", "C__x.jpg"),
        ("a\x00b\x1f\x7f.jpg", "a_b__.jpg"),
        ("\u202egpj.exe", "_gpj.exe"),
        ("NUL", "_NUL"),
        ("aux.tar.gz", "_aux.tar.gz"),
        ("COM¹.jpg", "_COM¹.jpg"),
        ("lpt9 .jpg", "_lpt9 .jpg"),
        ("console.jpg", "console.jpg"),
        ("trailing. . ", "trailing"),
        ("ü" * 150 + ".jpeg", "ü" * 97 + ".jpeg"),
        ("a." + "b" * 300, "a." + "b" * 198),
        ("\udcfe.jpg", "\ufffd.jpg"),
    ],
)
def test_names_are_safe_on_every_system(name, safe):
    assert safe_name(name) == safe


@given(st.lists(st.text("aA.. \\:/\n\u202e\udcffß\u0301" + "é" * 3, max_size=150), max_size=8))
def test_names_stay_in_one_folder_and_are_different(names):
    taken = Names()
    found = [taken.of(name) for name in names]
    assert len({name.casefold() for name in found}) == len(names)
    for name in found:
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\\:\0\n")
        assert len(name.encode()) <= 255


def test_a_note_is_added_to_several_photos(client, places, library, imgsearch, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_INDEX", str(library / "index"))
    numbers = [places[name].id for name in ("a/img.jpg", "b/IMG.JPG")]
    assert client.json("/api/notes", {"photos": numbers, "text": " the market\nin Porto "}) == (
        200,
        {"text": "the market in Porto", "added": 2},
    )
    assert client.json("/api/notes", {"photos": numbers, "text": "the market in Porto"})[1]["added"] == 0
    noted = imgsearch("notes", "list", "--json").records
    assert sorted(note["photos"][0]["path"].rpartition("photos/")[2] for note in noted) == ["a/img.jpg", "b/IMG.JPG"]
    hits = imgsearch("query", "a market in Porto", "--modality", "text", "--json", "--no-history").records
    assert {hit["text"] for hit in hits[:2]} == {"the market in Porto"}
    assert client.json(f"/api/photos/{numbers[0]}")[1]["texts"] == [{"text": "the market in Porto", "source": "note"}]


def test_a_note_is_refused_in_words(client, places, library):
    number, changed = places["a/img.jpg"].id, places["changed.jpg"].id
    assert client.json("/api/notes", {"photos": [number], "text": "x"}, token=False)[0] == 401
    assert (
        client.json("/api/notes", {"photos": [number], "text": "x"}, headers={"sec-fetch-site": "cross-site"})[0] == 403
    )
    assert client.json("/api/notes", {"photos": [number], "text": " \n"})[1]["error"] == "an empty note"
    status, refused = client.json("/api/notes", {"photos": [number, changed], "text": "of both"})
    assert (status, refused["error"].rpartition("photos/")[2]) == (422, "changed.jpg: changed since it was indexed")
    with Store.writing(str(library / "index")):
        status, refused = client.json("/api/notes", {"photos": [number], "text": "meanwhile"})
    assert (status, refused["hint"]) == (409, "try again when it has finished")
    assert "meanwhile" not in json.dumps(client.json(f"/api/photos/{number}"))
