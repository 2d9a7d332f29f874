"""Reading checkpoint files and filling modules with them, strictly and without running code from a file."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from core.errors import CheckpointError
from models.checkpoints import load_torch_file, tensors_of

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the mapping a `.safetensors` or torch file holds, on the CPU, without running code from it.

    `argparse.Namespace`, which training scripts store beside the weights, is let through: it only holds values.
    Raises `CheckpointError` naming the file.
    """
    if path.suffix != ".safetensors":
        with torch.serialization.safe_globals([Namespace]):
            return load_torch_file(path)
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return a file that holds tensors only, by name. Raises `CheckpointError` naming the file and any other entry."""
    return tensors_of(path, read_checkpoint(path))


def load_strictly(module: ModuleT, state: Mapping[str, Any], source: str) -> ModuleT:
    """Fill `module` with `state` and return it. Raises `CheckpointError` that names every key or shape at fault.

    A module on the meta device takes the tensors over instead of copying them.
    """
    own = module.state_dict()
    faults = [f"missing {key}" for key in own if key not in state]
    faults += [f"unexpected {key}" for key in state if key not in own]
    for key in own.keys() & state.keys():
        value = state[key]
        if not isinstance(value, Tensor):
            faults.append(f"{key} is a {type(value).__name__}, not a tensor")
        elif value.shape != own[key].shape:
            faults.append(f"{key} has shape {tuple(value.shape)}, the model takes {tuple(own[key].shape)}")
    if faults:
        more = f" and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise CheckpointError(f"{source} does not fit {type(module).__name__}: {'; '.join(faults[:10])}{more}")
    module.load_state_dict(dict(state), assign=any(value.is_meta for value in own.values()))
    return module
