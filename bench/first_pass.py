"""Counts the questions for which a first pass over bytes finds other first ten vectors than a scan.

    python bench/first_pass.py                                    131,072 x 512, imitating CLIP's, 10,000 questions
    python bench/first_pass.py --data DIR                         with real texts of CLIP (see bench/hnsw.py)
    python bench/first_pass.py --index DIR --captions FILE        an index of the built-in model, and captions.jsonl;
                                                                  then 131,072 vectors that imitate that index

An answer is different if any of its vectors scores less than the scan's tenth, beyond the rounding of a product.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

import numpy as np
from hnsw import drawn

from imgsearch.core.models import onnx_embedder, registry
from imgsearch.core.search import best
from imgsearch.core.store import byte_vectors
from imgsearch.core.store.byte_vectors import ByteVectors
from imgsearch.core.store.store import Store

WANTED = 10
TOGETHER = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=131_072)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--data", help="folder with vectors.npz")
    parser.add_argument("--index", help="an index of the built-in model")
    parser.add_argument("--captions", help="a captions.jsonl")
    arguments = parser.parse_args()
    if arguments.index:
        with Store.open(arguments.index) as store:
            rows = np.array(store.view().rows)
        questions = embedded(arguments.captions, arguments.questions)
        compare(rows, questions)
        with tempfile.TemporaryDirectory() as folder:
            np.savez(f"{folder}/vectors.npz", image=rows, text=questions)
            collection = drawn(arguments.count, rows.shape[1], len(questions), folder)
    else:
        collection = drawn(arguments.count, arguments.dim, arguments.questions, arguments.data)
    compare(collection.images, collection.questions)


def embedded(captions: str, count: int) -> np.ndarray:
    """Vectors of the first captions, one of every photo before the second of any."""
    with open(captions, encoding="utf-8") as file:
        of_photos = [json.loads(line)["captions"] for line in file]
    texts = [photo[at] for at in range(5) for photo in of_photos if len(photo) > at][:count]
    spec = registry.parse("builtin")
    model = onnx_embedder.find(spec, device="cpu", precision="auto", whole=lambda: None, say=print)
    return np.concatenate([model.embed_texts(texts[at : at + 64]) for at in range(0, len(texts), 64)])


def compare(rows: np.ndarray, questions: np.ndarray) -> None:
    print(f"{len(rows):,} vectors of {rows.shape[1]} dimensions, {len(questions):,} questions")
    byte_vectors.MIN_SLOTS = 1
    best.SCAN_SHARE = 2  # also in small collections
    slots = np.arange(len(rows))
    different = scans = 0
    sizes, seconds = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        kept = ByteVectors(f"{folder}/vectors.i8", rows.shape[1])
        started = time.perf_counter()
        kept.update(rows, slots)
        print(f"made in {(time.perf_counter() - started) / len(rows) * 1e6:.1f} us per vector")
        of_bytes = kept.load(len(rows))
        assert of_bytes is not None
        for first in range(0, len(questions), TOGETHER):
            block = questions[first : first + TOGETHER]
            exact = block @ rows.T
            tenth = np.partition(exact, len(rows) - WANTED, axis=1)[:, len(rows) - WANTED]
            for question, least in zip(block, tenth, strict=True):
                started = time.perf_counter()
                found = best.best_by_shortlist(question, rows, slots, of_bytes.products(question), WANTED)
                seconds += time.perf_counter() - started
                if found is None:
                    scans += 1
                    continue
                sizes.append(len(found[0]))
                products = found[1]
                last = np.partition(products, len(products) - WANTED)[len(products) - WANTED]
                different += bool(last < least - best.ROUNDING)
    print(
        f"different: {different} of {len(questions):,}; scanned after all: {scans}; "
        f"vectors scored exactly: {np.mean(sizes):.0f} on average, {max(sizes, default=0)} at most; "
        f"{seconds / len(questions) * 1e3:.2f} ms each"
    )


if __name__ == "__main__":
    main()
