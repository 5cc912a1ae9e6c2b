"""The table of models, what `--model` means, and what a bad network costs."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgsearch.core.errors import ModelError, UsageError
from imgsearch.core.models import hub, registry
from imgsearch.core.models.hub import HubFiles
from imgsearch.core.models.registry import ALIASES, ModelSpec, parse

from conftest import PATIENCE_SECONDS

LITE = ALIASES["lite"].spec


@pytest.fixture(autouse=True)
def a_machine_without_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.upper().startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "hf" / "hub"


def put_in_cache(hub: Path, repo: str, name: str, commit: str = "c0ffee", content: bytes = b"x") -> Path:
    path = hub / f"models--{repo.replace('/', '--')}" / "snapshots" / commit / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---- the table


@pytest.mark.parametrize("alias", [a for a in ALIASES.values() if a.weights], ids=lambda a: a.name)
def test_alias_is_what_open_clip_knows_under_that_name(alias: registry.Alias) -> None:
    from imgsearch.core.models.loading import open_clip

    entry = open_clip.get_pretrained_cfg(alias.arch, alias.weights)
    config = open_clip.get_model_config(alias.arch)

    assert (alias.arch, alias.weights) in open_clip.list_pretrained()
    assert entry["hf_hub"] == f"{alias.repo}/"
    assert config["embed_dim"] == alias.dim
    assert hub.tokenizer_repos_of(config) == ([alias.tokenizer_repo] if alias.tokenizer_repo else [])


def test_builtin_alias_is_what_the_shipped_configuration_says() -> None:
    folder = Path(registry.__file__).parent / "builtin_model"
    assert (
        json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"] == ALIASES["builtin"].dim
    )


def test_every_alias_states_its_licence_and_research_ones_are_marked() -> None:
    assert all(alias.licence for alias in ALIASES.values())
    marked = {alias.name for alias in ALIASES.values() if not alias.commercial}
    assert marked == {alias.name for alias in ALIASES.values() if "research" in alias.licence or "NC" in alias.licence}


def test_importing_models_loads_nothing_heavy() -> None:
    program = """
import sys
import imgsearch.core.models.registry
heavy = {"torch", "open_clip", "huggingface_hub", "numpy", "PIL", "platformdirs", "transformers"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- what is meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("builtin", ModelSpec("builtin", "builtin")),
        ("fast", ModelSpec("fast", "ViT-B-32-SigLIP2-256", "webli")),
        ("ViT-B-32/openai", ModelSpec("ViT-B-32/openai", "ViT-B-32", "openai")),
        ("ViT-B-32:openai", ModelSpec("ViT-B-32:openai", "ViT-B-32", "openai")),
        ("ViT-B/32/openai", ModelSpec("ViT-B/32/openai", "ViT-B-32", "openai")),
        ("RN50", ModelSpec("RN50", "RN50")),
        ("hf-hub:org/repo", ModelSpec("hf-hub:org/repo", "hf-hub:org/repo")),
    ],
)
def test_model_is_understood(typed: str, meant: ModelSpec) -> None:
    assert parse(typed) == meant


def test_weights_may_be_a_tag_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "mine.pt"
    checkpoint.write_bytes(b"")
    monkeypatch.chdir(tmp_path)

    assert parse("RN50", "openai") == ModelSpec("RN50/openai", "RN50", "openai")
    assert parse("RN50", "mine.pt") == ModelSpec("RN50/mine.pt", "RN50", str(checkpoint))
    assert parse("RN50", "./mine.pt", "cc12m").preprocess_from == "cc12m"
    assert parse("RN50", str(checkpoint)).checkpoint == str(checkpoint)


def test_checkpoint_for_an_alias_is_prepared_like_the_alias(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tuned.safetensors"
    checkpoint.write_bytes(b"")

    spec = parse("lite", str(checkpoint))

    assert (spec.arch, spec.preprocess_from) == ("ViT-B-32-256", "datacomp_s34b_b86k")


def test_folder_with_a_model_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    for typed in (
        "my model",
        "./my model",
        "~/my model",
        str(folder),
        "local-dir:my model",
        "local-dir:~/my model",
    ):
        assert parse(typed).arch == f"local-dir:{folder}"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("",), UsageError, "--model is empty"),
        (("builtin", "x.pt"), UsageError, "--weights cannot be used with --model builtin, which has its own"),
        (("hf-hub:nothing",), UsageError, "hf-hub:nothing is not a repository"),
        (("hf-hub:../..",), UsageError, "hf-hub:../.. is not a repository"),
        (("ViT-B-32/openai", "laion2b_e16"), UsageError, "--model ViT-B-32/openai has weights of its own"),
        (("ViT-B-32", None, "openai"), UsageError, "--preprocess-from needs --weights FILE"),
        (
            ("ViT-B-32", "openai", "openai"),
            UsageError,
            "--preprocess-from is for a checkpoint file, and openai is a tag",
        ),
        (("ViT-B-32", "gone.pt"), ModelError, "no weights file at gone.pt"),
        (("./nowhere",), ModelError, "no model folder at ./nowhere"),
        (("local-dir:",), ModelError, "no model folder at local-dir:"),
        (
            ("/",),
            ModelError,
            "/ is not a model folder: it has no open_clip_config.json, and no config.json of a CLIP model",
        ),
    ],
)
def test_an_impossible_model_is_an_error(arguments: tuple[str, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        parse(*arguments)
    assert str(caught.value) == message


def test_a_spec_survives_json() -> None:
    spec = ModelSpec("RN50/ä.pt", "RN50", "/weights/ä.pt", "cc12m")
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert ModelSpec.from_json('{"name": "a", "arch": "b", "since": "a newer version"}') == ModelSpec("a", "b")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": 1, "arch": "b"}', '{"name": "a", "arch": "b", "weights": 3}']
)
def test_damaged_record_of_a_model_is_an_error(text: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ModelSpec.from_json(text)


# ---- what is here


def test_weights_in_the_hub_cache_are_found_without_asking_anyone(a_machine_without_models: Path) -> None:
    assert not hub.cached(LITE)
    path = put_in_cache(a_machine_without_models, ALIASES["lite"].repo, "open_clip_pytorch_model.bin")
    assert hub.cached(LITE)
    files = hub.hub_files(LITE)
    assert files and hub.cached_weights(files) == str(path)


def test_cache_follows_the_variables_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "a"))
    assert hub.hub_cache() == str(tmp_path / "a")
    monkeypatch.delenv("HF_HUB_CACHE")
    assert hub.hub_cache() == str(tmp_path / "hf" / "hub")
    monkeypatch.delenv("HF_HOME")
    assert hub.hub_cache() == str(tmp_path / "cache" / "huggingface" / "hub")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.hub_cache() == str(tmp_path / ".cache" / "huggingface" / "hub")


def test_main_snapshot_goes_before_others(a_machine_without_models: Path) -> None:
    main = put_in_cache(a_machine_without_models, "o/r", "w", commit="1111")
    put_in_cache(a_machine_without_models, "o/r", "w", commit="2222")
    ref = a_machine_without_models / "models--o--r" / "refs" / "main"
    ref.parent.mkdir()
    ref.write_text("1111")
    assert hub.in_hub_cache("o/r", ("absent", "w")) == str(main)


def test_model_without_its_tokenizer_is_not_all_here(a_machine_without_models: Path) -> None:
    repo = ALIASES["fast"].repo
    put_in_cache(a_machine_without_models, repo, "open_clip_model.safetensors")
    assert not hub.cached(ALIASES["fast"].spec)
    put_in_cache(a_machine_without_models, repo, "tokenizer.json")
    assert hub.cached(ALIASES["fast"].spec)


def test_hub_model_needs_the_tokenizer_its_configuration_names(a_machine_without_models: Path) -> None:
    spec = parse("hf-hub:o/r")
    put_in_cache(a_machine_without_models, "o/r", "open_clip_model.safetensors")
    assert not hub.cached(spec)
    config = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "o/words"}}}
    put_in_cache(a_machine_without_models, "o/r", "open_clip_config.json", content=json.dumps(config).encode())
    assert not hub.cached(spec)
    put_in_cache(a_machine_without_models, "o/words", "spiece.model")
    assert hub.cached(spec)


# ---- the network

Answer = Callable[[socket.socket, bytes], None]


class Hub:
    """A server on this machine that answers as it is told to; it counts who came."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        self.over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            request = connection.recv(65536)
            self.requests.append(request)
            self.answer(connection, request)
            connection.close()

    def close(self) -> None:
        self.over.set()
        for one in (self.listener, *self.connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Hub]]:
    open_hubs: list[Hub] = []

    def start(answer: Answer) -> Hub:
        open_hubs.append(Hub(answer))
        monkeypatch.setenv("HF_ENDPOINT", f"http://{open_hubs[-1].address}")
        return open_hubs[-1]

    yield start
    for one in open_hubs:
        one.close()


def status(line: str, *headers: str) -> Answer:
    reply = "\r\n".join([f"HTTP/1.1 {line}", "Connection: close", "Content-Length: 0", *headers, "", ""]).encode()
    return lambda connection, request: connection.sendall(reply)


def silence(connection: socket.socket, request: bytes) -> None:
    """Until the client hangs up."""
    while connection.recv(65536):
        pass


def goodbye(connection: socket.socket, request: bytes) -> None:
    pass


def drip(connection: socket.socket, request: bytes) -> None:
    """A byte now and then, until the client hangs up."""
    for byte in itertools.chain(b"HTTP/1.1 200 OK\r\nX-Slow: ", itertools.repeat(ord("o"))):
        connection.sendall(bytes([byte]))
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (silence, "no answer within 2 seconds"),
        (drip, "no answer within 2 seconds"),
        (goodbye, "it closed the connection"),
        (
            status("403 Forbidden"),
            "it refuses (403), perhaps because of a proxy, a wrong name, or a missing login (HF_TOKEN)",
        ),
        (
            status("401 Unauthorized", "X-Error-Code: GatedRepo"),
            "it refuses (401), perhaps because of a proxy, a wrong name, or a missing login (HF_TOKEN)",
        ),
        (status("404 Not Found", "X-Error-Code: EntryNotFound"), "it does not have these weights (404)"),
        (status("404 Not Found"), "it returns an error (404)"),
        (status("500 Internal Server Error"), "it returns an error (500)"),
        (status("503 Service Unavailable", "Retry-After: 300"), "it returns an error (503)"),
        (status("200 OK"), "something else answers instead (a login page?)"),
        (status("200 OK", 'ETag: "x"'), "something else answers instead (a login page?)"),
    ],
)
def test_a_hub_that_fails_costs_seconds_and_one_line(
    fake_hub: Callable[[Answer], Hub], answer: Answer, reason: str
) -> None:
    address = fake_hub(answer).address

    with pytest.raises(ModelError) as caught:
        hub.ensure_weights(LITE, answer_seconds=2 if answer in (silence, drip) else PATIENCE_SECONDS)

    assert str(caught.value) == f"cannot download lite from {address}: {reason}"
    assert "--model builtin" in (caught.value.hint or "")


def test_refused_connection_and_unknown_name_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free}")
    with pytest.raises(ModelError, match="the connection was refused"):
        hub.ensure_weights(LITE)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    with pytest.raises(
        ModelError, match=r"cannot download lite from hub\.invalid: (its name cannot be resolved|no answer)"
    ):
        hub.ensure_weights(LITE)


def test_broken_tls_is_said(fake_hub: Callable[[Answer], Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    address = fake_hub(lambda connection, request: connection.sendall(b"this is not TLS\r\n")).address
    monkeypatch.setenv("HF_ENDPOINT", f"https://{address}")
    with pytest.raises(ModelError, match="the connection is not secure"):
        hub.ensure_weights(LITE)


def test_offline_variables_prevent_any_connection(
    fake_hub: Callable[[Answer], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake_hub(silence)
    said: list[str] = []

    assert hub.resolve_auto(said.append, offline=True).name == "builtin"
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(variable, "1")
        assert hub.resolve_auto(said.append).name == "builtin"
        with pytest.raises(ModelError, match="lite is not downloaded, and"):
            hub.ensure_weights(LITE)
        monkeypatch.delenv(variable)

    assert not server.requests and not server.connections
    assert len(said) == 3


def test_auto_falls_back_to_builtin_in_one_line(fake_hub: Callable[[Answer], Hub]) -> None:
    address = fake_hub(status("403 Forbidden")).address
    said: list[str] = []

    assert hub.resolve_auto(said.append) == ALIASES["builtin"].spec

    assert said == [
        f"cannot download lite from {address}: "
        "it refuses (403), perhaps because of a proxy, a wrong name, or a missing login (HF_TOKEN); "
        "using the built-in model. For better results, "
        "index with --model lite when online (605 MB)"
    ]


def test_auto_takes_the_recommended_model_that_is_here(
    a_machine_without_models: Path, fake_hub: Callable[[Answer], Hub]
) -> None:
    server = fake_hub(silence)
    put_in_cache(a_machine_without_models, ALIASES["lite"].repo, "open_clip_model.safetensors")
    said: list[str] = []

    assert hub.resolve_auto(said.append) == LITE
    assert not said and not server.connections


def serving(contents: dict[str, bytes], stop_after: int | None = None) -> Answer:
    """A hub with these files, by name, that goes silent after `stop_after` bytes of a download."""

    def answer(connection: socket.socket, request: bytes) -> None:
        method, target = request.split(b" ", 2)[:2]
        name = target.decode().partition("?")[0].rpartition("/")[2]
        if name not in contents:
            status("404 Not Found", "X-Error-Code: EntryNotFound", f"X-Repo-Commit: {'c' * 40}")(connection, request)
            return
        body = contents[name]
        digest = hashlib.sha256(body).hexdigest()
        head = f'HTTP/1.1 200 OK\r\nETag: "{digest}"\r\nX-Repo-Commit: {"c" * 40}\r\nConnection: close\r\n'
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        if method == b"GET":
            connection.sendall(body[:stop_after])
            if stop_after is not None:
                silence(connection, request)

    return answer


def test_weights_are_downloaded_into_the_cache(fake_hub: Callable[[Answer], Hub]) -> None:
    body = bytes(range(256)) * 20_000
    server = fake_hub(serving({"open_clip_pytorch_model.bin": body}))
    said: list[str] = []
    seen: list[tuple[int, int | None]] = []

    assert hub.resolve_auto(said.append, progress=lambda come, all_: seen.append((come, all_))) == LITE

    assert said == [f"downloading lite (about 605 MB) from {server.address}"]
    path = hub.cached_weights(HubFiles(ALIASES["lite"].repo))
    assert path and Path(path).read_bytes() == body
    assert seen[-1] == (len(body), len(body))


def test_a_clip_model_of_transformers_is_downloaded_with_its_configuration(
    fake_hub: Callable[[Answer], Hub], a_machine_without_models: Path
) -> None:
    config = json.dumps({"model_type": "clip"}).encode()
    files = {"model.safetensors": b"w", "config.json": config, "preprocessor_config.json": b"{}"}
    server = fake_hub(serving(files))
    put_in_cache(a_machine_without_models, "BAAI/BGE-VL-base", "model.safetensors")
    for name in ("bge-vl-base", "hf-hub:o/r"):
        said: list[str] = []
        assert not hub.cached(parse(name))
        hub.ensure_weights(parse(name), said.append)
        assert hub.cached(parse(name)) and said[0].endswith(f"from {server.address}")
        path = hub.cached_weights(hub.hub_files(parse(name)) or HubFiles(""))
        assert path and sorted(each.name for each in Path(path).parent.iterdir()) == sorted(files)


def test_another_model_of_transformers_is_not_downloaded(fake_hub: Callable[[Answer], Hub]) -> None:
    server = fake_hub(serving({"model.safetensors": b"w", "config.json": b'{"model_type": "siglip"}'}))
    with pytest.raises(ModelError, match="it has neither an open_clip model nor a CLIP model of transformers"):
        hub.ensure_weights(parse("hf-hub:o/r"))
    assert not any(request.startswith(b"GET") and b"safetensors" in request for request in server.requests)


def test_research_licence_is_said_when_fetching(fake_hub: Callable[[Answer], Hub]) -> None:
    fake_hub(serving({"open_clip_model.safetensors": b"w"}))
    said: list[str] = []
    hub.ensure_weights(ALIASES["mobileclip2-s0"].spec, said.append)
    assert said[0].endswith("its licence: Apple AMLR (research only), no commercial use")


def test_download_that_stops_is_given_up(fake_hub: Callable[[Answer], Hub]) -> None:
    fake_hub(serving({"open_clip_model.safetensors": bytes(5_000_000)}, stop_after=2_500_000))
    with pytest.raises(ModelError, match="the download stopped for 2 seconds"):
        hub.ensure_weights(LITE, stall_seconds=2)
    assert not hub.cached(LITE)


def test_fetching_never_imports_what_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_hub: Callable[[Answer], Hub]
) -> None:
    trap = tmp_path / "huggingface_hub.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    fake_hub(status("403 Forbidden"))
    with pytest.raises(ModelError, match="403"):
        hub.ensure_weights(LITE)
    assert not (tmp_path / "sprung").exists()


# ---- identity


def test_digest_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"one")
    assert registry.weights_digest(str(weights)) == hashlib.sha256(b"one").hexdigest()

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
        assert registry.weights_digest(str(weights)) == hashlib.sha256(b"one").hexdigest()
    weights.write_bytes(b"three")
    assert registry.weights_digest(str(weights)) == hashlib.sha256(b"three").hexdigest()

    memory = next((tmp_path / "cache").rglob("*.json"))
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    assert len(json.loads(memory.read_text())) == 1
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]


def test_digest_needs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"one")
    (tmp_path / "a file").write_bytes(b"")
    monkeypatch.setattr(registry, "_digest_cache", lambda: str(tmp_path / "a file" / "memory.json"))
    assert registry.weights_digest(str(weights)) == hashlib.sha256(b"one").hexdigest()
    with pytest.raises(ModelError, match="cannot read"):
        registry.weights_digest(str(tmp_path / "gone"))
