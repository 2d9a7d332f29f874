"""Chairs of every kind, sofas, stools and benches. z is up, the front looks along x."""

from __future__ import annotations

import itertools

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    arc,
    around,
    at_corners,
    bar,
    box,
    disc,
    ellipsoid,
    hoop,
    join,
    lathe,
    mirror,
    plate,
    sheet,
    skin,
    spans,
    tube,
    turn,
)


def cushion(d: Dice, low: tuple[float, float, float], high: tuple[float, float, float]) -> Triangles:
    """Return a block between two corners, sharp or rounded."""
    if d.maybe(0.5):
        return spans(low, high)
    a, b = np.array(low), np.array(high)
    return ellipsoid((a + b) / 2, (b - a) / 2, exponent=d(4, 9))


def legs(d: Dice, w: float, depth: float, h: float, style: str) -> Triangles:
    """Return four legs or another stand for a seat or top of half sizes `depth` (x) and `w` (y), height `h`."""
    r = d(0.012, 0.035) * (w + depth + 0.3)
    if style == "square":
        return at_corners(box((0, 0, h / 2), (2 * r, 2 * r, h)), depth - r, w - r)
    if style == "splayed":
        out = d(0.0, 0.35)
        inset = d(0.6, 0.95)
        leg = bar((depth * (inset + out), w * (inset + out), 0), (depth * inset, w * inset, h), r * d(0.4, 1), r)
        return mirror(mirror(leg), "x")
    if style == "turned":
        z = np.linspace(0, h, 7)
        radius = r * np.array([d(0.5, 1.3) for _ in z])
        return at_corners(lathe(list(zip(radius, z, strict=True)), num_corners=10), depth - 1.3 * r, w - 1.3 * r)
    if style == "sled":
        x, y = depth * 0.9, w * 0.9
        loop = [(x, y, h), (x, y, r), (-x, y, r), (-x, y, h)]
        return mirror(tube(loop, r * 0.6))
    if style == "panel":
        return mirror(spans((-depth, w - 2 * r, 0), (depth, w, h)))
    if style == "cross":
        one = bar((-depth * 0.9, w * 0.85, 0), (depth * 0.9, w * 0.85, h), r * 0.7)
        return mirror(join(one, bar((depth * 0.9, w * 0.85, 0), (-depth * 0.9, w * 0.85, h), r * 0.7)))
    base = min(w, depth) * d(0.6, 1)
    foot = disc((0, 0, 0.015), base, 0.03) if style == "pedestal" else around(bar((0, 0, 0.05), (base, 0, 0.02), r), 4)
    return join(foot, bar((0, 0, 0), (0, 0, h), r * d(1, 2.2)))


def chair_back(d: Dice, x: float, w: float, z: float, top: float) -> Triangles:
    """Return a back at `x` from height `z` to `top`, one of seven styles, tilted."""
    t = d(0.015, 0.05)
    style = d.pick("slab", "slats", "ladder", "curved", "frame", "spindles", "shell")
    posts = mirror(spans((x - t, w - 2 * t, z), (x + t, w, top)))
    height = top - z
    if style == "slab":
        low = z + d(0, 0.4) * height
        back = join(cushion(d, (x - t, -w, low), (x + t, w, top)), posts if low > z + 0.02 else posts[:0])
    elif style == "slats":
        ys = np.linspace(-w, w, d.whole(4, 8))[1:-1]
        slat = d(0.02, 0.07)
        bars = [spans((x - t / 2, y - slat / 2, z), (x + t / 2, y + slat / 2, top)) for y in ys]
        back = join(posts, spans((x - t, -w, top - d(0.05, 0.14)), (x + t, w, top)), *bars)
    elif style == "ladder":
        count, tall = d.whole(1, 4), d(0.03, 0.12)
        heights = np.linspace(top, z + d(0.2, 0.5) * height, count) if count > 1 else [top]
        back = join(posts, *(spans((x - t / 2, -w, v - tall), (x + t / 2, w, v)) for v in heights))
    elif style in ("curved", "shell"):
        bend, rows = d(0.02, 0.5 * w), np.linspace(z if style == "shell" else z + d(0, 0.5) * height, top, 6)
        u = np.linspace(-1, 1, 9)
        grid = [[(x + bend * v * v, w * v * (1 - d(0, 0.03)), row) for v in u] for row in rows]
        back = join(sheet(grid), sheet(np.array(grid) + (t, 0, 0)), posts if style == "curved" else posts[:0])
    elif style == "frame":
        loop = [(x, w, z), (x, w, top), (x, -w, top), (x, -w, z)]
        back = join(tube(loop, t / 2), cushion(d, (x - t / 4, -w, z + height * d(0.2, 0.6)), (x + t / 4, w, top)))
    else:
        bow = arc((x, 0, z), 1.0, 0, 180, plane="yz", num=13) * (1, w, height) + (0, 0, z * (1 - height))
        spindles = [bar((x, y, z), (x, y, z + height * (1 - (y / w) ** 2) ** 0.5), t / 4) for y in bow[2:-2:2, 1]]
        back = join(tube(bow, t / 2), *spindles)
    return turn(back, "y", -d(0, 16), (x, 0, z))


def chair_arms(d: Dice, w: float, depth: float, seat: float) -> Triangles:
    rise, t = d(0.15, 0.28), d(0.012, 0.035)
    if d.maybe(0.3):
        return mirror(tube([(-depth, w, seat + rise), (depth, w, seat + rise), (depth, w, 0)], t))
    rest = spans((-depth, w - t, seat + rise - t), (depth * d(0.5, 1), w + 2 * t, seat + rise + t))
    if d.maybe(0.25):
        return mirror(join(rest, spans((-depth, w - t, seat), (depth * 0.8, w + t, seat + rise))))
    return mirror(join(rest, bar((depth * d(0.3, 0.9), w, seat), (depth * 0.5, w, seat + rise), t)))


def chair(d: Dice) -> Triangles:
    w, depth, seat, t = d(0.19, 0.29), d(0.18, 0.28), d(0.36, 0.5), d(0.012, 0.09)
    style = d.pick("square", "square", "splayed", "splayed", "turned", "sled", "panel", "cross", "pedestal")
    if d.maybe(0.15):
        top = disc((0, 0, seat), min(w, depth) * 1.05, t)
    else:
        top = cushion(d, (-depth, -w, seat - t / 2), (depth, w, seat + t / 2))
    parts = [top, legs(d, w, depth, seat, style)]
    if style in ("square", "turned") and d.maybe(0.5):
        z = seat * d(0.2, 0.8)
        parts += [mirror(bar((-depth, w * 0.93, z), (depth, w * 0.93, z), 0.012))]
        parts += [bar((s * depth * 0.93, -w, z), (s * depth * 0.93, w, z), 0.012) for s in (-1, 1)]
    if style == "cross" and d.maybe(0.7):  # a folding chair
        parts.append(mirror(bar((-depth, w * 0.9, seat), (-depth * 1.2, w * 0.9, seat + 0.4), 0.015)))
    parts.append(chair_back(d, -depth, w * d(0.75, 1), seat, seat + d(0.28, 0.75)))
    if d.maybe(0.35):
        parts.append(chair_arms(d, w, depth, seat))
    if d.maybe(0.15):
        parts.append(cushion(d, (-depth, -w * 0.9, seat), (depth * 0.9, w * 0.9, seat + d(0.04, 0.1))))
    return join(*parts)


def office_chair(d: Dice) -> Triangles:
    w, depth, seat = d(0.21, 0.29), d(0.2, 0.27), d(0.4, 0.55)
    reach, count = d(0.25, 0.36), 5 if d.maybe(0.85) else 4
    spoke = join(
        bar((0, 0, d(0.06, 0.14)), (reach, 0, 0.07), 0.025, 0.018), disc((reach, 0, 0.03), 0.03, 0.04, axis="y")
    )
    parts = [around(spoke, count), bar((0, 0, 0.06), (0, 0, seat), d(0.02, 0.04))]
    parts.append(cushion(d, (-depth, -w, seat), (depth, w, seat + d(0.05, 0.12))))
    low, top = seat + d(0.05, 0.25), seat + d(0.4, 0.85)
    u, rows = np.linspace(-1, 1, 7), np.linspace(low, top, 6)
    bend, thick = d(0, 0.12), d(0.02, 0.1)
    grid = np.array([[(-depth + bend * v * v, w * 0.95 * v, row) for v in u] for row in rows])
    back = join(sheet(grid), sheet(grid - (thick, 0, 0)), bar((-depth, 0, seat), (-depth, 0, low + 0.15), 0.03))
    if d.maybe(0.3):
        back = join(back, cushion(d, (-depth - 0.04, -0.13, top + 0.03), (-depth + 0.05, 0.13, top + 0.17)))
    parts.append(turn(back, "y", -d(0, 18), (-depth, 0, seat)))
    if d.maybe(0.75):
        z, y = seat + d(0.18, 0.3), w + 0.03
        post = bar((0, y, seat + 0.03), (0, y, z), 0.018)
        under = bar((0, w * 0.5, seat), (0, y, seat + 0.03), 0.02)
        parts.append(mirror(join(cushion(d, (-0.12, y - 0.04, z), (0.14, y + 0.04, z + 0.04)), post, under)))
    return turn(join(*parts), "z", d(0, 360)) if d.maybe(0.2) else join(*parts)


def padded_seat(d: Dice, w: float, cushions: int) -> Triangles:
    """Return an upholstered seat of half width `w`: an armchair or, wider, a sofa."""
    depth, seat, top = d(0.36, 0.52), d(0.32, 0.46), d(0.65, 1.05)
    arm, rise, back = d(0.06, 0.24), d(0.15, 0.32), d(0.1, 0.28)
    foot = d(0.02, 0.16)
    parts = [cushion(d, (-depth, -w, foot), (depth, w, seat - d(0.08, 0.16)))]
    edges = np.linspace(-w, w, cushions + 1)
    for a, b in itertools.pairwise(edges):
        parts.append(cushion(d, (-depth + back * 0.6, a, seat - 0.15), (depth * d(0.97, 1.06), b, seat)))
        if d.maybe(0.7):
            parts.append(
                turn(cushion(d, (-depth + back * 0.5, a, seat), (-depth + back * 1.4, b, top)), "y", -d(0, 14))
            )
    parts.append(turn(cushion(d, (-depth - back * 0.2, -w, foot), (-depth + back, w, top)), "y", -d(0, 12)))
    style = d.pick("block", "block", "rolled", "slope", "none") if w > 0.5 else d.pick("block", "rolled", "slope")
    if style == "block":
        parts.append(mirror(cushion(d, (-depth, w, foot), (depth, w + arm, seat + rise))))
    elif style == "rolled":
        roll = disc((0, w + arm / 2, seat + rise), arm * 0.65, 2 * depth, axis="x")
        parts.append(mirror(join(spans((-depth, w, foot), (depth, w + arm, seat + rise)), roll)))
    elif style == "slope":
        side = plate([(-depth, foot), (depth, foot), (depth, seat + rise * 0.6), (-depth, top)], arm)
        parts.append(mirror(turn(side, "x", 90) + (0, w + arm / 2, 0)))
    parts.append(legs(d, w * 0.95, depth * 0.95, foot + 0.02, d.pick("square", "splayed", "turned")))
    return join(*parts)


def armchair(d: Dice) -> Triangles:
    if d.maybe(0.2):  # a tub chair
        r, seat, top = d(0.32, 0.42), d(0.32, 0.42), d(0.6, 0.85)
        shell = [arc((0, 0, z), r * s, 50, 310, plane="xy", num=18) for z, s in ((0.08, 0.9), (seat, 1), (top, 1.05))]
        inner = np.array(shell) * (0.8, 0.8, 1)
        return join(
            sheet(shell), sheet(inner), disc((0.03, 0, seat - 0.08), r * 0.9, 0.16), legs(d, 0.25, 0.25, 0.1, "square")
        )
    if d.maybe(0.12):
        return lounger(d)
    return padded_seat(d, d(0.24, 0.38), 1)


def lounger(d: Dice) -> Triangles:
    """Return a long chair: a bent surface for the whole body on legs, or a shell on one foot."""
    w, t = d(0.22, 0.34), d(0.02, 0.1)
    if d.maybe(0.5):  # a shell
        r, h = d(0.3, 0.4), d(0.3, 0.42)
        t_up = np.linspace(0, 1, 6)
        rows = [arc((0, 0, h + 0.4 * s**2), r * (0.3 + 0.7 * s**0.5), 60, 300, plane="xy", num=16) for s in t_up]
        stand = legs(d, 0.25, 0.25, h, d.pick("feet", "pedestal", "splayed"))
        return join(sheet(rows), sheet(np.array(rows) * (0.93, 0.93, 1)), disc((0, 0, h), r * 0.6, 0.05), stand)
    x = np.array((-0.85, -0.35, 0.1, 0.45, 0.9)) * d(0.8, 1)
    z = np.array((d(0.55, 0.9), d(0.25, 0.35), d(0.3, 0.4), d(0.38, 0.5), d(0.25, 0.4)))
    profile = np.column_stack((x, z))
    grid = [[(a, y, b + s) for a, b in profile] for y, s in ((-w, 0), (w, 0), (w, t), (-w, t))]
    body = join(skin(np.array(grid)), tube([(x[0], 0, z[0] + t), (x[0] + 0.1, 0, z[0] + t)], 0.06))
    return join(body, legs(d, w, d(0.3, 0.6), 0.33, d.pick("square", "sled", "splayed")))


def sofa(d: Dice) -> Triangles:
    w = d(0.6, 1.25)
    body = padded_seat(d, w, d.whole(1, 4))
    if d.maybe(0.25):  # a corner sofa
        side = d.pick("left", "right") == "left"
        long, y0 = d(0.5, 1.1), w - 0.6
        wing = cushion(d, (0.3, y0, 0.08), (0.4 + long, w, d(0.36, 0.44)))
        rest = cushion(d, (0.3, w, 0.08), (0.4 + long, w + 0.2, 0.75)) if d.maybe(0.6) else wing[:0]
        extra = join(wing, rest)
        body = join(body, extra if side else extra * (1, -1, 1))
    if d.maybe(0.3):
        body = join(body, *(ellipsoid((0, d(-w, w) * 0.8, 0.55), (0.07, 0.2, 0.2), exponent=3) for _ in range(2)))
    return body


def stool(d: Dice) -> Triangles:
    h, r, t = d(0.35, 0.85), d(0.14, 0.23), d(0.02, 0.12)
    round_top = d.maybe(0.6)
    top = disc((0, 0, h), r, t) if round_top else cushion(d, (-r, -r, h - t / 2), (r, r * d(1, 1.4), h + t / 2))
    style = d.pick("square", "splayed", "splayed", "turned", "pedestal", "cross")
    parts = [top, legs(d, r * 0.85, r * 0.85, h, style)]
    if style in ("square", "splayed", "turned") and d.maybe(0.6):
        ring = r * d(0.85, 1.1)
        parts.append(hoop((0, 0, h * d(0.2, 0.6)), ring, 0.01, plane="xy"))
    if style == "pedestal" and d.maybe(0.5):
        parts.append(hoop((0, 0, h * 0.35), r * 0.8, 0.012, plane="xy"))
    if h > 0.55 and d.maybe(0.3):
        parts.append(chair_back(d, -r, r * d(0.8, 1), h, h + d(0.15, 0.4)))
    elif h > 0.6 and d.maybe(0.2):
        parts.append(sheet([arc((0, 0, z), r, 120, 240, plane="xy") for z in (h + 0.05, h + d(0.12, 0.3))]))
    return join(*parts)


def bench(d: Dice) -> Triangles:
    w, depth, seat = d(0.5, 1.1), d(0.15, 0.28), d(0.38, 0.5)
    num_planks = d.whole(1, 6)
    edges = np.linspace(-depth, depth, num_planks + 1)
    gap, t = d(0, 0.02), d(0.02, 0.09)
    parts = [spans((a + gap, -w, seat - t), (b - gap, w, seat)) for a, b in itertools.pairwise(edges)]
    parts.append(legs(d, w * d(0.75, 0.98), depth, seat - t / 2, d.pick("square", "panel", "sled", "cross", "splayed")))
    if d.maybe(0.5):
        top, planks = seat + d(0.3, 0.5), d.whole(1, 5)
        rows = np.linspace(seat + 0.1, top, planks + 1)
        back = [spans((-depth - t, -w, a + gap), (-depth, w, b - gap)) for a, b in itertools.pairwise(rows)]
        posts = mirror(spans((-depth - t, w * 0.8, seat - t), (-depth, w * 0.86, top)))
        parts.append(turn(join(*back, posts), "y", -d(0, 18), (-depth, 0, seat)))
        if d.maybe(0.5):
            parts.append(chair_arms(d, w * 0.95, depth, seat))
    return join(*parts)


MAKERS = {
    "chair": chair,
    "office chair": office_chair,
    "armchair": armchair,
    "sofa": sofa,
    "stool": stool,
    "bench": bench,
}
