"""Measures indexing on a GPU: how much of the model's own speed the pipeline reaches, and whether it survives trouble.

    python bench/gpu.py                         on a CUDA GPU, under 8 minutes
    python bench/gpu.py --device cpu --quick    the same steps with few photos, to test the script

Copies of the album's photos, each with bytes of its own, are indexed with the built-in model, and with ViT-B-32 and
ViT-L-14 with random weights. Prints two Markdown tables, and exits 1 if a check failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import numpy as np
    import torch

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.indexing import indexer
from imgsearch.core.models import loading, registry
from imgsearch.core.models.embedding import OpenClipEmbedder, silenced
from imgsearch.core.models.hub import Say
from imgsearch.core.photos import preprocess
from imgsearch.core.photos.decode_pool import DecodedPhoto, DecodePool
from imgsearch.core.store.store import Store
from imgsearch.core.types import Photo

ALBUM = Path(__file__).parents[1] / "tests" / "album"
ARCHES = ("ViT-B-32", "ViT-L-14")
PREPROCESS = "openai"
ROUNDS = 3
LARGE_BATCH, SPARE_BYTES = 8_192, 1 << 30
"""A batch that does not fit into the memory left for it."""
PHOTOS = 8_192
QUICK_PHOTOS, QUICK_TIMED, QUICK_BATCH, QUICK_BYTES = 128, 8, 32, 192 << 20
"""With --quick, for a CPU."""
HALF = {"cuda": "fp16", "cpu": "bf16"}
"""The precision that is compared with fp32. A CPU only emulates fp16, which takes minutes."""
LEAST_COSINE = {"half": 0.998, "again": 0.9999}
"""To fp32, and of the same photo in another run, whose batches may differ."""
MOST_SECONDS_TO_STOP = 5.0


@dataclass
class Setting:
    device: str
    photos: int
    quick: bool
    top: Path
    folder: Path
    failed: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.device.partition(":")[0]

    def check(self, what: str, found: str, is_right: bool) -> None:
        if not is_right:
            self.failed.append(what)
        print(f"| {what} | {found} | {'yes' if is_right else '**no**'} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--photos", type=int, help=f"default: {PHOTOS:,}, or with --quick {QUICK_PHOTOS}")
    parser.add_argument("--quick", action="store_true", help="few photos, and the built-in model only")
    arguments = parser.parse_args()
    count = arguments.photos or (QUICK_PHOTOS if arguments.quick else PHOTOS)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as top:
        setting = Setting(arguments.device, count, arguments.quick, Path(top), Path(top) / "photos")
        plant(setting)
        print(f"{machine(setting)}, {os.cpu_count()} cores, torch {torch.__version__}, {count:,} photos\n")
        if arguments.quick:
            timed = replace(setting, photos=QUICK_TIMED, folder=setting.top / "timed")
            plant(timed)
            speeds(timed)
        else:
            speeds(setting)
        print("\n| check | found | as it should be |\n|---|---|---|", flush=True)
        back_off(setting)
        two_at_once(setting)
        interrupted(setting)
    print(f"\n{time.perf_counter() - started:.0f} s in all")
    sys.exit(f"failed: {', '.join(setting.failed)}" if setting.failed else 0)


def machine(setting: Setting) -> str:
    return torch.cuda.get_device_name(setting.device) if setting.kind == "cuda" else "CPU"


def plant(setting: Setting) -> None:
    """Copies of the album's photos, each with a number in a comment."""
    setting.folder.mkdir()
    album = [path.read_bytes() for path in sorted(ALBUM.glob("*.jpg"))]
    for number in range(setting.photos):
        data, comment = album[number % len(album)], b"%08d" % number
        marked = data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
        (setting.folder / f"{number:06}.jpg").write_bytes(marked)


# Speed


def speeds(setting: Setting) -> None:
    """One row for each model."""
    print(
        "| model | batch | decode alone | resident | from memory | pipeline | of the slower | half precision to fp32 |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for arch in (registry.BUILTIN, *(() if setting.quick else ARCHES)):
        embedder = load(setting, arch)
        squares, decode = decoded(setting, embedder)
        resident = resident_rate(embedder, squares)
        memory = best(partial(embedder.embed_images, squares), len(squares))
        pipeline = pipeline_rate(setting, embedder)
        cosines = half_cosines(setting, arch, squares[:512])
        print(
            f"| {arch} {embedder.precision} | {embedder.batch_size} | {decode:,.0f} | {resident:,.0f} | {memory:,.0f} "
            f"| {pipeline:,.0f} | {pipeline / min(decode, resident):.2f} x "
            f"| {HALF[setting.kind]}: {cosines.min():.5f}, mean {cosines.mean():.5f} |",
            flush=True,
        )
        if cosines.min() < LEAST_COSINE["half"]:
            setting.failed.append(f"{arch} in half precision")
    print("\nIn photos/s. *resident*: the model on normalised tensors in its own memory; *from memory*: from squares.")


def load(setting: Setting, arch: str, precision: str = "auto", say: Say | None = None) -> OpenClipEmbedder:
    has_own = arch == registry.BUILTIN
    spec = registry.parse(arch) if has_own else registry.parse(arch, weights_of(setting, arch), PREPROCESS)
    return loading.load(spec, device=setting.device, precision=precision, say=say, offline=True)


def weights_of(setting: Setting, arch: str) -> str:
    """A checkpoint with random weights."""
    path = setting.top / f"{arch}.safetensors"
    if not path.exists():
        import open_clip
        from safetensors.torch import save_file

        torch.manual_seed(0)
        with silenced():
            state = open_clip.create_model(arch).state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    return str(path)


def decoded(setting: Setting, embedder: OpenClipEmbedder) -> tuple[np.ndarray, float]:
    """The squares of all photos, and the photos/s of decoding on all cores and nothing else."""
    side = preprocess.draft_side(embedder.recipe)
    photos = [Photo(str(setting.folder), p.name, p.stat().st_size, 0, 0) for p in sorted(setting.folder.iterdir())]
    with DecodePool() as workers, ThreadPoolExecutor(workers.count) as pool:

        def read(photo: Photo) -> DecodedPhoto:
            return workers.read(photo, embedder.recipe, draft_side=side)

        list(pool.map(read, photos[: 4 * workers.count]))  # starts the workers
        started = time.perf_counter()
        squares = [found.square for found in pool.map(read, photos)]
        return np.stack(squares), len(photos) / (time.perf_counter() - started)  # type: ignore[arg-type]


def resident_rate(embedder: OpenClipEmbedder, squares: np.ndarray) -> float:
    """Photos/s of the image tower on one batch that is on the device, normalised, in the model's own format."""
    size = min(embedder.batch_size, len(squares))
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[embedder.precision]
    planes = torch.from_numpy(preprocess.normalise(squares[:size], embedder.recipe)).to(embedder.device, dtype)
    if embedder.model_spec == registry.parse(registry.BUILTIN).to_json():  # convolutional
        planes = planes.to(memory_format=torch.channels_last)
    batches = max(1, len(squares) // size)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(batches):
                last = embedder.model.encode_image(planes)
            last.float().cpu()  # waits for all of them

    return best(run, batches * size)


def best(action: Callable[[], object], photos: int) -> float:
    """Photos/s, after a warm-up."""
    action()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return photos / min(seconds)


def pipeline_rate(setting: Setting, embedder: OpenClipEmbedder) -> float:
    """Photos/s of a run from files to a finished index, graphs and calibration included; the model is loaded."""
    with DecodePool() as workers, Store.writing(str(setting.top / f"index-{embedder.dim}"), create=True) as store:
        plan = indexer.IndexPlan((str(setting.folder),))
        started = time.perf_counter()
        summary = indexer.run(store, lambda: (embedder, embedder.model_spec), plan, workers=workers)
        seconds = time.perf_counter() - started
    if summary.new != setting.photos:
        raise SystemExit(f"{summary.new} photos were indexed, not {setting.photos}")
    return setting.photos / seconds


def half_cosines(setting: Setting, arch: str, squares: np.ndarray) -> np.ndarray:
    rough, exact = (load(setting, arch, precision).embed_images(squares) for precision in (HALF[setting.kind], "fp32"))
    return (rough * exact).sum(axis=1)


# Trouble


def back_off(setting: Setting) -> None:
    """A batch for which there is not enough memory is halved until it fits, and no vector is lost or mixed up."""
    count, spare = (QUICK_BATCH, QUICK_BYTES) if setting.quick else (LARGE_BATCH, SPARE_BYTES)
    said: list[str] = []
    embedder = load(setting, registry.BUILTIN, say=said.append)
    squares = np.random.default_rng(0).integers(0, 256, (count, *embedder.recipe.size, 3), np.uint8)
    expected = embedder.embed_images(squares)
    embedder.batch_size = count
    with limited(setting, spare):
        found = embedder.embed_images(squares)
    lowest = float((found * expected).sum(axis=1).min())
    is_right = bool(said) and embedder.batch_size < count and embedder.device.startswith(setting.kind)
    what = f"a batch of {count:,} with {spare >> 20:,} MB to spare"
    setting.check(
        what, f"batches of {embedder.batch_size:,}, cosine {lowest:.5f}", is_right and lowest > LEAST_COSINE["again"]
    )


@contextlib.contextmanager
def limited(setting: Setting, spare: int) -> Iterator[None]:
    """Inside, the allocator of the device has only `spare` bytes more than it uses."""
    if setting.kind == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(setting.device).total_memory
        share = (torch.cuda.memory_allocated(setting.device) + spare) / total
        torch.cuda.set_per_process_memory_fraction(share, setting.device)
        yield
        torch.cuda.set_per_process_memory_fraction(1.0, setting.device)
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def two_at_once(setting: Setting) -> None:
    """Two runs that share the device, each with an index of its own."""
    alone = finish([start(setting, "alone")])
    both = finish([start(setting, "first"), start(setting, "second")])
    expected = vectors(setting, "alone")
    cosines = [
        min(float(row @ expected[key]) for key, row in vectors(setting, name).items()) for name in ("first", "second")
    ]
    setting.check(
        "two runs at once",
        f"{both:.1f} s, one alone {alone:.1f} s; cosine to it {min(cosines):.5f}",
        min(cosines) > LEAST_COSINE["again"],
    )


def interrupted(setting: Setting) -> None:
    """^C after the first checkpoint, and the run after it."""
    free = free_memory(setting)
    run = start(setting, "stopped")
    while (kept := count_vectors(setting, "stopped")) == 0:
        if run.poll() is not None:
            raise SystemExit("the run that was to be interrupted ended before its first checkpoint")
        time.sleep(0.02)
    stopped = time.perf_counter()
    os.killpg(run.pid, signal.SIGINT)
    code = run.wait()
    seconds = time.perf_counter() - stopped
    kept = count_vectors(setting, "stopped")
    lost = max(0, free - free_memory(setting)) >> 20
    setting.check(
        "^C after the first checkpoint",
        f"exit code {code} after {seconds:.2f} s, {kept:,} photos kept, {lost:,} MB of the device still in use",
        code == 130 and 0 < kept < setting.photos and seconds < MOST_SECONDS_TO_STOP and lost < 64,
    )
    checked = subprocess.run([*PROGRAM, "check", "--quiet", "--index", setting.top / "stopped"], check=False).returncode
    finish([start(setting, "stopped")])
    whole = count_vectors(setting, "stopped")
    setting.check(
        "`check`, and the next run",
        f"exit code {checked}, {whole:,} photos",
        checked == 0 and whole == setting.photos,
    )


def free_memory(setting: Setting) -> int:
    return int(torch.cuda.mem_get_info(setting.device)[0]) if setting.kind == "cuda" else 0


PROGRAM = (sys.executable, "-m", "imgsearch")


def start(setting: Setting, index: str) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, "index", setting.folder, "--index", setting.top / index, "--model", "builtin", "--quiet"]
    return subprocess.Popen([*command, "--device", setting.device], start_new_session=True)


def finish(runs: list[subprocess.Popen[bytes]]) -> float:
    """Seconds until all have ended."""
    started = time.perf_counter()
    for run in runs:
        if run.wait():
            raise SystemExit(f"`imgsearch index` ended with {run.returncode}")
    return time.perf_counter() - started


def vectors(setting: Setting, index: str) -> dict[bytes, np.ndarray]:
    with Store.open(str(setting.top / index)) as store:
        space = store.active_space()
        assert space is not None
        rows = store.vectors(space).rows(space.slots).copy()
        named = store.catalog.rows("select slot, key from vectors where modality = 'image'")
        return {bytes(key): rows[slot] for slot, key in named}


def count_vectors(setting: Setting, index: str) -> int:
    """0 also for an index that is being created."""
    with contextlib.suppress(ImgsearchError), Store.open(str(setting.top / index)) as store:
        return sum(space.slots for space in store.catalog.spaces.all())
    return 0


if __name__ == "__main__":
    main()
