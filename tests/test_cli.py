"""The command as it is typed: its output, its exit codes, its manners in a pipe."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import imgsearch as package

from conftest import PATIENCE_SECONDS

PROGRAM = [sys.executable, "-m", "imgsearch"]


@pytest.fixture
def indexed(imgsearch, photos):
    outcome = imgsearch("index", photos, "--model", "builtin")
    assert outcome.code == 0, outcome.err
    return photos


def test_a_whole_session(imgsearch, photos):
    first = imgsearch("index", photos, "--model", "builtin")
    assert first.code == 0 and first.out == b""
    assert "imgsearch: indexed 6 photos\n" in first.err
    assert re.search(
        r"load model [\d.]+, walk [\d.]+, read\+decode \(all workers\) [\d.]+, embed [\d.]+, write [\d.]+", first.err
    )
    words = imgsearch("query", "a", "yellow", "banana", "-n", "2")
    assert words.code == 0 and words.err == ""
    assert re.fullmatch(r"0\.\d{4}\t.*banana\.jpg", words.lines[0]) and len(words.lines) == 2
    picture = imgsearch("query", photos / "lemon.jpg", "-l", "-n", "6")
    assert len(picture.lines) == 5 and str(photos / "lemon.jpg") not in picture.lines
    both = imgsearch("query", f"a carton of milk like {photos}/lemon.jpg", "--json", "-n", "1")
    assert both.records[0]["method"] == "scaled"
    again = imgsearch("index")
    assert again.code == 0 and "indexed 0 photos, 6 unchanged" in again.err


def test_json_hits_have_exactly_the_documented_keys(imgsearch, indexed):
    record = imgsearch("query", "a yellow banana", "--json").records[0]
    assert list(record) == [
        "query",
        "rank",
        "score",
        "method",
        "cosine",
        "z",
        "percentile",
        "path",
        "root",
        "modality",
        "taken_at",
        "date_from",
        "width",
        "height",
        "model",
    ]
    assert record["query"] == "a yellow banana" and record["path"] == str(indexed / "banana.jpg")
    assert (record["rank"], record["method"], record["modality"]) == (1, "text", "image")
    documented = (Path(__file__).parents[1] / "docs" / "json.md").read_text()
    assert all(f"`{key}`" in documented for key in record)


def test_nothing_found_is_exit_1(imgsearch, indexed):
    assert imgsearch("query", "a banana", "--min-score", "2").code == 1
    assert imgsearch("query", "-", "--min-score", "2", stdin=b"a banana\na lemon\n").code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query"], "nothing to search for"),
        (["query", "red like nowhere.jpg"], "nowhere.jpg: no such picture"),
        (["query", "dog", "-0", "-l"], "cannot be combined"),
        (["query", "dog", "--compose", "magic"], "'magic' is not one of"),
        (["query", "dog", "--text", "cat"], "words given twice"),
        (["query", "dog", "--nonsense"], "no such option: --nonsense"),
        (["nonsense"], "no such command"),
        (["index", "/no/such/folder"], "/no/such/folder: no such file or folder"),
        (["index", "--weights", "x"], "--weights and --preprocess-from need --model"),
        (["init", "/no/such/folder"], "not a folder"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_what_to_do(imgsearch, indexed, arguments, message):
    outcome = imgsearch(*arguments)
    assert outcome.code == 2 and outcome.out == b""
    lines = outcome.err.splitlines()
    assert lines[0].startswith("imgsearch: ") and message in lines[0].lower()
    assert lines[1].startswith("  ")


def test_under_json_an_error_is_one_json_line_on_stderr(imgsearch, indexed):
    outcome = imgsearch("query", "red like nowhere.jpg", "--json")
    record = json.loads(outcome.err)
    assert (record["error"], record["exit_code"]) == ("nowhere.jpg: no such picture", 2)
    assert "--text" in record["hint"] and outcome.out == b""


def test_no_index_is_exit_4(imgsearch):
    for command in (["query", "dog"], ["status"], ["failures"], ["prune"]):
        outcome = imgsearch(*command)
        assert outcome.code == 4, command
        assert "no index at" in outcome.err and "imgsearch index FOLDER" in outcome.err


def test_some_files_skipped_is_exit_3_once_and_failures_lists_them(imgsearch, photos):
    (photos / "broken.jpg").write_bytes((photos / "lemon.jpg").read_bytes()[:2000])
    outcome = imgsearch("index", photos, "--model", "builtin")
    assert outcome.code == 3 and "broken.jpg: truncated" in outcome.err and "(decode)" in outcome.err
    again = imgsearch("index")
    assert again.code == 0 and "1 known to fail" in again.err
    (failure,) = imgsearch("failures", "--json").records
    assert failure["path"] == str(photos / "broken.jpg") and failure["stage"] == "decode"
    assert failure["reason"].startswith("truncated")
    assert imgsearch("failures").lines[0].split("\t")[:2] == [str(photos / "broken.jpg"), "decode"]


def test_index_json_emits_events_and_ends_with_the_summary(imgsearch, photos):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    outcome = imgsearch("index", photos, "--model", "builtin", "--json")
    events = outcome.records
    assert [event["path"] for event in events if event["event"] == "skipped"] == [str(photos / "broken.jpg")]
    assert sum(event["event"] == "photo" for event in events) == 6
    assert events[-1]["event"] == "done" and events[-1]["new"] == 6 and events[-1]["skipped"] == 1
    assert set(events[-1]["seconds"]) == {"load", "walk", "decode", "embed", "write", "total"}


def test_a_dry_run_says_what_would_be_done_and_makes_nothing(imgsearch, photos, tmp_path):
    (photos / "notes").write_text("no picture")
    outcome = imgsearch("index", photos, "--dry-run", "-v")
    assert outcome.code == 0 and "would index 6 new files" in outcome.err
    assert f"new: {photos}/lemon.jpg" in outcome.err
    assert not (tmp_path / "index").exists()


def test_status_is_one_object(imgsearch, indexed):
    (record,) = imgsearch("status", "--json").records
    assert (record["photos"], record["gone"], record["offline"], record["failed"]) == (6, 0, 0, 0)
    assert (record["model"], record["dim"], record["hnsw_covers_all"]) == ("builtin", 256, True)
    assert record["roots"][0]["path"] == str(indexed) and record["bytes"] > 0
    assert record["spaces"][0]["hnsw_vectors"] == 6
    assert "hnsw     6 of 6 vectors in graphs" in imgsearch("status").lines


def test_status_says_that_there_are_no_graphs(imgsearch, indexed, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", "0")
    assert "hnsw     no graphs: every vector is scanned" in imgsearch("status").lines


def test_prune_says_what_it_does(imgsearch, indexed):
    (indexed / "lemon.jpg").unlink()
    assert "1 gone" in imgsearch("index").err
    assert imgsearch("status", "--json").records[0]["gone"] == 1
    assert "would remove 1 photo" in imgsearch("prune", "--dry-run").err
    assert "removed 1 photo" in imgsearch("prune").err
    assert imgsearch("status", "--json").records[0]["gone"] == 0


def test_a_portable_index_is_found_from_below(imgsearch, photos, monkeypatch, tmp_path):
    monkeypatch.delenv("IMGSEARCH_INDEX")
    assert imgsearch("init", photos).code == 0
    assert "exists already" in imgsearch("init", photos).err
    (photos / "below").mkdir()
    monkeypatch.chdir(photos / "below")
    assert imgsearch("index", "--model", "builtin").code == 0
    assert imgsearch("query", "a lemon", "-l", "-n1").lines[0].startswith(str(photos))
    assert imgsearch("status", "--json").records[0]["index"] == str(photos / ".imgsearch")


def test_models_are_listed_with_their_licence(imgsearch):
    records = imgsearch("models", "--json").records
    assert {"builtin", "lite", "fast", "balanced", "best"} <= {record["name"] for record in records}
    assert all(record["licence"] and record["dim"] for record in records)
    assert next(r for r in records if r["name"] == "builtin")["cached"] is True
    assert imgsearch("models").lines[0].split()[:2] == ["name", "dim"]


def test_the_version(imgsearch):
    assert imgsearch("--version").out.decode() == f"imgsearch {package.__version__}\n"


def test_queries_from_standard_input_are_answered_in_order_and_a_bad_one_does_not_stop_the_rest(imgsearch, indexed):
    lines = b"a yellow banana\n\nred like gone.jpg\na slice of watermelon\n"
    outcome = imgsearch("query", "-", "-n", "1", "--json", stdin=lines)
    assert [record["query"] for record in outcome.records] == ["a yellow banana", "a slice of watermelon"]
    assert outcome.code == 2 and json.loads(outcome.err)["error"] == "gone.jpg: no such picture"
    plain = imgsearch("query", "-", "-n", "1", stdin=b"a yellow banana\n")
    assert plain.lines[0].split("\t")[0] == "a yellow banana"


def test_a_picture_that_cannot_be_read_does_not_stop_the_other_queries(imgsearch, indexed):
    (indexed / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    lines = f"a yellow banana\n{indexed}/broken.jpg\na slice of watermelon\n".encode()
    outcome = imgsearch("query", "-", "-n", "1", "--json", stdin=lines)
    assert [record["query"] for record in outcome.records] == ["a yellow banana", "a slice of watermelon"]
    assert outcome.code == 2 and "broken.jpg" in outcome.err


def test_queries_are_answered_as_they_come(indexed, tmp_path):
    env = {**os.environ, "IMGSEARCH_INDEX": str(tmp_path / "index")}
    command = [*PROGRAM, "query", "-", "-l", "-n", "1"]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for name in ("banana", "lemon"):
            process.stdin.write(f"{indexed}/{name}.jpg\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith(".jpg\n")
        process.stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 0


EMPTY_NAMES = (["index", ""], ["init", ""], ["query", "x", "--under", ""], ["status", "--index", ""])


@pytest.mark.parametrize("arguments", EMPTY_NAMES)
def test_an_empty_name_is_never_taken_for_the_working_directory(imgsearch, indexed, arguments):
    outcome = imgsearch(*arguments)
    assert outcome.code == 2 and "empty" in outcome.err


def test_index_json_ends_in_order_when_its_reader_leaves(photos, tmp_path):
    env = {**os.environ, "IMGSEARCH_INDEX": str(tmp_path / "index")}
    line = " ".join([*PROGRAM, "index", str(photos), "--model", "builtin", "--json", "--batch-size", "1"])
    script = f'{line} | head -3 >/dev/null; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, env=env, text=True, timeout=PATIENCE_SECONDS)
    assert (done.stdout.strip(), done.stderr) == ("0", "")
    status = subprocess.run(
        [*PROGRAM, "status", "--json"], env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert json.loads(status.stdout)["photos"] >= 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_no_bug(indexed, tmp_path, closed):
    env = {**os.environ, "IMGSEARCH_INDEX": str(tmp_path / "index")}
    for command, code in ((["query", str(indexed / "lemon.jpg")], 0), (["query", "gone.jpg"], 2), (["query", "-"], 1)):
        line = " ".join([*PROGRAM, *command, closed, "" if "<" in closed else "</dev/null"])
        done = subprocess.run(["bash", "-c", line], capture_output=True, env=env, text=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == code, (command, done.stderr)
        assert "Traceback" not in done.stderr + done.stdout


def test_an_empty_and_a_damaged_catalogue_are_told_from_a_bug(imgsearch, indexed, tmp_path):
    catalogue = tmp_path / "index" / "catalog.sqlite3"
    data = bytearray(catalogue.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    catalogue.write_bytes(data)
    outcome = imgsearch("status")
    assert outcome.code == 4 and "your photos are not touched" in outcome.err
    catalogue.write_bytes(b"")
    outcome = imgsearch("status")
    assert outcome.code == 4 and "nothing indexed yet" in outcome.err


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")
def test_a_full_and_a_read_only_disk(imgsearch, indexed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        outcome = imgsearch("index", indexed, "--model", "builtin", "--index", disk / "i")
        assert outcome.code == 2 and "free some space" in outcome.err and "Traceback" not in outcome.err
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert imgsearch("index", indexed, "--model", "builtin", "--index", disk / "i").code == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert len(imgsearch("query", indexed / "lemon.jpg", "-l", "--index", disk / "i").lines) == 5
        outcome = imgsearch("index", indexed, "--index", disk / "i")
        assert outcome.code == 4 and "cannot write to the index" in outcome.err
    finally:
        subprocess.run(["umount", disk], check=True)


def test_odd_names_reach_a_pipe_with_exact_bytes(imgsearch, photos, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    source = (photos / "banana.jpg").read_bytes()
    names = [b"sp ace.jpg", b"new\nline.jpg", b'it\'s "q".jpg', b"caf\xe9.jpg", b"esc\x1b[31m.jpg"]
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(odd), name), "wb") as file:
            file.write(source + bytes([number]))
    assert imgsearch("index", odd, "--model", "builtin").code == 0
    paths = {os.path.join(os.fsencode(odd), name) for name in names}
    assert set(imgsearch("query", "banana", "-0").out.split(b"\0")[:-1]) == paths
    records = imgsearch("query", "banana", "--json").records
    import base64

    got = {base64.b64decode(r["path_b64"]) if "path_b64" in r else os.fsencode(r["path"]) for r in records}
    assert got == paths
    assert imgsearch("query", odd / os.fsdecode(b"caf\xe9.jpg"), "-0").out.count(b"\0") == 4


def in_a_terminal(arguments: list[str], env: dict[str, str], send: bytes = b"", width: int = 100) -> tuple[int, str]:
    """Run the real program on a pseudo-terminal; its exit code and everything it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(env)
        os.execv(sys.executable, [*PROGRAM, *arguments])
    shown = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            shown += data
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode("utf-8", "replace")


def test_a_terminal_gets_aligned_scores_and_no_raw_control_characters(imgsearch, photos, tmp_path):
    shutil.copy(photos / "banana.jpg", photos / "x\x1b]0;owned\x07y.jpg")
    assert imgsearch("index", photos, "--model", "builtin").code == 0
    env = {"IMGSEARCH_INDEX": str(tmp_path / "index"), "FORCE_HYPERLINK": "0", "NO_COLOR": "1"}  # see test_preview.py
    code, shown = in_a_terminal(["query", str(photos / "banana.jpg")], env)
    assert code == 0 and "\x1b" not in shown and "\x07" not in shown
    lines = shown.replace("\r\n", "\n").splitlines()
    assert lines[0] == f"  1.000  {photos}/x\\x1b]0;owned\\x07y.jpg"
    assert all(re.match(r" +-?\d\.\d{3}  /", line) for line in lines)


def test_a_reader_that_leaves_early_is_no_error(imgsearch, indexed, tmp_path):
    for command in (["query", str(indexed / "banana.jpg"), "--include-reference"], ["status"], ["models"], ["--help"]):
        line = " ".join([*PROGRAM, *command])
        env = {**os.environ, "IMGSEARCH_INDEX": str(tmp_path / "index")}
        script = f'{line} | head -0; echo "${{PIPESTATUS[0]}}"'
        done = subprocess.run(["bash", "-c", script], capture_output=True, env=env, text=True, timeout=PATIENCE_SECONDS)
        assert done.stdout.strip() == "0" and done.stderr == "", command


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_indexing_in_order_and_what_was_done_is_kept(photos, rigged, tmp_path, number, code):
    (tmp_path / "slow").touch()
    for n in range(60):
        rigged(photos / f"{n:03}.jpg", f"slow {tmp_path / 'slow'}", degrees=n)
    env = {**os.environ, "IMGSEARCH_INDEX": str(tmp_path / "index")}
    command = [*PROGRAM, "index", str(photos), "--model", "builtin", "--json", "--batch-size", "1"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "photo":
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    last = json.loads(out.splitlines()[-1])
    assert process.returncode == code
    assert last["event"] == "stopped" and 0 < last["new"] < 66
    assert "run the same command again" in err and "Traceback" not in err
    done = subprocess.run(
        [*PROGRAM, "status", "--json"], env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert json.loads(done.stdout)["photos"] == last["new"]


def test_under_nohup_a_run_is_not_hung_up(photos, tmp_path):
    env = {**os.environ, "IMGSEARCH_INDEX": str(tmp_path / "index")}
    command = ["nohup", *PROGRAM, "index", str(photos), "--model", "builtin", "--json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "planned":
                process.send_signal(signal.SIGHUP)
                break
        last = json.loads(process.stdout.read().splitlines()[-1])
    assert (process.returncode, last["event"], last["new"]) == (0, "done", 6)


def test_a_bug_is_exit_70_with_its_traceback(imgsearch, monkeypatch):
    from imgsearch.core import places

    monkeypatch.setattr(places, "locate", lambda option: 1 / 0)
    outcome = imgsearch("status")
    assert outcome.code == 70 and "ZeroDivisionError" in outcome.err and "this is a bug" in outcome.err


def test_a_run_that_loads_the_model_ends_without_a_word_of_its_libraries(photos, folder):
    command = [sys.executable, "-P", "-m", "imgsearch", "index", str(photos), "--model", "builtin", "--index", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stdout == ""
    assert all(line.startswith("imgsearch: ") for line in done.stderr.splitlines()), done.stderr
