"""Measures what storing a photo costs as an index grows: checkpoints of 256 photos, with fsync, and the HNSW graphs.

    python bench/growth.py                      indexes of 1,000, 10,000 and 100,000 photos
    python bench/growth.py --count 1000000      also one of a million, with its graphs

Photos and unit vectors are random; every 5th photo has a text. The script times `Store.commit` with everything that it
writes and waits for: a few more checkpoints in each index, alternating between them. The time of the graphs is for the
whole index, divided by its photos. The exponent is the slope of log(CPU ms) over log(photos) from the row above.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from imgsearch.core.indexing.indexer import CHECKPOINT_PHOTOS
from imgsearch.core.store.records import NewPhoto, Space
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import CarriedText, Facts, Photo, SpaceIdentity

SIZES = (1_000, 10_000, 100_000, 1_000_000)
TURNS = 12
PHOTOS_A_TEXT = 5
PHOTOS_A_FOLDER = 500


def batch_of(numbers: range, dim: int, generator: np.random.Generator) -> Batch:
    batch = Batch()
    rows = generator.standard_normal((2 * len(numbers), dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for number, image, words in zip(numbers, rows, rows[len(numbers) :], strict=False):
        key = generator.bytes(32)
        photo = Photo("/photos", f"{number // PHOTOS_A_FOLDER:05}/IMG_{number:07}.jpg", 3_000_000, number, number)
        facts = Facts("JPEG", 4000, 3000, taken_at="2020-01-01T10:00:00", camera="X100", f_number=2.8, iso=200)
        texts: tuple[tuple[bytes, CarriedText], ...] = ()
        if number % PHOTOS_A_TEXT == 0:
            text_key = generator.bytes(32)
            texts = ((text_key, CarriedText(f"what photo {number} shows", "exif:ImageDescription")),)
            batch.texts[text_key] = words
        batch.photos.append((1, NewPhoto(photo, key, 3_000_000, number, facts), texts))
        batch.images[key] = image
    return batch


@dataclass
class Growing:
    """An index that grows, and what its last checkpoints cost."""

    store: Store
    space: Space
    photos: int = 0
    graph_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    written: list[int] = field(default_factory=list)

    def checkpoint(self, count: int = CHECKPOINT_PHOTOS) -> None:
        dim = self.space.identity.dim
        batch = batch_of(range(self.photos, self.photos + count), dim, np.random.default_rng(self.photos))
        written, cpu, wall = bytes_written(), time.process_time(), time.perf_counter()
        self.space = self.store.commit(self.space, batch, codecs="")
        self.seconds.append(time.perf_counter() - wall)
        self.cpu_seconds.append(time.process_time() - cpu)
        self.written.append(bytes_written() - written)
        self.photos += count

    def grow(self, photos: int) -> None:
        while self.photos < photos:
            self.checkpoint(min(CHECKPOINT_PHOTOS, photos - self.photos))
        started = time.perf_counter()
        self.store.update_graphs(self.space)
        self.graph_seconds = time.perf_counter() - started
        self.seconds, self.cpu_seconds, self.written = [], [], []


def bytes_written() -> int:
    """By this process; 0 where the system does not say."""
    try:
        with open("/proc/self/io") as file:
            return int(dict(line.split(": ") for line in file)["wchar"])
    except OSError:
        return 0


@contextlib.contextmanager
def empty(folder: str, dim: int) -> Iterator[Store]:
    with Store.writing(folder, create=True) as store:
        store.space_for(SpaceIdentity("a" * 64, "made up", "none", None, dim), "{}")
        with store.catalog.transaction():
            store.catalog.roots.add("/photos", "folder", None)
        yield store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--folder", help="folder for the temporary indexes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as top, contextlib.ExitStack() as stack:
        indexes = {}
        for size in (size for size in SIZES if size <= arguments.count):
            store = stack.enter_context(empty(f"{top}/{size}", arguments.dim))
            space = store.active_space()
            assert space is not None
            indexes[size] = Growing(store, space)
            indexes[size].grow(size)
        for _ in range(TURNS):
            for index in indexes.values():
                index.checkpoint()
        told(indexes)


def told(indexes: dict[int, Growing]) -> None:
    print(
        "| photos | ms per photo | vs. the smallest | CPU ms | kB written | graphs, ms per photo | total | exponent |"
    )
    print("|---|---|---|---|---|---|---|---|")
    first = before = None
    for size, index in indexes.items():
        wall, cpu = (statistics.median(s) / CHECKPOINT_PHOTOS * 1e3 for s in (index.seconds, index.cpu_seconds))
        first = first or wall
        graphs = index.graph_seconds / size * 1e3
        written = statistics.mean(index.written) / CHECKPOINT_PHOTOS / 1e3
        slope = f"{math.log(cpu / before[1]) / math.log(size / before[0]):.2f}" if before else ""
        before = (size, cpu)
        print(
            f"| {size:,} | {wall:.3f} | {wall / first:.2f} | {cpu:.3f} | {written:.1f} | {graphs:.3f} "
            f"| {wall + graphs:.3f} | {slope} |"
        )


if __name__ == "__main__":
    main()
