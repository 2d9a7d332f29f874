"""Log-probabilities of the prompt's own tokens, for requests that ask how likely a text is."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from core.errors import EngineFault
from core.types import SamplingParams
from engine.backends.native.sampler import most_likely
from engine.backends.native.scheduler import Sample, StepPlan

ROWS_AT_ONCE = 64  # logits of the whole vocabulary in float32: 13 MB for 49 thousand tokens


def score_prompts(plan: StepPlan, hidden: Tensor, output: Callable[[Tensor], Tensor]) -> None:
    """Note, for each prompt token of this step that has a successor, how likely that was.

    `hidden` `(N, D)` are the plan's tokens in order. Noting a place again changes nothing, so a step may be repeated.
    """
    start = len(plan.decode)
    for row in plan.prefill:
        sequence, sampling = row.sequence, row.sequence.request.sampling
        following = sequence.request.token_ids[row.start + 1 : row.start + row.length + 1]
        if sampling.scores_prompt:
            for i in range(0, len(following), ROWS_AT_ONCE):
                token_ids = following[i : i + ROWS_AT_ONCE]
                logits = output(hidden[start + i : start + i + len(token_ids)]).float()  # (n, V)
                places = range(row.start + 1 + i, row.start + 1 + i + len(token_ids))
                samples = _samples(logits, token_ids, [sampling] * len(token_ids))
                sequence.prompt_scores.update(zip(places, samples, strict=True))
        start += row.length


def _samples(logits: Tensor, token_ids: tuple[int, ...], params: list[SamplingParams]) -> list[Sample]:
    totals = logits.logsumexp(dim=-1)  # (n,)
    chosen = logits.gather(1, torch.tensor(token_ids, device=logits.device)[:, None]).squeeze(1) - totals
    if not all(map(math.isfinite, totals.tolist())):
        raise EngineFault("the decoder's logits are not finite")
    rows = zip(token_ids, chosen.tolist(), most_likely(logits, params), strict=True)
    return [Sample(*row) for row in rows]
