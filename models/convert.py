"""Turn an official adapter file and a base LLaMA into one BindChat folder, a layer at a time.

Every file is written under a temporary name, moved into place and noted with its digest, so a conversion that was
stopped goes on where it was and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.errors import CheckpointError
from models.adapters.llama_adapter_v1 import uses_raw_gates
from models.adapters.merge import Find, adapter_gates, merge_linear
from models.adapters.options import AdapterOptions, ReleasedAdapter
from models.adapters.tuned_keys import TunedParts, require_tuned_keys
from models.bundle import CacheOptions
from models.checkpoints import file_sha256, read_checkpoint, read_json, require_same_keys, tensors_of
from models.clip_files import clip_visual_state
from models.conversion_journal import Journal, write_json, write_text
from models.folder import (
    ADAPTER_NAME,
    DECODER_PREFIX,
    GATES_KEY,
    INDEX_NAME,
    TEMPLATE_NAME,
    FolderManifest,
    SourceFile,
    from_json,
)
from models.llama.chat_template import ALPACA_TEMPLATE, BAIR_TEMPLATE
from models.llama.config import LlamaConfig
from models.llama.gguf import GgufFile
from models.llama.hf import HfSource, hf_config, read_hf_config
from models.llama.meta import MetaFolder, hf_name, meta_name
from models.llama.tokenizer_files import load_tokenizer
from models.llama.weights import (
    WeightSource,
    decoder_slots,
    half_split_rows,
    interleaved_rows,
    require_matching,
    rotary_heads,
)
from models.pull_receipt import pulled_licence
from models.registry import ADAPTERS
from models.released_encoders import CHECKS, EncoderFile, EncoderSizes

_LINEARS = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "generation_config.json")


@dataclass(frozen=True, slots=True)
class FamilyFile:
    """How one family's file is laid out: the prefix of its decoder keys, those of its own keys, its prompt format."""

    decoder_prefix: str
    own_prefixes: tuple[str, ...]
    template: str = ALPACA_TEMPLATE


FAMILIES = {
    "imagebind_llm": FamilyFile("llama.", ("image_bind_", "prefix_query.")),
    "llama_adapter_v2": FamilyFile("llama.", ("clip_proj", "visual_", "adapter_query.")),
    "llama_adapter_v1": FamilyFile("", ("adapter_query.",)),
    "llama_adapter_v2_chat": FamilyFile("", ("adapter_query.",), BAIR_TEMPLATE),
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is: `done` of `total` files, `stage` says what comes next."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionSizes:
    """What the files do not tell; the defaults are those of the released 7B models."""

    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    encoder: EncoderSizes = field(default_factory=EncoderSizes)
    cache: CacheOptions = field(default_factory=CacheOptions)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what of a JSON file differs from the defaults. Raises `CheckpointError` for an unknown entry."""
        try:
            return from_json(cls, read_json(path))
        except TypeError as error:
            raise CheckpointError(f"{path} has an unknown entry or a wrong value: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionPlan:
    """What to convert. `base` is a Hugging Face folder, a Meta folder or a GGUF file.

    `tokenizer` is a folder with tokenizer files, by default beside the base; `encoder` may be left out for a model
    that then takes text only; `knn_index` is the FAISS file of the model's visual cache. `licences` maps adapter,
    base, encoder and index to what the manifest records; a file that `pull` fetched brings its own.
    """

    family: str
    adapter: Path
    base: Path
    target: Path
    name: str
    encoder: Path | None = None
    tokenizer: Path | None = None
    knn_index: Path | None = None
    dtype: torch.dtype = torch.float16
    sizes: ConversionSizes = field(default_factory=ConversionSizes)
    licences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The opened and checked sources of one conversion."""

    state: Mapping[str, Tensor]
    source: WeightSource
    config: LlamaConfig
    base_config: LlamaConfig
    options: AdapterOptions
    prefix: str

    def find(self, key: str) -> Tensor | None:
        """Return a float32 tensor under its released name, the adapter's own before the base's."""
        if (tuned := self.state.get(self.prefix + key)) is not None:
            return tuned.float()
        slot_key = hf_name(key)
        if slot_key not in decoder_slots(self.base_config):
            return None
        weight = self.source.read(slot_key).float()
        heads = rotary_heads(slot_key, self.config.num_heads, self.config.num_kv_heads)
        return weight if heads is None else interleaved_rows(weight, heads)


def convert(plan: ConversionPlan, report: Callable[[Progress], None] = lambda progress: None) -> Path:
    """Write the folder `plan.target` and return it; a stopped conversion of the same plan is continued.

    `report` is called before each file. Raises `CheckpointError` naming file and key when a source is damaged, keys
    are missing or unexpected, the vocabularies differ, or the target holds something else.
    """
    parts = _open(plan)
    report(Progress("digests", 0, 1))
    sources = _source_files(plan)
    journal = Journal(plan.target, _fingerprint(plan, parts.options, sources))
    writers = dict(_writers(plan, parts))
    for done, (name, write) in enumerate(writers.items()):
        report(Progress(name, done, len(writers)))
        journal.write_once(name, write)
    manifest = FolderManifest(
        name=plan.name,
        family=plan.family,
        options=parts.options,
        encoder_file=_encoder_name(plan),
        sizes=plan.sizes.encoder,
        cache=plan.sizes.cache,
        sources=sources,
        files=journal.done,
    )
    manifest.write(plan.target)
    journal.path.unlink(missing_ok=True)
    report(Progress("finished", len(writers), len(writers)))
    return plan.target


def _open(plan: ConversionPlan) -> _Parts:
    if plan.family not in FAMILIES:
        raise CheckpointError(f"unknown adapter family {plan.family!r}; known: {', '.join(FAMILIES)}")
    family = FAMILIES[plan.family]
    prefix = family.decoder_prefix
    checkpoint = read_checkpoint(plan.adapter)
    state = tensors_of(plan.adapter, checkpoint.get("model", checkpoint))
    base_config, source = _open_base(plan.base)
    require_matching(decoder_slots(base_config), source, str(plan.base))
    raw_gates = plan.family == "llama_adapter_v1" and uses_raw_gates(checkpoint)
    options = replace(plan.sizes.adapter, num_decoder_layers=base_config.num_layers, raw_gates=raw_gates)
    known = {key for key in state if key.startswith((f"{prefix}layers.", f"{prefix}norm.", *family.own_prefixes))}
    require_same_keys(str(plan.adapter), known, state)
    adapter = ADAPTERS.load(plan.family).from_reference(state, options)
    config = _merged_config(base_config, adapter, TunedParts.of(state))
    require_tuned_keys(state, config, str(plan.adapter), prefix=prefix)
    _require_same_vocabulary(plan, config)
    _check_companions(plan, adapter)
    return _Parts(state=state, source=source, config=config, base_config=base_config, options=options, prefix=prefix)


def _open_base(base: Path) -> tuple[LlamaConfig, WeightSource]:
    if base.is_file():
        gguf = GgufFile(base)
        return gguf.config(), gguf
    if (base / "params.json").is_file():
        meta = MetaFolder(base)
        return meta.config(), meta
    return read_hf_config(base), HfSource(base)


def _merged_config(base: LlamaConfig, adapter: ReleasedAdapter, parts: TunedParts) -> LlamaConfig:
    adapted = adapter.adapted_layers(base.num_layers)
    tuned_bias = parts.biases or parts.scales
    return replace(
        base,
        attention_bias=base.attention_bias or tuned_bias,
        mlp_bias=base.mlp_bias or tuned_bias,
        adapted_layers=adapted,
        num_adapter_tokens=adapter.num_tokens,
        adapter_lora_rank=parts.lora_rank if adapted else 0,
    )


def _tokenizer_folder(plan: ConversionPlan) -> Path:
    """Return where the tokenizer files are: as told, beside the base, or one folder up as LLaMA 1 ships it."""
    home = plan.base.parent if plan.base.is_file() else plan.base
    candidates = [plan.tokenizer] if plan.tokenizer is not None else [home, home.parent]
    for folder in candidates:
        if any((folder / name).is_file() for name in _TOKENIZER_FILES[:2]):
            return folder
    looked = ", ".join(map(str, candidates))
    raise CheckpointError(f"no tokenizer.json or tokenizer.model in {looked}; name its folder")


def _require_same_vocabulary(plan: ConversionPlan, config: LlamaConfig) -> None:
    folder = _tokenizer_folder(plan)
    num_tokens = load_tokenizer(folder).vocab_size
    if num_tokens > config.vocab_size:
        raise CheckpointError(
            f"{folder} has {num_tokens} tokens but model.embed_tokens.weight of {plan.base} has {config.vocab_size} "
            "rows; use the tokenizer that came with the base"
        )


def _check_companions(plan: ConversionPlan, adapter: ReleasedAdapter) -> None:
    """Compare the encoder's keys and width with what the family takes, before anything is written."""
    for path in (plan.encoder, plan.knn_index):
        if path is not None and not path.is_file():
            raise CheckpointError(f"{path} is missing")
    if plan.knn_index is not None and adapter.embedding_width is None:
        raise CheckpointError(f"{plan.knn_index}: {plan.family} has no joint embedding for a visual cache to refine")
    if plan.encoder is None:
        return
    if plan.family not in CHECKS:
        raise CheckpointError(f"{plan.encoder}: {plan.family} takes no encoder; leave it out")
    CHECKS[plan.family](EncoderFile(plan.encoder, plan.sizes.encoder), torch.float32)
    given, taken = plan.sizes.encoder.imagebind.embedding_width, adapter.embedding_width
    if taken not in (None, given):
        sentence = f"{plan.adapter}: image_bind_proj.weight takes {taken} values; {plan.encoder} gives {given}"
        raise CheckpointError(sentence)


def _writers(plan: ConversionPlan, parts: _Parts) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Yield every file of the folder with the function that writes it, decoder shards first."""
    config, num_layers = parts.config, parts.config.num_layers
    names = [f"model-{i + 1:05d}-of-{num_layers + 1:05d}.safetensors" for i in range(num_layers + 1)]
    for layer, name in enumerate(names):
        yield name, partial(_write_shard, plan, parts, layer)
    yield "model.safetensors.index.json", lambda path: write_json(path, _index(config, names))
    yield "config.json", lambda path: write_json(path, hf_config(config))
    yield ADAPTER_NAME, lambda path: _save(path, _adapter_tensors(parts))
    tokenizer = _tokenizer_folder(plan)
    for name in _TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            yield name, partial(shutil.copyfile, tokenizer / name)
    yield TEMPLATE_NAME, lambda path: write_text(path, FAMILIES[plan.family].template)
    if (encoder_name := _encoder_name(plan)) is not None:
        yield encoder_name, partial(_write_encoder, plan)
    if plan.knn_index is not None:
        yield INDEX_NAME, partial(_link, plan.knn_index)


def _write_shard(plan: ConversionPlan, parts: _Parts, layer: int, path: Path) -> None:
    """Write one layer under Hugging Face names, or the embeddings, norm and head behind the last layer."""
    keys = [key for key in decoder_slots(parts.config) if _shard_of(parts.config, key) == layer]
    shard: dict[str, Tensor] = {}
    for stem in dict.fromkeys(key.rpartition(".")[0] for key in keys):  # one matrix in float32 at a time
        weight, bias = _merged(parts, meta_name(f"{stem}.weight").removesuffix(".weight"))
        shard[f"{stem}.weight"] = weight.to(plan.dtype).contiguous()
        if f"{stem}.bias" in keys:
            bias = weight.new_zeros(len(weight)) if bias is None else bias
            shard[f"{stem}.bias"] = bias.to(plan.dtype).contiguous()
    _save(path, shard)


def _merged(parts: _Parts, stem: str) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of one released module, such as `layers.3.attention.wq`, with the adapter merged in."""
    module, _, name = stem.rpartition(".")
    if name not in _LINEARS:
        weight = parts.find(f"{stem}.weight")
        assert weight is not None, stem
        return weight, None
    dense = merge_linear(parts.find, module, name)
    dense = dense.rotated(parts.config.head_width) if name in ("wq", "wk") else dense
    return dense.weight, dense.bias


def _shard_of(config: LlamaConfig, key: str) -> int:
    return int(key.split(".")[2]) if key.startswith("model.layers.") else config.num_layers


def _index(config: LlamaConfig, names: list[str]) -> dict[str, Any]:
    return {"metadata": {}, "weight_map": {key: names[_shard_of(config, key)] for key in decoder_slots(config)}}


def _adapter_tensors(parts: _Parts) -> dict[str, Tensor]:
    """Return the adapter's own tensors and what the decoder needs of it beside merged weights."""
    config, find, layers = parts.config, parts.find, f"{parts.prefix}layers."
    merged = (layers, f"{parts.prefix}norm.")
    kept = (key for key in parts.state if not key.startswith(merged) or key.endswith((".gate", ".new_gate")))
    own = {key: parts.state[key] for key in kept}
    if config.adapted_layers:
        own[GATES_KEY] = adapter_gates(find, config.adapted_layers, raw=parts.options.raw_gates)
    for layer in config.adapted_layers if config.adapter_lora_rank else ():
        down, up = _lora_factors(find, layer, config.num_kv_heads)
        own[f"{DECODER_PREFIX}layers.{layer}.attention.adapter_down"] = down
        own[f"{DECODER_PREFIX}layers.{layer}.attention.adapter_up"] = up
    return {key: value.contiguous() for key, value in own.items()}


def _lora_factors(find: Find, layer: int, num_kv_heads: int) -> tuple[Tensor, Tensor]:
    """Return the factors of wk and wv, `(2, r, D)` and `(2, Hkv Dh, r)`, rows in the half-split order."""
    names = [f"layers.{layer}.attention.lora_{part}_{half}.weight" for half in ("l1", "l2") for part in ("wk", "wv")]
    found = [find(name) for name in names]
    k_down, v_down, k_up, v_up = (tensor for tensor in found if tensor is not None)
    return torch.stack((k_down, v_down)), torch.stack((half_split_rows(k_up, num_kv_heads), v_up))


def _encoder_name(plan: ConversionPlan) -> str | None:
    if plan.encoder is None:
        return None
    return "encoder.safetensors" if plan.family == "llama_adapter_v2" else f"encoder{plan.encoder.suffix}"


def _write_encoder(plan: ConversionPlan, path: Path) -> None:
    """Take ImageBind's file as it is; of CLIP only the visual tower is kept."""
    assert plan.encoder is not None
    if plan.family == "llama_adapter_v2":
        return _save(path, clip_visual_state(plan.encoder))
    _link(plan.encoder, path)


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # another file system
        shutil.copyfile(source, path)


def _source_files(plan: ConversionPlan) -> tuple[SourceFile, ...]:
    found = [("adapter", plan.adapter)]
    if plan.base.is_file():
        found.append(("base", plan.base))
    else:
        patterns = ("*.safetensors", "consolidated.*.pth", "params.json", "config.json")
        found += [("base", path) for pattern in patterns for path in sorted(plan.base.glob(pattern))]
    companions = (("encoder", plan.encoder), ("index", plan.knn_index))
    found += [(role, path) for role, path in companions if path is not None]
    return tuple(
        SourceFile(
            role=role, name=path.name, sha256=file_sha256(path), licence=plan.licences.get(role) or pulled_licence(path)
        )
        for role, path in found
    )


def _fingerprint(plan: ConversionPlan, options: AdapterOptions, sources: tuple[SourceFile, ...]) -> str:
    """Return a digest of all that decides the output's bytes."""
    choice = [plan.family, plan.name, str(plan.dtype), asdict(plan.sizes), asdict(options)]
    return hashlib.sha256(json.dumps([choice, [asdict(s) for s in sources]], sort_keys=True).encode()).hexdigest()


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
