"""Tests that the recipes in docs/recipes.md work. Blocks marked `run` are run, the others only parsed.

A block is run by the shell it names, in a home folder whose ~/Photos is the sample album. The `text` block right below
it is the expected output, with the home folder written as /home/me.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ALBUM
from pictures import exif_block

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
BASH = ("bash", "-o", "pipefail", "-ec")
RUNNERS = {
    "sh": BASH,
    "bash": BASH,
    "fish": ("fish", "--no-config", "-c"),
    "nu": ("nu", "-n", "-c"),
    "python": (sys.executable, "-c"),
}
TOOLS = ("jq", "rsync")
RARE = ("nu", "systemd-analyze")
"""Not required by IMGSEARCH_REQUIRE_SHELLS."""
DATES = {
    "2024": (("lemon", "lime", "orange"), "2024:07:03 10:00:00", {0x010F: "FUJIFILM", 0x0110: "X-T5"}),
    "2023": (("carrots", "cucumber"), "2023:05:01 10:00:00", {}),
}


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    is_run: bool
    text: str
    printed: str

    def __str__(self) -> str:
        return f"line-{self.line}"


def blocks() -> list[Block]:
    fence = re.compile(r"^```(\w+)( run)?\n(.*?)^```\n(?:^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
    return [
        Block(PAGE[: found.start()].count("\n") + 1, found[1], bool(found[2]), found[3], found[4] or "")
        for found in fence.finditer(PAGE)
    ]


BLOCKS = blocks()
RUN = [block for block in BLOCKS if block.is_run]


def test_every_block_is_found():
    assert PAGE.count("\n```") == 2 * len(BLOCKS) + 2 * len([block for block in BLOCKS if block.printed])
    assert len(RUN) > 15
    assert {block.language for block in BLOCKS} == {*RUNNERS, "ini", "cron"}


# ------------------------------------------------------------------------------------------ blocks that are run


@pytest.fixture(scope="module")
def home(tmp_path_factory, _no_network_and_own_caches):
    """A home folder with photos, some of them dated, their index in its default place, and the command."""
    home = tmp_path_factory.mktemp("me").resolve()
    shutil.copytree(ALBUM, home / "Photos", ignore=lambda _, names: [name for name in names if name[-4:] != ".jpg"])
    for year, (names, taken, camera) in DATES.items():
        (home / "Photos" / year).mkdir()
        block = exif_block(main=camera, exif={0x9003: taken})
        for name in names:
            photo = (home / "Photos" / f"{name}.jpg").rename(home / "Photos" / year / f"{name}.jpg")
            jpeg = photo.read_bytes()
            length = (len(block) + 2).to_bytes(2, "big")
            photo.write_bytes(jpeg[:2] + b"\xff\xe1" + length + block + jpeg[2:])
    (home / "bin").mkdir()
    command = home / "bin" / "imgsearch"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m imgsearch "$@"\n')
    command.chmod(0o755)
    done = run(home, "sh", "imgsearch index ~/Photos --model builtin --quiet")
    assert (done.returncode, done.stderr) == (0, "")
    return home


def run(home: Path, language: str, text: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("IMGSEARCH_", "XDG_"))}
    environment |= {"HOME": str(home), "PATH": f"{home / 'bin'}:{environment['PATH']}", "LC_ALL": "C.UTF-8"}
    command = [*RUNNERS[language], text]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def need(name: str) -> None:
    if not shutil.which(name):
        if os.environ.get("IMGSEARCH_REQUIRE_SHELLS") == "1" and name not in RARE:
            pytest.fail(f"{name} is not installed, and IMGSEARCH_REQUIRE_SHELLS=1 requires it")
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("block", RUN, ids=str)
def test_recipe_prints_the_documented_output(block, home):
    for tool in (RUNNERS[block.language][0], *(tool for tool in TOOLS if re.search(rf"\b{tool}\b", block.text))):
        need(tool)
    if "sed -z" in block.text and sys.platform == "darwin":
        pytest.skip("sed, cp and tar are GNU's here")
    done = run(home, block.language, block.text)
    printed = done.stdout.replace(str(home), "/home/me")
    # The number of line breaks at the end depends on the version of nushell.
    assert (printed.rstrip("\n"), done.returncode) == (block.printed.rstrip("\n"), 0), done.stderr


# --------------------------------------------------------------------------------------- blocks that are parsed


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("sh", "bash")], ids=str)
def test_recipe_parses_and_its_options_exist(block, imgsearch):
    done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for command, rest in re.findall(r"\bimgsearch ([a-z]+)([^|&\n]*)", block.text):
        typed = [command, *re.findall(r"^ (list|add|remove|move|embed)\b", rest)]
        known = re.findall(r"(?<=[\s,])--?[a-z0-9][a-z0-9-]*", imgsearch(*typed, "--help").out.decode())
        options = re.findall(r"(?<=\s)--?[a-z0-9][a-z0-9-]*", re.sub(r"'[^']*'|\"[^\"]*\"", "", rest))
        assert set(options) <= set(known), block.text


def test_systemd_accepts_the_units(tmp_path):
    need("systemd-analyze")
    units = [block.text for block in BLOCKS if block.language == "ini"]
    assert len(units) == 4
    command = tmp_path / ".local" / "bin" / "imgsearch"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    files = []
    for text in units:
        name = re.match(r"# ~/\.config/systemd/user/(\S+)\n", text)[1]
        (tmp_path / name).write_text(text)
        files.append(str(tmp_path / name))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *files],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_cron_lines_run_in_the_environment_of_cron(home):
    (table,) = [block.text for block in BLOCKS if block.language == "cron"]
    assert "%" not in table  # cron treats it as the end of the line
    (home / ".local" / "bin").mkdir(parents=True, exist_ok=True)
    (home / ".local" / "bin" / "imgsearch").symlink_to(home / "bin" / "imgsearch")
    passed_on = {name: os.environ[name] for name in ("PYTHONPATH", "HF_HUB_OFFLINE") if name in os.environ}
    for line in table.splitlines():
        command = re.fullmatch(r"\d+ \d+ \* \* [*0]  (.*)", line)[1]
        environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", **passed_on}
        done = subprocess.run(["/bin/sh", "-c", command], cwd=home, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
