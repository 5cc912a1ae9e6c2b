"""bench/fuzz.py: damaged pictures of every format, all in one folder. `make test-long` has thousands of each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import IS_LONG

BENCH = Path(__file__).parents[1] / "bench" / "fuzz.py"
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "HEIC", "AVIF")
COUNT = 2000 if IS_LONG else 8
ROW = r"^(\w+) +(\d+) +(\d+) .*$"
"""Name, files, indexed."""


def test_damaged_pictures_of_every_format_come_out_once_each_and_none_ends_the_run():
    command = [sys.executable, BENCH, "--count", str(COUNT), "--together", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {name: (int(files), int(indexed)) for name, files, indexed in re.findall(ROW, done.stdout, re.MULTILINE)}
    assert {name: files for name, (files, _) in rows.items()} == dict.fromkeys(FORMATS, COUNT) | {"all": 7 * COUNT}
    assert 0 < rows["all"][1] < 7 * COUNT, "some decode and some do not, or the damage tests little"
