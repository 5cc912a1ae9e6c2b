"""Downloads models from the hub, and finds them in its cache.

`resolve_auto` picks a model, `ensure_weights` downloads its files. Only a child process imports huggingface_hub, so
that it can be stopped: a network that refuses, or does not answer, costs seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from imgsearch.core.errors import ModelError

from .registry import (
    ALIASES,
    BUILTIN,
    CONFIG_FILE,
    DIR_PREFIX,
    HF_CONFIG,
    HF_PREPROCESSING,
    HF_VOCABULARY,
    HF_WEIGHTS,
    HUB_PREFIX,
    HUB_WEIGHTS,
    RECOMMENDED,
    ModelSpec,
    is_model_dir,
    json_file,
)

Say = Callable[[str], None]
"""Prints one line for the user."""
Progress = Callable[[int, "int | None"], None]
"""Called with the bytes downloaded so far and the total, if known."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
)
"""Each of these is the vocabulary of a tokenizer."""
TOKENIZER_SIDE_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)

ANSWER_SECONDS = 5.0
"""How long the hub may take to say whether it has the files. Usually well under one second."""
START_SECONDS = 15.0
"""How long the child may take to import huggingface_hub (measured: 0.5 s)."""
STALL_SECONDS = 45.0
"""A download without progress for this long has failed. In chunks of 1 MiB, that is below 23 kB/s."""
CHUNK_BYTES = 1 << 20


def resolve_auto(say: Say | None = None, *, offline: bool = False, progress: Progress | None = None) -> ModelSpec:
    """The recommended model if it is cached or can be downloaded, else the built-in one, reported in one line."""
    recommended = ALIASES[RECOMMENDED]
    spec = recommended.spec
    if cached(spec):
        return spec
    try:
        ensure_weights(spec, say, progress=progress, offline=offline)
    except ModelError as error:
        if say:
            say(
                f"{error}; using the built-in model. For better results, "
                f"index with --model {RECOMMENDED} when online ({recommended.download_mb} MB)"
            )
        return ALIASES[BUILTIN].spec
    return spec


# ------------------------------------------------------------------------------------ the hub's cache


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The files a model needs from the hub."""

    repo: str
    weights: tuple[str, ...] = HUB_WEIGHTS
    """The first of these that the repository has is used."""
    with_config: bool = False
    """For `hf-hub:` models: also the configuration that belongs to the weights, and the tokenizer that it names."""
    tokenizer_repos: tuple[str, ...] = ()


def hub_files(spec: ModelSpec) -> HubFiles | None:
    """For the models of the table and `hf-hub:` names; None for others, which only open_clip knows."""
    alias = spec.alias
    if spec.arch.startswith(HUB_PREFIX):
        weights = alias.files if alias else (*HUB_WEIGHTS, HF_WEIGHTS)
        return HubFiles(spec.arch[len(HUB_PREFIX) :], weights, with_config=True)
    if alias is None or alias.repo is None:
        return None
    tokenizers = (alias.tokenizer_repo,) if alias.tokenizer_repo else ()
    return HubFiles(alias.repo, alias.files, tokenizer_repos=tokenizers)


def cached(spec: ModelSpec, files: HubFiles | None = None) -> bool:
    """Whether all files of the model are on this disk. Pass `files` for a tag outside the table."""
    if spec.arch == BUILTIN:
        return True
    if spec.checkpoint:
        return os.path.isfile(spec.checkpoint)
    if spec.arch.startswith(DIR_PREFIX):
        return is_model_dir(spec.arch[len(DIR_PREFIX) :])
    files = files or hub_files(spec)
    return files is not None and cached_weights(files) is not None and not _missing_tokenizers(files)


def cached_weights(files: HubFiles) -> str | None:
    """The path of the weights in the hub's cache."""
    path = in_hub_cache(files.repo, files.weights)
    if path and files.with_config and in_hub_cache(files.repo, (_config_for(path),)) is None:
        return None
    return path


def _config_for(weights: str) -> str:
    return HF_CONFIG if os.path.basename(weights) == HF_WEIGHTS else CONFIG_FILE


def in_hub_cache(repo: str, names: tuple[str, ...]) -> str | None:
    """The path of the first of these files in a snapshot of the repository, the snapshot of `main` first."""
    folder = os.path.join(hub_cache(), "models--" + repo.replace("/", "--"))
    for snapshot in _snapshots(folder):
        for name in names:
            path = os.path.join(folder, "snapshots", snapshot, name)
            if os.path.isfile(path):
                return path
    return None


def hub_cache() -> str:
    """The folder in which huggingface_hub stores repositories."""
    explicit = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not explicit:
        home = os.environ.get("HF_HOME") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface"
        )
        explicit = os.path.join(home, "hub")
    return os.path.expanduser(os.path.expandvars(explicit))


def _snapshots(folder: str) -> list[str]:
    try:
        with os.scandir(os.path.join(folder, "snapshots")) as entries:
            found = sorted(entries, key=lambda entry: -entry.stat().st_mtime)
    except OSError:
        return []
    main = ""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, "refs", "main")) as ref:
        main = ref.read().strip()
    return sorted((entry.name for entry in found), key=lambda name: name != main)


def _missing_tokenizers(files: HubFiles) -> list[str]:
    repos = list(files.tokenizer_repos)
    if files.with_config:
        path = in_hub_cache(files.repo, (CONFIG_FILE,))
        repos += tokenizer_repos_of(json_file(path).get("model_cfg", {})) if path else []
    return [repo for repo in dict.fromkeys(repos) if in_hub_cache(repo, TOKENIZER_FILES) is None]


def tokenizer_repos_of(model_config: dict[str, Any]) -> list[str]:
    """The repositories that an open_clip model configuration names for its tokenizer and text tower."""
    text = model_config.get("text_cfg") or {}
    named = (text.get("hf_tokenizer_name"), text.get("hf_model_name"))
    return list(dict.fromkeys(name for name in named if name))


# ----------------------------------------------------------------------------------------- downloading


def offline_variable() -> str | None:
    """The variable that turns off the hub, if set: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").strip().upper() in ("1", "ON", "YES", "TRUE"):
            return name
    return None


def ensure_weights(
    spec: ModelSpec,
    say: Say | None = None,
    *,
    files: HubFiles | None = None,
    progress: Progress | None = None,
    offline: bool = False,
    answer_seconds: float = ANSWER_SECONDS,
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Download the model's files into the hub's cache unless they are there. Raises ModelError within seconds.

    `files`: for tags outside the table (see `hub_files`).
    """
    files = files or hub_files(spec)
    if files is None or cached(spec, files):
        return
    switch = "--offline" if offline else offline_variable()
    if switch:
        raise ModelError(
            f"{spec.name} is not downloaded, and {switch} turns off the network",
            hint=f"without {switch} it is downloaded; {_alternative(spec)}",
        )
    size = _CacheSize(files, progress)
    messages = _child_messages(files)
    try:
        for message in _with_timeouts(messages, size, answer_seconds, stall_seconds):
            if "error" in message:
                raise _cannot_fetch(spec, message["error"])
            if isinstance(message.get("bytes"), int):
                size.total = message["bytes"]
            if say and message.get("stage") == "download":
                say(_announcement(spec))
    except TimeoutError as error:
        raise _cannot_fetch(spec, str(error)) from error
    finally:
        messages.close()
    if not cached(spec, files):
        raise _cannot_fetch(spec, "some of its files are missing")


def _cannot_fetch(spec: ModelSpec, reason: str) -> ModelError:
    hint = f"{_alternative(spec)}; --offline does not try"
    return ModelError(f"cannot download {spec.name} from {_hub_host()}: {reason}", hint=hint)


def _announcement(spec: ModelSpec) -> str:
    alias = spec.alias
    if alias is None:
        return f"downloading {spec.name} from {_hub_host()}"
    terms = "" if alias.commercial else f"; its licence: {alias.licence}, no commercial use"
    return f"downloading {spec.name} (about {alias.download_mb} MB) from {_hub_host()}{terms}"


def _alternative(spec: ModelSpec) -> str:
    copied = ""
    if spec.alias and spec.arch.startswith(HUB_PREFIX):
        copied = "; with its files copied by hand: --model FOLDER"
    if spec.weights:
        by_hand = f"--model {spec.arch} --weights FILE --preprocess-from {spec.weights}"
        copied = f"; with weights copied by hand: {by_hand}"
    return f"--model {BUILTIN} needs no network{copied}"


def _hub_host() -> str:
    from urllib.parse import urlsplit

    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    return address.netloc.rpartition("@")[2] or "the model hub"


class _CacheSize:
    """The progress of a download, by the size of the files in the hub's cache."""

    def __init__(self, files: HubFiles, progress: Progress | None) -> None:
        self.folders = [
            os.path.join(hub_cache(), "models--" + repo.replace("/", "--"), "blobs")
            for repo in (files.repo, *files.tokenizer_repos)
        ]
        self.progress = progress
        self.total: int | None = None
        self.before = self._bytes()
        self.fetched = 0

    def has_grown(self) -> bool:
        fetched = max(0, self._bytes() - self.before)
        grown = fetched != self.fetched
        self.fetched = fetched
        if grown and self.progress:
            self.progress(fetched, self.total)
        return grown

    def _bytes(self) -> int:
        total = 0
        for folder in self.folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):  # renamed in the meantime
                        total += entry.stat().st_size
        return total


def _with_timeouts(
    messages: _Messages, cache_size: _CacheSize, answer_seconds: float, stall_seconds: float
) -> Iterator[dict[str, Any]]:
    """The child's messages up to `done`. Raises TimeoutError if a stage takes too long.

    The stages: importing huggingface_hub, asking the hub, downloading. Asking has a deadline as a whole: a timeout per
    read would not stop a server that sends one byte a second.
    """
    seconds, reason = START_SECONDS, "huggingface_hub does not start"
    last_progress = time.monotonic()
    while True:
        message = messages.next(0.2)
        now = time.monotonic()
        if message is not None:
            last_progress = now
            if message.get("stage") == "ask":
                seconds, reason = answer_seconds, f"no answer within {answer_seconds:.0f} seconds"
            elif message.get("stage") == "download":
                seconds, reason = stall_seconds, f"the download stopped for {stall_seconds:.0f} seconds"
            yield message
            if message.get("stage") == "done":
                cache_size.has_grown()
                return
        elif cache_size.has_grown():
            last_progress = now
        elif now - last_progress > seconds:
            raise TimeoutError(reason)


class _Messages:
    """A child process that prints one JSON object per line."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null, env=environment)
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None after that time. An end of output becomes an error message."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            return None
        try:
            message = json.loads(line) if line else {"error": "the download process ended unexpectedly"}
        except ValueError:  # printed by a library
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stdout
        self.process.stdout.close()


def _child_messages(files: HubFiles) -> _Messages:
    environment = dict(os.environ)
    # Plain HTTP: its progress shows in the cache folder, and it can be stopped.
    environment.setdefault("HF_HUB_DISABLE_XET", "1")
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # -P: never import a module from the working directory.
    return _Messages([sys.executable, "-P", "-m", __spec__.name, json.dumps(asdict(files))], environment)


def _fetch(request: dict[str, Any]) -> None:
    """In the child process: ask the hub, download, report each stage."""
    import huggingface_hub as hub
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    repo = request["repo"]

    def size_of(name: str) -> int | None:
        found = hub.get_hf_file_metadata(hub.hf_hub_url(repo, name), timeout=ANSWER_SECONDS)
        if not found.commit_hash or not found.etag:
            raise RuntimeError(_NOT_A_HUB)
        return found.size

    _report(stage="ask")
    name, size = _first_there(request["weights"], size_of)
    _report(stage="download", bytes=size)
    tokenizers = list(request["tokenizer_repos"])
    if request["with_config"]:
        config = json_file(hub.hf_hub_download(repo, _config_for(name)))
        tokenizers += tokenizer_repos_of(config.get("model_cfg", {}))
        if name == HF_WEIGHTS:
            if config.get("model_type") != "clip":
                raise RuntimeError(_NOT_CLIP)
            for optional in (HF_PREPROCESSING, HF_VOCABULARY):
                with _optional():
                    hub.hf_hub_download(repo, optional)
    wanted = [*TOKENIZER_FILES, *TOKENIZER_SIDE_FILES]
    for tokenizer in dict.fromkeys(tokenizers):
        hub.snapshot_download(tokenizer, allow_patterns=wanted, max_workers=1)
    hub.hf_hub_download(repo, name)
    _report(stage="done")


def _first_there(names: list[str], size_of: Callable[[str], int | None]) -> tuple[str, int | None]:
    for name in names[:-1]:
        with _optional():
            return name, size_of(name)
    return names[-1], size_of(names[-1])


@contextlib.contextmanager
def _optional() -> Iterator[None]:
    """For a file that the repository may lack: any other error is raised."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in _NO_SUCH_FILE:
            raise


def _report(**message: Any) -> None:
    """Print a line for the parent process."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _explain(error: BaseException) -> str:
    """Why the hub could not be used, in words for a user."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind = type(error).__name__
    if status in (401, 403) or kind in ("GatedRepoError", "RepositoryNotFoundError"):
        return f"it refuses ({status or kind}), perhaps because of a proxy, a wrong name, or a missing login (HF_TOKEN)"
    if kind in _NO_SUCH_FILE:
        return "it does not have these weights (404)"
    if status is not None:
        return f"it returns an error ({status})"
    chain = list(_causes(error))
    messages = " ".join(f"{type(cause).__name__} {cause}" for cause in chain).lower()
    for signs, words in _NETWORK_ERRORS:
        if any(sign in messages for sign in signs):
            return words
    if str(error) == _NOT_CLIP:
        return _NOT_CLIP
    first_line = (str(chain[-1]).strip() or kind).splitlines()[0]
    return f"{type(chain[-1]).__name__}: {first_line[:200]}"


_NO_SUCH_FILE = ("EntryNotFoundError", "RemoteEntryNotFoundError")
"""By name, because these classes have moved between versions of huggingface_hub."""
_NOT_A_HUB = "x-repo-commit is missing"
_NOT_CLIP = "it has neither an open_clip model nor a CLIP model of transformers"
_NETWORK_ERRORS = (
    (("no space left",), "the disk is full"),
    (("permission denied", "read-only file system"), "its cache folder is not writable"),
    (("certificate", "ssl", "tls"), "the connection is not secure (certificate or TLS error)"),
    (("name or service not known", "name resolution", "nodename nor servname", "getaddrinfo", "no address"),
     "its name cannot be resolved"),
    (("connection refused",), "the connection was refused"),
    (("proxyerror", "proxy"), "the proxy refuses"),
    (("unreachable", "no route to host"), "the network is unreachable"),
    (("timeout", "timed out"), "it does not answer"),
    (("disconnected", "connection reset", "remoteprotocolerror", "incompleteread", "peer closed"),
     "it closed the connection"),
    ((_NOT_A_HUB, "filemetadataerror"), "something else answers instead (a login page?)"),
)  # fmt: skip


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


if __name__ == "__main__":
    try:
        _fetch(json.loads(sys.argv[1]))
    except Exception as error:
        _report(error=_explain(error))
