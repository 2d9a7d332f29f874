"""ImageBind-LLM (section 3.2): a bind network turns a joint embedding into one adapter token per adapted layer.

Letters in shapes: B batch, E embedding, D decoder width, L adapted layers, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import CheckpointError, InvalidRequest
from core.types import AdapterPrompt, Condition, FloatArray
from models.adapters.options import AdapterOptions, last_layers
from models.checkpoints import load_strictly
from models.combining import Combined

_RELEASED = AdapterOptions()
_GATE_PREFIX, _GATE_SUFFIX = "llama.layers.", ".attention.gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class BindNetworkConfig:
    """The widths of one bind network; `legacy` is the first released form, LayerNorm and biases.

    `input_scale` multiplies the unit embedding before the first matrix; the released checkpoints use 1.
    """

    embedding_width: int
    width: int
    hidden_width: int
    num_blocks: int = 3
    legacy: bool = False
    input_scale: float = 1.0


class GatedBlock(nn.Module):
    """Residual SwiGLU: `x + f2(silu(f1 n) * f3 n)` with `n = norm(x)`."""

    def __init__(self, width: int, hidden_width: int, *, legacy: bool) -> None:
        super().__init__()
        self.norm: nn.Module = nn.LayerNorm(width, eps=1e-5) if legacy else nn.RMSNorm(width, eps=1e-6)
        self.f1 = nn.Linear(width, hidden_width, bias=legacy)
        self.f2 = nn.Linear(hidden_width, width, bias=legacy)
        self.f3 = nn.Linear(width, hidden_width, bias=legacy)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        return x + self.f2(F.silu(self.f1(n)) * self.f3(n))  # type: ignore[no-any-return]


class BindNetwork(nn.Module):
    """Map joint embeddings `(B, E)` to decoder width `(B, D)`: ImageBind-LLM, equations 1 to 3."""

    def __init__(self, config: BindNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.proj = nn.Linear(config.embedding_width, config.width)
        self.blocks = nn.ModuleList(
            GatedBlock(config.width, config.hidden_width, legacy=config.legacy) for _ in range(config.num_blocks)
        )

    def forward(self, vectors: Tensor) -> Tensor:
        x = self.proj(vectors * self.config.input_scale)
        for block in self.blocks:
            x = block(x)
        return x  # type: ignore[no-any-return]


class ImageBindLLMAdapter(nn.Module):
    """One adapter token per adapted layer: the bind network's output plus the layer's own prefix.

    `prefix_query` is `(L, D)`; `gates` `(L, H)` are raw, the decoder wants `effective_gates()`. With `doubt_below`, an
    addition to the published form, the learnt `doubt` `(E,)` joins every embedding whose confidence is below it.
    With `has_verdicts`, another addition, one of the learnt `verdicts` `(2, L, D)`, no and yes, joins the tokens of a
    reply to a question that was judged.
    """

    takes_image_tokens = False
    num_tokens = 1

    def __init__(
        self,
        config: BindNetworkConfig,
        *,
        num_layers: int,
        num_heads: int,
        doubt_below: float | None = None,
        has_verdicts: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.doubt_below = doubt_below
        self.doubt = None if doubt_below is None else nn.Parameter(torch.zeros(config.embedding_width))
        self.verdicts = nn.Parameter(torch.zeros(2, num_layers, config.width)) if has_verdicts else None
        self.bind = BindNetwork(config)
        self._bind_together = Combined[Tensor, Tensor](lambda rows: self.bind(torch.cat([*rows])).split(1))
        self.prefix_query = nn.Parameter(torch.randn(num_layers, config.width) * 0.02)
        self.gates = nn.Parameter(torch.zeros(num_layers, num_heads))

    @property
    def embedding_width(self) -> int:
        return self.config.embedding_width

    def adapted_layers(self, num_decoder_layers: int) -> tuple[int, ...]:
        """Return the indices of the last L decoder layers."""
        return last_layers(len(self.prefix_query), num_decoder_layers)

    def effective_gates(self) -> Tensor:
        """Return the gates `(L, H)` after tanh, as `Llama.adapter_gates` holds them."""
        return self.gates.tanh()

    def prompts(self, vectors: Tensor, doubtful: Tensor | None = None, verdicts: Sequence[bool | None] = ()) -> Tensor:
        """Return the adapter tokens `(B, L, 1, D)` of fused embeddings `(B, E)`; differentiable.

        `doubtful` `(B,)` marks the rows that the answer should hedge about; `verdicts` are those of the B rows, None
        where nothing was judged.
        """
        if doubtful is not None and self.doubt is not None:
            vectors = vectors + doubtful[:, None].to(vectors) * self.doubt
        tokens = self._bound(vectors)[:, None, :] + self.prefix_query  # (B, L, D)
        if self.verdicts is not None and any(verdict is not None for verdict in verdicts):
            told = torch.tensor([[verdict is False, verdict is True] for verdict in verdicts])  # (B, 2)
            tokens = tokens + torch.einsum("bk,kld->bld", told.to(self.verdicts), self.verdicts)
        return tokens[:, :, None, :]

    def _bound(self, vectors: Tensor) -> Tensor:
        """Return the bind network's output `(B, D)`, computed with other threads' rows while nothing is trained."""
        is_alone = torch.is_grad_enabled() or len(vectors) != 1
        bound: Tensor = self.bind(vectors) if is_alone else self._bind_together(vectors)
        return bound

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        """Return the condition of one fused embedding `(E,)`, or None for text alone.

        A confidence below `doubt_below` adds the doubt, and `agrees` the verdict of yes or no, if this adapter was
        trained with them.
        Raises `InvalidRequest` when E is not the bind network's.
        """
        if vector is None:
            return None
        if vector.shape != (self.embedding_width,):
            raise InvalidRequest(
                f"the embedding has shape {vector.shape}; this adapter takes ({self.embedding_width},): "
                "use the encoder the adapter was trained with"
            )
        with torch.inference_mode():
            tensor = torch.tensor(vector).to(self.prefix_query)
            prompts = self.prompts(tensor[None], self._doubtful(confidence), (agrees,))[0]  # (L, 1, D)
        return AdapterPrompt(prompts=prompts.float().cpu().numpy())

    def _doubtful(self, confidence: float | None) -> Tensor | None:
        """Mark the one row as doubtful, or return None; without a confidence nothing is doubted."""
        if self.doubt_below is None or confidence is None or confidence >= self.doubt_below:
            return None
        return torch.ones(1, dtype=torch.bool)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], options: AdapterOptions = _RELEASED) -> Self:
        """Build the adapter from a released `state_dict`; every width is read from the shapes.

        Keys of the decoder other than its gates are left to the merging code. Raises `CheckpointError` that names
        a missing or unexpected key.
        """
        own = {key: state[key] for key in state if key.startswith(("image_bind_", "prefix_query."))}
        gates = [key for key in state if key.startswith(_GATE_PREFIX) and key.endswith(_GATE_SUFFIX)]
        for key in ("image_bind_proj.weight", "image_bind_f1_1.weight", "prefix_query.weight"):
            if key not in own:
                raise CheckpointError(f"not an ImageBind-LLM checkpoint: key {key!r} is missing")
        num_layers, width = own["prefix_query.weight"].shape
        by_layer = {int(key[len(_GATE_PREFIX) : -len(_GATE_SUFFIX)]): state[key] for key in gates}
        if len(by_layer) < num_layers:
            raise CheckpointError(
                f"prefix_query has {num_layers} layers but the checkpoint has {len(by_layer)} gates; one is needed each"
            )
        adapted = sorted(by_layer)[-num_layers:]
        gate_rows = torch.stack([by_layer[layer].flatten() for layer in adapted])  # (L, H)
        config = BindNetworkConfig(
            embedding_width=own["image_bind_proj.weight"].shape[1],
            width=width,
            hidden_width=own["image_bind_f1_1.weight"].shape[0],
            num_blocks=sum(key.startswith("image_bind_f1_") and key.endswith(".weight") for key in own),
            legacy="image_bind_norm_1.bias" in own,
            input_scale=options.input_scale,
        )
        with torch.device("meta"):
            adapter = cls(config, num_layers=num_layers, num_heads=gate_rows.shape[1])
        renamed = {_own_name(key): value for key, value in own.items()} | {"gates": gate_rows}
        return load_strictly(adapter, renamed, "the ImageBind-LLM checkpoint")

    def to_reference(self, num_decoder_layers: int) -> dict[str, Tensor]:
        """Return the same weights under the released key names; layers without a condition get zero gates."""
        state = {_reference_name(key): value for key, value in self.state_dict().items() if key != "gates"}
        num_layers, num_heads = self.gates.shape
        first = num_decoder_layers - num_layers
        for layer in range(num_decoder_layers):
            gate = self.gates.new_zeros(num_heads) if layer < first else self.gates[layer - first].detach()
            state[f"{_GATE_PREFIX}{layer}{_GATE_SUFFIX}"] = gate.view(1, num_heads, 1, 1)
        return state


def _own_name(reference_key: str) -> str:
    """Map `image_bind_f1_2.weight` to `bind.blocks.1.f1.weight`; the reference counts blocks from 1."""
    if reference_key == "prefix_query.weight":
        return "prefix_query"
    stem, _, leaf = reference_key.removeprefix("image_bind_").partition(".")
    name, _, number = stem.partition("_")
    if not number.isdigit():
        return f"bind.{stem}.{leaf}"
    return f"bind.blocks.{int(number) - 1}.{name}.{leaf}"


def _reference_name(own_key: str) -> str:
    """Invert `_own_name`."""
    if own_key == "prefix_query":
        return "prefix_query.weight"
    parts = own_key.removeprefix("bind.").split(".")
    if parts[0] != "blocks":
        return f"image_bind_{'.'.join(parts)}"
    return f"image_bind_{parts[2]}_{int(parts[1]) + 1}.{parts[3]}"
