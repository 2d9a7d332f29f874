"""What a bathroom holds. z is up, the front looks along x."""

from __future__ import annotations

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    arc,
    at_corners,
    bar,
    box,
    circle,
    ellipsoid,
    join,
    lathe,
    mirror,
    plate,
    skin,
    spans,
    tube,
    turn,
)


def toilet(d: Dice) -> Triangles:
    w, length, h = d(0.16, 0.21), d(0.22, 0.3), d(0.36, 0.46)
    ring = circle(20, d(2, 3)) * (length, w)
    ring[:, 0] = np.where(ring[:, 0] < 0, ring[:, 0] * d(0.7, 1), ring[:, 0])
    foot = d(0.45, 0.85)
    heights = [0, h * 0.3, h * 0.6, h]
    scales = [foot, foot * 0.9, d(0.75, 0.95), 1.0]
    if wall_hung := d.maybe(0.15):
        heights[:2] = [h * 0.35, h * 0.4]
    outer = [
        np.column_stack((ring * s - (0.1 * (1 - s), 0), np.full(20, z))) for s, z in zip(scales, heights, strict=True)
    ]
    inner = [
        np.column_stack((ring * s, np.full(20, z)))
        for s, z in ((0.8, h), (0.75, h * 0.85), (0.3, h * 0.5), (0.02, h * 0.48))
    ]
    parts = [skin(np.stack([*outer, *inner]), caps=False)]
    back = -length * d(0.95, 1.1)
    if d.maybe(0.85) and not wall_hung:
        tank, deep = d(0.6, 0.9), d(0.14, 0.2)
        parts.append(box((back - deep * 0.4, 0, (h * 0.95 + tank) / 2), (deep, d(0.34, 0.46), tank - h * 0.95)))
        parts.append(box((back - deep * 0.4, 0, tank + 0.015), (deep * 1.1, 0.46, 0.03)))
    if not wall_hung:
        parts.append(box((back * 0.8, 0, h * 0.5), (length * 0.6, w * d(0.8, 1.4), h)))
    seat = plate(ring * 1.05, 0.02)
    lid = d.pick("open", "open", "closed", "none")
    if lid == "closed":
        parts.append(seat + (0, 0, h + 0.02))
    elif lid == "open":
        parts.append(turn(seat + (length, 0, 0), "y", -d(80, 100)) + (-length * 0.85, 0, h + 0.02))
    if lid != "closed":
        parts.append(
            skin(
                np.stack(
                    [
                        np.column_stack((ring * s, np.full(20, h + z)))
                        for s, z in ((1.05, 0), (1.05, 0.02), (0.7, 0.02), (0.7, 0))
                    ]
                ),
                caps=False,
            )
        )
    return join(*parts)


def basin(w: float, length: float, h: float, wall: float, exponent: float, floor: float) -> Triangles:
    """Return an open tub whose rim is a superellipse of half sizes `length` and `w`."""
    ring = circle(24, exponent)
    inside = (length - wall, w - wall)
    levels = [
        ((length * floor, w * floor), 0.0),
        ((length, w), h),
        (inside, h),
        ((inside[0] * floor, inside[1] * floor), wall),
    ]
    return skin(np.stack([np.column_stack((ring * size, np.full(24, z))) for size, z in levels]))


def faucet(d: Dice, h: float) -> Triangles:
    curve = np.vstack(([(0, 0, 0)], arc((h * 0.4, 0, h * 0.8), h * 0.4, 180, 10)))
    return join(tube(curve, h * 0.07), mirror(bar((0, h * 0.3, 0), (0, h * 0.3, h * 0.25), h * 0.08)))


def bathtub(d: Dice) -> Triangles:
    w, length, h = d(0.33, 0.45), d(0.7, 0.95), d(0.42, 0.62)
    kind = d.pick("built in", "oval", "claw", "corner")
    if kind == "built in":
        tub = basin(w * 0.92, length * 0.95, h, 0.06, d(3, 8), d(0.7, 0.95))
        rim = [
            np.column_stack((circle(24, e) * size, np.full(24, h)))
            for e, size in ((20, (length, w)), (4, (length * 0.9, w * 0.85)))
        ]
        tub = join(tub, skin(np.stack(rim), caps=False), skin(np.stack([rim[0] * (1, 1, 0), rim[0]]), caps=False))
    else:
        tub = basin(w, length, h, 0.04, d(2, 4), d(0.6, 0.95))
        if kind == "claw":
            tub = join(
                tub + (0, 0, 0.12), at_corners(ellipsoid((0, 0, 0.07), (0.04, 0.04, 0.08)), length * 0.5, w * 0.45)
            )
        if kind == "corner":
            tub = tub * (0.8, 1.5, 1)
    if d.maybe(0.4):  # one end of the rim is raised
        raised = (tub[..., 2:] > h * 0.5) & (tub[..., :1] < -length * 0.5)
        tub = tub + raised * (0, 0, d(0.05, 0.2))
    if d.maybe(0.5):
        tub = join(tub, faucet(d, 0.2) + (-length * 0.95, 0, h))
    return tub


def counter_sink(d: Dice, kind: str) -> Triangles:
    """Return a top with one or two basins let in, alone, on a cabinet, or before a splash board and mirror."""
    w, depth, t = d(0.3, 0.75), d(0.22, 0.36), d(0.02, 0.12)
    count = d.whole(1, 2) if w > 0.4 else 1
    half, long = w / count * d(0.55, 0.9), depth * d(0.6, 0.85)
    places = np.linspace(-w, w, 2 * count + 1)[1::2] * d(0.7, 1)
    tubs = [basin(half, long, d(0.12, 0.2), 0.015, d(2, 12), d(0.5, 0.95)) for _ in places]
    deep = d(0.1, 0.2)
    parts = [tub * (1, 1, 1) + (depth * 0.08, y, -deep) for tub, y in zip(tubs, places, strict=True)]
    rim = np.array([(-depth, -w), (depth, -w), (depth, w), (-depth, w)])
    parts += [mirror(spans((-depth, w * 0.97, -t), (depth, w, 0)))]
    parts += [spans((s * depth - 0.01, -w, -t), (s * depth + 0.01, w, 0)) for s in (-1, 1)]
    edge = depth - long
    parts += [spans((-depth, -w, -0.01), (-depth + edge, w, 0)), spans((depth - edge * 0.6, -w, -0.01), (depth, w, 0))]
    gap = (w - np.abs(places).max() - half) if count == 1 else w * 0.1
    parts.append(mirror(spans((-depth, w - max(gap, 0.02), -0.01), (depth, w, 0))))
    if d.maybe(0.85):
        parts.append(faucet(d, d(0.12, 0.3)) + (-depth * 0.85, 0, 0))
    if kind == "kitchen":
        h = d(0.5, 0.85)
        parts += [mirror(spans((-depth, w * 0.97, -h), (depth, w, 0))), spans((-depth, -w, -h), (-depth * 0.97, w, 0))]
        parts += [spans((depth * 0.95, -w, -h), (depth, -0.005, 0)), spans((depth * 0.95, 0.005, -h), (depth, w, 0))]
        if d.maybe(0.5):
            parts.append(mirror(bar((depth * 1.05, 0.05, -0.1), (depth * 1.05, 0.05, -0.25), 0.01)))
    elif d.maybe(0.4):
        parts.append(bar((0, 0, -deep), (0, 0, -d(0.3, 0.7)), d(0.02, 0.08)))
    if d.maybe(0.25):
        parts.append(spans((-depth, -w, 0), (-depth + 0.02, w, d(0.1, 0.9))))
    return join(*parts, skin(np.stack([np.column_stack((rim * s, np.full(4, -t))) for s in (1, 0.98)]), caps=False))


def sink(d: Dice) -> Triangles:
    w, length, h = d(0.2, 0.35), d(0.17, 0.26), d(0.12, 0.22)
    tub = basin(w, length, h, d(0.02, 0.05), d(2, 8), d(0.4, 0.9))
    kind = d.pick("pedestal", "counter", "wall", "cabinet", "kitchen", "kitchen", "slab")
    if kind in ("kitchen", "slab"):
        return counter_sink(d, kind)
    parts = [tub, faucet(d, d(0.12, 0.3)) + (-length * 0.8, 0, h)]
    if kind == "pedestal":
        parts.append(lathe([(0.12, -0.7), (0.07, -0.5), (0.08, -0.1), (0.14, 0.05)]))
    elif kind == "counter":
        a, b = length * d(1.1, 1.4), w * d(1.1, 2.5)
        rim = [
            np.column_stack((circle(24, e) * size, np.full(24, h)))
            for e, size in ((20, (a, b)), (4, (length * 0.95, w * 0.95)))
        ]
        parts.append(skin(np.stack(rim), caps=False))
    elif kind == "cabinet":
        parts.append(spans((-length * 1.1, -w * 1.2, -0.7), (length, w * 1.2, h * 0.5)))
        parts.append(mirror(spans((length, 0.01, -0.65), (length + 0.02, w * 1.1, h * 0.3))))
    return join(*parts)


MAKERS = {
    "toilet": toilet,
    "bathtub": bathtub,
    "sink": sink,
}
