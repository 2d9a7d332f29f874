from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.imagebind_vision import EagerVision, tower_flops, vision_config
from core.errors import ConfigError, InvalidRequest
from models.imagebind.config import ImageBindConfig, TowerSize
from models.imagebind.model import ImageBind, Postprocessor, SelfAttention, interpolate_positions

TOWERS = ("vision", "text", "audio", "depth", "thermal", "imu")


@pytest.mark.parametrize("size", [TowerSize(32, 1, 4), TowerSize(40, 4, 5)])
def test_the_vision_tower_equals_eager_attention_over_a_convolution(size: TowerSize) -> None:
    none = TowerSize(8, 1, 1)
    config = ImageBindConfig(
        image_size=42, vision=size, vocab_size=8, text=none, audio=none, depth=none, thermal=none, imu=none
    )
    torch.manual_seed(2)
    model = ImageBind(config).eval().requires_grad_(False)
    images = torch.randn(2, 3, 42, 42)
    torch.testing.assert_close(
        model.embed("vision", images, normalize=False), EagerVision(model)(images), atol=1e-5, rtol=1e-5
    )


def test_attention_with_a_bias_position_equals_pytorchs_own() -> None:
    torch.manual_seed(3)
    ours, theirs = SelfAttention(24, 3, bias_kv=True), nn.MultiheadAttention(24, 3, add_bias_kv=True, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x, None), theirs(x, x, x, need_weights=False)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tower", TOWERS)
def test_rows_do_not_depend_on_their_batch(
    tower: str, tiny_imagebind: ImageBind, tower_inputs: dict[str, torch.Tensor]
) -> None:
    together = tiny_imagebind.embed(tower, tower_inputs[tower])
    alone = torch.cat([tiny_imagebind.embed(tower, row[None]) for row in tower_inputs[tower]])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("tower", TOWERS)
def test_bfloat16_rows_point_where_float32_rows_do(
    tower: str, tiny_imagebind: ImageBind, tower_inputs: dict[str, torch.Tensor]
) -> None:
    exact = tiny_imagebind.embed(tower, tower_inputs[tower])
    rounded = tiny_imagebind.to(torch.bfloat16).embed(tower, tower_inputs[tower])
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(exact, rounded, dim=-1).min() > 0.99


def test_clips_are_averaged_after_norm_and_scale(tiny_imagebind: ImageBind) -> None:
    clips = torch.randn(2, 3, 1, 128, 204)
    rows = tiny_imagebind.embed("audio", clips.flatten(0, 1)).view(2, 3, -1)
    torch.testing.assert_close(tiny_imagebind.embed("audio", clips), rows.mean(dim=1))
    torch.testing.assert_close(rows.norm(dim=-1), torch.full((2, 3), 20.0))


def test_the_logit_scale_is_clipped_at_one_hundred() -> None:
    rows = Postprocessor(1000.0)(torch.randn(2, 5))
    torch.testing.assert_close(rows.norm(dim=-1), torch.full((2,), 100.0))


def test_text_after_its_highest_id_does_not_matter(tiny_imagebind: ImageBind, tiny_config: ImageBindConfig) -> None:
    ids = torch.randint(1, 100, (1, tiny_config.context))
    ids[0, 5] = tiny_config.vocab_size - 1
    changed = ids.clone()
    changed[0, 6:] = 7
    torch.testing.assert_close(tiny_imagebind.embed("text", ids), tiny_imagebind.embed("text", changed))


def test_larger_square_images_use_interpolated_positions(tiny_imagebind: ImageBind) -> None:
    assert tiny_imagebind.embed("vision", torch.randn(1, 3, 56, 56)).shape == (1, 12)


@pytest.mark.parametrize("side", range(1, 40))
def test_interpolated_positions_have_the_asked_grid_at_every_side(side: int) -> None:
    positions = torch.randn(1, 1 + 14 * 14, 4)
    assert interpolate_positions(positions, (14, 14), (side, side)).shape == (1, 1 + side * side, 4)


@pytest.mark.parametrize(
    ("tower", "shape"),
    [
        ("vision", (1, 3, 28, 56)),  # not a square grid
        ("vision", (1, 3, 2, 28, 28)),  # a video without a clip axis
        ("vision", (1, 1, 28, 28)),
        ("vision", (1, 3, 7, 7)),  # smaller than a patch
        ("audio", (1, 1, 128, 300)),
        ("imu", (1, 6, 1000)),
        ("text", (1, 77)),  # floating ids
    ],
)
def test_a_shape_the_tower_does_not_take_is_refused(
    tower: str, shape: tuple[int, ...], tiny_imagebind: ImageBind
) -> None:
    with pytest.raises(InvalidRequest):
        tiny_imagebind.embed(tower, torch.zeros(shape))


def test_an_unknown_tower_is_refused_by_name(tiny_imagebind: ImageBind) -> None:
    with pytest.raises(InvalidRequest, match="no smell tower; it has vision, text"):
        tiny_imagebind.embed("smell", torch.zeros(1, 3))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="audio width 30 must be a multiple of 4 heads"):
        ImageBindConfig(audio=TowerSize(30, 1, 4))


def test_the_benchmark_counts_the_products_of_the_full_tower() -> None:
    assert tower_flops(vision_config(32), 8) == pytest.approx(2.67e12, rel=0.01)
