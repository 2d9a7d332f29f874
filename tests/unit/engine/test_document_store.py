"""Documents on a real disk: owners, quotas, expiry, a damaged database and a full one."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ConfigError, MediaTooLarge, StorageFull, UnknownName
from engine.document_store import DocumentQuota, DocumentStore

QUOTA = DocumentQuota(max_documents=3, max_bytes=200, keep_s=60)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def ids(store: DocumentStore, owner: str = "me", *, after: str | None = None, descending: bool = False) -> list[str]:
    return [found["id"] for found in store.page("note", owner, after=after, limit=9, descending=descending)]


def test_a_document_outlives_the_store_that_took_it(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path / "new" / "kept.sqlite3", QUOTA)
    store.put("note", "me", {"id": "a", "text": "größer"})
    store.put("note", "me", {"id": "a", "text": "changed"})
    store.close()
    again = DocumentStore(tmp_path / "new" / "kept.sqlite3", QUOTA)
    assert again.get("note", "me", "a") == {"id": "a", "text": "changed"}
    assert again.everyone("note") == [("me", {"id": "a", "text": "changed"})]
    again.close()


def test_another_owner_and_another_kind_see_nothing() -> None:
    store = DocumentStore(None, QUOTA)
    store.put("note", "me", {"id": "a"})
    for kind, owner in (("note", "you"), ("letter", "me")):
        with pytest.raises(UnknownName):
            store.get(kind, owner, "a")
        with pytest.raises(UnknownName):
            store.delete(kind, owner, "a")
    assert ids(store, "you") == []
    store.delete("note", "me", "a")
    assert ids(store) == []
    store.close()


def test_the_oldest_make_room_unless_they_must_stay() -> None:
    store = DocumentStore(None, QUOTA)
    for name in "abcd":
        store.put("note", "me", {"id": name})
    assert ids(store) == ["b", "c", "d"]
    store.put("note", "me", {"id": "e", "text": "x" * 160})
    assert ids(store) == ["d", "e"]
    with pytest.raises(MediaTooLarge, match="the limit"):
        store.put("note", "me", {"id": "f", "text": "x" * 160}, evict=False)
    with pytest.raises(MediaTooLarge, match="at most 200"):
        store.put("note", "me", {"id": "g", "text": "x" * 201})
    assert ids(store) == ["d", "e"]
    store.close()


def test_pages_follow_each_other_both_ways() -> None:
    store = DocumentStore(None, QUOTA)
    for name in "abc":
        store.put("note", "me", {"id": name})
    assert ids(store, after="a") == ["b", "c"]
    assert ids(store, after="c", descending=True) == ["b", "a"]
    with pytest.raises(UnknownName, match="'z'"):
        ids(store, after="z")
    store.close()


def test_a_document_ends_with_its_time() -> None:
    clock = Clock()
    store = DocumentStore(None, QUOTA, clock=clock)
    store.put("note", "me", {"id": "a"})
    clock.now_s += 61
    with pytest.raises(UnknownName):
        store.get("note", "me", "a")
    store.put("note", "me", {"id": "b"})
    assert [found["id"] for _, found in store.everyone("note")] == ["b"]
    store.close()


def test_a_damaged_database_is_named_at_start_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite3"
    path.write_bytes(b"this was a database once " * 99)
    with pytest.raises(ConfigError, match=r"kept\.sqlite3"):
        DocumentStore(path, QUOTA)
    assert path.read_bytes().startswith(b"this was")


def test_a_full_disk_is_said_and_changes_nothing() -> None:
    store = DocumentStore(None, DocumentQuota(max_documents=99, max_bytes=10**6, keep_s=60))
    store.put("note", "me", {"id": "a"})
    store._database.execute("PRAGMA max_page_count = 6")
    with pytest.raises(StorageFull, match="disk is full"):
        store.put("note", "me", {"id": "b", "text": "x" * 90_000})
    assert ids(store) == ["a"]
    store.close()
