"""A compact LLaMA decoder whose attention takes a condition.

Tokens come in any leading shape: dense `(B, T)` for training and scoring, flat `(N,)` for a continuous batch. What a
token may attend to is the business of the `AttentionContext` that is passed in, so the same layers serve both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import InvalidRequest
from models.llama.condition import ConditionTable, ConditionView
from models.llama.config import LlamaConfig
from models.llama.rope import inverse_frequencies, rotary_tables, rotate


class AttentionContext(Protocol):
    """What one forward pass may look at; keeps keys and values where it wants."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the attention output `(*N, H, Dh)` of `q` `(*N, H, Dh)` given new `k`, `v` `(*N, Hkv, Dh)`."""
        ...


class DenseCausalAttention:
    """Causal attention over `(B, T)` rows without a cache; padding belongs on the right, where nothing looks at it."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        num_groups = q.shape[2] // k.shape[2]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, Dh)
        if num_groups > 1:
            k, v = (x.repeat_interleave(num_groups, dim=1) for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)  # (B, T, H, Dh)


class Attention(nn.Module):
    """Rotary grouped-query attention with the condition term before the output projection."""

    adapter_down: Tensor
    adapter_up: Tensor

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_width = config.head_width
        self.widths = (config.query_width, config.kv_width, config.kv_width)
        self.wqkv = nn.Linear(config.width, sum(self.widths), bias=config.attention_bias)
        self.wo = nn.Linear(config.query_width, config.width, bias=config.attention_bias)
        self.keeps_lora = config.adapter_lora_rank > 0 and layer in config.adapted_layers
        if self.keeps_lora:
            rank = config.adapter_lora_rank
            self.register_buffer("adapter_down", torch.zeros(2, rank, config.width))
            self.register_buffer("adapter_up", torch.zeros(2, config.kv_width, rank))

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], context: AttentionContext, condition: ConditionView | None
    ) -> Tensor:
        num_heads, num_kv_heads = (width // self.head_width for width in self.widths[:2])
        heads = self.wqkv(x).view(*x.shape[:-1], -1, self.head_width)  # (*N, H + 2 Hkv, Dh)
        turned = rotate(heads[..., : num_heads + num_kv_heads, :], *rope)
        q, k = turned[..., :num_heads, :], turned[..., num_heads:, :]  # (*N, H, Dh), (*N, Hkv, Dh)
        v = heads[..., num_heads + num_kv_heads :, :]
        out = context.attend(self.layer, q, k, v)  # (*N, H, Dh)
        if condition is not None and (term := condition.term(self.layer, q)) is not None:
            out = out + term
        return self.wo(out.flatten(-2))  # type: ignore[no-any-return]  # (*N, D)

    def project_adapter(self, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values `(R, Hkv, P, Dh)` of adapter tokens `(R, P, D)`: no rotation, no norm, no LoRA."""
        # One matrix product: a linear on (R, P, D) may batch over R. Four-bit weights want their rows side by side.
        flat = prompts.reshape(-1, prompts.shape[-1]).contiguous()
        both = self.wqkv(flat)[:, self.widths[0] :].view(*prompts.shape[:-1], -1)  # (R, P, 2 Hkv Dh), queries unused
        if self.keeps_lora:  # the matrices hold W + up down; adapter tokens take W alone
            low = torch.einsum("rpd,skd->rpsk", prompts, self.adapter_down)  # (R, P, 2, rank)
            both = both - torch.einsum("rpsk,svk->rpsv", low, self.adapter_up).flatten(-2)
        keys, values = (x.view(*x.shape[:-1], -1, self.head_width).transpose(1, 2) for x in both.chunk(2, dim=-1))
        return keys, values


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm with its statistics in float32, in half the operations of the built-in one on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(length.square() / x.shape[-1] + cast(float, self.eps))  # (*N, 1)
        return (x * scale).to(x.dtype) * self.weight


class FeedForward(nn.Module):
    """SwiGLU: `w2(silu(w1 x) * w3 x)`, with w1 and w3 stored as one matrix."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.w13 = nn.Linear(config.width, 2 * config.hidden_width, bias=config.mlp_bias)
        self.w2 = nn.Linear(config.hidden_width, config.width, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.w13(x).chunk(2, dim=-1)  # (*N, hidden) each
        return self.w2(F.silu(gate) * up)  # type: ignore[no-any-return]  # (*N, D)


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config, layer)
        self.ffn_norm = RMSNorm(config.width, eps=config.norm_eps)
        self.feed_forward = FeedForward(config)

    def linears(self) -> tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]:
        """Return the four matrices in the order a token meets them."""
        return self.attention.wqkv, self.attention.wo, self.feed_forward.w13, self.feed_forward.w2

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], context: AttentionContext, condition: ConditionView | None
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rope, context, condition)
        return x + self.feed_forward(self.ffn_norm(x))  # type: ignore[no-any-return]


class Llama(nn.Module):
    """The decoder. `adapter_gates` `(L, H)` are the effective gates, after tanh, of the adapted layers."""

    frequencies: Tensor
    adapter_gates: Tensor

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.width, eps=config.norm_eps)
        self.output = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.output.weight = self.tok_embeddings.weight
        frequencies = inverse_frequencies(config.head_width, config.rope_theta, config.rope_scaling)
        frequencies = frequencies.to(self.tok_embeddings.weight.device)
        self.register_buffer("frequencies", frequencies, persistent=False)
        gates = torch.zeros(len(config.adapted_layers), config.num_heads)
        self.register_buffer("adapter_gates", gates, persistent=False)

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        context: AttentionContext,
        condition: ConditionView | None = None,
    ) -> Tensor:
        """Return the final normed hidden states `(*N, D)` of `token_ids` `(*N,)` at absolute `positions` `(*N,)`."""
        x = self.tok_embeddings(token_ids)  # (*N, D)
        rope = rotary_tables(positions, self.frequencies, x.dtype)
        for block in self.layers:
            x = block(x, rope, context, condition)
        return self.norm(x)  # type: ignore[no-any-return]

    def set_adapters(self, layers: tuple[int, ...], gates: Tensor, *, num_tokens: int) -> None:
        """Let `layers` take a condition of `num_tokens` adapter tokens, scaled by the effective `gates` `(L, H)`."""
        self.config = replace(self.config, adapted_layers=layers, num_adapter_tokens=num_tokens)
        self.adapter_gates = gates.detach().to(self.frequencies)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits `(n, V)` of rows `(n, D)`; call it on the rows that are needed only."""
        return self.output(hidden).float()  # type: ignore[no-any-return]

    def score(self, token_ids: Tensor, condition: ConditionView | None = None) -> Tensor:
        """Return the logits `(B, T, V)` of dense rows `(B, T)` that start at position 0."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device).expand_as(token_ids)
        hidden = self.forward(token_ids, positions, DenseCausalAttention(), condition)
        return self.logits(hidden.flatten(0, 1)).view(*token_ids.shape, -1)

    def project_condition(
        self, prompts: Tensor, *, gates: Tensor | None = None, mask: Tensor | None = None
    ) -> ConditionTable:
        """Project the adapter tokens `(R, L, P, D)` of R requests to keys and gated values, once per request.

        `gates` `(L, H)` replaces the model's own (training passes live ones); `mask` `(L, R, P)` is True at real
        tokens.
        Raises `InvalidRequest` when L or D is not this decoder's.
        """
        config = self.config
        num_rows, num_layers, num_tokens, width = prompts.shape
        if (num_layers, width) != (len(config.adapted_layers), config.width):
            expected = (len(config.adapted_layers), config.width)
            got = (num_layers, width)
            raise InvalidRequest(f"adapter prompt has (layers, width) {got}; the decoder takes {expected}")
        gates = self.adapter_gates if gates is None else gates
        blocks = [cast(Block, self.layers[layer]) for layer in config.adapted_layers]
        pairs = [block.attention.project_adapter(prompts[:, i]) for i, block in enumerate(blocks)]
        values = torch.stack([value for _, value in pairs])  # (L, R, Hkv, P, Dh)
        if num_tokens == 1:
            repeats = config.num_heads // config.num_kv_heads
            constants = values.squeeze(3).repeat_interleave(repeats, dim=2)  # (L, R, H, Dh)
            constants = constants * gates[:, None, :, None].to(values.dtype)
            if mask is not None:
                constants = constants * mask[:, :, :, None]  # (L, R, 1, 1)
            return ConditionTable(config.adapted_layers, constants)
        if mask is None:
            mask = torch.ones(num_layers, num_rows, num_tokens, dtype=torch.bool, device=prompts.device)
        keys = torch.stack([key for key, _ in pairs])  # (L, R, Hkv, P, Dh)
        values = values * mask[:, :, None, :, None]
        return ConditionTable(config.adapted_layers, values, keys, gates, mask)
