"""Screens, keyboards, instruments and clocks. z is up, the front looks along x."""

from __future__ import annotations

import math

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    around,
    at_corners,
    bar,
    box,
    circle,
    disc,
    ellipsoid,
    hoop,
    join,
    mirror,
    plate,
    spans,
    tube,
    turn,
)


def keys(d: Dice, rows: int, cols: int, length: float, w: float, z: float) -> Triangles:
    """Return a field of keycaps between -length and length (x), -w and w (y) at height z."""
    xs, ys = np.linspace(-length, length, rows + 1), np.linspace(-w, w, cols + 1)
    a, b = (xs[1] - xs[0]) * 0.42, (ys[1] - ys[0]) * 0.42
    tall, taper = d(0.003, 0.012), d(0.7, 1)
    cap = box((0, 0, z + tall / 2), (2 * a, 2 * b, tall), taper=taper)
    spots = [(x + a, y + b, 0.0) for x in xs[:-1] for y in ys[:-1]]
    return join(*(cap + spot for spot in spots))


def keyboard(d: Dice) -> Triangles:
    w, length, t = d(0.14, 0.24), d(0.05, 0.09), d(0.008, 0.03)
    body = spans((-length, -w, 0), (length, w, t))
    rows, cols = d.whole(4, 6), d.whole(10, 15)
    split = w * d(0.45, 1.0)
    parts = [body, keys(d, rows, cols, length * 0.88, split * 0.95, t)]
    if split < w * 0.8:
        parts.append(keys(d, rows, 4, length * 0.88, (w - split) * 0.42, t) + (0, split + (w - split) * 0.45, 0))
        parts[1] = parts[1] + (0, -(w - split) * 0.5, 0)
    return turn(join(*parts), "y", d(0, 12))


def monitor(d: Dice) -> Triangles:
    w, h, t = d(0.2, 0.6), d(0.14, 0.36), d(0.01, 0.06)
    lift = d(0.04, 0.2)
    screen = [spans((-t, -w, 0), (t, w, h * 2))]
    if d.maybe(0.7):
        edge = w * d(0.02, 0.08)
        screen += [
            spans((t, -w, 0), (t + 0.01, w, edge)),
            spans((t, -w, 2 * h - edge), (t + 0.01, w, 2 * h)),
            mirror(spans((t, w - edge, 0), (t + 0.01, w, 2 * h))),
        ]
    if d.maybe(0.15):  # a tube set
        screen.append(turn(box((0, 0, 0), (w * 1.5, h * 1.7, w * 1.2), taper=0.6), "y", -90) + (-w * 0.6 - t, 0, h))
    if d.maybe(0.12):  # with its keyboard
        screen.append(turn(keyboard(d), "y", 0) + (w * d(0.6, 1.0), 0, -lift))
    panel = turn(join(*screen), "y", -d(-3, 14), (0, 0, h)) + (0, 0, lift)
    stand = d.pick("round", "rectangle", "feet", "arch", "none")
    if stand == "round":
        base = disc((-0.03, 0, 0.008), w * d(0.3, 0.5), 0.016)
    elif stand == "rectangle":
        base = box((-0.03, 0, 0.008), (d(0.15, 0.25), w * d(0.5, 1.1), 0.016))
    elif stand == "feet":
        return join(
            panel,
            mirror(
                join(
                    bar((0, w * 0.7, lift), (0.1, w * 0.7, 0), 0.012),
                    bar((0, w * 0.7, lift), (-0.1, w * 0.7, 0), 0.012),
                )
            ),
        )
    elif stand == "arch":
        base = tube([(0.08, -w * 0.5, 0), (-0.08, -w * 0.3, 0), (-0.08, w * 0.3, 0), (0.08, w * 0.5, 0)], 0.012)
    else:
        return panel
    neck = box((-t - 0.02, 0, (lift + h * 0.6) / 2), (0.03, w * d(0.1, 0.35), lift + h * 0.6))
    return join(panel, base, neck)


def laptop(d: Dice) -> Triangles:
    w, depth, t = d(0.14, 0.2), d(0.09, 0.13), d(0.008, 0.025)
    base = join(
        spans((-depth, -w, 0), (depth, w, t)),
        keys(d, d.whole(4, 6), d.whole(10, 14), depth * 0.4, w * 0.88, t) + (-depth * 0.3, 0, 0),
    )
    base = join(base, box((depth * 0.6, 0, t), (depth * 0.45, w * 0.5, 0.002)))
    lid = join(
        spans((-0.004, -w, 0), (0.004, w, 2 * depth)),
        spans((0.004, -w * 0.93, 0.02), (0.005, w * 0.93, 2 * depth - 0.01)),
    )
    return join(base, turn(lid, "y", -d(-25, 45)) + (-depth, 0, t))


def cell_phone(d: Dice) -> Triangles:
    w, h, t = d(0.03, 0.042), d(0.05, 0.085), d(0.003, 0.009)
    outline = circle(24, d(5, 14)) * (h, w)
    parts = [plate(outline, 2 * t), plate(outline * 0.93, 0.001) + (0, 0, t)]
    if d.maybe(0.6):
        parts.append(box((h * 0.75, w * 0.4, -t), (h * 0.3, w * 0.6, 0.004)))
    if d.maybe(0.25):
        parts += [
            keys(d, 4, 3, h * 0.35, w * 0.8, t) + (-h * 0.4, 0, 0),
            bar((h, w * 0.7, 0), (h * 1.3, w * 0.7, 0), 0.004),
        ]
    return turn(join(*parts), "y", d.random.choice([0.0, 90.0]))


def guitar(d: Dice) -> Triangles:
    w, length, t = d(0.14, 0.21), d(0.2, 0.26), d(0.03, 0.11)
    angle = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    x = length * np.cos(angle)
    waist, ratio = d(0.12, 0.35), d(0.6, 0.9)
    half = (
        w
        * (1 - waist * np.exp(-(((x - length * 0.12) / (length * 0.3)) ** 2)))
        * np.interp(x, [-length, length], [1, ratio])
    )
    outline = np.column_stack((x, half * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.6))
    if electric := d.maybe(0.45):
        t = d(0.025, 0.045)
        if d.maybe(0.3):
            outline = np.array(
                [
                    (-length, w),
                    (-length * 0.2, w * 0.35),
                    (length * 0.7, 0.05),
                    (length * 0.7, -0.05),
                    (-length * 0.2, -w * 0.35),
                    (-length, -w),
                    (-length * 0.4, 0),
                ]
            )
        else:  # horns and cutaways
            near = np.abs(outline[:, 1]) < w * d(0.3, 0.5)
            outline[:, 0] = np.where(near & (outline[:, 0] > 0), outline[:, 0] - d(0.04, 0.1), outline[:, 0])
    neck, top = d(0.32, 0.5), length * 0.75
    parts = [plate(outline, t), box((top + neck / 2, 0, t / 2), (neck, d(0.04, 0.055), 0.025))]
    head = plate([(0, -0.03), (d(0.12, 0.18), -0.04), (0.15, 0.04), (0, 0.03)], 0.016)
    parts.append(turn(head, "y", d(0, 15)) + (top + neck, 0, t / 2))
    pegs = bar((0, 0.035, 0), (0, 0.06, 0), 0.006)
    parts += [mirror(pegs + (top + neck + 0.04 * n + 0.02, 0, t / 2)) for n in range(3)]
    parts.append(box((-length * d(0.35, 0.55), 0, t / 2 + 0.008), (0.025, 0.09, 0.016)))
    if not electric:
        parts.append(hoop((length * 0.25, 0, t / 2), 0.048, 0.004, plane="xy"))
    elif d.maybe(0.8):
        parts += [box((s * length * 0.2, 0, t / 2 + 0.005), (0.03, 0.09, 0.012)) for s in (-1, 1)]
    parts += [
        bar((-length * 0.45, y, t / 2 + 0.02), (top + neck, y, t / 2 + 0.016), 0.001, corners=4)
        for y in (-0.015, 0, 0.015)
    ]
    return turn(join(*parts), "y", -d(60, 100)) if d.maybe(0.75) else join(*parts)


def piano_keys(d: Dice, w: float, x: float, z: float) -> Triangles:
    white = spans((x, -w, z), (x + 0.14, w, z + 0.02))
    return join(
        white, *(box((x + 0.04, y, z + 0.025), (0.09, w / 40, 0.015)) for y in np.linspace(-w * 0.95, w * 0.95, 30))
    )


def piano(d: Dice) -> Triangles:
    w = d(0.65, 0.8)
    if d.maybe(0.5):
        h, depth, ledge = d(1.0, 1.35), d(0.25, 0.35), d(0.6, 0.75)
        parts = [
            spans((-depth, -w, 0), (0, w, h)),
            spans((0, -w, ledge - 0.1), (0.25, w, ledge)),
            piano_keys(d, w * 0.93, 0.06, ledge),
        ]
        parts.append(mirror(spans((0, w - 0.05, ledge), (0.25, w, ledge + 0.12))))
        leg = (
            spans((0.15, w - 0.08, 0), (0.23, w, ledge)) if d.maybe(0.7) else spans((0, w - 0.05, 0), (0.25, w, ledge))
        )
        parts += [mirror(leg), spans((-depth - 0.03, -w * 1.03, h), (0.05, w * 1.03, h + 0.04))]
    else:
        length, z, t = d(1.2, 2.2), d(0.55, 0.7), d(0.25, 0.35)
        y = np.linspace(w, -w, 14)
        curve = -length * (0.45 + 0.55 / (1 + np.exp((y - d(-0.1, 0.2)) * -9)))
        outline = np.vstack(([(0.0, -w), (0.0, w)], np.column_stack((curve, y))))
        lid = plate(outline, 0.025)
        opened = turn(lid, "x", -d(20, 45), (0, w, 0)) if d.maybe(0.65) else lid
        parts = [
            plate(outline, t) + (0, 0, z + t / 2),
            opened + (0, 0, z + t + 0.02),
            piano_keys(d, w * 0.93, 0.02, z + t * 0.4),
        ]
        parts += [spans((0, -w, z), (0.22, w, z + t * 0.4)), mirror(spans((0, w - 0.05, z), (0.22, w, z + t)))]
        parts += [
            mirror(bar((-0.15, w * 0.85, 0), (-0.15, w * 0.85, z), 0.06, 0.08)),
            bar((-length * 0.8, w * 0.4, 0), (-length * 0.8, w * 0.4, z), 0.06, 0.08),
        ]
        if d.maybe(0.5):
            parts.append(box((-0.1, 0, z * 0.4), (0.06, 0.2, z * 0.8)))
    if d.maybe(0.35):
        parts.append(
            join(
                box((0.6, 0, 0.47), (0.32, d(0.5, 0.9), 0.08)),
                at_corners(bar((0, 0, 0), (0, 0, 0.45), 0.025), 0.13, 0.22) + (0.6, 0, 0),
            )
        )
    return join(*parts)


def clock(d: Dice) -> Triangles:
    r, t = d(0.06, 0.2), d(0.01, 0.05)
    kind = d.pick("wall", "wall", "alarm", "standing")
    face = turn(join(disc((0, 0, 0), r, t, num_corners=28), hoop((0, 0, t / 2), r, r * 0.06, plane="xy")), "y", 90)
    marks = around(box((t / 2 + 0.002, 0, r * 0.85), (0.004, r * 0.04, r * 0.12)), 12, "x")
    hands = join(
        *(
            turn(spans((t / 2, -r * 0.03, 0), (t / 2 + 0.006, r * 0.03, r * size)), "x", d(0, 360))
            for size in (0.5, 0.75)
        )
    )
    dial = join(face, marks, hands)
    if d.maybe(0.12):  # in a box
        return join(dial, spans((-r * d(0.3, 1.5), -r * 1.15, -r * 1.15), (0, r * 1.15, r * d(1.15, 1.6))))
    if kind == "alarm":
        bell = turn(ellipsoid((0, 0, r * 1.2), (r * 0.3, r * 0.3, r * 0.22)), "x", 35)
        return join(
            dial * (3, 1, 1), mirror(bell), mirror(bar((0, r * 0.6, -r * 0.7), (0, r * 0.8, -r * 1.15), r * 0.06))
        )
    if kind == "standing":
        h = r * d(4, 9)
        case = join(
            spans((-r, -r * 1.2, -h), (0, r * 1.2, -r * 1.1)),
            spans((-r * 1.1, -r * 1.5, -h), (r * 0.1, r * 1.5, -h * 0.75)),
            spans((-r * 1.1, -r * 1.4, -r * 1.2), (0, r * 1.4, r * 1.3)),
        )
        return join(dial, case)
    return dial


MAKERS = {
    "keyboard": keyboard,
    "monitor": monitor,
    "laptop": laptop,
    "cell phone": cell_phone,
    "guitar": guitar,
    "piano": piano,
    "clock": clock,
}
