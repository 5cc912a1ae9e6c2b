"""Measures what several squares per panorama gain and cost.

python bench/panoramas.py [--data DIR]    panoramas made from Flickr8k's dev split, at several thresholds

A photo is pasted at a random place of a strip, wide or tall, that is neutral (a smooth gradient) or natural (another
photo, mirrored again and again). Its captions then have to find the strip among the other photos, as they find the
photo itself in the plain collection.

DIR contains `flickr8k-dev/`. Default: $IMGSEARCH_TEST_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from PIL import Image
from quality import REPOSITORY, read_lines

from imgsearch.cli.loading import load_model
from imgsearch.core.indexing import indexer
from imgsearch.core.models import registry
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store
from imgsearch.core.types import Embedder

SEED = 0
BANDS = ((1.5, 1.8), (1.8, 2.2), (2.2, 3.0), (3.0, 12.0))
"""Aspect ratios of the strips; as many of each."""
PER_BAND = 100
THRESHOLDS = (1.5, 1.8, 2.2)
NEVER = 1e9
"""The threshold with which no picture has several squares."""
SIDE = 360
"""Pixels of a strip's short side."""
TIMED = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        default=os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data"),
    )
    parser.add_argument("--above", type=float, nargs="*", default=THRESHOLDS, help="thresholds to compare")
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data = os.path.abspath(arguments.data)
    if arguments.of:
        print(json.dumps(measured(data, *arguments.of)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        strips = make_strips(data, scratch)
        found = {threshold: measured_with(threshold, data, scratch) for threshold in (NEVER, *arguments.above)}
        print_tables(found, strips, data)


# strips


def make_strips(data: str, scratch: str) -> dict[str, dict]:
    """Write the mixed collection: strips in place of some photos, the rest as they are. Returns what each strip is."""
    chance = random.Random(SEED)
    source, mixed = os.path.join(data, "flickr8k-dev", "images"), os.path.join(scratch, "mixed")
    os.mkdir(mixed)
    names = sorted(os.listdir(source))
    chosen = chance.sample(names, PER_BAND * len(BANDS))
    rest = sorted(set(names) - set(chosen))
    strips = {}
    for number, name in enumerate(chosen):
        band = BANDS[number // PER_BAND]
        about = {"band": band, "is_natural": number % 2 == 1, "is_tall": number % 4 >= 2}
        background = chance.choice(rest)
        with (
            Image.open(os.path.join(source, name)) as photo,
            Image.open(os.path.join(source, background)) as other,
        ):
            strip = pasted(photo.convert("RGB"), other.convert("RGB"), chance, chance.uniform(*band), **about)
        strip.save(os.path.join(mixed, name), quality=92)
        strips[name] = {**about, "background": background if about["is_natural"] else None}
    for name in rest:
        os.symlink(os.path.join(source, name), os.path.join(mixed, name))
    with open(os.path.join(scratch, "strips.json"), "w", encoding="utf-8") as file:
        json.dump(strips, file)
    return strips


def pasted(
    photo: Image.Image,
    other: Image.Image,
    chance: random.Random,
    aspect: float,
    *,
    is_natural: bool,
    is_tall: bool,
    band: tuple[float, float],
) -> Image.Image:
    """The photo as high as a strip of that aspect ratio, or as wide as a tall one, at a random place of it."""
    size = (SIDE, round(SIDE * aspect)) if is_tall else (round(SIDE * aspect), SIDE)
    strip = mirrored(other, size, is_tall) if is_natural else gradient(chance, size)
    scale = SIDE / (photo.width if is_tall else photo.height)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    left, top = (chance.randint(min(0, room), max(0, room)) for room in
                 (size[0] - photo.width, size[1] - photo.height))  # fmt: skip
    strip.paste(photo, (left, top))
    return strip


def gradient(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    ends = [tuple(chance.randrange(60, 200) for _ in range(3)) for _ in range(4)]
    corners = Image.new("RGB", (2, 2))
    corners.putdata(ends)
    return corners.resize(size, Image.Resampling.BILINEAR)


def mirrored(other: Image.Image, size: tuple[int, int], is_tall: bool) -> Image.Image:
    scale = SIDE / (other.width if is_tall else other.height)
    tile = other.resize((max(1, round(other.width * scale)), max(1, round(other.height * scale))))
    flip = Image.Transpose.FLIP_TOP_BOTTOM if is_tall else Image.Transpose.FLIP_LEFT_RIGHT
    strip, at = Image.new("RGB", size), 0
    while at < max(size):
        strip.paste(tile, (0, at) if is_tall else (at, 0))
        at += tile.height if is_tall else tile.width
        tile = tile.transpose(flip)
    return strip


# one threshold, in a process of its own: the workers get the threshold, too


def measured_with(threshold: float, data: str, scratch: str) -> dict:
    setting = os.path.join(scratch, f"above {threshold}")
    os.mkdir(setting)
    with open(os.path.join(setting, "sitecustomize.py"), "w", encoding="utf-8") as file:
        file.write(f"from imgsearch.core.photos import regions\nregions.PANORAMA_ASPECT = {threshold}\n")
    environment = {**os.environ, "PYTHONPATH": setting}
    command = [sys.executable, os.path.abspath(__file__), "--data", data, "--of", scratch, str(threshold)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(data: str, scratch: str, threshold: str) -> dict:
    spec = registry.parse("builtin")
    embedder = load_model(spec, device="cpu", precision="auto", offline=True, say=lambda line: None)
    remembering = Remembering(embedder, os.path.join(scratch, "vectors.npz"))
    captions = {
        line["file"]: line["captions"] for line in read_lines(os.path.join(data, "flickr8k-dev", "captions.jsonl"))
    }
    found: dict = {}
    for name, folder in (
        ("plain", os.path.join(data, "flickr8k-dev", "images")),
        ("mixed", os.path.join(scratch, "mixed")),
    ):
        index = os.path.join(scratch, f"{name} {threshold}")
        remembering.squares = 0
        with Store.writing(index, create=True) as store:
            summary = indexer.run(store, lambda: (remembering, spec.to_json()), indexer.IndexPlan((folder,)))
            assert not summary.skipped
        with Store.open(index) as store:
            slots = store.view().space.slots
            hits = ranks(Searcher(store, lambda: remembering), captions)
        size = sum(os.path.getsize(os.path.join(top, file)) for top, _, files in os.walk(index) for file in files)
        found[name] = {"squares": slots, "bytes": size, "found": hits}
    found["seconds"] = seconds_per_photo(embedder, spec.to_json(), scratch)
    remembering.save()
    return found


def ranks(searcher: Searcher, captions: dict[str, list[str]]) -> dict[str, list[int]]:
    """For each photo the rank of its file for each of its captions; 0: not among the first ten."""
    asked = [(file, caption) for file, captions in sorted(captions.items()) for caption in captions]
    answers = searcher.search_many([Query(caption, text=caption) for _, caption in asked], SearchOptions(limit=10))
    found: dict[str, list[int]] = {}
    for (file, _), hits in zip(asked, answers, strict=True):
        names = [os.path.basename(hit.path) for hit in hits]
        found.setdefault(file, []).append(names.index(file) + 1 if file in names else 0)
    return found


def seconds_per_photo(embedder: Embedder, spec: str, scratch: str) -> dict[str, float]:
    """CPU time of the whole run, workers included, for ordinary photos and for strips of 3:1 to 12:1."""
    with open(os.path.join(scratch, "strips.json"), encoding="utf-8") as file:
        strips = json.load(file)
    mixed = os.path.join(scratch, "mixed")
    kinds = {
        "photo": [name for name in sorted(os.listdir(mixed)) if name not in strips][:TIMED],
        "strip": [name for name in sorted(strips) if strips[name]["band"] == list(BANDS[-1])][:TIMED],
    }
    seconds = {}
    for kind, names in kinds.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            Store.writing(os.path.join(folder, "index"), create=True) as store,
        ):
            paths = tuple(os.path.realpath(os.path.join(mixed, name)) for name in names)
            started = cpu_seconds()
            indexer.run(store, lambda: (embedder, spec), indexer.IndexPlan(paths))
            seconds[kind] = (cpu_seconds() - started) / len(names)
    return seconds


def cpu_seconds() -> float:
    """Of this process and of its workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Remembering:
    """A model that embeds no square twice, not even in another process: thresholds change which there are, not what
    they show."""

    def __init__(self, embedder: Embedder, path: str) -> None:
        self.identity, self.recipe = embedder.identity, embedder.recipe
        self.batch_size = 32
        self.squares = 0
        self._embedder = embedder
        self._path = path
        self._known: dict[str, np.ndarray] = {}
        self._texts: dict[str, np.ndarray] = {}
        if os.path.exists(path):
            with np.load(path) as known:
                self._known = dict(zip(known["keys"].tolist(), known["vectors"], strict=True))

    def save(self) -> None:
        np.savez(self._path, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))

    def embed_images(self, squares: np.ndarray) -> np.ndarray:
        self.squares += len(squares)
        keys = [hashlib.sha256(square.tobytes()).hexdigest() for square in squares]
        new = {key: at for at, key in enumerate(keys) if key not in self._known}
        if new:
            vectors = self._embedder.embed_images(squares[list(new.values())])
            self._known.update(zip(new, vectors, strict=True))
        return np.stack([self._known[key] for key in keys])

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            self._texts.update(zip(new, self._embedder.embed_texts(new), strict=True))
        return np.stack([self._texts[text] for text in texts])


# tables


def print_tables(found: dict[float, dict], strips: dict[str, dict], data: str) -> None:
    plain = found[NEVER]["plain"]
    photos = len(plain["found"])
    print(f"{photos} photos, {len(strips)} of them also as strips, five captions each, model builtin\n")
    titles = {threshold: "never" if threshold == NEVER else f"above {threshold:g}" for threshold in found}
    print("| aspect ratio | background | the photo itself | " + " | ".join(titles.values()) + " |")
    print("|---|---|---|" + "---|" * len(titles))
    for band in BANDS:
        for title, kinds in (("neutral", {False}), ("natural", {True}), ("both", {False, True})):
            names = [n for n, about in strips.items() if about["band"] == band and about["is_natural"] in kinds]
            itself = share(plain, names)
            cells = [f"{share(found[t]['mixed'], names):.3f}" for t in titles]
            print(f"| {band[0]:g} to {band[1]:g} | {title} | {itself:.3f} | {' | '.join(cells)} |")
    seen = {about["background"] for about in strips.values()}  # their captions fit the strips, too
    others = [name for name in plain["found"] if name not in strips and name not in seen]
    cells = [f"{share(found[t]['mixed'], others):.3f}" for t in titles]
    print(f"| other photos | | {share(plain, others):.3f} | {' | '.join(cells)} |")
    print("\n| several squares | squares of the dev split | recall_at_10 | bytes | squares with strips | bytes |")
    print("|---|---|---|---|---|---|")
    for threshold, title in titles.items():
        alone, mixed = found[threshold]["plain"], found[threshold]["mixed"]
        print(
            f"| {title} | {alone['squares']} | {share(alone, list(alone['found'])):.4f} | {alone['bytes']:,} | "
            f"{mixed['squares']} | {mixed['bytes']:,} |"
        )
    folder = os.path.join(data, "flickr8k-dev", "images")
    sizes = [Image.open(os.path.join(folder, name)).size for name in os.listdir(folder)]
    for threshold in [*titles][1:]:
        print(f"photos of the dev split above {threshold:g}: {sum(max(s) > threshold * min(s) for s in sizes)}")
    for threshold, title in titles.items():
        seconds = found[threshold]["seconds"]
        print(
            f"CPU seconds per photo, {title}: ordinary {seconds['photo']:.3f}, strip of 3 to 12 {seconds['strip']:.3f}"
        )


def share(collection: dict, names: Sequence[str]) -> float:
    """Of the captions that find their file among the first ten."""
    ranks = [rank for name in names for rank in collection["found"][name]]
    return sum(rank > 0 for rank in ranks) / len(ranks)


if __name__ == "__main__":
    main()
