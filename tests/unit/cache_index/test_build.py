"""Indexes made from arrays and from folders of files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cache_index.build import EmbeddingFile, build_index
from cache_index.index import IndexKind
from cache_index.reader import open_index
from cache_index.visual_cache import normalize
from core.errors import AppError, ConfigError, InvalidRequest, MediaDecodeError
from core.types import FloatArray
from engine.encoding.folder import FolderEmbeddings, embed_folder

E = 8


def rows(count: int, seed: int = 0) -> FloatArray:
    return normalize(np.random.default_rng(seed).normal(size=(count, E)).astype(np.float32))


def silent(stage: str, done: int, total: int) -> None:
    assert done <= total


def write_array(folder: Path, array: FloatArray, name: str = "vectors.npy") -> Path:
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        save_file({"embeddings": array}, path)
    return path


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.safetensors"])
def test_an_array_file_becomes_an_index_with_the_metadata_beside_it(name: str, tmp_path: Path) -> None:
    path = write_array(tmp_path, 3 * rows(30), name)
    lines = [json.dumps({"file": f"{row}.jpg", "caption": "a cat", "label": None}) for row in range(30)]
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")
    stages: list[str] = []
    build_index(
        EmbeddingFile(path), tmp_path / "out", encoder_id="e", progress=lambda stage, done, total: stages.append(stage)
    )
    reader = open_index(tmp_path / "out")
    (best,) = reader.neighbours(rows(30)[7], 1)
    assert (best.id, best.metadata.file, best.metadata.caption) == (7, "7.jpg", "a cat")
    np.testing.assert_allclose(reader.vectors(np.arange(30)), rows(30), atol=1e-6)
    assert stages == ["training", "adding", "writing"]


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8", "hnsw"])
def test_the_type_can_be_chosen_and_blocks_keep_their_order(kind: IndexKind, tmp_path: Path) -> None:
    stored = rows(400)
    source = EmbeddingFile(write_array(tmp_path, stored))
    manifest = build_index(source, tmp_path / "out", encoder_id="e", progress=silent, kind=kind)
    assert manifest.segments[0].kind == kind
    returned = open_index(tmp_path / "out").vectors(np.arange(400))
    assert (normalize(returned) * stored).sum(axis=1).min() > 0.99


def test_a_small_memory_budget_chooses_a_compressed_type(tmp_path: Path) -> None:
    source = EmbeddingFile(write_array(tmp_path, rows(400)))
    manifest = build_index(source, tmp_path / "out", encoder_id="e", progress=silent, memory_budget_bytes=11_000)
    assert manifest.segments[0].kind == "ivf_sq8"


def test_building_again_replaces_the_content_and_never_reuses_ids(tmp_path: Path) -> None:
    source = EmbeddingFile(write_array(tmp_path, rows(5)))
    for _ in range(2):
        manifest = build_index(source, tmp_path / "out", encoder_id="e", progress=silent)
    assert (manifest.generation, manifest.count, manifest.next_id) == (2, 5, 10)
    assert open_index(tmp_path / "out").neighbours(rows(5)[0], 1)[0].id == 5


def test_a_bad_row_is_named_and_the_old_index_stays(tmp_path: Path) -> None:
    build_index(EmbeddingFile(write_array(tmp_path, rows(5))), tmp_path / "out", encoder_id="e", progress=silent)
    bad = rows(9)
    bad[6] = np.nan
    with pytest.raises(InvalidRequest, match="vector 6 is zero or not finite"):
        build_index(EmbeddingFile(write_array(tmp_path, bad)), tmp_path / "out", encoder_id="e", progress=silent)
    assert len(open_index(tmp_path / "out")) == 5


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("name", ["vectors.npy", "vectors.safetensors"])
def test_a_file_that_is_no_array_is_named(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="is not one array of shape"):
        EmbeddingFile(tmp_path / name)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="is not one array of shape"):
        EmbeddingFile(tmp_path / "vectors.npy")


def test_an_empty_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to index"):
        build_index(EmbeddingFile(write_array(tmp_path, rows(0))), tmp_path / "o", encoder_id="e", progress=silent)


class Embedder:
    """Embed a file as the numbers in it; remember which were asked for, and stop after so many calls."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[str] = []
        self._calls_left = stop_after

    def __call__(self, paths: Sequence[Path]) -> list[FloatArray | AppError]:
        if self._calls_left == 0:
            raise KeyboardInterrupt
        if self._calls_left is not None:
            self._calls_left -= 1
        self.seen += [path.name for path in paths]
        return [self._embed(path) for path in paths]

    def _embed(self, path: Path) -> FloatArray | AppError:
        text = path.read_text()
        return rows(1, seed=int(text))[0] if text.isdigit() else MediaDecodeError("not a picture")


def make_folder(folder: Path, count: int) -> Path:
    for number in range(count):
        path = folder / ("cats" if number % 2 else "dogs") / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    return folder


def embed(folder: Path, out: Path, embedder: Embedder, encoder_id: str = "e", num_workers: int = 1) -> FolderEmbeddings:
    return embed_folder(folder, out, embedder, encoder_id=encoder_id, num_workers=num_workers, progress=silent)


def test_a_folder_gives_labels_captions_and_a_list_of_what_was_left_out(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos", 4)
    (folder / "dogs" / "0002.txt").write_text("a dog on a beach\n")
    (folder / "broken.jpg").write_text("xx")
    (folder / "plain.jpg").write_text("9")
    made = embed(folder, tmp_path / "out", Embedder())
    assert [sentence.endswith("broken.jpg: not a picture") for sentence in made.skipped] == [True]
    build_index(EmbeddingFile(made.array), tmp_path / "out", encoder_id="e", progress=silent)
    reader = open_index(tmp_path / "out")
    assert len(reader) == 5
    (dog,) = reader.neighbours(rows(1, seed=2)[0], 1)
    assert (dog.metadata.file, dog.metadata.caption, dog.metadata.label) == (
        "dogs/0002.jpg",
        "a dog on a beach",
        "dogs",
    )
    (plain,) = reader.neighbours(rows(1, seed=9)[0], 1)
    assert (plain.metadata.file, plain.metadata.label) == ("plain.jpg", None)


def test_a_stopped_build_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos", 600)
    first = Embedder(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        embed(folder, tmp_path / "out", first)
    second = Embedder()
    made = embed(folder, tmp_path / "out", second)
    assert len(first.seen) == 256
    assert sorted(first.seen + second.seen) == sorted(path.name for path in folder.rglob("*.jpg"))
    whole = embed(folder, tmp_path / "other", Embedder(), num_workers=3)
    np.testing.assert_array_equal(np.load(made.array), np.load(whole.array))
    assert made.array.with_suffix(".jsonl").read_text() == whole.array.with_suffix(".jsonl").read_text()


def test_another_encoder_or_a_changed_file_starts_over_and_clears_what_was_kept(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos", 3)
    embed(folder, tmp_path / "out", Embedder())
    again, other, changed = Embedder(), Embedder(), Embedder()
    embed(folder, tmp_path / "out", again)
    embed(folder, tmp_path / "out", other, encoder_id="other")
    (folder / "dogs" / "0000.jpg").write_text("12345")
    embed(folder, tmp_path / "out", changed, encoder_id="other")
    assert [len(embedder.seen) for embedder in (again, other, changed)] == [0, 3, 3]
    assert len(list(tmp_path.glob("out.building-*"))) == 1


def test_a_folder_without_a_readable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_text("xx")
    with pytest.raises(ConfigError, match="no file of the folder could be embedded"):
        embed(tmp_path / "photos", tmp_path / "out", Embedder())
