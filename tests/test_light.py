"""A light installation, as its user has it: the commands in an environment that has never seen torch.

`make test-light` runs this file, and others, in such an environment. Elsewhere it is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from importlib import metadata
from pathlib import Path

import pytest

from conftest import ALBUM, wait_until

ABSENT = ("torch", "torchvision", "open_clip", "timm", "triton", "onnx", "safetensors")
PROGRAM = [str(Path(sys.executable).parent / "imgsearch")]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home folder with ten indexed photos."""
    home = tmp_path_factory.mktemp("light")
    (home / "photos").mkdir()
    for photo in sorted(ALBUM.glob("*.jpg"))[:10]:
        shutil.copy(photo, home / "photos")
    done = start(home, "index", "photos").communicate(timeout=120)
    assert "indexed 10 photos" in done[1] and "torch is not installed; using the built-in model" in done[1]
    return home


def start(home: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_RUNTIME_DIR": str(home),
        "IMGSEARCH_INDEX": str(home / "index"),
    }
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        cwd=home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(home: Path, *arguments: object, code: int = 0) -> str:
    """What the command prints on stdout, or if it fails as it should on stderr."""
    process = start(home, *arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return err if code else out


def test_nothing_here_brings_torch() -> None:
    assert [name for name in ABSENT if importlib.util.find_spec(name)] == []
    assert metadata.version("imgsearch-cli")


def test_the_program_starts_and_knows_what_it_is(home: Path) -> None:
    assert run(home, "--version").startswith("imgsearch ")
    findings = [json.loads(line) for line in run(home, "doctor", "--json").splitlines()]
    assert any("this is the light installation" in finding["found"] for finding in findings)
    assert "problem" not in {finding["level"] for finding in findings}


def test_queries_by_words_by_a_picture_outside_and_composed(home: Path, tmp_path: Path) -> None:
    outside = shutil.copy(ALBUM / "lemon.jpg", tmp_path)
    change = ["--from", "red", "--to", "green", "--image", outside]
    for query in (["an", "apple"], [outside], ["an apple like", outside], change):
        assert len(run(home, "query", *query, "-n", "3", "-l").splitlines()) == 3
    assert run(home, "similar", home / "photos" / sorted(os.listdir(home / "photos"))[0], "-n", "1", "-l")


def test_the_other_commands(home: Path, tmp_path: Path) -> None:
    photo = home / "photos" / sorted(os.listdir(home / "photos"))[0]
    assert "no duplicates" in run(home, "dupes", code=1)
    run(home, "check", "--deep")
    run(home, "calibrate")
    run(home, "notes", "add", photo, "my picture")
    assert str(photo) in run(home, "query", "my picture", "--modality", "text", "-n", "1")
    run(home, "export", tmp_path / "a.npz")
    run(home, "import", tmp_path / "a.npz", "--index", tmp_path / "other")
    assert json.loads(run(home, "status", "--json"))["model"] == "builtin"
    queries = tmp_path / "queries.jsonl"
    queries.write_text(json.dumps({"text": "an apple", "relevant": [photo.name]}) + "\n")
    assert "ndcg@10" in run(home, "eval", "jsonl", "-a", queries)
    assert "builtin" in run(home, "models")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--model", "lite"], "lite"),
        (["--model", "ViT-B-32/openai"], "ViT-B-32/openai"),
        (["--model", "builtin", "--device", "cuda"], "--device cuda"),
        (["--model", "builtin", "--precision", "bf16"], "--precision bf16"),
    ],
)
def test_what_needs_torch_says_so_and_how_to_install_it(home: Path, tmp_path: Path, options, what: str) -> None:
    line, hint = run(home, "index", "photos", *options, "--index", tmp_path / "i", code=2).splitlines()
    assert line == f"imgsearch: {what} needs torch, which is not installed"
    assert hint.startswith("  install it: ") and "-m pip install 'torch<3,>=2.6'" in hint


def test_serve_answers_in_the_browser(home: Path) -> None:
    server = start(home, "serve", "--port", "0")
    try:
        link = server.stdout.readline().strip()
        with urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(link, timeout=60) as page:
            assert b"<html" in page.read()
        assert run(home, "query", "an", "apple", "-n", "1")
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def test_watch_embeds_a_new_photo(home: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    index = tmp_path / "index"
    shutil.copy(ALBUM / "lemon.jpg", tmp_path / "photos")
    watcher = start(home, "watch", tmp_path / "photos", "--model", "builtin", "--index", index)
    try:
        wait_until(lambda: "watching" in watcher.stderr.readline())
        shutil.copy(ALBUM / "kiwi.jpg", tmp_path / "photos")

        def photos() -> bool:
            return json.loads(run(home, "status", "--json", "--index", index))["photos"] == 2

        wait_until(photos)
    finally:
        watcher.send_signal(signal.SIGTERM)
        watcher.communicate(timeout=60)
