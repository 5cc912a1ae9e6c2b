"""Measures the memory of the main process while it indexes a tenth of the photos, and then all of them.

    python bench/memory.py --count 100000

Makes small photos with different contents, in folders of 1,000 or, with `--flat`, in one. Prints the peak resident size
of the main process (without its workers) after each run; the difference is what grows with the number of photos.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--flat", action="store_true", help="all photos in one folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        peaks = {}
        for count in (arguments.count // 10, arguments.count):
            photos = Path(top) / f"photos-{count}"
            make(photos, count, flat=arguments.flat)
            peaks[count] = indexed(photos, Path(top) / f"index-{count}", count)
    (few, low), (many, high) = peaks.items()
    print(f"growth: {(high - low) / (many - few):.0f} bytes per photo")


def make(folder: Path, count: int, *, flat: bool) -> None:
    """Photos of 64 x 64 pixels: one JPEG with a number behind it, so that each has a content of its own."""
    generator = np.random.default_rng(0)
    kinds = []
    for _ in range(256):
        data = io.BytesIO()
        small = generator.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(data, "JPEG")
        kinds.append(data.getvalue())
    for number in range(count):
        inside = folder if flat else folder / f"{number // 1000:04}"
        if number == 0 or (not flat and number % 1000 == 0):
            inside.mkdir(parents=True)
        (inside / f"{number:07}.jpg").write_bytes(kinds[number % 256] + number.to_bytes(8, "little"))


def indexed(photos: Path, index: Path, count: int) -> int:
    """Peak resident bytes of the process that indexes these photos."""
    command = [sys.executable, "-m", "imgsearch", "index", str(photos), "--model", "builtin", "--json"]
    started = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "IMGSEARCH_INDEX": str(index)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        last = b""
        for line in process.stdout:
            last = line
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    summary = json.loads(last)
    assert summary["new"] + summary["reused"] == count, summary
    seconds = time.perf_counter() - started
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    catalog = os.path.getsize(index / "catalog.sqlite3")
    print(f"{count:8,} photos: peak {peak / 1e6:.0f} MB, catalogue {catalog / 1e6:.0f} MB, {seconds:.0f} s", flush=True)
    return peak


if __name__ == "__main__":
    main()
