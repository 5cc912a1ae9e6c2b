"""Times `imgsearch index` when nothing has changed, compared with `find`, which only prints what it stats.

    python bench/refresh.py [--files 100000] [--rounds 7] [--keep FOLDER]

Makes tiny JPEGs, all different, 500 in a folder, and indexes them once by the program's own loop with random unit
vectors instead of a model, so that the measured runs find everything unchanged. Times whole processes, alternating.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from imgsearch.core.indexing import indexer
from imgsearch.core.models import registry
from imgsearch.core.photos.decode_pool import DecodedPhoto
from imgsearch.core.store.store import Store
from imgsearch.core.types import Facts, Photo, Recipe, SpaceIdentity

FILES_PER_FOLDER = 500
DIM = 64
"""Nothing that is measured depends on it; a wide graph would only take longer to make."""
RCLIP_SECONDS = 6.0
"""`rclip` over 100,000 indexed files, measured on the machine of docs/benchmarks.md."""

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
"""As a person has it: an installed program finds its modules compiled, and does not flush every line."""

WALK = """
import sys
from imgsearch.core.photos.walk import Walk
print(sum(map(len, Walk(sys.argv[1]).listings())))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep", metavar="FOLDER", help="folder for the files and the index, kept for the next run")
    arguments = parser.parse_args()
    with _place(arguments.keep) as place:
        photos, index = f"{place}/photos", f"{place}/index"
        if not os.path.isdir(photos):
            plant(photos, arguments.files)
        index_once(photos, index)
        contenders = {
            "find -printf": lambda: listed_by_find(photos),
            "python -c pass": lambda: run(sys.executable, "-c", "pass"),
            "imgsearch --help": lambda: run(sys.executable, "-m", "imgsearch", "--help"),
            "walk alone": lambda: run(sys.executable, "-c", WALK, photos),
            "imgsearch index DIR": lambda: refreshed(index, arguments.files, photos),
            "imgsearch index": lambda: refreshed(index, arguments.files),
        }
        for contender in contenders.values():  # what is compiled or cached at first use is, from here on
            contender()
        seconds = {name: float("inf") for name in contenders}
        for _ in range(arguments.rounds):
            for name, contender in contenders.items():
                seconds[name] = min(seconds[name], timed(contender))
    print(f"{arguments.files:,} files, whole processes, best of {arguments.rounds} alternating rounds")
    rclip = RCLIP_SECONDS * arguments.files / 100_000
    for name, taken in seconds.items():
        told = f"{taken / seconds['find -printf']:6.2f} x find"
        if "index" in name:
            told += f"{rclip / taken:7.1f} x faster than rclip's {rclip:.2f} s"
        print(f"{name:20} {taken:6.3f} s {told}")


@contextmanager
def _place(kept: str | None) -> Iterator[str]:
    if kept:
        os.makedirs(kept, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def plant(root: str, files: int) -> None:
    """One small JPEG, told apart by a comment in its header."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((32, 24)).convert("RGB").save(buffer, "JPEG")
    start, rest = buffer.getvalue()[:2], buffer.getvalue()[2:]
    for first in range(0, files, FILES_PER_FOLDER):
        folder = f"{root}/{first // 5000:03}/{first // FILES_PER_FOLDER:05}"
        os.makedirs(folder)
        for number in range(first, min(files, first + FILES_PER_FOLDER)):
            comment = b"%08d" % number
            with open(f"{folder}/IMG_{number:06}.jpg", "wb") as file:
                file.write(start + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + rest)


class Model:
    """Unit vectors of the right shape, as different as those of different photos."""

    identity = SpaceIdentity(hashlib.sha256(b"bench").hexdigest(), "builtin", "bench", None, DIM)
    recipe = Recipe((8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    batch_size = 512
    _generator = np.random.default_rng(0)

    def embed_images(self, squares: np.ndarray) -> np.ndarray:
        return self._unit(len(squares))

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return self._unit(len(texts))

    def _unit(self, count: int) -> np.ndarray:
        rows = self._generator.normal(size=(count, DIM)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Reader:
    """Replaces the worker processes: real hashes and facts, no pixels."""

    count = 1

    def read(self, photo: Photo, recipe: Recipe, **_: object) -> DecodedPhoto:
        with open(photo.path, "rb") as file:
            digest = hashlib.sha256(file.read()).digest()
        squares = np.zeros((1, *recipe.size, 3), np.uint8)
        return DecodedPhoto(digest, photo.size, photo.mtime_ns, Facts("JPEG", 32, 24), squares)

    def close(self) -> None: ...


def index_once(photos: str, index: str) -> None:
    """Index the photos; a second call finds them unchanged."""
    plan = indexer.IndexPlan((photos,))
    with Store.writing(index, create=True) as store:
        space = store.active_space()
        spec = registry.parse("builtin").to_json()
        indexer.run(store, lambda: (Model(), spec), plan, space=space, workers=Reader())  # type: ignore[arg-type]


def timed(contender: Callable[[], object]) -> float:
    started = time.perf_counter()
    contender()
    return time.perf_counter() - started


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT)
    return done.stdout.decode()


def listed_by_find(root: str) -> None:
    subprocess.run(["find", root, "-printf", "%s %T@ %p\\n"], check=True, stdout=subprocess.DEVNULL)


def refreshed(index: str, files: int, *paths: str) -> None:
    said = run(sys.executable, "-m", "imgsearch", "index", *paths, "--index", index)
    if f"{files:,} unchanged" not in said:
        raise SystemExit(f"not everything was found unchanged: {said}")


if __name__ == "__main__":
    main()
