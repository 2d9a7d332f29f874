"""The report of an evaluation, one HTML file that needs no other: numbers, confusion, examples with their media."""

from __future__ import annotations

import base64
import io
import mimetypes
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from server.evaluation.outcome import Outcome, Verdict
from server.load_test.report import STYLE

SIDE_PX = 160
MAX_CLIP_BYTES = 300_000
MAX_MATRIX = 30
MAX_PAIRS = 40
NUM_EXAMPLES = 24
OWN_STYLE = """
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem; }
.examples figure { margin: 0; border-top: 4px solid #2a9d8f; padding: .4rem 0; overflow-wrap: anywhere; }
.examples figure.wrong { border-color: #d33; }
.examples img, .examples video, .examples audio { max-width: 100%; border-radius: 4px; }
figcaption small { opacity: .7; } td.hit { background: #2a9d8f55; } td.miss { background: #dd333333; }
"""


def html_report(title: str, facts: Mapping[str, Any], outcome: Outcome) -> str:
    """Return the page. `facts` say what was asked of whom, for whoever reads it later."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        table([(name, str(value)) for name, value in facts.items()]),
        "<h2>In numbers</h2>",
        table([(name.replace("_", " "), number(value)) for name, value in outcome.metrics.items()]),
        _groups(outcome.groups),
        _confusion(outcome),
        _examples("Wrong", [v for v in outcome.verdicts if not v.is_right]),
        _examples("Right", [v for v in outcome.verdicts if v.is_right]),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}{OWN_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def number(value: Any) -> str:
    """Return a number as people read it; "-" for what could not be measured."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{number(value[0])} to {number(value[1])}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: Sequence[Sequence[str]], *, has_header: bool = False) -> str:
    """Return the rows as a table."""
    lines = []
    for i, row in enumerate(rows):
        cell = "th" if has_header and i == 0 else "td"
        lines.append(f"<tr>{''.join(f'<{cell}>{escape(value)}</{cell}>' for value in row)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def group_rows(groups: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return a header and one row for each group."""
    columns = list(next(iter(groups.values()), {}))
    header = ["", *(name.replace("_", " ") for name in columns)]
    return [header, *([name, *(number(row[column]) for column in columns)] for name, row in groups.items())]


def _groups(groups: Mapping[str, Mapping[str, Any]]) -> str:
    return f"<h2>By group</h2>{table(group_rows(groups), has_header=True)}" if groups else ""


def _confusion(outcome: Outcome) -> str:
    """Return what was said instead of what: a matrix where it fits a page, else the most frequent pairs."""
    expected = sorted({v.expected for v in outcome.verdicts})
    said = sorted({v.said for v in outcome.verdicts} | {*expected})
    if len(said) < 2:
        return ""
    if len(said) > MAX_MATRIX:
        pairs = outcome.confusion()
        rows = [[pair["expected"], pair["said"], str(pair["count"])] for pair in pairs[:MAX_PAIRS]]
        heading = f"<h2>Confusion: the {len(rows)} most frequent of {len(pairs)}</h2>"
        return heading + table([["expected", "said", "times"], *rows], has_header=True) if rows else ""
    counts: dict[tuple[str, str], int] = {}
    for verdict in outcome.verdicts:
        pair = (verdict.expected, verdict.said)
        counts[pair] = counts.get(pair, 0) + 1
    lines = [f"<tr><th>expected \\ said</th>{''.join(f'<th>{escape(name)}</th>' for name in said)}</tr>"]
    for row in expected:
        cells = "".join(_cell(counts.get((row, column), 0), hits=row == column) for column in said)
        lines.append(f"<tr><td>{escape(row)}</td>{cells}</tr>")
    return f"<h2>Confusion</h2><table>{''.join(lines)}</table>"


def _cell(count: int, *, hits: bool) -> str:
    colour = "" if not count else ' class="hit"' if hits else ' class="miss"'
    return f"<td{colour}>{count or ''}</td>"


def _examples(heading: str, verdicts: Sequence[Verdict]) -> str:
    """Return up to `NUM_EXAMPLES`, evenly from all of them."""
    if not verdicts:
        return ""
    step = max(1, len(verdicts) // NUM_EXAMPLES)
    shown = verdicts[::step][:NUM_EXAMPLES]
    figures = "".join(_figure(verdict) for verdict in shown)
    return f'<h2>{heading}: {len(shown)} of {len(verdicts)}</h2><div class="examples">{figures}</div>'


def _figure(verdict: Verdict) -> str:
    question = verdict.answer.question
    lines = [
        _medium(question.kind, question.path),
        f"<small>{escape(question.text)}</small>",
        f"<b>{escape(verdict.answer.text) or '(nothing)'}</b>",
        f"<small>expected: {escape('; '.join(question.expected[:5]))}</small>",
        f"<small>{escape(question.name)}</small>",
    ]
    colour = "" if verdict.is_right else ' class="wrong"'
    return f"<figure{colour}><figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _medium(kind: str, path: Path) -> str:
    """Return a picture made small, a short clip whole, or what cannot be shown by its name."""
    if kind == "image" and (uri := _small_picture(path)):
        return f'<img src="{uri}" alt="{escape(path.name)}">'
    if kind in ("audio", "video") and path.stat().st_size <= MAX_CLIP_BYTES:
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        uri = f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
        return f'<{kind} controls preload="none" src="{uri}"></{kind}>'
    return f"<i>{kind.replace('_', ' ')}</i>"


def _small_picture(path: Path) -> str | None:
    file = io.BytesIO()
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((SIDE_PX, SIDE_PX))
            small.save(file, "JPEG", quality=80)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
