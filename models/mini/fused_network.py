"""EfficientNet-Lite as it is cheapest to run: normalisation, activation and skip joined to their convolutions.

The function is the package's, the order of work is not: batch norms are folded into the weights before them, and
oneDNN applies the clipped activation and adds the skip while a convolution's result is still in the cache. Pictures go
through one by one, because the wide early maps of several do not fit the cache: eight together take longer than alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.devices import map_rows

NUM_SHAPES_KEPT = 2
CLIPPED_AT = 6.0  # the activation of the Lite family: max(0, min(x, 6))
_convolve = cast(Any, getattr(torch.ops.mkldnn, "_convolution_pointwise", None))
_HAS_ONEDNN = _convolve is not None and bool(torch._C._has_mkldnn)


class FusedConvolution:
    """One convolution with its batch norm folded in; `clipped` applies the activation, `skip` is added to the result.

    Maps are `(B, C, H, W)` in channels-last order.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *, clipped: bool) -> None:
        fused = fuse_conv_bn_eval(convolution, norm)
        self._weight = fused.weight.detach().contiguous(memory_format=torch.channels_last)
        self._bias = cast(Tensor, fused.bias).detach()
        left, right, top, bottom = getattr(getattr(convolution, "static_padding", None), "padding", (0, 0, 0, 0))
        even = left == right and top == bottom  # then the convolution pads by itself
        self._uneven = None if even else (left, right, top, bottom)
        padding = [top, left] if even else [0, 0]
        self._geometry = (padding, list(convolution.stride), list(convolution.dilation), convolution.groups)
        self._clipped = clipped
        self._packed: dict[torch.Size, Tensor] = {}

    def __call__(self, maps: Tensor, skip: Tensor | None = None) -> Tensor:
        if self._uneven is not None:
            maps = F.pad(maps, self._uneven)
        return self._with_onednn(maps, skip) if _HAS_ONEDNN else self._plainly(maps, skip)

    def _plainly(self, maps: Tensor, skip: Tensor | None) -> Tensor:
        padding, stride, dilation, groups = self._geometry
        result = F.conv2d(maps, self._weight, self._bias, stride, padding, dilation, groups)
        if self._clipped:
            result = result.clamp(0.0, CLIPPED_AT)
        return result if skip is None else result + skip

    def _with_onednn(self, maps: Tensor, skip: Tensor | None) -> Tensor:
        shared = (self._packed_for(maps.shape), self._bias, *self._geometry)
        if skip is not None:
            return cast(Tensor, _convolve.binary(maps, skip, *shared, "add", None, None, [], None))
        activation = ("hardtanh", [0.0, CLIPPED_AT], "") if self._clipped else ("none", [], "")
        return cast(Tensor, _convolve(maps, *shared, *activation))

    def _packed_for(self, shape: torch.Size) -> Tensor:
        """Return the weight in the order that oneDNN likes best for maps of this shape; inputs have two sizes."""
        packed = self._packed.get(shape)
        if packed is None:
            reorder = cast(Any, torch.ops.mkldnn._reorder_convolution_weight)
            packed = reorder(self._weight, *self._geometry, list(shape))
            latest = list(self._packed.items())[1 - NUM_SHAPES_KEPT :]
            self._packed = {**dict(latest), shape: packed}
        return packed


class FusedBlock:
    """One inverted residual: widen (not in the first block), filter each channel, narrow, add the input."""

    def __init__(self, block: Any) -> None:
        arguments = block._block_args
        self._widen = None
        if arguments.expand_ratio != 1:
            self._widen = FusedConvolution(block._expand_conv, block._bn0, clipped=True)
        self._filter = FusedConvolution(block._depthwise_conv, block._bn1, clipped=True)
        self._narrow = FusedConvolution(block._project_conv, block._bn2, clipped=False)
        same_width = arguments.input_filters == arguments.output_filters
        self._skips = block.id_skip and same_width and set(block._depthwise_conv.stride) == {1}

    def __call__(self, maps: Tensor) -> Tensor:
        wide = maps if self._widen is None else self._widen(maps)
        return self._narrow(self._filter(wide), maps if self._skips else None)


class FusedEfficientNet:
    """The convolutions of a loaded EfficientNet-Lite in evaluation mode, whose weights are copied."""

    def __init__(self, network: EfficientNet) -> None:
        self._stem = FusedConvolution(network._conv_stem, network._bn0, clipped=True)
        self._blocks = [FusedBlock(block) for block in network._blocks]
        self._head = FusedConvolution(network._conv_head, network._bn1, clipped=True)

    def __call__(self, pictures: Sequence[Tensor] | Tensor) -> Tensor:
        """Return the pooled features `(B, F)` of pictures `(3, H, W)`; rows do not depend on their batch."""
        return torch.cat(map_rows(self._features, [picture[None] for picture in pictures]))

    def maps(self, picture: Tensor) -> Tensor:
        """Return the last maps `(1, F, h, w)` of a picture `(1, 3, H, W)`; their means are the pooled features."""
        maps = self._stem(picture.contiguous(memory_format=torch.channels_last))
        for block in self._blocks:
            maps = block(maps)
        return self._head(maps)

    def _features(self, picture: Tensor) -> Tensor:
        return self.maps(picture).mean(dim=(2, 3))  # (1, F)
