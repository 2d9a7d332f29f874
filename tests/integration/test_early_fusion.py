"""LLaMA-Adapter V2 early fusion in the native engine: layers with unequal numbers of adapter tokens in one batch."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from core.types import AdapterPrompt, Condition, DecodeRequest, SamplingParams
from models.adapters.llama_adapter_v2 import LlamaAdapterV2, VisualQueryConfig
from models.bundle import ModelBundle
from models.llama.condition import ConditionView
from models.llama.config import LlamaConfig
from models.llama.model import Llama
from models.tiny import ByteTokenizer
from tests.support.tiny_engine import generated_ids, running_backend

DEPTH, WIDTH, PROMPT = 4, 16, (7, 3, 11, 5)


def early_fusion_adapter(num_visual_layers: int) -> LlamaAdapterV2:
    torch.manual_seed(num_visual_layers)
    adapter = LlamaAdapterV2(
        VisualQueryConfig(
            clip_width=6,
            width=8,
            depth=1,
            num_heads=2,
            mlp_width=16,
            num_tokens=3,
            decoder_width=WIDTH,
            num_decoder_layers=DEPTH,
            num_static_layers=2,
            num_visual_layers=num_visual_layers,
        )
    )
    adapter.adapter_query.data.normal_()
    return adapter.requires_grad_(False)


def decoder_for(adapter: LlamaAdapterV2) -> Llama:
    config = LlamaConfig(
        vocab_size=64,
        width=WIDTH,
        num_layers=DEPTH,
        num_heads=4,
        num_kv_heads=2,
        head_width=4,
        hidden_width=24,
        norm_eps=1e-6,
        adapted_layers=adapter.adapted_layers(DEPTH),
        num_adapter_tokens=adapter.num_tokens,
    )
    decoder = Llama(config).requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.4)
    decoder.adapter_gates.uniform_(0.5, 2)
    return decoder


def dense_ids(decoder: Llama, condition: Condition, num_tokens: int) -> list[int]:
    """Return greedy ids by scoring the whole sequence again at every step."""
    view, ids = None, torch.tensor([PROMPT])
    for _ in range(num_tokens):
        if isinstance(condition, AdapterPrompt):
            counts = torch.tensor(condition.token_counts)[:, None, None]
            mask = torch.arange(condition.prompts.shape[1]) < counts  # (L, 1, P)
            table = decoder.project_condition(torch.tensor(condition.prompts)[None], mask=mask)
            view = ConditionView(table, torch.zeros_like(ids))
        ids = torch.cat((ids, decoder.score(ids, view)[:, -1:].argmax(dim=-1)), dim=1)
    return ids[0, len(PROMPT) :].tolist()


@pytest.mark.anyio
@pytest.mark.parametrize("num_visual_layers", [1, 3])
async def test_image_no_image_and_text_only_rows_share_a_batch(num_visual_layers: int) -> None:
    adapter = early_fusion_adapter(num_visual_layers)
    decoder = decoder_for(adapter)
    image = np.random.default_rng(1).normal(size=(5 * 6,)).astype(np.float32)
    conditions = [adapter.condition(image), adapter.condition(None), None]
    bundle = ModelBundle(name="early", decoder=decoder, tokenizer=ByteTokenizer(), adapter=adapter, encoders={})

    def request(number: int, condition: Condition) -> DecodeRequest:
        sampling = SamplingParams(max_tokens=6, temperature=0, ignore_eos=True)
        return DecodeRequest(request_id=str(number), token_ids=PROMPT, sampling=sampling, condition=condition)

    async with running_backend(bundle) as backend:
        rows = [generated_ids(backend, request(*pair)) for pair in enumerate(conditions)]
        produced = await asyncio.gather(*rows)
    assert list(produced) == [dense_ids(decoder, condition, 6) for condition in conditions]
    assert len({tuple(ids) for ids in produced}) == 3
