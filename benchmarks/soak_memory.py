"""What a server and its children hold: memory by process, files, sockets; and how fast memory grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """The resident memory of one process; `anonymous_bytes` are its own, the rest are pages of files."""

    pid: int
    name: str
    resident_bytes: int
    anonymous_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process and its children hold at one moment."""

    at_s: float
    processes: tuple[ProcessMemory, ...]
    num_files: int
    num_sockets: int

    @property
    def resident_bytes(self) -> int:
        return sum(process.resident_bytes for process in self.processes)

    def resident_of(self, name: str) -> int:
        """Return the bytes of all processes of a name."""
        return sum(process.resident_bytes for process in self.processes if process.name == name)


@dataclass(frozen=True, slots=True)
class Growth:
    """MiB a minute by least squares, and two standard errors of it, which is what scatter alone would give."""

    slope: float
    noise: float

    @property
    def is_flat(self) -> bool:
        """Whether memory grows no faster than its own scatter explains."""
        return self.slope <= self.noise


def usage_of(pid: int, at_s: float) -> Usage:
    """Read /proc for a process, `server`, and its children, which are named by the module that they run."""
    links = [_target(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    found = [_memory_of(pid, "server"), *(_memory_of(child, _module_of(child)) for child in _children(pid))]
    return Usage(
        at_s=at_s,
        processes=tuple(process for process in found if process is not None),
        num_files=sum(not link.startswith(("socket:", "pipe:", "anon_inode:")) for link in links if link),
        num_sockets=sum(link.startswith("socket:") for link in links),
    )


def growth(minutes: Sequence[float], mebibytes: Sequence[float], *, num_blocks: int = 10) -> Growth:
    """Return the slope of a least-squares line and its noise; no growth for fewer than three samples.

    The line goes through the least of each of `num_blocks` spans of time: a leak lifts the floor, while the arrays of
    running requests come and go above it.
    """
    if len(minutes) < 3:
        return Growth(0.0, 0.0)
    blocks = min(num_blocks, len(minutes))
    x = np.array([block.mean() for block in np.array_split(np.asarray(minutes, dtype=np.float64), blocks)])
    y = np.array([block.min() for block in np.array_split(np.asarray(mebibytes, dtype=np.float64), blocks)])
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    noise = 2 * float(np.sqrt(residual @ residual / (blocks - 2) / (centred @ centred)))
    return Growth(slope, noise)


def second_half(samples: list[Usage]) -> list[Usage]:
    """Return the samples after the caches have filled."""
    return samples[len(samples) // 2 :]


def growth_of(samples: list[Usage], name: str | None = None) -> Growth:
    """Return how fast the processes of a name grew over the second half, or all of them."""
    half = second_half(samples)
    resident = [sample.resident_bytes if name is None else sample.resident_of(name) for sample in half]
    return growth([sample.at_s / 60 for sample in half], [count / MIB for count in resident])


def _children(pid: int) -> list[int]:
    listed = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in listed for child in children]


def _module_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
    return words[words.index("-m") + 1] if "-m" in words[:-1] else Path(words[0]).name


def _memory_of(pid: int, name: str) -> ProcessMemory | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # a decoder that has just been replaced
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines())
    if "VmRSS" not in fields:  # it has ended and waits to be reaped
        return None
    resident, anonymous = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "RssAnon"))
    return ProcessMemory(pid=pid, name=name, resident_bytes=resident, anonymous_bytes=anonymous)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # closed meanwhile
        return ""
