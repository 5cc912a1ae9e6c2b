"""The known models, and what `--model` and `--weights` mean.

`parse` turns what a user typed into a `ModelSpec`. Also the digests of local weights files. Imports neither torch nor
open_clip.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.late import LateModule
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.places import cache_folder
from imgsearch.core.writing import replacing

if TYPE_CHECKING:
    import difflib
else:  # not needed by a query
    difflib = LateModule("difflib")

HUB_PREFIX = "hf-hub:"
DIR_PREFIX = "local-dir:"
CONFIG_FILE = "open_clip_config.json"
CHECKPOINT_EXTENSIONS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".npy")
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""The files open_clip looks for in a repository, in its order, if its own table names none."""
HF_CONFIG = "config.json"
HF_WEIGHTS = "model.safetensors"
HF_PREPROCESSING = "preprocessor_config.json"
HF_VOCABULARY = "vocab.json"
"""Those of a CLIPModel of transformers (`hf_clip`), which may lack the last two."""


# -------------------------------------------------------------------------------- the table of aliases


@dataclass(frozen=True, slots=True)
class Alias:
    """A short name for a recommended model. Recall is text -> image R@1 in percent."""

    name: str
    arch: str
    weights: str | None
    repo: str | None
    """The hub repository of its weights. None: nothing is downloaded."""
    dim: int
    download_mb: int
    """Approximate: two or four bytes per parameter, as these repositories store them."""
    licence: str
    languages: str
    files: tuple[str, ...] = HUB_WEIGHTS
    tokenizer_repo: str | None = None
    """The repository of its tokenizer. None: open_clip's own."""
    commercial: bool = True
    composer: str | None = None
    """The composition method that it was trained for."""
    coco: float | None = None
    flickr30k: float | None = None
    note: str = ""

    @property
    def needs_extra(self) -> str | None:
        """The extra of this package that its tokenizer needs: `siglip` installs transformers."""
        return "siglip" if self.tokenizer_repo else None

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(self.name, self.arch, self.weights)


_UNREADABLE = "name the model again: imgsearch index --model NAME"
RECOMMENDED = "lite"
BUILTIN = "builtin"


def _siglip2(name: str, arch: str, dim: int, download_mb: int, **more: Any) -> Alias:
    repo = f"timm/{arch}"
    return Alias(name, arch, "webli", repo, dim, download_mb, "Apache-2.0", "multilingual",
                 tokenizer_repo=repo, **more)  # fmt: skip


def _bge_vl(size: str, dim: int, download_mb: int, cirr: float) -> Alias:
    repo = f"BAAI/BGE-VL-{size}"
    note = f"trained for a picture with words: recall_at_1 {cirr} on CIRR, where the words alone have 21"
    return Alias(f"bge-vl-{size}", HUB_PREFIX + repo, None, repo, dim, download_mb, "MIT", "English",
                 files=(HF_WEIGHTS,), composer="raw-sum", note=note)  # fmt: skip


def _mobileclip2(size: str, download_mb: int, **more: Any) -> Alias:
    arch = f"MobileCLIP2-{size}"
    return Alias(arch.lower(), arch, "dfndr2b", f"timm/{arch}-OpenCLIP", more.pop("dim", 512), download_mb,
                 "Apple AMLR (research only)", "English", commercial=False, **more)  # fmt: skip


ALIASES: dict[str, Alias] = {
    alias.name: alias
    for alias in (
        Alias(
            BUILTIN, BUILTIN, None, None, 256, 0, "Apache-2.0", "English",
            note="ships with imgsearch; recall_at_1 25.6 on Flickr8k, where OpenAI ViT-B/32 has 51; "
            "some of its training pictures are offered for non-commercial research",
        ),
        Alias(
            "lite", "ViT-B-32-256", "datacomp_s34b_b86k", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
            512, 605, "MIT", "English", coco=39.9, flickr30k=64.9,
            note="the choice of `auto`, if available",
        ),
        _siglip2(
            "fast", "ViT-B-32-SigLIP2-256", 768, 1507, coco=47.2, flickr30k=75.5,
            note="the best quality per CPU second",
        ),
        _siglip2(
            "balanced", "ViT-B-16-SigLIP2-256", 768, 1501, coco=53.2, flickr30k=81.7,
            note="four times the work of `fast` per photo",
        ),
        Alias(
            "best", "PE-Core-L-14-336", "meta", "timm/PE-Core-L-14-336", 1024, 2685, "Apache-2.0", "English",
            coco=57.1, note="needs a GPU; reads the first 32 tokens of a text",
        ),
        _siglip2(
            "best-multilingual", "ViT-SO400M-16-SigLIP2-384", 1152, 4544, coco=56.0, note="needs a GPU",
        ),
        Alias(
            "max", "PE-Core-bigG-14-448", "meta", "timm/PE-Core-bigG-14-448", 1280, 9677, "Apache-2.0",
            "English", coco=58.1, note="needs a large GPU",
        ),
        _siglip2(
            "multilingual", "ViT-SO400M-16-SigLIP2-256", 1152, 4543, coco=55.4, flickr30k=84.4,
            note="needs a GPU",
        ),
        Alias(
            "multilingual-lite", "xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k",
            "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k", 512, 1464, "MIT", "multilingual",
            tokenizer_repo="xlm-roberta-base",
        ),
        _bge_vl("base", 512, 299, 36.1),
        _bge_vl("large", 768, 855, 38.0),
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
"""COCO and Flickr30k: from open_clip for the models it evaluated (lite, dfn-h), else from the authors."""


# ---------------------------------------------------------------------------------------- naming a model


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The complete name of a model, recorded in an index so that a later query loads the same one."""

    name: str
    """As the user typed it."""
    arch: str
    """An open_clip architecture, `hf-hub:org/repo`, `local-dir:/abs/path`, or `builtin`."""
    weights: str | None = None
    """A tag of that architecture, or the absolute path of a checkpoint. None if `arch` names both."""
    preprocess_from: str | None = None
    """For a checkpoint: the tag (or ARCH/TAG) whose preprocessing it was trained with."""

    @property
    def checkpoint(self) -> str | None:
        """The path of the local checkpoint file, if `weights` is one."""
        return self.weights if self.weights and os.path.isabs(self.weights) else None

    @property
    def is_local(self) -> bool:
        """Whether it is made from files that the user named."""
        return self.checkpoint is not None or self.arch.startswith(DIR_PREFIX)

    @property
    def alias(self) -> Alias | None:
        """The row of the table with this architecture and these weights."""
        return next((a for a in ALIASES.values() if (a.arch, a.weights) == (self.arch, self.weights)), None)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Ignores keys of newer versions. Raises ModelError if `text` is not a spec."""
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
    """What `--model`, `--weights` and `--preprocess-from` mean. `auto` is for `hub.resolve_auto`.

    Does not check that the architecture and tag exist; the loader does. Raises UsageError and ModelError.
    """
    if not model.strip():
        raise UsageError("--model is empty", hint="imgsearch models lists the models")
    if preprocess_from and not weights:
        raise UsageError("--preprocess-from needs --weights FILE", hint="name the file, or leave out --preprocess-from")
    if model == "auto":
        raise UsageError("--weights needs an architecture", hint="--model ARCH --weights FILE")
    if _has_own_weights(model):
        if weights:
            raise UsageError(
                f"--weights cannot be used with --model {model}, which has its own", hint="leave out --weights"
            )
        return _self_contained(model)
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


def _has_own_weights(model: str) -> bool:
    alias = ALIASES.get(model)
    if alias:
        return alias.arch == BUILTIN or alias.arch.startswith(HUB_PREFIX)
    return model.startswith((HUB_PREFIX, DIR_PREFIX, "/", "./", "../", "~")) or is_model_dir(model)


def _self_contained(model: str) -> ModelSpec:
    if model in ALIASES:
        return ALIASES[model].spec
    if model.startswith(HUB_PREFIX):
        repo = model[len(HUB_PREFIX) :]
        if repo.count("/") != 1 or not all(repo.split("/")) or ".." in repo:
            raise UsageError(f"{model} is not a repository", hint="write a hub model as hf-hub:ORG/REPO")
        return ModelSpec(model, model)
    named = model.removeprefix(DIR_PREFIX)
    folder = os.path.abspath(os.path.expanduser(named)) if named else ""
    if not folder or not os.path.isdir(folder):
        raise ModelError(f"no model folder at {named or model}", hint="check the name given to --model")
    if not is_model_dir(folder):
        raise ModelError(
            f"{named} is not a model folder: it has no {CONFIG_FILE}, and no {HF_CONFIG} of a CLIP model",
            hint="for a checkpoint file: --model ARCH --weights FILE",
        )
    return ModelSpec(model, DIR_PREFIX + folder)


def is_model_dir(path: str) -> bool:
    folder = os.path.expanduser(path)
    return os.path.isfile(os.path.join(folder, CONFIG_FILE)) or is_hf_clip_dir(folder)


def is_hf_clip_dir(folder: str) -> bool:
    """Whether it is a CLIPModel of transformers, and not one of open_clip."""
    is_other = os.path.isfile(os.path.join(folder, CONFIG_FILE))
    return not is_other and json_file(os.path.join(folder, HF_CONFIG)).get("model_type") == "clip"


def _split(model: str) -> tuple[str, str | None]:
    """`ARCH/TAG` or `ARCH:TAG`. open_clip writes `-` for the `/` of old names like ViT-B/32."""
    arch, separator, tag = model.rpartition(":" if ":" in model else "/")
    if not separator:
        return model, None
    if not arch or not tag:
        raise UsageError(f"{model} is not a model", hint="write it as ARCH/TAG; imgsearch models lists some")
    return arch.replace("/", "-"), tag


def _looks_like_file(weights: str) -> bool:
    return (
        os.sep in weights
        or weights.startswith("~")
        or weights.lower().endswith(CHECKPOINT_EXTENSIONS)
        or os.path.isfile(weights)
    )


def closest(word: str, known: list[str]) -> list[str]:
    """The known names closest to a mistyped one, best first."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[hit] for hit in difflib.get_close_matches(word.lower(), list(by_lower), n=3, cutoff=0.6)]


# -------------------------------------------------------------------------------------------- identity


def weights_digest(path: str) -> str:
    """The SHA-256 of a weights file, in hex. Cached by path, size, time and inode. Raises ModelError.

    The name of a blob in the hub's cache is a server's claim and is not used as the hash.
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
    _remember(_digest_cache(), key, digest)
    return digest


def weights_unchanged(spec: ModelSpec, digest: str | None) -> bool:
    """Whether local weights still have this SHA-256, as far as the cache knows; hashes nothing.

    True for other kinds of model, which never change under the same name, and for a file that was deleted.
    """
    try:
        if spec.arch.startswith(DIR_PREFIX):
            with os.scandir(spec.arch.removeprefix(DIR_PREFIX)) as entries:
                return any(_remembered(entry.path) == digest for entry in entries if entry.is_file())
        return spec.checkpoint is None or _remembered(spec.checkpoint) == digest
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


def weights_are(spec: ModelSpec, digest: str | None) -> bool:
    """As `weights_unchanged`, but hashes local weights that are not known yet."""
    if weights_unchanged(spec, digest):
        return True
    folder = spec.arch.removeprefix(DIR_PREFIX)
    names = (*HUB_WEIGHTS, HF_WEIGHTS)
    paths = [spec.checkpoint] if spec.checkpoint else [os.path.join(folder, name) for name in names]
    try:
        return any(weights_digest(path) == digest for path in paths if spec.is_local and os.path.isfile(path))
    except (ModelError, ValueError):
        return False


def config_digest(spec: ModelSpec) -> str | None:
    """The SHA-256 of the configuration in a model's folder. None if it has none. Raises ModelError."""
    folder = spec.arch.removeprefix(DIR_PREFIX)
    names = (HF_CONFIG, HF_PREPROCESSING) if is_hf_clip_dir(folder) else (CONFIG_FILE,)
    paths = [os.path.join(folder, name) for name in names] if spec.arch.startswith(DIR_PREFIX) else []
    return "+".join(weights_digest(path) for path in paths if os.path.isfile(path)) or None


def json_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_cache(path: str, content: dict[str, Any]) -> None:
    """Replace a JSON file in the cache folder, which is made if necessary. Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with replacing(path, is_durable=False) as file:
        file.write(json.dumps(content, indent=1, sort_keys=True).encode())


def _digest_key(path: str) -> str:
    real = os.path.realpath(path)
    status = os.stat(real)
    return f"{real}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"


def _remembered(path: str) -> str | None:
    known = json_file(_digest_cache()).get(_digest_key(path))
    return known if isinstance(known, str) and len(known) == 64 else None


def _digest_cache() -> str:
    return os.path.join(cache_folder(), "weights-sha256.json")


def _remember(cache: str, key: str, digest: str) -> None:
    """Best effort: without the cache, files are hashed again."""
    with contextlib.suppress(OSError, UnicodeEncodeError):
        name = key.split("|", 1)[0] + "|"
        entries = {k: v for k, v in json_file(cache).items() if not k.startswith(name)}
        write_cache(cache, entries | {key: digest})
