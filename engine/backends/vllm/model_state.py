"""The hook for vLLM's V2 runner (GPUs): request index i owns slot i + 1, filled before the forward pass."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.v1.worker.gpu.model_states.default import DefaultModelState

from core.errors import InvalidRequest
from engine.backends.vllm.payload import ConditionRow

logger = logging.getLogger(__name__)


class ConditionState(DefaultModelState):  # type: ignore[misc]
    """Keep the slot of every request and hand the slot of every token to the model, in a buffer graphs can capture."""

    def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: torch.device) -> None:
        super().__init__(vllm_config, model, encoder_cache, device)
        self._tables = model.condition_tables
        self._slots_host = np.zeros(self.max_num_reqs, dtype=np.int64)
        self._slots = torch.zeros(self.max_num_reqs, dtype=torch.long, device=device)
        self._token_slots = torch.zeros(self.max_num_tokens, dtype=torch.long, device=device)
        self._places = torch.arange(self.max_num_tokens, device=device)
        self._pending: dict[int, ConditionRow | None] = {}

    def add_request(self, req_index: int, new_req_data: Any) -> None:
        """Remember a new request's condition; a preempted request comes again as new."""
        super().add_request(req_index, new_req_data)
        params = new_req_data.sampling_params
        try:
            self._pending[req_index] = self._tables.read(None if params is None else params.extra_args)
        except InvalidRequest:  # an exception here would end every request
            logger.exception("a condition that the server did not pack was ignored")
            self._pending[req_index] = None

    def apply_staged_writes(self) -> None:
        """Write what came in since the last step."""
        super().apply_staged_writes()
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        for index, row in pending.items():
            self._slots_host[index] = 0 if row is None else index + 1
            if row is not None:
                self._tables.write(index + 1, row)
        self._slots.copy_(torch.from_numpy(self._slots_host))

    def prepare_inputs(self, input_batch: Any, req_states: Any) -> Any:
        inputs = super().prepare_inputs(input_batch, req_states)
        inputs["token_slots"] = self._fill(input_batch)
        return inputs

    def prepare_dummy_inputs(self, num_reqs: int, num_tokens: int) -> Any:
        inputs = super().prepare_dummy_inputs(num_reqs, num_tokens)
        inputs["token_slots"] = self._token_slots[:num_tokens]
        return inputs

    def _fill(self, input_batch: Any) -> Tensor:
        """Return `(N,)` the slot of each token, on the device; padding reads slot 0."""
        num_tokens, num_requests = input_batch.num_tokens_after_padding, input_batch.num_reqs
        starts = input_batch.query_start_loc[: num_requests + 1].long()
        places = self._places[:num_tokens]
        row = torch.searchsorted(starts[1:], places, right=True).clamp_(max=num_requests - 1)
        slots = self._slots[input_batch.idx_mapping[:num_requests].long()][row]
        self._token_slots[:num_tokens].copy_(torch.where(places < starts[-1], slots, 0))
        return self._token_slots[:num_tokens]
