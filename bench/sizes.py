"""Measures how commands grow with the index: whole processes at several sizes, and the exponent of each curve.

    python bench/sizes.py                       indexes of 1,000, 10,000 and 100,000 photos
    IMGSEARCH_HNSW_SLOTS=0 python bench/sizes.py --count 1000000 --rounds 1

The second also makes one of a million, without graphs, which would take half an hour more.

Each index has the photos of the album, and random vectors for empty files that look unchanged. Every tenth file has the
content of the one before it. One file in 200 is then deleted for `prune`.

Seconds are CPU seconds, which depend less on what else the machine does: the least of several rounds, in which the
sizes take turns. The exponent is the slope of log(time) over log(photos) between the two largest sizes. 1 is linear;
less means that a constant part is left, such as starting Python. `growth.py` measures storing, and `dupes.py scale`
near copies.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgsearch.core.indexing.indexer import CHECKPOINT_PHOTOS
from imgsearch.core.store.records import NewPhoto
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import Facts, Photo

ALBUM = Path(__file__).parents[1] / "tests" / "album"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
PHOTOS_A_FOLDER = 500
DELETED = 200
"""One file in this many."""

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
PROGRAM = (sys.executable, "-m", "imgsearch")


@dataclass
class Collection:
    """An index and its photos, of which none has pixels."""

    photos: Path
    index: Path

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> None:
        command = [*PROGRAM, *words, "--index", str(self.index)]
        done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
        if done.returncode not in codes:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="folder for the temporary indexes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as top:
        sizes = [size for size in SIZES if size <= arguments.count]
        collections = {size: made(Path(top) / str(size), size) for size in sizes}
        print("| command |" + "".join(f" {size:,} |" for size in sizes) + " exponent |")
        print("|---|" + "---|" * (len(sizes) + 1))
        number = iter(range(10**6))
        steps: dict[str, Callable[[Collection], None]] = {
            "`query`, a new text": lambda c: c.run("query", f"a lemon, {next(number)}", "--no-server", "--no-history"),
            "`status`": lambda c: c.run("status"),
            "`index`, nothing new": lambda c: c.run("index"),
            "`check`": lambda c: c.run("check"),
            "`dupes --exact`": lambda c: c.run("dupes", "--exact", "--paths"),
        }
        for name, step in steps.items():
            report(f"{name}, s", in_turn(collections, step, arguments.rounds))
        report("`query`, MB beyond mapped files", {size: anonymous_memory(c) for size, c in collections.items()})
        for size, collection in collections.items():
            delete(collection, size)
        report("`prune` of a 200th, s", in_turn(collections, lambda c: c.run("prune"), rounds=1))


def made(top: Path, count: int) -> Collection:
    """An index made by the program, to which `count` photos are added as a run would add them."""
    collection = Collection(top / "photos", top / "index")
    collection.photos.mkdir(parents=True)
    collection.run("index", str(ALBUM), "--model", "builtin", "--quiet")
    generator = np.random.default_rng(0)
    facts = Facts("JPEG", 4000, 3000, taken_at="2024-07-01T12:00:00")
    with Store.writing(str(collection.index)) as store:
        space = store.active_space()
        assert space is not None
        with store.catalog.transaction():
            root = store.catalog.roots.add(str(collection.photos), "folder", collection.photos.stat().st_dev)
        for start in range(0, count, CHECKPOINT_PHOTOS):
            batch = Batch()
            numbers = range(start, min(start + CHECKPOINT_PHOTOS, count))
            rows = generator.standard_normal((len(numbers), space.identity.dim), np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            for number, row in zip(numbers, rows, strict=True):
                path, info = touched(collection.photos, number)
                content = number - (number % 10 == 1)
                key = hashlib.sha256(content.to_bytes(8, "little")).digest()
                photo = Photo(str(collection.photos), path, info.st_size, info.st_mtime_ns, info.st_ino)
                batch.photos.append((root, NewPhoto(photo, key, info.st_size, info.st_mtime_ns, facts), ()))
                batch.images.setdefault(key, row)
            space = store.commit(space, batch, codecs="")
        store.update_graphs(space)
    collection.run("index")  # writes the other derived files
    return collection


def touched(folder: Path, number: int) -> tuple[str, os.stat_result]:
    path = name_of(number)
    if number % PHOTOS_A_FOLDER == 0:
        (folder / path).parent.mkdir()
    (folder / path).touch()
    return path, (folder / path).stat()


def name_of(number: int) -> str:
    return f"{number // PHOTOS_A_FOLDER:05}/IMG_{number:07}.jpg"


def delete(collection: Collection, count: int) -> None:
    for number in range(0, count, DELETED):
        (collection.photos / name_of(number)).unlink()
    collection.run("index")


def in_turn(collections: dict[int, Collection], step: Callable[[Collection], None], rounds: int) -> dict[int, float]:
    """The least CPU seconds of each size, in alternating rounds."""
    seconds = dict.fromkeys(collections, math.inf)
    for _ in range(rounds):
        for size, collection in collections.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            step(collection)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            seconds[size] = min(seconds[size], used)
    return seconds


def anonymous_memory(collection: Collection) -> float:
    """The peak of what a cold query has in memory and no file maps, in MB."""
    command = [*PROGRAM, "query", "a ripe lemon", "--no-server", "--no-history", "--index", str(collection.index)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
            time.sleep(0.002)
    return peak / 1e3


def report(what: str, found: dict[int, float]) -> None:
    (few, low), (many, high) = list(found.items())[-2:]
    exponent = math.log(high / low) / math.log(many / few)
    print(f"| {what} |" + "".join(f" {value:.2f} |" for value in found.values()) + f" {exponent:.2f} |", flush=True)


if __name__ == "__main__":
    main()
