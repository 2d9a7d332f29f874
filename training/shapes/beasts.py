"""Four-legged animals, standing, walking or sitting. z is up, the front looks along x."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from training.shapes.parts import Dice, Triangles, arc, bar, ellipsoid, join, lathe, loft, mirror, plate, tube, turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Beast:
    """Proportions of a four-legged animal: each a range, lengths in units of the half body."""

    leg: tuple[float, float]
    girth: tuple[float, float]
    neck: tuple[float, float]
    neck_angle: tuple[float, float]
    head: tuple[float, float]
    snout: tuple[float, float]
    tail: tuple[float, float]
    tail_angle: tuple[float, float]
    ears: str
    thick: tuple[float, float]


BEASTS = {
    "dog": Beast(
        leg=(0.45, 0.95),
        girth=(0.28, 0.42),
        neck=(0.25, 0.5),
        neck_angle=(30, 70),
        head=(0.2, 0.3),
        snout=(0.2, 0.45),
        tail=(0.3, 0.9),
        tail_angle=(-40, 70),
        ears="flop",
        thick=(0.06, 0.11),
    ),
    "cat": Beast(
        leg=(0.45, 0.7),
        girth=(0.25, 0.38),
        neck=(0.15, 0.35),
        neck_angle=(25, 65),
        head=(0.2, 0.3),
        snout=(0.05, 0.14),
        tail=(0.7, 1.3),
        tail_angle=(-50, 80),
        ears="point",
        thick=(0.05, 0.08),
    ),
    "horse": Beast(
        leg=(0.95, 1.35),
        girth=(0.36, 0.46),
        neck=(0.7, 1.0),
        neck_angle=(35, 65),
        head=(0.16, 0.22),
        snout=(0.4, 0.6),
        tail=(0.6, 1.0),
        tail_angle=(-85, -40),
        ears="point",
        thick=(0.07, 0.1),
    ),
    "cow": Beast(
        leg=(0.6, 0.85),
        girth=(0.42, 0.55),
        neck=(0.3, 0.5),
        neck_angle=(0, 35),
        head=(0.2, 0.26),
        snout=(0.3, 0.42),
        tail=(0.6, 0.9),
        tail_angle=(-90, -60),
        ears="horns",
        thick=(0.08, 0.12),
    ),
    "elephant": Beast(
        leg=(0.7, 0.95),
        girth=(0.55, 0.7),
        neck=(0.2, 0.35),
        neck_angle=(0, 35),
        head=(0.34, 0.45),
        snout=(0.02, 0.05),
        tail=(0.4, 0.7),
        tail_angle=(-90, -60),
        ears="fans",
        thick=(0.16, 0.23),
    ),
    "giraffe": Beast(
        leg=(1.4, 1.9),
        girth=(0.36, 0.46),
        neck=(1.7, 2.5),
        neck_angle=(50, 78),
        head=(0.15, 0.2),
        snout=(0.28, 0.4),
        tail=(0.6, 0.9),
        tail_angle=(-90, -65),
        ears="knobs",
        thick=(0.06, 0.09),
    ),
}


def ears(d: Dice, kind: str, r: float) -> Triangles:
    """Return ears, horns or fans for a head of radius `r` at the origin."""
    if kind == "fans":
        size = d(0.8, 1.5) * r
        fan = turn(
            plate(
                [
                    (0, -size * 0.8),
                    (-size * 0.9, -size * 0.5),
                    (-size, size * 0.5),
                    (-size * 0.3, size * 0.8),
                    (0, size * 0.4),
                ],
                0.03,
            ),
            "x",
            90,
        )
        return mirror(turn(fan, "z", -d(20, 75)) + (0, r * 0.8, 0))
    if kind == "horns":
        horn = tube(
            [(0, r * 0.4, r * 0.8), (0, r * 1.3, r), (r * d(-0.3, 0.5), r * d(1.2, 1.9), r * d(1.4, 2.2))],
            [r * 0.2, r * 0.15, r * 0.04],
        )
        ear = ellipsoid((0, r * 1.2, r * 0.4), (r * 0.2, r * 0.5, r * 0.25))
        return mirror(join(horn, ear) if d.maybe(0.75) else ear)
    if kind == "knobs":
        return mirror(
            join(
                bar((0, r * 0.3, r * 0.6), (0, r * 0.5, r * 1.7), r * 0.15),
                ellipsoid((-r * 0.2, r * 0.9, r * 0.5), (r * 0.2, r * 0.5, r * 0.2)),
            )
        )
    if kind == "flop" and d.maybe(0.6):
        return mirror(turn(ellipsoid((0, r * 0.95, -r * 0.1), (r * 0.4, r * 0.15, r * d(0.6, 1.0))), "x", d(-5, 25)))
    tall = r * d(0.6, 1.3) if kind != "long" else r * d(1.8, 2.8)
    cone = lathe([(r * 0.35, 0), (r * 0.3, tall * 0.4), (0.01, tall)], num_corners=8) * (0.5, 1, 1)
    return mirror(turn(cone, "x", -d(5, 30)) + (-r * 0.1, r * 0.45, r * 0.65))


def head(d: Dice, r: float, snout: float, kind: str) -> Triangles:
    """Return a head at the origin that looks along x."""
    parts = [ellipsoid((0, 0, 0), (r * d(1, 1.2), r * d(0.75, 0.95), r)), ears(d, kind, r)]
    parts.append(
        loft(
            [
                (r * 0.3, -r * 0.15, r * 0.65, r * 0.65),
                (r + snout * 0.6, -r * 0.3, r * 0.4, r * 0.42),
                (r + snout, -r * 0.35, r * 0.25, r * 0.25),
            ],
            smooth=6,
        )
    )
    return join(*parts)


def limb(points: list[tuple[float, float, float]], thick: float, foot: float) -> Triangles:
    """Return a leg through its joints, thick above and with a foot at its end."""
    radii = np.linspace(thick * 1.6, thick * 0.75, len(points))
    end = np.array(points[-1])
    return join(tube(points, radii), ellipsoid(end + (foot * 0.5, 0, thick * 0.5), (foot, thick * 1.1, thick * 0.7)))


def quadruped(d: Dice, name: str) -> Triangles:
    b = BEASTS[name]
    girth, leg, thick, r = d(*b.girth), d(*b.leg), d(*b.thick), d(*b.head)
    if name in ("dog", "cat") and d.maybe(0.25):
        return sitting(d, name)
    z, hip = leg + girth * 0.6, d(-0.08, 0.1)
    belly = girth * d(0.7, 1.0)
    spine = [
        (-1, z + hip, girth * 0.4, girth * 0.4),
        (-0.75, z + hip, girth * 0.75, girth * 0.9),
        (0, z, belly * 0.9, belly),
        (0.6, z + 0.02, girth * 0.8, girth),
        (0.95, z + 0.1, girth * 0.5, girth * 0.65),
    ]
    parts = [loft(spine, smooth=14)]
    for side in (-1, 1):
        for x, front in ((0.65, True), (-0.75, False)):
            swing = d(-0.35, 0.35) if d.maybe(0.6) else 0.0
            y = side * girth * d(0.45, 0.6)
            knee = (x + swing * 0.4 * leg + (0.05 if front else -0.12), y, leg * 0.5)
            parts.append(
                limb([(x, y, z - girth * 0.2), knee, (x + swing * leg, y, thick * 0.5)], thick, thick * d(0.7, 1.4))
            )
    angle, length = math.radians(d(*b.neck_angle)), d(*b.neck)
    base = np.array((0.8, 0.0, z + girth * 0.35))
    top = base + np.array((math.cos(angle), 0, math.sin(angle))) * length
    parts.append(tube([base - (0.15, 0, 0.1), (base + top) / 2, top], [girth * 0.6, girth * d(0.35, 0.5), r * 0.75]))
    skull = turn(head(d, r, d(*b.snout), b.ears), "y", d(-5, 45) if name in ("horse", "giraffe", "cow") else d(-15, 25))
    parts.append(turn(skull, "z", d(-40, 40) if d.maybe(0.4) else 0) + top + (r * 0.3, 0, r * 0.2))
    lift, long = math.radians(d(*b.tail_angle)), d(*b.tail)
    root = np.array((-0.95, 0, z + hip + girth * 0.2))
    middle = root + np.array((-math.cos(lift * 0.5), 0, math.sin(lift * 0.5))) * long * 0.5
    fat = 0.12 if name == "horse" else 0.04
    parts.append(
        tube(
            [root, middle, middle + np.array((-math.cos(lift), 0, math.sin(lift))) * long * 0.5],
            [fat * 0.7, fat, fat * 0.4],
        )
    )
    if name == "elephant":
        trunk = [
            top + (r, 0, 0),
            top + (r * 1.7, 0, -r),
            top + (r * 1.8, 0, -r * 2),
            top + (r * d(1.5, 2.8), 0, -r * d(2.0, 3.0)),
        ]
        parts.append(tube(trunk, np.array([0.4, 0.3, 0.22, 0.15]) * r))
        if d.maybe(0.6):
            tusk = tube(
                [top + (r, r * 0.4, -r * 0.5), top + (r * 1.8, r * 0.5, -r), top + (r * 2.3, r * 0.5, -r * 0.7)],
                [r * 0.1, r * 0.08, r * 0.02],
            )
            parts.append(join(tusk, tusk * (1, -1, 1)))
    if name == "horse" and d.maybe(0.6):
        mane = plate(
            [
                (base[0] - 0.1, base[2]),
                (top[0], top[2] + 0.1),
                (top[0] - 0.2, top[2] + 0.15),
                (base[0] - 0.35, base[2] + 0.15),
            ],
            0.05,
        )
        parts.append(turn(mane, "x", 90))
    return join(*parts)


def sitting(d: Dice, name: str) -> Triangles:
    """Return an animal on its haunches: a dog, a cat or a rabbit."""
    b = BEASTS["cat" if name == "rabbit" else name]
    girth, r = d(0.3, 0.42), d(*b.head) * 1.1
    lean = d(45, 75) if name != "rabbit" else d(15, 50)
    body = turn(
        loft(
            [
                (-0.6, 0, girth * 0.6, girth * 0.6),
                (-0.35, 0, girth, girth),
                (0.2, 0, girth * 0.75, girth * 0.75),
                (0.6, 0, girth * 0.5, girth * 0.5),
            ],
            smooth=12,
        ),
        "y",
        -lean,
    )
    a = math.radians(lean)
    chest, rump = np.array((math.cos(a), 0, math.sin(a))) * 0.5, -np.array((math.cos(a), 0, math.sin(a))) * 0.4
    low = rump[2] - girth * 0.9
    parts = [body + (0, 0, -low)]
    for side in (-1, 1):
        y = side * girth * 0.5
        parts.append(tube([chest + (0.1, y, -low - 0.1), (chest[0] + 0.2, y, 0.05)], [0.1, 0.06]))
        parts.append(ellipsoid((chest[0] + 0.25, y, 0.05), (0.12, 0.07, 0.05)))
        parts.append(
            ellipsoid((rump[0] + 0.1, side * girth * 0.8, girth * 0.6), (girth * 0.7, girth * 0.35, girth * 0.65))
        )
        parts.append(ellipsoid((rump[0] + 0.35, side * girth * 0.9, 0.06), (0.25, 0.09, 0.06)))
    place = chest + (0.12, 0, -low + girth * 0.5 + r * 0.5)
    kind = "long" if name == "rabbit" else b.ears
    skull = head(d, r, 0.06 if name == "rabbit" else d(*b.snout), kind)
    if kind == "long" and d.maybe(0.5):
        skull = turn(skull, "y", -d(10, 40))
    parts.append(turn(skull, "z", d(-50, 50)) + place)
    if name == "rabbit":
        parts.append(ellipsoid(rump + (-0.3, 0, -low), (0.13, 0.13, 0.13)))
    else:
        curl = arc((0, 0, 0.06), girth * 1.2, 180, 180 + d(20, 130), plane="xy")
        parts.append(tube(curl + (rump[0] + 0.1, 0, 0), 0.05))
    return join(*parts)


def rabbit(d: Dice) -> Triangles:
    return sitting(d, "rabbit")


MAKERS = {
    **{name: partial(quadruped, name=name) for name in BEASTS},
    "rabbit": rabbit,
}
