"""Uploaded files: bytes in one folder under names of ours, what is known about them in SQLite beside them.

The client's file name is a column, never a path. Nothing outside the folder is ever read, written or removed.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

from core.errors import ConfigError, MediaTooLarge, Overloaded, UnknownName
from core.telemetry import EventLog
from engine.sqlite_file import full_disk_said, open_database

_DATABASE = "files.sqlite3"
_PARTIAL = ".partial"
_CONTENT = ".content"
_CREATE = """CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL,
    num_bytes INTEGER NOT NULL, created_s INTEGER NOT NULL, expires_s INTEGER, place INTEGER NOT NULL
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileQuota:
    """What one owner may keep, and how large one file may be. `min_free_bytes` stay free on the disk."""

    max_file_bytes: int
    max_bytes: int
    max_files: int
    min_free_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """What is known about one file; times are seconds since 1970."""

    id: str
    owner: str
    filename: str
    purpose: str
    num_bytes: int
    created_s: int
    expires_s: int | None
    place: int  # the order of arrival


_COLUMNS = tuple(field.name for field in fields(StoredFile))


class FileWriter:
    """One file on its way in; it exists for nobody until `FileStore.finish`."""

    def __init__(self, path: Path, file: BinaryIO, max_bytes: int) -> None:
        self.path = path
        self.num_bytes = 0
        self._file = file
        self._max_bytes = max_bytes

    def write(self, content: bytes) -> None:
        """Append bytes. Raises `MediaTooLarge` at the first byte over what the owner may still keep."""
        self.num_bytes += len(content)
        if self.num_bytes > self._max_bytes:
            raise MediaTooLarge(
                f"the file is larger than the {self._max_bytes} bytes it may have; send a smaller one or delete others",
                param="file",
            )
        self._file.write(content)

    def close(self, *, durable: bool = False) -> None:
        if durable:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()


class FileStore:
    """Keep files per owner. Every method blocks and may be called from any thread; `clock` returns seconds."""

    def __init__(self, folder: Path, quota: FileQuota, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._quota = quota
        self._clock = clock
        self._log = EventLog("bindchat.files")
        self._lock = threading.RLock()
        self._database = open_database(folder / _DATABASE, _CREATE)
        try:
            self._clean_up()
        except (OSError, sqlite3.DatabaseError) as error:
            raise ConfigError(
                f"the files folder {folder} cannot be used: {error}; choose another files_dir or repair it"
            ) from error

    def close(self) -> None:
        """Close the database; the files stay."""
        with self._lock:
            self._database.close()

    def check_room(self, owner: str) -> int:
        """Return how many bytes the owner's next file may have.

        Raises `Overloaded` when the disk is nearly full and `MediaTooLarge` when the owner's files use the quota up.
        """
        self.remove_expired()
        with self._lock:
            num_files, num_bytes = self._database.execute(
                "SELECT COUNT(*), COALESCE(SUM(num_bytes), 0) FROM files WHERE owner = ?", (owner,)
            ).fetchone()
        quota, status = self._quota, os.statvfs(self._folder)
        free_bytes = status.f_bavail * status.f_frsize - quota.min_free_bytes
        if free_bytes <= 0:
            raise Overloaded("the server's disk is full; try again later", retry_after_s=60)
        if num_files >= quota.max_files:
            raise MediaTooLarge(
                f"{num_files} files are kept for this key, the limit; delete some", code="file_quota_exceeded"
            )
        if num_bytes >= quota.max_bytes:
            raise MediaTooLarge(
                f"{num_bytes} of {quota.max_bytes} bytes are kept for this key; delete files",
                code="file_quota_exceeded",
            )
        return min(quota.max_file_bytes, quota.max_bytes - int(num_bytes), free_bytes)

    @contextmanager
    def writing(self, max_bytes: int) -> Iterator[FileWriter]:
        """Yield a writer of at most `max_bytes`; unless `finish` is called inside, the block leaves nothing behind."""
        path = self._folder / f"{secrets.token_hex(16)}{_PARTIAL}"
        writer = FileWriter(path, path.open("xb"), max_bytes)
        try:
            yield writer
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Overloaded("the server's disk is full; try again later", retry_after_s=60) from error
        finally:
            writer.close()
            path.unlink(missing_ok=True)

    def finish(self, writer: FileWriter, *, owner: str, filename: str, purpose: str, keep_s: int | None) -> StoredFile:
        """Make a written file known.

        Raises `MediaTooLarge` when other uploads have used the owner's quota up, and `StorageFull`.
        """
        writer.close(durable=True)
        now_s = int(self._clock())
        file_id = f"file-{secrets.token_hex(12)}"
        expires_s = None if keep_s is None else now_s + keep_s
        with self._lock:
            room = self.check_room(owner)
            if writer.num_bytes > room:
                raise MediaTooLarge(
                    f"the file has {writer.num_bytes} bytes and {room} are left for this key; delete files",
                    code="file_quota_exceeded",
                )
            writer.path.rename(self._content_path(file_id))  # content without a row is removed at the next start
            try:
                with full_disk_said():
                    self._database.execute(
                        "INSERT INTO files SELECT ?, ?, ?, ?, ?, ?, ?, COALESCE(MAX(place), 0) + 1 FROM files",
                        (file_id, owner, filename, purpose, writer.num_bytes, now_s, expires_s),
                    )
            except BaseException:
                self._content_path(file_id).unlink(missing_ok=True)
                raise
            return self.get(owner, file_id)

    def get(self, owner: str, file_id: str) -> StoredFile:
        """Return what is known about a file. Raises `UnknownName` for a file that is not there or not the owner's."""
        self.remove_expired()
        rows = self._rows("WHERE owner = ? AND id = ?", (owner, file_id))
        if not rows:
            raise UnknownName(f"there is no file {file_id[:80]!r}", param="file_id", code="file_not_found")
        return rows[0]

    def page(
        self, owner: str, *, after: str | None = None, limit: int, descending: bool, purpose: str | None = None
    ) -> list[StoredFile]:
        """Return up to `limit` of the owner's files by arrival, those that follow the file `after`."""
        self.remove_expired()
        conditions, values = ["owner = ?"], [owner]
        if purpose is not None:
            conditions, values = [*conditions, "purpose = ?"], [*values, purpose]
        if after is not None:
            conditions.append(f"place {'<' if descending else '>'} {self.get(owner, after).place}")
        order = f"ORDER BY place {'DESC' if descending else 'ASC'} LIMIT {int(limit)}"
        return self._rows(f"WHERE {' AND '.join(conditions)} {order}", tuple(values))

    def open(self, owner: str, file_id: str) -> BinaryIO:
        """Open the content of a file for reading. Raises `UnknownName`."""
        try:
            return self._content_path(self.get(owner, file_id).id).open("rb")
        except FileNotFoundError:  # deleted meanwhile
            raise UnknownName(f"there is no file {file_id[:80]!r}", param="file_id", code="file_not_found") from None

    def read(self, owner: str, file_id: str, *, max_bytes: int) -> bytes:
        """Return the content of a file. Raises `UnknownName`, and `MediaTooLarge` without reading a larger one."""
        num_bytes = self.get(owner, file_id).num_bytes
        if num_bytes > max_bytes:
            raise MediaTooLarge(f"file {file_id} has {num_bytes} bytes; at most {max_bytes} are read as a medium")
        with self.open(owner, file_id) as file:
            return file.read()

    def delete(self, owner: str, file_id: str) -> None:
        """Forget a file and remove its content. Raises `UnknownName`."""
        self._remove([self.get(owner, file_id).id])

    def remove_expired(self) -> None:
        """Remove every file whose time is over."""
        if expired := self._rows("WHERE expires_s <= ?", (int(self._clock()),)):
            self._remove([stored.id for stored in expired])

    def _clean_up(self) -> None:
        """Remove what a crash left: uploads that never finished, content without a row, rows without content."""
        self.remove_expired()
        known = {stored.id: stored for stored in self._rows("", ())}
        orphans = [path for path in self._folder.glob(f"*{_CONTENT}") if path.name.removesuffix(_CONTENT) not in known]
        for path in [*self._folder.glob(f"*{_PARTIAL}"), *orphans]:
            path.unlink(missing_ok=True)
        lost = [file_id for file_id in known if not self._content_path(file_id).is_file()]
        self._remove(lost)
        self._log.event("files_cleaned", kept=len(known) - len(lost), lost=len(lost), orphans=len(orphans))

    def _remove(self, file_ids: list[str]) -> None:
        for file_id in file_ids:
            with self._lock:
                self._database.execute("DELETE FROM files WHERE id = ?", (file_id,))
            self._content_path(file_id).unlink(missing_ok=True)

    def _rows(self, clause: str, values: tuple[object, ...]) -> list[StoredFile]:
        with self._lock:
            rows = self._database.execute(f"SELECT {', '.join(_COLUMNS)} FROM files {clause}", values).fetchall()
        return [StoredFile(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def _content_path(self, file_id: str) -> Path:
        return self._folder / f"{file_id}{_CONTENT}"
