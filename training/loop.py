"""A small training loop: warm-up and decay, accumulation, progress bar, exact resumption, metrics, loss plot."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import torch
from torch import Tensor, distributed, nn
from tqdm import tqdm

Report = Callable[[int, Mapping[str, float]], None]


def _unreported(step: int, metrics: Mapping[str, float]) -> None:
    """Keep no metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long and how fast; `max_minutes` ends the run early by compressing the decay into the time left.

    Each step takes the mean gradient of `micro_steps` losses and scales it down to `clip_norm`. `model_name` and
    `loss_name` label the progress bar and the plot; `report` gets loss, gradient norm and rate after each step.
    """

    num_steps: int
    model_name: str = "adapter"
    loss_name: str = "cross-entropy of the answers (nats per token)"
    warmup_steps: int = 30
    checkpoint_every: int = 50
    max_minutes: float = math.inf
    decay: Literal["linear", "cosine"] = "linear"
    micro_steps: int = 1
    clip_norm: float = 1.0
    report: Report = _unreported


@dataclass(slots=True)
class LoopState:
    """What a checkpoint restores beside weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that train together, one thread each: on a busy machine two of them wait less than two threads."""

    rank: int
    size: int

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the team; a process whose batch did not reach a parameter counts 0.

        A parameter that no batch reached stays without a gradient.
        """
        if self.size == 1:
            return
        reached = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        distributed.all_reduce(reached)
        shared = [p for p, count in zip(parameters, reached.tolist(), strict=True) if count]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in shared]) / self.size
        distributed.all_reduce(flat)
        for parameter, mean in zip(shared, flat.split_with_sizes([p.numel() for p in shared]), strict=True):
            parameter.grad = mean.view_as(parameter).clone()

    def latest(self, seconds: float) -> float:
        """Return the largest of the team's times, so that all of them end at the same step."""
        if self.size == 1:
            return seconds
        largest = torch.tensor(seconds, dtype=torch.float64)
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX)
        return float(largest)


ALONE = Team(0, 1)


def team_of_launcher() -> Team:
    """Return this process's place among those that `torchrun` started, joined and ready; alone without it.

    On GPUs each process takes the one of its number on this machine as "cuda".
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Team(distributed.get_rank(), size)


def progress_of(state: LoopState, config: LoopConfig) -> float:
    """Return the finished share of the run in [0, 1]: of the steps or of the minutes, whichever is further."""
    return max(state.step / config.num_steps, state.seconds / 60 / config.max_minutes)


def rate_at(state: LoopState, config: LoopConfig) -> float:
    """Return the factor on every learning rate: linear warm-up, then the decay to zero, a line or half a cosine."""
    warmup = (state.step + 1) / max(config.warmup_steps, 1)
    progress = min(progress_of(state, config), 1.0)
    if config.decay == "linear":
        return min(warmup, 1.0 - progress)
    share = config.warmup_steps / config.num_steps  # of the run; the cosine spans the rest
    return min(warmup, 0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - share) / max(1.0 - share, 1e-9)))


def run_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_at: Callable[[int], Tensor],
    config: LoopConfig,
    folder: Path,
    *,
    team: Team = ALONE,
) -> LoopState:
    """Minimise `loss_at(i)`, which must depend on i alone, resuming from `folder/checkpoint.pt`.

    i counts losses, `micro_steps` of them a step. Writes the checkpoint atomically and `folder/loss.png` as it goes;
    returns the final state. The workers of a team minimise the mean of their losses: `loss_at` must differ between
    them, and the first of them writes.
    """
    state = _restore(model, optimizer, folder)
    base_rates = [group["initial_lr"] for group in optimizer.param_groups]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    bar = tqdm(total=config.num_steps, initial=state.step, desc=config.model_name, unit="step", disable=team.rank > 0)
    while progress_of(state, config) < 1.0:
        started = time.perf_counter()
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate * rate_at(state, config)
        optimizer.zero_grad(set_to_none=True)
        loss = _accumulate(loss_at, state.step, config.micro_steps)
        team.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        state.step += 1
        state.seconds = team.latest(state.seconds + time.perf_counter() - started)
        state.losses.append(loss)
        config.report(state.step, {"loss": loss, "gradient_norm": float(norm), "rate": optimizer.param_groups[0]["lr"]})
        bar.update()
        bar.set_postfix(loss=f"{sum(state.losses[-20:]) / len(state.losses[-20:]):.3f}", refresh=False)
        if state.step % config.checkpoint_every == 0 and team.rank == 0:
            _save(model, optimizer, state, config, folder)
    bar.close()
    if team.rank == 0:
        _save(model, optimizer, state, config, folder)
    return state


def _accumulate(loss_at: Callable[[int], Tensor], step: int, micro_steps: int) -> float:
    """Add up the gradients of one step's losses and return their mean."""
    total = 0.0
    for i in range(step * micro_steps, (step + 1) * micro_steps):
        loss = loss_at(i) / micro_steps
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _save(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: LoopState, config: LoopConfig, folder: Path
) -> None:
    packed = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
    }
    temporary = folder / "checkpoint.tmp"
    torch.save({**packed, "losses": state.losses}, temporary)
    temporary.replace(folder / "checkpoint.pt")
    plot_losses({config.model_name: state.losses}, folder / "loss.png", loss_name=config.loss_name)


def _restore(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> LoopState:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return LoopState()
    packed = torch.load(path, weights_only=True)
    model.load_state_dict(packed["model"])
    optimizer.load_state_dict(packed["optimizer"])
    return LoopState(packed["step"], packed["seconds"], list(packed["losses"]))


def plot_losses(
    curves: Mapping[str, Sequence[float]],
    path: Path,
    *,
    smoothing: int = 25,
    loss_name: str = "cross-entropy of the answers (nats per token)",
) -> None:
    """Draw loss curves, raw in the background and their running mean in front, as a PNG."""
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120)
    for name, losses in curves.items():
        values = torch.tensor(losses)
        axes.plot(values, alpha=0.25, linewidth=0.8)
        if len(values) >= smoothing:
            mean = values.unfold(0, smoothing, 1).mean(dim=1)
            axes.plot(range(smoothing - 1, len(values)), mean, label=f"{name}, mean of {smoothing}")
            axes.legend()
    axes.set(xlabel="step", ylabel=loss_name, ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
