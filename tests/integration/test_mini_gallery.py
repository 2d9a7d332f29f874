"""The gallery that `mini` ships: in its space, searchable by words and pictures, attributed, copied when changed."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from cache_index.manifest import read_manifest, verify_files
from cache_index.reader import open_index
from models.mini.assets import GALLERY
from models.mini.loader import SPACE_ID
from tests.support.live_server import LiveServer, image_part, live_server

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def server(cache_dir: Path) -> Iterator[LiveServer]:
    with live_server(model="mini", cache_dir=cache_dir) as running:
        yield running


def search(server: LiveServer, **body: Any) -> list[dict[str, Any]]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        answer = client.post("/v1/cache/search", json=body)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def test_the_shipped_files_are_whole_small_and_attributed() -> None:
    manifest = read_manifest(GALLERY)
    verify_files(GALLERY, manifest)
    assert (manifest.encoder_id, manifest.dimension) == (SPACE_ID, 384)
    assert sum(path.stat().st_size for path in GALLERY.iterdir()) < 20_000_000
    items = [item for _, item in open_index(GALLERY).page(after=-1, limit=100_000)]
    assert {item.extra["source"] for item in items} == {"fluent-emoji", "caltech-101", "name"}
    assert all(item.label for item in items)
    emoji = next(item for item in items if item.label == "fox" and item.extra["source"] == "fluent-emoji")
    assert (emoji.extra["emoji"], emoji.file) == ("\N{FOX FACE}", "1f98a.webp")
    photographs = [item for item in items if item.extra["source"] == "caltech-101"]
    for item in photographs[::100]:
        _, _, encoded = str(item.extra["thumbnail"]).partition("base64,")
        assert max(Image.open(io.BytesIO(base64.b64decode(encoded))).size) == 40
    attribution = (GALLERY / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert all(word in attribution for word in ("Fluent Emoji", "MIT", "Caltech-101", "CC BY 4.0"))


def test_words_and_pictures_find_their_like(server: LiveServer) -> None:
    by_word = search(server, input="soccer ball", k=3)
    found = {row["metadata"]["source"] for row in by_word if row["label"] == "soccer ball"}
    assert by_word[0]["label"] == "soccer ball"
    assert "name" in found, "a drawing that is named without doubt lies where its name does, and may come first"
    labels = [row["label"] for row in search(server, input=image_part((SAMPLES / "cat.jpg").read_bytes()), k=10)]
    assert any("cat" in str(label) for label in labels), labels


def test_a_change_is_made_to_a_copy_and_the_shipped_index_stays(server: LiveServer, cache_dir: Path) -> None:
    shipped = {path.name: path.read_bytes() for path in GALLERY.iterdir()}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        item = {"input": "a wholly new thing", "label": "novelty"}
        (added,) = client.post("/v1/cache/items", json={"items": [item]}).json()["data"]
        assert search(server, input="a wholly new thing", k=1)[0]["label"] == "novelty"
        assert client.delete(f"/v1/cache/items/{added['id']}").status_code == 200
    assert {path.name: path.read_bytes() for path in GALLERY.iterdir()} == shipped
    assert (cache_dir / "gallery" / "manifest.json").exists()
