"""Measures whether a video is found by what it shows, and at the right moment.

python bench/videos.py [--data DIR] [--keep FOLDER]    20 videos made from photos of Flickr8k's dev split

Each video shows five photos for some seconds each, with cuts at any time, while the camera zooms and pans. The captions
of a photo then have to find its video among the other photos, and a moment at which it shows that photo, as they find
the photo itself in the plain collection.

DIR contains `flickr8k-dev/`. Default: $IMGSEARCH_TEST_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

os.environ["HF_HUB_OFFLINE"] = "1"

import av
from PIL import Image
from quality import REPOSITORY, read_lines

from imgsearch.cli.loading import load_model
from imgsearch.core.indexing import indexer
from imgsearch.core.models import registry
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.grouping import Hit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store
from imgsearch.core.types import Embedder

SEED = 0
VIDEOS, SHOTS = 20, 5
SECONDS = (2.5, 7.0)
"""How long a photo is shown."""
SIZE, RATE = (640, 480), 24
CODECS = (("mp4", "libx264"), ("mov", "libx264"), ("webm", "libvpx-vp9"), ("mkv", "mpeg4"), ("avi", "mjpeg"))
NEAR_SECONDS = 2.0


@dataclass(frozen=True)
class Shot:
    video: str
    start: float
    end: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        default=os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data"),
    )
    parser.add_argument("--keep", help="make the collection in this new folder, and keep it")
    arguments = parser.parse_args()
    source = os.path.join(os.path.abspath(arguments.data), "flickr8k-dev")
    captions = {line["file"]: line["captions"] for line in read_lines(os.path.join(source, "captions.jsonl"))}
    with tempfile.TemporaryDirectory() as scratch:
        mixed = arguments.keep or os.path.join(scratch, "mixed")
        shots = make_collection(os.path.join(source, "images"), mixed)
        asked = [(file, caption) for file in sorted(shots) for caption in captions[file]]
        model = load_model(registry.parse("builtin"), device="cpu", precision="auto", offline=True, say=print)
        plain, mixture = (answers(folder, model, asked, scratch) for folder in (os.path.join(source, "images"), mixed))
        print_table(shots, asked, plain, mixture)


# ---- The collection


def make_collection(source: str, folder: str) -> dict[str, Shot]:
    """Videos of some photos, and the others as they are. Returns where each photo of a video is shown."""
    os.mkdir(folder)
    chance = random.Random(SEED)
    names = sorted(os.listdir(source))
    chosen = chance.sample(names, VIDEOS * SHOTS)
    shots: dict[str, Shot] = {}
    for number in range(VIDEOS):
        ending, codec = CODECS[number % len(CODECS)]
        photos = {name: chance.uniform(*SECONDS) for name in chosen[number * SHOTS : (number + 1) * SHOTS]}
        shots |= make_video(source, os.path.join(folder, f"video-{number:02}.{ending}"), codec, photos, chance)
    for name in set(names) - set(chosen):
        os.symlink(os.path.join(source, name), os.path.join(folder, name))
    return shots


def make_video(source: str, path: str, codec: str, photos: dict[str, float], chance: random.Random) -> dict[str, Shot]:
    shots, number = {}, 0
    with av.open(path, "w") as out:
        track = out.add_stream(codec, rate=RATE)
        track.width, track.height = SIZE
        track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        track.bit_rate = 2_000_000
        if codec == "libvpx-vp9":
            track.options = {"cpu-used": "8", "deadline": "realtime"}
        for name, seconds in photos.items():
            start = number / RATE
            with Image.open(os.path.join(source, name)) as photo:
                for image in moving(photo.convert("RGB"), round(seconds * RATE), chance):
                    frame = av.VideoFrame.from_image(image)
                    frame.pts, number = number, number + 1
                    out.mux(track.encode(frame))
            shots[name] = Shot(os.path.basename(path), start, number / RATE)
        out.mux(track.encode())
    return shots


def moving(photo: Image.Image, frames: int, chance: random.Random) -> Iterator[Image.Image]:
    """The photo, while the camera slowly zooms in or out and pans: at least 80 % of it is seen, where the shape of the
    frame allows that."""
    scale = min(photo.width / SIZE[0], photo.height / SIZE[1])
    ends = []
    for zoom in chance.sample((chance.uniform(0.8, 0.9), 1.0), 2):
        width, height = zoom * scale * SIZE[0], zoom * scale * SIZE[1]
        ends.append((chance.uniform(0, photo.width - width), chance.uniform(0, photo.height - height), width, height))
    for number in range(frames):
        share = number / max(1, frames - 1)
        left, top, width, height = (a + share * (b - a) for a, b in zip(*ends, strict=True))
        yield photo.resize(SIZE, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))


# ---- The measurement


def answers(folder: str, model: Embedder, asked: list[tuple[str, str]], scratch: str) -> list[list[Hit]]:
    index = os.path.join(scratch, f"index of {os.path.basename(folder)}")
    started = time.perf_counter()
    with Store.writing(index, create=True) as store:
        spec = registry.parse("builtin").to_json()
        summary = indexer.run(store, lambda: (model, spec), indexer.IndexPlan((folder,), video=True))
        assert not summary.skipped
    with Store.open(index) as store:
        searcher = Searcher(store, lambda: model)
        print(f"{folder}: {summary.new} photos, {searcher.view.space.slots} vectors, "
              f"{time.perf_counter() - started:.0f} s")  # fmt: skip
        return list(searcher.search_many([Query(text, text=text) for _, text in asked], SearchOptions(limit=10)))


def print_table(
    shots: dict[str, Shot], asked: list[tuple[str, str]], plain: list[list[Hit]], mixed: list[list[Hit]]
) -> None:
    kinds = {ending: {name for name, shot in shots.items() if shot.video.endswith(ending)} for ending, _ in CODECS}
    print(
        "\n| video | captions | photo itself | video | moment within 2 s | in the shot | of those that find the photo |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind, names in (*kinds.items(), ("all", set(shots))):
        at = [number for number, (file, _) in enumerate(asked) if file in names]
        itself = {n for n in at if any(os.path.basename(hit.path) == asked[n][0] for hit in plain[n])}
        hits = {n: [hit for hit in mixed[n] if os.path.basename(hit.path) == shots[asked[n][0]].video] for n in at}
        found = {n for n in at if hits[n]}
        near = {n for n in found if is_near(hits[n][0], shots[asked[n][0]], NEAR_SECONDS)}
        inside = {n for n in found if is_near(hits[n][0], shots[asked[n][0]], 0.0)}
        cells = [f"{len(each) / len(at):.3f}" for each in (itself, found, near, inside)]
        print(f"| {kind} | {len(at)} | {' | '.join(cells)} | {len(near & itself) / len(itself):.3f} |")


def is_near(hit: Hit, shot: Shot, seconds: float) -> bool:
    at = hit.place.at
    return at is not None and shot.start - seconds <= at <= shot.end + seconds


if __name__ == "__main__":
    main()
