"""Textual inversion: the text tower reads a vector as a word, and phi makes one of a picture, as published."""

from __future__ import annotations

import math
import os
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from imgsearch.core.compose import composer_file
from imgsearch.core.compose.composers import composer_for
from imgsearch.core.compose.published import convert
from imgsearch.core.compose.weighted_path import along_path
from imgsearch.core.errors import ImgsearchError, ModelError, UsageError
from imgsearch.core.models import checkpoint
from imgsearch.core.models.text_tower import TextTower
from imgsearch.core.models.towers import SHIPPED, Towers
from imgsearch.core.search.composition import Change
from imgsearch.core.search.grammar import Query, Term
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.types import SpaceIdentity

from chosen import FINGERPRINT, Words, composer_of, index_of, phi_tensors, random_units, unit

DIM, WIDTH = 16, 12
IDENTITY = SpaceIdentity(FINGERPRINT, "chosen", "none", None, DIM, {})
METHODS = ("pic2word", "searle", "lincir")


def phi_file(path, tensors, method="searle", **said) -> str:
    return composer_of(path, tensors, method=method, **said)


class Reading(Words):
    """An embedder that says what it was given to read."""

    def __init__(self, vectors, reason="") -> None:
        super().__init__(vectors)
        self.given, self.reason = [], reason

    def embed_with(self, text, vector):
        if self.reason:
            raise ModelError(self.reason, hint="use another method")
        self.given.append((text, vector))
        return self.of(text + vector.tobytes().hex())


# ---- The text tower reads a vector as a word -------------------------------------------------------------------------


def open_clip_reads(model, ids, place, vector):
    """open_clip's own forward, with one embedding replaced by a hook."""
    import torch

    def replace(_module, _inputs, embeddings):
        embeddings = embeddings.clone()
        embeddings[0, place] = torch.from_numpy(vector)
        return embeddings

    tower = getattr(model, "text", model)
    hook = tower.token_embedding.register_forward_hook(replace)
    try:
        with torch.inference_mode():
            return model.encode_text(ids)[0].numpy()
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model with random weights, loaded by torch, and its towers without torch."""
    import open_clip
    import safetensors.torch
    import torch
    from test_text_tower import SMALL, VISION

    from imgsearch.core.models import onnx_export
    from imgsearch.core.models.embedding import OpenClipEmbedder
    from imgsearch.core.types import Recipe

    torch.manual_seed(11)
    model = open_clip.model.CLIP(embed_dim=DIM, vision_cfg=VISION, text_cfg=SMALL).eval()
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=SMALL["context_length"])
    recipe = Recipe((32, 32), (0.5,) * 3, (0.5,) * 3)
    embedder = OpenClipEmbedder(model, tokenizer, identity=IDENTITY, recipe=recipe, device=torch.device("cpu"))
    folder = str(tmp_path_factory.mktemp("towers"))
    onnx_export.write_merges(tokenizer, folder)
    config, weights = onnx_export.plain_text(model)
    safetensors.torch.save_file(weights, os.path.join(folder, config.weights))
    return embedder, onnx_export.with_manifest(embedder, model, folder, {"image": "not needed"})


@pytest.mark.parametrize("text", ["a photo of $ , in the snow", "$", "a $ that costs $ 5", "$ " + "snow " * 30])
def test_a_vector_is_read_as_open_clip_reads_it(small, text):
    embedder, towers = small
    vector = 0.3 * random_units(4, 24)
    ids = embedder.tokenizer([text])
    place = ids[0].tolist().index(259)
    true = open_clip_reads(embedder.model, ids, place, vector)
    true /= np.linalg.norm(true)
    np.testing.assert_allclose(towers.embed_with(text, vector), true, atol=1e-4)
    np.testing.assert_allclose(embedder.embed_with(text, vector), true, atol=1e-4)
    assert not np.allclose(true, towers.embed_texts([text])[0], atol=1e-2)


def test_the_built_in_model_reads_a_vector_as_open_clip_does(torch_model):
    vector = 0.1 * random_units(4, 256)
    ids = torch_model.tokenizer(["a photo of $ that is wet"])
    true = open_clip_reads(torch_model.model, ids, 4, vector)
    found = Towers.at(SHIPPED).embed_with("a photo of $ that is wet", vector)
    np.testing.assert_allclose(found, true / np.linalg.norm(true), atol=1e-4)


def test_a_vector_is_read_in_its_own_text_of_many(small):
    """Texts of one run are sorted by length, and cut into parts."""
    towers = small[1]
    tower: TextTower = towers.load("text")
    rng = np.random.default_rng(5)
    lists = [[49406, *rng.integers(1, 49000, n).tolist(), 49407] for n in rng.integers(1, 11, 120)]
    given = [{1: 0.3 * random_units(at, 24)} if at % 3 else {} for at in range(120)]
    alone = [tower([tokens], [own])[0] for tokens, own in zip(lists, given, strict=True)]
    np.testing.assert_allclose(tower(lists, given), alone, atol=2e-5)


def test_the_built_in_model_reads_a_words_own_embedding_as_the_word():
    towers = Towers.at(SHIPPED)
    tower = towers.load("text")
    cat = tower._file.tensor("token_embedding.weight")[towers._tokens("cat")[1]].astype(np.float32)
    found = towers.embed_with("a photo of $ , in the snow", cat)
    np.testing.assert_allclose(found, towers.embed_texts(["a photo of cat , in the snow"])[0], atol=1e-4)


def test_what_cannot_be_read_is_refused(small):
    embedder, towers = small
    for model in (embedder, towers):
        with pytest.raises(ModelError, match="its tokens have 24 dimensions, and the pseudo-word has 5"):
            model.embed_with("a $", random_units(1, 5))
        with pytest.raises(ModelError, match="no valid vector"):
            model.embed_with("a $", np.full(24, np.inf, np.float32))
        with pytest.raises(ModelError, match=r"its tokenizer leaves out \$"):
            model.embed_with("a photo", random_units(1, 24))
    assert os.path.exists(os.path.join(towers.path, "text.safetensors"))  # the towers are not to blame


# ---- The methods -----------------------------------------------------------------------------------------------------


def torch_phi(method, tensors):
    """Written from the papers: three linear layers, with dropout that does nothing when it is used."""
    import torch

    act = torch.nn.ReLU if method == "pic2word" else torch.nn.GELU
    layers = []
    for at in range(3):
        weight, bias = tensors[f"layers.{at}.weight"], tensors[f"layers.{at}.bias"]
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        layers += [linear, act(), torch.nn.Dropout(0.5)] if at < 2 else [linear]
    return torch.nn.Sequential(*layers).eval()


@pytest.mark.parametrize("method", METHODS)
def test_a_query_is_the_sentence_with_the_picture_as_a_word(small, tmp_path, method):
    import torch

    embedder, towers = small
    tensors = phi_tensors(DIM, width=24, norm=10.0)
    composer = composer_for(f"{method}:{phi_file(tmp_path / 'w', tensors, method)}", IDENTITY)
    picture, words = random_units(1, DIM), random_units(2, DIM)
    change = Change(picture, words, "in the snow", 0.5, lambda: towers)
    with torch.inference_mode():
        word = torch_phi(method, tensors)(torch.from_numpy(10 * picture)).numpy()
    sentence = "a photo of $ , in the snow" if method == "pic2word" else "a photo of $ that in the snow"
    ids = embedder.tokenizer([sentence])
    true = open_clip_reads(embedder.model, ids, 4, word)
    np.testing.assert_allclose(composer.word(picture), word, atol=1e-4)
    (found,) = composer.directions(change)
    np.testing.assert_allclose(found, true / np.linalg.norm(true), atol=1e-4)


def test_the_weight_leads_from_the_picture_over_the_query_to_the_words():
    picture, composed, words = random_units(1, 3, DIM)

    def at(weight):
        return along_path(Change(picture, words, "", weight, Words), composed)

    np.testing.assert_allclose(at(0.5), composed, atol=1e-6)
    np.testing.assert_allclose(at(0.25), unit(picture + composed), atol=1e-6)
    np.testing.assert_allclose(at(0.9), unit(0.2 * composed + 0.8 * words), atol=1e-6)
    np.testing.assert_allclose(at(1e-4), picture, atol=1e-3)
    np.testing.assert_allclose(at(1 - 1e-4), words, atol=1e-3)


@pytest.fixture
def album(tmp_path):
    rows = random_units(1, 40, DIM)
    rows[:2] = rows[2]
    contents = [b"the same" if n < 3 else b"photo %d" % n for n in range(40)]
    with index_of(tmp_path, contents, rows, random_units(2, DIM), random_units(3, 30, DIM)) as (searcher, paths):
        reading = Reading({"words": random_units(2, DIM)})
        yield Searcher(searcher.store, lambda: reading, composers=composer_for), paths, rows, reading


def test_photos_are_ranked_by_the_one_vector(album, tmp_path):
    searcher, paths, rows, reading = album
    weights = phi_file(tmp_path / "w", phi_tensors(DIM), weight="0.4")
    query = Query("typed", text="words", images=(paths[0],))

    def hits(query=query, **options):
        return searcher.search(query, SearchOptions(limit=100, method=f"searle:{weights}", **options))

    found = hits()
    ((text, word),) = reading.given
    assert text == "a photo of $ that words" and word.shape == (WIDTH,)
    sentence = reading.embed_with(text, word)
    wanted = rows @ unit(0.2 * rows[0] + 0.8 * sentence)
    assert {hit.method for hit in found} == {"searle"}
    assert [hit.path for hit in found] == [paths[at] for at in np.argsort(-wanted) if at > 2]
    assert [hit.score for hit in found] == pytest.approx(sorted(wanted[3:], reverse=True), abs=1e-5)
    for weight, plain in ((0, Query("typed", images=(paths[0],))), (1, Query("typed", text="words"))):
        same = searcher.search(plain, SearchOptions(limit=100, modality="image"))
        assert [hit.path for hit in hits(weight=weight)] == [hit.path for hit in same]
    several = hits(Query("typed", text="words", images=(paths[0], paths[3])))
    assert len(several) == 36 and not np.array_equal(reading.given[-1][1], word)
    less = hits(Query("typed", text="words", images=(paths[0],), negatives=("other",)))
    assert {hit.path for hit in less} == {hit.path for hit in found}
    explained = []
    terms = (Term(text="words", weight=2), Term(text="other"))
    options = SearchOptions(method=f"searle:{weights}")
    searcher.search(Query("typed", images=(paths[0],), terms=terms), options, on_explained=explained.append)
    assert "method: scaled (searle is not for a weighted sum)" in explained[0].lines()


def test_a_model_that_reads_no_vectors_is_refused_by_name(album, tmp_path):
    searcher, paths, _, reading = album
    reading.reason = "its text tower is not a causal one of CLIP"
    weights = phi_file(tmp_path / "w", phi_tensors(DIM), "lincir")
    with pytest.raises(ModelError) as error:
        searcher.search(Query("typed", text="words", images=(paths[0],)), SearchOptions(method=f"lincir:{weights}"))
    assert str(error.value) == f"--compose lincir does not work with chosen: {reading.reason}"
    assert error.value.hint == "use another method"


def test_a_text_tower_that_is_not_causal_reads_no_vectors(small):
    import dataclasses

    towers = small[1]
    other = Towers(towers.path, dataclasses.replace(towers.manifest, text=None))
    with pytest.raises(ModelError, match="not a causal one of CLIP"):
        other.embed_with("a $", random_units(1, 24))


def test_a_method_without_a_file_says_how_to_get_one():
    with pytest.raises(UsageError, match="--compose searle needs a file of weights") as error:
        composer_for("searle", IDENTITY)
    assert "imgsearch composers import" in str(error.value.hint)


@pytest.mark.parametrize(
    ("change", "said", "reason"),
    [
        ({}, {"model": "e" * 64}, "for another model than chosen"),
        ({}, {"model": "", "arch": "ViT-L-14/openai"}, "for ViT-L-14/openai, and the model is none"),
        ({}, {"method": "lincir"}, "for the method lincir"),
        ({"layers.1.bias": None}, {}, "has no tensor layers.1.bias"),
        ({"layers.3.bias": np.zeros(3, np.float32)}, {}, "unknown tensor: layers.3.bias"),
        ({"layers.1.bias": np.zeros(3, np.float32)}, {}, "layers.1.bias .* has the shape 3, not 20"),
        ({"layers.2.bias": np.full(WIDTH, np.nan, np.float32)}, {}, "layers.2.bias .* not finite"),
        ({"feature_norm": np.float32([0])}, {}, "no valid feature_norm"),
        ({"feature_norm": np.float32([1, 2])}, {}, "no valid feature_norm"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, said, reason):
    tensors = {name: value for name, value in (phi_tensors(DIM) | change).items() if value is not None}
    path = phi_file(tmp_path / "w", tensors, **said)
    with pytest.raises(ImgsearchError) as error:
        composer_for(f"searle:{path}", IDENTITY)
    assert re.search(reason, str(error.value)) and "\n" not in str(error.value) and path in str(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_the_largest_weights_do_no_harm(small, tmp_path, method):
    """Values that a file may have, but no training gives: a valid vector or a refusal, and the towers stay."""
    towers = small[1]
    tensors = {name: np.full_like(values, 65_000) for name, values in phi_tensors(DIM, width=24, norm=1).items()}
    composer = composer_for(f"{method}:{phi_file(tmp_path / 'w', tensors, method)}", IDENTITY)
    (found,) = composer.directions(Change(random_units(1, DIM), random_units(2, DIM), "x", 0.5, lambda: towers))
    assert abs(np.linalg.norm(found) - 1) < 1e-5
    assert os.path.exists(os.path.join(towers.path, "text.safetensors"))


# ---- Published checkpoints -------------------------------------------------------------------------------------------


def published(method, dim, hidden, seed=1):
    """A network of the published shapes with the published keys, by chance, and what else is in such a file."""
    import torch

    torch.manual_seed(seed)
    nn = torch.nn
    if method == "pic2word":

        class IM2TEXT(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.Sequential(
                    *(nn.Sequential(nn.Linear(a, hidden), nn.Dropout(0.1), nn.ReLU()) for a in (dim, hidden))
                )
                self.fc_out = nn.Linear(hidden, dim)

            def forward(self, x):
                return self.fc_out(self.layers(x))

        phi = IM2TEXT().eval()
        state = {f"module.{name}": tensor for name, tensor in phi.state_dict().items()}
        return phi, {"epoch": 30, "name": "pic2word", "state_dict": {"visual": torch.zeros(5)},
                     "state_dict_img2text": state, "optimizer": {"state": {}, "param_groups": []}}  # fmt: skip

    class Phi(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(p=0.5), nn.Linear(hidden, hidden), nn.GELU(),
                nn.Dropout(p=0.5), nn.Linear(hidden, dim),
            )  # fmt: skip

        def forward(self, x):
            return self.layers(x)

    phi = Phi().eval()
    return phi, {"epoch": 1, "Phi": phi.state_dict()}


@pytest.mark.parametrize(
    ("method", "dim", "hidden", "arch", "zipped"),
    [
        ("pic2word", 768, 512, "ViT-L-14/openai", True),
        ("searle", 512, 2048, "ViT-B-32/openai", False),
        ("searle", 768, 3072, "ViT-L-14/openai", True),
        ("lincir", 768, 3072, "ViT-L-14/openai", True),
    ],
)
def test_a_published_file_is_imported(imgsearch, tmp_path, method, dim, hidden, arch, zipped):
    import torch

    phi, content = published(method, dim, hidden)
    torch.save(content, tmp_path / "theirs.pt", _use_new_zipfile_serialization=zipped)
    out = tmp_path / "ours"
    done = imgsearch(
        "composers", "import", method, tmp_path / "theirs.pt", "--out", out, "--json", "--feature-norm", "7"
    )
    (record,) = done.records
    assert (done.code, record["model"], record["dim"], record["feature_norm"]) == (0, arch, dim, 7)
    assert sorted(map(tuple, record["read"].values())) == sorted(tuple(p.shape) for p in phi.parameters())
    assert "epoch" in record["ignored"] and ("not stated" if method == "pic2word" else "CC BY-NC") in record["licence"]
    tag, weights = arch.split("/")
    for name in (tag, f"{tag}-quickgelu"):
        identity = SpaceIdentity("a" * 64, "mine", name, weights, dim, {})
        composer = composer_for(f"{method}:{out}", identity)
    picture = random_units(1, dim)
    with torch.inference_mode():
        true = phi(torch.from_numpy(7 * picture)).numpy()
    np.testing.assert_allclose(composer.word(picture), true, atol=1e-4)
    with pytest.raises(UsageError, match=f"the weights are for {arch}, and the model is {tag}/laion"):
        composer_for(f"{method}:{out}", SpaceIdentity("a" * 64, "mine", tag, "laion", dim, {}))
    with pytest.raises(UsageError, match=f"the weights are for {dim} dimensions, and the model has 16"):
        composer_for(f"{method}:{out}", SpaceIdentity("a" * 64, "mine", tag, weights, 16, {}))


def test_what_was_read_is_stated(imgsearch, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save(published("searle", 512, 8)[1], "theirs.pt")
    done = imgsearch("composers", "import", "searle", "theirs.pt")
    assert done.err.splitlines() == [
        "imgsearch: read Phi/layers.0.weight (8 x 512), Phi/layers.0.bias (8), Phi/layers.3.weight (8 x 8), "
        "Phi/layers.3.bias (8), Phi/layers.6.weight (512 x 8), Phi/layers.6.bias (512)",
        "imgsearch: not read: epoch",
        "imgsearch: licence of the weights: CC BY-NC 4.0: no commercial use",
        "imgsearch: for an index of ViT-B-32/openai, whose picture vectors are taken to have length 10.8",
        f"imgsearch: wrote {tmp_path}/searle.safetensors; use it with: --compose searle:{tmp_path}/searle.safetensors",
    ]


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_an_import_that_is_refused_names_the_file_and_leaves_the_old_weights(imgsearch, tmp_path, monkeypatch):
    """In a process that makes nothing but tensors."""
    import torch

    monkeypatch.chdir(tmp_path)
    Path("searle.safetensors").write_bytes(b"old")
    path = tmp_path / "theirs.pt"
    torch.save({"Phi": Bomb()}, path)
    for bomb in (path.read_bytes(), pickle.dumps(Bomb(), protocol=2)):
        path.write_bytes(bomb)
        done = imgsearch("composers", "import", "searle", path)
        line, hint = done.err.splitlines()
        assert done.code == 2 and hint
        assert line == f"imgsearch: {path} holds {os.mkdir.__module__}.mkdir, which is not a tensor"
    for name, reason in (("nothing.pt", "no such file"), (".", "not a regular file")):
        done = imgsearch("composers", "import", "searle", name)
        assert done.code == 2 and reason in done.err
    assert not Path("exploded").exists() and Path("searle.safetensors").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["searle.safetensors", "theirs.pt"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        pickle.dumps(Bomb()),
        struct.pack("<Q", 100 << 30) + b"{}",
        b"PK\x03\x04" + b"\0" * 100,
        "huge",
        "half",
    ],
    ids=["empty", "zeros", "bomb", "header", "zip", "huge", "half"],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, data):
    import torch

    path = str(tmp_path / "theirs.pt")
    torch.save(published("searle", 512, 8)[1], path)
    if data == "huge":
        os.truncate(path, 100 << 30)
    elif data == "half":
        os.truncate(path, os.path.getsize(path) // 2)
    else:
        Path(path).write_bytes(data)
    with pytest.raises(checkpoint._Refused, match="is damaged, or holds more than tensors"):
        checkpoint._tensors(path, "Phi")


def test_a_checkpoint_of_something_else_says_what_it_has(tmp_path):
    import torch

    path = str(tmp_path / "theirs.pt")
    phi = published("searle", 512, 8)[1]["Phi"]
    for content, reason in (
        ({"phi": {}, "epoch": 3}, "has no Phi; it has: phi, epoch"),
        ({}, "has no Phi; it has: nothing"),
        ([1], "has no Phi; it has: list"),
        ({"Phi": phi | {"layers.0.bias": 3}}, "has more than tensors in Phi"),
        ({"Phi": {"layers.0.bias": torch.zeros(1).expand(90_000_000)}}, "has more than 60,000,000 values in Phi"),
    ):
        torch.save(content, path)
        with pytest.raises(checkpoint._Refused, match=reason):
            checkpoint._tensors(path, "Phi")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"layers.3.bias": None}, "x.pt has no Phi/layers.3.bias"),
        ({"layers.9.bias": np.zeros(2)}, "x.pt has an unknown tensor: Phi/layers.9.bias"),
        ({"layers.3.bias": np.full(8, np.nan)}, "x.pt has values that are not finite in Phi/layers.3.bias"),
        ({"layers.3.bias": np.zeros(9)}, "x.pt has layers that do not fit together: 8 x 8"),
        ({"layers.6.weight": np.zeros((16, 9))}, "x.pt has layers that do not fit together: 16 x 9 after 8"),
        ({"layers.3.bias": np.zeros((2, 2))}, "x.pt has a Phi/layers.3.bias of 2 x 2"),
        ({"layers.0.weight": np.zeros((8, 0))}, "x.pt has a Phi/layers.0.weight of 8 x 0"),
        ({}, "x.pt is for 16 dimensions, which no published model has"),
    ],
)
def test_tensors_that_are_not_as_published_are_refused(change, reason):
    shapes = {"layers.0": (8, 16), "layers.3": (8, 8), "layers.6": (16, 8)}
    tensors = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": np.ones(shape[0], np.float32) for name, shape in shapes.items()}
    tensors = {name: values for name, values in (tensors | change).items() if values is not None}
    with pytest.raises(ImgsearchError) as error:
        convert("searle", "x.pt", checkpoint.Checkpoint(tensors, ()))
    assert str(error.value).startswith(reason) and error.value.hint


def test_weights_for_models_of_unknown_length_need_one_and_fit_a_file():
    shapes = {"layers.0": (5120, 1280), "layers.3": (5120, 5120), "layers.6": (1280, 5120)}
    tensors = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": np.ones(shape[0], np.float32) for name, shape in shapes.items()}
    found = checkpoint.Checkpoint(tensors, ())
    with pytest.raises(UsageError, match="the length of pictures' vectors of ViT-bigG-14/laion2b_s39b_b160k is not"):
        convert("lincir", "x.pt", found)
    for norm in (0, math.nan, math.inf):
        with pytest.raises(UsageError, match="is no length"):
            convert("lincir", "x.pt", found, feature_norm=norm)
    made = convert("lincir", "x.pt", found, feature_norm=30)
    assert sum(values.nbytes for values in made.tensors.values()) < composer_file.MAX_BYTES
    assert made.tensors["layers.1.weight"].dtype == np.float16 and made.tensors["feature_norm"].tolist() == [30]
