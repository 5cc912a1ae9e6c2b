"""Runs many clients at once against `imgsearch serve` over loopback, and measures answers, latency and memory.

    python bench/load.py [--index DIR] [--clients 50] [--seconds 60] [--rounds 3] [--most 1000000]

Starts its own server on a free port and stops it. Each client keeps one connection, as a browser does, and requests in
turn: repeated and new texts, a photo with text, an uploaded picture, pages of photos, days and thumbnails. Anything
but status 200 is an error and makes the exit code 1. The first memory figure is the resident size of the server alone,
the second the sum of its decoding processes.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SERVE = [sys.executable, "-P", "-m", "imgsearch", "serve", "--port", "0"]
WORDS = ("fruit", "a yellow lemon", "milk in a carton", "something green", "vegetables on a shelf", "a red apple")
SAMPLE_SECONDS = 10.0
ANSWER_SECONDS = 60.0
numbers = itertools.count()


class Load:
    """What all clients share."""

    def __init__(self, link: str, seconds: float, most: int) -> None:
        self.address, _, self.token = link.removeprefix("http://").partition("/?token=")
        self.until = time.monotonic() + seconds
        self.left = most
        self.photos: list[int] = []
        self.thumbnails: list[str] = []
        self.upload = ""
        self.times: dict[str, list[float]] = {}
        self.errors: Counter[str] = Counter()
        self._counting = threading.Lock()

    def prepare(self, picture: bytes) -> None:
        connection = self.connect()
        photos = json.loads(self.send(connection, "GET", "/api/photos?limit=100"))["photos"]
        self.photos = [photo["id"] for photo in photos]
        self.thumbnails = [photo["thumbnail"] + "&side=320" for photo in photos]
        self.upload = json.loads(self.send(connection, "POST", "/api/pictures", picture))["id"]
        connection.close()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=ANSWER_SECONDS)

    def send(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> bytes:
        connection.request(method, path, body, {"authorization": f"Bearer {self.token}"})
        response = connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status} {data[:200]!r}")
        return data

    def takes_one(self) -> bool:
        with self._counting:
            self.left -= 1
            return self.left >= 0 and time.monotonic() < self.until

    def note(self, kind: str, seconds: float, error: Exception | None) -> None:
        with self._counting:
            if error is None:
                self.times.setdefault(kind, []).append(seconds)
            else:
                self.errors[f"{kind}: {type(error).__name__} {error}"] += 1


def client(load: Load, seed: int) -> None:
    chance = random.Random(seed)
    connection = load.connect()
    while load.takes_one():
        kind, method, path, body = question(load, chance)
        started = time.perf_counter()
        error: Exception | None = None
        try:
            load.send(connection, method, path, body)
        except (OSError, http.client.HTTPException, ValueError) as failed:
            error = failed
            connection.close()
        load.note(kind, time.perf_counter() - started, error)
    connection.close()


def question(load: Load, chance: random.Random) -> tuple[str, str, str, bytes | None]:
    """What it is, method, address, body."""
    kind = chance.choices(
        ["words", "new words", "photo and words", "picture and words", "photos", "days", "thumbnail"],
        [3, 1, 2, 2, 2, 1, 9],
    )[0]
    words, weight = chance.choice(WORDS), chance.randrange(21) / 20
    asked = {
        "words": {"text": words},
        "new words": {"text": f"{words} number {next(numbers)}"},
        "photo and words": {"pictures": [{"photo": chance.choice(load.photos)}], "text": words, "weight": weight},
        "picture and words": {"pictures": [{"upload": load.upload}], "text": words, "weight": weight},
    }
    if kind in asked:
        return kind, "POST", "/api/search", json.dumps(asked[kind]).encode()
    paths = {"photos": "/api/photos?limit=60", "days": "/api/days", "thumbnail": chance.choice(load.thumbnails)}
    return kind, "GET", paths[kind], None


def resident(pid: int) -> float:
    """MB, or 0 where the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def of_children(pid: int) -> float:
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        found = [child for task in tasks for child in (task / "children").read_text().split()]
        return sum(resident(int(child)) + of_children(int(child)) for child in found)
    return 0.0


@contextlib.contextmanager
def served(index: str | None) -> Iterator[tuple[int, str]]:
    """The process and its link."""
    with tempfile.TemporaryDirectory(prefix="is-") as runtime:
        command = [*SERVE, *(["--index", index] if index else [])]
        environment = {**os.environ, "XDG_RUNTIME_DIR": runtime}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            link = process.stdout.readline().strip()
            if not link:
                sys.exit("the server did not start")
            yield process.pid, link
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", default=os.environ.get("IMGSEARCH_INDEX"))
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=1_000_000, help="maximum number of requests per round")
    given = parser.parse_args()
    picture = (Path(__file__).parents[1] / "tests" / "album" / "lemon.jpg").read_bytes() + b"\0"  # not as indexed
    is_bad = False
    with served(given.index) as (pid, link):
        for number in range(1, given.rounds + 1):
            load = Load(link, given.seconds, given.most)
            load.prepare(picture)
            samples = run(load, given.clients, number, pid)
            report(number, load, samples, given.seconds)
            is_bad |= bool(load.errors) or not load.times
    sys.exit(is_bad)


def run(load: Load, clients: int, number: int, pid: int) -> list[tuple[float, float]]:
    """Megabytes of the server and of its workers, every ten seconds."""
    samples = [(resident(pid), of_children(pid))]
    threads = [threading.Thread(target=client, args=(load, number * 10_000 + at)) for at in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        until = time.monotonic() + SAMPLE_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        samples.append((resident(pid), of_children(pid)))
    return samples


def report(number: int, load: Load, samples: list[tuple[float, float]], seconds: float) -> None:
    times = [each for found in load.times.values() for each in found]
    print(
        f"round {number}: {len(times):,} requests, {len(times) / seconds:,.0f} a second, {load.errors.total()} errors"
    )
    for error, count in load.errors.most_common(5):
        print(f"  {count} x {error}")
    for kind, found in [*sorted(load.times.items()), ("all", times)]:
        if found:
            p99 = sorted(found)[min(len(found) - 1, int(0.99 * len(found)))]
            print(
                f"  {kind:18} {len(found):7} p50 {1000 * statistics.median(found):7.1f} ms   p99 {1000 * p99:7.1f} ms"
            )
    print("  MB  " + " ".join(f"{own:.1f}" for own, _ in samples) + f"   workers {samples[-1][1]:.0f}", flush=True)


if __name__ == "__main__":
    main()
