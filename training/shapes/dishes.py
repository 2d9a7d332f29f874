"""Vessels and cutlery. z is up, the front looks along x."""

from __future__ import annotations

import math

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
    join,
    lathe,
    mirror,
    plate,
    sheet,
    sprinkle,
    tube,
    turn,
    vessel,
)
from training.shapes.plants import flowers


def mug(d: Dice) -> Triangles:
    r, h, wall = d(0.032, 0.05), d(0.07, 0.13), d(0.002, 0.006)
    if d.maybe(0.1):  # to take away
        top = h * d(1.0, 1.3)
        rim = [(r * 1.08, top), (r * 1.08, top + 0.006), (r * 0.95, top + 0.012), (0, top + 0.012)]
        return lathe([(0, 0), (r * d(0.65, 0.85), 0), (r, top), *rim])
    z = np.linspace(0, h, 7)
    style = d.pick("straight", "straight", "taper", "belly", "cup")
    t = z / h
    radius = {
        "straight": r + 0 * t,
        "taper": r * (0.7 + 0.3 * t),
        "belly": r * (0.9 + 0.25 * np.sin(t * 3)),
        "cup": r * (0.55 + 0.75 * t**0.5),
    }[style]
    h_scale = 0.6 if style == "cup" else 1.0
    z = z * h_scale
    tall, out, thick = h * h_scale, d(0.018, 0.035), d(0.003, 0.007)
    middle = tall * d(0.45, 0.6)
    ends = float(np.interp(middle, z, radius))
    loop = arc((ends - 0.004, 0, middle), 1, 100, -100, num=12) * (1, 1, 1)
    loop = (loop - (ends - 0.004, 0, middle)) * (out, 1, tall * d(0.25, 0.4)) + (ends - 0.002, 0, middle)
    handle = tube(loop, thick) * (1, d(1, 2), 1)
    if d.maybe(0.15):
        half = tall * 0.3
        handle = tube(
            [
                (ends, 0, middle + half),
                (ends + out, 0, middle + half),
                (ends + out, 0, middle - half),
                (ends, 0, middle - half),
            ],
            thick,
        )
    parts = [vessel(radius, z, wall), handle]
    if style == "cup" and d.maybe(0.5):
        parts.append(lathe([(0, -0.004), (r * 1.2, -0.004), (r * 1.8, 0.008), (r * 1.2, 0)]))
    return join(*parts)


def bottle(d: Dice) -> Triangles:
    r, h = d(0.025, 0.055), d(0.15, 0.36)
    neck, neck_h = r * d(0.25, 0.5), h * d(0.12, 0.35)
    kind = d.pick("wine", "beer", "flask", "plastic", "square", "squat")
    shoulder = h - neck_h
    if kind == "squat":
        r, neck = r * 1.4, r * d(0.4, 0.7)
    start = shoulder * d(0.55, 0.9)
    t = np.linspace(0, 1, 8)
    slope = neck + (r - neck) * (0.5 + 0.5 * np.cos(t * math.pi)) ** d(0.5, 1.5)
    base = [(0.0, d(0, 0.01)), (r * 0.9, 0.0), (r, 0.01)]
    side = [(r * d(0.88, 1.0), start * 0.5)] if kind == "plastic" else []
    top = [(neck, h), (neck * d(1, 1.25), h), (neck * 1.2, h + 0.012), (0.0, h + 0.013)]
    profile = [*base, *side, *zip(slope, start + (shoulder - start) * t, strict=True), *top]
    body = lathe(profile, num_corners=4 if kind == "square" else 20)
    parts = [body]
    if d.maybe(0.4):
        parts.append(disc((0, 0, h + 0.01), neck * d(1.1, 1.6), d(0.015, 0.05)))
    if d.maybe(0.15):  # a pump or spray head
        parts += [box((neck, 0, h + 0.035), (neck * 4, neck, 0.015)), bar((0, 0, h), (0, 0, h + 0.03), neck * 0.3)]
    if d.maybe(0.1):
        parts.append(tube(arc((r, 0, shoulder * 0.75), shoulder * 0.2, 90, -90), 0.006))
    return join(*parts) * (1, d(0.6, 1) if d.maybe(0.25) else 1, 1)


def bowl(d: Dice) -> Triangles:
    r, h, power = d(0.06, 0.16), d(0.03, 0.12), d(0.35, 1.0)
    t = np.linspace(0, 1, 9)
    foot = d(0.2, 0.6)
    z = h * t
    radius = r * (foot + (1 - foot) * t**power)
    parts = [vessel(radius, z, d(0.002, 0.006))]
    if d.maybe(0.4):
        parts.append(lathe([(r * foot, 0), (r * foot * d(0.9, 1.1), -h * d(0.05, 0.25))]))
    if d.maybe(0.2):
        parts.append(lathe([(r, h), (r * 1.25, h * 1.02)]))
    if d.maybe(0.2):
        places = np.array([(d(-0.5, 0.5) * r, d(-0.5, 0.5) * r, h * d(0.5, 1)) for _ in range(d.whole(3, 7))])
        parts.append(sprinkle(ellipsoid((0, 0, 0), (0.03, 0.03, 0.03)), places, d))
    return join(*parts)


def vase(d: Dice) -> Triangles:
    h, r = d(0.15, 0.5), d(0.05, 0.11)
    if d.maybe(0.3):  # wide pottery
        h = r * d(1.2, 2.6)
    t = np.linspace(0, 1, 14)
    belly, neck, lip = d(0.15, 0.75), d(0.25, 0.7), d(0.3, 1.1)
    radius = np.interp(t, [0, belly, d(0.8, 0.92), 1], [d(0.4, 0.9), 1.0, neck, lip])
    radius = np.convolve(np.pad(radius, 2, mode="edge"), np.ones(5) / 5, "valid") * r
    if d.maybe(0.15):
        radius = r * np.linspace(d(0.5, 1), d(0.7, 1.3), 14)
    if d.maybe(0.15):  # a long neck
        radius[9:] = radius[9:] * d(0.2, 0.5)
    if d.maybe(0.2):
        radius = radius * (1 + d(0.02, 0.06) * np.cos(np.arange(14) * np.pi))
    parts = [vessel(radius, h * t, 0.004)]
    if d.maybe(0.12):
        lid = [(radius[-1] * 1.08, h), (radius[-1] * 0.8, h * d(1.03, 1.12)), (0.0, h * 1.15)]
        return join(*parts, lathe(lid), ellipsoid((0, 0, h * 1.17), (r * 0.12, r * 0.12, r * 0.12)))
    if d.maybe(0.15):
        twigs = [bar((0, 0, 0), (d(-1, 1) * r, d(-1, 1) * r, h * d(1.4, 2.3)), 0.003, corners=4) for _ in range(12)]
        tops = [ellipsoid(twig[0].mean(axis=0) * (1, 1, 1), (0.006, 0.006, 0.02), num_rings=5) for twig in twigs[::2]]
        return join(*parts, *twigs, *tops)
    if d.maybe(0.25):
        loop = arc((radius[8], 0, h * 0.75), h * d(0.1, 0.2), 110, -110)
        parts.append(mirror(tube(loop, 0.007), "x"))
    if d.maybe(0.3):
        parts.append(flowers(d, h, radius[-1]))
    if d.maybe(0.1):
        return join(*parts) * (1, 0.5, 1)
    return join(*parts)


def teapot(d: Dice) -> Triangles:
    r, h = d(0.07, 0.1), d(0.06, 0.13)
    t = np.linspace(0, 1, 9)
    radius = r * np.interp(t, [0, 0.45, 1], [d(0.5, 0.9), 1.0, d(0.4, 0.75)]) if d.maybe(0.8) else r * (1 - 0.35 * t)
    radius = np.convolve(np.pad(radius, 1, mode="edge"), np.ones(3) / 3, "valid")
    body = lathe([(0.0, 0.0), *zip(radius, h * t, strict=True), (0.0, h + d(0.005, 0.03))])
    knob = ellipsoid((0, 0, h + 0.03), (0.012, 0.012, 0.012))
    start, out = h * d(0.2, 0.5), r * d(1.6, 2.1)
    spout = tube(
        [(r * 0.8, 0, start), (r * 1.25, 0, start + h * 0.15), (out * 0.85, 0, h * 0.75), (out, 0, h * d(0.9, 1.15))],
        [0.024, 0.018, 0.011, 0.009],
    )
    if d.maybe(0.75):
        loop = arc((0, 0, 0), 1, 80, 280) * (r * d(0.6, 0.9), 1, h * d(0.35, 0.5)) + (-r * 0.85, 0, h * 0.55)
    else:
        loop = arc((0, 0, 0), 1, 0, 180) * (r * 0.9, 1, h * d(0.6, 1.0)) + (0, 0, h * 0.8)
    return join(body, knob, spout, tube(loop, d(0.005, 0.009)))


def wine_glass(d: Dice) -> Triangles:
    r, stem, cup = d(0.025, 0.05), d(0.04, 0.1), d(0.05, 0.16)
    t = np.linspace(0, 1, 8)
    shape = d.pick("round", "flute", "cone", "coupe")
    wide = {"round": np.sin(0.3 + t * 2.2), "flute": 0.55 + 0.15 * np.sin(t * 3), "cone": 0.05 + t, "coupe": t**0.4}[
        shape
    ]
    wide[0] = 0.1
    cup = cup * {"coupe": 0.4, "cone": 0.6}.get(shape, 1)
    foot = r * d(0.7, 1.1)
    return lathe(
        [(0, 0), (foot, 0), (foot, 0.003), (0.005, 0.01), (0.004, stem), *zip(r * wide, stem + cup * t, strict=True)]
    )


def pot(d: Dice) -> Triangles:
    r, h = d(0.09, 0.15), d(0.03, 0.18)
    z = np.linspace(0, h, 5)
    radius = r * (d(0.8, 1.0) + (1 - d(0.85, 1.0)) * z / h)
    parts = [vessel(radius, z, 0.004)]
    if h < 0.11 or d.maybe(0.4):
        parts.append(
            tube(
                [(r * 0.98, 0, h * 0.8), (r * 1.4, 0, h * 0.9), (r + d(0.14, 0.24), 0, h * d(0.9, 1.3))],
                d(0.006, 0.012),
            )
            * (1, 1.4, 1)
        )
    else:
        loop = arc((r * 0.95, 0, h * 0.8), 0.035, -90, 90, plane="xy")
        parts.append(mirror(tube(loop, 0.006), "x"))
    if d.maybe(0.5) and h > 0.07:
        parts += [
            lathe([(r, h), (r * 0.6, h + 0.02), (0, h + d(0.02, 0.05))]),
            ellipsoid((0, 0, h + 0.055), (0.018, 0.018, 0.015)),
        ]
    return join(*parts)


def can(d: Dice) -> Triangles:
    r, h = d(0.028, 0.05), d(0.07, 0.16)
    slope = d(0.8, 1.0)
    profile = [
        (0, 0.003),
        (r * 0.85, 0),
        (r, 0.008),
        (r, h - 0.012),
        (r * slope, h),
        (r * slope, h - 0.003),
        (0, h - 0.003),
    ]
    parts = [lathe(profile, num_corners=24)]
    if d.maybe(0.6):
        parts.append(plate(circle(10) * (0.012, 0.007), 0.001) + (0.006, 0, h - 0.001))
    return join(*parts)


def spoon(d: Dice) -> Triangles:
    length, w = d(0.1, 0.2), d(0.016, 0.035)
    head, deep = w * d(1.2, 1.7), w * d(0.25, 0.6)
    u, v = np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 2 * math.pi, 17))
    bowl_ = np.stack((head * u * np.cos(v), w * u * np.sin(v), -deep * (1 - u**2)), axis=2)
    path = [
        (head * 0.95, 0, 0),
        (head * 1.5, 0, 0.01),
        (head + length * 0.6, 0, d(0, 0.02)),
        (head + length, 0, d(-0.01, 0.01)),
    ]
    return join(
        sheet(bowl_), sheet(bowl_ + (0, 0, 0.001)), tube(path, [0.003, 0.003, 0.004, 0.006]) * (1, d(1, 1.8), 1)
    )


def fork(d: Dice) -> Triangles:
    length, w, tines = d(0.1, 0.16), d(0.01, 0.016), d.whole(3, 4)
    prong = d(0.035, 0.06)
    parts = [plate([(-0.02, -w), (0, -w), (0, w), (-0.02, w), (-0.04, 0.003), (-0.04, -0.003)], 0.002)]
    parts += [
        tube([(-0.002, y, 0), (prong * 0.5, y, -0.006), (prong, y, 0.0)], 0.0017)
        for y in np.linspace(-w * 0.9, w * 0.9, tines)
    ]
    path = [(-0.035, 0, 0), (-0.05, 0, 0.008), (-length * 0.7, 0, 0.01), (-length, 0, 0)]
    return join(*parts, tube(path, [0.003, 0.003, 0.004, 0.006]) * (1, 1.4, 1))


def knife(d: Dice) -> Triangles:
    blade, tall, grip = d(0.08, 0.24), d(0.012, 0.045), d(0.08, 0.13)
    tip = d(0.6, 0.95)
    outline = [(0, 0), (blade * tip, 0), (blade, tall * d(0.1, 0.9)), (blade * d(0.7, 0.95), tall), (0, tall)]
    steel = turn(plate(outline, 0.002), "x", 90)
    handle = (
        box((-grip / 2, 0, tall * 0.6), (grip, d(0.008, 0.02), tall * d(0.5, 0.9)))
        if d.maybe(0.5)
        else tube([(0, 0, tall * 0.6), (-grip * 0.5, 0, tall * 0.5), (-grip, 0, tall * 0.45)], [0.008, 0.011, 0.012])
    )
    return join(steel, handle)


MAKERS = {
    "mug": mug,
    "bottle": bottle,
    "bowl": bowl,
    "vase": vase,
    "teapot": teapot,
    "wine glass": wine_glass,
    "pot": pot,
    "can": can,
    "spoon": spoon,
    "fork": fork,
    "knife": knife,
}
