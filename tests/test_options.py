"""The table of options: what is declared there once is the same in every place that is derived from it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_type_hints

import pytest

from imgsearch.cli import help_pages, help_text, settings
from imgsearch.cli.command_table import COMMANDS, PROGRAM
from imgsearch.cli.commands.eval import EvalArguments
from imgsearch.cli.options import GROUPS, Argument
from imgsearch.core.search import choices
from imgsearch.core.search.filters import Filters
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.query_arguments import QueryArguments

RUNNABLE = [command for command in COMMANDS.values() if command.is_runnable]
EVERY_COMMAND = pytest.mark.parametrize("command", RUNNABLE, ids=lambda command: command.name)

WITH_A_DUMMY = """
import json
from collections import namedtuple

from imgsearch.cli import command_table
from imgsearch.cli.options import FILTERS, Option
from imgsearch.core.search import query_arguments

dummy = Option(
    "colour", "--colour -c", "Only photos of this colour.", choices=("red", "blue"), default="red", group=FILTERS,
    is_common=True, api="colour",
)
query = command_table.COMMANDS["query"]
command_table.COMMANDS["query"] = query._replace(options=(*query.options, dummy))
known = query_arguments.QueryArguments
query_arguments.QueryArguments = namedtuple(
    "QueryArguments", (*known._fields, "colour"), defaults=(*known._field_defaults.values(), "red")
)

from imgsearch.cli import completion, fast_path, help_pages, manual, run_query, settings, verbs
from imgsearch.cli.web import openapi

seen = []
run_query.answer = lambda asked: seen.append(asked.colour) or 0
for line in ([], ["--colour", "blue"], ["-cblue"]):
    verbs.run(["query", "dog", *line])
try:
    verbs.run(["query", "dog", "--colour", "green"])
except verbs.TypingError as error:
    seen.append(error.format_message())
print(json.dumps({
    "typer": seen,
    "fast path": [fast_path.read(["dog", *line]).colour for line in ([], ["--colour=blue"], ["-c", "blue"])],
    "refused by the fast path": fast_path.read(["dog", "--colour", "green"]) is None,
    "completion": {shell: completion.script(shell) for shell in ("bash", "zsh", "fish")},
    "manual": manual.page(),
    "short help": help_pages.page(command_table.COMMANDS["query"], is_long=False),
    "long help": help_pages.page(command_table.COMMANDS["query"], is_long=True),
    "configuration": [key.values for key in settings.keys() if key.full == "query.colour"],
    "api": openapi.document()["paths"]["/api/search"]["post"]["requestBody"],
}))
"""


def test_an_option_added_to_the_table_is_everywhere():
    done = subprocess.run([sys.executable, "-P", "-c", WITH_A_DUMMY], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    *taken, refused = found["typer"]
    assert taken == found["fast path"] == ["red", "blue", "blue"]
    assert "'green' is not one of 'red', 'blue'" in refused and found["refused by the fast path"]
    assert "query:-c|query:--colour) expects=choices choices='red blue'" in found["completion"]["bash"]
    assert "{-c+,--colour=}'[Only photos of this colour]:colour:(red blue)'" in found["completion"]["zsh"]
    assert "-s c -l colour -r -f -a 'red blue' -d 'Only photos of this colour'" in found["completion"]["fish"]
    assert "\\fB\\-c\\fR, \\fB\\-\\-colour\\fR \\fIred|blue\\fR\nOnly photos of this colour." in found["manual"]
    for page in (found["short help"], found["long help"]):
        assert "-c, --colour red|blue" in page.split("Filters:")[1].split("Ranking:")[0]
    assert found["configuration"] == ["red|blue"]
    filters = found["api"]["content"]["application/json"]["schema"]["properties"]["filters"]["properties"]
    assert filters["colour"]["enum"] == ["red", "blue"]


def expected_types(parameter):
    """The types that a command's function may name: choices may be a Literal or plain text."""
    kind = str if isinstance(parameter, Argument) else parameter.type
    is_open = not parameter.choices or getattr(parameter, "pattern", "")
    for each in [kind] if is_open else [kind, Literal[parameter.choices]]:
        if parameter.is_list:
            yield tuple[each, ...]
        elif parameter.default is None and not getattr(parameter, "is_required", False):
            yield each | None
        else:
            yield each


@EVERY_COMMAND
def test_the_function_of_a_command_takes_what_the_table_declares(command):
    if command.name == "query":
        hints = get_type_hints(QueryArguments)
    elif command.name == "eval":
        hints = get_type_hints(EvalArguments, localns=vars(choices))
    else:
        hints = get_type_hints(command.load(), localns=vars(choices))
        del hints["return"]
    parameters = (*command.arguments, *command.options)
    assert sorted(hints) == sorted(each.parameter for each in parameters)
    for each in parameters:
        assert hints[each.parameter] in list(expected_types(each)), each.parameter


def test_the_defaults_of_query_arguments_are_those_of_the_table():
    query = COMMANDS["query"]
    assert QueryArguments._fields[0] == "words" and QueryArguments().words == ()
    declared = {each.parameter: () if each.is_list else each.default for each in query.options}
    assert {name: value for name, value in QueryArguments()._asdict().items() if name != "words"} == declared


@EVERY_COMMAND
def test_the_help_of_a_command_begins_with_its_summary(command):
    assert " ".join(command.text().split("\n\n")[0].split()) == command.summary


@EVERY_COMMAND
def test_every_option_of_a_command_has_flags_of_its_own(command):
    flags = [name for each in command.options for name in (*each.names, *each.off.split())] + ["-h", "--help"]
    assert len(flags) == len(set(flags))
    assert all(each.names[0].startswith("--") and each.group in GROUPS for each in command.options)
    assert all(each.help.endswith((".", ".)")) for each in (*command.arguments, *command.options))


def test_every_filter_of_the_api_is_a_filter_of_the_library():
    from imgsearch.cli.web import openapi

    assert set(openapi.FILTERS) == {each.name for each in fields(Filters)}
    own = {"text", "natural", "pictures", "not", "more_like", "less_like", "filters", "limit", "offset"}
    assert set(openapi.SEARCH["properties"]) - own <= {each.name for each in fields(SearchOptions)}
    methods = openapi.SEARCH["properties"]["method"]["enum"]
    assert methods == [name for name in choices.METHODS if name != choices.CHANGE_METHOD]


def test_options_that_exclude_each_other_are_known_to_the_configuration():
    assert settings._rivals() == {
        "output": {"json", "paths", "others", "print0", "fields", "preview"},
        "messages": {"quiet", "verbose"},
    }


# ---- Help ------------------------------------------------------------------------------------------------------------


@EVERY_COMMAND
def test_long_help_shows_every_option_and_short_help_at_most_a_dozen_and_a_few(imgsearch, command):
    long, short = (imgsearch(*command.words, how).out.decode() for how in ("--help", "-h"))
    for each in command.options:
        assert all(name in long for name in each.names)
        assert (each.names[0] in short) == (each.is_common or len(command.options) <= 12), each.names
    assert short.count("\n  -") <= 16
    assert ("All options: " in short) == (len(command.options) > 12)


def test_groups_stand_in_one_order(imgsearch):
    page = imgsearch("query", "--help").out.decode()
    titles = [line[:-1] for line in page.splitlines() if line.rstrip(":") in GROUPS]
    assert tuple(titles) == GROUPS


@pytest.mark.parametrize("line", ["query red --help -n x", "roots move --help", "query --nonsense -h", "config -h"])
def test_help_wins_over_whatever_else_is_typed(imgsearch, line):
    outcome = imgsearch(*line.split())
    assert outcome.code in (0, 2) and (outcome.code == 2 or outcome.out.startswith(b"Usage: imgsearch "))


def test_the_prepared_help_is_what_the_table_makes():
    prepared = Path(help_text.__file__).with_name("help.txt").read_text(encoding="utf-8")
    assert prepared == help_pages.all_pages(), "run: make manual"


@pytest.mark.parametrize("command", [PROGRAM, *COMMANDS.values()], ids=lambda command: command.name)
def test_prepared_help_equals_the_page_made_from_the_table(command, monkeypatch):
    for columns in (1, 40, 63, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        for how in ("-h", "--help"):
            page = help_text.prepared([*command.words, how])
            assert page == help_pages.page(command, is_long=how == "--help")
            lines = page.split("\n")
            assert len(lines) > 5 and "" not in (lines[0], lines[-1]) and "\t" not in page


@pytest.mark.parametrize("arguments", [["nosuch", "-h"], ["query", "x", "--help"], ["--help", "--help"], ["-h\n"]])
def test_no_other_arguments_have_a_prepared_page(arguments):
    assert help_text.prepared(arguments) is None


def test_help_is_folded_as_textwrap_does():
    texts = [text for line in help_pages.all_pages().split("\n") if (text := line.partition("\t")[2])]
    assert len(texts) > 300
    for text in [*texts, "", "a-hyphenated-word-longer-than-any-line " * 3]:
        for width in (1, 20, 37, 74, 100):
            expected = textwrap.wrap(text, max(width, 20), break_on_hyphens=False, break_long_words=False)
            assert help_text._filled(text, width) == (expected or [""])


def test_help_of_the_program_loads_no_typer_and_no_command():
    code = (
        "import sys; from imgsearch.cli.app import exit_code\nexit_code(['--help'])\n"
        "print(*sorted(name for name in sys.modules if name == 'typer' or 'cli.commands' in name), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "\n"
    assert PROGRAM.summary.split(":")[0] in done.stdout
    assert all(f"\n  {each.name} " in done.stdout for each in COMMANDS.values() if " " not in each.name)
