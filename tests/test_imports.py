"""What imports what: light commands load nothing heavy, and the modules of core stand in one order."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from imgsearch import cli, core

HEAVY = {
    "torch", "torchvision", "open_clip", "timm", "numpy", "PIL", "pillow_heif", "sqlite_utils", "hnswlib",
    "huggingface_hub", "tqdm", "rich", "onnxruntime", "onnx", "watchfiles",
}  # fmt: skip

RUN = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from imgsearch.cli.app import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    ["", "--help", "--version", "query --help", "index --help", "status --help", "init --help", "models --json",
     "doctor --help", "roots", "roots --help", "roots move --help",
     "query --nonsense", "--show-completion bash", "--show-completion zsh", "--show-completion fish",
     "--show-manual"],
)  # fmt: skip
def test_light_commands_load_nothing_heavy(arguments):
    command = [sys.executable, "-P", "-c", RUN, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    loaded = {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}
    assert "typer" in loaded
    assert loaded & HEAVY == set()


# --------------------------------------------------------------------------------------- the order of core

ORDER = (
    "errors", "types", "paths", "places", "config", "offers", "late", "cache", "phrases", "models", "codecs",
    "walk",
    "jxl", "exif", "facts", "decode",
    "preprocess",
    "worker", "workers", "thumbnails",
    "embed",
    "vectors",
    "catalog",
    "lasttime",
    "calibration",
    "store",
    "roots",
    "survey",
    "indexing", "watching",
    "prune",
    "check", "salvage",
    "tokens", "history", "light", "export",
    "grammar",
    "compose", "filters", "scoring",
    "questions", "relevance", "arrange", "explain",
    "search", "asked",
    "warm", "serving",
    "sheet",
    "looks", "dupes", "notes", "transfer",
    "evaluate", "benchmarks", "runs",
    "findings", "probe", "machine", "shells", "doctor",
)  # fmt: skip
"""Data moves right, imports point left."""

OWNERS = {
    "torch": {"embed", "export"}, "open_clip": {"embed"}, "onnxruntime": {"light"}, "hnswlib": {"vectors"},
    "sqlite_utils": {"catalog"}, "watchfiles": {"watching"},
}  # fmt: skip

CORE = {path.stem: path for path in Path(core.__path__[0]).glob("*.py") if path.stem != "__init__"}
CLI = {path.stem: path for path in Path(cli.__path__[0]).glob("*.py") if path.stem != "__init__"}


@cache
def imports(path):
    """Dotted names of everything a file imports, at any depth; relative ones made absolute."""
    package = f"imgsearch.{path.parent.name}"
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, f"{path.name}: one dot is as far as a relative import goes"
            module = ".".join(filter(None, [package if node.level else "", node.module]))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def modules_of_core(path):
    return {name.split(".")[2] for name in imports(path) if name.startswith("imgsearch.core.")} & set(CORE)


def test_every_module_of_core_has_its_place():
    assert sorted(CORE) == sorted(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_left(module):
    assert modules_of_core(CORE[module]) <= set(ORDER[: ORDER.index(module)])


@pytest.mark.parametrize("module", ORDER)
def test_core_never_imports_the_command_line(module):
    assert not {name for name in imports(CORE[module]) if name.startswith(("imgsearch.cli", "typer"))}


@pytest.mark.parametrize("module", sorted(CORE))
def test_a_heavy_library_has_one_owner(module):
    named = {name.partition(".")[0] for name in imports(CORE[module])}
    assert {library for library in named & set(OWNERS) if module not in OWNERS[library]} == set()


@pytest.mark.parametrize("module", sorted(CLI))
def test_commands_leave_heavy_libraries_to_core(module):
    allowed = {"progress": {"tqdm"}, "previews": {"rich"}}.get(module, set())
    assert {name.partition(".")[0] for name in imports(CLI[module])} & HEAVY <= allowed


@pytest.mark.parametrize("module", ORDER)
def test_core_returns_or_raises_and_never_talks(module):
    calls = (node.func for node in ast.walk(ast.parse(CORE[module].read_text())) if isinstance(node, ast.Call))
    assert {ast.unparse(call) for call in calls} & {"print", "sys.exit", "exit", "os._exit"} == set()


def test_only_app_and_its_commands_know_each_other():
    """Commands share options, rendering, loading and progress; none imports another command or the app."""
    shared = set(
        "manual options render loading progress completion hits sheets previews asking settings running telling".split()
    )
    for module, path in CLI.items():
        known = {name.split(".")[2] for name in imports(path) if name.startswith("imgsearch.cli.")} & set(CLI)
        assert module == "app" or known <= shared, module
