"""The point encoders against the recorded outputs and the key lists of the released files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.parity_families.points import outputs, pointbert_config
from models.imagebind.config import ImageBindConfig, TowerSize
from models.pointbind.i2pmae import I2pMae, I2pMaeConfig
from models.pointbind.pointbert import PointBert, PointBertConfig
from models.released_encoders import EncoderFile, EncoderSizes

GOLDEN = Path(__file__).parent


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def recorded_shapes(path: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((GOLDEN / path).read_text()).items()}


@pytest.mark.parametrize(
    ("fixture", "num_outputs"), [("pointbert", 13), ("pointbind_i2pmae", 23), ("pointcloud_normalize", 1)]
)
def test_every_point_output_is_within_its_tolerance(fixture: str, num_outputs: int) -> None:
    rows = list(outputs(GOLDEN / fixture))
    assert len(rows) == num_outputs
    for name, produced, expected, tolerance in rows:
        assert produced.shape == expected.shape, name
        assert np.abs(produced.astype(np.float64) - expected).max() <= tolerance, name


def test_full_size_pointbert_has_exactly_the_keys_that_w3d_adds_to_imagebind() -> None:
    with torch.device("meta"):
        model = PointBert(PointBertConfig())
    assert shapes(model) == recorded_shapes("imagebind_keys/imagebind_w3D_minus_huge.json")
    assert sum(value.numel() for value in model.state_dict().values()) == 22_778_627


def test_full_size_i2pmae_has_exactly_the_keys_of_point_bind() -> None:
    with torch.device("meta"):
        model = I2pMae(I2pMaeConfig())
    assert shapes(model) == recorded_shapes("point_keys/pointbind_i2pmae_without_imagebind.json")
    assert sum(value.numel() for value in model.state_dict().values()) == 13_379_336


@torch.inference_mode()
def test_a_w3d_file_loads_strictly_as_an_imagebind_and_its_point_encoder() -> None:
    folder = GOLDEN / "pointbert"
    points, state = load_file(folder / "inputs.safetensors")["points"], load_file(folder / "weights.safetensors")
    tiny = TowerSize(8, 1, 2)
    config = ImageBindConfig(
        embedding_width=14,
        image_size=32,
        vision_kernel=(2, 16, 16),
        num_mel_bins=32,
        num_mel_frames=32,
        imu_samples=64,
        vocab_size=50,
        context=9,
        **dict.fromkeys(("vision", "text", "audio", "depth", "thermal", "imu"), tiny),
    )
    sizes = pointbert_config(json.loads((folder / "config.json").read_text())["point_config"], state)
    file = EncoderFile(folder / "weights.safetensors", EncoderSizes(imagebind=config, points=sizes))
    _, encoder = file.imagebind(torch.float32)
    assert encoder is not None
    expected = load_file(folder / "outputs.safetensors")["pointbert.start0.embedding"]
    torch.testing.assert_close(encoder(points), expected, atol=1e-4, rtol=0)
