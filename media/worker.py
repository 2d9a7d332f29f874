"""One decoder process: reads jobs from stdin, writes arrays to stdout, and is killed without regret.

A frame is a 4-byte length, a JSON header, and `num_bytes` of payload. No pickle passes in either direction.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from core.errors import InvalidRequest, MediaDecodeError, MediaTooLarge
from core.registry import Registry
from core.types import AnyArray, DecodedMedia, Modality
from media.containers import DecodeJob, Decoder, decoder_key
from media.limits import DecodeOptions, MediaLimits

MAX_HEADER_BYTES = 1 << 20


def write_frame(stream: BinaryIO, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    """Write one frame to an unbuffered stream. Raises `OSError` when the other side is gone."""
    encoded = json.dumps({**header, "num_bytes": len(payload)}).encode()
    for part in (len(encoded).to_bytes(4, "little"), encoded, payload):
        view = memoryview(part)
        while view:
            view = view[stream.write(view) :]


def read_frame(stream: BinaryIO, *, max_payload_bytes: int) -> tuple[dict[str, Any], AnyArray]:
    """Read one frame: its header and its payload as `(num_bytes,)` uint8.

    Raises `EOFError` when the other side closed and `ValueError` for a frame over the limits.
    """
    header_bytes = int.from_bytes(_read_exactly(stream, 4).tobytes(), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"a frame header of {header_bytes} bytes")
    header = json.loads(_read_exactly(stream, header_bytes).tobytes())
    num_bytes = header.pop("num_bytes")
    if not 0 <= num_bytes <= max_payload_bytes:
        raise ValueError(f"a frame payload of {num_bytes} bytes")
    return header, _read_exactly(stream, num_bytes)


def _read_exactly(stream: BinaryIO, num_bytes: int) -> AnyArray:
    buffer = np.empty(num_bytes, dtype=np.uint8)
    view = buffer.data
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the other side closed the pipe")
        view = view[count:]
    return buffer


def encode_job(job: DecodeJob) -> dict[str, Any]:
    """Return the header of a job; the limits travel once, at start."""
    return {"container": job.container, "modality": job.modality.value, "options": asdict(job.options)}


class DecoderLoop:
    """Decode one job after another inside the limits of this process."""

    def __init__(self, containers: dict[str, str], limits: MediaLimits) -> None:
        self._limits = limits
        self._containers = containers
        registry = Registry[Decoder]("container", containers)
        self._decoders = {name: registry.load(name) for name in registry.names()}

    def run(self, jobs: BinaryIO, results: BinaryIO) -> None:
        """Serve until the parent closes the pipe or a job exhausts the memory."""
        write_frame(results, {"ready": True})
        while True:
            try:
                header, payload = read_frame(jobs, max_payload_bytes=self._limits.max_bytes)
            except EOFError:
                return
            _limit_cpu(self._limits.decode_timeout_s)
            try:
                media = self._decode(header, payload.tobytes())
            except MemoryError:
                write_frame(results, {**_failure(self._out_of_memory()), "retires": True})
                return  # a heap that was full once is not trusted again: the parent starts a fresh process
            except InvalidRequest as error:
                write_frame(results, _failure(error))
            except Exception as error:  # the row fails alone; the parent logs what it was
                refusal = MediaDecodeError(f"the {header['container']} file could not be decoded; it may be damaged")
                write_frame(results, {**_failure(refusal), "unexpected": repr(error)})
            else:
                self._send(results, media)

    def _decode(self, header: dict[str, Any], data: bytes) -> DecodedMedia:
        job = DecodeJob(
            container=header["container"],
            modality=Modality(header["modality"]),
            limits=self._limits,
            options=DecodeOptions(**header["options"]),
        )
        key = decoder_key(self._containers, job.container, job.modality)
        if key is None:  # the pool asks the same table first
            raise MediaDecodeError(f"no decoder for {job.container}")
        media = self._decoders[key](data, job)
        self._limits.check_decoded_bytes(media.array.nbytes)
        return media

    def _out_of_memory(self) -> MediaTooLarge:
        limit = self._limits.max_worker_bytes
        return MediaTooLarge(f"decoding the medium needs more than {limit} bytes of memory; send a smaller one")

    def _send(self, results: BinaryIO, media: DecodedMedia) -> None:
        array = np.ascontiguousarray(media.array)
        header = {
            "shape": array.shape,
            "dtype": array.dtype.name,
            "sample_rate_hz": media.sample_rate_hz,
            "frames_per_s": media.frames_per_s,
            "frame_times_s": media.frame_times_s,
        }
        write_frame(results, header, array.reshape(-1).view(np.uint8).data)


def _failure(error: InvalidRequest) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": error.message}


def _limit_cpu(decode_timeout_s: float) -> None:
    """Let the kernel end a decode that outlives even a parent that died: the limit counts from now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + decode_timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _limit_resources(max_worker_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (max_worker_bytes, max_worker_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # decoders write no file
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Run the process: argument 1 is the JSON `{"containers", "limits"}`."""
    settings = json.loads(sys.argv[1])
    limits = MediaLimits(**settings["limits"])
    jobs = os.fdopen(os.dup(0), "rb", buffering=0)
    results = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints must not write into the frames
    try:
        _limit_resources(limits.max_worker_bytes)
        loop = DecoderLoop(settings["containers"], limits)
    except Exception as error:  # the parent reports why no process can start
        write_frame(results, {"ready": False, "reason": repr(error)})
        return
    loop.run(jobs, results)


if __name__ == "__main__":
    main()
