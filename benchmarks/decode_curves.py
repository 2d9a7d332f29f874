"""Draw how the cost of decoding grows with concurrency and with context, beside the machine's limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.decode_limits import Limits

if TYPE_CHECKING:
    from benchmarks.decode import Contestant

BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (64, 256, 1024, 2048)
CONTEXT_BATCHES = (1, 8, 32)
NEW_TOKENS = 32


def draw_curves(ours: Contestant, folder: Path, limits: Limits) -> None:
    """Measure and write `decode_concurrency.png` and `decode_context.png`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    steps = [_step_s(ours, batch) for batch in BATCHES]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    left.plot(BATCHES, [step * 1e3 for step in steps], "o-", label="measured")
    left.plot(BATCHES, [limits.shortest_step_s(batch) * 1e3 for batch in BATCHES], "--", label="limit")
    left.set(xlabel="sequences at once", ylabel="ms per step", xscale="log", yscale="log")
    right.plot(BATCHES, [batch / step for batch, step in zip(BATCHES, steps, strict=True)], "o-", label="measured")
    right.plot(BATCHES, [batch / limits.shortest_step_s(batch) for batch in BATCHES], "--", label="limit")
    right.set(xlabel="sequences at once", ylabel="tokens/s", xscale="log")
    _save(figure, [left, right], folder / "decode_concurrency.png")

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for batch in CONTEXT_BATCHES:
        steps = [_step_s(ours, batch, num_tokens=context) for context in CONTEXTS]
        (line,) = axes.plot(CONTEXTS, [step * 1e3 for step in steps], "o-", label=f"{batch} at once")
        bounds = [limits.shortest_step_s(batch, context) * 1e3 for context in CONTEXTS]
        axes.plot(CONTEXTS, bounds, "--", color=line.get_color(), label=f"limit, {batch}")
    axes.set(xlabel="tokens of context", ylabel="ms per step", xscale="log", yscale="log")
    _save(figure, [axes], folder / "decode_context.png")


def _step_s(ours: Contestant, batch: int, *, num_tokens: int | None = None) -> float:
    """Return the seconds of one decode step: many new tokens against one, so that reading the prompts drops out."""
    from benchmarks.decode import make_prompts

    prompts = make_prompts(batch, num_tokens=num_tokens)
    seconds = [batch * new / ours.run(prompts, new) for new in (1, 1 + NEW_TOKENS)]
    return max(seconds[1] - seconds[0], 1e-6) / NEW_TOKENS


def _save(figure: object, axes: list[object], path: Path) -> None:
    for one in axes:
        one.grid(alpha=0.3)  # type: ignore[attr-defined]
        one.legend()  # type: ignore[attr-defined]
    figure.tight_layout()  # type: ignore[attr-defined]
    figure.savefig(path, dpi=110)  # type: ignore[attr-defined]
    print(f"wrote {path}")
