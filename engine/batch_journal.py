"""The finished lines of batches in SQLite, so that a restart goes on where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from engine.sqlite_file import full_disk_said, open_database

_CREATE = """CREATE TABLE IF NOT EXISTS lines (
    batch_id TEXT NOT NULL, number INTEGER NOT NULL, is_error INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (batch_id, number)
) WITHOUT ROWID"""
_PAGE = 100


class BatchJournal:
    """Keep each line's outcome, a JSON text, durably. Every method blocks and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._database = open_database(path, _CREATE)

    def close(self) -> None:
        """Close the database; what it holds stays."""
        with self._lock:
            self._database.close()

    def add(self, batch_id: str, number: int, text: str, *, is_error: bool) -> None:
        """Keep the outcome of one line; a second one for the same line changes nothing. Raises `StorageFull`."""
        with self._lock, full_disk_said():
            self._database.execute(
                "INSERT OR IGNORE INTO lines VALUES (?, ?, ?, ?)", (batch_id, number, is_error, text)
            )

    def done(self, batch_id: str) -> dict[int, bool]:
        """Return, for the number of each finished line, whether it failed."""
        with self._lock:
            rows = self._database.execute("SELECT number, is_error FROM lines WHERE batch_id = ?", (batch_id,))
            return {number: bool(is_error) for number, is_error in rows.fetchall()}

    def texts(self, batch_id: str, *, is_error: bool) -> Iterator[str]:
        """Yield the outcomes of one kind in the order of their lines, a few in memory at a time."""
        last = -1
        while True:
            with self._lock:
                rows = self._database.execute(
                    "SELECT number, text FROM lines WHERE batch_id = ? AND is_error = ? AND number > ? "
                    "ORDER BY number LIMIT ?",
                    (batch_id, is_error, last, _PAGE),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            for _, text in rows:
                yield text

    def forget(self, batch_id: str) -> None:
        """Remove the lines of a batch whose files are written."""
        with self._lock:
            self._database.execute("DELETE FROM lines WHERE batch_id = ?", (batch_id,))
