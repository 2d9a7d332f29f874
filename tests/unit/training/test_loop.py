"""The training loop: resuming gives the same weights, the rate follows its schedule, the plot is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import Tensor, nn

from training.loop import LoopConfig, LoopState, rate_at, run_loop
from training.metrics import tensorboard


def _setup() -> tuple[nn.Module, torch.optim.Optimizer, Callable[[int], Tensor]]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]

    def loss_at(step: int) -> Tensor:
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss: Tensor = (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
        return loss

    return model, optimizer, loss_at


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = LoopConfig(num_steps=12, warmup_steps=3, checkpoint_every=5)
    whole, optimizer, loss_at = _setup()
    (tmp_path / "whole").mkdir()
    run_loop(whole, optimizer, loss_at, config, tmp_path / "whole")

    class Interrupted(Exception):
        pass

    first, optimizer, loss_at = _setup()
    (tmp_path / "parts").mkdir()

    def fail_at_eight(step: int) -> Tensor:
        if step == 8:
            raise Interrupted
        return loss_at(step)

    with pytest.raises(Interrupted):
        run_loop(first, optimizer, fail_at_eight, config, tmp_path / "parts")
    second, optimizer, loss_at = _setup()
    state = run_loop(second, optimizer, loss_at, config, tmp_path / "parts")
    assert state.step == 12
    assert len(state.losses) == 12
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    assert (tmp_path / "parts" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_rate_warms_up_and_decays_to_zero() -> None:
    config = LoopConfig(num_steps=100, warmup_steps=10)
    assert rate_at(LoopState(step=0), config) == pytest.approx(0.1)
    assert rate_at(LoopState(step=50), config) == pytest.approx(0.5)
    assert rate_at(LoopState(step=100), config) == 0.0


def test_a_limit_in_minutes_compresses_the_decay() -> None:
    config = LoopConfig(num_steps=1000, warmup_steps=1, max_minutes=10)
    assert rate_at(LoopState(step=10, seconds=300), config) == pytest.approx(0.5)


def test_micro_steps_add_up_to_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "micro").mkdir()
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    whole, optimizer, _ = _setup()
    run_loop(whole, optimizer, lambda i: whole(rows).square().mean(), LoopConfig(num_steps=3), tmp_path / "whole")
    micro, optimizer, _ = _setup()
    config = LoopConfig(num_steps=3, micro_steps=4)
    run_loop(micro, optimizer, lambda i: micro(rows[2 * (i % 4) :][:2]).square().mean(), config, tmp_path / "micro")
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(whole.parameters(), micro.parameters(), strict=True))


def test_the_cosine_starts_after_warm_up_and_ends_at_zero() -> None:
    config = LoopConfig(num_steps=110, warmup_steps=10, decay="cosine")
    assert rate_at(LoopState(step=4), config) == pytest.approx(0.5)
    assert rate_at(LoopState(step=10), config) == pytest.approx(1.0)
    assert rate_at(LoopState(step=60), config) == pytest.approx(0.5)
    assert rate_at(LoopState(step=110), config) == pytest.approx(0.0)


def test_metrics_of_every_step_lie_in_the_event_file(tmp_path: Path) -> None:
    model, optimizer, loss_at = _setup()
    with tensorboard(tmp_path / "events") as report:
        state = run_loop(model, optimizer, loss_at, LoopConfig(num_steps=4, report=report), tmp_path)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(state.losses)
    assert {"gradient_norm", "rate"} <= set(events.Tags()["scalars"])
