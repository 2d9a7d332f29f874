"""The unlike things that the media of a request add up to: what an answer about all of them should name."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from core.types import Embedding, FloatArray, MediaBlob, Modality, Scene
from models.mini.part_names import Part

NAMED_FROM = 0.4  # of the heaviest weight: what weighs less colours the sum and is no part of it
TOO_ALIKE = 0.6  # cosine: a picture and a sound of dogs are one thing
_NAME = re.compile(r"[^\W_]+(?:[ '’-][^\W_]+){0,4}")  # a text that is a name already
_MAX_NAME_CHARS = 40


def parts_of(media: Sequence[MediaBlob], rows: Sequence[Embedding]) -> tuple[Part, ...]:
    """Return the unlike parts of a sum, in the order of the media; none where the media show one thing.

    A film counts once for each subject of its scenes, weighed by how long it is shown. What weighs less than
    `NAMED_FROM` of the heaviest part, or is like a heavier one, is no part. A sum that subtracts has one part, which
    is what remains.
    """
    if any(blob.weight < 0 for blob in media):
        return (_remaining(media, rows),)
    things = [thing for place, pair in enumerate(zip(media, rows, strict=True)) for thing in _things(place, *pair)]
    if len(things) < 2:
        return ()
    by_weight = sorted(range(len(things)), key=lambda i: -things[i].weight)
    kept: list[int] = []
    for i in by_weight:
        is_heavy = things[i].weight >= NAMED_FROM * things[by_weight[0]].weight
        if is_heavy and all(not _alike(things[i].vector, things[other].vector) for other in kept):
            kept.append(i)
    return tuple(things[i] for i in sorted(kept)) if len(kept) > 1 else ()


def _remaining(media: Sequence[MediaBlob], rows: Sequence[Embedding]) -> Part:
    """Return the whole sum as one part, not to be called what was taken away; nor, among texts alone, what was added.

    So "king" - "man" + "woman" is not a woman, while a picture of a dog less "dog" and "cat" more may be a cat.
    """
    total: FloatArray = np.sum(
        [blob.weight * _unit(row) for blob, row in zip(media, rows, strict=True)], axis=0
    )  # (E,)
    heaviest = max(media, key=lambda blob: blob.weight)
    is_text = all(blob.modality is Modality.TEXT for blob in media)
    without = [_own_name(blob).lower() for blob in media if is_text or blob.weight < 0]
    return Part(
        medium=None,
        modality=Modality.TEXT if is_text else heaviest.modality,
        vector=total / max(float(np.linalg.norm(total)), 1e-12),
        weight=sum(blob.weight for blob in media),
        confidence=None,
        without=tuple(filter(None, without)),
    )


def _unit(row: Embedding) -> FloatArray:
    unit: FloatArray = row.vector / max(float(np.linalg.norm(row.vector)), 1e-12)
    return unit


def _things(place: int, blob: MediaBlob, row: Embedding) -> list[Part]:
    subjects = _subjects(row.scenes)
    if len(subjects) < 2:
        name = _own_name(blob)
        return [Part(medium=place, modality=blob.modality, vector=_unit(row), weight=blob.weight,
                     confidence=row.confidence, name=name)]  # fmt: skip
    longest_s = max(length_s for _, _, length_s in subjects)
    return [
        Part(
            medium=place,
            modality=blob.modality,
            vector=vector,
            weight=blob.weight * length_s / longest_s,
            confidence=scene.confidence,
            name=scene.name,
        )
        for scene, vector, length_s in subjects
    ]


def _subjects(scenes: Sequence[Scene]) -> list[tuple[Scene, FloatArray, float]]:
    """Return the longest scene of each subject of a film, its vector, and how long the subject is shown, in seconds."""
    found: list[tuple[Scene, FloatArray, float]] = []
    for scene in sorted(scenes, key=lambda scene: scene.start_s - scene.end_s):
        if scene.vector is None:
            continue
        length_s = scene.end_s - scene.start_s
        for place, (first, vector, total_s) in enumerate(found):
            if _alike(scene.vector, vector):
                found[place] = (first, vector, total_s + length_s)
                break
        else:
            found.append((scene, scene.vector, length_s))
    return sorted(found, key=lambda subject: subject[0].start_s)


def _alike(one: FloatArray, other: FloatArray) -> bool:
    return float(one @ other) > TOO_ALIKE


def _own_name(blob: MediaBlob) -> str:
    """Return a short text as its own name, nothing for any other medium."""
    if blob.modality is not Modality.TEXT or len(blob.data) > 4 * _MAX_NAME_CHARS:
        return ""
    text = blob.data.decode(errors="replace").strip()
    return text if len(text) <= _MAX_NAME_CHARS and _NAME.fullmatch(text) else ""
