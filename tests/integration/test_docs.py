"""The documentation: it builds strictly, its links lead somewhere, its examples run, its tables are complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import AppError
from server.error_handlers import ERROR_TABLE
from tests.support.live_server import LiveServer, live_server

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
CAT = str(DOCS / "samples" / "cat.jpg")


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(default_max_tokens=8, default_temperature=0.0) as running:
        yield running


def run_example(server: LiveServer, *command: str) -> str:
    environment = {**os.environ, "BASE_URL": f"{server.url}/v1", "MODEL": "tiny", "API_KEY": "unused"}
    done = subprocess.run(
        command, cwd=DOCS / "examples", env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def subclasses(root: type[AppError]) -> set[type[AppError]]:
    return {root}.union(*(subclasses(child) for child in root.__subclasses__()))


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").read_text().count("BindChat")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("command", ["picture.py", "media.py", "langchain_picture.py", "picture.mjs"])
def test_an_example_prints_an_answer(server: LiveServer, command: str) -> None:
    runner = sys.executable if command.endswith(".py") else shutil.which("node")
    if runner is None:
        pytest.skip("node is not installed on this machine")
    arguments = ["What is this?", CAT] if command == "media.py" else [CAT]
    assert run_example(server, runner, command, *arguments).strip()


def test_every_error_code_is_explained_with_its_status() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    for error in subclasses(AppError):
        if error.__module__ != "core.errors":
            continue
        row = next(ERROR_TABLE[parent] for parent in error.__mro__ if parent in ERROR_TABLE)
        line = next((line for line in text.splitlines() if f"`{error.code}`" in line), None)
        assert line is not None, f"{error.code} is not explained"
        if line.startswith("|"):
            assert f"| {row.status} |" in line, f"{error.code} has status {row.status}"
