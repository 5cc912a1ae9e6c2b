"""The text tower in numpy against open_clip's own, and weights files that are damaged or hostile."""

import json
import os
import pickle
import struct

import numpy as np
import pytest

from imgsearch.core.models import onnx_export
from imgsearch.core.models.text_tower import TextTower
from imgsearch.core.models.weights_file import WeightsError, WeightsFile

SMALL = {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 2}
VISION = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 16}


def made(folder, *, custom=False, quick_gelu=False, **text):
    """A model with random weights and the same tower in numpy; None if numpy does not run it."""
    import open_clip
    import safetensors.torch
    import torch

    torch.manual_seed(11)
    kind = open_clip.model.CustomTextCLIP if custom else open_clip.model.CLIP
    model = kind(embed_dim=20, vision_cfg=VISION, text_cfg=SMALL | text, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():  # biases and norms are not random by themselves
            if "ln_" in name or "bias" in name:
                tensor.add_(torch.randn(tensor.shape) * 0.2)
    plain = onnx_export.plain_text(model)
    if plain is None:
        return model, None
    config, weights = plain
    path = os.path.join(folder, config.weights)
    safetensors.torch.save_file(weights, path)
    return model, TextTower(WeightsFile(path), config)


@pytest.mark.parametrize(
    "options",
    [{}, {"quick_gelu": True}, *({"custom": True} | more for more in ({}, {"proj_type": "none"}, {"proj_bias": True}))],
    ids=["gelu", "quick_gelu", "custom", "no_projection", "linear_projection"],
)
def test_the_tower_agrees_with_open_clip(tmp_path, options):
    import torch

    model, tower = made(tmp_path, **options)
    assert tower is not None
    rng = np.random.default_rng(5)
    token_lists = [[49406, *rng.integers(1, 49000, n).tolist(), 49407] for n in rng.integers(0, 11, 300)]
    ids = torch.zeros(len(token_lists), SMALL["context_length"], dtype=torch.long)
    for row, tokens in zip(ids, token_lists, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    with torch.inference_mode():
        true = model.encode_text(ids).numpy()
    np.testing.assert_allclose(tower(token_lists), true, atol=2e-5)
    np.testing.assert_allclose(tower(token_lists[:1]), true[:1], atol=2e-5)


@pytest.mark.parametrize(
    "options",
    [{"ls_init_value": 0.1}, {"custom": True, "no_causal_mask": True}, {"custom": True, "embed_cls": True}],
    ids=["layer_scale", "not_causal", "class_token"],
)
def test_towers_with_other_parts_are_left_to_onnx_runtime(tmp_path, options):
    assert made(tmp_path, **options)[1] is None


def file_of(path, header, data=b""):
    record = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(record)) + record + data)
    return str(path)


def test_a_weights_file_gives_its_tensors(tmp_path):
    data = np.arange(6, dtype="<f2").tobytes() + np.arange(2, dtype="<f4").tobytes()
    header = {
        "__metadata__": {"method": "x"},
        "half": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "float": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]},
    }
    file = WeightsFile(file_of(tmp_path / "w", header, data))
    assert (file.names, file.metadata) == (["half", "float"], {"method": "x"})
    np.testing.assert_array_equal(file.floats("half"), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(file.floats("float"), [0, 1])
    assert file.floats("half").dtype == np.float32


def test_every_number_in_half_precision_is_widened_exactly(tmp_path):
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    header = {"t": {"dtype": "F16", "shape": [len(finite)], "data_offsets": [0, finite.nbytes]}}
    found = WeightsFile(file_of(tmp_path / "w", header, finite.tobytes())).floats("t")
    np.testing.assert_array_equal(found.view(np.uint32), finite.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value):
    header = {"t": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}
    file = WeightsFile(file_of(tmp_path / "w", header, np.array([1, value], np.float16).tobytes()))
    with pytest.raises(WeightsError, match="tensor t of .* not finite"):
        file.floats("t")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a safetensors file"),
        (b"\x00" * 7, "not a safetensors file"),
        (b"\xff" * 400, "not a safetensors file"),
        (struct.pack("<Q", 100 << 30) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 11_000_000) + b" " * 11_000_000, "header of 11,000,000 bytes"),
        (pickle.dumps({}), "is a pickle"),
        (b"PK\x03\x04" + b"\0" * 400, "is a pickle"),
        (struct.pack("<Q", 4) + b"{{{{", "damaged header"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe", "damaged header"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "damaged header"),
    ],
)
def test_what_is_not_a_weights_file_is_refused(tmp_path, content, message):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        WeightsFile(str(tmp_path / "w"))


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"cannot read .*nothing: no such file"):
        WeightsFile(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
        {"dtype": "F32", "shape": [1], "data_offsets": [1 << 70, (1 << 70) + 4]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1], "data_offsets": [0, 4]},
        [],
        None,
    ],
)
def test_a_tensor_that_is_not_what_the_header_says_is_refused(tmp_path, entry):
    file = WeightsFile(file_of(tmp_path / "w", {"t": entry}, b"\0" * 8))
    with pytest.raises(WeightsError, match="tensor t of .* is damaged"):
        file.tensor("t")
    with pytest.raises(WeightsError, match="has no tensor u"):
        file.tensor("u")
