"""Embedding photos without torch: the same vectors, the choice between the two, and the previous built-in model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgsearch.cli import loading
from imgsearch.core.errors import ModelError
from imgsearch.core.light_dataclass import replace
from imgsearch.core.models import onnx_embedder, phrases, registry, towers
from imgsearch.core.models.onnx_embedder import OnnxEmbedder
from imgsearch.core.models.towers import Towers, TowersError
from imgsearch.core.types import SpaceIdentity

from conftest import ALBUM

BUILTIN = registry.parse("builtin")
V0 = "4485b7fc6053026eb41d4bca60a8178403bffc910929d93ff84cf0953fabf2a1"


@pytest.fixture
def model(torch_model):
    return torch_model


def never():
    raise AssertionError("torch was loaded")


def found(**changes) -> OnnxEmbedder | None:
    asked = {"device": "cpu", "precision": "auto", "whole": never, "say": lambda line: None} | changes
    return onnx_embedder.find(BUILTIN, **asked)


@pytest.fixture
def towers_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built-in model's files, in place of those that are installed."""
    copy = tmp_path / "towers"
    shutil.copytree(towers.SHIPPED, copy)
    monkeypatch.setattr(towers, "SHIPPED", str(copy))
    return copy


def test_its_vectors_are_those_of_the_model(model) -> None:
    embedder = found()
    assert embedder is not None
    assert embedder.identity.fingerprint == model.identity.fingerprint
    assert (embedder.recipe, embedder.identity.dim) == (model.recipe, model.dim)
    squares = np.random.default_rng(3).integers(0, 256, (18, *model.recipe.size, 3), np.uint8)
    assert ((embedder.embed_images(squares) * model.embed_images(squares)).sum(axis=1) > 0.9999).all()
    texts = ["a red apple", "", "two dogs on a beach " * 20]
    assert ((embedder.embed_texts(texts) * model.embed_texts(texts)).sum(axis=1) > 0.9999).all()
    assert embedder.embed_images(squares[:0]).shape == (0, model.dim)


def test_the_neutral_phrases_ship_with_the_vectors_that_the_tower_gives(monkeypatch, tmp_path: Path) -> None:
    embedder = found()
    assert embedder is not None
    texts = phrases.neutral_phrases()
    own = Towers.find(embedder.identity.fingerprint).embed_texts(texts)
    shipped = phrases.neutral_vectors(embedder.identity, lambda: pytest.fail("they were embedded"))
    assert shipped.dtype == np.float32
    assert np.abs(shipped - own).max() < 0.0005  # rounded to 1/2048
    assert np.abs(np.linalg.norm(shipped, axis=1) - 1).max() < 1e-6

    loads = []

    def load():
        loads.append(1)
        return embedder

    another = replace(embedder.identity, fingerprint="another model")
    assert np.array_equal(phrases.neutral_vectors(another, load), own)
    monkeypatch.setattr(phrases, "neutral_phrases", lambda: ["one more", *texts])
    assert len(phrases.neutral_vectors(embedder.identity, load)) == 1 + len(texts)
    monkeypatch.setattr(phrases, "neutral_phrases", lambda: texts)
    whole = Path(phrases.shipped_vectors(embedder.identity.fingerprint, texts)).read_bytes()
    for damaged in (b"", whole[:-1], whole[:60], b"nonsense" * 100):
        (tmp_path / "damaged.npy").write_bytes(damaged)
        monkeypatch.setattr(phrases, "shipped_vectors", lambda *of: tmp_path / "damaged.npy")
        assert np.array_equal(phrases.neutral_vectors(embedder.identity, load), own)
    assert len(loads) == 6


def test_index_and_queries_import_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from imgsearch.cli.app import main\n"
        "for words in ({index!r}, {picture!r}):\n"
        "    sys.argv = ['imgsearch', *words]\n"
        "    try: main()\n"
        "    except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {{'torch', 'torchvision', 'open_clip', 'timm', 'onnx'}} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    ).format(
        index=["index", str(ALBUM), "--model", "builtin", "--index", str(tmp_path / "i")],
        picture=["query", str(ALBUM / "lemon.jpg"), "--index", str(tmp_path / "i")],
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("asked", [{"device": "cuda"}, {"precision": "fp32"}, {"precision": "bf16"}], ids=str)
def test_a_device_or_precision_asked_for_means_torch(asked) -> None:
    assert found(**asked) is None


def test_a_gpu_means_torch_unless_the_cpu_is_asked_for(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_embedder, "may_have_gpu", lambda: True)
    assert found(device="auto") is None
    assert found(device="cpu") is not None
    monkeypatch.setattr(onnx_embedder, "has_torch", lambda: False)
    assert found(device="auto") is not None


def test_the_faster_one_is_remembered(model, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    embedder = found()
    assert embedder is not None
    assert onnx_embedder.rates(model.identity.fingerprint) is None
    monkeypatch.setattr(onnx_embedder, "MEASURED_PHOTOS", 8)
    faster = onnx_embedder.is_torch_faster(embedder, model)
    measured = onnx_embedder.rates(model.identity.fingerprint)
    assert measured is not None and (measured["torch"] > measured["onnx"]) == faster
    path = Path(onnx_embedder._file())
    path.write_text(json.dumps({key: {"onnx": 1.0, "torch": 2.0} for key in json.loads(path.read_text())}))
    assert found() is None
    path.write_text("not JSON")
    assert found() is not None


def test_a_long_run_goes_on_with_torch_if_that_is_faster(model, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(onnx_embedder, "is_torch_faster", lambda onnx, torch: True)
    lines: list[str] = []
    embedder = found(whole=lambda: model, say=lines.append)
    assert embedder is not None
    embedder.expect(onnx_embedder.MEASURE_FROM_PHOTOS - 1)
    assert not lines
    embedder.expect(onnx_embedder.MEASURE_FROM_PHOTOS)
    assert lines == ["measuring whether torch embeds faster with builtin, once"]
    monkeypatch.setattr(embedder, "run_image_tower", lambda squares: pytest.fail("ONNX was used"))
    assert len(embedder.embed_images(np.zeros((1, *model.recipe.size, 3), np.uint8))) == 1


def test_a_model_folder_whose_configuration_was_edited_is_another_model(
    other: str, monkeypatch, tmp_path: Path
) -> None:
    from imgsearch.core.models import loading as torch_models
    from imgsearch.core.models import onnx_export

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = registry.parse(other)
    onnx_export.export(torch_models.load(spec, device="cpu"))
    assert Towers.of_model(spec) is not None
    config = Path(other.removeprefix("local-dir:")) / "open_clip_config.json"
    config.write_text(config.read_text().replace("0.48", "0.47"))
    assert Towers.of_model(spec) is None


def test_damaged_files_are_never_used_for_photos(towers_elsewhere: Path, monkeypatch) -> None:
    graph = towers_elsewhere / "image.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    assert found() is None
    monkeypatch.setattr(onnx_embedder, "has_torch", lambda: False)
    with pytest.raises(ModelError, match="damaged"):
        found()


def test_a_tower_that_fails_is_replaced_by_the_model(model, monkeypatch) -> None:
    lines: list[str] = []
    embedder = found(whole=lambda: model, say=lines.append)
    assert embedder is not None

    def fail(squares):
        raise TowersError("no memory")

    monkeypatch.setattr(embedder, "run_image_tower", fail)
    squares = np.zeros((2, *model.recipe.size, 3), np.uint8)
    assert np.array_equal(embedder.embed_images(squares), model.embed_images(squares))
    assert lines == ["builtin does not run on ONNX Runtime (no memory); using torch"]
    monkeypatch.setattr(onnx_embedder, "has_torch", lambda: False)
    embedder._model = None
    with pytest.raises(ModelError, match="cannot embed"):
        embedder.embed_images(squares)


def test_a_vector_that_is_not_finite_is_a_row_of_nan(monkeypatch) -> None:
    embedder = found()
    assert embedder is not None
    monkeypatch.setattr(onnx_embedder, "run", lambda tower, squares: np.full((1, 256), np.inf, np.float32))
    assert np.isnan(embedder.embed_images(np.zeros((2, *embedder.recipe.size, 3), np.uint8))).all()


# ----------------------------------------------------------------- an index of the previous version


class Previous:
    """Embeds in the space of the previous built-in model, as far as vectors can be translated into it."""

    identity = SpaceIdentity(V0, "builtin", "builtin", None, 192, {})

    def __init__(self) -> None:
        towers = Towers.find(V0)
        assert towers is not None
        self.recipe, self.embed_images, self.embed_texts = (
            towers.manifest.recipe,
            towers.embed_images,
            towers.embed_texts,
        )


@pytest.fixture
def old_index(imgsearch, photos: Path, folder: str, monkeypatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(loading, "load_model", lambda spec, **_: Previous())
        assert imgsearch("index", photos, "--model", "builtin").code == 0
    return folder


def test_an_index_of_the_previous_version_still_answers(old_index: str, imgsearch, photos: Path) -> None:
    assert json.loads(imgsearch("status", "--json").out)["spaces"][0]["dim"] == 192
    for asked in (["carrots"], [str(ALBUM / "carrots.jpg")], ["in a bag like " + str(photos / "carrots.jpg")]):
        answer = imgsearch("query", *asked, "-n", "3")
        assert answer.code == 0
        assert len(answer.out.splitlines()) == 3
    first = imgsearch("query", ALBUM / "carrots.jpg", "-n", "1").out
    assert b"carrots.jpg" in first
    deep = imgsearch("check", "--deep")
    assert (deep.code, "earlier version" in deep.err) == (0, True)


def test_the_next_index_embeds_it_again(old_index: str, imgsearch, photos: Path) -> None:
    (photos / "new").mkdir()
    shutil.copy(ALBUM / "kiwi.jpg", photos / "new")
    run = imgsearch("index", photos / "new")
    assert run.code == 0
    assert "the built-in model has a better version: embedding all photos again, once" in run.err
    status = json.loads(imgsearch("status", "--json").out)
    assert [(space["dim"], space["vectors"]) for space in status["spaces"] if space["is_active"]] == [(256, 7)]
    assert "better version" not in imgsearch("index").err


def test_search_stays_with_the_old_vectors_while_a_folder_is_away(old_index: str, imgsearch, photos: Path) -> None:
    photos.rename(photos.with_name("away"))
    other = photos.with_name("other")
    other.mkdir()
    shutil.copy(ALBUM / "kiwi.jpg", other)
    run = imgsearch("index", other)
    assert "search uses builtin until they do" in run.err
    active = [space for space in json.loads(imgsearch("status", "--json").out)["spaces"] if space["is_active"]]
    assert [space["dim"] for space in active] == [192]
    photos.with_name("away").rename(photos)
    assert "search now uses builtin" in imgsearch("index").err


def test_a_damaged_table_of_the_previous_version_is_an_error_with_a_next_step(
    old_index: str, imgsearch, towers_elsewhere: Path
) -> None:
    table = towers_elsewhere / "earlier_v0.npy"
    table.write_bytes(bytes(table.stat().st_size))
    answer = imgsearch("query", "never asked before", "--no-history")
    assert answer.code != 0
    assert "Traceback" not in answer.err and "imgsearch index" in answer.err
