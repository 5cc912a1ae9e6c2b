"""Measures whole processes: their time, memory and imports."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Command:
    """A program, started as from a shell."""

    words: Sequence[str | Path]
    environment: Mapping[str, str]
    folder: Path | None = None
    given: str = ""
    """Its standard input."""


@dataclass(frozen=True)
class Ran:
    seconds: float
    peak_bytes: int
    """Peak resident memory of the process itself."""
    said: str
    complained: str


@dataclass(frozen=True)
class Times:
    """The measurements of one program over the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


def run(command: Command, while_running: Callable[[int], None] | None = None) -> Ran:
    """Run to the end. Raises RuntimeError with the output if the program fails."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained, tempfile.TemporaryFile() as given:
        given.write(command.given.encode())
        given.seek(0)
        environment = {**os.environ, **command.environment}
        started = time.perf_counter()
        process = subprocess.Popen(
            command.words, stdin=given, stdout=said, stderr=complained, cwd=command.folder, env=environment
        )
        if while_running:
            threading.Thread(target=while_running, args=(process.pid,), daemon=True).start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        for stream in (said, complained):
            stream.seek(0)
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        ran = Ran(seconds, peak, said.read().decode(errors="replace"), complained.read().decode(errors="replace"))
    if process.returncode:
        last = ran.complained.strip().splitlines()[-2:] or ["nothing"]
        raise RuntimeError(
            f"{Path(command.words[0]).name} ended with {process.returncode} and said: {' | '.join(last)}"
        )
    return ran


def in_turn(rounds: int, *contenders: Callable[[int], float], warm_up: bool = True) -> list[Times]:
    """All contenders in turn, so that a change in the machine's load meets each of them, after once to warm up.

    A contender is given the number of its round, 0 for the warm-up, and returns seconds.
    """
    for contender in contenders if warm_up else ():
        contender(0)
    taken = [[contender(number) for contender in contenders] for number in range(1, rounds + 1)]
    return [Times(tuple(seconds)) for seconds in zip(*taken, strict=True)]


def resident_but(command: Command, *names: str) -> int:
    """Peak resident bytes, without mappings of files that have these names in their paths."""
    if not Path("/proc/self/smaps").exists():
        raise RuntimeError("needs /proc")
    most = 0

    def watch(pid: int) -> None:
        nonlocal most
        while (held := _resident(pid, names)) is not None:
            most = max(most, held)
            time.sleep(SAMPLE_SECONDS)

    run(command, watch)
    return most


def _resident(pid: int, but: Sequence[str]) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text()
    except OSError:
        return None
    total, is_counted = 0, True
    for line in lines.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_counted = not any(name in line for name in but)
        elif line.startswith("Rss:") and is_counted:
            total += int(line.split()[1]) * 1024
    return total if lines else None


def imported(words: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    """The top-level modules that `python -m WORDS` imports."""
    command = Command([sys.executable, "-X", "importtime", "-m", *words], environment)
    names = re.findall(r"^import time: .*\|\s+(\S+)$", run(command).complained, re.MULTILINE)
    return {name.partition(".")[0] for name in names}
