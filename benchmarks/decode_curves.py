"""Draw how the cost of a decode step grows with concurrency and with context, beside the machine's limit.

    python -m benchmarks.decode_curves docs/images [--threads 2]

A step is what 64 new tokens take longer than 32, over 32, when the prompts were read before and are kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.decode import Contestant, contestant, make_prompts
from benchmarks.decode_limits import Limits, measure_limits

BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (64, 256, 1024, 2048)
CONTEXT_BATCHES = (1, 8, 32)
NEW_TOKENS = 32
REPEATS = 3


def draw_concurrency(ours: Contestant, limits: Limits, path: Path) -> None:
    """Measure and draw a step, and the tokens per second, by the number of sequences."""
    steps = [step_s(ours, make_prompts(batch)) for batch in BATCHES]
    bounds = [limits.shortest_step_s(batch) for batch in BATCHES]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for seconds, style, label in ((steps, "o-", "measured"), (bounds, "--", "limit")):
        left.plot(BATCHES, [step * 1e3 for step in seconds], style, label=label)
        right.plot(BATCHES, [batch / step for batch, step in zip(BATCHES, seconds, strict=True)], style, label=label)
    left.set(xlabel="sequences at once", ylabel="ms per step", yscale="log")
    right.set(xlabel="sequences at once", ylabel="tokens/s")
    for batch, step, bound in zip(BATCHES, steps, bounds, strict=True):
        rate, share = batch / step, bound / step
        print(f"{batch:>3} at once: {step * 1e3:6.1f} ms a step, {rate:6.1f} tokens/s, {share:4.0%} of the limit")
    _save(figure, [left, right], list(BATCHES), path)


def draw_context(ours: Contestant, limits: Limits, path: Path) -> None:
    """Measure and draw a step by the tokens that each sequence attends to."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for batch in CONTEXT_BATCHES:
        steps = [step_s(ours, make_prompts(batch, num_tokens=context)) for context in CONTEXTS]
        (line,) = axes.plot(CONTEXTS, [step * 1e3 for step in steps], "o-", label=f"{batch} at once")
        bounds = [limits.shortest_step_s(batch, context) * 1e3 for context in CONTEXTS]
        axes.plot(CONTEXTS, bounds, "--", color=line.get_color(), label=f"limit, {batch}")
        print(
            f"{batch:>3} at once: " + ", ".join(f"{c} {s * 1e3:.1f} ms" for c, s in zip(CONTEXTS, steps, strict=True))
        )
    axes.set(xlabel="tokens of context", ylabel="ms per step", yscale="log")
    _save(figure, [axes], list(CONTEXTS), path)


def step_s(ours: Contestant, prompts: list[list[int]]) -> float:
    """Return the seconds of one decode step, the median of some."""
    ours.run(prompts, 1)  # reads the prompts
    steps = []
    for _ in range(REPEATS):
        shorter, longer = (len(prompts) * new / ours.run(prompts, new) for new in (NEW_TOKENS, 2 * NEW_TOKENS))
        steps.append((longer - shorter) / NEW_TOKENS)
    return sorted(steps)[REPEATS // 2]


def _save(figure: Figure, axes: list[Axes], ticks: list[int], path: Path) -> None:
    for one in axes:
        one.set_xscale("log", base=2)
        one.set_xticks(ticks, [str(tick) for tick in ticks])
        one.yaxis.set_major_formatter("{x:g}")
        one.yaxis.set_minor_formatter("{x:g}")
        one.tick_params(axis="y", which="minor", labelsize=7)
        one.grid(alpha=0.3)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw how the cost of a decode step grows.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    matplotlib.use("Agg")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    limits = measure_limits(arguments.threads, seconds=3.0)
    print(
        f"reads {limits.bytes_per_s / 1e9:.1f} GB/s, multiplies {limits.flops_per_s / 1e12:.3f} TFLOP/s bf16, "
        f"{limits.int8_ops_per_s / 1e12:.3f} TOP/s int8"
    )
    with contestant("bindchat", sys.executable, "ours", str(arguments.threads), "auto", "1", "1") as ours:
        draw_concurrency(ours, limits, arguments.folder / "decode_concurrency.png")
        draw_context(ours, limits, arguments.folder / "decode_context.png")


if __name__ == "__main__":
    main()
