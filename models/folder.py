"""A BindChat model folder: what `bindchat convert` writes and what a server loads.

Beside a plain Hugging Face LLaMA with the adapter merged in: `adapter.safetensors` with the adapter's own tensors under
their released names and, behind `decoder.`, the effective gates and the kept low-rank factors; the encoder's file; the
tokenizer and its chat template; `bindchat.json`, written last, with family, options, sources and digests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from core.errors import CheckpointError
from core.types import Modality, ModalityEncoder
from models.adapters.options import AdapterOptions
from models.bundle import ModelBundle
from models.checkpoints import file_sha256, read_json, require_same_keys
from models.llama.hf import HfSource, read_hf_config
from models.llama.model import Llama
from models.llama.tokenizer_files import load_tokenizer
from models.llama.weights import load_llama
from models.registry import ADAPTERS
from models.state import read_checkpoint

MANIFEST_NAME, ADAPTER_NAME, TEMPLATE_NAME = "bindchat.json", "adapter.safetensors", "chat_template.jinja"
FORMAT_VERSION = 1
DECODER_PREFIX = "decoder."
GATES_KEY = f"{DECODER_PREFIX}gates"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file a conversion read: what it was for, its name, digest and licence."""

    role: str
    name: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderManifest:
    """The content of `bindchat.json`. `files` maps every other file of the folder to its sha256."""

    name: str
    family: str
    options: AdapterOptions
    encoder_file: str | None = None
    encoder_heads: int = 16
    sources: tuple[SourceFile, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write the manifest of `folder`."""
        (folder / MANIFEST_NAME).write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of `folder`. Raises `CheckpointError` when it is missing, newer or damaged."""
        path = folder / MANIFEST_NAME
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: this is no BindChat folder, or its conversion has not finished")
        stored = read_json(path)
        if stored.get("format_version") != FORMAT_VERSION:
            found = stored.get("format_version")
            raise CheckpointError(f"{path} has format {found}; this version reads {FORMAT_VERSION}: convert again")
        try:
            options = AdapterOptions(**stored.pop("options"))
            sources = tuple(SourceFile(**source) for source in stored.pop("sources"))
            return cls(options=options, sources=sources, **stored)
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path} lacks an entry or has an unknown one: {error}") from error


def verify_folder(folder: Path) -> list[str]:
    """Return one sentence for each file of the folder that is missing or differs from its recorded digest."""
    faults = []
    for name, digest in FolderManifest.read(folder).files.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path} is missing")
        elif file_sha256(path) != digest:
            faults.append(f"{path} differs from the digest recorded at conversion")
    return faults


def load_folder(folder: Path | str, dtype: torch.dtype) -> ModelBundle:
    """Load a converted model: decoder and encoders in `dtype`, the adapter in float32.

    Digests are checked by `verify_folder`, not here. Raises `CheckpointError` naming file and key at fault.
    """
    folder = Path(folder)
    manifest = FolderManifest.read(folder)
    for name in manifest.files:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing; convert again")
    stored = {key: value.float() for key, value in read_checkpoint(folder / ADAPTER_NAME).items()}
    own = {key: value for key, value in stored.items() if not key.startswith(DECODER_PREFIX)}
    adapter = ADAPTERS.load(manifest.family).from_reference(own, manifest.options)
    if isinstance(adapter, nn.Module):
        adapter.eval().requires_grad_(False)
    decoder = _load_decoder(folder, adapter, {key: stored[key] for key in stored.keys() - own.keys()}, dtype)
    template = folder / TEMPLATE_NAME
    return ModelBundle(
        name=manifest.name,
        decoder=decoder,
        tokenizer=load_tokenizer(folder, template.read_text(encoding="utf-8") if template.is_file() else None),
        adapter=adapter,
        encoders=_load_encoders(folder, manifest, dtype),
        sources={**manifest.files, **{source.name: source.sha256 for source in manifest.sources}},
    )


def _load_decoder(folder: Path, adapter: Any, extras: Mapping[str, Tensor], dtype: torch.dtype) -> Llama:
    config = read_hf_config(folder)
    factors = [value for key, value in extras.items() if key.endswith(".adapter_down")]
    config = replace(
        config,
        adapted_layers=adapter.adapted_layers(config.num_layers),
        num_adapter_tokens=adapter.num_tokens,
        adapter_lora_rank=factors[0].shape[1] if factors else 0,
    )
    decoder = load_llama(config, HfSource(folder), dtype, where=str(folder))
    kept = {f"{DECODER_PREFIX}{name}": buffer for name, buffer in decoder.named_buffers() if ".adapter_" in name}
    if config.adapted_layers:
        kept[GATES_KEY] = decoder.adapter_gates
    require_same_keys(str(folder / ADAPTER_NAME), kept, extras)
    for key, buffer in kept.items():
        if buffer.shape != extras[key].shape:
            found, wanted = tuple(extras[key].shape), tuple(buffer.shape)
            raise CheckpointError(f"{folder / ADAPTER_NAME}: {key} has shape {found}; the decoder takes {wanted}")
        buffer.copy_(extras[key])
    return decoder


def _load_encoders(folder: Path, manifest: FolderManifest, dtype: torch.dtype) -> Mapping[Modality, ModalityEncoder]:
    if manifest.encoder_file is None:
        return {}
    load = _ENCODER_LOADERS[manifest.family]
    return load(folder / manifest.encoder_file, manifest, dtype)


def _imagebind(path: Path, manifest: FolderManifest, dtype: torch.dtype) -> Mapping[Modality, ModalityEncoder]:
    """Load `imagebind_huge`, or `imagebind_w3D` whose extra point tower is told by its keys."""
    from models.imagebind.checkpoint import load_imagebind
    from models.imagebind.config import ImageBindConfig
    from models.imagebind.encoders import imagebind_encoders
    from models.pointbind.encoder import load_point_encoder
    from models.pointbind.pointbert import PointBertConfig, PointTrunk

    if not any(key.startswith("point_trunk.") for key in read_checkpoint(path)):
        return _as_protocol(imagebind_encoders(load_imagebind(path, dtype), "imagebind"))
    point = PointBertConfig()
    config = ImageBindConfig(point_width=point.projection_width)
    model = load_imagebind(path, dtype, config, lambda: PointTrunk(point))
    encoders = _as_protocol(imagebind_encoders(model, "imagebind"))
    return {**encoders, Modality.POINT_CLOUD: load_point_encoder(path, "pointbert")}


def _as_protocol(encoders: Mapping[Modality, Any]) -> dict[Modality, ModalityEncoder]:
    """The encoders are frozen, which the protocol's plain attributes do not say."""
    return dict(encoders)


def _clip(path: Path, manifest: FolderManifest, dtype: torch.dtype) -> Mapping[Modality, ModalityEncoder]:
    from models.clip import ClipVisionEncoder, ClipVisualTower

    tower = ClipVisualTower.from_reference(read_checkpoint(path), num_heads=manifest.encoder_heads)
    return {Modality.IMAGE: ClipVisionEncoder(tower.to(dtype).requires_grad_(False))}


_EncoderLoader = Callable[[Path, FolderManifest, torch.dtype], Mapping[Modality, ModalityEncoder]]
_ENCODER_LOADERS: dict[str, _EncoderLoader] = {"imagebind_llm": _imagebind, "llama_adapter_v2": _clip}
