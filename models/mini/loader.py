"""Load the default model: SmolLM2-135M-Instruct, EfficientNet-Lite2 and the adapter that training made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from core.errors import CheckpointError
from core.types import Modality
from models.adapters.imagebind_llm import BindNetworkConfig, ImageBindLLMAdapter
from models.bundle import CacheOptions, ModelBundle
from models.checkpoints import file_sha256, load_strictly
from models.llama.gguf import load_gguf_llama
from models.llama.tokenizer_files import load_gguf_tokenizer
from models.mini.assets import (
    ATTRIBUTE_CONDITION,
    CONDITIONED_TEMPLATE,
    GALLERY,
    KINDS,
    POINT_WEIGHTS,
    TOLD_WEIGHTS,
    WEIGHTS,
    WORDS,
    decoder_file,
    picture_network_file,
    text_network_file,
)
from models.mini.audio import MiniAudioEncoder
from models.mini.audio_files import AudioEncoderChoice, audio_sources, load_audio_encoder
from models.mini.encoder import IMAGE_SIZE, THUMBNAIL_SIZE, Eye, FeatureNetwork, MiniImageEncoder, NameHead
from models.mini.kinds import load_kinds
from models.mini.part_names import PartNames
from models.mini.points import MiniPointEncoder, load_point_encoder
from models.mini.relevance import MediaQuestions
from models.mini.text import MiniTextEncoder
from models.mini.told import load_told, load_words
from models.mini.verdicts import load_verdicts
from models.mini.video import MiniVideoEncoder

BRIDGE = BindNetworkConfig(embedding_width=384, width=576, hidden_width=2304, input_scale=20.0)
ADAPTER_PREFIX = "adapter."
THUMBNAIL_PREFIX = "thumbnail."  # what names thumbnails, beside the tensors of the same names for other pictures
# The gallery refines nothing unasked: on validation media it costs sounds a name in eighty and gives pictures little.
CACHE_OPTIONS = CacheOptions(top_k=10, inverse_temperature=20.0, blend=0.5, modalities=())
SPACE_ID = "minilm-l6-v2"  # all encoders of mini mix MiniLM's embeddings of names, so new weights keep old indexes
DOUBT_BELOW = 0.5  # calibrated confidence; below it an answer hedges


def load_mini(dtype: torch.dtype, *, audio_encoder: AudioEncoderChoice = "auto") -> ModelBundle:
    """Return the default model, its decoder in `dtype`; nothing is downloaded.

    `audio_encoder` is the own tower, YAMNet, or "auto": YAMNet where the extra `audio` is installed.
    Raises `CheckpointError` naming the file when a package or the trained weights are missing or damaged.
    """
    tensors, names = read_weights()
    decoder = load_gguf_llama(decoder_file(), dtype).requires_grad_(False)
    adapter = _adapter(tensors, decoder.config.num_layers, decoder.config.num_heads)
    decoder.set_adapters(tuple(range(decoder.config.num_layers)), adapter.effective_gates(), num_tokens=1)
    digest = file_sha256(WEIGHTS)
    encoder = picture_encoder(tensors, names, encoder_id=f"mini-{digest[:16]}")
    tokenizer = load_gguf_tokenizer(decoder_file())
    files: tuple[Path, ...] = (
        WEIGHTS,
        POINT_WEIGHTS,
        TOLD_WEIGHTS,
        ATTRIBUTE_CONDITION,
        WORDS,
        decoder_file(),
        picture_network_file(),
        text_network_file(),
    )
    files += audio_sources(audio_encoder)
    sources = {path.name: digest if path == WEIGHTS else file_sha256(path) for path in files}
    text_encoder = MiniTextEncoder(text_network_file(), f"mini-text-{sources[text_network_file().name][:16]}")
    naming: dict[Modality, MiniImageEncoder | MiniAudioEncoder | MiniPointEncoder] = {
        Modality.IMAGE: encoder,
        Modality.AUDIO: load_audio_encoder(audio_encoder),
        Modality.POINT_CLOUD: load_point_encoder(POINT_WEIGHTS),
    }
    return ModelBundle(
        name="mini",
        decoder=decoder,
        tokenizer=tokenizer,
        adapter=adapter,
        encoders={**naming, Modality.VIDEO: MiniVideoEncoder(encoder), Modality.TEXT: text_encoder},
        embedding_width=BRIDGE.embedding_width,
        cache_index=GALLERY if GALLERY.is_dir() else None,  # its recipe begins without one
        cache_options=CACHE_OPTIONS,
        space_id=SPACE_ID,
        conditioned_tokenizer=tokenizer.with_template(CONDITIONED_TEMPLATE),
        sources=sources,
        conditions_context=False,  # with the condition it names the picture and passes over what is written in it
        media_questions=MediaQuestions(tensors["relevance.weight"].numpy(), float(tensors["relevance.bias"])),
        verdicts=load_verdicts(tensors, lambda text: text_encoder.embed([text])[0], str(WEIGHTS)),
        part_names=_part_names({**naming, Modality.VIDEO: encoder}, adapter),
        attribute_condition=load_told(ATTRIBUTE_CONDITION, adapter),
    )


def load_picture_encoder() -> MiniImageEncoder:
    """Return the picture encoder alone. Raises `CheckpointError` naming the file that is missing or damaged."""
    tensors, names = read_weights()
    return picture_encoder(tensors, names, encoder_id=f"mini-{file_sha256(WEIGHTS)[:16]}")


def read_weights() -> tuple[dict[str, Tensor], list[str]]:
    """Return the trained tensors in float32 and the K names, ImageNet's first, in the order of their vectors."""
    try:
        with safe_open(WEIGHTS, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118 (not a mapping)
            names = json.loads((stored.metadata() or {}).get("names", "[]"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{WEIGHTS} is missing or damaged: {error}; restore it from the repository") from error
    if len(names) != len(tensors.get("names.vectors", ())):
        raise CheckpointError(f"{WEIGHTS} holds {len(names)} names for another number of vectors; restore the file")
    return tensors, names


def _part_names(
    naming: Mapping[Modality, MiniImageEncoder | MiniAudioEncoder | MiniPointEncoder], adapter: ImageBindLLMAdapter
) -> PartNames:
    banks = {modality: (encoder.names, encoder.name_vectors) for modality, encoder in naming.items()}
    return PartNames(banks, load_words(WORDS), load_told(TOLD_WEIGHTS, adapter), load_kinds(KINDS))


def _adapter(tensors: dict[str, Tensor], num_layers: int, num_heads: int) -> ImageBindLLMAdapter:
    adapter = ImageBindLLMAdapter(
        BRIDGE, num_layers=num_layers, num_heads=num_heads, doubt_below=DOUBT_BELOW, has_verdicts=True
    )
    state = {
        key.removeprefix(ADAPTER_PREFIX): value for key, value in tensors.items() if key.startswith(ADAPTER_PREFIX)
    }
    return load_strictly(adapter, state, str(WEIGHTS)).eval().requires_grad_(False)


def _linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    weight = tensors[f"{name}.weight"]
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    return load_strictly(layer, {"weight": weight, "bias": tensors[f"{name}.bias"]}, str(WEIGHTS))


def picture_encoder(tensors: dict[str, Tensor], names: list[str], encoder_id: str) -> MiniImageEncoder:
    """Return the picture encoder alone, of what `read_weights` returned."""
    network = FeatureNetwork(picture_network_file())
    eyes = {}
    for size, prefix in ((IMAGE_SIZE, ""), (THUMBNAIL_SIZE, THUMBNAIL_PREFIX)):
        extra, drawn = (_linear(tensors, f"{prefix}{name}") for name in ("head", "drawings"))
        head = NameHead(network.class_weights(), extra, tensors["names.vectors"], drawn)
        eyes[size] = Eye(head, *tensors[f"{prefix}confidence"].tolist())
    return MiniImageEncoder(network, eyes, names, encoder_id)
