"""Write the dashboard: `python docker/grafana/dashboard.py`; a test compares the file with what this makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "dashboards" / "bindchat.json"
RATE = "$__rate_interval"


def _quantiles(metric: str, by: str = "") -> list[tuple[str, str]]:
    labels = f"le, {by}" if by else "le"
    name = f" {{{{{by}}}}}" if by else ""
    shares = (0.5, 0.95) if by else (0.5, 0.95, 0.99)
    return [
        (
            f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[{RATE}])))",
            f"p{round(share * 100)}{name}",
        )
        for share in shares
    ]


# Title, unit, queries with their legends.
PANELS: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("Requests", "reqps", [(f"sum by (status) (rate(bindchat_requests_total[{RATE}]))", "{{status}}")]),
    (
        "Refused or failed, by reason",
        "reqps",
        [(f"sum by (reason) (rate(bindchat_rejects_total[{RATE}]))", "{{reason}}")],
    ),
    ("Time to first token", "s", _quantiles("bindchat_time_to_first_token_seconds")),
    ("Between tokens", "s", _quantiles("bindchat_inter_token_seconds")),
    (
        "Tokens",
        "short",
        [
            (f"sum(rate(bindchat_completion_tokens_total[{RATE}]))", "written a second"),
            (f"sum(rate(bindchat_prompt_tokens_total[{RATE}]))", "read a second"),
        ],
    ),
    (
        "Slots and queue",
        "short",
        [
            ("sum(bindchat_slots_in_use)", "decoding"),
            ("sum(bindchat_slots_total)", "slots"),
            ("sum(bindchat_queue_length)", "waiting"),
        ],
    ),
    ("Encoding, by modality", "s", _quantiles("bindchat_encode_seconds", "modality")),
    ("Decoding of media, by modality", "s", _quantiles("bindchat_media_decode_seconds", "modality")),
    ("Stages, 95th percentile", "s", _quantiles("bindchat_stage_seconds", "stage")[1:]),
    ("Visual cache", "s", _quantiles("bindchat_cache_search_seconds")),
    (
        "Memo",
        "percentunit",
        [
            (
                f'sum(rate(bindchat_memo_lookups_total{{result="hit"}}[{RATE}])) '
                f"/ sum(rate(bindchat_memo_lookups_total[{RATE}]))",
                "hits",
            )
        ],
    ),
    ("Media taken in", "Bps", [(f"sum by (modality) (rate(bindchat_media_bytes_total[{RATE}]))", "{{modality}}")]),
    (
        "KV cache",
        "percentunit",
        [("sum(bindchat_kv_cache_tokens_in_use) / sum(bindchat_kv_cache_tokens_total)", "in use")],
    ),
    (
        "Memory",
        "bytes",
        [
            ('process_resident_memory_bytes{job="bindchat"}', "{{instance}}"),
            ('bindchat_subprocess_resident_memory_bytes{job="bindchat"}', "{{instance}} {{kind}}"),
        ],
    ),
    ("Engine stalled", "s", [("bindchat_engine_stalled_seconds", "{{instance}}")]),
    ("Engine restarts", "short", [("increase(bindchat_engine_restarts_total[1h])", "{{instance}}")]),
]


def panel(place: int, title: str, unit: str, queries: list[tuple[str, str]]) -> dict[str, Any]:
    """Return one graph; two stand side by side."""
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (place % 2), "y": 8 * (place // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(65 + i), "datasource": source, "expr": expression, "legendFormat": legend}
            for i, (expression, legend) in enumerate(queries)
        ],
    }


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "bindchat",
        "title": "BindChat",
        "schemaVersion": 41,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": [panel(place, *row) for place, row in enumerate(PANELS)],
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n")
