"""What iLLaMA's paper measures: accuracy, calibration, the rank of attention maps, 8-bit weights and activations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.illama.model import (
    ROPE_THETA,
    Attention,
    Block,
    Illama,
    IllamaConfig,
    rotate_pairs,
    soft_mask,
)
from models.llama.rope import inverse_frequencies
from training.labelled_pictures import normalise

NUM_BINS = 15


class FirstClassToken(Illama):
    """iLLaMA with its class token first: under a causal mask no patch's value reaches it (section 3.3).

    As the mask follows the softmax, the patches still change how strongly the token attends to itself.
    """

    class_row = 0

    def with_class_token(self, patches: Tensor) -> Tensor:
        return torch.cat((self.cls_token.expand(len(patches), -1, -1), patches), dim=1)


class MaskedFirst(Attention):
    """Attention whose mask comes before the softmax, as in a language model: what is masked has no influence at all."""

    def shares(self, scores: Tensor, mask: Tensor) -> Tensor:
        return scores.masked_fill(mask == 0, -torch.inf).softmax(dim=-1)


def first_class_token_model(config: IllamaConfig, *, masked_first: bool = False) -> Illama:
    """Return the arrangement that the paper shows to collapse; `masked_first` closes what leaks through the softmax."""
    model = FirstClassToken(config)
    for block in (cast(Block, block) for block in model.blocks) if masked_first else ():
        strict = MaskedFirst(config)
        strict.load_state_dict(block.attn.state_dict())
        block.attn = strict
    return model


@torch.inference_mode()
def logits_of(model: Illama, pixels: Tensor, *, soft_mask_rate: float = 0.0) -> Tensor:
    """Return logits `(N, C)` of uint8 pictures `(N, 3, S, S)`."""
    model.eval()
    rows = [model(normalise(batch), soft_mask_rate=soft_mask_rate).float() for batch in torch.split(pixels, 128)]
    return torch.cat(rows).clone()


def evaluate(
    model: Illama, pixels: Tensor, labels: Tensor, *, soft_mask_rate: float = 0.0, temperature: float = 1.0
) -> dict[str, float]:
    """Return top-1 and top-5 accuracy, cross-entropy in nats and the expected calibration error."""
    logits = logits_of(model, pixels, soft_mask_rate=soft_mask_rate) / temperature
    best = logits.topk(min(5, logits.shape[1]), dim=-1).indices  # (N, 5)
    hits = best == labels[:, None]
    return {
        "top1": float(hits[:, 0].float().mean()),
        "top5": float(hits.any(dim=1).float().mean()),
        "cross_entropy": float(F.cross_entropy(logits, labels)),
        "ece": calibration_error(logits.softmax(dim=-1), labels),
    }


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error over 15 even bins: the mean gap between confidence and accuracy."""
    confidence, chosen = probabilities.max(dim=-1)
    right = (chosen == labels).float()
    bins = (confidence * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    gaps = torch.zeros(NUM_BINS).index_add(0, bins, confidence - right)
    return float(gaps.abs().sum() / len(labels))


def best_temperature(model: Illama, pixels: Tensor, labels: Tensor) -> float:
    """Return what the logits of held-out pictures must be divided by for the least cross-entropy."""
    logits = logits_of(model, pixels)
    tried = torch.linspace(0.3, 3.0, 271)
    losses = torch.stack([F.cross_entropy(logits / t, labels) for t in tried])
    return round(float(tried[losses.argmin()]), 2)


@contextmanager
def _watched(model: Illama, kept: list[tuple[Attention, Tensor]]) -> Iterator[None]:
    def keep(attention: Attention, module: nn.Module, _: object, qkv: Tensor) -> None:
        kept.append((attention, qkv))

    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    hooks = [attention.qkv.register_forward_hook(partial(keep, attention)) for attention in attentions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def attention_ranks(model: Illama, pixels: Tensor, *, soft_mask_rate: float = 0.0) -> list[float]:
    """Return the mean effective rank of the attention maps `(T, T)` of each block, over pictures and heads.

    The effective rank is the exponential of the entropy of the normalised singular values (Roy and Vetterli, 2007).
    """
    kept: list[tuple[Attention, Tensor]] = []
    with _watched(model.eval(), kept):
        model(normalise(pixels), soft_mask_rate=soft_mask_rate)
    ranks = []
    for attention, qkv in kept:
        q, k, _ = torch.unflatten(qkv, -1, (3, model.config.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, T, Dh) each
        num_tokens, head_width = q.shape[2:]
        angles = torch.arange(num_tokens)[:, None] * inverse_frequencies(head_width, ROPE_THETA, None)
        q, k = (rotate_pairs(x, angles.cos(), angles.sin()) for x in (q, k))
        maps = attention.shares(q @ k.mT * head_width**-0.5, soft_mask(num_tokens, soft_mask_rate))  # (B, H, T, T)
        values = torch.linalg.svdvals(maps)  # (B, H, T)
        shares = values / values.sum(dim=-1, keepdim=True)
        ranks.append(float(torch.special.entr(shares).sum(dim=-1).exp().mean()))
    return ranks


def quantised(model: Illama) -> Illama:
    """Return a copy that computes as 8-bit integers would: weights per output row, activations per picture's tensor.

    Symmetric min-max rounding without calibration, as the paper quantises; patch embedding and head stay exact.
    """
    copy = deepcopy(model)
    for module in copy.blocks.modules():
        if isinstance(module, nn.Linear):
            with torch.no_grad():
                module.weight.copy_(_rounded(module.weight, dims=(1,)))
            module.register_forward_pre_hook(lambda _, inputs: (_rounded(inputs[0], dims=(1, 2)),))
    return copy


def _rounded(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    step = (x.abs().amax(dim=dims, keepdim=True) / 127).clamp(min=1e-12)
    return (x / step).round() * step
