"""Times scans and graphs, for the planner's constants in core/search/scorer.py.

    python bench/search.py                      131,072 x 512: the slots of one graph
    python bench/search.py --count 1048576      8 graphs

The vectors imitate CLIP's as in bench/hnsw.py. The last table has whole queries by `Searcher`, in milliseconds: a scan
of the vectors (`exact`), of their bytes for one query (`scan`), graphs (`ann`), and what the planner chooses (`auto`).
bench/first_pass.py counts how often the bytes find other first hits.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np
from hnsw import drawn

from imgsearch.core.search.grammar import explicit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.graphs import HNSW_EF, HNSW_EF_CONSTRUCTION, HNSW_M
from imgsearch.core.store.records import NewPhoto
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import Facts, Photo, SpaceIdentity

QUESTIONS = 200
ALONE = 40
"""The questions that are also asked one by one."""
TOGETHER = (1, 2, 3, 4, 8, 16, 32, 64, 200)


class Drawn:
    """Stands for a text tower whose texts are numbers of questions."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return self._rows[[int(text) for text in texts]]


def seconds(action, rounds: int) -> float:
    """The best of some rounds: what it costs when nothing else runs."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - started)
    return best


def filled(store: Store, rows: np.ndarray) -> None:
    space = store.space_for(SpaceIdentity("a" * 64, "made up", "none", None, rows.shape[1]), "{}")
    with store.catalog.transaction():
        store.catalog.roots.add("/photos", "folder", None)
    for start in range(0, len(rows), 65_536):
        batch = Batch()
        for number in range(start, min(start + 65_536, len(rows))):
            key = number.to_bytes(32, "big")
            photo = Photo("/photos", f"{number // 500:05}/{number:07}.jpg", 1, 1, number)
            batch.photos.append((1, NewPhoto(photo, key, 1, 1, Facts("JPEG", 4000, 3000)), ()))
            batch.images[key] = rows[number]
        space = store.commit(space, batch, codecs="")
    store.complete(space)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=131_072)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--folder", help="folder for the temporary index")
    parser.add_argument("--no-graphs", action="store_true")
    arguments = parser.parse_args()
    if arguments.no_graphs:
        os.environ["IMGSEARCH_HNSW_SLOTS"] = "0"
    collection = drawn(arguments.count, arguments.dim, QUESTIONS)
    questions = collection.questions
    print(f"{arguments.count:,} vectors of {arguments.dim} dimensions")
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        Store.writing(f"{folder}/index", create=True) as store,
    ):
        filled(store, collection.images)
        del collection
        space = store.active_space()
        assert space is not None
        scans(store.view().rows, questions)
        started = time.perf_counter()
        store.save_slots(store.active_space())
        print(f"slot map and bytes      {(time.perf_counter() - started) / space.slots * 1e6:9.2f} us per vector")
        of_bytes(store, questions)
        graphs(store, questions)
        whole(store, questions)


def scans(rows: np.ndarray, questions: np.ndarray) -> None:
    one = seconds(lambda: rows @ questions[0], 20)
    print(f"scan, one query         {one * 1e3:9.2f} ms   {one / rows.size:.1e} s per float")
    for count in TOGETHER[1:]:
        if count * len(rows) > 32_000_000:
            break
        cost = seconds(lambda count=count: questions[:count] @ rows.T, 5)
        more = (cost - one) / (count - 1) / rows.size
        print(
            f"scan, {count:3} together      {cost * 1e3:9.2f} ms   {cost / one:.1f} of one; "
            f"each more {more:.1e} s per float"
        )


def of_bytes(store: Store, questions: np.ndarray) -> None:
    rows = store.byte_rows(store.view())
    if rows is None:
        return
    cost = seconds(lambda: rows.products(questions[0]), 20)
    print(f"bytes, one query        {cost * 1e3:9.2f} ms   {cost / rows.rows.size:.1e} s per float")


def graphs(store: Store, questions: np.ndarray) -> None:
    space = store.active_space()
    assert space is not None
    started = time.perf_counter()
    store.update_graphs(space)
    build = time.perf_counter() - started
    made = [graph for graph in store.graphs.of(space, "image") if graph.exists()]
    if not made:
        return
    floats = len(made) * (made[0].upto - made[0].first) * space.identity.dim
    print(f"graphs (M {HNSW_M}, ef_construction {HNSW_EF_CONSTRUCTION}, ef {HNSW_EF}): {len(made)}")
    print(f"graphs, build           {build:9.2f} s    {build / space.slots * 1e3:.3f} ms per vector")
    searcher = Searcher(store, lambda: Drawn(questions))
    load = seconds(lambda: searcher._scorer._graphs.clear() or searcher._scorer._loaded("image"), 3)
    print(f"graphs, verify and load {load * 1e3:9.2f} ms   {load / floats:.1e} s per float")
    (graph, *_) = searcher._scorer._loaded("image")
    ask = seconds(lambda: [graph.nearest(question[None], 200) for question in questions], 3) / len(questions)
    print(f"one graph, one query    {ask * 1e3:9.2f} ms")
    ask = seconds(lambda: graph.nearest(questions, 200), 3) / len(questions)
    print(f"one graph, 200 together {ask * 1e3:9.2f} ms each")


def whole(store: Store, questions: np.ndarray) -> None:
    queries = [explicit(str(number), ()) for number in range(len(questions))]
    found = {}
    alone = queries[:ALONE]
    print(f"\n| strategy | first query | one by one | {len(queries)} in one call, each | recall_at_10 |")
    print("|---|---|---|---|---|")
    for strategy in ("exact", "scan", "ann", "auto"):
        searcher = Searcher(store, lambda: Drawn(questions))
        options = SearchOptions(strategy=strategy)
        started = time.perf_counter()
        first = searcher.search(queries[0], options)
        cold = time.perf_counter() - started
        assert first
        many = seconds(lambda s=searcher, o=options: list(s.search_many(queries, o)), 3) / len(queries)
        single = seconds(lambda s=searcher, o=options: [s.search(query, o) for query in alone], 1) / ALONE
        answers = [*searcher.search_many(queries, options), *(searcher.search(query, options) for query in alone)]
        found[strategy] = [{hit.path for hit in hits} for hits in answers]
        right = zip(found["exact"], found[strategy], strict=True)
        recall = np.mean([len(exact & other) / len(exact) for exact, other in right])
        print(f"| {strategy} | {cold * 1e3:.1f} | {single * 1e3:.2f} | {many * 1e3:.2f} | {recall:.4f} |", flush=True)


if __name__ == "__main__":
    main()
