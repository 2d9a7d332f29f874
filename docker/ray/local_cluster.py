"""Run a Serve configuration on a Ray cluster of this machine alone, until Ctrl-C or SIGTERM.

    python docker/ray/local_cluster.py docker/ray/serve.yaml [--num-cpus 2] [--object-store-mib 200]

The cluster is a child of this process and ends with it. For several machines see docs/scaling.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

import ray
from ray.serve.scripts import cli

MIB = 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a Serve configuration on this machine.")
    parser.add_argument("config", help="the YAML file")
    parser.add_argument("--num-cpus", type=int, default=2, help="what replicas may ask for in all")
    parser.add_argument("--object-store-mib", type=int, default=200, help="shared memory for large arguments")
    chosen = parser.parse_args()

    def stop(sig: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # `serve run` ends the application on it

    signal.signal(signal.SIGTERM, stop)
    ray.init(
        num_cpus=chosen.num_cpus,
        object_store_memory=chosen.object_store_mib * MIB,
        include_dashboard=False,
        namespace="serve",
    )
    try:
        cli(["run", chosen.config])
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
