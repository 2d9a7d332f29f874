"""The repository's shape: folders, declared dependencies, pinned versions, change log."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.source_tree import LAYERS, ROOT, RUNNING_LAYERS, imported_modules, python_files, relative

TOP_FOLDERS = {*LAYERS, "docker", "docs", "requirements", "tests"}
# Made by running things, named in .gitignore.
LEFT_OVER_FOLDERS = {"runs", "logs", "build", "__pycache__", "bindchat.egg-info"}
TEST_FOLDERS = {
    "unit",
    "contracts",
    "integration",
    "golden",
    "vllm",
    "scale",
    "architecture",
    "gpu",
    "security",
    "support",
    "__pycache__",
}
# Imported where they are needed; the error says what to install.
OPTIONAL_PACKAGES = {
    "vllm",
    "ray",
    "onnxruntime",
    "rapidocr",
    "faster-whisper",
    "sacrebleu",
    "lm-eval",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp-proto-http",
}


def _project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def _requirement_names(file_name: str) -> set[str]:
    lines = (ROOT / "requirements" / file_name).read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0].partition("[")[0] for line in lines if line and not line.startswith(("#", "-"))]
    return {name.strip().lower().replace("_", "-") for name in names}


def test_the_top_level_folders_are_those_of_the_design() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders - LEFT_OVER_FOLDERS <= TOP_FOLDERS
    assert set(LAYERS) <= folders


def test_the_test_folders_are_those_of_the_design() -> None:
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} <= TEST_FOLDERS


def test_core_imports_only_the_standard_library_and_numpy() -> None:
    imported = {name for path in python_files("core") for name in imported_modules(path)}
    assert imported - set(sys.stdlib_module_names) <= {"numpy", "core"}


@pytest.mark.parametrize("layer", RUNNING_LAYERS)
def test_a_running_layer_imports_only_declared_dependencies(layer: str) -> None:
    declared = OPTIONAL_PACKAGES.union(*(_requirement_names(f"{name}.in") for name in ("runtime", "media", "models")))
    declared |= {"starlette", "pydantic-core"}  # parts of FastAPI and Pydantic, locked with them
    distributions = packages_distributions()
    undeclared = {}
    for path in python_files(layer):
        for name in imported_modules(path) - set(sys.stdlib_module_names) - set(LAYERS):
            owners = {owner.lower().replace("_", "-") for owner in distributions.get(name, [name])}
            if not owners & declared:
                undeclared[relative(path)] = name
    assert not undeclared, "name it in requirements/runtime.in with a reason, then make lock"


@pytest.mark.parametrize(
    "lock", ["runtime.txt", "media.txt", "dev.txt", "models.txt", "audio.txt", "cuda.txt", "scale.txt"]
)
def test_every_locked_requirement_is_pinned_exactly(lock: str) -> None:
    lines = (ROOT / "requirements" / lock).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith(("#", "-r "))]
    assert pins
    assert [line for line in pins if "==" not in line or "*" in line] == []


@pytest.mark.parametrize(
    ("source", "lock"),
    [
        ("runtime.in", "runtime.txt"),
        ("media.in", "media.txt"),
        ("dev.in", "dev.txt"),
        ("models.in", "models.txt"),
        ("scale.in", "scale.txt"),
    ],
)
def test_every_direct_requirement_is_in_its_lock(source: str, lock: str) -> None:
    below = _requirement_names("runtime.txt") if source in ("dev.in", "scale.in") else set()
    locked = _requirement_names(lock) | below
    assert _requirement_names(source) <= locked


@pytest.mark.parametrize(("media", "installs_pyav"), [("full", True), ("minimal", False)])
def test_the_minimal_installation_leaves_pyav_out(tmp_path: Path, media: str, installs_pyav: bool) -> None:
    plan = ["make", "--no-print-directory", "--dry-run", "setup", f"VENV={tmp_path}", f"MEDIA={media}"]
    commands = subprocess.run(plan, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-r requirements/runtime.txt" in commands
    assert ("-r requirements/media.txt" in commands) is installs_pyav
    assert "av" not in _requirement_names("runtime.txt")


@pytest.mark.parametrize(
    "name", ["README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "Makefile", ".ci/run", "docs/architecture.md"]
)
def test_a_newcomer_finds_the_expected_files(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_every_sample_is_named_with_its_licence() -> None:
    samples = ROOT / "docs" / "samples"
    text = (samples / "README.md").read_text(encoding="utf-8")
    pictures = [path.name for path in samples.iterdir() if path.name != "README.md"]
    assert pictures
    assert [name for name in pictures if name not in text] == []
