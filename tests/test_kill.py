"""bench/kill.py: kills of every kind, each followed by all that must hold then. `make test-long` has many more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import IS_LONG

BENCH = Path(__file__).parents[1] / "bench" / "kill.py"
KILLS, AT_WORK, PHOTOS = (300, 100, 600) if IS_LONG else (3, 2, 40)
"""AT_WORK of the kills, or of as many more as that takes, find the run indexing."""


def test_an_index_that_is_killed_again_and_again_ends_like_one_that_was_not():
    options = ["--kills", KILLS, "--at-work", AT_WORK, "--count", PHOTOS, "--life", 4, "--signal", "mixed", "--seed", 1]
    command = [sys.executable, BENCH, *map(str, options), "--no-words"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"^at work +(\d+) of (\d+) kills$", done.stdout, re.MULTILINE)
    assert told and int(told[1]) >= AT_WORK and int(told[2]) >= KILLS, done.stdout
