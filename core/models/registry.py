"""Which models there are, what they cost, and where their weights lie.

`parse` turns what a user typed into a `ModelSpec`, `resolve_auto` picks one, `ensure_weights` puts its files
on this machine. Nothing here imports torch or open_clip, and huggingface_hub is only ever imported by a child
process, which can be stopped: a network that answers no, or not at all, costs seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.late import LateModule
from imgsearch.core.paths import cache_folder

if TYPE_CHECKING:
    import difflib
    import queue
    import subprocess
    import tempfile
else:  # a query asks only whether a checkpoint is as it was
    difflib, queue, subprocess, tempfile = map(LateModule, ("difflib", "queue", "subprocess", "tempfile"))

Say = Callable[[str], None]
"""Takes one line meant for the user."""
Progress = Callable[[int, "int | None"], None]
"""Takes the bytes that have come so far, and how many there will be where that is known."""

HUB_PREFIX = "hf-hub:"
DIR_PREFIX = "local-dir:"
CONFIG_FILE = "open_clip_config.json"
CHECKPOINT_EXTENSIONS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".npy")
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip looks for in a repository whose entry names no file, in its order."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
)
"""Any one of these is a tokenizer's vocabulary."""
TOKENIZER_SIDE_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)

ANSWER_SECONDS = 5.0
"""How long the hub may take to say whether it has the files. A hub that is up takes well under one second."""
START_SECONDS = 15.0
"""How long the child may take to import huggingface_hub (0.5 s here); only a very slow disk comes near it."""
STALL_SECONDS = 45.0
"""A download that brings nothing for this long has failed. In pieces of 1 MiB, that is below 23 kB/s."""
CHUNK_BYTES = 1 << 20


# -------------------------------------------------------------------------------- the table of aliases


@dataclass(frozen=True, slots=True)
class Alias:
    """A short name for a model that is worth knowing. Recall figures are percent, text -> image, R@1."""

    name: str
    arch: str
    weights: str | None
    repo: str | None
    """The hub repository its weights come from; `None`: nothing is fetched."""
    dim: int
    download_mb: int
    """About: four bytes a parameter, as these repositories store them."""
    licence: str
    languages: str
    files: tuple[str, ...] = HUB_WEIGHTS
    tokenizer_repo: str | None = None
    """The repository its tokenizer comes from, for those that do not use open_clip's own."""
    commercial: bool = True
    coco: float | None = None
    flickr30k: float | None = None
    note: str = ""

    @property
    def needs_extra(self) -> str | None:
        """The extra of this package without which it cannot read text: `siglip` brings transformers."""
        return "siglip" if self.tokenizer_repo else None

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(self.name, self.arch, self.weights)


_UNREADABLE = "name the model once more: imgsearch index --model NAME"
RECOMMENDED = "lite"
BUILTIN = "builtin"


def _siglip2(name: str, arch: str, dim: int, download_mb: int, **more: Any) -> Alias:
    repo = f"timm/{arch}"
    return Alias(name, arch, "webli", repo, dim, download_mb, "Apache-2.0", "multilingual",
                 tokenizer_repo=repo, **more)  # fmt: skip


def _mobileclip2(size: str, download_mb: int, **more: Any) -> Alias:
    arch = f"MobileCLIP2-{size}"
    return Alias(arch.lower(), arch, "dfndr2b", f"timm/{arch}-OpenCLIP", more.pop("dim", 512), download_mb,
                 "Apple AMLR (research only)", "English", commercial=False, **more)  # fmt: skip


ALIASES: dict[str, Alias] = {
    alias.name: alias
    for alias in (
        Alias(
            BUILTIN, BUILTIN, None, None, 192, 0, "Apache-2.0", "English",
            note="ships with imgsearch; weak next to CLIP; "
            "some of its training pictures are offered for non-commercial research",
        ),
        Alias(
            "lite", "ViT-B-32-256", "datacomp_s34b_b86k", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
            512, 605, "MIT", "English", coco=39.9, flickr30k=64.9,
            note="what `auto` takes when it can be had",
        ),
        _siglip2(
            "fast", "ViT-B-32-SigLIP2-256", 768, 1507, coco=47.2, flickr30k=75.5,
            note="the best quality for a CPU second",
        ),
        _siglip2(
            "balanced", "ViT-B-16-SigLIP2-256", 768, 1501, coco=53.2, flickr30k=81.7,
            note="four times the work of `fast` for each photo",
        ),
        Alias(
            "best", "PE-Core-L-14-336", "meta", "timm/PE-Core-L-14-336", 1024, 2685, "Apache-2.0", "English",
            coco=57.1, note="wants a GPU; reads the first 32 tokens of a text",
        ),
        _siglip2(
            "best-multilingual", "ViT-SO400M-16-SigLIP2-384", 1152, 4544, coco=56.0, note="wants a GPU",
        ),
        Alias(
            "max", "PE-Core-bigG-14-448", "meta", "timm/PE-Core-bigG-14-448", 1280, 9677, "Apache-2.0",
            "English", coco=58.1, note="wants a large GPU",
        ),
        _siglip2(
            "multilingual", "ViT-SO400M-16-SigLIP2-256", 1152, 4543, coco=55.4, flickr30k=84.4,
            note="wants a GPU",
        ),
        Alias(
            "multilingual-lite", "xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k",
            "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k", 512, 1464, "MIT", "multilingual",
            tokenizer_repo="xlm-roberta-base",
        ),
        _mobileclip2("S0", 299, coco=43.7, flickr30k=69.2, note="small and quick"),
        _mobileclip2("S2", 397, coco=48.8, flickr30k=74.8),
        _mobileclip2("B", 599, coco=49.9, flickr30k=76.5),
        _mobileclip2("S4", 1782, dim=768, coco=51.5, flickr30k=78.0),
        Alias(
            "dfn-h", "ViT-H-14-quickgelu", "dfn5b", "apple/DFN5B-CLIP-ViT-H-14", 1024, 3944,
            "Apple (research only)", "English", commercial=False, coco=53.9, flickr30k=80.1,
        ),
        Alias(
            "metaclip2-h", "ViT-H-14-worldwide-quickgelu", "metaclip2_worldwide",
            "timm/vit_huge_patch14_clip_224.metaclip2_worldwide", 1024, 7435, "CC BY-NC 4.0", "multilingual",
            tokenizer_repo="facebook/xlm-v-base", commercial=False,
        ),
    )
}  # fmt: skip
"""COCO and Flickr30k: open_clip's own tables for the models it evaluated (lite, dfn-h), else the authors'."""


# ---------------------------------------------------------------------------------------- what to load


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model, fully said: recorded in an index, so that a later query loads the same one."""

    name: str
    """As the user calls it."""
    arch: str
    """An open_clip architecture, `hf-hub:org/repo`, `local-dir:/abs/path`, or `builtin`."""
    weights: str | None = None
    """A tag of that architecture, or the absolute path of a checkpoint; `None` where `arch` says it all."""
    preprocess_from: str | None = None
    """For a checkpoint: the tag (or ARCH/TAG) whose preprocessing it was trained with."""

    @property
    def checkpoint(self) -> str | None:
        """The local checkpoint file, if that is what `weights` is."""
        return self.weights if self.weights and os.path.isabs(self.weights) else None

    @property
    def alias(self) -> Alias | None:
        """The row of the table with this architecture and these weights."""
        return next((a for a in ALIASES.values() if (a.arch, a.weights) == (self.arch, self.weights)), None)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Keys that a newer version added are passed over; anything but a spec is a `ModelError`."""
        try:
            stored = json.loads(text)
            known = {key: stored.get(key) for key in ("name", "arch", "weights", "preprocess_from")}
        except (ValueError, AttributeError) as error:
            raise ModelError("the model that the index names cannot be read", hint=_UNREADABLE) from error
        required = isinstance(known["name"], str) and isinstance(known["arch"], str)
        if not required or not all(value is None or isinstance(value, str) for value in known.values()):
            raise ModelError("the model that the index names cannot be read", hint=_UNREADABLE)
        return cls(**known)


def parse(model: str, weights: str | None = None, preprocess_from: str | None = None) -> ModelSpec:
    """What `--model`, `--weights` and `--preprocess-from` mean. `auto` is for `resolve_auto`.

    Whether an architecture and a tag exist is known to open_clip only: the loader says so.
    """
    if not model.strip():
        raise UsageError("no model was named", hint="imgsearch models lists them")
    if preprocess_from and not weights:
        raise UsageError(
            "--preprocess-from goes with --weights FILE", hint="name the file, or leave out --preprocess-from"
        )
    if model == "auto":
        raise UsageError("--weights needs the architecture they belong to", hint="--model ARCH --weights FILE")
    if _says_it_all(model):
        if weights:
            raise UsageError(
                f"--weights does not go with --model {model}, which has its own", hint="leave out --weights"
            )
        return _from_schema(model)
    alias = ALIASES.get(model)
    if alias and not weights:
        return alias.spec
    arch, tag = (alias.arch, alias.weights) if alias else _split(model)
    if weights is None:
        return ModelSpec(model, arch, tag)
    if tag and not alias:
        hint = f"--model {arch} --weights {weights}"
        raise UsageError(f"--model {model} has weights of its own", hint=hint)
    if os.path.isdir(os.path.expanduser(weights)):
        raise ModelError(f"{weights} is a folder, not a weights file", hint="a model's folder is given as --model DIR")
    if not _looks_like_file(weights):
        if preprocess_from:
            raise UsageError(f"--preprocess-from is for a checkpoint file, and {weights} is a tag", hint="leave it out")
        return ModelSpec(f"{arch}/{weights}", arch, weights)
    checkpoint = os.path.abspath(os.path.expanduser(weights))
    if not os.path.isfile(checkpoint):
        raise ModelError(f"no weights file at {weights}", hint="check the name given to --weights")
    return ModelSpec(f"{arch}/{os.path.basename(checkpoint)}", arch, checkpoint, preprocess_from or tag)


def _says_it_all(model: str) -> bool:
    return model == BUILTIN or model.startswith((HUB_PREFIX, DIR_PREFIX)) or (
        model not in ALIASES and (model.startswith(("/", "./", "../", "~")) or _is_model_dir(model))
    )  # fmt: skip


def _from_schema(model: str) -> ModelSpec:
    if model == BUILTIN:
        return ALIASES[BUILTIN].spec
    if model.startswith(HUB_PREFIX):
        repo = model[len(HUB_PREFIX) :]
        if repo.count("/") != 1 or not all(repo.split("/")) or ".." in repo:
            raise UsageError(f"{model} names no repository", hint="a hub model is written hf-hub:ORG/REPO")
        return ModelSpec(model, model)
    named = model.removeprefix(DIR_PREFIX)
    folder = os.path.abspath(os.path.expanduser(named)) if named else ""
    if not folder or not os.path.isdir(folder):
        raise ModelError(f"no model folder at {named or model}", hint="check the name given to --model")
    if not _is_model_dir(folder):
        raise ModelError(
            f"{named} is no model folder: it has no {CONFIG_FILE}",
            hint="for a checkpoint file: --model ARCH --weights FILE",
        )
    return ModelSpec(model, DIR_PREFIX + folder)


def _is_model_dir(path: str) -> bool:
    return os.path.isfile(os.path.join(os.path.expanduser(path), CONFIG_FILE))


def _split(model: str) -> tuple[str, str | None]:
    """`ARCH/TAG` or `ARCH:TAG`; open_clip writes the `/` of old names like ViT-B/32 as `-`."""
    arch, separator, tag = model.rpartition(":" if ":" in model else "/")
    if not separator:
        return model, None
    if not arch or not tag:
        raise UsageError(f"{model} names no model", hint="write it ARCH/TAG; imgsearch models lists some")
    return arch.replace("/", "-"), tag


def _looks_like_file(weights: str) -> bool:
    return (
        os.sep in weights
        or weights.startswith("~")
        or weights.lower().endswith(CHECKPOINT_EXTENSIONS)
        or os.path.isfile(weights)
    )


def closest(word: str, known: list[str]) -> list[str]:
    """The known names most like a mistyped one, best first."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[hit] for hit in difflib.get_close_matches(word.lower(), list(by_lower), n=3, cutoff=0.6)]


def resolve_auto(say: Say | None = None, *, offline: bool = False, progress: Progress | None = None) -> ModelSpec:
    """The recommended model if it is here or can be fetched; else the built-in one, said in one line."""
    recommended = ALIASES[RECOMMENDED]
    spec = recommended.spec
    if cached(spec):
        return spec
    try:
        ensure_weights(spec, say, progress=progress, offline=offline)
    except ModelError as error:
        if say:
            say(
                f"{error}; using the built-in model, which is small and weak: for better results "
                f"index with --model {RECOMMENDED} when online ({recommended.download_mb} MB)"
            )
        return ALIASES[BUILTIN].spec
    return spec


# ------------------------------------------------------------------------------ what lies in the cache


@dataclass(frozen=True, slots=True)
class HubFiles:
    """What a model needs from the hub."""

    repo: str
    weights: tuple[str, ...] = HUB_WEIGHTS
    """The first of these that the repository has."""
    with_config: bool = False
    """For `hf-hub:` models: open_clip_config.json too, and the tokenizer it names."""
    tokenizer_repos: tuple[str, ...] = ()


def hub_files(spec: ModelSpec) -> HubFiles | None:
    """What can be known without open_clip: for the table's models and `hf-hub:` names; else `None`."""
    if spec.arch.startswith(HUB_PREFIX):
        return HubFiles(spec.arch[len(HUB_PREFIX) :], with_config=True)
    alias = spec.alias
    if alias is None or alias.repo is None:
        return None
    tokenizers = (alias.tokenizer_repo,) if alias.tokenizer_repo else ()
    return HubFiles(alias.repo, alias.files, tokenizer_repos=tokenizers)


def cached(spec: ModelSpec, files: HubFiles | None = None) -> bool:
    """Whether everything the model needs is on this machine, by looking at the disk alone.

    A tag outside the table is only known with `files`, which the loader has from open_clip.
    """
    if spec.arch == BUILTIN:
        return True
    if spec.checkpoint:
        return os.path.isfile(spec.checkpoint)
    if spec.arch.startswith(DIR_PREFIX):
        return _is_model_dir(spec.arch[len(DIR_PREFIX) :])
    files = files or hub_files(spec)
    return files is not None and cached_weights(files) is not None and not _missing_tokenizers(files)


def cached_weights(files: HubFiles) -> str | None:
    """The path of the weights in the hub's cache."""
    if files.with_config and in_hub_cache(files.repo, (CONFIG_FILE,)) is None:
        return None
    return in_hub_cache(files.repo, files.weights)


def in_hub_cache(repo: str, names: tuple[str, ...]) -> str | None:
    """The first of these files that a snapshot of the repository has; the one `main` names goes first."""
    folder = os.path.join(hub_cache(), "models--" + repo.replace("/", "--"))
    for snapshot in _snapshots(folder):
        for name in names:
            path = os.path.join(folder, "snapshots", snapshot, name)
            if os.path.isfile(path):
                return path
    return None


def hub_cache() -> str:
    """The folder that huggingface_hub keeps repositories in."""
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
        repos += tokenizer_repos_of(_json_file(path).get("model_cfg", {})) if path else []
    return [repo for repo in dict.fromkeys(repos) if in_hub_cache(repo, TOKENIZER_FILES) is None]


def tokenizer_repos_of(model_config: dict[str, Any]) -> list[str]:
    """The repositories an open_clip model configuration takes its tokenizer and text tower's shape from."""
    text = model_config.get("text_cfg") or {}
    named = (text.get("hf_tokenizer_name"), text.get("hf_model_name"))
    return list(dict.fromkeys(name for name in named if name))


def _json_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


# -------------------------------------------------------------------------------------------- fetching


def offline_variable() -> str | None:
    """The variable by which the user switched the hub off: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE."""
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
    """Put what the model needs from the hub into its cache, or raise a `ModelError` within seconds.

    `files` is for tags outside the table (see `hub_files`). A model that needs nothing fetched is left alone.
    """
    files = files or hub_files(spec)
    if files is None or cached(spec, files):
        return
    switch = "--offline" if offline else offline_variable()
    if switch:
        raise ModelError(
            f"{spec.name} is not here and the network is switched off by {switch}",
            hint=f"without {switch} it is fetched; {_way_out(spec)}",
        )
    watch = _Growth(files, progress)
    messages = _child_messages(files)
    try:
        for message in _timely(messages, watch, answer_seconds, stall_seconds):
            if "error" in message:
                raise _cannot_fetch(spec, message["error"])
            watch.expect(message)
            if say and message.get("stage") == "download":
                say(_announcement(spec))
    except TimeoutError as error:
        raise _cannot_fetch(spec, str(error)) from error
    finally:
        messages.close()
    if not cached(spec, files):
        raise _cannot_fetch(spec, "some of its files did not come")


def _cannot_fetch(spec: ModelSpec, reason: str) -> ModelError:
    hint = f"{_way_out(spec)}; --offline skips the attempt"
    return ModelError(f"cannot fetch {spec.name} from {_hub_host()}: {reason}", hint=hint)


def _announcement(spec: ModelSpec) -> str:
    alias = spec.alias
    if alias is None:
        return f"fetching {spec.name} from {_hub_host()}"
    terms = "" if alias.commercial else f"; its licence: {alias.licence}, no commercial use"
    return f"fetching {spec.name} (about {alias.download_mb} MB) from {_hub_host()}{terms}"


def _way_out(spec: ModelSpec) -> str:
    copied = ""
    if spec.weights:
        by_hand = f"--model {spec.arch} --weights FILE --preprocess-from {spec.weights}"
        copied = f"; with the weights copied here by hand: {by_hand}"
    return f"--model {BUILTIN} needs no network{copied}"


def _hub_host() -> str:
    from urllib.parse import urlsplit

    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    return address.netloc.rpartition("@")[2] or "the model hub"


class _Growth:
    """How much of a download has come, seen from outside: by the size of the files in the hub's cache."""

    def __init__(self, files: HubFiles, progress: Progress | None) -> None:
        self.folders = [
            os.path.join(hub_cache(), "models--" + repo.replace("/", "--"), "blobs")
            for repo in (files.repo, *files.tokenizer_repos)
        ]
        self.progress = progress
        self.total: int | None = None
        self.before = self._bytes()
        self.fetched = 0

    def expect(self, message: dict[str, Any]) -> None:
        if isinstance(message.get("bytes"), int):
            self.total = message["bytes"]

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
                    with contextlib.suppress(OSError):  # renamed meanwhile
                        total += entry.stat().st_size
        return total


def _timely(
    messages: _Messages, watch: _Growth, answer_seconds: float, stall_seconds: float
) -> Iterator[dict[str, Any]]:
    """The child's messages up to `done`; `TimeoutError` when it takes too long for the stage it is in.

    The stages: importing huggingface_hub, asking the hub, downloading. Only a deadline over all of the asking
    stops a server that sends one byte a second; no timeout on a single read would.
    """
    seconds, reason = START_SECONDS, "huggingface_hub does not start"
    last_sign = time.monotonic()
    while True:
        message = messages.next(0.2)
        now = time.monotonic()
        if message is not None:
            last_sign = now
            if message.get("stage") == "ask":
                seconds, reason = answer_seconds, f"no answer within {answer_seconds:.0f} seconds"
            elif message.get("stage") == "download":
                seconds, reason = stall_seconds, f"the download stopped for {stall_seconds:.0f} seconds"
            yield message
            if message.get("stage") == "done":
                watch.has_grown()
                return
        elif watch.has_grown():
            last_sign = now
        elif now - last_sign > seconds:
            raise TimeoutError(reason)


class _Messages:
    """A child process that speaks one JSON object a line, read without ever blocking for long."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        nowhere = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=nowhere, stdout=subprocess.PIPE, stderr=nowhere, env=environment)
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or `None` if none came in that time. An end without a `done` is an error."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            return None
        try:
            message = json.loads(line) if line else {"error": "the download ended without a word"}
        except ValueError:  # a stray print of some library
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
    # The plain HTTP path: its progress shows in the cache folder, and it ends when it is told to.
    environment.setdefault("HF_HUB_DISABLE_XET", "1")
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # -P: never import a module that happens to lie in the working directory.
    return _Messages([sys.executable, "-P", "-m", __spec__.name, json.dumps(asdict(files))], environment)


def _fetch(request: dict[str, Any]) -> None:
    """The child: ask, download, say how it went."""
    import huggingface_hub as hub
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    repo = request["repo"]

    def size_of(name: str) -> int | None:
        found = hub.get_hf_file_metadata(hub.hf_hub_url(repo, name), timeout=ANSWER_SECONDS)
        if not found.commit_hash or not found.etag:
            raise RuntimeError(_NOT_A_HUB)
        return found.size

    _tell(stage="ask")
    name, size = _first_there(request["weights"], size_of)
    _tell(stage="download", bytes=size)
    tokenizers = list(request["tokenizer_repos"])
    if request["with_config"]:
        config = _json_file(hub.hf_hub_download(repo, CONFIG_FILE))
        tokenizers += tokenizer_repos_of(config.get("model_cfg", {}))
    wanted = [*TOKENIZER_FILES, *TOKENIZER_SIDE_FILES]
    for tokenizer in dict.fromkeys(tokenizers):
        hub.snapshot_download(tokenizer, allow_patterns=wanted, max_workers=1)
    hub.hf_hub_download(repo, name)
    _tell(stage="done")


def _first_there(names: list[str], size_of: Callable[[str], int | None]) -> tuple[str, int | None]:
    for name in names[:-1]:
        try:
            return name, size_of(name)
        except Exception as error:  # only "no such file in that repository" means: try the next name
            if type(error).__name__ not in _NO_SUCH_FILE:
                raise
    return names[-1], size_of(names[-1])


def _tell(**message: Any) -> None:
    """A line to the parent process, which reads what this child writes."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _plain_words(error: BaseException) -> str:
    """Why the hub could not be used, for somebody who does not know its library."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind = type(error).__name__
    if status in (401, 403) or kind in ("GatedRepoError", "RepositoryNotFoundError"):
        return f"it says no ({status or kind}): a proxy, a wrong name, or it wants a login (HF_TOKEN)"
    if kind in _NO_SUCH_FILE:
        return "it has no such weights (404)"
    if status is not None:
        return f"it answers with an error ({status})"
    chain = list(_causes(error))
    said = " ".join(f"{type(cause).__name__} {cause}" for cause in chain).lower()
    for signs, words in _NETWORK_TROUBLE:
        if any(sign in said for sign in signs):
            return words
    first_line = (str(chain[-1]).strip() or kind).splitlines()[0]
    return f"{type(chain[-1]).__name__}: {first_line[:200]}"


_NO_SUCH_FILE = ("EntryNotFoundError", "RemoteEntryNotFoundError")
"""By name: where these classes live has changed between the versions of huggingface_hub."""
_NOT_A_HUB = "x-repo-commit is missing"
_NETWORK_TROUBLE = (
    (("no space left",), "the disk is full"),
    (("permission denied", "read-only file system"), "its cache folder cannot be written"),
    (("certificate", "ssl", "tls"), "no secure connection (certificate or TLS trouble)"),
    (("name or service not known", "name resolution", "nodename nor servname", "getaddrinfo", "no address"),
     "its name cannot be resolved"),
    (("connection refused",), "the connection was refused"),
    (("proxyerror", "proxy"), "the proxy does not let it through"),
    (("unreachable", "no route to host"), "the network cannot be reached"),
    (("timeout", "timed out"), "it does not answer"),
    (("disconnected", "connection reset", "remoteprotocolerror", "incompleteread", "peer closed"),
     "it closed the connection"),
    ((_NOT_A_HUB, "filemetadataerror"), "something else answers in its place (a login page?)"),
)  # fmt: skip


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


# -------------------------------------------------------------------------------------------- identity


def weights_digest(path: str) -> str:
    """The sha256 of a weights file, as hex. Remembered by name, size, time and inode: a query never hashes.

    The name of a blob in the hub's cache is what a server claimed; it is not taken for the file's hash.
    """
    try:
        known = _remembered(path)
        if known is not None:
            return known
        key = _digest_key(path)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror or error}", hint="check the file and its permissions"
        ) from error
    _remember(_digest_memory(), key, digest)
    return digest


def weights_unchanged(spec: ModelSpec, digest: str | None) -> bool:
    """Whether nobody has touched local weights since their sha256 was `digest`. What else a model may be made from does
    not change under its name; and a file that is gone is nobody's other model."""
    try:
        if spec.arch.startswith(DIR_PREFIX):
            with os.scandir(spec.arch.removeprefix(DIR_PREFIX)) as entries:
                return any(_remembered(entry.path) == digest for entry in entries if entry.is_file())
        return spec.checkpoint is None or _remembered(spec.checkpoint) == digest
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # the latter for a name that no file can have
        return False


def _digest_key(path: str) -> str:
    real = os.path.realpath(path)
    status = os.stat(real)
    return f"{real}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"


def _remembered(path: str) -> str | None:
    known = _json_file(_digest_memory()).get(_digest_key(path))
    return known if isinstance(known, str) and len(known) == 64 else None


def _digest_memory() -> str:
    return os.path.join(cache_folder(), "weights-sha256.json")


def _remember(memory: str, key: str, digest: str) -> None:
    """Best effort: a cache that cannot be written costs time, nothing else."""
    with contextlib.suppress(OSError, UnicodeEncodeError):
        folder = os.path.dirname(memory)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        name = key.split("|", 1)[0] + "|"
        entries = {k: v for k, v in _json_file(memory).items() if not k.startswith(name)}
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".weights-")  # 0600 by its promise
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(entries | {key: digest}, file, indent=1, sort_keys=True)
            os.replace(temporary, memory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


if __name__ == "__main__":
    try:
        _fetch(json.loads(sys.argv[1]))
    except Exception as error:
        _tell(error=_plain_words(error))
