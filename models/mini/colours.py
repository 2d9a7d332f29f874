"""The colours of a thing in a picture, read from its pixels by the basic colour terms (Berlin and Kay 1969).

Pixels count by where the thing is: outside a plain ground, else where a class activation map (Zhou et al. 2016) and the
difference between the colours there and elsewhere say. Their colours are named by a table over sRGB, learnt from the
XKCD colour survey in OKLab (Ottosson 2020). Letters: H, W pixels, K = 11 terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.types import AnyArray, FloatArray

LEVELS = 32  # of the table, per channel
_COARSE = 16  # levels of the histograms that tell a thing from its surroundings
BRIGHT_PERCENTILE, MIN_BRIGHT, BRIGHTENED = 99, 120, 0.5  # how far a dark picture is brightened
GREY_SPREAD, GREY_PERCENTILE = 4, 99  # of 255, between the channels of a grey-scale picture's pixels
BORDER, PLAIN_SHARE, PLAIN_DISTANCE = 3, 0.6, 0.10  # pixels, and OKLab distance to the border's median
MIN_THING, MAX_THING = 0.02, 0.97  # of the picture; less or more was not told from its ground
SURROUNDINGS, DIFFERENCE = 2.0, 3.0  # weight of the other colours, and how strongly the ratio counts
EDGE, EDGE_WEIGHT = 6, 10.0
FLOOR = 0.01  # of a share, before its logarithm

Mask = npt.NDArray[np.bool_]

_TO_CONES = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]], dtype=np.float32,
)  # fmt: skip
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]], dtype=np.float32,
)  # fmt: skip


def oklab(srgb: AnyArray) -> FloatArray:
    """Return lightness and the two opponent axes of sRGB in [0, 1], any shape that ends in 3."""
    srgb = np.asarray(srgb, dtype=np.float32)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lab: FloatArray = np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T
    return lab


def lattice(levels: int) -> FloatArray:
    """Return OKLab of the middles of `levels` steps per channel, `(levels**3, 3)` in the order of `bins`."""
    steps = (np.arange(levels, dtype=np.float32) + 0.5) / levels
    return oklab(np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)).reshape(-1, 3)


_FINE = 64
_LAB = lattice(_FINE)
_LIGHTNESS = lattice(LEVELS)[:, 0]
_BY_LIGHTNESS = np.argsort(_LIGHTNESS)


@dataclass(frozen=True, slots=True)
class ThingColours:
    """`shares` `(K,)` of the thing's pixels, of the whole picture's in `palette`, and of the plain ground's, if any.

    `lightness` are the OKLab lightnesses that 15 % and 85 % of the thing's pixels stay below.
    """

    shares: FloatArray
    palette: FloatArray
    ground: FloatArray | None
    lightness: tuple[float, float]
    has_colours: bool


def read_colours(pixels: AnyArray, activation: FloatArray, table: FloatArray) -> ThingColours:
    """Read `(H, W, 3)` uint8, whose thing is where `activation` `(h, w)` is high; `table` is `(LEVELS**3, K)`."""
    weights, is_ground = thing_weights(pixels, stretched(activation, *pixels.shape[:2]))
    place = bins(brightened(pixels), LEVELS)  # (H, W)
    counts, everywhere = (np.bincount(place.ravel(), w, LEVELS**3) for w in (weights.ravel(), None))
    ground = np.bincount(place[is_ground], minlength=LEVELS**3) if is_ground is not None else None
    spread = pixels.max(axis=-1) - pixels.min(axis=-1)
    return ThingColours(
        shares=named_shares(counts, table),
        palette=named_shares(everywhere, table),
        ground=named_shares(ground, table) if ground is not None else None,
        lightness=_lightness(counts),
        has_colours=bool(np.percentile(spread, GREY_PERCENTILE) > GREY_SPREAD),
    )


def named_shares(counts: AnyArray, table: FloatArray) -> FloatArray:
    """Return the share of each term `(K,)` in colours that are counted per place of the table."""
    shares: FloatArray = (counts @ table / max(float(counts.sum()), 1e-9)).astype(np.float32)
    return shares


def bins(pixels: AnyArray, levels: int) -> npt.NDArray[np.int64]:
    """Return the place of each pixel `(..., 3)` uint8 in a table of `levels` per channel."""
    q = (pixels.astype(np.int64) * levels) >> 8
    places: npt.NDArray[np.int64] = (q[..., 0] * levels + q[..., 1]) * levels + q[..., 2]
    return places


def brightened(pixels: AnyArray) -> AnyArray:
    """Return the pixels with the brightest ones moved half-way to white: in a dim picture white is grey."""
    brightest = max(float(np.percentile(pixels.max(axis=-1), BRIGHT_PERCENTILE)), MIN_BRIGHT)
    factor = 1 + BRIGHTENED * (255 / brightest - 1)
    return np.clip(pixels * factor, 0, 255).astype(np.uint8)


def thing_weights(pixels: AnyArray, activation: FloatArray) -> tuple[FloatArray, Mask | None]:
    """Return how much each pixel `(H, W)` belongs to the thing, 1 in all, and the plain ground around it, if any."""
    lab = _LAB[bins(pixels, _FINE)]  # (H, W, 3)
    from_centre = _from_centre(*pixels.shape[:2])
    border = np.concatenate(
        [side.reshape(-1, 3) for side in (lab[:BORDER], lab[-BORDER:], lab[:, :BORDER], lab[:, -BORDER:])]
    )
    median = np.median(border, axis=0)
    if (((border - median) ** 2).sum(axis=-1) < PLAIN_DISTANCE**2).mean() >= PLAIN_SHARE:
        ground = connected_to_border(((lab - median) ** 2).sum(axis=-1) < PLAIN_DISTANCE**2)
        thing = _without_rim(~ground)
        if MIN_THING < thing.mean() < MAX_THING:
            return _normalised(thing * np.sqrt(activation + 0.05) * np.exp(-from_centre / 3)), ground
    inside = activation * np.exp(-from_centre / 0.8)
    outside = (1 - activation) ** 2 * (1 + EDGE_WEIGHT * _is_edge(*pixels.shape[:2]))
    place = bins(pixels, _COARSE)
    here, elsewhere = (_smoothed_histogram(place, weights) for weights in (inside, outside))
    ratio = (here / (here + SURROUNDINGS * elsewhere + 1e-9)) ** DIFFERENCE
    return _normalised(inside * ratio[place]), None


def connected_to_border(like: Mask) -> Mask:
    """Return those True pixels `(H, W)` that reach the border over True neighbours; whole runs at a time."""
    reached: Mask = like & (_from_edge(*like.shape) == 0)
    runs = [np.cumsum(~like, axis=axis) for axis in (1, 0)]
    height, width = like.shape
    runs[0] += np.arange(height)[:, None] * (width + 1)
    runs[1] += np.arange(width)[None, :] * (height + 1)
    found = -1
    while found != (found := int(reached.sum())):
        for run in runs:
            is_reached = np.zeros(run.max() + 1, dtype=bool)
            is_reached[run[reached]] = True
            reached = like & is_reached[run]
    return reached


def stretched(activation: FloatArray, height: int, width: int) -> FloatArray:
    """Return a map `(h, w)` over `(height, width)` pixels, bilinear, from 0 to 1."""
    positive = np.maximum(activation, 0)
    rows, columns = (_between(pixels, cells) for pixels, cells in zip((height, width), positive.shape, strict=True))
    result: FloatArray = rows @ (positive / (positive.max() + 1e-9)) @ columns.T  # (H, W)
    return result


def _between(pixels: int, cells: int) -> FloatArray:
    """Return the weights `(pixels, cells)` of linear interpolation between the middles of cells."""
    at = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    weights: FloatArray = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))).astype(np.float32)
    return weights


def _smoothed_histogram(place: npt.NDArray[np.int64], weights: FloatArray) -> FloatArray:
    counts = np.bincount(place.ravel(), weights.ravel(), _COARSE**3).reshape(_COARSE, _COARSE, _COARSE)
    for axis in range(3):
        padded = np.pad(counts, [(int(a == axis),) * 2 for a in range(3)], mode="edge")
        low, high = (np.take(padded, np.arange(start, start + _COARSE), axis) for start in (0, 2))
        counts = 0.582 * counts + 0.209 * (low + high)  # a Gaussian of 0.7 levels
    flat: FloatArray = (counts / max(float(counts.sum()), 1e-9)).ravel().astype(np.float32)
    return flat


def _without_rim(thing: Mask) -> Mask:
    """Return a mask without its outermost pixels, which mix with the ground; one too thin as it is."""
    inner = thing.copy()
    inner[1:] &= thing[:-1]
    inner[:-1] &= thing[1:]
    inner[:, 1:] &= thing[:, :-1]
    inner[:, :-1] &= thing[:, 1:]
    return inner if inner.mean() > MIN_THING else thing


def _from_centre(height: int, width: int) -> FloatArray:
    """Return the squared distance of each pixel from the middle, 1 at the middle of an edge."""
    y, x = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (height, width))
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2, dtype=np.float32)


def _from_edge(height: int, width: int) -> npt.NDArray[np.int64]:
    y, x = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (height, width))
    return np.minimum(y[:, None], x[None, :])


def _is_edge(height: int, width: int) -> Mask:
    return _from_edge(height, width) < EDGE


def _normalised(weights: FloatArray) -> FloatArray:
    return weights / max(float(weights.sum()), 1e-9)


def _lightness(counts: AnyArray) -> tuple[float, float]:
    """Return the lightnesses that 15 % and 85 % of the counted colours stay below."""
    summed = np.cumsum(counts[_BY_LIGHTNESS])
    places = np.minimum(np.searchsorted(summed, (0.15 * summed[-1], 0.85 * summed[-1])), len(summed) - 1)
    low, high = _LIGHTNESS[_BY_LIGHTNESS[places]].tolist()
    return low, high
