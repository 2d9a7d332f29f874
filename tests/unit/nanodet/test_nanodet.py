"""NanoDet-g: weights in 8 bits, the conversion from TensorFlow.js, boxes, and pictures of any shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from core.errors import CheckpointError
from models.nanodet.detector import MIN_SCORE, NAMES, FoundObject, load_detector, overlaps
from models.nanodet.network import NanoDet, as_bytes, from_bytes
from training.nanodet_conversion import converted

SAMPLES = Path(__file__).resolve().parents[3] / "docs" / "samples"


def photograph(name: str) -> Image.Image:
    with Image.open(SAMPLES / name) as opened:
        return opened.convert("RGB")


def find(picture: Image.Image) -> list[FoundObject]:
    return load_detector().find(np.asarray(picture))


def released_form(folder: Path, network: NanoDet, *, leave_out: int = 0) -> Path:
    """Write a network as TensorFlow.js keeps it: halves in one file, kernels (h, w, I, O), convolutions by number."""
    nodes, entries, content = [], [], b""
    state = network.state_dict()
    layers = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    for place, layer in enumerate(layers[: len(layers) - leave_out]):
        name = f"Call/convolution_{place}" if place else "Call/convolution"
        nodes.append({"name": name, "op": "Conv2D", "input": ["x", f"{layer}/kernel"]})
        nodes.append({"name": f"Call/Add_{place}", "op": "Add", "input": [name, f"{layer}/bias"]})
        for part, value in (("kernel", state[f"{layer}.weight"].permute(2, 3, 1, 0)), ("bias", state[f"{layer}.bias"])):
            half = {"dtype": "float16", "original_dtype": "float32"}
            entries.append({"name": f"{layer}/{part}", "shape": list(value.shape), "dtype": "float32"})
            entries[-1]["quantization"] = half
            content += value.half().numpy().tobytes()
    (folder / "a.bin").write_bytes(content)
    manifest = [{"paths": ["a.bin"], "weights": entries}]
    model = {"modelTopology": {"node": nodes[::-1]}, "weightsManifest": manifest}
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


def test_the_released_form_gives_back_every_weight(tmp_path: Path) -> None:
    network = NanoDet()
    weights = converted(released_form(tmp_path, network))
    for name, value in network.state_dict().items():
        assert torch.equal(weights[name], value.half().float()), name


def test_another_graph_is_refused_with_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has 33 convolutions; NanoDet-g has 34"):
        converted(released_form(tmp_path, NanoDet(), leave_out=1))
    (tmp_path / "a.bin").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"no TensorFlow\.js form"):
        converted(tmp_path / "model.json")


def test_eight_bits_keep_a_weight_to_half_a_step() -> None:
    state = NanoDet().state_dict()
    kept = from_bytes(as_bytes(state))
    assert set(kept) == set(state)
    for name, value in state.items():
        step = value.abs().amax(dim=(1, 2, 3), keepdim=True) / 127 if name.endswith("weight") else torch.tensor(0.0)
        assert bool(((kept[name] - value).abs() <= step / 2 + 1e-7).all()), name


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [((0, 0, 2, 2), (0, 0, 2, 2), 1.0), ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3), ((0, 0, 1, 1), (2, 2, 3, 3), 0.0)],
)
def test_overlap_is_the_shared_area_over_the_joined_one(first: tuple[int], second: tuple[int], share: float) -> None:
    boxes: list[Tensor] = [torch.tensor([box], dtype=torch.float32) for box in (first, second)]
    assert float(overlaps(*boxes)) == pytest.approx(share)


def test_an_object_is_found_where_it_lies_whatever_the_picture_measures() -> None:
    bear = photograph("teddy_bear.webp")
    for size, corner in (((640, 480), (20, 250)), ((300, 900), (60, 640)), ((1200, 400), (900, 120))):
        picture = Image.new("RGB", size, (90, 120, 90))
        picture.paste(bear.resize((200, 200)), corner)
        (found,) = find(picture)
        assert found.name == "teddy bear"
        expected = [(corner[axis % 2] + (200 if axis > 1 else 0)) / size[axis % 2] for axis in range(4)]
        near = [0.08 * max(size) / size[axis % 2] for axis in range(4)]
        assert all(abs(got - want) <= most for got, want, most in zip(found.box, expected, near, strict=True))


def test_one_cat_is_not_also_taken_for_a_dog() -> None:
    (found,) = find(photograph("cat.jpg"))
    assert found.name == "cat"
    assert MIN_SCORE <= found.score <= 1


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (64, 64)])
def test_an_empty_picture_of_any_shape_holds_nothing(size: tuple[int, int]) -> None:
    assert find(Image.new("RGB", size, (128, 128, 128))) == []


def test_there_is_a_name_for_every_class() -> None:
    assert len(set(NAMES)) == 80
