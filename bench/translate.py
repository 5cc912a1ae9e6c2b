"""Fits the table that translates vectors of the built-in model into the space of its previous version.

    python bench/translate.py PREVIOUS_MODEL_FOLDER FLICKR8K_TRAIN FLICKR8K_DEV

An index made with the previous version is then still searchable: a query is embedded with the present model and
translated. Ridge regression from texts to texts and from pictures to pictures, on the train split; recall is measured
on the dev split, beside that of the previous version itself. Writes float16 (2, dim + 1, previous dim): texts, then
pictures; the last row is an offset.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from imgsearch.core.models.phrases import neutral_phrases
from imgsearch.core.models.towers import MANIFEST, SHIPPED, Manifest, Towers
from imgsearch.core.photos import preprocess

OUTPUT = "earlier_v0.npy"
RIDGE = 1e-3
DIGITS = 6
FREQUENT = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("previous", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    arguments = parser.parse_args()
    new, old = towers(SHIPPED), towers(str(arguments.previous))
    captions, files = read(arguments.train)
    texts = [*captions[::2], *phrases(captions), *neutral_phrases()]
    print(f"{len(texts):,} texts, {len(files):,} pictures")
    tables = (
        fit(new.embed_texts(texts), old.embed_texts(texts)),
        fit(pictures(new, files), pictures(old, files)),
    )
    captions, files = read(arguments.dev)
    shown, texts = pictures(old, files), captions
    right = np.repeat(np.arange(len(files)), len(texts) // len(files))
    true, translated = old.embed_texts(texts), apply(tables[0], new.embed_texts(texts))
    print("cosine, texts:", (true * translated).sum(axis=1).mean())
    print("cosine, pictures:", (shown * apply(tables[1], pictures(new, files))).sum(axis=1).mean())
    for name, asked in (("previous version", true), ("translated", translated)):
        scores = asked @ shown.T
        rank = (scores > scores[np.arange(len(scores)), right][:, None]).sum(axis=1)
        print(name, {f"recall_at_{k}": round(float((rank < k).mean()), 3) for k in (1, 5, 10)})
    np.save(Path(SHIPPED) / OUTPUT, rounded(np.stack(tables).astype(np.float16)))


def rounded(values: np.ndarray) -> np.ndarray:
    """With the first DIGITS binary digits of each number: smaller in a package, and the same direction to 0.00001."""
    lost = 10 - DIGITS
    bits = values.view(np.uint16).astype(np.uint32) + (1 << (lost - 1))
    return (bits >> lost << lost).astype(np.uint16).view(np.float16)


def towers(folder: str) -> Towers:
    with open(f"{folder}/{MANIFEST}", encoding="utf-8") as file:
        return Towers(folder, Manifest.from_json(file.read()))


def read(folder: Path) -> tuple[list[str], list[Path]]:
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    names = [
        next(path for path in (folder / row["file"], folder / "images" / row["file"]) if path.exists()) for row in rows
    ]
    return [caption for row in rows for caption in row["captions"]], names


def phrases(captions: list[str]) -> list[str]:
    """Frequent words and pairs of words: queries are shorter than captions."""
    found: Counter[str] = Counter()
    for caption in captions:
        words = re.findall(r"[a-z]+", caption.lower())
        found.update({*words, *(f"{a} {b}" for a, b in pairwise(words))})
    return [phrase for phrase, count in found.items() if count >= FREQUENT]


def pictures(model: Towers, files: list[Path]) -> np.ndarray:
    found = []
    for start in range(0, len(files), 256):
        squares = [
            preprocess.square(Image.open(path).convert("RGB"), model.manifest.recipe)
            for path in files[start : start + 256]
        ]
        found.append(model.embed_images(np.stack(squares)))
    return np.concatenate(found)


def fit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    x = np.hstack([source, np.ones((len(source), 1))]).astype(np.float64)
    return np.linalg.solve(x.T @ x + RIDGE * len(x) / x.shape[1] * np.eye(x.shape[1]), x.T @ target)


def apply(table: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    rows = vectors @ table[:-1] + table[-1]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
