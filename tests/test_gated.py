"""`gated`: the formula, its training, the command that trains it, and files that are refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch.core.compose import train_gated
from imgsearch.core.compose.composer_file import write
from imgsearch.core.compose.composers import composer_for
from imgsearch.core.compose.train_gated import Gate, Triplets
from imgsearch.core.errors import ModelError
from imgsearch.core.evaluation import trained_gate
from imgsearch.core.search.composition import Change
from imgsearch.core.types import SpaceIdentity

DIM = 12
IDENTITY = SpaceIdentity("f" * 64, "chosen", "none", None, DIM)


def units(random: np.random.Generator, count: int) -> np.ndarray:
    rows = random.normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def triplets(count: int, seed: int = 0) -> Triplets:
    random = np.random.default_rng(seed)
    return Triplets(units(random, count), units(random, count), units(random, count))


@pytest.mark.parametrize("gates", [1, DIM])
def test_the_slope_is_that_of_the_loss(gates):
    random = np.random.default_rng(1)
    gate = Gate(random.normal(size=(gates, 2 * DIM)), random.normal(size=gates))
    batch = Triplets(*(rows.astype(np.float64) for rows in triplets(9)))
    _, slope = train_gated.loss(gate, batch)
    for part, at in ((0, (0, 3)), (0, (gates - 1, DIM + 2)), (1, (gates - 1,))):
        ends = []
        for step in (1e-3, -1e-3):
            moved = [np.array(each) for each in gate]
            moved[part][at] += step
            ends.append(train_gated.loss(Gate(*moved), batch)[0])
        assert slope[part][at] == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=0.02, abs=1e-4)


def test_a_gate_learns_when_the_picture_counts():
    """Where the first number of the words is above 0, the wanted photo is like the picture, else like the words."""
    random = np.random.default_rng(2)
    pictures, words = units(random, 1500), units(random, 1500)
    wanted = np.where(words[:, :1] > 0, pictures, words) + 0.3 * units(random, 1500)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    every = Triplets(pictures, words, wanted.astype(np.float32))
    given, held_out = every.of(np.arange(1200)), every.of(np.arange(1200, 1500))
    told: list[int] = []
    found = train_gated.fit(given, held_out, gates=1, on_epoch=lambda epoch, figure: told.append(epoch))
    start = Gate(np.zeros((1, 2 * DIM), np.float32), np.float32([np.log(0.4 / 0.6)]))
    assert train_gated.reciprocal_rank(found, held_out) > train_gated.reciprocal_rank(start, held_out) + 0.02
    assert found.weights[0, DIM] == found.weights[0].max() > 0
    assert told == list(range(1, len(told) + 1))
    again = train_gated.fit(given, held_out, gates=1)
    np.testing.assert_array_equal(found.weights, again.weights)


def test_where_nothing_can_be_learned_the_gate_stays_as_it_was():
    found = train_gated.fit(triplets(300), triplets(100, seed=3), gates=DIM)
    assert np.abs(found.weights).max() < 0.5


# ---- the composer ----------------------------------------------------------------------------------------------------


def composer_of(path: Path, gate: Gate):
    facts = {"method": "gated", "model": IDENTITY.fingerprint, "dim": str(DIM), "weight": "0.5"}
    with path.open("wb") as file:
        write(file, facts, {"gate.weights": gate.weights, "gate.bias": gate.bias})
    composer = composer_for(f"gated:{path}", IDENTITY)
    assert composer is not None
    return composer


def change(weight: float, seed: int = 5) -> Change:
    picture, words = units(np.random.default_rng(seed), 2)
    return Change(picture, words, "on a red leash", weight, lambda: pytest.fail("no model is needed"))


@pytest.mark.parametrize("gates", [1, DIM])
def test_the_vector_is_the_one_of_the_formula(tmp_path, gates):
    random = np.random.default_rng(4)
    gate = Gate(*(random.normal(size=shape).astype(np.float32) for shape in ((gates, 2 * DIM), gates)))
    asked = change(0.5)
    (found,) = composer_of(tmp_path / "g", gate).directions(asked)
    share = 1 / (1 + np.exp(-(gate.weights.astype(float) @ np.concatenate([asked.picture, asked.words]) + gate.bias)))
    expected = share * asked.picture + (1 - share) * asked.words
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_other_weights_lead_to_the_picture_and_to_the_words(tmp_path):
    composer = composer_of(tmp_path / "g", Gate(np.ones((1, 2 * DIM), np.float32), np.zeros(1, np.float32)))
    for weight in (1e-4, 1 - 1e-4):
        asked = change(weight)
        (found,) = composer.directions(asked)
        assert float(found @ (asked.picture if weight < 0.5 else asked.words)) > 0.9999
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(2, 2 * DIM), (1, DIM), (DIM, 3 * DIM)])
def test_a_gate_of_another_size_is_refused(tmp_path, shape):
    with pytest.raises(ModelError, match=f"has a gate of {shape[0]} x {shape[1]} numbers"):
        composer_of(tmp_path / "g", Gate(np.ones(shape, np.float32), np.zeros(shape[0], np.float32)))


# ---- the command -----------------------------------------------------------------------------------------------------

ANIMALS = ("dog", "horse", "goat", "cat", "bird")
PLACES = ("on the grass", "in the snow", "near a river", "under a bridge")
THINGS = ("a red kite", "an old boat", "a white fence", "a paper bag", "two tall trees", "a stone wall")
SCENES = list(itertools.product(ANIMALS, PLACES, THINGS))


def captions_of(scene: tuple[str, str, str]) -> list[str]:
    animal, place, thing = scene
    return [f"A {animal} {place} .", f"A {animal} with {thing} ."]


def test_where_the_words_say_it_all_gated_is_no_worse_than_lerp_at_its_best_weight():
    """The wanted photo is nearly the vector of its change; its picture's neighbour has nothing to do with it."""
    random = np.random.default_rng(6)
    vectors = dict(zip(THINGS, units(random, len(THINGS)), strict=True))
    pictures = np.stack([vectors[thing] + 0.4 * units(random, 1)[0] for _, _, thing in SCENES])
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)

    def embed(texts):
        named = [[v for thing, v in vectors.items() if thing in text] for text in texts]
        return np.stack([some[0] if some else units(random, 1)[0] for some in named])

    trained = trained_gate.train(pictures.astype(np.float32), [captions_of(s) for s in SCENES], embed, IDENTITY)
    gated, lerp = trained.by_method["gated"], trained.by_method["lerp"]
    assert lerp.weight == 0.9 and gated.reciprocal_rank >= lerp.reciprocal_rank - 0.02
    assert trained.photos == 24 and trained.metadata["dim"] == str(DIM)
    assert (trained.metadata.get("is_default") == "no") != trained.wins


def test_captions_of_an_index_are_trained_with_and_the_weights_answer(imgsearch, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(8)
    with (tmp_path / "captions.jsonl").open("w") as file:
        for number, scene in enumerate(SCENES):
            pixels = random.integers(0, 255, (2, 2, 3), np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number}.png")
            file.write(json.dumps({"file": f"{number}.png", "captions": captions_of(scene)}) + "\n")
        file.write(json.dumps({"file": "not indexed.png", "captions": ["A cow ."]}) + "\n")
    assert imgsearch("index", folder, "--model", "builtin", "-q").code == 0
    asked = ("train-composer", "gated", "--captions", tmp_path / "captions.jsonl")
    trained = imgsearch(*asked, "--json")
    assert trained.code == 0, trained.err
    (record,) = trained.records
    assert record["path"] == str(tmp_path / "gated.safetensors")
    assert (record["photos"], record["left_out"]) == (len(SCENES), 1) and record["held_out"]["photos"] == 24
    assert list(record["found"]) == ["gated", "lerp", "words only", "picture only"]
    first = (tmp_path / "gated.safetensors").read_bytes()
    again = imgsearch(*asked)
    assert again.code == 0 and again.lines[0].startswith("method") and "1 not in the index" in again.err
    assert (tmp_path / "gated.safetensors").read_bytes() == first
    query = ("query", "--image", folder / "3.png", "--text", "a red kite", "--compose")
    hits = imgsearch(*query, "gated:gated.safetensors", "--json").records
    assert len(hits) == 10 and {hit["method"] for hit in hits} == {"gated"}
    without = imgsearch(*query, "gated")
    assert without.code == 2 and "train-composer gated" in without.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "gated needs --captions"),
        (("--captions", "few.jsonl"), "no index"),
        (("--captions", "few.jsonl", "--out", "."), "not a file in an existing folder"),
        (("--captions", "few.jsonl", "--out", "few.jsonl"), "is also the file of --captions"),
        (("--captions", "gone.jsonl"), "gone.jsonl: no such file"),
        (("--captions", "odd.jsonl"), "not a captions file in a known format"),
    ],
)
def test_what_cannot_be_trained_is_refused(imgsearch, tmp_path, arguments, complaint):
    (tmp_path / "few.jsonl").write_text('{"file": "a.png", "captions": ["A dog ."]}\n')
    (tmp_path / "odd.jsonl").write_text("[1, 2]")
    outcome = imgsearch("train-composer", "gated", *arguments)
    assert outcome.code in (2, 4) and complaint in outcome.err and "Traceback" not in outcome.err, outcome.err
    assert not (tmp_path / "gated.safetensors").exists()


def test_too_few_captions_are_refused(imgsearch, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    assert imgsearch("index", tmp_path / "photos", "--model", "builtin", "-q").code == 0
    for name, complaint in (("a", "too few to train with"), ("b", "none of the captions is of a photo in the index")):
        captions = tmp_path / "captions.jsonl"
        captions.write_text(f'{{"file": "{name}.png", "captions": ["A dog ."]}}\n')
        outcome = imgsearch("train-composer", "gated", "--captions", captions)
        assert outcome.code == 2 and complaint in outcome.err
