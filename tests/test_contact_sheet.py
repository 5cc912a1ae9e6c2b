"""Contact sheets: one page that stands alone, in which nothing of a photo is ever more than text or pixels."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgsearch.core.search.grouping import Hit
from imgsearch.core.serving import contact_sheet
from imgsearch.core.store.records import Place

from conftest import ALBUM, BROWSER, PATIENCE_SECONDS, wait_until
from pictures import corners, exif_block, laid_down

CAPTION = (
    'fruit </li> </ol> <script> document.title="owned" </script> & <img src=x onerror="document.title=1"> on a table'
)
HOSTILE = (
    b'<script>document.title="owned".jpg',
    b"<img src=x onerror=document.title=1>.jpg",
    b"a \"double\" and 'single' & `tick`.jpg",
    b"line\nbreak\ttab.jpg",
    "\u202egpj.exe\u200b.jpg".encode(),
    "שלום.jpg".encode(),
    b"bytes\xff\xfe.jpg",
    b"turned #1 50% ?x=y;z.jpg",
    b"scan.tiff",
    b"plain.jpg",
)
ALLOWED = set(
    "html head meta title style body header h1 bdi dl div dt dd p kbd main ol li a img h2 span code button footer "
    "dialog small script".split()
)
UNCLOSED = {"meta", "img"}


@pytest.fixture
def hostile(tmp_path) -> Path:
    folder = tmp_path / "hostile <b>'\""
    folder.mkdir()
    facts = exif_block(
        {0x010F: "<b>Maker</b>", 0x0110: '"><script>document.title="owned"</script>', 0x010E: CAPTION},
        {0x9003: "2024:07:03 18:12:09"},
        {1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)},
    )
    for number, name in enumerate(HOSTILE):
        with Image.open(sorted(ALBUM.glob("*.jpg"))[number * 7]) as image:
            kind = "TIFF" if name.endswith(b"tiff") else "JPEG"
            image.convert("RGB").save(os.fsencode(folder) + b"/" + name, kind, exif=facts)
    turned = laid_down(corners(300, 200), 6)
    turned.save(os.fsencode(folder) + b"/turned #1 50% ?x=y;z.jpg", "JPEG", exif=exif_block({0x0112: 6}))
    (folder / "plain.txt").write_text("owned \u202e\u05d0 and\nturned\u2028round\n")
    return folder


@pytest.fixture
def page(hostile, imgsearch, tmp_path) -> Path:
    """The hostile album, found by a hostile query, on a sheet."""
    assert imgsearch("index", hostile, "--model", "builtin").code == 0
    query = '<script>document.title="owned"</script> "fruit"'
    done = imgsearch("query", "--verbatim", query, "-n", "50", "--modality", "any", "--html", "sheet.html")
    assert done.code == 0 and len(done.out.splitlines()) >= len(HOSTILE)
    return tmp_path / "sheet.html"


class Elements(HTMLParser):
    """A page, read as the standard says; complains of what does not fit together."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        self.found.append((tag, dict(attrs)))
        if tag not in UNCLOSED:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag and wanted.items() <= attrs.items()]

    def inside(self, tag: str) -> list[str]:
        return [data for where, data in self.texts if where == tag and data.strip()]


def test_names_and_captions_are_text_and_nothing_else(page):
    elements = Elements(page.read_text("utf-8"))
    assert {tag for tag, _ in elements.found} <= ALLOWED
    attributes = {name for _, attrs in elements.found for name in attrs}
    assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcset", "formaction")]
    for tag, attrs in elements.found:
        for name in ("src", "href", "data-large"):
            value = attrs.get(name)
            assert value is None or re.match(r"data:image/jpeg;base64,[\w+/=]+$|file:///", value), (tag, name, value)
    assert [len(elements.inside(tag)) for tag in ("script", "style", "title")] == [1, 1, 1]
    assert elements.inside("title") == ['<script>document.title="owned"</script> "fruit" - imgsearch']
    shown = "".join(elements.inside("bdi"))
    for text in (
        "line\\nbreak\\ttab.jpg",
        "bytes\\xff\\xfe.jpg",
        "\\u202egpj.exe\\u200b.jpg",
        "שלום.jpg",
        "2024-07-03",
    ):
        assert text in shown, text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page.read_text())


def test_a_caption_that_was_found_is_shown_as_it_was_written(page, imgsearch):
    done = imgsearch("query", "owned", "--modality", "text", "-n", "50", "--html", "-")
    elements = Elements(done.out.decode())
    assert {tag for tag, _ in elements.found} <= ALLOWED
    shown = [text for text in elements.inside("bdi") if "owned" in text and "\u05d0" in text or text == CAPTION]
    assert len(shown) == len(elements.all("li")) >= len(HOSTILE) - 2
    assert "owned \u05d0 and turned round" in shown


def test_the_policy_lets_this_script_and_this_style_run_and_nothing_else(page):
    elements = Elements(page.read_text("utf-8"))
    (policy,) = (each["content"] for each in elements.all("meta", **{"http-equiv": "Content-Security-Policy"}))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    def hashed(tag: str) -> str:
        (text,) = elements.inside(tag)
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data: file:"
    assert (rules["script-src"], rules["style-src"]) == (hashed("script"), hashed("style"))
    order = [tag for tag, _ in elements.found]
    assert order.index("meta") < order.index("style") and order[:4] == ["html", "head", "meta", "meta"]
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", page.read_text("utf-8").partition("<body>")[0])


def test_every_photo_is_linked_byte_for_byte_and_shown_upright(page, hostile):
    elements = Elements(page.read_text("utf-8"))
    links = elements.all("a", **{"class": "photo"})
    paths = {urllib.parse.unquote_to_bytes(link["href"].removeprefix("file://")) for link in links}
    assert paths == {os.fsencode(hostile) + b"/" + name for name in HOSTILE}
    order = [tag for tag, attrs in elements.found if tag in ("img",) or attrs.get("class") == "photo"]
    assert order[: 2 * len(links)] == ["a", "img"] * len(links)
    pictures = dict(zip((link["data-name"] for link in links), elements.all("img"), strict=False))
    assert all(picture["alt"] for picture in pictures.values())
    jpeg = base64.b64decode(pictures["turned #1 50% ?x=y;z.jpg"]["src"].partition(",")[2])
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.size == (300, 200) and image.getpixel((5, 5))[0] > 180


def test_formats_no_browser_shows_are_embedded_larger(page):
    elements = Elements(page.read_text("utf-8"))
    links = {link["data-name"]: link for link in elements.all("a", **{"class": "photo"})}
    large = base64.b64decode(links["scan.tiff"]["data-large"].partition(",")[2])
    with Image.open(io.BytesIO(large)) as image:
        assert image.format == "JPEG"
    assert "data-shows" not in links["scan.tiff"]
    assert "data-large" not in links["plain.jpg"] and links["plain.jpg"]["data-shows"] == "1"


def test_larger_pictures_have_a_bound_and_missing_ones_a_reason(imgsearch, photos, tmp_path, monkeypatch):
    for path in sorted(photos.iterdir()):
        with Image.open(path) as image:
            image.save(photos / f"{path.stem}.tiff")
        path.unlink()
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    (photos / "lemon.tiff").unlink()
    monkeypatch.setattr(contact_sheet, "MAX_LARGE_BYTES", 20_000)
    assert imgsearch("query", "fruit", "--html", "sheet.html").code == 0
    text = (tmp_path / "sheet.html").read_text()
    assert 1 <= text.count("data-large=") < 5 == text.count('class="photo"')
    assert text.count("no picture: vanished before it was read") == 1


def test_facts_about_the_search_stand_on_top(imgsearch, photos, tmp_path):
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    asked = ("query", "yellow like photos/lemon.jpg", "--weight", ".4", "--ext", "jpg,png", "--sort", "path")
    assert imgsearch(*asked, "--html", "sheet.html").code == 0
    elements = Elements((tmp_path / "sheet.html").read_text())
    header = elements.inside("bdi")
    assert header[0] == "yellow like photos/lemon.jpg"
    assert header[1:6] == ["5", "scaled, weight 0.4", "builtin", "path", "ext jpg,png"]


def test_hits_are_still_printed_and_the_page_is_named_on_stderr(imgsearch, photos, tmp_path):
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    plain = imgsearch("query", "fruit", "-l")
    done = imgsearch("query", "fruit", "-l", "--html", "sheet.html")
    assert done.out == plain.out and done.code == 0
    assert re.fullmatch(r"imgsearch: sheet\.html: 6 photos, [\d.]+ kB\n", done.err)
    assert sorted(os.listdir(tmp_path)) == ["index", "photos", "sheet.html"], "nothing unfinished is left"


def test_a_dash_puts_the_page_on_stdout_and_nothing_else(imgsearch, photos):
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    done = imgsearch("query", "fruit", "--html", "-")
    assert done.code == 0 and done.err == ""
    assert done.out.startswith(b"<!doctype html>") and done.out.endswith(b"</html>\n")
    assert len(Elements(done.out.decode()).all("li")) == 6


def test_a_search_that_finds_nothing_makes_a_page_that_says_so(imgsearch, photos, tmp_path):
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    assert imgsearch("query", "fruit", "--min-score", "2", "--html", "sheet.html").code == 1
    elements = Elements((tmp_path / "sheet.html").read_text())
    assert "Nothing found." in elements.inside("p") and elements.all("ol") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--open",), "--open needs --html"),
        (("--html", "-", "-l"), "--html - writes the page to stdout, where nothing else can go"),
        (("--html", "-", "--open"), "--html - writes the page to stdout, where nothing else can go"),
        (("--html", "sheet.html", "-n", "1001"), "a contact sheet holds at most 1,000 photos"),
        (("--html", "nowhere/sheet.html"), "nowhere/sheet.html: cannot be written: no such file or directory"),
        (("--html", "photos"), "photos: cannot be written: is a directory"),
        (("--html", "photos/lemon.jpg"), "photos/lemon.jpg exists and is not a web page"),
        (("--html", "/dev/full"), "/dev/full: cannot be written: no space left on device"),
        (("--html", ""), "--html needs a file name"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(imgsearch, photos, arguments, said):
    if arguments[-1] == "/dev/full" and not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    before = (photos / "lemon.jpg").read_bytes()
    done = imgsearch("query", "fruit", *arguments)
    assert done.code == 2 and done.err.splitlines()[0] == f"imgsearch: {said}"
    assert len(done.err.splitlines()) == 2, "and what to do next"
    assert (photos / "lemon.jpg").read_bytes() == before


def test_many_queries_make_no_sheet(imgsearch, photos):
    done = imgsearch("query", "-", "--html", "sheet.html", stdin=b"fruit\n")
    assert (done.code, done.err.splitlines()[0]) == (2, "imgsearch: --html takes one query, not `-`")


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "sheet.html"
    path.write_text("<!doctype html>old")

    def broken():
        yield "<!doctype html>new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contact_sheet.write(str(path), broken())
    assert path.read_text() == "<!doctype html>old" and os.listdir(tmp_path) == ["sheet.html"]
    link = tmp_path / "link.html"
    link.symlink_to("sheet.html")
    assert contact_sheet.write(str(link), ["<!doctype html>", "new"]) == 18
    assert link.is_symlink() and path.read_text() == "<!doctype html>new"


def test_an_interrupt_does_not_wait_for_photos_and_keeps_the_old_page(imgsearch, photos, tmp_path):
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    (tmp_path / "sheet.html").write_text("<!doctype html>old")
    plug_ins = tmp_path / "plug-ins"
    plug_ins.mkdir()
    stuck = f"open({str(tmp_path / 'stuck')!r}, 'wb'), time.sleep(3600)"
    (plug_ins / "sitecustomize.py").write_text(
        "import hashlib, sys, time\n"
        f"if 'imgsearch.core.photos.decode_worker' in sys.orig_argv:\n    hashlib.file_digest = lambda *_: ({stuck})\n"
    )
    command = [sys.executable, "-m", "imgsearch", "query", "fruit", "--no-server", "--html", "sheet.html"]
    env = {**os.environ, "PYTHONPATH": str(plug_ins), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        wait_until((tmp_path / "stuck").exists, "a worker at a photo")
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=PATIENCE_SECONDS)
    assert started.returncode == 130
    assert b"Traceback" not in said
    assert (tmp_path / "sheet.html").read_text() == "<!doctype html>old"
    assert [name for name in os.listdir(tmp_path) if name.endswith(".html")] == ["sheet.html"]


def test_what_is_no_file_is_written_into_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    contact_sheet.write(str(pipe), ["<!doctype html>", "page"])
    assert reader.communicate(timeout=PATIENCE_SECONDS)[0] == b"<!doctype html>page"
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "name", [b"plain name.jpg", b"it's \\ \xff\n\x1b[31m.jpg", "\u202eש.jpg".encode(), b"'\xc3.jpg"]
)
def test_a_path_that_was_copied_can_be_pasted_into_a_shell(name):
    bash = shutil.which("bash") or pytest.skip("needs bash")
    copied = contact_sheet.copyable(os.fsdecode(b"/a/" + name))
    assert copied.isprintable()
    word = copied if copied.startswith("$'") else f"'{copied}'"
    said = subprocess.run([bash, "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert said == b"/a/" + name


def test_open_shows_the_page_and_waits_for_nobody(imgsearch, photos, tmp_path, monkeypatch):
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("xdg-open", "open"):
        (programs / name).write_text(
            f'#!/bin/sh\necho noise; echo noise >&2\necho "$1" > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/opened\n'
            f"while [ -e {tmp_path}/opened ]; do sleep 0.1; done\n"
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    done = imgsearch("query", "fruit", "-l", "--html", "a 'sheet'.html", "--open")
    assert done.code == 0
    wait_until((tmp_path / "opened").exists, "the page in the browser")
    assert (tmp_path / "opened").read_text() == f"{tmp_path}/a 'sheet'.html\n"
    assert b"noise" not in done.out and "noise" not in done.err
    (tmp_path / "opened").unlink()


def test_without_a_browser_it_says_where_the_page_is(imgsearch, photos, tmp_path, monkeypatch):
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    monkeypatch.setenv("PATH", str(tmp_path))
    done = imgsearch("query", "fruit", "--html", "a sheet.html", "--open")
    assert done.code == 0
    assert done.err.splitlines()[-1] == f"imgsearch: no browser found; the page is at file://{tmp_path}/a%20sheet.html"


NAMES = st.binary(max_size=60).map(lambda name: os.fsdecode(name.replace(b"\0", b"").replace(b"/", b"")))
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.lists(
    st.sampled_from(["<", ">", '"', "'", "&", "&#", "--", "]]>", "</script>", "<!--", "\n", "\u202e", "\ud800", "x"])
).map("".join)


@given(query=WORDS, name=NAMES, caption=WORDS, camera=WORDS, keyword=WORDS, reason=WORDS, has_picture=st.booleans())
def test_whatever_photos_are_called_the_page_has_the_same_elements(
    query, name, caption, camera, keyword, reason, has_picture
):
    facts = {"format": "JPEG", "width": 4, "height": 3, "taken_at": "2024-07-03T18:12:09", "camera": camera}
    place = Place(1, "/photos", name, b"", 1, 1, "present", facts, (keyword,), None, text=caption)
    hit = Hit(query, 1, 0.5, "text", "text", place, "builtin")
    card = contact_sheet.Card(hit, b"\xff\xd8\xff" if has_picture else None, reason)
    text = "".join(contact_sheet.page(query, {"Filters": keyword}, [card]))
    text.encode("utf-8")
    elements = Elements(text)
    tags = [tag for tag, _ in elements.found]
    assert [tags.count(tag) for tag in ("script", "style", "li", "img", "button")] == [1, 1, 1, 1 + has_picture, 5]
    assert set(tags) <= ALLOWED and not [key for _, attrs in elements.found for key in attrs if key.startswith("on")]
    if has_picture:
        (link,) = elements.all("a", **{"class": "photo"})
        assert urllib.parse.unquote_to_bytes(link["href"]) == b"file:///photos/" + os.fsencode(name)


# In a real browser


DUPLICATE = """
import os, sys
asked, answered = map(int, sys.argv[1:3])
os.dup2(asked, 3), os.dup2(answered, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """Chromium without a window, spoken to by the pipe that it has for that."""

    def __init__(self, program: str, profile: Path) -> None:
        # Its ends are to be descriptors 3 and 4: the others must not lie there already.
        (asked, self._ask), (self._answer, answered) = ([_high(end) for end in os.pipe()] for _ in range(2))
        self._process = subprocess.Popen(
            [sys.executable, "-c", DUPLICATE, str(asked), str(answered), program, "--headless", "--no-sandbox",
             "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            pass_fds=[asked, answered], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(asked)
        os.close(answered)
        self._rest, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._ask, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answer], [], [], 60)
            assert ready, "the browser says nothing"
            data = os.read(self._answer, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def show(self, path: Path) -> None:
        self("Page.navigate", url=contact_sheet.file_url(str(path)))
        self.until('document.readyState === "complete" && location.protocol === "file:"')

    def value(self, expression: str):
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str):
        return wait_until(lambda: self.value(expression), expression)

    def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "Tab": 9}.get(key, 0)
        extra = {"text": text} if text else {}
        self("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **extra)
        self("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def complaints(self) -> list[dict]:
        bad = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening")
        return [event for event in self.events if event["method"] in bad]

    def close(self) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self._session = None
            self("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        os.close(self._ask)
        os.close(self._answer)


def _high(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return moved


@pytest.fixture
def browser(tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no chromium here")
    started = Browser(BROWSER, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def test_a_browser_shows_the_hostile_album_and_runs_none_of_it(page, browser):
    browser.show(page)
    assert browser.value("document.title") == '<script>document.title="owned"</script> "fruit" - imgsearch'
    assert browser.value("document.scripts.length") == 1
    count = browser.value("document.querySelectorAll('a.photo').length")
    assert count == len(HOSTILE)
    browser.until("[...document.querySelectorAll('a.photo img')].every((image) => image.naturalWidth > 0)")
    assert browser.value("getComputedStyle(document.querySelector('ol.hits')).display") == "grid", "the style applies"
    for width in (320, 390, 1440):
        browser("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        assert browser.value("document.documentElement.scrollWidth <= innerWidth"), f"nothing sticks out at {width}"
    assert browser.complaints() == []


def test_keys_and_clicks_move_show_and_copy(page, browser):
    browser.show(page)
    browser("Emulation.setDeviceMetricsOverride", width=1200, height=800, deviceScaleFactor=1, mobile=False)
    at = "[...document.querySelectorAll('a.photo')].indexOf(document.activeElement)"
    for key, place in (("j", 0), ("ArrowRight", 1), ("ArrowDown", 5), ("ArrowLeft", 4), ("k", 3), ("End", 9), ("j", 9)):
        browser.press(key)
        assert browser.value(at) == place, key
    browser.press("Enter")
    browser.until("document.querySelector('dialog').open")
    large = "document.querySelector('dialog img')"
    name = "document.querySelector('dialog bdi').textContent"
    shown = set()
    for _ in HOSTILE:
        browser.until(f"{large}.complete && {large}.naturalWidth > 0")
        source = browser.value(f"{large}.src")
        shown.add((browser.value(name), source.partition(":")[0]))
        browser.press("ArrowRight")
    assert len({each for each, _ in shown}) == len(HOSTILE)
    assert {scheme for each, scheme in shown if each == "scan.tiff"} == {"data"}
    assert {scheme for each, scheme in shown if each != "scan.tiff"} == {"file"}, "full size, from the file itself"
    browser.press("Escape")
    browser.until("!document.querySelector('dialog').open")
    assert browser.value(at) == 9, "back where one was"
    browser.value("document.querySelector('a.photo').click()")
    assert browser.value("document.querySelector('dialog').open")
    browser.value("document.querySelector('dialog .close').click()")
    browser.value("document.querySelector('button.copy').click()")
    path = browser.value("document.querySelector('button.copy').dataset.path")
    browser.until(f"document.getElementById('said').textContent === 'copied ' + {json.dumps(path)}")
    assert browser.complaints() == []


def test_an_original_that_is_gone_leaves_its_thumbnail(page, browser, hostile):
    shutil.rmtree(hostile)
    browser.show(page)
    browser.value("document.querySelector('a.photo').click()")
    browser.until("document.querySelector('dialog small').textContent.startsWith('the original is not where it was')")
    assert browser.value("document.querySelector('dialog img').src").startswith("data:image/jpeg")


def test_a_script_that_got_into_the_page_would_not_run(page, browser):
    text = page.read_text("utf-8")
    evil = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    page.write_text(text.replace("<main>", f"<main>{evil}"), "utf-8")
    browser.show(page)
    wait_until(lambda: browser.value("1") and json.dumps(browser.events).count("Content Security Policy") >= 2)
    assert "owned'" not in browser.value("document.title") and "imgsearch" in browser.value("document.title")


def test_without_script_it_is_a_list_of_photos_with_links(page, browser):
    browser("Emulation.setScriptExecutionDisabled", value=True)
    browser("Page.navigate", url=contact_sheet.file_url(str(page)))
    browser.until("document.querySelectorAll('a.photo img').length > 0")
    assert browser.value("[...document.querySelectorAll('button')].every((button) => !button.checkVisibility())")
    assert browser.value("[...document.querySelectorAll('a.photo')].every((photo) => photo.checkVisibility())")
    assert browser.value("document.querySelector('a.photo').href").startswith("file:///")
