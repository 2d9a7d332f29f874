"""The point-cloud encoder of `mini` as shipped: what it names, what it doubts, and what must not change its mind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from core.errors import CheckpointError, InvalidRequest
from core.types import DecodedMedia, Embedding, FloatArray
from models.mini.assets import POINT_WEIGHTS
from models.mini.points import MiniPointEncoder, load_point_encoder
from models.mini.points_network import turn_about_z, view_rotations, yaw_of
from training.shapes.catalogue import NAMELESS, NAMES, build
from training.shapes.clouds import sample

SURE_CLASSES = ("chair", "airplane", "mug", "bicycle", "guitar", "toilet")


@pytest.fixture(scope="module")
def encoder() -> MiniPointEncoder:
    return load_point_encoder(POINT_WEIGHTS)


def cloud_of(name: str, number: int = 0, num_points: int = 4000) -> FloatArray:
    random = np.random.default_rng((880_000, number))
    label = NAMES.index(name) if name in NAMES else NAMELESS
    return sample(build(label, random), num_points, random)[0]


def encode(encoder: MiniPointEncoder, points: FloatArray) -> Embedding:
    (embedding,) = encoder.encode([encoder.preprocess(DecodedMedia(container="npy", array=points))])
    return embedding


def nearest(encoder: MiniPointEncoder, embedding: Embedding) -> str:
    return encoder.names[int(np.argmax(encoder.name_vectors @ embedding.vector))]


def test_most_objects_of_familiar_classes_are_named(encoder: MiniPointEncoder) -> None:
    said = [
        nearest(encoder, encode(encoder, cloud_of(name, number))) == name
        for name in SURE_CLASSES
        for number in range(4)
    ]
    assert np.mean(said) >= 0.75


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_neither_scale_nor_place_matters(encoder: MiniPointEncoder, scale: float) -> None:
    points = cloud_of("airplane")
    moved = (points * scale + np.array([3, -2, 7]) * scale).astype(np.float32)
    assert encode(encoder, moved).vector == pytest.approx(encode(encoder, points).vector, abs=0.02)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1)], ids=["z up", "y up", "x up"])
def test_a_chair_is_a_chair_whichever_axis_is_up(encoder: MiniPointEncoder, axes: tuple[int, int, int]) -> None:
    named = [
        nearest(encoder, encode(encoder, np.ascontiguousarray(cloud_of("chair", number)[:, axes])))
        for number in range(4)
    ]
    assert sum("chair" in name for name in named) >= 3


def test_turning_about_the_vertical_hardly_matters(encoder: MiniPointEncoder) -> None:
    points = cloud_of("airplane")
    rows = [encode(encoder, turn_about_z(points, angle).astype(np.float32)).vector for angle in (0, 37, 101, 233)]
    assert all(float(row @ rows[0]) > 0.8 for row in rows)


def test_random_heaps_of_parts_are_doubted_more_than_objects(encoder: MiniPointEncoder) -> None:
    heaps = [encode(encoder, cloud_of("nothing", number)).confidence or 0.0 for number in range(12)]
    objects = [
        encode(encoder, cloud_of(name, number)).confidence or 0.0 for name in SURE_CLASSES for number in range(2)
    ]
    assert np.median(heaps) < 0.5 < np.median(objects)


def test_a_row_is_a_unit_vector_that_does_not_depend_on_its_batch(encoder: MiniPointEncoder) -> None:
    clouds = [cloud_of("chair"), cloud_of("mug")]
    rows = [encoder.preprocess(DecodedMedia(container="npy", array=points)) for points in clouds]
    together, alone = encoder.encode(rows), [encoder.encode([row])[0] for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert one.vector == pytest.approx(other.vector, abs=1e-5)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
        assert np.linalg.norm(one.vector) == pytest.approx(1, abs=1e-5)
        assert 0 <= (one.confidence or 0) <= 1


def test_the_same_file_gives_the_same_embedding(encoder: MiniPointEncoder) -> None:
    points = cloud_of("car", num_points=9000)
    assert (encode(encoder, points).vector == encode(encoder, points.copy()).vector).all()


@pytest.mark.parametrize("num_points", [3, 50, 1_000_000])
def test_any_number_of_points_is_brought_to_1024(encoder: MiniPointEncoder, num_points: int) -> None:
    points = np.random.default_rng(0).normal(size=(num_points, 3)).astype(np.float32)
    row = encoder.preprocess(DecodedMedia(container="npy", array=points))
    assert row.shape == (1024, 3)
    assert np.isfinite(encoder.encode([row])[0].vector).all()


def test_flat_and_straight_clouds_are_encoded(encoder: MiniPointEncoder) -> None:
    line = np.column_stack((np.linspace(0, 1, 500), np.zeros(500), np.zeros(500))).astype(np.float32)
    plane = np.random.default_rng(0).random((500, 3)).astype(np.float32) * (1, 1, 0)
    for points in (line, plane.astype(np.float32)):
        assert np.isfinite(encode(encoder, points).vector).all()


@pytest.mark.parametrize("points", [np.ones((20, 3)), np.full((20, 3), np.nan), np.ones((20, 2))])
def test_clouds_without_a_shape_are_refused(encoder: MiniPointEncoder, points: FloatArray) -> None:
    with pytest.raises(InvalidRequest):
        encode(encoder, points.astype(np.float32))


def test_the_ground_plan_is_found_at_any_angle() -> None:
    random = np.random.default_rng(0)
    plan = random.uniform((-2, -1, 0), (2, 1, 1), (2000, 3)).astype(np.float32)
    for angle in (0, 20, 45, 130):
        turned = turn_about_z(plan, angle).astype(np.float32)
        aligned = turn_about_z(turned, yaw_of(turned))
        assert np.ptp(aligned, axis=0)[:2] == pytest.approx([4, 2], abs=0.15)


def test_every_view_is_a_rotation() -> None:
    rotations = view_rotations(cloud_of("chair")).numpy()
    assert rotations.shape == (12, 3, 3)
    assert rotations @ rotations.transpose(0, 2, 1) == pytest.approx(np.broadcast_to(np.eye(3), (12, 3, 3)), abs=1e-5)
    assert np.linalg.det(rotations) == pytest.approx(np.ones(12), abs=1e-5)


def test_a_damaged_weights_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "points.safetensors"
    path.write_bytes(POINT_WEIGHTS.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"points\.safetensors"):
        load_point_encoder(path)


def test_other_weights_are_another_encoder(tmp_path: Path, encoder: MiniPointEncoder) -> None:
    with safe_open(POINT_WEIGHTS, framework="pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a mapping)
        metadata = stored.metadata()
    tensors["groups.classifier.bias"] = tensors["groups.classifier.bias"] + 1
    save_file(tensors, tmp_path / "points.safetensors", metadata)
    assert load_point_encoder(tmp_path / "points.safetensors").encoder_id != encoder.encoder_id
