"""What rolls on few wheels. z is up, the front looks along x."""

from __future__ import annotations

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    arc,
    around,
    bar,
    box,
    disc,
    ellipsoid,
    hoop,
    join,
    loft,
    mirror,
    sheet,
    spans,
    tube,
    turn,
)


def spoked(d: Dice, r: float, thick: float) -> Triangles:
    """Return a bicycle wheel in the xz plane."""
    parts = [hoop((0, 0, 0), r, thick), disc((0, 0, 0), r * 0.08, 0.08, axis="y")]
    if d.maybe(0.75):
        parts.append(around(bar((0, 0, 0), (r, 0, 0), 0.004), d.whole(8, 20), "y"))
    return join(*parts)


def bicycle(d: Dice) -> Triangles:
    r, base = d(0.28, 0.37), d(0.48, 0.56)
    t = d(0.012, 0.028)
    front, rear, crank = np.array([base, 0, r]), np.array([-base, 0, r]), np.array([-0.08, 0, r * 0.85])
    seat, head = np.array([-0.22, 0, d(0.75, 0.95)]), np.array([base * d(0.6, 0.72), 0, d(0.75, 0.95)])
    sit = crank + (seat - crank) * d(0.75, 0.95)
    parts = [spoked(d, r, d(0.015, 0.04)) + front, spoked(d, r, d(0.015, 0.04)) + rear]
    low_top = d.maybe(0.3)
    parts += [
        bar(crank, seat, t),
        bar(crank, head - (0, 0, 0.1), t),
        bar(head, sit if not low_top else crank + (0, 0, 0.12), t),
    ]
    parts.append(
        mirror(
            join(
                bar(rear + (0, 0.05, 0), sit, t * 0.6),
                bar(rear + (0, 0.05, 0), crank, t * 0.6),
                bar(front + (0, 0.05, 0), head, t * 0.7),
            )
        )
    )
    stem = head + (-0.03, 0, d(0.05, 0.2))
    style = d.pick("flat", "drop", "rise")
    bars = {
        "flat": [(0, 0, 0), (0, 0.28, 0)],
        "drop": [(0, 0, 0), (0, 0.2, 0), (0.1, 0.21, -0.03), (0.08, 0.21, -0.14)],
        "rise": [(0, 0, 0), (0, 0.15, 0.08), (-0.15, 0.28, 0.1)],
    }[style]
    parts += [bar(head, stem, t), mirror(tube(np.array(bars) + stem, t * 0.8))]
    parts.append(ellipsoid(seat + (0, 0, 0.05), (0.14, 0.07, 0.03)))
    parts += [
        disc(crank, d(0.08, 0.11), 0.01, axis="y"),
        bar(crank + (0, 0.06, 0), crank + (0.12, 0.08, -0.12), 0.012),
        bar(crank - (0, 0.06, 0), crank + (-0.12, -0.08, 0.12), 0.012),
    ]
    parts += [
        box(crank + (0.12, 0.12, -0.12), (0.09, 0.08, 0.02)),
        box(crank + (-0.12, -0.12, 0.12), (0.09, 0.08, 0.02)),
    ]
    if d.maybe(0.3):
        parts += [tube(arc(rear, r * 1.12, 30, 170), 0.02), tube(arc(front, r * 1.12, 20, 140), 0.02)]
    if d.maybe(0.15):
        parts.append(box(head + (0.2, 0, 0.05), (0.25, 0.3, 0.2), taper=1.2))
    turned = join(*parts)
    return turned


def motorcycle(d: Dice) -> Triangles:
    r, base, fat = d(0.25, 0.34), d(0.55, 0.75), d(0.06, 0.12)
    if scooter := d.maybe(0.3):
        r, base = d(0.17, 0.24), d(0.5, 0.62)
    tyres = join(
        *(join(hoop((x, 0, r), r - fat * 0.6, fat), disc((x, 0, r), r * 0.6, 0.06, axis="y")) for x in (-base, base))
    )
    head, seat = np.array([base * d(0.45, 0.65), 0, d(0.75, 0.95)]), d(0.62, 0.8)
    parts = [tyres, mirror(bar((base, 0.08, r), head + (0, 0.07, 0), 0.025))]
    parts.append(mirror(tube([head, head + (-0.02, 0.12, 0.06), head + (-0.15, d(0.3, 0.42), 0.06)], 0.018)))
    parts.append(
        loft(
            [(0.1, seat + 0.02, 0.1, 0.06), (-0.2, seat, 0.14, 0.06), (-base * 0.9, seat + d(0, 0.1), 0.1, 0.05)],
            exponent=3,
            smooth=6,
        )
    )
    parts.append(ellipsoid(head + (0.1, 0, -0.02), (0.09, 0.1, 0.1)))
    if scooter:
        parts += [
            spans((-0.05, -0.16, r * 0.8), (base * 0.5, 0.16, r)),
            turn(box((base * 0.55, 0, 0.5), (0.06, 0.4, 0.6)), "y", -15, (base * 0.55, 0, 0.5)),
        ]
        parts.append(
            loft([(0, r + 0.1, 0.15, 0.25), (-base, r + 0.15, 0.18, 0.2), (-base - r, r + 0.25, 0.08, 0.08)], smooth=6)
        )
    else:
        parts.append(
            loft(
                [(base * 0.5, seat + 0.08, 0.08, 0.07), (0.2, seat + 0.12, 0.15, 0.13), (0, seat + 0.02, 0.1, 0.08)],
                smooth=7,
            )
        )
        parts += [
            cylinder_block(d, r),
            bar((-base, 0, r), (0, 0, r * 1.1), 0.05),
            bar(head, (0, 0, r), 0.04),
            bar((0, 0, seat), (-0.1, 0, r), 0.04),
        ]
        parts.append(bar((0.1, 0.15, r * 0.9), (-base * d(0.9, 1.3), 0.17, r * d(0.9, 1.3)), 0.04, 0.05))
    if d.maybe(0.5):
        parts += [tube(arc((base, 0, r), r * 1.1, 20, 150), 0.05), tube(arc((-base, 0, r), r * 1.1, 30, 160), 0.06)]
    if d.maybe(0.35):
        parts.append(
            sheet(
                [
                    [(head[0] + 0.12, -0.15, head[2]), (head[0] + 0.2, 0, head[2]), (head[0] + 0.12, 0.15, head[2])],
                    [
                        (head[0], -0.12, head[2] + 0.3),
                        (head[0] + 0.05, 0, head[2] + 0.3),
                        (head[0], 0.12, head[2] + 0.3),
                    ],
                ]
            )
        )
    return join(*parts)


def cylinder_block(d: Dice, r: float) -> Triangles:
    body = ellipsoid((0.05, 0, r * 1.05), (0.22, 0.14, 0.16), exponent=d(2.5, 6))
    return join(body, turn(box((0.15, 0, r * 1.5), (0.16, 0.2, 0.25)), "y", d(-30, 30), (0.15, 0, r * 1.5)))


def skateboard(d: Dice) -> Triangles:
    length, w, r = d(0.35, 0.5), d(0.09, 0.13), d(0.025, 0.04)
    t = np.linspace(-1, 1, 21)
    lift = d(0.02, 0.1) * np.clip(np.abs(t) - 0.72, 0, None) / 0.28
    half = w * (1 - np.clip((np.abs(t) - 0.75) / 0.25, 0, 1) ** 2) ** 0.5 + 0.002
    rows = np.stack([np.column_stack((t * length, half * s, lift + 2.5 * r)) for s in (-1, 0, 1)])
    deck = join(sheet(rows), sheet(rows + (0, 0, 0.012)))
    truck_ = join(
        box((0, 0, 2 * r), (0.06, 0.04, 0.03)),
        bar((0, -w, r), (0, w, r), 0.008),
        mirror(disc((0, w * 0.85, r), r, 0.035, axis="y")),
    )
    return join(deck, *(truck_ + (s * length * 0.65, 0, 0) for s in (-1, 1)))


MAKERS = {
    "bicycle": bicycle,
    "motorcycle": motorcycle,
    "skateboard": skateboard,
}
