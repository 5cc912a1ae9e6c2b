"""`--offline`: nothing is asked of the network, whatever the model."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from contextlib import closing

import pytest

from imgsearch.core.models import hub, registry


class Touched(Exception):
    pass


@pytest.fixture
def wire(monkeypatch, tmp_path):
    """A machine that has no models and whose network would be asked: any attempt raises `Touched`.

    The hub is asked by a child process, so that starting one counts as well.
    """
    from huggingface_hub import constants

    import imgsearch.core.models.loading  # noqa: F401 - so that the libraries' own switches are there

    def touched(*_, **__):
        raise Touched

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub" / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, touched)
    monkeypatch.setattr(socket, "getaddrinfo", touched)
    monkeypatch.setattr(hub, "_child_messages", touched)


MODELS = ["lite", "ViT-B-32/openai", "RN50/cc12m", "hf-hub:org/repo"]


@pytest.mark.parametrize("model", MODELS)
def test_without_the_option_the_network_would_be_asked(imgsearch, photos, wire, model):
    outcome = imgsearch("index", photos, "--model", model)
    assert outcome.code == 70 and "Touched" in outcome.err


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_is_not_here_is_refused_by_the_name_of_the_option(imgsearch, photos, wire, model):
    outcome = imgsearch("index", photos, "--model", model, "--offline")
    assert (outcome.code, outcome.out) == (2, b"")
    message, hint = outcome.err.splitlines()
    assert message == f"imgsearch: {model} is not downloaded, and --offline turns off the network"
    assert "without --offline it is downloaded; --model builtin needs no network" in hint


def test_half_of_a_model_is_not_completed(imgsearch, photos, wire, tmp_path):
    """An `hf-hub:` model whose configuration is here and whose weights are not."""
    snapshot = tmp_path / "hub" / "hub" / "models--org--repo" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    shutil.copy(f"{registry.__file__.rpartition('/')[0]}/builtin_model/open_clip_config.json", snapshot)
    outcome = imgsearch("index", photos, "--model", "hf-hub:org/repo", "--offline")
    assert outcome.code == 2 and "--offline turns off the network" in outcome.err


def test_an_hf_hub_model_that_is_here_is_used(imgsearch, photos, wire, tmp_path):
    folder = tmp_path / "hub" / "hub" / "models--org--repo"
    (folder / "snapshots").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c0ffee")
    shutil.copytree(f"{registry.__file__.rpartition('/')[0]}/builtin_model", folder / "snapshots" / "c0ffee")
    assert imgsearch("index", photos, "--model", "hf-hub:org/repo", "--offline").code == 0
    found = imgsearch("query", "a lemon", "--offline", "--json", "-n", "1")
    assert found.code == 0 and found.records[0]["model"] == "hf-hub:org/repo"


def test_auto_takes_the_built_in_model_and_says_why(imgsearch, photos, wire):
    outcome = imgsearch("index", photos, "--offline")
    assert outcome.code == 0
    assert "lite is not downloaded, and --offline turns off the network; using the built-in model" in outcome.err
    assert imgsearch("query", "a yellow banana", "--offline", "-l", "-n1").lines == [str(photos / "banana.jpg")]


def test_a_query_whose_model_is_no_longer_here_says_so(imgsearch, photos, wire, tmp_path):
    imgsearch("index", photos, "--model", "builtin")
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.sqlite3")) as connection, connection:
        connection.execute("update spaces set model = ?", (registry.parse("lite").to_json(),))
    assert imgsearch("query", "a yellow banana", "--offline").code == 0  # its ONNX towers are here
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.sqlite3")) as connection, connection:
        connection.execute("update spaces set fingerprint = ?", ("0" * 64,))
    outcome = imgsearch("query", "a yellow banana", "--offline")
    assert outcome.code == 2 and "lite is not downloaded, and --offline turns off the network" in outcome.err
    assert imgsearch("query", photos / "lemon.jpg", "--offline", "-l").code == 0
