"""Shared by all tests: real photos, the built-in model, the command, and how to wait.

    make test                               everything, on all cores
    make test-long                          the same with many more kills, faults, damaged files and random examples
    .venv/bin/python -m pytest tests/X.py   one file, in one process

Tests need no network. They skip, and say why, what this machine lacks: zsh, fish, tmux, mandoc, chromium, the right
to mount a disk, or the pictures that may not be committed (IMGSEARCH_TEST_DATA). IMGSEARCH_REQUIRE_SHELLS=1 makes a
missing shell a failure.

Several workers run at once, on a machine that may be busy. A test never sleeps for a time that should be enough and
never asserts how many seconds something took: it waits for a condition with `wait_until`, and where the order of
events matters it holds one of them back (`rigged`). What has to be fast is bounded in CPU time (`cpu_seconds`).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the command: sums in another order are rounded differently
import numpy as np  # noqa: E402

ALBUM = Path(__file__).parent / "album"
SHARED = Path(os.environ.get("IMGSEARCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
IS_LONG = os.environ.get("IMGSEARCH_TEST_LONG") == "1"
if IS_LONG:
    os.environ.setdefault("IMGSEARCH_PROPERTY_EXAMPLES", "2000")
    os.environ.setdefault("IMGSEARCH_API_EXAMPLES", "300")
# The same examples each time, and none of them fails for being slow.
settings.register_profile(
    "imgsearch",
    derandomize=not IS_LONG,
    max_examples=1000 if IS_LONG else 40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("imgsearch")
PATIENCE_SECONDS = 300
"""How long a test waits before it fails. No passing test waits this long."""
# Set, every process that a test starts compiles the whole program again.
BYTECODE = "PYTHONDONTWRITEBYTECODE"
MEMORY, MEMORY_BYTES = "/dev/shm", 8 << 30
MAX_POOLS = 3
# The first has no windows, and needs half the time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
NOT_FOR_WORKERS = ("IMGSEARCH_INDEX", "PYTEST_CURRENT_TEST")
LONGEST_FIRST = tuple(
    f"test_{name}"
    for name in (
        *("ocr", "watch", "acceptance", "onnx_embedder", "completions", "terminal", "browser", "towers"),
        *("filters", "serve", "check", "faults", "socket", "decode_pool", "embedding", "gallery", "prune", "fuzz"),
        *("eval_cmd", "cli", "search", "kill", "video", "doctor", "decode", "contact_sheet", "transfer", "notes"),
        *("registry", "roots", "property", "regions", "indexing", "model_file", "takeout", "moving", "places"),
        *("natural", "messages"),
    )
)

T = TypeVar("T")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that no worker is left alone with one of them at the end. A file stays with one
    worker, which makes its fixtures once."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def wait_until(condition: Callable[[], T], what: str = "") -> T:
    """The first true value of `condition`. Fails after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} seconds in vain: {what or condition}"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def cpu_seconds(limit: float) -> Iterator[None]:
    """Fails if the body takes more CPU time in this thread; other processes make no difference to it."""
    started = time.thread_time()
    yield
    assert time.thread_time() - started < limit


def pytest_configure(config: pytest.Config) -> None:
    """Put the folders of tests into memory where there is plenty, unless told where: half of what they do there is
    fsync. A folder is deleted once its test has passed. Workers and what they start run on one thread each: more would
    spin while they wait for each other."""
    if config.getoption("numprocesses", None):  # before the workers start
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    with contextlib.suppress(OSError):
        disk = os.statvfs(MEMORY)
        if disk.f_bavail * disk.f_frsize > MEMORY_BYTES and not disk.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


@pytest.fixture(scope="session", autouse=True)
def _no_network_and_own_caches(tmp_path_factory: pytest.TempPathFactory):
    """Nothing is fetched, and nothing of the person who runs the tests is read or written."""
    home = tmp_path_factory.mktemp("home")
    for number in (signal.SIGINT, signal.SIGHUP):  # ignored under nohup and in the background, also by what tests start
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGHUP else signal.default_int_handler)
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("HF_HOME", str(home / "hub"))
    patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    patch.setenv("XDG_DATA_HOME", str(home / "data"))
    for name in ("IMGSEARCH_INDEX", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "CI", BYTECODE):
        patch.delenv(name, raising=False)
    patch.setenv("IMGSEARCH_HNSW_SLOTS", "4")  # so that the small indexes here have graphs, and a tail without
    yield
    patch.undo()


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores, because many tests wait for another process."""
    from imgsearch.core.paths import processor_cores

    return processor_cores() + 2


@pytest.fixture(scope="session")
def model():
    """The built-in model on ONNX Runtime, loaded once."""
    from imgsearch.core.models import onnx_embedder, registry

    spec = registry.parse("builtin")
    found = onnx_embedder.find(spec, device="cpu", precision="auto", whole=lambda: pytest.fail("torch"), say=print)
    return remembering(found)


@pytest.fixture(scope="session")
def torch_model():
    """The built-in model in torch, loaded once."""
    pytest.importorskip("open_clip")
    from imgsearch.core.models import loading, registry

    return loading.load(registry.parse("builtin"), device="cpu")


def remembering(embedder):
    """The same embedder, which embeds equal squares and texts once for all tests: a vector does not depend on its
    batch."""
    run, embed_texts = embedder.run_image_tower, embedder.embed_texts

    def run_image_tower(squares):
        return _remembered([hashlib.sha256(square.tobytes()).digest() for square in squares], squares, run)

    embedder.run_image_tower = run_image_tower
    embedder.embed_texts = lambda texts: _remembered(texts, texts, embed_texts)
    return embedder


def _remembered(keys, values, embed):
    new = {key: value for key, value in zip(keys, values, strict=True) if key not in _KNOWN_VECTORS}
    if new:
        unseen = list(new.values())
        _KNOWN_VECTORS.update(zip(new, embed(unseen if isinstance(values, list) else np.stack(unseen)), strict=True))
    return np.stack([_KNOWN_VECTORS[key] for key in keys]) if len(keys) else embed(values)


_KNOWN_VECTORS: dict[bytes | str, np.ndarray] = {}


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
    return from_album(
        tmp_path / "photos", "banana", "lemon", "red-delicious", "carrots", "oatly-oat-milk", "watermelon"
    )


def from_album(folder: Path, *names: str) -> Path:
    """A new folder with these photos of the album."""
    folder.mkdir()
    for name in names:
        shutil.copy(ALBUM / f"{name}.jpg", folder)
    return folder


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A second model: the built-in one with pictures prepared a little differently."""
    from imgsearch.core.models import registry

    builtin = Path(registry.__file__).parent / "builtin_model"
    folder = tmp_path_factory.mktemp("other")
    (folder / "open_clip_model.safetensors").symlink_to(builtin / "open_clip_model.safetensors")
    config = json.loads((builtin / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.48, 0.46, 0.41]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@pytest.fixture
def other(other_model: str) -> str:
    return other_model


# A Pillow plug-in that does what the comment in a JPEG says. Python imports a module of this name at every start, so
# the environment brings it into the workers, as it would a plug-in of the user's.
RIGGED = """
import ctypes, os, signal, sys, time
from PIL import Image, JpegImagePlugin

followed = set()

class Rigged(JpegImagePlugin.JpegImageFile):
    def load(self):
        comment = self.info.get("comment", b"")
        order, _, rest = comment.partition(b" ") if comment not in followed else (b"", b"", b"")
        if order == b"crash":
            ctypes.string_at(0)
        if order == b"abort":
            os.abort()
        if order == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == b"leave":
            os._exit(0)
        if order == b"hang":
            while True: time.sleep(1)
        if order == b"sleep":
            time.sleep(float(rest))
        if order == b"wait":
            while not os.path.exists(rest): time.sleep(0.02)
        if order == b"slow":
            until = time.monotonic() + 1
            while os.path.exists(rest) and time.monotonic() < until: time.sleep(0.02)
        if order == b"eat":
            held = [bytearray(64 << 20) for _ in range(4096)]
        if order == b"raise":
            raise SystemExit(rest.decode())
        if order == b"once" and not os.path.exists(rest):
            os.mkdir(rest)
            os.kill(os.getpid(), signal.SIGKILL)
        if order == b"say":
            followed.add(comment)
            with open(rest + b".part", "w") as file:
                print(os.getpid(), file=file)
            os.rename(rest + b".part", rest)
            while os.path.exists(rest): time.sleep(0.02)
        return super().load()

Image.register_open("JPEG", lambda fp, name: Rigged(fp, name), JpegImagePlugin._accept)
"""


@pytest.fixture
def rigged(tmp_path: Path, monkeypatch) -> Callable[..., Path]:
    """Makes a JPEG whose decoder, in every process started from here on, follows an order: one of RIGGED.

    `say PATH` writes its process id there and waits while that exists; `wait PATH` waits until that exists; `slow PATH`
    takes a second while that exists; `hang` never ends.
    """
    from PIL import Image

    plug_ins = tmp_path / "plug-ins"
    plug_ins.mkdir()
    (plug_ins / "sitecustomize.py").write_text(RIGGED)
    monkeypatch.setenv("PYTHONPATH", str(plug_ins))

    def make(path: Path, order: str, picture: Path = ALBUM / "lemon.jpg", degrees: float = 0) -> Path:
        with Image.open(picture) as image:
            image.resize((160, 120)).rotate(degrees).save(path, comment=order.encode())
        return path

    return make


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


@pytest.fixture(scope="session")
def _pools():
    """Decoding workers by what they were started with."""
    pools = {}
    yield pools
    for pool in pools.values():
        pool.close()


@pytest.fixture
def kept_workers(_pools, monkeypatch):
    """Runs in this process share decoding workers, which take longer to start than a few photos to read."""
    from imgsearch.core.photos.decode_pool import DecodePool

    init, leave = DecodePool.__init__, DecodePool.__exit__

    def made(self, *arguments, **named):
        self.made_with = (*arguments, *sorted(named.items()))
        init(self, *arguments, **named)
        self._niceness = 0  # or the workers of other tests keep it waiting

    def entered(self):
        variables = {name: value for name, value in os.environ.items() if name not in NOT_FOR_WORKERS}
        key = (self.made_with, tuple(sorted(variables.items())))
        pool = _pools.pop(key, None)
        if pool is None or pool._is_closed:
            pool = self
        _pools[key] = self.pool = pool  # the latest is the last
        for old in list(_pools)[:-MAX_POOLS]:
            _pools.pop(old).close()
        return pool

    def left(self, *error):
        if self.pool._busy:  # the run was stopped, and its threads wait for these
            leave(self.pool, *error)

    monkeypatch.setattr(DecodePool, "__init__", made)
    monkeypatch.setattr(DecodePool, "__enter__", entered)
    monkeypatch.setattr(DecodePool, "__exit__", left)


@pytest.fixture(scope="session")
def _models():
    """Models by how they were loaded."""
    return {}


@pytest.fixture
def kept_model(_models, other_model, monkeypatch):
    """Runs in this process load the built-in model and the other one once, each with its own settings."""
    from imgsearch.cli import loading
    from imgsearch.core.models import registry

    load = loading.load_model
    kept = (registry.parse("builtin"), registry.parse(other_model))

    def loaded(spec, *, device, precision, offline, say):
        if spec not in kept:
            return load(spec, device=device, precision=precision, offline=offline, say=say)
        key = (spec, device, precision)
        if key not in _models:
            loaded = load(spec, device=device, precision=precision, offline=offline, say=say)
            is_builtin = spec.name == "builtin"
            _models[key] = remembering(loaded) if is_builtin and hasattr(loaded, "run_image_tower") else loaded
        model = copy.copy(_models[key])
        model._say = say
        return model

    monkeypatch.setattr(loading, "load_model", loaded)


@pytest.fixture
def imgsearch(tmp_path, monkeypatch, capfdbinary, kept_workers, kept_model):
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
        render.set_quiet(False)  # as in every process
        try:
            code = app.exit_code([os.fsdecode(os.fspath(a)) if not isinstance(a, str) else a for a in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return Outcome(code, out, err.decode())

    return run


UNDO_MIGRATION = {
    10: """
        drop index videos;
        alter table roots drop column video;
        alter table photos drop column duration_seconds;
        alter table regions drop column seconds
    """,
    9: "drop table readings; alter table roots drop column ocr",
    8: "alter table photos drop column date_from",
    7: """
        drop index photos_without_place;
        alter table photos drop column place;
        alter table photos drop column place_district;
        alter table photos drop column place_region;
        alter table photos drop column country;
        alter table photos drop column country_code;
        alter table photos drop column place_data
    """,
    6: "drop index panoramas; drop table regions",
    5: "alter table photos drop column is_damaged",
    4: "drop table awaited",
    3: "drop table notes",
    2: "drop index vectors_without_crc; alter table vectors drop column crc",
}
"""By the number of a migration: what undoes it. The newest first."""


def downgrade(index: str | os.PathLike[str], version: int) -> None:
    """Make a catalogue one of an older version, without what later migrations added."""
    with contextlib.closing(sqlite3.connect(os.path.join(index, "catalog.sqlite3"))) as database:
        for number, undo in UNDO_MIGRATION.items():
            if number > version:
                database.executescript(undo)
        database.executescript(f"pragma user_version = {version}; pragma wal_checkpoint(truncate)")


@contextlib.contextmanager
def bench_module(name: str) -> Iterator[Any]:
    """A script of bench/ as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "bench" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture
def shared() -> Path:
    """The test material that may not be committed."""
    if not SHARED.is_dir():
        pytest.skip(f"no test material at {SHARED}; set IMGSEARCH_TEST_DATA")
    return SHARED
