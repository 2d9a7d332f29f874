"""A Ray cluster of this machine with the tiny model, as a child process, and the processes of its replicas."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.architecture.source_tree import ROOT
from tests.support.live_server import CHAT, chat_body

MAX_SLOTS = 8
START_TIMEOUT_S = 240
POLL_S = 0.3
SETTINGS = {"model": "tiny", "dtype": "float32", "num_threads": 1, "max_slots": MAX_SLOTS, "max_queue": 12}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the application is reached, and the process whose children the replicas are."""

    url: str
    process: subprocess.Popen[bytes]
    log_dir: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120)

    def async_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=120, limits=httpx.Limits(max_connections=None))

    def chat(self, content: Any = "hello", **fields: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(CHAT, json=chat_body(content, **fields))

    def health(self) -> dict[str, Any]:
        """Return what `/ready` tells, empty while it cannot be asked."""
        try:
            answer = httpx.get(f"{self.url}/ready", timeout=10)
        except httpx.TransportError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    def wait_for(self, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 120) -> dict[str, Any]:
        """Ask `/ready` until it is as wanted; fails when the cluster ends or the time is over."""
        for _ in range(round(timeout_s / POLL_S)):
            if holds(health := self.health()):
                return health
            self._pause()
        raise AssertionError(f"not reached in {timeout_s} s; the last answer was {self.health()}")

    def wait_for_replicas(self, deployment: str, number: int) -> None:
        """Wait until a deployment has at least so many processes."""
        for _ in range(round(START_TIMEOUT_S / POLL_S)):
            if len(self.replicas(deployment)) >= number:
                return
            self._pause()
        raise AssertionError(f"{deployment} has {len(self.replicas(deployment))} replicas, wanted {number}")

    def replicas(self, deployment: str) -> list[int]:
        """Return the process ids of a deployment's replicas, of this cluster alone, in order."""
        title = f"ray::ServeReplica:bindchat:{deployment}"
        return sorted(pid for pid in _descendants(self.process.pid) if _title(pid).startswith(title))

    def kill(self, deployment: str) -> None:
        """Kill one replica of a deployment without a word."""
        os.kill(self.replicas(deployment)[0], signal.SIGKILL)

    def events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the events of that name with those fields from the log of all replicas."""
        lines = map(json.loads, (self.log_dir / "server.jsonl").read_text().splitlines())
        return [event for event in lines if event.get("event") == name and fields.items() <= event.items()]

    def _pause(self) -> None:
        try:
            code = self.process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"the cluster ended with {code}")


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster for the length of a block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "serve.yaml"
    config.write_text(yaml.safe_dump(_config(port, folder / "logs")))
    command = [sys.executable, "docker/ray/local_cluster.py", str(config), "--num-cpus", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    with (folder / "cluster.log").open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    cluster = Cluster(f"http://127.0.0.1:{port}", process, folder / "logs")
    try:
        cluster.wait_for(lambda health: health.get("slots_total", 0) >= 2 * MAX_SLOTS, START_TIMEOUT_S)
        yield cluster
    finally:
        process.terminate()
        process.wait(60)


def _config(port: int, log_dir: Path) -> dict[str, Any]:
    few = {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.2}}
    growing = {
        "ray_actor_options": {"num_cpus": 0.2},
        "autoscaling_config": {
            "min_replicas": 2,
            "max_replicas": 3,
            "target_ongoing_requests": 12,  # more than the slots: only what waits makes it grow
            "look_back_period_s": 4,
            "upscale_delay_s": 4,
            "downscale_delay_s": 600,
        },
    }
    application = {
        "name": "bindchat",
        "import_path": "server.ray_app:build",
        "route_prefix": "/",
        "args": {**SETTINGS, "log_dir": str(log_dir)},
        "deployments": [{"name": "Ingress", **few}, {"name": "Encoders", **few}, {"name": "Decoders", **growing}],
    }
    return {
        "http_options": {"host": "127.0.0.1", "port": port},
        "logging_config": {"enable_access_log": False},
        "applications": [application],
    }


def _descendants(root: int) -> Iterator[int]:
    """Yield the processes below one, as /proc shows them."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _read(entry / "stat")
            if stat:
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    below = {root}
    while found := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= found
    yield from below - {root}


def _title(pid: int) -> str:
    return _read(Path("/proc") / str(pid) / "cmdline").replace("\0", " ")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has just ended
