"""Linear layers over weights that are laid out once, for the CPU: bfloat16 blocks, 4-bit blocks, 8-bit rows.

4-bit weights are 32 neighbours of a row on a grid of 16 levels. `auto` takes them for one or two rows only where the
checkpoint already lies on such a grid (a GGUF file of type Q4_1 does), so that nothing but rounding is lost: a step of
few rows is bound by the bytes of the weights, one of many rows by arithmetic, which bfloat16 does faster. 8-bit
arithmetic is faster still and rounds more: `auto` takes it for the output layer and for steps of many replies at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError
from core.types import AnyArray
from engine.backends import WeightsDtype
from engine.backends.native import cpu_kernels as kernels
from engine.backends.native import vnni
from engine.backends.native.cpu_kernels import raw, rotated_together
from engine.backends.native.vnni import VnniLinear
from models.llama.model import Block, Llama

LinearFunction = Callable[[Tensor], Tensor]
Way = TypeVar("Way", "PackedLinear", "Int4Linear", "Int8Linear", "VnniLinear")
GROUP = 32  # weights that share a scale and an offset
LEVELS = 15
_overloads = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_linear_pointwise = cast(Any, _overloads and _overloads.default)  # looked up once: that costs as much as a product
_quantized = getattr(torch.ops.onednn, "qlinear_pointwise", None)
_qlinear_pointwise = cast(Any, _quantized and _quantized.default)
_ROWS_HINT = 32  # any value gives the same layout for these shapes; rows per step is what it means
_K_TILES = 1  # tiles of the inner dimension in the packed 4-bit layout; the CPU kernel ignores it
CROWD = 8  # replies at once from which 8-bit rows serve a step
OWN_CROWD = 5  # the same with our own kernels, which take half as long as any other way
_FEW_ROWS = (1, 2, 3, 4, 6, 8)  # beyond, arithmetic decides
_ALL_ROWS = 1 << 30
_EXACT_ROWS = 16
_REPEATS = 5
_RUNS = 10
_TIMED_BLOCKS = 8
_GAIN_OF_TILES = 1.8  # of 26 ms a step of 32 took through a library on two cores 11 were spent around the products
_EXACT = 2.0**-7  # of the largest weight of a group: two roundings to bfloat16


def product_rows(num_rows: int) -> int:
    """Return the number of rows, `num_rows` or a few more, for which products are made.

    oneDNN makes code for every number of rows that a matrix meets, a few hundred kilobytes each, and keeps part of it
    for good. Eight numbers between two powers of two bound that; the rows added are 4 % on average, 12 % at most.
    """
    if num_rows <= _EXACT_ROWS:
        return num_rows
    step = 1 << ((num_rows - 1).bit_length() - 4)
    return -(-num_rows // step) * step


def has_onednn_bfloat16() -> bool:
    """Say whether this build of torch and this processor multiply bfloat16 through oneDNN."""
    return bool(torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PackedLinear:
    """A bfloat16 weight in oneDNN's blocked layout: half again as fast as `nn.Linear` at any number of rows."""

    def __init__(self, linear: nn.Linear) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS_HINT)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, _linear_pointwise(x, self._weight, self._bias, "none", [], ""))


class PlainLinear:
    """Any dtype and device, as torch multiplies it."""

    def __init__(self, linear: nn.Linear) -> None:
        self._weight = linear.weight.detach()
        self._bias = None if linear.bias is None else linear.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)


class Int4Linear:
    """Groups of 32 weights on 16 levels between their smallest and largest; activations stay bfloat16."""

    def __init__(self, linear: nn.Linear) -> None:
        weight = linear.weight.detach()
        levels, scale, offset = split_levels(weight)
        self.is_exact = _reproduces(weight, levels, scale, offset)
        self._weight = torch._convert_weight_to_int4pack_for_cpu(levels.int(), _K_TILES)
        middle = offset + scale * 8  # the kernel computes (level - 8) * scale + middle
        table = torch.stack((scale, middle), dim=-1).transpose(0, 1)  # (K / 32, rows, 2)
        self._scales = table.to(torch.bfloat16).contiguous()
        self._bias = None if linear.bias is None else linear.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        flat = x if x.dim() == 2 else x.flatten(0, -2)  # (N, K)
        out = torch._weight_int4pack_mm_for_cpu(flat, self._weight, GROUP, self._scales)
        out = out if x.dim() == 2 else out.view(*x.shape[:-1], -1)
        return out if self._bias is None else out.add_(self._bias)


class Int8Linear:
    """Rows of weights in 8 bits with one scale each; each activation row is rounded to 8 bits at its own scale.

    Both sides are rotated first by blocks of a Hadamard matrix, which leaves their product as it is and spreads the few
    large channels of an activation over many (QuaRot, arXiv 2404.00456, section 3; there with 4 bits).
    """

    def __init__(self, linear: nn.Linear) -> None:
        weight = linear.weight.detach()
        num_rows, width = weight.shape
        levels, scales = np.empty((num_rows, width), dtype=np.uint8), np.empty(num_rows, dtype=np.float32)
        kernels.rotate_and_round(raw(weight), levels, scales)
        rounded = torch.from_numpy((levels ^ 128).view(np.int8))  # levels lie around 128
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, [_ROWS_HINT, width])
        scales /= rotated_together(width)  # both sides are rotated by a matrix H of ones: H H is that many times I
        self._scale = torch.from_numpy(scales)
        self._zeros = torch.zeros(num_rows, dtype=torch.int64)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def multiply(self, levels: Tensor) -> AnyArray:
        """Return float32 products `(N, rows)` of rotated, rounded rows `(N, K)`, before the scales of these rows."""
        products = _qlinear_pointwise(
            levels, 1.0, 128, self._weight, self._scale, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return cast(Tensor, products).numpy()

    def __call__(self, x: Tensor) -> Tensor:
        flat = x if x.dim() == 2 else x.flatten(0, -2)  # (N, K)
        levels, scales = torch.empty(flat.shape, dtype=torch.uint8), np.empty(len(flat), dtype=np.float32)
        kernels.rotate_and_round(raw(flat), levels.numpy(), scales)
        products = self.multiply(levels)
        out = flat.new_empty(products.shape)
        kernels.scale_rows(products, scales, raw(out))
        out = out if x.dim() == 2 else out.view(*x.shape[:-1], -1)
        return out if self.bias is None else out.add_(self.bias)


def split_levels(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return levels `(rows, K)` in [0, 15], scales and offsets `(rows, K / 32)` of a weight `(rows, K)`."""
    groups = weight.float().view(weight.shape[0], -1, GROUP)  # (rows, K / 32, 32)
    offset, largest = groups.aminmax(dim=-1)
    scale = (largest - offset) / LEVELS
    levels = (groups - offset[..., None]) / scale.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
    return levels.round_().clamp_(0, LEVELS).flatten(1), scale, offset


def _reproduces(weight: Tensor, levels: Tensor, scale: Tensor, offset: Tensor) -> bool:
    """Say whether the levels give the weight back to within the rounding of bfloat16."""
    groups = weight.float().view(weight.shape[0], -1, GROUP)  # (rows, K / 32, 32)
    restored = levels.view(weight.shape[0], -1, GROUP) * scale[..., None] + offset[..., None]
    error = restored.sub_(groups).abs_().amax(dim=-1)
    return bool((error <= groups.abs().amax(dim=-1) * _EXACT).all())


class ByRows(nn.Module):
    """A linear layer with one way for few rows and one for many; replaces an `nn.Linear` that only infers.

    `crowd` is a third way, which only a step of many replies at once takes, of its own accord.
    """

    def __init__(
        self, few: LinearFunction, many: LinearFunction, *, max_few: int, crowd: Int8Linear | VnniLinear | None = None
    ) -> None:
        super().__init__()
        self._few = few
        self._many = many
        self.max_few = max_few
        self.crowd = crowd

    def way(self, num_rows: int) -> LinearFunction:
        """Return the way for `x` `(num_rows, K)`."""
        return self._few if num_rows <= self.max_few else self._many

    def forward(self, x: Tensor) -> Tensor:
        """Return `(*N, rows)` of `x` `(*N, K)`."""
        if x.dim() != 2:
            return self._many(x)
        num_rows = len(x)
        if num_rows <= self.max_few:
            return self._few(x)
        added = product_rows(num_rows) - num_rows
        return self._many(F.pad(x, (0, 0, 0, added)))[:num_rows] if added else self._many(x)


def max_few_rows(linear: nn.Module) -> int:
    """Return up to how many rows a linear has another way."""
    return linear.max_few if isinstance(linear, ByRows) else 0


def way_for(linear: nn.Module, num_rows: int) -> LinearFunction:
    """Return what a linear calls for `(num_rows, K)`, without the cost of asking at every call."""
    return linear.way(num_rows) if isinstance(linear, ByRows) else linear


def prepare_linears(decoder: Llama, *, dtype: WeightsDtype) -> str:
    """Replace the linears of a bfloat16 CPU decoder in place and return what was chosen; it only infers afterwards.

    `auto` measures which rows 4-bit weights serve faster, and takes them only where they are exact. Other dtypes and
    devices keep their linears, and a prepared decoder stays as it is. Raises `ConfigError` for a way that this machine
    or the decoder's shape does not have.
    """
    weight = decoder.tok_embeddings.weight
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
        if dtype in ("int4", "int8"):
            raise ConfigError(f"weights_dtype {dtype} needs a bfloat16 decoder on the CPU; use auto")
        return "as loaded"
    if any(isinstance(module, ByRows) for module in decoder.modules()):
        return "as prepared before"
    if not has_onednn_bfloat16():
        if dtype in ("int4", "int8"):
            raise ConfigError(f"weights_dtype {dtype} needs a processor and a torch with oneDNN bfloat16; use auto")
        return "bfloat16"
    found = [
        (parent, name, child)
        for parent in decoder.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    with torch.inference_mode():
        ways = _Ways(decoder, dtype)
        for parent, name, linear in found:
            setattr(parent, name, ways.replace(linear, is_output=linear is decoder.output))
    return ways.description


class _Ways:
    """The choice of one decoder: which functions its linears become."""

    def __init__(self, decoder: Llama, dtype: WeightsDtype) -> None:
        blocks = [cast(Block, block) for block in decoder.layers]
        inner = [linear for block in blocks for linear in block.linears()]
        grouped = all(linear.in_features % GROUP == 0 and linear.out_features % GROUP == 0 for linear in inner)
        if dtype == "int4" and not grouped:
            raise ConfigError(f"weights_dtype int4 needs widths that are multiples of {GROUP}; use auto")
        self._dtype = dtype
        self._made: dict[tuple[type, nn.Linear], Any] = {}  # what was timed is not made again
        self._max_few = 0
        self._has_int8 = bool(torch.cpu._is_vnni_supported())
        self._has_own_kernels = vnni.is_supported() and all(linear.in_features % vnni.DEPTH == 0 for linear in inner)
        self._has_crowd = False
        if dtype == "int4":
            self._max_few = _ALL_ROWS
        elif dtype == "auto":
            timed = inner[: 4 * _TIMED_BLOCKS]
            if self._has_own_kernels and torch.cpu._is_amx_tile_supported():
                self._has_own_kernels = self._own_kernels_keep_up(timed)
            self._max_few = self._rows_won_by_four_bits(timed) if grouped else 0
            self._has_crowd = self._has_int8 and self._is_won_by_eight_bits(timed)

    @property
    def description(self) -> str:
        if self._dtype in ("int8", "int4"):
            return self._dtype
        few = f"int4 up to {self._max_few} rows, else bfloat16" if self._max_few else "bfloat16"
        least = OWN_CROWD if self._has_own_kernels else CROWD
        crowd = f", int8 from {least} replies at once" if self._has_crowd else ""
        return few + crowd + (", int8 output layer" if self._dtype == "auto" and self._has_int8 else "")

    def replace(self, linear: nn.Linear, *, is_output: bool) -> ByRows:
        """Return what stands for one linear."""
        if self._dtype == "int8" or (is_output and self._dtype != "bfloat16" and self._has_int8):
            whole: LinearFunction = self._eight_bits(linear) if is_output else self._make(Int8Linear, linear)
            return ByRows(whole, whole, max_few=0)
        many: LinearFunction = self._make(PackedLinear, linear)
        if is_output:
            return ByRows(many, many, max_few=0)
        crowd = self._eight_bits(linear) if self._has_crowd and linear.bias is None else None
        few = self._make(Int4Linear, linear) if self._max_few else None
        if few is None or (self._dtype == "auto" and not few.is_exact):
            return ByRows(many, many, max_few=0, crowd=crowd)
        return ByRows(few, few if self._max_few == _ALL_ROWS else many, max_few=self._max_few, crowd=crowd)

    def _eight_bits(self, linear: nn.Linear) -> Int8Linear | VnniLinear:
        return self._make(VnniLinear, linear) if self._has_own_kernels else self._make(Int8Linear, linear)

    def _make(self, way: type[Way], linear: nn.Linear) -> Way:
        key = (way, linear)
        if key not in self._made:
            self._made[key] = way(linear)
        return cast(Way, self._made[key])

    def _rows_won_by_four_bits(self, linears: list[nn.Linear]) -> int:
        """Return up to how many rows the 4-bit way is the faster one, measured here.

        Each run goes through more weights than caches hold, as a step does.
        """
        few = [self._make(Int4Linear, linear) for linear in linears]
        if not all(way.is_exact for way in few):
            return 0
        many = [self._make(PackedLinear, linear) for linear in linears]
        won = 0
        for num_rows in _FEW_ROWS:
            inputs = [torch.zeros(num_rows, linear.in_features, dtype=torch.bfloat16) for linear in linears]
            if _best_seconds(few, inputs) >= _best_seconds(many, inputs):
                break
            won = num_rows
        return won

    def _own_kernels_keep_up(self, linears: list[nn.Linear]) -> bool:
        """Say whether a library with matrix tiles gains less over our kernels than a step of theirs costs around it."""
        levels = [torch.full((4 * CROWD, linear.in_features), 128, dtype=torch.uint8) for linear in linears]
        own = [self._make(VnniLinear, linear).multiply for linear in linears]
        library = [self._make(Int8Linear, linear).multiply for linear in linears]
        return _best_seconds(own, levels) < _GAIN_OF_TILES * _best_seconds(library, levels)

    def _is_won_by_eight_bits(self, linears: list[nn.Linear]) -> bool:
        """Say whether 8-bit products are the faster ones for a crowd, measured here."""
        inputs = [torch.zeros(2 * CROWD, linear.in_features, dtype=torch.bfloat16) for linear in linears]
        levels = [torch.full(x.shape, 128, dtype=torch.uint8) for x in inputs]
        eight = [self._eight_bits(linear).multiply for linear in linears]
        many = [self._make(PackedLinear, linear) for linear in linears]
        return _best_seconds(eight, levels) < _best_seconds(many, inputs)


def _best_seconds(ways: Sequence[Callable[[Tensor], object]], inputs: list[Tensor]) -> float:
    """Return the shortest of some runs, in seconds of this thread so that other work on the machine does not count."""
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(_REPEATS):
        started = time.thread_time()
        for way, x in zip(ways, inputs, strict=True):
            way(x)
        times.append(time.thread_time() - started)
    torch.set_num_threads(threads)
    return min(times)


def fastest_thread_count(decoder: Llama, most: int) -> int:
    """Return whether one row runs through the matrices faster on one thread or on `most`, measured here.

    Leaves torch's thread count as it was.
    """
    before = torch.get_num_threads()
    blocks = [cast(Block, block) for block in decoder.layers][:_TIMED_BLOCKS]
    config, weight = decoder.config, decoder.tok_embeddings.weight
    inputs = [weight.new_zeros(1, width) for width in (config.width, config.query_width, config.hidden_width)]
    try:
        counts = sorted({1, most})
        rounds = [[_row_seconds(blocks, inputs, count) for count in counts] for _ in range(_REPEATS)]
        return counts[min(range(len(counts)), key=lambda i: min(times[i] for times in rounds))]
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _row_seconds(blocks: list[Block], inputs: list[Tensor], num_threads: int) -> float:
    """Return the shortest time of some runs of one row through the blocks' matrices.

    The first ones wake the threads, and last until the system has found a processor for each.
    """
    torch.set_num_threads(num_threads)
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        for block in blocks:
            wqkv, wo, w13, w2 = block.linears()
            _ = wqkv(inputs[0]), wo(inputs[1]), w13(inputs[0]), w2(inputs[2])
        times.append(time.perf_counter() - started)
    return min(times)
