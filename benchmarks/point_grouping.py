"""Time farthest-point sampling and grouping of one cloud: `python -m benchmarks.point_grouping`.

Prints the best and the median of the repetitions, for PointBERT's one level and I2P-MAE's three, and the median CPU
time, which a busy machine stretches less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import torch

from models.pointbind.grouping import GroupingRule, group_clouds, normalize_unit_sphere
from models.pointbind.i2pmae import I2pMaeConfig
from models.pointbind.pointbert import PointBertConfig


def measure_ms(points: torch.Tensor, rules: Sequence[GroupingRule], repeats: int) -> tuple[float, float, float]:
    """Return the best and the median wall time and the median CPU time in milliseconds."""
    wall_ms, cpu_ms = [], []
    for _ in range(repeats):
        wall_start_s, cpu_start_s = time.perf_counter(), time.process_time()
        group_clouds([points], rules)
        cpu_ms.append(1000 * (time.process_time() - cpu_start_s))
        wall_ms.append(1000 * (time.perf_counter() - wall_start_s))
    return min(wall_ms), statistics.median(wall_ms), statistics.median(cpu_ms)


def main() -> None:
    """Parse the options, make a seeded cloud inside the unit sphere and print one line per encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-points", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    cloud = torch.randn(options.num_points, 3, generator=torch.Generator().manual_seed(0))
    cloud = normalize_unit_sphere(cloud)
    print(f"{options.num_points} points, {torch.get_num_threads()} threads, {options.repeats} repetitions")
    for name, rules in (("pointbert", PointBertConfig().rules), ("i2p_mae", I2pMaeConfig().rules)):
        best_ms, median_ms, cpu_ms = measure_ms(cloud, rules, options.repeats)
        groups = " -> ".join(f"{rule.num_groups}x{rule.group_size}" for rule in rules)
        print(f"{name:9s} {groups:28s} best {best_ms:6.1f} ms  median {median_ms:6.1f} ms  cpu {cpu_ms:6.1f} ms")


if __name__ == "__main__":
    main()
