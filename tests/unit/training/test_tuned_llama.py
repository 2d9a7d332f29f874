"""What fine-tuning adds: the published parameter counts, a neutral start, and gradients where they belong."""

from __future__ import annotations

import pytest
import torch

from models.adapters.llama_adapter_v1 import StaticPromptAdapter
from models.adapters.tuned_keys import TunedParts
from models.llama.config import LlamaConfig
from models.llama.model import Llama
from models.tiny import load_tiny
from training.adapter_trainee import AdapterTrainee, TrainableSet
from training.tuned_llama import released_tensors, tune

SEVEN_B = LlamaConfig(
    vocab_size=32000, width=4096, num_layers=32, num_heads=32, num_kv_heads=32, head_width=128, hidden_width=11008,
    norm_eps=1e-6,
)  # fmt: skip
SIXTY_FIVE_B = LlamaConfig(
    vocab_size=32000, width=8192, num_layers=80, num_heads=64, num_kv_heads=64, head_width=128, hidden_width=22016,
    norm_eps=1e-5,
)  # fmt: skip
EVERYTHING = TunedParts(biases=True, norms=True, lora_rank=4)
SCALES = TunedParts(scales=True, norms=True)


def meta_llama(config: LlamaConfig) -> Llama:
    with torch.device("meta"):
        return Llama(config)


def test_v1_trains_one_point_two_million_parameters_at_seven_billion() -> None:
    with torch.device("meta"):
        adapter = StaticPromptAdapter(num_layers=30, num_tokens=10, width=4096)
    trainee = AdapterTrainee(meta_llama(SEVEN_B), adapter, TrainableSet())
    prompts, gates = 30 * 10 * 4096, 30 * 32
    assert sum(parameter.numel() for parameter in trainee.trained.values()) == prompts + gates == 1_229_760
    assert sum(parameter.numel() for parameter in trainee.parameters() if parameter.requires_grad) == 1_229_760


@pytest.mark.parametrize(("config", "count"), [(SIXTY_FIVE_B, 13_811_712), (SEVEN_B, 2_764_800)])
def test_v2_tunes_fourteen_million_biases_scales_and_norms_at_sixty_five_billion(
    config: LlamaConfig, count: int
) -> None:
    decoder = meta_llama(config)
    trained = tune(decoder, SCALES)
    assert sum(parameter.numel() for parameter in trained.values()) == count
    assert sum(parameter.numel() for parameter in decoder.parameters() if parameter.requires_grad) == count
    shapes = SCALES.shapes(config, prefix="")
    assert {key: tuple(parameter.shape) for key, parameter in trained.items()} == shapes


def test_imagebind_llm_fine_tunes_the_released_tensors() -> None:
    parts = TunedParts(biases=True, norms=True, lora_rank=16)
    trained = tune(meta_llama(SEVEN_B), parts)
    assert {key: tuple(value.shape) for key, value in trained.items()} == parts.shapes(SEVEN_B, prefix="")


@pytest.mark.parametrize("parts", [EVERYTHING, SCALES])
def test_a_tuned_decoder_starts_as_the_plain_one(parts: TunedParts) -> None:
    tokens = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    plain, decoder = load_tiny(torch.float32).decoder, load_tiny(torch.float32).decoder
    tune(decoder, parts)
    assert decoder.score(tokens).allclose(plain.score(tokens), atol=1e-5)


@pytest.mark.parametrize("parts", [EVERYTHING, SCALES])
def test_every_tuned_parameter_learns_and_no_frozen_one_does(parts: TunedParts) -> None:
    decoder = load_tiny(torch.float32).decoder
    trained = tune(decoder, parts)
    with torch.no_grad():
        for key, value in trained.items():
            if key.endswith("_l2.weight"):
                value.normal_()  # at its zero start the other factor has no gradient
    tokens = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    decoder.score(tokens).square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in trained.values())
    frozen = [p for p in decoder.parameters() if all(p is not value for value in trained.values())]
    assert frozen
    assert all(parameter.grad is None for parameter in frozen)


def test_released_rows_of_queries_and_keys_are_interleaved() -> None:
    decoder = load_tiny(torch.float32).decoder
    trained = tune(decoder, EVERYTHING)
    with torch.no_grad():
        for value in trained.values():
            value.copy_(torch.arange(value.numel()).view_as(value))
    released = released_tensors(trained, decoder.config)
    assert released["layers.0.attention.wq.bias"][:8].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert released["layers.0.attention.wo.bias"][:4].tolist() == [0, 1, 2, 3]
    assert torch.equal(
        released["layers.0.attention.lora_wk_l1.weight"], trained["layers.0.attention.lora_wk_l1.weight"]
    )
