"""Released files that are damaged, foreign or hostile are refused by name, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import CheckpointError
from models.convert import ConversionPlan, ConversionSizes, convert
from models.folder import load_folder
from tests.support.released_files import TINY_ENCODER, plan_for, write_imagebind


class Touch:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def whole_plan(folder: Path) -> ConversionPlan:
    """Return a plan with every kind of file: adapter, Meta shard and encoder."""
    plan = plan_for("imagebind_llm/base", folder)
    sizes = replace(plan.sizes, encoder=TINY_ENCODER)
    return replace(plan, encoder=write_imagebind(folder / "imagebind_huge.pth", with_points=False), sizes=sizes)


def drop_lora(state: dict[str, Tensor]) -> None:
    del state["llama.layers.2.attention.lora_wk_l1.weight"]


def add_key(state: dict[str, Tensor]) -> None:
    state["llama.surprise"] = torch.zeros(1)


def add_layer(state: dict[str, Tensor]) -> None:
    state["llama.layers.4.attention.gate"] = torch.zeros(1, 4, 1, 1)


def reshape_bias(state: dict[str, Tensor]) -> None:
    state["llama.layers.1.attention.wq.bias"] = torch.zeros(31)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (drop_lora, r"missing.*layers\.2\.attention\.lora_wk_l1"),
        (add_key, r"unexpected keys llama\.surprise"),
        (add_layer, r"unexpected.*layers\.4\.attention\.gate"),
        (reshape_bias, r"layers\.1\.attention\.wq\.bias has shape \(31,\)"),
    ],
)
def test_a_wrong_adapter_file_is_refused_by_key(
    edit: Callable[[dict[str, Tensor]], None], named: str, tmp_path: Path
) -> None:
    plan = plan_for("imagebind_llm/base", tmp_path)
    loaded = torch.load(plan.adapter, weights_only=True)
    edit(loaded["model"])
    torch.save(loaded, plan.adapter)
    with pytest.raises(CheckpointError, match=named):
        convert(plan)
    assert not plan.target.exists()


def test_another_family_another_base_and_another_vocabulary_are_refused(tmp_path: Path) -> None:
    plan = plan_for("imagebind_llm/base", tmp_path)
    with pytest.raises(CheckpointError, match="unknown adapter family 'lora'"):
        convert(replace(plan, family="lora"))
    with pytest.raises(CheckpointError, match=r"adapter\.pth.*unexpected keys image_bind"):
        convert(replace(plan, family="llama_adapter_v2"))
    shard = plan.base / "consolidated.00.pth"
    base = torch.load(shard, weights_only=True)
    torch.save({key: value for key, value in base.items() if key != "layers.0.attention.wq.weight"}, shard)
    with pytest.raises(CheckpointError, match=r"missing keys model\.layers\.0\.self_attn\.q_proj"):
        convert(plan)
    smaller = {key: value[:390] if value.shape[0] == 400 else value for key, value in base.items()}
    torch.save(smaller, shard)
    with pytest.raises(CheckpointError, match=r"400 tokens but model\.embed_tokens\.weight .* 390 rows"):
        convert(plan)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        convert(plan)


@pytest.mark.parametrize("name", ["adapter.pth", "base/consolidated.00.pth", "imagebind_huge.pth"])
def test_a_truncated_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    plan, path = whole_plan(tmp_path), tmp_path / name
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(CheckpointError, match=rf"{name} is truncated"):
        convert(plan)
    assert not plan.target.exists()


@pytest.mark.parametrize("name", ["adapter.pth", "base/consolidated.00.pth", "imagebind_huge.pth"])
@pytest.mark.parametrize("zip_form", [True, False])
def test_code_inside_a_file_is_refused_and_never_run(name: str, zip_form: bool, tmp_path: Path) -> None:
    plan = whole_plan(tmp_path)
    torch.save({"w": Touch(tmp_path / "ran")}, tmp_path / name, _use_new_zipfile_serialization=zip_form)
    with pytest.raises(CheckpointError, match=rf"{name} holds more than tensors; refused, none of its code ran"):
        convert(plan)
    assert not (tmp_path / "ran").exists()
    assert not plan.target.exists()


def test_code_put_into_a_converted_folder_is_refused_and_never_run(tmp_path: Path) -> None:
    target = convert(whole_plan(tmp_path))
    (target / "encoder.pth").unlink()
    torch.save({"w": Touch(tmp_path / "ran")}, target / "encoder.pth")
    with pytest.raises(CheckpointError, match=r"encoder\.pth holds more than tensors"):
        load_folder(target, torch.float32)
    assert not (tmp_path / "ran").exists()


def test_a_missing_shard_of_the_base_or_of_the_folder_is_named(tmp_path: Path) -> None:
    plan = whole_plan(tmp_path)
    shard = plan.base / "consolidated.00.pth"
    shard.rename(plan.base / "consolidated.01.pth")
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth is missing"):
        convert(plan)
    (plan.base / "consolidated.01.pth").rename(shard)
    target = convert(plan)
    (target / "model-00003-of-00005.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00003-of-00005\.safetensors is missing"):
        load_folder(target, torch.float32)


def test_a_shard_that_was_cut_or_lost_a_key_is_named(tmp_path: Path) -> None:
    target = convert(whole_plan(tmp_path))
    shard = target / "model-00002-of-00005.safetensors"
    stored, key = load_file(shard), "model.layers.1.mlp.up_proj.weight"
    save_file({name: value for name, value in stored.items() if name != key}, shard)
    with pytest.raises(CheckpointError, match=rf"safetensors\.index\.json: missing|missing keys .*{key}"):
        load_folder(target, torch.float32)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model-00002-of-00005\.safetensors is truncated"):
        load_folder(target, torch.float32)


def test_an_encoder_of_another_kind_or_width_is_refused_by_file_and_key(tmp_path: Path) -> None:
    plan = whole_plan(tmp_path)
    assert plan.encoder is not None
    stored = torch.load(plan.encoder, weights_only=True)
    torch.save({key: value for key, value in stored.items() if "imu_stem.proj" not in key}, plan.encoder)
    with pytest.raises(CheckpointError, match=r"imagebind_huge\.pth .*missing .*imu_stem\.proj\.weight"):
        convert(plan)
    torch.save(stored, plan.encoder)
    with pytest.raises(CheckpointError, match=r"imagebind_huge\.pth .*missing modality_trunks\.vision\.blocks"):
        convert(replace(plan, sizes=ConversionSizes()))
    clip_plan = plan_for("llama_adapter_v2_multimodal/lora_bias_newgate", tmp_path / "v2")
    with pytest.raises(CheckpointError, match=r"imagebind_huge\.pth holds no CLIP visual tower"):
        convert(replace(clip_plan, encoder=plan.encoder))
    with pytest.raises(CheckpointError, match=r"imagebind_huge\.pth: llama_adapter_v1 takes no encoder"):
        convert(replace(plan_for("llama_adapter_v1", tmp_path / "v1"), encoder=plan.encoder))


def test_a_bind_network_for_another_joint_space_is_refused(tmp_path: Path) -> None:
    plan = whole_plan(tmp_path)
    loaded = torch.load(plan.adapter, weights_only=True)
    loaded["model"]["image_bind_proj.weight"] = loaded["model"]["image_bind_proj.weight"][:, :32].clone()
    torch.save(loaded, plan.adapter)
    with pytest.raises(CheckpointError, match=r"adapter\.pth: image_bind_proj\.weight takes 32 values; .* gives 40"):
        convert(plan)


def test_an_index_is_refused_where_nothing_refines_and_when_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.index is missing"):
        convert(replace(whole_plan(tmp_path), knn_index=tmp_path / "nowhere.index"))
    plan = plan_for("llama_adapter_v1", tmp_path / "v1")
    with pytest.raises(CheckpointError, match=r"params\.json: llama_adapter_v1 has no joint embedding"):
        convert(replace(plan, knn_index=plan.base / "params.json"))


@pytest.mark.parametrize("entry", [{"encoder": {"imagebind": {"wings": 2}}}, {"colour": "red"}])
def test_an_unknown_size_is_refused_by_name(entry: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps(entry))
    with pytest.raises(CheckpointError, match=r"sizes\.json has an unknown entry.*(wings|colour)"):
        ConversionSizes.read(tmp_path / "sizes.json")
