"""What one generation of an index is made of: the only file that a commit replaces."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cache_index.index import KINDS, IndexKind
from core.errors import ConfigError, IndexMismatch

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1
METRIC = "inner_product"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file beside the manifest, its size and the sha256 of its bytes."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """An immutable FAISS file and the metadata of its rows; row i has the id `first_id + i`."""

    kind: IndexKind
    first_id: int
    count: int
    index: FileRecord
    metadata: FileRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One generation: whose embeddings, of what width, in which files, and which rows have been removed.

    `encoder_id` names the joint space, which all encoders of one model share (`ModelBundle.space_id`). `created` is an
    ISO 8601 time. Ids are never used twice: `next_id` only grows.
    """

    encoder_id: str
    dimension: int
    created: str = ""
    generation: int = 1
    next_id: int = 0
    segments: tuple[Segment, ...] = ()
    removed: tuple[int, ...] = field(default=(), repr=False)
    metric: str = METRIC
    format_version: int = FORMAT_VERSION

    @property
    def count(self) -> int:
        """The number of rows a search can find."""
        return sum(segment.count for segment in self.segments) - len(self.removed)

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file but the manifest."""
        return tuple(record for segment in self.segments for record in (segment.index, segment.metadata))

    def check(self, encoder_id: str | None = None, dimension: int | None = None) -> None:
        """Raise `IndexMismatch` unless the index was built for this encoder and width; None accepts any."""
        for noun, held, wanted in (("width", self.dimension, dimension), ("encoder", self.encoder_id, encoder_id)):
            if wanted not in (None, "", held):
                raise IndexMismatch(
                    f"the index holds embeddings of {noun} {held!r}, the model makes {noun} {wanted!r}; build it again "
                    "with this model, or name the right index"
                )

    def to_json(self) -> str:
        """Return the manifest as text; `count` is there for people, and is checked when read."""
        return json.dumps({**asdict(self), "count": self.count}, indent=1)


def read_manifest(folder: Path) -> Manifest:
    """Read the current generation of an index folder.

    Raises `ConfigError` when there is none or it is damaged, `IndexMismatch` for another metric or format.
    """
    path = folder / MANIFEST_NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version, metric = fields["format_version"], fields["metric"]
        if version != FORMAT_VERSION or metric != METRIC:
            raise IndexMismatch(
                f"{path} has format {version} and metric {metric!r}; this version reads format {FORMAT_VERSION} with "
                f"{METRIC!r}; build the index again"
            )
        return _parse(fields)
    except FileNotFoundError:
        raise ConfigError(f"no index at {folder}; make one with bindchat cache build --out {folder}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error!r}); restore it or build the index again") from error


def _parse(fields: dict[str, Any]) -> Manifest:
    count = fields.pop("count")
    records = [
        Segment(**{**row, "index": FileRecord(**row["index"]), "metadata": FileRecord(**row["metadata"])})
        for row in fields.pop("segments")
    ]
    manifest = Manifest(**{**fields, "segments": tuple(records), "removed": tuple(fields["removed"])})
    if any(segment.kind not in KINDS for segment in records) or count != manifest.count:
        raise ValueError(f"count is {count}, its segments hold {manifest.count}")
    return manifest


def verify_files(folder: Path, manifest: Manifest, *, digests: bool = True, known: Collection[FileRecord] = ()) -> None:
    """Compare every file with its record; without `digests` only sizes. Raises `ConfigError` naming the first bad one.

    Segments whose vector file is `known` are in use already and are not read again. Raises `FileNotFoundError` when a
    file is gone, as it is when a newer generation has replaced it.
    """
    new = [part for part in manifest.segments if part.index not in known]
    for record in (record for part in new for record in (part.index, part.metadata)):
        with (folder / record.name).open("rb") as file:
            damaged = os.fstat(file.fileno()).st_size != record.size_bytes
            if damaged or (digests and hashlib.file_digest(file, "sha256").hexdigest() != record.sha256):
                raise ConfigError(f"{file.name} does not match its checksum; restore it or build the index again")
