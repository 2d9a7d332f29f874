"""Point clouds as a modality: preprocessing, batches and strict loading."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import CheckpointError, ConfigError, InvalidRequest, UnknownName
from core.types import DecodedMedia, Modality
from models.pointbind.encoder import PointEncoder, PointPreprocessing, load_point_encoder, load_point_model
from models.pointbind.i2pmae import I2pMae, I2pMaeConfig, StageConfig
from models.pointbind.pointbert import PointBert, PointBertConfig

POINTBERT = PointBertConfig(
    width=12,
    depth=2,
    num_heads=3,
    num_groups=8,
    group_size=4,
    token_width=10,
    net_widths=(5, 6),
    position_width=7,
    projection_width=9,
    embedding_width=11,
)
I2PMAE = I2pMaeConfig(
    stages=(
        StageConfig(width=6, depth=1, num_groups=10, group_size=4, radius=0.5),
        StageConfig(width=9, depth=2, num_groups=4, group_size=3, radius=0.9),
    ),
    num_heads=3,
    net_widths=(5, 6),
    projection_width=9,
    embedding_width=11,
)
MODELS = {"pointbert": lambda: PointBert(POINTBERT), "i2pmae": lambda: I2pMae(I2PMAE)}


def media(num_points: int = 60, seed: int = 0) -> DecodedMedia:
    array = np.random.default_rng(seed).normal(3.0, 2.0, (num_points, 3)).astype(np.float32)
    array.setflags(write=False)  # decoders may hand out views of the bytes they read
    return DecodedMedia(container="npy", array=array)


def encoder(name: str, preprocessing: PointPreprocessing | None = None) -> PointEncoder:
    torch.manual_seed(0)
    return PointEncoder(MODELS[name](), encoder_id=f"{name}-test", preprocessing=preprocessing)


@pytest.mark.parametrize("name", MODELS)
def test_rows_do_not_depend_on_their_batch(name: str) -> None:
    points = encoder(name, PointPreprocessing(num_points=None))
    batch = [points.preprocess(media(num, seed)) for seed, num in enumerate((60, 45, 80))]
    together = points.encode(batch)
    for row, cloud in zip(together, batch, strict=True):
        (alone,) = points.encode([cloud])
        np.testing.assert_allclose(row.vector, alone.vector, atol=1e-5)
        assert row.encoder_id == f"{name}-test"
    assert not np.allclose(together[0].vector, together[1].vector, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_are_unit_rows_of_the_joint_width(name: str) -> None:
    points = encoder(name)
    (row,) = points.encode([points.preprocess(media())])
    assert points.modality is Modality.POINT_CLOUD
    assert row.vector.shape == (11,) and row.vector.dtype == np.float32
    assert np.linalg.norm(row.vector) == pytest.approx(1.0, abs=1e-5)


def test_preprocessing_resamples_to_the_configured_number_of_points() -> None:
    points = encoder("pointbert", PointPreprocessing(num_points=50, unit_sphere=False))
    many, few = media(70), media(20)
    sample = points.preprocess(many)
    assert sample.shape == (50, 3)
    assert {tuple(row) for row in sample.tolist()} <= {tuple(row) for row in many.array.tolist()}
    assert torch.equal(sample, points.preprocess(many))
    padded = points.preprocess(few)
    assert padded.shape == (50, 3)
    assert torch.equal(padded[20:40], torch.tensor(few.array))


def test_preprocessing_moves_a_cloud_onto_the_unit_sphere_unless_told_not_to() -> None:
    raw = media()
    kept = encoder("pointbert", PointPreprocessing(num_points=None, unit_sphere=False)).preprocess(raw)
    scaled = encoder("pointbert", PointPreprocessing(num_points=None)).preprocess(raw)
    assert torch.equal(kept, torch.tensor(raw.array))
    assert float(scaled.norm(dim=1).max()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.full((30, 3), np.nan), "NaN"),
        (np.zeros((7, 3)), "needs at least 8"),
        (np.zeros((30, 6)), "shape"),
    ],
)
def test_bad_points_are_refused_before_they_are_padded(array: np.ndarray, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        encoder("pointbert").preprocess(DecodedMedia(container="ply", array=array))


def test_points_beyond_float32_are_refused_as_infinite() -> None:
    array = np.full((30, 3), 1e300)
    with pytest.raises(InvalidRequest, match="infinite"):
        encoder("pointbert").preprocess(DecodedMedia(container="npy", array=array))


def test_pointbert_loads_from_a_file_that_also_holds_imagebind() -> None:
    state = PointBert(POINTBERT).state_dict()
    beside = {"modality_trunks.vision.blocks.0.attn.in_proj_weight": torch.zeros(3)}
    loaded = load_point_model(PointBert(POINTBERT), state | beside, "w3D.pth")
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_i2pmae_loads_from_a_file_that_also_holds_imagebind() -> None:
    state = I2pMae(I2PMAE).state_dict()
    beside = {"bind.modality_heads.vision.0.weight": torch.zeros(3)}
    loaded = load_point_model(I2pMae(I2PMAE), state | beside, "pb.pth")
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_a_missing_an_unexpected_and_a_misshapen_key_are_named_with_the_file() -> None:
    state = PointBert(POINTBERT).state_dict()
    cases = {
        "missing point_trunk.pc_projection": {k: v for k, v in state.items() if k != "point_trunk.pc_projection"},
        "unexpected llama.norm.weight": state | {"llama.norm.weight": torch.zeros(3)},
        "pc_projection has shape": state | {"point_trunk.pc_projection": torch.zeros(3)},
    }
    for sentence, broken in cases.items():
        with pytest.raises(CheckpointError, match=rf"w3D\.pth.*{sentence}"):
            load_point_model(PointBert(POINTBERT), broken, "w3D.pth")


def test_a_released_file_becomes_an_encoder_named_by_its_weights(tmp_path: Path) -> None:
    torch.save(PointBert(PointBertConfig()).state_dict(), tmp_path / "w3D.pth")
    points = load_point_encoder(tmp_path / "w3D.pth", "pointbert")
    assert re.fullmatch(r"pointbert-[0-9a-f]{16}", points.encoder_id)
    with pytest.raises(CheckpointError, match=r"w3D\.pth does not fit I2pMae: missing"):
        load_point_encoder(tmp_path / "w3D.pth", "i2p_mae")
    with pytest.raises(UnknownName, match="pointbert, i2p_mae"):
        load_point_encoder(tmp_path / "w3D.pth", "pointnet")


def test_configurations_that_cannot_work_are_refused_when_built() -> None:
    with pytest.raises(ConfigError, match="multiple of num_heads"):
        PointBertConfig(width=10, num_heads=3)
    with pytest.raises(ConfigError, match="positive"):
        PointBertConfig(num_groups=0)
    with pytest.raises(ConfigError, match="heads"):
        I2pMaeConfig(num_heads=5)
    with pytest.raises(ConfigError, match="num_points"):
        PointPreprocessing(num_points=0)
