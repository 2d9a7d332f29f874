"""One version from git's tags, wherever it is asked for; `requirements`, Dockerfile and changelog agree with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from packaging.version import Version

from tests.architecture.source_tree import ROOT
from tests.support.live_server import live_server

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEWEST_RELEASE = PROJECT["tool"]["setuptools_scm"]["fallback_version"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
BUILD_INPUTS = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", ".gitattributes", ".git_archival.txt")
WRITE_METADATA = "from setuptools.build_meta import prepare_metadata_for_build_editable as write; write('metadata')"


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run a command in a folder, as somebody without settings of git or pip would, and return what it printed."""
    plain = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    plain |= {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PIP_NO_INDEX": "1", **environment}
    finished = subprocess.run(command, cwd=folder, env=plain, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout + finished.stderr


def built_version(folder: Path) -> str:
    """Return the version that the build backend gives the project in a folder."""
    (folder / "metadata").mkdir()
    run(folder, sys.executable, "-c", WRITE_METADATA)
    (found,) = {built.version for built in distributions(path=[str(folder / "metadata")])}
    return found


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Copy what a build reads into a folder without git."""
    folder = tmp_path / "sources"
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    for name in BUILD_INPUTS:
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def clone(sources: Path) -> Path:
    """Make the folder a repository of one commit."""
    run(sources, "git", "init", "--quiet")
    run(sources, "git", "add", "--all")
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    run(sources, "git", *author, "commit", "--quiet", "--message", "Begin")
    return sources


def archive(clone: Path) -> Path:
    """Unpack the source archive of a repository into a folder of its own."""
    unpacked = clone.parent / "archive"
    unpacked.mkdir()
    run(clone, "git", "archive", "--output", str(unpacked / "sources.tar"), "HEAD")
    run(unpacked, "tar", "--extract", "--file", "sources.tar")
    return unpacked


def test_a_tag_is_the_version_that_commands_and_the_api_description_show(clone: Path) -> None:
    run(clone, "git", "tag", "v9.8.7")
    assert built_version(clone) == "9.8.7"
    path = os.pathsep.join([str(clone / "metadata"), str(ROOT)])
    bindchat = (sys.executable, "-m", "server.cli")
    assert run(clone, *bindchat, "--version", PYTHONPATH=path) == "bindchat 9.8.7\n"
    assert json.loads(run(clone, *bindchat, "openapi", PYTHONPATH=path))["info"]["version"] == "9.8.7"


def test_a_clone_without_tags_installs_in_silence_as_what_follows_the_newest_release(clone: Path) -> None:
    install = ("install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    printed = run(clone, sys.executable, "-m", "pip", *install, "--target", "installed", "--editable", ".")
    (installed,) = distributions(path=[str(clone / "installed")])
    assert printed == ""
    found, newest = Version(installed.version), Version(NEWEST_RELEASE)
    assert found.is_devrelease
    assert found.release == (newest.major, newest.minor, newest.micro + 1)


def test_a_source_archive_keeps_the_tag_it_was_made_of(clone: Path) -> None:
    run(clone, "git", "tag", "v9.8.7")
    assert built_version(archive(clone)) == "9.8.7"


def test_a_source_archive_without_a_tag_is_the_newest_release(clone: Path) -> None:
    assert built_version(archive(clone)) == NEWEST_RELEASE


@pytest.mark.parametrize(("argument", "found"), [("9.8.7", "9.8.7"), ("", NEWEST_RELEASE)])
def test_an_image_has_the_version_of_its_build_argument(sources: Path, argument: str, found: str) -> None:
    (step,) = re.findall(r"^RUN (mkdir metadata && (?:.*\\\n)+.*)$", DOCKERFILE, re.MULTILINE)
    run(sources, "sh", "-euc", step.replace(".venv/bin/python", sys.executable), VERSION=argument)
    (built,) = distributions(path=[str(sources / "metadata")])
    assert built.version == found


def test_the_newest_release_heads_the_changelog_and_labels_an_image_without_argument() -> None:
    headings = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == NEWEST_RELEASE
    assert f'image.version="${{VERSION:-{NEWEST_RELEASE}}}"' in DOCKERFILE


def test_the_reader_of_tags_that_builds_is_the_one_that_is_locked() -> None:
    (pin,) = (line for line in PROJECT["build-system"]["requires"] if line.startswith("setuptools-scm"))
    assert pin in (ROOT / "requirements" / "runtime.txt").read_text().splitlines()


def test_a_server_gives_the_version_of_its_package_everywhere() -> None:
    with live_server() as server:
        assert server.get("/version").json()["version"] == version("bindchat")
        assert server.get("/openapi.json").json()["info"]["version"] == version("bindchat")
        (shown,) = re.findall(r"^bindchat_build_info{.*$", server.get("/metrics").text, re.MULTILINE)
        assert f'version="{version("bindchat")}"' in shown
