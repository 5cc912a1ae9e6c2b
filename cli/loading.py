"""From options to the index and the model that a command works with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import render

if TYPE_CHECKING:
    from imgsearch.core.catalog import Space
    from imgsearch.core.models import ModelSpec
    from imgsearch.core.store import Store
    from imgsearch.core.types import Embedder

Say = Callable[[str], None]


def open_store(index: str | None) -> Store:
    """The index to read. Raises IndexNotFound and its kin."""
    from imgsearch.core.store import Store, locate

    return Store.open(locate(index))


def embedder_of(space: Space, *, device: str, precision: str = "auto", say: Say = render.say) -> Callable[[], Embedder]:
    """The model that made a space, loaded when first called and checked to be the very same."""
    loaded: list[Embedder] = []

    def load() -> Embedder:
        if not loaded:
            from imgsearch.core.errors import ModelError
            from imgsearch.core.models import ModelSpec

            embedder = load_model(ModelSpec.from_json(space.model), device=device, precision=precision, say=say)
            if embedder.identity.fingerprint != space.identity.fingerprint:
                raise ModelError(
                    f"model {space.identity.name} is not what it was when the index was made (other weights or "
                    "settings under the same name)",
                    hint=f"embed the photos again with: imgsearch index --model {space.identity.name}",
                )
            loaded.append(embedder)
        return loaded[0]

    return load


def load_model(spec: ModelSpec, *, device: str, precision: str, say: Say) -> Embedder:
    from imgsearch.core import embed

    from .progress import Download

    with Download() as progress:
        return embed.load(spec, device=device, precision=precision, say=say, progress=progress)
