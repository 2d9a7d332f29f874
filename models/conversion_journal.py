"""Which files of a conversion are finished, so that a stopped one goes on and ends with the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.errors import CheckpointError
from models.checkpoints import file_sha256, read_json

JOURNAL_NAME, MANIFEST_NAME = "conversion.json", "bindchat.json"


class Journal:
    """Which files of a conversion are finished, kept on disk beside them."""

    def __init__(self, target: Path, fingerprint: str) -> None:
        self.target, self.path, self._fingerprint = target, target / JOURNAL_NAME, fingerprint
        self._unfinished = self.path.with_suffix(".partial")
        self.done: dict[str, str] = {}
        target.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            stored = read_json(self.path)
            if stored.get("fingerprint") != fingerprint:
                raise CheckpointError(f"{target} holds another unfinished conversion; choose an empty folder")
            self.done = {name: str(digest) for name, digest in stored["done"].items()}
        elif any(path != self._unfinished for path in target.iterdir()):
            found = "a finished model" if (target / MANIFEST_NAME).is_file() else "other files"
            raise CheckpointError(f"{target} already holds {found}; choose an empty folder")
        self._note()

    def write_once(self, name: str, write: Callable[[Path], object]) -> None:
        """Write one file unless it is there, whole and noted."""
        path, unfinished = self.target / name, self.target / f"{name}.partial"
        unfinished.unlink(missing_ok=True)
        if name in self.done and path.is_file() and file_sha256(path) == self.done[name]:
            return
        write(unfinished)
        os.replace(unfinished, path)
        self.done[name] = file_sha256(path)
        self._note()

    def _note(self) -> None:
        write_json(self._unfinished, {"fingerprint": self._fingerprint, "done": self.done})
        os.replace(self._unfinished, self.path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object with its keys in order, so that equal content gives equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")
