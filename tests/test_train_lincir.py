"""`imgsearch train-composer lincir`: what it makes of texts, what it learns, and that it survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imgsearch.core.compose import captions
from imgsearch.core.compose.changed_photos import FOLDER
from imgsearch.core.compose.composers import composer_for
from imgsearch.core.errors import UsageError
from imgsearch.core.models.weights_file import WeightsFile
from imgsearch.core.search.composition import Change

from conftest import PATIENCE_SECONDS, wait_until

SUBJECTS = "dog cat horse child woman man boat car bicycle bird".split()
PLACES = "snow field street water garden kitchen".split()
ACTS = ("running through", "sitting in", "standing near", "looking at")
ROUNDS = 12
TEXTS = [f"A {subject} is {act} the {place}." for subject in SUBJECTS for act in ACTS for place in PLACES]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("A black dog is running through the snow .", "$ is running through $ ."),
        ("Two men, a boy and his T-shirt", "$ , $ and $"),
        ("children playing", "$ playing"),
        ("it is not there", "it is not there"),
        ("costs $5 or $", "$ or"),
        ("", ""),
        ("Ünder-wäter Fotos 2024!", "$ !"),
    ],
)
def test_noun_phrases_are_replaced(text, masked):
    assert captions.masked(text) == masked


def test_texts_of_a_file_are_lines_or_json(tmp_path):
    (tmp_path / "a").write_text("A dog\n\n a  cat \nA dog\n")
    assert captions.read(str(tmp_path / "a")) == ["A dog", "a cat"]
    records = [{"captions": ["one dog", "two dogs"]}, {"caption": "a cat"}, {"text": "a bird"}]
    (tmp_path / "b").write_text("\n".join(map(json.dumps, records)))
    assert captions.read(str(tmp_path / "b")) == ["one dog", "two dogs", "a cat", "a bird"]
    (tmp_path / "c").write_bytes(b"\xff\x00caf\xe9\n" + b"x" * 5000)
    assert [len(text) for text in captions.read(str(tmp_path / "c"))] == [6, 1000]
    for content, reason in (
        ('{"captions": 3}', "line 1: no captions, caption or text"),
        ('a\n{"captions": [3]}', "line 2: no captions, caption or text"),
        ("{", "line 1: no valid JSON"),
        ("[" * 10, None),
        ("{" + '"a":[' * 100_000, "line 1: no valid JSON"),
    ):
        (tmp_path / "d").write_text(content)
        if reason is None:
            assert captions.read(str(tmp_path / "d")) == [content]
            continue
        with pytest.raises(UsageError, match=reason) as error:
            captions.read(str(tmp_path / "d"))
        assert str(tmp_path / "d") in str(error.value)
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UsageError, match=f"--captions {path}: "):
            captions.read(str(path))


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "captions.txt"
    path.write_text("\n".join(TEXTS))
    return path


def _arguments(texts: Path, out: Path, rounds: int) -> list[str]:
    return ["train-composer", "lincir", "--captions", str(texts), "--model", "builtin", "--out", str(out),
            "--rounds", str(rounds), "--offline"]  # fmt: skip


def test_a_training_that_was_killed_continues_and_gives_the_same_weights(
    imgsearch, texts, tmp_path, monkeypatch, model
):
    """Also after ^C, and the weights find held-out texts better than the word "something" does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "imgsearch" / FOLDER
    outs = [tmp_path / "killed.safetensors", tmp_path / "whole.safetensors"]
    command = [sys.executable, "-P", "-m", "imgsearch", *_arguments(texts, outs[0], ROUNDS)]

    def state() -> float:
        return max((path.stat().st_mtime for path in folder.glob("*.pt")), default=0) if folder.is_dir() else 0

    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        before = state()
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            wait_until(lambda before=before: state() > before or process.poll() is not None, "a round")
            process.send_signal(number)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == code, errors
        assert not outs[0].exists()
    assert b"run the same command again" in errors
    done = imgsearch(*_arguments(texts, outs[0], ROUNDS), "--json")
    (record,) = done.records
    assert done.code == 0 and record["rounds"] == ROUNDS and not list(folder.iterdir())
    assert record["recall_at_1"]["pseudo-word"] > record["recall_at_1"]["something"]
    whole = imgsearch(*_arguments(texts, outs[1], ROUNDS))
    assert whole.code == 0 and whole.lines[0].startswith("in place of the words") and f"in {ROUNDS} rounds" in whole.err
    assert outs[0].read_bytes() == outs[1].read_bytes()
    header = WeightsFile(str(outs[0])).metadata
    assert header["is_default"] == "no" and header["training_data"] == "228 texts"
    composer = composer_for(f"lincir:{outs[0]}", model.identity)
    picture, words = model.embed_texts(["a dog", "in the snow"])
    (found,) = composer.directions(Change(picture, words, "is in the snow", 0.5, lambda: model))
    right, wrong = model.embed_texts(["a dog is in the snow", "a bicycle in the kitchen"])
    assert found @ right > found @ wrong + 0.2


def test_what_cannot_be_trained_with_is_refused(imgsearch, tmp_path):
    (tmp_path / "few").write_text("a dog\na cat")
    done = imgsearch(*_arguments(tmp_path / "few", tmp_path / "out", 1))
    assert done.code == 2 and "training needs at least 200 English texts; there are 2" in done.err
    done = imgsearch(*_arguments(tmp_path / "nothing", tmp_path / "out", 1))
    assert done.code == 2 and f"--captions {tmp_path}/nothing: no such file or directory" in done.err
    done = imgsearch(*_arguments(tmp_path / "few", tmp_path, 1))
    assert done.code == 2 and "not a file in an existing folder" in done.err
    assert not os.path.exists(tmp_path / "out")
