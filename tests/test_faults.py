"""A disk that fails under the index, at a spread of its calls; all of them in turn: `python tests/faults.py`."""

from __future__ import annotations

import subprocess
import sys

import faults
import pytest


def test_a_disk_that_fails_costs_no_answer_and_shows_no_traceback():
    run = subprocess.run([sys.executable, faults.__file__, "--every", "8"], capture_output=True, text=True)
    if run.returncode == faults.CANNOT_RUN:
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stdout + run.stderr
