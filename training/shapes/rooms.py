"""Tables, beds, shelves, cabinets, doors and stairs. z is up, the front looks along x."""

from __future__ import annotations

import itertools

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    arc,
    at_corners,
    bar,
    box,
    circle,
    disc,
    ellipsoid,
    join,
    mirror,
    plate,
    skin,
    spans,
    tube,
    turn,
)
from training.shapes.seating import cushion, legs


def table(d: Dice) -> Triangles:
    h = d(0.65, 0.8) if d.maybe(0.6) else d(0.3, 0.5)
    if d.maybe(0.1):
        return covered_table(d)
    w, depth, t = d(0.35, 1.1), d(0.3, 0.5), d(0.015, 0.07)
    if d.maybe(0.12):  # a high one
        h, w, depth = d(0.9, 1.15), d(0.3, 0.6), d(0.28, 0.4)
    shape = d.pick("rectangle", "rectangle", "rectangle", "round", "oval")
    if shape == "rectangle":
        top = spans((-depth, -w, h - t), (depth, w, h))
    else:
        w = depth if shape == "round" else w
        top = disc((0, 0, h - t / 2), 1.0, t) * (depth, w, 1)
    kind = d.pick("square", "square", "splayed", "turned", "panel", "pedestal", "feet", "cross", "sled")
    inset = d(0.6, 0.98) if shape == "rectangle" else d(0.5, 0.72)
    parts = [top, legs(d, w * inset, depth * inset, h - t / 2, kind)]
    if kind in ("pedestal", "feet") and w > 0.7:
        parts[1] = mirror(legs(d, 0.25, depth * 0.7, h - t / 2, kind) + (0, w * 0.6, 0))
    if kind in ("square", "turned") and d.maybe(0.5):
        apron, y, x = d(0.05, 0.14), w * inset * 0.95, depth * inset * 0.95
        parts += [spans((-x, s * y - 0.01, h - apron), (x, s * y + 0.01, h)) for s in (-1, 1)]
        parts += [spans((s * x - 0.01, -y, h - apron), (s * x + 0.01, y, h)) for s in (-1, 1)]
    if d.maybe(0.2) and kind in ("square", "splayed"):
        parts.append(spans((-depth * 0.8, -w * 0.8, h * 0.25), (depth * 0.8, w * 0.8, h * 0.25 + 0.02)))
    if kind == "panel" and d.maybe(0.5):
        parts.append(bar((0, -w * inset, h * 0.4), (0, w * inset, h * 0.4), 0.025))
    if d.maybe(0.08):  # a table cloth
        parts.append(box((0, 0, h - 0.1), (2.1 * depth, 2.1 * w, 0.25), taper=0.95))
    return join(*parts)


def covered_table(d: Dice) -> Triangles:
    """Return a table under a cloth that falls in folds, or one that is a plain block."""
    w, depth, h = d(0.35, 0.9), d(0.3, 0.5), d(0.3, 0.8)
    if d.maybe(0.3):
        return join(spans((-depth, -w, 0), (depth, w, h)), spans((-depth, -w, h), (depth, w, h + d(0.005, 0.04))))
    round_top, folds, deep = d.maybe(0.6), d.whole(5, 14), d(0.02, 0.08)
    corners = circle(56, 2.0 if round_top else 9.0) * (depth, depth if round_top else w)
    wave = 1 + deep * np.sin(np.arange(56) / 56 * 2 * np.pi * folds)[:, None]
    drop = d(0, 0.5) * h
    flare = d(1.0, 1.3)
    rings = [(corners * 0.02, h), (corners, h), (corners * (1 + (wave * flare - 1) * 0.5), (h + drop) / 2)]
    rings.append((corners * wave * flare, drop))
    cloth = skin(np.stack([np.column_stack((ring, np.full(56, z))) for ring, z in rings]), caps=False)
    return join(cloth, legs(d, w * 0.6, depth * 0.6, h, "square")) if drop > 0.1 else cloth


def drawers(
    d: Dice, low: tuple[float, float, float], high: tuple[float, float, float], rows: int, cols: int = 1
) -> Triangles:
    """Return the fronts and handles of drawers or doors on the +x face of a block."""
    ys, zs = np.linspace(low[1], high[1], cols + 1), np.linspace(low[2], high[2], rows + 1)
    gap, out, handle = 0.012, d(0.005, 0.025), d.pick("knob", "bar", "none")
    parts = []
    for y0, y1 in itertools.pairwise(ys):
        for z0, z1 in itertools.pairwise(zs):
            parts.append(spans((high[0], y0 + gap, z0 + gap), (high[0] + out, y1 - gap, z1 - gap)))
            middle = ((y0 + y1) / 2, z0 + (z1 - z0) * d(0.5, 0.8))
            if handle == "knob":
                parts.append(ellipsoid((high[0] + out + 0.015, *middle), (0.015, 0.015, 0.015), num_rings=5))
            elif handle == "bar":
                x, half = high[0] + out + 0.02, (y1 - y0) * 0.2
                parts.append(bar((x, middle[0] - half, middle[1]), (x, middle[0] + half, middle[1]), 0.008))
    return join(*parts)


def desk(d: Dice) -> Triangles:
    w, depth, h, t = d(0.5, 0.95), d(0.27, 0.42), d(0.68, 0.8), d(0.018, 0.05)
    parts = [spans((-depth, -w, h - t), (depth, w, h))]
    sides = d.pick("left", "right", "both", "both")
    block = d(0.3, 0.45) * (1 if sides != "both" else 0.9)
    for sign in (-1, 1):
        if sides == "both" or (sides == "left") == (sign < 0):
            y0, y1 = sorted((sign * w, sign * (w - block)))
            low, high = (-depth * 0.95, y0, d(0, 0.12)), (depth * 0.93, y1, h - t)
            parts += [spans(low, high), drawers(d, low, high, d.whole(2, 4))]
        elif d.maybe(0.5):
            parts.append(spans((-depth, sign * (w - 0.02), 0), (depth, sign * w, h)))
        else:
            parts += [bar((x, sign * w * 0.95, 0), (x, sign * w * 0.95, h), 0.02) for x in (-depth * 0.9, depth * 0.9)]
    if d.maybe(0.7):
        parts.append(spans((-depth * 0.9, -w, h * d(0.1, 0.6)), (-depth * 0.85, w, h)))
    if d.maybe(0.25):  # a hutch
        top, x = h + d(0.25, 0.6), -depth * d(0.2, 0.5)
        parts += [spans((-depth, -w, top), (x, w, top + t)), spans((-depth, -w, h), (-depth + t, w, top))]
        parts.append(mirror(spans((-depth, w - t, h), (x, w, top))))
    if d.maybe(0.2):  # a corner desk
        parts += [
            spans((depth, -w, h - t), (depth + 0.8, -w + 0.5, h)),
            spans((depth + 0.76, -w, 0), (depth + 0.8, -w + 0.5, h)),
        ]
    return join(*parts)


def bed(d: Dice) -> Triangles:
    if d.maybe(0.15):
        return bunk_bed(d)
    w, length, foot, h = d(0.42, 0.95), d(0.92, 1.08), d(0.04, 0.3), d(0.35, 0.6)
    frame = foot + d(0.06, 0.25)
    parts = [
        spans((-length, -w, foot), (length, w, frame)),
        cushion(d, (-length * 0.98, -w * 0.97, frame), (length * 0.97, w * 0.97, h)),
    ]
    parts.append(legs(d, w, length, foot + 0.01, d.pick("square", "square", "turned", "panel")))
    for x, tall in ((-length, h + d(0.1, 0.7)), (length, h + d(-0.1, 0.3))):
        style = d.pick("board", "board", "bars", "arch", "none" if x > 0 else "board")
        if style == "board":
            parts.append(cushion(d, (x - d(0.02, 0.06), -w, 0), (x + d(0.02, 0.08), w * d(1, 1.05), tall)))
        elif style == "bars":
            rods = [bar((x, y, 0), (x, y, tall), 0.015) for y in np.linspace(-w, w, d.whole(5, 12))]
            parts.append(join(*rods, bar((x, -w, tall), (x, w, tall), 0.02)))
        elif style == "arch":
            curve = np.concatenate(
                ([[w, 0]], arc((0, 0, 0), 1, 0, 180, plane="xy")[:, :2] * (w, 0.3) + (0, tall - 0.3), [[-w, 0]])
            )
            parts.append(turn(turn(plate(curve, 0.05), "x", 90), "z", 90) + (x, 0, 0))
    for y in (-w / 2, w / 2) if w > 0.6 else (0.0,):
        if d.maybe(0.8):
            size = (d(0.15, 0.22), w * (0.42 if w > 0.6 else 0.75), d(0.05, 0.1))
            parts.append(ellipsoid((-length + 0.3, y, h + size[2] * 0.7), size, exponent=3))
    if d.maybe(0.5):
        parts.append(cushion(d, (-length * d(-0.1, 0.5), -w * 1.03, frame), (length, w * 1.03, h + d(0.01, 0.06))))
    if d.maybe(0.1):
        top = d(1.6, 2.1)
        parts += [at_corners(bar((0, 0, 0), (0, 0, top), 0.03), length, w), hoopless_frame(length, w, top)]
    return join(*parts)


def hoopless_frame(x: float, y: float, z: float) -> Triangles:
    return tube([(x, y, z), (-x, y, z), (-x, -y, z), (x, -y, z), (x, y, z)], 0.025)


def bunk_bed(d: Dice) -> Triangles:
    w, length, top = d(0.4, 0.6), d(0.9, 1.05), d(1.5, 1.9)
    posts = at_corners(box((0, 0, top / 2), (0.06, 0.06, top)), length, w)
    decks = [d(0.25, 0.45), top - d(0.3, 0.5)] if d.maybe(0.7) else [top - d(0.3, 0.5)]
    parts = [posts]
    for z in decks:
        parts += [spans((-length, -w, z - 0.1), (length, w, z)), cushion(d, (-length, -w, z), (length, w, z + 0.14))]
        parts.append(ellipsoid((-length + 0.3, 0, z + 0.2), (0.18, w * 0.8, 0.06), exponent=3))
        parts.append(mirror(bar((-length, w, z + 0.3), (length * d(0.3, 1), w, z + 0.3), 0.02)))
    x, count = length * d(0.5, 0.9), d.whole(4, 7)
    rungs = [bar((x - 0.18, w, z), (x + 0.18, w, z), 0.015) for z in np.linspace(0.2, top - 0.3, count)]
    rails = [bar((x + s, w, 0), (x + s, w, top - 0.1), 0.02) for s in (-0.18, 0.18)]
    return join(*parts, *rungs, *rails)


def bookshelf(d: Dice) -> Triangles:
    w, depth, h, t = d(0.25, 0.75), d(0.1, 0.2), d(0.7, 2.2), d(0.012, 0.035)
    rows, cols = d.whole(3, 7), d.whole(1, 3) if w > 0.4 else 1
    zs, ys = np.linspace(d(0, 0.1), h, rows), np.linspace(-w, w, cols + 1)
    parts = [spans((-depth, -w, z - t), (depth, w, z + t)) for z in zs]
    parts += [spans((-depth, y - t, 0), (depth, y + t, h)) for y in ys]
    if d.maybe(0.6):
        parts.append(spans((-depth, -w, 0), (-depth + t, w, h)))
    if d.maybe(0.6):
        fill = d(0.2, 1)
        parts += [row_of_books(d, (w - t, depth), z, above - z, fill) for z, above in itertools.pairwise(zs)]
    return join(*parts)


def row_of_books(d: Dice, half: tuple[float, float], z: float, room: float, fill: float) -> Triangles:
    """Return books side by side on a shelf of half sizes y and x at height `z`, with gaps unless `fill` is 1."""
    books, y = [], -half[0]
    while y < half[0] - 0.05:
        thick, tall = d(0.02, 0.07), room * d(0.5, 0.9)
        if d.maybe(fill):
            books.append(spans((-half[1] * 0.8, y, z), (half[1] * d(0.2, 0.9), y + thick * 0.95, z + tall)))
        y += thick
    return join(*books)


def cabinet(d: Dice) -> Triangles:
    kind = d.pick("wardrobe", "dresser", "night stand", "sideboard", "fridge", "wall", "open")
    if kind == "open":
        return open_cabinet(d)
    sizes = {
        "wall": (d(0.15, 0.5), d(0.12, 0.3), d(0.4, 0.9)),
        "wardrobe": (d(0.4, 1.0), d(0.25, 0.33), d(1.7, 2.3)),
        "dresser": (d(0.35, 0.8), d(0.2, 0.3), d(0.7, 1.3)),
        "night stand": (d(0.18, 0.32), d(0.16, 0.26), d(0.4, 0.7)),
        "sideboard": (d(0.6, 1.1), d(0.18, 0.3), d(0.4, 0.85)),
        "fridge": (d(0.28, 0.45), d(0.28, 0.38), d(1.2, 1.9)),
    }
    w, depth, h = sizes[kind]
    foot = d(0, 0.2) if kind != "fridge" else 0.02
    foot = 0.0 if kind == "wall" or d.maybe(0.25) else foot
    low, high = (-depth, -w, foot), (depth, w, h)
    rows = {
        "wall": 1,
        "wardrobe": 1,
        "dresser": d.whole(2, 6),
        "night stand": d.whole(1, 3),
        "sideboard": d.whole(1, 3),
        "fridge": 2,
    }
    cols = {
        "wall": d.whole(1, 2),
        "wardrobe": d.whole(2, 4),
        "dresser": d.whole(1, 2),
        "night stand": 1,
        "sideboard": d.whole(2, 4),
        "fridge": 1,
    }
    parts = [spans(low, high), drawers(d, low, high, rows[kind], cols[kind])]
    if foot > 0.03:
        parts.append(legs(d, w * 0.95, depth * 0.95, foot + 0.01, d.pick("square", "splayed", "turned", "panel")))
    if d.maybe(0.4):
        parts.append(spans((-depth * 1.05, -w * 1.04, h), (depth * 1.1, w * 1.04, h + d(0.01, 0.06))))
    return join(*parts)


def open_cabinet(d: Dice) -> Triangles:
    """Return a night stand or a low unit whose fronts are partly missing."""
    w, depth, h, t = d(0.18, 0.9), d(0.16, 0.28), d(0.35, 0.7), d(0.01, 0.03)
    foot, levels = d(0, 0.25) * h, d.whole(2, 3)
    shelves = np.linspace(foot, h, levels + 1) if w > 0.4 else np.array((foot, h * d(0.55, 0.8), h))
    parts = [spans((-depth, -w, z - t), (depth, w, z)) for z in shelves]
    if d.maybe(0.5):
        parts.append(mirror(spans((-depth, w - t, 0), (depth, w, h))))
    else:
        parts.append(at_corners(box((0, 0, h / 2), (3 * t, 3 * t, h)), depth - 1.5 * t, w - 1.5 * t))
    z0, z1 = shelves[-2:]
    if d.maybe(0.7):
        low, high = (-depth, -w * 0.97, z0), (depth * 0.95, w * d(-0.2, 0.97) if w > 0.4 else w * 0.97, z1)
        parts += [spans(low, high), drawers(d, low, high, 1, 1 if w < 0.4 else 2)]
    if w > 0.4 and d.maybe(0.25):
        parts.append(spans((-depth, w * 0.3, h), (depth * 0.6, w, h * d(1.5, 2.6))))
    return join(*parts)


def door(d: Dice) -> Triangles:
    w, h, t = d(0.35, 0.6), d(1.9, 2.3), d(0.015, 0.06)
    garage = d.maybe(0.15)
    w = d(1.1, 1.6) if garage else w
    double = d.maybe(0.2) and not garage
    leaf = [spans((-t, -w, 0), (t, w, h))]
    rows, cols = (d.whole(2, 6), d.whole(1, 5)) if garage else (d.whole(1, 4), d.whole(1, 2))
    ys, zs = np.linspace(-w * 0.8, w * 0.8, cols + 1), np.linspace(h * 0.06, h * 0.94, rows + 1)
    for y0, y1 in itertools.pairwise(ys):
        for z0, z1 in itertools.pairwise(zs):
            leaf.append(mirror(spans((t, y0 + 0.03, z0 + 0.04), (t * d(1.1, 1.6), y1 - 0.03, z1 - 0.04)), "x"))
    leaf = leaf[: 1 if d.maybe(0.2) else None]
    knob = join(bar((-0.08, 0, 0), (0.08, 0, 0), 0.015), mirror(ellipsoid((0.08, 0, 0), (0.025, 0.03, 0.03)), "x"))
    if d.maybe(0.5):
        knob = join(bar((-0.06, 0, 0), (0.06, 0, 0), 0.012), mirror(bar((0.06, 0, 0), (0.06, -0.12, 0), 0.012), "x"))
    if not garage and d.maybe(0.8):
        leaf.append(knob + (0, w * 0.86, h * d(0.42, 0.5)))
    panel = join(*leaf)
    panel = join(panel + (0, -w, 0), panel * (1, -1, 1) + (0, w, 0)) if double else panel
    half = 2 * w if double else w
    swung = turn(panel, "z", -d(5, 80), (0, -half, 0)) if d.maybe(0.25) and not double else panel
    if d.maybe(0.55):
        edge, deep = d(0.04, 0.12), d(0.04, 0.15)
        posts = mirror(spans((-deep, half, 0), (deep, half + edge, h + edge)))
        swung = join(swung, posts, spans((-deep, -half, h), (deep, half, h + edge)))
    return swung


def stairs(d: Dice) -> Triangles:
    count, w, run, rise = d.whole(4, 14), d(0.35, 0.7), d(0.2, 0.32), d(0.14, 0.21)
    if d.maybe(0.25):  # spiral
        step = plate([(0.05, -0.05), (w * 2, -0.22), (w * 2, 0.22), (0.05, 0.05)], 0.04)
        swing = d(18, 32)
        parts = [turn(step, "z", swing * n) + (0, 0, rise * n) for n in range(count)]
        posts = [
            turn(bar((w * 1.9, 0, 0), (w * 1.9, 0, 0.9), 0.01), "z", swing * n) + (0, 0, rise * n) for n in range(count)
        ]
        return join(*parts, *posts, bar((0, 0, 0), (0, 0, rise * count + 0.9), 0.05))
    style = d.pick("solid", "open", "risers")
    parts = []
    for n in range(count):
        x, z = n * run, (n + 1) * rise
        parts.append(spans((x, -w, 0 if style == "solid" else z - 0.04), (x + run * 1.05, w, z)))
        if style == "risers":
            parts.append(spans((x, -w, z - rise), (x + 0.02, w, z)))
    if style != "solid":
        parts.append(mirror(bar((0, w, 0), (count * run, w, count * rise), 0.05, corners=4)))
    if d.maybe(0.5):
        y, up = w * 0.95, d(0.8, 1)
        rail = [
            bar((n * run, y, (n + 1) * rise), (n * run, y, n * rise + up), 0.012)
            for n in range(0, count, d.whole(1, 3))
        ]
        rail.append(bar((0, y, up), ((count - 1) * run, y, (count - 1) * rise + up), 0.025))
        parts.append(mirror(join(*rail)) if d.maybe(0.6) else join(*rail))
    return join(*parts)


MAKERS = {
    "table": table,
    "desk": desk,
    "bed": bed,
    "bookshelf": bookshelf,
    "cabinet": cabinet,
    "door": door,
    "stairs": stairs,
}
