"""Warm answers: to the last byte those of a cold query, and never in the way of one.

A query turns to the server for 0.04 seconds, which a busy machine may need to wake it up. Here it has a minute, except
where the server does not answer at all.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import platformdirs
import pytest

from imgsearch.core import places
from imgsearch.core.errors import IndexDamaged, QueryError, StoreError, UsageError
from imgsearch.core.search.query_arguments import QueryArguments
from imgsearch.core.serving import listener, protocol

from conftest import ALBUM, PATIENCE_SECONDS, cpu_seconds

RUN = """
import atexit, os, sys
atexit.register(lambda: print("\\ncold" if "imgsearch.core.store.store" in sys.modules else "\\nwarm", file=sys.stderr))
from imgsearch.core.serving import protocol
protocol.ACCEPT_SECONDS = float(os.environ.get("ACCEPT_SECONDS", 60))
from imgsearch.cli.app import main
main()
"""
ASKED = QueryArguments()


class Bench:
    """A folder with an index of its own, a runtime folder, and the command run there as a user would."""

    def __init__(self, folder: Path, runtime: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "IMGSEARCH_INDEX": str(folder / "index"), "XDG_RUNTIME_DIR": runtime}

    def run(self, *arguments: str, **variables: str) -> tuple[int, bytes, str, bool]:
        """Exit code, stdout, stderr, and whether it was answered warm."""
        done = subprocess.run(
            [sys.executable, "-P", "-c", RUN, *arguments],
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )
        said, _, how = done.stderr.decode().rstrip("\n").rpartition("\n")
        return done.returncode, done.stdout, said, how == "warm"

    def query(self, *arguments: str, **variables: str) -> tuple[int, bytes, str, bool]:
        return self.run("query", *arguments, **variables)

    @contextlib.contextmanager
    def serving(self, *arguments: str):
        command = [sys.executable, "-P", "-m", "imgsearch", "serve", "--socket-only", *arguments]
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True)
        try:
            assert "from memory" in process.stderr.readline()
            yield process
        finally:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def indexed(folder):
    photos = folder / "photos"
    photos.mkdir()
    for name in ("banana", "lemon", "red-delicious", "carrots", "oatly-oat-milk", "watermelon", "lime"):
        shutil.copy(ALBUM / f"{name}.jpg", photos)
    shutil.copy(ALBUM / "lemon.jpg", photos / "lemon copy.jpg")
    shutil.copy(ALBUM / "plum.jpg", os.path.join(os.fsencode(photos), b"pl\xffm\n<b>.jpg"))
    shutil.copy(ALBUM / "kiwi.jpg", folder / "outside.jpg")
    runtime = tempfile.mkdtemp(prefix="is-")  # the path of a socket is short
    bench = Bench(folder, runtime)
    code, *rest = bench.run("index", "photos", "--model", "builtin", "--quiet")
    assert code == 0, rest
    yield bench
    shutil.rmtree(runtime)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """With a server that runs as long as these tests."""
    with indexed(tmp_path_factory.mktemp("served")) as bench, bench.serving():
        yield bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with indexed(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.mark.parametrize(
    "arguments",
    [
        ["red fruit"],
        ["red", "fruit", "--json", "-n", "20"],
        ["photos/lemon.jpg", "--json"],
        ["outside.jpg", "--json"],
        ["green like photos/lemon.jpg", "--json", "--weight", "0.4", "--compose", "and"],
        ["as a cartoon like photos/lemon.jpg", "--json"],
        ["fruit -red", "--json", "--include-reference"],
        ["--any", "lemon", "--any", "photos/banana.jpg", "--json"],
        ["2*red + 1*fruit", "--more-like", "photos/banana.jpg", "--less-like", "outside.jpg", "--json"],
        ["--from", "yellow", "--to", "green", "--image", "photos/lemon.jpg"],
        ["lemon", "--group", "duplicates", "--json"],
        ["fruit", "--under", "photos", "--glob", "*e*.jpg", "--sort", "path", "-r"],
        ["fruit since 2019", "--natural", "--json"],
        ["lemon.jpg", "--natural", "--json"],
        ["--name", "*e*", "--sort", "size", "-r"],
        ["fruit", "--metadata"],
        ["fruit", "--fields", "path,score,z,keywords,members"],
        ["fruit", "-0", "--diverse", "0.5"],
        ["fruit", "-l", "--modality", "any"],
        ["fruit", "--auto-cut"],
        ["fruit", "--min-score", "5"],
    ],
    ids=" ".join,
)
def test_a_warm_answer_is_the_cold_one_to_the_last_byte(served, arguments):
    *warm_answer, is_warm = served.query(*arguments)
    *cold_answer, was_warm = served.query(*arguments, "--no-server", "--no-history")
    assert warm_answer == cold_answer
    assert (is_warm, was_warm) == (True, False)


def test_an_explanation_is_the_cold_one_but_for_the_clock(served):
    def explained(*more):
        code, out, err, is_warm = served.query("fruit -red", "--json", "--explain", *more)
        record = json.loads(err.splitlines()[0])
        assert record["explain"].pop("seconds").keys() == {"embed", "prepare", "search", "rank"}
        return code, out, record, is_warm

    assert explained()[:3] == explained("--no-server", "--no-history")[:3]
    assert explained()[3]


@pytest.mark.parametrize(
    ("arguments", "is_answered_warm"),
    [
        (["fruit", "--compose", "nonsense"], True),
        (["fruit", "--after", "someday"], True),
        (["fruit", "--under", "nowhere"], False),  # named relative to this folder: only here it is said as typed
        (["nosuch.jpg"], True),  # found out before anybody is asked
        (["fruit", "--limit", "0", "--json"], True),
    ],
    ids=str,
)
def test_an_error_is_the_cold_one(served, arguments, is_answered_warm):
    *warm_answer, is_warm = served.query(*arguments)
    *cold_answer, _ = served.query(*arguments, "--no-server")
    assert warm_answer == cold_answer
    assert warm_answer[0] == 2
    assert is_warm == is_answered_warm


@pytest.mark.parametrize(
    "arguments",
    [["--no-server"], ["--no-history"], ["--device", "cpu"], ["--offline"], ["--root", "photos"]],
    ids=" ".join,
)
def test_what_a_server_cannot_promise_is_answered_cold(served, arguments):
    code, out, err, is_warm = served.query("fruit", *arguments)
    assert (code, err.rstrip(), is_warm) == (0, "", False)
    assert out == served.query("fruit")[1]


@pytest.mark.parametrize("variable", ["TZ", "HOME", "IMGSEARCH_HNSW_SLOTS", "XDG_CACHE_HOME"])
def test_another_environment_is_answered_cold(served, variable, tmp_path):
    value = {"TZ": "Asia/Tokyo", "IMGSEARCH_HNSW_SLOTS": "5"}.get(variable, str(tmp_path))
    assert served.query("fruit", **{variable: value})[::3] == (0, False)


def test_what_others_commit_is_in_the_next_answer(bench):
    photo = bench.folder / "photos" / "new pear.jpg"
    with bench.serving():
        before = bench.query("a pear", "-l", "-n", "99")
        shutil.copy(ALBUM / "anjou.jpg", photo)
        bench.run("index", "--quiet")
        added = bench.query("a pear", "-l", "-n", "99")
        photo.unlink()
        bench.run("index", "--quiet")
        bench.run("prune")
        pruned = bench.query("a pear", "-l", "-n", "99")
        shutil.rmtree(bench.folder / "index")
        gone = bench.query("a pear", "-l", "-n", "99")
        bench.run("index", "photos", "--model", "builtin", "--quiet")
        again = bench.query("a pear", "-l", "-n", "99")
    assert all(answer[3] for answer in (before, added, pruned, again))
    assert set(added[1].splitlines()) - set(before[1].splitlines()) == {os.fsencode(photo)}
    assert before[:3] == pruned[:3] == again[:3]
    assert gone[0] == 4
    assert not gone[3]


def test_a_killed_server_does_not_stop_queries(bench):
    with bench.serving() as process:
        process.send_signal(signal.SIGSTOP)
        stopped = bench.query("fruit", ACCEPT_SECONDS=str(protocol.ACCEPT_SECONDS))
        process.kill()
        process.wait()
        killed = bench.query("fruit")
        with bench.serving():
            again = bench.query("fruit")
    assert [answer[3] for answer in (stopped, killed, again)] == [False, False, True]
    assert stopped[:3] == killed[:3] == again[:3]


def test_only_one_server_listens_for_an_index(served):
    code, _, err, _ = served.run("serve", "--socket-only")
    assert (code, err.rstrip()) == (
        2,
        "imgsearch: another imgsearch serve has this index open\n  use that one, or stop it first",
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_order(bench, number, code):
    with bench.serving() as process:
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == code
        assert process.stderr.read() == ""
    assert not list(Path(bench.environment["XDG_RUNTIME_DIR"]).rglob("*.sock"))


def test_the_server_ends_when_idle(bench):
    with bench.serving("--idle", "0.02") as process:
        assert process.wait(PATIENCE_SECONDS) == 0


def test_socket_only_wants_no_address(bench):
    code, _, err, _ = bench.run("serve", "--socket-only", "--port", "1")
    assert (code, err.rstrip()) == (
        2,
        "imgsearch: --socket-only cannot be combined with --host and --port\n  leave out one of them",
    )


# --------------------------------------------------------------------------------------- odd ends


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """The path where a server of an index would listen, all in order so far."""
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / protocol.CATALOG).touch()
    runtime = tempfile.mkdtemp(prefix="is-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "index"))
    path = protocol.socket_path(str(tmp_path / "index"))
    protocol.make_private(os.path.dirname(path))
    yield path
    shutil.rmtree(runtime)


def ask():
    return protocol.ask(ASKED, statistics=False)


@contextlib.contextmanager
def answering(path, *messages):
    """A server that answers a query with these bytes and hangs up. Without any it is silent until the body is done."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    done = threading.Event()

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                for message in messages:
                    connection.sendall(message)
                done.wait(0 if messages else PATIENCE_SECONDS)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield thread
    finally:
        done.set()
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def framed(message):
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data


HIT = {"place": {"root": "/a", "relpath": "b.jpg", "content_hash": "00", "keywords": ["k"]}, "members": [], "rank": 1}
ANSWER = framed({"state": "answer", "typed": "fruit", "hits": [HIT], "explanation": None, "offline": []})


def test_an_answer_is_taken(odd):
    with answering(odd, framed({"state": "accepted"}), ANSWER):
        answer = ask()
    (hit,) = answer.hits
    assert (hit.path, hit.rank, hit.place.content_hash, hit.place.keywords) == ("/a/b.jpg", 1, b"\0", ("k",))


FAILED = framed({"state": "failed", "reason": "it is busy"})
ACCEPTED = framed({"state": "accepted"})


def answer_with(**changes):
    return framed({"state": "answer", "typed": "x", "hits": [], "explanation": None, "offline": [], **changes})


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "malformed message: 1213486160 bytes"),
        ([b"\0\0\0\x02[]"], "malformed message: not an object"),
        ([b"\0\0\0\x04null"], "malformed message: not an object"),
        ([b"\0\0\0\x03\xff\xfe\xfd"], "malformed message: "),
        ([b"\xff\xff\xff\xff{}"], "malformed message: 4294967295 bytes"),
        ([framed({})], "malformed message: state is not a str"),
        ([FAILED], "the server did not answer: it is busy"),
        ([ACCEPTED], "the other end hung up"),
        ([ACCEPTED, FAILED], "the server did not answer: it is busy"),
        ([ACCEPTED, answer_with(hits=[{}])], "malformed message: place is not a dict"),
        ([ACCEPTED, answer_with(hits=[7])], "malformed message: place is not a dict"),
        ([ACCEPTED, answer_with(hits=[{**HIT, "members": None}])], "malformed message: members is not a list"),
        ([ACCEPTED, answer_with(hits={})], "malformed message: hits is not a list"),
        ([ACCEPTED, answer_with(typed=None)], "malformed message: typed is not a str"),
        ([ACCEPTED, answer_with(explanation=1)], "malformed message: explanation is not a dict"),
        (
            [ACCEPTED, answer_with(hits=[{**HIT, "place": {**HIT["place"], "content_hash": "0"}}])],
            "malformed message: ",
        ),
        ([ACCEPTED, framed({"state": "error", "error": "SystemExit", "message": "", "hint": None})], "the server did"),
        ([ACCEPTED, framed({"state": "error", "error": "QueryError", "hint": None})], "malformed message: message is"),
        ([ACCEPTED, b"\0\0\xff\xff" + b"[" * 0xFFFF], "malformed message: "),
    ],
    ids=range(19),
)
def test_a_malformed_answer_is_ignored_at_once_and_its_reason_reported(odd, messages, reason, monkeypatch):
    for name in ("ACCEPT_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(protocol, name, 10.0 * PATIENCE_SECONDS)
    reasons = []
    with answering(odd, *messages):
        assert protocol.ask(ASKED, statistics=False, on_failure=reasons.append) is None
    (reported,) = reasons
    assert reported.startswith(reason)


def test_an_error_of_the_query_is_raised(odd):
    with (
        answering(odd, framed({"state": "error", "error": "QueryError", "message": "no", "hint": "yes"})),
        pytest.raises(QueryError, match="no") as caught,
    ):
        ask()
    assert caught.value.hint == "yes"


def test_a_bug_in_the_client_is_not_hidden(odd, monkeypatch):
    def broken(record):
        raise KeyError("planted")

    monkeypatch.setattr(protocol, "_hit", broken)
    with answering(odd, ACCEPTED, ANSWER), pytest.raises(KeyError, match="planted"):
        ask()


class BrokenEngine:
    """Fails in every query."""

    def __init__(self, folder, error):
        self.folder, self.error = folder, error

    def search(self, query, options, **more):
        more["on_accept"]()
        raise self.error


@pytest.mark.parametrize("where", ["search", "query"])
def test_a_bug_in_the_server_is_logged_there_and_reported_to_the_client(odd, tmp_path, monkeypatch, caplog, where):
    engine = BrokenEngine(str(tmp_path / "index"), KeyError("planted"))
    if where == "query":
        monkeypatch.setattr(QueryArguments, "query", lambda *_: engine.search(None, None, on_accept=lambda: None))
    reasons = []
    with contextlib.closing(listener.Listener(engine)):
        asked = QueryArguments(words=("fruit",))
        assert protocol.ask(asked, statistics=False, on_failure=reasons.append) is None
    assert reasons == ["the server did not answer: KeyError: 'planted'"]
    assert "KeyError: 'planted'" in caplog.text and "Traceback" in caplog.text


def test_an_expected_failure_of_the_server_is_reported_without_a_traceback(odd, tmp_path, caplog):
    engine = BrokenEngine(str(tmp_path / "index"), IndexDamaged("the index is damaged"))
    reasons = []
    with contextlib.closing(listener.Listener(engine)):
        protocol.ask(QueryArguments(words=("fruit",)), statistics=False, on_failure=reasons.append)
    assert reasons == ["the server did not answer: the index is damaged"]
    assert caplog.text == ""


def test_verbose_says_why_a_server_did_not_answer(served):
    code, _, said, is_warm = served.query("fruit", "-v", "--root", "photos")
    assert (code, is_warm) == (0, False)
    assert "searching without the server: --root is not an absolute path" in said
    assert "searching without" not in served.query("fruit", "-v")[2]


def test_a_silent_server_is_not_waited_for(odd):
    with answering(odd) as server:
        assert ask() is None
        assert server.is_alive()


def test_without_a_server_asking_is_fast(odd):
    assert ask() is None
    with cpu_seconds(0.05):
        assert ask() is None


def test_nothing_is_said_where_others_could_listen(odd):
    folder = os.path.dirname(odd)
    with answering(odd, framed({"state": "accepted"}), ANSWER):
        os.chmod(folder, 0o755)
        assert ask() is None
        os.chmod(folder, 0o700)
        os.rename(folder, f"{folder}.real")
        os.symlink(f"{folder}.real", folder)
        assert ask() is None
        os.unlink(folder)
        os.rename(f"{folder}.real", folder)
        assert ask() is not None


def test_a_server_makes_no_socket_where_others_could_enter(odd):
    folder = os.path.dirname(odd)
    os.chmod(folder, 0o711)
    with pytest.raises(protocol.ProtocolError, match="not private"):
        protocol.make_private(folder)
    os.rmdir(folder)
    os.chmod(os.path.dirname(folder), 0o777)
    with pytest.raises(protocol.ProtocolError, match="belongs to another user"):
        protocol.make_private(folder)


@pytest.mark.parametrize("message", [b"", b"\0", b"\0\0\0\x02{}", b"\xff\xff\xff\xff", b"\0\0\0\x04nope", b"x" * 5000])
def test_an_odd_asker_does_no_harm(served, message):
    path = next(Path(served.environment["XDG_RUNTIME_DIR"]).rglob("*.sock"))
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(str(path))
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert served.query("fruit")[3]


def test_the_socket_is_the_users_alone(served):
    path = next(Path(served.environment["XDG_RUNTIME_DIR"]).rglob("*.sock"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


# --------------------------------------------------------------------------------------- where the index is


@pytest.mark.parametrize(
    ("option", "variable", "made", "expected"),
    [
        ("~/there", "../x", ".imgsearch", "home/there"),
        (None, "../x", ".imgsearch", "a/x"),
        (None, None, "a/b/.imgsearch", "a/b/.imgsearch"),
        (None, None, "a/.imgsearch", "a/.imgsearch"),
        ("..", None, "a/.imgsearch", "a/.imgsearch"),
        (None, None, "elsewhere", "data/imgsearch/index"),
    ],
    ids=["option", "variable", "here", "above", "inside", "user's"],
)
def test_where_the_index_is(tmp_path, monkeypatch, option, variable, made, expected):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / made).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if variable:
        monkeypatch.setenv("IMGSEARCH_INDEX", variable)
    assert places.locate(option) == str(tmp_path / expected)


def test_places_where_no_index_is_searched_for(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--index is empty"):
        places.locate("")
    monkeypatch.delenv("IMGSEARCH_INDEX", raising=False)
    (tmp_path / ".imgsearch").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(StoreError, match="belongs to another user"):
        places.locate(None)


@pytest.mark.parametrize(
    "variables",
    [{}, {"XDG_RUNTIME_DIR": "/run/x"}, {"XDG_DATA_HOME": "/data"}, {"XDG_CONFIG_HOME": "/c"}, {"HOME": "/h"}],
)
def test_folders_are_where_the_platform_has_them(monkeypatch, variables):
    for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "IMGSEARCH_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert places.runtime_folder() == platformdirs.user_runtime_dir("imgsearch", appauthor=False)
    monkeypatch.chdir("/")
    data = platformdirs.user_data_dir("imgsearch", appauthor=False)
    assert places.locate(None) == os.path.join(data, "index")
    assert places.config_folder() == platformdirs.user_config_dir("imgsearch", appauthor=False)
    assert places.cache_folder() == platformdirs.user_cache_dir("imgsearch", appauthor=False)
