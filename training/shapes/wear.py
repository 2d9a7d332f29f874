"""What people wear and carry. z is up, the front looks along x."""

from __future__ import annotations

import math

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    arc,
    around,
    bar,
    circle,
    disc,
    ellipsoid,
    hoop,
    join,
    lathe,
    loft,
    mirror,
    plate,
    sheet,
    tube,
    turn,
)


def hat(d: Dice) -> Triangles:
    r, h, brim = d(0.08, 0.11), d(0.07, 0.2), d(0.02, 0.16)
    kind = d.pick("fedora", "top", "cap", "cone", "straw", "beanie")
    t = np.linspace(0, 1, 7)
    crown = {"top": 1 + 0 * t, "cone": 1 - t * 0.97, "fedora": 1 - 0.25 * t, "straw": 1 - 0.2 * t}.get(
        kind, (1 - t**2) ** 0.5
    )
    tops = [(0.0, h * d(0.85, 1.0))] if kind not in ("cone", "cap", "beanie") else []
    body = lathe([*zip(r * crown, h * (t if kind != "cap" else t * 0.9), strict=True), *tops])
    if kind == "beanie":
        extra = hoop((0, 0, 0.01), r, 0.012, plane="xy")
        return join(body, extra, ellipsoid((0, 0, h), (0.025, 0.025, 0.025))) if d.maybe(0.5) else join(body, extra)
    if kind == "cap":
        u = np.linspace(-1, 1, 9)
        edge = np.column_stack((r * np.cos(u) + 0.0, r * np.sin(u), 0 * u))
        peak = edge * (1, 1, 1) + np.column_stack((d(0.04, 0.09) * np.cos(u * 1.2), 0 * u, -0.02 * np.cos(u)))
        return join(body * (1.1, 1, 1), sheet([edge, peak]), ellipsoid((0, 0, h * 0.9), (0.008, 0.008, 0.006)))
    a = np.linspace(0, 2 * math.pi, 33)
    curl = d(0, 0.6) * brim
    rings = [
        np.column_stack(
            ((r + brim * s) * np.cos(a), (r + brim * s) * np.sin(a), curl * s * np.abs(np.sin(a)) ** 2 - 0.01 * s)
        )
        for s in (0, 0.5, 1)
    ]
    band = hoop((0, 0, 0.012), r * 1.0, 0.006, plane="xy") if d.maybe(0.4) else body[:0]
    return join(body * (1.15, 1, 1) if d.maybe(0.5) else body, sheet(rings), band)


def umbrella(d: Dice) -> Triangles:
    r, h, ribs = d(0.4, 0.6), d(0.15, 0.35), d.whole(6, 10)
    length = d(0.7, 1.0)
    grip = (
        arc((0.05, 0, -length), 0.05, 180, 340) if d.maybe(0.6) else np.array([(0, 0, -length), (0, 0, -length - 0.1)])
    )
    rod = [tube(np.vstack(([(0, 0, 0.08)], grip)), 0.008), tube(grip, 0.014)]
    if d.maybe(0.25):  # closed
        folded = lathe([(0.01, 0.05), (0.03, -0.1), (0.05, -length * 0.6), (0.02, -length * 0.75)], num_corners=ribs)
        return turn(join(folded, *rod), "x", 180.0 if d.maybe(0.5) else 0.0)
    a = np.linspace(0, 2 * math.pi, ribs * 4 + 1)
    scallop = 1 - d(0, 0.12) * np.abs(np.sin(a * ribs / 2))
    rings = [
        np.column_stack((r * s * scallop**s * np.cos(a), r * s * scallop**s * np.sin(a), 0 * a - h * s ** d(1.6, 2.2)))
        for s in np.linspace(0, 1, 7)
    ]
    spokes = around(bar((0, 0, -h * 1.2), (r * 0.5, 0, -h * 0.35), 0.004, corners=4), ribs)
    base = disc((0, 0, -length * 1.8), 0.25, 0.05) if d.maybe(0.2) else rod[0][:0]
    pole = bar((0, 0, 0), (0, 0, -length * 1.8), 0.015) if len(base) else base
    return join(sheet(rings), *(rod if not len(base) else []), base, pole, spokes if d.maybe(0.6) else base[:0])


def glasses(d: Dice) -> Triangles:
    r, t, bridge = d(0.02, 0.03), d(0.0012, 0.004), d(0.006, 0.012)
    ring = circle(24, d(2, 5)) * (r, r * d(0.65, 1))
    y = bridge + r
    loop = np.column_stack((np.zeros(25), np.vstack((ring, ring[:1]))[:, 0] + y, np.vstack((ring, ring[:1]))[:, 1]))
    long, drop = d(0.11, 0.145), d(0.01, 0.03)
    temple = tube(
        [
            (0, y + r, r * 0.3),
            (-0.01, y + r + 0.006, r * 0.35),
            (-long * 0.75, y + r + 0.004, r * 0.3),
            (-long, y + r, r * 0.3 - drop),
        ],
        t,
    )
    parts = [mirror(tube(loop, t)), mirror(temple), tube(arc((0, 0, -0.002), bridge * 1.1, 20, 160, plane="yz"), t)]
    if d.maybe(0.6):
        parts.append(mirror(turn(turn(plate(ring, 0.001), "y", 90) * (1, 1, 1), "x", 90) + (0, y, 0)))
    return join(*parts)


def headphones(d: Dice) -> Triangles:
    r, tall = d(0.075, 0.095), d(0.09, 0.12)
    band = arc((0, 0, 0), 1, 0, 180, plane="yz", num=20) * (1, r, tall)
    parts = [tube(band, d(0.004, 0.01)) * (d(1, 2.5), 1, 1)]
    cup, deep = d(0.03, 0.045), d(0.015, 0.035)
    ear = join(disc((0, 0, 0), cup, deep, axis="y"), hoop((0, -deep * 0.6, 0), cup * 0.75, cup * 0.25))
    parts.append(mirror(ear * (0.85, 1, 1.1) + (0, r, -0.01)))
    if d.maybe(0.2):
        parts.append(tube([(0, r, -0.02), (0.06, r * 0.9, -0.05), (0.09, r * 0.6, -0.06)], 0.003))
    return join(*parts)


def shoe(d: Dice) -> Triangles:
    length, w = d(0.12, 0.15), d(0.036, 0.05)
    kind = d.pick("sneaker", "sneaker", "boot", "heel", "sandal")
    lift = d(0.05, 0.11) if kind == "heel" else d(0, 0.02)
    t = np.linspace(-1, 1, 16)
    half = w * (1 - np.abs(t) ** 4) ** 0.5 * np.interp(t, [-1, -0.2, 0.5, 1], [0.8, 0.72, 1.0, 0.7]) + 0.003
    floor = lift / (1 + np.exp((t + 0.1) * 8))
    sole = d(0.005, 0.03)
    stations = np.column_stack((t * length, floor, half, np.full(16, sole)))
    parts = [loft(stations, exponent=5)]
    if kind == "sandal":
        parts += [
            tube(arc((length * x, 0, floor[9] + sole), 1, 0, 180, plane="yz") * (1, w, d(0.03, 0.05)), 0.006)
            for x in (0.35, -0.4)
        ]
    else:
        ankle = {"boot": d(0.12, 0.3), "heel": 0.03}.get(kind, d(0.05, 0.09))
        top = (
            np.interp(t, [-1, -0.75, -0.35, 0.1, 0.7, 1], [0.9 * ankle, ankle, ankle * 0.95, 0.05, 0.03, 0.008])
            if kind != "boot"
            else np.interp(t, [-1, -0.3, -0.1, 0.3, 1], [0.06, 0.06, 0.05, 0.045, 0.01])
        )
        if kind == "heel":
            top = np.interp(t, [-1, -0.6, 0, 0.4, 1], [0.035, 0.02, 0.005, 0.02, 0.01])
        upper = np.column_stack((t * length, floor + top / 2 + sole, half * 0.95, top / 2 + 0.003))
        parts.append(loft(upper, exponent=3))
        if kind == "boot":
            parts.append(lathe([(0.042, 0.05), (0.04, ankle * 0.5), (0.046, ankle)]) + (-length * 0.6, 0, lift))
    if kind == "heel":
        parts.append(bar((-length * 0.88, 0, lift), (-length * 0.9, 0, -sole), 0.018, 0.006))
    one = join(*parts)
    return join(one, one * (1, -1, 1) + (d(-0.05, 0.05), d(0.09, 0.16), 0)) if d.maybe(0.45) else one


MAKERS = {
    "hat": hat,
    "umbrella": umbrella,
    "glasses": glasses,
    "headphones": headphones,
    "shoe": shoe,
}
