"""Times decoding alone and embedding alone, each on all cores: the limit of a pipeline of both.

python bench/peers/stages.py FOLDER COUNT       photos a second of each, as JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import setup

from imgsearch.core.models import embedding, loading, registry
from imgsearch.core.photos import preprocess
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.types import Photo, Recipe

ROUNDS = 3


def main() -> None:
    folder, count = sys.argv[1], int(sys.argv[2])
    embedder = loading.load(registry.parse(setup.ARCH, str(setup.WEIGHTS), setup.TAG), offline=True)
    rates = {"decode": decoded_a_second(folder, count, embedder.recipe), "embed": embedded_a_second(embedder, count)}
    print(json.dumps(rates))


def decoded_a_second(folder: str, count: int, recipe: Recipe) -> float:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))[:count]
    photos = [Photo(folder, name, os.path.getsize(f"{folder}/{name}"), 0, 0) for name in names]
    side = preprocess.draft_side(recipe)
    with DecodePool() as workers, ThreadPoolExecutor(workers.count) as pool:

        def read_all() -> None:
            for _ in pool.map(lambda photo: workers.read(photo, recipe, draft_side=side), photos):
                pass

        return len(photos) / best(read_all)


def embedded_a_second(embedder: embedding.OpenClipEmbedder, count: int) -> float:
    squares = np.random.default_rng(0).integers(0, 256, (count, *embedder.recipe.size, 3), np.uint8)
    return count / best(lambda: embedder.embed_images(squares))


def best(action: Callable[[], object]) -> float:
    """Seconds, after a warm-up."""
    action()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
