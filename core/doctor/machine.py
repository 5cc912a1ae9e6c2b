"""Checks of the program, its libraries, and the machine."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping

import imgsearch
from imgsearch.core.paths import processor_cores, size
from imgsearch.core.photos.codecs import version_of
from imgsearch.core.photos.decode_pool import cgroups, memory_available

from .findings import SERVE, Finding, Topic, install, reinstall, requirement, typed
from .probe import Probe, Unanswered

LIBRARIES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "pillow_jxl": "pillow-jxl-plugin",
    "rawpy": "rawpy",
    "onnxruntime": "onnxruntime",
    "hnswlib": "hnswlib",
    "sqlite_utils": "sqlite-utils",
}
"""Libraries to import in a child process, with the name of their distribution."""
LIBRARY_SECONDS = 60.0
# Importing torch and open_clip takes 3 to 5 s, many times that from a cold disk.
DEVICE_SECONDS = 180.0
# torch with a model of 600 MB.
MIN_MEMORY_BYTES = 2_000_000_000
PROGRAM, DEVICE, CODECS = Topic("program"), Topic("device"), Topic("codecs")

Libraries = Mapping[str, Probe]


# ---- The program -----------------------------------------------------------------------------------------------------


def program() -> Iterator[Finding]:
    here = os.path.dirname(os.path.abspath(imgsearch.__file__))
    mac = platform.mac_ver()[0]
    system = f"macOS {mac}" if mac else f"{platform.system()} {platform.release()}"
    yield PROGRAM.ok(f"imgsearch {imgsearch.__version__} in {here}")
    yield PROGRAM.ok(f"Python {platform.python_version()} ({sys.executable}), {system}, {platform.machine()}")
    yield from _command()
    yield from _home()


def _command() -> Iterator[Finding]:
    """Which program the shell runs as `imgsearch`."""
    scripts = sysconfig.get_path("scripts")
    own, found = os.path.join(scripts, "imgsearch"), shutil.which("imgsearch")
    if found is None and os.path.exists(own):
        yield PROGRAM.note(
            f"{scripts} is not in PATH: `imgsearch` is not found by name", f'export PATH={typed(scripts)}:"$PATH"'
        )
    elif found and os.path.exists(own) and not os.path.samefile(found, own):
        yield PROGRAM.note(f"`imgsearch` runs another installation: {found}", f"remove it, or run: {typed(own)}")


def _home() -> Iterator[Finding]:
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        yield PROGRAM.problem("HOME is not set and this user has no home folder", "export HOME=FOLDER")
    elif not os.path.isdir(home):
        yield PROGRAM.problem(f"the home folder does not exist: {home}", "export HOME=FOLDER")
    elif not os.environ.get("HOME"):
        yield PROGRAM.note(f"HOME is not set; using {home}", "export HOME=~")
    elif not os.access(home, os.W_OK):
        found = "the home folder is not writable: no default index, and no cache between queries"
        yield PROGRAM.warning(found, "export XDG_CACHE_HOME=FOLDER; imgsearch index --index FOLDER PHOTOS")


def libraries(probes: Libraries) -> Iterator[Finding]:
    known = ("torch", "open_clip_torch", "onnxruntime", "hnswlib", "numpy", "pillow", "pillow-heif", "sqlite-utils")
    versions = {name: version_of(name) for name in known}
    yield PROGRAM.ok(", ".join(f"{name} {version}" for name, version in versions.items() if version != "none"))
    yield PROGRAM.ok(f"SQLite {sqlite3.sqlite_version}")
    consequences = {
        "numpy": "imgsearch does not work without it",
        "sqlite_utils": "photos cannot be indexed without it",
        "onnxruntime": "every query loads the whole model with torch, which takes seconds",
        "hnswlib": "every search scans all vectors, which is slower in very large collections",
    }
    for module, consequence in consequences.items():
        try:
            probes[module].answer()
        except Unanswered as why:
            is_needed = module in ("numpy", "sqlite_utils")
            report = PROGRAM.problem if is_needed else PROGRAM.warning
            yield report(f"{LIBRARIES[module]} cannot be loaded ({why}): {consequence}", reinstall(LIBRARIES[module]))


# ---- Processor, GPU and memory ---------------------------------------------------------------------------------------


def devices(probe: Probe) -> Iterator[Finding]:
    """What `--device auto` and `--precision auto` choose, and why not something better."""
    try:
        seen = probe.answer()
    except Unanswered as why:
        names = ("open_clip_torch",) if "open_clip" in str(why) else ("torch", "torchvision")
        found = f"torch and open_clip cannot be loaded ({why}): photos cannot be indexed"
        yield DEVICE.problem(found, install("--force-reinstall", *map(requirement, names)))
        return
    for gpu in seen["gpus"]:
        yield DEVICE.ok(f"{gpu['name']}, {size(gpu['bytes'])}")
    for trouble in seen["trouble"]:
        yield DEVICE.warning(trouble, _new_torch() if seen["gpus"] else "imgsearch index --device cpu, to silence this")
    if not seen["gpus"]:
        yield from _unused_gpu(seen["cuda"], [text for text in seen["warnings"] if "CUDA" in text])
    transformer, convolutional = seen["precisions"]
    yield DEVICE.ok(f"--device auto is {seen['device']}")
    yield DEVICE.ok(f"--precision auto is {_precision(transformer, convolutional)}")


def _precision(transformer: str, convolutional: str) -> str:
    if transformer == convolutional == "fp16":
        return "fp16, as on every GPU"
    if transformer == "bf16":
        return (
            f"bf16, which this processor supports, if the first photos give the same vectors as fp32; "
            f"{convolutional} for convolutional models, which lose more accuracy"
        )
    return "fp32: this processor does not support bf16"


def _new_torch() -> str:
    return install("--upgrade", "--force-reinstall", requirement("torch"), requirement("torchvision"))


def _unused_gpu(cuda: str | None, warned: list[str]) -> Iterator[Finding]:
    """An NVIDIA GPU that torch does not use."""
    driver = _nvidia_driver()
    if driver is None:
        if _has_nvidia_card():
            command = "sudo ubuntu-drivers install" if shutil.which("ubuntu-drivers") else None
            fix = command or "install the NVIDIA driver, or start the container with --gpus all"
            yield DEVICE.warning("there is an NVIDIA GPU, but no driver for it", fix)
        return
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if cuda is None:
        found = f"there is an NVIDIA GPU ({driver}), but torch {version_of('torch')} was built without CUDA"
        yield DEVICE.warning(found, _new_torch())
    elif hidden is not None and re.fullmatch(r"\s*(-1)?\s*", hidden):
        found = f"the NVIDIA GPU ({driver}) is hidden by CUDA_VISIBLE_DEVICES={hidden}"
        yield DEVICE.note(found, "unset CUDA_VISIBLE_DEVICES")
    else:
        said = f": {warned[0].partition('(Triggered')[0].strip()}" if warned else ""
        found = f"torch, built for CUDA {cuda}, cannot use the NVIDIA GPU ({driver}){said}"
        yield DEVICE.warning(found, "update the NVIDIA driver, or install a torch for an older CUDA")


def _nvidia_driver() -> str | None:
    """The first GPU and its driver, from nvidia-smi."""
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        name, _, version = done.stdout.partition("\n")[0].rpartition(", ")
        return f"{name}, driver {version}" if done.returncode == 0 and name else None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _has_nvidia_card() -> bool:
    """Whether the PCI bus has one: NVIDIA's vendor number, and the display class."""
    for folder in glob.glob("/sys/bus/pci/devices/*"):
        with contextlib.suppress(OSError):
            if _text(f"{folder}/vendor") == "0x10de" and _text(f"{folder}/class").startswith("0x03"):
                return True
    return False


def cores() -> Iterator[Finding]:
    usable, present = processor_cores(), os.cpu_count() or 1
    quota = _quota()
    found = f"{usable} of {present} processor cores" if usable < present else f"{present} processor cores"
    if quota is not None and quota < usable:
        yield DEVICE.note(
            f"{found}, but this container may use only {quota:.3g}: more threads are slower",
            f"export OMP_NUM_THREADS={max(1, int(quota))}",
        )
    else:
        yield DEVICE.ok(found)
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None:
        yield from _threads(threads, usable)


def _threads(threads: str, usable: int) -> Iterator[Finding]:
    if not re.fullmatch(r"\s*[1-9]\d*(\s*,.*)?", threads):
        yield DEVICE.warning(f"OMP_NUM_THREADS={threads} is not a number of threads", "unset OMP_NUM_THREADS")
    elif int(threads.partition(",")[0]) < usable:
        yield DEVICE.note(
            f"OMP_NUM_THREADS={threads}: the model uses {threads} of {usable} cores", "unset OMP_NUM_THREADS"
        )
    elif int(threads.partition(",")[0]) > usable:
        found = f"OMP_NUM_THREADS={threads}: more threads than {usable} cores"
        yield DEVICE.warning(found, "unset OMP_NUM_THREADS")


def _quota() -> float | None:
    """The number of cores that control groups allow this process; None if they set no limit."""
    found = []
    for folder in cgroups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            limit, period = _text(f"{folder}/cpu.max").split()
            found.append(int(limit) / int(period))
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            limit, period = _text(f"{folder}/cpu.cfs_quota_us"), _text(f"{folder}/cpu.cfs_period_us")
            found += [int(limit) / int(period)] if int(limit) > 0 else []
    return min(found, default=None)


def memory() -> Iterator[Finding]:
    free = memory_available()
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = f"{size(free)} of memory free, of {size(total)}"
    if free < MIN_MEMORY_BYTES:
        yield DEVICE.note(f"{found}: not enough for a large model", "close other programs, or use a smaller model")
    else:
        yield DEVICE.ok(found)


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read().strip()


# ---- File formats ----------------------------------------------------------------------------------------------------


def codecs(probes: Libraries) -> Iterator[Finding]:
    """Each file format, and the library that reads it."""
    try:
        pillow = probes["PIL"].answer()
    except Unanswered as why:
        yield CODECS.problem(f"pillow cannot be loaded ({why}): no photo can be read", reinstall("pillow"))
        return
    formats = {
        "jpg": "JPEG",
        "zlib": "PNG",
        "webp": "WebP",
        "avif": "AVIF",
        "jpg_2000": "JPEG 2000",
        "libtiff": "compressed TIFF",
    }
    there = [name for feature, name in formats.items() if pillow[feature]]
    yield CODECS.ok(f"{', '.join(there)}, GIF, TIFF, BMP, PSD and more: pillow {version_of('pillow')}")
    fix = install("--force-reinstall", "--only-binary", ":all:", "--no-deps", requirement("pillow"))
    lacking = [name for feature, name in formats.items() if not pillow[feature]]
    if lacking:
        found = f"this pillow was built without {', '.join(lacking)}"
        yield (CODECS.problem if {"JPEG", "PNG"} & set(lacking) else CODECS.warning)(found, fix)
    if not pillow["littlecms2"]:
        yield CODECS.warning("this pillow was built without littlecms2: colours are not converted to sRGB", fix)
    yield from _codec(probes["pillow_heif"], "HEIC and HEIF", "pillow-heif", extra=None)
    yield from _codec(probes["rawpy"], "RAW", "rawpy", extra="raw")
    yield from _codec(probes["pillow_jxl"], "JPEG XL", "pillow-jxl-plugin", extra="jxl")


def _codec(probe: Probe, kind: str, distribution: str, *, extra: str | None) -> Iterator[Finding]:
    try:
        inner = "".join(f", {name} {version}" for name, version in probe.answer().items())
        yield CODECS.ok(f"{kind}: {distribution} {version_of(distribution)}{inner}")
    except Unanswered as why:
        if extra and version_of(distribution) == "none":
            found = f"{kind}: not read; {distribution} (extra [{extra}]) is not installed"
            yield CODECS.note(found, reinstall(distribution))
        else:
            found = f"{kind}: not read; {distribution} cannot be loaded ({why})"
            yield CODECS.warning(found, reinstall(distribution))


def gallery() -> Iterator[Finding]:
    versions = {name: version_of(name) for name in ("starlette", "uvicorn")}
    lacking = [name for name, version in versions.items() if version == "none"]
    if lacking:
        found = f"no gallery: {' and '.join(lacking)} (extra [serve]) not installed; serve --socket-only works"
        yield SERVE.note(found, install(*map(requirement, lacking)))
    else:
        yield SERVE.ok("gallery: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
