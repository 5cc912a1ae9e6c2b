"""Arguments of a query that are read without typer mean what typer reads from them."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer.main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imgsearch
from imgsearch.cli import fast_path, run_query, verbs
from imgsearch.core.search.query_arguments import QueryArguments


@cache
def program():
    return typer.main.get_command(verbs.app_for(["query"]))


def by_typer(arguments):
    """The parameters as typer reads them; None where it complains or shows help."""
    seen = []
    known, run_query.answer = run_query.answer, lambda asked: seen.append(asked) or 0
    try:
        program().main(["query", *arguments], prog_name="imgsearch", standalone_mode=False)
    except verbs.TypingError:
        return None
    finally:
        run_query.answer = known
    return comparable(seen[0]) if seen else None


def quickly(arguments):
    found = fast_path.read(arguments)
    return found and comparable(found)


def comparable(arguments):
    """As text, since nan is not nan. Raises ValueError for values of the wrong type."""
    return repr(QueryArguments.from_record(arguments.record()))


@pytest.mark.parametrize(
    "line",
    ["red apple", "", "-", "-- -n --json", "red -n 3", "red -n3 --limit=4", "-i a.jpg -ib.jpg --image=c.jpg",
     "red --ann", "red --exact --ann", "-l", "-0", "-r", "--json --explain", "--sort date --has gps --has=date",
     "--group burst --orientation portrait", "-t", "-n x", "-n 1.5", "--min-score nan", "-w .5", "-w", "--json=1",
     "--sort size red --sort score", "--sort nothing", "--devic cpu", "--device cuda:1", "--device cpu", "-lr", "-l0",
     "--index x red", "--index=", "--text -red", "--not --json", "--help", "-h", "-x", "--nosuch", "-n -5", "- red",
     "--limit 1_0", "--after=2024 --before 2025", "--under a --under b", "-nn", "--not=a=b"],
)  # fmt: skip
def test_listed_arguments_mean_the_same(line):
    arguments = line.split()
    found = quickly(arguments)
    assert found is None or found == by_typer(arguments)
    if line in ("red apple", "", "-- -n --json", "-n -5", "--not --json", "--group burst --orientation portrait"):
        assert found is not None


NAMES = list(fast_path._OPTIONS)
PIECES = st.one_of(
    st.sampled_from(NAMES),
    st.builds("{}={}".format, st.sampled_from(NAMES), st.sampled_from(["", "1", "x", "date", "-1", "a b", "ä=\udcff"])),
    st.sampled_from(
        ["3", "0.5", "a.jpg", "red", "-", "--", "score", "gps", "any", "cpu", "", "-n3", "-lr", "-tx", "--no"]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4),
)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=6))
def test_whatever_is_typed_means_the_same(arguments):
    found = quickly(arguments)
    assert found is None or found == by_typer(arguments)


# ------------------------------------------------------------------------------------------- what is not imported

START = {"imgsearch", "imgsearch.cli", "imgsearch.cli.app", "imgsearch.cli.output", "imgsearch.cli.output.hints",
         "imgsearch.cli.output.render", "imgsearch.core", "imgsearch.core.errors", "imgsearch.core.paths"}  # fmt: skip
TAB = {*START, "imgsearch.core.config", "imgsearch.core.places", "imgsearch.core.store",
       "imgsearch.core.store.completion_values"}  # fmt: skip
SLOW = {"contextlib", "dataclasses", "enum", "importlib.metadata", "inspect", "json", "pathlib", "re", "textwrap",
        "typing"}  # fmt: skip
"""Of the standard library: each takes a twentieth to a third of the time that Python needs to start."""
LOADED = """
import sys
sys.path[:0] = sys.argv[1:2]
from imgsearch.cli import app
try:
    app.main(sys.argv[2:])
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture
def loaded(tmp_path):
    """The modules that a command leaves loaded, in a process without site-packages and what they load."""
    top = Path(imgsearch.__file__).parent
    package = tmp_path / "path" / "imgsearch"
    package.mkdir(parents=True)
    for name, path in (("__init__.py", top / "__init__.py"), *((n, imgsearch_part(n)) for n in ("cli", "core"))):
        (package / name).symlink_to(path)

    def loaded(*arguments):
        command = [sys.executable, "-I", "-S", "-c", LOADED, str(package.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout, set(done.stderr.splitlines()[-1].split())

    return loaded


def imgsearch_part(name):
    return os.path.realpath(getattr(__import__(f"imgsearch.{name}"), name).__path__[0])


@pytest.mark.parametrize(
    ("line", "modules"),
    [
        ("--version", START),
        ("-V", START),
        ("", {*START, "imgsearch.cli.help_text"}),
        ("-h", {*START, "imgsearch.cli.help_text"}),
        ("query --help", {*START, "imgsearch.cli.help_text"}),
        ("roots move -h", {*START, "imgsearch.cli.help_text"}),
        ("--complete indexes", TAB),
        ("--complete cameras", TAB | {"imgsearch.core.store.connection"}),
        ("--complete places x", TAB | {"imgsearch.core.store.connection", "imgsearch.core.store.folding"}),
    ],
)
def test_what_is_asked_most_loads_next_to_nothing(loaded, line, modules):
    out, names = loaded(*line.split())
    assert out or line.startswith("--complete")
    assert {name for name in names if name.startswith("imgsearch")} == modules
    assert names & SLOW == set()


def test_a_plain_query_loads_no_typer(tmp_path):
    command = "import sys; from imgsearch.cli import app\ntry: app.main()\nfinally: print('typer' in sys.modules)"
    asked = [sys.executable, "-P", "-c", command, "query", "red", "--index", str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (4, "False\n")
    assert "no index" in done.stderr


def test_every_usage_error_of_typer_has_the_public_base_that_is_caught():
    assert issubclass(typer.BadParameter, verbs.TypingError)
    for arguments in (["query", "--nosuch"], ["query", "-n"], ["query", "-n", "x"], ["nosuch"], ["similar"]):
        with pytest.raises(verbs.TypingError) as caught:
            verbs.run(arguments)
        assert caught.value.format_message()
