"""`imgsearch models export` and `models import`: a model in one file, and files that are damaged or hostile."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from imgsearch.cli import loading
from imgsearch.core.errors import ModelError
from imgsearch.core.models import model_file, onnx_embedder, towers
from imgsearch.core.models.registry import ALIASES, ModelSpec
from imgsearch.core.models.towers import MANIFEST, SHIPPED, Manifest, Towers

from conftest import ALBUM

FINGERPRINT = "ab" * 32
LITE = ALIASES["lite"].spec


def install(spec: ModelSpec, fingerprint: str = FINGERPRINT, **changes) -> Towers:
    """The towers of the built-in model in the cache, as those of another one."""
    shipped = Towers.at(SHIPPED)
    assert shipped
    names = [name for name in shipped.manifest.files if name not in shipped.manifest.earlier.values()]
    manifest = replace(
        shipped.manifest,
        fingerprint=fingerprint,
        model=spec.to_json(),
        earlier={},
        files={name: shipped.manifest.files[name] for name in names},
        sha256={name: shipped.manifest.sha256[name] for name in names},
        **changes,
    )
    folder = Path(towers.towers_folder(fingerprint))
    folder.mkdir(parents=True)
    for name in names:
        shutil.copy(Path(SHIPPED, name), folder)
    (folder / MANIFEST).write_text(manifest.to_json())
    return Towers(str(folder), manifest)


@pytest.fixture
def other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "imgsearch" / "light"


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The file of a model that calls itself lite."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        towers = install(LITE)
        with open(folder / "lite.tar", "wb") as file:
            assert model_file.write_model(towers, file) == file.tell()
    shutil.rmtree(folder / "cache")
    return folder / "lite.tar"


def changed(exported: Path, *, manifest=lambda record: None, members=lambda members: None) -> io.BytesIO:
    """The exported file with another manifest or other members: lists of [TarInfo, content]."""
    with tarfile.open(exported) as archive:
        found = [[member, archive.extractfile(member).read()] for member in archive]
    record = json.loads(found[0][1])
    manifest(record)
    found[0][1] = json.dumps(record).encode()
    members(found)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, content in found:
            if member.isreg():
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    out.seek(0)
    return out


def read(source) -> model_file.Imported:
    return model_file.read_model(source, "FILE")


def read_file(path: Path) -> model_file.Imported:
    with model_file.opened(str(path)) as source:
        return read(source)


def test_an_imported_model_indexes_and_answers(imgsearch, exported: Path, other_machine: Path, photos: Path) -> None:
    run = imgsearch("models", "import", exported)
    assert run.code == 0
    assert run.err == "imgsearch: imported lite (43.0 MB); use it with: imgsearch index ~/Photos --model lite\n"
    assert [path.name for path in other_machine.iterdir()] == [FINGERPRINT[:16]]
    assert other_machine.stat().st_mode & 0o77 == 0
    assert {path.stat().st_mode & 0o777 for path in (other_machine / FINGERPRINT[:16]).iterdir()} == {0o600}
    assert imgsearch("index", photos, "--model", "lite", "--device", "cpu").code == 0
    assert json.loads(imgsearch("status", "--json").out)["model"] == "lite"
    for asked in (["a", "lemon"], [ALBUM / "lemon.jpg"], ["in a box like", ALBUM / "lemon.jpg"]):
        assert imgsearch("query", *asked, "-n", "1").code == 0
    rows = {row["name"]: row for row in imgsearch("models", "--json").records}
    assert (rows["lite"]["usable"], rows["lite"]["cached"], rows["fast"]["usable"]) == (True, False, False)


def test_export_and_import_through_a_pipe(imgsearch, other_machine: Path, tmp_path: Path, monkeypatch) -> None:
    install(LITE)
    piped = imgsearch("models", "export", "lite", "-").out
    run = imgsearch("models", "export", "lite", "lite.tar", "--json")
    assert (tmp_path / "lite.tar").read_bytes() == piped
    (record,) = run.records
    assert record == {
        "path": str(tmp_path / "lite.tar"), "model": "lite", "fingerprint": FINGERPRINT, "bytes": len(piped),
    }  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    (record,) = imgsearch("models", "import", "-", "--json", stdin=piped).records
    assert record["is_new"] and record["model"] == "lite"
    assert Towers.of_model(LITE).manifest.fingerprint == FINGERPRINT


def test_a_model_is_imported_once_and_a_damaged_one_again(exported: Path, other_machine: Path) -> None:
    assert read_file(exported).is_new
    assert not read_file(exported).is_new
    graph = other_machine / FINGERPRINT[:16] / "open_clip_model.safetensors"
    content = bytearray(graph.read_bytes())
    content[100] ^= 1
    graph.write_bytes(content)
    assert read_file(exported).is_new
    assert not read_file(exported).is_new


def test_two_imports_at_once(exported: Path, other_machine: Path) -> None:
    done = []

    def run() -> None:
        done.append(read_file(exported).name)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == ["lite"] * 3
    assert [path.name for path in other_machine.iterdir()] == [FINGERPRINT[:16]]
    assert Towers.find(FINGERPRINT)


def rename_graph(record) -> None:
    for table in ("files", "sha256"):
        record[table]["../open_clip_model.safetensors"] = record[table].pop("open_clip_model.safetensors")


def more_pixels(record) -> None:
    record["recipe"]["size"] = [1 << 20, 1 << 20]


def other_digest(record) -> None:
    record["sha256"]["open_clip_model.safetensors"] = "0" * 64


def huge(record) -> None:
    record["files"]["open_clip_model.safetensors"] = 1 << 70


def link(members) -> None:
    members[1][0].type, members[1][0].linkname = tarfile.SYMTYPE, "/etc/passwd"


def extra(members) -> None:
    members.append([tarfile.TarInfo("more.onnx"), b"x"])


def missing(members) -> None:
    del members[-1]


def swapped(members) -> None:
    members[1:3] = members[2:0:-1]


def long_manifest(members) -> None:
    members[0][1] += b" " * (2 << 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"manifest": lambda record: record.update(format=0)}, "made by an older version"),
        ({"manifest": lambda record: record.update(format=99)}, "made by a newer version"),
        ({"manifest": lambda record: record.update(format="1")}, "manifest is damaged"),
        ({"manifest": rename_graph}, "manifest is damaged"),
        ({"manifest": more_pixels}, "manifest is damaged"),
        ({"manifest": lambda record: record.update(dim=-1)}, "manifest is damaged"),
        ({"manifest": lambda record: record.update(dim=128)}, "does not run here"),
        ({"manifest": lambda record: record.update(fingerprint="../../x")}, "manifest is damaged"),
        ({"manifest": lambda record: record.update(model=ALIASES["builtin"].spec.to_json())}, "manifest is damaged"),
        ({"manifest": lambda record: record.update(model="")}, "manifest is damaged"),
        ({"manifest": lambda record: record.update(earlier={"cd" * 32: "image.onnx"})}, "manifest is damaged"),
        ({"manifest": lambda record: record.update(surprise=1)}, "manifest is damaged"),
        ({"manifest": lambda record: record.pop("recipe")}, "manifest is damaged"),
        ({"manifest": other_digest}, "open_clip_model.safetensors is damaged: its checksum is wrong"),
        ({"manifest": huge}, "no space for"),
        ({"members": link}, "image.onnx is missing"),
        ({"members": extra}, "contains more than its manifest says"),
        ({"members": missing}, "is missing"),
        ({"members": swapped}, "image.onnx is missing"),
        ({"members": long_manifest}, "not a model file"),
    ],
)  # fmt: skip
def test_a_changed_file_leaves_nothing(exported: Path, other_machine: Path, change, message) -> None:
    with pytest.raises(ModelError, match=message):
        read(changed(exported, **change))
    assert not other_machine.exists() or not list(other_machine.iterdir())


@pytest.mark.parametrize("share", [0, 0.00001, 0.5, 0.999999])
def test_a_truncated_file_leaves_nothing(exported: Path, other_machine: Path, share: float) -> None:
    content = exported.read_bytes()
    with pytest.raises(ModelError, match="truncated"):
        read(io.BytesIO(content[: int(len(content) * share)]))
    assert not other_machine.exists() or not list(other_machine.iterdir())


def test_other_files_are_refused(imgsearch, tmp_path: Path, other_machine: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 100)
    os.mkfifo(tmp_path / "pipe")
    assert "noise: not a model file" in imgsearch("models", "import", "noise").err
    assert "pipe: not a regular file" in imgsearch("models", "import", "pipe").err
    assert "is a directory" in imgsearch("models", "import", tmp_path).err
    assert "no such file" in imgsearch("models", "import", "nothing").err


def test_a_full_disk_leaves_nothing(exported: Path, other_machine: Path, monkeypatch) -> None:
    new = model_file._new

    def full(path: str) -> int:
        if path.endswith("open_clip_model.safetensors"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return new(path)

    monkeypatch.setattr(model_file, "_new", full)
    with pytest.raises(ModelError, match="no space left on device"):
        read_file(exported)
    assert not list(other_machine.iterdir())


def test_a_model_does_not_replace_another_of_its_name(exported: Path, other_machine: Path) -> None:
    there = install(LITE, "cd" * 32)
    with pytest.raises(ModelError, match="another model named lite is in"):
        read_file(exported)
    assert Towers.of_model(LITE).path == there.path


def test_what_cannot_be_exported(imgsearch, other_machine: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_embedder, "has_torch", lambda: False)
    for name, message in {
        "builtin": "builtin is part of every installation",
        "auto": "auto is not a model",
        "lite": "lite needs torch, which is not installed",
    }.items():
        run = imgsearch("models", "export", name, "file.tar")
        assert (run.code, message in run.err) == (2, True), run.err
    install(ALIASES["fast"].spec, lacking={"text": "its tokenizer is a HFTokenizer, which needs torch"})
    assert "fast cannot be used without torch: its tokenizer" in imgsearch("models", "export", "fast", "file.tar").err
    damaged = install(LITE, "cd" * 32)
    content = bytearray((Path(damaged.path) / "merges.txt").read_bytes())
    content[0] ^= 1
    (Path(damaged.path) / "merges.txt").write_bytes(content)
    assert "merges.txt is damaged" in imgsearch("models", "export", "lite", "file.tar").err
    assert not (tmp_path / "file.tar").exists()


def test_a_model_that_is_here_by_another_name(imgsearch, other_machine: Path, monkeypatch) -> None:
    embedder = SimpleNamespace(identity=SimpleNamespace(name="hf-hub:o/r", fingerprint=FINGERPRINT))
    monkeypatch.setattr(loading, "load_to_convert", lambda spec, *, offline: embedder)
    install(LITE)
    run = imgsearch("models", "export", "hf-hub:o/r", "file.tar")
    assert run.err == "imgsearch: hf-hub:o/r is the same model as lite\n  export lite\n"


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("./mine", ModelSpec("./mine", "local-dir:/home/ada/mine")),
        ("ViT-B-32/my.pt", ModelSpec("ViT-B-32/my.pt", "ViT-B-32", "/home/ada/my.pt")),
    ],
)
def test_a_model_of_local_files_goes_by_its_name(imgsearch, other_machine: Path, photos, name, spec) -> None:
    install(spec)
    assert imgsearch("models", "export", name, "mine.tar").code == 0
    shutil.rmtree(other_machine)
    assert f"--model {name}\n" in imgsearch("models", "import", "mine.tar").err
    assert imgsearch("index", photos, "--model", name, "--device", "cpu").code == 0
    assert imgsearch("query", "lemon", "-n", "1").code == 0


# --------------------------------------------------------------------------------------- without torch


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_embedder, "has_torch", lambda: False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "lite"], "lite needs torch, which is not installed"),
        (["--model", "hf-hub:o/r"], "hf-hub:o/r needs torch, which is not installed"),
        (["--model", "ViT-B-32/openai"], "ViT-B-32/openai needs torch, which is not installed"),
        (["--model", "builtin", "--device", "cuda"], "--device cuda needs torch, which is not installed"),
        (["--model", "builtin", "--precision", "bf16"], "--precision bf16 needs torch, which is not installed"),
        (["--model", "fast"], "fast needs torch for texts (its tokenizer is special), which is not installed"),
    ],
)
def test_what_needs_torch_says_so(imgsearch, without_torch, other_machine, photos, options, message) -> None:
    install(ALIASES["fast"].spec, lacking={"text": "its tokenizer is special"})
    run = imgsearch("index", photos, *options)
    assert run.code == 2
    line, hint = run.err.splitlines()
    assert line == f"imgsearch: {message}"
    assert "install it: " in hint and "pip install 'torch<3,>=2.6'" in hint


def test_without_torch_auto_takes_what_is_here(imgsearch, without_torch, other_machine: Path, photos: Path) -> None:
    run = imgsearch("index", photos)
    assert run.err.startswith("imgsearch: torch is not installed; using the built-in model")
    install(LITE)
    assert imgsearch("index", photos, "--index", "i").code == 0
    assert json.loads(imgsearch("status", "--json", "--index", "i").out)["model"] == "lite"


def test_fp32_is_what_there_is_without_torch(imgsearch, without_torch, photos: Path) -> None:
    assert imgsearch("index", photos, "--model", "builtin", "--precision", "fp32").code == 0


def test_the_manifest_of_a_model_is_one_that_import_accepts() -> None:
    shipped = Manifest.from_json(Path(SHIPPED, MANIFEST).read_text())
    assert model_file._is_sane(replace(shipped, model=LITE.to_json(), earlier={}))
