"""The procedural objects that the point-cloud encoder of `mini` is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.types import Modality
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits
from media.points import decode_points
from media.sniff import sniff
from training.shapes.catalogue import MAKERS, NAMELESS, NAMES, build
from training.shapes.clouds import augment, sample, to_unit_sphere, visible
from training.shapes.parts import Dice, ball_corners, box, hoop, lathe, turn
from training.shapes.pool import make_pool, make_views, object_of, read_views
from training.shapes.writers import WRITERS


@pytest.mark.parametrize("name", NAMES)
def test_every_object_of_a_class_is_solid_and_unlike_the_next(name: str) -> None:
    objects = [MAKERS[name](Dice(np.random.default_rng(seed))) for seed in range(12)]
    for triangles in objects:
        assert np.isfinite(triangles).all()
        assert (np.ptp(triangles.reshape(-1, 3), axis=0) > 0).all()
    assert len({triangles.tobytes() for triangles in objects}) == len(objects)


def test_an_object_follows_from_its_seed_and_number() -> None:
    first, again, other = object_of(3, 5), object_of(3, 5), object_of(3, 6)
    assert (first[0] == again[0]).all()
    assert first[1] == again[1]
    assert not np.array_equal(first[0], other[0])


def test_points_are_spread_by_area() -> None:
    large, small = box((0, 0, 0), (2, 2, 2)), box((10, 0, 0), (1, 1, 1))
    points, normals = sample(np.concatenate((large, small)), 8000, np.random.default_rng(0))
    assert (points[:, 0] > 5).mean() == pytest.approx(1 / 5, abs=0.02)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1, abs=1e-5)


def test_primitives_lie_where_they_should() -> None:
    assert np.linalg.norm(lathe([(1, 0), (1, 1)]).reshape(-1, 3)[:, :2], axis=1).max() == pytest.approx(1)
    ring = hoop((0, 0, 0), 1.0, 0.1, plane="xy").reshape(-1, 3)
    assert np.linalg.norm(ring[:, :2], axis=1).min() == pytest.approx(0.9, abs=0.02)
    turned = turn(box((1, 0, 0), (0.1, 0.1, 0.1)), "z", 90)
    assert turned.reshape(-1, 3).mean(axis=0) == pytest.approx([0, 1, 0], abs=1e-6)


def test_the_far_side_of_a_sphere_is_hidden() -> None:
    points = ball_corners(4000)
    seen = visible(points, np.array((1, 0, 0), dtype=np.float32), cells=24, slack=0.05)
    assert (points[seen, 0] > -0.3).all()
    assert 0.2 < seen.mean() < 0.6


@pytest.mark.parametrize("label", [0, NAMES.index("mug"), NAMELESS])
def test_an_augmented_view_fills_the_unit_sphere(label: int) -> None:
    random = np.random.default_rng(label)
    points, _ = sample(build(label, random), 2048, random)
    for upright in (True, False):
        view = augment(to_unit_sphere(points), random, upright=upright)
        assert view.shape == (1024, 3)
        assert np.linalg.norm(view, axis=1).max() == pytest.approx(1, abs=1e-3)
        assert view.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-3)


def test_an_interrupted_pool_goes_on_with_the_same_objects(tmp_path: Path) -> None:
    clouds, labels = make_pool(tmp_path / "pool", 500, seed=1)
    kept = (tmp_path / "pool" / "1-0.npz").stat().st_mtime_ns
    again, _ = make_pool(tmp_path / "pool", 500, seed=1)
    assert np.array_equal(clouds, again)
    assert (tmp_path / "pool" / "1-0.npz").stat().st_mtime_ns == kept
    make_views(tmp_path / "views", (clouds[:40], labels[:40]), range(1), seed=1)
    views, targets, objects = read_views(tmp_path / "views", 1, seed=1)
    assert views.shape == (500, 1024, 3)
    assert set(objects.tolist()) == set(range(40))
    assert set(targets.tolist()) <= {*labels[:40].tolist(), NAMELESS}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_written_shape_is_read_back(suffix: str) -> None:
    random = np.random.default_rng(0)
    triangles = build(NAMES.index("chair"), random)
    points, _ = sample(triangles, 3000, random)
    content = WRITERS[suffix](triangles, points)
    assert sniff(content) == suffix
    job = DecodeJob(container=suffix, modality=Modality.POINT_CLOUD, limits=MediaLimits(), options=DecodeOptions())
    read = decode_points(content, job).array
    assert np.ptp(read, axis=0) == pytest.approx(np.ptp(triangles.reshape(-1, 3), axis=0), rel=0.06)
