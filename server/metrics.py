"""Prometheus metrics of one app; the registry belongs to the app, not to the module. docs/metrics.md lists them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from core.telemetry import Measurement
from server import __version__
from server.process_memory import SubprocessMemoryCollector

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
        ProcessCollector(registry=self.registry)
        self.registry.register(SubprocessMemoryCollector())
        self._of_requests()
        self._of_tokens()
        self._of_media()
        self._build = self._gauge("bindchat_build_info", "Always 1; the labels say what runs.", ("version", "python"))
        self._build.labels(__version__, platform.python_version()).set(1)
        self.registry.register(_PipelineCollector(read_health))
        self.registry.register(_MemoCollector(read_memo))

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def own(self) -> list[Counter | Gauge | Histogram]:
        """Return every metric that is kept here, not read when scraped."""
        kept = [*vars(self).values(), *self._of_measurements.values()]
        return [metric for metric in kept if isinstance(metric, Counter | Gauge | Histogram)]

    def observe(self, measurement: Measurement) -> None:
        """Take a measurement of the layers below in; those of unknown names are not for this page."""
        metric = self._of_measurements.get(measurement.name)
        if metric is None:
            return
        child = metric.labels(**measurement.labels) if measurement.labels else metric
        if isinstance(child, Histogram):
            child.observe(measurement.value)
        else:
            child.inc(measurement.value)

    def _of_requests(self) -> None:
        self.requests = self._counter("bindchat_requests", "Requests answered.", ("route", "method", "status"))
        self.rejects = self._counter("bindchat_rejects", "Requests refused or failed, by error code.", ("reason",))
        self.in_flight = self._gauge("bindchat_requests_in_flight", "Requests being answered.")
        self.request_seconds = self._histogram("bindchat_request_seconds", "Whole requests.", ("route",))
        self.stage_seconds = self._histogram(
            "bindchat_stage_seconds", "Stages of a request, as its log line has them.", ("stage",)
        )

    def _of_tokens(self) -> None:
        self.first_token_seconds = self._histogram(
            "bindchat_time_to_first_token_seconds", "From the first byte of a request to its first token."
        )
        self.inter_token_seconds = self._histogram("bindchat_inter_token_seconds", "Between two tokens of one choice.")
        self.prompt_tokens = self._counter("bindchat_prompt_tokens", "Tokens read.")
        self.completion_tokens = self._counter("bindchat_completion_tokens", "Tokens written.")

    def _of_media(self) -> None:
        modality = ("modality",)
        self._of_measurements: dict[str, Histogram | Counter] = {
            "media_fetch": self._histogram("bindchat_media_fetch_seconds", "Fetching one remote medium."),
            "media_decode": self._histogram(
                "bindchat_media_decode_seconds", "Decoding one medium, the wait for a process included.", modality
            ),
            "preprocess": self._histogram(
                "bindchat_preprocess_seconds", "Preparing one batch for its encoder.", modality
            ),
            "encode": self._histogram(
                "bindchat_encode_seconds", "Encoding one medium, the wait for its batch included.", modality
            ),
            "cache_search": self._histogram(
                "bindchat_cache_search_seconds", "Refining one embedding by its neighbours."
            ),
            "expert": self._histogram(
                "bindchat_expert_seconds", "One expert on one medium, failed and stopped ones included.", ("expert",)
            ),
            "media_bytes": self._counter("bindchat_media_bytes", "Bytes of media taken in.", modality),
        }

    def _counter(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(name, documentation, labels, registry=self.registry, buckets=STAGE_BUCKETS_S)


class _PipelineCollector(Collector):
    """Read queue, slots and KV cache when asked, so that the hot path counts nothing."""

    def __init__(self, read_health: Callable[[], PipelineHealth | None]) -> None:
        self._read_health = read_health

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        health = self._read_health()
        gauges = {
            "ready": ("1 when requests are taken.", float(health is not None and health.ready)),
            "queue_length": ("Sequences waiting for a slot.", health.queue_length if health else 0),
            "slots_in_use": ("Sequences being decoded.", health.slots_in_use if health else 0),
            "slots_total": ("Sequences decoded at most.", health.slots_total if health else 0),
            "kv_cache_tokens_in_use": ("Tokens of running sequences held.", health.kv_tokens_in_use if health else 0),
            "kv_cache_tokens_total": ("Tokens the KV cache has room for.", health.kv_tokens_total if health else 0),
            "engine_stalled_seconds": ("Since the last step while work waits.", health.stalled_s if health else 0),
        }
        for name, (documentation, value) in gauges.items():
            yield GaugeMetricFamily(f"bindchat_{name}", documentation, value=value)
        restarts = health.num_restarts if health else 0
        yield CounterMetricFamily("bindchat_engine_restarts", "Times the step loop failed and went on.", value=restarts)


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
