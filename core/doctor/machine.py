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
from imgsearch.core.photos import gazetteer
from imgsearch.core.photos.codecs import version_of
from imgsearch.core.photos.decode_pool import cgroups, memory_available

from .findings import Finding, note, ok, problem, warning
from .fixes import install, is_light, reinstall, requirement, typed, with_torch
from .probe import Probe

LIBRARIES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "pillow_jxl": "pillow-jxl-plugin",
    "rawpy": "rawpy",
    "av": "av",
    "onnxruntime": "onnxruntime",
    "hnswlib": "hnswlib",
    "simsimd": "simsimd",
    "sqlite_utils": "sqlite-utils",
    "scipy.spatial": "scipy",
    "rapidocr": "rapidocr",
}
"""Libraries to import in a child process, with the name of their distribution."""
LIBRARY_SECONDS = 60.0
# Importing torch and open_clip takes 3 to 5 s, many times that from a cold disk.
DEVICE_SECONDS = 180.0
# torch with a model of 600 MB.
MIN_MEMORY_BYTES = 2_000_000_000
FORMATS = {
    "jpg": "JPEG",
    "zlib": "PNG",
    "webp": "WebP",
    "avif": "AVIF",
    "jpg_2000": "JPEG 2000",
    "libtiff": "compressed TIFF",
}
"""Features of pillow, and what they read."""

Libraries = Mapping[str, Probe]


# ---- The program -----------------------------------------------------------------------------------------------------


def program() -> Iterator[Finding]:
    here = os.path.dirname(os.path.abspath(imgsearch.__file__))
    yield ok(f"imgsearch {imgsearch.__version__} in {here}")
    yield ok(f"Python {platform.python_version()} ({sys.executable}), {platform.platform()}")
    scripts = sysconfig.get_path("scripts")
    own, first = os.path.join(scripts, "imgsearch"), shutil.which("imgsearch")
    if first is None and os.path.exists(own):
        fix = f'export PATH={typed(scripts)}:"$PATH"'
        yield note(f"{scripts} is not in PATH: `imgsearch` is not found by name", fix)
    elif first and os.path.exists(own) and not os.path.samefile(first, own):
        yield note(f"`imgsearch` runs another installation: {first}", f"remove it, or run: {typed(own)}")
    home = os.path.expanduser("~")
    if not os.path.isdir(home):
        yield problem(f"the home folder does not exist: {home}", "export HOME=FOLDER")
    elif not os.access(home, os.W_OK):
        found = "the home folder is not writable: no default index, and no cache between queries"
        yield warning(found, "export XDG_CACHE_HOME=FOLDER; imgsearch index --index FOLDER PHOTOS")


def libraries(probes: Libraries) -> Iterator[Finding]:
    known = "torch open_clip_torch onnxruntime hnswlib simsimd numpy pillow pillow-heif sqlite-utils"
    versions = {name: version_of(name) for name in known.split()}
    yield ok(", ".join(f"{name} {version}" for name, version in versions.items() if version != "none"))
    yield ok(f"SQLite {sqlite3.sqlite_version}")
    slow = "a query with a new picture loads the whole model with torch, which takes seconds"
    consequences = {
        "numpy": (problem, "imgsearch does not work without it"),
        "sqlite_utils": (warning, "imgsearch prune cannot shrink the catalogue without it"),
        "onnxruntime": (problem, "no picture can be embedded without it or torch") if is_light() else (warning, slow),
        "hnswlib": (warning, "every search scans all vectors, which is slower in very large collections"),
        "simsimd": (warning, "a query scans all vectors in full, which is slower in large collections"),
    }
    for module, (report, consequence) in consequences.items():
        if why := probes[module].answer().get("error"):
            name = LIBRARIES[module]
            yield report(f"{name} cannot be loaded ({why}): {consequence}", reinstall(name))


def places(probes: Libraries) -> Iterator[Finding]:
    names = ("reverse-geocode", "scipy", "tzfpy")
    if version_of(names[0]) == "none":
        found = f"no place names: {names[0]} (extra [places]) not installed; --place finds what earlier runs named"
        yield note(found, install(*map(requirement, names)))
    elif why := probes["scipy.spatial"].answer().get("error"):
        yield warning(f"no place names: scipy cannot be loaded ({why})", reinstall("scipy"))
    elif gazetteer.version() is None:
        yield warning(f"no place names: the data of {names[0]} cannot be read", reinstall(names[0]))
    else:
        yield ok("place names: " + ", ".join(f"{name} {version_of(name)}" for name in names))


def text_reader(probes: Libraries) -> Iterator[Finding]:
    name = LIBRARIES["rapidocr"]
    version = version_of(name)
    if version == "none":
        found = f"no text in pictures: {name} (extra [ocr]) not installed; --text-contains finds what earlier runs read"
        yield note(found, install(requirement(name)))
    elif why := probes["rapidocr"].answer().get("error"):
        yield warning(f"no text in pictures: {name} cannot be loaded ({why})", reinstall(name))
    else:
        yield ok(f"text in pictures: {name} {version}")


def gallery() -> Iterator[Finding]:
    versions = {name: version_of(name) for name in ("starlette", "uvicorn")}
    lacking = [name for name, version in versions.items() if version == "none"]
    if lacking:
        found = f"no gallery: {' and '.join(lacking)} (extra [serve]) not installed; serve --socket-only works"
        yield note(found, install(*map(requirement, lacking)))
    else:
        yield ok("gallery: " + ", ".join(f"{name} {version}" for name, version in versions.items()))


# ---- Processor, GPU and memory ---------------------------------------------------------------------------------------


def devices(probe: Probe) -> Iterator[Finding]:
    """What `--device auto` and `--precision auto` choose, and why not something better."""
    if is_light():
        found = (
            "this is the light installation: builtin and imported models work without torch, any other model needs it"
        )
        yield note(found, with_torch())
        return
    seen = probe.answer()
    if why := seen.get("error"):
        names = ("open_clip_torch",) if "open_clip" in why else ("torch", "torchvision")
        found = f"torch and open_clip cannot be loaded ({why}): photos cannot be indexed"
        yield problem(found, install("--force-reinstall", *map(requirement, names)))
        return
    for gpu in seen["gpus"]:
        yield ok(f"{gpu['name']}, {size(gpu['bytes'])}")
    for trouble in seen["trouble"]:
        yield warning(trouble, _new_torch() if seen["gpus"] else "imgsearch index --device cpu, to silence this")
    if not seen["gpus"]:
        yield from _unused_gpu(seen["cuda"], [text for text in seen["warnings"] if "CUDA" in text])
    transformer, convolutional = seen["precisions"]
    meaning = {
        "fp16": ", as on every GPU",
        "bf16": f", which this processor supports, and {convolutional} for convolutional models",
        "fp32": ": this processor does not support bf16",
    }
    yield ok(f"--device auto is {seen['device']}")
    yield ok(f"--precision auto is {transformer}{meaning[transformer]}")


def _new_torch() -> str:
    return install("--upgrade", "--force-reinstall", requirement("torch"), requirement("torchvision"))


def _unused_gpu(cuda: str | None, warned: list[str]) -> Iterator[Finding]:
    """An NVIDIA GPU that torch does not use."""
    driver = _nvidia_driver()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver is None and not _has_nvidia_card():
        return
    if driver is None:
        by_hand = "install the NVIDIA driver, or start the container with --gpus all"
        fix = "sudo ubuntu-drivers install" if shutil.which("ubuntu-drivers") else by_hand
        yield warning("there is an NVIDIA GPU, but no driver for it", fix)
    elif cuda is None:
        found = f"there is an NVIDIA GPU ({driver}), but torch {version_of('torch')} was built without CUDA"
        yield warning(found, _new_torch())
    elif hidden is not None and hidden.strip() in ("", "-1"):
        found = f"the NVIDIA GPU ({driver}) is hidden by CUDA_VISIBLE_DEVICES={hidden}"
        yield note(found, "unset CUDA_VISIBLE_DEVICES")
    else:
        said = f": {warned[0].partition('(Triggered')[0].strip()}" if warned else ""
        found = f"torch, built for CUDA {cuda}, cannot use the NVIDIA GPU ({driver}){said}"
        yield warning(found, "update the NVIDIA driver, or install a torch for an older CUDA")


def _nvidia_driver() -> str | None:
    """The first GPU and its driver, from nvidia-smi."""
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    name, _, version = done.stdout.partition("\n")[0].rpartition(", ")
    return f"{name}, driver {version}" if done.returncode == 0 and name else None


def _has_nvidia_card() -> bool:
    """Whether the PCI bus has one: NVIDIA's vendor number, and the display class."""
    cards = glob.glob("/sys/bus/pci/devices/*/modalias")
    return any(re.match("pci:v000010DE.*bc03", _text(card)) for card in cards)


def cores() -> Iterator[Finding]:
    usable, present, quota = processor_cores(), os.cpu_count() or 1, _quota()
    found = f"{usable} of {present} processor cores" if usable < present else f"{present} processor cores"
    if quota < usable:
        found += f", but this container may use only {quota:.3g}: more threads are slower"
        yield note(found, f"export OMP_NUM_THREADS={max(1, int(quota))}")
    else:
        yield ok(found)
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is None:
        return
    number = re.fullmatch(r"\s*([1-9]\d*)(\s*,.*)?", threads)
    count = int(number[1]) if number else 0
    if count == 0:
        yield warning(f"OMP_NUM_THREADS={threads} is not a number of threads", "unset OMP_NUM_THREADS")
    elif count < usable:
        found = f"OMP_NUM_THREADS={threads}: the model uses {threads} of {usable} cores"
        yield note(found, "unset OMP_NUM_THREADS")
    elif count > usable:
        yield warning(f"OMP_NUM_THREADS={threads}: more threads than {usable} cores", "unset OMP_NUM_THREADS")


def _quota() -> float:
    """The number of cores that control groups allow this process."""
    limits = []
    for folder in cgroups("cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            limit, _, period = " ".join(_text(f"{folder}/{name}") for name in names).partition(" ")
            if limit.isdigit() and period.isdigit():
                limits.append(int(limit) / int(period))
    return min(limits, default=float("inf"))


def memory() -> Iterator[Finding]:
    free = memory_available()
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = f"{size(free)} of memory free, of {size(total)}"
    if free < MIN_MEMORY_BYTES:
        yield note(f"{found}: not enough for a large model", "close other programs, or use a smaller model")
    else:
        yield ok(found)


def _text(path: str) -> str:
    """The text of a file of the system; empty if it cannot be read."""
    with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        return file.read().strip()
    return ""


# ---- File formats ----------------------------------------------------------------------------------------------------


def codecs(probes: Libraries) -> Iterator[Finding]:
    """Each file format, and the library that reads it."""
    pillow = probes["PIL"].answer()
    if why := pillow.get("error"):
        yield problem(f"pillow cannot be loaded ({why}): no photo can be read", reinstall("pillow"))
        return
    there = ", ".join(name for feature, name in FORMATS.items() if pillow[feature])
    lacking = [name for feature, name in FORMATS.items() if not pillow[feature]]
    fix = install("--force-reinstall", "--only-binary", ":all:", "--no-deps", requirement("pillow"))
    yield ok(f"{there}, GIF, TIFF, BMP, PSD and more: pillow {version_of('pillow')}")
    if lacking:
        report = problem if {"JPEG", "PNG"} & set(lacking) else warning
        yield report(f"this pillow was built without {', '.join(lacking)}", fix)
    if not pillow["littlecms2"]:
        yield warning("this pillow was built without littlecms2: colours are not converted to sRGB", fix)
    others = {
        "pillow_heif": ("HEIC and HEIF", ""),
        "rawpy": ("RAW", "raw"),
        "pillow_jxl": ("JPEG XL", "jxl"),
        "av": ("videos", "video"),
    }
    for module, (kind, extra) in others.items():
        name, answer = LIBRARIES[module], probes[module].answer()
        version = version_of(name)
        if "error" not in answer:
            inner = "".join(f", {library} {number}" for library, number in answer.items())
            yield ok(f"{kind}: {name} {version}{inner}")
        elif extra and version == "none":
            yield note(f"{kind}: not read; {name} (extra [{extra}]) is not installed", reinstall(name))
        else:
            yield warning(f"{kind}: not read; {name} cannot be loaded ({answer['error']})", reinstall(name))
