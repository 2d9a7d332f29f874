"""The adapter families on small random weights: formulas, shapes, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.parity_families.merged import overlay
from core.errors import CheckpointError, ConfigError, InvalidRequest
from core.types import Adapter, AdapterPrompt, DecodedMedia, FloatArray, Modality
from engine.encoding.fusion import only_medium
from models.adapters.imagebind_llm import BindNetwork, BindNetworkConfig, ImageBindLLMAdapter
from models.adapters.llama_adapter_v1 import StaticPromptAdapter, uses_raw_gates
from models.adapters.llama_adapter_v2 import LlamaAdapterV2, VisualQueryConfig
from models.adapters.merge import (
    DenseLinear,
    adapter_gates,
    effective_gate,
    merge_linear,
    merge_lora,
    merge_scale,
)
from models.adapters.options import AdapterOptions, ReleasedAdapter
from models.adapters.tuned_keys import TunedParts, require_tuned_keys
from models.clip import ClipVisionEncoder, ClipVisualConfig, ClipVisualTower
from models.llama.condition import ConditionView
from models.llama.config import LlamaConfig
from models.llama.model import Llama
from models.registry import ADAPTERS

E, D, DEPTH, HEADS = 6, 8, 4, 2


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def bind_adapter(*, num_layers: int = 3, **options: float) -> ImageBindLLMAdapter:
    config = BindNetworkConfig(embedding_width=E, width=D, hidden_width=16, num_blocks=2, **options)  # type: ignore[arg-type]
    return ImageBindLLMAdapter(config, num_layers=num_layers, num_heads=HEADS)


def v2_adapter(**changes: int) -> LlamaAdapterV2:
    sizes = {
        "clip_width": E,
        "width": 4,
        "depth": 1,
        "num_heads": 2,
        "mlp_width": 8,
        "num_tokens": 3,
        "decoder_width": D,
        "num_decoder_layers": DEPTH,
        "num_static_layers": 2,
    }
    return LlamaAdapterV2(VisualQueryConfig(**{**sizes, **changes}))


def decoder(adapter: ReleasedAdapter, **changes: int | bool) -> Llama:
    sizes = {"vocab_size": 16, "num_layers": DEPTH, "num_heads": HEADS, "num_kv_heads": HEADS, "head_width": D // HEADS}
    layers = adapter.adapted_layers(DEPTH)
    llama = Llama(
        LlamaConfig(
            **sizes,
            width=D,
            hidden_width=12,
            norm_eps=1e-6,
            adapted_layers=layers,
            num_adapter_tokens=adapter.num_tokens,
            **changes,  # type: ignore[arg-type]
        )
    )
    llama.adapter_gates.fill_(0.7)
    return llama.requires_grad_(False)


def row(*shape: int) -> FloatArray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def released_state(name: str) -> dict[str, Tensor]:
    if name == "imagebind_llm":
        return bind_adapter().to_reference(DEPTH)
    if name == "llama_adapter_v2":
        own = v2_adapter().state_dict()
        return {
            key if "query" not in key else f"{key}.weight": value.reshape(-1, value.shape[-1])
            if "query" in key
            else value
            for key, value in own.items()
        }
    return {"adapter_query.weight": torch.randn(3 * 5, D)}


@pytest.mark.parametrize("name", ADAPTERS.names())
def test_every_family_loads_released_keys_and_says_where_it_sits(name: str) -> None:
    options = AdapterOptions(num_decoder_layers=DEPTH, num_static_tokens=5, num_visual_heads=2)
    adapter = ADAPTERS.load(name).from_reference(released_state(name), options)
    assert isinstance(adapter, ReleasedAdapter)
    served: Adapter = adapter
    layers = adapter.adapted_layers(DEPTH)
    assert layers == tuple(range(DEPTH - len(layers), DEPTH))
    condition = served.condition(None if name in ("llama_adapter_v1", "llama_adapter_v2_chat") else row(E))
    assert condition is not None
    assert condition.prompts.shape == (len(layers), adapter.num_tokens, D)
    assert condition.prompts.dtype == np.float32


def test_the_bind_network_is_a_scaled_projection_and_residual_gated_blocks() -> None:
    network = BindNetwork(
        BindNetworkConfig(embedding_width=E, width=D, hidden_width=16, num_blocks=1, input_scale=20.0)
    )
    vectors = torch.randn(2, E)
    x = F.linear(vectors * 20.0, network.proj.weight, network.proj.bias)
    n = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    block = network.blocks[0]
    expected = x + F.linear(F.silu(n @ block.f1.weight.T) * (n @ block.f3.weight.T), block.f2.weight)
    torch.testing.assert_close(network(vectors), expected)


def test_the_legacy_bind_network_has_biases_and_layer_norms() -> None:
    keys = BindNetwork(BindNetworkConfig(embedding_width=E, width=D, hidden_width=16, legacy=True)).state_dict().keys()
    assert {"blocks.2.norm.bias", "blocks.0.f1.bias", "blocks.1.f2.bias"} <= keys


def test_gradients_reach_every_weight_of_the_imagebind_llm_adapter() -> None:
    adapter = bind_adapter()
    llama = decoder(adapter)
    torch.nn.init.normal_(adapter.gates)
    table = llama.project_condition(adapter.prompts(torch.randn(2, E)), gates=adapter.effective_gates())
    ids = torch.randint(16, (2, 5))
    llama.score(ids, ConditionView(table, torch.arange(2)[:, None].expand(2, 5))).square().sum().backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in adapter.parameters() if parameter.grad is not None)
    assert all(parameter.grad is not None for parameter in adapter.parameters())


def test_an_adapter_without_media_leaves_imagebind_llm_unconditioned() -> None:
    assert bind_adapter().condition(None) is None


def test_a_low_confidence_adds_the_doubt_and_a_high_or_unknown_one_does_not() -> None:
    config = BindNetworkConfig(embedding_width=E, width=D, hidden_width=16)
    adapter = ImageBindLLMAdapter(config, num_layers=3, num_heads=HEADS, doubt_below=0.5)
    assert adapter.doubt is not None
    torch.nn.init.normal_(adapter.doubt)
    prompts = {c: adapter.condition(row(E), confidence=c) for c in (None, 0.2, 0.5, 0.9)}
    shifted = adapter.condition(row(E) + adapter.doubt.detach().numpy())
    assert shifted is not None and prompts[None] is not None
    sure, doubtful = prompts[None].prompts, shifted.prompts
    assert not np.allclose(sure, doubtful)
    for confidence, expected in ((0.2, doubtful), (0.5, sure), (0.9, sure)):
        given = prompts[confidence]
        assert given is not None
        np.testing.assert_allclose(given.prompts, expected, atol=1e-6)


def test_a_released_adapter_conditions_on_the_vector_alone() -> None:
    adapter = bind_adapter()
    low, high = (adapter.condition(row(E), confidence=confidence) for confidence in (0.0, 1.0))
    assert low is not None and high is not None
    np.testing.assert_array_equal(low.prompts, high.prompts)


def test_an_embedding_of_another_width_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="use the encoder the adapter was trained with"):
        bind_adapter().condition(row(E + 1))


def test_a_released_state_goes_through_the_adapter_unchanged() -> None:
    state = bind_adapter(num_layers=2).to_reference(DEPTH)
    again = ImageBindLLMAdapter.from_reference(state).to_reference(DEPTH)
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)


@pytest.mark.parametrize("key", ["image_bind_f2_2.weight", "image_bind_proj.weight", "llama.layers.3.attention.gate"])
def test_a_missing_key_of_an_imagebind_llm_file_is_refused(key: str) -> None:
    state = bind_adapter(num_layers=4).to_reference(DEPTH)
    del state[key]
    with pytest.raises(CheckpointError):
        ImageBindLLMAdapter.from_reference(state)


def test_a_legacy_bias_in_a_new_form_file_is_named() -> None:
    state = bind_adapter().to_reference(DEPTH) | {"image_bind_f1_1.bias": torch.zeros(16)}
    with pytest.raises(CheckpointError, match=r"bind\.blocks\.0\.f1\.bias"):
        ImageBindLLMAdapter.from_reference(state)


def test_lora_and_scale_merge_into_one_matrix() -> None:
    weight, down, up, scale, x = (torch.randn(*s) for s in ((D, E), (2, E), (D, 2), (E,), (3, E)))
    expected = (x * scale) @ weight.T
    torch.testing.assert_close(x @ merge_scale(weight, scale).T, expected)
    torch.testing.assert_close(x @ merge_lora(weight, down, up).T, x @ weight.T + x @ down.T @ up.T)


def test_rotated_rows_keep_the_map_up_to_a_permutation() -> None:
    dense = DenseLinear(torch.randn(D, E), torch.randn(D), (torch.randn(2, E), torch.randn(D, 2)))
    rotated = dense.rotated(4)
    order = [0, 2, 1, 3, 4, 6, 5, 7]  # per head of four: even rows first
    assert rotated.bias is not None and rotated.lora is not None and dense.bias is not None and dense.lora is not None
    assert torch.equal(rotated.weight, dense.weight[order])
    assert torch.equal(rotated.bias, dense.bias[order])
    assert torch.equal(rotated.lora[1], dense.lora[1][order])


def test_half_a_lora_pair_is_refused_by_name() -> None:
    state = {
        "layers.0.attention.wq.weight": torch.zeros(D, D),
        "layers.0.attention.lora_wq_l1.weight": torch.zeros(2, D),
    }
    with pytest.raises(CheckpointError, match="lora_wq_l1 and _l2 come as a pair"):
        merge_linear(overlay(state), "layers.0.attention", "wq")


def test_adapter_tokens_skip_the_lora_path_of_the_merged_matrices() -> None:
    adapter = v2_adapter()
    plain, merged = decoder(adapter), decoder(adapter, adapter_lora_rank=2)
    merged.load_state_dict(
        plain.state_dict() | {key: value for key, value in merged.state_dict().items() if "adapter_" in key}
    )
    attention = merged.layers[3].attention
    attention.adapter_down.normal_()
    attention.adapter_up.normal_()
    for part in (1, 2):
        attention.wqkv.weight[part * D : (part + 1) * D] += (
            attention.adapter_up[part - 1] @ attention.adapter_down[part - 1]
        )
    tokens = torch.randn(2, 3, D)
    for produced, expected in zip(
        attention.project_adapter(tokens), plain.layers[3].attention.project_adapter(tokens), strict=True
    ):
        torch.testing.assert_close(produced, expected, atol=1e-5, rtol=1e-5)


def test_gates_are_squashed_multiplied_or_left_raw() -> None:
    gate, new_gate = torch.randn(1, HEADS, 1, 1), torch.full((1, 1, 1, 1), 2.0)
    torch.testing.assert_close(effective_gate(gate, new_gate), 2 * gate.flatten().tanh())
    torch.testing.assert_close(effective_gate(gate, raw=True), gate.flatten())
    state = {f"llama.layers.{layer}.attention.gate": gate + layer for layer in range(DEPTH)}
    assert torch.equal(adapter_gates(overlay(state), (1, 3))[1], (gate + 3).flatten().tanh())


def test_the_origin_of_a_v1_file_decides_about_its_gates() -> None:
    assert uses_raw_gates({"adapter_query.weight": 0, "layers.0.attention.gate": 0})
    assert not uses_raw_gates({"model": {}, "optimizer": {}})


def test_static_prompts_refuse_media_and_uneven_rows() -> None:
    adapter = StaticPromptAdapter(num_layers=2, num_tokens=3, width=D)
    with pytest.raises(InvalidRequest, match="takes text only"):
        adapter.condition(row(E))
    with pytest.raises(CheckpointError, match="not a multiple of 10"):
        StaticPromptAdapter.from_reference({"adapter_query.weight": torch.zeros(15, D)}, AdapterOptions())


def test_a_chat_checkpoint_without_prompts_adapts_nothing() -> None:
    adapter = StaticPromptAdapter.from_reference({}, AdapterOptions())
    assert (adapter.condition(None), adapter.adapted_layers(DEPTH), adapter.num_tokens) == (None, (), 0)


def test_the_released_v2_form_adds_the_visual_query_to_every_static_prompt() -> None:
    adapter = v2_adapter()
    tokens = torch.randn(2, 5, E)
    expected = adapter.adapter_query[None] + adapter.visual_tokens(tokens)[:, None]
    torch.testing.assert_close(adapter.prompts(tokens), expected)
    assert adapter.token_counts() is None
    assert adapter.condition(None) is None


def test_early_fusion_shows_the_image_to_the_first_layers_and_static_prompts_to_the_last() -> None:
    adapter = v2_adapter(num_visual_layers=1)
    clip_tokens = row(5, E)
    condition = adapter.condition(clip_tokens)
    assert condition is not None
    assert adapter.adapted_layers(DEPTH) == (0, 2, 3)
    assert condition.token_counts == (3, 3, 3)
    visual = adapter.visual_tokens(torch.from_numpy(clip_tokens)[None])[0].detach().numpy()
    np.testing.assert_allclose(condition.prompts[0], visual, atol=1e-6)
    np.testing.assert_array_equal(condition.prompts[1:], adapter.adapter_query.detach().numpy())


def test_early_fusion_joins_both_kinds_of_tokens_where_the_layers_overlap() -> None:
    adapter = v2_adapter(num_visual_layers=3)
    assert adapter.token_counts() == (3, 3, 6, 3)
    assert adapter.num_tokens == 6
    assert adapter.prompts(torch.randn(1, 5, E)).shape == (1, 4, 6, D)


def test_early_fusion_without_an_image_keeps_the_static_prompts_only() -> None:
    adapter = v2_adapter(num_visual_layers=1)
    condition = adapter.condition(None)
    assert condition is not None
    assert condition.token_counts == (0, 3, 3)


def score_under(llama: Llama, condition: AdapterPrompt, ids: Tensor) -> Tensor:
    counts = torch.tensor(condition.token_counts)[:, None, None]
    mask = torch.arange(condition.prompts.shape[1]) < counts  # (L, 1, P)
    table = llama.project_condition(torch.from_numpy(condition.prompts)[None], mask=mask)
    return llama.score(ids, ConditionView(table, torch.zeros_like(ids)))


def test_visual_layers_without_an_image_add_nothing() -> None:
    adapter = v2_adapter(num_visual_layers=1)
    llama, ids = decoder(adapter), torch.randint(16, (1, 4))
    condition = adapter.condition(None)
    assert condition is not None
    with_idle_layer = score_under(llama, condition, ids)
    llama.adapter_gates[0] = 0
    torch.testing.assert_close(score_under(llama, condition, ids), with_idle_layer)
    llama.adapter_gates[1] = 0
    assert not torch.allclose(score_under(llama, condition, ids), with_idle_layer)


def test_a_masked_single_token_adds_nothing() -> None:
    adapter = bind_adapter()
    llama, prompts = decoder(adapter), adapter.prompts(torch.randn(1, E)).detach()
    mask = torch.tensor([True, False, True])[:, None, None]
    values = llama.project_condition(prompts, mask=mask).values
    assert bool((values[1] == 0).all()) and bool((values[[0, 2]] != 0).any())


def test_v2_refuses_tokens_of_another_width_and_a_decoder_of_another_depth() -> None:
    with pytest.raises(InvalidRequest, match=f"rows of width {E}"):
        v2_adapter().condition(row(E + 1))
    with pytest.raises(ConfigError, match="the adapter was built for 4"):
        v2_adapter().adapted_layers(5)
    with pytest.raises(ConfigError, match="num_visual_layers must be in"):
        v2_adapter(num_visual_layers=5)


def test_the_clip_encoder_yields_every_token_and_does_not_mix_images() -> None:
    tower = ClipVisualTower(ClipVisualConfig(resolution=8, patch=4, width=8, depth=1, num_heads=2, output_width=E))
    encoder = ClipVisionEncoder(tower)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 10, 3), dtype=np.uint8)
    rows = [encoder.preprocess(DecodedMedia(container="png", array=image)) for image in pixels]
    together = encoder.encode(rows)
    assert encoder.modality is Modality.IMAGE
    assert together[0].vector.shape == (5 * E,)
    np.testing.assert_allclose(encoder.encode(rows[:1])[0].vector, together[0].vector, atol=1e-5)


def test_image_tokens_are_never_blended() -> None:
    tokens = row(4)
    assert only_medium([tokens], [1.0]) is tokens
    with pytest.raises(InvalidRequest, match="takes one image of weight 1"):
        only_medium([tokens, tokens], [1.0, 1.0])


def tuned_state(config: LlamaConfig, parts: TunedParts) -> dict[str, Tensor]:
    return {key: torch.zeros(shape) for key, shape in parts.shapes(config).items()}


def test_a_tuned_file_must_have_every_part_of_every_layer() -> None:
    config = decoder(bind_adapter()).config
    state = tuned_state(config, TunedParts(gates=True, biases=True, norms=True, lora_rank=2))
    require_tuned_keys(state, config, "adapter.pth")
    del state["llama.layers.2.attention.wo.bias"]
    with pytest.raises(CheckpointError, match=r"adapter\.pth: missing keys .*layers\.2\.attention\.wo\.bias"):
        require_tuned_keys(state, config, "adapter.pth")


def test_a_tuned_file_of_another_size_is_refused_by_key() -> None:
    config = decoder(bind_adapter()).config
    state = tuned_state(config, TunedParts(norms=True)) | {"llama.norm.weight": torch.zeros(D + 1)}
    with pytest.raises(CheckpointError, match=r"llama\.norm\.weight has shape \(9,\)"):
        require_tuned_keys(state, config, "adapter.pth")


def test_a_gate_may_be_absent_only_where_nothing_is_adapted() -> None:
    config = decoder(bind_adapter(num_layers=3)).config
    state = tuned_state(config, TunedParts(gates=True))
    del state["llama.layers.0.attention.gate"]
    require_tuned_keys(state, config, "adapter.pth")
    del state["llama.layers.1.attention.gate"]
    with pytest.raises(CheckpointError, match=r"layers\.1\.attention\.gate"):
        require_tuned_keys(state, config, "adapter.pth")
