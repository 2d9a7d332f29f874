"""The calibrated confidence is the share of right names."""

from __future__ import annotations

import pytest
import torch

from training.recipes.mini_calibration import Calibration, fit_logistic, is_named
from training.recipes.mini_pictures import Name


def test_the_fit_finds_the_chance_of_being_right() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.rand(20_000, generator=generator)
    true = torch.sigmoid(6.0 * raw - 2.5)
    right = torch.rand(len(raw), generator=generator) < true
    fitted = fit_logistic(raw, right, torch.ones(len(raw)))
    assert fitted.slope == pytest.approx(6.0, abs=0.4)
    assert fitted.bias == pytest.approx(-2.5, abs=0.2)
    assert fitted.raw_at(0.5) == pytest.approx(2.5 / 6.0, abs=0.03)


def test_weights_let_a_small_group_count_like_a_large_one() -> None:
    raw = torch.tensor([0.2, 0.2, 0.8, 0.8] * 50 + [0.5] * 4)
    right = torch.tensor([False, False, True, True] * 50 + [True] * 4)
    weights = torch.cat((torch.ones(200), torch.full((4,), 50.0)))
    assert fit_logistic(raw, right, weights).raw_at(0.5) < fit_logistic(raw, right, torch.ones(204)).raw_at(0.5)


def test_the_raw_threshold_of_a_probability_inverts_the_curve() -> None:
    calibration = Calibration(slope=5.0, bias=-2.0)
    raw = calibration.raw_at(0.7)
    assert float(torch.sigmoid(torch.tensor(5.0 * raw - 2.0))) == pytest.approx(0.7)


@pytest.mark.parametrize(("text", "kind", "right"), [("coffee mug", "cup", True), ("cupboard", "furniture", False)])
def test_a_name_is_right_when_it_or_its_kind_says_the_word(text: str, kind: str, right: bool) -> None:
    assert is_named(Name(text, kind, ()), ["cup", "mug"]) is right
