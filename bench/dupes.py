"""How many copies `imgsearch dupes` finds, how many it only thinks it does, and what 100,000 photos cost.

python bench/dupes.py copies [--data FOLDER]     copies made of the album (or of a folder's photos), found again
python bench/dupes.py scale --count 100000       made-up vectors and looks: the comparison alone
"""

from __future__ import annotations

import argparse
import io
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from imgsearch.core import dupes
from imgsearch.core.looks import Looks, codes, look
from imgsearch.core.store import Store
from imgsearch.core.workers import Workers

ALBUM = Path(__file__).parents[1] / "tests" / "album"


def cropped(image: Image.Image, share: float) -> Image.Image:
    across, down = round(share * image.width), round(share * image.height)
    return image.crop((across, down, image.width - across, image.height - down))


def recoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 30": lambda image: recoded(image, 30),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "a fifth of the size": lambda image: image.resize((image.width // 5, image.height // 5)),
    "25 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "30 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "2 % cropped": lambda image: cropped(image, 0.02),
    "5 % cropped": lambda image: cropped(image, 0.05),
    "turned by 90": lambda image: image.rotate(90, expand=True),
    "turned by 180": lambda image: image.rotate(180),
    "turned by 270": lambda image: image.rotate(270, expand=True),
    "without colour": lambda image: image.convert("L").convert("RGB"),
}


def copies(data: Path, most: int) -> None:
    """One copy of every kind of each photo, and frames of one colour, indexed together."""
    from imgsearch.core import embed, indexing, models
    from imgsearch.core.indexing import IndexPlan

    originals = sorted(data.glob("*.jpg"))[:most]
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder, "photos")
        top.mkdir()
        for path in originals:
            shutil.copy(path, top / f"{path.stem}@original.jpg")
            image = Image.open(path).convert("RGB")
            for number, make in enumerate(WAYS.values()):
                make(image).save(top / f"{path.stem}@{number}.jpg", quality=85)
        for number, colour in enumerate(("black", "#020202", "white", "#fefefe", "gray")):
            Image.new("RGB", (300 + number, 200), colour).save(top / f"frame-{number}@flat.jpg")
        index = str(Path(folder, "index"))
        model = embed.load(models.parse("builtin"), device="cpu")
        with Store.writing(index, create=True) as store:
            indexing.run(store, lambda: (model, models.parse("builtin").to_json()), IndexPlan((str(top),)))
        with Store.open(index) as store:
            for quick in (False, True):
                _tell(store, quick, len(originals), Path(folder, f"looks-{quick}"))


def _tell(store: Store, quick: bool, count: int, cache: Path) -> None:
    started = time.perf_counter()
    with Workers() as workers:
        found = dupes.find(store, dupes.Wanted(quick=quick), cache=Looks(str(cache)), workers=lambda: workers)
    found_ways: Counter[str] = Counter()
    wrong = right = 0
    for group in found.groups:
        files = [Path(place.path).stem.split("@") for place in (group.kept, *(other.place for other in group.others))]
        main = Counter(stem for stem, _ in files).most_common(1)[0][0]
        for stem, kind in files[1:] if files[0][0] == main else files:
            right += stem == main
            wrong += stem != main or kind == "flat"
        if ["original"] in [[kind] for stem, kind in files if stem == main]:
            found_ways.update(kind for stem, kind in files if stem == main)
    seconds = time.perf_counter() - started
    print(f"\n{'--quick' if quick else 'default'}: {found.photos:,} photos, {seconds:.0f} s")
    print(f"in a group with its original: precision {right / max(1, right + wrong):.4f} ({wrong} wrong)")
    for number, way in enumerate(WAYS):
        print(f"  {way:22} {found_ways[str(number)] / count:.3f}")


def scale(count: int, dim: int) -> None:
    """Photos of 2,000 kinds, of which two of a kind often lie above the least cosine; a tenth are near copies."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((2_000, dim)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        rows = np.memmap(Path(folder, "rows"), np.float32, "w+", shape=(count, dim))
        looks = []
        for start in range(0, count, 10_000):
            stop = min(count, start + 10_000)
            part = centres[generator.integers(0, 2_000, stop - start)]
            part = part + generator.standard_normal(part.shape).astype(np.float32) * np.float32(0.6)
            rows[start:stop] = part / np.linalg.norm(part, axis=1, keepdims=True)
            looks += [look(generator.integers(0, 256, (72, 72, 3), np.uint8)) for _ in range(stop - start)]
        for at in range(0, count - 1, 10):
            rows[at + 1], looks[at + 1] = rows[at], looks[at]
        contents = [dupes._Content(number.to_bytes(32), (), number) for number in range(count)]
        cache = Looks(str(Path(folder, "looks.sqlite3")))
        cache.remember({content.hash: seen for content, seen in zip(contents, looks, strict=True)})
        print(f"{count:,} photos, {dim} dimensions; cache {Path(cache.path).stat().st_size / 1e6:.0f} MB")
        print(f"clear bits at the least: {int(np.bitwise_count(codes(looks)[:, 2:]).sum(axis=1).min())}")
        for quick in (False, True):
            near = dupes._Near(contents, rows, dupes.Wanted(quick=quick), lambda what, done, total: None)
            started = time.perf_counter()
            if quick:
                share = near._has_neighbour().mean()
                print(f"which have a neighbour: {time.perf_counter() - started:.0f} s ({share:.1%} have)")
            started = time.perf_counter()
            near.look(cache, lambda: (_ for _ in ()).throw(AssertionError))
            read = time.perf_counter() - started
            matches = near.matches()
            seconds = time.perf_counter() - started - read
            how = "--quick" if quick else "default"
            print(f"{how}: {len(matches):,} matches; looks {read:.0f} s, comparison {seconds:.0f} s")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("copies")
    part.add_argument("--data", type=Path, default=ALBUM)
    part.add_argument("--most", type=int, default=200)
    part = parts.add_parser("scale")
    part.add_argument("--count", type=int, default=100_000)
    part.add_argument("--dim", type=int, default=512)
    given = parser.parse_args()
    if given.part == "copies":
        copies(given.data, given.most)
    else:
        scale(given.count, given.dim)


if __name__ == "__main__":
    main()
