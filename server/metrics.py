"""Prometheus metrics of one app; the registry belongs to the app, not to the module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from engine.pipeline import MemoStats, PipelineHealth

STAGE_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServerMetrics:
    """Counters and histograms of requests, tokens and stages, and gauges read from the pipeline when scraped."""

    def __init__(
        self,
        read_health: Callable[[], PipelineHealth | None],
        read_memo: Callable[[], MemoStats | None] = lambda: None,
    ) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "bindchat_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.in_flight = Gauge("bindchat_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.request_seconds = self._histogram("bindchat_request_seconds", "Whole requests.", ("route",))
        self.first_token_seconds = self._histogram(
            "bindchat_time_to_first_token_seconds", "From the first byte of a request to its first token."
        )
        self.stage_seconds = self._histogram("bindchat_stage_seconds", "Stages of a request.", ("stage",))
        self.prompt_tokens = Counter("bindchat_prompt_tokens", "Tokens read.", registry=self.registry)
        self.completion_tokens = Counter("bindchat_completion_tokens", "Tokens written.", registry=self.registry)
        self.registry.register(_PipelineCollector(read_health))
        self.registry.register(_MemoCollector(read_memo))

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(name, documentation, labels, registry=self.registry, buckets=STAGE_BUCKETS_S)


class _PipelineCollector(Collector):
    """Read queue and slots when asked, so that the hot path counts nothing."""

    def __init__(self, read_health: Callable[[], PipelineHealth | None]) -> None:
        self._read_health = read_health

    def collect(self) -> Iterator[GaugeMetricFamily]:
        health = self._read_health()
        rows = {
            "bindchat_ready": ("1 when requests are taken.", float(health is not None and health.ready)),
            "bindchat_queue_length": ("Sequences waiting for a slot.", float(health.queue_length if health else 0)),
            "bindchat_slots_in_use": ("Sequences being decoded.", float(health.slots_in_use if health else 0)),
            "bindchat_slots_total": ("Sequences decoded at most.", float(health.slots_total if health else 0)),
        }
        for name, (documentation, value) in rows.items():
            yield GaugeMetricFamily(name, documentation, value=value)


class _MemoCollector(Collector):
    """Read the memo's counters when asked; the hit rate is hits over hits and misses."""

    def __init__(self, read_memo: Callable[[], MemoStats | None]) -> None:
        self._read_memo = read_memo

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        memo = self._read_memo()
        if memo is None:
            return
        lookups = CounterMetricFamily("bindchat_memo_lookups", "Media looked up in the memo.", labels=["result"])
        lookups.add_metric(["hit"], memo.hits)
        lookups.add_metric(["miss"], memo.misses)
        yield lookups
        yield GaugeMetricFamily("bindchat_memo_entries", "Media remembered.", value=memo.entries)
        yield GaugeMetricFamily("bindchat_memo_bytes", "Memory of the memo.", value=memo.size_bytes)
