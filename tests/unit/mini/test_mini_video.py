"""Films through the picture encoder of `mini`: scenes, shares, times; the pictures come from docs/samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.types import AnyArray, DecodedMedia, FloatArray, Modality
from models.bundle import ModelBundle
from models.mini.encoder import MiniImageEncoder
from models.mini.loader import load_mini
from models.mini.video import MiniVideoEncoder, scene_shares, split_scenes
from tests.support.sample_films import shot


@pytest.fixture(scope="module")
def mini() -> ModelBundle:
    return load_mini(torch.bfloat16)


@pytest.fixture(scope="module")
def films(mini: ModelBundle) -> MiniVideoEncoder:
    encoder = mini.encoders[Modality.VIDEO]
    assert isinstance(encoder, MiniVideoEncoder)
    return encoder


def as_film(frames: list[AnyArray], frames_per_s: float = 2.0) -> DecodedMedia:
    times_s = tuple(place / frames_per_s for place in range(len(frames)))
    return DecodedMedia(
        container="mp4", array=np.stack(frames), frames_per_s=frames_per_s, frame_times_s=times_s
    )  # fmt: skip


def unit_rows(*angles: float) -> FloatArray:
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=np.float32)


def test_a_film_of_one_scene_means_the_mean_of_its_frames(mini: ModelBundle, films: MiniVideoEncoder) -> None:
    pictures = mini.encoders[Modality.IMAGE]
    frames = shot("cat.jpg", 5)
    (row,) = films.encode([films.preprocess(as_film(frames))])
    alone = [
        pictures.encode([pictures.preprocess(DecodedMedia(container="png", array=frame))])[0].vector for frame in frames
    ]
    mean = np.mean(alone, axis=0)
    np.testing.assert_allclose(row.vector, mean / np.linalg.norm(mean), atol=1e-5)
    (scene,) = row.scenes
    assert (scene.start_s, scene.end_s, scene.share) == (0.0, 2.5, 1.0)
    assert "cat" in scene.name
    assert row.confidence == pytest.approx(scene.confidence)


def test_a_cut_makes_two_scenes_and_the_longer_one_speaks(films: MiniVideoEncoder) -> None:
    cat, coffee = shot("cat.jpg", 6), shot("coffee.jpg", 3)
    (row,) = films.encode([films.preprocess(as_film(cat + coffee))])
    first, second = row.scenes
    assert "cat" in first.name
    assert second.name in ("espresso", "coffee cup", "cup")
    assert (first.start_s, first.end_s, second.end_s) == (0.0, 3.0, 4.5)
    assert (first.share, second.share) == (1.0, 0.0)
    (only_cat,) = films.encode([films.preprocess(as_film(cat))])
    np.testing.assert_allclose(row.vector, only_cat.vector, atol=1e-4)
    assert row.confidence == pytest.approx(only_cat.confidence, abs=1e-4)


def test_a_flash_of_something_else_does_not_count(films: MiniVideoEncoder) -> None:
    frames = shot("cat.jpg", 12)
    (steady,) = films.encode([films.preprocess(as_film(frames))])
    (flashed,) = films.encode([films.preprocess(as_film(frames[:6] + shot("coffee.jpg", 1) + frames[6:]))])
    assert [scene.share > 0 for scene in flashed.scenes] == [True, False, True]
    assert steady.vector @ flashed.vector > 0.99


def test_a_film_does_not_depend_on_its_batch(films: MiniVideoEncoder) -> None:
    clips = [
        films.preprocess(as_film(shot(name, num_frames))) for name, num_frames in (("cat.jpg", 2), ("watch.webp", 9))
    ]
    for together, clip in zip(films.encode(clips), clips, strict=True):
        np.testing.assert_allclose(together.vector, films.encode([clip])[0].vector, atol=1e-5)


def test_one_frame_is_a_film(mini: ModelBundle, films: MiniVideoEncoder) -> None:
    pictures = mini.encoders[Modality.IMAGE]
    assert isinstance(pictures, MiniImageEncoder)
    (frame,) = shot("cat.jpg", 1)
    (row,) = films.encode([films.preprocess(as_film([frame]))])
    (picture,) = pictures.encode([pictures.preprocess(DecodedMedia(container="png", array=frame))])
    np.testing.assert_allclose(row.vector, picture.vector, atol=1e-6)


def test_a_new_meaning_with_the_same_colours_is_no_cut() -> None:
    meanings = unit_rows(0.0, 0.0, 1.5, 1.5)
    still, moved = np.tile(np.eye(64, dtype=np.float32)[0], (4, 1)), np.eye(64, dtype=np.float32)[[0, 0, 5, 5]]
    assert split_scenes(meanings, still) == [slice(0, 4)]
    assert split_scenes(meanings, moved) == [slice(0, 2), slice(2, 4)]
    assert split_scenes(unit_rows(0.0, 0.0, 0.3, 0.3), moved) == [slice(0, 4)]


def test_scenes_that_mean_the_same_speak_together_when_they_are_longest() -> None:
    cat, kitten, car = unit_rows(0.0, 0.2, 1.5)
    np.testing.assert_allclose(scene_shares([3, 1], np.stack((cat, car))), [1, 0])
    np.testing.assert_allclose(scene_shares([2, 3, 2], np.stack((cat, car, kitten))), [0.5, 0, 0.5])
    np.testing.assert_allclose(scene_shares([1, 1], np.stack((car, cat))), [1, 0])  # the first of equals


def test_the_id_names_the_pictures_and_the_rule(mini: ModelBundle, films: MiniVideoEncoder) -> None:
    assert films.encoder_id.startswith(mini.encoders[Modality.IMAGE].encoder_id + "-")
