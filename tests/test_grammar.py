"""What a query means, and what it does not."""

from __future__ import annotations

import contextlib
import os
import shlex

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spelling import meaning_of, spelling_of

from imgsearch.core.errors import ImgsearchError, QueryError, UsageError
from imgsearch.core.search.explain import as_options
from imgsearch.core.search.grammar import Query, Term, combine, explicit, parse

from conftest import IS_LONG, cpu_seconds


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("this.jpg", "looks like rain.jpg", "été à Nîmes.JPG", "plain"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "IMG 1").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def meaning(typed: str) -> tuple[str | None, list[str]]:
    query = parse(typed)
    assert query.typed == typed
    return query.text, [os.path.relpath(path) for path in query.images]


@pytest.mark.parametrize(
    ("typed", "text", "images"),
    [
        ("sunset over the sea", "sunset over the sea", []),
        ("this.jpg", None, ["this.jpg"]),
        ("./this.jpg", None, ["this.jpg"]),
        ("~/this.jpg", None, ["this.jpg"]),
        ("red dress like this.jpg", "red dress", ["this.jpg"]),
        ("red dress LIKE  this.jpg ", "red dress", ["this.jpg"]),
        ("like this.jpg", None, ["this.jpg"]),
        ("at night like ~/this.jpg", "at night", ["this.jpg"]),
        ("dress like looks like rain.jpg", "dress", ["looks like rain.jpg"]),
        ("looks like rain", "looks like rain", []),
        ("something like this like this.jpg", "something like this", ["this.jpg"]),
        ("in winter like été à Nîmes.JPG", "in winter", ["été à Nîmes.JPG"]),
        ("brighter like sub/IMG 1", "brighter", ["sub/IMG 1"]),
        ("plain", "plain", []),
        ("./plain", None, ["plain"]),
        ("black/white cat", "black/white cat", []),
        ("a 1/2 pint like a 1/2 litre", "a 1/2 pint like a 1/2 litre", []),
        ("C++ code, a T-shirt", "C++ code, a T-shirt", []),
    ],
)
def test_what_a_query_means(folder, typed, text, images):
    assert meaning(typed) == (text, images)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("red dress like that.jpg", "that.jpg: no such picture"),
        ("beach.jpg", "beach.jpg: no such picture"),
        ("red like sub/nothing", "sub/nothing: no such picture"),
        ("./sub", "./sub: is a folder, not a picture"),
    ],
)
def test_a_picture_that_is_plainly_meant_but_missing_is_an_error_that_says_how_to_search_the_words(
    folder, typed, message
):
    with pytest.raises(QueryError) as caught:
        parse(typed)
    assert str(caught.value) == message
    assert caught.value.hint is not None and "--text" in caught.value.hint
    assert caught.value.exit_code == 2


def test_an_empty_query_is_an_error(folder):
    with pytest.raises(QueryError, match="query is empty"):
        parse("  ")


def test_explicit_words_and_pictures_are_never_parsed(folder):
    assert explicit("red like this.jpg", ()) == Query("red like this.jpg", text="red like this.jpg")
    both = explicit("red", ("this.jpg", "plain"))
    assert (both.text, [os.path.basename(path) for path in both.images]) == ("red", ["this.jpg", "plain"])


def test_an_explicit_picture_must_exist(folder):
    with pytest.raises(QueryError, match=r"gone\.jpg: no such picture"):
        explicit(None, ("gone.jpg",))


# ---- Two hundred and more strings, and what a person would say that they mean ----------------------------------------

NAMES = (
    "this.jpg",
    "a.jpg",
    "b.jpg",
    "my photo.jpg",
    "a + b.jpg",
    "x -y z.jpg",
    "-dash.jpg",
    "two like one.jpg",
    "salt and pepper.jpg",
    "it's.png",
    'say "hi" now.jpg',
    'odd -"quote.jpg',
    "2*x.jpg",
    "like.jpg",
    "猫.jpg",
    "صورة.png",
    "IMG_0001.HEIC",
    "sub/IMG 1",
    "sub/c.jpg",
    "looks like rain.jpg",
    "été à Nîmes.JPG",
    "plain",
    "no.txt",
)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = tmp_path_factory.mktemp("album")
    (folder / "sub").mkdir()
    for name in NAMES:
        (folder / name).write_bytes(b"x")
    before = os.getcwd()
    os.chdir(folder)
    yield str(folder)
    os.chdir(before)


# Nothing in these is an operator.
THEMSELVES = (
    # captions: "without" and "not" are part of what is seen
    "A dog not on a leash .",
    "a man without a shirt",
    "A boy without a shirt , jumping into a pool .",
    "A woman who is not looking at the camera .",
    "Two dogs , one brown and one black , run toward each other .",
    "A child in a pink dress is climbing up a set of stairs in an entry way .",
    "no people",
    "nobody on the beach",
    "a street with no cars",
    "a person who can't swim",
    "neither cats nor dogs",
    "everything but the kitchen sink",
    "people except children",
    # hyphens and dashes
    "a T-shirt",
    "rock-n-roll",
    "e-mail",
    "a black-and-white photo",
    "a jack-o'-lantern",
    "a well-lit, wide-angle shot",
    "mother-in-law",
    "9-to-5",
    "Spider-Man",
    "X-ray of a hand",
    "merry-go-round at night-time",
    "beach - sunset",
    "beach -- sunset",
    "beach --- sunset",
    "--",
    "-",
    "- people",
    "--people",
    "beach --not people",
    "beach – people",
    "beach — people",
    "beach –people",
    "beach —people",
    "beach \N{MINUS SIGN}people",
    "1914-1918",
    "pre- and post-war",
    "-_underscore",
    "-.5",
    "-( )-",
    "->",
    "-> arrow",
    "<- arrow",
    "-😀",
    "-*",
    # below zero
    "-5",
    "-5 degrees",
    "a thermometer at -5",
    "outside at -20°C in the snow",
    "-40°F",
    "-12.5%",
    "a balance of -1,000.00",
    "-5.",
    "-10..-5",
    "-٥ درجات",
    "minus -1/2",
    "-3: the score",
    # plus
    "C++",
    "C++ code on a screen",
    "sunset + harbour",
    "a + b",
    "a + b = c",
    "1 + 1",
    "+",
    "+ +",
    "sunset +",
    "+ sunset",
    "sunset+harbour",
    "sunset +harbour",
    "sunset+ harbour",
    "Google+",
    "18+",
    "notepad++ + vim",
    "+49 30 1234567",
    "a cat ++ a dog",
    "dog ＋ cat",
    # stars
    "*",
    "5* hotel",
    "a 5 * 5 grid",
    "2 * sunset + harbour",
    "2* sunset + harbour",
    "big 2*sunset + harbour",
    "M*A*S*H",
    "**bold**",
    "*.jpgs",
    "4*4 truck",
    "2*4 lumber",
    "3*3*3 cube",
    "f*ck",
    "a*b + c*d",
    "two*sunset + harbour",
    "x2*sunset + harbour",
    "2**sunset",
    "2×sunset + harbour",
    "٢*غروب + ميناء",
    "½*sunset + harbour",
    "twinkle * twinkle",
    "2*",
    # like
    "like",
    "LIKE",
    "like like",
    "like like like",
    "looks like rain",
    "it looks like rain",
    "a dog like a wolf",
    "people like pizza",
    "I like you",
    "something like this",
    "dreamlike",
    "alike",
    "likely",
    "a like button",
    "childlike drawing",
    "like a rolling stone",
    "a child-like face",
    "like-minded people",
    "unlike this",
    "would you like tea?",
    "like and subscribe",
    "and like",
    "likes: 10",
    "as you like it",
    "like father like son",
    "a like, b like",
    "like\u200bthis",
    "¿like?",
    "a cat like plain",
    # quotes and apostrophes
    'a "stop" sign',
    '"two words"',
    '"',
    '""',
    "a dog's bowl",
    "'tis the season",
    "rock 'n' roll",
    "a sign that says 'no - entry'",
    'the "-" key',
    "5'11\" man",
    'a 27" screen',
    "“quoted”",
    "-“two words”",
    "«гость»",
    "O'Brien's pub",
    'x-"y',
    'say-"hi there"',
    # other scripts
    "海边的日落",
    "沙滩 日落",
    "غروب الشمس على البحر",
    "شاطئ بدون ناس",
    "Собака без поводка",
    "кот и собака",
    "犬と猫",
    "海のような空",
    "समुद्र तट पर सूर्यास्त",
    "บนชายหาด",
    "שקיעה מעל הים",
    "해변의 일몰",
    "ηλιοβασίλεμα",
    "chien sans laisse",
    "pas de neige",
    "Straße in Köln",
    "İstanbul'da bir kedi",
    "xe đạp màu đỏ",
    "e\u0301te\u0301",
    "\u202eabc\u202c",
    # punctuation, numbers, prices, chess, code, hashtags, emoji
    "?",
    "...",
    "what is this?",
    "a (small) dog",
    "((((",
    "[cat] {dog} <bird>",
    "cat | dog",
    "cat & dog",
    "cat && dog || bird",
    "cat OR dog",
    "NOT dog",
    "cat AND dog",
    "50% off",
    "$5.99",
    "€5,99",
    "-$5",
    "5€ - 10€",
    "2+2=4",
    "1/2 a pint",
    "24 / 7 shop",
    "1. e4 e5 2. Nf3 Nc6",
    "O-O-O",
    "Qxf7#",
    "e8=Q+",
    "if (x < 0) { x++; }",
    "for i in range(10): pass",
    "git commit --amend -",
    "a -> b -> c",
    "#sunset #beach",
    "@someone",
    "🐶",
    "🐶 + 🐱",
    "👨‍👩‍👧 on the beach",
    "<3",
    ":-)",
    ":-D smile",
    "a ;-) wink",
    "100°",
    "3:2",
    "f/2.8 at night",
    "ISO 100 / 50 mm",
    "https://example.com a page",
    "mailto:me@example.com",
    "me@example.com",
    "example.com",
    "~",
    "~ home",
    "\\",
    "a\\b",
    "%s %d %n",
    "\x00",
    "dog\x00cat",
    "dog\udcffcat",
    "\ud800",
    "\x1b[31mred",
    "a\tb",
    "two\nlines",
    "double  space",
    "jpg",
    ".",
    "no.txt",
    "plain",
    "black/white cat",
    "text --verbatim",
    "; drop table photos; --",
)

# typed, words, pictures, terms, negatives
MEANINGS = (
    ("beach -people -umbrella", "beach", [], [], ["people", "umbrella"]),
    ("-people beach", "beach", [], [], ["people"]),
    ("-people beach -umbrella", "beach", [], [], ["people", "umbrella"]),
    ("a -people beach", "a beach", [], [], ["people"]),
    ('beach -"two people"', "beach", [], [], ["two people"]),
    ('beach -" two people "', "beach", [], [], ["two people"]),
    ('-"two people" beach', "beach", [], [], ["two people"]),
    ('beach -"two people", sunny', "beach sunny", [], [], ["two people"]),
    ('beach -"a"-"b"', "beach", [], [], ["a", "b"]),
    ('beach -"a"b', "beach b", [], [], ["a"]),
    ('beach -"-5 degrees"', "beach", [], [], ["-5 degrees"]),
    ('beach -"2020"', "beach", [], [], ["2020"]),
    ('beach -"people."', "beach", [], [], ["people."]),
    ("beach -people, -umbrella.", "beach", [], [], ["people", "umbrella"]),
    ("beach -people!", "beach", [], [], ["people"]),
    ("beach -people -people", "beach", [], [], ["people", "people"]),
    ("beach -rock-n-roll", "beach", [], [], ["rock-n-roll"]),
    ("beach -3d", "beach", [], [], ["3d"]),
    ("beach -1960s", "beach", [], [], ["1960s"]),
    ("code -C++", "code", [], [], ["C++"]),
    ("beach -dog's", "beach", [], [], ["dog's"]),
    ("beach -like", "beach", [], [], ["like"]),
    ("beach -and", "beach", [], [], ["and"]),
    ("beach -not -without", "beach", [], [], ["not", "without"]),
    ("海滩 -人", "海滩", [], [], ["人"]),
    ("شاطئ -ناس", "شاطئ", [], [], ["ناس"]),
    ("пляж -люди", "пляж", [], [], ["люди"]),
    ("समुद्र -लोग", "समुद्र", [], [], ["लोग"]),
    ("ビーチ -人", "ビーチ", [], [], ["人"]),
    ("plage -été", "plage", [], [], ["été"]),
    ("plage -\u00c9te\u0301", "plage", [], [], ["Éte\u0301"]),
    ("beach\u3000-people", "beach", [], [], ["people"]),
    ("beach\n-people", "beach", [], [], ["people"]),
    ("a T-shirt -logo", "a T-shirt", [], [], ["logo"]),
    ("-5 degrees -snow", "-5 degrees", [], [], ["snow"]),
    ("not a dog -cat", "not a dog", [], [], ["cat"]),
    ("sunset + harbour -people", "sunset + harbour", [], [], ["people"]),
    ("dog\udc80 -\u00e4\udcff", "dog\udc80", [], [], ["ä\udcff"]),
    # sums
    ("2*sunset + harbour", None, [], [(2, "sunset"), (1, "harbour")], []),
    ("sunset + 2*harbour", None, [], [(1, "sunset"), (2, "harbour")], []),
    ("0.5*sunset + 1.5*the old harbour", None, [], [(0.5, "sunset"), (1.5, "the old harbour")], []),
    ("1*sunset + harbour", None, [], [(1, "sunset"), (1, "harbour")], []),
    ("2*sunset  +  harbour", None, [], [(2, "sunset"), (1, "harbour")], []),
    ("2*sunset + harbour + 3*boats", None, [], [(2, "sunset"), (1, "harbour"), (3, "boats")], []),
    ("2*sunset+harbour + boats", None, [], [(2, "sunset+harbour"), (1, "boats")], []),
    ("2*C++ + 3*code", None, [], [(2, "C++"), (3, "code")], []),
    ("2*sunset + 3 boats", None, [], [(2, "sunset"), (1, "3 boats")], []),
    ("2*a.jpg + sunset", None, [], [(2, "a.jpg"), (1, "sunset")], []),
    ("a.jpg + 2*b.jpg", None, [], [(1, "a.jpg"), (2, "b.jpg")], []),
    ("2*a + b.jpg + sunset", None, [], [(2, "a + b.jpg"), (1, "sunset")], []),
    ("2*my photo.jpg + x -y z.jpg", None, [], [(2, "my photo.jpg"), (1, "x -y z.jpg")], []),
    ("2*sunset + harbour -people", None, [], [(2, "sunset"), (1, "harbour")], ["people"]),
    ("2*sunset -people + harbour", None, [], [(2, "sunset"), (1, "harbour")], ["people"]),
    ("-people 2*sunset + harbour", None, [], [(2, "sunset"), (1, "harbour")], ["people"]),
    ("2*sunset + -people harbour", None, [], [(2, "sunset"), (1, "harbour")], ["people"]),
    ("2*sunset + harbour like a.jpg", None, ["a.jpg"], [(2, "sunset"), (1, "harbour")], []),
    ("2*sunset + harbour like a.jpg -x", None, ["a.jpg"], [(2, "sunset"), (1, "harbour")], ["x"]),
    ("2*a.jpg + cat like b.jpg", None, ["b.jpg"], [(2, "a.jpg"), (1, "cat")], []),
    ("2*looks like rain + sea", None, [], [(2, "looks like rain"), (1, "sea")], []),
    ("2*夕日 + 港", None, [], [(2, "夕日"), (1, "港")], []),
    ("2*T-shirt + 🐶", None, [], [(2, "T-shirt"), (1, "🐶")], []),
    ("2*sunset + x*harbour", None, [], [(2, "sunset"), (1, "x*harbour")], []),
    ("2*sunset + harbour - people", None, [], [(2, "sunset"), (1, "harbour - people")], []),
    ("2*sunset", "sunset", [], [], []),
    ("0.5*old harbour", "old harbour", [], [], []),
    ("5*hotel", "hotel", [], [], []),
    ("2*sunset -people", "sunset", [], [], ["people"]),
    ("2*-people", "-people", [], [], []),
    ("2*a.jpg", None, ["a.jpg"], [], []),
    ("2*sunset like a.jpg", "sunset", ["a.jpg"], [], []),
    # pictures
    ("like a.jpg and like b.jpg", None, ["a.jpg", "b.jpg"], [], []),
    ("like a.jpg like b.jpg", None, ["a.jpg", "b.jpg"], [], []),
    ("LIKE a.jpg AND LIKE b.jpg", None, ["a.jpg", "b.jpg"], [], []),
    ("a.jpg and like b.jpg", None, ["a.jpg", "b.jpg"], [], []),
    ("a.jpg like b.jpg", None, ["a.jpg", "b.jpg"], [], []),
    ("like a.jpg and like a.jpg", None, ["a.jpg", "a.jpg"], [], []),
    ("red like a.jpg and like b.jpg and like this.jpg", "red", ["a.jpg", "b.jpg", "this.jpg"], [], []),
    ("red and like a.jpg", "red", ["a.jpg"], [], []),
    ("a.jpg -people", None, ["a.jpg"], [], ["people"]),
    ("-people a.jpg", None, ["a.jpg"], [], ["people"]),
    ("red dress like this.jpg -people", "red dress", ["this.jpg"], [], ["people"]),
    ("red dress -people like this.jpg", "red dress", ["this.jpg"], [], ["people"]),
    ("like a.jpg -people and like b.jpg -cars", None, ["a.jpg", "b.jpg"], [], ["people", "cars"]),
    ("like -people a.jpg", None, ["a.jpg"], [], ["people"]),
    ("rain li -x ke like -y a.jpg", "rain li ke", ["a.jpg"], [], ["x", "y"]),
    ("like my photo.jpg", None, ["my photo.jpg"], [], []),
    ("my photo.jpg -people", None, ["my photo.jpg"], [], ["people"]),
    ("a + b.jpg", None, ["a + b.jpg"], [], []),
    ("red like a + b.jpg", "red", ["a + b.jpg"], [], []),
    ("x -y z.jpg", None, ["x -y z.jpg"], [], []),
    ("x -y z.jpg -people", None, ["x -y z.jpg"], [], ["people"]),
    ("red like x -y z.jpg -people", "red", ["x -y z.jpg"], [], ["people"]),
    ("-people like x -y z.jpg", None, ["x -y z.jpg"], [], ["people"]),
    ("-dash.jpg", None, ["-dash.jpg"], [], []),
    ("like -dash.jpg", None, ["-dash.jpg"], [], []),
    ("beach -dash.jpg", "beach", [], [], ["dash.jpg"]),
    ("two like one.jpg", None, ["two like one.jpg"], [], []),
    ("red like two like one.jpg", "red", ["two like one.jpg"], [], []),
    ("looks like rain.jpg", None, ["looks like rain.jpg"], [], []),
    ("like salt and pepper.jpg and like a.jpg", None, ["salt and pepper.jpg", "a.jpg"], [], []),
    ("like it's.png", None, ["it's.png"], [], []),
    ('like say "hi" now.jpg', None, ['say "hi" now.jpg'], [], []),
    ('like odd -"quote.jpg', None, ['odd -"quote.jpg'], [], []),
    ('-"two words" like odd -"quote.jpg', None, ['odd -"quote.jpg'], [], ["two words"]),
    ("2*x.jpg", None, ["2*x.jpg"], [], []),
    ("like like.jpg", None, ["like.jpg"], [], []),
    ("like like like.jpg", "like", ["like.jpg"], [], []),
    ("红色 like 猫.jpg", "红色", ["猫.jpg"], [], []),
    ("أحمر like صورة.png", "أحمر", ["صورة.png"], [], []),
    ("red like IMG_0001.HEIC", "red", ["IMG_0001.HEIC"], [], []),
    ("red like ./sub/../a.jpg", "red", ["a.jpg"], [], []),
    ("like sub/../a.jpg and like sub/../b.jpg", None, ["a.jpg", "b.jpg"], [], []),
    ("like sub/IMG 1 and like sub/c.jpg", None, ["sub/IMG 1", "sub/c.jpg"], [], []),
    ("I like red like a.jpg", "I like red", ["a.jpg"], [], []),
    ("-5 degrees like a.jpg", "-5 degrees", ["a.jpg"], [], []),
    ("sunset + harbour like a.jpg", "sunset + harbour", ["a.jpg"], [], []),
    ("not red like a.jpg", "not red", ["a.jpg"], [], []),
)

# typed, message
REFUSALS = (
    ("like a.jpg in the snow", "a.jpg: write a picture at the end of a query, after `like`"),
    ("like a.jpg in the snow like b.jpg", "a.jpg: write a picture at the end of a query, after `like`"),
    ("like a.jpg, like b.jpg", "a.jpg: write a picture at the end of a query, after `like`"),
    ("red like a.jpg!", "a.jpg: write a picture at the end of a query, after `like`"),
    ("looks like this.jpg but darker", "this.jpg: write a picture at the end of a query, after `like`"),
    ("a.jpg, please", "a.jpg: write a picture at the end of a query, after `like`"),
    ("a.jpg in red", "a.jpg: write a picture at the end of a query, after `like`"),
    ("a.jpg + red", "a.jpg: write a picture at the end of a query, after `like`"),
    ('red like "a.jpg"', "a.jpg: write a picture at the end of a query, after `like`"),
    ("2*(sunset + harbour)", "(sunset: no brackets, quotes or differences after a weight"),
    ('2*"red dress" + sea', '"red dress": no brackets, quotes or differences after a weight'),
    ("2*sunset - harbour", "sunset - harbour: no brackets, quotes or differences after a weight"),
    ("./nothing", "./nothing: no such picture"),
    ("sub/nothing", "sub/nothing: no such picture"),
    ("-people", "-people: the query only excludes"),
    ('-people -"two dogs"', '-people -"two dogs": the query only excludes'),
    ('beach -"two people', '-"two: the closing quote is missing'),
    ('beach -"', '-": the closing quote is missing'),
    ('beach -""', '-"": nothing between the quotes'),
    ('beach -"  "', '-"  ": nothing between the quotes'),
    ("0*sunset", "0*: not a weight"),
    ("0*sunset + harbour", "0*: not a weight"),
    ("0.00*sunset + harbour", "0.00*: not a weight"),
    ("sunset + 1e999*harbour", "1e999*: not a weight"),
    ("1e3*sunset", "1e3*: not a weight"),
    (".5*sunset + harbour", ".5*: not a weight"),
    ("1,5*sunset + harbour", "1,5*: not a weight"),
    ("9" * 400 + "*sunset", "9" * 200 + "...*: not a weight"),
    ("-2*sunset + harbour", "-2*sunset: a weight must be above 0"),
    ("harbour -0.5*sunset", "-0.5*sunset: a weight must be above 0"),
    ("2*sunset +", "a + with nothing next to it"),
    ("2*sunset + + harbour", "a + with nothing next to it"),
    ("+ 2*sunset", "a + with nothing next to it"),
    ("2*sunset + -people", "a + with nothing next to it"),
    ("2*dog like a.jpg + cat", "like a.jpg: write it at the end of a query"),
    ("2*gone.jpg + cat", "gone.jpg: no such picture"),
    ("gone.jpg -people", "gone.jpg: no such picture"),
    ("red like gone.jpg -people", "gone.jpg: no such picture"),
    ("like a.jpg and like gone.jpg", "gone.jpg: no such picture"),
    ("like gone.jpg and like a.jpg", "gone.jpg: no such picture"),
    ("https://example.com/dog.jpg", "https://example.com/dog.jpg: no such picture"),
    ("like sub/", "sub/: is a folder, not a picture"),
    ("two\x00.jpg", "two\\x00.jpg: no such picture"),
    ("~\x00/x", "~\\x00/x: no such picture"),
    ("~\ud800/x", "~\\ud800/x: no such picture"),
)


def test_there_are_enough_of_them():
    typed = [*THEMSELVES, *(row[0] for row in MEANINGS), *(row[0] for row in REFUSALS)]
    assert len(set(typed)) == len(typed) >= 200


@pytest.mark.parametrize("typed", THEMSELVES)
def test_words_mean_themselves(album, typed):
    assert parse(typed) == Query(typed, text=typed.strip())


@pytest.mark.parametrize(("typed", "text", "images", "terms", "negatives"), MEANINGS)
def test_what_a_person_would_say_it_means(album, typed, text, images, terms, negatives):
    query = parse(typed)
    assert query == Query(
        typed,
        text=text,
        images=tuple(os.path.join(album, name) for name in images),
        terms=tuple(_term(album, weight, what) for weight, what in terms),
        negatives=tuple(negatives),
    )


def _term(album: str, weight: float, what: str) -> Term:
    if what in NAMES:
        return Term(image=os.path.join(album, what), weight=weight)
    return Term(text=what, weight=weight)


def test_a_slash_inside_a_word_is_no_path_where_no_folder_is(album):
    for typed in ("AC/DC", "24/7", "N/A", "and/or", "https://example.com/cats"):
        assert parse(typed).text == typed, typed


@pytest.mark.parametrize(
    ("base", "options", "line"),
    [
        ("-5 degrees", {"negatives": ("cat",), "any_of": ("dog",)}, "--text '-5 degrees' --any dog --not cat"),
        (None, {"any_of": ("a.jpg", "dog"), "verbatim": True}, "--any a.jpg --any dog"),
        ("make it red like a.jpg", {}, "--text red --image {}/a.jpg"),
        ("2*sunset + 0.0000001*a.jpg -x", {}, "'2*sunset + 0.0000001*{}/a.jpg' --not x"),
        (
            "the dog",
            {"more_like": ("my photo.jpg",), "less_like": ("it's.png",), "any_of": ("cat",), "all_of": ("a b",)},
            "--text 'the dog' --any cat --all 'a b' --more-like '{0}/my photo.jpg' --less-like '{0}/it'\"'\"'s.png'",
        ),
        (
            None,
            {"images": ("this.jpg",), "change_from": "blue dress", "change_to": "red dress", "negatives": ("a",)},
            "--from 'blue dress' --to 'red dress' --image {}/this.jpg --not a",
        ),
    ],
)
def test_as_options_shows_a_query_as_arguments(album, base, options, line):
    query = combine(parse(base) if base else None, **options)
    assert as_options(query) == line.format(album)


@pytest.mark.parametrize(("typed", "message"), REFUSALS)
def test_what_cannot_be_meant_is_refused_by_name_and_with_a_next_step(album, typed, message):
    with pytest.raises(QueryError) as caught:
        parse(typed)
    assert str(caught.value) == message
    assert caught.value.hint


# ---- Round trips -----------------------------------------------------------------------------------------------------


def assert_round_trip(typed: str) -> None:
    """A query has a spelling that is parsed as the same query, and options that make the same query."""
    with contextlib.suppress(QueryError):
        query = parse(typed)
        line = spelling_of(query)
        assert line is not None or query.text or query.terms or query.images
        if line is not None:
            assert meaning_of(parse(line)) == meaning_of(query), line
            assert spelling_of(parse(line)) == line
        elif not query.terms:
            again = combine(explicit(query.text, query.images), negatives=query.negatives)
            assert meaning_of(again) == meaning_of(query)


PIECES = st.sampled_from(
    """beach red sunset like LIKE and AND + - -- -people -"two words" -"x -5 -3d -1960s. 2*sunset 0.5*x 1*like 2*-x
    2*-"a 1*a.jpg 3*and b" a.jpg b.jpg gone.jpg my photo.jpg x -y z.jpg + b.jpg two one.jpg -dash.jpg sub/IMG 1
    sub/../a.jpg ./a.jpg odd -"quote.jpg 猫 -猫 猫.jpg make it same but change to please, C++ T-shirt without not "
    -" -"" -",  / ~ . 4*4 2* * 1*3 "hi" say now.jpg""".split(" ")
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=2000 if IS_LONG else 150)
@given(st.lists(PIECES, max_size=9), st.sampled_from([" ", " ", "  ", "\t", "\u3000", ""]))
@example(["2*make", "it", "red", "like", "a.jpg"], " ")
@example(["salt", "and", "and", "like", "a.jpg"], " ")
@example(["like", "-y", "a.jpg"], " ")
def test_a_query_of_operators_has_a_spelling(album, pieces, gap):
    assert_round_trip(gap.join(pieces))


@settings(max_examples=1000 if IS_LONG else 100)
@given(st.text(st.characters(exclude_categories=()), max_size=40))
@example("\ud800 -\udfff")
@example("\x00 -a\x00")
def test_any_text_has_a_spelling(album, typed):
    assert_round_trip(typed)


@pytest.mark.parametrize("typed", [*THEMSELVES, *(row[0] for row in MEANINGS)])
def test_every_listed_query_has_a_spelling(album, typed):
    assert meaning_of(parse(spelling_of(parse(typed)))) == meaning_of(parse(typed))


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("beach  -people", "beach -people"),
        ('-"people" -"two dogs" beach', 'beach -people -"two dogs"'),
        ("2.0*sunset + 0.50*harbour", "2*sunset + 0.5*harbour"),
        ("1*sunset + harbour", "1*sunset + harbour"),
        ("2*sunset", "sunset"),
        ("2*-people", "1*-people"),
        ("red LIKE a.jpg", "red like {}/a.jpg"),
        ("a.jpg", "{}/a.jpg"),
        ("a.jpg like b.jpg -x", "like {0}/a.jpg and like {0}/b.jpg -x"),
        ("red and and like a.jpg", "red and and like {}/a.jpg"),
        ("make it red like a.jpg", "red like {}/a.jpg"),
        ("0.0000001*a + b", "0.0000001*a + b"),
    ],
)
def test_the_plainest_spelling(album, typed, line):
    assert spelling_of(parse(typed)) == line.format(album)


def test_a_spelling_avoids_the_name_of_another_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"x")
    query = parse("-people a.jpg")
    (tmp_path / "a.jpg -people").write_bytes(b"x")
    line = spelling_of(query)
    assert line != f"{tmp_path}/a.jpg -people"
    assert meaning_of(parse(line)) == meaning_of(query)


# ---- Natural and verbatim --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "text", "negatives"),
    [
        ("a man without a shirt", "a man", ["a shirt"]),
        ("A dog not on a leash .", "A dog", ["on a leash"]),
        ("a beach without people, at dawn", "a beach at dawn", ["people"]),
        ("a beach without people but with dogs", "a beach but with dogs", ["people"]),
        ("a beach WITHOUT people and without dogs", "a beach", ["people", "dogs"]),
        ("a beach without people -umbrella", "a beach", ["people", "umbrella"]),
        ("not people, a beach", "a beach", ["people"]),
        ("a beach without", "a beach without", []),
        ("a knot, withouts, cannot", "a knot, withouts, cannot", []),
        ("a beach without something like rain", "a beach", ["something like rain"]),
        ("a beach - people", "a beach - people", []),
    ],
)
def test_without_and_not_leave_out_under_natural(album, typed, text, negatives):
    query = parse(typed, natural=True)
    assert (query.text, list(query.negatives)) == (text, negatives)


def test_natural_negation_ends_where_a_picture_or_the_next_term_begins(album):
    query = parse("red without stripes and like a.jpg", natural=True)
    assert (query.text, query.negatives, query.images) == ("red", ("stripes",), (f"{album}/a.jpg",))
    query = parse("a.jpg without people", natural=True)
    assert (query.text, query.negatives, query.images) == (None, ("people",), (f"{album}/a.jpg",))
    query = parse("2*sunset without people + harbour", natural=True)
    assert query.terms == (Term(text="sunset", weight=2.0), Term(text="harbour"))
    assert query.negatives == ("people",)


def test_natural_negation_of_a_picture_names_the_option_for_it(album):
    with pytest.raises(QueryError, match=r"not like a\.jpg: only words") as caught:
        parse("dog not like a.jpg", natural=True)
    assert caught.value.hint == "--less-like a.jpg"


@pytest.mark.parametrize(
    "typed", ["beach -people", "2*sunset + harbour", "red like a.jpg", "a.jpg", "gone.jpg", '-"', "0*x", "-people"]
)
def test_verbatim_takes_everything_as_words(album, typed):
    assert parse(typed, verbatim=True) == Query(typed, text=typed)
    assert parse(typed, verbatim=True, natural=True) == Query(typed, text=typed)


# ---- Instructions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("make it red", "red"),
        ("Make it look like a painting", "a painting"),
        ("turn it into a cartoon", "a cartoon"),
        ("change to a blue dress", "a blue dress"),
        ("same but at night", "at night"),
        ("the same, but make it red", "red"),
        ("please put her on a horse", "on a horse"),
        ("but in winter", "in winter"),
        ("make it", None),
    ],
)
def test_instructions_are_taken_off_the_words_beside_a_picture(album, words, left):
    query = parse(f"{words} like a.jpg")
    assert (query.text, query.as_written) == (left, words)
    query = combine(parse(words), images=("a.jpg",))
    assert (query.text, query.as_written) == (left, words)


@pytest.mark.parametrize(
    "words", ["butterfly", "a remake it seems", "same dog", "makeup", "please-touch museum", "mach es rot", "changes"]
)
def test_words_that_only_begin_alike_stay(album, words):
    query = parse(f"{words} like a.jpg")
    assert (query.text, query.as_written) == (words, None)


def test_instructions_stay_where_there_is_no_picture_and_where_they_are_asked_for_verbatim(album):
    assert parse("make it red").text == "make it red"
    query = combine(parse("make it red", verbatim=True), images=("a.jpg",), verbatim=True)
    assert (query.text, query.as_written) == ("make it red", None)
    query = combine(explicit("make it red", ("a.jpg",)), negatives=("stripes",))
    assert (query.text, query.as_written) == ("make it red", None)


# ---- Options ---------------------------------------------------------------------------------------------------------


def test_not_is_the_same_inside_the_query_and_as_an_option(album):
    assert meaning_of(combine(parse("beach"), negatives=("people", "umbrella"))) == meaning_of(
        parse("beach -people -umbrella")
    )


def test_a_change_from_and_to_needs_a_picture_and_no_other_words(album):
    query = combine(None, images=("this.jpg",), change_from="blue dress", change_to="red dress")
    assert (query.change_from, query.text, query.images) == ("blue dress", "red dress", (f"{album}/this.jpg",))
    assert query.typed == "--from 'blue dress' --to 'red dress' --image this.jpg"
    assert meaning_of(combine(parse("this.jpg"), change_from="blue dress", change_to="red dress")) == meaning_of(query)


@pytest.mark.parametrize(
    ("base", "options", "error", "message"),
    [
        (None, {}, UsageError, "nothing to search for"),
        (None, {"negatives": ("x", "y z")}, QueryError, '-x -"y z": the query only excludes'),
        (None, {"less_like": ("a.jpg",)}, QueryError, "--less-like alone: the query only excludes"),
        (None, {"change_from": "x", "images": ("a.jpg",)}, UsageError, "--from without --to"),
        (None, {"change_to": "x", "images": ("a.jpg",)}, UsageError, "--to without --from"),
        (None, {"change_from": "x", "change_to": "y"}, UsageError, "--from and --to need a picture"),
        (
            "dog",
            {"change_from": "x", "change_to": "y"},
            UsageError,
            "--from and --to cannot be combined with other words",
        ),
        (
            "2*a + b like a.jpg",
            {"change_from": "x", "change_to": "y"},
            UsageError,
            "--from and --to cannot be combined with other words",
        ),
        ("a.jpg", {"change_from": " ", "change_to": "y"}, QueryError, "--from is empty"),
        ("dog", {"images": ("gone.jpg",)}, QueryError, "gone.jpg: no such picture"),
        ("dog", {"more_like": ("gone.jpg",)}, QueryError, "gone.jpg: no such picture"),
        ("dog", {"less_like": ("sub",)}, QueryError, "sub: is a folder, not a picture"),
        ("dog", {"less_like": ("",)}, QueryError, "--less-like: empty file name"),
        ("dog", {"negatives": ("  ",)}, QueryError, "--not is empty"),
        (None, {"any_of": ("gone.jpg",)}, QueryError, "gone.jpg: no such picture"),
        (None, {"all_of": ("",)}, QueryError, "--all is empty"),
    ],
)
def test_options_that_make_no_sense_say_so(album, base, options, error, message):
    with pytest.raises(ImgsearchError) as caught:
        combine(parse(base) if base else None, **options)
    assert (type(caught.value), str(caught.value), caught.value.exit_code) == (error, message, 2)


def test_more_like_alone_searches_by_those_pictures(album):
    query = combine(None, more_like=("a.jpg", "b.jpg"), less_like=("this.jpg",))
    assert (query.images, query.more_like) == ((f"{album}/a.jpg", f"{album}/b.jpg"), ())
    assert query.less_like == (f"{album}/this.jpg",)
    query = combine(parse("dog"), more_like=("a.jpg",), less_like=("b.jpg",))
    assert (query.text, query.images) == ("dog", ())
    assert (query.more_like, query.less_like) == ((f"{album}/a.jpg",), (f"{album}/b.jpg",))


def test_alternatives_are_pictures_by_the_rule_for_a_bare_word_and_else_words(album):
    query = combine(None, any_of=("cat", "a.jpg"), all_of=("2*x", "-dog", "sub/IMG 1"))
    assert query.any_of == (Term(text="cat"), Term(image=f"{album}/a.jpg"))
    assert query.all_of == (Term(text="2*x"), Term(text="-dog"), Term(image=f"{album}/sub/IMG 1"))
    assert query.typed == "--any cat --any a.jpg --all '2*x' --all -dog --all 'sub/IMG 1'"
    assert combine(None, any_of=("a.jpg",), verbatim=True).any_of == (Term(text="a.jpg"),)


def test_relative_names_in_options_are_relative_to_the_directory(album, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    query = combine(parse("red like a.jpg", directory=album), images=("b.jpg",), any_of=("a.jpg",), directory=album)
    assert query.images == (f"{album}/a.jpg", f"{album}/b.jpg")
    assert query.any_of == (Term(image=f"{album}/a.jpg"),)


def test_as_options_quotes_for_a_shell(album):
    query = combine(parse("red like a.jpg", verbatim=True), negatives=('two "big" dogs',))
    assert shlex.split(as_options(query)) == ["--text", "red like a.jpg", "--not", 'two "big" dogs']


# ---- Hostile sizes ---------------------------------------------------------------------------------------------------

MILLION = 1_000_000 if IS_LONG else 250_000
# A quadratic step takes minutes of CPU time, the slowest of these 3 seconds.
SECONDS = 30
TAILS = ("", "*x + y", "x", " like a.jpg")


@pytest.mark.parametrize(
    "piece",
    [
        *("-a ", "c -a ", "like ", "like . ", "like / ", "like a.jpg ", "like gone.jpg ", "and like ", "(", "2*a + "),
        *(
            "+ ",
            '-"',
            '-"a ',
            "word ",
            "x",
            "not ",
            "make it ",
            "-a.b ",
            "/",
            "../",
            "~",
            "1.",
            "-1.",
            "-9",
            "9",
            "\x00",
        ),
    ],
)
def test_a_megabyte_is_answered_or_refused_in_time(album, piece):
    with cpu_seconds(SECONDS):
        for tail in TAILS if IS_LONG else TAILS[len(piece) % 4 :][:1]:
            with contextlib.suppress(QueryError):
                parse(piece * (MILLION // len(piece) // 4) + tail, natural=piece == "not ")


def test_ten_thousand_terms_are_a_sum(album):
    query = parse(" + ".join(f"2*word{n}" for n in range(10_000)))
    assert len(query.terms) == 10_000
    assert meaning_of(parse(spelling_of(query))) == meaning_of(query)


def test_a_refusal_of_a_megabyte_is_short(album):
    with pytest.raises(QueryError) as caught:
        parse("-a " * (MILLION // 3))
    assert len(str(caught.value)) < 400
    with pytest.raises(QueryError, match="may name too many pictures") as caught:
        parse("like gone.jpg " * (MILLION // 20))
    assert len(str(caught.value)) < 400
    assert len(caught.value.hint or "") < 400
