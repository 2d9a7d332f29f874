"""What drives on roads and rails. z is up, the front looks along x."""

from __future__ import annotations

import numpy as np

from training.shapes.parts import (
    Array,
    Dice,
    Triangles,
    aim,
    bar,
    box,
    disc,
    ellipsoid,
    hoop,
    join,
    loft,
    mirror,
    sheet,
    skin,
    spans,
    turn,
)


def wheel(d: Dice, r: float, width: float) -> Triangles:
    """Return a car wheel about the y axis with its hub at the origin."""
    parts = [
        disc((0, 0, 0), r, width, axis="y", num_corners=18),
        disc((0, 0, 0), r * d(0.3, 0.7), width * 1.15, axis="y"),
    ]
    if d.maybe(0.3):
        parts.append(turn(hoop((0, 0, 0), r * 0.85, r * 0.18), "x", 0))
    return join(*parts)


def axles(d: Dice, places: list[float], y: float, r: float, width: float) -> Triangles:
    one = wheel(d, r, width)
    return mirror(join(*(one + (x, y, r) for x in places)))


def side_body(lower: Array, upper: Array, w: float, roof: float, *, rings: int = 6) -> Triangles:
    """Return a hull between two side curves `(n, 2)` of x and z; its width falls from `w` to `roof` with height."""
    low, high = lower[:, 1], upper[:, 1]
    ring: list[Array] = []
    top = high.max()
    waist = low.min() + 0.55 * (top - low.min())
    for share in np.linspace(0, 1, rings):
        z = low + share * (high - low)
        narrow = np.clip((z - waist) / (top - waist + 1e-9), 0, 1)
        ring.append(np.column_stack((upper[:, 0], w + (roof - w) * narrow, z)))
    half = np.stack(ring, axis=1)  # (n, rings, 3)
    grid = np.concatenate((half, half[:, ::-1] * (1, -1, 1)), axis=1)
    return skin(grid)


def car(d: Dice) -> Triangles:
    length, w, r = d(1.6, 2.5), d(0.7, 0.95), d(0.28, 0.4)
    ground, belt = d(0.15, 0.35), d(0.75, 1.05)
    kind = d.pick("sedan", "sedan", "hatchback", "suv", "sports", "van", "convertible", "beetle", "estate")
    tall = {"sports": d(0.3, 0.4), "suv": d(0.6, 0.8), "van": d(0.8, 1.1), "convertible": 0.02}.get(kind, d(0.4, 0.6))
    hood, screen = length * d(0.4, 0.6), length * d(0.1, 0.32)
    back = {"sedan": -d(0.35, 0.5), "sports": -d(0.3, 0.5), "hatchback": -d(0.6, 0.75), "beetle": -d(0.3, 0.4)}.get(
        kind, -d(0.75, 0.9)
    )
    tail = {"sedan": -d(0.62, 0.75), "sports": -d(0.7, 0.9), "beetle": -0.9}.get(kind, -0.97)
    if kind == "van":
        hood, screen = length * d(0.75, 0.9), length * d(0.5, 0.75)
    nose = belt - d(0.05, 0.3)
    x = [length, length * 0.97, hood, screen, back * length, tail * length, -length * 0.97, -length]
    z = [ground + 0.2, nose, belt, belt + tall, belt + tall * d(0.92, 1.02), belt, belt - d(0, 0.1), ground + 0.25]
    xs = np.linspace(length, -length, 40)
    upper = np.interp(-xs, -np.array(x), np.array(z))
    if d.maybe(0.7):
        smooth = np.convolve(np.pad(upper, 3, mode="edge"), np.ones(7) / 7, "valid")
        upper = np.where(np.arange(40) % 39 == 0, upper, smooth)
    front, rear = length * d(0.55, 0.68), -length * d(0.5, 0.68)
    low = np.full(40, ground)
    if d.maybe(0.6):  # wheel arches
        for place in (front, rear):
            low = np.maximum(
                low,
                r + np.sqrt(np.clip((r * 1.15) ** 2 - (xs - place) ** 2, 0, None)) * (np.abs(xs - place) < r * 1.15),
            )
        low = np.minimum(low, upper - 0.05)
    body = side_body(np.column_stack((xs, low)), np.column_stack((xs, upper)), w, w * d(0.65, 0.9))
    parts = [body, axles(d, [front, rear], w - 0.1, r, d(0.16, 0.28))]
    if d.maybe(0.5):
        parts.append(mirror(ellipsoid((screen, w * 1.05, belt + 0.08), (0.06, 0.12, 0.07))))
    if d.maybe(0.4):
        parts.append(mirror(ellipsoid((length * 0.96, w * 0.7, nose - 0.1), (0.06, 0.13, 0.09))))
        parts.append(spans((length * 0.98, -w * 0.95, ground), (length * 1.03, w * 0.95, ground + 0.2)))
    if kind in ("sports", "convertible") and d.maybe(0.5):
        parts.append(spans((-length, -w * 0.9, belt + 0.1), (-length * 0.9, w * 0.9, belt + 0.14)))
    if kind == "convertible" or d.maybe(0.3):
        seats = join(box((0, 0.35, belt), (0.15, 0.45, 0.6)), box((0.25, 0.35, belt - 0.25), (0.5, 0.45, 0.15)))
        parts += [mirror(seats), mirror(seats + (-0.8, 0, 0)), hoop((0.6, 0.35, belt), 0.17, 0.02, plane="yz")]
    if kind == "convertible":
        glass = [
            [(screen, -w * 0.8, belt), (screen, w * 0.8, belt)],
            [(screen - 0.4, -w * 0.7, belt + 0.4), (screen - 0.4, w * 0.7, belt + 0.4)],
        ]
        parts.append(sheet(glass))
    return join(*parts)


def truck(d: Dice) -> Triangles:
    w, r, floor = d(0.85, 1.25), d(0.35, 0.55), d(0.7, 1.1)
    cab, cab_h, load = d(1.0, 1.8), d(1.3, 2.2), d(7, 12) if d.maybe(0.15) else d(2, 7)
    kind = d.pick("box", "box", "tank", "flat", "dump", "pickup", "mixer")
    parts = [spans((0, -w * 0.4, floor * 0.7), (-load, w * 0.4, floor))]
    xs = np.linspace(cab, 0, 14)
    nosed = d.maybe(0.5)
    hood = cab * d(0.4, 0.65) if nosed else cab * 0.12
    tops = np.interp(
        cab - xs,
        [0, 0.05, hood, hood + 0.3, cab],
        [
            floor,
            floor + cab_h * (0.45 if nosed else 0.6),
            floor + cab_h * (0.55 if nosed else 0.8),
            floor + cab_h,
            floor + cab_h,
        ],
    )
    parts.append(
        side_body(np.column_stack((xs, np.full(14, floor * 0.5))), np.column_stack((xs, tops)), w, w * d(0.85, 1))
    )
    end, gap = -load, d(0.05, 0.4)
    tall = d(1.2, 2.6)
    if kind == "box":
        parts.append(spans((end, -w, floor), (-gap, w, floor + max(tall, cab_h * 0.8))))
    elif kind == "tank":
        parts.append(
            aim(disc((0, 0, 0), 1, 1), "x") * (load - gap, w * 0.95, tall * 0.45)
            + ((end - gap) / 2, 0, floor + tall * 0.45)
        )
    elif kind == "mixer":
        drum = loft(
            [(-gap, 0, 0.5, 0.5), (end * 0.4, 0, w, w), (end * 0.9, 0.3, 0.5, 0.5), (end, 0.4, 0.3, 0.3)], smooth=9
        )
        parts.append(drum + (0, 0, floor + w))
    else:
        side = d(0.05, 0.5) if kind != "flat" else 0.08
        bed = [
            spans((end, -w, floor), (-gap, w, floor + 0.1)),
            mirror(spans((end, w - 0.05, floor), (-gap, w, floor + side))),
        ]
        bed += [
            spans((end, -w, floor), (end + 0.05, w, floor + side)),
            spans((-gap - 0.05, -w, floor), (-gap, w, floor + side * 1.4)),
        ]
        dumped = join(*bed)
        parts.append(turn(dumped, "y", d(10, 45), (end, 0, floor)) if kind == "dump" and d.maybe(0.3) else dumped)
    rear = [end * 0.85] + [end * 0.85 + 2.3 * r * n for n in range(1, d.whole(1, 3))]
    parts.append(axles(d, [cab * d(0.45, 0.75), *rear], w * 0.88, r, d(0.25, 0.4)))
    if d.maybe(0.4):
        parts.append(mirror(box((cab * 0.7, w * 1.12, floor + cab_h * 0.6), (0.05, 0.15, 0.35))))
    return join(*parts)


def bus(d: Dice) -> Triangles:
    length, w, low = d(3, 6.5), d(1.1, 1.35), d(0.2, 0.5)
    top = low + (d(3.4, 4.2) if d.maybe(0.25) else d(2.2, 2.9))
    xs = np.linspace(length, -length, 30)
    lean = d(0, 0.5)
    upper = np.interp(length - xs, [0, lean + 0.05, 2 * length - 0.15, 2 * length], [low + 1.0, top, top, low + 1.0])
    if d.maybe(0.2):  # a school bus
        upper = np.interp(length - xs, [0, 1.0, 1.4, 2 * length], [low + 1.0, low + 1.2, top, top])
    parts = [side_body(np.column_stack((xs, np.full(30, low))), np.column_stack((xs, upper)), w, w * d(0.88, 1))]
    count, pane, z = d.whole(5, 11), d(0.6, 0.85), low + (top - low) * d(0.5, 0.6)
    step = 2 * length * 0.85 / count
    out = d(-0.03, 0.03)
    for n in range(count):
        x = -length * 0.85 + (n + 0.5) * step
        parts.append(mirror(box((x, w + out, z), (step * pane, 0.03, (top - low) * 0.28))))
    r = d(0.42, 0.55)
    parts.append(axles(d, [length * d(0.5, 0.75), -length * d(0.45, 0.65)], w * 0.93, r, 0.3))
    if d.maybe(0.3):
        parts.append(spans((-length * 0.5, -w * 0.6, top), (length * 0.2, w * 0.6, top + 0.25)))
    if d.maybe(0.4):
        parts.append(mirror(box((length + 0.1, w * 1.05, low + 1.7), (0.1, 0.12, 0.4))))
    return join(*parts)


def train(d: Dice) -> Triangles:
    w, low = d(1.0, 1.5), d(0.5, 0.9)
    length = d(4, 8)
    r = d(0.35, 0.5)
    if d.maybe(0.4):  # a steam engine
        boiler, h = d(0.6, 0.9), low + d(0.8, 1.1)
        parts = [
            disc((length * 0.2, 0, h), boiler, length * 1.1, axis="x"),
            spans((-length * 0.7, -w, low), (-length * 0.3, w, h + boiler + 0.7)),
        ]
        parts += [
            bar((length * 0.6, 0, h), (length * 0.6, 0, h + boiler + d(0.5, 1)), d(0.1, 0.2), d(0.12, 0.35)),
            ellipsoid((0.1 * length, 0, h + boiler), (0.3, 0.3, 0.35)),
        ]
        parts += [
            spans((-length * 0.7, -w, low - 0.15), (length * 0.8, w, low)),
            spans((-length * 0.75, -w * 1.1, h + boiler + 0.7), (-length * 0.25, w * 1.1, h + boiler + 0.8)),
        ]
        big = d(0.5, 0.85)
        parts.append(
            mirror(
                join(
                    *(
                        disc((x, w * 0.9, big), big, 0.15, axis="y")
                        for x in (-length * 0.5, -length * 0.2, length * 0.1)
                    )
                )
            )
        )
        parts.append(
            mirror(join(*(disc((x, w * 0.9, 0.35), 0.35, 0.15, axis="y") for x in (length * 0.4, length * 0.6))))
        )
        if d.maybe(0.5):
            parts.append(box((length * 0.9, 0, 0.45), (0.5, 2 * w, 0.6), taper=0.4))
        return join(*parts)
    top = low + d(2.3, 3)
    parts = []
    cars, nose = d.whole(1, 3), d(0.2, 2.5)
    for n in range(cars):
        x0 = -n * (2 * length + 0.5)
        xs = np.linspace(length, -length, 24)
        front = nose if n == 0 else 0.1
        upper = np.interp(
            length - xs, [0, front, 2 * length - 0.1, 2 * length], [low + (0.8 if n == 0 else 2), top, top, low + 2]
        )
        body = side_body(np.column_stack((xs, np.full(24, low))), np.column_stack((xs, upper)), w, w * d(0.8, 1))
        bogies = axles(d, [s * length * 0.7 + o for s in (-1, 1) for o in (-0.5, 0.5)], w * 0.7, r, 0.15)
        panes = [mirror(box((x, w, low + 1.6), (0.8, 0.05, 0.8))) for x in np.linspace(-length * 0.8, length * 0.7, 8)]
        parts.append(join(body, bogies, *panes) + (x0, 0, 0))
    return join(*parts)


MAKERS = {
    "car": car,
    "truck": truck,
    "bus": bus,
    "train": train,
}
