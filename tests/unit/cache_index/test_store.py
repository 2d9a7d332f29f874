"""The folder of one index: what it refuses, and that a kill or a full disk leaves the old content or the new."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_index.index import train_index
from cache_index.manifest import MANIFEST_NAME, read_manifest
from cache_index.reader import IndexReader, ItemMetadata, open_index
from cache_index.shelf import IndexShelf, ShelfSpec
from cache_index.store import IndexStore
from cache_index.visual_cache import VisualCache, normalize
from core.errors import AppError, ConfigError, IndexMismatch, InvalidRequest, StorageFull, UnknownName
from core.types import FloatArray

E = 8
ENCODER = "encoder-1"
SPEC = ShelfSpec(encoder_id=ENCODER, dimension=E)


def rows(count: int, seed: int = 0) -> FloatArray:
    return normalize(np.random.default_rng(seed).normal(size=(count, E)).astype(np.float32))


def items(count: int, word: str = "item") -> list[ItemMetadata]:
    return [ItemMetadata(file=f"{word}-{row}.jpg", label=word) for row in range(count)]


def new_store(folder: Path, count: int = 20) -> IndexStore:
    store = IndexStore(folder)
    index = train_index("flat", count, E, rows(0))
    index.add(rows(count))
    store.replace(ENCODER, "flat", index, items(count))
    return store


def test_a_search_returns_metadata_and_ids_that_never_change(tmp_path: Path) -> None:
    store = new_store(tmp_path / "gallery")
    assert store.add(rows(3, seed=1), items(3, "new"), encoder_id=ENCODER) == [20, 21, 22]
    assert store.remove([0, 21]) == 2
    assert store.add(rows(2, seed=2), items(2, "last"), encoder_id=ENCODER) == [23, 24]
    reader = open_index(tmp_path / "gallery")
    assert len(reader) == 23
    (best,) = reader.neighbours(rows(3, seed=1)[2], 1)
    assert (best.id, best.metadata.file, best.metadata.label) == (22, "new-2.jpg", "new")
    assert best.score == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(reader.vectors(np.array([24, 5])), [rows(2, seed=2)[1], rows(20)[5]], atol=1e-6)


def test_removed_rows_are_never_found_and_cannot_be_asked_for(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.remove(range(10))
    reader = open_index(tmp_path)
    _, ids = reader.search(rows(10), 50)
    assert sorted(ids[0]) == list(range(10, 20))
    with pytest.raises(UnknownName, match="no item 3"):
        reader.vectors(np.array([3]))
    with pytest.raises(UnknownName, match="no item 3"):
        store.remove([11, 3])
    assert store.remove([11]) == 1


def test_small_additions_share_one_segment_and_leave_one_file_pair(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for seed in range(5):
        store.add(rows(2, seed), items(2), encoder_id=ENCODER)
    assert len(open_index(tmp_path).manifest.segments) == 1
    assert sorted(path.suffix for path in tmp_path.glob("segment-*")) == [".index", ".jsonl"]


def test_rows_added_to_an_inverted_file_become_a_segment_of_their_own(tmp_path: Path) -> None:
    stored = rows(400)
    index = train_index("ivf_sq8", 400, E, stored)
    index.add(stored)
    store = IndexStore(tmp_path)
    store.replace(ENCODER, "ivf_sq8", index, items(400))
    store.add(rows(2, seed=1), items(2, "new"), encoder_id=ENCODER)
    reader = open_index(tmp_path, memory_map=True)
    assert [part.kind for part in reader.manifest.segments] == ["ivf_sq8", "flat"]
    _, ids = reader.search(rows(2, seed=1), 3)
    assert ids[:, 0].tolist() == [400, 401]
    assert VisualCache(reader).refine(rows(3, seed=5)).shape == (3, E)


@pytest.mark.parametrize(
    ("bad", "error", "sentence"),
    [
        (np.full((1, E), np.nan, np.float32), InvalidRequest, "vector 0 is zero or not finite"),
        (np.zeros((1, E), np.float32), InvalidRequest, "vector 0 is zero or not finite"),
        (np.ones((1, E + 1), np.float32), IndexMismatch, "width 8, the model makes width 9"),
    ],
)
def test_vectors_that_cannot_be_stored_are_refused(
    bad: FloatArray, error: type[AppError], sentence: str, tmp_path: Path
) -> None:
    store = new_store(tmp_path)
    with pytest.raises(error, match=sentence):
        store.add(bad, items(1), encoder_id=ENCODER)
    assert len(open_index(tmp_path)) == 20


def test_an_index_of_another_encoder_is_refused_at_start(tmp_path: Path) -> None:
    new_store(tmp_path)
    with pytest.raises(IndexMismatch, match="encoder 'encoder-1', the model makes encoder 'other'; build it again"):
        IndexShelf({"gallery": tmp_path}, ShelfSpec(encoder_id="other", dimension=E))
    with pytest.raises(IndexMismatch, match="width 8, the model makes width 1024"):
        IndexShelf({"gallery": tmp_path}, ShelfSpec(encoder_id=ENCODER, dimension=1024))


def test_a_damaged_file_is_named_at_start(tmp_path: Path) -> None:
    new_store(tmp_path)
    for path in tmp_path.glob("segment-*"):
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(ConfigError, match=f"{path.name} does not match its checksum"):
            open_index(tmp_path)
        path.unlink()
        with pytest.raises(ConfigError, match=path.name):
            open_index(tmp_path)
        path.write_bytes(whole)
    assert len(open_index(tmp_path)) == 20


@pytest.mark.parametrize("change", [{"metric": "l2"}, {"count": 7}, {"removed": None}, {"format_version": 9}])
def test_a_manifest_that_cannot_be_believed_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    new_store(tmp_path)
    path = tmp_path / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match="build the index again"):
        open_index(tmp_path)


def test_a_damaged_manifest_can_be_built_over_and_is_kept_until_then(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text("{")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="is damaged"):
        add_two(store)
    with pytest.raises(StorageFull):
        replace_all(IndexStore(tmp_path, on_step=Interruption(2, fill_disk)))
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.items() <= kept.items()
    replace_all(store)
    assert len(open_index(tmp_path)) == 22
    assert len(list(tmp_path.glob("segment-*"))) == 2


def test_a_missing_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bindchat cache build --out"):
        open_index(tmp_path / "nothing")


def add_two(store: IndexStore) -> None:
    store.add(rows(2, seed=1), items(2, "new"), encoder_id=ENCODER)


def remove_two(store: IndexStore) -> None:
    store.remove([3, 4])


def replace_all(store: IndexStore) -> None:
    index = train_index("flat", 22, E, rows(0))
    index.add(rows(22, seed=3))
    store.replace(ENCODER, "flat", index, items(22))


def steps_of(change: Callable[[IndexStore], None], folder: Path) -> list[str]:
    new_store(folder)
    steps: list[str] = []
    change(IndexStore(folder, on_step=steps.append))
    return steps


class Interruption:
    """Do something at the n-th step."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self._left, self._action = number, action

    def __call__(self, step: str) -> None:
        if self._left == 0:
            self._action()
        self._left -= 1


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("change", [add_two, remove_two, replace_all])
def test_a_kill_at_any_step_leaves_the_old_index_or_the_new(
    change: Callable[[IndexStore], None], tmp_path: Path
) -> None:
    steps = steps_of(change, tmp_path / "whole")
    after = open_index(tmp_path / "whole").manifest
    before_rename = steps.index("rename")
    for number in range(len(steps)):
        folder = tmp_path / str(number)
        before = read_manifest(new_store(folder).folder)
        child = os.fork()
        if child == 0:
            change(IndexStore(folder, on_step=Interruption(number, kill_self)))
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        found = open_index(folder)
        expected = before if number <= before_rename else after
        assert (len(found), found.manifest.generation) == (expected.count, expected.generation)
        add_two(IndexStore(folder))
        assert len(open_index(folder)) == expected.count + 2
        assert len(list(folder.glob("segment-*"))) == 2 * len(open_index(folder).manifest.segments)


@pytest.mark.parametrize("change", [add_two, remove_two, replace_all])
def test_a_full_disk_at_any_step_before_the_rename_changes_nothing(
    change: Callable[[IndexStore], None], tmp_path: Path
) -> None:
    steps = steps_of(change, tmp_path / "whole")
    for number in range(steps.index("rename") + 1):
        folder = tmp_path / str(number)
        new_store(folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(StorageFull, match="No space left on device; it is as it was"):
            change(IndexStore(folder, on_step=Interruption(number, fill_disk)))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_real_limit_on_file_size_is_a_full_disk_too(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    child = os.fork()
    if child == 0:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
        try:
            add_two(store)
        except StorageFull:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(open_index(tmp_path)) == 20


def test_the_shelf_follows_a_writer_and_old_readers_go_on(tmp_path: Path) -> None:
    first, second = new_store(tmp_path / "first"), new_store(tmp_path / "second", 5)
    shelf = IndexShelf({"a": first.folder, "b": second.folder}, SPEC)
    old = shelf.get("a")
    assert shelf.get("a") is old
    add_two(first)
    replace_all(second)
    assert (len(old), len(shelf.get("a")), len(shelf.get("b"))) == (20, 22, 22)
    assert old.search(rows(1), 20)[1].shape == (1, 20)
    assert shelf.names() == ("a", "b")
    with pytest.raises(UnknownName, match="unknown index 'c'; known: a, b"):
        shelf.get("c")


def test_readers_never_see_half_a_change(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    shelf = IndexShelf({"gallery": tmp_path}, SPEC)
    sizes: set[int] = set()
    stopped, errors = threading.Event(), []

    def read() -> None:
        try:
            while not stopped.is_set():
                reader: IndexReader = shelf.get("gallery")
                assert reader.search(rows(1), 100)[1].shape == (1, len(reader))
                sizes.add(len(reader))
        except AppError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        add_two(store)
    stopped.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert sizes <= set(range(20, 62, 2))
    assert len(shelf.get("gallery")) == 60


def test_a_manifest_survives_being_written_and_read(tmp_path: Path) -> None:
    manifest = read_manifest(new_store(tmp_path).folder)
    assert (manifest.encoder_id, manifest.dimension, manifest.count) == (ENCODER, E, 20)
    assert manifest.segments[0].kind == "flat"
    assert manifest.created.endswith("+00:00")
