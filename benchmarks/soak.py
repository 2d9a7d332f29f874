"""Keep a server under mixed traffic and look for what leaks: memory, processes, files, sockets, slots.

    python -m benchmarks.soak --minutes 10 [--model mini] [--clients 32] [--port 8170]

It starts a server of its own, sends it what `benchmarks/soak_traffic.py` holds, and prints one row per kind of request
and one per thing that must not grow. Ends with 1 when anything is wrong: a 5xx, an unexpected status, or a leak.
Resident memory is that of the server and its decoder processes; its slope is a least-squares line over the second half.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.soak_traffic import SCENARIOS, Client, Scenario, pick

SAMPLE_EVERY_S = 2.0
MIB = 1024 * 1024
MAX_SLOPE_MIB_PER_MINUTE = 1.0
START_WAIT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process and its children hold at one moment."""

    at_s: float
    resident_bytes: int
    num_processes: int
    num_files: int
    num_sockets: int


@dataclass(slots=True)
class Tally:
    """Statuses and seconds by kind of request."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, status: int, seconds: float) -> None:
        self.statuses.setdefault(name, Counter())[status] += 1
        self.seconds.setdefault(name, []).append(seconds)


def usage_of(pid: int, at_s: float) -> Usage:
    """Read /proc for a process and its children."""
    pids = [pid, *_children(pid)]
    links = [_target(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return Usage(
        at_s=at_s,
        resident_bytes=sum(map(_resident_bytes, pids)),
        num_processes=len(pids),
        num_files=sum(not link.startswith(("socket:", "pipe:", "anon_inode:")) for link in links if link),
        num_sockets=sum(link.startswith("socket:") for link in links),
    )


def _children(pid: int) -> list[int]:
    listed = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in listed for child in children]


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # closed meanwhile
        return ""


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):  # a decoder that has just been replaced
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def slope_mib_per_minute(samples: list[Usage]) -> float:
    """Return the slope of a least-squares line through the second half, after the caches have filled."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return 0.0
    minutes = np.array([sample.at_s / 60 for sample in half])
    resident = np.array([sample.resident_bytes / MIB for sample in half])
    return float(np.polyfit(minutes, resident, 1)[0])


@contextmanager
def running_server(arguments: argparse.Namespace, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `bindchat serve` for the length of a block; it must end with 0 on SIGTERM."""
    command = [sys.executable, "-m", "server.cli", "serve", "--port", str(arguments.port), "--model", arguments.model]
    command += ["--log-dir", str(folder / "logs"), "--files-dir", str(folder / "files"), *arguments.server_options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    if status != 0:
        raise SystemExit(f"the server ended with {status}")


async def wait_until_ready(http: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> list[Scenario]:
    """Return the scenarios that the model reads."""
    for _ in range(START_WAIT_S):
        if process.poll() is not None or await _is_ready(http):
            break
        await asyncio.sleep(1)
    (model,) = (await http.get("/v1/models")).raise_for_status().json()["data"]
    return [scenario for scenario in SCENARIOS if scenario.modality in model["input_modalities"]]


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/ready")).status_code == 200
    except httpx.TransportError:  # the socket is not bound yet
        return False


async def keep_asking(client: Client, scenarios: list[Scenario], tally: Tally, until_s: float) -> None:
    """Send one request after another until the time is over."""
    while time.monotonic() < until_s:
        scenario = pick(scenarios, client.random)
        started_s = time.monotonic()
        try:
            status = await scenario.send(client)
        except httpx.TransportError as error:
            status = 598
            print(f"{scenario.name}: {error!r}", file=sys.stderr)
        tally.add(scenario.name, status, time.monotonic() - started_s)


async def keep_sampling(pid: int, samples: list[Usage], until_s: float) -> None:
    started_s = time.monotonic()
    while time.monotonic() < until_s:
        samples.append(usage_of(pid, time.monotonic() - started_s))
        await asyncio.sleep(SAMPLE_EVERY_S)


async def wait_until_idle(http: httpx.AsyncClient) -> dict[str, int]:
    """Return what is still in use a second after the last client has left."""
    for _ in range(100):
        ready = (await http.get("/ready")).raise_for_status().json()
        if ready["slots_in_use"] == ready["requests_in_flight"] == ready["queue_length"] == 0:
            break
        await asyncio.sleep(0.1)
    return {name: ready[name] for name in ("slots_in_use", "requests_in_flight", "queue_length")}


async def soak(arguments: argparse.Namespace, process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Run the traffic, print the tables, and say whether everything was right."""
    address, tally, samples = f"http://127.0.0.1:{arguments.port}", Tally(), list[Usage]()
    async with httpx.AsyncClient(base_url=address, timeout=300) as http:
        scenarios = await wait_until_ready(http, process)
        before = usage_of(process.pid, 0)
        until_s = time.monotonic() + arguments.minutes * 60
        clients = [
            Client(httpx.AsyncClient(base_url=address, timeout=300), random.Random(seed), arguments.model)
            for seed in range(arguments.clients)
        ]
        work = [keep_asking(client, scenarios, tally, until_s) for client in clients]
        await asyncio.gather(keep_sampling(process.pid, samples, until_s), *work)
        for client in clients:
            await client.http.aclose()
        left = await wait_until_idle(http)
        kept = len((await http.get("/v1/files")).raise_for_status().json()["data"])
    after = usage_of(process.pid, samples[-1].at_s)
    left |= {"files kept": kept, "partial files": len(list((folder / "files").glob("*.partial")))}
    return print_requests(scenarios, tally) & print_leaks(before, after, samples, left)


def print_requests(scenarios: list[Scenario], tally: Tally) -> bool:
    """Print one row per kind of request; True when every status was a right one."""
    is_right = True
    print(f"{'request':<32}{'sent':>7}{'p50 s':>8}{'p99 s':>8}  statuses")
    for scenario in scenarios:
        statuses, seconds = tally.statuses.get(scenario.name, Counter()), tally.seconds.get(scenario.name, [0.0])
        wrong = set(statuses) - set(scenario.allowed)
        is_right = is_right and not wrong
        shown = ", ".join(f"{status or 'left'}: {count}" for status, count in sorted(statuses.items()))
        p50, p99 = np.percentile(seconds, (50, 99))
        print(f"{scenario.name:<32}{statuses.total():>7}{p50:>8.2f}{p99:>8.2f}  {shown}{'  WRONG' if wrong else ''}")
    return is_right


def print_leaks(before: Usage, after: Usage, samples: list[Usage], left: dict[str, int]) -> bool:
    """Print what is held before and after; True when nothing has grown."""
    slope = slope_mib_per_minute(samples)
    rows = {
        "processes": (before.num_processes, after.num_processes, after.num_processes <= max(before.num_processes, 3)),
        "open files": (before.num_files, after.num_files, after.num_files <= before.num_files + 4),
        "sockets": (before.num_sockets, after.num_sockets, after.num_sockets <= before.num_sockets + 2),
        **{name: (0, count, count == 0) for name, count in left.items()},
    }
    print(f"\n{'held':<32}{'before':>10}{'after':>10}")
    for name, (first, last, is_fine) in rows.items():
        print(f"{name:<32}{first:>10}{last:>10}{'' if is_fine else '  LEAK'}")
    peak = max(sample.resident_bytes for sample in samples)
    first, last = before.resident_bytes // MIB, after.resident_bytes // MIB
    print(f"{'resident memory, MiB':<32}{first:>10}{last:>10}  peak {peak // MIB}")
    is_flat = slope <= MAX_SLOPE_MIB_PER_MINUTE
    print(f"{'slope, MiB a minute':<32}{'':>10}{slope:>10.2f}{'' if is_flat else '  GROWS'}")
    return is_flat and all(is_fine for _, _, is_fine in rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--port", type=int, default=8170)
    parser.add_argument("server_options", nargs="*", help="after --: options of bindchat serve")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_server(arguments, Path(name)) as process:
        is_right = asyncio.run(soak(arguments, process, Path(name)))
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
