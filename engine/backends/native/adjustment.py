"""Change the logits of the rows that ask for it, all rows at once: penalties, biases, bans, grammars.

The repetition penalty divides positive and multiplies negative logits of tokens seen in prompt or reply (CTRL, section
4.1); the frequency penalty is then subtracted once per occurrence in the reply, the presence penalty once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from engine.backends.native.scheduler import TokenSequence
from engine.decoding.grammar import OutputGuide


def adjust(logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
    """Return logits `(B, V)` to draw from; `logits` itself, which is never written, when no row asks for a change."""
    counts = {row: s.generated_counts for row, s in enumerate(sequences) if s.generated_counts}
    biases = {row: s.request.sampling.logit_bias for row, s in enumerate(sequences) if s.request.sampling.logit_bias}
    bans = {row: s.ending_ids for row, s in enumerate(sequences) if len(s.output_ids) < s.request.sampling.min_tokens}
    guides = {row: s.guide for row, s in enumerate(sequences) if s.guide is not None}
    if not (counts or biases or bans or guides):
        return logits
    adjusted = logits.clone()
    if counts:
        _penalise(adjusted, counts, sequences)
    if biases:
        pairs = list(chain.from_iterable(biases.values()))
        places = _places(logits, {row: [token_id for token_id, _ in bias] for row, bias in biases.items()})
        adjusted[places] += torch.tensor([bias for _, bias in pairs], device=logits.device)
    if bans:
        adjusted[_places(logits, bans)] = -torch.inf
    if guides:
        _keep_allowed(adjusted, guides)
    return adjusted


def _keep_allowed(adjusted: Tensor, guides: Mapping[int, OutputGuide]) -> None:
    """Leave only tokens with which the rows' grammars go on."""
    masks = np.zeros((len(guides), -(-adjusted.shape[1] // 32) * 4), dtype=np.uint8)
    for mask, guide in zip(masks, guides.values(), strict=True):
        guide.fill_mask(mask)
    bits = np.unpackbits(masks, axis=1, count=adjusted.shape[1], bitorder="little")  # (N, V)
    allowed = torch.from_numpy(bits).to(adjusted.device, torch.bool)
    rows = list(guides)
    adjusted[rows] = adjusted[rows].masked_fill(~allowed, -torch.inf)


def _penalise(adjusted: Tensor, counts: Mapping[int, Mapping[int, int]], sequences: Sequence[TokenSequence]) -> None:
    device = adjusted.device
    asked = [sequences[row].request.sampling for row in counts]
    table = [(p.repetition_penalty, p.frequency_penalty, p.presence_penalty) for p in asked]
    sizes = torch.tensor([len(seen) for seen in counts.values()], device=device)
    columns = torch.tensor(table, device=device).repeat_interleave(sizes, dim=0)  # (N, 3), one row per seen token
    repetition, frequency, presence = columns.unbind(dim=1)
    occurrences = torch.tensor(list(chain.from_iterable(seen.values() for seen in counts.values())), device=device)
    places = _places(adjusted, counts)
    seen_logits = adjusted[places]  # (N,)
    seen_logits = torch.where(seen_logits > 0, seen_logits / repetition, seen_logits * repetition)
    adjusted[places] = seen_logits - frequency * occurrences - presence * (occurrences > 0)


def _places(logits: Tensor, token_ids: Mapping[int, Iterable[int]]) -> tuple[Tensor, Tensor]:
    """Return the index `(N,)`, `(N,)` of every named token of every named row."""
    pairs = [(row, token_id) for row, ids in token_ids.items() for token_id in ids]
    index = torch.tensor(pairs, dtype=torch.int64, device=logits.device).view(-1, 2)
    return index[:, 0], index[:, 1]
