"""`imgsearch doctor` finds what is broken, says how to fix it, and does not fail itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from imgsearch.cli.commands import doctor
from imgsearch.core.doctor import completions, findings, fixes, index, machine, model_files
from imgsearch.core.doctor.probe import Probe
from imgsearch.core.models import registry
from imgsearch.core.models.towers import SHIPPED
from imgsearch.core.photos import gazetteer
from imgsearch.core.photos.codecs import version_of
from imgsearch.core.serving import protocol
from imgsearch.core.store.store import Store

from conftest import ALBUM
from test_indexing import index as index_photos

NOBODY = 65534
TOP = Path(__file__).parents[1]
HELPERS = {"catalog.sqlite3-wal", "catalog.sqlite3-shm"}
"""Files that SQLite makes beside a catalogue that it reads."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, model):
    top = tmp_path_factory.mktemp("well")
    (top / "photos").mkdir()
    for path in sorted(ALBUM.glob("*.jpg"))[:8]:
        shutil.copy(path, top / "photos" / f"secret {path.name}")
    (top / "photos" / "secret broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    index_photos(str(top / "index"), model, top / "photos")
    return top


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("XDG_", "IMGSEARCH_"))]:
        monkeypatch.delenv(name)
    for name in ("ZDOTDIR", "HF_HOME", "OMP_NUM_THREADS", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def place(pristine, home):
    """A copy of the index below that home."""
    shutil.copytree(pristine / "index", home / "index")
    return home / "index"


def run(*arguments: str, before: Sequence[str] = (), **options: object) -> tuple[int, list[dict], str]:
    """Exit code, findings and stderr of the command, run by itself."""
    command = [*before, sys.executable, "-P", "-m", "imgsearch", "doctor", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def without_torch(folder: Path) -> dict[str, str]:
    """An environment in which torch fails at once, where it is not the question: loading it takes seconds."""
    planted = folder / "no torch"
    planted.mkdir()
    (planted / "torch.py").write_text("raise ImportError('not here')")
    return {"PYTHONPATH": os.pathsep.join([str(planted), os.environ.get("PYTHONPATH", "")])}


def of(found, *levels: str) -> list[findings.Finding]:
    return [finding for finding in found if finding.level in levels]


def the(found, text: str) -> findings.Finding:
    """The one finding with that text."""
    (one,) = [finding for finding in found if text in finding.found]
    return one


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if path.name not in HELPERS and path != folder / "index"  # whose time the helpers change
    }


# ---- The whole -------------------------------------------------------------------------------------------------------


def test_a_working_machine_has_no_problem_and_nothing_is_changed_or_revealed(home, place, pristine):
    before = tree(home)
    code, records, said = run("--index", str(place))
    assert (code, said) == (0, "")
    assert all(list(record) == ["topic", "level", "found", "fix"] for record in records)
    assert [*dict.fromkeys(record["topic"] for record in records)] == [
        "program", "device", "codecs", "models", "index", "serve", "settings", "terminal", "completions",
    ]  # fmt: skip
    assert {record["level"] for record in records} <= {"ok", "note", "warning"}
    assert all((record["fix"] is None) or record["level"] != "ok" for record in records)
    assert tree(home) == before
    text = json.dumps(records)
    assert "secret" not in text and str(home) not in text
    assert {"topic": "index", "level": "ok", "found": "~/index (--index or a setting)", "fix": None} in records
    devices = [record["found"] for record in records if record["topic"] == "device"]
    assert [found for found in devices if re.match("--device auto is (cpu|cuda|mps)", found)], "torch has answered"
    assert [found for found in devices if found.startswith("--precision auto is ")]


def test_a_person_reads_the_topic_once_and_what_to_do_below(imgsearch, home):
    outcome = imgsearch("doctor", "--index", str(home / "none"))
    lines = outcome.lines
    assert outcome.code == 0
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        "program", "device", "codecs", "models", "index", "serve", "settings", "terminal", "completions",
    ]  # fmt: skip
    at = next(number for number, line in enumerate(lines) if line.startswith("index"))
    assert lines[at].startswith("index        note     no index yet at ~/none (--index or a setting)")
    assert lines[at + 1] == "                      fix: imgsearch index FOLDER"
    assert re.fullmatch(r"imgsearch: (no problems|\d+ warnings?|).*\d+ notes?\n", outcome.err)


BROKEN = {
    "torch.py": "raise ImportError('libcudart.so.12: cannot open shared object file')",
    "hnswlib.py": "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
    "onnxruntime.py": "raise SystemError('built for another processor')",
    "pillow_heif.py": "print('loading'); raise OSError('no libheif')",
    "rawpy.py": "import sys; sys.exit(3)",
}


def test_where_everything_is_broken_each_thing_is_a_finding(home, place, tmp_path):
    planted = tmp_path / "planted"
    planted.mkdir()
    for name, text in BROKEN.items():
        (planted / name).write_text(text)
    (place / "catalog.sqlite3").write_bytes(b"no catalogue" * 1000)
    (home / ".cache").write_text("in the way")
    (home / ".config" / "imgsearch").mkdir(parents=True)
    (home / ".config" / "imgsearch" / "config.toml").write_text("[query")
    path = os.pathsep.join([str(planted), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "IMGSEARCH_INDEX": str(place), "OMP_NUM_THREADS": "many"}
    code, records, said = run(env=environment)
    assert (code, said) == (6, "")
    found = [findings.Finding(**record) for record in records]
    bad = of(found, "problem", "warning")
    assert all(finding.fix for finding in bad)
    assert "libcudart.so.12" in the(bad, "torch and open_clip cannot be loaded").found
    assert "torch<3,>=2.6" in the(bad, "torch and open_clip cannot be loaded").fix
    assert "crashed (SIGILL)" in the(bad, "hnswlib").found and "-m pip install" in the(bad, "hnswlib").fix
    assert "built for another processor" in the(bad, "onnxruntime cannot be loaded").found
    assert "no libheif" in the(bad, "HEIC and HEIF: not read").found
    assert the(bad, "RAW: not read").level == "warning"
    assert the(bad, "OMP_NUM_THREADS=many").fix == "unset OMP_NUM_THREADS"
    assert (the(bad, "is not TOML").topic, the(bad, "is not TOML").level) == ("settings", "problem")
    assert the(bad, "not a readable catalogue").fix.startswith("save what can be saved with: imgsearch check --repair")
    assert not [finding for finding in found if "check failed" in finding.found]


def test_a_user_without_permissions_gets_findings(place, home, tmp_path):
    """A user without a home, who may enter neither the index nor the caches."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("to give the index away, and to be nobody special, takes root and setpriv")
    cache = home / ".cache" / "imgsearch"
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    os.chown(place, NOBODY, NOBODY)
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]  # root, whom permissions hold as all others
    environment = {**os.environ, "IMGSEARCH_INDEX": str(place), **without_torch(tmp_path)}
    code, records, said = run(env=environment, before=powerless)
    assert (code, said) == (6, "")
    found = [findings.Finding(**record) for record in records]
    assert the(found, "belongs to another user").level == "warning"
    assert the(found, "you cannot read it").fix == "chmod -R u+rwX ~/index"
    assert the(found, "every query loads the whole model").fix == "chmod u+rwx ~/.cache/imgsearch"
    code, records, said = run(env={**environment, "HOME": "/nonexistent"}, before=powerless)
    assert (code, said) == (6, "")
    assert the([findings.Finding(**record) for record in records], "the home folder does not exist").level == "problem"


# ---- Questions in processes of their own -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os; os.abort()", r"it crashed \(SIGABRT\)"),
        ("raise ValueError('two\\nlines')", "ValueError: two"),
        ("import sys; sys.stderr.write('last words\\n'); import os; os._exit(4)", "last words"),
        ("import os; os._exit(4)", "it ended with code 4"),
    ],
)
def test_a_library_that_breaks_takes_only_its_own_process_along(tmp_path, monkeypatch, text, said):
    (tmp_path / "broken_library.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    asked = Probe("library", "broken_library", seconds=60)
    with contextlib.closing(asked):
        assert re.fullmatch(said, asked.answer()["error"])


def test_a_library_that_hangs_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "hanging_library.py").write_text("import time; time.sleep(1000)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    asked = Probe("library", "hanging_library", seconds=1)
    with contextlib.closing(asked):
        assert asked.answer() == {"error": "no answer within 1 seconds"}
    assert asked._process.poll() == -signal.SIGKILL


def test_what_a_library_prints_is_no_answer(tmp_path, monkeypatch):
    (tmp_path / "talking_library.py").write_text('print(\'{"error": "none"}\', flush=True)')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with contextlib.closing(Probe("library", "talking_library", seconds=60)) as asked:
        assert asked.answer() == {}


# ---- The machine -----------------------------------------------------------------------------------------------------


def test_requirements_are_those_of_the_package():
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = ("raw", "jxl", "serve", "places", "ocr", "video")
    declared = [*project["dependencies"], *(line for name in names for line in extras[name])]
    for name in (*machine.LIBRARIES.values(), "torch", "torchvision", "open_clip_torch", "starlette", "uvicorn",
                 "reverse-geocode"):  # fmt: skip
        (line,) = [line for line in declared if re.match(r"[\w-]+", line)[0] == name]
        assert sorted(re.split("[<>=,]", fixes.requirement(name))) == sorted(re.split("[<>=,]", line))
        assert fixes.requirement(name) != name


@pytest.mark.parametrize(
    ("threads", "level"),
    [("0", "warning"), ("-3", "warning"), ("two", "warning"), ("", "warning"), ("9999", "warning")],
)
def test_an_odd_number_of_threads_is_found(monkeypatch, threads, level):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert of(machine.cores(), level)[-1].fix == "unset OMP_NUM_THREADS"


def test_threads_as_many_as_cores_are_in_order(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(machine.processor_cores()))
    assert not of(machine.cores(), "warning", "problem")
    assert not [finding for finding in machine.cores() if "OMP_NUM_THREADS=" in finding.found]


class Said:
    """A probe that has been answered: there is no GPU here to be asked."""

    def __init__(self, **record: object) -> None:
        self.record = {
            "cuda": None, "rocm": None, "gpus": [], "warnings": [], "trouble": [], "device": "cpu", "has_bf16": False,
            "precisions": ["fp32", "fp32"], "threads": 2, **record,
        }  # fmt: skip

    def answer(self) -> dict:
        return self.record


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """NVIDIA's tool, which says that there is one."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "NVIDIA L4, 470.10"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_gpu_that_torch_was_not_built_for_is_found(gpu):
    found = the(machine.devices(Said()), "built without CUDA")
    assert (found.level, "NVIDIA L4, driver 470.10" in found.found) == ("warning", True)
    assert "--force-reinstall" in found.fix and "'torch<3,>=2.6' 'torchvision<1,>=0.21'" in found.fix


def test_a_driver_that_is_too_old_is_found_with_what_torch_says_of_it(gpu):
    warned = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). (Triggered at x)"
    found = the(machine.devices(Said(cuda="12.8", warnings=[warned])), "cannot use the NVIDIA GPU")
    assert found.found.endswith("is too old (found version 11040).") and "driver" in found.fix


def test_a_gpu_that_is_hidden_is_found(gpu, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert the(machine.devices(Said(cuda="12.8")), "is hidden").fix == "unset CUDA_VISIBLE_DEVICES"


def test_a_gpu_in_use_is_named_with_its_precision():
    seen = Said(cuda="12.8", gpus=[{"name": "NVIDIA H200", "bytes": 150_000_000_000}], device="cuda",
                precisions=["fp16", "fp16"])  # fmt: skip
    assert [(finding.level, finding.found) for finding in machine.devices(seen)] == [
        ("ok", "NVIDIA H200, 150.0 GB"),
        ("ok", "--device auto is cuda"),
        ("ok", "--precision auto is fp16, as on every GPU"),
    ]


def test_place_names_are_optional(monkeypatch):
    probes = {"scipy.spatial": Said()}
    monkeypatch.setattr(machine, "version_of", lambda name: "none")
    (finding,) = machine.places(probes)
    assert (finding.level, "(extra [places]) not installed" in finding.found) == ("note", True)
    assert finding.fix.endswith(" 'reverse-geocode<1.7,>=1.6.6' 'scipy<2,>=1.11' 'tzfpy<3,>=1.0'")


def test_place_names_that_cannot_be_loaded_are_a_warning(monkeypatch):
    monkeypatch.setattr(machine, "version_of", lambda name: "1.6.6")
    monkeypatch.setattr(gazetteer, "version", lambda: None)
    for probe, said in (Said(error="ImportError: libgfortran"), "scipy cannot be loaded"), (Said(), "cannot be read"):
        (finding,) = machine.places({"scipy.spatial": probe})
        assert (finding.level, said in finding.found) == ("warning", True)
    monkeypatch.setattr(gazetteer, "version", lambda: "1-a")
    (finding,) = machine.places({"scipy.spatial": Said()})
    assert (finding.level, finding.found) == ("ok", "place names: reverse-geocode 1.6.6, scipy 1.6.6, tzfpy 1.6.6")


def test_without_torch_it_is_a_light_installation(home, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    absent = ("torch", "open_clip_torch")
    monkeypatch.setattr(fixes, "version_of", lambda name: "none" if name in absent else version_of(name))
    (found,) = machine.devices(Said(error="ModuleNotFoundError: No module named 'torch'"))
    assert found.level == "note"
    assert found.found.startswith("this is the light installation: ") and "any other model" in found.found
    assert re.search(r"pip install 'torch<3,>=2.6' .*'open_clip_torch<", found.fix)
    lite = the(model_files.cached_models(), "lite, the recommended model, is not downloaded")
    assert lite.fix == f"{found.fix} && imgsearch index FOLDER --model lite"


@pytest.mark.parametrize(
    ("written", "level", "said"),
    [
        (None, "ok", "no configuration file"),
        ("[query]\nlimit = 3\n", "ok", "1 setting"),
        ("[query]\nlimmit = 3\n", "warning", "query.limmit: no such option"),
        ("[query", "problem", "is not TOML"),
    ],
)
def test_settings_are_checked(home, written, level, said):
    file = home / ".config" / "imgsearch" / "config.toml"
    if written:
        file.parent.mkdir(parents=True)
        file.write_text(written)
    (finding,) = findings.safely(doctor._settings)
    assert finding.level == level
    assert "~/.config/imgsearch/config.toml" in finding.found and said in finding.found


def test_the_home_folder_is_named_by_its_sign_where_the_shell_reads_it(home):
    found = findings.problem(
        f"'{home}/x': and {home}, not {home}s", f"rm {fixes.typed(f'{home}/a b')} {home}/c '{home}/d'"
    )
    assert found.found == f"'~/x': and ~, not {home}s"
    assert found.fix == f"rm ~/'a b' ~/c '{home}/d'"
    assert findings.ok("a\x1b[31m\nred" + "!" * 400).found == ("a\\x1b[31m red" + "!" * 400)[:297] + "..."


@pytest.mark.parametrize(
    "name", ["two  blanks", "x" * 200 + "/" + "y" * 200, "a\nb\tc\x1b[31m", "it's\\ \u200b", "\udcff.old"]
)
def test_a_fix_names_exactly_the_path(home, name):
    for path in (f"/disk/{name}", f"{home}/{name}"):
        fix = findings.note("damaged", f"printf %s {fixes.typed(path)}").fix
        assert fix.isprintable()
        environment = {"HOME": str(home), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(["bash", "-c", fix], env=environment, check=True, capture_output=True)
        assert done.stdout == os.fsencode(path)


# ---- Models ----------------------------------------------------------------------------------------------------------

BUILTIN = Path(registry.__file__).parent / "builtin_model"


def test_the_sums_of_the_builtin_model_name_all_of_its_files():
    named = {line.split()[1] for line in (BUILTIN / "SHA256SUMS").read_text().splitlines()}
    assert named == {path.name for path in BUILTIN.iterdir()} - {"SHA256SUMS", "README.md"}
    assert [finding.level for finding in model_files.builtin_model()] == ["ok"]


def test_a_builtin_model_with_one_other_byte_is_found(tmp_path, monkeypatch):
    shutil.copytree(BUILTIN, tmp_path / "model")
    monkeypatch.setattr(model_files, "SHIPPED", str(tmp_path / "model"))
    with open(tmp_path / "model" / "open_clip_model.safetensors", "r+b") as file:
        file.seek(30_000_000)
        file.write(b"\0\1\2\3")
    (tmp_path / "model" / "merges.txt").unlink()
    (found,) = model_files.builtin_model()
    assert found.level == "problem" and "--force-reinstall" in found.fix
    assert "merges.txt cannot be read" in found.found
    assert "open_clip_model.safetensors has changed" in found.found


@pytest.fixture
def lite(home, monkeypatch):
    """The hub's cache with the recommended model, or what passes for it."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    folder = home / ".cache/huggingface/hub/models--laion--CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
    (folder / "blobs").mkdir(parents=True)
    snapshot = folder / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    shutil.copy(BUILTIN / "open_clip_model.safetensors", folder / "blobs" / "weights")
    (snapshot / "open_clip_model.safetensors").symlink_to("../../blobs/weights")
    return folder


def test_a_model_that_is_here_whole_is_named(lite):
    assert "with lite" in of(model_files.cached_models(), "ok")[0].found
    assert not of(model_files.cached_models(), "note", "warning", "problem")


@pytest.mark.parametrize("length", [0, 5, 4_000, 30_000_000])
def test_weights_that_are_cut_off_are_found(lite, length):
    os.truncate(lite / "blobs" / "weights", length)
    (found,) = of(model_files.cached_models(), "problem")
    assert "lite: open_clip_model.safetensors is cut off" in found.found
    assert found.fix.startswith("rm -r ~/.cache/huggingface/hub/models--laion")


@pytest.mark.parametrize(
    "content", [b"\x08" + bytes(7) + b"[1, 2,3]" * 9, b"\x02" + bytes(7) + b"{}"[::-1] + bytes(99)]
)
def test_weights_that_make_no_sense_are_found(lite, content):
    (lite / "blobs" / "weights").write_bytes(content)
    assert "is damaged" in of(model_files.cached_models(), "problem")[0].found


def test_weights_that_are_a_link_to_nowhere_are_found(lite):
    (lite / "blobs" / "weights").unlink()
    assert "a link to a missing file" in of(model_files.cached_models(), "problem")[0].found


def test_a_download_that_was_interrupted_is_found(lite):
    shutil.rmtree(lite / "snapshots")
    (lite / "blobs" / "weights").rename(lite / "blobs" / "weights.incomplete")
    assert the(model_files.cached_models(), "its download was interrupted after 42.2 MB").level == "note"


def test_a_model_that_may_not_be_fetched_is_found(home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert (
        the(model_files.cached_models(), "forbids").fix == "unset HF_HUB_OFFLINE; imgsearch index FOLDER --model lite"
    )


def test_broken_or_foreign_towers_are_found(place, home):
    towers = home / ".cache" / "imgsearch" / "light"
    (towers / "broken").mkdir(parents=True)
    (towers / "broken" / "light.json").write_text("{")
    other = towers / "of another"
    shutil.copytree(SHIPPED, other)
    manifest = json.loads((other / "light.json").read_text())
    (other / "light.json").write_text(json.dumps({**manifest, "fingerprint": "f" * 64}))
    found = list(model_files.towers(str(place)))
    assert the(found, "incomplete").fix == "rm -r ~/.cache/imgsearch/light/broken"
    assert the(found, "does not use").fix == "rm -r ~/'.cache/imgsearch/light/of another'"


# ---- The index -------------------------------------------------------------------------------------------------------


def sql(place: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(place / "catalog.sqlite3", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("pragma wal_checkpoint(truncate)")


def test_a_sound_index_is_said_to_be_so(place):
    found = list(index.index(str(place)))
    assert not of(found, "warning", "problem")
    assert the(found, "no damage found") and the(found, "8 photos") and the(found, "its folder is present")
    failed = the(found, "1,".replace(",", " files could not be indexed"))
    assert "secret" not in failed.found and failed.fix == "imgsearch failures"


def cut_vectors(place: Path) -> None:
    (vectors,) = place.glob("spaces/*/vectors.0.f32")
    os.truncate(vectors, vectors.stat().st_size // 2)


def lose_slots(place: Path) -> None:
    next(place.glob("spaces/*/slots.u8")).unlink()


def lose_catalogue(place: Path) -> None:
    (place / "catalog.sqlite3").unlink()


def pipe_for_catalogue(place: Path) -> None:
    lose_catalogue(place)
    os.mkfifo(place / "catalog.sqlite3")


def damage_pages(place: Path) -> None:
    sql(place, "vacuum")
    with open(place / "catalog.sqlite3", "r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 20))


@pytest.mark.parametrize(
    ("harm", "level", "fix"),
    [
        (cut_vectors, "problem", "imgsearch check --repair"),
        (lose_slots, "warning", "imgsearch check --repair"),
        (lose_catalogue, "problem", "imgsearch check --repair"),
        (pipe_for_catalogue, "problem", "--index"),
        (damage_pages, "problem", "imgsearch check --repair"),
        (lambda place: sql(place, "pragma user_version = 99"), "problem", "upgrade imgsearch"),
        (lambda place: sql(place, "create view v as select 1"), "problem", "index"),
        (lambda place: (place / "stray").write_text("?"), "problem", "imgsearch check --repair"),
        (lambda place: (place / "lock").unlink() or (place / "lock").symlink_to("elsewhere"), "problem", ""),
    ],
)
def test_damage_to_the_index_is_found_with_a_fix(place, harm, level, fix):
    harm(place)
    bad = of(findings.safely(index.index, str(place)), "problem", "warning")
    assert any(finding.level == level and fix in finding.fix for finding in bad), bad
    assert not [finding for finding in bad if "Traceback" in finding.found or "please report" in finding.fix]


def test_an_older_index_is_left_as_it_is(place):
    sql(place, "pragma user_version = 2")
    assert "made by an older imgsearch" in of(index.index(str(place)), "note")[-1].found
    with contextlib.closing(sqlite3.connect(place / "catalog.sqlite3")) as connection:
        assert connection.execute("pragma user_version").fetchone() == (2,)


def test_a_damaged_vector_is_left_to_check(place, imgsearch):
    """The check is quick: `imgsearch check` reads every byte."""
    (vectors,) = place.glob("spaces/*/vectors.0.f32")
    with open(vectors, "r+b") as file:
        file.write(b"\xff" * 8)
    assert not of(index.index(str(place)), "problem")
    assert imgsearch("check", "--index", place).code == 6


HOLD = """
import sys
from imgsearch.core.store.store import Store
with Store.writing(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_process_that_writes_is_named(place):
    command = [sys.executable, "-P", "-c", HOLD, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"held\n"
        assert the(index.index(str(place)), f"process {writer.pid} is writing").level == "note"
        writer.stdin.close()
    assert not [finding for finding in index.index(str(place)) if "is writing" in finding.found]


def test_a_writer_can_begin_during_the_checks(place):
    assert index.writer_of(str(place)) is None
    with Store.writing(str(place)):
        assert index.writer_of(str(place)) == str(os.getpid())


def test_a_folder_that_is_gone_is_found_with_the_ways_out(place, pristine, tmp_path, model):
    shutil.copytree(pristine / "photos", tmp_path / "my photos")
    folder = str(place.parent / "second")
    index_photos(folder, model, tmp_path / "my photos")
    shutil.rmtree(tmp_path / "my photos")
    found = the(index.index(folder), "is missing")
    assert found.level == "warning" and f"imgsearch roots move '{tmp_path}/my photos' NEW" in found.fix


def test_a_folder_that_came_back_is_found(place):
    sql(place, "update roots set state = 'offline', note = 'not mounted'")
    found = the(index.index(str(place)), "offline in the index (not mounted), but present now")
    assert found.level == "note" and found.fix.startswith("imgsearch index ")


def test_a_model_whose_weights_are_gone_is_found(place):
    spec = json.dumps({"name": "mine", "arch": "ViT-B-32", "weights": "/nowhere/mine.pt", "preprocess_from": None})
    sql(place, f"update spaces set model = '{spec}'")
    assert the(index.index(str(place)), "the weights of builtin are missing: /nowhere/mine.pt").level == "warning"


def test_a_model_that_is_not_complete_is_found(place):
    sql(
        place,
        "insert into spaces (id, fingerprint, name, model, arch, dim, details, state, created_at) "
        "select substr('0123456789abcdef', 1), 'other', 'my model', model, arch, dim, details, 'building', '2099' "
        "from spaces",
    )
    found = the(index.index(str(place)), "model my model is incomplete (0 vectors)")
    assert found.fix == "imgsearch index --model 'my model'; or remove it: imgsearch prune --space 'my model'"


def test_the_reason_for_this_index_is_shown(place, home, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_INDEX", str(place))
    assert next(index.index(None)).found == "~/index ($IMGSEARCH_INDEX)"
    monkeypatch.delenv("IMGSEARCH_INDEX")
    assert next(index.index(None)).found.startswith(
        "no index yet at ~/.local/share/imgsearch/index (in your data directory)"
    )
    place.rename(home / ".imgsearch")
    assert next(index.index(None)).found == "~/.imgsearch (the nearest .imgsearch/)"


def test_an_index_of_another_user_is_refused_as_by_every_command(home):
    if os.geteuid() != 0:
        pytest.skip("to give a folder away takes root")
    (home / ".imgsearch").mkdir()
    os.chown(home / ".imgsearch", NOBODY, NOBODY)
    found = list(findings.safely(index.index, None))
    assert [finding.level for finding in found] == ["problem"] and "belongs to another user" in found[0].found


# ---- A server --------------------------------------------------------------------------------------------------------


def test_a_server_is_found_and_so_is_one_that_was_killed(place, monkeypatch):
    runtime = tempfile.mkdtemp(prefix="im")  # short: a socket's name is
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    try:
        assert [finding.found for finding in index.server(str(place))][0].startswith("no server is running")
        command = [sys.executable, "-P", "-m", "imgsearch", "serve", "--socket-only", "--index", str(place)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert "answered from memory" in process.stderr.readline()
            assert of(index.server(str(place)), "ok")[0].found.startswith("a server of this version answers")
            monkeypatch.setenv("TZ", "Pacific/Apia")
            assert "other settings" in of(index.server(str(place)), "note")[0].found
            process.kill()
        (found,) = index.server(str(place))
        assert "was killed" in found.found and found.fix == f"rm {protocol.socket_path(str(place))}"
    finally:
        shutil.rmtree(runtime)


# ---- Shells ----------------------------------------------------------------------------------------------------------

ASKED = {
    "bash": ["bash", "--norc", "-c", ". ~/.local/share/bash-completion/completions/imgsearch && complete -p imgsearch"],
    "zsh": ["zsh", "-i", "-c", "print $_comps[imgsearch]"],
    "fish": ["fish", "-c", "complete -C 'imgsearch doct'"],
}
ANSWERS = {"bash": "-F _imgsearch imgsearch", "zsh": "_imgsearch", "fish": "doctor"}


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request, home, monkeypatch):
    """A shell's name, in a home where nothing is set up and `imgsearch` is this one."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    (home / "bin").mkdir()
    program = home / "bin" / "imgsearch"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m imgsearch "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return request.param


def about(shell: str) -> list[findings.Finding]:
    return [each for each in completions.completions(doctor._script_of) if each.found.startswith(f"{shell}:")]


def apply_fixes(shell: str) -> None:
    """Run the fixes in that shell."""
    for finding in of(about(shell), "note", "warning"):
        subprocess.run([shell, "-c", finding.fix], check=True)


def test_what_it_says_of_completions_makes_them_work(shell):
    assert f"{shell}: no completions of imgsearch" in [finding.found for finding in of(about(shell), "note")]
    apply_fixes(shell)
    (found,) = of(about(shell), "ok")
    assert not [each for each in of(about(shell), "note", "warning") if "bash-completion" not in each.found]
    done = subprocess.run(ASKED[shell], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert ANSWERS[shell] in done.stdout, done.stderr
    script = Path(found.found.partition(": ")[2]).expanduser()
    script.write_text(script.read_text() + "# of old\n")
    assert "of another version" in of(about(shell), "warning")[0].found
    apply_fixes(shell)
    assert not of(about(shell), "warning")


def test_settings_that_ask_imgsearch_at_every_start_are_enough(shell, home):
    settings = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}[shell]
    (home / settings).parent.mkdir(parents=True, exist_ok=True)
    (home / settings).write_text(f"source <(imgsearch --show-completion {shell})\n")
    assert [finding.level for finding in about(shell)] == ["ok"]


def test_settings_are_read_and_never_run(shell, home):
    for name in (".bashrc", ".zshrc", ".zshenv", ".bash_completion", ".config/fish/config.fish"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"echo ran > {home}/ran\nwhile true; do :; done\n")
    assert about(shell)
    assert not (home / "ran").exists()


# ---- The terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "level"), [("C", "note"), ("xx_XX.UTF-8", "warning"), ("C.UTF-8", "ok"), ("", "note")]
)
def test_the_locale_is_judged(monkeypatch, value, level):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_ALL", value)
    assert [finding.level for finding in doctor._encoding()] == [level]


def test_on_a_terminal_the_preview_protocol_is_shown(home, tmp_path):
    """In a terminal of its own that answers no question, 80 columns wide."""
    script = f"import pty, sys; sys.exit(pty.spawn([{sys.executable!r}, '-P', '-m', 'imgsearch', 'doctor']) >> 8)"
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LC_ALL": "C.UTF-8", "CI": ""}
    environment |= without_torch(tmp_path)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, timeout=300, input=b"")
    screen = done.stdout.decode()
    assert "TERM=xterm-256color" in screen and "--preview draws with half blocks graphics" in screen
    assert "checking torch, which takes some seconds to load" in screen
    shown = re.sub(r"\x1b_.*?\x1b\\|\x1b[^a-zA-Z]*[a-zA-Z]", "", screen)
    lines = re.split(r"[\r\n]", shown)
    assert max(len(line) for line in lines if "fix: " not in line) <= 80
