"""The completion scripts: what is committed is what the app makes, and real shells complete with it."""

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from imgsearch.cli import completion
from imgsearch.cli.command_table import COMMANDS as TABLE
from imgsearch.cli.command_table import Command, within
from imgsearch.cli.options import Option
from imgsearch.core.models import registry
from imgsearch.core.search import composition

from conftest import wait_until

SCRIPTS = Path(__file__).parents[1] / "completions"
FILES = {"bash": "imgsearch", "zsh": "_imgsearch", "fish": "imgsearch.fish"}

COMMANDS = sorted(command.name for command in within("", TABLE))
# Names that a careless script splits, expands, takes for a pattern, or runs.
NASTY = [
    "a space",
    'it\'s "quoted"',
    "[b]ra{ck,et}*?",
    "$HOME",
    "$(touch ran)",
    "`touch ran`",
    ";touch ran;",
    "back\\slash",
    "Sonne über Köln 日本",
    "~tilde",
    "#hash & more",
    "colon:equals=",
]


def made(shell):
    command = [sys.executable, "-P", "-m", "imgsearch", "--show-completion", shell]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("shell", FILES)
def test_committed_script_is_what_the_app_makes(shell):
    assert (SCRIPTS / FILES[shell]).read_bytes() == made(shell), "run: make completions"


def test_zsh_script_says_on_its_first_line_what_it_completes():
    assert (SCRIPTS / "_imgsearch").read_text().startswith("#compdef imgsearch\n")


# ----------------------------------------------------------------------------------------- the three shells

INSERT_ALL = "\x07"
"""^G, bound in bash and zsh to: put every match on the line."""
LEFT = "\x02"

BASHRC = """
PS1='ready''> '
bind 'set bell-style none'
bind 'set enable-bracketed-paste off'
bind '"\\C-g": insert-completions'
. ~/scripts/imgsearch
"""
ZSHRC = """
stty columns 250
PS1='ready''> '
unset zle_bracketed_paste
fpath=(~/scripts $fpath)
autoload -Uz compinit
compinit -u -D
zle -C all-matches complete-word _generic
bindkey '^g' all-matches
zstyle ':completion:all-matches::::' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true
"""
PROGRAM = """#!/bin/sh
if [ "$1" = --complete ]; then
    [ -e ~/offers ] && exec "$(cat ~/offers)" -P -m imgsearch "$@"
    printf '%s\\0' "$@" >>~/asked
    exit 1
fi
printf '%s\\0' "$@" 'end of arguments' >>~/arguments
"""


@pytest.fixture
def home(tmp_path):
    """Each shell's settings, the scripts where it looks for them, and an `imgsearch` that notes its arguments."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "imgsearch").write_text(PROGRAM)
    (home / "bin" / "imgsearch").chmod(0o755)
    (home / ".bashrc").write_text(BASHRC)
    (home / ".zshrc").write_text(ZSHRC)
    (home / "scripts").symlink_to(SCRIPTS)
    (home / "fish" / "completions").mkdir(parents=True)
    (home / "fish" / "completions" / "imgsearch.fish").symlink_to("../../scripts/imgsearch.fish")
    return home


@pytest.fixture
def album(tmp_path):
    album = tmp_path / "album"
    for folder in ["holiday", "holidays 2024", "other"]:
        (album / folder).mkdir(parents=True)
    for name in ["holiday.jpg", "beach.jpg", "holidays 2024/dunes.jpg"]:
        (album / name).touch()
    return album


@pytest.fixture(params=FILES)
def shell(request, home, album):
    return present(request.param, home, album)


@pytest.fixture(params=["bash", "zsh"])
def terminal(request, home, album):
    return present(request.param, home, album)


def present(name, home, album):
    path = shutil.which(name)
    if path is None:
        if os.environ.get("IMGSEARCH_REQUIRE_SHELLS") == "1":
            pytest.fail(f"{name} is not installed, and IMGSEARCH_REQUIRE_SHELLS=1 asks for it")
        pytest.skip(f"{name} is not installed")
    if name == "bash" and subprocess.run([path, "-c", "type compopt"], capture_output=True).returncode:
        pytest.skip("this bash is older than 4: it completes options, and file names for everything else")
    return {"bash": Typed, "zsh": Typed, "fish": Fish}[name](name, path, home, album)


class Shell:
    def __init__(self, name, path, home, folder):
        self.name, self.path, self.home, self.folder = name, path, home, folder
        self.environment = {
            "HOME": str(home),
            "ZDOTDIR": str(home),
            "XDG_CONFIG_HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "PATH": f"{home}/bin:{os.environ['PATH']}",
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }


class Typed(Shell):
    """bash or zsh on a terminal: a line is typed key by key and entered."""

    def offers(self, line):
        """All that completion has for the last word of a line, folders without their slash."""
        given = shlex.split(line)[1:]
        if not line.endswith(" "):
            given.pop()
        arguments = self.enter(line + INSERT_ALL)
        assert arguments[: len(given)] == given
        return sorted(argument.rstrip("/") for argument in arguments[len(given) :])

    def enter(self, typed):
        """The arguments that the program gets in the end. Completion itself must not start it."""
        noted = self.home / "arguments"
        noted.unlink(missing_ok=True)
        with self.typing(typed + "\r"):
            self.wait(lambda: noted.exists() and noted.read_bytes().endswith(b"end of arguments\0"))
        *arguments, _ = noted.read_text().removesuffix("\0").split("\0")
        assert "end of arguments" not in arguments, "completion started the program"
        return arguments

    def shows(self, typed, text):
        """Whether that text comes to stand on the screen; it raises if not."""
        with self.typing(typed):
            self.wait(lambda: text.encode() in self.screen)
        return True

    @contextmanager
    def typing(self, typed):
        options = {"bash": ["--noprofile", "--rcfile", str(self.home / ".bashrc")], "zsh": ["-d"]}[self.name]
        # A process of its own has no threads, so that it may fork.
        spawn = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"]
        self.terminal = subprocess.Popen(
            [*spawn, self.path, *options, "-i"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        os.set_blocking(self.terminal.stdout.fileno(), False)
        self.screen = b""
        try:
            self.wait(lambda: b"ready> " in self.screen)
            self.terminal.stdin.write(typed.encode())
            yield
        finally:
            self.terminal.stdin.close()
            self.terminal.kill()
            self.terminal.wait()
            self.terminal.stdout.close()

    def wait(self, happened):
        def has_happened():
            self.screen += self.terminal.stdout.read() or b""
            return happened()

        try:
            wait_until(has_happened)
        except AssertionError:
            raise AssertionError(f"{self.name} hangs; on its screen: {self.screen!r}") from None


class Fish(Shell):
    def offers(self, line):
        return sorted(offer.split("\t")[0].rstrip("/") for offer in self.described(line))

    def described(self, line):
        """Values with their descriptions, as fish's own `complete -C` gives them."""
        command = [self.path, "-c", 'complete -C "$argv[1]"', line]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, check=True, capture_output=True)
        assert done.stderr == b""
        assert not (self.home / "arguments").exists(), "completion started the program"
        return done.stdout.decode().splitlines()


@pytest.fixture
def cameras(home, album, monkeypatch):
    """An index beside the album whose photos have cameras, keywords and a root of names that are hard to quote."""
    (home / "offers").write_text(sys.executable)
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    for number, camera in enumerate(["Canon EOS 5D", 'Canon it\'s "one" $HOME', "Nikon D90", "nikon `touch ran`"]):
        exif = Image.Exif()
        exif[272] = camera
        Image.new("RGB", (40, 40), (number * 50, 90, 200)).save(album / f"photo {number}.jpg", exif=exif)
    command = [sys.executable, "-P", "-m", "imgsearch", "index", str(album), "--model", "builtin", "--quiet"]
    subprocess.run([*command, "--index", str(album / "my index")], timeout=120)
    return album / "my index"


def test_names_that_an_index_knows_are_offered(shell, cameras):
    line = "imgsearch query dog --index 'my index' --camera "
    if shell.name == "bash":
        line = "imgsearch query dog --index my\\ index --camera "
    assert shell.offers(line) == ["Canon EOS 5D", 'Canon it\'s "one" $HOME', "Nikon D90", "nikon `touch ran`"]
    assert shell.offers(f"{line}Canon\\ E") == ["Canon EOS 5D"]
    assert shell.offers(line.replace("--camera ", "--root ")) == [str(cameras.parent)]
    assert not (cameras.parent / "ran").exists()


def test_known_indexes_are_offered_before_folders(shell, cameras):
    offered = shell.offers("imgsearch query dog --index ")
    assert {str(cameras), "holiday", "other"} <= set(offered)


def test_without_an_index_nothing_is_offered_and_nothing_said(shell, home):
    (home / "offers").write_text(sys.executable)
    assert shell.offers("imgsearch query --index nowhere --camera ") == []


def test_a_quote_that_is_open_is_closed(terminal, cameras):
    arguments = terminal.enter("imgsearch query --index='my index' --camera 'Canon E\t\r")
    assert arguments == ["query", "--index=my index", "--camera", "Canon EOS 5D"]


def test_keys_of_settings_are_offered(shell):
    assert shell.offers("imgsearch config set query.mod") == ["query.modality"]
    assert "roots.move.wait" in shell.offers("imgsearch config get ro")


def test_commands_are_offered(shell):
    assert shell.offers("imgsearch ") == COMMANDS


def test_options_are_those_of_the_command(shell):
    assert shell.offers("imgsearch prune --") == [
        "--dry-run",
        "--help",
        "--imported",
        "--index",
        "--json",
        "--offline",
        "--quiet",
        "--space",
        "--verbose",
        "--wait",
    ]


def test_commands_of_a_group_are_offered_with_their_own_options(shell):
    assert shell.offers("imgsearch roots ") == ["list", "move"]
    assert shell.offers("imgsearch roots m") == ["move"]
    assert shell.offers("imgsearch roots --") == ["--help"]
    assert shell.offers("imgsearch roots list --") == ["--help", "--index", "--json"]
    assert shell.offers("imgsearch roots move other --") == [
        "--help",
        "--index",
        "--json",
        "--quiet",
        "--wait",
    ]


def test_options_come_after_words_too(shell):
    assert shell.offers("imgsearch query status index --inc") == ["--include-offline", "--include-reference"]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("imgsearch query --modality ", ["any", "image", "text"]),
        ("imgsearch index --precision ", ["auto", "bf16", "fp16", "fp32"]),
        ("imgsearch query --compose ", sorted(composition.METHODS)),
        ("imgsearch query dog --device ", ["auto", "cpu", "cuda", "mps"]),
        ("imgsearch index -m ", sorted(["auto", *registry.ALIASES])),
        ("imgsearch --show-completion ", ["bash", "fish", "zsh"]),
        ("imgsearch query hol", ["holiday", "holiday.jpg", "holidays 2024"]),
        ("imgsearch query --image hol", ["holiday", "holiday.jpg", "holidays 2024"]),
        ("imgsearch index hol", ["holiday", "holiday.jpg", "holidays 2024"]),
        ("imgsearch query --under hol", ["holiday", "holidays 2024"]),
        ("imgsearch prune --index ", ["holiday", "holidays 2024", "other"]),
        ("imgsearch init ", ["holiday", "holidays 2024", "other"]),
        ("imgsearch roots move ", ["holiday", "holidays 2024", "other"]),
        ("imgsearch roots move other hol", ["holiday", "holidays 2024"]),
        ("imgsearch roots list --index hol", ["holiday", "holidays 2024"]),
    ],
)
def test_values_are_offered(shell, line, values):
    assert shell.offers(line) == values


@pytest.mark.parametrize("line", ["imgsearch query -n ", "imgsearch query --text ", "imgsearch prune --space "])
def test_nothing_is_offered_where_anything_may_stand(shell, line):
    assert shell.offers(line) == []


def test_after_two_dashes_everything_is_a_name(shell):
    (shell.folder / "--json").touch()
    assert shell.offers("imgsearch query -- --") == ["--json"]
    assert shell.offers("imgsearch query -- --image hol") == ["holiday", "holiday.jpg", "holidays 2024"]


def test_a_name_is_one_argument_whatever_it_holds(shell):
    """Each name in a folder of its own, completed from that folder's."""
    for number, name in enumerate(NASTY):
        (shell.folder / f"f{number}").mkdir()
        (shell.folder / f"f{number}" / name).touch()
        (shell.folder / f"d{number}" / name).mkdir(parents=True)
    files = [f"f{number}/{name}" for number, name in enumerate(NASTY)]
    folders = [f"d{number}/{name}" for number, name in enumerate(NASTY)]
    if shell.name == "fish":  # it quotes what it is given, when it puts it on the line
        assert [shell.offers(f"imgsearch query f{number}/") for number in range(len(NASTY))] == [[f] for f in files]
        assert [shell.offers(f"imgsearch init d{number}/") for number in range(len(NASTY))] == [[f] for f in folders]
    else:
        words = "".join(f" f{number}/\t --under d{number}/\t " for number in range(len(NASTY)))
        arguments = [argument.rstrip("/") for argument in shell.enter(f"imgsearch query{words}")]
        assert arguments == ["query", *chain(*((f, "--under", d) for f, d in zip(files, folders, strict=True)))]
    assert not (shell.folder / "ran").exists()


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("imgsearch que\tdog", ["query", "dog"]),
        ("imgsearch query --moda\t te\t", ["query", "--modality", "text"]),
        ("imgsearch query --modality=te\t", ["query", "--modality=text"]),
        ("imgsearch query --under=oth\t", ["query", "--under=other"]),
        ("imgsearch query dog --moda image" + 6 * LEFT + "\t", ["query", "dog", "--modality", "image"]),
        ("imgsearch query red like bea\t", ["query", "red", "like", "beach.jpg"]),
        ('imgsearch query -n 3 "holidays 2024/d\t', ["query", "-n", "3", "holidays 2024/dunes.jpg"]),
        ("imgsearch query -i holidays\\ 2\td\t", ["query", "-i", "holidays 2024/dunes.jpg"]),
        ("imgsearch init b\t", ["init", "b"]),
        ("imgsearch ro\tm\toth\t holidays\\ 2\t", ["roots", "move", "other", "holidays 2024"]),
    ],
)
def test_tab_completes_the_line(terminal, typed, arguments):
    assert [argument.rstrip("/") for argument in terminal.enter(typed)] == arguments


def test_zsh_shows_what_each_command_and_option_is_for(home, album):
    zsh = present("zsh", home, album)
    about = "Find photos by words, by a picture, or by a picture plus a change"
    assert zsh.shows("imgsearch \t", f"query           -- {about}")
    assert zsh.shows("imgsearch roots \t", "move  -- Tell the index that the photos of OLD are now in NEW")
    assert zsh.shows("imgsearch query --lim\x04", "-- Maximum number of results")
    assert zsh.shows("imgsearch index --model b\t", "builtin            -- no download, Apache-2.0, English")


def test_zsh_script_may_be_sourced_too(home, album):
    zsh = present("zsh", home, album)
    (home / ".zshrc").write_text("PS1='ready''> '; autoload -Uz compinit; compinit -u -D; . ~/scripts/_imgsearch\n")
    assert zsh.enter("imgsearch que\tdog") == ["query", "dog"]


def test_fish_says_what_each_offer_is_for(home, album):
    fish = present("fish", home, album)
    assert fish.described("imgsearch q") == ["query\tFind photos by words, by a picture, or by a picture plus a change"]
    assert fish.described("imgsearch roots m") == ["move\tTell the index that the photos of OLD are now in NEW"]
    assert fish.described("imgsearch query --lim") == ["--limit\tMaximum number of results"]
    assert fish.described("imgsearch query --under=oth") == ["--under=other/\tDirectory"]
    assert fish.described("imgsearch index --model buil") == ["builtin\tno download, Apache-2.0, English"]


HELP = (
    "it's [a] \\$(touch ran) $(touch ran) \\`touch ran` \"`touch ran`\" <(touch ran) (touch ran) 'a:b' %F ; touch ran"
)


def test_no_help_text_is_ever_run(shell):
    folder = Option("option", "--option", HELP, metavar="DIR", offers="folders")
    flag = Option("flag", "--flag", HELP, type=bool, default=False)
    commands = {"one": Command("one", HELP, options=(folder,)), "two": Command("two", HELP, options=(flag,))}
    (shell.home / "scripts").unlink()
    (shell.home / "scripts").mkdir()
    script = completion.script(shell.name, commands)
    (shell.home / "scripts" / FILES[shell.name]).write_text(script)
    assert shell.offers("imgsearch ") == ["one", "two"]
    assert "--flag" in shell.offers("imgsearch two --")
    assert shell.offers("imgsearch one --option oth") == ["other"]
    if shell.name == "zsh":
        assert shell.shows("imgsearch two --\t", f"-- {HELP}")
    if shell.name == "fish":
        assert shell.described("imgsearch two --fl") == [f"--flag\t{HELP}"]
    assert not (shell.folder / "ran").exists()
