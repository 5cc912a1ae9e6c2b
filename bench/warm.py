"""Times queries through the socket of `imgsearch serve --socket-only`, compared with the same queries without it.

    python bench/warm.py [--index DIR | --count N] [--rounds 100] [--cold-rounds 20]

`--count` makes an index of N random photos in the space of the built-in model.

Prints p50 and p99 in milliseconds, of whole processes and of what they take above the start of an empty interpreter,
for repeated texts, new texts, and a photo of the index.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from imgsearch.core.models import loading, registry
from imgsearch.core.store.store import Store

PROGRAM = [sys.executable, "-P", "-m", "imgsearch"]
numbers = itertools.count()


@contextlib.contextmanager
def served(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([*PROGRAM, "serve", "--socket-only"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = process.stderr.readline()
        if "from memory" not in line:
            sys.exit(line)
        yield
    finally:
        process.terminate()
        process.wait()


def milliseconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr.decode())
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", default=os.environ.get("IMGSEARCH_INDEX"))
    parser.add_argument("--count", type=int)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--cold-rounds", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="is-") as runtime:
        environment = {**os.environ, "XDG_RUNTIME_DIR": runtime}
        if given.index:
            environment["IMGSEARCH_INDEX"] = os.path.abspath(given.index)
        if given.count:
            environment["IMGSEARCH_INDEX"] = os.path.join(runtime, "index")
            made_up(environment["IMGSEARCH_INDEX"], given.count)
            subprocess.run([*PROGRAM, "calibrate", "--quiet"], env=environment, check=True)
        found = subprocess.run(
            [*PROGRAM, "query", "a photo", "-l", "-n", "1", "--no-server"], env=environment, capture_output=True
        )
        photo = os.fsdecode(found.stdout.splitlines()[0])
        with served(environment):
            table(environment, photo, given.rounds, given.cold_rounds)


def made_up(folder: str, count: int) -> None:
    from growth import batch_of

    spec = registry.parse("builtin")
    identity = loading.load(spec).identity
    with Store.writing(folder, create=True) as store:
        space = store.space_for(identity, spec.to_json())
        with store.catalog.transaction():
            store.catalog.roots.add("/photos", "folder", None)
        for start in range(0, count, 1024):
            numbers = range(start, min(start + 1024, count))
            space = store.commit(space, batch_of(numbers, identity.dim, np.random.default_rng(start)), codecs="")
        store.complete(space)


def table(environment: dict[str, str], photo: str, rounds: int, cold_rounds: int) -> None:
    """Every kind in turn in each round, so that what else the machine does is felt by all of them alike."""
    kinds: dict[str, Callable[[], list[str]]] = {
        "words asked before": lambda: ["a photo of a dog"],
        "words never asked before": lambda: [f"a photo of a dog number {next(numbers)}"],
    }
    if os.path.exists(photo):
        kinds["a photo of the index"] = lambda: [photo]
    runs = {"the interpreter": (lambda: [sys.executable, "-P", "-c", "pass"], rounds)}
    for name, words in kinds.items():
        runs[f"{name}, warm"] = partial(asked, words), rounds
        runs[f"{name}, cold"] = partial(asked, words, "--no-server"), cold_rounds
    times: dict[str, list[float]] = {name: [] for name in runs}
    for at in range(rounds):
        for name, (arguments, count) in runs.items():
            if at < count:
                times[name].append(milliseconds(arguments(), environment))
    start = statistics.median(times["the interpreter"])
    print(f"{'':32} {'n':>4} {'p50':>7} {'p99':>7} {'above the interpreter: p50':>28} {'p99':>7}")
    for name, found in times.items():
        p50, p99 = statistics.median(found), sorted(found)[min(len(found) - 1, int(0.99 * len(found)))]
        print(f"{name:32} {len(found):4} {p50:7.1f} {p99:7.1f} {p50 - start:28.1f} {p99 - start:7.1f}")


def asked(words: Callable[[], list[str]], *options: str) -> list[str]:
    return [*PROGRAM, "query", *words(), "--json", *options]


if __name__ == "__main__":
    main()
