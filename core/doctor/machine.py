"""The program, its libraries, and the machine that it runs on, as `imgsearch doctor` sees them."""

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

from .findings import About, Finding, install, typed
from .probe import Probe, Unanswered

REQUIREMENTS = {
    "torch": "torch>=2.6,<3",
    "torchvision": "torchvision>=0.21,<1",
    "open_clip_torch": "open_clip_torch>=3.3,<3.4",
    "onnxruntime": "onnxruntime>=1.20,<1.32",
    "hnswlib": "hnswlib>=0.8,<0.9",
    "numpy": "numpy>=1.26,<3",
    "pillow": "pillow>=11.3,<14",
    "pillow-heif": "pillow-heif>=1.1,<2",
    "pillow-jxl-plugin": "pillow-jxl-plugin>=1.3.4,<2",
    "rawpy": "rawpy>=0.24,<1",
    "sqlite-utils": "sqlite-utils>=4,<5",
    "starlette": "starlette>=0.41,<2",
    "uvicorn": "uvicorn>=0.30,<1",
}
"""By distribution, as in pyproject.toml (a test holds them equal)."""
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
"""Each asked in a process of its own whether it can be imported; the distribution that brings it."""
LIBRARY_SECONDS = 60.0
# Importing torch and open_clip takes 3 to 5 s, from a cold disk many times that.
DEVICE_SECONDS = 180.0
# What torch and a model of 600 MB may take together.
LEAST_MEMORY_BYTES = 2_000_000_000
PROGRAM, DEVICE, CODECS = About("program"), About("device"), About("codecs")

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
    """What the shell starts when `imgsearch` is typed."""
    scripts = sysconfig.get_path("scripts")
    own, typed_one = os.path.join(scripts, "imgsearch"), shutil.which("imgsearch")
    if typed_one is None and os.path.exists(own):
        found = f"{scripts} is not in PATH: `imgsearch` alone is not found"
        yield PROGRAM.note(found, f'export PATH={typed(scripts)}:"$PATH"')
    elif typed_one and os.path.exists(own) and not os.path.samefile(typed_one, own):
        yield PROGRAM.note(f"`imgsearch` starts another one: {typed_one}", f"remove it, or type: {typed(own)}")


def _home() -> Iterator[Finding]:
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        yield PROGRAM.problem("HOME is not set, and this user has no home folder", "export HOME=FOLDER")
    elif not os.path.isdir(home):
        yield PROGRAM.problem(f"the home folder is not there: {home}", "export HOME=FOLDER, one that there is")
    elif not os.environ.get("HOME"):
        yield PROGRAM.note(f"HOME is not set; {home} is taken, as the system has it", "export HOME=~")
    elif not os.access(home, os.W_OK):
        found = "the home folder cannot be written: no index by default, and nothing is kept for the next query"
        yield PROGRAM.warning(found, "imgsearch index --index FOLDER, with XDG_CACHE_HOME=FOLDER in the environment")


def libraries(asked: Libraries) -> Iterator[Finding]:
    known = ("torch", "open_clip_torch", "onnxruntime", "hnswlib", "numpy", "pillow", "pillow-heif", "sqlite-utils")
    versions = {name: version_of(name) for name in known}
    yield PROGRAM.ok(", ".join(f"{name} {version}" for name, version in versions.items() if version != "none"))
    yield from _database()
    consequences = {
        "numpy": "nothing works without it",
        "sqlite_utils": "nothing can be indexed without it",
        "onnxruntime": "every query loads the whole model with torch, which takes seconds",
        "hnswlib": "search scans every vector instead, which finds the same and is slower in very large collections",
    }
    for module, consequence in consequences.items():
        try:
            asked[module].answer()
        except Unanswered as why:
            is_needed = module in ("numpy", "sqlite_utils")
            report = PROGRAM.problem if is_needed else PROGRAM.warning
            yield report(f"{LIBRARIES[module]} cannot be loaded ({why}): {consequence}", _again(LIBRARIES[module]))


def _again(distribution: str) -> str:
    """The command that installs a library, or one that is there and broken anew."""
    if version_of(distribution) == "none":
        return install(REQUIREMENTS[distribution])
    return install("--force-reinstall", "--no-deps", REQUIREMENTS[distribution])


def _database() -> Iterator[Finding]:
    """Of SQLite what the catalogue relies on."""
    connection = sqlite3.connect(":memory:")
    try:
        options = {row[0] for row in connection.execute("pragma compile_options")}
        needed = {
            "JSON functions": "select json_valid('[]')",
            "pragma functions": "select count(*) from pragma_table_xinfo('nothing')",
        }
        lacking = [name for name, sql in needed.items() if not _is_answered(connection, sql)]
    finally:
        connection.close()
    if "THREADSAFE=0" in options:
        lacking.append("threads")
    if "OMIT_WAL" in options:
        lacking.append("the write-ahead log")
    version = f"SQLite {sqlite3.sqlite_version}"
    if lacking:
        found = f"{version}, which Python uses, was built without: {', '.join(lacking)}"
        yield PROGRAM.problem(found, "use a Python with a newer SQLite, such as one of: uv python install 3.13")
    else:
        yield PROGRAM.ok(f"{version}, with all that the catalogue needs")


def _is_answered(connection: sqlite3.Connection, sql: str) -> bool:
    try:
        connection.execute(sql).fetchall()
    except sqlite3.Error:
        return False
    return True


# ---- What it computes with -------------------------------------------------------------------------------------------


def devices(asked: Probe) -> Iterator[Finding]:
    """What `--device auto` and `--precision auto` take here, and why not something better."""
    try:
        seen = asked.answer()
    except Unanswered as why:
        found = f"torch and open_clip cannot be loaded ({why}): nothing can be indexed"
        if "open_clip" in str(why):
            yield DEVICE.problem(found, install("--force-reinstall", REQUIREMENTS["open_clip_torch"]))
        else:
            wanted = (REQUIREMENTS[name] for name in ("torch", "torchvision"))
            yield DEVICE.problem(found, install("--force-reinstall", *wanted))
        return
    for gpu in seen["gpus"]:
        yield DEVICE.ok(f"{gpu['name']}, {size(gpu['bytes'])}")
    for trouble in seen["trouble"]:
        yield DEVICE.warning(trouble, _new_torch() if seen["gpus"] else "imgsearch index --device cpu, to hear no more")
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
            f"bf16, which this processor multiplies natively, if the first photos come out as in fp32; "
            f"{convolutional} for convolutional models, which lose more by it"
        )
    return "fp32: this processor does not multiply bf16 natively"


def _new_torch() -> str:
    return install("--upgrade", "--force-reinstall", REQUIREMENTS["torch"], REQUIREMENTS["torchvision"])


def _unused_gpu(cuda: str | None, warned: list[str]) -> Iterator[Finding]:
    """A GPU by NVIDIA that torch does not see."""
    driver = _nvidia_driver()
    if driver is None:
        if _has_nvidia_card():
            command = "sudo ubuntu-drivers install" if shutil.which("ubuntu-drivers") else None
            fix = command or "install NVIDIA's driver as your system does it, or start the container with --gpus all"
            yield DEVICE.warning("there is an NVIDIA GPU, and no driver for it", fix)
        return
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if cuda is None:
        found = f"there is an NVIDIA GPU ({driver}), and this torch ({version_of('torch')}) was built without CUDA"
        yield DEVICE.warning(found, _new_torch())
    elif hidden is not None and re.fullmatch(r"\s*(-1)?\s*", hidden):
        found = f"the NVIDIA GPU ({driver}) is hidden by CUDA_VISIBLE_DEVICES={hidden}"
        yield DEVICE.note(found, "unset CUDA_VISIBLE_DEVICES")
    else:
        said = f": {warned[0].partition('(Triggered')[0].strip()}" if warned else ""
        found = f"torch, built for CUDA {cuda}, cannot use the NVIDIA GPU ({driver}){said}"
        yield DEVICE.warning(found, "update NVIDIA's driver; where that cannot be, take a torch for an older CUDA")


def _nvidia_driver() -> str | None:
    """The first GPU and its driver, as its own tool tells."""
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        name, _, version = done.stdout.partition("\n")[0].rpartition(", ")
        return f"{name}, driver {version}" if done.returncode == 0 and name else None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _has_nvidia_card() -> bool:
    """Whether one is on the bus: NVIDIA's number, and a class of display."""
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
            f"{found}, of which this container may use {quota:.3g}: more threads than that wait for each other",
            f"export OMP_NUM_THREADS={max(1, int(quota))}",
        )
    else:
        yield DEVICE.ok(found)
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None:
        yield from _threads(threads, usable)


def _threads(threads: str, usable: int) -> Iterator[Finding]:
    if not re.fullmatch(r"\s*[1-9]\d*(\s*,.*)?", threads):
        yield DEVICE.warning(f"OMP_NUM_THREADS={threads} is no number of threads", "unset OMP_NUM_THREADS")
    elif int(threads.partition(",")[0]) < usable:
        yield DEVICE.note(
            f"OMP_NUM_THREADS={threads}: the model computes on {threads} of {usable} cores", "unset OMP_NUM_THREADS"
        )
    elif int(threads.partition(",")[0]) > usable:
        found = f"OMP_NUM_THREADS={threads}: more threads than the {usable} cores there are"
        yield DEVICE.warning(found, "unset OMP_NUM_THREADS")


def _quota() -> float | None:
    """How many cores' time the containers leave to this process; None where they do not say."""
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
    if free < LEAST_MEMORY_BYTES:
        yield DEVICE.note(f"{found}: little for a large model", "close other programs, or take a smaller model")
    else:
        yield DEVICE.ok(found)


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read().strip()


# ---- What it can read ------------------------------------------------------------------------------------------------


def codecs(asked: Libraries) -> Iterator[Finding]:
    """Each kind of picture, and the library that reads it."""
    try:
        pillow = asked["PIL"].answer()
    except Unanswered as why:
        yield CODECS.problem(f"pillow cannot be loaded ({why}): no picture can be read", _again("pillow"))
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
    lacking = [name for feature, name in formats.items() if not pillow[feature]]
    if lacking:
        found = f"this pillow was built without {', '.join(lacking)}"
        fix = install("--force-reinstall", "--only-binary", ":all:", "--no-deps", REQUIREMENTS["pillow"])
        yield (CODECS.problem if {"JPEG", "PNG"} & set(lacking) else CODECS.warning)(found, fix)
    if not pillow["littlecms2"]:
        fix = install("--force-reinstall", "--only-binary", ":all:", "--no-deps", REQUIREMENTS["pillow"])
        yield CODECS.warning("this pillow was built without littlecms2: colours are not converted to sRGB", fix)
    yield from _codec(asked["pillow_heif"], "HEIC and HEIF", "pillow-heif", extra=None)
    yield from _codec(asked["rawpy"], "RAW", "rawpy", extra="raw")
    yield from _codec(asked["pillow_jxl"], "JPEG XL", "pillow-jxl-plugin", extra="jxl")


def _codec(asked: Probe, kind: str, distribution: str, *, extra: str | None) -> Iterator[Finding]:
    try:
        inner = "".join(f", {name} {version}" for name, version in asked.answer().items())
        yield CODECS.ok(f"{kind}: {distribution} {version_of(distribution)}{inner}")
    except Unanswered as why:
        if extra and version_of(distribution) == "none":
            found = f"{kind}: not read; {distribution}, of the extra [{extra}], is not installed"
            yield CODECS.note(found, _again(distribution))
        else:
            found = f"{kind}: not read; {distribution} cannot be loaded ({why})"
            yield CODECS.warning(found, _again(distribution))


# ---- What `serve` needs ----------------------------------------------------------------------------------------------


def gallery() -> Iterator[Finding]:
    about, names = About("serve"), ("starlette", "uvicorn")
    versions = {name: version_of(name) for name in names}
    lacking = [name for name, version in versions.items() if version == "none"]
    if lacking:
        found = f"no gallery: {' and '.join(lacking)}, of the extra [serve], not installed; --socket-only works"
        yield about.note(found, install(*(REQUIREMENTS[name] for name in lacking)))
    else:
        yield about.ok("the gallery: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
