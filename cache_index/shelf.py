"""Several named indexes in use at once, each following the writer of its folder without a pause."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cache_index.manifest import MANIFEST_NAME
from cache_index.reader import IndexReader, open_index
from core.errors import AppError, IndexMismatch, UnknownName

Stamp = tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfSpec:
    """What every index of a shelf must be, and how it is opened; None accepts any encoder or width."""

    encoder_id: str | None
    dimension: int | None
    memory_map: bool = True
    on_gpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What became of looking at one index again; `error` says why the old generation stays in use."""

    name: str
    generation: int
    num_items: int
    changed: bool
    error: str | None = None


class IndexShelf:
    """Several named indexes, each opened anew when its folder has a new generation.

    Each is a folder with a manifest, or an official FAISS file. The first one is the default. At the start a missing,
    damaged or foreign index is refused (`ConfigError`, `IndexMismatch`); later it only leaves the old generation in
    use, and `on_failure` hears the name and the error. While one thread opens a new generation, all others go on with
    the old one, and segments that did not change stay open.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        spec: ShelfSpec,
        on_failure: Callable[[str, AppError], None] = lambda name, error: None,
    ) -> None:
        self._paths = dict(paths)
        self._spec = spec
        self._on_failure = on_failure
        self._locks = {name: threading.Lock() for name in paths}
        self._readers: dict[str, IndexReader] = {}
        self._stamps: dict[str, Stamp] = {}
        for name in paths:
            self._stamps[name] = self._stamp(name)
            self._readers[name] = self._open(name)

    def names(self) -> tuple[str, ...]:
        """Return the names in the order they were given."""
        return tuple(self._paths)

    def path(self, name: str) -> Path:
        """Return where an index lives, for its writer. Raises `UnknownName` that lists the known ones."""
        if name not in self._paths:
            raise UnknownName(f"unknown index {name[:80]!r}; known: {', '.join(self._paths) or 'none'}", param="index")
        return self._paths[name]

    def get(self, name: str) -> IndexReader:
        """Return the newest generation of an index. Keep it for a whole request: the next call may give another."""
        self.path(name)
        if self._stamp(name) != self._stamps[name] and self._locks[name].acquire(blocking=False):
            try:
                self._refresh(name)
            finally:
                self._locks[name].release()
        return self._readers[name]

    def reload(self, name: str) -> Reload:
        """Look at an index again now, after any other thread that does, and say what came of it."""
        self.path(name)
        with self._locks[name]:
            before = self._readers[name]
            error = self._refresh(name) if self._stamp(name) != self._stamps[name] else None
            reader = self._readers[name]
        return Reload(
            name=name,
            generation=reader.manifest.generation,
            num_items=len(reader),
            changed=reader is not before,
            error=None if error is None else error.message,
        )

    def move(self, name: str, path: Path) -> None:
        """Read an index from another place from now on. Raises what the start raises, and then nothing has moved."""
        with self._locks[name]:
            self._readers[name] = self._open(name, path)
            self._paths[name] = path
            self._stamps[name] = self._stamp(name)

    def _refresh(self, name: str) -> AppError | None:
        stamp = self._stamp(name)
        try:
            self._readers[name] = self._open(name)
        except AppError as error:
            self._on_failure(name, error)
            return error
        finally:
            self._stamps[name] = stamp  # a bad generation is looked at once
        return None

    def _open(self, name: str, path: Path | None = None) -> IndexReader:
        old, path = self._readers.get(name), path or self._paths[name]
        reader = open_index(path, memory_map=self._spec.memory_map, reuse=old.open_segments if old else None)
        try:  # an official FAISS file does not say whose it is
            reader.manifest.check(reader.manifest.encoder_id and self._spec.encoder_id, self._spec.dimension)
        except IndexMismatch as error:
            raise IndexMismatch(f"{path}: {error.message}") from None
        if self._spec.on_gpu:
            reader.move_to_gpu()
        return reader

    def _stamp(self, name: str) -> Stamp:
        """Return what changes with each commit: a rename gives the manifest another inode. None when it is gone."""
        path = self._paths[name]
        try:
            status = (path if path.is_file() else path / MANIFEST_NAME).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns
