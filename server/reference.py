"""Pages of the documentation that are made from the code: `python -m server.reference configuration > docs/...`."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from server.metrics import ServerMetrics
from server.reference_pages import cli_page, endpoints_page
from server.settings import ENV_PREFIX, GROUPS, MIB

_KINDS = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path", SecretStr: "text"}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_INTRODUCTION = f"""# Configuration

Made by `python -m server.reference configuration`; a test compares.

Every setting has one name. It is given, strongest first, on the command line (`bindchat serve --max-slots 8`; yes-or-no
settings as `--name` or `--no-name`; other commands take `--set max_slots=8`), in the environment
(`{ENV_PREFIX}MAX_SLOTS=8`), or in a TOML file named by `--config` or `{ENV_PREFIX}CONFIG` (`max_slots = 8`; lists as
arrays, elsewhere separated by commas). Shorter options are `--media-domain` (repeated) for `media_domains` and
`--drain-timeout` for `drain_timeout_s`. A name that does not exist or a value out of range stops the start with a
sentence. `bindchat serve --print-config` shows each value with its source; keys are masked.

Names ending in `_s` are seconds, in `_bytes` bytes.
"""
_METRICS_INTRODUCTION = """# Metrics

Made by `python -m server.reference metrics`; a test compares.

`GET /metrics` answers in the Prometheus text format; where the server asks for keys, the scraper sends one
(`authorization: {credentials_file: ...}` in Prometheus). Histograms count seconds.

Traces: with `otlp_endpoint` (and the extra `otel`) every request is a trace in OpenTelemetry's form, sent over
OTLP/HTTP: a span for the request, on the client's own trace when it sends `traceparent`, and one for each stage inside
it; the log's `request_finished` line carries `trace_id`. Probes and scrapes have none. `OTEL_EXPORTER_OTLP_HEADERS`
adds headers.
"""


def configuration_page() -> str:
    """Return docs/configuration.md."""
    parts = [_INTRODUCTION]
    for group in GROUPS:
        rows = [_setting_row(name, field) for name, field in group.model_fields.items()]
        parts.append(
            "\n".join([f"## {group.__doc__}\n", "| setting | value | default | meaning |", "|---|---|---|---|", *rows])
        )
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def metrics_page() -> str:
    """Return docs/metrics.md."""
    from engine.pipeline import MemoStats

    metrics = ServerMetrics(lambda: None, lambda: MemoStats(hits=0, misses=0, entries=0, size_bytes=0))
    labels = {metric._name: metric._labelnames for metric in metrics.own()}
    labels |= {"bindchat_memo_lookups": ("result",), "bindchat_subprocess_resident_memory_bytes": ("kind",)}
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} "
        f"| {', '.join(labels.get(family.name, ()))} | {family.documentation} |"
        for family in sorted(metrics.registry.collect(), key=lambda family: family.name)
    ]
    return "\n".join([_METRICS_INTRODUCTION, "| metric | type | labels | meaning |", "|---|---|---|---|", *rows, ""])


PAGES: dict[str, Callable[[], str]] = {
    "cli": cli_page,
    "configuration": configuration_page,
    "endpoints": endpoints_page,
    "metrics": metrics_page,
}


def _setting_row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_kind(field)} | {_default(name, field.default)} | {field.description} |"


def _kind(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(rule, word):,}"
        for rule in field.metadata
        for word, sign in _SIGNS.items()
        if getattr(rule, word, None) is not None
    ]
    return " ".join([_kind_of(field.annotation), ", ".join(bounds)]).rstrip()


def _kind_of(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), [a for a in get_args(annotation) if a not in (type(None), ...)]
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_kind_of(arguments[0])}"
    if origin in (types.UnionType, Union):
        return _kind_of(arguments[0])
    return _KINDS[annotation]


def _default(name: str, value: Any) -> str:
    if value in (None, ()):
        return "none"
    if name.endswith("_bytes") and value % MIB == 0:
        return f"{value // MIB} MiB"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
