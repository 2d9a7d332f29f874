"""Lamps and pillows. z is up, the front looks along x."""

from __future__ import annotations

import numpy as np

from training.shapes.parts import Dice, Triangles, around, bar, box, disc, ellipsoid, join, lathe, sheet, tube, turn


def shade(d: Dice, r: float, h: float) -> Triangles:
    """Return an open lamp shade or a globe of radius `r` and height `h`, its foot at z 0."""
    kind = d.pick("cone", "cone", "drum", "globe", "bell", "dome")
    if kind == "globe":
        return ellipsoid((0, 0, h / 2), (r * 0.8, r * 0.8, h * d(0.45, 0.6)))
    tops = {"cone": d(0.25, 0.7), "drum": 1.0, "bell": 0.3, "dome": 0.1}
    z = np.linspace(0, 1, 6)
    bend = {"bell": z**0.5, "dome": 1 - (1 - z**2) ** 0.5}.get(kind, z)
    radius = r * (1 - (1 - tops[kind]) * bend)
    outer = lathe(list(zip(radius, z * h, strict=True)))
    return join(outer, lathe(list(zip(radius * 0.96, z * h, strict=True)))) if d.maybe(0.5) else outer


def lantern(d: Dice) -> Triangles:
    """Return a lamp post, or a lantern alone, with a pointed roof."""
    r, tall, sides = d(0.12, 0.25), d(0.2, 0.5), d.whole(4, 8)
    cage = lathe([(r * d(0.5, 0.9), 0), (r, tall), (r * 1.2, tall), (0.02, tall * d(1.2, 1.6))], num_corners=sides)
    if d.maybe(0.3):
        return join(cage, disc((0, 0, 0), r * d(0.8, 1.2), 0.03), tube([(0, 0, tall), (0, 0, tall * d(1.6, 3))], 0.015))
    h, t = d(1.2, 4), d(0.03, 0.07)
    foot = lathe(
        [(t * d(2, 4), 0), (t * d(1.5, 3), h * 0.1), (t * 1.2, h * d(0.12, 0.25)), (t * 0.8, h)], num_corners=8
    )
    knot = [ellipsoid((0, 0, h * d(0.2, 0.95)), (2 * t, 2 * t, t)) for _ in range(d.whole(0, 2))]
    return join(foot, *knot, cage + (0, 0, h))


def ceiling_lamp(d: Dice) -> Triangles:
    """Return a flat bowl or drum that hangs under a ceiling."""
    r, h = d(0.15, 0.35), d(0.05, 0.16)
    t = np.linspace(0, 1, 6)
    bowl = r * (1 - (1 - t) ** d(2, 4)) if d.maybe(0.6) else np.full(6, r)
    rim = disc((0, 0, h), r * d(1.0, 1.12), d(0.01, 0.04))
    return join(lathe([(0.0, 0.0), *zip(bowl, t * h, strict=True)]), rim)


def vase_lamp(d: Dice) -> Triangles:
    """Return a shade on a thick turned or stacked body."""
    h, r, t = d(0.25, 0.8), d(0.07, 0.14), np.linspace(0, 1, 12)
    if d.maybe(0.3):
        count = d.whole(2, 5)
        sizes = [r * d(0.4, 1) for _ in range(count)]
        body = join(
            *(ellipsoid((0, 0, h * (n + 0.5) / count), (s, s, h * 0.5 / count)) for n, s in enumerate(sizes)),
            tube([(0, 0, 0), (0, 0, h)], 0.015),
        )
    else:
        belly = d(0.15, 0.8)
        body = lathe(
            list(zip(r * np.interp(t, [0, belly, 0.9, 1], [d(0.4, 1), 1, d(0.2, 0.6), 0.2]), h * t, strict=True))
        )
    foot = disc((0, 0, 0), r * d(0.7, 1.1), 0.03, num_corners=4 if d.maybe(0.4) else 20)
    wide = r * d(1.2, 2.6)
    return join(body, foot, shade(d, wide, wide * d(0.6, 1.4)) + (0, 0, h * d(0.85, 1.05)))


def lamp(d: Dice) -> Triangles:
    kind = d.pick(
        "table",
        "table",
        "table",
        "floor",
        "floor",
        "arm",
        "pendant",
        "chandelier",
        "street",
        "lantern",
        "ceiling",
        "vase",
    )
    if kind in ("lantern", "ceiling", "vase"):
        return {"lantern": lantern, "ceiling": ceiling_lamp, "vase": vase_lamp}[kind](d)
    if kind in ("table", "floor"):
        h = d(0.25, 0.6) if kind == "table" else d(1.0, 1.7)
        r, base = d(0.1, 0.26), d(0.07, 0.18)
        z = np.linspace(0, h, 8)
        profile = (
            np.array([d(0.01, 0.1) for _ in z]) if kind == "table" and d.maybe(0.6) else np.full(8, d(0.008, 0.03))
        )
        stem = lathe(list(zip(profile, z, strict=True)))
        stand = (
            disc((0, 0, 0.01), base, d(0.02, 0.05))
            if d.maybe(0.7)
            else around(bar((0, 0, h * d(0.2, 0.95)), (base * 1.6, 0, 0), 0.015), 3)
        )
        tall = r * d(1.8, 4) if d.maybe(0.2) else r * d(0.7, 1.8)
        stand = box((0, 0, 0.01), (2 * base, 2 * base, 0.03)) if d.maybe(0.2) else stand
        return join(stem, stand, shade(d, r, tall) + (0, 0, h - d(0, 0.1)))
    if kind == "arm":
        a, b = np.array([d(-0.25, 0.05), 0, d(0.3, 0.5)]), np.array([d(0.15, 0.4), 0, d(0.45, 0.75)])
        head = turn(shade(d, d(0.06, 0.12), d(0.1, 0.18)) - (0, 0, 0.12), "y", -d(0, 60)) + b
        return join(disc((0, 0, 0.015), d(0.08, 0.13), 0.03), bar((0, 0, 0), a, 0.012), bar(a, b, 0.012), head)
    if kind == "pendant":
        drop, r = d(0.3, 1.2), d(0.12, 0.35)
        return join(
            shade(d, r, r * d(0.5, 1.5)), bar((0, 0, r * 0.5), (0, 0, drop), 0.008), disc((0, 0, drop), 0.05, 0.03)
        )
    if kind == "chandelier":
        count, r = d.whole(3, 9), d(0.2, 0.45)
        curve = [(0, 0, 0), (r * 0.4, 0, -d(0.05, 0.2)), (r * 0.8, 0, -0.08), (r, 0, 0)]
        arm = join(tube(curve, 0.012), shade(d, 0.06, 0.11) + (r, 0, 0.02))
        return join(
            around(arm, count), bar((0, 0, -0.1), (0, 0, d(0.3, 0.8)), 0.015), ellipsoid((0, 0, 0), (0.05, 0.05, 0.08))
        )
    h, reach = d(2, 5), d(0, 1.2)
    head = ellipsoid((reach, 0, h), (0.25, 0.12, 0.06)) if reach > 0.4 else shade(d, 0.2, 0.4) + (reach, 0, h)
    return join(
        bar((0, 0, 0), (0, 0, h), 0.08, 0.04),
        disc((0, 0, 0.1), 0.15, 0.2),
        bar((0, 0, h * 0.97), (reach, 0, h), 0.035),
        head,
    )


def pillow(d: Dice) -> Triangles:
    radii = (d(0.2, 0.3), d(0.2, 0.45), d(0.05, 0.14))
    u = np.linspace(-1, 1, 12)
    x, y = np.meshgrid(u, u)
    swell = ((1 - x**2) * (1 - y**2)) ** d(0.3, 0.6)
    pinch = 1 - d(0, 0.12) * (1 - np.minimum(x**2, y**2)) * 1.0
    top = np.stack((x * pinch, y * pinch, swell), axis=2) * radii
    return join(sheet(top), sheet(top * (1, 1, -1)))


MAKERS = {
    "lamp": lamp,
    "pillow": pillow,
}
