"""Decoders that misbehave on purpose; the worker processes load them through the container table."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from core.types import DecodedMedia
from media.containers import DecodeJob


def echo(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Return the bytes as an array."""
    return DecodedMedia(container=job.container, array=np.frombuffer(data, dtype=np.uint8))


def report_then_hang(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Write the process id into the named pipe whose path is the content, then wait for a signal for ever."""
    with Path(os.fsdecode(data)).open("w") as pipe:
        pipe.write(str(os.getpid()))
    while True:
        signal.pause()


def crash(data: bytes, job: DecodeJob) -> DecodedMedia:
    """End the process as a fault in native code does."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return echo(data, job)


def swell(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Ask for more memory than any worker may have."""
    hoard = [bytearray(64 << 20) for _ in range(1024)]
    return DecodedMedia(container=job.container, array=np.zeros(len(hoard)))


def fail(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Raise what no decoder should."""
    raise LookupError("a bug")


def chatter(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Print into standard output before answering, as some native libraries do."""
    os.write(1, b"progress 10%\n" * 50)
    return echo(data, job)


def write_file(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Try to leave bytes on disk at the path that is the content."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Path(os.fsdecode(data)).open("wb") as file:
        file.write(b"left behind")
    return echo(data, job)
