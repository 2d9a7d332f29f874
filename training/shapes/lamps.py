"""Lamps and pillows. z is up, the front looks along x."""

from __future__ import annotations

import numpy as np

from training.shapes.parts import Dice, Triangles, around, bar, disc, ellipsoid, join, lathe, sheet, tube, turn


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


def lamp(d: Dice) -> Triangles:
    kind = d.pick("table", "table", "floor", "floor", "arm", "pendant", "chandelier", "street")
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
        return join(stem, stand, shade(d, r, r * d(0.7, 1.8)) + (0, 0, h - d(0, 0.1)))
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
