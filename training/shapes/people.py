"""People, whole and in part, and bears of cloth. z is up, the front looks along x."""

from __future__ import annotations

import math

import numpy as np

from training.shapes.parts import Dice, Triangles, bar, disc, ellipsoid, join, lathe, loft, mirror, tube, turn


def person(d: Dice) -> Triangles:
    """Return a figure of about height 1.75 that stands, walks or sits, its arms anywhere."""
    w, deep = d(0.15, 0.24), d(0.09, 0.16)
    hip, shoulder = 0.92, d(1.38, 1.48)
    pose = d.pick("stand", "stand", "stand", "stand", "walk", "sit", "sit", "spread")
    torso = loft(
        [
            (0, 0, w * 0.85, deep),
            (0.18, 0, w * d(0.65, 0.9), deep * 0.85),
            (0.4, 0, w, deep),
            (0.52, 0, w * 0.75, deep * 0.7),
            (0.58, 0, 0.06, 0.06),
        ],
        smooth=10,
    )
    parts = [turn(torso, "y", -90) + (0, 0, hip - 0.08), bar((0, 0, shoulder), (0, 0, shoulder + 0.14), 0.055)]
    parts.append(ellipsoid((0.01, 0, shoulder + 0.23), (0.1, 0.08, 0.12)))
    if d.maybe(0.5):
        parts.append(ellipsoid((-0.02, 0, shoulder + 0.26), (0.11, 0.1, 0.13)))
    if d.maybe(0.2):
        parts.append(ellipsoid((-0.09, 0, shoulder + 0.12), (0.05, 0.1, 0.2)))
    t = d(0.05, 0.08)
    lean, twist = d(-25, 10) if pose == "sit" else d.random.normal(0, 5), d.random.normal(0, 12)
    upper = [turn(turn(part, "y", lean, (0, 0, hip)), "z", twist) for part in parts]
    parts = []
    crossed = pose == "sit" and d.maybe(0.4)
    for side in (-1, 1):
        y = side * w * 0.55
        swing = {"walk": side * d(0.2, 0.5), "sit": d(1.1, 1.7), "spread": 0.0}.get(pose, d(-0.2, 0.25))
        out = {"spread": side * d(0.1, 0.4)}.get(pose, side * d(0, 0.12))
        out = -side * d(0.2, 0.5) if crossed and side > 0 else out
        bend = {"walk": d(0, 0.6), "sit": d(0.9, 1.8)}.get(pose, max(0.0, swing) + d(0, 0.2))
        knee = np.array((math.sin(swing) * 0.44, y + out * 0.5, hip - math.cos(swing) * 0.44))
        ankle = knee + np.array((math.sin(swing - bend) * 0.42, out * 0.5, -math.cos(swing - bend) * 0.42))
        parts.append(tube([(0, y, hip), knee, ankle], [t * 1.4, t, t * 0.7]))
        parts.append(ellipsoid(ankle + (0.07, 0, -0.03), (0.13, 0.05, 0.045)))
        raise_, front = {"spread": d(0.6, 1.6)}.get(pose, d(0.05, 0.35) if d.maybe(0.7) else d(0.3, 2.6)), d(-0.4, 0.9)
        folded = d.maybe(0.15)
        raise_, front = (d(0.1, 0.4), d(0.2, 0.8)) if folded else (raise_, front)
        elbow = np.array(
            (
                math.sin(front) * 0.2,
                side * (w + 0.03 + math.sin(raise_) * 0.28),
                shoulder - 0.03 - math.cos(raise_) * 0.28,
            )
        )
        more = raise_ + d(-0.2, 0.3)
        reach = (d(0.1, 0.2), -side * d(0.05, 0.2), d(-0.05, 0.15)) if folded else (d(0, 0.22), 0, 0)
        hand = elbow + np.array(reach)
        hand += 0 if folded else np.array((0, side * math.sin(more) * 0.22, -math.cos(more) * 0.24))
        arm = [tube([(0, side * w * 0.95, shoulder - 0.03), elbow, hand], [t * 0.9, t * 0.65, t * 0.5])]
        arm.append(ellipsoid(hand, (0.035, 0.03, 0.07)))
        upper += [turn(turn(part, "y", lean, (0, 0, hip)), "z", twist) for part in arm]
    parts += upper
    if d.maybe(0.25):  # a skirt or coat
        parts.append(lathe([(w * 0.8, hip + 0.1), (w * d(1.1, 1.9), hip - d(0.2, 0.7))]))
    if d.maybe(0.15):
        parts.append(disc((0, 0, -0.02), d(0.2, 0.35), 0.05))
    return join(*parts)


def bust(d: Dice) -> Triangles:
    """Return a head, with or without neck and shoulders."""
    w, h = d(0.65, 0.82), d(0.95, 1.2)
    parts = [ellipsoid((0, 0, 0.15), (d(0.8, 0.95), w, h * 0.85)), ellipsoid((0.15, 0, -0.45), (0.6, w * 0.75, 0.55))]
    parts.append(
        loft([(0, 0, 0.1, 0.05), (0.3, 0.06, 0.13, 0.14), (0.42, 0.05, 0.05, 0.06)]) * (1, 1, 1) + (0.65, 0, -0.15)
    )
    nose = tube([(0.8, 0, 0.2), (0.98, 0, -0.15), (0.85, 0, -0.2)], [0.05, 0.12, 0.1])
    parts += [
        nose,
        mirror(ellipsoid((0, w * 1.02, -0.02), (0.16, 0.06, 0.24))),
        mirror(ellipsoid((0.72, 0.28, 0.12), (0.12, 0.14, 0.09))),
    ]
    parts.append(ellipsoid((0.78, 0, -0.5), (0.12, 0.25, 0.09)))
    if d.maybe(0.6):
        parts.append(ellipsoid((-0.15, 0, 0.35), (0.95, w * 1.15, h * d(0.75, 0.9)), num_rings=8))
    if d.maybe(0.25):
        parts.append(ellipsoid((-0.35, 0, -0.4), (0.6, w * 1.2, 1.1)))
    if d.maybe(0.15):
        parts.append(ellipsoid((0.45, 0, -0.85), (0.4, 0.4, 0.4)))
    if d.maybe(0.75):
        parts.append(bar((-0.1, 0, -1.5), (-0.05, 0, -0.4), 0.5, 0.45, corners=12))
    if d.maybe(0.55):
        shoulders = ellipsoid((-0.15, 0, -1.75), (d(0.5, 0.7), d(1.1, 1.7), d(0.4, 0.6)))
        parts.append(shoulders)
        if d.maybe(0.5):
            parts.append(lathe([(0.5, -2.6), (0.3, -2.4), (0.35, -2.0)]))
    return join(*parts)


def hand(d: Dice) -> Triangles:
    w, length, t = d(0.36, 0.46), d(0.42, 0.55), d(0.1, 0.16)
    parts = [ellipsoid((length * 0.9, 0, 0), (length, w, t), exponent=3)]
    lengths, curl, spread = [0.75, 0.9, 0.82, 0.6], d(-0.1, 0.9), d(2, 12)
    for n, size in enumerate(lengths):
        y = w * (0.78 - 0.52 * n)
        bend = curl * d(0.6, 1.3) + (d(0.5, 1.2) if d.maybe(0.1) else 0)
        points, angle = [np.zeros(3)], 0.0
        for share in (0.45, 0.3, 0.25):
            angle += bend
            points.append(points[-1] + np.array((math.cos(angle), 0, -math.sin(angle))) * size * share)
        finger = tube(np.array(points), [0.1, 0.095, 0.085, 0.06])
        parts.append(turn(finger, "z", spread * (1.5 - n)) + (length * 1.75, y, 0))
    thumb = tube([(0, 0, 0), (0.3, 0.2, -0.1 * curl), (0.55, 0.28, -0.25 * curl)], [0.14, 0.11, 0.07])
    parts.append(turn(thumb, "z", d(-15, 30)) + (length * 0.6, w * 0.7, 0))
    if d.maybe(0.7):
        parts.append(bar((-d(0.2, 1.2), 0, 0), (length * 0.3, 0, 0), d(0.2, 0.28), 0.22))
    return turn(join(*parts) * (1, 1 if d.maybe(0.5) else -1, 1), "y", -90 if d.maybe(0.6) else 0)


def teddy_bear(d: Dice) -> Triangles:
    r = d(0.45, 0.6)
    belly = ellipsoid((0, 0, r * 1.1), (r * 0.85, r * d(0.85, 1), r * 1.15))
    z, size = r * 2.5, r * d(0.7, 0.9)
    parts = [
        belly,
        ellipsoid((0.05, 0, z), (size * 0.9, size, size * 0.9)),
        mirror(ellipsoid((0, size * 0.75, z + size * 0.75), (size * 0.2, size * 0.38, size * 0.38))),
    ]
    parts.append(ellipsoid((size * 0.85, 0, z - size * 0.2), (size * 0.4, size * 0.45, size * 0.35)))
    arm = tube([(0, r * 0.75, r * 1.9), (d(0.1, 0.5), r * d(1.0, 1.6), r * d(1.0, 2.0))], [r * 0.25, r * 0.28])
    leg = tube([(r * 0.2, r * 0.5, r * 0.3), (r * d(1.0, 1.5), r * d(0.6, 1.0), r * 0.25)], [r * 0.35, r * 0.33])
    if d.maybe(0.35):
        leg = tube([(0, r * 0.45, r * 0.4), (0.05, r * 0.5, -r * 0.7)], [r * 0.35, r * 0.33])
    return join(*parts, mirror(arm), mirror(leg))


MAKERS = {
    "person": person,
    "head": bust,
    "hand": hand,
    "teddy bear": teddy_bear,
}
