"""The recipe of the point-cloud encoder, from the first object to the file that the server loads, by its command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.types import DecodedMedia
from models.mini.points import load_point_encoder
from training.recipes.mini_shapes import Anchors, main, shape_loss
from training.shapes.catalogue import NAMES

FEW = {
    "objects": 500,
    "chunks": 1,
    "portraits": 20,
    "occupancy-steps": 3,
    "trunk-steps": 2,
    "validation": 8,
    "workers": 1,
}


def test_one_command_makes_an_encoder_and_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    command = ["--out", str(tmp_path), *(f"--{name}={value}" for name, value in FEW.items())]
    main(command)
    weights = tmp_path / "points.safetensors"
    first = load_file(weights)
    assert weights.stat().st_size < 8_000_000
    encoder = load_point_encoder(weights)
    assert encoder.names == NAMES
    cloud = np.random.default_rng(0).normal(size=(900, 3)).astype(np.float32)
    (embedding,) = encoder.encode([encoder.preprocess(DecodedMedia(container="npy", array=cloud))])
    assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-5)
    kept = {
        path: path.stat().st_mtime_ns
        for folder in ("pool", "views", "portraits")
        for path in (tmp_path / folder).iterdir()
    }
    weights.unlink()
    (tmp_path / "groups" / "checkpoint.pt").unlink()  # as if it had stopped in the middle of the second network
    main(command)
    again = load_file(weights)  # not the bytes: the header's metadata are in no fixed order
    assert first.keys() == again.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_row_is_drawn_to_the_name_and_to_the_picture_of_its_object() -> None:
    names = torch.eye(4)[:2]
    anchors = Anchors(names, torch.eye(4)[2:], picture_weight=1.0)
    logits, labels, objects = torch.zeros(2, len(NAMES) + 1), torch.tensor((0, 1)), torch.tensor((0, 1))
    near_both = names + anchors.pictures
    near_others = names + anchors.pictures.flip(0)
    assert shape_loss(logits, near_both, labels, objects, anchors) < shape_loss(
        logits, near_others, labels, objects, anchors
    )
    without = Anchors(names, anchors.pictures, picture_weight=0.0)
    assert shape_loss(logits, near_both, labels, objects, without) == shape_loss(
        logits, near_others, labels, objects, without
    )
