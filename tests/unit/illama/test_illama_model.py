"""iLLaMA: masks, batches, drop path and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.errors import ConfigError, InvalidRequest, UnknownName
from models.illama.model import Illama, IllamaConfig, drop_path, illama_config, rotate_pairs, soft_mask

CONFIG = IllamaConfig(width=24, depth=2, num_heads=3, image_size=16, patch_size=4, num_classes=5)


def model() -> Illama:
    torch.manual_seed(0)
    return Illama(CONFIG).eval()


def images(num_images: int) -> Tensor:
    return torch.randn(num_images, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_the_soft_mask_is_its_formula(rate: float) -> None:
    mask = soft_mask(5, rate)
    for row in range(5):
        for column in range(5):
            lower = 1.0 if column <= row else 0.0
            assert float(mask[row, column]) == pytest.approx(rate * 1 + (1 - rate) * lower)


def test_attention_is_masked_after_the_softmax_without_renormalising() -> None:
    attention = model().blocks[0].attn
    x = torch.randn(1, 4, 24, generator=torch.Generator().manual_seed(2))
    angles = torch.zeros(4, 4)
    out = attention(x, (angles.cos(), angles.sin()), soft_mask(4, 0.0))
    q, k, v = attention.qkv(x).view(1, 4, 3, 3, 8).permute(2, 0, 3, 1, 4)
    full = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, dim=-1)
    expected = attention.proj(((full * torch.ones(4, 4).tril()) @ v).transpose(1, 2).reshape(1, 4, 24))
    assert torch.allclose(out, expected, atol=1e-6)


def test_rotation_turns_pairs_like_complex_numbers() -> None:
    x = torch.randn(2, 3, 7, 8)
    angles = torch.randn(7, 4)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)
    assert torch.allclose(
        rotate_pairs(x, angles.cos(), angles.sin()), torch.view_as_real(turned).flatten(-2), atol=1e-6
    )


def test_rows_do_not_depend_on_their_batch() -> None:
    illama, batch = model(), images(3)
    together = illama(batch)
    for row, image in zip(together, batch, strict=True):
        assert torch.allclose(row, illama(image[None])[0], atol=1e-6)


@torch.no_grad()
def test_under_the_causal_mask_the_class_token_sees_every_patch() -> None:
    illama, image = model(), images(1)
    plain = illama(image)
    for top in range(0, 16, 4):
        for left in range(0, 16, 4):
            changed = image.clone()
            changed[..., top : top + 4, left : left + 4] += 1.0
            assert float((illama(changed) - plain).abs().max()) > 1e-6


@torch.no_grad()
def test_the_soft_mask_rate_changes_the_logits() -> None:
    illama, image = model(), images(1)
    assert torch.equal(illama(image, soft_mask_rate=0.0), illama(image))
    assert not torch.equal(illama(image, soft_mask_rate=1.0), illama(image))


def test_drop_path_acts_in_training_only() -> None:
    illama, batch = model(), images(4)
    with torch.no_grad():
        for block in illama.blocks:
            block.attn.proj.weight.mul_(20)
        assert torch.equal(illama(batch, drop_path_rate=0.9), illama(batch))
        plain = illama.train()(batch)
        assert not torch.allclose(illama(batch, drop_path_rate=0.9), plain)


def test_drop_path_keeps_the_mean_and_drops_whole_rows() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 3), 0.25)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(dropped.amax(dim=(1, 2)), dropped.amin(dim=(1, 2)))


@pytest.mark.parametrize("shape", [(1, 3, 16, 20), (1, 1, 16, 16), (3, 16, 16)])
def test_another_image_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"\(B, 3, 16, 16\)"):
        model()(torch.zeros(shape))


def test_configurations_that_cannot_work_are_refused_when_built() -> None:
    with pytest.raises(ConfigError, match="num_heads"):
        IllamaConfig(width=24, depth=1, num_heads=8)
    with pytest.raises(ConfigError, match="patch_size"):
        IllamaConfig(width=24, depth=1, num_heads=3, image_size=30)
    with pytest.raises(UnknownName, match="tiny, small, base, large"):
        illama_config("huge")
