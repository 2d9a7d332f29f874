"""What fine-tuning adds to a frozen LLaMA: biases, scales and low-rank factors of its maps, and its norms.

Names are those of released checkpoints, one set per matrix wq ... w3, although the decoder keeps q, k, v and gate, up
in one matrix each. A merged decoder serves what is trained here: `models.convert` reads `released_tensors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.adapters.tuned_keys import TunedParts
from models.llama.config import LlamaConfig
from models.llama.model import Block, Llama
from models.llama.weights import half_split_rows, interleaved_rows

_WITHOUT_BIAS = ("wk", "wv")


class TunedPart(nn.Module):
    """What one released matrix gains: `bias` `(out,)`, `scale` `(in,)`, `down` `(r, in)` and `up` `(out, r)`.

    All start where they change nothing: biases and `up` at zero, scales at one.
    """

    bias: nn.Parameter | None
    scale: nn.Parameter | None
    down: nn.Parameter | None
    up: nn.Parameter | None

    def __init__(self, outputs: int, inputs: int, parts: TunedParts, *, with_bias: bool) -> None:
        super().__init__()
        self.register_parameter("bias", nn.Parameter(torch.zeros(outputs)) if with_bias else None)
        self.register_parameter("scale", nn.Parameter(torch.ones(inputs)) if parts.scales else None)
        rank = parts.lora_rank
        self.register_parameter("down", nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5) if rank else None)
        self.register_parameter("up", nn.Parameter(torch.zeros(outputs, rank)) if rank else None)


class TunedLinear(nn.Module):
    """A frozen linear map, row range by row range, with the part that tunes it; adapter tokens skip the low rank."""

    def __init__(self, frozen: nn.Linear, parts: dict[str, TunedPart], sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.frozen, self.sizes = frozen, sizes
        self.parts = nn.ModuleDict(parts)
        self.uses_lora = True

    def forward(self, x: Tensor) -> Tensor:
        weights = self.frozen.weight.split_with_sizes(self.sizes)
        biases = [None] * len(weights) if self.frozen.bias is None else self.frozen.bias.split_with_sizes(self.sizes)
        outputs = []
        for weight, bias, module in zip(weights, biases, self.parts.values(), strict=True):
            part = cast(TunedPart, module)
            out = F.linear(x if part.scale is None else x * part.scale.to(x.dtype), weight, bias)
            if part.bias is not None:
                out = out + part.bias.to(out.dtype)
            if part.down is not None and part.up is not None and self.uses_lora:
                out = out + F.linear(F.linear(x, part.down.to(x.dtype)), part.up.to(x.dtype))
            outputs.append(out)
        return torch.cat(outputs, dim=-1)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a group of released matrices lies in a block."""

    module: str
    attribute: str
    names: tuple[str, ...]


_PLACES = (
    _Place("attention", "wqkv", ("wq", "wk", "wv")),
    _Place("attention", "wo", ("wo",)),
    _Place("feed_forward", "w13", ("w1", "w3")),
    _Place("feed_forward", "w2", ("w2",)),
)


def tune(decoder: Llama, parts: TunedParts) -> dict[str, nn.Parameter]:
    """Freeze the decoder, add `parts` to it in place, and return what is trainable by its released name.

    `parts.gates` belong to the adapter and are left to it. Names carry no `llama.` prefix. The device and, for meta
    tensors, the lack of storage follow the decoder's.
    """
    decoder.requires_grad_(False)
    trained: dict[str, nn.Parameter] = {}
    for layer, module in enumerate(decoder.layers):
        block = cast(Block, module)
        if parts.biases or parts.scales or parts.lora_rank:
            for place in _PLACES:
                trained |= _tune_place(block, place, parts, decoder.config, f"layers.{layer}.{place.module}")
        if parts.norms:
            for name in ("attention_norm", "ffn_norm"):
                trained[f"layers.{layer}.{name}.weight"] = _thawed(getattr(block, name))
    if parts.norms:
        trained["norm.weight"] = _thawed(decoder.norm)
    return trained


def _thawed(norm: nn.Module) -> nn.Parameter:
    """Give a norm a float32 weight that trains."""
    weight = nn.Parameter(cast(Tensor, norm.weight).detach().float())
    norm.weight = weight
    return weight


def _tune_place(
    block: Block, place: _Place, parts: TunedParts, config: LlamaConfig, prefix: str
) -> dict[str, nn.Parameter]:
    owner = getattr(block, place.module)
    frozen: nn.Linear = getattr(owner, place.attribute)
    query, kv, hidden = config.query_width, config.kv_width, config.hidden_width
    sizes = {"wqkv": (query, kv, kv), "w13": (hidden, hidden)}.get(place.attribute, (frozen.out_features,))
    tuned: dict[str, TunedPart] = {}
    trained: dict[str, nn.Parameter] = {}
    for name, outputs in zip(place.names, sizes, strict=True):
        with_bias = parts.scales or (parts.biases and name not in _WITHOUT_BIAS)
        with frozen.weight.device:
            part = TunedPart(outputs, frozen.in_features, parts, with_bias=with_bias)
        tuned[name] = part
        bias_name = f"{name}_bias" if parts.scales else f"{name}.bias"
        released = {
            "bias": bias_name,
            "scale": f"{name}_scale",
            "down": f"lora_{name}_l1.weight",
            "up": f"lora_{name}_l2.weight",
        }
        trained |= {f"{prefix}.{released[key]}": value for key, value in part.named_parameters()}
    setattr(owner, place.attribute, TunedLinear(frozen, tuned, sizes))
    return trained


@contextmanager
def without_lora(decoder: Llama) -> Iterator[None]:
    """Project adapter tokens inside: their keys and values take the plain matrices, as the references do."""
    linears = [module for module in decoder.modules() if isinstance(module, TunedLinear)]
    for linear in linears:
        linear.uses_lora = False
    try:
        yield
    finally:
        for linear in linears:
            linear.uses_lora = True


def released_tensors(trained: Mapping[str, Tensor], config: LlamaConfig) -> dict[str, Tensor]:
    """Return trained decoder tensors as released: rows of wq and wk in the interleaved rotary order, float32."""
    return {
        key: interleaved_rows(value.detach().float().cpu(), heads)
        if (heads := _turned_heads(key, config))
        else value.detach().float().cpu()
        for key, value in trained.items()
    }


def load_released_tensors(trained: Mapping[str, Tensor], stored: Mapping[str, Tensor], config: LlamaConfig) -> None:
    """Copy `released_tensors` back into the parameters of the same names."""
    with torch.no_grad():
        for key, parameter in trained.items():
            heads = _turned_heads(key, config)
            parameter.copy_(half_split_rows(stored[key], heads) if heads else stored[key])


def _turned_heads(key: str, config: LlamaConfig) -> int:
    """Return the heads whose rows rotary positions turn in a tensor of this name; 0 where rows stay as they are."""
    name = key.rpartition(".attention.")[2].removeprefix("lora_")[:2]
    if key.endswith(("_scale", "_l1.weight")):
        return 0
    return {"wq": config.num_heads, "wk": config.num_kv_heads}.get(name, 0)
