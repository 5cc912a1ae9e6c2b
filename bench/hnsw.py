"""Measures recall and cost of an HNSW graph by its parameters, for the constants in core/store/graphs.py.

    python bench/hnsw.py --data DIR            grid of M and ef_construction at 131,072 x 512, searched at several ef

The vectors imitate CLIP's: a cone around a mean, a spectrum that falls like 1/k, photos in bursts, and queries from the
other side of the modality gap, which are hard for a graph. With `--data` (a folder with `vectors.npz`: `image` and
`text`) the mean and the principal directions come from real pictures, and the queries are real texts; without it, both
are drawn with the same statistics.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import hnswlib
import numpy as np

GRID = ((8, 120), (12, 120), (16, 80), (16, 120), (16, 200), (16, 400), (24, 120), (24, 200), (32, 120))
EFS = (100, 200, 400, 600, 800, 1_200, 1_600)
TARGET = 0.99
# Of OpenAI's ViT-B/32 on photos and their captions: lengths of the means, their cosine, and that of a caption with its
# photo once the means are taken off.
IMAGE_MEAN, TEXT_MEAN, MEANS_COSINE, PAIR_COSINE = 0.72, 0.75, 0.32, 0.29
PHOTOS_A_SCENE, SCENE_SHARE = 10, 0.7


@dataclass(frozen=True)
class Collection:
    """Unit vectors of photos, and of questions in words."""

    images: np.ndarray
    questions: np.ndarray


def drawn(count: int, dim: int, questions: int, data: str | None = None) -> Collection:
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.normal(size=(dim, dim)))[0].astype(np.float32)
    image_mean, gap = IMAGE_MEAN * directions[-1], directions[-2]
    texts = None
    if data is not None:
        real = np.load(os.path.join(data, "vectors.npz"))
        image_mean = real["image"].mean(0)
        own = np.linalg.svd(real["image"] - image_mean, full_matrices=False)[2]
        directions = np.linalg.qr(np.concatenate([own[:-1], directions])[:dim].T)[0].T.astype(np.float32)
        texts = real["text"][generator.permutation(len(real["text"]))[:questions]]
    spread = np.sqrt(1 - np.linalg.norm(image_mean) ** 2)
    scale = (np.arange(dim) + 2.0) ** -0.55
    basis = (spread * scale / np.linalg.norm(scale))[:, None].astype(np.float32) * directions
    scenes = generator.normal(size=(max(1, count // PHOTOS_A_SCENE), dim)).astype(np.float32)
    scene_of = generator.integers(0, len(scenes), count)
    images = np.empty((count, dim), np.float32)
    for start in range(0, count, 16_384):
        part = scene_of[start : start + 16_384]
        own = generator.normal(size=(len(part), dim)).astype(np.float32)
        mixed = np.sqrt(SCENE_SHARE) * scenes[part] + np.sqrt(1 - SCENE_SHARE) * own
        images[start : start + len(part)] = unit(image_mean + mixed.astype(np.float32) @ basis)
    if texts is None:
        meant = unit(scenes[generator.integers(0, len(scenes), questions)] @ basis)
        free = unit((generator.normal(size=(questions, dim)) * scale).astype(np.float32) @ directions[::-1])
        text_mean = MEANS_COSINE * unit(image_mean[None])[0] + np.sqrt(1 - MEANS_COSINE**2) * gap
        own = PAIR_COSINE * meant + np.sqrt(1 - PAIR_COSINE**2) * free
        texts = unit(TEXT_MEAN * text_mean + np.sqrt(1 - TEXT_MEAN**2) * own)
    return Collection(images, np.ascontiguousarray(texts, np.float32))


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def built(rows: np.ndarray, m: int, ef_construction: int) -> tuple[hnswlib.Index, float]:
    started = time.perf_counter()
    index = hnswlib.Index(space="ip", dim=rows.shape[1])
    index.init_index(max_elements=len(rows), M=m, ef_construction=ef_construction)
    index.add_items(rows)
    return index, time.perf_counter() - started


def asked(index: hnswlib.Index, questions: np.ndarray, exact: np.ndarray) -> Iterator[tuple[int, float, float]]:
    """(ef, recall_at_10, seconds a question on one core), ever wider."""
    for ef in EFS:
        index.set_ef(ef)
        started = time.perf_counter()
        found, _ = index.knn_query(questions, k=10, num_threads=1)
        seconds = (time.perf_counter() - started) / len(questions)
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), found.tolist(), strict=True)])
        yield ef, float(recall), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=131_072)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--data", help="folder with vectors.npz")
    parser.add_argument("--grid", help="pairs of M:ef_construction, such as 16:120,24:200")
    arguments = parser.parse_args()
    grid = GRID
    if arguments.grid:
        grid = tuple(tuple(int(n) for n in pair.split(":")) for pair in arguments.grid.split(","))
    collection = drawn(arguments.count, arguments.dim, arguments.questions, arguments.data)
    questions = collection.questions
    started = time.perf_counter()
    products = questions @ collection.images.T
    scan = (time.perf_counter() - started) / len(questions)
    exact = np.argsort(-products, axis=1)[:, :10]
    del products
    kind = "real texts" if arguments.data else "drawn questions"
    print(
        f"{arguments.count:,} vectors of {arguments.dim} dimensions, {len(questions)} {kind}; "
        f"scan {scan * 1e3:.2f} ms each\n"
    )
    heads = [f"recall at ef {ef} (ms)" for ef in EFS]
    print(f"| M | ef_construction | build s | ms per vector | MB | {' | '.join(heads)} |")
    print("|---|" + "---|" * (4 + len(EFS)))
    for m, ef_construction in grid:
        index, seconds = built(collection.images, m, ef_construction)
        with tempfile.TemporaryDirectory() as folder:
            index.save_index(f"{folder}/graph")
            size = os.path.getsize(f"{folder}/graph")
        cells = [
            f"{'**' if recall >= TARGET else ''}{recall:.4f}{'**' if recall >= TARGET else ''} ({cost * 1e3:.2f})"
            for _, recall, cost in asked(index, questions, exact)
        ]
        row = [m, ef_construction, f"{seconds:.1f}", f"{seconds / arguments.count * 1e3:.3f}", f"{size / 1e6:.0f}"]
        print(f"| {' | '.join(map(str, row))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
