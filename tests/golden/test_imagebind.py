"""ImageBind and its preprocessing against the recorded outputs of the reference code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.parity_families.imagebind import outputs
from models.imagebind.config import ImageBindConfig
from models.imagebind.model import ImageBind

GOLDEN = Path(__file__).parent


def recorded_shapes(name: str) -> dict[str, tuple[int, ...]]:
    keys = json.loads((GOLDEN / "imagebind_keys" / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in keys.items()}


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize(("fixture", "num_outputs"), [("imagebind", 60), ("imagebind_preprocessing", 117)])
def test_every_output_of_the_fixture_is_within_its_tolerance(fixture: str, num_outputs: int) -> None:
    rows = list(outputs(GOLDEN / fixture))
    assert len(rows) == num_outputs
    for name, produced, expected, tolerance in rows:
        assert produced.shape == expected.shape, name
        assert np.abs(produced.astype(np.float64) - expected).max() <= tolerance, name


def test_the_full_size_model_has_exactly_the_keys_of_imagebind_huge() -> None:
    with torch.device("meta"):
        model = ImageBind(ImageBindConfig())
    assert len(model.state_dict()) == 1311
    assert shapes(model) == recorded_shapes("imagebind_huge")
