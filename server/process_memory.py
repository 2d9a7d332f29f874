"""Memory of the processes below this one, read from /proc: decoders of media, and what a backend such as vLLM starts.

Prometheus's own collector knows this process alone. Where there is no /proc nothing is told, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_PROC = Path("/proc")
MEDIA_DECODER, OTHER = "media_decoder", "other"


class SubprocessMemoryCollector(Collector):
    """Sum the resident memory of every descendant when asked, by what it is."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if not (_PROC / "self/status").exists():
            return
        resident_bytes = dict.fromkeys((MEDIA_DECODER, OTHER), 0)
        for pid in _descendants("self"):
            resident_bytes[_kind_of(pid)] += _resident_bytes(pid)
        family = GaugeMetricFamily(
            "bindchat_subprocess_resident_memory_bytes",
            "Resident memory of the processes that the server started, by what they are.",
            labels=["kind"],
        )
        for kind, size_bytes in resident_bytes.items():
            family.add_metric([kind], size_bytes)
        yield family


def _descendants(pid: str) -> Iterator[str]:
    for thread in (_PROC / pid / "task").glob("*"):
        for child in _read(thread / "children").split():
            yield child
            yield from _descendants(child)


def _kind_of(pid: str) -> str:
    return MEDIA_DECODER if "media.worker" in _read(_PROC / pid / "cmdline").split("\0") else OTHER


def _resident_bytes(pid: str) -> int:
    lines = _read(_PROC / pid / "status").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))  # a zombie has none


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or became another user's
        return ""
