"""Keep a server under mixed traffic and look for what leaks: memory, processes, files, sockets, slots.

    python -m benchmarks.soak --minutes 10 [--model mini] [--clients 32] [--port 8170]

It starts a server of its own, sends it what `benchmarks/soak_traffic.py` holds, and prints one row per kind of request,
one per thing that must not grow, and one per process with its memory. Ends with 1 when anything is wrong: a 5xx, an
unexpected status, or a leak. The slope of memory is a least-squares line through its floor over the second half, after
the caches have filled; memory is flat where the slope is within twice its standard error, or below a mebibyte a minute.
"""

from __future__ import annotations

import argparse
import asyncio
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

from benchmarks.soak_memory import MIB, Growth, Usage, growth_of, second_half, usage_of
from benchmarks.soak_traffic import SCENARIOS, Client, Scenario, pick

SAMPLE_EVERY_S = 2.0
MAX_SLOPE_MIB_PER_MINUTE = 1.0
START_WAIT_S = 300


@dataclass(slots=True)
class Tally:
    """Statuses and seconds by kind of request."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, status: int, seconds: float) -> None:
        self.statuses.setdefault(name, Counter())[status] += 1
        self.seconds.setdefault(name, []).append(seconds)


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
    first, last = len(before.processes), len(after.processes)
    rows = {
        "processes": (first, last, last <= max(first, 3)),
        "open files": (before.num_files, after.num_files, after.num_files <= before.num_files + 4),
        "sockets": (before.num_sockets, after.num_sockets, after.num_sockets <= before.num_sockets + 2),
        **{name: (0, count, count == 0) for name, count in left.items()},
    }
    print(f"\n{'held':<32}{'before':>10}{'after':>10}")
    for name, (held_first, held_last, is_fine) in rows.items():
        print(f"{name:<32}{held_first:>10}{held_last:>10}{'' if is_fine else '  LEAK'}")
    return print_memory(before, after, samples) and all(is_fine for _, _, is_fine in rows.values())


def print_memory(before: Usage, after: Usage, samples: list[Usage]) -> bool:
    """Print one row for the processes of each name and one for all of them; True when memory is flat."""
    columns = "".join(f"{name:>10}" for name in ("before", "half", "after", "peak"))
    print(f"\n{'resident memory, MiB':<32}{columns}{'slope/min':>11}{'noise':>8}")
    moments = (before, second_half(samples)[0], after)
    names = dict.fromkeys(process.name for sample in samples for process in sample.processes)
    for name in names:
        held = [sample.resident_of(name) for sample in moments]
        _print_row(name, held, max(sample.resident_of(name) for sample in samples), growth_of(samples, name))
    whole = growth_of(samples)
    peak = max(sample.resident_bytes for sample in samples)
    is_flat = _is_flat(whole)
    _print_row("all", [sample.resident_bytes for sample in moments], peak, whole, "" if is_flat else "  GROWS")
    return is_flat


def _is_flat(grown: Growth) -> bool:
    return grown.is_flat or grown.slope <= MAX_SLOPE_MIB_PER_MINUTE


def _print_row(name: str, held: list[int], peak: int, grown: Growth, verdict: str = "") -> None:
    columns = "".join(f"{count // MIB:>10}" for count in (*held, peak))
    print(f"{name:<32}{columns}{grown.slope:>11.2f}{grown.noise:>8.2f}{verdict}")


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
