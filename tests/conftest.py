"""What the tests share: real photos, the real built-in model, and the command run as a user would."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ALBUM = Path(__file__).parent / "album"
SHARED = Path(os.environ.get("IMGSEARCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session", autouse=True)
def _no_network_and_own_caches(tmp_path_factory: pytest.TempPathFactory):
    """Nothing is fetched, and nothing of the person who runs the tests is read or written."""
    home = tmp_path_factory.mktemp("home")
    for number in (signal.SIGINT, signal.SIGHUP):  # started by nohup or with &, everything below would be deaf
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGHUP else signal.default_int_handler)
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("HF_HOME", str(home / "hub"))
    patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    patch.setenv("XDG_DATA_HOME", str(home / "data"))
    for name in ("IMGSEARCH_INDEX", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "CI"):
        patch.delenv(name, raising=False)
    patch.setenv("IMGSEARCH_HNSW_SLOTS", "4")  # so that the small indexes here have graphs, and a tail without
    yield
    patch.undo()


@pytest.fixture(scope="session")
def model():
    """The built-in model, loaded once."""
    from imgsearch.core.models import embedding, registry

    return embedding.load(registry.parse("builtin"), device="cpu")


class Counting:
    """The real model, counting what it is asked to embed."""

    def __init__(self, model) -> None:
        self._model = model
        self.pictures = 0
        self.texts: list[str] = []

    identity = property(lambda self: self._model.identity)
    recipe = property(lambda self: self._model.recipe)

    def embed_images(self, squares):
        self.pictures += len(squares)
        return self._model.embed_images(squares)

    def embed_texts(self, texts):
        self.texts += texts
        return self._model.embed_texts(texts)


@pytest.fixture
def counting(model) -> Counting:
    return Counting(model)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "index")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with six real photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("banana", "lemon", "red-delicious", "carrots", "oatly-oat-milk", "watermelon"):
        shutil.copy(ALBUM / f"{name}.jpg", folder)
    return folder


@pytest.fixture
def other(tmp_path: Path) -> str:
    """A second model: the built-in one with pictures prepared a little differently."""
    from imgsearch.core.models import registry

    builtin = Path(registry.__file__).parent / "builtin_model"
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "open_clip_model.safetensors").symlink_to(builtin / "open_clip_model.safetensors")
    config = json.loads((builtin / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@dataclass
class Outcome:
    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return os.fsdecode(self.out).splitlines()

    @property
    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def imgsearch(tmp_path, monkeypatch, capfdbinary):
    """The command, run in this process (the model's libraries are imported once), in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "index"))
    from imgsearch.cli import app
    from imgsearch.cli.output import render

    monkeypatch.setattr(render, "close_output", render.flush)  # the tests have the same output

    def run(*arguments: object, stdin: bytes | None = None) -> Outcome:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        render.hush(False)  # as in every process
        try:
            code = app.exit_code([os.fsdecode(os.fspath(a)) if not isinstance(a, str) else a for a in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return Outcome(code, out, err.decode())

    return run


@pytest.fixture
def shared() -> Path:
    """The test material that may not be committed."""
    if not SHARED.is_dir():
        pytest.skip(f"no test material at {SHARED}; set IMGSEARCH_TEST_DATA")
    return SHARED
