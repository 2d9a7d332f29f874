"""Turn the picture encoder's raw confidence into the probability that its nearest name is right.

Logistic calibration (Platt 1999) of one number, fitted on validation photographs, half of the weight on classes the
head knows and half on classes it has not learnt, as pictures from elsewhere come: for those, heads are trained with a
fifth of the classes left out each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.mini.encoder import NameHead
from training.recipes.mini_pictures import (
    HeadPlan,
    Name,
    Photographs,
    extra_names,
    spoken,
    synonyms_of,
    train_head,
    training_rows,
)

NUM_FOLDS = 5
FOLD_STEPS = 300


@dataclass(frozen=True, slots=True)
class Calibration:
    """`P(right) = sigmoid(slope * raw + bias)`."""

    slope: float
    bias: float

    def raw_at(self, probability: float) -> float:
        """Return the raw confidence that is as likely right as `probability` says."""
        return (math.log(probability / (1 - probability)) - self.bias) / self.slope

    def tensor(self) -> Tensor:
        """Return `(2,)`: slope and bias, as the served weights hold them."""
        return torch.tensor([self.slope, self.bias])


def fit_logistic(raw: Tensor, right: Tensor, weights: Tensor) -> Calibration:
    """Fit slope and bias to raw confidences `(N,)` and whether each was right `(N,)` by weighted maximum likelihood."""
    parameters = torch.tensor([4.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = parameters[0] * raw.double() + parameters[1]
        value = F.binary_cross_entropy_with_logits(logits, right.double(), weight=weights.double())
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    slope, bias = parameters.detach().tolist()
    return Calibration(slope, bias)


def is_named(nearest: Name, accepted: Sequence[str]) -> bool:
    """Say whether speaking of the nearest name and its kind says an accepted name."""
    said = f" {nearest.text} , {nearest.kind} ".lower().replace("-", " ")
    return any(f" {name.lower().replace('-', ' ')} " in said for name in accepted)


def fit_calibration(
    photographs: Photographs,
    trained: Sequence[str],
    imagenet: Sequence[Name],
    network: NameHead,
    *,
    shift: float,
    num_steps: int = FOLD_STEPS,
) -> Calibration:
    """Fit the calibration of `network`, the head trained on all `trained` classes, and of heads that miss some.

    `shift` is that of its learnt logits.
    """
    extra = extra_names(trained, imagenet)
    bank = (*imagenet, *extra)
    outcomes = [_outcomes(photographs, photographs.rows("validation", trained), network, bank, imagenet)]
    known = {word.lower() for name in imagenet for word in (name.text, *name.synonyms)}
    held_out = [name for name in trained if spoken(name).lower() in known]
    weight, bias = network.classifier.weight.detach(), network.classifier.bias.detach()
    count = len(imagenet)
    for fold in range(NUM_FOLDS):
        left_out = held_out[fold::NUM_FOLDS]
        kept = [name for name in trained if name not in left_out]
        names = extra_names(kept, imagenet)
        features, targets = training_rows(photographs, kept, imagenet)
        frozen = (weight[:count], bias[:count])
        plan = HeadPlan(num_names=len(names), num_steps=num_steps, shift=shift, seed=fold)
        layer = train_head(features, targets, frozen, plan)
        chosen = [*range(count), *(count + extra.index(name) for name in names)]
        head = NameHead(frozen, layer, network.name_vectors[chosen]).eval().requires_grad_(False)
        rows = torch.cat([photographs.rows(split, left_out) for split in ("train", "validation")])
        outcomes.append(_outcomes(photographs, rows, head, (*imagenet, *names), imagenet))
    raw, right = (torch.cat(parts) for parts in zip(*outcomes, strict=True))
    known_share = len(outcomes[0][0]) / len(raw)
    is_known = torch.arange(len(raw)) < len(outcomes[0][0])
    return fit_logistic(raw, right, torch.where(is_known, 0.5 / known_share, 0.5 / (1 - known_share)))


def _outcomes(
    photographs: Photographs, rows: Tensor, head: NameHead, bank: Sequence[Name], imagenet: Sequence[Name]
) -> tuple[Tensor, Tensor]:
    """Return the raw confidence of some photographs and whether their nearest name is right, both `(n,)`."""
    with torch.no_grad():
        blended = head(photographs.features[rows])
    right = [
        is_named(bank[nearest], synonyms_of(photographs.classes[row], imagenet))
        for row, nearest in zip(rows.tolist(), blended.nearest[:, 0].tolist(), strict=True)
    ]
    return blended.confidence, torch.tensor(right)
