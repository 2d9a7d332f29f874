"""Read weights files without running code from them, compare keys strictly, and fill modules with them."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core.errors import CheckpointError

_LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9"
_MAX_NAMED = 6
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises `CheckpointError` naming the file when it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_same_keys(where: str, expected: Iterable[str], found: Iterable[str]) -> None:
    """Raise `CheckpointError` naming `where` and the missing and unexpected keys, unless there are none."""
    missing, unexpected = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or unexpected:
        parts = [_listed("missing", missing), _listed("unexpected", unexpected)]
        raise CheckpointError(f"{where}: {'; '.join(part for part in parts if part)}")


def _listed(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _MAX_NAMED} more" if len(keys) > _MAX_NAMED else ""
    return f"{what} keys {', '.join(keys[:_MAX_NAMED])}{more}"


def load_torch_file(path: Path) -> dict[str, Any]:
    """Return the top-level dictionary of a `.pth` file, memory-mapped, without running any code in it.

    `argparse.Namespace`, which training scripts store beside the weights, is let through: it only holds values.
    Raises `CheckpointError` naming the file when it is missing, truncated, holds more than tensors, or is no
    dictionary.
    """
    try:
        with path.open("rb") as stream:
            legacy = stream.read(len(_LEGACY_TORCH_MAGIC)) == _LEGACY_TORCH_MAGIC
        if not legacy and not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path} is truncated or is no torch checkpoint; download it again")
        with torch.serialization.safe_globals([Namespace]):
            loaded = torch.load(path, map_location="cpu", mmap=not legacy, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path} holds more than tensors; refused, none of its code ran: {reason}") from error
    except (OSError, EOFError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} must hold a dictionary of tensors, got {type(loaded).__name__}")
    return loaded


def tensors_of(path: Path, loaded: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return `loaded` as tensors by name. Raises `CheckpointError` naming the first entry that is none."""
    for key, value in loaded.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {key} is {type(value).__name__}; a tensor is needed")
    return cast("dict[str, Tensor]", dict(loaded))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a `.safetensors` or torch file holds, on the CPU. Raises `CheckpointError` naming the file."""
    if path.suffix != ".safetensors":
        return load_torch_file(path)
    stored = _open_safetensors(path)
    return {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a mapping)


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


class SafetensorsFolder:
    """The tensors of one or several safetensors files, read one at a time from their memory maps."""

    def __init__(self, folder: Path, stem: str = "model") -> None:
        self.folder = folder
        index_path = folder / f"{stem}.safetensors.index.json"
        listed: dict[str, str] | None = read_json(index_path).get("weight_map") if index_path.is_file() else None
        names = sorted(set(listed.values())) if listed else [f"{stem}.safetensors"]
        self._files = {name: _open_safetensors(folder / name) for name in names}
        self.file_of = {key: name for name, stored in self._files.items() for key in stored.keys()}  # noqa: SIM118
        if listed is not None:
            require_same_keys(str(index_path), listed, self.file_of)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by key."""
        return {key: tuple(self._files[name].get_slice(key).get_shape()) for key, name in self.file_of.items()}

    def read(self, key: str) -> Tensor:
        """Return one tensor. Raises `CheckpointError` when no file has the key."""
        if key not in self.file_of:
            raise CheckpointError(f"{self.folder}: missing keys {key}")
        return cast(Tensor, self._files[self.file_of[key]].get_tensor(key))

    def origin(self, key: str) -> str:
        """Return the file and the key, for error messages."""
        return f"{self.folder / self.file_of[key]}: {key}"


def _open_safetensors(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file: {error}") from error
