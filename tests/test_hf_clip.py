"""Models in the format of transformers: they embed as its CLIPModel does, and what is none is refused by name."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip")
import torch

from imgsearch.core.errors import ModelError
from imgsearch.core.models import registry
from imgsearch.core.models.loading import load, open_clip
from imgsearch.core.models.registry import ALIASES, ModelSpec, parse

from chosen import unit
from clip_folder import BGE, PREPROCESSING, TINY, Paper, folder_of, tensors_of
from conftest import IS_LONG

TEXTS = ["a dog", "two children on a beach, in the rain", "", "It's 2024 - été 🌊 ", "sunset " * 100]
VIT_B_16 = {
    "model_type": "clip",
    "projection_dim": 512,
    "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8},
    "vision_config": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": 224, "patch_size": 16,
    },
}  # fmt: skip


def squares(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, side, side, 3), np.uint8)


def loaded(folder: Path):
    return load(parse(str(folder)), device="cpu", precision="fp32")


def tokens(texts: list[str]) -> torch.Tensor:
    return open_clip.SimpleTokenizer()(texts)


@pytest.mark.parametrize(
    ("dtype", "activation"),
    [(torch.float32, "quick_gelu"), (torch.float16, "quick_gelu"), (torch.bfloat16, "gelu")],
)
def test_a_folder_embeds_as_the_paper_says(tmp_path, dtype, activation):
    config = json.loads(json.dumps(TINY).replace("quick_gelu", activation))
    tensors = {name: tensor.to(dtype) for name, tensor in tensors_of(config).items()}
    model, paper = loaded(folder_of(tmp_path / "m", config, tensors)), Paper(config, tensors)
    images, texts = paper.images(squares(3)), paper.texts(tokens(TEXTS))
    assert (unit(images) @ unit(images).T)[0, 1] < 0.99 and (unit(texts) @ unit(texts).T)[0, 1] < 0.99
    np.testing.assert_allclose(model.raw_images(squares(3)), images, atol=1e-4)
    np.testing.assert_allclose(model.raw_texts(TEXTS), texts, atol=1e-4)
    np.testing.assert_allclose(model.embed_images(squares(3)), unit(images), atol=1e-4)
    np.testing.assert_allclose(model.embed_texts(TEXTS), unit(texts), atol=1e-4)
    assert (model.dim, model.context_length, model.recipe.size) == (24, 77, (32, 32))
    assert model.recipe.mean == tuple(PREPROCESSING["image_mean"])


@pytest.mark.parametrize("config", [TINY, pytest.param(VIT_B_16, marks=pytest.mark.skipif(not IS_LONG, reason="long"))])
def test_it_embeds_as_the_class_of_transformers_does(tmp_path, config):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    whole = transformers.CLIPModel(transformers.CLIPConfig(**config)).eval()
    whole.save_pretrained(tmp_path / "m")
    model, side = loaded(tmp_path / "m"), config["vision_config"]["image_size"]
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (model.recipe.mean, model.recipe.std))
    pixels = (torch.tensor(squares(2, side)).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.inference_mode():
        theirs = [whole.get_image_features(pixels), whole.get_text_features(tokens(TEXTS))]
    images, texts = (getattr(each, "pooler_output", each).numpy() for each in theirs)  # since version 5, an object
    np.testing.assert_allclose(model.embed_images(squares(2, side)), unit(images), atol=1e-4)
    np.testing.assert_allclose(model.embed_texts(TEXTS), unit(texts), atol=1e-4)
    w = 0.3
    raw = (1 - w) * model.raw_images(squares(2, side))[0] + w * model.raw_texts(["a dog"])[0]
    np.testing.assert_allclose(unit(raw), unit((1 - w) * images[0] + w * texts[0]), atol=1e-4)


def test_the_tokens_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = open_clip.SimpleTokenizer()
    numbers = dict(ours.encoder)
    for name, other in (("<start_of_text>", "<|startoftext|>"), ("<end_of_text>", "<|endoftext|>")):
        numbers[other] = numbers.pop(name)
    folder = folder_of(tmp_path / "m")
    (folder / "vocab.json").write_text(json.dumps(numbers))
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in ours.bpe_ranks)])
    (folder / "merges.txt").write_text(merges)
    theirs = transformers.CLIPTokenizer.from_pretrained(str(folder))
    for text in TEXTS:
        ids = theirs([text], truncation=True, max_length=77)["input_ids"][0]
        assert ours([text])[0, : len(ids)].tolist() == ids
    loaded(folder)  # with this vocabulary


def test_a_folder_without_preprocessing_is_prepared_as_clip(tmp_path):
    folder = folder_of(tmp_path / "m")
    given = loaded(folder).recipe
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING | {"size": 32, "crop_size": 32}))
    assert loaded(folder).recipe == given  # as older versions of transformers wrote it
    stretched = {"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING | stretched))
    found = loaded(folder)
    assert (found.recipe.resize_mode, found.recipe.interpolation) == ("squash", "bilinear")
    (folder / "preprocessor_config.json").unlink()
    plain = loaded(folder)
    assert plain.recipe == given and plain.identity.fingerprint != found.identity.fingerprint


def test_models_that_were_trained_for_the_sum_are_known_by_their_class(tmp_path):
    assert loaded(folder_of(tmp_path / "m")).identity.composer is None
    assert loaded(folder_of(tmp_path / "bge", **BGE)).identity.composer == "raw-sum"


# ---- Names -----------------------------------------------------------------------------------------------------------


def test_the_aliases_are_repositories_of_this_format():
    for name, dim in (("bge-vl-base", 512), ("bge-vl-large", 768)):
        alias = ALIASES[name]
        assert (alias.dim, alias.licence, alias.composer, alias.commercial) == (dim, "MIT", "raw-sum", True)
        assert alias.arch == f"hf-hub:{alias.repo}" and parse(name) == alias.spec and alias.spec.alias == alias
    with pytest.raises(Exception, match="--weights cannot be used with --model bge-vl-base"):
        parse("bge-vl-base", "mine.safetensors")


def test_a_folder_of_both_formats_is_one_of_open_clip(tmp_path):
    folder = folder_of(tmp_path / "m")
    assert registry.is_hf_clip_dir(str(folder)) and parse(str(folder)).arch == f"local-dir:{folder}"
    (folder / "open_clip_config.json").write_text("{}")
    assert not registry.is_hf_clip_dir(str(folder))
    with pytest.raises(ModelError, match="describes none"):
        loaded(folder)


def test_towers_are_not_used_after_a_folder_changed(tmp_path):
    folder = folder_of(tmp_path / "m")
    spec = ModelSpec("x", f"local-dir:{folder}")
    before = registry.config_digest(spec)
    (folder / "preprocessor_config.json").write_text("{}")
    assert registry.config_digest(spec) != before


# ---- What is refused -------------------------------------------------------------------------------------------------


def refused(folder: Path, file: str) -> str:
    """The one line that names the file and says why."""
    with pytest.raises(ModelError) as error:
        loaded(folder)
    assert error.value.hint and "\n" not in str(error.value) and str(folder / file) in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text_model.final_layer_norm.bias": None}, "has no tensor text_model.final_layer_norm.bias"),
        ({"visual.proj": torch.zeros(3)}, "has an unknown tensor: visual.proj"),
        ({"x" * 10_000: torch.zeros(3)}, "has an unknown tensor: xxx"),
        ({"text_projection.weight": torch.zeros(24, 31)}, "has the shape 24 x 31, not 24 x 32"),
        ({"logit_scale": torch.zeros(1)}, "has the shape 1, not no dimension"),
        ({"visual_projection.weight": torch.full((24, 48), torch.nan)}, "has values that are not finite"),
        ({"vision_model.embeddings.class_embedding": torch.full((48,), torch.inf)}, "has values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, reason):
    tensors = {name: tensor for name, tensor in (tensors_of(TINY) | change).items() if tensor is not None}
    assert reason in refused(folder_of(tmp_path / "m", tensors=tensors), "model.safetensors")


def test_positions_that_older_versions_stored_are_not_read(tmp_path):
    tensors = tensors_of(TINY) | {f"{part}_model.embeddings.position_ids": torch.arange(77) for part in ("text",)}
    plain, old = loaded(folder_of(tmp_path / "a")), loaded(folder_of(tmp_path / "b", tensors=tensors))
    np.testing.assert_array_equal(plain.embed_texts(TEXTS), old.embed_texts(TEXTS))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_what_is_no_file_of_weights_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path / "m")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for content, reason in (
        (pickle.dumps(Bomb()), "is a pickle, which could run code"),
        (b"PK\x03\x04" + bytes(100), "is a pickle, which could run code"),
        (b"", "is not a safetensors file, or is truncated"),
        (whole[:100], "is not a safetensors file, or is truncated"),
        (whole[:-1], "is damaged"),
        (struct.pack("<Q", 2) + b"{}", "has no tensor logit_scale"),
    ):
        path.write_bytes(content)
        assert reason in refused(folder, path.name)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 100 << 30) + b"{}")
        file.truncate((100 << 30) + 1_000)
    assert "has a header of 107,374,182,400 bytes" in refused(folder, path.name)
    path.unlink()
    assert "has no model.safetensors" in refused(folder, "")
    torch.save({"state_dict": {}}, folder / "pytorch_model.bin")
    assert "has no model.safetensors" in refused(folder, "")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("text_config", {"hidden_act": "relu"}, "the activations quick_gelu, relu are not supported"),
        ("text_config", {"vocab_size": 21128}, "not those of CLIP"),
        ("vision_config", {"num_channels": 4}, "not those of CLIP"),
        ("vision_config", {"num_attention_heads": 5}, "hidden_size is 48, which is no multiple of"),
        ("vision_config", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ("vision_config", {"patch_size": 0}, "patch_size is 0"),
        ("vision_config", {"image_size": "32"}, "image_size is '32'"),
        ("text_config", {"layer_norm_eps": "small"}, "layer_norm_eps is 'small'"),
        ("text_config", [1], "text_config is not an object"),
    ],
)
def test_a_configuration_that_open_clip_cannot_follow_is_refused(tmp_path, part, change, reason):
    changed = {**TINY[part], **change} if isinstance(change, dict) else change
    folder = folder_of(tmp_path / "m", TINY, tensors_of(TINY), **{part: changed})
    assert reason in refused(folder, "config.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is damaged"),
        ({"size": {"shortest_edge": 64}}, "size and crop_size are not 32"),
        ({"resample": 0}, "not supported"),
        ({"do_normalize": False}, "not supported"),
        ({"rescale_factor": 1}, "rescale_factor is not 1/255"),
        ({"image_std": [0, 0, 0]}, "not three numbers between 0 and 1"),
        ({"image_mean": "abc"}, "values of the wrong kind"),
        ({"size": [1]}, "values of the wrong kind"),
    ],
)
def test_preprocessing_that_is_not_known_is_refused(tmp_path, content, reason):
    folder = folder_of(tmp_path / "m")
    whole = content if isinstance(content, str) else json.dumps(PREPROCESSING | content)
    (folder / "preprocessor_config.json").write_text(whole)
    assert reason in refused(folder, "preprocessor_config.json")


def test_another_vocabulary_is_refused(tmp_path):
    folder = folder_of(tmp_path / "m")
    numbers = open_clip.SimpleTokenizer().encoder
    (folder / "vocab.json").write_text(json.dumps(numbers | {"dog</w>": 5}))
    assert "is not the vocabulary of CLIP" in refused(folder, "vocab.json")
