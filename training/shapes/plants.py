"""Plants in pots and out of them. z is up, the front looks along x."""

from __future__ import annotations

import math

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    around,
    bar,
    box,
    circle,
    disc,
    ellipsoid,
    join,
    lathe,
    sheet,
    skin,
    sprinkle,
    tube,
    turn,
    vessel,
)


def flowers(d: Dice, z: float, spread: float) -> Triangles:
    """Return a bunch of stems with heads that starts at height `z`."""
    parts = []
    for _ in range(d.whole(1, 9)):
        top = np.array((d(-3, 3) * spread, d(-3, 3) * spread, z + d(0.1, 0.3)))
        parts.append(tube([(0, 0, z * 0.4), (top[0] * 0.3, top[1] * 0.3, z * 1.1), top], 0.003, num_corners=5))
        petal = sheet(
            [
                [(0, -0.008, 0), (0, 0.008, 0)],
                [(0.02, -0.012, 0.008), (0.02, 0.012, 0.008)],
                [(0.035, -0.003, 0), (0.035, 0.003, 0)],
            ]
        )
        parts.append(around(petal, d.whole(5, 8)) + top if d.maybe(0.6) else ellipsoid(top, (0.02, 0.02, 0.025)))
    return join(*parts)


def leaf(length: float, width: float, bend: float, rows: int = 6) -> Triangles:
    """Return one leaf that leaves the origin upward and bends toward +x."""
    t = np.linspace(0, 1, rows)
    x, z = length * np.sin(bend * t) / max(bend, 0.1), length * t * np.cos(bend * t * 0.8)
    half = width * np.sin(math.pi * np.clip(t * 0.95 + 0.05, 0, 1)) ** 0.7 + 0.001
    return sheet(np.stack([np.column_stack((x, s * half, z)) for s in (-1, 0, 1)]))


def foliage(d: Dice, h: float, kind: str) -> Triangles:
    """Return leaves that grow from the origin to about height `h`."""
    parts = []
    if kind in ("blades", "arching", "palm"):
        count = d.whole(7, 24)
        for _ in range(count):
            bend = {"blades": d(0, 0.5), "arching": d(0.6, 1.9), "palm": d(0.8, 2.0)}[kind]
            one = leaf(h * d(0.6, 1.2), h * d(0.03, 0.1), bend)
            parts.append(turn(turn(one, "y", d(0, 20)), "z", d(0, 360)))
        return join(*parts)
    if kind == "cactus":
        r = h * d(0.12, 0.3)
        parts.append(ellipsoid((0, 0, h * 0.5), (r, r, h * 0.55), exponent=2.5))
        for _ in range(d.whole(0, 3)):
            side = tube([(0, 0, h * 0.4), (h * 0.35, 0, h * 0.4), (h * 0.38, 0, h * d(0.6, 0.9))], h * 0.08)
            parts.append(turn(side, "z", d(0, 360)))
        return join(*parts)
    wide = h * d(0.3, 0.6)
    count = d.whole(30, 140)
    spots = d.random.normal(size=(count, 3))
    spots = spots / np.linalg.norm(spots, axis=1, keepdims=True) * d.random.random((count, 1)) ** 0.4 * (
        wide,
        wide,
        h * 0.4,
    ) + (0, 0, h * 0.6)
    blade = leaf(h * d(0.12, 0.3), h * d(0.04, 0.1), d(0, 0.8), rows=4)
    parts.append(sprinkle(blade, spots, d))
    for spot in spots[:: d.whole(3, 9)]:
        parts.append(bar((0, 0, 0), spot, h * 0.01, corners=5))
    return join(*parts)


def potted_plant(d: Dice) -> Triangles:
    r, h = d(0.08, 0.2), d(0.08, 0.3)
    taper = d(0.6, 1.05)
    if d.maybe(0.75):
        z = np.linspace(0, h, 5)
        base = vessel(r * (taper + (1 - taper) * z / h), z, 0.01)
        base = join(base, disc((0, 0, h * 0.9), r * 0.93, 0.01))
        if d.maybe(0.4):
            base = join(base, lathe([(r * 1.1, h * 0.85), (r * 1.1, h), (r, h)]))
    else:
        base = box((0, 0, h / 2), (2 * r, 2 * r * d(1, 2.5), h), taper=d(1, 1.2))
    kind = d.pick("blades", "arching", "palm", "bush", "bush", "cactus", "tree", "flower", "box", "rosette")
    tall = d(0.15, 0.9)
    if kind == "box":
        return planter(d)
    if kind == "rosette":
        leaves = [
            turn(turn(leaf(r * d(0.7, 1.3), r * d(0.2, 0.45), 0.9), "y", d(0, 70)), "z", 137.5 * n) for n in range(24)
        ]
        return join(base, join(*leaves) + (0, 0, h * 0.9))
    if kind == "tree":
        crown = foliage(d, tall * 0.8, "bush") + (0, 0, h + tall * 0.6)
        return join(base, bar((0, 0, h * 0.8), (0, 0, h + tall), 0.02, 0.012), crown)
    if kind == "flower":
        return join(base, flowers(d, h, r * 0.5), foliage(d, tall * 0.5, "arching") + (0, 0, h))
    if kind == "palm":
        return join(
            base, bar((0, 0, h * 0.8), (0, 0, h + tall), 0.02), foliage(d, tall * 0.8, "palm") + (0, 0, h + tall * 0.9)
        )
    return join(base, foliage(d, tall, kind) + (0, 0, h * 0.9))


def planter(d: Dice) -> Triangles:
    """Return a long box with a row of small plants."""
    w, depth, h = d(0.3, 0.6), d(0.08, 0.16), d(0.1, 0.25)
    trough = box((0, 0, h / 2), (2 * depth, 2 * w, h), taper=d(1, 1.15))
    kind = d.pick("bush", "arching", "flower", "blades")
    plants = []
    for y in np.linspace(-w * 0.85, w * 0.85, d.whole(3, 6)):
        one = flowers(d, 0.05, 0.02) if kind == "flower" else foliage(d, d(0.1, 0.3), kind)
        plants.append(one + (0, y, h * 0.95))
    return join(trough, *plants)


def tree(d: Dice) -> Triangles:
    h, r = d(2, 6), d(0.06, 0.25)
    kind = d.pick("round", "round", "fir", "fir", "branches", "palm", "leafy", "flat")
    if kind == "palm" and d.maybe(0.5):
        r = h * d(0.01, 0.02)
    trunk = tube([(0, 0, 0), (d(-0.2, 0.2), d(-0.2, 0.2), h * 0.4), (d(-0.3, 0.3), 0, h * 0.8)], [r * 1.3, r, r * 0.5])
    if kind == "fir":
        layers, low = d.whole(1, 6), h * d(0.08, 0.3)
        wide, parts = h * d(0.18, 0.4), [trunk]
        for n in range(layers):
            z0 = low + (h - low) * n / layers
            part = 1 - n / layers
            rise = (h - low) / layers * d(1.2, 1.9)
            jag = 1 - d(0, 0.5) * (np.arange(18) % 2)[:, None]
            ring = circle(18) * jag * wide * part
            rows = [np.column_stack((ring * s, np.full(18, z0 + rise * (1 - s)))) for s in (1.0, 0.5, 0.02)]
            parts.append(turn(skin(np.stack(rows), caps=False), "z", d(0, 20)))
        if d.maybe(0.3):
            twig = leaf(wide * 0.5, 0.05, 0.5)
            places = np.array([(0, 0, z) for z in np.linspace(low, h, 40)])
            parts = [trunk, *(turn(twig * (1.6 * (1 - z / h) + 0.2), "y", 100) + (0, 0, z) for z in places[:, 2])]
            parts = [parts[0], *(turn(part, "z", 137.5 * n) for n, part in enumerate(parts[1:]))]
        return join(*parts)
    if kind == "palm":
        return join(trunk, foliage(d, h * d(0.15, 0.4), "palm") + (0, 0, h * 0.78))
    if kind == "flat":
        wide, height = h * d(0.4, 0.8), h * d(0.5, 0.9)
        tips = [np.array((d(-1, 1) * wide, d(-1, 1) * wide, height * d(0.75, 1.1))) for _ in range(d.whole(5, 12))]
        limbs = [
            tube([(0, 0, height * d(0.2, 0.5)), tip * (0.5, 0.5, 0.85), tip], [r * 0.6, r * 0.4, r * 0.2])
            for tip in tips
        ]
        clouds = [
            ellipsoid(tip, (wide * d(0.2, 0.5), wide * d(0.2, 0.5), h * d(0.03, 0.12)), num_rings=6) for tip in tips
        ]
        return join(trunk, *limbs, *clouds)
    crown, top = h * d(0.2, 0.4), h * d(0.65, 0.85)
    parts = [trunk]
    for _ in range(d.whole(4, 9)):
        tip = np.array((d(-1, 1) * crown, d(-1, 1) * crown, top + d(-0.5, 0.9) * crown))
        parts.append(
            tube([(0, 0, h * d(0.3, 0.6)), tip * (0.5, 0.5, 0.9), tip], [r * 0.5, r * 0.35, r * 0.1], num_corners=6)
        )
        if kind == "branches":
            parts += [
                bar(
                    tip * (0.7, 0.7, 0.93),
                    tip + (d(-1, 1) * crown * 0.4, d(-1, 1) * crown * 0.4, d(0, 0.5) * crown),
                    r * 0.15,
                    r * 0.05,
                )
                for _ in range(4)
            ]
        elif kind == "round":
            parts.append(ellipsoid(tip, (crown * d(0.4, 0.8), crown * d(0.4, 0.8), crown * d(0.3, 0.7)), num_rings=7))
    if kind == "round":
        parts.append(ellipsoid((0, 0, top), (crown, crown, crown * d(0.7, 1.3))))
    if kind == "leafy":
        parts.append(foliage(d, crown * 2.2, "bush") + (0, 0, top - crown))
    return join(*parts)


def mushroom(d: Dice) -> Triangles:
    r, h, cap = d(0.03, 0.06), d(0.03, 0.1), d(0.02, 0.06)
    stem = r * d(0.2, 0.5)
    t = np.linspace(0, math.pi / 2, 8)
    dome = [(r * math.cos(a), h + cap * math.sin(a)) for a in t]
    return lathe(
        [(0, 0), (stem * d(1, 1.5), 0), (stem, h * 0.5), (stem * d(0.8, 1), h), (r * 0.8, h - d(-0.01, 0.01)), *dome]
    )


MAKERS = {
    "potted plant": potted_plant,
    "tree": tree,
    "mushroom": mushroom,
}
