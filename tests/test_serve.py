"""The gallery's server: what it answers, whom it answers, and what it never gives out."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter

import gallery
import pytest
from gallery import Client

from imgsearch.cli import app
from imgsearch.cli.web import openapi
from imgsearch.cli.web import server as web
from imgsearch.core.errors import UsageError

from conftest import ALBUM, PATIENCE_SECONDS, wait_until

SCRIPT_NAME = "<script>alert(1)<.jpg"
ODD_NAME = b'pl\xffm "quoted"\n\xe2\x80\xaegpj.jpg'


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Two roots, one of them offline; a hostile name, a link out of the root, and a file that has changed since."""
    base = tmp_path_factory.mktemp("library")
    folder, other, outside = base / "photos", base / "other", base / "outside"
    for each in (folder, other, outside):
        each.mkdir()
    for name in ("banana", "lemon", "red-delicious", "carrots", "watermelon"):
        shutil.copy(ALBUM / f"{name}.jpg", folder)
    shutil.copy(ALBUM / "plum.jpg", folder / SCRIPT_NAME)
    shutil.copy(ALBUM / "kiwi.jpg", os.path.join(os.fsencode(folder), ODD_NAME))
    shutil.copy(ALBUM / "lime.jpg", folder / "changed.jpg")
    shutil.copy(ALBUM / "peach.jpg", outside / "secret.jpg")
    (folder / "link.jpg").symlink_to(outside / "secret.jpg")
    shutil.copy(ALBUM / "mango.jpg", other)
    os.environ["IMGSEARCH_INDEX"] = str(base / "index")
    try:
        assert app.exit_code(["index", str(folder), str(other), "--model", "builtin", "--quiet"]) == 0
        other.rename(base / "unplugged")
        assert app.exit_code(["index", "--quiet"]) in (0, 3)
    finally:
        del os.environ["IMGSEARCH_INDEX"]
    (folder / "changed.jpg").write_bytes((ALBUM / "lime.jpg").read_bytes() + b"more")
    return base


@contextlib.contextmanager
def opened(base, host="127.0.0.1"):
    with gallery.opened(base, host) as served:
        yield Client(served)


@pytest.fixture(scope="module")
def client(library):
    with opened(library) as client:
        yield client


@pytest.fixture(scope="module")
def ids(client):
    """Of the photos, by name."""
    _, found = client.json("/api/photos")
    return {photo["path"].rpartition("/")[2]: photo["id"] for photo in found["photos"]}


# --------------------------------------------------------------------------------------- what it answers


def test_a_search_gives_the_objects_of_json(client, library, imgsearch, monkeypatch):
    status, found = client.json("/api/search", {"text": "a yellow banana", "limit": 4})
    monkeypatch.setenv("IMGSEARCH_INDEX", str(library / "index"))
    printed = imgsearch("query", "a yellow banana", "-n", "4", "--json", "--metadata", "--no-history").records
    added = [{"id": hit.pop("id"), "thumbnail": hit.pop("thumbnail")} for hit in found["hits"]]
    assert status == 200
    assert found["hits"] == printed
    assert found["more"] is True
    assert all(each["thumbnail"].startswith(f"/api/photos/{each['id']}/thumbnail?v=") for each in added)


def test_pages_of_a_search_follow_each_other(client):
    _, whole = client.json("/api/search", {"text": "fruit", "limit": 6})
    parts = [client.json("/api/search", {"text": "fruit", "limit": 2, "offset": at})[1]["hits"] for at in (0, 2, 4)]
    assert [hit["id"] for part in parts for hit in part] == [hit["id"] for hit in whole["hits"]]


def test_a_picture_is_uploaded_and_searched_with_words(client, ids):
    status, brought = client.json("/api/pictures", None, method="POST")
    assert (status, brought["error"]) == (422, "an empty file")
    _, _, data = client("/api/pictures", body=(ALBUM / "lemon.jpg").read_bytes())
    pictures = [{"upload": json.loads(data)["id"]}]
    _, alone = client.json("/api/search", {"pictures": pictures, "limit": 1})
    _, at_words = client.json("/api/search", {"pictures": pictures, "text": "carrots", "weight": 1, "limit": 4})
    _, words = client.json("/api/search", {"text": "carrots", "limit": 4})
    _, at_picture = client.json("/api/search", {"pictures": pictures, "text": "carrots", "weight": 0, "limit": 1})
    assert alone["hits"][0]["id"] == at_picture["hits"][0]["id"] == ids["lemon.jpg"]
    assert at_words["hits"] == words["hits"]


def test_likes_and_filters_narrow_a_search(client, ids):
    _, liked = client.json("/api/search", {"more_like": [ids["lemon.jpg"]], "limit": 1})
    _, by_name = client.json("/api/search", {"text": "fruit", "filters": {"glob": ["*e*on.jpg"]}})
    _, without = client.json(
        "/api/search", {"text": "fruit", "not": ["banana"], "less_like": [ids["banana.jpg"]], "limit": 9}
    )
    assert liked["hits"][0]["id"] != ids["lemon.jpg"]
    assert {hit["id"] for hit in by_name["hits"]} == {ids["lemon.jpg"], ids["watermelon.jpg"]}
    assert ids["banana.jpg"] not in [hit["id"] for hit in without["hits"]]


def test_a_name_in_the_words_is_a_filter_where_that_is_asked_for(client, ids):
    _, found = client.json("/api/search", {"text": "fruit IMG_3551 july 2023", "natural": True})
    assert (found["hits"], found["more"]) == ([], False)
    assert found["phrases"] == [
        {"words": "IMG_3551", "filters": {"name": ["IMG_3551"]}},
        {"words": "july 2023", "filters": {"month": ["2023-07"]}},
    ]
    _, listed = client.json("/api/search", {"text": "LEMON.jpg", "natural": True})
    assert [(hit["id"], hit["score"], hit["method"]) for hit in listed["hits"]] == [(ids["lemon.jpg"], None, "date")]
    _, words = client.json("/api/search", {"text": "fruit july 2023"})
    assert len(words["hits"]) == len(ids) and "phrases" not in words
    refused = client.json("/api/search", {"text": "july 2023", "natural": True, "not": ["people"]})
    assert (refused[0], refused[1]["error"]) == (422, "-people: the query only excludes")


@pytest.mark.parametrize(
    ("asked", "status", "complaint"),
    [
        ({}, 422, "nothing to search for"),
        ({"not": ["people"]}, 422, "-people: the query only excludes"),
        ({"text": "a", "filters": {"after": "someday"}}, 422, "--after someday: takes a date"),
        ({"text": "a", "surprise": 1}, 422, "search: no 'surprise'"),
        ({"text": "a", "limit": 0}, 422, "search.limit: from 1 to 200"),
        ({"text": "a", "limit": True}, 422, "search.limit: not an integer"),
        ({"text": "a" * 1001}, 422, "search.text: from 1 to 1000 characters"),
        ({"pictures": [{}]}, 422, "search.pictures: each is a photo or an upload"),
        ({"pictures": [{"upload": "0" * 32}]}, 422, "this picture is no longer on the server"),
        ({"pictures": [{"upload": "../../etc/passwd"}]}, 422, "search.pictures[0].upload: not"),
        ({"pictures": [{"photo": 999}]}, 404, "no such photo"),
        ({"text": "\x00\u202e"}, 200, None),
        ({"text": "\ud800"}, 422, "search.text: not valid Unicode"),
        ([], 422, "search: not an object"),
    ],
    ids=str,
)
def test_an_unanswerable_request_gets_a_reason(client, asked, status, complaint):
    found = client.json("/api/search", asked)
    assert found[0] == status
    if complaint:
        assert found[1]["error"].startswith(complaint)
        assert found[1].keys() == {"error", "hint", "exit_code"}


def test_words_are_words_and_never_the_name_of_a_file(client, library):
    """Otherwise a client could find out which files exist."""
    _, there = client.json("/api/search", {"text": str(library / "outside" / "secret.jpg"), "limit": 9})
    assert {hit["method"] for hit in there["hits"]} == {"text"}


def test_what_is_no_picture_is_refused(client):
    for data in (b"hello", b"\xff\xd8\xff\xe0" + b"\0" * 100, b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        status, _, answer = client("/api/pictures", body=data)
        assert status == 422, answer


def test_browsing_shows_all_photos_that_are_there(client, ids):
    assert len(ids) == 9
    assert SCRIPT_NAME in ids
    assert not [name for name in ids if "mango" in name]  # its disk is not there
    _, page = client.json("/api/photos?limit=2&offset=1&ext=jpg&ext=png")
    assert len(page["photos"]) == 2
    assert "score" not in page["photos"][0]
    assert client.json("/api/days")[1] == {"days": []}
    _, places = client.json("/api/places?ext=jpg")
    assert places == {"places": [], "hint": "No places: none of the photos has coordinates (GPS)."}
    assert client.json("/api/photos?offset=5040") == (200, {"photos": []}), "the page goes on as long as there are any"


def test_names_that_are_not_utf8_come_with_their_bytes(client):
    _, found = client.json("/api/photos")
    (odd,) = [photo for photo in found["photos"] if "path_b64" in photo]
    assert "\ufffd" in odd["path"]


def test_about_says_what_there_is(client, library):
    _, about = client.json("/api/about")
    assert about["model"] == "builtin"
    assert about["photos"] == 9
    assert {(root["path"].rpartition("/")[2], root["state"]) for root in about["roots"]} == {
        ("photos", "online"),
        ("other", "offline"),
    }


def test_thumbnails_are_jpegs_and_known_again(client, ids):
    status, headers, data = client(f"/api/photos/{ids['lemon.jpg']}/thumbnail?side=160")
    assert (status, headers["content-type"], data[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert headers["cache-control"].startswith("private")
    again = client(f"/api/photos/{ids['lemon.jpg']}/thumbnail?side=160", headers={"if-none-match": headers["etag"]})
    assert (again[0], again[2]) == (304, b"")
    assert client(f"/api/photos/{ids['lemon.jpg']}/thumbnail?side=161")[0] == 422


def test_an_original_is_the_file_to_be_saved(client, ids):
    status, headers, data = client(f"/api/photos/{ids['lemon.jpg']}/original")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''lemon.jpg"
    assert data == (ALBUM / "lemon.jpg").read_bytes()
    hostile = client(f"/api/photos/{ids[SCRIPT_NAME]}/original")[1]["content-disposition"]
    assert hostile == "attachment; filename*=UTF-8''%3Cscript%3Ealert%281%29%3C.jpg"


def test_the_document_describes_every_address(client):
    _, document = client.json("/api/openapi.json")
    assert document["openapi"] == "3.1.0"
    served = {route.path for route in client.gallery._pages.app().routes if route.path.startswith("/api/")}
    assert set(document["paths"]) == served


def test_every_filter_of_a_query_can_be_asked():
    from dataclasses import fields

    from imgsearch.core.search.filters import Filters

    assert set(openapi.FILTERS) == {field.name for field in fields(Filters)}


# --------------------------------------------------------------------------------------- what it never gives out


@pytest.mark.parametrize("number", ["link.jpg", "changed.jpg"])
def test_only_indexed_photos_are_served(client, ids, number):
    status, _, data = client(f"/api/photos/{ids[number]}/original")
    assert status == {"link.jpg": 403, "changed.jpg": 410}[number]
    assert b"\xff\xd8" not in data


def test_a_photo_of_a_disk_that_is_not_there_is_not_known(client, library):
    status = {client(f"/api/photos/{number}")[0] for number in range(1, 20)}
    assert status == {200, 404}
    known = [n for n in range(1, 20) if client(f"/api/photos/{n}")[0] == 200]
    assert len(known) == 9


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/../../etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/page.html", "/app.py",
        "/api/photos/..%2f..%2f..%2fetc%2fpasswd/original", "/api/photos/1/original/../../../page.js",
        "/api/photos/%2e%2e/original", "/api/photos/-1/original", "/api/photos/1e0/original",
        "/api/photos/99999999999999999999/original", "/api/photos/0/thumbnail", "/api/photos/%D9%A1/thumbnail",
        "/api/photos/1%00/original", "/api/photos/1;x/original", "/api/pictures/", "/static/page.js", "/.git/config",
    ],
)  # fmt: skip
def test_no_path_leads_anywhere_else(client, path):
    status, _, data = client(path)
    assert status in (404, 405), data


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "evil.example:80@127.0.0.1"},
        {"host": ""},
        {"host": "[::1"},
        {"host": "192.168.1.7"},
        {"host": "0.0.0.0"},
    ],
    ids=str,
)
def test_a_name_that_is_not_ours_is_not_answered(client, headers):
    for path in ("/", f"/?token={client.gallery.token}", "/api/about", "/page.js"):
        status, answered, _ = client(path, headers=headers)
        assert status == 421
        assert "set-cookie" not in answered


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9999", "[::1]:8765", "127.1.2.3"])
def test_names_of_this_machine_are_ours(client, host):
    """Whatever the port: it may be forwarded from another one."""
    assert client("/api/about", headers={"host": host})[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_another_site_is_not_answered(client, headers):
    for path in ("/api/about", "/api/photos/1/thumbnail", "/page.js"):
        assert client(path, headers=headers)[0] == 403
    assert client("/api/search", body='{"text": "fruit"}', headers=headers)[0] == 403


def test_its_own_page_is_answered(client):
    own = {"host": f"127.0.0.1:{client.port}", "origin": f"http://127.0.0.1:{client.port}"}
    assert client("/api/about", headers=own | {"sec-fetch-site": "same-origin"})[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer nonsense"},
        {"authorization": "Basic OnRva2Vu"},
        {"cookie": "imgsearch=nonsense"},
        {"cookie": '"; broken'},
        {"authorization": "Bearer \xff"},
    ],
    ids=str,
)
def test_without_the_token_there_is_nothing(client, headers):
    for path in ("/", "/page.js", "/page.css", "/api/about", "/api/openapi.json", "/api/photos/1/original", "/nosuch"):
        assert client(path, headers=headers, token=False)[0] == 401
    assert client("/api/pictures", body=b"x", headers=headers, token=False)[0] == 401
    assert client("/?token=nonsense", headers=headers, token=False)[0] == 401
    assert client(f"/api/about?token={client.gallery.token}", headers=headers, token=False)[0] == 401  # only the page


def test_the_link_lets_in_by_a_cookie_that_no_other_site_can_send(client):
    status, headers, _ = client(f"/?token={client.gallery.token}", token=False)
    assert (status, headers["location"]) == (303, "/")
    cookie, *rest = headers["set-cookie"].split("; ")
    assert {part.lower() for part in rest} == {"httponly", "path=/", "samesite=strict"}
    status, headers, page = client("/", headers={"cookie": cookie}, token=False)
    assert status == 200
    assert client.gallery.token.encode() not in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


def test_every_answer_carries_the_headers(client):
    for path, token in (
        ("/", True),
        ("/api/about", True),
        ("/nosuch", True),
        ("/", False),
        ("/api/photos/1/original", True),
    ):
        _, headers, _ = client(path, token=token)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_too_much_is_refused_before_it_is_read(client):
    assert client("/api/search", body=b" " * (openapi.MAX_JSON_BYTES + 1))[0] == 413
    claims = {"content-length": str(openapi.MAX_PICTURE_BYTES + 1)}
    assert client("/api/pictures", method="POST", headers=claims)[0] == 413
    assert client("/api/search", body=b"{")[0] == 400
    assert client("/api/search", body=b"[" * 60_000)[0] == 400


def test_a_stream_without_a_length_is_counted(client, monkeypatch):
    monkeypatch.setattr(openapi, "MAX_JSON_BYTES", 1000)
    head = (
        f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {client.gallery.token}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(2 * openapi.MAX_JSON_BYTES):
                connection.sendall(b"40\r\n" + b" " * 64 + b"\r\n")
        assert b" 413 " in connection.recv(1000)


def test_uploads_are_few_and_go_with_the_server(library):
    from imgsearch.cli.web.app import MAX_UPLOADS, Uploads

    uploads = Uploads()
    kept = [uploads.keep(b"x")[0] for _ in range(MAX_UPLOADS + 1)]
    paths = [uploads.path(name) for name in kept]
    assert paths[0] is None
    assert all(os.stat(path).st_mode & 0o777 == 0o600 for path in paths[1:])
    uploads.close()
    assert not os.path.exists(os.path.dirname(paths[1]))


# --------------------------------------------------------------------------------------- while the index changes


@pytest.fixture
def changing(tmp_path):
    """A small index in a folder of its own, and what runs a command on it."""
    (tmp_path / "photos").mkdir()
    for name in ("banana", "lemon", "carrots"):
        shutil.copy(ALBUM / f"{name}.jpg", tmp_path / "photos")

    def run(*arguments):
        return app.exit_code([*arguments, "--index", str(tmp_path / "index")])

    assert run("index", str(tmp_path / "photos"), "--model", "builtin") == 0
    return tmp_path, run


def found_names(client):
    """By looking and by asking, which have to agree; or what is said instead, with the status."""
    looked = client.json("/api/photos")
    asked = client.json("/api/search", {"text": "fruit", "limit": 100})
    if looked[0] != 200:
        assert asked == looked
        return looked
    names = [{photo["path"].rpartition("/")[2] for photo in each} for each in (looked[1]["photos"], asked[1]["hits"])]
    assert names[0] == names[1]
    return names[0]


def test_the_gallery_follows_an_index_that_is_changed_pruned_and_made_again(changing):
    base, run = changing
    with opened(base) as client:
        edition = client.json("/api/about")[1]["edition"]
        shutil.copy(ALBUM / "mango.jpg", base / "photos")
        (base / "photos" / "lemon.jpg").unlink()
        assert run("index") == 0
        assert found_names(client) == {"banana.jpg", "carrots.jpg", "mango.jpg"}
        assert client.json("/api/about")[1]["edition"] != edition
        assert run("prune") == 0
        assert found_names(client) == {"banana.jpg", "carrots.jpg", "mango.jpg"}
        shutil.rmtree(base / "index")
        status, said = found_names(client)
        assert (status, said["exit_code"]) == (503, 4)
        assert said["error"].startswith("no index at ") and said["hint"] == "make one with: imgsearch index FOLDER"
        assert client("/api/photos/1/thumbnail")[0] == 503
        assert run("index", str(base / "photos"), "--model", "builtin") == 0
        assert found_names(client) == {"banana.jpg", "carrots.jpg", "mango.jpg"}


def test_a_damaged_catalogue_is_reported_and_its_repair_noticed(changing):
    base, run = changing
    with opened(base) as client:
        assert len(found_names(client)) == 3
        catalog = base / "index" / "catalog.sqlite3"
        broken = bytearray(catalog.read_bytes())
        broken[4096 : 3 * 4096] = b"\xa5" * (2 * 4096)
        (base / "index" / "broken").write_bytes(broken)
        for tail in ("-wal", "-shm"):
            (base / "index" / f"catalog.sqlite3{tail}").unlink(missing_ok=True)
        (base / "index" / "broken").rename(catalog)
        status, said = client.json("/api/photos")
        assert (status, said["exit_code"]) == (503, 4)
        assert "imgsearch check" in said["hint"]
        run("check", "--repair")
        assert run("index", str(base / "photos"), "--model", "builtin") == 0
        assert found_names(client) == {"banana.jpg", "lemon.jpg", "carrots.jpg"}


def test_two_galleries_show_one_index(changing):
    base, run = changing
    with opened(base) as one, opened(base) as other:
        assert one.gallery.token != other.gallery.token
        shutil.copy(ALBUM / "mango.jpg", base / "photos")
        assert run("index") == 0
        assert found_names(one) == found_names(other)
        assert len(found_names(one)) == 4
        assert one("/api/about", headers={"authorization": f"Bearer {other.gallery.token}"}, token=False)[0] == 401


def test_an_idle_open_page_does_not_keep_the_server_running(client):
    before = client.gallery.last_query
    assert client("/api/about")[0] == 200
    assert client.gallery.last_query == before
    assert client("/api/photos")[0] == 200
    assert client.gallery.last_query > before


def test_a_photo_comes_with_what_is_said_about_it(changing):
    base, run = changing
    assert run("notes", "add", str(base / "photos" / "lemon.jpg"), "the <b>sour</b> one") == 0
    with opened(base) as client:
        ids = {photo["path"].rpartition("/")[2]: photo["id"] for photo in client.json("/api/photos")[1]["photos"]}
        said = {name: client.json(f"/api/photos/{number}")[1]["texts"] for name, number in ids.items()}
    assert said["lemon.jpg"] == [{"text": "the <b>sour</b> one", "source": "note"}]
    assert said["banana.jpg"] == []


# --------------------------------------------------------------------------------------- beyond this machine, the end


def test_beyond_this_machine_addresses_are_names_and_the_token_is_wanted(library):
    with opened(library, host="0.0.0.0") as client:
        assert not client.gallery.is_loopback
        assert client("/api/about", headers={"host": "192.168.1.7:80"})[0] == 200
        assert client("/api/about", headers={"host": "192.168.1.7:80"}, token=False)[0] == 401
        assert client("/api/about", headers={"host": "evil.example"})[0] == 421


def test_a_port_that_is_taken_is_said_or_passed_by():
    with contextlib.closing(web.bound("127.0.0.1", 0, default=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1 port {port}: address already in use"):
            web.bound("127.0.0.1", port, default=0)
        with contextlib.closing(web.bound("127.0.0.1", None, default=port)) as other:
            assert other.getsockname()[1] != port
    with pytest.raises(UsageError, match="no such address"):
        web.bound("no such host", 0, default=0)


def test_without_an_index_it_says_so(imgsearch):
    outcome = imgsearch("serve", "--port", "0")
    assert outcome.code == 4
    assert "make one with" in outcome.err


@pytest.fixture
def running(library, tmp_path):
    """The command itself: the process and its link."""
    environment = {**os.environ, "IMGSEARCH_INDEX": str(library / "index"), "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "imgsearch", "serve", "--port", "0"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_order_while_it_is_asked(running, number, code):
    process, link = running
    address = link.split("/")[2]
    token = link.rpartition("=")[2]
    is_over = threading.Event()
    answers = []

    def keep_asking():
        while not is_over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(address, timeout=PATIENCE_SECONDS)
                connection.request("POST", "/api/search", '{"text": "fruit"}', {"authorization": f"Bearer {token}"})
                answers.append(connection.getresponse().read())
                connection.close()

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 8, "some answers")
    process.send_signal(number)
    try:
        assert process.wait(PATIENCE_SECONDS) == code
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert process.stderr.read() == "imgsearch: open the link above in a browser; ^C ends it\n"


def test_a_partial_upload_is_ignored_silently(running):
    process, link = running
    host, _, port = link.split("/")[2].partition(":")
    token = link.rpartition("=")[2]
    head = (
        f"POST /api/pictures HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 999\r\n\r\n"
    )

    def let_it_read():
        """An answer to a later request: what came before it was read."""
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)) as connection:
            connection.request("GET", "/api/photos", headers={"authorization": f"Bearer {token}"})
            assert connection.getresponse().status == 200

    with contextlib.ExitStack() as opened:
        gone, waiting, silent = (
            opened.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS))
            for _ in range(3)
        )
        for connection in (gone, waiting):
            connection.sendall(head.encode() + b"\xff\xd8\xff")
        silent.sendall(b"GET / HT")
        let_it_read()
        gone.close()
        let_it_read()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 130
    assert process.stderr.read() == "imgsearch: open the link above in a browser; ^C ends it\n"


# --------------------------------------------------------------------------------------- the API as it is described


def test_the_api_is_as_it_is_described(client):
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    pytest.importorskip("hypothesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

    _, document = client.json("/api/openapi.json")
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=client.gallery.address.rstrip("/"))
    statuses: Counter[int] = Counter()
    for operation in schema.get_all_operations():
        operation = operation.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=int(os.environ.get("IMGSEARCH_API_EXAMPLES", "15")),
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case):
            number = case.path_parameters and case.path_parameters.get("number")
            if number is not None and statuses.total() % 2:
                case.path_parameters["number"] = statuses.total() // 2 % 12 + 1  # one that there is, or was
            response = case.call(headers={"authorization": f"Bearer {client.gallery.token}"})
            statuses[response.status_code] += 1
            assert response.status_code < 500
            # A question may be as described and yet mean nothing: only what not to show. The
            # token that is sent here beside schemathesis's own is right.
            case.validate_response(response, excluded_checks=[positive_data_acceptance, ignored_auth])

        check()
    print(f"{statuses.total()} examples: {dict(statuses)}")  # shown with pytest -s
    assert statuses.total() > 100
    assert {200, 404, 410, 422} <= set(statuses)
