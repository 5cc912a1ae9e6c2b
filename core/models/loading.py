"""Loads models with open_clip, exactly as open_clip itself loads the same name. The only file that names open_clip.

No weights that run code when they are unpickled are ever loaded, and no library prints anything.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.types import COMPOSER, Recipe, SpaceIdentity

from . import hf_clip, hub, registry
from .embedding import OpenClipEmbedder, Precision, choose_device, is_out_of_memory, one_line, silenced
from .hub import Progress, Say
from .registry import ModelSpec

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import open_clip
    import safetensors
    import torch
    from open_clip import factory

_OTHER_MODEL = "name another model: `imgsearch models` lists some"

BUILTIN_DIR = Path(__file__).parent / "builtin_model"


def load(
    spec: ModelSpec,
    *,
    device: str = "auto",
    precision: str = "auto",
    say: Say | None = None,
    progress: Progress | None = None,
    offline: bool = False,
) -> OpenClipEmbedder:
    """Load a model, after downloading its missing files. Raises ModelError and UsageError.

    `device` is auto, cuda, cuda:N, mps or cpu. `precision` is auto, fp16, bf16 or fp32, for the image tower; texts are
    few and stay in fp32. `say` prints a line for the user.
    """
    say = say or (lambda line: None)
    if precision not in ("auto", "fp16", "bf16", "fp32"):
        raise UsageError(f"no such precision: {precision}", hint="one of auto, fp16, bf16, fp32")
    place = choose_device(device, say)
    source = _find(spec, say, progress, offline)
    if not source.is_hf:  # whose weights are checked while they are read
        _check_weights(source.checkpoint)
    model = _build(source)
    tokenizer = _tokenizer(source)
    return OpenClipEmbedder(
        model,
        tokenizer,
        identity=_identity(source, model, tokenizer),
        recipe=_recipe(model),
        device=place,
        device_is_given=device != "auto",
        precision=cast("Precision | Literal['auto']", precision),
        say=say,
        reload=lambda: _build(source),
        model_spec=spec.to_json(),
    )


# --------------------------------------------------------------------------------- finding the weights


@dataclass(frozen=True, slots=True)
class _Source:
    """The arguments for open_clip."""

    spec: ModelSpec
    name: str
    """An architecture, or a `local-dir:` or `hf-hub:` name."""
    checkpoint: str
    config: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False
    is_hf: bool = False
    """Whether it is a CLIPModel of transformers."""
    composer: str | None = None
    """The composition method that it was trained for."""


def _find(spec: ModelSpec, say: Say, progress: Progress | None, offline: bool) -> _Source:
    if spec.arch == registry.BUILTIN:
        return _in_folder(spec, BUILTIN_DIR)
    if spec.arch.startswith(registry.DIR_PREFIX):
        folder = spec.arch.removeprefix(registry.DIR_PREFIX)
        return _hf_clip(spec, folder) if registry.is_hf_clip_dir(folder) else _in_folder(spec, Path(folder))
    if spec.arch.startswith(registry.HUB_PREFIX):
        return _on_hub(spec, say, progress, offline)
    config = open_clip.get_model_config(spec.arch)
    if config is None:
        near = registry.closest(spec.arch, [*open_clip.list_models(), *registry.ALIASES])
        hint = f"did you mean {' or '.join(near)}?" if near else "imgsearch models lists some"
        raise ModelError(f"there is no model {spec.name}", hint=hint)
    _need_transformers(spec, config)
    if spec.checkpoint:
        return _Source(spec, spec.arch, spec.checkpoint, config, _checkpoint_preprocess(spec, config, say))
    tag = _tag(spec)
    repo, file = os.path.split(tag["hf_hub"])
    safe = os.path.splitext(file)[0] + ".safetensors"
    files = hub.HubFiles(
        repo,
        tuple(dict.fromkeys((safe, file))) if file else registry.HUB_WEIGHTS,
        tokenizer_repos=tuple(hub.tokenizer_repos_of(config)),
    )
    hub.ensure_weights(spec, say, files=files, progress=progress, offline=offline)
    checkpoint = hub.cached_weights(files)
    assert checkpoint, "ensure_weights returned without weights"
    return _Source(spec, spec.arch, checkpoint, config, _preprocess_of(tag), _needs_quick_gelu(tag, config))


def _in_folder(spec: ModelSpec, folder: Path) -> _Source:
    name = registry.DIR_PREFIX + str(folder)
    try:
        config = open_clip.get_model_config(name)
        with silenced():
            checkpoint = factory._find_checkpoint_in_dir(folder)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot read the model in {folder}: {one_line(error)}", hint=_OTHER_MODEL) from error
    if not isinstance(config, dict) or "vision_cfg" not in config:
        raise ModelError(f"cannot read the model in {folder}: {registry.CONFIG_FILE} describes none", hint=_OTHER_MODEL)
    if checkpoint is None:  # open_clip would go on with random weights
        raise ModelError(f"the model in {folder} has no weights", hint=f"expected: {registry.HUB_WEIGHTS[0]}")
    _need_transformers(spec, config)
    return _Source(spec, name, checkpoint, config)


def _on_hub(spec: ModelSpec, say: Say, progress: Progress | None, offline: bool) -> _Source:
    hub.ensure_weights(spec, say, progress=progress, offline=offline)
    files = hub.hub_files(spec)
    checkpoint = hub.cached_weights(files) if files else None
    if checkpoint and os.path.basename(checkpoint) == registry.HF_WEIGHTS:
        return _hf_clip(spec, os.path.dirname(checkpoint))
    with silenced():
        config = open_clip.get_model_config(spec.arch)
    if not checkpoint or not isinstance(config, dict) or "vision_cfg" not in config:
        raise ModelError(f"{spec.name} is not an open_clip model", hint=_OTHER_MODEL)
    _need_transformers(spec, config)
    return _Source(spec, spec.arch, checkpoint, config)


def _hf_clip(spec: ModelSpec, folder: str) -> _Source:
    checkpoint = os.path.join(folder, registry.HF_WEIGHTS)
    if not os.path.isfile(checkpoint):
        raise ModelError(
            f"the model in {folder} has no {registry.HF_WEIGHTS}", hint="save it again with save_pretrained"
        )
    config = hf_clip.config_of(folder)
    preprocess = hf_clip.preprocessing(folder, config["vision_cfg"]["image_size"])
    composer = spec.alias.composer if spec.alias else hf_clip.composer_of(folder)
    return _Source(spec, spec.arch, checkpoint, config, preprocess, is_hf=True, composer=composer)


def _need_transformers(spec: ModelSpec, config: dict[str, Any]) -> None:
    """Raises ModelError before anything is downloaded."""
    if hub.tokenizer_repos_of(config) and importlib.util.find_spec("transformers") is None:
        raise ModelError(
            f"{spec.name} needs the transformers library for text",
            hint="install it: pip install 'imgsearch-cli[siglip]'",
        )


def _tag(spec: ModelSpec) -> dict[str, Any]:
    tags = open_clip.list_pretrained_tags_by_model(spec.arch)
    listed = ", ".join(tags) or "none; use --weights FILE"
    if spec.weights is None:
        raise ModelError(
            f"{spec.arch} is an architecture and needs weights",
            hint=f"use --model {spec.arch}/TAG with one of: {listed}",
        )
    tag: dict[str, Any] = open_clip.get_pretrained_cfg(spec.arch, spec.weights)
    if not tag.get("hf_hub"):
        near = registry.closest(spec.weights, tags)
        known = f"did you mean {' or '.join(near)}?" if near else f"its weights: {listed}"
        raise ModelError(f"{spec.arch} has no weights named {spec.weights}", hint=known)
    return tag


def _needs_quick_gelu(tag: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether weights trained with QuickGELU were named with the plain architecture (ViT-B-32/openai).

    open_clip only warns and uses the wrong activation.
    """
    return bool(tag.get("quick_gelu")) and not config.get("quick_gelu")


def _preprocess_of(tag: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}


def _checkpoint_preprocess(spec: ModelSpec, config: dict[str, Any], say: Say) -> dict[str, Any]:
    """The preprocessing of a local checkpoint, for which open_clip would use its defaults.

    If all tags of the architecture have the same, it is that one; otherwise the user has to choose.
    """
    names = open_clip.list_pretrained_tags_by_model(spec.arch)
    tags = {tag: open_clip.get_pretrained_cfg(spec.arch, tag) for tag in names}
    if spec.preprocess_from:
        arch, _, tag = spec.preprocess_from.rpartition("/")
        chosen = open_clip.get_pretrained_cfg(arch or spec.arch, tag)
        if not chosen:
            listed = ", ".join(tags) or "none; use ARCH/TAG for another architecture"
            raise ModelError(
                f"--preprocess-from {spec.preprocess_from}: no such tag", hint=f"{spec.arch} has: {listed}"
            )
        if _needs_quick_gelu(chosen, config):
            say(f"weights like {tag} use QuickGELU; if yours do too, use --model {spec.arch}-quickgelu")
        return _preprocess_of(chosen)
    ways: dict[str, list[str]] = {}
    for tag, entry in tags.items():
        ways.setdefault(json.dumps(_preprocess_of(entry), sort_keys=True), []).append(tag)
    if len(ways) > 1:
        listed = "; or ".join(f"{' '.join(names)} ({_in_words(json.loads(way))})" for way, names in ways.items())
        raise ModelError(
            f"{spec.arch} models have {len(ways)} kinds of preprocessing; which one is right for {spec.weights}?",
            hint=f"use --preprocess-from with one of: {listed}",
        )
    return json.loads(next(iter(ways))) if ways else {}


def _in_words(way: dict[str, Any]) -> str:
    mean = "/".join(f"{value:.2f}" for value in way["mean"])
    return f"mean {mean}, {way['interpolation']}, {way['resize_mode']}"


# --------------------------------------------------------------------------------------------- loading


@silenced()
def _check_weights(path: str) -> None:
    """Refuse weights that are not just tensors, before open_clip opens them.

    open_clip loads .npz files through numpy, and repeats a load that raised TypeError without `weights_only`. Weights
    accepted here cause neither.
    """
    if not os.path.isfile(path):
        raise ModelError(f"no weights file at {path}", hint="put it back, or name another with --weights")
    suffix = Path(path).suffix.lower()
    if suffix in (".npz", ".npy"):
        raise ModelError(f"{path} is a numpy file, which is not supported", hint="convert it to safetensors")
    try:
        if path.endswith(".safetensors"):
            with safetensors.safe_open(path, "pt") as file:
                names: Sequence[Any] = list(file.keys())
                are_tensors = True
        else:
            names, are_tensors = _pickled_names(path)
    except ModelError:
        raise
    except Exception as error:  # a damaged or hostile file raises anything
        raise ModelError(
            f"{path} cannot be loaded: it is damaged, or contains more than tensors",
            hint="save it with safetensors, or with torch.save(model.state_dict(), FILE)",
        ) from error
    if not names or not are_tensors or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path} contains no model weights", hint="name the right file with --weights")


def _pickled_names(path: str) -> tuple[Sequence[Any], bool]:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") or "/code/" in name for name in archive.namelist()):
                raise ModelError(
                    f"{path} is a TorchScript archive, which contains code and is not loaded",
                    hint="save its state_dict() with safetensors",
                )
    # Mapped: of a zip only the pickle with the names is read, not the tensors.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, Mapping):
        return [], False
    return list(state), all(isinstance(value, torch.Tensor) for value in state.values())


@silenced()
def _build(source: _Source) -> Any:
    try:
        if source.is_hf:
            model = open_clip.CLIP(**source.config)
            model.load_state_dict(hf_clip.weights(source.checkpoint, source.config))
            open_clip.model.set_model_preprocess_cfg(model, source.preprocess)
            return model
        return open_clip.create_model(
            source.name,
            None if ":" in source.name else source.checkpoint,
            force_preprocess_cfg=source.preprocess or None,
            force_quick_gelu=source.quick_gelu,
            require_pretrained=True,
        )
    except ModelError:
        raise
    except Exception as error:  # open_clip, timm and torch raise all kinds of errors on a wrong configuration
        if is_out_of_memory(error):
            raise ModelError(
                f"{source.spec.name} does not fit in memory", hint="close other programs, or use a smaller model"
            ) from error
        raise ModelError(
            f"{source.checkpoint} does not fit {source.spec.arch}: {one_line(error)}",
            hint="name the architecture of these weights with --model",
        ) from error


@silenced()
def _tokenizer(source: _Source) -> Any:
    if source.is_hf:
        tokenizer = open_clip.SimpleTokenizer(context_length=source.config["text_cfg"]["context_length"])
        hf_clip.check_vocabulary(os.path.dirname(source.checkpoint), tokenizer.encoder)
        return tokenizer
    kwargs: dict[str, Any] = {"local_files_only": True} if hub.tokenizer_repos_of(source.config) else {}
    try:
        return open_clip.get_tokenizer(source.name, **kwargs)
    except Exception as error:  # transformers raises all kinds of errors for a missing tokenizer
        raise ModelError(
            f"the tokenizer of {source.spec.name} cannot be loaded: {one_line(error)}",
            hint="remove it from the model cache, so that it is downloaded again, or use another model",
        ) from error


def _recipe(model: Any) -> Recipe:
    """The preprocessing that open_clip stored in the model and makes its own transform from."""
    wanted = model.visual.preprocess_cfg
    size = wanted["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if wanted["interpolation"] not in ("bicubic", "bilinear") or wanted["resize_mode"] not in (
        "shortest",
        "longest",
        "squash",
    ):
        raise ModelError(
            f"unknown preprocessing: {wanted['interpolation']}, {wanted['resize_mode']}", hint=_OTHER_MODEL
        )
    mean, std = ([float(value) for value in wanted[key]] for key in ("mean", "std"))
    return Recipe(
        size=(int(height), int(width)),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        interpolation=wanted["interpolation"],
        resize_mode=wanted["resize_mode"],
        fill_color=int(wanted.get("fill_color", 0)),
    )


def _identity(source: _Source, model: Any, tokenizer: Any) -> SpaceIdentity:
    config = dict(source.config)
    if source.quick_gelu:
        config["quick_gelu"] = True
    dim = int(config["embed_dim"])
    recipe = _recipe(model)
    digest = registry.weights_digest(source.checkpoint)
    digest_of_config = registry.config_digest(source.spec)
    content = {
        "weights": digest,
        "model": _without_pretrained_keys(config),
        "preprocess": [recipe.size, recipe.mean, recipe.std, recipe.interpolation, recipe.resize_mode]
        + ([recipe.fill_color] if recipe.resize_mode == "longest" else []),
        "tokenizer": _tokenizer_identity(tokenizer),
        "dim": dim,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return SpaceIdentity(
        fingerprint=hashlib.sha256(canonical.encode()).hexdigest(),
        name=source.spec.name,
        arch=source.spec.arch,
        weights=source.spec.weights,
        dim=dim,
        details={
            "weights_sha256": digest,
            "open_clip": str(open_clip.__version__),
            "torch": str(torch.__version__),
            "tokenizer": type(tokenizer).__name__,
            **({"config_sha256": digest_of_config} if digest_of_config else {}),
            **_logit_parameters(model),
            **({COMPOSER: source.composer} if source.composer else {}),
        },
    )


def _logit_parameters(model: Any) -> dict[str, str]:
    """For SigLIP models: the scale and bias that turn a cosine into a probability."""
    if model.logit_bias is None:
        return {}
    scale, bias = float(model.logit_scale.detach().exp()), float(model.logit_bias.detach())
    return {"logit_scale": repr(scale), "logit_bias": repr(bias)}


def _without_pretrained_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that name a tower's initial weights, which do not affect any vector."""
    return {
        key: {k: v for k, v in value.items() if k not in ("timm_model_pretrained", "hf_model_pretrained")}
        if isinstance(value, dict)
        else value
        for key, value in config.items()
    }


def _tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    """What determines the tokens of a text: kind, vocabulary, length. Cleaning is in the configuration."""
    inner = getattr(tokenizer, "tokenizer", None)
    vocabulary = inner.get_vocab() if inner is not None else getattr(tokenizer, "encoder", {})
    words = "\n".join(sorted(vocabulary, key=vocabulary.__getitem__))
    return {
        "kind": type(tokenizer).__name__,
        "vocabulary": hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest(),
        "context_length": getattr(tokenizer, "context_length", None),
    }
