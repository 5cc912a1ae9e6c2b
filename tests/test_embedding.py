"""Loading a model as open_clip would, safely, and embedding with it."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.models import embedding, hub, loading, registry
from imgsearch.core.models.embedding import OpenClipEmbedder, torch
from imgsearch.core.models.loading import load, open_clip
from imgsearch.core.models.registry import ModelSpec, parse

BUILTIN = parse("builtin")
TINY = "tiny-for-tests"
TINY_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": [64, 96], "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PLAIN = {
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


@pytest.fixture(scope="module")
def builtin() -> OpenClipEmbedder:
    return load(BUILTIN, device="cpu")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small architecture that open_clip knows for the length of a test, and weights for it."""
    config = tmp_path / f"{TINY}.json"
    config.write_text(json.dumps(TINY_CONFIG))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [config])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {TINY: TINY_CONFIG})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    torch.manual_seed(0)
    with embedding.silenced():
        model = open_clip.create_model(TINY)
    checkpoint = tmp_path / "tiny.pt"
    torch.save(model.state_dict(), checkpoint)
    yield checkpoint


def tag_for_tiny(monkeypatch: pytest.MonkeyPatch, **tags: dict[str, Any]) -> None:
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, TINY, tags)


def squares(count: int, height: int, width: int) -> np.ndarray:
    """Smooth pictures, as different from each other as photos are."""
    random = np.random.default_rng(7)
    coarse = random.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse])


def as_open_clip_does(name: str, weights: str | None, pictures: np.ndarray, texts: list[str], **more: Any) -> Any:
    with embedding.silenced(), torch.inference_mode():
        model, _, preprocess = open_clip.create_model_and_transforms(name, weights, **more)
        tokenizer = open_clip.get_tokenizer(name)
        model.eval()
        images = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
        return (
            model.encode_image(images, normalize=True).numpy(),
            model.encode_text(tokenizer(texts), normalize=True).numpy(),
            preprocess,
        )


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert (ours * theirs).sum(axis=1).min() > 0.99999


# ---- as open_clip does


def test_builtin_embeds_exactly_as_open_clip_does(builtin: OpenClipEmbedder) -> None:
    pictures, texts = squares(12, 224, 224), ["a dog", "two children on a beach", "", "été 🌊" * 30]
    images, words, preprocess = as_open_clip_does(f"local-dir:{loading.BUILTIN_DIR}", None, pictures, texts)

    assert_same(builtin.embed_images(pictures), images)
    assert_same(builtin.embed_texts(texts), words)

    recipe = builtin.recipe
    normalise = preprocess.transforms[-1]
    assert (recipe.mean, recipe.std) == (tuple(normalise.mean), tuple(normalise.std))
    assert (recipe.size, recipe.interpolation, recipe.resize_mode) == ((224, 224), "bicubic", "shortest")
    assert (builtin.dim, builtin.context_length) == (256, 32)
    assert builtin.identity.details["tokenizer"] == "SimpleTokenizer"
    assert "logit_bias" not in builtin.identity.details


def test_checkpoint_runs_as_the_same_weights_do_in_open_clip(tiny: Path) -> None:
    pictures, texts = squares(5, 64, 96), ["one", "two"]
    ours = load(parse(TINY, str(tiny)), device="cpu", precision="fp32")
    images, words, _ = as_open_clip_does(TINY, str(tiny), pictures, texts)

    assert_same(ours.embed_images(pictures), images)
    assert_same(ours.embed_texts(texts), words)
    assert ours.recipe.size == (64, 96)


def test_a_cached_tag_loads_like_in_open_clip(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    tag_for_tiny(monkeypatch, mine={**PLAIN, "hf_hub": "org/tiny/", "quick_gelu": False})
    snapshot = Path(hub.hub_cache()) / "models--org--tiny" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    save_file(torch.load(tiny, weights_only=True), snapshot / "open_clip_model.safetensors")
    pictures = squares(3, 64, 96)
    arguments = {f"image_{key}": value for key, value in PLAIN.items()}
    images, _, _ = as_open_clip_does(TINY, str(tiny), pictures, ["x"], **arguments)

    ours = load(parse(f"{TINY}/mine"), device="cpu", precision="fp32")

    assert_same(ours.embed_images(pictures), images)
    assert (ours.recipe.mean, ours.recipe.std) == (PLAIN["mean"], PLAIN["std"])
    assert (ours.recipe.interpolation, ours.recipe.resize_mode) == ("bilinear", "squash")
    assert ours.identity.weights == "mine"


def test_a_checkpoint_can_use_the_preprocessing_of_a_tag(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag_for_tiny(monkeypatch, one={**PLAIN, "hf_hub": "o/r/"}, two={**PLAIN, "std": (1, 1, 1), "hf_hub": "o/s/"})

    with pytest.raises(ModelError, match="have 2 kinds of preprocessing; which one is right for") as caught:
        load(parse(TINY, str(tiny)), device="cpu")
    assert caught.value.hint == (
        "use --preprocess-from with one of: one (mean 0.50/0.40/0.30, bilinear, squash); "
        "or two (mean 0.50/0.40/0.30, bilinear, squash)"
    )
    assert load(parse(TINY, str(tiny), "two"), device="cpu").recipe.std == (1, 1, 1)
    with pytest.raises(ModelError, match="--preprocess-from three: no such tag"):
        load(parse(TINY, str(tiny), "three"), device="cpu")
    assert load(parse(TINY, str(tiny), "ViT-B-16-SigLIP/webli"), device="cpu").recipe.mean == (0.5, 0.5, 0.5)


def test_tags_with_equal_preprocessing_need_no_choice(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag_for_tiny(monkeypatch, one={**PLAIN, "hf_hub": "o/r/"}, two={**PLAIN, "hf_hub": "o/s/"})
    assert load(parse(TINY, str(tiny)), device="cpu").recipe.mean == PLAIN["mean"]


def test_weights_trained_with_quick_gelu_get_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag_for_tiny(monkeypatch, quick={**PLAIN, "hf_hub": "org/quick/", "quick_gelu": True})
    snapshot = Path(hub.hub_cache()) / "models--org--quick" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    shutil.copy(tiny, snapshot / "open_clip_pytorch_model.bin")
    _, words, _ = as_open_clip_does(TINY, str(tiny), squares(1, 64, 96), ["x"], force_quick_gelu=True)

    assert_same(load(parse(f"{TINY}/quick"), device="cpu").embed_texts(["x"]), words)

    said: list[str] = []
    load(parse(TINY, str(tiny), "quick"), device="cpu", say=said.append)
    assert said == [f"weights like quick use QuickGELU; if yours do too, use --model {TINY}-quickgelu"]


# ---- what may not be loaded


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class WrongArguments:
    """Unpickles by calling an allowed class in a way that raises TypeError."""

    def __reduce__(self) -> Any:
        return OrderedDict, (1,)


@pytest.mark.parametrize("with_type_error", [False, True])
@pytest.mark.parametrize("as_zip", [False, True])
def test_pickle_that_would_run_something_is_refused(
    tiny: Path, tmp_path: Path, as_zip: bool, with_type_error: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace, weights = tmp_path / "it ran", tmp_path / "evil.pt"
    content = {"a": [WrongArguments()] if with_type_error else 1, "b": Evil(trace)}
    torch.save(content, weights, _use_new_zipfile_serialization=as_zip)

    with pytest.raises(ModelError) as caught:
        load(parse(TINY, str(weights)), device="cpu")

    assert str(caught.value) == f"{weights} cannot be loaded: it is damaged, or contains more than tensors"
    assert not trace.exists()


def test_plain_pickle_is_refused(tiny: Path, tmp_path: Path) -> None:
    trace, weights = tmp_path / "it ran", tmp_path / "evil.bin"
    weights.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(ModelError, match="contains more than tensors"):
        load(parse(TINY, str(weights)), device="cpu")
    assert not trace.exists()


def test_torchscript_and_numpy_files_are_refused(tiny: Path, tmp_path: Path) -> None:
    script, arrays = tmp_path / "script.pt", tmp_path / "arrays.npz"
    with zipfile.ZipFile(script, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{name}", b"")
    np.savez(arrays, a=np.zeros(3))

    with pytest.raises(ModelError, match="is a TorchScript archive, which contains code"):
        load(parse(TINY, str(script)), device="cpu")
    with pytest.raises(ModelError, match="is a numpy file, which is not supported"):
        load(parse(TINY, str(arrays)), device="cpu")


@pytest.mark.parametrize("content", [{}, [1], {"state_dict": {}}, {"weight": 1}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_file_without_weights_is_refused(tiny: Path, tmp_path: Path, content: Any) -> None:
    weights = tmp_path / "odd.pt"
    torch.save(content, weights)
    with pytest.raises(ModelError, match=r"odd\.pt contains no model weights"):
        load(parse(TINY, str(weights)), device="cpu")


def test_damaged_files_are_refused(tiny: Path, tmp_path: Path) -> None:
    for name, content in (
        ("a.pt", tiny.read_bytes()[:5000]),
        ("b.safetensors", b"\xff" * 100),
        ("c.pt", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name} cannot be loaded"):
            load(parse(TINY, str(tmp_path / name)), device="cpu")


def test_weights_of_another_model_are_refused_in_one_line(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    state = torch.load(tiny, weights_only=True)
    state["text_projection"] = torch.zeros(3, 3)
    state["visual.proj"] = torch.zeros(3, 3)
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, other)

    with pytest.raises(ModelError) as caught:
        load(parse(TINY, str(other)), device="cpu")

    assert str(caught.value).startswith(f"{other} does not fit {TINY}: size mismatch for ")
    assert "\n" not in str(caught.value)


def test_unknown_names_get_a_suggestion(tiny: Path) -> None:
    for typed, hint in (("tiny-for-test/x", TINY), ("lit", "lite")):
        with pytest.raises(ModelError, match="there is no model") as caught:
            load(parse(typed))
        assert hint in (caught.value.hint or "")


def test_architecture_without_weights_lists_them(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag_for_tiny(monkeypatch, one={"hf_hub": "o/r/"}, two={"hf_hub": "o/s/"})
    with pytest.raises(ModelError, match=f"{TINY} is an architecture and needs weights") as caught:
        load(parse(TINY))
    assert caught.value.hint == f"use --model {TINY}/TAG with one of: one, two"
    with pytest.raises(ModelError, match=f"{TINY} has no weights named onr") as caught:
        load(parse(f"{TINY}/onr"))
    assert caught.value.hint == "did you mean one?"


def test_model_that_needs_transformers_says_so_before_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        load(parse("fast"))
    assert caught.value.hint == "install it: pip install 'imgsearch-cli[siglip]'"


def test_an_incomplete_model_folder_is_an_error(tmp_path: Path) -> None:
    spec = ModelSpec("x", f"local-dir:{tmp_path}")
    config = tmp_path / "open_clip_config.json"
    for content, message in (("{", "cannot read"), ("{}", "describes none"), ("[]", "cannot read")):
        config.write_text(content)
        with pytest.raises(ModelError, match=message):
            load(spec)
    config.write_text((loading.BUILTIN_DIR / "open_clip_config.json").read_text())
    with pytest.raises(ModelError, match="has no weights"):
        load(spec)


# ---- identity


def test_fingerprint_is_the_model_and_not_its_name_or_precision(
    builtin: OpenClipEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    shutil.copytree(loading.BUILTIN_DIR, copy)
    same = load(parse(str(copy)), device="cpu", precision="bf16")
    assert same.identity.fingerprint == builtin.identity.fingerprint
    assert same.identity.name != builtin.identity.name

    config = json.loads((copy / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["interpolation"] = "bilinear"
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    assert load(parse(str(copy)), device="cpu").identity.fingerprint != builtin.identity.fingerprint


# ---- devices, precisions, memory


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "cuda:0:1"])
def test_unknown_device_is_wrong_usage(device: str) -> None:
    with pytest.raises(UsageError, match="no such device"):
        load(BUILTIN, device=device)


def test_unknown_precision_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no such precision: fp8"):
        load(BUILTIN, precision="fp8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_an_error_when_asked_for() -> None:
    with pytest.raises(ModelError, match="cannot use --device cuda:1: torch finds no CUDA device"):
        load(BUILTIN, device="cuda:1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device that works")
def test_cuda_that_fails_late_gives_way_to_the_cpu_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "choose_device", lambda device, say: torch.device("cuda"))
    said: list[str] = []

    fallen = load(BUILTIN, say=said.append)

    assert (fallen.device, fallen.precision, fallen.batch_size) == ("cpu", "fp32", 32)
    assert len(said) == 1 and "cuda does not work for this model" in said[0]
    assert len(fallen.embed_images(squares(2, 224, 224))) == 2
    with pytest.raises(ModelError, match="cuda failed"):
        load(BUILTIN, device="cuda")


def test_convolutional_tower_stays_fp32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "cpu_has_bf16", lambda: True)
    assert load(BUILTIN, device="cpu").precision == "fp32"


def test_transformer_runs_in_bf16_where_the_cpu_does(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = squares(9, 64, 96)
    exact = load(parse(TINY, str(tiny)), device="cpu", precision="fp32")
    monkeypatch.setattr(embedding, "cpu_has_bf16", lambda: True)
    quick = load(parse(TINY, str(tiny)), device="cpu")

    cosines = (quick.embed_images(pictures) * exact.embed_images(pictures)).sum(axis=1)

    assert cosines.min() > 0.999
    assert quick.precision == "bf16"
    assert {p.dtype for p in quick.model.visual.parameters()} == {torch.bfloat16}
    assert quick.model.token_embedding.weight.dtype == torch.float32
    assert np.array_equal(quick.embed_texts(["a"]), exact.embed_texts(["a"]))


def test_bf16_that_is_too_imprecise_is_not_used(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = squares(9, 64, 96)
    exact = load(parse(TINY, str(tiny)), device="cpu", precision="fp32").embed_images(pictures)
    monkeypatch.setattr(embedding, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(embedding, "BF16_COSINE", 1.1)
    said: list[str] = []
    careful = load(parse(TINY, str(tiny)), device="cpu", say=said.append)

    assert np.array_equal(careful.embed_images(pictures), exact)
    assert careful.precision == "fp32"
    assert len(said) == 1 and said[0].startswith("bf16 is too imprecise for this model")


def test_batches_shrink_when_memory_runs_out(tiny: Path) -> None:
    said: list[str] = []
    small = load(parse(TINY, str(tiny)), device="cpu", precision="fp32", say=said.append)
    pictures = squares(20, 64, 96)
    expected = small.embed_images(pictures)
    encode, sizes = small.model.encode_image, []

    def encode_image(images: Any) -> Any:
        sizes.append(len(images))
        if len(images) > 6:
            raise torch.OutOfMemoryError("out of memory")
        return encode(images)

    small.model.encode_image = encode_image
    np.testing.assert_allclose(small.embed_images(pictures), expected, atol=1e-6)
    assert sizes == [20, 10, 5, 5, 5, 5]
    assert said == [
        "out of memory on cpu; using batches of 10",
        "out of memory on cpu; using batches of 5",
    ]
    small.embed_images(pictures)
    assert max(sizes[6:]) == 5


def test_gpu_without_memory_for_one_photo_gives_way_to_the_cpu(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    model = load(parse(TINY, str(tiny)), device="cpu", precision="fp32", say=said.append)
    really = model._image_features

    def features(pictures: Any) -> Any:
        if model.device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return really(pictures)

    monkeypatch.setattr(model, "_image_features", features)
    model._device = torch.device("cuda")

    assert model.embed_images(squares(2, 64, 96)).shape == (2, 32)
    assert model.device == "cpu"
    assert said == [
        "out of memory on cuda; using batches of 1",
        "cuda does not work for this model (out of memory); using the CPU",
    ]


@pytest.mark.parametrize("reason", ["DefaultCPUAllocator: can't allocate memory", "could not create a primitive"])
def test_no_memory_at_all_is_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    model = load(parse(TINY, str(tiny)), device="cpu", precision="fp32")

    def features(pictures: Any) -> Any:
        raise RuntimeError(reason)

    monkeypatch.setattr(model, "_image_features", features)
    with pytest.raises(ModelError, match="out of memory for a single item"):
        model.embed_images(squares(2, 64, 96))


# ---- rows


def test_vector_that_is_not_finite_is_a_row_of_nan_and_moves_no_other(tiny: Path) -> None:
    model = load(parse(TINY, str(tiny)), device="cpu", precision="fp32")
    pictures = squares(5, 64, 96)
    expected = model.embed_images(pictures)
    encode = model.model.encode_image

    def encode_image(images: Any) -> Any:
        features = encode(images)
        features[2, 0] = torch.inf
        return features

    model.model.encode_image = encode_image
    got = model.embed_images(pictures)
    assert np.isnan(got[2]).all()
    assert np.array_equal(np.delete(got, 2, axis=0), np.delete(expected, 2, axis=0))


def test_half_precision_that_overflows_is_given_up(tiny: Path) -> None:
    said: list[str] = []
    model = load(parse(TINY, str(tiny)), device="cpu", say=said.append)
    model.precision = "bf16"
    model._place_towers()
    model._exact_visual = None
    encode = model.model.encode_image

    def encode_image(images: Any) -> Any:
        features = encode(images)
        if images.dtype != torch.float32:
            features[1] = torch.inf
        return features

    model.model.encode_image = encode_image
    assert np.isfinite(model.embed_images(squares(3, 64, 96))).all()
    assert (model.precision, said) == ("fp32", ["bf16 overflows with this model; using fp32"])


def test_no_input_gives_no_vectors(builtin: OpenClipEmbedder) -> None:
    assert builtin.embed_texts([]).shape == (0, 256)
    assert builtin.embed_images(np.empty((0, 224, 224, 3), np.uint8)).shape == (0, 256)


def test_texts_keep_their_order_over_many_batches(builtin: OpenClipEmbedder) -> None:
    texts = [f"{number} red {'very ' * (number % 7)}dogs" for number in range(75)]
    together = builtin.embed_texts(texts)
    alone = np.concatenate([builtin.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_text_with_surrogates_is_embedded(builtin: OpenClipEmbedder) -> None:
    assert np.isfinite(builtin.embed_texts(["caf\udce9 \ud83d"])).all()


def test_read_only_and_strided_pictures_are_taken(builtin: OpenClipEmbedder) -> None:
    pictures = squares(4, 224, 224)
    frozen = pictures.copy()
    frozen.flags.writeable = False
    np.testing.assert_allclose(builtin.embed_images(frozen[::2]), builtin.embed_images(pictures)[::2], atol=1e-6)


def test_wrong_shape_is_refused(builtin: OpenClipEmbedder) -> None:
    with pytest.raises(ValueError, match="not uint8 squares"):
        builtin.embed_images(np.zeros((1, 64, 64, 3), np.uint8))


def test_no_library_prints_or_touches_logging() -> None:
    program = """
import logging, numpy
from imgsearch.core.models import embedding, hub, loading, registry
model = loading.load(registry.parse("builtin"))
model.embed_images(numpy.zeros((1, 224, 224, 3), "uint8"))
model.embed_texts(["a dog"])
assert not logging.getLogger().handlers and not logging.root.manager.disable
"""
    done = subprocess.run([sys.executable, "-W", "default", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_model_trained_to_give_probabilities_says_its_scale_and_bias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SigLIP was: what open_clip's own forward makes of a picture and a text is the sigmoid of these."""
    config = TINY_CONFIG | {"init_logit_bias": -10.0, "init_logit_scale": 2.0}
    (tmp_path / "sigmoid.json").write_text(json.dumps(config))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path / "sigmoid.json"])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {"sigmoid": config})
    with embedding.silenced():
        model = open_clip.create_model("sigmoid")
    torch.save(model.state_dict(), tmp_path / "sigmoid.pt")
    spec = registry.parse("sigmoid", weights=str(tmp_path / "sigmoid.pt"), preprocess_from=None)
    details = loading.load(spec, device="cpu").identity.details
    assert float(details["logit_bias"]) == -10
    assert float(details["logit_scale"]) == pytest.approx(np.exp(2.0))
