"""What a scan and a graph cost, for the planner's constants in core/search.py.

    python bench/search.py --count 100000 --dim 512

Clustered random vectors stand in for photos: photos come in bursts and scenes, uniform noise does not.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np

from imgsearch.core.vectors import FlatVectors, Graph


def clustered(count: int, dim: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(max(1, count // 50), dim)).astype(np.float32)
    rows = centres[generator.integers(0, len(centres), count)]
    rows = rows + 0.7 * generator.normal(size=rows.shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def seconds(action, rounds: int) -> float:
    """The best of some rounds: what it costs when nothing else runs."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    arguments = parser.parse_args()
    rows = clustered(arguments.count, arguments.dim)
    floats = rows.size
    queries = clustered(200, arguments.dim)
    with tempfile.TemporaryDirectory() as folder:
        flat = FlatVectors(f"{folder}/vectors.f32", arguments.dim)
        flat.append(0, rows)
        mapped = flat.rows(len(rows))
        scan = seconds(lambda: queries[:1] @ mapped.T, 20)
        many = seconds(lambda: queries @ mapped.T, 3) / len(queries)
        started = time.perf_counter()
        Graph(f"{folder}/hnsw", arguments.dim).update(rows, range(len(rows)), upto=len(rows), generation=0)
        build = time.perf_counter() - started
        graph = Graph(f"{folder}/hnsw", arguments.dim)
        load = seconds(lambda: graph.load(0), 3)
        ask = seconds(lambda: [graph.nearest(query[None], 200) for query in queries], 3) / len(queries)
        exact = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
        found = graph.nearest(queries, 200)
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), found.tolist(), strict=True)])
    print(f"{arguments.count:,} vectors of {arguments.dim} dimensions")
    print(f"scan, one question      {scan * 1e3:9.2f} ms   {scan / floats:.1e} s a float")
    print(f"scan, 200 together      {many * 1e3:9.2f} ms   {many / floats:.1e} s a float and question")
    print(f"graph, build            {build:9.2f} s    {build / len(rows) * 1e3:.2f} ms a vector")
    print(f"graph, verify and load  {load * 1e3:9.2f} ms   {load / floats:.1e} s a float")
    print(f"graph, one question     {ask * 1e3:9.2f} ms   shortlist of 200, recall_at_10 {recall:.4f}")


if __name__ == "__main__":
    main()
