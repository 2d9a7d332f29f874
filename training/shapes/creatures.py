"""Birds, fish, reptiles and spiders. z is up, the front looks along x."""

from __future__ import annotations

import math

import numpy as np

from training.shapes.beasts import limb
from training.shapes.parts import (
    Dice,
    Triangles,
    bar,
    disc,
    ellipsoid,
    join,
    lathe,
    loft,
    mirror,
    plate,
    sheet,
    tube,
    turn,
)


def bird(d: Dice) -> Triangles:
    r, up = d(0.2, 0.32), d(5, 60)
    body = loft(
        [
            (-0.75, 0, 0.06, 0.04),
            (-0.4, 0, r * 0.8, r * 0.8),
            (0.1, 0, r, r),
            (0.45, 0, r * 0.6, r * 0.6),
            (0.6, 0, r * 0.35, r * 0.35),
        ],
        smooth=12,
    )
    tail = plate([(-0.6, -0.06), (-0.6, 0.06), (-1.2, d(0.1, 0.3)), (-1.2, -0.15)], 0.03)
    torso = turn(join(body, tail), "y", -up)
    a = math.radians(up)
    place = np.array((math.cos(a), 0, math.sin(a))) * 0.62
    neck = np.array((d(0, 0.2), 0, d(0.05, 0.2) if d.maybe(0.7) else d(0.4, 0.9)))
    skull_at = place + neck
    size = d(0.13, 0.2)
    beak = lathe([(size * 0.4, 0), (size * 0.25, size * 0.6), (0.005, size * d(0.9, 2.2))], num_corners=8)
    parts = [
        torso,
        tube([place - (0.1, 0, 0.05), skull_at], [r * 0.5, size * 0.8]),
        ellipsoid(skull_at, (size * 1.1, size, size)),
        turn(beak, "y", 90 + d(-5, 15)) + skull_at + (size * 0.8, 0, 0),
    ]
    if d.maybe(0.5):  # in flight
        span, bend = d(0.9, 1.8), d(-0.3, 0.6)
        y = np.linspace(0, 1, 6)
        rows = [
            [(x0 - 0.35 * v**2 * k, v * span, bend * v * (1.6 - v)) for v in y]
            for x0, k in ((0.35, 0.6), (0.0, 1.0), (-0.3, 1.5))
        ]
        parts.append(mirror(sheet(rows)) + (place[0] * 0.3, 0, r * 0.5))
    else:
        folded = turn(ellipsoid((-0.2, r * 0.9, 0.02), (0.5, 0.07, r * 0.6)), "y", -up)
        parts.append(mirror(folded))
    if d.maybe(0.7):
        h = d(0.15, 0.7)
        leg = join(
            bar((0, 0.1, -r * 0.6), (0.05, 0.12, -r - h), 0.025),
            *(
                bar((0.05, 0.12, -r - h), (0.05 + 0.13 * math.cos(t), 0.12 + 0.1 * math.sin(t), -r - h - 0.02), 0.015)
                for t in (-0.6, 0, 0.6, math.pi)
            ),
        )
        parts.append(mirror(leg))
    return join(*parts)


def duck(d: Dice) -> Triangles:
    r = d(0.32, 0.45)
    lift = d(0.15, 0.4)
    body = loft(
        [
            (-0.8, lift, 0.04, 0.03),
            (-0.55, lift * 0.5, r * 0.6, r * 0.5),
            (0, 0, r, r * 0.85),
            (0.5, 0.02, r * 0.7, r * 0.65),
            (0.68, 0.08, 0.1, 0.12),
        ],
        smooth=13,
    )
    top = np.array((d(0.4, 0.6), 0, r + d(0.2, 0.5)))
    size = d(0.19, 0.28)
    bill = loft(
        [
            (0, 0, size * 0.5, size * 0.25),
            (size * 0.9, -size * 0.1, size * 0.6, size * 0.12),
            (size * 1.3, -size * 0.08, size * 0.35, size * 0.05),
        ],
        smooth=6,
    )
    parts = [
        body,
        tube([(0.4, 0, r * 0.4), (top + (0.4, 0, r * 0.4)) / 2, top], [r * 0.6, size * 0.75, size * 0.8]),
        ellipsoid(top, (size * 1.1, size, size)),
        bill + top + (size * 0.75, 0, -size * 0.1),
    ]
    parts.append(mirror(turn(ellipsoid((-0.1, r * 0.92, 0.08), (0.42, 0.1, r * 0.5)), "y", -10)))
    if d.maybe(0.4):
        foot = join(
            bar((0, 0.12, -r * 0.7), (0.02, 0.13, -r * 1.2), 0.03),
            plate([(0, 0), (0.2, 0.1), (0.22, 0), (0.2, -0.1)], 0.02) + (0, 0.13, -r * 1.22),
        )
        parts.append(mirror(foot))
    return join(*parts)


def fish(d: Dice) -> Triangles:
    w, h = d(0.08, 0.22), d(0.2, 0.5)
    shark = d.maybe(0.25)
    if shark:
        w, h = d(0.14, 0.2), d(0.17, 0.24)
    nose = d(0.02, 0.1)
    body = loft(
        [
            (1, d(-0.05, 0.05), 0.02, nose),
            (0.75, 0, w * 0.7, h * 0.65),
            (0.25, 0, w, h),
            (-0.4, 0, w * 0.5, h * d(0.5, 0.7)),
            (-0.9, 0, 0.02, 0.06),
        ],
        smooth=16,
    )
    fork, span = d(0.05, 0.3), d(0.2, 0.5)
    tail = np.array(
        [
            (-0.85, 0.0),
            (-1.15, span),
            (-1.35, span * d(0.9, 1.3)),
            (-1.2 + fork, 0.0),
            (-1.35, -span),
            (-1.1, -span * 0.9),
        ]
    )
    fins = [turn(plate(tail, 0.02), "x", 90)]
    back = [(d(0.2, 0.45), h * 0.85), (d(-0.1, 0.1), h + d(0.1, 0.35)), (-0.4, h * 0.55)]
    fins.append(turn(plate(back, 0.02), "x", 90))
    if d.maybe(0.7):
        fins.append(turn(plate([(-0.1, -h * 0.8), (-0.3, -h - d(0.05, 0.2)), (-0.5, -h * 0.4)], 0.02), "x", 90))
    side = turn(plate([(0.45, 0), (0.1, d(0.2, 0.5)), (0.0, 0.15), (0.25, 0)], 0.02), "x", -d(10, 60)) + (
        0,
        w * 0.7,
        -h * 0.2,
    )
    fins.append(mirror(side))
    whole = join(body, *fins)
    if d.maybe(0.4):  # mid-swim
        bend = d(-0.25, 0.25)
        whole = whole + np.stack((0 * whole[..., 0], bend * whole[..., 0] ** 2, 0 * whole[..., 0]), axis=-1)
    return whole


def snake(d: Dice) -> Triangles:
    t = np.linspace(0, 1, 60)
    kind = d.pick("wave", "wave", "coil", "raised")
    length, r = d(2, 4), d(0.04, 0.1)
    if kind == "wave":
        waves, swing = d(1, 3.5), d(0.2, 0.6)
        path = np.column_stack((length * t, swing * np.sin(waves * 2 * math.pi * t) * (0.3 + 0.7 * t), 0 * t))
    else:
        turns = d(1.5, 3.5)
        a = turns * 2 * math.pi * t
        size = d(0.5, 0.8) * (1 - d(0.3, 0.8) * t)
        path = np.column_stack((size * np.cos(a), size * np.sin(a), turns * r * 2 * t * d(0.3, 1)))
        if kind == "raised":
            path[-12:, 2] += np.linspace(0, d(0.4, 0.9), 12)
            path[-12:, :2] *= np.linspace(1, 0.3, 12)[:, None]
    radius = r * np.minimum(1, 0.15 + 4 * t) * np.where(t > 0.96, 1.25, 1)
    return join(tube(path, radius), ellipsoid(path[-1], (r * 1.5, r * 1.3, r * 0.9)))


def spider(d: Dice) -> Triangles:
    r = d(0.2, 0.4)
    rear = ellipsoid((-r * 1.6, 0, d(0, 0.15)), (r * d(1.1, 1.6), r * d(0.9, 1.3), r * d(0.8, 1.2)))
    parts = [rear, ellipsoid((0, 0, 0), (r, r * 0.8, r * 0.6))]
    reach, up = d(0.8, 1.6), d(0.1, 0.7)
    count = 4 if d.maybe(0.8) else 3
    for n in range(count):
        a = math.radians(35 + 110 * n / (count - 1) + d(-8, 8))
        out = np.array((math.cos(a), math.sin(a), 0))
        leg = tube(
            [out * r * 0.7, out * (r + reach * 0.45) + (0, 0, up), out * (r + reach) - (0, 0, r * d(0.6, 1.2))],
            [0.05, 0.045, 0.02],
            num_corners=6,
        )
        parts.append(mirror(leg))
    if count == 3:
        parts.append(mirror(tube([(r * 0.9, 0.05, 0.1), (r * 2, 0.3, 0.4)], 0.02)))
    parts.append(mirror(bar((r * 0.8, r * 0.3, 0), (r * 1.4, r * 0.25, -0.1), 0.05)))
    return join(*parts)


def turtle(d: Dice) -> Triangles:
    w, h = d(0.6, 0.85), d(0.25, 0.6)
    shell = ellipsoid((0, 0, 0.1), (1, w, h))
    shell = shell[shell[..., 2].min(axis=1) > 0.02]
    parts = [
        shell,
        ellipsoid((0, 0, 0.08), (0.95, w * 0.95, 0.12)),
        tube([(0.8, 0, 0.12), (1.15, 0, 0.2), (1.35, 0, d(0.2, 0.4))], [0.16, 0.13, 0.14]),
        ellipsoid((1.4, 0, d(0.25, 0.4)), (0.2, 0.15, 0.15)),
    ]
    sea = d.maybe(0.4)
    for x, size in ((0.6, 1.0), (-0.65, 0.7)):
        if sea:
            flipper = turn(ellipsoid((0, 0.4 * size, 0), (0.17, 0.5 * size, 0.04)), "z", d(-20, 40))
            parts.append(mirror(flipper + (x, w * 0.7, 0.05)))
        else:
            parts.append(
                mirror(
                    tube(
                        [(x * 0.9, w * 0.6, 0.1), (x * 1.2, w * 0.95, -0.05), (x * 1.25, w, -0.25)], [0.15, 0.14, 0.13]
                    )
                )
            )
    parts.append(bar((-0.9, 0, 0.08), (-1.2, 0, 0.02), 0.07, 0.01))
    return join(*parts)


def dinosaur(d: Dice) -> Triangles:
    if d.maybe(0.5):  # upright
        up, r = d(10, 45), d(0.28, 0.38)
        a = math.radians(up)
        along = np.array((math.cos(a), 0, math.sin(a)))
        body = turn(
            loft(
                [
                    (-0.7, 0, r * 0.6, r * 0.7),
                    (-0.2, 0, r, r * 1.1),
                    (0.4, 0, r * 0.75, r * 0.85),
                    (0.75, 0, r * 0.4, r * 0.45),
                ],
                smooth=10,
            ),
            "y",
            -up,
        )
        skull = along * 0.75 + (d(0.1, 0.25), 0, d(0.25, 0.45))
        jaws = loft([(-0.2, 0, 0.15, 0.17), (0.1, 0, 0.18, 0.2), (0.55, -0.05, 0.1, 0.1)], smooth=8)
        tail = tube([-along * 0.6, -along * 0.6 + (-0.7, 0, -0.05), (-2.2, 0, d(-0.4, 0.3))], [r * 0.75, r * 0.4, 0.03])
        leg = tube(
            [(-0.3, 0.22, -0.05), (-0.05, 0.28, -0.55), (-0.4, 0.28, -0.9), (-0.3, 0.28, -1.2)],
            [0.24, 0.17, 0.09, 0.08],
        )
        arm = tube(
            [along * 0.5 + (0, 0.2, -0.1), along * 0.5 + (0.15, 0.25, -0.35), along * 0.5 + (0.3, 0.22, -0.3)], 0.05
        )
        foot = ellipsoid((-0.15, 0.28, -1.22), (0.25, 0.12, 0.06))
        return join(
            body, jaws + skull, tube([along * 0.6, skull], [r * 0.55, 0.17]), tail, mirror(join(leg, arm, foot))
        )
    r = d(0.35, 0.5)
    body = loft(
        [(-0.9, 0, r * 0.5, r * 0.5), (-0.2, 0.05, r, r), (0.5, 0, r * 0.8, r * 0.8), (0.9, 0.1, r * 0.4, r * 0.4)],
        smooth=12,
    )
    tail = tube([(-0.8, 0, 0.05), (-1.6, 0, -0.1), (-2.6, d(-0.4, 0.4), -0.3)], [r * 0.5, r * 0.25, 0.02])
    legs_ = [
        mirror(limb([(x, r * 0.6, -0.1), (x, r * 0.65, -0.45), (x, r * 0.65, -0.85)], 0.14, 0.14)) for x in (-0.55, 0.5)
    ]
    kind = d.pick("long neck", "horned", "plated")
    parts = [body, tail, *legs_]
    if kind == "long neck":
        top = np.array((d(1.4, 2.0), 0, d(0.8, 1.7)))
        parts += [
            tube([(0.75, 0, 0.1), (1.3, 0, top[2] * 0.5), top], [r * 0.5, r * 0.3, 0.1]),
            ellipsoid(top + (0.12, 0, 0), (0.22, 0.12, 0.11)),
        ]
    else:
        parts += [bar((0.7, 0, 0.05), (1.15, 0, -0.1), r * 0.5, 0.2), ellipsoid((1.3, 0, -0.12), (0.35, 0.2, 0.2))]
        if kind == "horned":
            parts += [
                turn(disc((0, 0, 0), 0.5, 0.06), "y", 65) + (1.05, 0, 0.15),
                mirror(bar((1.25, 0.15, 0.05), (1.7, 0.22, 0.35), 0.06, 0.01)),
                bar((1.55, 0, -0.05), (1.7, 0, 0.15), 0.05, 0.01),
            ]
        else:
            parts += [
                turn(plate([(-0.15, 0), (0, d(0.25, 0.45)), (0.15, 0)], 0.04), "x", 90)
                + (x, s * 0.08, r * 0.9 - 0.25 * abs(x))
                for x, s in zip(np.linspace(-0.9, 0.8, 8), [-1, 1] * 4, strict=True)
            ]
    return join(*parts)


MAKERS = {
    "bird": bird,
    "duck": duck,
    "fish": fish,
    "snake": snake,
    "spider": spider,
    "turtle": turtle,
    "dinosaur": dinosaur,
}
