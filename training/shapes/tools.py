"""Tools and weapons. z is up, the front looks along x."""

from __future__ import annotations

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    arc,
    bar,
    box,
    circle,
    disc,
    ellipsoid,
    hoop,
    join,
    mirror,
    plate,
    sheet,
    skin,
    spans,
    tube,
    turn,
)


def sword(d: Dice) -> Triangles:
    blade, w, grip = d(0.55, 1.0), d(0.015, 0.04), d(0.1, 0.25)
    t = np.linspace(0, 1, 14)
    curve = d(0.02, 0.18) if d.maybe(0.35) else 0.0
    half = w * np.interp(t, [0, d(0.75, 0.95), 1], [1, d(0.6, 1.3), 0.02])
    diamond = np.array([(1, 0), (0, 0.2), (-1, 0), (0, -0.2)])
    grid = np.stack(
        [
            np.column_stack((curve * s * s + diamond[:, 0] * a, diamond[:, 1] * w, np.full(4, blade * s)))
            for s, a in zip(t, half, strict=True)
        ]
    )
    parts = [skin(grid), bar((0, 0, 0), (0, 0, -grip), d(0.01, 0.016)), ellipsoid((0, 0, -grip), (0.025, 0.02, 0.02))]
    guard = d.pick("bar", "disc", "basket", "bar")
    if guard == "bar":
        reach = d(0.06, 0.14)
        parts.append(mirror(tube([(0, 0, 0), (reach, 0, d(-0.04, 0.05))], [0.013, 0.009]), "x"))
    elif guard == "disc":
        parts.append(disc((0, 0, 0), d(0.035, 0.06), 0.008))
    else:
        parts += [tube(arc((0, 0, -grip / 2), grip / 2, 90, 270), 0.007), ellipsoid((0, 0, 0), (0.06, 0.05, 0.01))]
    return join(*parts)


def pistol(d: Dice) -> Triangles:
    length, t, h = d(0.15, 0.24), d(0.012, 0.018), d(0.1, 0.14)
    grip = turn(box((0, 0, -h / 2), (d(0.035, 0.055), 2 * t, h)), "y", d(8, 28)) + (-length * 0.35, 0, 0)
    if d.maybe(0.5):
        body = [
            spans((-length * 0.5, -t, 0), (length * 0.5, t, d(0.025, 0.04))),
            spans((-length * 0.45, -t * 0.9, -0.02), (length * d(0.2, 0.5), t * 0.9, 0)),
        ]
    else:
        body = [
            bar((0, 0, 0.02), (length * 0.65, 0, 0.02), t * 0.7),
            disc((-0.02, 0, 0.008), t * 1.5, 0.045, axis="x"),
            box((-length * 0.2, 0, 0.01), (length * 0.5, t * 1.5, 0.045)),
            turn(box((-length * 0.47, 0, 0.035), (0.02, 0.008, 0.03)), "y", 30),
        ]
    guard = tube(arc((-length * 0.12, 0, -0.018), d(0.018, 0.026), 180, 360), 0.004)
    return join(
        grip,
        *body,
        guard,
        bar((-length * 0.13, 0, 0), (-length * 0.11, 0, -0.025), 0.003),
        box((length * 0.45, 0, 0.03), (0.01, 0.004, 0.03)),
    )


def rifle(d: Dice) -> Triangles:
    barrel, t = d(0.35, 0.7), d(0.016, 0.024)
    parts = [
        spans((-0.15, -t, -0.03), (0.15, t, 0.035)),
        bar((0.15, 0, 0.015), (0.15 + barrel, 0, 0.015), d(0.007, 0.014)),
    ]
    stock = plate(
        [(-0.15, 0.03), (-0.15, -0.03), (-d(0.35, 0.45), -d(0.1, 0.15)), (-0.45, -0.02), (-0.42, 0.025)], 1.6 * t
    )
    parts.append(turn(stock, "x", 90))
    if d.maybe(0.7):
        parts.append(spans((0.15, -t * 0.9, -0.025), (0.15 + barrel * d(0.3, 0.75), t * 0.9, 0.015)))
    if d.maybe(0.65):
        parts.append(turn(box((0.05, 0, -0.1), (0.04, t * 1.2, d(0.1, 0.2))), "y", d(-25, 15), (0.05, 0, -0.03)))
    if d.maybe(0.65):
        parts.append(turn(box((-0.12, 0, -0.08), (0.04, t * 1.5, 0.11)), "y", d(5, 30), (-0.12, 0, -0.03)))
    if d.maybe(0.5):
        parts += [
            disc((d(-0.05, 0.1), 0, 0.075), 0.02, d(0.15, 0.3), axis="x"),
            box((0.02, 0, 0.05), (0.02, 0.01, 0.04)),
        ]
    parts.append(tube(arc((-0.06, 0, -0.03), 0.025, 180, 360), 0.004))
    return join(*parts)


def hammer(d: Dice) -> Triangles:
    h, r = d(0.2, 0.4), d(0.01, 0.018)
    w, tall = d(0.02, 0.04), d(0.02, 0.045)
    parts = [tube([(0, 0, 0), (0, 0, h * 0.4), (0, 0, h)], [r * d(1, 1.5), r, r * 0.9])]
    kind = d.pick("claw", "claw", "sledge", "ball", "mallet")
    if kind in ("sledge", "mallet"):
        size = d(0.06, 0.12) * (1.3 if kind == "mallet" else 1)
        parts.append(
            box((0, 0, h), (size * 2, w * 2, tall * 2))
            if d.maybe(0.5)
            else disc((0, 0, h), tall * 1.3, size * 2, axis="x")
        )
    else:
        reach = d(0.05, 0.08)
        parts += [
            box((0, 0, h), (0.04, w, tall)),
            bar((0, 0, h), (reach, 0, h), tall * 0.35),
            disc((reach, 0, h), tall * d(0.5, 0.75), 0.02, axis="x"),
        ]
        if kind == "claw":
            prong = tube(
                [(-0.015, 0.006, h), (-reach * 0.7, 0.012, h + 0.003), (-reach * 1.2, 0.016, h - d(0.015, 0.04))],
                [tall * 0.4, tall * 0.3, 0.003],
            )
            parts.append(mirror(prong))
        else:
            parts += [
                bar((0, 0, h), (-reach * 0.7, 0, h), tall * 0.35),
                ellipsoid((-reach * 0.8, 0, h), (tall * 0.5, tall * 0.5, tall * 0.5)),
            ]
    return join(*parts)


def axe(d: Dice) -> Triangles:
    h, r, reach = d(0.3, 0.7), d(0.011, 0.02), d(0.07, 0.16)
    wide = reach * d(0.4, 0.9)
    u = np.linspace(-1, 1, 7)
    edge = np.column_stack((reach * (1 - 0.12 * u**2), wide * u))
    blade = plate(np.vstack([(0, -0.025), *edge.tolist(), (0, 0.03)]), d(0.015, 0.03), top=1.0)
    blade = turn(blade, "x", 90)
    blade[..., 1] *= np.clip(1.1 - blade[..., 0] / reach, 0.05, 1)
    parts = [
        tube([(0, 0, 0), (d(-0.02, 0.02), 0, h * 0.5), (0, 0, h)], [r * 1.3, r, r]),
        blade + (0, 0, h * 0.93),
        box((-0.01, 0, h * 0.93), (0.05, 0.03, 0.05)),
    ]
    if d.maybe(0.25):
        parts.append(blade * (-1, 1, 1) + (0, 0, h * 0.93))
    return join(*parts)


def scissors(d: Dice) -> Triangles:
    blade, w, r = d(0.08, 0.14), d(0.007, 0.013), d(0.018, 0.03)
    angle = d(2, 28)
    steel = plate([(-0.02, -w), (0.01, w), (blade, w * 0.2), (blade * 0.9, -w * 0.8)], 0.003)
    arm = tube([(-0.015, 0, 0), (-0.05, -r * 0.7, 0), (-0.065, -r, 0)], 0.004)
    loop = hoop((-0.065 - r * 0.7, -r * 1.1, 0), r, d(0.003, 0.006), plane="xy") * (1, 1, 1)
    half = turn(join(steel, arm, loop), "z", angle)
    return join(half, half * (1, -1, 1) + (0, 0, 0.003), disc((0, 0, 0.002), 0.006, 0.01))


def wrench(d: Dice) -> Triangles:
    length, w, t = d(0.08, 0.2), d(0.008, 0.014), d(0.004, 0.008)
    r, gap = w * d(1.8, 2.6), d(0.35, 0.6)
    a = np.radians(np.linspace(35, 325, 16))
    outer = np.column_stack((r * np.cos(a), r * np.sin(a)))
    inner = np.column_stack((r * gap * np.cos(a) * 1.0, r * gap * np.sin(a)))
    strip = np.stack(
        [
            np.column_stack((ring, np.full(16, z)))
            for ring, z in ((outer, -t), (outer, t), (inner, t), (inner, -t), (outer, -t))
        ]
    )
    jaw = turn(sheet(strip), "z", d(-15, 15)) + (length, 0, 0)
    parts = [box((0, 0, 0), (2 * length - 1.6 * r, 2 * w * 0.7, 1.6 * t)), jaw]
    if d.maybe(0.5):
        ring = np.stack(
            [
                np.column_stack((circle(16) * size, np.full(16, z)))
                for size, z in ((r, -t), (r, t), (r * 0.6, t), (r * 0.6, -t), (r, -t))
            ]
        )
        parts.append(skin(ring, caps=False) - (length, 0, 0))
    else:
        parts.append(turn(jaw, "z", 180) if d.maybe(0.6) else ellipsoid((-length, 0, 0), (r, w, t)))
    return join(*parts)


MAKERS = {
    "sword": sword,
    "pistol": pistol,
    "rifle": rifle,
    "hammer": hammer,
    "axe": axe,
    "scissors": scissors,
    "wrench": wrench,
}
