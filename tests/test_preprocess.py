"""Our tensors are open_clip's tensors, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from imgsearch.core.photos.preprocess import draft_side, normalise, square
from imgsearch.core.types import Recipe

from pictures import noise

CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

RECIPES = {
    "openai": Recipe((224, 224), **CLIP, interpolation="bicubic", resize_mode="shortest"),
    "siglip": Recipe((256, 256), **HALF, interpolation="bicubic", resize_mode="squash"),
    "pe-core": Recipe((336, 336), **HALF, interpolation="bilinear", resize_mode="squash"),
    "letterbox": Recipe((240, 240), **CLIP, interpolation="bilinear", resize_mode="longest", fill_color=127),
    "small-bilinear": Recipe((97, 97), **CLIP, interpolation="bilinear", resize_mode="shortest"),
    "oblong": Recipe((160, 96), **HALF, interpolation="bilinear", resize_mode="shortest"),
    "oblong-letterbox": Recipe((96, 160), **CLIP, interpolation="bicubic", resize_mode="longest"),
    "oblong-squash": Recipe((75, 160), **CLIP, interpolation="bicubic", resize_mode="squash"),
}
SIZES = [
    (1, 1), (1, 7), (7, 1), (1, 150), (150, 1), (1, 2000), (2000, 1), (2, 3), (223, 225), (224, 224), (224, 500),
    (225, 223), (500, 224), (96, 160), (97, 97), (100, 101), (37, 1999), (1999, 37), (640, 480), (480, 640),
    (641, 481), (999, 333), (333, 999), (1201, 803), (803, 1201),
]  # fmt: skip
SIZES += [tuple(map(int, pair)) for pair in np.random.default_rng(5).integers(3, 800, (25, 2))]


@pytest.fixture(scope="module")
def open_clip_transform() -> Any:
    transform = pytest.importorskip("open_clip.transform")

    def of(recipe: Recipe) -> Any:
        cfg = transform.PreprocessCfg(
            size=recipe.size,
            mean=recipe.mean,
            std=recipe.std,
            interpolation=recipe.interpolation,
            resize_mode=recipe.resize_mode,
            fill_color=recipe.fill_color,
        )
        return transform.image_transform_v2(cfg, is_train=False)

    return of


@pytest.mark.parametrize("name", RECIPES)
def test_tensors_equal_open_clips_to_the_bit(name, open_clip_transform):
    recipe = RECIPES[name]
    theirs = open_clip_transform(recipe)
    differing = []
    for seed, size in enumerate(SIZES):
        image = noise(*size, seed=seed)
        if recipe.resize_mode == "longest" and max(size) / min(size) > 100:
            continue  # open_clip asks for a side of no pixels; see the test below
        ours = normalise(square(image, recipe)[None], recipe)[0]
        if not np.array_equal(ours, theirs(image).numpy()):
            differing.append(size)
    assert differing == []


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000)])
def test_a_line_of_pixels_that_open_clip_refuses_becomes_a_letterbox(size):
    recipe = RECIPES["letterbox"]
    pixels = square(noise(*size), recipe)
    assert pixels.shape == (240, 240, 3)
    assert (pixels == 127).all(axis=2).sum() >= 240 * 238


@pytest.mark.parametrize("size", [(20_000, 2), (2, 20_000), (16_001, 3)])
def test_a_long_strip_is_cut_before_it_is_enlarged_and_looks_the_same(size, monkeypatch):
    recipe = RECIPES["small-bilinear"]
    image = noise(*size)
    monkeypatch.setattr("imgsearch.core.photos.preprocess.MAX_RESIZED_PIXELS", 10**12)
    whole = square(image, recipe).astype(int)
    monkeypatch.setattr("imgsearch.core.photos.preprocess.MAX_RESIZED_PIXELS", 1 << 16)
    cut = square(image, recipe).astype(int)
    assert np.abs(whole - cut).max() <= 1


def test_a_strip_of_the_largest_size_takes_no_gigabytes():
    assert square(noise(2_000_000, 1), RECIPES["openai"]).shape == (224, 224, 3)


@pytest.mark.parametrize("name", RECIPES)
def test_a_fast_decode_keeps_two_pixels_for_one(name):
    recipe = RECIPES[name]
    assert draft_side(recipe) >= 2 * max(recipe.size)


def test_normalised_squares_are_planes_of_float32():
    recipe = RECIPES["openai"]
    batch = np.stack([square(noise(300, 200, seed), recipe) for seed in range(3)])
    planes = normalise(batch, recipe)
    assert planes.shape == (3, 3, 224, 224)
    assert planes.dtype == np.float32
    assert batch.dtype == np.uint8
