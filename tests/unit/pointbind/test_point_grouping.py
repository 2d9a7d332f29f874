"""Farthest-point sampling, grouping and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.errors import ConfigError, InvalidRequest
from models.pointbind.grouping import (
    GroupingRule,
    farthest_point_ids,
    group_clouds,
    nearest_ids,
    normalize_unit_sphere,
)


def cloud(num_points: int, seed: int = 0) -> Tensor:
    return torch.randn(num_points, 3, generator=torch.Generator().manual_seed(seed))


def plain_farthest_ids(points: Tensor, rule: GroupingRule, start: int) -> list[int]:
    """Return the same ids by the definition: compare every candidate with every chosen point."""
    chosen = [start]
    while len(chosen) < rule.num_groups:
        best, best_distance = 0, -1.0
        for candidate, point in enumerate(points):
            if rule.min_squared_norm is not None and float((point * point).sum()) <= rule.min_squared_norm:
                continue
            distance = min(float(((point - points[i]) ** 2).sum()) for i in chosen)
            if distance > best_distance:
                best, best_distance = candidate, distance
        chosen.append(best)
    return chosen


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), num_points=st.integers(8, 30), start=st.integers(0, 7))
def test_sampling_equals_the_plain_loop(seed: int, num_points: int, start: int) -> None:
    points = cloud(num_points, seed).double()
    rule = GroupingRule(num_groups=6, group_size=1)
    assert farthest_point_ids(points, rule, start=start).tolist() == plain_farthest_ids(points, rule, start)


def test_sampling_skips_points_near_the_origin_but_starts_at_the_first_one() -> None:
    points = cloud(20).double()
    points[[0, 3, 7]] *= 1e-3
    rule = GroupingRule(num_groups=10, group_size=1, min_squared_norm=1e-3)
    ids = farthest_point_ids(points, rule).tolist()
    assert ids == plain_farthest_ids(points, rule, 0)
    assert ids[0] == 0 and not {3, 7} & set(ids)


def test_sampling_only_points_near_the_origin_falls_back_to_the_first() -> None:
    rule = GroupingRule(num_groups=3, group_size=1, min_squared_norm=1e-3)
    assert farthest_point_ids(cloud(5) * 1e-4, rule).tolist() == [0, 0, 0]


def test_sampling_takes_the_first_of_equally_far_points() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0]])
    assert farthest_point_ids(points, GroupingRule(2, 1)).tolist() == [0, 1]


def test_grouping_twice_gives_the_same_groups() -> None:
    rules = (GroupingRule(32, 8), GroupingRule(8, 4))
    first, second = (group_clouds([cloud(200)], rules) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_nearest_ids_are_the_smallest_distances_even_far_from_the_origin() -> None:
    points = cloud(300)
    centres = points[:20]
    exact = torch.cdist(centres.double(), points.double()).topk(5, largest=False).indices.sort().values
    assert torch.equal(nearest_ids(points, centres, 5).sort().values, exact)
    moved = points + 1000.0
    exact = torch.cdist(moved[:20].double(), moved.double()).topk(5, largest=False).values
    found = nearest_ids(moved, moved[:20], 5)
    distances = (moved[found] - moved[:20, None]).double().norm(dim=-1).sort().values
    assert torch.allclose(distances, exact, atol=1e-6)


def test_clouds_of_unequal_size_group_as_they_do_alone() -> None:
    rules = (GroupingRule(16, 4),)
    clouds = [cloud(50), cloud(90, seed=1)]
    (both,) = group_clouds(clouds, rules, starts=[3, 5])
    for i, (points, start) in enumerate(zip(clouds, (3, 5), strict=True)):
        (alone,) = group_clouds([points], rules, starts=[start])
        assert torch.equal(both.centres[i], alone.centres[0])
        assert torch.equal(both.offsets[i], alone.offsets[0])
    assert torch.equal(both.centres[:, 0], torch.stack((clouds[0][3], clouds[1][5])))


def test_normalising_gives_zero_mean_and_unit_radius() -> None:
    points = normalize_unit_sphere(cloud(100) * 7 + 30)
    assert torch.allclose(points.mean(dim=0), torch.zeros(3), atol=1e-5)
    assert float(points.norm(dim=1).max()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        (torch.full((50, 3), float("nan")), "NaN or infinite"),
        (torch.full((50, 3), float("inf")), "NaN or infinite"),
        (torch.zeros(15, 3), "needs at least 16"),
        (torch.zeros(50, 4), r"shape \(N, 3\)"),
        (torch.zeros(50), r"shape \(N, 3\)"),
    ],
)
def test_a_bad_cloud_is_refused_with_the_rule_it_broke(points: Tensor, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        group_clouds([points], (GroupingRule(16, 4),))


def test_starts_must_be_one_existing_point_per_cloud() -> None:
    with pytest.raises(InvalidRequest, match=r"\[0, 50\)"):
        group_clouds([cloud(50)], (GroupingRule(16, 4),), starts=[50])
    with pytest.raises(InvalidRequest, match="one start for each"):
        group_clouds([cloud(50)], (GroupingRule(16, 4),), starts=[0, 1])
    with pytest.raises(InvalidRequest, match="at least one cloud"):
        group_clouds([], (GroupingRule(16, 4),))


def test_a_level_with_too_few_centres_for_the_next_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="too small for the next"):
        group_clouds([cloud(50)], (GroupingRule(8, 4), GroupingRule(4, 9)))


def test_coinciding_points_cannot_be_normalised() -> None:
    with pytest.raises(InvalidRequest, match="same"):
        normalize_unit_sphere(torch.ones(10, 3))
