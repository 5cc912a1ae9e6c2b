"""Queries without torch: the same tokens, the same vectors, the same answers, and the model itself where that fails."""

import errno
import functools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch.core.models import loading, onnx_export, registry, towers
from imgsearch.core.models.phrases import neutral_phrases
from imgsearch.core.models.query_cache import QueryCache
from imgsearch.core.models.tokens import Tokenizer
from imgsearch.core.models.towers import MANIFEST, QueryEmbedder, TextConfig, Towers

MERGES = os.path.join(towers.SHIPPED, "merges.txt")
ODD = [
    "", " ", "a", "'s", "it's we'll I'd", "C++ & T-shirts: 3/4", "<start_of_text> x <end_of_text> y", "<START_OF_TEXT>",
    "&lt;b&gt; &amp;amp; &eacute;", "ﬁn Ｆｕｌｌ “quotes” – —", "東京の夜 Привет Straße İstanbul ΣΑΣ",
    "😀👩‍👩‍👧 x", "a\x00b\tc\nd",
    "sunset " * 100, "x" * 300, "1234567890", "___ foo_bar", "mÃ©xico", "\u200b\u00ad\u2028",
]  # fmt: skip


@functools.cache
def tokenizers(clean, context_length=77):
    with open(MERGES, encoding="utf-8") as file:
        ours = Tokenizer(file.read(), context_length=context_length, clean=clean)
    return ours, open_clip.tokenizer.SimpleTokenizer(context_length=context_length, clean=clean)


def ids(theirs, text):
    """open_clip's tokens without the padding."""
    row = theirs([text])[0].tolist()
    return row[: len(row) - row[::-1].index(theirs.eot_token_id)]


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("text", ODD)
def test_odd_texts_have_open_clips_tokens(clean, text):
    ours, theirs = tokenizers(clean)
    assert ours(text) == ids(theirs, text)


@pytest.fixture(scope="module")
def both():
    return tokenizers("lower", 24)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_has_open_clips_tokens(both, text):
    ours, theirs = both
    assert ours(text) == ids(theirs, text)


def test_captions_have_open_clips_tokens(both, shared):
    ours, theirs = both
    texts = [json.loads(line)["text"] for line in (shared / "clip-vectors" / "texts.jsonl").read_text().splitlines()]
    assert len(texts) > 100
    assert [ours(text) for text in texts] == [ids(theirs, text) for text in texts]


# ------------------------------------------------------------------------------------------- the built-in model


def shipped(model) -> Towers:
    found = Towers.find(model.identity.fingerprint)
    assert found is not None
    assert found.path == towers.SHIPPED
    return found


def test_the_built_in_model_ships_with_its_towers(model, photos):
    towers = shipped(model)
    texts = [*neutral_phrases(), *ODD]
    assert (towers.embed_texts(texts) * model.embed_texts(texts)).sum(axis=1).min() > 0.99999
    squares = np.random.default_rng(3).integers(0, 256, (5, *model.recipe.size, 3)).astype(np.uint8)
    assert (towers.embed_images(squares) * model.embed_images(squares)).sum(axis=1).min() > 0.9999
    assert towers.manifest.recipe == model.recipe


def test_the_shipped_graph_names_no_folder_of_the_machine_that_made_it():
    with open(os.path.join(towers.SHIPPED, "image.onnx"), "rb") as file:
        assert b"site-packages" not in (content := file.read())
        assert os.path.expanduser("~").encode() + b"/" not in content


def test_texts_come_back_in_their_order_whatever_their_length(model):
    texts = [f"{'very ' * (n % 9)}long {n}" for n in range(70)]
    together = shipped(model).embed_texts(texts)
    for n in (0, 8, 35, 69):
        assert together[n] @ shipped(model).embed_texts([texts[n]])[0] > 0.99999


# ---------------------------------------------------------------------------------------------- any other model


@pytest.fixture
def model(torch_model):
    return torch_model


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A transformer of open_clip's own with random weights, its text tower causal, loaded from a checkpoint."""
    import torch

    folder = tmp_path_factory.mktemp("model")
    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    torch.manual_seed(5)
    torch.save(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_pytorch_model.bin")
    return registry.parse(f"local-dir:{folder}")


def test_export_writes_towers_that_agree_with_the_model(other, tmp_path):
    embedder = loading.load(other, device="cpu")
    made = onnx_export.export(embedder, str(tmp_path / "light" / "x"))
    assert made.manifest.lacking == {}
    assert made.manifest.text == TextConfig("text.safetensors", 2, 2, "gelu", 1e-5)
    found = Towers.find(embedder.identity.fingerprint, made.path)
    assert found is not None
    texts = ["a dog", "a very long text about a dog that runs along a beach at night with nobody near it", *ODD]
    assert (found.embed_texts(texts) * embedder.embed_texts(texts)).sum(axis=1).min() > 0.9999
    squares = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    assert (found.embed_images(squares) * embedder.embed_images(squares)).sum(axis=1).min() > 0.999
    assert os.listdir(tmp_path / "light") == ["x"]
    assert os.stat(made.path).st_mode & 0o777 == 0o700


def test_a_tower_that_does_not_agree_is_left_out_with_its_reason(other, tmp_path, monkeypatch):
    embedder = loading.load(other, device="cpu")
    monkeypatch.setattr(onnx_export, "MIN_COSINE", 1.1)
    made = onnx_export.export(embedder, str(tmp_path / "x"))
    assert set(made.manifest.lacking) == {"text", "image"}
    assert all("cosine" in why for why in made.manifest.lacking.values())
    assert sorted(os.listdir(made.path)) == [MANIFEST, "merges.txt"]
    embedder.reload = None  # not tried again: the reason stands in the manifest
    assert Towers.find(embedder.identity.fingerprint, made.path).manifest.lacking == made.manifest.lacking


def test_another_tokenizer_leaves_the_text_tower_out(other, tmp_path):
    embedder = loading.load(other, device="cpu")
    simple = embedder.tokenizer

    class Sentences:
        context_length = simple.context_length

        def __call__(self, texts):
            return simple(texts)

    embedder.tokenizer = Sentences()
    made = onnx_export.export(embedder, str(tmp_path / "x"))
    assert list(made.manifest.lacking) == ["text"]
    assert "Sentences" in made.manifest.lacking["text"]


def test_a_full_disk_is_reported_and_leaves_no_files(other, tmp_path, monkeypatch):
    embedder = loading.load(other, device="cpu")
    monkeypatch.setattr(onnx_export, "SPACE_NEEDED", 1e12)
    with pytest.raises(towers.TowersError, match="no space"):
        onnx_export.export(embedder, str(tmp_path / "light" / "x"))
    assert os.listdir(tmp_path / "light") == []


REPORTS = """
import os, sys
from imgsearch.core.models.towers import SHIPPED, session
session(os.path.join(SHIPPED, "image.onnx"))
assert "onnxruntime" in sys.modules
"""


def test_onnxruntime_reports_to_nobody(tmp_path):
    """Left alone, 1.31 makes an identifier of this device and a store of reports here, and sends them."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    for name in ("CI", "GITHUB_ACTIONS", "TF_BUILD", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    subprocess.run([sys.executable, "-P", "-c", REPORTS], env=environment, check=True, timeout=60)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_no_property_of_the_model(other, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    embedder = loading.load(other, device="cpu")
    monkeypatch.setattr(onnx_export, "_make", full)
    with pytest.raises(towers.TowersError, match="no space left"):
        onnx_export.export(embedder, str(tmp_path / "light" / "x"))
    assert os.listdir(tmp_path / "light") == []


def test_the_second_of_two_exports_keeps_the_towers_of_the_first(other, tmp_path, monkeypatch):
    embedder = loading.load(other, device="cpu")
    path = str(tmp_path / "light" / "x")
    write = onnx_export._write

    def overtaken(*arguments):
        monkeypatch.setattr(onnx_export, "_write", write)
        onnx_export.export(embedder, path)
        return write(*arguments)

    monkeypatch.setattr(onnx_export, "_write", overtaken)
    assert onnx_export.export(embedder, path).path == path
    assert os.listdir(tmp_path / "light") == ["x"]
    assert Towers.find(embedder.identity.fingerprint, path).has("text")


def test_what_failed_with_other_libraries_is_tried_again(other, tmp_path, monkeypatch):
    embedder = loading.load(other, device="cpu")
    monkeypatch.setattr(onnx_export, "MIN_COSINE", 1.1)
    made = onnx_export.export(embedder, str(tmp_path / "x"))
    assert not made.is_worth_retrying()
    monkeypatch.setattr(towers, "libraries", lambda: "others")
    assert made.is_worth_retrying()


# ------------------------------------------------------------------------------------------------ falling back


class Whole:
    """The model itself, saying when it is asked for."""

    def __init__(self, model) -> None:
        self.model = model
        self.loads = 0

    def __call__(self):
        self.loads += 1
        return self.model


@pytest.fixture
def copied(model, tmp_path) -> Towers:
    shutil.copytree(
        towers.SHIPPED,
        tmp_path / "towers",
        ignore=shutil.ignore_patterns("README.md", "SHA256SUMS", "*config.json", "phrases-*"),
    )
    found = Towers.find(model.identity.fingerprint, str(tmp_path / "towers"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "kept"),
    [("open_clip_model.safetensors", 0), ("open_clip_model.safetensors", 100_000), ("merges.txt", 0)],
    ids=["header", "weights", "merges"],
)
def test_damaged_towers_are_removed_and_the_model_answers(model, copied, name, kept):
    path = os.path.join(copied.path, name)
    size = os.path.getsize(path)
    with open(path, "r+b") as file:  # of the same size, so that only using it shows
        file.seek(kept)
        file.write(b"\xff" * (size - kept))
    whole = Whole(model)
    embedder = QueryEmbedder(model.identity, whole, towers=copied)
    vectors = embedder.embed_texts(["a dog"])
    assert np.isfinite(vectors).all()
    assert whole.loads == 1
    np.testing.assert_allclose(vectors, model.embed_texts(["a dog"]), atol=1e-6)
    assert not os.path.exists(copied.path)


@pytest.mark.parametrize(
    "change",
    [{"format": 0}, {"fingerprint": "0" * 64}, {"files": {"image.onnx": 1}}, {"files": {"nothing": 1}}, {"recipe": 3},
     {"text": {"heads": 4}}, {"text": "onnx"}],
)  # fmt: skip
def test_towers_of_another_model_or_version_or_cut_short_are_not_used(model, copied, change):
    path = os.path.join(copied.path, MANIFEST)
    with open(path) as file:
        record = json.load(file)
    with open(path, "w") as file:
        json.dump(record | change, file)
    assert Towers.find(model.identity.fingerprint, copied.path) is None


# ---------------------------------------------------------------------------------------------- the query cache


def test_a_text_asked_before_needs_no_model(model, tmp_path):
    history = QueryCache(model.identity.fingerprint, model.identity.dim, str(tmp_path / "cache" / "queries.sqlite3"))
    whole = Whole(model)
    first = QueryEmbedder(model.identity, whole, cache=history).embed_texts(["a dog", "a cat", "a dog"])
    again = QueryEmbedder(model.identity, whole, cache=history).embed_texts(["a cat", "a dog"])
    np.testing.assert_array_equal(again, first[[1, 0]])
    assert whole.loads == 1
    assert os.stat(history.path).st_mode & 0o777 == 0o600
    with open(history.path, "rb") as file:
        assert b"a dog" not in file.read()


def test_other_models_have_other_vectors(model, tmp_path):
    path = str(tmp_path / "queries.sqlite3")
    QueryCache(model.identity.fingerprint, 4, path).remember({"a": np.array([1, 0, 0, 0], np.float32)})
    assert QueryCache("another", 4, path).find(["a"]) == {}
    assert list(QueryCache(model.identity.fingerprint, 4, path).find(["a"])) == ["a"]


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b""])
def test_a_damaged_query_cache_is_replaced(tmp_path, damage):
    path = tmp_path / "queries.sqlite3"
    path.write_bytes(damage)
    history = QueryCache("x", 2, str(path))
    unit = np.array([0, 1], np.float32)
    assert history.find(["a"]) == {}
    history.remember({"a": unit})
    history.remember({"a": unit})
    np.testing.assert_array_equal(history.find(["a"])["a"], unit)


def test_a_cached_vector_without_unit_length_is_ignored(tmp_path):
    history = QueryCache("x", 2, str(tmp_path / "q.sqlite3"))
    history.remember({"a": np.array([3, 0], np.float32), "b": np.array([np.nan, 0], np.float32)})
    history.remember({"c": np.array([1, 0, 0], np.float32)})
    assert history.find(["a", "b", "c"]) == {}


def test_the_query_cache_keeps_the_latest(tmp_path, monkeypatch):
    monkeypatch.setattr("imgsearch.core.models.query_cache.MAX_VECTORS", 3)
    history = QueryCache("x", 2, str(tmp_path / "q.sqlite3"))
    for n in range(5):
        history.remember({str(n): np.array([1, 0], np.float32)})
    assert sorted(history.find([str(n) for n in range(5)])) == ["2", "3", "4"]


def test_a_query_cache_that_cannot_be_written_is_not_needed(tmp_path):
    (tmp_path / "file").write_text("")
    history = QueryCache("x", 2, str(tmp_path / "file" / "q.sqlite3"))
    history.remember({"a": np.array([1, 0], np.float32)})
    assert history.find(["a"]) == {}


# --------------------------------------------------------------------------------------------- the command line

RUN = """
import atexit, sys
atexit.register(lambda: print("MODULES", *sys.modules, file=sys.stderr))
from imgsearch.cli.app import main
main()
"""


def asked(folder, *arguments):
    command = [sys.executable, "-P", "-c", RUN, "query", *map(str, arguments), "--index", folder, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split("MODULES")[-1].split()}
    return [json.loads(line) for line in done.stdout.splitlines()], loaded


def test_queries_load_neither_torch_nor_more_than_they_need(imgsearch, photos, folder, tmp_path):
    assert imgsearch("index", photos, "--model", "builtin").code == 0
    known = imgsearch("query", "a yellow fruit", "--json", "--no-history").records
    outside = tmp_path / "outside.jpg"
    outside.write_bytes((photos / "lemon.jpg").read_bytes() + b"\0")

    hits, loaded = asked(folder, "a yellow fruit")
    assert loaded & {"torch", "open_clip", "timm", "PIL", "ftfy"} == set()
    assert "onnxruntime" not in loaded
    assert [hit["path"] for hit in hits] == [hit["path"] for hit in known]

    hits, loaded = asked(folder, "a yellow fruit")
    assert "onnxruntime" not in loaded

    hits, loaded = asked(folder, outside)
    assert "torch" not in loaded
    assert "onnxruntime" in loaded
    assert hits[0]["path"].endswith("lemon.jpg")
    assert hits[0]["score"] > 0.999

    for words, method in (("in a bowl", "scaled"), ("as a cartoon", "restyle")):
        hits, loaded = asked(folder, f"{words} like {outside}")
        assert "torch" not in loaded
        assert hits[0]["method"] == method

    hits, loaded = asked(folder, photos / "lemon.jpg")
    assert loaded & {"torch", "onnxruntime", "PIL", "hnswlib"} == set()
    assert len(hits) == 5


@pytest.mark.parametrize("arguments", [["dog", "--limit", "0"], ["dog", "--compose", "nonsense"], ["-i", "no.jpg"]])
def test_a_query_that_ends_while_a_tower_loads_ends_in_order(imgsearch, photos, folder, arguments):
    assert imgsearch("index", photos, "--model", "builtin").code == 0
    command = [sys.executable, "-P", "-m", "imgsearch", "query", *arguments, "--no-history", "--index", folder]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "terminate" not in done.stderr


def test_a_model_without_towers_gets_them_from_its_first_query_or_run(imgsearch, photos, other, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = imgsearch("index", photos, "--model", other.arch)
    assert done.code == 0
    assert "for fast queries, once" in done.err
    assert "fast, without" in imgsearch("status").out.decode()
    assert all(imgsearch("status", "--json").records[0]["spaces"][0]["light"].values())

    shutil.rmtree(tmp_path / "cache")
    assert "load the whole model" in imgsearch("status").out.decode()
    first = imgsearch("query", "a dog", "--json")
    assert "for fast queries, once" in first.err
    again = imgsearch("query", "a dog", "--json", "--no-history")
    assert "preparing" not in again.err
    for one, other_one in zip(first.records, again.records, strict=True):
        assert one["path"] == other_one["path"]
        assert one["score"] == pytest.approx(other_one["score"], abs=1e-4)
