"""A BindChat model folder: what `bindchat convert` writes and what a server loads.

Beside a plain Hugging Face LLaMA with the adapter merged in: `adapter.safetensors` with the adapter's own tensors under
their released names and, behind `decoder.`, the effective gates and the kept low-rank factors; the encoder's file; the
tokenizer and its chat template; `bindchat.json`, written last, with family, options, sources and digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

import torch
from torch import Tensor, nn

from core.errors import CheckpointError
from models.adapters.options import AdapterOptions
from models.bundle import CacheOptions, ModelBundle
from models.checkpoints import file_sha256, read_checkpoint, read_json, require_same_keys
from models.conversion_journal import MANIFEST_NAME, write_json
from models.llama.config import LlamaConfig
from models.llama.hf import HfSource, read_hf_config
from models.llama.model import Llama
from models.llama.tokenizer_files import load_tokenizer
from models.llama.weights import load_llama, shape_of_llama
from models.registry import ADAPTERS
from models.released_encoders import LOADERS, EncoderFile, Encoders, EncoderSizes

ADAPTER_NAME, TEMPLATE_NAME, INDEX_NAME = "adapter.safetensors", "chat_template.jinja", "knn.index"
FORMAT_VERSION = 1
DECODER_PREFIX = "decoder."
GATES_KEY = f"{DECODER_PREFIX}gates"
SettingsT = TypeVar("SettingsT")


def from_json(kind: type[SettingsT], stored: Mapping[str, Any]) -> SettingsT:
    """Build a frozen dataclass and those inside it from parsed JSON. Raises `TypeError` for an unknown entry."""
    hints = get_type_hints(kind)
    return kind(**{name: _field_value(hints.get(name), value) for name, value in stored.items()})


def _field_value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return from_json(hint, value)
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file a conversion read: what it was for, its name, digest and licence."""

    role: str
    name: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderManifest:
    """The content of `bindchat.json`. `files` maps every other file of the folder to its sha256.

    `cache` is how the folder's `knn.index`, where it has one, refines embeddings.
    """

    name: str
    family: str
    options: AdapterOptions
    encoder_file: str | None = None
    sizes: EncoderSizes = field(default_factory=EncoderSizes)
    cache: CacheOptions = field(default_factory=CacheOptions)
    sources: tuple[SourceFile, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write the manifest of `folder`."""
        write_json(folder / MANIFEST_NAME, asdict(self))

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
            sources = tuple(SourceFile(**source) for source in stored.pop("sources"))
            return replace(from_json(cls, stored), sources=sources)
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


def load_folder(
    folder: Path | str, dtype: torch.dtype, *, with_decoder: bool = True, with_encoders: bool = True
) -> ModelBundle:
    """Load a converted model: decoder and encoders in `dtype`, the adapter in float32, and name its `knn.index`.

    Without its decoder the model has only the shape of one, and without encoders none; neither is read then. Digests
    are checked by `verify_folder`, not here. Raises `CheckpointError` naming file and key at fault.
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
    extras = {key: stored[key] for key in stored.keys() - own.keys()}
    config = _decoder_config(folder, adapter, extras)
    decoder = _load_decoder(folder, config, extras, dtype) if with_decoder else shape_of_llama(config, dtype)
    encoders: Encoders = {}
    if with_encoders and manifest.encoder_file is not None:
        encoders = LOADERS[manifest.family](EncoderFile(folder / manifest.encoder_file, manifest.sizes), dtype)
    template, index = folder / TEMPLATE_NAME, folder / INDEX_NAME
    return ModelBundle(
        name=manifest.name,
        decoder=decoder,
        tokenizer=load_tokenizer(folder, template.read_text(encoding="utf-8") if template.is_file() else None),
        adapter=adapter,
        encoders=encoders,
        sources={**manifest.files, **{source.name: source.sha256 for source in manifest.sources}},
        takes_image_tokens=adapter.takes_image_tokens,
        embedding_width=adapter.embedding_width,
        cache_index=index if index.is_file() else None,
        cache_options=manifest.cache,
        folder=folder,
    )


def _decoder_config(folder: Path, adapter: Any, extras: Mapping[str, Tensor]) -> LlamaConfig:
    config = read_hf_config(folder)
    factors = [value for key, value in extras.items() if key.endswith(".adapter_down")]
    return replace(
        config,
        adapted_layers=adapter.adapted_layers(config.num_layers),
        num_adapter_tokens=adapter.num_tokens,
        adapter_lora_rank=factors[0].shape[1] if factors else 0,
    )


def _load_decoder(folder: Path, config: LlamaConfig, extras: Mapping[str, Tensor], dtype: torch.dtype) -> Llama:
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
