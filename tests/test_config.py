"""What is settled in a file: read as if it were typed, outdone by what is typed, and written without harm."""

import json
import os
import resource
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from imgsearch.cli import settings
from imgsearch.core import config

from conftest import ALBUM


@pytest.fixture
def settle(tmp_path, monkeypatch):
    """Write the file."""
    where = tmp_path / "settings" / "config.toml"
    monkeypatch.setenv("IMGSEARCH_CONFIG", str(where))

    def write(text: str) -> Path:
        where.parent.mkdir(exist_ok=True)
        where.write_text(text)
        return where

    return write


@pytest.fixture
def indexed(imgsearch, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("lemon", "lime", "banana", "plum"):
        (tmp_path / "photos" / f"{name}.jpg").write_bytes((ALBUM / f"{name}.jpg").read_bytes())
    assert imgsearch("index", "photos", "--model", "builtin", "--quiet").code == 0
    return imgsearch


def names(outcome):
    return [os.path.basename(each) for each in outcome.out.decode().split()]


def test_a_command_s_own_table_wins_over_the_top(indexed, settle):
    settle("limit = 3\npaths = true\n[query]\nlimit = 2\n[similar]\nlimit = 1\n")
    assert len(names(indexed("query", "fruit"))) == 2
    assert len(names(indexed("similar", "photos/lemon.jpg"))) == 1


def test_what_is_typed_wins(indexed, settle):
    settle('[query]\nlimit = 1\njson = true\nunder = ["nowhere", "photos"]\nexact = false\nreverse = true\n')
    outcome = indexed("query", "fruit", "-n", "4", "-l", "--under", "photos")
    assert sorted(names(outcome)) == ["banana.jpg", "lemon.jpg", "lime.jpg", "plum.jpg"]
    typed = indexed("query", "fruit", "-n4", "-l", "--under=photos", "--device", "auto")
    assert typed.out == outcome.out


def test_a_typed_option_overrides_conflicting_settings(indexed, settle):
    settle("quiet = true\n[query]\njson = true\n[dupes]\nothers = true\n")
    assert names(indexed("query", "lemon", "-qln", "1")) == ["lemon.jpg"]
    refused = indexed("query", "lemon", "-qrl0").err
    assert refused.startswith("imgsearch: --json, --paths and --print0 cannot be combined")
    assert "answered by this process" in indexed("query", "lemon", "-lv").err
    assert indexed("query", "lemon", "-l").err == ""
    assert indexed("dupes", "--exact", "--json").code == 1


def test_typer_and_the_quick_reading_agree(indexed, settle, monkeypatch):
    from imgsearch.cli import fast_path

    settle(
        'limit = 2\nquiet = true\n[query]\nafter = "2001"\nnot = "red"\ndiverse = 1\n'
        'fields = "path,score"\nann = true\n'
    )
    arguments = ["query", "fruit", "--explain"]
    outcome = indexed(*arguments)
    read = fast_path.read(["fruit"], settings.settings_for(["query"], []))
    assert (read.limit, read.negatives, read.diverse, read.exact) == (2, ("red",), 1.0, False)
    monkeypatch.setattr(fast_path, "read", lambda *_: None)
    again = indexed(*arguments)
    assert (outcome.code, outcome.out) == (again.code, again.out)


def test_dates_and_numbers_may_stand_bare(indexed, settle):
    settle("[query]\nafter = 2024\nbefore = 2024-07-03\njson = true\n")
    assert indexed("query", "fruit").code == 1  # none of these photos has a date


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("[query]\nlimit = 'x'", "query.limit must be a whole number"),
        ("[query]\nlimit = 1.5", "query.limit must be a whole number"),
        ("limit = true", "limit must be a single number"),
        ("[query]\njson = 'yes'", "query.json must be true or false"),
        ("[query]\nsort = 'up'", "query.sort takes score|date|path|size, not 'up'"),
        ("[query]\nhas = ['gps', 'x']", "query.has takes gps|caption|date|damage|video, not 'x'"),
        ("[query]\ntext = ['a']", "query.text must be a single text"),
        ("[query]\ndevice = 'x'", "'x' is not auto|cuda[:N]|mps|cpu"),
        ("[query]\nlimmit = 1", "query.limmit: no such option"),
        ("[query]\nwords = ['x']", "query.words: no such option"),
        ("[query]\nhelp = true", "query.help: no such option"),
        ("[query", "is not TOML: "),
        ("a = " + "[" * 5000, "is not TOML: "),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_what_is_wrong_names_the_file(indexed, settle, written, complaint):
    where = settle("")
    where.write_bytes(written.encode("utf-8", "surrogateescape"))
    outcome = indexed("query", "fruit")
    assert outcome.code == 2
    assert outcome.err.startswith(f"imgsearch: {where}")
    assert complaint in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["--show-manual"], ["--show-completion", "fish"], ["query", "--help"], ["index", "-h"]],
)
def test_a_broken_file_keeps_nobody_from_reading_the_help(imgsearch, settle, arguments):
    expected = imgsearch(*arguments)
    for broken in ("[query", "limit = 'x'", "[index]\nlimmit = 1"):
        settle(broken)
        assert imgsearch(*arguments) == expected
    assert expected.code == 0 and imgsearch("index", "nowhere").code == 2


def test_what_is_meant_for_others_is_passed_over(indexed, settle):
    settle("time-limit = 5\nnonsense = 1\nprune = 3\n[index]\nlimit = 'x'\n[nosuch]\nx = 1\n")
    assert indexed("query", "fruit", "-l").code == 0


def test_an_unreadable_file_is_said(indexed, settle, tmp_path, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_CONFIG", str(tmp_path))
    outcome = indexed("query", "fruit")
    assert outcome.code == 2 and "cannot be read: is a directory" in outcome.err
    monkeypatch.setenv("IMGSEARCH_CONFIG", "")
    assert indexed("query", "fruit", "-l").code == 0


def test_the_index_of_the_surroundings_wins(indexed, settle, tmp_path, monkeypatch):
    settle(f"index = '{tmp_path}/other'\n")
    assert indexed("query", "fruit", "-l").code == 0  # $IMGSEARCH_INDEX
    monkeypatch.delenv("IMGSEARCH_INDEX")
    outcome = indexed("query", "fruit")
    assert outcome.code == 4 and f"{tmp_path}/other" in outcome.err
    outcome = indexed("status")
    assert outcome.code == 4 and f"{tmp_path}/other" in outcome.err
    assert indexed("init", "photos").code == 0
    monkeypatch.chdir(tmp_path / "photos")
    assert "other" not in indexed("status").err


# --------------------------------------------------------------------------------------- the command


def test_keys_are_set_and_comments_stay(imgsearch, settle):
    where = settle("# mine\nlimit = 7 # few\n\n[query] # asking\nsort = 'path'\n")
    assert imgsearch("config", "set", "quiet", "yes").code == 0
    assert imgsearch("config", "set", "query.limit", "20").code == 0
    assert imgsearch("config", "set", "index.exclude", "a b", "*.tmp").code == 0
    assert imgsearch("config", "set", "roots.move.wait", "true").code == 0
    assert imgsearch("config", "set", "query.min-score", "0.25").code == 0
    text = where.read_text()
    assert text.startswith("# mine\nlimit = 7 # few\n") and "[query] # asking" in text
    assert tomllib.loads(text) == {
        "limit": 7,
        "quiet": True,
        "query": {"sort": "path", "limit": 20, "min-score": 0.25},
        "index": {"exclude": ["a b", "*.tmp"]},
        "roots": {"move": {"wait": True}},
    }
    assert imgsearch("config", "get", "index.exclude").out == b"a b\n*.tmp\n"
    assert imgsearch("config", "unset", "index.exclude").code == 0
    assert imgsearch("config", "unset", "index.exclude").code == 1
    assert imgsearch("config", "get", "index.exclude").code == 1
    assert tomllib.loads(where.read_text())["index"] == {}


def test_a_key_with_a_dot_in_it_is_none_of_ours_and_can_be_taken_out(imgsearch, settle):
    where = settle('"query.limit" = 1\n[query]\nsort = "path"\n')
    outcome = imgsearch("config", "list")
    assert outcome.out == b'"query.limit" = 1\nquery.sort = "path"\n'
    assert outcome.code == 2 and '"query.limit": no such option' in outcome.err
    assert imgsearch("config", "get", "query.limit").code == 1
    assert imgsearch("config", "unset", "query.limit").code == 1
    assert imgsearch("config", "unset", '"query.limit"').code == 0
    assert tomllib.loads(where.read_text()) == {"query": {"sort": "path"}}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["query.lmit", "3"], "query.lmit: no such option\n  did you mean query.limit?"),
        (["query.limit", "x"], "query.limit takes N, not 'x'"),
        (["query.limit", "1", "2"], "query.limit takes one value"),
        (["query.json", "maybe"], "query.json takes true|false, not 'maybe'"),
        (["query.sort", "up"], "query.sort takes score|date|path|size, not 'up'"),
        (["", "1"], ": no such option"),
    ],
)
def test_what_cannot_be_set_is_not_written(imgsearch, settle, arguments, complaint):
    where = settle("limit = 7\n")
    outcome = imgsearch("config", "set", *arguments)
    assert outcome.code == 2 and complaint in outcome.err
    assert where.read_text() == "limit = 7\n"


def test_every_key_can_be_listed_and_set(imgsearch, settle):
    settle("limit = 7\n")
    records = imgsearch("config", "list", "--all", "--json").records
    assert {"limit", "query.limit", "index.model", "roots.move.wait", "query.exact", "query.ann"} <= {
        each["key"] for each in records
    }
    (limit,) = [each for each in records if each["key"] == "limit"]
    assert (limit["values"], limit["value"], limit["help"]) == ("N", 7, "Maximum number of results. Default: 10.")


def test_settings_are_listed_and_wrong_ones_reported(imgsearch, settle):
    where = settle("limit = 7\n[query]\nafter = 2024-07-03\nnonsense = 'a'\n")
    outcome = imgsearch("config", "list")
    assert outcome.out == b'limit = 7\nquery.after = "2024-07-03"\nquery.nonsense = "a"\n'
    assert (outcome.code, outcome.err.splitlines()[0]) == (
        2,
        f"imgsearch: {where}: query.nonsense: no such option",
    )
    assert [json.loads(line) for line in imgsearch("config", "list", "--json").out.splitlines()][1] == {
        "key": "query.after",
        "value": "2024-07-03",
    }


def test_the_file_is_written_where_a_link_leads_and_keeps_its_mode(imgsearch, settle, tmp_path):
    where = settle("")
    real = tmp_path / "dotfiles.toml"
    real.write_text("limit = 7\n")
    real.chmod(0o640)
    where.unlink()
    where.symlink_to(real)
    assert imgsearch("config", "set", "limit", "8").code == 0
    assert where.is_symlink() and real.read_text() == "limit = 8\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert os.listdir(where.parent) == ["config.toml"]


def test_the_first_setting_makes_the_file(imgsearch, tmp_path, monkeypatch):
    monkeypatch.delenv("IMGSEARCH_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new"))
    assert imgsearch("config", "list").err == f"imgsearch: no settings in {config.path()}\n"
    assert imgsearch("config", "set", "limit", "8").code == 0
    assert imgsearch("config", "path").out == os.fsencode(config.path()) + b"\n"
    assert imgsearch("config", "get", "limit").out == b"8\n"


def test_a_full_disk_loses_nothing(settle):
    where = settle("limit = 7\n")
    command = [sys.executable, "-P", "-m", "imgsearch", "config", "set", "limit", "8"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert done.returncode == 2 and "file too large" in done.stderr and str(where) in done.stderr
    assert (where.read_text(), os.listdir(where.parent)) == ("limit = 7\n", ["config.toml"])


def test_edit_opens_the_editor_and_checks_the_file(imgsearch, settle, monkeypatch):
    monkeypatch.setenv("VISUAL", 'sh -c \'printf "[query]\\nlimmit = 1\\n" >>"$1"\' editor')
    where = config.path()
    outcome = imgsearch("config", "edit")
    assert outcome.code == 2 and f"{where}: query.limmit: no such option" in outcome.err
    assert Path(where).read_text().startswith("# Options of imgsearch")
    monkeypatch.setenv("VISUAL", "nosuch-editor")
    outcome = imgsearch("config", "edit")
    assert outcome.code == 2 and "nosuch-editor: no such file or directory" in outcome.err
