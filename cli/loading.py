"""Opens the index and the model of a command."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .output import render

if TYPE_CHECKING:
    from imgsearch.core.errors import ModelError
    from imgsearch.core.models.registry import ModelSpec
    from imgsearch.core.models.towers import QueryEmbedder
    from imgsearch.core.store.records import Space
    from imgsearch.core.store.store import Store
    from imgsearch.core.types import Embedder

Say = Callable[[str], None]


def open_store(index: str | None) -> Store:
    """The index, for reading. Raises IndexNotFound and other StoreErrors."""
    from imgsearch.core.places import locate
    from imgsearch.core.store.store import Store

    return Store.open(locate(index))


@contextmanager
def open_to_write(index: str | None, *, wait: bool) -> Iterator[Store]:
    """The index, for writing, which locks it; with `wait`, after the process that holds the lock."""
    from imgsearch.core.places import locate
    from imgsearch.core.store.store import Store

    with Store.writing(locate(index), wait=waiting() if wait else None) as store:
        for line in store.repairs:
            render.say(line)
        yield store


def waiting(say: Say = render.say) -> Say:
    """Prints which process this one waits for."""
    return lambda owner: say(f"waiting for {'another process' if owner == 'unknown' else f'process {owner}'}")


def embedder_of(
    space: Space, *, device: str, precision: str = "auto", offline: bool = False, say: Say = render.say
) -> Callable[[], Embedder]:
    """Loads the model of a space on the first call, and checks that its fingerprint is the same."""
    loaded: list[Embedder] = []

    def load() -> Embedder:
        if not loaded:
            from imgsearch.core.errors import ModelError
            from imgsearch.core.models.registry import ModelSpec
            from imgsearch.core.models.towers import is_of_earlier_builtin

            spec = ModelSpec.from_json(space.model)
            if is_of_earlier_builtin(space.identity.fingerprint):
                raise ModelError(
                    "the index was made with an earlier version of the built-in model",
                    hint="embed the photos again with: imgsearch index",
                )
            embedder = load_model(spec, device=device, precision=precision, offline=offline, say=say)
            if embedder.identity.fingerprint != space.identity.fingerprint:
                raise ModelError(
                    f"model {space.identity.name} has changed since the index was made (other weights or settings "
                    "under the same name)",
                    hint=f"embed the photos again with: imgsearch index --model {space.identity.name}",
                )
            loaded.append(embedder)
        return loaded[0]

    return load


def query_embedder(space: Space, *, device: str, offline: bool, history: bool) -> QueryEmbedder:
    """Embeds the queries of a space: by the ONNX towers of its model if they exist, else by the whole model."""
    from imgsearch.core.errors import ModelError
    from imgsearch.core.models.query_cache import QueryCache
    from imgsearch.core.models.registry import ModelSpec, weights_unchanged
    from imgsearch.core.models.towers import QueryEmbedder, Towers

    identity, whole = space.identity, embedder_of(space, device=device, offline=offline)
    try:
        is_same = weights_unchanged(ModelSpec.from_json(space.model), identity.details.get("weights_sha256"))
    except ModelError:
        is_same = False
    if not is_same:
        return QueryEmbedder(identity, whole)  # which raises if the model is needed
    towers = Towers.find(identity.fingerprint) if device in ("auto", "cpu") else None
    return QueryEmbedder(
        identity,
        whole,
        towers=towers if towers and (towers.is_for_earlier or towers.manifest.dim == identity.dim) else None,
        cache=QueryCache(identity.fingerprint, identity.dim) if history else None,
    )


def export_towers(embedder: Embedder, *, say: Say = render.say) -> None:
    """Export the ONNX towers of a loaded model for later queries, if they do not exist yet."""
    from imgsearch.core.models.towers import Towers

    name, fingerprint = embedder.identity.name, embedder.identity.fingerprint
    if getattr(embedder, "reload", None) is None:
        return
    known = Towers.find(fingerprint)
    if known and not known.is_worth_retrying():
        return
    say(f"preparing {name} for fast queries, once (^C skips this)")
    try:
        from imgsearch.core.models.embedding import OpenClipEmbedder
        from imgsearch.core.models.onnx_export import export

        assert isinstance(embedder, OpenClipEmbedder)
        light = export(embedder)
    except KeyboardInterrupt:
        return
    except Exception as error:  # the command itself has succeeded
        say(f"queries with {name} load the whole model: {error}")
        return
    for tower, why in light.manifest.lacking.items():
        say(f"{'text' if tower == 'text' else 'picture'} queries load the whole model {name}: {why}")


def named(model: str, weights: str | None = None, preprocess_from: str | None = None) -> ModelSpec:
    """What --model means. That may be the name of a model of local files that was imported from another machine."""
    from imgsearch.core.models.registry import DIR_PREFIX, parse
    from imgsearch.core.models.towers import Towers

    is_here = os.path.exists(os.path.expanduser(model.removeprefix(DIR_PREFIX)))
    imported = Towers.named(model) if weights is None and not is_here else None
    return imported or parse(model, weights, preprocess_from)


def load_model(spec: ModelSpec, *, device: str, precision: str, offline: bool, say: Say) -> Embedder:
    """The model, which needs no torch if its ONNX towers will do. Raises ModelError, UsageError."""
    return _load(spec, device, precision, offline=offline, say=say, may_be_onnx=True)


def load_to_convert(spec: ModelSpec, *, offline: bool) -> Embedder:
    """The model as open_clip has it, for `export_towers`. Raises ModelError."""
    return _load(spec, "cpu", "fp32", offline=offline, say=render.say, may_be_onnx=False)


def _load(spec: ModelSpec, device: str, precision: str, *, offline: bool, say: Say, may_be_onnx: bool) -> Embedder:
    from imgsearch.core.errors import ModelError

    from .output.progress import Download

    try:
        os.getcwd()
    except OSError:  # the folder was removed; all paths are absolute, but the libraries of torch need one
        os.chdir("/")
    try:
        from imgsearch.core.models import onnx_embedder

        def whole() -> Embedder:
            if not onnx_embedder.has_torch():
                raise _without_torch(spec, onnx_embedder.option_for_torch(device, precision))
            from imgsearch.core.models import loading

            with Download() as progress:
                return loading.load(
                    spec, device=device, precision=precision, offline=offline, say=say, progress=progress
                )

        if not may_be_onnx:
            return whole()
        return onnx_embedder.find(spec, device=device, precision=precision, whole=whole, say=say) or whole()
    except (ImportError, MemoryError) as error:
        if isinstance(error, MemoryError) or re.search(r"map segment|cannot allocate|memory", str(error)):
            hint = "close other programs, or raise the limit (ulimit -v)"
            raise ModelError("not enough memory to load the model", hint=hint) from error
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing in ("torchvision", "timm", "safetensors"):
            raise ModelError(f"{spec.name} needs {missing}, which is not installed", hint=_install_torch()) from error
        raise


def _without_torch(spec: ModelSpec, option: str) -> ModelError:
    from imgsearch.core.errors import ModelError
    from imgsearch.core.models.towers import Towers
    from imgsearch.core.paths import printable

    towers = Towers.of_model(spec)
    what, why = option or printable(spec.name), ""
    if towers and not option:
        why = "".join(f" for {_kind(tower)} ({reason})" for tower, reason in towers.manifest.lacking.items())
    return ModelError(f"{what} needs torch{why}, which is not installed", hint=_install_torch())


def _install_torch() -> str:
    from imgsearch.core.doctor.fixes import TORCH, install, requirement

    return f"install it: {install(*map(requirement, TORCH))}"


def _kind(tower: str) -> str:
    return "texts" if tower == "text" else "pictures"
