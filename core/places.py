"""Where files are kept: which folder is the index, and the user's own folders.

Every start of the program imports this, so on Linux it computes what platformdirs would say, which is faster.
"""

from __future__ import annotations

import os
import sys

from .errors import StoreError, UsageError
from .paths import printable

CATALOG = "catalog.sqlite3"
PORTABLE = ".imgsearch"
_NAME = "imgsearch"
_IS_LINUX: bool = sys.platform == "linux"


def locate(option: str | None) -> str:
    """Which folder is the index: `--index`, else $IMGSEARCH_INDEX, else the nearest `.imgsearch/` at or above the
    working directory, else one in the user's data directory."""
    if option == "":
        raise UsageError("--index is empty", hint="is a variable of your shell unset?")
    for given in (option, os.environ.get("IMGSEARCH_INDEX")):
        if given:
            folder = os.path.abspath(os.path.expanduser(given))
            inner = os.path.join(folder, PORTABLE)
            if not os.path.exists(os.path.join(folder, CATALOG)) and os.path.isdir(inner):
                return inner
            return folder
    nearest = portable()
    if nearest:
        _refuse_foreign(nearest)
        return nearest
    return os.path.join(data_folder(), "index")


def is_index_given() -> bool:
    """Whether the environment or the working directory names the index, so that the config file is not read."""
    return bool(os.environ.get("IMGSEARCH_INDEX") or portable())


def portable() -> str | None:
    """The nearest `.imgsearch/` at or above the working directory, with any owner."""
    folder = os.getcwd()
    while True:
        candidate = os.path.join(folder, PORTABLE)
        if os.path.isdir(candidate):
            return candidate
        if folder == os.path.dirname(folder):
            return None
        folder = os.path.dirname(folder)


def _refuse_foreign(folder: str) -> None:
    owner = os.stat(folder).st_uid
    if owner != os.getuid():
        raise StoreError(
            f"{printable(folder)}: belongs to another user (uid {owner}), so it is not used",
            hint="to use it anyway: --index " + printable(folder),
        )


def known_indexes() -> list[str]:
    """Folders of the indexes that this user made and that still exist."""
    try:
        with open(_known(), encoding="utf-8", errors="surrogateescape") as file:
            listed = file.read(1 << 20).splitlines()
    except OSError:
        return []
    return [folder for folder in dict.fromkeys(listed) if os.path.exists(os.path.join(folder, CATALOG))]


def remember_index(folder: str) -> None:
    """Add a folder to the known indexes, which shells complete. Errors are ignored."""
    import contextlib

    from .writing import replacing

    listed = [*known_indexes(), folder]
    with contextlib.suppress(OSError):
        os.makedirs(data_folder(), mode=0o700, exist_ok=True)
        with replacing(_known(), is_durable=False) as file:
            file.writelines(os.fsencode(f"{each}\n") for each in dict.fromkeys(listed) if "\n" not in each)


def _known() -> str:
    return os.path.join(data_folder(), "indexes.txt")


def data_folder() -> str:
    """For data that cannot be made again."""
    if _IS_LINUX:
        return _below("XDG_DATA_HOME", "~/.local/share")
    import platformdirs

    return platformdirs.user_data_dir(_NAME, appauthor=False)


def config_folder() -> str:
    """For the user's settings."""
    if _IS_LINUX:
        return _below("XDG_CONFIG_HOME", "~/.config")
    import platformdirs

    return platformdirs.user_config_dir(_NAME, appauthor=False)


def cache_folder() -> str:
    """For files that can be made again."""
    if _IS_LINUX:
        return _below("XDG_CACHE_HOME", "~/.cache")
    import platformdirs

    return platformdirs.user_cache_dir(_NAME, appauthor=False)


def runtime_folder() -> str:
    """For sockets and the like. Without $XDG_RUNTIME_DIR it is a folder in /tmp with the user's id in its name."""
    if _IS_LINUX:
        given = os.environ.get("XDG_RUNTIME_DIR", "").strip() or f"/run/user/{os.getuid()}"
        if not (os.environ.get("XDG_RUNTIME_DIR") or os.access(given, os.W_OK)):
            shared = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - a folder that is not the user's is not used
            given = f"{shared}/runtime-{os.getuid()}"
        return os.path.join(given, _NAME)
    import warnings

    import platformdirs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns on every call
        return platformdirs.user_runtime_dir(_NAME, appauthor=False)


def _below(variable: str, usual: str) -> str:
    return os.path.join(os.environ.get(variable, "").strip() or os.path.expanduser(usual), _NAME)
