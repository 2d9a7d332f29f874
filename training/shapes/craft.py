"""What flies and what floats. z is up, the front looks along x."""

from __future__ import annotations

import numpy as np

from training.shapes.parts import (
    Dice,
    Triangles,
    aim,
    around,
    bar,
    box,
    disc,
    ellipsoid,
    join,
    lathe,
    loft,
    mirror,
    plate,
    sheet,
    skin,
    spans,
    tube,
    turn,
)


def wing(root: float, tip: float, span: float, sweep: float, rise: float) -> Triangles:
    """Return a thin tapered wing from y 0 to `span`; chords along x, the leading edge swept back."""
    t = 0.06 * root + 0.01
    inner = np.array([(0, 0, 0), (-root * 0.3, 0, t), (-root, 0, 0), (-root * 0.3, 0, -t * 0.5)])
    outer = inner * (tip / root, 1, tip / root) + (-sweep, span, rise)
    return skin(np.stack((inner, outer)))


def airplane(d: Dice) -> Triangles:
    kind = d.pick("jet", "jet", "jet", "propeller", "fighter", "biplane", "glider")
    r = d(0.14, 0.24) * {"fighter": 0.9, "glider": 0.5}.get(kind, 1)
    nose, tail, up = 1.0, -d(1.0, 1.4), d(0.3, 0.9) * r
    blunt = d(0.04, 0.4)
    stations = [
        (nose, -r * 0.2, 0.02, 0.02),
        (nose - blunt, 0, r * d(0.7, 0.95), r * d(0.7, 0.95)),
        (0.4, 0, r, r),
        (tail * 0.4, 0, r, r),
        (tail * 0.8, up * 0.7, r * 0.5, r * 0.55),
        (tail, up, 0.02, 0.03),
    ]
    parts = [loft(stations, smooth=18)]
    span = {"fighter": d(0.5, 0.8), "glider": d(1.8, 2.6), "propeller": d(1.0, 1.4), "biplane": d(0.9, 1.2)}.get(
        kind, d(0.9, 1.4)
    )
    root = {"fighter": d(0.8, 1.3), "glider": 0.25}.get(kind, d(0.3, 0.55))
    sweep = {"fighter": d(0.4, 0.8), "jet": d(0.35, 0.8)}.get(kind, d(-0.02, 0.1))
    level = {"biplane": -r * 0.6, "propeller": d(-0.8, 0.9) * r}.get(kind, d(-0.8, 0.1) * r)
    place = (root * 0.5 + d(-0.1, 0.25), 0, level)
    one = wing(
        root, root * d(0.2, 0.6) if kind != "propeller" else root * d(0.6, 1), span, sweep, span * d(-0.02, 0.12)
    )
    parts.append(mirror(one + place))
    if kind == "biplane":
        parts.append(mirror(one + (place[0] + 0.05, 0, r * 1.6)))
        parts.append(
            mirror(
                join(*(bar((place[0] - 0.1, y, level), (place[0] - 0.1, y, r * 1.6), 0.01) for y in (0.15, span * 0.7)))
            )
        )
    fin = turn(wing(d(0.25, 0.4), d(0.1, 0.2), d(0.28, 0.5), d(0.1, 0.3), 0), "x", 90) + (tail + 0.38, 0, up)
    twin = kind == "fighter" and d.maybe(0.5)
    parts.append(mirror(turn(fin, "x", 12) + (0, r * 0.8, 0)) if twin else fin)
    t_tail = d.maybe(0.2) and kind != "fighter"
    parts.append(
        mirror(
            wing(d(0.2, 0.35), d(0.1, 0.2), d(0.3, 0.55), d(0.02, 0.25), 0)
            + (tail + 0.3, 0, up + (0.33 if t_tail else d(-0.02, 0.05)))
        )
    )
    if kind == "jet":
        pod = lathe([(0.05, 0), (0.08, 0.03), (0.08, 0.2), (0.05, 0.3)])
        pod = aim(pod, "x") * (d(0.8, 1.3), 1, 1)
        if d.maybe(0.25):
            parts.append(mirror(pod + (tail * 0.7, r + 0.08, up * 0.6)))
        else:
            for y in [span * 0.35, span * 0.6][: d.whole(1, 2)]:
                parts.append(mirror(pod + (place[0] - sweep * y / span, y, level - 0.1 + span * 0.03)))
    if kind in ("propeller", "biplane"):
        blades = around(box((0, 0, 0.16), (0.015, 0.05, 0.32)), d.whole(2, 4), "x")
        spots = (
            [(nose + 0.02, 0, 0)]
            if kind == "biplane" or d.maybe(0.6)
            else [(place[0] + 0.15, s * span * 0.35, level) for s in (-1, 1)]
        )
        parts += [blades + spot for spot in spots]
        parts += [
            loft([(0, 0, 0.07, 0.07), (-0.4, 0, 0.04, 0.04)]) + spot for spot in spots[1:] + spots[:1] if len(spots) > 1
        ]
    if d.maybe(0.4 if kind != "jet" else 0.2):
        gear = join(bar((0, 0, 0), (0, 0, -r - 0.1), 0.015), disc((0, 0, -r - 0.12), 0.06, 0.04, axis="y"))
        parts += [mirror(gear + (0.05, 0.2, level * 0.3)), gear + (nose * 0.75, 0, 0)]
    if kind in ("fighter", "glider", "propeller"):
        parts.append(ellipsoid((d(0.2, 0.5), 0, r * 0.8), (d(0.15, 0.3), r * 0.6, r * 0.5)))
    return join(*parts)


def helicopter(d: Dice) -> Triangles:
    r, boom = d(0.3, 0.45), d(1.2, 1.9)
    body = loft(
        [
            (0.75, -0.1, 0.05, 0.05),
            (0.55, -0.05, r * 0.8, r * 0.8),
            (0.1, 0, r, r),
            (-0.4, 0.05, r * 0.8, r * 0.8),
            (-0.7, 0.15, 0.12, 0.14),
            (-boom, 0.25, 0.05, 0.06),
        ],
        smooth=16,
    )
    z = r + d(0.12, 0.3)
    blade = box((d(0.7, 1.0), 0, 0), (d(1.4, 2.0), d(0.06, 0.12), 0.015))
    rotor = turn(around(blade, d.whole(2, 5)), "z", d(0, 90)) + (0, 0, z)
    small = around(box((0, 0, 0.14), (0.05, 0.01, 0.28)), d.whole(2, 4), "y") + (-boom, 0.06, 0.3)
    parts = [body, rotor, bar((0, 0, r * 0.6), (0, 0, z), 0.04), small]
    parts.append(turn(wing(0.2, 0.12, 0.3, 0.15, 0), "x", 90) + (-boom + 0.12, 0, 0.25))
    if d.maybe(0.7):
        parts.append(mirror(wing(0.18, 0.12, 0.3, 0.03, 0) + (-boom * 0.75, 0, 0.18)))
    if d.maybe(0.65):
        y, low = r * 0.9, -r - d(0.12, 0.25)
        skid = tube([(0.7, y, low + 0.08), (0.55, y, low), (-0.5, y, low)], 0.025)
        parts.append(mirror(join(skid, *(bar((x, y, low), (x, y * 0.4, -r * 0.7), 0.02) for x in (-0.25, 0.3)))))
    else:
        parts.append(mirror(disc((-0.2, r * 0.9, -r), 0.12, 0.08, axis="y")))
        parts.append(disc((0.45, 0, -r), 0.1, 0.08, axis="y"))
    if d.maybe(0.5):
        parts.append(spans((-0.4, -0.15, r * 0.5), (0.2, 0.15, z - 0.05)))
    return join(*parts)


def rocket(d: Dice) -> Triangles:
    r, h, tip = d(0.08, 0.2), d(0.8, 1.6), d(0.15, 0.5)
    t = np.linspace(0, 1, 8)
    ogive = [(r * (1 - s**1.6), h + tip * s) for s in t]
    waist = [(r * d(0.5, 1), 0), (r * d(1, 1.3), h * 0.3), (r, h * 0.8)] if d.maybe(0.4) else [(r, 0)]
    parts = [lathe([*waist, *ogive]), lathe([(r * 0.4, 0), (r * 0.8, -d(0.06, 0.2))])]
    fin = turn(plate([(0, 0), (d(0.1, 0.25), -d(0, 0.15)), (d(0.1, 0.25), 0.1), (0, d(0.2, 0.4))], 0.015), "x", 90)
    parts.append(around(fin + (r * 0.95, 0, 0.02), d.whole(3, 4)))
    if d.maybe(0.35):
        boost = lathe([(r * 0.45, 0), (r * 0.45, h * 0.5), (r * 0.2, h * 0.6), (0, h * 0.66)])
        parts.append(around(boost + (r * 1.45, 0, 0), d.whole(2, 4)))
    if d.maybe(0.3):
        parts.append(disc((0, 0, h * d(0.3, 0.7)), r * 1.08, 0.04))
    return join(*parts)


def hull(d: Dice, length: float, w: float, depth: float) -> Triangles:
    """Return an open boat hull: bow at +x, deck at z 0."""
    t = np.linspace(-1, 1, 20)
    bow, stern = d(1.5, 4), d(0.4, 1)
    half = w * np.where(t > 0, 1 - np.abs(t) ** bow, 1 - (1 - stern) * np.abs(t) ** 3) + 0.005
    sheer = d(0, 0.25) * depth * t**2
    keel = d(0.8, 1) * depth * (1 - 0.5 * np.clip(t, 0, 1) ** 4)
    u = np.linspace(0, 1, 6)
    curve = (1 - u ** d(1.5, 4)) ** d(0.4, 1)
    rows = np.stack(
        [
            np.stack((t * length + 0.12 * length * np.clip(t, 0, 1) * (1 - a), half * c, sheer - keel * a), axis=1)
            for a, c in zip(u, curve, strict=True)
        ]
    )
    return mirror(sheet(rows))


def ship(d: Dice) -> Triangles:
    length, w, depth = d(1.2, 2.2), d(0.18, 0.4), d(0.15, 0.35)
    parts = [
        hull(d, length, w, depth),
        spans((-length * 0.95, -w * 0.8, -depth * 0.2), (length * 0.6, w * 0.8, -depth * 0.12)),
    ]
    kind = d.pick("ferry", "cargo", "war", "tug", "motorboat")
    if kind == "ferry":
        x0, x1, z = -length * 0.8, length * d(0.3, 0.6), 0.0
        for n in range(d.whole(2, 5)):
            parts.append(spans((x0 + 0.1 * n, -w * 0.85, z), (x1 - 0.12 * n, w * 0.85, z + 0.12)))
            z += 0.13
        parts += [
            bar((x, 0, z - 0.05), (x - 0.06, 0, z + d(0.15, 0.35)), 0.07) for x in np.linspace(-0.5, 0.3, d.whole(1, 4))
        ]
    elif kind == "cargo":
        parts.append(spans((-length * 0.9, -w * 0.8, 0), (-length * 0.65, w * 0.8, d(0.3, 0.55))))
        for x in np.arange(-length * 0.6, length * 0.6, 0.22):
            if d.maybe(0.8):
                parts.append(spans((x, -w * 0.75, -0.05), (x + 0.2, w * 0.75, 0.1 * d.whole(1, 3))))
    elif kind == "war":
        parts += [
            box((0, 0, 0.15), (length * 0.5, w * 1.1, 0.3), taper=0.6),
            bar((0, 0, 0.2), (0, 0, 0.75), 0.03),
            box((0.1, 0, 0.4), (0.2, 0.2, 0.2)),
        ]
        for x in (length * 0.5, -length * 0.6):
            parts.append(join(box((x, 0, 0.06), (0.2, 0.18, 0.12)), bar((x, 0.03, 0.08), (x + 0.3, 0.03, 0.12), 0.015)))
    else:
        h = d(0.2, 0.4)
        parts.append(box((d(-0.4, 0.2) * length, 0, h / 2), (length * d(0.3, 0.6), w * 1.3, h), taper=d(0.6, 1)))
        if kind == "tug":
            parts += [bar((-0.3, 0, h), (-0.3, 0, h + 0.3), 0.08), bar((0, 0, h), (0, 0, h + 0.5), 0.02)]
    if d.maybe(0.5):
        parts.append(bar((0.2, 0, 0.1), (0.2, 0, d(0.5, 1.0)), 0.015))
    return join(*parts)


def sailboat(d: Dice) -> Triangles:
    length, w, depth = d(0.8, 1.3), d(0.2, 0.38), d(0.15, 0.3)
    parts = [hull(d, length, w, depth), spans((-length * 0.8, -w * 0.6, -0.05), (length * 0.5, w * 0.6, -0.03))]
    masts = [(d(0, 0.3), d(1.4, 2.6))] + ([(-length * 0.55, d(1.0, 1.8))] if d.maybe(0.25) else [])
    square = d.maybe(0.2)
    for x, h in masts:
        parts.append(bar((x, 0, -depth * 0.5), (x, 0, h), 0.02))
        belly, lean = d(0, 0.3), d(0.5, 0.9) * length
        u = np.linspace(0, 1, 7)
        if square:
            z0, half = 0.25, d(0.3, 0.5)
            rows = [
                [(x + belly * (1 - v * v), half * v, z) for v in np.linspace(-1, 1, 7)]
                for z in np.linspace(z0, h * 0.9, 5)
            ]
            parts += [sheet(rows), bar((x, -half, h * 0.9), (x, half, h * 0.9), 0.015)]
            continue
        rows = [
            [(x - 0.03 - lean * s * (1 - v), belly * s * (1 - s) * (1 - v) * 2, 0.15 + (h - 0.2) * v) for s in u]
            for v in u
        ]
        parts += [sheet(rows), bar((x, 0, 0.15), (x - lean, 0, 0.15), 0.015)]
        if d.maybe(0.7):
            parts.append(
                sheet(
                    [
                        [(x + (length - x) * s * (1 - v), belly * s * (1 - s), 0.1 + (h * 0.85 - 0.1) * v) for s in u]
                        for v in u
                    ]
                )
            )
    if d.maybe(0.5):
        parts.append(turn(wing(0.3, 0.2, d(0.3, 0.6), 0.05, 0), "x", -90) + (0.1, 0, -depth * 0.8))
    if d.maybe(0.5):
        parts.append(box((-0.1, 0, 0.06), (length * 0.5, w, 0.14), taper=0.8))
    return join(*parts)


MAKERS = {
    "airplane": airplane,
    "helicopter": helicopter,
    "rocket": rocket,
    "ship": ship,
    "sailboat": sailboat,
}
