"""What `pull` leaves beside the files it fetched: their digests, where they came from and under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from models.checkpoints import read_json
from models.conversion_journal import write_json

RECEIPT_NAME = "pulled.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledFile:
    """One line of the receipt; `commit` is None for files that are not in a repository."""

    name: str
    sha256: str
    source: str
    commit: str | None
    licence: str


def read_receipt(folder: Path) -> dict[str, PulledFile]:
    """Return the receipt of a folder by file name; empty when nothing was pulled into it."""
    path = folder / RECEIPT_NAME
    return {name: PulledFile(**line) for name, line in read_json(path).items()} if path.is_file() else {}


def write_receipt(folder: Path, receipt: Mapping[str, PulledFile]) -> None:
    """Write the receipt of a folder."""
    write_json(folder / RECEIPT_NAME, {name: asdict(pulled) for name, pulled in receipt.items()})


def pulled_licence(path: Path) -> str:
    """Return the licence under which `path` was pulled, or a sentence that it is not known."""
    pulled = read_receipt(path.parent).get(path.name)
    return "not stated; see where the file came from" if pulled is None else pulled.licence
