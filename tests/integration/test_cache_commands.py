"""`bindchat cache` as it is typed, with the tiny model's encoders."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cache_index.index import train_index
from cache_index.reader import ItemMetadata
from cache_index.store import IndexStore
from server.cli import app

TINY = ["--model", "tiny"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["cache", *(str(argument) for argument in arguments)])


def photo(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    for number in range(6):
        photo(tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    result = run("build", tmp_path / "photos", "--out", tmp_path / "gallery", *TINY)
    assert result.exit_code == 0, result.output
    assert "broken.png" in result.stderr
    assert "6 items of width" in result.stdout
    assert not list(tmp_path.glob("gallery.building-*"))
    return tmp_path / "gallery"


def test_a_folder_is_built_searched_grown_and_shrunk(index: Path, tmp_path: Path) -> None:
    found = json.loads(
        run("search", index, tmp_path / "photos" / "cat" / "3.png", "--top-k", "2", "--json", *TINY).stdout
    )
    assert (found[0]["metadata"]["file"], found[0]["metadata"]["label"]) == ("cat/3.png", "cat")
    assert found[0]["score"] == pytest.approx(1, abs=1e-4)

    new = photo(tmp_path / "new.png", 9)
    assert run("add", index, new, "--label", "bird", *TINY).stdout.split()[0] == "6"
    assert "bird" in run("search", index, new, "--top-k", "1", *TINY).stdout
    assert run("remove", index, "6").stdout == "removed 1\n"
    assert "bird" not in run("search", index, new, "--top-k", "9", *TINY).stdout
    facts = json.loads(run("info", index, "--json").stdout)
    assert (facts["items"], facts["removed"], facts["types"]) == (6, 1, "flat (7)")


def test_embeddings_become_an_index_of_the_model_that_is_named(index: Path, tmp_path: Path) -> None:
    width = json.loads(run("info", index, "--json").stdout)["width"]
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(50, width)).astype(np.float32))
    result = run("build", tmp_path / "vectors.npy", "--out", tmp_path / "array", "--kind", "hnsw", *TINY)
    assert result.exit_code == 0, result.output
    assert json.loads(run("info", tmp_path / "array", "--json").stdout)["types"] == "hnsw (50)"
    assert run("search", tmp_path / "array", tmp_path / "photos" / "cat" / "3.png", *TINY).exit_code == 0


def test_a_file_that_cannot_be_embedded_adds_nothing(index: Path, tmp_path: Path) -> None:
    result = run("add", index, photo(tmp_path / "new.png", 9), tmp_path / "photos" / "broken.png", *TINY)
    assert result.exit_code == 2
    assert "broken.png" in result.stderr
    assert json.loads(run("info", index, "--json").stdout)["items"] == 6


def test_an_index_of_another_encoder_is_refused_in_one_sentence(index: Path, tmp_path: Path) -> None:
    foreign = train_index("flat", 0, 8, np.empty((0, 8), np.float32))
    foreign.add(np.eye(8, dtype=np.float32))
    IndexStore(index).replace("another", "flat", foreign, [ItemMetadata()] * 8)
    result = run("search", index, tmp_path / "photos" / "cat" / "3.png", *TINY)
    assert result.exit_code == 2
    assert "holds embeddings of encoder 'another'" in result.stderr


def test_a_damaged_or_missing_index_is_named_in_one_sentence(index: Path, tmp_path: Path) -> None:
    (segment,) = index.glob("*.index")
    segment.write_bytes(segment.read_bytes()[:-1])
    assert "does not match its checksum" in run("info", index).stderr
    result = run("info", tmp_path / "nothing")
    assert (result.exit_code, "no index at" in result.stderr) == (2, True)
