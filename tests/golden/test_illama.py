"""iLLaMA against the recorded outputs, and its published sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.parity_families.illama import outputs
from models.illama.model import SIZES, Illama, IllamaConfig, illama_config

GOLDEN = Path(__file__).parent
RECORDED_SIZES = json.loads((GOLDEN / "illama" / "sizes.json").read_text())


def meta_model(config: IllamaConfig) -> Illama:
    with torch.device("meta"):
        return Illama(config)


def num_parameters(model: Illama) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("fixture", "num_outputs"), [("illama", 20), ("illama_schedules", 11), ("illama_pos_interp", 1)]
)
def test_every_illama_output_is_within_its_tolerance(fixture: str, num_outputs: int) -> None:
    rows = list(outputs(GOLDEN / fixture))
    assert len(rows) == num_outputs
    for name, produced, expected, tolerance in rows:
        assert produced.shape == expected.shape, name
        assert np.abs(produced.astype(np.float64) - expected).max() <= tolerance, name


@pytest.mark.parametrize("size", SIZES)
def test_each_size_has_exactly_the_released_keys_and_shapes(size: str) -> None:
    recorded = RECORDED_SIZES[f"illama_{size}"]
    config = illama_config(size)
    state = {key: list(value.shape) for key, value in meta_model(config).state_dict().items()}
    expected = dict(recorded["keys_non_block"])
    for i in range(recorded["depth"]):
        expected |= {key.replace("blocks.0.", f"blocks.{i}."): shape for key, shape in recorded["keys_block0"].items()}
    assert state == expected
    assert len(state) == recorded["n_keys"]
    assert config.hidden_width == recorded["mlp_hidden"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("image_size", "num_classes"), [(224, 1000), (384, 1000), (224, 10450)])
def test_each_size_has_the_published_number_of_parameters(size: str, image_size: int, num_classes: int) -> None:
    model = meta_model(illama_config(size, image_size=image_size, num_classes=num_classes))
    assert num_parameters(model) == RECORDED_SIZES[f"illama_{size}"][f"{image_size}_classes{num_classes}"]
