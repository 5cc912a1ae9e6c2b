"""Compares imgsearch with rclip on this machine, in one table with the goal of each row.

    python bench/compare.py [--data FOLDER] [--rounds 5] [--only NAME ...]      (make bench)
    python bench/compare.py --long                                             (make bench-long)

Every row times whole processes, alternating between the two programs after a warm-up, and shows the median with the
best in brackets. Both use the same model with the same weights (`peers/setup.py`) and the same vectors. The files are
in .bench/, which can be removed. `--data` is a folder with about 1,000 small photos for the first index; without it,
photos are generated.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import refresh
from growth import TURNS, Growing
from growth import empty as empty_index
from peers import library, photos, setup
from peers.library import MODEL, OURS, Library
from peers.processes import Command, Times, imported, in_turn, resident_but, run

from imgsearch.core.indexing.indexer import CHECKPOINT_PHOTOS
from imgsearch.core.search import grammar
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store

TOP = setup.ROOT / ".bench"
SMALL, COUNT, LONG_COUNT = 1_000, 100_000, 1_000_000
CAMERA_PHOTOS, FIRST_PHOTOS = 128, 32
"""Indexing is measured by what the former take beyond the latter, in which neither side's start counts."""
SMALL_PHOTOS, FEW_PHOTOS = 1_000, 5
FILES = 100_000
QUESTIONS = 200
PICTURE_ROUNDS = 3
INDEX_ROUNDS = 2
HEAVY = {"torch", "torchvision", "open_clip", "timm"}

THINGS = "apple dog bicycle lighthouse wedding train birthday harbour violin mountain".split()
PLACES = "on a table|at the beach|in the rain|under a bridge|at night|in an old town|behind glass|in autumn".split("|")
LOOKS = "red blurred tiny shining broken wooden".split()


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    aims: tuple[tuple[str, bool], ...] = ()
    """What was aimed at, and whether it was reached."""


@dataclass(frozen=True)
class Setting:
    """What all measurements share."""

    data: Path | None
    rounds: int
    environment: dict[str, str]

    def ours(self, *words: str | Path, given: str = "") -> Command:
        return Command([OURS, *words], self.environment, given=given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with small photos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", action="store_true", help="the slow part: a million vectors")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of: " + ", ".join((*PARTS, *LONG_PARTS)))
    arguments = parser.parse_args()
    parts = LONG_PARTS if arguments.long else PARTS
    if arguments.only:
        parts = {name: part for name, part in (PARTS | LONG_PARTS).items() if name in arguments.only}
    started = time.perf_counter()
    say(machine())
    setting = Setting(arguments.data, arguments.rounds, fresh_home())
    rows = [row for name, part in parts.items() for row in attempted(name, part, setting)]
    print(f"\n{machine()}\n\n{table(rows)}\n\nIn {(time.perf_counter() - started) / 60:.0f} minutes.")


def fresh_home() -> dict[str, str]:
    """Nothing of an earlier run, and nothing of the user's."""
    home = empty(TOP / "home")
    return {"XDG_CACHE_HOME": f"{home}/cache", "XDG_DATA_HOME": f"{home}/data", "HF_HUB_OFFLINE": "1"}


def attempted(name: str, part: Callable[[Setting], Iterator[Row]], setting: Setting) -> Iterator[Row]:
    """Its rows; what cannot be measured here is a row that says why, and the rest goes on."""
    say(f"{name} ...")
    try:
        for row in part(setting):
            say(f"  {row.what}: {row.ours} | {row.theirs} | {row.ratio} | {aimed(row)} | {verdict(row)}")
            yield row
    except Exception as error:
        say(f"  {name}: {type(error).__name__}: {error}")
        yield Row(f"{name}: not measured, {str(error) or type(error).__name__}", "")


# the parts


def start(setting: Setting) -> Iterator[Row]:
    """What asks for no search, beside Python itself."""
    index = empty(TOP / "ours-album")
    run(setting.ours("index", library.ALBUM, "--index", index, "--quiet", "--model", "builtin"))
    python, version, tab, ours, theirs = in_turn(
        2 * setting.rounds + 1,
        timed(Command([sys.executable, "-c", "pass"], setting.environment)),
        timed(setting.ours("--version")),
        timed(setting.ours("--complete", "cameras", "", index)),
        timed(setting.ours("--help")),
        timed(library.rclip(setup.DATADIR, TOP, "--help")),
    )
    yield Row("`python -c pass`", shown(python))
    yield against("`--help`", ours, theirs, most_seconds=0.08)
    for what, times in (("`--version`", version), ("TAB after `--camera`", tab)):
        yield Row(what, shown(times), aims=(("≤ 0.05 s", times.median <= 0.05),))


def hundred_thousand(setting: Setting) -> Iterator[Row]:
    collection = made(setting, COUNT)
    yield from by_words(setting, collection, cold=9, repeated=14, most_seconds=0.3, most_repeated=0.2)
    yield from by_pictures(setting, collection)
    yield from many(setting, collection)


def million(setting: Setting) -> Iterator[Row]:
    collection = made(setting, LONG_COUNT)
    yield from by_words(setting, collection, cold=30, repeated=30, rounds=PICTURE_ROUNDS)
    held = resident_but(setting.ours("query", next(questions()), "--index", collection.index), "/vectors.")
    aims = (("< 250 MB", held < 250e6),)
    yield Row(f"resident beyond the mapped vectors, {LONG_COUNT:,}", f"{held / 1e6:.0f} MB", aims=aims)


def by_words(
    setting: Setting,
    collection: Library,
    *,
    cold: float,
    repeated: float,
    most_seconds: float | None = None,
    most_repeated: float | None = None,
    rounds: int | None = None,
) -> Iterator[Row]:
    texts = questions()
    rounds = rounds or setting.rounds

    def ours(text: str) -> Command:
        return setting.ours("query", text, "--index", collection.index)

    def theirs(text: str) -> Command:
        return library.rclip(collection.datadir, collection.folder, "-n", text)

    asked = [next(texts) for _ in range(rounds + 1)]
    times = in_turn(rounds, lambda n: run(ours(asked[n])).seconds, lambda n: run(theirs(asked[n])).seconds)
    yield against(f"text query, {collection.count:,}", *times, least=cold, most_seconds=most_seconds)
    yield light(f"text query, {collection.count:,}", setting, next(texts), "--index", str(collection.index))
    times = in_turn(rounds, timed(ours(asked[0])), timed(theirs(asked[0])))
    yield against(f"the same text again, {collection.count:,}", *times, least=repeated, most_seconds=most_repeated)


def by_pictures(setting: Setting, collection: Library) -> Iterator[Row]:
    index = ("--index", str(collection.index))
    texts = questions()
    for kind, folder in (("12 megapixels", camera_photos()), ("small", small_photos(setting))):
        outside = sorted(folder.rglob("*.jpg"))

        def ours(n: int, pictures=outside) -> float:
            return run(setting.ours("query", pictures[n], *index)).seconds

        def theirs(n: int, pictures=outside) -> float:
            return run(library.rclip(collection.datadir, collection.folder, "-n", str(pictures[n]))).seconds

        yield against(f"query by a picture outside, {kind}", *in_turn(PICTURE_ROUNDS, ours, theirs), least=2)
    yield light("query by a picture outside", setting, str(outside[-1]), *index)

    pictures = sorted(camera_photos().glob("*.jpg"))[::-1]
    asked = [next(texts) for _ in range(PICTURE_ROUNDS + 1)]

    def ours_both(n: int) -> float:
        return run(setting.ours("query", "--image", pictures[n], "--text", asked[n], *index)).seconds

    def theirs_both(n: int) -> float:
        words = ("-n", str(pictures[n]), "--add", asked[n])
        return run(library.rclip(collection.datadir, collection.folder, *words)).seconds

    yield against("picture outside + words, 12 megapixels", *in_turn(PICTURE_ROUNDS, ours_both, theirs_both), least=2)
    yield light("picture outside + words", setting, "--image", str(pictures[-1]), "--text", next(texts), *index)

    inside = sorted(library.ALBUM.glob("*.jpg"))
    times = in_turn(
        setting.rounds,
        lambda n: run(setting.ours("query", inside[n], *index)).seconds,
        lambda n: run(library.rclip(collection.datadir, collection.folder, "-n", str(inside[n]))).seconds,
    )
    yield against("query by an indexed photo", *times, least=14, most_seconds=0.2)
    modules = HEAVY | {"onnxruntime"}
    yield light("query by an indexed photo", setting, str(inside[-1]), *index, but=modules, say="a model's library")


def many(setting: Setting, collection: Library) -> Iterator[Row]:
    """Two hundred queries in one call: as a process with words to embed, and their search alone in this one."""
    texts = questions()
    lines = ["\n".join(itertools.islice(texts, QUESTIONS)) for _ in range(PICTURE_ROUNDS + 1)]
    singles = [next(texts) for _ in range(PICTURE_ROUNDS + 1)]
    words = ("query", "-", "--index", str(collection.index))
    whole, one = in_turn(
        PICTURE_ROUNDS,
        lambda n: run(setting.ours(*words, given=lines[n])).seconds,
        lambda n: run(setting.ours(*words, given=singles[n])).seconds,
    )
    each = (whole.median - one.median) / (QUESTIONS - 1)
    yield Row(f"{QUESTIONS} queries in one call", f"{shown(whole)}; one more query {each * 1e3:.1f} ms")
    exact, found = searched(collection, "exact"), searched(collection, "auto")
    shared = [len(a & b) / len(a) for a, b in zip(exact.paths, found.paths, strict=True)]
    recall = statistics.mean(shared)
    yield Row(
        "search alone, a query of these",
        f"{found.seconds * 1e3:.2f} ms, recall_at_10 {recall:.3f} (below 131,072 vectors a scan, which is exact)",
        aims=(("< 2 ms", found.seconds < 2e-3), ("recall ≥ 0.99", recall >= 0.99)),
    )


@dataclass(frozen=True)
class Searched:
    seconds: float
    """A question, after everything was loaded."""
    paths: list[set[str]]


class Known:
    """Stands in for a model whose vectors are known."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = dict(zip(names(), vectors, strict=False))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self._vectors[text] for text in texts])


def names() -> Iterator[str]:
    return (f"question {number}" for number in itertools.count())


def searched(collection: Library, strategy: str) -> Searched:
    queries = [grammar.parse(name) for name in itertools.islice(names(), len(collection.questions))]
    model = Known(collection.questions)
    with Store.open(str(collection.index)) as store:
        searcher = Searcher(store, lambda: model)
        seconds = []
        for _ in range(1 + PICTURE_ROUNDS):
            started = time.perf_counter()
            hits = list(searcher.search_many(queries, SearchOptions(strategy=strategy)))
            seconds.append(time.perf_counter() - started)
    return Searched(min(seconds[1:]) / len(queries), [{hit.path for hit in answer} for answer in hits])


def growth(setting: Setting, large: int = COUNT) -> Iterator[Row]:
    """Checkpoints in turn on an index of a thousand photos and on a large one (`growth.py` tells more)."""
    with tempfile.TemporaryDirectory(dir=TOP) as folder, contextlib.ExitStack() as stack:
        indexes = []
        for size in (SMALL, large):
            store = stack.enter_context(empty_index(f"{folder}/{size}", library.DIM))
            indexes.append(Growing(store, store.active_space()))
            indexes[-1].grow(size)
        for _ in range(TURNS):
            for index in indexes:
                index.checkpoint()
    small, grown = (statistics.median(index.seconds) / CHECKPOINT_PHOTOS for index in indexes)
    graphs = indexes[1].graph_seconds / large
    yield Row(
        f"store time a photo, at {large:,} beside at {SMALL:,}",
        f"{grown * 1e3:.2f} ms, {small * 1e3:.2f} ms; graphs {graphs * 1e3:.2f} ms",
        ratio=f"{grown / small:.2f} x",
        aims=(("≤ 1.25 x", grown <= 1.25 * small),) if large <= COUNT else (),
    )


def unchanged(setting: Setting) -> Iterator[Row]:
    folder, index = TOP / "tiny", empty(TOP / "ours-tiny")
    if not folder.exists():
        refresh.plant(str(folder), FILES)
    refresh.index_once(str(folder), str(index))
    datadir = library.rclip_datadir(empty(TOP / "rclip-tiny"))
    run(library.rclip_side(datadir, "fill-found", str(folder)))

    def ours(_: int) -> float:
        ran = run(setting.ours("index", folder, "--index", index))
        if f"{FILES:,} unchanged" not in ran.complained:
            raise RuntimeError(f"not everything was found unchanged: {ran.complained}")
        return ran.seconds

    contenders = [ours, timed(library.rclip_side(datadir, "refresh", folder=folder))]
    try:
        find = Command(["find", folder, "-printf", "%s %T@ %p\\n"], {})
        run(find)
        contenders.append(timed(find))
    except (OSError, RuntimeError):
        say("  no find with -printf here")
    mine, theirs, *found = in_turn(setting.rounds, *contenders)
    yield against(f"no-op refresh of {FILES:,} files", mine, theirs, least=8)
    if found:
        ratio = mine.median / found[0].median
        aims = (("≤ 3 x", ratio <= 3),)
        yield Row("the same beside `find -printf`", shown(mine), f"find: {shown(found[0])}", f"{ratio:.1f} x", aims)


def camera(setting: Setting) -> Iterator[Row]:
    """Photos of 12 megapixels from files to an index."""
    few, all_ = camera_photos(FIRST_PHOTOS), camera_photos()
    beyond = CAMERA_PHOTOS - FIRST_PHOTOS
    for warm_up in (our_index(setting, few), their_index(setting, few)):
        warm_up(0)
    read_once(all_)
    before = alone(setting, all_)
    contenders = [side(setting, folder) for folder in (few, all_) for side in (our_index, their_index)]
    ours_few, theirs_few, ours, theirs = in_turn(INDEX_ROUNDS, *contenders, warm_up=False)
    mine, peer = (beyond / (many.median - few.median) for many, few in ((ours, ours_few), (theirs, theirs_few)))
    least = 4 if has_bf16() else 2
    yield Row(
        f"indexing 12-megapixel JPEGs, {beyond} more photos",
        f"{mine:.1f} photos/s",
        f"{peer:.1f} photos/s",
        f"{mine / peer:.1f} x",
        ((f"≥ {least} x", mine >= least * peer),),
    )
    yield against(f"the same, a whole process with {CAMERA_PHOTOS} photos", ours, theirs)
    after = alone(setting, all_)
    decode, embed = (max(before[stage], after[stage]) for stage in ("decode", "embed"))
    most = 1 / (1 / decode + 1 / embed)
    yield Row(
        "the same beside 1/(1/decode + 1/embed)",
        f"{mine:.1f} photos/s",
        f"alone: decode {decode:.0f}, embed {embed:.1f} photos/s",
        f"{mine / most:.2f} x",
        (("≥ 0.85 x", mine >= 0.85 * most),),
    )


def first(setting: Setting) -> Iterator[Row]:
    folder = setting.data or small_photos(setting)
    count = read_once(folder)
    contenders = our_index(setting, folder, "--model", "builtin"), their_index(setting, folder)
    times = in_turn(INDEX_ROUNDS, *contenders, warm_up=False)
    yield against(f"first index of {count:,} small photos, built-in model", *times, least=3)
    few = photos.planted(TOP / "few", FEW_PHOTOS, photos.SMALL)
    built_in, same, theirs = in_turn(
        PICTURE_ROUNDS,
        our_index(setting, few, "--model", "builtin"),
        our_index(setting, few),
        their_index(setting, few),
    )
    yield against(f"first index of {FEW_PHOTOS} small photos, built-in model", built_in, theirs)
    yield against(f"first index of {FEW_PHOTOS} small photos, the same model", same, theirs)


PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "start": start,
    "100k": hundred_thousand,
    "growth": growth,
    "refresh": unchanged,
    "camera": camera,
    "first": first,
}
LONG_PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "1M": million,
    "growth-1M": lambda setting: growth(setting, LONG_COUNT),
}


# what they are made of


def timed(command: Command) -> Callable[[int], float]:
    return lambda _: run(command).seconds


def our_index(setting: Setting, folder: Path, *model: str) -> Callable[[int], float]:
    """A first index of the folder, in an index of its own every time."""

    def index(_: int) -> float:
        made_in = empty(TOP / "ours-new")
        words = ("index", folder, "--index", made_in, "--quiet", *(model or MODEL))
        return run(setting.ours(*words)).seconds

    return index


def their_index(setting: Setting, folder: Path) -> Callable[[int], float]:
    """rclip's, without the question that it would answer afterwards."""

    def index(_: int) -> float:
        datadir = library.rclip_datadir(empty(TOP / "rclip-new"))
        return run(library.rclip_side(datadir, "refresh", folder=folder)).seconds

    return index


def alone(setting: Setting, folder: Path) -> dict[str, float]:
    """Photos a second of each stage; the pipeline is held to the best of before and after it."""
    stages = Path(__file__).parent / "peers" / "stages.py"
    return json.loads(run(Command([sys.executable, stages, folder, str(FIRST_PHOTOS)], setting.environment)).said)


def light(what: str, setting: Setting, *words: str, but: set[str] = HEAVY, say: str = "torch") -> Row:
    loaded = sorted(imported(["imgsearch", "query", *words], setting.environment) & but)
    answer = f"yes: {', '.join(loaded)}" if loaded else "no"
    return Row(f"{what}: {say} in sys.modules", answer, aims=(("no", not loaded),))


def read_once(folder: Path) -> int:
    """Bring the photos into the page cache; returns how many there are."""
    return sum(len(photo.read_bytes()) > 0 for photo in folder.rglob("*.jpg"))


def made(setting: Setting, count: int) -> Library:
    say(f"  making both indexes of {count:,} vectors")
    for path in (*TOP.glob(f"ours-{count}"), *TOP.glob(f"rclip-{count}")):
        shutil.rmtree(path)
    return library.made(TOP, count, setting.environment)


def camera_photos(count: int = CAMERA_PHOTOS) -> Path:
    return photos.planted(TOP / f"camera-{count}", count, photos.CAMERA)


def small_photos(setting: Setting) -> Path:
    return setting.data or photos.planted(TOP / "small", SMALL_PHOTOS, photos.SMALL)


def questions() -> Iterator[str]:
    """Texts of ordinary length, none of which is asked twice."""
    for look, thing, place in itertools.cycle(itertools.product(LOOKS, THINGS, PLACES)):
        yield f"a {look} {thing} {place}, {next(_numbers)}"


_numbers = itertools.count(1)


def empty(folder: Path) -> Path:
    """The path of a folder that there is not."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def has_bf16() -> bool:
    try:
        return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(Path("/proc/cpuinfo").read_text().split()))
    except OSError:
        return False


# the table


def against(
    what: str, ours: Times, theirs: Times, *, least: float | None = None, most_seconds: float | None = None
) -> Row:
    """How many times as fast ours is, by the medians, beside what was aimed at."""
    ratio = theirs.median / ours.median
    aims = []
    if least is not None:
        aims.append((f"≥ {least:g} x", ratio >= least))
    if most_seconds is not None:
        aims.append((f"≤ {most_seconds:g} s", ours.median <= most_seconds))
    return Row(what, shown(ours), shown(theirs), f"{ratio:.1f} x", tuple(aims))


def shown(times: Times) -> str:
    digits = 3 if times.median < 0.1 else 2
    return f"{times.median:.{digits}f} s ({times.best:.{digits}f})"


def aimed(row: Row) -> str:
    return ", ".join(aim for aim, _ in row.aims)


def verdict(row: Row) -> str:
    if not row.aims:
        return ""
    missed = [aim for aim, is_met in row.aims if not is_met]
    if not missed:
        return "met"
    return "missed" if len(row.aims) == 1 else f"missed: {', '.join(missed)}"


def table(rows: Sequence[Row]) -> str:
    """In Markdown, aligned, so that it reads well on a terminal too."""
    cells = [("what", "ours", "rclip", "ratio", "target", "")]
    cells += [(row.what, row.ours, row.theirs, row.ratio, aimed(row), verdict(row)) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        name = next(line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"Python {platform.python_version()}", f"torch {version('torch')}", setup.RCLIP.replace("==", " ")]
    native = "with native bf16" if has_bf16() else "without native bf16"
    return f"{cores} cores of {name}, {native}; {', '.join(parts)}; load {os.getloadavg()[0]:.1f}"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
