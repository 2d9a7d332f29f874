"""iLLaMA's checkpoints, resolutions, start from a LLaMA, and naming of pictures."""

from __future__ import annotations

import pickle
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from core.errors import CheckpointError, ConfigError, InvalidRequest
from models.checkpoints import read_checkpoint
from models.illama.classifier import IllamaClassifier, normalised_pixels
from models.illama.model import Illama, IllamaConfig
from models.illama.schedules import PhaseSchedule
from models.illama.weights import initialise_from_llama, interpolate_positions, load_illama, select_uniformly

CONFIG = IllamaConfig(width=24, depth=2, num_heads=3, image_size=16, patch_size=4, num_classes=5)
LARGER = IllamaConfig(width=24, depth=2, num_heads=3, image_size=32, patch_size=4, num_classes=5)


def model(config: IllamaConfig = CONFIG) -> Illama:
    torch.manual_seed(0)
    return Illama(config).eval()


def test_a_training_checkpoint_loads_from_its_model_entry(tmp_path: Path) -> None:
    illama = model()
    path = tmp_path / "best.pth"
    torch.save({"model": illama.state_dict(), "epoch": 3, "args": Namespace(lr=0.1)}, path)
    loaded = load_illama(read_checkpoint(path), CONFIG, str(path))
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(loaded(image), illama(image))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"model": Payload()}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"bad\.pth"):
        read_checkpoint(tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CheckpointError, match=r"plain\.pth"):
        read_checkpoint(tmp_path / "plain.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors", "missing.pth", "missing.safetensors"])
def test_a_truncated_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    if name.startswith("cut"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not all there")
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(tmp_path / name)


def test_a_key_of_another_family_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"vit\.pth.*unexpected blocks\.0\.norm1\.bias"):
        load_illama(model().state_dict() | {"blocks.0.norm1.bias": torch.zeros(24)}, CONFIG, "vit.pth")


def test_positions_of_another_resolution_are_interpolated_and_the_class_row_kept() -> None:
    small = model()
    large = load_illama(small.state_dict(), LARGER, "small.pth")
    assert large.pos_embed.shape == (1, 65, 24)
    assert torch.equal(large.pos_embed[:, -1], small.pos_embed[:, -1])
    assert torch.equal(large.head.weight, small.head.weight)


def test_constant_positions_stay_constant_when_interpolated() -> None:
    assert torch.allclose(interpolate_positions(torch.full((1, 10, 4), 2.5), 7), torch.full((1, 50, 4), 2.5))


def test_positions_that_are_no_square_are_refused() -> None:
    state = model().state_dict() | {"pos_embed": torch.zeros(1, 13, 24)}
    with pytest.raises(CheckpointError, match="13 rows"):
        load_illama(state, CONFIG, "odd.pth")


def test_uniform_selection_steps_evenly_through_every_axis() -> None:
    larger = torch.arange(48.0).view(6, 8)
    assert torch.equal(select_uniformly(larger, torch.Size((3, 4))), larger[::2, ::2])
    uneven = select_uniformly(larger, torch.Size((4, 3)))
    assert torch.equal(uneven, larger[[0, 2, 3, 5]][:, [0, 4, 7]])
    with pytest.raises(CheckpointError, match="only shrinks"):
        select_uniformly(larger, torch.Size((7, 8)))


def hugging_face_llama(num_kv_heads: int = 4) -> dict[str, Tensor]:
    """Return two layers of width 48, four heads of 12, hidden width 300."""
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "self_attn.q_proj": (48, 48),
        "self_attn.k_proj": (12 * num_kv_heads, 48),
        "self_attn.v_proj": (12 * num_kv_heads, 48),
        "self_attn.o_proj": (48, 48),
        "mlp.gate_proj": (300, 48),
        "mlp.down_proj": (48, 300),
        "mlp.up_proj": (300, 48),
        "input_layernorm": (48,),
        "post_attention_layernorm": (48,),
    }
    return {
        f"model.layers.{i}.{name}.weight": torch.randn(shape, generator=generator)
        for i in range(2)
        for name, shape in shapes.items()
    }


META_NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def meta_llama(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same LLaMA under Meta's names, q and k rows back in neighbouring pairs."""
    renamed = {}
    for key, value in state.items():
        _, _, layer, name = key.removesuffix(".weight").split(".", 3)
        if name in ("self_attn.q_proj", "self_attn.k_proj"):
            value = value.view(4, 2, 6, 48).transpose(1, 2).reshape(48, 48)
        renamed[f"layers.{layer}.{META_NAMES[name]}.weight"] = value
    return renamed


def test_weight_selection_fills_the_blocks_and_leaves_the_rest() -> None:
    llama, illama = hugging_face_llama(), model()
    before = {key: value.clone() for key, value in illama.state_dict().items()}
    initialise_from_llama(illama, llama, head_width=12)
    after = illama.state_dict()
    first = "model.layers.0"
    stacked = torch.cat([llama[f"{first}.self_attn.{part}_proj.weight"] for part in "qkv"])
    assert torch.equal(after["blocks.0.attn.qkv.weight"], stacked[::2, ::2])
    assert torch.equal(after["blocks.0.norm1.weight"], llama[f"{first}.input_layernorm.weight"][::2])
    rows = torch.linspace(0, 299, 256).round().long()
    assert torch.equal(after["blocks.0.mlp.fc1.weight"], llama[f"{first}.mlp.gate_proj.weight"][rows][:, ::2])
    assert torch.equal(after["blocks.0.mlp.fc3.weight"], llama[f"{first}.mlp.up_proj.weight"][rows][:, ::2])
    assert torch.equal(after["blocks.0.mlp.fc2.weight"], llama[f"{first}.mlp.down_proj.weight"][::2][:, rows])
    for key in ("pos_embed", "head.weight", "norm.weight", "blocks.1.attn.qkv.bias"):
        assert torch.equal(after[key], before[key])


def test_weight_selection_gives_the_same_start_from_both_layouts() -> None:
    llama = hugging_face_llama()
    one, other = model(), model()
    initialise_from_llama(one, llama, head_width=12)
    initialise_from_llama(other, meta_llama(llama), head_width=12)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_weight_selection_repeats_shared_key_and_value_heads() -> None:
    shared = hugging_face_llama(num_kv_heads=2)
    spread = dict(shared)
    for key, value in shared.items():
        if "k_proj" in key or "v_proj" in key:
            spread[key] = value.view(2, 1, 12, 48).expand(2, 2, 12, 48).reshape(48, 48)
    one, other = model(), model()
    initialise_from_llama(one, shared, head_width=12)
    initialise_from_llama(other, spread, head_width=12)
    assert torch.equal(one.blocks[1].attn.qkv.weight, other.blocks[1].attn.qkv.weight)


def test_weight_selection_names_the_layer_it_misses() -> None:
    llama = {key: value for key, value in hugging_face_llama().items() if ".1." not in key}
    with pytest.raises(CheckpointError, match=r"layer 1.*model\.layers\.1\.self_attn\.q_proj"):
        initialise_from_llama(model(), llama, head_width=12)


def test_the_evaluation_transform_crops_the_centre_below_384_and_squeezes_from_384_on() -> None:
    gradient = np.repeat(np.linspace(0, 255, 300, dtype=np.uint8)[None, :, None], 200, axis=0).repeat(3, axis=2)
    cropped, squeezed = normalised_pixels(gradient, 224), normalised_pixels(gradient, 384)
    assert cropped.shape == (3, 224, 224) and squeezed.shape == (3, 384, 384)
    resized = Image.fromarray(gradient).resize((384, 256), Image.Resampling.BICUBIC).crop((80, 16, 304, 240))
    expected = (np.asarray(resized, dtype=np.float64) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(cropped.numpy(), expected.transpose(2, 0, 1), atol=1e-6)
    assert float(squeezed[0, 0, 0]) < float(cropped[0, 0, 0])


@pytest.mark.parametrize(
    ("shape", "sentence"), [((8, 8), r"\(H, W, 3\)"), ((0, 8, 3), "not empty"), ((1, 200, 3), "at most 50 to 1")]
)
def test_a_bad_picture_is_refused(shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        normalised_pixels(np.zeros(shape, dtype=np.uint8), 16)


def test_classify_names_the_likeliest_classes_best_first() -> None:
    illama = model()
    classifier = IllamaClassifier(illama, ["ant", "bee", "cat", "dog", "elk"])
    pictures = [np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8) for seed in (0, 1)]
    rows = classifier.classify(pictures, top_k=5)
    expected = illama(torch.stack([normalised_pixels(picture, 16) for picture in pictures])).softmax(dim=-1)
    for row, probabilities in zip(rows, expected, strict=True):
        assert [name for name, _ in row] == [
            classifier.class_names[i] for i in probabilities.argsort(descending=True).tolist()
        ]
        assert sum(probability for _, probability in row) == pytest.approx(1.0, abs=1e-5)
    assert [len(row) for row in classifier.classify(pictures, top_k=2)] == [2, 2]
    assert classifier.classify([]) == []


def test_classify_checks_names_and_top_k() -> None:
    with pytest.raises(ConfigError, match="5 classes, 2 names"):
        IllamaClassifier(model(), ["ant", "bee"])
    with pytest.raises(InvalidRequest, match=r"\[1, 5\]"):
        IllamaClassifier(model(), list("abcde")).classify([np.zeros((8, 8, 3), np.uint8)], top_k=6)


def test_the_soft_mask_falls_to_zero_at_the_cutoff_and_stays_there() -> None:
    values = PhaseSchedule(rate=1.0, num_epochs=4, steps_per_epoch=3, cutoff_epoch=2).values()
    np.testing.assert_allclose(values[:6], [1, 0.8, 0.6, 0.4, 0.2, 0], atol=1e-7)
    assert not values[6:].any() and len(values) == 12
    constant = PhaseSchedule(rate=0.5, num_epochs=4, steps_per_epoch=3, cutoff_epoch=2, shape="constant").values()
    assert constant.tolist() == [0.5] * 6 + [0.0] * 6
