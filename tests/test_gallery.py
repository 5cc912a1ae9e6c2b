"""What one does with photos in the gallery: select several, look at all of them, find and share a view."""

import re
import zipfile
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from conftest import ALBUM, BROWSER

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from browsing import AXE, answered, axe, chromium, names, search, shown
from gallery import index, opened
from playwright.sync_api import expect

from imgsearch.core.photos import gazetteer
from imgsearch.core.store.store import PROGRESS, Store

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")

WHERE = {
    "banana": (41.1496, -8.6110),
    "carrots": (41.1496, -8.6110),
    "lemon": (38.7131, -9.1278),
    "orange": (48.8566, 2.3522),
    "plum": None,
    "watermelon": None,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("selection")
    (base / "photos").mkdir()
    for at, (name, where) in enumerate(WHERE.items()):
        write_photo(base / "photos" / f"{name}.jpg", f"2023:0{7 + at % 2}:01 10:00:00", where)
    index(base)
    return base


def write_photo(path, taken, where):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = taken
    if where:
        latitude, longitude = where
        gps = {1: "S" if latitude < 0 else "N", 2: dms(latitude), 3: "W" if longitude < 0 else "E", 4: dms(longitude)}
        exif.get_ifd(0x8825).update(gps)
    with Image.open(ALBUM / path.name) as image:
        image.resize((240, 180)).save(path, exif=exif)


def dms(degrees):
    return (abs(degrees), 0.0, 0.0)


@pytest.fixture(scope="module")
def link(base):
    with opened(base) as gallery:
        yield gallery.link


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(request, browser, link):
    with shown(browser, link, name=request.node.name) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield page


def select(page, at, **more):
    page.locator(".pick").nth(at).click(**more)


def test_photos_are_selected_and_downloaded_as_one_archive(page, base, tmp_path):
    select(page, 1)
    select(page, 3, modifiers=["Shift"])
    expect(page.locator("#picked-count")).to_have_text("3 photos selected")
    select(page, 2)
    expect(page.get_by_role("region", name="Selected photos")).to_contain_text("2 photos selected")
    expect(page.locator("#picked-live")).to_have_text("2 photos selected")
    wanted = {names(page)[1], names(page)[3]}
    search(page, "a yellow lemon")  # another query leaves the selection as it is
    assert set(page.locator(".card:has(.pick:checked) .open img").evaluate_all("all => all.map(i => i.alt)")) == wanted
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "photos.zip"
    download.value.save_as(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
        assert {each: archive.read(each) for each in archive.namelist()} == {
            name: (base / "photos" / name).read_bytes() for name in wanted
        }
    expect(page.locator("#picked-told")).to_have_text(re.compile(r"^downloading 2 photos, \d+ kB$"))
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#picked")).to_be_hidden()
    expect(page.locator(".pick:checked")).to_have_count(0)
    expect(page.locator("#photos")).to_be_focused()


def test_the_keyboard_selects_and_reaches_what_can_be_done(page, base):
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(page.locator("#picked-live")).to_have_text("2 photos selected")
    first, second = names(page)[:2]
    page.keyboard.press("s")
    expect(page.locator("#download")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#picked-live")).to_have_text("2 paths copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"{base / 'photos' / first}\n{base / 'photos' / second}\n"
    page.keyboard.press("Escape")
    expect(page.locator("#picked")).to_be_hidden()
    expect(page.locator("#picked-live")).to_have_text("no photo selected")


def test_a_note_is_added_to_all(page):
    page.locator(".open").first.click()
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Select")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    page.locator(".open").nth(1).click(modifiers=["Control"])
    page.get_by_role("button", name="Add a note").click()
    expect(page.locator("#note-text")).to_be_focused()
    page.keyboard.type("the market in Porto")
    page.keyboard.press("Enter")
    expect(page.locator("#picked-told")).to_have_text("note added to 2 photos")
    expect(page.locator("#show-note")).to_be_focused()
    page.locator(".open").nth(1).click()
    expect(page.locator("#texts")).to_contain_text("the market in Porto")
    page.keyboard.press("Escape")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#fresh")).to_be_hidden()  # one's own change is nothing new


# --------------------------------------------------------------------------------------- addresses


def query_of(page):
    assert "token" not in page.url
    return parse_qs(urlsplit(page.url).query)


def test_an_address_holds_all_that_is_asked(page):
    search(page, "fruit july 2023")
    with answered(page):
        page.get_by_role("button", name="dislike", exact=False).first.click()
    page.click("#show-filters")
    with answered(page):
        page.select_option("[name=orientation]", "landscape")
    assert set(query_of(page)) == {"q", "dislike", "orientation"}
    page.locator(".open").first.click()
    expect(page.locator("#look")).to_be_visible()
    assert set(query_of(page)) == {"q", "dislike", "orientation", "photo"}
    shared, chips, found = page.url, page.locator(".chip").all_inner_texts(), names(page)
    for other in (page, page.context.new_page()):  # loaded again, and in a second tab
        other.goto(shared)
        expect(other.locator("#look")).to_be_visible()
        expect(other.locator("#name")).to_have_text(found[0])
        other.keyboard.press("Escape")
        expect(other.locator("#words")).to_have_value("fruit july 2023")
        expect(other.locator("[name=orientation]")).to_have_value("landscape")
        assert (other.locator(".chip").all_inner_texts(), names(other)) == (chips, found)
        expect(other).not_to_have_url(re.compile("photo="))


def test_back_closes_a_photo_and_forward_opens_it_again(page):
    search(page, "fruit")
    page.locator(".open").nth(1).click()
    page.keyboard.press("ArrowRight")
    third = page.locator("#name").inner_text()
    page.go_back()
    expect(page.locator("#look")).to_be_hidden()
    expect(page.locator("#words")).to_have_value("fruit")
    page.go_forward()
    expect(page.locator("#name")).to_have_text(third)
    page.keyboard.press("Escape")
    page.wait_for_url(lambda url: "photo" not in url)
    with page.expect_response("**/api/photos?*"):
        page.go_back()
    expect(page.locator("#words")).to_have_value("")


def test_an_address_of_a_photo_that_is_gone_says_so(page):
    page.goto(page.url + "?photo=999")
    expect(page.locator("#said")).to_have_text("no photo 999 is in the index")
    expect(page.locator("#look")).to_be_hidden()


# --------------------------------------------------------------------------------------- places


@pytest.mark.skipif(gazetteer.version() is None, reason="the extra [places] is not installed")
def test_photos_are_browsed_by_place(page):
    view = page.get_by_role("button", name="By place")
    view.click()
    expect(page.locator("#days")).to_be_hidden()
    expect(page.locator("#places p")).to_have_text(["Portugal", "France"])
    page.get_by_role("button", name="Porto, Portugal: 2 photos").click()
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator(".chip")).to_contain_text("Porto")
    page.reload()
    expect(page.locator("#places [aria-pressed=true]")).to_contain_text("Porto")
    expect(page.locator(".card")).to_have_count(2)
    view.click()
    expect(page.locator("#days")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Leave out Porto")).click()
    expect(page.locator(".card")).to_have_count(6)
    page.go_back()
    expect(page.locator(".card")).to_have_count(2)


def test_without_place_names_it_says_what_to_install(page, base, monkeypatch):
    monkeypatch.setattr("imgsearch.core.photos.gazetteer.version", lambda: None)
    monkeypatch.setattr("imgsearch.core.store.place_names.PlaceNameTable.all", lambda *_, **__: [])
    monkeypatch.setattr("imgsearch.core.store.place_names.PlaceNameTable.count", lambda _: (4, 0))
    page.get_by_role("button", name="By place").click()
    expect(page.locator("#places")).to_contain_text("pip install 'imgsearch-cli[places]', then: imgsearch index")


# --------------------------------------------------------------------------------------- nothing found


def test_nothing_found_names_the_filter_that_is_the_reason(page):
    page.click("#show-filters")
    page.select_option("[name=orientation]", "landscape")
    page.fill("[name=camera]", "Leica")
    expect(page.locator("#tries button")).to_have_text("Without camera: Leica")
    page.fill("[name=keyword]", "beach")
    expect(page.locator("#tries")).to_contain_text("No single filter is the reason")
    page.fill("[name=keyword]", "")
    page.locator("#tries button").click()
    expect(page.locator(".card")).to_have_count(6)
    expect(page.locator("[name=orientation]")).to_have_value("landscape")
    expect(page.locator("#tries button")).to_have_count(0)


def test_a_date_in_the_words_that_is_the_reason_can_be_searched_for_as_words(page):
    search(page, "fruit may 1999")
    expect(page.locator("#tries button")).to_have_text(["Without “may 1999”", "Search for “may 1999” as words"])
    with answered(page):
        page.locator("#tries button").nth(1).click()
    expect(page.locator("#words")).to_have_value('fruit "may 1999"')
    expect(page.locator(".card")).to_have_count(6)


# --------------------------------------------------------------------------------------- a running index


def test_the_progress_of_a_run_is_followed_without_a_reload(page, base):
    expect(page.locator("#progress")).to_be_hidden()
    look_again = "document.dispatchEvent(new Event('visibilitychange'))"
    with Store.writing(str(base / "index")) as store:
        for done in (2, 5):
            with store.catalog.transaction():
                store.catalog.set_info(PROGRESS, f"{done} 9")
            if done == 2:
                page.evaluate(look_again)  # which it does by itself, but not as often before a run
            expect(page.locator("#progress span")).to_have_text(f"Indexing: {done} of 9 photos done")
    expect(page.locator("#progress")).to_be_hidden()


# --------------------------------------------------------------------------------------- slideshow


def test_the_space_bar_starts_and_stops_a_slideshow(page):
    page.clock.install()
    page.locator(".open").nth(3).click()
    expect(page.locator("#large")).to_have_js_property("complete", True)
    page.keyboard.press(" ")
    expect(page.locator("#slide")).to_have_text("slideshow runs")
    expect(page.get_by_role("button", name="Slideshow")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("aside")).to_be_hidden()
    shown_names = names(page)
    page.clock.run_for(4100)
    expect(page.locator("#slide")).to_have_text(shown_names[4])
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#slide")).to_have_text(shown_names[3])
    page.keyboard.press(" ")
    expect(page.locator("#slide")).to_have_text("slideshow stopped")
    expect(page.locator("aside")).to_be_visible()
    page.clock.run_for(9000)
    expect(page.locator("#name")).to_have_text(shown_names[3])
    page.get_by_role("button", name="Next photo").click()
    page.get_by_role("button", name="Next photo").click()
    page.get_by_role("button", name="Slideshow").click()
    page.clock.run_for(4100)
    expect(page.locator("#slide")).to_have_text("slideshow stopped: this is the last photo")


def test_every_view_is_in_nobodys_way(browser, link):
    if AXE is None:
        pytest.skip("no axe-core: pip install axe-playwright-python")
    found = []
    for scheme, width in (("dark", 320), ("light", 1280)):
        with shown(browser, link, scheme, width, name=f"views-{width}") as page:
            page.evaluate(AXE.read_text())
            page.get_by_role("button", name="By place").click()
            expect(page.locator("#places")).not_to_be_empty()
            found += axe(page, "places")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            search(page, "fruit may 1999")
            expect(page.locator("#tries button")).to_have_count(2)
            found += axe(page, "nothing found")
            page.click("#home")
            select(page, 0)
            page.get_by_role("button", name="Add a note").click()
            found += axe(page, "selected")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.locator(".open").first.click()
            page.locator(".play").click()
            found += axe(page, "slideshow")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert found == []
