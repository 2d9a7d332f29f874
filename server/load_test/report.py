"""The report of a load test as one HTML file that needs nothing else: tables, and plots drawn as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from server.load_test.measure import Measurement
from server.load_test.summary import table

WIDTH, HEIGHT, LEFT, BOTTOM = 720, 260, 64, 36
COLOURS = {
    "text": "#4c78a8", "image": "#e4572e", "audio": "#2a9d8f", "video": "#b279a2", "point_cloud": "#c28e0e",
    "first token": "#4c78a8", "between tokens": "#2a9d8f", "total": "#e4572e",
}  # fmt: skip
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
table { display: block; overflow-x: auto; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; } svg text { fill: currentColor; font-size: 12px; }
.failed { color: #d33; }
"""

Points = Sequence[tuple[float, float]]


def html_report(facts: Mapping[str, Any], summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> str:
    """Return the page. `facts` say what was asked of whom, for whoever reads it later."""
    answered = [m for m in measurements if m.error is None]
    kinds = sorted({m.kind for m in answered})
    first = {kind: [(m.due_s, 1000 * (m.first_token_s or 0)) for m in answered if m.kind == kind] for kind in kinds}
    waits = {
        "first token": [1000 * (m.first_token_s or 0) for m in answered],
        "between tokens": [1000 * gap for m in answered for gap in m.gaps_s],
        "total": [1000 * m.total_s for m in answered],
    }
    shares = {name: _distribution(values) for name, values in waits.items() if values}
    parts = [
        "<h1>Load test</h1>",
        _rows([(name, str(value)) for name, value in facts.items()]),
        "<h2>What users waited for, in milliseconds</h2>",
        _rows(table(dict(summary)), has_header=True),
        f"<p>{summary['requests_per_s']} requests and {summary['completion_tokens_per_s']} tokens a second over "
        f"{summary['duration_s']} s.</p>",
        _errors(summary["errors"]),
        _plot("First token by the time of the request", first, ("seconds from the start", "ms"), joins=False),
        _plot("Share of waits that were no longer", shares, ("ms, logarithmic", "%"), joins=True),
    ]
    head = f'<meta charset="utf-8"><title>Load test</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return `(log10 of the wait, percent no longer)`, at most 200 points of it."""
    shares = np.linspace(0, 100, min(200, max(2, len(values))))
    waits = np.percentile(np.maximum(values, 0.01), shares)
    return list(zip(np.log10(waits).tolist(), shares.tolist(), strict=True))


def _errors(errors: Mapping[str, int]) -> str:
    if not errors:
        return "<p>Every request was answered.</p>"
    items = "".join(f"<li>{count} x {escape(str(error))}</li>" for error, count in errors.items())
    return f'<h2>Failures</h2><ul class="failed">{items}</ul>'


def _rows(rows: Sequence[Sequence[str]], *, has_header: bool = False) -> str:
    lines = []
    for place, row in enumerate(rows):
        tag = "th" if has_header and place == 0 else "td"
        lines.append("<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _plot(title: str, series: Mapping[str, Points], axes: tuple[str, str], *, joins: bool) -> str:
    """Return one plot: dots, or with `joins` lines over a logarithmic x."""
    points = [point for of_one in series.values() for point in of_one]
    if not points:
        return ""
    (x_low, x_high), y_high = _range([x for x, _ in points]), max(y for _, y in points) or 1.0

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - x_low) / (x_high - x_low)
        return LEFT + across * (WIDTH - LEFT - 10), (HEIGHT - BOTTOM) * (1 - point[1] / (1.05 * y_high)) + 4

    drawn = [_axis(x_low, x_high, y_high, place, is_log=joins)]
    for name, of_one in series.items():
        dots = [place(point) for point in of_one]
        colour = COLOURS.get(name, "#888")
        if joins:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
            drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        else:
            drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" fill-opacity=".7"/>' for x, y in dots]
    legend = "".join(
        f'<tspan fill="{COLOURS.get(name, "#888")}" font-weight="bold" dx="12">{escape(name)}</tspan>'
        for name in series
    )
    drawn.append(f'<text x="{LEFT}" y="{HEIGHT - 2}">{escape(axes[0])}{legend}</text>')
    drawn.append(f'<text x="4" y="14">{escape(axes[1])}</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<h2>{escape(title)}</h2><svg {size} role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'


def _axis(x_low: float, x_high: float, y_high: float, place: Any, *, is_log: bool) -> str:
    """Return a frame of four lines each way, with their values."""
    drawn = []
    for step in range(5):
        x_value, y_value = x_low + (x_high - x_low) * step / 4, y_high * step / 4
        x, _ = place((x_value, 0))
        _, y = place((x_low, y_value))
        drawn.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8883"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{y_value:.4g}</text>')
        shown = 10**x_value if is_log else x_value
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{shown:.3g}</text>')
    return "".join(drawn)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, low + 0.5)
