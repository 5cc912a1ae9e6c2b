"""Measures how much of the text in pictures the extra [ocr] reads, and which pictures `imgsearch ocr` reads at all.

    python bench/ocr.py [--pages 200] [--cases FOLDER] [--photos FOLDER] [--keep FOLDER]

Renders pages and signs with known words: fonts of this machine, 14 to 60 pixels, turned by up to 5 degrees, with noise,
saved as JPEG. A word counts as read if exactly it stands between spaces in what was read, and as found if
`--text-contains` finds the page by it. FOLDER of --cases has pictures and a cases.jsonl with their `file` and `lines`;
that of --photos has ordinary photos, few of which show text.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.store.text_index import TextPattern, matching_of

SIZES = (14, 16, 18, 20, 24, 28, 32, 40, 48, 60)
MAX_SKEW = 5.0
WORDS = """
    invoice total receipt ticket gate platform museum bakery flour sugar boarding pass meeting agenda monday exit open
    daily closed kitchen recipe password library hotel station welcome garden street number market fresh bread coffee
    parking entrance please do not touch the wet paint lost dog reward summer concert tonight at eight price per kilo
    minutes of annual general assembly chapter introduction results table figure Lisbon Porto Hamburg Kyoto Montreal
""".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--keep", type=Path, help="write the rendered pages here, and keep them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        pages = list(rendered(folder, arguments.pages))
        measure_words(pages)
        if arguments.cases:
            listed = (json.loads(line) for line in (arguments.cases / "cases.jsonl").read_text().splitlines())
            measure_words([(arguments.cases / case["file"], "cases", case["lines"]) for case in listed])
        measure_looks({"rendered": folder, "cases": arguments.cases, "photos": arguments.photos})


# ---- Pages and signs


def rendered(folder: Path, count: int) -> Iterator[tuple[Path, str, list[str]]]:
    """(file, size of its letters, its lines) of pages and signs in turn."""
    fonts = font_files()
    chance = random.Random(2039)
    for number in range(count):
        size = SIZES[number % len(SIZES)]
        font = ImageFont.truetype(chance.choice(fonts), size) if fonts else ImageFont.load_default(size)
        is_page = number // len(SIZES) % 2 == 0
        image, lines = (page if is_page else sign)(chance, font, size)
        path = folder / f"{'page' if is_page else 'sign'}-{size}-{number:03}.jpg"
        image.save(path, quality=chance.randint(60, 92))
        yield path, f"{size} px", lines


def font_files() -> list[str]:
    """Upright Latin fonts of this machine."""
    listed = subprocess.run(["fc-list", ":lang=en", "file", "style"], capture_output=True, text=True).stdout
    files = {line.partition(":")[0] for line in listed.splitlines() if "Math" not in line and "Light" not in line}
    return sorted(file for file in files if file.endswith((".ttf", ".otf")) and "Oblique" not in file)


def line(chance: random.Random, most: int) -> str:
    words = [chance.choice(WORDS) for _ in range(chance.randint(1, most))]
    if chance.random() < 0.5:
        code = f"{chance.choice(('INV', 'REF', 'PO'))}-{chance.randint(1000, 9999)}"
        price = f"{chance.randint(1, 99)}.{chance.randint(10, 99)}"
        words.append(chance.choice((code, price, str(chance.randint(1000, 99999)))))
    return " ".join(words)


def page(chance: random.Random, font: ImageFont.FreeTypeFont, size: int) -> tuple[Image.Image, list[str]]:
    """Dark text on light paper."""
    width, height = 1200, 900
    image = Image.new("RGB", (width, height), tuple(chance.randint(225, 255) for _ in range(3)))
    ink = tuple(chance.randint(0, 70) for _ in range(3))
    draw, lines = ImageDraw.Draw(image), []
    step = int(size * 1.5)
    for top in range(90, min(height - 90 - size, 90 + 14 * step), step):
        text = line(chance, 8)
        while draw.textlength(text, font) > width - 220:
            text = text.rpartition(" ")[0]
        if text:
            draw.text((110, top), text, ink, font)
            lines.append(text)
    return worn(chance, image), lines


def sign(chance: random.Random, font: ImageFont.FreeTypeFont, size: int) -> tuple[Image.Image, list[str]]:
    """One to three lines on a board before a colourful background."""
    width, height = 900, 700
    coarse = np.random.default_rng(chance.randint(0, 2**32)).integers(0, 256, (7, 9, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    dark = tuple(chance.randint(0, 90) for _ in range(3))
    light = tuple(chance.randint(190, 255) for _ in range(3))
    board, ink = (dark, light) if chance.random() < 0.5 else (light, dark)
    draw = ImageDraw.Draw(image)
    lines = []
    for _ in range(chance.randint(1, 3)):
        text = line(chance, 3)
        while " " in text and draw.textlength(text, font) > width - 240:
            text = text.rpartition(" ")[0]
        lines.append(text)
    wide = max(draw.textlength(text, font) for text in lines)
    left, top = (width - wide) / 2, (height - len(lines) * size * 1.5) / 2
    draw.rectangle((left - size, top - size, left + wide + size, top + len(lines) * size * 1.5 + size), board)
    for at, text in enumerate(lines):
        draw.text((left, top + at * size * 1.5), text, ink, font)
    return worn(chance, image), lines


def worn(chance: random.Random, image: Image.Image) -> Image.Image:
    """Turned, out of focus and noisy, as from a camera."""
    turned = image.rotate(
        chance.uniform(-MAX_SKEW, MAX_SKEW), Image.Resampling.BICUBIC, fillcolor=image.getpixel((3, 3))
    ).filter(ImageFilter.GaussianBlur(chance.uniform(0, 0.6)))
    noise = np.random.default_rng(chance.randint(0, 2**32)).normal(0, chance.uniform(0, 12), (*turned.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(turned) + noise, 0, 255).astype(np.uint8))


# ---- What is read of them


def measure_words(pages: Sequence[tuple[Path, str, list[str]]]) -> None:
    with DecodePool(seconds=300, niceness=0) as pool, ThreadPoolExecutor(pool.count) as threads:
        pool.text(str(pages[0][0]))  # loads the models
        started = time.perf_counter()
        texts = list(threads.map(lambda each: [line.text for line in pool.text(str(each[0])).lines], pages))
        seconds = (time.perf_counter() - started) / len(pages)
    read, found, total = (defaultdict[str, int](int) for _ in range(3))
    missed: list[str] = []
    for (path, size, lines), text in zip(pages, texts, strict=True):
        words = " ".join(text).split()
        for word in " ".join(lines).split():
            total[size] += 1
            read[size] += word in words
            is_found = bool(matching_of([(b"0", "\n".join(text))], TextPattern(word)))
            found[size] += is_found
            missed += [] if is_found else [f"{path.name}: {word}"]
    print(f"\n{len(pages)} pictures, {seconds:.2f} s each on {pool.count} cores")
    print(f"{'letters':10} {'words':>6} {'read':>7} {'found':>7}")
    for size in total:
        print(f"{size:10} {total[size]:6} {read[size] / total[size]:7.3f} {found[size] / total[size]:7.3f}")
    print("not found, for example:", ", ".join(missed[:: max(1, len(missed) // 8)][:8]) or "none")


# ---- Which pictures are read


def measure_looks(folders: dict[str, Path | None]) -> None:
    """How many pictures of each folder look like text, by the model of `imgsearch index`."""
    from imgsearch.core.indexing.reading import TEXT_PHRASES, THRESHOLD, text_likeness
    from imgsearch.core.models import loading, registry
    from imgsearch.core.models.phrases import neutral_phrases
    from imgsearch.core.photos.preprocess import draft_side
    from imgsearch.core.types import Photo

    embedder = loading.load(registry.parse("builtin", None, None), device="cpu", precision="fp32", offline=True)
    texts, others = embedder.embed_texts(TEXT_PHRASES), embedder.embed_texts(neutral_phrases())
    print(f"\n{'pictures':10} {'number':>6} {'look like text':>15} {'likeness: 5 %, median, 95 %':>30}")
    with DecodePool() as pool, ThreadPoolExecutor(pool.count) as threads:
        for name, folder in folders.items():
            files = sorted(folder.rglob("*.jp*g")) if folder else []
            if not files:
                continue

            def square(path: Path) -> np.ndarray:
                photo = Photo(str(path.parent), path.name, path.stat().st_size, 0, 0)
                read = pool.read(photo, embedder.recipe, draft_side=draft_side(embedder.recipe)).square
                assert read is not None
                return read

            squares = np.stack(list(threads.map(square, files)))
            vectors = np.concatenate([embedder.embed_images(squares[at : at + 32]) for at in range(0, len(files), 32)])
            likeness = text_likeness(vectors, texts, others)
            share = float(np.mean(likeness >= THRESHOLD))
            spread = np.percentile(likeness, [5, 50, 95])
            print(f"{name:10} {len(files):6} {share:15.3f} {spread[0]:14.3f} {spread[1]:7.3f} {spread[2]:7.3f}")


if __name__ == "__main__":
    main()
