"""Times how long the places of photos take to name, and the runs that have nothing to name.

    python bench/places.py [--photos 1000] [--rounds 5]

Makes small JPEGs with GPS coordinates all over the towns of the world, indexes them, and times whole processes of
`imgsearch index` in turn: with every place to name again, and with nothing to do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from PIL import Image

from imgsearch.core.photos.gazetteer import gazetteer

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    started = time.perf_counter()
    towns = gazetteer()._towns
    print(f"loading the data           {time.perf_counter() - started:6.2f} s")
    chance = random.Random(0)
    where = [(town.latitude, town.longitude) for town in chance.choices(towns, k=arguments.photos)]
    started = time.perf_counter()
    gazetteer().names(where)
    print(f"{arguments.photos:,} names, loaded       {time.perf_counter() - started:6.3f} s")
    with tempfile.TemporaryDirectory() as place:
        plant(f"{place}/photos", where)
        first = index(place, f"{place}/photos")
        print(f"first run, with names      {first:6.2f} s")
        again, nothing = [], []
        for _ in range(arguments.rounds):
            with contextlib.closing(sqlite3.connect(f"{place}/index/catalog.sqlite3")) as catalog, catalog:
                catalog.execute("update photos set place_data = null")
            again.append(index(place))
            nothing.append(index(place))
        print(f"every place again          {statistics.median(again):6.2f} s")
        print(f"nothing to do              {statistics.median(nothing):6.2f} s")


def plant(folder: str, where: list[tuple[float, float]]) -> None:
    os.mkdir(folder)
    for number, (latitude, longitude) in enumerate(where):
        exif = Image.Exif()
        exif[0x8825] = {
            1: "S" if latitude < 0 else "N",
            2: (abs(latitude), 0.0, 0.0),
            3: "W" if longitude < 0 else "E",
            4: (abs(longitude), 0.0, 0.0),
        }
        colour = (number % 256, number // 256 % 256, 128)
        Image.new("RGB", (64, 48), colour).save(f"{folder}/{number:06}.jpg", exif=exif)


def index(place: str, *paths: str) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "imgsearch", "index", *paths, "--index", f"{place}/index", "--quiet"]
    subprocess.run(command, check=True, env=ENVIRONMENT)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
