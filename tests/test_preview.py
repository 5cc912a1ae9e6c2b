"""`--preview` and links on a terminal: pictures in what the terminal speaks, and never anything in a pipe."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time

import pytest

from conftest import PATIENCE_SECONDS, wait_until

COMMAND = (sys.executable, "-P", "-m", "imgsearch", "query", "fruit", "--no-server")
HALF_BLOCK = "▀"


@pytest.fixture
def album(imgsearch, photos, tmp_path):
    """Six photos, one of them with a name that would steer a terminal."""
    (photos / "lemon.jpg").rename(photos / "le\x1b[31mm\non\udcff.jpg")
    assert imgsearch("index", "photos", "--model", "builtin").code == 0
    assert imgsearch("query", "fruit").code == 0  # and quick queries are prepared
    return tmp_path


class Terminal:
    """A command on a terminal of its own, which answers what terminals of a kind answer."""

    def __init__(self, command, folder, *, answers=(), columns=80, pixels=(10, 20), typed=True, **environment) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, columns * pixels[0], 40 * pixels[1]))
        known = {key: value for key, value in os.environ.items() if key not in ("TERM_PROGRAM", "LC_TERMINAL", "TMUX")}
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=theirs if typed else subprocess.PIPE,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**known, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
            start_new_session=True,
        )
        os.close(theirs)
        if not typed:
            process.stdin.close()
        self.shown = self._read(ours, answers)
        self.said = process.stderr.read().decode()
        process.stderr.close()
        self.code = process.wait(PATIENCE_SECONDS)
        os.close(ours)

    def _read(self, ours: int, answers) -> str:
        shown, until = b"", time.monotonic() + PATIENCE_SECONDS
        waiting = dict(answers)
        while time.monotonic() < until:
            if not select.select([ours], [], [], 0.5)[0]:
                continue
            data = b""
            with contextlib.suppress(OSError):  # Linux: the other end is closed
                data = os.read(ours, 1 << 16)
            if not data:
                return shown.decode()
            shown += data
            for asked in [each for each in waiting if each in shown]:
                os.write(ours, waiting.pop(asked))
        raise AssertionError("the command does not end")


ATTRIBUTES, KITTY_QUESTION = b"\x1b[c", b"a=q"
NO_GRAPHICS = {ATTRIBUTES: b"\x1b[?62;22c"}
SIXELS = {ATTRIBUTES: b"\x1b[?62;4;22c"}
KITTY = {ATTRIBUTES: b"\x1b[?62;22c", KITTY_QUESTION: b"\x1b_Gi=1;OK\x1b\\"}


def test_a_terminal_without_graphics_gets_half_blocks(album):
    terminal = Terminal([*COMMAND, "--preview", "-n", "2"], album, answers=NO_GRAPHICS)
    assert terminal.code == 0 and terminal.said == ""
    lines = terminal.shown.splitlines()
    drawn = [line for line in lines if HALF_BLOCK in line]
    assert len(drawn) == 22 and len(lines) >= 24
    assert len(set(re.findall(r"\x1b\[[\d;]*38;2;\d+;\d+;\d+", "".join(drawn)))) > 50, "in colours of the photo"
    assert max(line.count(HALF_BLOCK) for line in drawn) <= 36


def test_a_narrow_terminal_gets_narrow_drawings(album):
    terminal = Terminal([*COMMAND, "--preview", "-n", "1"], album, answers=NO_GRAPHICS, columns=12)
    assert 1 <= max(line.count(HALF_BLOCK) for line in terminal.shown.splitlines()) <= 11


def test_a_terminal_with_sixels_gets_those(album):
    terminal = Terminal([*COMMAND, "--preview", "-n", "2"], album, answers=SIXELS)
    assert len(re.findall(r"\x1bP[\d;]*q", terminal.shown)) == 2 and HALF_BLOCK not in terminal.shown


def test_kitty_gets_its_own_protocol(album):
    terminal = Terminal([*COMMAND, "--preview", "-n", "2"], album, answers=KITTY, COLORTERM="")
    sent = re.findall(r"\x1b_Gi=(\d+),m=[01],f=100,q=2;([^\x1b]*)\x1b\\", terminal.shown)
    numbers = list(dict.fromkeys(number for number, _ in sent))
    assert len(numbers) == 2 and HALF_BLOCK not in terminal.shown
    for number in numbers:
        png = base64.b64decode("".join(data for each, data in sent if each == number))
        assert png.startswith(b"\x89PNG")
        red, green, blue = (int(number) >> shift & 255 for shift in (16, 8, 0))
        assert f"38;2;{red};{green};{blue}m\U0010eeee" in terminal.shown, "where it goes, told by an exact colour"


def test_iterm_gets_the_jpeg_itself(album):
    terminal = Terminal([*COMMAND, "--preview", "-n", "2"], album, TERM_PROGRAM="iTerm.app")
    sent = re.findall(r"\x1b\]1337;File=inline=1;size=(\d+);[^:]*:([\w+/=]+)\a", terminal.shown)
    assert [len(base64.b64decode(data)) for _, data in sent] == [int(size) for size, _ in sent]
    assert len(sent) == 2 and all(base64.b64decode(data).startswith(b"\xff\xd8\xff") for _, data in sent)


def test_without_a_keyboard_nothing_is_asked_and_half_blocks_appear(album):
    terminal = Terminal([*COMMAND, "--preview", "-n", "1"], album, typed=False)
    assert terminal.code == 0 and terminal.said == ""
    assert HALF_BLOCK in terminal.shown and "\x1b[c" not in terminal.shown


def test_a_terminal_that_answers_nothing_gets_half_blocks(album):
    terminal = Terminal([*COMMAND, "--preview", "-n", "1"], album, pixels=(0, 0))
    assert terminal.code == 0 and HALF_BLOCK in terminal.shown
    assert terminal.said == ""


def test_a_dumb_terminal_gets_names_and_a_word(album):
    terminal = Terminal([*COMMAND, "--preview", "-n", "2"], album, TERM="dumb")
    assert len(terminal.shown.splitlines()) == 2 and "\x1b" not in terminal.shown
    assert terminal.said == "imgsearch: --preview: this terminal cannot draw (TERM is dumb or not set)\n"


def test_a_photo_that_is_gone_says_so_in_its_place(album):
    for path in (album / "photos").iterdir():
        path.unlink()
    terminal = Terminal([*COMMAND, "--preview", "-n", "2"], album, answers=NO_GRAPHICS, XDG_CACHE_HOME=str(album / "c"))
    assert terminal.code == 0
    assert terminal.shown.count("(no picture: vanished before it was read)") == 2


def test_a_pipe_gets_what_it_gets_without(album, imgsearch):
    plain = imgsearch("query", "fruit")
    assert imgsearch("query", "fruit", "--preview").out == plain.out
    assert b"\x1b]" not in plain.out and HALF_BLOCK.encode() not in plain.out


@pytest.mark.parametrize("option", ["--json", "-l", "-0", "--fields=path"])
def test_drawings_do_not_go_with_data(imgsearch, option):
    done = imgsearch("query", "fruit", "--preview", option)
    assert done.code == 2 and "--preview cannot be combined" in done.err


def test_names_on_a_terminal_are_links_byte_for_byte_and_steer_nothing(album):
    terminal = Terminal([*COMMAND, "-n", "6"], album, NO_COLOR="1")
    links = re.findall(r"\x1b\]8;;(file://[!-~]+)\x1b\\([^\x1b]*)\x1b\]8;;\x1b\\", terminal.shown)
    assert len(links) == 6
    (address,) = (address for address, name in links if name.endswith("le\\x1b[31mm\\non\\xff.jpg"))
    host = os.uname().nodename
    assert address == f"file://{host}{album}/photos/le%1B%5B31mm%0Aon%FF.jpg"
    assert "\x1b[31m" not in terminal.shown


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"TERM": "linux"}, {"TERM": ""}, {"TERM": "vt100"}, {"FORCE_HYPERLINK": "0"}]
)
def test_terminals_that_know_no_links_get_plain_names(album, environment):
    terminal = Terminal([*COMMAND, "-n", "6"], album, NO_COLOR="1", **environment)
    assert len(terminal.shown.splitlines()) == 6 and "\x1b" not in terminal.shown


def test_links_do_not_depend_on_colours(album):
    assert "\x1b]8;;file://" in Terminal([*COMMAND, "-n", "1"], album, NO_COLOR="1").shown


def test_in_tmux_half_blocks_appear_above_the_names(album):
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    server = ["tmux", "-S", str(album / "tmux"), "-f", "/dev/null"]
    query = " ".join([*COMMAND, "-n", "2", "--preview", "; echo code $?; sleep 600"])
    environment = {key: value for key, value in os.environ.items() if key != "TMUX"} | {"TERM": "xterm-256color"}
    start = [*server, "new-session", "-d", "-x", "90", "-y", "40", "sh", "-c", query]
    subprocess.run(start, cwd=album, env=environment, check=True, timeout=PATIENCE_SECONDS)

    def screen() -> str:
        return subprocess.run([*server, "capture-pane", "-p", "-J"], capture_output=True, check=True).stdout.decode()

    try:
        wait_until(lambda: "code 0" in screen(), "the end of the query")
        shown = screen()
    finally:
        subprocess.run([*server, "kill-server"], check=False, capture_output=True)
    lines = [line.rstrip() for line in shown.rstrip().splitlines()]
    kinds = "".join("#" if set(line) == {HALF_BLOCK} else "n" if ".jpg" in line else "?" for line in lines)
    assert re.fullmatch(r"#{11}n#{11}n\?", kinds), shown
