"""Tests that the documentation matches the program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import imgsearch
from imgsearch.cli.command_table import COMMANDS
from imgsearch.core import errors
from imgsearch.core.search import choices, composition

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/*.md")])
SHOWING_OPTIONS = ("README", "installation", "models", "indexing", "output", "configuration", "collections")
"""Pages whose lines with `imgsearch` contain no options of other programs, except OTHER_PROGRAMS."""
OTHER_PROGRAMS = {"--files-from", "--read0"}
RUNNABLE = [name for name, command in COMMANDS.items() if command.is_runnable]


def test_the_library_example_of_the_readme_runs(photos, tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example = example.replace("/tmp/photos.index", str(tmp_path / "photos.index"))
    example = example.replace("/home/me/Photos", str(photos))
    exec(compile(ast.parse(example), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(re.match(r"-?\d\.\d{3} /", line) for line in lines)


def test_the_readme_is_short():
    assert README.count("\n") < 200


def test_every_command_and_exit_code_is_documented():
    documented = "\n".join(page.read_text() for page in PAGES)
    for command in RUNNABLE:
        assert f"imgsearch {command}" in documented, command
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.ImgsearchError)]
    for code in {c.exit_code for c in classes} | {0, 1, 3, 70}:
        assert re.search(rf"^\| {code} \|", README, re.MULTILINE), code


def test_every_option_that_the_pages_show_exists(imgsearch):
    pages = [page.read_text() for page in PAGES if page.stem in SHOWING_OPTIONS]
    assert len(pages) == len(SHOWING_OPTIONS)
    shown = set(re.findall(r"(?<=\s)(--[a-z][a-z0-9-]+)", "\n".join(re.findall(r"imgsearch [^\n]*", "\n".join(pages)))))
    known = set()
    for command in RUNNABLE:
        known |= set(re.findall(r"--[a-z][a-z0-9-]+", imgsearch(*command.split(), "--help").out.decode()))
    known |= set(re.findall(r"--[a-z][a-z0-9-]+", imgsearch("--help").out.decode()))
    assert len(shown) > 20
    assert shown - OTHER_PROGRAMS <= known


def test_every_composition_method_is_documented_and_named_in_the_help(imgsearch):
    document = "".join((TOP / "docs" / name).read_text() for name in ("composition.md", "pseudo-words.md", "models.md"))
    text = " ".join(imgsearch("query", "--help").out.decode().split())
    for method in composition.METHODS:
        assert f"`{method}`" in document
        assert method in text.split("--compose METHOD")[1].split("--weight")[0]
    default = f"restyle with the built-in model, raw-sum with BGE-VL, else {choices.DEFAULT_METHOD}; pdv with --from."
    assert f"Default: {default}" in text


def test_help_begins_with_what_a_command_does_and_ends_with_an_example(imgsearch):
    for command in RUNNABLE:
        text = imgsearch(*command.split(), "--help").out.decode()
        assert "Example" in text and f"imgsearch {command}" in text.split("Example")[1], command


def test_the_changelog_has_an_unreleased_section_on_top():
    assert re.search(r"^## \[", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE).start() == (
        TOP / "CHANGELOG.md"
    ).read_text().index("## [Unreleased]")
    assert re.fullmatch(r"\d+\.\d+\.\d+", imgsearch_version())


def imgsearch_version() -> str:
    return imgsearch.__version__


@pytest.mark.parametrize("document", PAGES, ids=lambda page: page.name)
def test_links_and_paths_inside_the_repository_exist(document):
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)", text):
        page = document.parent / target if target else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"
    for path in re.findall(r"`((?:core|cli|bench|tests|docs)/[\w/.]+)`", text):
        assert (TOP / path).exists(), path


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_architecture_page_lists_the_packages():
    page = (TOP / "docs" / "architecture.md").read_text()
    listed = re.findall(r"^\| `((?:core|cli)/(?:\w+/)?)`", page, re.MULTILINE)
    found = {
        f"{path.parent.relative_to(TOP)}/" for path in (*TOP.glob("core/*/__init__.py"), *TOP.glob("cli/*/__init__.py"))
    } - {"cli/_package/"}
    assert sorted(listed) == sorted({*found, "cli/"})
    modules = re.search(r"directly in `core/` \((.*?)\)", page, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", modules)) == {path.stem for path in TOP.glob("core/*.py")} - {"__init__"}


def test_every_guarantee_names_a_test_that_exists():
    """docs/reliability.md: path::name, or path::Class::method of a hypothesis machine."""
    document = (TOP / "docs" / "reliability.md").read_text()
    guarantees = [line for line in document.splitlines() if line.startswith("| ") and "tested by" not in line]
    assert len(guarantees) > 25
    for line in guarantees:
        named = re.findall(r"`(tests/[\w.]+)::(\w+)[\w:]*`", line)
        assert named, line
        for path, name in named:
            assert re.search(rf"^(def {name}\(|{name} = |class {name}\b)", (TOP / path).read_text(), re.MULTILINE), name
    for path in re.findall(r"`python ([^\s`]+)[^`]*`", document):
        assert (TOP / path).exists(), path
