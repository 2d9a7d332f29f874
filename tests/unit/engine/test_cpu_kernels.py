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


@pytest.mark.parametrize("heads_shape", [(6, 2, 16), (8, 2, 16), (3, 1, 64), (6, 3, 64)])
def test_a_row_attends_to_its_own_slot_up_to_its_own_token(
    heads_shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    num_heads, num_kv_heads, width = heads_shape
    group, places = num_heads // num_kv_heads, torch.tensor([[2, 9], [0, 0], [3, 4]])
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
        seen = (x[slot, : position + 1].float().repeat_interleave(group, dim=1) for x in (stored_keys, stored_values))
        k, v = (x.transpose(0, 1) for x in seen)  # (H, T, Dh)
        assert close(out[n], F.scaled_dot_product_attention(turned[n, :num_heads, None], k, v)[:, 0])
    assert close(keys, stored_keys) and torch.equal(values, stored_values)


def test_only_rows_with_a_condition_get_its_constant(dtype: torch.dtype) -> None:
    out, constants = torch.randn(3, 2, 8, dtype=dtype), torch.randn(5, 2, 8, dtype=dtype)
    expected = out + torch.stack((constants[4], torch.zeros(2, 8, dtype=dtype), constants[0]))
    kernels.add_constants((0, 3), raw(out), raw(constants), np.array([4, -1, 0]))
    assert torch.equal(out, expected)


def hadamard(points: int) -> torch.Tensor:
    """Return Sylvester's matrix of ones and minus ones: by the parity of the bits that two places share."""
    return torch.tensor(
        [[1.0 - 2 * ((row & column).bit_count() % 2) for column in range(points)] for row in range(points)]
    )


def test_a_rotated_row_in_8_bits_keeps_small_channels_beside_a_large_one(dtype: torch.dtype) -> None:
    x = torch.randn(3, 192)
    x[:, 5] = 300.0
    x = x.to(dtype)
    levels, scales = np.empty((3, 192), dtype=np.uint8), np.empty(3, dtype=np.float32)
    kernels.rotate_and_round(raw(x), levels, scales)
    restored = (torch.from_numpy(levels).float() - 128) * torch.from_numpy(scales)[:, None]
    restored = (hadamard(64) @ restored.view(3, 64, 3) / 64).flatten(1)  # its own inverse but for the 64
    alone = (x.float() / 300 * 127).round() * 300 / 127  # what 8 bits make of the row unrotated
    small = [place for place in range(192) if place != 5]
    error, alone_error = ((y - x.float())[:, small].norm() for y in (restored, alone))
    assert float(error) < 0.5 * float(alone_error)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_shows_it_after_8_bits(value: float, dtype: torch.dtype) -> None:
    x = torch.zeros(2, 64, dtype=dtype)
    x[1, 3] = value
    levels, scales = np.empty((2, 64), dtype=np.uint8), np.empty(2, dtype=np.float32)
    kernels.rotate_and_round(raw(x), levels, scales)
    assert np.isfinite(scales[0]) and np.isnan(scales[1])
