"""JSON documents per owner in SQLite: responses, batches and what they wait for. Durable when there is a file."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import MediaTooLarge, UnknownName
from engine.sqlite_file import full_disk_said, open_database

_CREATE = """CREATE TABLE IF NOT EXISTS documents (
    place INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL,
    expires_s REAL, num_bytes INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id)
)"""
_OF_OWNER = "kind = ? AND owner = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentQuota:
    """What one owner may keep of each kind; the oldest make room for new ones. `keep_s` is how long one lives."""

    max_documents: int
    max_bytes: int
    keep_s: int


class DocumentStore:
    """Keep documents by kind, owner and id. Every method blocks and may be called from any thread.

    Without a `path` they live in memory and end with the process. `clock` returns seconds since 1970.
    """

    def __init__(self, path: Path | None, quota: DocumentQuota, *, clock: Callable[[], float] = time.time) -> None:
        self._quota = quota
        self._clock = clock
        self._lock = threading.RLock()
        self._database = open_database(path, _CREATE)

    def close(self) -> None:
        """Close the database; what a file holds stays."""
        with self._lock:
            self._database.close()

    def put(self, kind: str, owner: str, document: dict[str, Any], *, evict: bool = True) -> None:
        """Keep a document under its `id`, in the place of an older version.

        Raises `MediaTooLarge` for one that alone is over the quota, or when others fill it and must not be evicted,
        and `StorageFull` when the disk is.
        """
        text, quota = json.dumps(document, ensure_ascii=False), self._quota
        num_bytes = len(text.encode())
        if num_bytes > quota.max_bytes:
            raise MediaTooLarge(
                f"the {kind} has {num_bytes} bytes; at most {quota.max_bytes} are kept, so send store: false"
            )
        with self._writing():
            self._remove_expired()
            self._make_room(kind, owner, str(document["id"]), num_bytes, evict=evict)
            self._database.execute(
                "INSERT INTO documents (kind, id, owner, expires_s, num_bytes, body) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, num_bytes = excluded.num_bytes",
                (kind, document["id"], owner, self._clock() + quota.keep_s, num_bytes, text),
            )

    def get(self, kind: str, owner: str, document_id: str) -> dict[str, Any]:
        """Return a document. Raises `UnknownName` for one that is not there, not the owner's, or expired."""
        with self._lock:
            row = self._database.execute(
                f"SELECT body FROM documents WHERE {_OF_OWNER} AND id = ? AND expires_s > ?",
                (kind, owner, document_id, self._clock()),
            ).fetchone()
        if row is None:
            raise UnknownName(f"there is no {kind} {document_id[:80]!r}", param=f"{kind}_id", code=f"{kind}_not_found")
        return dict(json.loads(row[0]))

    def delete(self, kind: str, owner: str, document_id: str) -> None:
        """Forget a document. Raises `UnknownName`."""
        self.get(kind, owner, document_id)
        with self._writing():
            self._database.execute(f"DELETE FROM documents WHERE {_OF_OWNER} AND id = ?", (kind, owner, document_id))

    def page(self, kind: str, owner: str, *, after: str | None, limit: int, descending: bool) -> list[dict[str, Any]]:
        """Return up to `limit` of the owner's documents by arrival, those that follow `after`. Raises `UnknownName`."""
        sign, order = ("<", "DESC") if descending else (">", "ASC")
        values: list[Any] = [kind, owner, self._clock()]
        condition = f"{_OF_OWNER} AND expires_s > ?"
        if after is not None:
            self.get(kind, owner, after)
            condition += f" AND place {sign} (SELECT place FROM documents WHERE kind = ? AND id = ?)"
            values += [kind, after]
        with self._lock:
            rows = self._database.execute(
                f"SELECT body FROM documents WHERE {condition} ORDER BY place {order} LIMIT ?", (*values, limit)
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def everyone(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Return `(owner, document)` of every document of a kind by arrival, for what a restart must take up again."""
        with self._lock:
            rows = self._database.execute(
                "SELECT owner, body FROM documents WHERE kind = ? ORDER BY place", (kind,)
            ).fetchall()
        return [(owner, json.loads(body)) for owner, body in rows]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make what happens inside durable at once, or not at all."""
        with self._lock, full_disk_said():
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _remove_expired(self) -> None:
        self._database.execute("DELETE FROM documents WHERE expires_s <= ?", (self._clock(),))

    def _make_room(self, kind: str, owner: str, document_id: str, num_bytes: int, *, evict: bool) -> None:
        others = self._database.execute(
            f"SELECT place, num_bytes FROM documents WHERE {_OF_OWNER} AND id != ? ORDER BY place",
            (kind, owner, document_id),
        ).fetchall()
        total_bytes = num_bytes + sum(size for _, size in others)
        while len(others) >= self._quota.max_documents or total_bytes > self._quota.max_bytes:
            if not evict:
                raise MediaTooLarge(f"{len(others)} of kind {kind} are kept for this key, the limit")
            place, size = others.pop(0)
            total_bytes -= size
            self._database.execute("DELETE FROM documents WHERE place = ?", (place,))
