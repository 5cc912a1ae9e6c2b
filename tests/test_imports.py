"""What imports what: light commands load nothing heavy, and the modules of core stand in one order."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from imgsearch import cli, core

HEAVY = {
    "torch", "torchvision", "open_clip", "timm", "numpy", "PIL", "pillow_heif", "sqlite_utils", "hnswlib",
    "simsimd", "huggingface_hub", "tqdm", "rich", "onnxruntime", "onnx", "watchfiles", "scipy", "rapidocr", "cv2", "av",
    "tzfpy",
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
    assert "imgsearch" in loaded
    assert loaded & HEAVY == set()


# --------------------------------------------------------------------------------------- the order of the packages

LIGHT = ("errors", "types", "paths", "writing", "places", "config", "late", "cache", "light_dataclass")
"""Modules beside the packages: the standard library only, and everyone may import them."""

PACKAGES = (
    "photos", "models", "store", "indexing", "search", "compose", "serving", "evaluation", "doctor",
)  # fmt: skip
"""Data moves right, imports point left."""

OWNERS = {
    "torch": "models", "open_clip": "models", "onnxruntime": "models", "onnx": "models", "hnswlib": "store",
    "simsimd": "store",
    "sqlite_utils": "store", "watchfiles": "indexing", "scipy": "photos", "reverse_geocode": "photos",
    "tzfpy": "photos", "rapidocr": "photos", "cv2": "photos", "av": "photos",
}  # fmt: skip

TOP = Path(core.__path__[0])
CORE = {path.relative_to(TOP).as_posix(): path for path in sorted(TOP.rglob("*.py"))}
CLI_TOP = Path(cli.__path__[0])
CLI = {path.relative_to(CLI_TOP).as_posix(): path for path in sorted(CLI_TOP.rglob("*.py"))}


def package_of(module):
    """`photos` for `photos/walk.py`; a light module is its own."""
    return module.partition("/")[0].removesuffix(".py")


IMPORTERS = {"import_module", "__import__", "LateModule"}
BY_VARIABLE = {"core/late.py", "core/doctor/probe.py", "cli/command_table.py"}
"""Modules that import what a variable names: the late module, the probe of a library, and the table of commands."""


def imports_of(source, module):
    """Dotted names of everything a module imports, at any depth; relative ones made absolute.

    Names in strings count too: those given to `import_module` and its like, and all that start with `imgsearch.`,
    which may be run with `python -m`.
    """
    package = ".".join(["imgsearch", *module.split("/")[:-1]])
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IMPORTERS:
            wanted = node.args[0] if node.args else None
            if isinstance(wanted, ast.Constant):
                names.add(wanted.value)
            else:
                assert module in BY_VARIABLE, f"{module}: imports what only a variable names"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(re.findall(r"^imgsearch(?:\.\w+)+$", node.value))
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, f"{module}: a relative import stays inside its package"
            target = ".".join(filter(None, [package if node.level else "", node.module]))
            names |= {target} - {"imgsearch.core"} | {f"{target}.{alias.name}" for alias in node.names}
    return names


@cache
def imports(path):
    top = TOP if path.is_relative_to(TOP) else CLI_TOP
    return imports_of(path.read_text(), path.relative_to(top.parent).as_posix())


def packages_named(names):
    return {name.split(".")[2] for name in names if name.startswith("imgsearch.core.")} & {*LIGHT, *PACKAGES}


def misplaced(module, names):
    """What a module of core imports although its package may not.

    `imgsearch.core` itself counts: any package could be read from it as an attribute.
    """
    package = package_of(module)
    allowed = {*LIGHT} if package in LIGHT else {*LIGHT, *PACKAGES[: PACKAGES.index(package) + 1]}
    wrong = packages_named(names) - allowed
    heavy = {name.partition(".")[0] for name in names}
    wrong |= {library for library in heavy & set(OWNERS) if OWNERS[library] != package}
    wrong |= {name for name in names if name.startswith(("imgsearch.cli", "typer"))}
    wrong |= {name for name in names if name in ("imgsearch.core", "imgsearch.core.*")}
    return wrong


def test_core_holds_the_packages_and_the_light_modules_and_nothing_else():
    found = {package_of(module) for module in CORE} - {"__init__"}
    assert found == {*LIGHT, *PACKAGES}
    assert [module for module in CORE if "/" not in module] == sorted(f"{name}.py" for name in ("__init__", *LIGHT))


@pytest.mark.parametrize("module", sorted(set(CORE) - {"__init__.py"}))
def test_imports_point_left_and_a_heavy_library_has_one_owner(module):
    assert misplaced(module, imports(CORE[module])) == set()


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("photos/walk.py", "from imgsearch.core.store import catalog", "store"),
        ("photos/walk.py", "import imgsearch.core.models.registry", "models"),
        ("store/check.py", "def late():\n    from imgsearch.core.search.grammar import parse", "search"),
        ("models/tokens.py", "from imgsearch.core import indexing", "indexing"),
        ("search/scoring.py", "import torch", "torch"),
        ("serving/engine.py", "import sqlite_utils.db", "sqlite_utils"),
        ("paths.py", "import torch", "torch"),
        ("paths.py", "from imgsearch.core.photos import walk", "photos"),
        ("doctor/probe.py", "from imgsearch.cli import app", "imgsearch.cli.app"),
        ("photos/walk.py", "if TYPE_CHECKING:\n    from imgsearch.core.search.grouping import Hit", "search"),
        ("photos/walk.py", "try:\n    import torch\nexcept ImportError:\n    pass", "torch"),
        ("photos/walk.py", 'np = LateModule("torch")', "torch"),
        ("photos/walk.py", 'store = LateModule("imgsearch.core.store.store")', "store"),
        ("photos/walk.py", 'importlib.import_module("hnswlib")', "hnswlib"),
        ("photos/walk.py", '__import__("imgsearch.core.models.registry")', "models"),
        ("photos/walk.py", 'run([sys.executable, "-m", "imgsearch.core.store.check"])', "store"),
        ("photos/walk.py", "import imgsearch.core as everything", "imgsearch.core"),
        ("photos/walk.py", "from imgsearch.core import *", "imgsearch.core.*"),
        ("evaluation/runs.py", "from imgsearch.core.doctor.findings import typed", "doctor"),
    ],
)
def test_a_planted_import_is_found(module, line, wrong):
    assert wrong in misplaced(module, imports_of(line, f"core/{module}"))


def test_an_import_by_a_variable_is_refused():
    with pytest.raises(AssertionError, match="only a variable names"):
        imports_of("importlib.import_module(name)", "core/photos/walk.py")


@pytest.mark.parametrize("module", [f"{name}.py" for name in LIGHT])
def test_a_light_module_imports_at_its_top_only_the_standard_library(module):
    body = ast.unparse(ast.Module(list(at_top(ast.parse(CORE[module].read_text()).body)), []))
    libraries = {name.partition(".")[0] for name in imports_of(body, f"core/{module}")}
    assert libraries <= sys.stdlib_module_names | {"imgsearch"}


def test_no_import_closes_a_circle():
    """Between modules, counting only what runs on import; inside functions an import comes too late to matter."""
    edges = {module: at_import(module) for module in CORE}
    done = set()

    def visit(module, above):
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for other in sorted(edges[module]):
                visit(other, [*above, module])
            done.add(module)

    for module in CORE:
        visit(module, [])


def at_top(body):
    """The imports that run when a module is imported: also in its classes, `try`, `with` and `if`."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from at_top(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for blocks in ("body", "orelse", "finalbody"):
                yield from at_top(getattr(node, blocks, []))
            for handler in getattr(node, "handlers", []):
                yield from at_top(handler.body)


def at_import(module):
    """The modules of core that a module imports when it is imported itself."""
    body = list(at_top(ast.parse(CORE[module].read_text()).body))
    found = set()
    for name in imports_of("\n".join(map(ast.unparse, body)), f"core/{module}"):
        path = name.removeprefix("imgsearch.core.").replace(".", "/")
        if name.startswith("imgsearch.core.") and f"{path}.py" in CORE:
            found.add(f"{path}.py")
    return found - {module}


@pytest.mark.parametrize("module", sorted(CLI))
def test_commands_leave_heavy_libraries_to_core(module):
    allowed = {"output/progress.py": {"tqdm"}, "output/previews.py": {"rich"}}.get(module, set())
    assert {name.partition(".")[0] for name in imports(CLI[module])} & HEAVY <= allowed


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_returns_or_raises_and_never_talks(module):
    calls = (node.func for node in ast.walk(ast.parse(CORE[module].read_text())) if isinstance(node, ast.Call))
    assert {ast.unparse(call) for call in calls} & {"print", "sys.exit", "exit", "os._exit"} == set()


@pytest.mark.parametrize("module", sorted(CLI))
def test_no_command_imports_another_and_output_imports_no_command(module):
    known = {name for name in imports(CLI[module]) if name.startswith("imgsearch.cli.commands.")}
    own = "imgsearch.cli." + module.removesuffix(".py").replace("/", ".")
    assert {name for name in known if name != own and not name.startswith(f"{own}.")} == set()


BENCH = sorted((TOP.parent / "bench").rglob("*.py"))


@pytest.mark.parametrize("path", BENCH, ids=lambda path: path.stem)
def test_a_benchmark_script_imports_names_that_exist(path):
    """Wherever in the script: one that runs for an hour must not fail at its last table."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("imgsearch."):
            top, *parts = node.module.removeprefix("imgsearch.").split(".")
            folder = {"core": TOP, "cli": CLI_TOP}[top].joinpath(*parts)
            source = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
            for alias in node.names:
                is_module = folder.is_dir() and (
                    (folder / f"{alias.name}.py").exists() or (folder / alias.name).is_dir()
                )
                assert is_module or alias.name in names_defined(source), f"{node.module} has no {alias.name}"


@cache
def names_defined(source):
    """What a module defines or imports at its top, also in `if` and `try`."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return names
