"""Plain bodies, and objects of no kind. z is up, the front looks along x."""

from __future__ import annotations

import math

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    around,
    box,
    disc,
    ellipsoid,
    hoop,
    join,
    lathe,
    loft,
    mirror,
    sheet,
    skin,
    spans,
    tube,
    turn,
)


def ball(d: Dice) -> Triangles:
    r = d(0.1, 0.3)
    if d.maybe(0.15):
        t = np.linspace(-1, 1, 12)
        return loft(np.column_stack((1.6 * r * t, 0 * t, r * (1 - t**2) ** 0.7 + 0.001, r * (1 - t**2) ** 0.7 + 0.001)))
    sphere = ellipsoid((0, 0, 0), (r, r, r), num_rings=16)
    seams = [hoop((0, 0, 0), r, r * d(0.01, 0.04), plane=plane) for plane in ("xy", "xz", "yz")]
    return join(sphere, *seams[: d.whole(0, 3)])


def cone(d: Dice) -> Triangles:
    r, h = d(0.1, 0.3), d(0.3, 0.8)
    top = r * (d(0.08, 0.25) if d.maybe(0.6) else 0.0)
    body = lathe([(r, 0), (top, h), (0, h)], num_corners=24)
    if d.maybe(0.65):
        wide = r * d(1.15, 1.5)
        base = box((0, 0, 0), (2 * wide, 2 * wide, d(0.02, 0.05))) if d.maybe(0.7) else disc((0, 0, 0), wide, 0.03)
        return join(body, base)
    return join(body, disc((0, 0, 0), r, 0.002)) if d.maybe(0.6) else body


def ring(d: Dice) -> Triangles:
    r, t = 1.0, d(0.05, 0.45)
    band = hoop((0, 0, 0), r, t, plane="xy", num=32)
    if d.maybe(0.3):
        t = min(t, 0.15)
        band = lathe([(r, -t), (r + 0.06, -t), (r + 0.06, t), (r, t), (r, -t)], num_corners=32)
        if d.maybe(0.6):
            gem = lathe([(0, 0), (0.25, 0.25), (0.18, 0.38), (0, 0.38)], num_corners=8)
            band = join(band, turn(gem, "y", 90) + (r, 0, 0))
    return band * (1, 1, d(0.7, 1.5))


def crate(d: Dice) -> Triangles:
    w, depth, h, t = d(0.2, 0.6), d(0.2, 0.6), d(0.1, 0.6), d(0.004, 0.02)
    if d.maybe(0.25):
        h = w = depth
    if d.maybe(0.35):
        return box((0, 0, h / 2), (2 * depth, 2 * w, h))
    walls = [
        mirror(spans((-depth, w - t, 0), (depth, w, h))),
        mirror(spans((depth - t, -w, 0), (depth, w, h)), "x"),
        spans((-depth, -w, 0), (depth, w, t)),
    ]
    if d.maybe(0.6):  # cardboard flaps
        for sign in (-1, 1):
            one = sheet(
                [
                    [(sign * depth, -w, h), (sign * depth, w, h)],
                    [(sign * depth, -w, h + depth), (sign * depth, w, h + depth)],
                ]
            )
            two = sheet(
                [[(-depth, sign * w, h), (depth, sign * w, h)], [(-depth, sign * w, h + w), (depth, sign * w, h + w)]]
            )
            walls += [
                turn(one, "y", sign * d(-60, 140), (sign * depth, 0, h)),
                turn(two, "x", -sign * d(-60, 140), (0, sign * w, h)),
            ]
    elif d.maybe(0.5):
        walls.append(turn(spans((-depth, -w, h), (depth, w, h + t)), "y", -d(0, 100), (-depth, 0, h)))
    return join(*walls)


def gear(d: Dice) -> Triangles:
    teeth, depth, t = d.whole(7, 26), d(0.08, 0.25), d(0.06, 0.4)
    a = np.linspace(0, 2 * math.pi, teeth * 4, endpoint=False)
    r = np.where(np.arange(teeth * 4) % 4 < 2, 1.0, 1 - depth)
    outline = np.column_stack((r * np.cos(a), r * np.sin(a)))
    hole = d(0.1, 0.55)
    inner = np.column_stack((np.cos(a), np.sin(a))) * hole
    loop = np.stack(
        [
            np.column_stack((points, np.full(len(a), z)))
            for points, z in ((outline, -t), (outline, t), (inner, t), (inner, -t), (outline, -t))
        ]
    )
    parts = [skin(loop, caps=False)]
    if d.maybe(0.3):
        parts.append(
            lathe([(hole, -1.6 * t), (hole * 1.4, -1.6 * t), (hole * 1.4, 1.6 * t), (hole, 1.6 * t), (hole, -1.6 * t)])
        )
    return join(*parts)


def screw(d: Dice) -> Triangles:
    length, r = d(0.6, 2.2), d(0.1, 0.2)
    turns = d.whole(5, 18)
    a = np.linspace(0, turns * 2 * math.pi, turns * 12)
    share = d(0.5, 1.0)
    point = d.maybe(0.5)
    fade = np.interp(a, [0, a[-1] * 0.2, a[-1]], [0.1 if point else 1, 1, 1])
    thread = tube(
        np.column_stack((r * fade * np.cos(a), r * fade * np.sin(a), length * share * a / a[-1])),
        r * 0.12,
        num_corners=5,
    )
    core = lathe([(0.02 if point else r * 0.9, 0), (r * 0.9, length * 0.2), (r * 0.9, length)])
    heads = {
        "hex": disc((0, 0, length), r * 2, r * 1.2, num_corners=6),
        "round": ellipsoid((0, 0, length), (r * 1.9, r * 1.9, r)),
        "flat": lathe([(r, length - r), (r * 2.1, length), (0, length)]),
    }
    return join(core, thread, heads[d.pick("hex", "round", "flat")])


def nameless(d: Dice) -> Triangles:
    """Return an object of no kind: random primitives in random places, so that the network learns to doubt."""
    parts = []
    for _ in range(d.whole(1, 9)):
        size = np.exp(d.random.normal(-1.2, 0.6, 3))
        kind = d.pick("box", "ball", "lathe", "tube", "loft", "sheet")
        if kind == "box":
            one = box((0, 0, 0), size, taper=d(0, 1.5))
        elif kind == "ball":
            one = ellipsoid((0, 0, 0), size, exponent=d(0.7, 6))
        elif kind == "lathe":
            one = lathe([(size[0] * d(0.1, 1.5), size[2] * z) for z in np.linspace(-1, 1, d.whole(2, 8))])
        elif kind == "tube":
            one = tube(np.cumsum(d.random.normal(0, 0.25, (d.whole(2, 7), 3)), axis=0), d(0.02, 0.15))
        elif kind == "loft":
            one = loft(
                [(x, d(-0.3, 0.3), d(0.05, 0.5), d(0.05, 0.5)) for x in np.linspace(-1, 1, 5)],
                exponent=d(1, 6),
                smooth=12,
            )
        else:
            one = sheet(
                np.stack(np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 4)), -1).repeat(2, -1)[..., :3] * size
                + d.random.normal(0, 0.15, (4, 4, 3))
            )
        one = turn(turn(one, "x", d(0, 360)), "z", d(0, 360)) if d.maybe(0.6) else one
        one = one + d.random.normal(0, 0.5, 3) * (d.random.random(3) < 0.8)
        parts.append(around(one, d.whole(2, 6)) if d.maybe(0.25) else mirror(one) if d.maybe(0.4) else one)
    return join(*parts)


MAKERS = {
    "ball": ball,
    "cone": cone,
    "ring": ring,
    "box": crate,
    "gear": gear,
    "screw": screw,
}
