"""The gallery in a real browser, over names and captions that would like to be markup."""

import base64
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from conftest import ALBUM, BROWSER

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from browsing import AXE, AXE_LOOKS, LOOKS, answered, axe, chromium, loaded, names, search, shown
from gallery import index, opened
from playwright.sync_api import expect

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")

HOSTILE = (
    "<script>window.ran=1<.jpg",
    "<img src=x onerror=window.ran=2>.jpg",
    "quote\"'`&amp;.jpg",
    "new\nline.jpg",
    "\u202egpj.esrever.jpg",
    "javascript:window.ran=3.jpg",
)
CAPTION = "a caption <img src=x onerror=window.ran=4> in <b>bold</b> <script> window.ran=5 </script>"
PLAIN = ("banana", "lemon", "red-delicious", "carrots", "watermelon", "oatly-oat-milk", "orange", "lime")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder with photos and their index."""
    base = tmp_path_factory.mktemp("browser")
    photos = base / "photos"
    photos.mkdir()
    for name in PLAIN:
        shutil.copy(ALBUM / f"{name}.jpg", photos)
    sources = sorted(ALBUM.glob("*.jpg"))[20:]
    for at in range(70):  # more than a page
        name = HOSTILE[at] if at < len(HOSTILE) else f"photo {at:03}.jpg"
        exif = Image.Exif()
        exif[0x010E], exif[0x010F], exif[0x0110] = CAPTION, "Maker", "<i>Camera</i>"
        exif.get_ifd(0x8769)[0x9003] = f"2024:0{3 if at < len(HOSTILE) else 1 + at % 3}:1{at % 2} 10:00:{at % 60:02}"
        Image.open(sources[at % len(sources)]).resize((64, 48)).save(photos / name, "JPEG", exif=exif)
    index(base)
    return base


@pytest.fixture(scope="module")
def link(hostile):
    with opened(hostile) as gallery:
        yield gallery.link


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(params=[("light", 1280, 860)], ids=["wide"])
def page(request, browser, link):
    with shown(browser, link, *request.param, name=request.node.name) as page:
        yield page


def drop(page, path):
    """A file from outside, dropped onto the page as a person would."""
    transfer = page.evaluate_handle(
        """([name, data]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
            return transfer;
        }""",
        [Path(path).name, base64.b64encode(Path(path).read_bytes()).decode()],
    )
    for kind in ("dragenter", "dragover", "drop"):
        page.dispatch_event("body", kind, {"dataTransfer": transfer})


def test_the_link_is_not_left_in_the_address(page):
    assert "token" not in page.url
    assert page.title() == "imgsearch"


def test_photos_are_browsed_by_time_and_come_as_one_scrolls(page):
    expect(page.locator("#grid h2").first).to_contain_text("March 2024")
    assert page.locator(".card").count() == 60
    page.locator(".card").last.scroll_into_view_if_needed()
    expect(page.locator(".card")).to_have_count(78)
    expect(page.locator("#grid h2").last).to_have_text("Without a date")


def test_a_day_is_chosen_in_the_timeline(page):
    bar = page.get_by_role("button", name=re.compile("^2024-02-11: "))
    bar.click()
    expect(bar).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".card")).to_have_count(int(bar.get_attribute("aria-label").split()[1]))
    page.get_by_role("button", name="Leave out 2024-02-11").click()
    expect(page.locator(".card")).to_have_count(60)


def test_words_find_photos_and_a_minus_leaves_out(page):
    search(page, "a yellow lemon")
    found = names(page)
    search(page, "a yellow lemon -lemon")
    assert names(page) != found


def test_a_date_in_the_words_is_a_chip_that_can_be_removed(page):
    search(page, "green fruit -red march 2024")
    expect(page.locator(".chip")).to_have_text("taken: march 2024×")
    assert len(names(page)) == 27  # 6 with a name of HOSTILE, and every third of the 64 others
    expect(page.locator("#said")).to_contain_text("best first")
    with answered(page):
        page.get_by_role("button", name="Leave out taken: march 2024").click()
    expect(page.locator("#words")).to_have_value("green fruit -red")
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator(".card")).to_have_count(60)

    search(page, "march 2024")
    expect(page.locator("#grid h2")).to_have_text(["Sunday, 10 March 2024", "Monday, 11 March 2024"])
    expect(page.locator("#said")).to_contain_text("27 photos, oldest first")
    expect(page.locator(".card small")).to_have_count(0)
    page.locator(".open").first.click()
    expect(page.locator("#facts")).to_contain_text("Taken")
    expect(page.locator("#facts")).not_to_contain_text("Score")
    page.keyboard.press("Escape")
    search(page, 'green "march 2024"')
    expect(page.locator(".chip")).to_have_count(0)
    search(page, "green IMG_3551")
    expect(page.locator(".chip")).to_have_text("named: IMG_3551×")
    expect(page.locator("#none")).to_contain_text("nothing found within these filters")
    with answered(page):
        page.go_back()
    expect(page.locator(".chip")).to_have_count(0)
    with answered(page):
        page.go_back()
    expect(page.locator(".chip")).to_have_text("taken: march 2024×")
    page.click("#home")
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator("#said")).to_have_text("All photos, newest first")


def test_a_dropped_picture_is_searched_and_the_slider_mixes_it_with_words(page):
    drop(page, ALBUM / "lemon.jpg")
    expect(page.locator(".chip")).to_contain_text("lemon.jpg")
    expect(page.locator("#said")).to_contain_text("best first")
    expect(page.locator(".card .open img").first).to_have_attribute("alt", "lemon.jpg")
    expect(page.locator("#mix")).to_be_hidden()
    search(page, "milk")
    expect(page.locator("#mix")).to_be_visible()
    at_words = names(page)
    page.locator("#weight").focus()
    with answered(page):
        page.keyboard.press("Home")
    expect(page.locator("#weight")).to_have_attribute("aria-valuetext", "words 0 percent")
    expect(page.locator(".card .open img").first).to_have_attribute("alt", "lemon.jpg")
    assert names(page) != at_words


def test_a_file_that_is_no_picture_is_refused_in_words(page, tmp_path):
    (tmp_path / "<img src=x onerror=window.ran=6>.txt").write_text("no picture")
    page.set_input_files("#file", str(tmp_path / "<img src=x onerror=window.ran=6>.txt"))
    expect(page.locator("#said")).to_contain_text("window.ran=6>.txt: not a picture")


def test_likes_and_dislikes_move_the_answer(page):
    search(page, "fruit")
    before = names(page)
    with answered(page):
        page.get_by_role("button", name="dislike", exact=False).first.click()
    expect(page.locator(".chip")).to_contain_text("not liked:")
    expect(page.locator(".card .open img").first).not_to_have_attribute("alt", before[0])
    with answered(page):
        page.get_by_role("button", name=re.compile("^like ")).nth(3).click()
    expect(page.locator(".chip")).to_have_count(2)
    assert before[0] not in names(page)


def test_more_like_this_searches_with_the_photo(page):
    search(page, "a yellow lemon")
    page.locator(".open").nth(1).click()
    wanted = page.locator("#name").inner_text()
    page.get_by_role("button", name=re.compile("^More like this")).click()
    expect(page.locator("#look")).to_be_hidden()
    expect(page.locator(".chip")).to_contain_text(wanted.split("\n")[0])
    expect(page.locator("#words")).to_have_value("")


def test_filters_narrow_what_is_shown(page):
    page.click("#show-filters")
    page.fill("[name=camera]", "<i>camera")
    expect(page.locator(".card").filter(has_text="lemon.jpg")).to_have_count(0)
    page.fill("[name=after]", "someday")
    expect(page.locator("#said")).to_contain_text("--after someday")
    page.click("#filters button[type=reset]")
    expect(page.locator(".card")).to_have_count(60)


def test_filters_outlive_a_reload_and_are_in_sight(page, hostile):
    page.click("#show-filters")
    page.select_option("[name=root]", str(hostile / "photos"))
    page.select_option("[name=orientation]", "landscape")
    expect(page.locator("#said")).to_contain_text("Photos, newest first")
    before = names(page)
    page.reload()
    expect(page.locator("#said")).to_contain_text("Photos, newest first")
    expect(page.locator("#filters")).to_be_visible()
    expect(page.locator("[name=root]")).to_have_value(str(hostile / "photos"))
    assert names(page) == before


def test_hands_stay_on_the_keyboard(page):
    page.keyboard.press("/")
    expect(page.locator("#words")).to_be_focused()
    page.keyboard.type("lemon")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("best first")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".open").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".open").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#look")).to_be_visible()
    first = page.locator("#name").inner_text()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#name")).not_to_have_text(first)
    page.keyboard.press("l")
    expect(page.locator("[data-act=like]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#look")).to_be_hidden()
    expect(page.locator(".chip")).to_contain_text("liked:")


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_name_is_only_ever_a_name(page, name):
    page.get_by_role("button", name=name.replace("\n", " "), exact=True).first.click()
    assert page.locator("#name").evaluate("element => element.textContent") == name
    assert page.locator("#name *").count() == 0
    page.locator("#facts").hover()
    expect(page.locator("#facts")).to_contain_text("<i>Camera</i>")


def test_what_is_said_about_a_photo_is_shown_with_it(page):
    page.get_by_role("button", name=HOSTILE[0], exact=True).first.click()
    expect(page.locator("#texts blockquote")).to_contain_text(CAPTION)
    expect(page.locator("#texts blockquote small")).to_have_text("exif:ImageDescription")


def test_the_browsers_way_back_leads_to_the_question_before(page):
    search(page, "a yellow lemon")
    first = names(page)
    with answered(page):
        page.locator(".open").nth(2).focus()
        page.keyboard.press("m")
    expect(page.locator("#words")).to_have_value("")
    assert names(page) != first
    with answered(page):
        page.go_back()
    expect(page.locator("#words")).to_have_value("a yellow lemon")
    expect(page.locator(".chip")).to_have_count(0)
    assert names(page) == first
    page.go_back()
    expect(page.locator("#said")).to_contain_text("newest first")
    with answered(page):
        page.go_forward()
    assert names(page) == first


def test_a_picture_is_pasted(page):
    page.evaluate(
        """data => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], "", { type: "image/jpeg" }));
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        }""",
        base64.b64encode((ALBUM / "lemon.jpg").read_bytes()).decode(),
    )
    expect(page.locator(".chip")).to_contain_text("pasted picture")
    expect(page.locator(".card .open img").first).to_have_attribute("alt", "lemon.jpg")


def test_the_days_are_one_stop_of_the_tab_key(page):
    page.locator("#show-filters").focus()
    page.keyboard.press("Tab")  # to Search
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.dataset.day")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.day") < first
    page.keyboard.press("Enter")
    expect(page.locator("#days [aria-pressed=true]")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#days')") is None


def test_the_part_of_a_panorama_that_was_found_is_framed(browser, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    strip = Image.new("RGB", (1600, 200))
    for at, name in enumerate(("kiwi", "plum", "lime", "papaya", "leek", "mango", "orange", "lemon")):
        strip.paste(Image.open(ALBUM / f"{name}.jpg").resize((200, 200)), (at * 200, 0))
    strip.save(photos / "wide.jpg", quality=95)
    shutil.copy(ALBUM / "cucumber.jpg", photos)
    index(tmp_path)
    strip.crop((1400, 0, 1600, 200)).save(tmp_path / "lemon.png")
    with opened(tmp_path) as gallery, shown(browser, gallery.link, name="framed") as page:
        expect(page.locator("svg.region")).to_have_count(0)
        with answered(page):
            drop(page, tmp_path / "lemon.png")
        card = page.locator(".card").first
        loaded(card.locator(".open img"))
        frame, whole = card.locator(".region rect").bounding_box(), card.bounding_box()
        assert frame["x"] + frame["width"] == pytest.approx(whole["x"] + whole["width"], abs=4)
        assert frame["height"] == pytest.approx(whole["height"], abs=4)
        expect(page.locator("svg.region")).to_have_count(1)
        card.locator(".open").click()
        loaded(page.locator("#large"))
        frame, whole = (page.locator(at).bounding_box() for at in (".stage .region rect", "#large"))
        assert frame["width"] == pytest.approx(whole["width"] / 8, abs=4)
        assert frame["x"] + frame["width"] == pytest.approx(whole["x"] + whole["width"], abs=4)
        assert (frame["y"], frame["height"]) == pytest.approx((whole["y"], whole["height"]), abs=4)


def test_the_page_offers_a_changed_index_and_reports_a_missing_one(browser, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in PLAIN[:3]:
        shutil.copy(ALBUM / f"{name}.jpg", tmp_path / "photos")
    index(tmp_path)
    look_again = "document.dispatchEvent(new Event('visibilitychange'))"  # which it does by itself, but not as often
    with opened(tmp_path) as gallery, shown(browser, gallery.link, name="changing") as page:
        expect(page.locator(".card")).to_have_count(3)
        shutil.copy(ALBUM / "mango.jpg", tmp_path / "photos")
        index(tmp_path)
        expect(page.locator("#fresh")).to_be_hidden()
        page.evaluate(look_again)
        page.locator("#fresh").click()
        expect(page.locator(".card")).to_have_count(4)
        expect(page.locator("#fresh")).to_be_hidden()
        (tmp_path / "index").rename(tmp_path / "away")
        search(page, "fruit")
        expect(page.locator("#none")).to_contain_text("no index at")
        expect(page.locator("#none")).to_contain_text("imgsearch index")
        expect(page.locator(".card")).to_have_count(0)
        page.evaluate(look_again)
        (tmp_path / "away").rename(tmp_path / "index")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".card")).to_have_count(4)
        expect(page.locator("#none")).to_be_hidden()


def test_fingers_find_what_they_want(browser, link):
    with shown(browser, link, "light", 390, 800, name="fingers") as page:
        page.click("#show-filters")
        search(page, "red fruit")
        boxes = page.locator("button:visible, select:visible, #words, #filters input").evaluate_all(
            "all => all.map(each => [each.outerHTML.slice(0, 60), each.getBoundingClientRect()])"
        )
        assert [name for name, box in boxes if min(box["width"], box["height"]) < 39.5] == []


@pytest.mark.parametrize("page", LOOKS, ids=lambda look: f"{look[0]}-{look[1]}", indirect=True)
def test_it_fits_its_window_in_light_and_dark(page):
    page.click("#show-filters")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    search(page, "red fruit")
    page.locator(".open").first.click()
    expect(page.locator("#look")).to_be_visible()
    loaded(page.locator("#large"))
    assert page.locator("#look").evaluate("element => element.scrollWidth <= innerWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == is_dark


@pytest.mark.parametrize("page", AXE_LOOKS, ids=lambda look: f"{look[0]}-{look[1]}", indirect=True)
def test_nothing_is_in_the_way_of_those_who_see_or_move_otherwise(page):
    """What axe-core calls serious or critical, in each state of the page, on the hostile album."""
    page.evaluate(AXE.read_text() if AXE else pytest.skip("no axe-core: pip install axe-playwright-python"))
    found = axe(page, "all photos")
    page.locator("#days button").first.click()
    page.click("#show-filters")
    expect(page.locator(".chip")).to_have_count(1)
    found += axe(page, "a day, with filters")
    page.click("#home")
    drop(page, ALBUM / "lemon.jpg")
    search(page, "milk march 2024")
    with answered(page):
        page.locator(".like").nth(1).click()
    with answered(page):
        page.locator(".dislike").nth(2).click()
    page.locator(".open").first.focus()
    found += axe(page, "an answer")
    page.locator(".open").first.click()
    expect(page.locator("#facts")).to_contain_text("Size")
    found += axe(page, "a photo")
    page.keyboard.press("Escape")
    page.fill("[name=camera]", "no such camera")
    expect(page.locator("#none")).to_be_visible()
    found += axe(page, "nothing")
    page.fill("[name=after]", "someday")
    expect(page.locator("#none")).to_contain_text("--after someday")
    found += axe(page, "an error")
    assert found == []


@pytest.mark.parametrize(("scheme", "width", "height"), AXE_LOOKS)
def test_the_contact_sheet_is_in_nobodys_way_either(browser, hostile, imgsearch, tmp_path, scheme, width, height):
    if AXE is None:
        pytest.skip("no axe-core: pip install axe-playwright-python")
    sheet = tmp_path / "sheet.html"
    assert imgsearch("query", "fruit", "-n", "9", "--html", sheet, "--index", hostile / "index").code == 0
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        page.goto(sheet.as_uri())
        page.evaluate(AXE.read_text())
        found = axe(page, "sheet")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("a.photo").first.click()
        expect(page.locator("dialog")).to_be_visible()
        found += axe(page, "photo")
    assert found == []
