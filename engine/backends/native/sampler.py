"""Draw the next token of every row at once.

Temperature divides the logits (after `adjustment.adjust`); `top_k`, then `top_p` on what is left, then `min_p` drop
tokens; the rest is drawn by inverse transform from one uniform number per row, so a row's token never depends on its
batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.types import SamplingParams

Candidates = tuple[tuple[int, float], ...]
_CANDIDATES = (256, 4096)  # a chat's filters rarely keep more; sorting the vocabulary costs ten times as much


def sample(
    logits: Tensor,
    params: Sequence[SamplingParams],
    uniforms: Sequence[float],
    adjusted: Tensor | None = None,
) -> tuple[list[int], list[float]]:
    """Return a token id and its log-probability for each row of `logits` `(B, V)` float32.

    Temperature 0 takes the most likely token. Tokens are drawn from the `adjusted` logits where there are any; the
    log-probability is always that of the unmodified distribution.
    """
    unmodified, logits = logits, logits if adjusted is None else adjusted
    token_ids = logits.argmax(dim=-1)  # (B,)
    plain = [i for i, p in enumerate(params) if p.temperature > 0 and not _is_filtered(p)]
    filtered = [i for i, p in enumerate(params) if p.temperature > 0 and _is_filtered(p)]
    if plain:
        token_ids[plain] = _draw(_Rows.build(logits, params, uniforms, plain))
    if filtered:
        token_ids[filtered] = _draw_filtered(_Rows.build(logits, params, uniforms, filtered))
    chosen = unmodified.gather(1, token_ids[:, None]).squeeze(1)
    return token_ids.tolist(), (chosen - unmodified.logsumexp(dim=-1)).tolist()


def most_likely(logits: Tensor, params: Sequence[SamplingParams]) -> list[Candidates]:
    """Return for each row of `logits` `(B, V)` the `num_logprobs` most likely ids and log-probabilities, falling."""
    counts = [p.num_logprobs or 0 for p in params]
    found: list[Candidates] = [()] * len(counts)
    rows = [row for row, count in enumerate(counts) if count]
    if not rows:
        return found
    asked = logits[rows]
    top, order = asked.topk(min(max(counts), asked.shape[1]), dim=-1)
    logprobs = (top - asked.logsumexp(dim=-1, keepdim=True)).tolist()
    for row, token_ids, values in zip(rows, order.tolist(), logprobs, strict=True):
        found[row] = tuple(zip(token_ids, values, strict=True))[: counts[row]]
    return found


def _is_filtered(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


class _Rows:
    """Tempered logits `(B, V)` with the parameters as columns `(B, 1)`."""

    def __init__(self, logits: Tensor, columns: Tensor) -> None:
        self.logits = logits
        self.columns = columns
        self.uniform, self.top_k, self.top_p, self.min_p = (columns[:, i : i + 1] for i in range(4))

    @classmethod
    def build(
        cls, logits: Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float], rows: list[int]
    ) -> _Rows:
        table = [
            (uniforms[i], params[i].top_k or logits.shape[1], params[i].top_p, params[i].min_p, params[i].temperature)
            for i in rows
        ]
        columns = torch.tensor(table, dtype=torch.float64, device=logits.device)  # (B, 5)
        return cls(logits[rows] / columns[:, 4:].to(logits.dtype), columns[:, :4])

    def select(self, rows: Tensor) -> _Rows:
        return _Rows(self.logits[rows], self.columns[rows])


def _draw(rows: _Rows) -> Tensor:
    """Draw from the whole vocabulary."""
    cumulative = rows.logits.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)  # (B, V)
    return _invert(cumulative, rows.uniform, cumulative.shape[1] - 1)


def _draw_filtered(rows: _Rows) -> Tensor:
    """Draw after the filters, looking at ever more of the most likely tokens until they hold all that are kept."""
    num_rows, vocab_size = rows.logits.shape
    token_ids = torch.empty(num_rows, dtype=torch.int64, device=rows.logits.device)
    pending = torch.arange(num_rows, device=rows.logits.device)
    for width in (*(w for w in _CANDIDATES if w < vocab_size), vocab_size):
        probabilities, order = _most_likely(rows.logits, width)
        token_ids[pending] = _pick(probabilities, order, rows)
        is_wide = _keeps_more(probabilities, rows)
        if width == vocab_size or not bool(is_wide.any()):
            break
        pending, rows = pending[is_wide], rows.select(is_wide)
    return token_ids


def _most_likely(logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the `width` largest probabilities `(B, width)` in falling order and their token ids."""
    if width == logits.shape[1]:
        probabilities, order = torch.sort(logits.softmax(dim=-1), dim=-1, descending=True, stable=True)
        return probabilities, order
    top, order = logits.topk(width, dim=-1)
    return (top - logits.logsumexp(dim=-1, keepdim=True)).exp(), order


def _keeps_more(probabilities: Tensor, rows: _Rows) -> Tensor:
    """Tell for each row `(B,)` whether its filters may keep tokens beyond these candidates `(B, K)`."""
    by_mass = (probabilities.sum(dim=-1, keepdim=True) <= rows.top_p) & (
        probabilities[:, -1:] >= rows.min_p * probabilities[:, :1]
    )
    by_count = rows.top_k > probabilities.shape[1]
    return torch.where(rows.top_k < rows.logits.shape[1], by_count, by_mass).squeeze(1)


def _pick(probabilities: Tensor, order: Tensor, rows: _Rows) -> Tensor:
    """Draw from `probabilities` `(B, K)` in falling order; `order` `(B, K)` holds their token ids."""
    rank = torch.arange(probabilities.shape[1], device=probabilities.device)
    probabilities = probabilities.double() * (rank < rows.top_k)
    limited = rows.top_k < rows.logits.shape[1]
    total = torch.where(limited, probabilities.sum(dim=-1, keepdim=True), 1.0)
    probabilities = probabilities / total
    before = probabilities.cumsum(dim=-1) - probabilities  # reference rule: drop when the mass before exceeds top_p
    keep = (rank < rows.top_k) & (before <= rows.top_p) & (probabilities >= rows.min_p * probabilities[:, :1])
    cumulative = (probabilities * keep).cumsum(dim=-1)  # the kept tokens are a prefix of the order
    place = _invert(cumulative, rows.uniform, keep.sum(dim=-1) - 1)
    return order.gather(1, place[:, None]).squeeze(1)


def _invert(cumulative: Tensor, uniform: Tensor, last: Tensor | int) -> Tensor:
    """Return the first place `(B,)` whose cumulative mass exceeds the uniform share of the total, at most `last`."""
    target = uniform * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    return torch.minimum(place, torch.as_tensor(last, device=place.device))
