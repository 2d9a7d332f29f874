from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.backends.native import cpu_kernels as kernels
from engine.backends.native.cpu_kernels import raw
from models.llama.rope import rotary_tables, rotate

TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 0.01}
pytestmark = pytest.mark.parametrize("dtype", list(TOLERANCES))


def close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    tolerance = TOLERANCES[actual.dtype]
    return torch.allclose(actual.float(), expected.float(), atol=tolerance, rtol=tolerance)


def test_the_norm_adds_first_and_keeps_the_sum(dtype: torch.dtype) -> None:
    x, delta = torch.randn(2, 5, 48, dtype=dtype)
    weight, out = torch.rand(48, dtype=dtype), torch.empty(5, 48, dtype=dtype)
    expected = x + delta
    kernels.add_and_norm(raw(x), raw(delta), raw(weight), 1e-5, raw(out))
    assert torch.equal(x, expected)
    assert close(out, F.rms_norm(expected.float(), (48,), weight.float(), 1e-5))


def test_the_gate_is_silu_over_its_whole_range(dtype: torch.dtype) -> None:
    gate = torch.cat((torch.linspace(-120, 120, 93), torch.tensor([0.0, 1e-6, -1e-6]))).to(dtype)
    both = torch.cat((gate, torch.ones(96, dtype=dtype)))[None]
    out = torch.empty(1, 96, dtype=dtype)
    kernels.gate_with_silu(raw(both), raw(out))
    assert close(out, F.silu(gate.float())[None])


def test_a_row_attends_to_its_own_slot_up_to_its_own_token(dtype: torch.dtype) -> None:
    num_heads, num_kv_heads, width, places = 6, 2, 16, torch.tensor([[2, 9], [0, 0], [3, 4]])
    keys, values = torch.randn(2, 4, 12, num_kv_heads, width, dtype=dtype)
    stored_keys, stored_values = keys.clone(), values.clone()
    heads = torch.randn(3, num_heads + 2 * num_kv_heads, width, dtype=dtype)
    frequencies = torch.rand(width // 2)
    angles = places[:, 1:].float() * frequencies
    turns = torch.stack((angles.cos(), angles.sin()), dim=1)
    queries, out = torch.empty(2, 3, num_heads, width, dtype=dtype)
    kernels.turn_and_store((0, 3), raw(heads), raw(turns), (raw(keys), raw(values)), places.numpy(), raw(queries))
    kernels.attend_rows((0, 3), raw(queries), (raw(keys), raw(values)), places.numpy(), raw(out))

    tables = rotary_tables(places[:, 1], frequencies, torch.float32)
    turned = rotate(heads[:, : num_heads + num_kv_heads].float(), *tables)
    for n, (slot, position) in enumerate(places.tolist()):
        stored_keys[slot, position] = turned[n, num_heads:].to(dtype)
        stored_values[slot, position] = heads[n, num_heads + num_kv_heads :]
        seen = (x[slot, : position + 1].float().repeat_interleave(3, dim=1) for x in (stored_keys, stored_values))
        k, v = (x.transpose(0, 1) for x in seen)  # (H, T, Dh)
        assert close(out[n], F.scaled_dot_product_attention(turned[n, :num_heads, None], k, v)[:, 0])
    assert close(keys, stored_keys) and torch.equal(values, stored_values)


def test_only_rows_with_a_condition_get_its_constant(dtype: torch.dtype) -> None:
    out, constants = torch.randn(3, 2, 8, dtype=dtype), torch.randn(5, 2, 8, dtype=dtype)
    expected = out + torch.stack((constants[4], torch.zeros(2, 8, dtype=dtype), constants[0]))
    kernels.add_constants((0, 3), raw(out), raw(constants), np.array([4, -1, 0]))
    assert torch.equal(out, expected)
