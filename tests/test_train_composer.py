"""`imgsearch train-composer`: what it learns from photos alone, what it writes, and that it survives a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch.core.compose import changed_photos, styles, train_restyle
from imgsearch.core.compose.changed_photos import CHANGES, ChangedPhotos, Training, photos_of_paths
from imgsearch.core.compose.composer_file import write
from imgsearch.core.compose.composers import composer_for
from imgsearch.core.compose.styles import SIDE, STYLES
from imgsearch.core.evaluation import trained_composer
from imgsearch.core.models.weights_file import WeightsFile
from imgsearch.core.types import Recipe

from conftest import ALBUM, PATIENCE_SECONDS, wait_until

COUNT = 52


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """Small photos, a few more than training needs: those of the album, cut in different places."""
    folder = tmp_path_factory.mktemp("album")
    pictures = sorted(ALBUM.glob("*.jpg"))
    for number in range(COUNT):
        with Image.open(pictures[number % len(pictures)]) as image:
            left = 10 * (number // len(pictures))
            image.convert("RGB").resize((96, 96)).crop((left, left, 64 + left, 64 + left)).save(
                folder / f"{number:02}.png"
            )
    return folder


@pytest.fixture(scope="module")
def square(album) -> np.ndarray:
    with Image.open(ALBUM / "lemon.jpg") as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE)))


# ---- styles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES[1:], ids=lambda style: style.name)
def test_a_style_changes_a_photo_and_the_same_seed_gives_the_same_bytes(style, square):
    first, again = (styles.change(style, square, np.random.default_rng(7)) for _ in range(2))
    assert first.shape == square.shape and first.dtype == np.uint8
    assert np.abs(first.astype(int) - square).mean() > 5
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_photo_of_one_colour_can_be_changed_into_every_style(grey):
    plain = np.full((SIDE, SIDE, 3), grey, np.uint8)
    for style in STYLES[1:]:
        changed = styles.change(style, plain, np.random.default_rng(1))
        assert changed.shape == plain.shape and changed.dtype == np.uint8, style.name


def test_what_is_in_the_middle_is_told_from_what_is_around_it():
    scene = np.full((SIDE, SIDE, 3), (40, 160, 60), np.uint8)
    scene[70:160, 60:150] = 200, 30, 30
    mask = styles.foreground(scene)[..., 0] > 0.5
    assert mask[80:150, 70:140].mean() > 0.97
    assert mask[:, :40].mean() < 0.03 and mask[180:].mean() < 0.03


def test_every_style_has_at_least_three_phrases_and_no_phrase_has_two_styles():
    phrases = train_restyle.all_phrases()
    assert list(phrases) == [style.name for style in STYLES]
    assert all(len(some) >= 3 for some in phrases.values())
    flat = [phrase for some in phrases.values() for phrase in some]
    assert len(flat) == len(set(flat))


def test_changes_have_the_size_of_the_model():
    recipe = Recipe((64, 48), (0.5,) * 3, (0.5,) * 3)
    square = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)
    changes = list(changed_photos.changes_of(square, 3, recipe))
    assert [each.shape for each in changes] == [(64, 48, 3)] * CHANGES


# ---- fitting ---------------------------------------------------------------------------------------------------------


def test_styles_are_found_and_taken_out_again_where_they_are_directions():
    """Vectors in which a style adds a direction: it comes out, and the matrix undoes it."""
    random = np.random.default_rng(5)
    dim, count = 64, 400
    subjects = random.normal(size=(8, dim))
    added = 2 * random.normal(size=(len(STYLES), dim))
    added[0] = 0
    plain = subjects[random.integers(0, 8, count)] + 0.05 * random.normal(size=(count, dim))
    style = np.concatenate([changed_photos.drawn_styles(number) for number in range(count)])
    changed = np.repeat(plain, CHANGES, axis=0) + added[style]
    photos = ChangedPhotos(plain.astype(np.float32), changed.astype(np.float32), style)
    directions, mean, matrix = train_restyle._pictures(photos, range(len(STYLES)))
    wanted = added - added.mean(axis=0)
    cosines = np.sum(directions * wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() > 0.999
    own = plain[photos.photo]
    undone = np.sum(_units((changed - mean) @ matrix) * _units(own - plain.mean(axis=0)), axis=1)
    as_they_are = np.sum(_units(changed) * _units(own), axis=1)
    assert undone.min() > 0.95 and as_they_are.mean() < 0.6


def _units(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_gate_is_the_minimum_of_its_loss():
    random = np.random.default_rng(2)
    yes, no = random.normal(0.4, 1, (60, 5)), random.normal(-0.4, 1, (200, 5))
    weights = train_restyle.fit_gate(yes, no)

    def loss(w):
        parts = (np.logaddexp(0, -sign * (rows @ w[:-1] + w[-1])).mean() for rows, sign in ((yes, 1), (no, -1)))
        share = train_restyle.NAMED_SHARE
        return np.dot([share, 1 - share], list(parts)) + train_restyle.DECAY * (w[:-1] ** 2).sum()

    least = loss(weights)
    for direction in np.eye(6):
        assert loss(weights + 0.01 * direction) > least < loss(weights - 0.01 * direction)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _changes():
    """The changes of a photo, by its number and pixels."""
    return {}


@pytest.fixture
def kept(monkeypatch, model, _changes):
    """In this process no picture is embedded twice, and no photo changed twice."""
    changes_of = changed_photos.changes_of

    def changes(square, number, recipe):
        key = number, square.tobytes()
        if key not in _changes:
            _changes[key] = list(changes_of(square, number, recipe))
        return _changes[key]

    monkeypatch.setattr(changed_photos, "changes_of", changes)
    monkeypatch.setattr("imgsearch.cli.loading.load_model", lambda *_, **__: model)


def test_an_index_is_trained_and_its_weights_answer_queries(imgsearch, album, tmp_path, kept):
    assert imgsearch("index", album, "--model", "builtin", "-q").code == 0
    broken = album / "07.png"
    whole = broken.read_bytes()
    out = tmp_path / "mine.safetensors"
    try:
        broken.write_bytes(whole[:60])
        outcome = imgsearch("train-composer", "restyle", "--max-photos", str(COUNT - 1), "--out", out, "--json")
    finally:
        broken.write_bytes(whole)
    assert outcome.code == 3 and str(broken) in outcome.err
    (record,) = outcome.records
    assert record["path"] == str(out) and record["photos"] == COUNT - 2 and record["skipped"] == 1
    assert record["held_out"] == {"photos": 10, "pictures": 10 * (1 + CHANGES), "queries": 10 * (1 + 2 * CHANGES)}
    assert list(record["found"]) == ["restyle", "lerp", "words only", "picture only"]
    assert all(0 <= each["recall_at_1"] <= each["recall_at_10"] <= 1 for each in record["found"].values())
    assert record["is_default"] == (record["found"]["restyle"]["map_minus_lerp"][1] > 0)
    assert not list(Path(changed_photos.cache_folder(), changed_photos.FOLDER).iterdir()), "nothing is left behind"

    found = imgsearch(
        "query", "--image", album / "03.png", "--text", "as a pencil sketch", "--compose", f"restyle:{out}"
    )
    assert found.code == 0 and len(found.lines) == 10


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("restyle", "few"), "training needs at least 50 photos; there are 2 photos"),
        (("restyle", "none"), "training needs at least 50 photos; there are 0 photos"),
        (("attention", "few"), "no such command"),
        (("restyle", "few", "--out", "no/such/folder/x"), "not a file in an existing folder"),
        (("restyle", "few", "--out", "."), "not a file in an existing folder"),
        (("restyle",), "no index"),
    ],
)
def test_what_cannot_be_trained_is_refused(imgsearch, album, tmp_path, monkeypatch, arguments, complaint):
    (tmp_path / "few").mkdir()
    (tmp_path / "none").mkdir()
    for name in ("00.png", "01.png"):
        shutil.copy(album / name, tmp_path / "few")
    monkeypatch.chdir(tmp_path)
    outcome = imgsearch("train-composer", *arguments)
    assert outcome.code in (2, 4) and complaint in outcome.err and "Traceback" not in outcome.err
    assert not (tmp_path / "restyle.safetensors").exists()


def test_a_disk_that_takes_no_more_is_named_and_the_old_weights_stay(album, tmp_path, monkeypatch):
    """No file may be larger than 64 kB."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"before")
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "-", *_command(album, out)]
    outcome = subprocess.run(limited, capture_output=True, text=True)
    assert outcome.returncode == 2, outcome.stderr
    assert re.search(r"training/\w+\.f32: file too large", outcome.stderr) and "free some space" in outcome.stderr
    assert out.read_bytes() == b"before"


def _command(album, out):
    return [
        sys.executable, "-m", "imgsearch", "train-composer", "restyle", str(album), "--model", "builtin",
        "--out", str(out),
    ]  # fmt: skip


def test_a_run_that_was_killed_or_stopped_continues_and_writes_the_same_bytes(
    imgsearch, album, kept, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "imgsearch" / changed_photos.FOLDER
    outs = [tmp_path / "killed.safetensors", tmp_path / "whole.safetensors"]
    row = 4 * 256 * (1 + CHANGES)

    def rows() -> int:
        return sum(path.stat().st_size for path in folder.glob("*.f32")) // row if folder.is_dir() else 0

    for number, least, code in ((signal.SIGKILL, 8, -signal.SIGKILL), (signal.SIGINT, 24, 130)):
        with subprocess.Popen(_command(album, outs[0]), stderr=subprocess.PIPE) as process:
            wait_until(lambda least=least: rows() >= least or process.poll() is not None, "changed photos")
            process.send_signal(number)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == code, errors
        assert least <= rows() < COUNT
        assert not outs[0].exists()
    assert b"run the same command again" in errors
    (written,) = folder.glob("*.f32")
    with written.open("ab") as file:
        file.write(b"\0" * (row // 2))  # a row that was cut short
    assert imgsearch(*_command(album, outs[0])[3:]).code == 0
    assert not list(folder.iterdir())
    whole = imgsearch(*_command(album, outs[1])[3:])
    assert whole.code == 0 and whole.lines[0].startswith("method") and f"trained with {COUNT} photos" in whole.err
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_two_processes_cannot_train_with_the_same_photos(album, model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos, _ = photos_of_paths([str(album)], COUNT)
    with (
        Training(photos, model),
        pytest.raises(changed_photos.UsageError, match="another process is training"),
        Training(photos, model),
    ):
        pass


def test_a_cache_that_lost_its_end_in_a_power_cut_is_used_up_to_there(album, model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos, _ = photos_of_paths([str(album)], COUNT)
    rows = np.zeros((30, 1 + CHANGES, model.identity.dim), np.float32)
    rows[:20, :, 0] = 1
    rows[5] = np.nan
    with Training(photos, model) as training:
        Path(training.path).write_bytes(rows.tobytes())
    with Training(photos, model) as training:
        assert training.done == 16, "whole batches of 8"


def test_weights_that_are_not_better_than_lerp_say_so(model):
    """Vectors without any structure: nothing can be learned from them."""
    random = np.random.default_rng(3)
    plain = _units(random.normal(size=(60, model.identity.dim))).astype(np.float32)
    changed = _units(random.normal(size=(60 * CHANGES, model.identity.dim))).astype(np.float32)
    style = np.concatenate([changed_photos.drawn_styles(number) for number in range(60)])
    trained = trained_composer.train(ChangedPhotos(plain, changed, style), model.embed_texts, model.identity)
    assert trained.metadata["is_default"] == "no" and not trained.report.wins
    assert trained.metadata["model"] == model.identity.fingerprint


def test_the_shipped_weights_are_for_the_built_in_model_and_a_default(model):
    composer = composer_for(None, model.identity)
    assert composer is not None and composer.name == "restyle"
    assert os.path.getsize(Path(trained_composer.__file__).parents[1] / "compose" / "restyle.safetensors") < 3_000_000


def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path):
    """The length is a number of 8 bytes: 1,408 is 80 05, the first bytes of a pickle."""
    path = tmp_path / "weights"
    for filler in range(1200, 1400):
        with path.open("wb") as file:
            write(file, {"training_data": "x" * filler}, {"a": np.zeros(3, "<f2")})
        if path.read_bytes().startswith(b"\x80\x05"):
            break
    assert path.read_bytes()[:3] == b"\x80\x05\x00"
    assert WeightsFile(str(path)).names == ["a"]
