"""The fused picture network is the package's, whatever computes it; thumbnails are looked at in a size of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from core.types import AnyArray, DecodedMedia
from models.mini import fused_network
from models.mini.assets import picture_network_file
from models.mini.encoder import preprocess_image
from models.mini.fused_network import FusedEfficientNet
from models.mini.loader import load_picture_encoder


@pytest.fixture(scope="module")
def network() -> EfficientNet:
    loaded = EfficientNet.from_name("efficientnet-lite2")
    loaded.load_state_dict(torch.load(picture_network_file(), weights_only=True))
    return loaded.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.randn(3, 3, 260, 260, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("has_onednn", [True, False])
def test_the_fused_network_gives_the_features_of_the_original(
    network: EfficientNet, pictures: torch.Tensor, has_onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_onednn and not fused_network._HAS_ONEDNN:
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(fused_network, "_HAS_ONEDNN", has_onednn)
    with torch.inference_mode():
        features = FusedEfficientNet(network)(pictures)
        expected = network.extract_features(pictures).mean(dim=(2, 3))
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_a_picture_has_the_same_features_in_any_company_and_of_another_size(
    network: EfficientNet, pictures: torch.Tensor
) -> None:
    fused = FusedEfficientNet(network)
    with torch.inference_mode():
        together = fused(pictures)
        fused(pictures[:1, :, :224, :224])  # weights are laid out again for the other size and back
        alone = torch.cat([fused(pictures[row : row + 1]) for row in range(len(pictures))])
    assert torch.equal(together, alone)


def noise(height: int, width: int) -> AnyArray:
    return np.random.default_rng(height).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(112, 112, 224), (129, 400, 224), (400, 130, 260), (64, 64, 224)]
)
def test_a_picture_is_magnified_to_the_smaller_input_when_it_is_a_thumbnail(height: int, width: int, size: int) -> None:
    assert preprocess_image(noise(height, width)).shape == (3, size, size)


def test_thumbnails_and_photographs_share_a_batch_and_are_named_as_alone() -> None:
    encoder = load_picture_encoder()
    media = [DecodedMedia(container="png", array=noise(*shape)) for shape in ((112, 112), (300, 400), (100, 150))]
    batch = [encoder.preprocess(one) for one in media]
    together = encoder.encode(batch)
    alone = [encoder.encode([picture])[0] for picture in batch]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
