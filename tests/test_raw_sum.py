"""`raw-sum`: the sum of a picture and words as the model gives them, against the formulas of CLIP's paper."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("open_clip")
from imgsearch.core.compose.composers import composer_for, listed
from imgsearch.core.errors import ModelError, QueryError, UsageError
from imgsearch.core.indexing import indexer
from imgsearch.core.models import model_file, onnx_export
from imgsearch.core.models.loading import load, open_clip
from imgsearch.core.models.onnx_embedder import OnnxEmbedder
from imgsearch.core.models.registry import parse
from imgsearch.core.models.towers import FORMAT, RAW_FORMAT, SHIPPED, QueryEmbedder, Towers
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.photos.preprocess import draft_side
from imgsearch.core.search.composition import Change
from imgsearch.core.search.grammar import Query, Term
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store
from imgsearch.core.types import Photo

from chosen import random_units, unit
from clip_folder import BGE, TINY, Paper, folder_of, tensors_of
from conftest import from_album

NAMES = ("banana", "lemon", "lime", "carrots", "watermelon")
WORDS = "in a wooden bowl"


def squares(count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Photos, an index of a model like BGE-VL with weights by chance, and its towers."""
    top = tmp_path_factory.mktemp("library")
    photos = from_album(top / "photos", *NAMES, "leek")
    shutil.move(photos / "leek.jpg", top / "outside.jpg")
    model = load(parse(str(folder_of(top / "model", **BGE))), device="cpu", precision="fp32")
    with Store.writing(str(top / "index"), create=True) as store:
        indexer.run(store, lambda: (model, model.model_spec), indexer.IndexPlan((str(photos),)))
    return Library(top, model, onnx_export.export(model, str(top / "towers")))


class Library:
    def __init__(self, top, model, towers) -> None:
        self.top, self.model, self.towers = top, model, towers
        self.paper = Paper(TINY, tensors_of(TINY))
        with DecodePool(1, niceness=0) as workers:
            self.raw = {path: self._raw(workers, path) for path in map(self.path, [*NAMES, "outside"])}

    def _raw(self, workers, path):
        photo = Photo(os.path.dirname(path), os.path.basename(path), os.stat(path).st_size, 0, 0, named=True)
        return self.paper.images(
            workers.read(photo, self.model.recipe, draft_side=draft_side(self.model.recipe)).squares[:1]
        )[0]

    def path(self, name: str) -> str:
        return str(self.top / ("outside.jpg" if name == "outside" else f"photos/{name}.jpg"))

    def search(self, *names, words=WORDS, terms=(), embedder=None, **options):
        """The hits, and what explain says."""
        explained = []
        with Store.open(str(self.top / "index")) as store:
            searcher = Searcher(store, lambda: embedder or self.model, composers=composer_for)
            query = Query("typed", text=words, images=tuple(map(self.path, names)), terms=terms)
            hits = searcher.search(query, SearchOptions(limit=99, **options), on_explained=explained.append)
        return hits, explained[0]

    def expected(self, *names, w=0.5):
        """The score of each photo that is no picture of the query, by its path."""
        asked = [self.path(name) for name in names]
        words = self.paper.texts(open_clip.SimpleTokenizer()([WORDS]))[0]
        query = unit((1 - w) * np.mean([self.raw[path] for path in asked], axis=0) + w * words)
        return {path: unit(raw) @ query for path, raw in self.raw.items() if path not in (*asked, self.path("outside"))}


def scores(hits):
    return {hit.path: hit.score for hit in hits}


@pytest.mark.parametrize(
    ("names", "options", "w"),
    [
        (["lemon"], {}, 0.5),  # the default of such a model, as published
        (["lemon"], {"weight": 0.8, "strategy": "ann"}, 0.8),
        (["outside"], {"weight": 0.2}, 0.2),
        (["lemon", "outside", "carrots"], {"method": "raw-sum"}, 0.5),
    ],
)
def test_the_query_is_the_sum_of_raw_vectors(library, names, options, w):
    lengths = [np.linalg.norm(raw) for raw in library.raw.values()]
    assert max(lengths) > 1.05 * min(lengths)  # else a sum of unit vectors would do
    hits, explained = library.search(*names, **options)
    assert {hit.method for hit in hits} == {"raw-sum"} and explained.record["declined"] is None
    wanted = library.expected(*names, w=w)
    assert scores(hits) == pytest.approx(wanted, abs=1e-4)
    assert [hit.path for hit in hits] == sorted(wanted, key=wanted.get, reverse=True)


def test_towers_give_the_same_without_the_model(library):
    towers = library.towers
    assert towers.manifest.format == RAW_FORMAT and towers.has_raw("image") and towers.has_raw("text")
    np.testing.assert_allclose(towers.raw_images(squares(3)), library.paper.images(squares(3)), atol=1e-4)
    np.testing.assert_allclose(towers.embed_images(squares(3)), unit(library.paper.images(squares(3))), atol=1e-4)
    np.testing.assert_allclose(towers.raw_texts([WORDS, ""]), library.model.raw_texts([WORDS, ""]), atol=1e-4)
    query = QueryEmbedder(library.model.identity, lambda: pytest.fail("the model"), towers=towers)
    hits, _ = library.search("lemon", embedder=query)
    assert scores(hits) == pytest.approx(library.expected("lemon"), abs=1e-4)
    light = OnnxEmbedder(towers, library.model.identity, lambda: pytest.fail("the model"), pytest.fail)
    assert scores(library.search("lemon", embedder=light)[0]) == pytest.approx(library.expected("lemon"), abs=1e-4)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A model that was not trained for sums, and its towers, which are those of any other model."""
    top = tmp_path_factory.mktemp("plain")
    model = load(parse(str(folder_of(top / "model"))), device="cpu", precision="fp32")
    return model, onnx_export.export(model, str(top / "towers"))


def test_a_model_whose_towers_have_no_lengths_is_loaded_itself(library, plain):
    model, towers = plain
    assert towers.manifest.format == FORMAT == Towers.at(SHIPPED).manifest.format and not towers.has_raw("image")
    for embedder in (
        QueryEmbedder(model.identity, lambda: model, towers=towers),
        OnnxEmbedder(towers, model.identity, lambda: model, print),
    ):
        np.testing.assert_allclose(embedder.raw_images(squares(2)), library.paper.images(squares(2)), atol=1e-4)
        np.testing.assert_allclose(embedder.raw_texts([WORDS]), library.model.raw_texts([WORDS]), atol=1e-4)
        assert embedder._towers is towers  # for all other queries


def test_without_torch_such_a_model_says_what_is_missing(plain):
    def no_torch():
        raise ModelError("it needs torch, which is not installed", hint="install it")

    light = OnnxEmbedder(plain[1], plain[0].identity, no_torch, print)
    change = Change(
        random_units(1, 24), random_units(2, 24), WORDS, 0.5, lambda: light, lambda: light.raw_images(squares(1))[0]
    )
    with pytest.raises(ModelError, match="--compose raw-sum does not work with .*: it needs torch") as error:
        composer_for("raw-sum", light.identity).directions(change)
    assert error.value.hint == "install it"


def test_it_is_the_default_of_models_that_were_trained_for_it(library, model):
    identity = library.model.identity
    assert composer_for(None, identity).name == "raw-sum" and composer_for("lerp", identity) is None
    assert [each.method.name for each in listed(identity) if each.is_default] == ["raw-sum"]
    assert composer_for(None, model.identity).name == "restyle"
    (sums,) = [each for each in listed(model.identity) if each.method.name == "raw-sum"]
    assert not sums.reason and not sums.is_default and sums.file is None
    with pytest.raises(UsageError, match="--compose raw-sum has no weights"):
        composer_for("raw-sum:w", identity)


def test_weighted_sums_are_answered_by_scaled(library):
    terms = (Term("a lemon", weight=2.0), Term("a bowl"))
    hits, explained = library.search("lime", words=None, terms=terms)
    assert {hit.method for hit in hits} == {"scaled"}
    assert "method: scaled (raw-sum is not for a weighted sum)" in explained.lines()


def test_what_cancels_out_is_refused(library):
    change = Change(
        random_units(1, 24), random_units(2, 24), WORDS, 0.5, lambda: library.model,
        lambda: -library.model.raw_texts([WORDS])[0],
    )  # fmt: skip
    with pytest.raises(QueryError, match="cancel each other out"):
        composer_for("raw-sum", library.model.identity).directions(change)


def test_its_towers_move_to_another_machine(library, plain, tmp_path, monkeypatch):
    packed = io.BytesIO()
    model_file.write_model(library.towers, packed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packed.seek(0)
    assert model_file.read_model(packed, "bge.tar").is_new
    found = Towers.find(library.model.identity.fingerprint)
    assert found.manifest.details["composer"] == "raw-sum"
    np.testing.assert_array_equal(found.raw_images(squares(1)), library.towers.raw_images(squares(1)))
    # A file that promises lengths which its tower does not give.
    packed = io.BytesIO()
    model_file.write_model(Towers(plain[1].path, replace(plain[1].manifest, format=RAW_FORMAT)), packed)
    packed.seek(0)
    with pytest.raises(ModelError, match="bge.tar: the model does not run here"):
        model_file.read_model(packed, "bge.tar")


def test_the_command_uses_a_downloaded_model_by_its_alias_and_needs_no_torch(imgsearch, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder_of(tmp_path / "hf/hub/models--BAAI--BGE-VL-base/snapshots/c0ffee", **BGE)
    assert imgsearch("index", photos, "--model", "bge-vl-base", "--offline", "--device", "cpu").code == 0
    query = ("query", f"{WORDS} like {photos}/lemon.jpg", "--json")
    found = imgsearch(*query)
    assert found.code == 0 and {hit["method"] for hit in found.records} == {"raw-sum"}
    assert found.records == imgsearch(*query, "--compose", "raw-sum", "--weight", "0.5").records
    assert found.records != imgsearch(*query, "--compose", "add").records
    records = {record["name"]: record for record in imgsearch("composers", "--json").records}
    assert (records["raw-sum"]["is_default"], records["raw-sum"]["weights"]) == (True, "none")
    assert any(line.startswith("* raw-sum  ") for line in imgsearch("composers").lines)
    models = {record["name"]: record for record in imgsearch("models", "--json").records}
    assert (models["bge-vl-base"]["composer"], models["bge-vl-base"]["usable"]) == ("raw-sum", True)
    assert models["lite"]["composer"] is None
    program = (
        "import sys; from imgsearch.cli import app\n"
        f"code = app.exit_code({list(query)!r})\n"
        "print(code, sorted({'torch', 'open_clip', 'transformers', 'safetensors'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
    assert [json.loads(line) for line in done.stdout.splitlines()] == found.records
