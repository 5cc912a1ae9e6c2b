"""Measures HNSW graphs that grow with their index: what is written, how long it takes, and whether `--ann` finds what
`--exact` finds.

    python bench/graphs.py                      indexes of 81, 1,000 and 100,000 photos

Each index is made by a first run with four fifths of the photos, and by runs of a hundredth. The vectors and questions
are those of bench/hnsw.py. Then 1,000 more runs add one photo each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np
from growth import empty
from hnsw import drawn

from imgsearch.core.indexing.indexer import CHECKPOINT_PHOTOS
from imgsearch.core.search.grammar import explicit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.records import NewPhoto
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import Facts, Photo

SIZES = (81, 1_000, 100_000)
FIRST_RUN, LATER_RUN = 0.8, 0.01
SINGLE_RUNS = 1_000


class Texts:
    """Stands for a text tower whose texts are the numbers of questions."""

    def __init__(self, questions: np.ndarray) -> None:
        self._questions = questions

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return self._questions[[int(text) for text in texts]]


class Growing:
    """An index that grows run by run, and how much of its graph was written."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.photos = self.bytes = self.rewrites = 0
        self.seconds = 0.0
        self._seen: dict[str, int] = {}

    def run(self, rows: np.ndarray) -> None:
        space = self.store.active_space()
        assert space is not None
        for start in range(0, len(rows), CHECKPOINT_PHOTOS):
            batch = Batch()
            for row in rows[start : start + CHECKPOINT_PHOTOS]:
                key = self.photos.to_bytes(32, "big")
                photo = Photo("/photos", f"{self.photos:07}.jpg", 1, self.photos, self.photos)
                batch.photos.append((1, NewPhoto(photo, key, 1, self.photos, Facts("JPEG", 1, 1)), ()))
                batch.images[key] = row
                self.photos += 1
            space = self.store.commit(space, batch, codecs="")
        started = time.perf_counter()
        assert self.store.update_graphs(space)
        self.seconds += time.perf_counter() - started
        for graph in self.store.graphs.all_of(space):
            if graph.exists() and self._seen.get(graph.path) != (file := os.stat(graph.path)).st_mtime_ns:
                self._seen[graph.path] = file.st_mtime_ns
                self.bytes += file.st_size
                self.rewrites += 1


def recall(store: Store, questions: np.ndarray) -> float:
    searcher = Searcher(store, lambda: Texts(questions))
    queries = [explicit(str(number), ()) for number in range(len(questions))]
    exact, near = (
        [{hit.path for hit in hits} for hits in searcher.search_many(queries, SearchOptions(strategy=strategy))]
        for strategy in ("exact", "ann")
    )
    return float(np.mean([len(a & b) / len(a) for a, b in zip(exact, near, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=SIZES[-1])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--folder", help="folder for the temporary indexes")
    arguments = parser.parse_args()
    print("| photos | runs | graph written | of its size | ms per photo | in the graph | recall_at_10 |")
    print("|---|---|---|---|---|---|---|")
    for count in (size for size in SIZES if size <= arguments.count):
        vectors = drawn(count + SINGLE_RUNS, arguments.dim, arguments.questions)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as top, empty(f"{top}/index", arguments.dim) as store:
            index, runs = Growing(store), 0
            steps = [int(FIRST_RUN * count)] + [max(1, int(LATER_RUN * count))] * count
            while index.photos < count:
                index.run(vectors.images[index.photos : min(count, index.photos + steps[runs])])
                runs += 1
            report(index, runs, vectors.questions)
            index.bytes = index.rewrites = 0
            index.seconds = 0.0
            for number in range(count, count + SINGLE_RUNS):
                index.run(vectors.images[number : number + 1])
            report(index, SINGLE_RUNS, vectors.questions)


def report(index: Growing, runs: int, questions: np.ndarray) -> None:
    space = index.store.active_space()
    assert space is not None
    index.store.complete(space)
    index.store.save_slots(space)
    size = sum(os.path.getsize(graph.path) for graph in index.store.graphs.all_of(space) if graph.exists())
    covered = index.store.status().in_graphs[space.id]
    print(
        f"| {index.photos:,} | {runs:,} | {index.rewrites} times, {index.bytes / 1e6:.1f} MB "
        f"| {index.bytes / size:.1f} x "
        f"| {1e3 * index.seconds / index.photos:.3f} | {covered:,} | {recall(index.store, questions):.4f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
