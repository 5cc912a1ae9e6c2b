"""What is said, and how: errors that say what to do next, colours, `--quiet` and `--verbose`."""

from __future__ import annotations

import ast
import io
import re
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from imgsearch import cli, core
from imgsearch.cli.output import progress, render
from imgsearch.cli.output.hints import HINTS, hint_of
from imgsearch.core import errors

SOURCES = sorted(path for package in (core, cli) for path in Path(package.__path__[0]).rglob("*.py"))
KINDS = {name for name, it in vars(errors).items() if isinstance(it, type) and issubclass(it, errors.ImgsearchError)}
SGR = re.compile(rb"\x1b\[[\d;]*m")


def made_errors(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in KINDS:
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_error_says_what_to_do_next(path):
    """By its own hint, or by the one that the command line has for its class."""
    without = [node for node in made_errors(path) if "hint" not in {word.arg for word in node.keywords}]
    hinted = {kind.__name__ for kind in HINTS}
    assert [ast.unparse(node) for node in without if ast.unparse(node.func).rpartition(".")[2] not in hinted] == []


def test_an_error_without_a_hint_gets_that_of_its_class():
    assert "--wait" in hint_of(errors.IndexLocked("in use"))
    assert hint_of(errors.IndexLocked("in use", hint="stop it")) == "stop it"
    assert hint_of(errors.StoreError("removed")) is None


def test_a_check_finds_errors_where_they_are():
    assert sum(len(list(made_errors(path))) for path in SOURCES) > 150


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "CI"):
        monkeypatch.delenv(name, raising=False)
    yield
    render.set_quiet(False)


@pytest.fixture
def indexed(imgsearch, photos):
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    return imgsearch


# ---- Colours ---------------------------------------------------------------------------------------------------------


class Stream(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("environment", "on_a_terminal", "in_a_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": "0"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"CLICOLOR": "0"}, False, False),
        ({"CLICOLOR": "1"}, True, False),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"CLICOLOR_FORCE": "0"}, True, False),
        ({"CLICOLOR_FORCE": ""}, True, False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False, False),
        ({"CLICOLOR_FORCE": "1", "CLICOLOR": "0"}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "CLICOLOR_FORCE": "1"}, True, True),
    ],
)
def test_where_colours_go(monkeypatch, environment, on_a_terminal, in_a_pipe):
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    assert (render.is_coloured(Stream(True)), render.is_coloured(Stream(False))) == (on_a_terminal, in_a_pipe)


def test_a_pipe_is_plain_unless_forced_and_then_says_the_same(indexed, monkeypatch):
    plain = indexed("query", "a lemon", "-n", "2")
    assert b"\x1b" not in plain.out
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    forced = indexed("query", "a lemon", "-n", "2")
    assert len(SGR.findall(forced.out)) == 8 and SGR.sub(b"", forced.out) == plain.out


@pytest.mark.parametrize("form", [["--json"], ["-l"], ["-0"], ["--fields", "score,path"]])
def test_what_programs_read_is_never_coloured(indexed, monkeypatch, form):
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    found = indexed("query", "a lemon", *form)
    assert found.code == 0 and b"photos/" in found.out and b"\x1b" not in found.out


def test_errors_are_red_and_warnings_yellow(imgsearch, photos, monkeypatch):
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    (photos / "broken.jpg").write_bytes(b"no picture")
    warned = imgsearch("index", "photos", "--model", "builtin")
    assert warned.code == 3 and f"\x1b[33mimgsearch:\x1b[0m {photos}/broken.jpg: not a picture" in warned.err
    failed = imgsearch("similar", "nowhere.jpg")
    assert failed.code == 2 and failed.err.startswith("\x1b[1;31mimgsearch:\x1b[0m nowhere.jpg")


# ---- Quiet and verbose -----------------------------------------------------------------------------------------------

TALKATIVE = ["dupes", "check", "prune", "prune --dry-run", "export x.npz", "calibrate", "init photos"]


@pytest.mark.parametrize("command", TALKATIVE)
def test_quiet_leaves_data_and_exit_code_alone(indexed, photos, command):
    (photos / "copy.jpg").write_bytes((photos / "lemon.jpg").read_bytes())
    assert indexed("index").code == 0
    quiet = indexed(*command.split(), "--quiet")
    talking = indexed(*command.split())
    assert quiet.err == "" and talking.err != ""
    assert (quiet.code, quiet.out) == (talking.code, talking.out)


def test_quiet_notes_and_roots(indexed, photos):
    assert indexed("notes", "add", "photos/lemon.jpg", "sour", "-q").err == ""
    assert indexed("notes", "remove", "photos/lemon.jpg", "-q").err == ""
    photos.rename(photos.parent / "moved")
    moved = indexed("roots", "move", "photos", "moved", "-q")
    assert (moved.code, moved.err) == (0, "")


def test_quiet_hides_what_is_offline_but_no_error(indexed, photos):
    photos.rename(photos.parent / "elsewhere")
    assert indexed("index", "-q").err == ""
    assert "is offline and its photos are hidden" in indexed("query", "lemon").err
    quiet = indexed("query", "lemon", "-q")
    assert (quiet.code, quiet.err) == (1, "")
    failed = indexed("query", "like nowhere.jpg", "-q")
    assert failed.code == 2 and "nowhere.jpg" in failed.err


def test_quiet_lasts_for_one_command(indexed):
    assert indexed("check", "-q").err == ""
    assert "no problems found" in indexed("check").err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "(faster here)"),
        (["--exact"], "(--exact)"),
        (["--under", "photos"], "(faster with these filters)"),
        (["--modality", "any"], "(--modality any)"),
    ],
)
def test_verbose_prints_how_a_query_was_answered(indexed, photos, options, why):
    plain = indexed("query", "a lemon", "-n", "2", "--no-server", *options)
    told = indexed("query", "a lemon", "-n", "2", "--no-server", "-v", *options)
    assert (told.code, told.out) == (plain.code, plain.out)
    asked, index, plan, spent = told.err.splitlines()
    assert asked == "imgsearch: query: a lemon"
    assert index == f"imgsearch: index: {photos.parent}/index (builtin, 6 vectors), answered by this process"
    assert plan.startswith(f"imgsearch: all vectors scanned {why}: 6 of 6 images")
    assert re.fullmatch(r"imgsearch: milliseconds: embed [\d.]+, prepare .*rank .* since the start", spent)


def test_verbose_prints_the_use_of_graphs(indexed):
    assert "HNSW graphs of 6 vectors gave shortlists (--ann): 6 of 6" in indexed("query", "a lemon", "--ann", "-v").err
    assert "HNSW graphs" in indexed("similar", "photos/lemon.jpg", "--ann", "-v").err


def test_verbose_and_explain_say_both(indexed):
    told = indexed("query", "a lemon", "-n1", "-v", "--explain")
    assert told.err.startswith("imgsearch: query: a lemon\n") and "\nread as: --text 'a lemon'\n" in told.err


def test_verbose_prints_what_dupes_and_check_do(indexed):
    said = indexed("dupes", "-v").err  # which reads what it has not read before
    assert re.match(r"(imgsearch: (looking for files|reading|matching): [\d.]+ s\n){2,3}imgsearch: no dup", said)
    assert re.match(r"imgsearch: checking the catalogue: [\d.]+ s\n", indexed("check", "-v").err)


def test_verbose_prune_names_what_it_removes(indexed, photos):
    odd = photos / "le\x1b[31mmon.jpg"
    (photos / "lemon.jpg").rename(odd)
    assert indexed("index").code == 0
    odd.unlink()
    assert indexed("index").code == 0
    shown = f"{photos}/le\\x1b[31mmon.jpg"
    assert f"would remove: {shown}\n" in indexed("prune", "--dry-run", "-v").err
    assert f"removing: {shown}\n" in indexed("prune", "-v").err
    assert shown not in indexed("prune", "-v").err


# ---- Width -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "columns"), [("20", 20), ("0", 80), ("-5", 80), ("wide", 80), ("", 80), ("²", 80), ("9" * 5000, 80)]
)
def test_columns_of_what_is_no_terminal(monkeypatch, told, columns):
    with monkeypatch.context() as patch:  # pytest reads it too
        patch.setenv("COLUMNS", told)
        assert render.columns(Stream(False)) == columns


@pytest.mark.parametrize("told", ["1", "20", "0", "wide", "99999999999999999999"])
def test_no_width_breaks_help_or_answers(indexed, monkeypatch, told):
    with monkeypatch.context() as patch:  # pytest reads it too
        patch.setenv("COLUMNS", told)
        for command in (("query", "--help"), ("query", "a lemon"), ("status",), ("models",)):
            assert indexed(*command).code == 0, command


class Screen(Stream):
    """A terminal, of which only the last drawing counts."""

    def __init__(self) -> None:
        super().__init__(True)

    @property
    def drawn(self) -> str:
        return self.getvalue().rsplit("\r", 2)[-2].removesuffix("\x1b[J")


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Screen()


@pytest.mark.parametrize(
    ("columns", "form"),
    [
        (200, r"indexing  44%\|#+\d?\s*\| 323/731 \[\d\d:\d\d<\d\d:\d\d, .* photos/s\]"),
        (80, r"indexing  44%\|#+\d?\s*\| 323/731 \[\d\d:\d\d<\d\d:\d\d, .* photos/s\]"),
        (40, r" 44%\|#+\d?\s*\| 323/731 \d\d:\d\d"),
        (20, "323/731"),
        (5, "323/"),
        (1, ""),
    ],
)
def test_a_bar_has_the_form_that_fits(screen, monkeypatch, columns, form):
    monkeypatch.setenv("COLUMNS", str(columns))
    with redirect_stderr(screen):
        bar = progress.bar(progress.Line(), total=731, unit=" photos", desc="indexing")
        bar.start_t -= 10
        bar.update(323)
        bar.clear()
        bar.refresh()
    assert re.fullmatch(form, screen.drawn), screen.drawn
    assert len(screen.drawn) < max(1, columns) and len(screen.drawn) <= 76
    with redirect_stderr(screen):
        bar.close()
    assert screen.getvalue().endswith("\r\x1b[J")


def test_a_download_of_unknown_length_has_no_bar(screen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    with redirect_stderr(screen), progress.Download() as download:
        download(1_500_000, None)
    assert re.search(r"downloading 1.50M \[00:00, .*B/s\]|downloading 0.00 \[", screen.getvalue())


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(80, "reading: 7 of 1,000 (0 %)"), (24, "7 of 1,000 (0 %)"), (14, "7 of 1,000"), (8, "0 %"), (3, "0 ")],
)
def test_a_count_has_the_wording_that_fits(screen, monkeypatch, columns, shown):
    monkeypatch.setenv("COLUMNS", str(columns))
    with redirect_stderr(screen):
        progress.Line().count("reading", 7, 1_000)
    assert screen.drawn == shown


@pytest.mark.parametrize(
    "environment", [{"CI": "true"}, {"CI": "1"}, {"TERM": "dumb"}, {"TERM": ""}], ids=lambda e: "=".join(*e.items())
)
def test_nothing_is_drawn_where_nobody_watches(screen, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if environment == {"TERM": ""}:
        monkeypatch.delenv("TERM")
    with redirect_stderr(screen), progress.Line() as line:
        line.count("reading", 7, 1_000)
        progress.Download()(1, 2)
    assert screen.getvalue() == ""


def test_nothing_is_drawn_in_a_pipe_or_in_quiet(screen):
    pipe = Stream(False)
    with redirect_stderr(pipe):
        progress.Line().count("reading", 7, 1_000)
    render.set_quiet(True)
    with redirect_stderr(screen):
        progress.Line().count("reading", 7, 1_000)
    assert screen.getvalue() == pipe.getvalue() == ""
