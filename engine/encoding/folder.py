"""Embed a folder of files into one array with metadata, resumably: what `bindchat cache build DIR` indexes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache_index.build import Progress
from cache_index.reader import ItemMetadata
from core.errors import AppError, ConfigError
from core.types import FloatArray
from media.thumbnail import thumbnail_uri

_FILES_PER_PART = 256
_TEXT_SUFFIXES = {".txt", ".json", ".jsonl", ".md"}

EmbedFiles = Callable[[Sequence[Path]], Sequence[FloatArray | AppError]]
"""Return a vector `(E,)` per file, or the error of that file. Called by several threads at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderEmbeddings:
    """The `.npy` file `(N, E)` with its `.jsonl` beside it, and a sentence per file left out in this run."""

    array: Path
    skipped: tuple[str, ...]


def embed_folder(
    folder: Path, out: Path, embed: EmbedFiles, *, encoder_id: str, num_workers: int, progress: Progress
) -> FolderEmbeddings:
    """Embed every file below a folder, in parts that several workers make at once.

    The label of a file is its folder's name, its caption the `.txt` beside it; a picture also gets a thumbnail.
    Finished parts are kept beside `out` and found again after a stop, unless a file or the encoder has changed;
    delete `array.parent` when it is indexed.
    Raises `ConfigError` when no file could be embedded.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() not in _TEXT_SUFFIXES)
    facts = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps([encoder_id, facts]).encode()).hexdigest()
    work = out.with_name(f"{out.name}.building-{digest[:12]}")
    for stale in set(out.parent.glob(f"{out.name}.building-*")) - {work}:
        shutil.rmtree(stale)
    work.mkdir(parents=True, exist_ok=True)
    skipped: list[str] = []
    done, starts = 0, range(0, len(files), _FILES_PER_PART)
    with ThreadPoolExecutor(num_workers) as workers:
        parts = {start: work / f"part-{start:09d}.npy" for start in starts}
        tasks = {
            workers.submit(_embed_part, files[start : start + _FILES_PER_PART], part, folder, embed): start
            for start, part in parts.items()
        }
        for task in as_completed(tasks):
            skipped += task.result()
            done += len(files[tasks[task] : tasks[task] + _FILES_PER_PART])
            progress("embedding", done, len(files))
    return FolderEmbeddings(array=_join(list(parts.values()), work), skipped=tuple(sorted(skipped)))


def _embed_part(files: Sequence[Path], part: Path, folder: Path, embed: EmbedFiles) -> list[str]:
    """Write the vectors and metadata of some files; the array's rename says that both are whole."""
    if part.exists():
        return []
    pairs = list(zip(files, embed(files), strict=True))
    kept = [(path, outcome) for path, outcome in pairs if not isinstance(outcome, AppError)]
    lines = [_describe(path, folder).to_json() + "\n" for path, _ in kept]
    part.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")
    unfinished = part.with_suffix(".new.npy")
    np.save(unfinished, np.array([vector for _, vector in kept], np.float32))
    os.replace(unfinished, part)
    return [f"{path}: {outcome.message}" for path, outcome in pairs if isinstance(outcome, AppError)]


def _describe(path: Path, folder: Path) -> ItemMetadata:
    caption = path.with_suffix(".txt")
    return ItemMetadata(
        file=path.relative_to(folder).as_posix(),
        caption=caption.read_text(encoding="utf-8").strip() if caption.is_file() else None,
        label=path.parent.name if path.parent != folder else None,
        extra=looks_of(path),
    )


def looks_of(path: Path) -> dict[str, str]:
    """Return the thumbnail of a picture under the name that the web page knows, nothing for any other file."""
    uri = thumbnail_uri(path)
    return {} if uri is None else {"thumbnail": uri}


def _join(parts: Sequence[Path], work: Path) -> Path:
    arrays = [array for part in parts if len(array := np.load(part, mmap_mode="r", allow_pickle=False))]
    if not arrays:
        raise ConfigError("no file of the folder could be embedded; give a folder of files that this model reads")
    shape, first = (sum(len(array) for array in arrays), arrays[0].shape[1]), 0
    joined = np.lib.format.open_memmap(work / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    for array in arrays:
        joined[first : first + len(array)] = array
        first += len(array)
    joined.flush()
    lines = "".join(part.with_suffix(".jsonl").read_text(encoding="utf-8") for part in parts)
    (work / "vectors.jsonl").write_text(lines, encoding="utf-8")
    return work / "vectors.npy"
