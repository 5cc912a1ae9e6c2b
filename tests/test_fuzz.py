"""The short form of bench/fuzz.py: a few damaged pictures of every format, all in one folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench" / "fuzz.py"
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "HEIC", "AVIF")
ROW = r"^(\w+) +(\d+) +(\d+) .*$"
"""Name, files, indexed."""


def test_damaged_pictures_of_every_format_come_out_once_each_and_none_ends_the_run():
    command = [sys.executable, BENCH, "--count", "40", "--together", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {name: (int(files), int(indexed)) for name, files, indexed in re.findall(ROW, done.stdout, re.MULTILINE)}
    assert {name: files for name, (files, _) in rows.items()} == dict.fromkeys(FORMATS, 40) | {"all": 280}
    assert 0 < rows["all"][1] < 280, "some decode, some do not, or the damage tests little"
