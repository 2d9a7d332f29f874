"""Uploaded files on a real disk: ownership, quotas, expiry, and what a crash leaves behind."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from core.errors import ConfigError, MediaTooLarge, Overloaded, UnknownName
from engine.file_store import FileQuota, FileStore, StoredFile

QUOTA = FileQuota(max_file_bytes=100, max_bytes=250, max_files=4, min_free_bytes=0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def keep(
    store: FileStore, content: bytes, owner: str = "me", *, name: str = "a.png", keep_s: int | None = None
) -> StoredFile:
    with store.writing(store.check_room(owner)) as writer:
        writer.write(content)
        return store.finish(writer, owner=owner, filename=name, purpose="vision", keep_s=keep_s)


def names_on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("files.sqlite3"))


def test_a_file_outlives_the_store_that_took_it(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    stored = keep(store, b"bytes")
    store.close()
    again = FileStore(tmp_path, QUOTA)
    assert again.get("me", stored.id) == stored
    assert again.read("me", stored.id, max_bytes=5) == b"bytes"
    again.close()


def test_the_clients_name_is_never_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    store = FileStore(folder, QUOTA)
    stored = keep(store, b"x", name="../../escape\0.png")
    assert stored.filename == "../../escape\0.png"
    assert names_on_disk(folder) == [f"{stored.id}.content"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    for wrong in ("../kept/" + stored.id, "/etc/passwd", "", "%"):
        with pytest.raises(UnknownName, match="no file"):
            store.open("me", wrong)
    store.close()


def test_another_owner_sees_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    stored = keep(store, b"mine")
    for attempt in (store.get, store.open, store.delete):
        with pytest.raises(UnknownName):
            attempt("you", stored.id)
    assert store.page("you", limit=9, descending=True) == []
    assert store.get("me", stored.id) == stored
    store.close()


def test_an_upload_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    with store.writing(store.check_room("me")) as writer:
        writer.write(b"a" * 60)
        with pytest.raises(MediaTooLarge, match="100 bytes"):
            writer.write(b"a" * 60)
    assert names_on_disk(tmp_path) == []
    store.close()


def test_the_quota_counts_bytes_and_files_per_owner(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    keep(store, b"a" * 100)
    keep(store, b"a" * 100)
    assert store.check_room("me") == 50
    keep(store, b"a" * 50)
    with pytest.raises(MediaTooLarge, match="250 of 250"):
        store.check_room("me")
    for _ in range(QUOTA.max_files):
        keep(store, b"a", "you")
    with pytest.raises(MediaTooLarge, match="4 files"):
        store.check_room("you")
    store.close()


def test_uploads_at_once_cannot_pass_the_quota_together(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    refused: list[Exception] = []
    all_started = threading.Barrier(5)

    def upload() -> None:
        try:
            with store.writing(store.check_room("me")) as writer:
                all_started.wait(20)
                writer.write(b"a" * 100)
                store.finish(writer, owner="me", filename="a", purpose="vision", keep_s=None)
        except MediaTooLarge as error:
            refused.append(error)

    threads = [threading.Thread(target=upload) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert len(store.page("me", limit=9, descending=True)) == 2
    store.close()


def test_a_file_is_gone_when_its_time_is_over(tmp_path: Path) -> None:
    clock = Clock()
    store = FileStore(tmp_path, QUOTA, clock=clock)
    stored = keep(store, b"short", keep_s=60)
    assert stored.expires_s == 1060
    clock.now_s = 1059
    assert store.get("me", stored.id) == stored
    clock.now_s = 1060
    with pytest.raises(UnknownName):
        store.get("me", stored.id)
    assert names_on_disk(tmp_path) == []
    store.close()


def test_a_start_cleans_up_after_a_crash(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    kept, lost = keep(store, b"kept"), keep(store, b"lost")
    store.close()
    (tmp_path / f"{lost.id}.content").unlink()
    (tmp_path / "0123.partial").write_bytes(b"half")
    (tmp_path / "file-unknown.content").write_bytes(b"no row")
    (tmp_path / "notes.txt").write_bytes(b"not ours")
    again = FileStore(tmp_path, QUOTA)
    assert names_on_disk(tmp_path) == [f"{kept.id}.content", "notes.txt"]
    assert [stored.id for stored in again.page("me", limit=9, descending=True)] == [kept.id]
    again.close()


def test_pages_follow_each_other_in_both_orders(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    ids = [keep(store, b"x").id for _ in range(4)]
    first = store.page("me", limit=3, descending=False)
    rest = store.page("me", after=first[-1].id, limit=3, descending=False)
    assert [stored.id for stored in [*first, *rest]] == ids
    assert [stored.id for stored in store.page("me", after=ids[2], limit=9, descending=True)] == ids[1::-1]
    assert store.page("me", limit=9, descending=True, purpose="batch") == []
    with pytest.raises(UnknownName):
        store.page("me", after="file-nobody", limit=9, descending=True)
    store.close()


def test_a_larger_file_is_not_read_as_a_medium(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    stored = keep(store, b"12345")
    with pytest.raises(MediaTooLarge, match="at most 4"):
        store.read("me", stored.id, max_bytes=4)
    store.close()


def test_a_full_disk_is_said_at_the_door(tmp_path: Path) -> None:
    store = FileStore(tmp_path, FileQuota(max_file_bytes=1, max_bytes=1, max_files=1, min_free_bytes=2**62))
    with pytest.raises(Overloaded, match="disk is full"):
        store.check_room("me")
    store.close()


def test_a_damaged_database_or_a_folder_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "files.sqlite3").write_bytes(b"not a database at all" * 100)
    with pytest.raises(ConfigError, match="files_dir"):
        FileStore(tmp_path, QUOTA)
    (tmp_path / "a_file").write_bytes(b"")
    with pytest.raises(ConfigError, match="files_dir"):
        FileStore(tmp_path / "a_file", QUOTA)


def test_the_database_holds_what_was_promised_before_the_answer(tmp_path: Path) -> None:
    store = FileStore(tmp_path, QUOTA)
    stored = keep(store, b"x")
    other = sqlite3.connect(tmp_path / "files.sqlite3")
    assert other.execute("SELECT id FROM files").fetchall() == [(stored.id,)]
    other.close()
    store.close()
