"""The manual page: what is committed is what the app makes, roff says what was written, and its tables are true."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import imgsearch as package
from imgsearch.cli import manual
from imgsearch.cli.command_table import COMMANDS

TOP = Path(__file__).parents[1]
PAGE = TOP / "docs" / "imgsearch.1"

needs_mandoc = pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
needs_groff = pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")


def words_of(roff: str) -> str:
    """What mandoc makes of it, without its bold and underlined letters."""
    command = ["mandoc", "-Tutf8", "-Owidth=1000"]
    shown = subprocess.run(command, input=roff, capture_output=True, text=True, check=True).stdout
    return " ".join(re.sub(r".\x08", "", shown).split())


def test_committed_page_is_what_the_app_makes():
    command = [sys.executable, "-P", "-m", "imgsearch", "--show-manual"]
    assert PAGE.read_bytes() == subprocess.run(command, check=True, capture_output=True).stdout, "run: make manual"


def test_the_page_is_plain_ascii_and_names_this_version():
    text = PAGE.read_bytes().decode("ascii")
    assert f'"version {package.__version__}"' in text


@needs_mandoc
def test_mandoc_has_nothing_to_say():
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", str(PAGE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_groff
def test_groff_has_nothing_to_say():
    for device in ("ascii", "utf8"):
        command = ["groff", "-man", "-ww", f"-T{device}", str(PAGE)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@needs_mandoc
def test_every_sentence_option_and_example_of_the_help_is_in_the_page():
    shown = words_of(PAGE.read_text())
    assert len(COMMANDS) > 20
    for command in COMMANDS.values():
        assert f" imgsearch {command.name} [OPTIONS]" in shown
        assert all(name in shown for option in command.options for name in (*option.names, *option.off.split()))
        helps = [each.help for each in command.arguments] + [each.sentence for each in command.options]
        for text in (command.text(), *helps):
            for paragraph in text.replace("`", "").split("\n\n"):
                assert " ".join(paragraph.split()) in shown, command.name


@needs_mandoc
@pytest.mark.parametrize(
    "text",
    [
        ".SH no section",
        "'br no request",
        '.\\" no comment',
        "\\fBnot bold\\fR \\(em \\n(.s \\*(lq",
        "C:\\new\\table",
        "--dry-run -0 'Exports/' \"a b\" `id` $HOME ~/x ^C",
        '.[] | select(.stage == "decode") | .path',
        "Köln → 日本 …",
    ],
)
def test_any_text_comes_out_of_roff_as_it_went_in(text):
    head = '.TH X 1 2026-01-01 "v" "c"\n.SH NAME\nx \\- y\n'
    prose = text.replace("`", "")  # which make words bold
    assert f" y {text} v " in words_of(f"{head}.PP\n{manual._typed(text)}\n")
    assert f" y {prose} v " in words_of(f"{head}.PP\n{manual._text(text)}\n")
    assert f" y {text} {prose} v " in words_of(f"{head}.TP\n{manual._line(manual._bold(text))}\n{manual._text(text)}\n")
    assert f" y {text} x v " in words_of(f"{head}.SS {manual._argument(text)}\nx\n")


# ------------------------------------------------------------------------------------------- the tables


def rows(document: str, heading: str) -> list[tuple[str, ...]]:
    """The cells of the table below its heading row."""
    table = (TOP / document).read_text().split(f"\n{heading}\n")[1].split("\n\n")[0]
    return [tuple(row.strip("|").strip().split(" | ")) for row in table.splitlines()[1:]]


def test_exit_codes_are_those_of_the_readme():
    assert rows("README.md", "| code | meaning |") == list(manual.EXIT_STATUS)


def test_queries_are_those_of_the_page_about_queries():
    def plain(typed: str, means: str) -> tuple[str, str]:
        """Without code spans, emphasis, and the link at the end."""
        return typed.strip("`"), re.sub(r": \[.*|`|\*", "", means)

    table = rows("docs/queries.md", "| typed | means |")
    assert [plain(*row) for row in table] == [plain(*row) for row in manual.QUERIES]


def test_every_variable_that_the_program_reads_is_in_the_page():
    sources = [path.read_text() for folder in ("cli", "core") for path in (TOP / folder).rglob("*.py")]
    read = {name for text in sources for name in re.findall(r"\bIMGSEARCH_[A-Z_]*[A-Z]\b", text)}
    read |= {name for text in sources for name in re.findall(r'environ\.get\("((?:HF|XDG)_\w+)"', text)}
    told = {name for names, _ in manual.ENVIRONMENT for name in names.split(", ")}
    read |= set(re.findall(r"^\| `([A-Z_]+)` \|", (TOP / "docs" / "configuration.md").read_text(), re.MULTILINE))
    assert {"IMGSEARCH_INDEX", "HF_HOME", "XDG_RUNTIME_DIR"} <= read <= told
