"""A disk that fails under the index, at a spread of its calls; `make test-long` takes each of them in turn."""

from __future__ import annotations

import subprocess
import sys

import faults
import pytest

from conftest import IS_LONG


def test_a_disk_that_fails_costs_no_answer_and_shows_no_traceback():
    run = subprocess.run(
        [sys.executable, faults.__file__, "--every", "1" if IS_LONG else "100"], capture_output=True, text=True
    )
    if run.returncode == faults.CANNOT_RUN:
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stdout + run.stderr
