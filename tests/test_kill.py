"""The short form of bench/kill.py: a few kills of every kind, each followed by all that must hold then."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench" / "kill.py"


def test_an_index_that_is_killed_again_and_again_ends_like_one_that_was_not():
    options = ["--kills", "6", "--life", "6", "--count", "100", "--signal", "mixed", "--seed", "1", "--no-words"]
    done = subprocess.run([sys.executable, BENCH, *options], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"^at work +(\d+) of 6 kills$", done.stdout, re.MULTILINE)
    assert told and int(told[1]) >= 3, done.stdout
