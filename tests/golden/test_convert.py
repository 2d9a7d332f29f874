"""`convert` turns released files into a folder whose decoder equals the reference's unmerged one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, LlamaForCausalLM

from benchmarks.parity_families.decoding import Reader, cut_at_eos
from benchmarks.parity_families.imagebind_llm import Scene
from core.errors import CheckpointError
from core.types import Condition, Modality
from models.bundle import ModelBundle
from models.clip import ClipVisualTower
from models.clip_files import clip_visual_state
from models.convert import Progress, convert
from models.folder import FolderManifest, load_folder, verify_folder
from models.llama.hf import hf_config
from models.llama.meta import MetaFolder
from models.registry import load_model
from tests.support.released_files import FAMILIES, plan_for

GOLDEN = Path(__file__).parent


def condition_of(fixture: str, bundle: ModelBundle) -> Condition:
    if fixture.startswith("imagebind_llm"):
        return bundle.adapter.condition(Scene(GOLDEN / fixture).fused("mix")[0, 0])
    if fixture.startswith("llama_adapter_v2_multimodal"):
        tower = bundle.encoders[Modality.IMAGE]
        images = load_file(GOLDEN / fixture / "inputs.safetensors")["images"][:1]
        return bundle.adapter.condition(tower.encode(list(images))[0].vector)
    return bundle.adapter.condition(None)


def reader_of(fixture: str, bundle: ModelBundle) -> Reader:
    condition = condition_of(fixture, bundle)
    if condition is None:
        return Reader(bundle.decoder)
    return Reader(bundle.decoder, bundle.decoder.project_condition(torch.from_numpy(condition.prompts)[None]))


@pytest.mark.parametrize("fixture", FAMILIES)
def test_the_converted_folder_decodes_as_the_unmerged_reference(fixture: str, tmp_path: Path) -> None:
    bundle = load_model(str(convert(plan_for(fixture, tmp_path))), torch.float32)
    reader = reader_of(fixture, bundle)
    inputs, expected = (load_file(GOLDEN / fixture / f"{name}.safetensors") for name in ("inputs", "outputs"))
    kind = "infer_" if fixture == "llama_adapter_v1" else ""
    middle = ".mix" if fixture.startswith("imagebind_llm") else ""
    for prompt in ("prompt1", "prompt2"):
        logits = expected[f"{kind}full_logits{middle}.{prompt}"]
        torch.testing.assert_close(reader.full_logits(inputs[prompt]), logits, atol=1e-4, rtol=0)
        greedy = expected[f"{kind}greedy_ids{middle}.{prompt}"]
        assert cut_at_eos(reader.greedy(inputs[prompt], 16)[0]) == greedy.tolist()


def test_a_training_checkpoint_of_v1_keeps_its_tanh(tmp_path: Path) -> None:
    plan = plan_for("llama_adapter_v1", tmp_path)
    torch.save({"model": torch.load(plan.adapter, weights_only=True)}, plan.adapter)
    bundle = load_folder(convert(plan), torch.float32)
    reader = reader_of("llama_adapter_v1", bundle)
    inputs, expected = (load_file(GOLDEN / "llama_adapter_v1" / f"{n}.safetensors") for n in ("inputs", "outputs"))
    logits = expected["train_logits.prompt2"].view(-1, 400)
    torch.testing.assert_close(reader.full_logits(inputs["prompt2"]), logits, atol=1e-4, rtol=0)


def test_the_folder_brings_tokenizer_prompt_format_and_digests(tmp_path: Path) -> None:
    plan = plan_for("imagebind_llm/base", tmp_path)
    target = convert(plan)
    bundle = load_folder(target, torch.bfloat16)
    recorded = json.loads((GOLDEN / "imagebind_llm/base/config.json").read_text())
    turn = [{"role": "user", "content": "Describe the picture in a few words."}]
    assert bundle.tokenizer.apply_chat_template(turn) == bundle.tokenizer.encode(recorded["text_prompt_strings"][0])
    assert bundle.name == "golden"
    assert {p.dtype for p in bundle.decoder.parameters()} == {torch.bfloat16}
    manifest = FolderManifest.read(target)
    assert {source.role for source in manifest.sources} == {"adapter", "base"}
    assert {source.licence for source in manifest.sources if source.role == "adapter"} == {"research only"}
    assert set(manifest.files) == {path.name for path in target.iterdir()} - {"bindchat.json"}
    assert verify_folder(target) == []
    (target / "config.json").write_text("{}")
    (target / "adapter.safetensors").unlink()
    assert {fault.split("/")[-1] for fault in verify_folder(target)} == {
        "config.json differs from the digest recorded at conversion",
        "adapter.safetensors is missing",
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stop_before", range(1, 11))
def test_a_killed_conversion_goes_on_and_ends_with_the_same_bytes(stop_before: int, tmp_path: Path) -> None:
    plan = plan_for("imagebind_llm/base", tmp_path)
    whole = convert(replace(plan, target=tmp_path / "whole"))
    seen: list[str] = []

    def killed(progress: Progress) -> None:
        seen.append(progress.stage)
        if len(seen) > stop_before:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(plan, killed)
    with pytest.raises(CheckpointError, match="has not finished"):
        load_folder(plan.target, torch.float32)
    (plan.target / "model-00005-of-00005.safetensors.partial").write_bytes(b"half a file")
    for path in plan.target.glob("model-00001*"):
        path.write_bytes(path.read_bytes()[:-1])  # a finished file that was damaged since
    assert files_of(convert(plan)) == files_of(whole)


def test_the_layout_of_the_base_does_not_change_the_result(tmp_path: Path) -> None:
    plan = plan_for("llama_adapter_v2_multimodal/lora_bias_newgate", tmp_path)
    stored, hf = MetaFolder(plan.base), tmp_path / "hf"
    hf.mkdir()
    save_file({key: stored.read(key).contiguous() for key in stored.shapes()}, hf / "model.safetensors")
    (hf / "config.json").write_text(json.dumps(hf_config(stored.config())))
    of_meta = files_of(convert(plan))
    of_hf = files_of(convert(replace(plan, base=hf, target=tmp_path / "other")))
    of_meta.pop("bindchat.json"), of_hf.pop("bindchat.json")
    assert of_meta == of_hf


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    plan = plan_for("imagebind_llm/pretrain", tmp_path)
    plan.target.mkdir()
    (plan.target / "diary.txt").write_text("dear diary")
    with pytest.raises(CheckpointError, match="already holds other files"):
        convert(plan)
    finished = convert(replace(plan, target=tmp_path / "done"))
    with pytest.raises(CheckpointError, match="already holds a finished model"):
        convert(replace(plan, target=finished))


def test_a_damaged_or_foreign_folder_is_named(tmp_path: Path) -> None:
    target = convert(plan_for("llama_adapter_v1", tmp_path))
    with pytest.raises(CheckpointError, match="no BindChat folder"):
        load_folder(tmp_path, torch.float32)
    manifest = json.loads((target / "bindchat.json").read_text())
    (target / "bindchat.json").write_text(json.dumps({**manifest, "format_version": 2}))
    with pytest.raises(CheckpointError, match="format 2"):
        load_folder(target, torch.float32)
    (target / "bindchat.json").write_text(json.dumps(manifest))
    stored = load_file(target / "adapter.safetensors")
    stored.pop("decoder.gates")
    save_file(stored, target / "adapter.safetensors")
    with pytest.raises(CheckpointError, match=r"missing keys decoder\.gates"):
        load_folder(target, torch.float32)
    (target / "adapter.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter\.safetensors is missing"):
        load_folder(target, torch.float32)


def test_the_image_tower_of_the_folder_gives_the_recorded_tokens(tmp_path: Path) -> None:
    fixture = "llama_adapter_v2_multimodal/lora_bias_newgate"
    bundle = load_folder(convert(plan_for(fixture, tmp_path)), torch.float32)
    images = load_file(GOLDEN / fixture / "inputs.safetensors")["images"]
    expected = load_file(GOLDEN / fixture / "outputs.safetensors")["visual.clip_feats"]
    rows = bundle.encoders[Modality.IMAGE].encode(list(images))
    tokens = torch.stack([torch.from_numpy(row.vector) for row in rows]).view_as(expected)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=0)


def test_a_clip_of_hugging_face_becomes_the_same_tower(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = CLIPVisionConfig(**sizes, image_size=28, patch_size=7, projection_dim=20, hidden_act="quick_gelu")
    reference = CLIPVisionModelWithProjection(config).eval()
    reference.save_pretrained(tmp_path)
    tower = ClipVisualTower.from_reference(clip_visual_state(tmp_path / "model.safetensors"), num_heads=3)
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        hidden = reference.vision_model(images).last_hidden_state
        expected = reference.visual_projection(reference.vision_model.post_layernorm(hidden))
        torch.testing.assert_close(tower(images), expected, atol=1e-5, rtol=1e-5)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no CLIP visual tower"):
        clip_visual_state(tmp_path / "other.safetensors")


def test_transformers_reads_the_merged_decoder_as_a_plain_llama(tmp_path: Path) -> None:
    target = convert(plan_for("imagebind_llm/base", tmp_path))
    ids = load_file(GOLDEN / "imagebind_llm/base/inputs.safetensors")["prompt2"]
    with torch.no_grad():
        expected = LlamaForCausalLM.from_pretrained(target, dtype=torch.float32)(ids[None]).logits[0]
        got = load_folder(target, torch.float32).decoder.score(ids[None])[0]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
