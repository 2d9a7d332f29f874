"""Houses, tents and towers. z is up, the front looks along x."""

from __future__ import annotations

import math

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    arc,
    around,
    at_corners,
    bar,
    box,
    circle,
    ellipsoid,
    hoop,
    join,
    lathe,
    mirror,
    sheet,
    skin,
    spans,
    tube,
    turn,
)


def house(d: Dice) -> Triangles:
    w, depth, h, rise, over = d(2.5, 6), d(2.5, 5), d(2.2, 5.5), d(0.8, 3), d(0.1, 0.6)

    def block(w: float, depth: float, h: float, rise: float, hip: float) -> Triangles:
        ridge = depth * (1 - hip)
        eaves = [
            (depth + over, -w - over, h),
            (depth + over, w + over, h),
            (-depth - over, w + over, h),
            (-depth - over, -w - over, h),
        ]
        a, b = (ridge, 0, h + rise), (-ridge, 0, h + rise)
        roof = [
            sheet([[eaves[0], eaves[3]], [a, b]]),
            sheet([[eaves[1], eaves[2]], [a, b]]),
            sheet([[eaves[0], eaves[1]], [a, a]]),
            sheet([[eaves[2], eaves[3]], [b, b]]),
        ]
        return join(spans((-depth, -w, 0), (depth, w, h)), *roof)

    parts = [block(w, depth, h, rise, d(0.3, 0.8) if d.maybe(0.3) else -over / depth)]
    if d.maybe(0.35):
        parts.append(
            turn(block(w * 0.6, depth * 0.7, h * d(0.5, 1), rise * 0.7, 0), "z", 90) + (d(-0.5, 0.5) * depth, w, 0)
        )
    if d.maybe(0.55):
        x, y = d(-0.6, 0.6) * depth, d(-0.6, 0.6) * w
        parts.append(spans((x, y, h), (x + 0.5, y + 0.5, h + rise + d(0.1, 0.8))))
    out = d(-0.05, 0.08)
    for level in range(0 if d.maybe(0.3) else 1 + (h > 3.8)):
        for y in np.linspace(-w * 0.7, w * 0.7, d.whole(2, 4)):
            z = 1.0 + 2.5 * level
            parts.append(mirror(spans((depth, y - 0.4, z), (depth + out, y + 0.4, z + 1.0)), "x"))
            if d.maybe(0.5):
                parts.append(mirror(spans((y * depth / w - 0.4, w, z), (y * depth / w + 0.4, w + out, z + 1.0))))
    parts.append(spans((depth, -0.45, 0), (depth + out * 1.5, 0.45, 2)))
    if d.maybe(0.3):
        parts += [
            spans((depth, -1.2, 2.2), (depth + 1.4, 1.2, 2.4)),
            mirror(bar((depth + 1.3, 1.1, 0), (depth + 1.3, 1.1, 2.2), 0.1)),
        ]
    return join(*parts)


def tent(d: Dice) -> Triangles:
    w, depth, h = d(0.8, 1.4), d(0.9, 1.8), d(0.9, 1.6)
    kind = d.pick("ridge", "ridge", "dome", "tipi", "pavilion")
    if kind == "ridge":
        sag = d(0, 0.15)
        v = np.linspace(0, 1, 5)
        side = [[(x, w * (1 - s) - sag * math.sin(s * 3.14), h * s) for x in np.linspace(-depth, depth, 5)] for s in v]
        end = sheet([[(depth, -w, 0), (depth, 0, 0), (depth, w, 0)], [(depth, 0, h)] * 3])
        parts = [mirror(sheet(side)), end * (-1, 1, 1)]
        if d.maybe(0.5):
            flap = sheet([[(depth, w, 0), (depth, w * 0.3, 0)], [(depth, 0, h), (depth, 0, h)]])
            parts.append(mirror(flap if d.maybe(0.5) else turn(flap, "z", -d(10, 70), (depth, w, 0))))
        else:
            parts.append(end)
        if d.maybe(0.5):
            parts += [mirror(bar((s * depth * 0.9, w, h * 0.2), (s * depth, w * 1.6, 0), 0.008)) for s in (-1, 1)]
        return join(*parts)
    if kind == "dome":
        shell = ellipsoid((0, 0, 0), (depth, w, h), exponent=d(1.8, 2.4))
        shell = shell[shell[..., 2].min(axis=1) > -0.05]
        poles = [
            tube(np.array(arc((0, 0, 0), 1, 0, 180)) * (depth, 1, h), 0.015),
            tube(arc((0, 0, 0), 1, 0, 180, plane="yz") * (1, w, h), 0.015),
        ]
        return join(shell, *poles)
    if kind == "tipi":
        r = w * 1.1
        return join(
            lathe([(r, 0), (0.06, h * 1.6)], num_corners=d.whole(6, 14)),
            around(bar((r * 0.95, 0, 0), (-0.15, 0, h * 1.8), 0.02), d.whole(4, 8)),
        )
    wall = d(0.5, 1.0) * h
    roof = skin(
        np.stack(
            [
                np.column_stack((circle(4) * (depth * s, w * s) * 1.41, np.full(4, z)))
                for s, z in ((1, wall), (0.03, wall + h * 0.6))
            ]
        )
    )
    sides = [sheet([[(-depth, w, 0), (depth, w, 0)], [(-depth, w, wall), (depth, w, wall)]])] if d.maybe(0.5) else []
    return join(roof, at_corners(bar((0, 0, 0), (0, 0, wall), 0.03), depth, w), *sides)


def tower(d: Dice) -> Triangles:
    kind = d.pick("castle", "lighthouse", "lattice", "skyscraper", "church")
    r, h = d(0.15, 0.35), d(1.2, 2.5)
    if kind == "castle":
        body = lathe(
            [(r * d(1, 1.2), 0), (r, h * 0.85), (r * 1.2, h * 0.9), (r * 1.2, h), (r, h), (r, h * 0.93)],
            num_corners=20 if d.maybe(0.6) else 4,
        )
        teeth = around(box((r * 1.1, 0, h + 0.06), (0.08, r * 0.4, 0.12)), 8)
        return join(body, lathe([(r * 1.3, h), (0, h + d(0.4, 0.8))]) if d.maybe(0.4) else teeth)
    if kind == "lighthouse":
        return join(
            lathe(
                [
                    (r, 0),
                    (r * 0.6, h * 0.8),
                    (r * 0.9, h * 0.82),
                    (r * 0.9, h * 0.85),
                    (r * 0.45, h * 0.86),
                    (r * 0.45, h),
                    (r * 0.6, h),
                    (0, h * 1.12),
                ]
            ),
            hoop((0, 0, h * 0.9), r * 0.88, 0.01, plane="xy"),
        )
    if kind == "lattice":
        t = np.linspace(0, 1, 9)
        width = r * (0.08 + 1.3 * (1 - t) ** d(1.3, 2.4))
        parts = [at_corners(tube(np.column_stack((0 * t, 0 * t, h * t)), 0.012), 0, 0)[:0]]
        legs_ = tube(np.column_stack((width, width, h * t)), 0.02)
        parts.append(mirror(mirror(legs_), "x"))
        for n in range(8):
            low, high = (width[n], h * t[n]), (width[n + 1], h * t[n + 1])
            brace = join(
                bar((low[0], -low[0], low[1]), (high[0], high[0], high[1]), 0.01, corners=4),
                bar((low[0], low[0], low[1]), (high[0], -high[0], high[1]), 0.01, corners=4),
            )
            parts.append(around(brace, 4))
            if n in (2, 5):
                parts.append(box((0, 0, low[1]), (2.2 * low[0], 2.2 * low[0], 0.04)))
        return join(*parts, bar((0, 0, h), (0, 0, h * 1.1), 0.01))
    if kind == "church":
        nave = join(
            spans((-1.4, -0.4, 0), (0, 0.4, 0.8)),
            mirror(sheet([[(-1.45, 0.5, 0.75), (0, 0.5, 0.75)], [(-1.45, 0, 1.3), (0, 0, 1.3)]])),
        )
        return join(
            nave,
            spans((-0.1, -r, 0), (2 * r - 0.1, r, h * 0.7)),
            box((r - 0.1, 0, h * 0.9), (2 * r, 2 * r, h * 0.4), taper=0.02),
        )
    parts, z, size = [], 0.0, r * d(1, 1.4)
    for _ in range(d.whole(1, 5)):
        step = h * d(0.2, 0.5)
        parts.append(box((0, 0, z + step / 2), (2 * size, 2 * size * d(0.8, 1.2), step)))
        z, size = z + step, size * d(0.6, 0.9)
    return join(*parts, bar((0, 0, z), (0, 0, z + d(0, 0.5)), 0.015))


MAKERS = {
    "house": house,
    "tent": tent,
    "tower": tower,
}
