"""Measures how many copies `imgsearch dupes` finds, how many of its finds are wrong, and its time for 100,000 photos.

python bench/dupes.py copies [--data FOLDER]     finds altered copies of the album, or of the photos of a folder
python bench/dupes.py scale --count 100000       random vectors and perceptual hashes: all but reading the photos
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFont, ImageOps

from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.photos.perceptual_hash import BITS, SIDE, PerceptualHashes, hash_of
from imgsearch.core.search import duplicates
from imgsearch.core.search.filters import Filters
from imgsearch.core.store.records import NewPhoto
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import Facts, Photo, SpaceIdentity

ALBUM = Path(__file__).parents[1] / "tests" / "album"


Picture = Image.Image


@dataclass(frozen=True)
class Way:
    """How a copy comes about, or a picture that is none."""

    make: Callable[[Picture], Picture] = lambda image: image
    ending: str = "jpg"
    quality: int = 85
    orientation: int = 1
    is_copy: bool = True


def cropped(share: float) -> Callable[[Picture], Picture]:
    def crop(image: Picture) -> Picture:
        across, down = round(share * image.width), round(share * image.height)
        return image.crop((across, down, image.width - across, image.height - down))

    return crop


def panned(share: float) -> Callable[[Picture], Picture]:
    """What the camera sees a moment later, having turned a little: the same scene, and something new at one side."""

    def pan(image: Picture) -> Picture:
        across = round(share * image.width)
        moved = ImageChops.offset(image, -across, 0)
        side = image.crop((0, 0, across, image.height)).rotate(180)
        moved.paste(side, (image.width - across, 0))
        return moved

    return pan


def resized(divisor: int) -> Callable[[Picture], Picture]:
    return lambda image: image.resize((max(1, image.width // divisor), max(1, image.height // divisor)))


def marked(image: Picture) -> Picture:
    image = image.copy()
    words = ImageFont.load_default(max(12, image.height // 14))
    ImageDraw.Draw(image).text((image.width // 20, image.height * 0.88), "(c) A. Nother 2024", "white", words)
    return image


def turned(degrees: int) -> Callable[[Picture], Picture]:
    return lambda image: image.rotate(degrees, expand=True)


WAYS = {
    "JPEG of quality 90": Way(quality=90),
    "JPEG of quality 50": Way(quality=50),
    "JPEG of quality 30": Way(quality=30),
    "JPEG of quality 10": Way(quality=10),
    "PNG": Way(ending="png"),
    "WebP": Way(ending="webp", quality=75),
    "HEIC": Way(ending="heic", quality=60),
    "AVIF": Way(ending="avif", quality=50),
    "half the size": Way(resized(2)),
    "a quarter of the size": Way(resized(4)),
    "an eighth of the size": Way(resized(8)),
    "25 % brighter": Way(lambda image: ImageEnhance.Brightness(image).enhance(1.25)),
    "30 % darker": Way(lambda image: ImageEnhance.Brightness(image).enhance(0.7)),
    "more contrast": Way(lambda image: ImageEnhance.Contrast(image).enhance(1.3)),
    "without colour": Way(lambda image: image.convert("L").convert("RGB")),
    "turned by EXIF only": Way(turned(90), orientation=6),
    "turned by 90": Way(turned(90)),
    "turned by 180": Way(turned(180)),
    "turned by 270": Way(turned(270)),
    "2 % cropped": Way(cropped(0.02)),
    "5 % cropped": Way(cropped(0.05)),
    "10 % cropped": Way(cropped(0.1)),
    "white border of 3 %": Way(lambda image: ImageOps.expand(image, round(0.03 * image.width), "white")),
    "a line of text on it": Way(marked),
    "mirrored": Way(ImageOps.mirror),
    "panned by 15 %": Way(panned(0.15), is_copy=False),
    "panned by 30 %": Way(panned(0.3), is_copy=False),
}


def unlike(number: int) -> dict[str, Picture]:
    """Pictures of the kinds that have little in them, or that are laid out alike; no two are the same."""
    generator = np.random.default_rng(number)
    side = np.linspace(0, 255, 256)
    slope = np.add.outer(*(side * weight for weight in generator.dirichlet((1, 1))))
    page = Image.new("RGB", (800, 1_100), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(20)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz      "))
    for line in range(30):
        draw.text((80, 80 + 32 * line), "".join(generator.choice(letters, generator.integers(30, 62))), "black", font)
    form = Image.new("RGB", (800, 1_100), "white")
    draw = ImageDraw.Draw(form)
    for row in range(12):
        draw.rectangle((60, 100 + 70 * row, 740, 150 + 70 * row), outline="black", width=2)
        draw.text((70, 112 + 70 * row), f"Field {row}:", "black", font)
        draw.text((250, 112 + 70 * row), str(generator.integers(10 ** int(generator.integers(3, 14)))), "black", font)
    grey = int(generator.integers(256))
    return {
        "frame": Image.new("RGB", (300 + number, 200), (grey, grey, grey)),
        "black": Image.new("RGB", (300 + number, 200), (number % 3, number % 2, 0)),
        "gradient": Image.fromarray(np.stack([slope, slope[::-1], slope], axis=2).astype(np.uint8)),
        "page": page,
        "form": form,
    }


def copies(data: Path, most: int) -> None:
    """One copy of every kind of each photo, and pictures that are no copies of anything, indexed together."""
    from pillow_heif import register_heif_opener

    from imgsearch.core.indexing import indexer
    from imgsearch.core.indexing.indexer import IndexPlan
    from imgsearch.core.models import loading, registry

    register_heif_opener()
    originals = sorted(data.glob("*.jpg"))[:most]
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder, "photos")
        for kind in (ORIGINAL, UNLIKE, *WAYS):
            (top / kind).mkdir(parents=True)
        for number, path in enumerate(originals):
            shutil.copy(path, top / ORIGINAL)
            image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
            for name, way in WAYS.items():
                exif = Image.Exif()
                exif[274] = way.orientation
                way.make(image).save(top / name / f"{path.stem}.{way.ending}", quality=way.quality, exif=exif)
            for kind, picture in unlike(number).items():
                picture.save(top / UNLIKE / f"{kind} {number}.jpg", quality=85)
        index = str(Path(folder, "index"))
        model = loading.load(registry.parse("builtin"), device="cpu")
        with Store.writing(index, create=True) as store:
            indexer.run(store, lambda: (model, registry.parse("builtin").to_json()), IndexPlan((str(top),)))
        with Store.open(index) as store, DecodePool() as workers:
            cache = PerceptualHashes(str(Path(folder, "looks.sqlite3")))
            for quick in (False, True):
                print(f"\n{'--quick' if quick else 'default'}")
                _tell_ways(store, top, quick, cache, workers, len(originals))
                _tell_all(store, quick, cache, workers)


ORIGINAL, UNLIKE = "original", "no copies"


def _found(
    store: Store, quick: bool, cache: PerceptualHashes, workers: DecodePool, under: tuple[str, ...] = ()
) -> list[tuple[Path, Path, duplicates.Duplicate]]:
    """(kept, other, how they compare) of all near copies."""
    wanted = duplicates.DuplicateOptions(quick=quick, filters=Filters(under=under))
    found = duplicates.find(store, wanted, cache=cache, workers=lambda: workers)
    assert not found.skipped
    pairs = [(Path(group.kept.path), Path(each.place.path), each) for group in found.groups for each in group.others]
    return [pair for pair in pairs if pair[2].kind == "near"]


def _tell_ways(store: Store, top: Path, quick: bool, cache: PerceptualHashes, workers: DecodePool, count: int) -> None:
    """Each kind of copies among the originals and nothing else: how many are put together with theirs."""
    shares = []
    for name, way in WAYS.items():
        pairs = _found(store, quick, cache, workers, (str(top / ORIGINAL), str(top / name)))
        share = sum(one.stem == other.stem for one, other, _ in pairs) / count
        shares += [share] if way.is_copy else []
        print(f"  {name:24} {share:.3f}{'' if way.is_copy else '  (no copy)'}")
    print(f"  {'mean of the copies':24} {statistics.mean(shares):.3f}")


def _tell_all(store: Store, quick: bool, cache: PerceptualHashes, workers: DecodePool) -> None:
    """All of it at once: which pairs are wrong."""
    started = time.perf_counter()
    pairs = _found(store, quick, cache, workers)
    seconds = time.perf_counter() - started
    panned = {name for name, way in WAYS.items() if not way.is_copy}
    wrong = [(one, other, how) for one, other, how in pairs if one.stem != other.stem]
    similar = [pair for pair in pairs if pair not in wrong and {path.parent.name for path in pair[:2]} & panned]
    print(
        f"  all {store.status().photos['present']:,} together: {len(pairs):,} pairs in {seconds:.0f} s, "
        f"{len(wrong)} of different pictures, {len(similar)} of a photo and one panned"
    )
    for one, other, how in wrong[:10]:
        print(
            f"    {one.parent.name}/{one.stem} and {other.parent.name}/{other.stem}: {how.bits} of {how.compared} "
            f"bits, cosine {how.cosine}, {how.turned} degrees"
        )


def made_hashes(generator: np.random.Generator, bases: list[bytes], count: int) -> list[bytes]:
    """Hashes of pictures that are laid out much like those of the album, and of others that are not; each tenth is all
    but that of the one before, as if re-encoded."""
    hashes = []
    for number in range(count):
        if number % 10 == 1:
            flips, base = 4, hashes[-1]
        else:
            flips = 40 if number % 2 else 64
            base = bases[generator.integers(len(bases))]
        changed = np.zeros(8 * len(base), bool)  # of the code only: all of one base have the same details
        changed[generator.choice(BITS, flips, replace=False)] = True
        hashes.append((np.frombuffer(base, np.uint8) ^ np.packbits(changed)).tobytes())
    return hashes


def scale(count: int, dim: int) -> None:
    """All of `imgsearch dupes` but reading photos: made-up vectors of 2,000 kinds, of which two of a kind often lie
    above the least cosine, hashes that are known, and empty files."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((2_000, dim)).astype(np.float32)
    bases = [hash_of(np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE)))) for path in ALBUM.glob("*.jpg")]
    with tempfile.TemporaryDirectory() as folder, Store.writing(str(Path(folder, "index")), create=True) as store:
        space = store.space_for(SpaceIdentity("a" * 64, "made up", "none", None, dim), "{}")
        top, cache = Path(folder, "photos"), PerceptualHashes(str(Path(folder, "looks.sqlite3")))
        with store.catalog.transaction():
            root_id = store.catalog.roots.add(str(top), "folder", None)
        for start in range(0, count, 10_000):
            rows = centres[generator.integers(0, 2_000, min(10_000, count - start))]
            rows = rows + generator.standard_normal(rows.shape).astype(np.float32) * np.float32(0.6)
            rows[1::10] = rows[: len(rows) - 1 : 10]
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            hashes = [(start + number).to_bytes(32) for number in range(len(rows))]
            batch = Batch(images=dict(zip(hashes, rows, strict=True)))
            (top / str(start)).mkdir(parents=True)
            for number, content in enumerate(hashes):
                path = top / str(start) / f"{number}.jpg"
                path.touch()
                info = path.stat()
                photo = Photo(str(top), f"{start}/{number}.jpg", 0, info.st_mtime_ns, info.st_ino)
                batch.photos.append((root_id, NewPhoto(photo, content, 0, info.st_mtime_ns, Facts("JPEG", 9, 9)), ()))
            space = store.commit(space, batch, codecs="")
            cache.remember(dict(zip(hashes, made_hashes(generator, bases, len(rows)), strict=True)))
        print(f"{count:,} photos, {dim} dimensions; cache {Path(cache.path).stat().st_size / 1e6:.0f} MB")
        for quick in (False, True):
            stages: dict[str, float] = {}

            def on_progress(what: str, done: int, total: int, stages: dict[str, float] = stages) -> None:
                stages.setdefault(what, time.perf_counter())

            started, cpu = time.perf_counter(), time.process_time()
            found = duplicates.find(
                store, duplicates.DuplicateOptions(quick=quick), cache=cache, workers=_none, on_progress=on_progress
            )
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            at = ", ".join(f"{what} from {moment - started:.1f} s" for what, moment in stages.items())
            copies = sum(len(group.others) for group in found.groups)
            print(f"{'--quick' if quick else 'default'}: {copies:,} copies, {seconds:.0f} s, {cpu:.0f} s of CPU ({at})")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def _none() -> DecodePool:
    raise AssertionError("every hash is known")


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
