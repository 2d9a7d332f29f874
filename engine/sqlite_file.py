"""SQLite files of this server: durable, checked when they are opened, and a full disk said as what it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ConfigError, StorageFull


def open_database(path: Path | None, create: str) -> sqlite3.Connection:
    """Open a database with autocommit for any thread, made with `create` when new; None is one in memory.

    Raises `ConfigError` naming a file that cannot be used or is damaged, which is left as it is.
    """
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from error
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        database.execute(create)
    except sqlite3.Error as error:
        database.close()
        raise _unusable(path, error) from error
    return database


@contextmanager
def full_disk_said() -> Iterator[None]:
    """Raise `StorageFull` for SQLite's own word that the disk is full."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        raise StorageFull("the server's disk is full; try again later") from error


def _unusable(path: Path | None, error: Exception) -> ConfigError:
    return ConfigError(f"{path} cannot be used: {error}; move it away, restore it, or choose another files_dir")
