"""Training metrics as TensorBoard event files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from training.loop import Report


@contextmanager
def tensorboard(folder: Path, *, writes: bool = True) -> Iterator[Report]:
    """Yield what `run_loop` reports to: each metric of each step becomes a scalar; nothing where not `writes`."""
    if not writes:
        yield lambda step, metrics: None
        return
    writer = SummaryWriter(str(folder))

    def report(step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    try:
        yield report
    finally:
        writer.close()
