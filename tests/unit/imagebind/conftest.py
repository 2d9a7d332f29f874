"""A seeded ImageBind of width 16 to 24 that runs in milliseconds."""

from __future__ import annotations

import pytest
import torch

from models.imagebind.config import ImageBindConfig, TowerSize
from models.imagebind.model import ImageBind


@pytest.fixture(scope="session")
def tiny_config() -> ImageBindConfig:
    size = TowerSize(16, 2, 2)
    return ImageBindConfig(
        embedding_width=12,
        image_size=28,
        audio_kernel=8,
        audio_stride=6,
        num_mel_bins=128,
        depth_kernel=7,
        thermal_kernel=7,
        vision=TowerSize(24, 3, 4),
        text=size,
        audio=size,
        depth=size,
        thermal=size,
        imu=size,
    )


@pytest.fixture
def tiny_imagebind(tiny_config: ImageBindConfig) -> ImageBind:
    torch.manual_seed(0)
    model = ImageBind(tiny_config)
    for parameter in model.parameters():  # far from the symmetric start, so that every part shows in the output
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


@pytest.fixture
def tower_inputs(tiny_config: ImageBindConfig) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "vision": (3, 3, 28, 28),
        "audio": (3, 1, 128, 204),
        "depth": (3, 1, 28, 28),
        "thermal": (3, 1, 28, 28),
        "imu": (3, 6, 2000),
    }
    text = torch.randint(1, tiny_config.vocab_size, (3, tiny_config.context), generator=generator)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} | {"text": text}
