"""In a real terminal (tmux): what is on the screen during index, query and dupes, and what is left of it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from conftest import PATIENCE_SECONDS, wait_until

HALF_BLOCK = "▀"
COPIES = 10


class Screen:
    """A shell in tmux, on a server of its own."""

    def __init__(self, folder, columns: int = 80, rows: int = 40, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in NOT_KEPT}
        self._server = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self.run(
            "new-session", "-d", "-x", str(columns), "-y", str(rows), "env", "PS1=ready> ", "sh", "-i",
            env={**kept, "TERM": "xterm-256color", **environment}, cwd=folder,
        )  # fmt: skip
        self.until("^ready>")

    def run(self, *arguments: str, **how) -> str:
        done = subprocess.run(
            [*self._server, *arguments], capture_output=True, check=True, timeout=PATIENCE_SECONDS, **how
        )
        return done.stdout.decode()

    def close(self) -> None:
        subprocess.run([*self._server, "kill-server"], capture_output=True, check=False, timeout=PATIENCE_SECONDS)

    def type(self, line: str) -> None:
        """Type a line on an empty screen, so that nothing on it is from the command before."""
        self.run("send-keys", "-R")
        self.run("send-keys", "-l", line)
        self.run("send-keys", "Enter")

    def start(self, *arguments: str) -> None:
        """Run the command, then print its exit code."""
        command = [sys.executable, "-P", "-m", "imgsearch", *arguments]
        self.type(f"clear; {shlex.join(command)}; echo code $?")

    def look(self, *options: str) -> str:
        """The screen. With -J, lines that the terminal folded are whole, unless it was resized since."""
        return self.run("capture-pane", "-p", *options)

    def until(self, pattern: str, *options: str) -> str:
        """The screen, once it shows the pattern."""
        shown = ""

        def is_shown() -> bool:
            nonlocal shown
            shown = self.look(*options)
            return re.search(pattern, shown, re.MULTILINE) is not None

        try:
            wait_until(is_shown, f"{pattern!r} on the screen")
        except AssertionError:
            raise AssertionError(f"{pattern!r} does not appear in:\n{shown}") from None
        return shown

    def end(self, *options: str) -> str:
        return self.until(r"^code \d+$", *options)

    def resize(self, columns: int) -> None:
        self.run("resize-window", "-x", str(columns), "-y", "40")


NOT_KEPT = frozenset(
    "TMUX TERM_PROGRAM LC_TERMINAL NO_COLOR CLICOLOR CLICOLOR_FORCE COLUMNS LINES CI COLORTERM".split()
)


@pytest.fixture
def screen(tmp_path, photos, monkeypatch):
    if shutil.which("tmux") is None:
        if os.environ.get("IMGSEARCH_REQUIRE_SHELLS") == "1":
            pytest.fail("tmux is not installed, and IMGSEARCH_REQUIRE_SHELLS=1 asks for it")
        pytest.skip("tmux is not installed")
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "index"))
    screens = []

    def opened(columns: int = 80, **environment: str) -> Screen:
        screens.append(Screen(tmp_path, columns, **environment))
        return screens[-1]

    yield opened
    for each in screens:
        each.close()


@pytest.fixture
def many(photos, rigged):
    """66 photos, 6 of them different, and a broken one whose name would steer a terminal."""
    for path in list(photos.iterdir()):
        rigged(path, f"slow {photos.parent / 'slow'}", path)
        for number in range(COPIES):
            (photos / f"{path.stem}-{number:02}.jpg").write_bytes(path.read_bytes() + bytes([number]))
    (photos / "a\x1b[31mb\nc.jpg").write_bytes(b"no picture at all")
    return photos


@pytest.fixture
def slow(many):
    """While this file exists, each photo takes a second: a run lasts until the test has seen what it wants."""
    path = many.parent / "slow"
    path.touch()
    return path


@pytest.fixture
def indexed(imgsearch, photos):
    (photos / "lemon.jpg").rename(photos / "le\x1b[31mm\non.jpg")
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    assert imgsearch("query", "fruit").code == 0
    return imgsearch


INDEX = ("index", "photos", "--model", "builtin", "--workers", "1", "--batch-size", "1")


@pytest.mark.parametrize(
    ("columns", "bar"),
    [
        (200, r"^indexing +\d+%\|[█▏▎▍▌▋▊▉ ]+\| [1-9]\d*/67 \[\d\d:\d\d<\d\d:\d\d, .* photos/s, 1 skipped\]$"),
        (80, r"^indexing +\d+%\|[█▏▎▍▌▋▊▉ ]+\| [1-9]\d*/67 \[\d\d:\d\d<\d\d:\d\d, .* photos/s, 1 skipped\]$"),
        (40, r"^ +\d+%\|[█▏▎▍▌▋▊▉ ]+\| [1-9]\d*/67 \d\d:\d\d$"),
        (20, r"^[1-9]\d*/67$"),
    ],
)
def test_a_bar_appears_in_the_form_that_fits_and_leaves_nothing(screen, slow, columns, bar):
    terminal = screen(columns)
    terminal.start(*INDEX)
    terminal.until(bar)
    slow.unlink()
    shown = "".join(terminal.end("-J").split())
    assert "/67" not in shown and "█" not in shown
    assert r"a\x1b[31mb\nc.jpg:notapicture" in shown, "shown whole, and steering nothing"
    assert "indexed66photos,1skipped" in shown and shown.count("skipped") == 1 and "code3" in shown


def test_an_interrupt_stops_in_order_and_says_so(screen, slow):
    terminal = screen(60)
    terminal.start(*INDEX)
    terminal.until(r"([2-9]|[1-9]\d)/67")
    terminal.run("send-keys", "C-c")
    lines = terminal.end("-J").rstrip().splitlines()
    slow.unlink()
    text = "\n".join(lines)
    done = re.search(r"indexed (\d+) photos?,", text)
    assert done and 0 < int(done[1]) < 66
    assert "imgsearch: stopped; what is indexed is kept. To continue, run the same command again" in lines
    assert "code 130" in lines and "Traceback" not in text
    assert "/67" not in text and "^C" not in text, "nothing is left of the bar, nor beside it"
    terminal.start(*INDEX)
    assert f"{done[1]} unchanged" in terminal.end("-J"), "and the same command goes on"


def test_a_terminal_that_changes_its_size_keeps_no_pieces_of_bars(screen, slow):
    terminal = screen(120)
    terminal.start(*INDEX)
    terminal.until(r"^indexing .* [1-9]\d*/67 .*skipped\]$")
    terminal.resize(40)
    terminal.until(r"^ +\d+%\|.*\| \d+/67 \d\d:\d\d$")
    assert terminal.look().count("/67") == 1
    terminal.resize(20)
    terminal.until(r"^\d+/67$")
    assert terminal.look().count("/67") == 1
    terminal.resize(100)
    terminal.until(r"^indexing .*/67 .*skipped\]$")
    assert terminal.look().count("/67") == 1
    slow.unlink()
    shown = terminal.end("-J")
    assert "/67" not in shown and "█" not in shown and "indexed 66 photos" in shown


def test_columns_wins_over_the_terminal(screen, slow):
    terminal = screen(100, COLUMNS="30")
    terminal.start(*INDEX)
    assert "photos/s" not in terminal.until(r"^[1-9]\d*/67$")


@pytest.mark.parametrize("environment", [{"CI": "true"}, {"TERM": "dumb"}])
def test_where_nobody_watches_there_is_no_bar(screen, many, environment):
    terminal = screen()
    terminal.type(f"export {shlex.join(f'{name}={value}' for name, value in environment.items())}")
    command = shlex.join([sys.executable, "-P", "-m", "imgsearch", *INDEX])
    terminal.run("pipe-pane", "-o", "cat >> everything")
    terminal.type(f"{command}; echo code $?")
    terminal.end()
    written = (many.parent / "everything").read_bytes()
    assert b"indexed 66 photos" in written and b"/67" not in written


def test_a_pipe_is_silent_until_the_end(screen, many):
    terminal = screen(100)
    command = shlex.join([sys.executable, "-P", "-m", "imgsearch", *INDEX])
    terminal.type(f"clear; {command} 2>said; echo code $?")
    terminal.end()
    said = (many.parent / "said").read_bytes()
    assert b"\r" not in said and b"\x1b" not in said and len(said.splitlines()) == 3


def test_scores_and_folders_are_dim_and_names_are_links(screen, indexed, photos):
    terminal = screen(150)
    terminal.start("query", "fruit", "--no-server", "-n", "6")
    shown = terminal.end("-e").splitlines()
    hits = [line for line in shown if "/photos/" in line]
    assert len(hits) == 6 and all(line.startswith("\x1b[2m  0.") for line in hits)
    (odd,) = [line for line in hits if r"le\x1b[31mm\non.jpg" in line]
    assert re.search(r"\x1b\[2m\S*/photos/\x1b\[0m[^m]*m*.*le\\x1b\[31mm\\non\.jpg", odd), odd


def test_a_date_in_the_words_gets_a_hint_that_quiet_leaves_out(screen, indexed):
    shown = screen(160)
    hint = 'imgsearch: to use "july 2023" as a filter instead of words: --natural'
    for arguments, is_hinted in (
        (["fruit", "july", "2023"], True),
        (["fruit", "july", "2023", "-q"], False),
        (["fruit", "july", "2023", "--natural"], False),
        (["a", "summer", "dress"], False),
        (["without", "dogs", "july", "2023"], False),  # which as filters would only exclude
    ):
        shown.start("query", *arguments)
        seen = shown.end()
        assert (hint in seen) == is_hinted, arguments
        assert "only excludes" not in seen


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_answers_are_whole_at_any_width(screen, indexed, photos, columns):
    terminal = screen(columns)
    terminal.start("query", "fruit", "--no-server", "-n", "6")
    shown = "".join(terminal.end("-J").split("\n"))
    for path in photos.iterdir():
        assert str(path).replace("\x1b", r"\x1b").replace("\n", r"\n") in shown


def test_no_color_and_force(screen, indexed):
    terminal = screen(150, NO_COLOR="1")
    terminal.start("query", "fruit", "--no-server", "-n", "2")
    assert "\x1b[2m" not in terminal.end("-e")
    terminal.type("unset NO_COLOR; export CLICOLOR_FORCE=1")
    command = shlex.join([sys.executable, "-P", "-m", "imgsearch", "query", "fruit", "--no-server", "-n", "2"])
    terminal.type(f"clear; {command} | cat; echo code $?")
    shown = terminal.end("-e")
    assert shown.count("\x1b[2m") == 4 and "\x1b]8;" not in shown


def test_errors_are_red(screen, indexed):
    terminal = screen(100)
    terminal.start("query", "like nowhere.jpg")
    shown = terminal.end("-e")
    assert re.search(r"\x1b\[1m\x1b\[31mimgsearch:", shown), shown
    assert "code 2" in shown


@pytest.mark.parametrize("columns", [20, 80])
def test_photos_are_drawn_in_half_blocks_and_fit(screen, indexed, columns):
    terminal = screen(columns)
    terminal.start("query", "fruit", "--no-server", "-n", "1", "--preview")
    drawn = [line for line in terminal.end("-e").splitlines() if HALF_BLOCK in line]
    cells = [line.count(HALF_BLOCK) for line in drawn]
    assert 1 <= len(drawn) <= 11 and len(set(cells)) == 1 and cells[0] <= min(36, columns - 1)
    assert len(set(re.findall(r"[34]8[;:][25][\d;:]+", "".join(drawn)))) > 10, "in many colours"


def test_dupes_shows_progress_and_clears_it(screen, imgsearch, slow):
    slow.unlink()
    assert imgsearch("index", "photos", "--model", "builtin").code == 3
    slow.touch()
    terminal = screen(80, XDG_CACHE_HOME=str(slow.parent / "fresh"))
    command = shlex.join([sys.executable, "-P", "-m", "imgsearch", "dupes", "--workers", "1"])
    terminal.type(f"clear; {command} >found; echo code $?")
    terminal.until(r"^reading: [\d,]+ of 66 \(\d+ %\)$")
    slow.unlink()
    shown = terminal.end("-J")
    assert "of 66" not in shown and shown.splitlines()[0].startswith("imgsearch: 6 groups among 66 photos: 60 copies")
