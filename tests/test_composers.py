"""Composers: `restyle` is its formula, weights that do not fit are refused by name, and the shipped ones win."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from imgsearch.core.compose import composer_file, composers, restyle
from imgsearch.core.compose.composers import composer_for
from imgsearch.core.errors import ImgsearchError, ModelError, UsageError
from imgsearch.core.models.weights_file import WeightsFile
from imgsearch.core.search.choices import METHODS
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.types import SpaceIdentity

from chosen import FINGERPRINT, composer_of, composer_tensors, index_of, random_units, unit

DIM = 16
IDENTITY = SpaceIdentity(FINGERPRINT, "chosen", "none", None, DIM, {})


@pytest.fixture
def album(tmp_path):
    """Forty photos, of which the first three are the same, and an album without restyle's gate open."""
    rows = random_units(1, 40, DIM)
    rows[:2] = rows[2]
    contents = [b"the same" if n < 3 else b"photo %d" % n for n in range(40)]
    with index_of(tmp_path, contents, rows, random_units(2, DIM), random_units(3, 30, DIM)) as (searcher, paths):
        yield Album(searcher, paths, rows)


class Album:
    def __init__(self, searcher, paths, rows) -> None:
        self.searcher, self.paths, self.rows, self.words = searcher, paths, rows, random_units(2, DIM)

    def hits(self, *, weights: str = "", text="words", images=1, terms=(), **options):
        """Those of photos like the first, composed with `words` by restyle."""
        searcher = Searcher(self.searcher.store, self.searcher._encoder._embedder, composers=composer_for)
        query = Query("typed", text=text, images=tuple(self.paths[0 : 3 * images : 3]), terms=terms)
        method = {"method": f"restyle:{weights}"} if weights else {}
        explained = []
        hits = searcher.search(query, SearchOptions(limit=100, **{**method, **options}), on_explained=explained.append)
        return hits, explained[0]


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def normal(scores, others):
    z = (scores - others.mean()) / others.std()
    return np.array([0.5 * (1 + math.erf(each / math.sqrt(2))) for each in z])


def expected(t, rows, picture, words, w):
    """The formula of docs/composition.md, in double precision, over the distinct photos."""
    t = {name: values.astype(np.float64) for name, values in t.items()}
    length = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    subject = length((picture - t["plain.mean"]) @ t["plain.matrix"])
    named = length(softmax(40 * length(t["subjects"]) @ subject) @ t["subjects"])
    style = softmax(25 * length(t["phrases"]) @ words) @ length(t["styles"])[t["phrase_style"].astype(int)]
    a, b = rows @ length(subject + named), rows @ length(style)
    others = rows @ picture < 0.97
    return (1 - w) * normal(a, a[others]) + w * normal(b, b[others])


@pytest.mark.parametrize("w", [None, 0.2, 0.8])
def test_restyle_is_its_formula(album, tmp_path, w):
    """Near copies of the picture are left out of the z-scores, though neither side has a high score for them."""
    tensors = composer_tensors(DIM, bias=2)
    hits, _ = album.hits(weights=composer_of(tmp_path / "w", tensors, weight="0.4"), weight=w)
    found = {hit.path: hit.score for hit in hits}
    assert set(found) == set(album.paths[3:]) and {hit.method for hit in hits} == {"restyle"}
    wanted = expected(tensors, album.rows[2:].astype(np.float64), album.rows[0], album.words, w or 0.4)
    by_path = dict(zip(album.paths[2:], wanted, strict=True))
    assert [found[path] for path in found] == pytest.approx([by_path[path] for path in found], abs=2e-6)


def test_words_that_name_no_style_are_answered_by_scaled_at_its_own_weight(album, tmp_path):
    weights = composer_of(tmp_path / "w", composer_tensors(DIM, bias=-2), weight="0.4")
    scaled, plain = album.hits(method="scaled")
    hits, explained = album.hits(weights=weights)
    assert hits == scaled and {hit.method for hit in hits} == {"scaled"}
    assert (explained.record["method"], explained.record["declined"]) == ("scaled", "restyle")
    assert "method: scaled (restyle is only for words that name a style)" in explained.lines()
    assert plain.record["declined"] is None and "method: scaled" in plain.lines()
    assert [part["weight"] for part in explained.record["parts"]] == pytest.approx([0.7, 0.3])
    assert album.hits(weights=weights, weight=0.2)[0] == album.hits(method="scaled", weight=0.2)[0]


def test_weights_may_have_a_weight_of_their_own_for_other_words(album, tmp_path):
    weights = composer_of(tmp_path / "w", composer_tensors(DIM, bias=-2), other_weight="0.55")
    hits, explained = album.hits(weights=weights)
    assert hits == album.hits(method="scaled", weight=0.55)[0] != album.hits(method="scaled")[0]
    assert [part["weight"] for part in explained.record["parts"]] == pytest.approx([0.55, 0.45])
    assert album.hits(weights=weights, weight=0.2)[0] == album.hits(method="scaled", weight=0.2)[0]


def test_the_gate_decides_by_the_words(album, tmp_path):
    tensors = composer_tensors(DIM)
    at = float(album.words @ tensors["gate.weights"])
    for bias, method in ((0.01 - at, "restyle"), (-0.01 - at, "scaled")):
        weights = composer_of(tmp_path / "w", tensors | {"gate.bias": np.float32([bias])})
        assert {hit.method for hit in album.hits(weights=weights)[0]} == {method}  # the file was read again


def test_what_explain_shows_is_the_weight_that_was_used(album, tmp_path):
    weights = composer_of(tmp_path / "w", composer_tensors(DIM, bias=2), weight="0.4")
    _, explained = album.hits(weights=weights, images=2)
    assert (explained.record["method"], explained.record["declined"]) == ("restyle", None)
    assert [part["weight"] for part in explained.record["parts"]] == pytest.approx([0.4, 0.3, 0.3])


def test_several_pictures_are_their_mean(album, tmp_path):
    tensors = composer_tensors(DIM, bias=2)
    hits, _ = album.hits(weights=composer_of(tmp_path / "w", tensors), images=2, include_reference=True)
    mean = unit(album.rows[0].astype(np.float64) + album.rows[3])
    wanted = expected(tensors, album.rows[2:].astype(np.float64), mean, album.words, 0.5)
    by_path = dict(zip(album.paths[2:], wanted, strict=True))
    assert [hit.score for hit in hits if hit.path in by_path] == pytest.approx(
        [by_path[hit.path] for hit in hits if hit.path in by_path], abs=2e-6
    )


def test_subject_words_of_a_lower_rank_are_the_same_words(album, tmp_path):
    tensors = composer_tensors(DIM, bias=2, words=40)
    left, sizes, right = np.linalg.svd(tensors["subjects"], full_matrices=False)
    factored = tensors | {"subjects": left * sizes, "subjects.basis": right}
    one, other = (album.hits(weights=composer_of(tmp_path / "w", each))[0] for each in (tensors, factored))
    assert [hit.path for hit in one] == [hit.path for hit in other]
    assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)


def test_compact_weights_are_small_and_nearly_the_same():
    tensors = composer_tensors(256, words=600, bias=2)
    small = restyle.compact(tensors)
    assert sum(values.nbytes for values in small.values()) < sum(v.nbytes for v in tensors.values()) / 4
    whole, compact = io.BytesIO(), io.BytesIO()
    composer_file.write(whole, {}, tensors)
    composer_file.write(compact, {}, small)
    assert (
        len(compact.getvalue())
        == sum(values.nbytes for values in small.values()) + 8 + struct.unpack("<Q", compact.getvalue()[:8])[0]
    )
    for name in ("styles", "phrases", "plain.matrix"):
        a, b = (each[name].astype(np.float64).ravel() for each in (tensors, small))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


# Weights that cannot be used


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def header_of(length: int) -> bytes:
    return struct.pack("<Q", length)


def refused(path, identity=IDENTITY) -> str:
    """The one line that names the file and says why."""
    with pytest.raises(ImgsearchError) as error:
        composer_for(f"restyle:{path}", identity)
    assert error.value.hint and "\n" not in str(error.value) and os.fspath(path) in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "said", "reason"),
    [
        ({}, {"model": "e" * 64}, "for another model than chosen"),
        ({}, {"dim": "8"}, r"plain.matrix .* has the shape 16 x 16, not 8 x 8"),
        ({}, {"dim": "many"}, "no valid dim in its header: 'many'"),
        ({}, {"dim": "-1"}, "dimension -1"),
        ({}, {"dim": "16.5"}, "dimension 16.5"),
        ({}, {"dim": "inf"}, "dimension inf"),
        ({}, {"weight": "1.5"}, "weight 1.5, which is not between 0 and 1"),
        ({}, {"other_weight": "-1"}, "other weight -1, which is not between 0 and 1"),
        ({}, {"weight": "nan"}, "weight nan"),
        ({}, {"format": "imgsearch composer 9"}, "its format is 'imgsearch composer 9'"),
        ({}, {"method": "combiner"}, "for the method 'combiner'; the known methods are: restyle"),
        ({"gate.bias": None}, {}, "has no tensor gate.bias"),
        ({"tokens": np.zeros(3, np.float32)}, {}, "unknown tensor: tokens"),
        ({"phrases": random_units(1, 5, DIM)}, {}, "phrase_style .* has the shape 6, not 5"),
        ({"styles": np.zeros((0, DIM), np.float32)}, {}, "styles .* has the shape 0 x 16"),
        ({"plain.mean": np.float32(1)}, {}, "plain.mean .* has the shape no dimension, not 16"),
        ({"subjects": random_units(1, 5, 9)}, {}, "do not fit together"),
        ({"gate.bias": np.zeros(2, np.float32)}, {}, "do not fit together"),
        (
            {"subjects": np.ones((9_000_000, 1), np.int8), "subjects.basis": random_units(1, 1, DIM)},
            {},
            "too many subject words: 9,000,000",
        ),
        ({"x" * 10_000: np.zeros(3, np.float32)}, {}, "unknown tensor: x{9}"),
        ({"phrase_style": np.float32([0, 0, 1, 1, 2, 3])}, {}, "phrases of styles that are not in it"),
        ({"phrase_style": np.float32([0, 0, 1, 1, 2, 0.5])}, {}, "phrases of styles that are not in it"),
        ({"gate.bias": np.float32([np.nan])}, {}, "gate.bias .* not finite"),
        ({"gate.bias": np.float16([np.inf])}, {}, "gate.bias .* not finite"),
        ({"plain.mean": np.full(DIM, 1e38, np.float32)}, {}, "plain.mean .* not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, said, reason):
    tensors = {name: value for name, value in (composer_tensors(DIM) | change).items() if value is not None}
    path = composer_of(tmp_path / "w", tensors, **said)
    assert re.search(reason, refused(path))


def test_what_is_no_file_of_weights_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = Path(composer_of(tmp_path / "whole", composer_tensors(DIM))).read_bytes()
    for content, reason in (
        (pickle.dumps(Bomb()), "is a pickle, which could run code"),
        (b"PK\x03\x04" + b"\0" * 100, "is a pickle, which could run code"),
        (b"", "not a safetensors file, or is truncated"),
        (whole[:-1], "tensor subjects .* is damaged"),
        (whole[:100], "not a safetensors file, or is truncated"),
        (header_of(2) + b"{}", "its format is None"),
        (header_of(2) + b"[]", "its format is None"),
    ):
        (tmp_path / "w").write_bytes(content)
        assert re.search(reason, refused(tmp_path / "w"))
    assert not (tmp_path / "exploded").exists()
    with open(tmp_path / "w", "wb") as file:
        file.write(header_of(100 << 30) + b"{}")
        file.truncate((100 << 30) + 1_000)
    assert "larger than 80 MB" in refused(tmp_path / "w")
    os.truncate(tmp_path / "w", 60_000_000)
    with open(tmp_path / "w", "r+b") as file:
        file.write(header_of(50_000_000))
    assert "header of 50,000,000 bytes" in refused(tmp_path / "w")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "nothing")


def test_a_model_without_weights_of_its_own_is_refused_only_by_name():
    assert composer_for(None, IDENTITY) is None and composer_for("lerp", IDENTITY) is None
    assert [each.method.name for each in composers.listed(IDENTITY) if each.is_default] == ["scaled"]
    with pytest.raises(UsageError, match="--compose restyle: the weights are for another model than chosen"):
        composer_for("restyle", IDENTITY)
    with pytest.raises(UsageError, match="--compose lerp has no weights"):
        composer_for("lerp:w", IDENTITY)


def test_damaged_shipped_weights_are_named(tmp_path, monkeypatch):
    (tmp_path / "restyle.safetensors").write_bytes(b"\0" * 100)
    monkeypatch.setattr(composers, "SHIPPED", str(tmp_path))
    with pytest.raises(ModelError, match=r"restyle\.safetensors is not a safetensors file") as error:
        composer_for(None, IDENTITY)
    assert error.value.hint == "install imgsearch again, or use --compose scaled"
    *_, last = composers.listed(IDENTITY)
    assert last.method.name == "restyle" and "is not a safetensors file" in last.reason


# What ships


@pytest.fixture
def indexed(imgsearch, photos):
    assert imgsearch("index", photos, "--model", "builtin").code == 0
    return imgsearch


def test_the_default_of_the_built_in_model_is_restyle_for_styles_and_scaled_for_the_rest(indexed, photos, tmp_path):
    outside = tmp_path / "outside.jpg"
    outside.write_bytes((photos / "lemon.jpg").read_bytes() + b"\0")
    for words, method in (
        ("as a cartoon", "restyle"),
        ("a pencil sketch", "restyle"),
        ("sketch", "restyle"),
        ("make it a painting", "restyle"),
        ("in a bowl", "scaled"),
        ("red", "scaled"),
        ("yellow", "scaled"),
        ("wooden", "scaled"),
    ):
        by_default = indexed("query", f"{words} like {photos}/lemon.jpg", "--json").records
        assert {hit["method"] for hit in by_default} == {method}, words
        assert (
            by_default == indexed("query", f"{words} like {photos}/lemon.jpg", "--json", "--compose", "restyle").records
        )
    found = indexed("query", f"as a cartoon like {outside}", "--json").records
    inside = indexed("query", f"as a cartoon like {photos}/lemon.jpg", "--json").records
    assert [hit["path"] for hit in found] == [hit["path"] for hit in inside]
    less = indexed("query", f"as a cartoon like {photos}/lemon.jpg -yellow", "--json").records
    assert {hit["method"] for hit in less} == {"restyle"} and less != inside
    summed = indexed("query", f"2*cartoon + yellow like {photos}/lemon.jpg", "--json").records
    assert {hit["method"] for hit in summed} == {"scaled"}
    refused = indexed(
        "query", "--from", "a photo", "--to", "a cartoon", "-i", photos / "lemon.jpg", "--compose", "restyle"
    )
    assert refused.code == 2 and "--compose restyle does not support --from" in refused.err


def test_weights_of_ones_own(indexed, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_CONFIG", str(tmp_path / "config.toml"))
    shutil.copy(os.path.join(composers.SHIPPED, "restyle.safetensors"), tmp_path / "my weights")
    query = ("query", f"as a cartoon like {photos}/lemon.jpg", "--json")
    assert indexed(*query, "--compose", "restyle:my weights").records == indexed(*query).records
    assert indexed("config", "set", "query.compose", f"restyle:{tmp_path}/my weights").code == 0
    assert indexed(*query).records[0]["method"] == "restyle"
    (tmp_path / "my weights").unlink()
    refused = indexed(*query)
    assert refused.code == 2 and json.loads(refused.err)["error"].endswith("my weights: no such file or directory")


def test_composers_are_listed_with_what_they_need(indexed):
    records = {record["name"]: record for record in indexed("composers", "--json").records}
    assert set(records) == set(METHODS)
    assert [name for name, record in records.items() if record["is_default"]] == ["restyle"]
    assert all(record["fits"] and record["reason"] is None for record in records.values())
    learned = records["restyle"]
    assert learned["weights"] == "shipped" and "Flickr8k" in learned["training_data"] and learned["licence"]
    assert learned["pacs_map"] >= 1.2 * 0.177
    assert records["pdv"]["needs"] == ["picture", "words", "from"]
    lines = indexed("composers").lines
    assert any(re.match(r"\* restyle +0\.5 +0\.273 +shipped ", line) for line in lines)
    assert any(line.startswith("  restyle: version 1; from 1,500 photos of Flickr8k") for line in lines)


def test_composers_that_do_not_fit_come_last_with_the_reason():
    *fitting, last = composers.listed(IDENTITY)
    assert [each.method.name for each in fitting] == [name for name in METHODS if name != "restyle"]
    assert [each.method.name for each in fitting if each.is_default] == ["scaled"]
    assert {each.pacs_map for each in (*fitting, last)} == {None}
    assert last.reason == "the weights are for another model than chosen"


def test_the_figures_are_those_of_the_documentation():
    page = Path(__file__).parent.parent / "docs" / "composition.md"
    table = re.findall(r"^\| \*{0,2}`([\w-]+)`\*{0,2} \| \.\d+ \| (\.\d+) \|", page.read_text(), re.MULTILINE)
    stated: dict[str, float] = {}
    for name, figure in table:
        stated.setdefault(name, float(figure))
    assert stated == composers.PACS_MAP


def test_the_shipped_weights_are_small():
    path = os.path.join(composers.SHIPPED, "restyle.safetensors")
    assert os.path.getsize(path) <= 350_000
    assert WeightsFile(path).metadata["format"] == composer_file.FORMAT
