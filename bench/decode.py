"""Measures what decoding large JPEGs at a reduced size costs in quality and saves in time.

    python bench/decode.py [--data DIR] [--count 500]

The photos of Flickr8k are small. Each is enlarged to 12 megapixels, given sensor noise, saved as a camera would save
it, and read three times: with `--decode fast`, with `--decode exact`, and smaller than `fast` allows, with half its
least side. The script compares the vectors of the built-in model, the recall of the captions, and the decoding times.
DIR is the same as for bench/quality.py.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from PIL import Image

from imgsearch.core.evaluation import metrics
from imgsearch.core.models import loading, registry
from imgsearch.core.photos import decode, preprocess

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LONG_SIDE = 4000
NOISE = 6.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data")
    parser.add_argument("--data", default=default)
    parser.add_argument("--count", type=int, default=500)
    arguments = parser.parse_args()
    folder = os.path.join(arguments.data, "flickr8k-dev")
    with open(os.path.join(folder, "captions.jsonl"), encoding="utf-8") as file:
        photos = [json.loads(line) for line in file][: arguments.count]
    embedder = loading.load(registry.parse("builtin"), device="cpu")
    side = preprocess.draft_side(embedder.recipe)
    noise = np.random.default_rng(0).normal(0, NOISE, (LONG_SIDE, LONG_SIDE, 1)).astype(np.float32)
    squares: dict[str, list[np.ndarray]] = {"fast": [], "smaller": [], "exact": []}
    seconds = dict.fromkeys(squares, 0.0)
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "large.jpg")
        for number, photo in enumerate(photos):
            save_large(os.path.join(folder, "images", photo["file"]), path, np.roll(noise, number * 97, axis=1))
            for way, draft_side in (("fast", side), ("smaller", side // 2), ("exact", 0)):
                started = time.perf_counter()
                picture = decode.read_picture(path, draft_side=draft_side)
                assert picture.image is not None
                squares[way].append(preprocess.square(picture.image, embedder.recipe))
                seconds[way] += time.perf_counter() - started
    vectors = {way: embedder.embed_images(np.stack(found)) for way, found in squares.items()}
    print(f"{len(photos)} photos of {LONG_SIDE} pixels; at least {side} pixels in a fast decode")
    for way in ("fast", "smaller"):
        cosines = (vectors[way] * vectors["exact"]).sum(axis=1)
        print(f"cosine of {way} to exact: lowest {cosines.min():.4f}, ", end="")
        print(f"1st percentile {np.percentile(cosines, 1):.4f}, mean {cosines.mean():.4f}")
    captions = [(caption, number) for number, photo in enumerate(photos) for caption in photo["captions"]]
    asked = embedder.embed_texts([caption for caption, _ in captions])
    for way, found in vectors.items():
        rankings = np.argsort(-(asked @ found.T), axis=1, kind="stable")[:, :10].tolist()
        recalls = [metrics.recall_at_k(rankings, [{number} for _, number in captions], k) for k in (1, 5, 10)]
        shown = " ".join(f"{recall:.4f}" for recall in recalls)
        print(f"{way:8} recall_at_1/5/10 {shown}   {1000 * seconds[way] / len(photos):.1f} ms per photo")


def save_large(source: str, path: str, noise: np.ndarray) -> None:
    with Image.open(source) as image:
        scale = LONG_SIDE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32)
    pixels = (pixels + noise[: pixels.shape[0], : pixels.shape[1]]).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


if __name__ == "__main__":
    main()
