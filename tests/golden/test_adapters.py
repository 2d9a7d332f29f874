"""ImageBind-LLM and the LLaMA-Adapters against the recorded outputs and key lists of the reference code."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parity import compare, find_fixtures
from benchmarks.parity_families.decoding import cut_at_eos
from benchmarks.parity_families.imagebind_llm import Scene
from benchmarks.parity_families.merged import merge_layer, merged_decoder, overlay
from core.types import AdapterPrompt, Condition, DecodeRequest, SamplingParams
from models.adapters.imagebind_llm import BindNetworkConfig, ImageBindLLMAdapter
from models.adapters.llama_adapter_v1 import StaticPromptAdapter
from models.adapters.llama_adapter_v2 import LlamaAdapterV2, VisualQueryConfig
from models.adapters.llama_adapter_v2 import own_name as v2_name
from models.adapters.options import AdapterOptions, ReleasedAdapter
from models.adapters.tuned_keys import TunedParts, require_tuned_keys
from models.bundle import ModelBundle
from models.clip import ClipVisualConfig, ClipVisualTower
from models.clip import own_name as clip_name
from models.llama.config import LlamaConfig
from models.llama.meta import hf_name
from models.llama.tokenizer import SentencePieceTokenizer
from models.llama.weights import decoder_slots
from tests.support.tiny_engine import generated_ids, running_backend

GOLDEN = Path(__file__).parent
FIXTURES = {
    "imagebind_llm/base": 63,
    "imagebind_llm/legacy_bridge": 63,
    "imagebind_llm/pretrain": 63,
    "llama_adapter_v1": 15,
    "llama_adapter_v2_chat65b/released_bias_scale_norm": 13,
    "llama_adapter_v2_chat65b/with_adapter": 13,
    "llama_adapter_v2_multimodal/lora_bias_newgate": 20,
    "sampling": 12,
    "llama_tokenizer": 30,
    "chat_prompt": 8,
}
LLAMA_7B = LlamaConfig(
    vocab_size=32000,
    width=4096,
    num_layers=32,
    num_heads=32,
    num_kv_heads=32,
    head_width=128,
    hidden_width=11008,
    norm_eps=1e-6,
)
BASE_ARGS = {"dim": 32, "n_layers": 4, "n_heads": 4, "norm_eps": 1e-6}


@pytest.mark.parametrize(("fixture", "num_outputs"), FIXTURES.items())
def test_every_output_of_the_fixture_is_within_its_tolerance(fixture: str, num_outputs: int) -> None:
    rows = list(compare(fixture, GOLDEN / fixture))
    assert not [(name, difference) for name, difference, passed in rows if not passed]
    assert len(rows) == num_outputs


def test_the_committed_fixtures_are_found_by_their_config() -> None:
    assert set(FIXTURES) <= {name for name, _ in find_fixtures([GOLDEN])}


def recorded(name: str) -> dict[str, tuple[int, ...]]:
    keys = json.loads((GOLDEN / "adapter_keys" / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in keys.items()}


def on_meta(keys: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in keys.items()}


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def is_decoder_key(key: str) -> bool:
    return key.startswith(("llama.layers.", "llama.norm."))


@pytest.mark.parametrize(
    ("name", "legacy"),
    [
        ("imagebind_llm_7B", False),
        ("imagebind_llm_7B_legacy_bridge", True),
        ("imagebind_llm_7B_pretrain_stage", False),
    ],
)
def test_the_released_imagebind_llm_keys_are_those_of_the_full_size_adapter(name: str, legacy: bool) -> None:
    keys = recorded(name)
    config = BindNetworkConfig(embedding_width=1024, width=4096, hidden_width=16384, legacy=legacy)
    with torch.device("meta"):
        adapter = ImageBindLLMAdapter(config, num_layers=32, num_heads=32)
    produced = {key: tuple(value.shape) for key, value in adapter.to_reference(32).items()}
    produced |= TunedParts.of(on_meta(keys)).shapes(LLAMA_7B)
    assert produced == keys
    assert ImageBindLLMAdapter.from_reference(on_meta(keys)).config == config


@pytest.mark.parametrize(
    ("name", "lora_rank"), [("llama_adapter_v2_BIAS-7B", 0), ("llama_adapter_v2_LORA-BIAS-7B", 16)]
)
def test_the_released_v2_keys_are_those_of_the_full_size_adapter(name: str, lora_rank: int) -> None:
    keys = recorded(name)
    parts = TunedParts.of(on_meta(keys))
    assert parts.lora_rank == lora_rank
    assert parts.shapes(LLAMA_7B) == {key: shape for key, shape in keys.items() if is_decoder_key(key)}
    adapter = LlamaAdapterV2.from_reference(on_meta(keys), AdapterOptions())
    assert adapter.config == VisualQueryConfig(
        clip_width=768,
        width=768,
        depth=8,
        num_heads=16,
        mlp_width=3072,
        num_tokens=10,
        decoder_width=4096,
        num_decoder_layers=32,
        num_static_layers=31,
    )
    assert shapes(adapter).keys() == {v2_name(key) for key in keys if not is_decoder_key(key)}


def test_the_released_v1_keys_are_thirty_layers_of_ten_tokens() -> None:
    keys = recorded("llama_adapter_v1_extracted")
    adapter = StaticPromptAdapter.from_reference(on_meta(keys), AdapterOptions())
    assert shapes(adapter) == {"adapter_query": (30, 10, 4096)}
    assert adapter.adapted_layers(32) == tuple(range(2, 32))
    gates = TunedParts.of(on_meta(keys)).shapes(LLAMA_7B, prefix="")
    assert gates | {"adapter_query.weight": (300, 4096)} == keys


def test_the_chat_65b_keys_are_those_of_its_tuned_parts() -> None:
    keys = recorded("chat65b_tuned_part")
    llama_65b = LlamaConfig(
        vocab_size=32000,
        width=8192,
        num_layers=80,
        num_heads=64,
        num_kv_heads=64,
        head_width=128,
        hidden_width=22016,
        norm_eps=1e-5,
    )
    assert TunedParts.of(on_meta(keys)).shapes(llama_65b, prefix="") == keys
    require_tuned_keys(on_meta(keys), llama_65b, "chat65b", prefix="")


def test_the_clip_keys_are_those_of_the_full_size_tower() -> None:
    keys = recorded("clip_vit_l14_visual")
    with torch.device("meta"):
        tower = ClipVisualTower(ClipVisualConfig())
    assert shapes(tower) == {clip_name(key.removeprefix("clip.visual.")): shape for key, shape in keys.items()}


def test_the_meta_llama_keys_are_those_of_the_full_size_decoder() -> None:
    keys = recorded("llama_7b_consolidated")
    assert keys.pop("rope.freqs") == (64,)
    assert {hf_name(key): shape for key, shape in keys.items()} == {
        key: slot.shape for key, slot in decoder_slots(LLAMA_7B).items()
    }


def test_merged_layers_have_the_parameters_of_the_decoder() -> None:
    state = load_file(GOLDEN / "imagebind_llm/base/weights.safetensors")
    merged = merge_layer(overlay(state), 3, 8, adapted=True)
    assert merged["layers.3.attention.wqkv.weight"].shape == (96, 32)
    assert merged["layers.3.attention.adapter_down"].shape == (2, 4, 32)
    assert "layers.0.attention.adapter_down" not in merge_layer(overlay(state), 0, 8, adapted=False)


def condition_of(fixture: str, state: dict[str, Tensor]) -> tuple[ReleasedAdapter, Condition]:
    """Return the adapter of a fixture and the condition under which its single prompts were decoded."""
    if fixture.startswith("imagebind_llm"):
        scene = Scene(GOLDEN / fixture)
        return scene.adapter, scene.adapter.condition(scene.fused("mix")[0, 0])
    options = AdapterOptions(num_decoder_layers=4, num_visual_heads=3)
    if fixture.startswith("llama_adapter_v2_multimodal"):
        tower = ClipVisualTower.from_reference(state, num_heads=3, prefix="clip.visual.")
        with torch.inference_mode():
            tokens = tower(load_file(GOLDEN / fixture / "inputs.safetensors")["images"][:1])[0]
        v2 = LlamaAdapterV2.from_reference(state, options)
        return v2, v2.condition(tokens.numpy().ravel())
    static = StaticPromptAdapter.from_reference(state, options)
    return static, static.condition(None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fixture", "output"),
    [
        ("imagebind_llm/base", "greedy_ids.mix"),
        ("llama_adapter_v1", "infer_greedy_ids"),
        ("llama_adapter_v2_multimodal/lora_bias_newgate", "greedy_ids"),
        ("llama_adapter_v2_chat65b/with_adapter", "greedy_ids"),
    ],
)
async def test_the_engine_decodes_the_recorded_ids_beside_text_only_requests(fixture: str, output: str) -> None:
    state, inputs, expected = (
        load_file(GOLDEN / fixture / f"{name}.safetensors") for name in ("weights", "inputs", "outputs")
    )
    adapter, condition = condition_of(fixture, state)
    assert isinstance(condition, AdapterPrompt)
    decoder = merged_decoder(overlay(state), BASE_ARGS, adapter, raw_gates=fixture == "llama_adapter_v1")
    tokenizer = SentencePieceTokenizer((GOLDEN / "llama_tokenizer/tokenizer.model").read_bytes())
    bundle = ModelBundle(name="golden", decoder=decoder, tokenizer=tokenizer, adapter=adapter, encoders={})

    def request(prompt: str, condition: Condition) -> DecodeRequest:
        return DecodeRequest(
            request_id=f"{prompt}/{condition is None}",
            token_ids=tuple(inputs[prompt].tolist()),
            sampling=SamplingParams(max_tokens=16, temperature=0, ignore_eos=True),
            condition=condition,
        )

    async with running_backend(bundle) as backend:
        alone = await generated_ids(backend, request("prompt1", None))
        conditioned1, text, conditioned2 = await asyncio.gather(
            generated_ids(backend, request("prompt1", condition)),
            generated_ids(backend, request("prompt1", None)),
            generated_ids(backend, request("prompt2", condition)),
        )
    assert np.array_equal(cut_at_eos(conditioned1), expected[f"{output}.prompt1"].numpy())
    assert np.array_equal(cut_at_eos(conditioned2), expected[f"{output}.prompt2"].numpy())
    assert text == alone
    assert text != conditioned1
