"""Retrieval in the joint space: which media a caption or a name finds, which captions a medium finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InvalidRequest
from core.types import AnyArray, FloatArray
from server.evaluation.data_sets import KIND_NAMES, captioned_media, kind_of, labelled_media

KINDS = ("text", *KIND_NAMES)
RANKS = (1, 5, 10)
CAPTION_NAMES = ("captions.json", "captions.tsv", "metadata.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing to embed: a text or a file, and the label that it shares with what it should find."""

    kind: str
    item: str | Path
    label: str

    @property
    def input(self) -> str | tuple[str, Path]:
        return self.item if isinstance(self.item, str) else (self.kind, self.item)


def read_entries(folder: Path, kinds: Sequence[str]) -> list[Entry]:
    """Return media and their texts: captions where the folder has a caption file, else the names of its classes.

    A name is embedded once; a medium may have several captions. Only entries of `kinds` are returned.
    """
    return [entry for entry in _all_entries(folder) if entry.kind in kinds]


def parse_kinds(text: str) -> list[str]:
    """Return `text,image` as a list. Raises `InvalidRequest` for another kind and for fewer than two."""
    kinds = [kind.strip() for kind in text.split(",")]
    if not {*kinds} <= {*KINDS} or len({*kinds}) < 2:
        raise InvalidRequest(f"--kinds takes two or more of {', '.join(KINDS)}, separated by commas, got {text!r}")
    return kinds


def _all_entries(folder: Path) -> list[Entry]:
    if any((folder / name).is_file() for name in CAPTION_NAMES):
        captions = sorted(captioned_media(folder).items())
        media = [Entry(kind=kind_of(path) or "image", item=path, label=str(path)) for path, _ in captions]
        return [*media, *(Entry(kind="text", item=text, label=str(path)) for path, texts in captions for text in texts)]
    found = labelled_media(folder)
    media = [Entry(kind=kind, item=path, label=label) for path, kind, label in found]
    return [*media, *(Entry(kind="text", item=name, label=name) for name in sorted({label for _, _, label in found}))]


def score(entries: Sequence[Entry], rows: Sequence[Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Return the numbers of each direction, as "text to image"; `rows` `(N, E)` belong to `entries`.

    Media of one kind are not searched with each other; media of two kinds are when they share labels.
    """
    vectors = np.asarray(rows, np.float32)  # (N, E)
    kinds = np.asarray([entry.kind for entry in entries])
    labels = np.asarray([entry.label for entry in entries])
    found = {}
    for source, target in permutations(sorted(set(kinds.tolist())), 2):
        asks, answers = kinds == source, kinds == target
        relevant = labels[asks][:, None] == labels[answers][None]  # (Q, C)
        has_any = relevant.any(axis=1)
        if has_any.any():
            similarities = vectors[asks] @ vectors[answers].T  # (Q, C)
            found[f"{source} to {target}"] = ranking_numbers(similarities[has_any], relevant[has_any])
    return found


def ranking_numbers(similarities: FloatArray, relevant: AnyArray) -> dict[str, Any]:
    """Return recall at 1, 5 and 10, median rank, and the means of reciprocal rank and average precision.

    `similarities` and `relevant` are `(Q, C)`; recall counts queries with a relevant candidate among the first ones.
    Of equal similarities the relevant one comes last, so that an encoder that sees no difference earns nothing.
    """
    order = np.lexsort((relevant, -similarities), axis=-1)  # (Q, C), the nearest first
    hits = np.take_along_axis(relevant, order, axis=1)  # (Q, C)
    first = hits.argmax(axis=1) + 1  # (Q,)
    places = np.arange(1, hits.shape[1] + 1)
    precision = hits.cumsum(axis=1) / places  # (Q, C)
    average_precision = (precision * hits).sum(axis=1) / hits.sum(axis=1)  # (Q,)
    recalls = {f"recall_at_{k}": round(float((first <= k).mean()), 5) for k in RANKS}
    return {
        "queries": len(hits),
        "candidates": hits.shape[1],
        **recalls,
        "median_rank": float(np.median(first)),
        "mean_reciprocal_rank": round(float((1 / first).mean()), 5),
        "mean_average_precision": round(float(average_precision.mean()), 5),
    }
