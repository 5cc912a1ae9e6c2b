"""Measures what decoding large JPEGs at a reduced size costs in quality and saves in time.

    python bench/decode.py [--data DIR] [--count 500]
    python bench/decode.py --parts [--data DIR]     where the time of one photo goes

The photos of Flickr8k are small. Each is enlarged to 12 megapixels, given sensor noise, saved as a camera would save
it, and read three times: with `--decode fast`, with `--decode exact`, and smaller than `fast` allows, with half its
least side. The script compares the vectors of the built-in model, the recall of the captions, and the decoding times.
DIR is the same as for bench/quality.py.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from PIL import Image

from imgsearch.core.evaluation import metrics
from imgsearch.core.models import loading, registry
from imgsearch.core.photos import decode, preprocess
from imgsearch.core.types import Recipe

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LONG_SIDE = 4000
NOISE = 6.0
ROUNDS = 15
SCALES = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data")
    parser.add_argument("--data", default=default)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--parts", action="store_true", help="only time the parts of reading one photo")
    arguments = parser.parse_args()
    folder = os.path.join(arguments.data, "flickr8k-dev")
    with open(os.path.join(folder, "captions.jsonl"), encoding="utf-8") as file:
        photos = [json.loads(line) for line in file][: arguments.count]
    if arguments.parts:
        parts(os.path.join(folder, "images", photos[0]["file"]))
        return
    embedder = loading.load(registry.parse("builtin"), device="cpu")
    side = preprocess.draft_side(embedder.recipe)
    noise = sensor_noise()
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


def sensor_noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, NOISE, (LONG_SIDE, LONG_SIDE, 1)).astype(np.float32)


def parts(source: str) -> None:
    """CPU milliseconds of each part of reading one photo, the least of several rounds in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "large.jpg")
        save_large(source, path, sensor_noise())
        with open(path, "rb") as file:
            data = file.read()
        recipe = Recipe((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        fast = decode.read_picture(path, draft_side=preprocess.draft_side(recipe)).image
        assert fast is not None
        square = preprocess.square(fast, recipe)
        steps: dict[str, Callable[[], object]] = {
            "read the file": lambda: open(path, "rb").read(),  # noqa: SIM115
            "hash its bytes": lambda: hashlib.sha256(data).digest(),
            "open and read the header": lambda: Image.open(io.BytesIO(data), formats=["JPEG"]).getexif(),
            **{f"decode to 1/{scale}": partial(decoded, data, scale) for scale in SCALES},
            f"resize {fast.width} x {fast.height} to the square": lambda: preprocess.square(fast, recipe),
            "copy the square as often as its way takes": lambda: np.concatenate(
                [np.frombuffer(bytes(bytearray(square.tobytes())), np.uint8)]
            ),
            "all of a fast decode": lambda: decode.read_picture(path, draft_side=preprocess.draft_side(recipe)),
        }
        best = dict.fromkeys(steps, float("inf"))
        for _ in range(ROUNDS):
            for name, step in steps.items():
                started = time.process_time()
                step()
                best[name] = min(best[name], time.process_time() - started)
    print(f"{len(data) / 1e6:.1f} MB, CPU milliseconds")
    for name, seconds in best.items():
        print(f"{name:45} {1000 * seconds:7.2f}")


def decoded(data: bytes, scale: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        image.draft("RGB", (image.width // scale, image.height // scale))
        image.load()
        return image


if __name__ == "__main__":
    main()
