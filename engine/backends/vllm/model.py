"""LLaMA for vLLM with the condition term in its adapted layers.

`config.bindchat` holds `layers` (the adapted layers), `tokens` (P) and `gates` (L x H, used when P > 1).
Letters: N tokens of a step, H heads of this rank, Dh head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig, get_current_vllm_config
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.forward_context import get_forward_context, is_forward_context_available
from vllm.model_executor.models.llama import LlamaAttention, LlamaDecoderLayer, LlamaForCausalLM, LlamaModel
from vllm.model_executor.models.utils import extract_layer_index

from engine.backends.vllm.payload import ConditionShape
from engine.backends.vllm.tables import ConditionTables, LayerTable


class ConditionedAttention(LlamaAttention):  # type: ignore[misc]
    """vLLM's attention whose output, before the projection, gets the term of each token's slot."""

    def __init__(self, *args: Any, prefix: str = "", config: Any = None, **options: Any) -> None:
        super().__init__(*args, config=config, prefix=prefix, **options)
        adapted = list(config.bindchat["layers"])
        layer = extract_layer_index(prefix)
        self.table: LayerTable | None = None
        self.place = adapted.index(layer) if layer in adapted else -1
        if self.place >= 0:
            engine = get_current_vllm_config()
            shape = ConditionShape(
                num_layers=1,
                num_tokens=config.bindchat["tokens"],
                num_heads=self.num_heads,
                num_kv_heads=self.num_kv_heads,
                head_width=self.head_dim,
            )
            self.table = LayerTable(shape, engine.scheduler_config.max_num_seqs + 1, engine.model_config.dtype)
            if self.table.num_tokens > 1:
                gates = torch.tensor(config.bindchat["gates"][self.place])
                start = get_tensor_model_parallel_rank() * self.num_heads
                self.table.gates.copy_(gates[start : start + self.num_heads, None])

    def forward(self, positions: Tensor, hidden_states: Tensor, token_slots: Tensor | None = None) -> Tensor:
        """As vLLM's, with the term between attention and output projection."""
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        q, k = self.rotary_emb(positions, q, k)
        out = self.attn(q, k, v)  # (N, H Dh)
        if self.table is not None and token_slots is not None:
            out = out + self.table.term(q, token_slots, self.scaling)
        projected, _ = self.o_proj(out)
        return projected  # type: ignore[no-any-return]


class ConditionedLayer(LlamaDecoderLayer):  # type: ignore[misc]
    """vLLM's decoder layer that hands the slots on."""

    def __init__(self, vllm_config: VllmConfig, prefix: str = "", config: Any = None) -> None:
        super().__init__(vllm_config, prefix=prefix, config=config, attn_layer_type=ConditionedAttention)

    def forward(
        self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None, token_slots: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions=positions, hidden_states=hidden_states, token_slots=token_slots)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual


@support_torch_compile(
    dynamic_arg_dims={
        "input_ids": {0: "b"},
        "positions": {0: "b"},
        "intermediate_tensors": {0: "b"},
        "inputs_embeds": {0: "b"},
        "token_slots": {0: "b"},
    }
)
class ConditionedModel(LlamaModel):  # type: ignore[misc]
    """vLLM's decoder stack with one more argument."""

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        token_slots: torch.Tensor | None = None,
    ) -> Any:
        return LlamaModel.forward(
            self, input_ids, positions, intermediate_tensors, inputs_embeds, token_slots=token_slots
        )


class ConditionedLlamaForCausalLM(LlamaForCausalLM):  # type: ignore[misc]
    """The architecture that `plugin.register` names; its weights are a plain Hugging Face LLaMA's."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=ConditionedLayer)
        config = self.config
        own = [module for module in self.modules() if isinstance(module, ConditionedAttention)]
        num_heads = config.num_attention_heads
        shape = ConditionShape(
            num_layers=len(config.bindchat["layers"]),
            num_tokens=config.bindchat["tokens"],
            num_heads=num_heads,
            num_kv_heads=getattr(config, "num_key_value_heads", None) or num_heads,
            head_width=getattr(config, "head_dim", None) or config.hidden_size // num_heads,
        )
        self.condition_tables = ConditionTables(
            {attention.place: attention.table for attention in own if attention.table is not None},
            shape,
            rank=get_tensor_model_parallel_rank(),
            num_ranks=get_tensor_model_parallel_world_size(),
        )
        self._tracks_rows = not vllm_config.use_v2_model_runner
        if self._tracks_rows:
            from engine.backends.vllm.row_tracker import RowTracker

            RowTracker.tables = self.condition_tables

    def _init_model(self, vllm_config: VllmConfig, prefix: str = "", layer_type: Any = ConditionedLayer) -> Any:
        return ConditionedModel(vllm_config=vllm_config, prefix=prefix, layer_type=layer_type)

    @staticmethod
    def get_model_state_cls() -> Any:
        """Return the V2 runner's hook."""
        from engine.backends.vllm.model_state import ConditionState

        return ConditionState

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        token_slots: Tensor | None = None,
    ) -> Any:
        """Run the stack; on the V1 runner the slot of each token follows from the rows of the batch."""
        if token_slots is None:
            token_slots = _slots_of_rows(positions)
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds, token_slots=token_slots)


def _slots_of_rows(positions: Tensor) -> Tensor:
    """Return `(N,)` the slot of each token; zero where vLLM only warms up or pads."""
    slots = torch.zeros(positions.shape[-1], dtype=torch.long, device=positions.device)
    metadata = get_forward_context().attn_metadata if is_forward_context_available() else None
    if not metadata:
        return slots
    from engine.backends.vllm.row_tracker import RowTracker

    starts = next(iter(metadata.values())).query_start_loc.to("cpu")
    lengths = (starts[1:] - starts[:-1]).long()
    used = torch.repeat_interleave(RowTracker.slots_of(lengths.numel()), lengths)
    slots[: used.numel()] = used.to(slots.device)
    return slots
