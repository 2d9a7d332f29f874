"""An iLLaMA classifier as a folder: `illama.safetensors` in half precision, `illama.json` with config and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from core.errors import CheckpointError, ConfigError
from models.checkpoints import read_checkpoint, read_json
from models.conversion_journal import write_json
from models.illama.classifier import IllamaClassifier
from models.illama.model import Illama, IllamaConfig
from models.illama.weights import load_illama

WEIGHTS_NAME, CONFIG_NAME = "illama.safetensors", "illama.json"
BUILT_IN = {"illama-mini": Path(__file__).parent.parent / "illama_mini"}


def save_classifier(folder: Path, model: Illama, class_names: Sequence[str], *, temperature: float = 1.0) -> None:
    """Write the folder that `load_classifier` reads; weights are rounded to float16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    stored = {"config": asdict(model.config), "class_names": list(class_names), "temperature": temperature}
    write_json(folder / CONFIG_NAME, stored)


def is_classifier(name: str) -> bool:
    """Say whether `name` is a built-in classifier or a folder that holds one."""
    return name in BUILT_IN or (Path(name) / CONFIG_NAME).is_file()


def load_classifier(name: str) -> IllamaClassifier:
    """Load `illama-mini`, or the folder of that name, in float32. Raises `CheckpointError` naming the file at fault."""
    folder = BUILT_IN.get(name, Path(name))
    stored = read_json(folder / CONFIG_NAME)
    try:
        config = IllamaConfig(**stored["config"])
        names, temperature = tuple(stored["class_names"]), float(stored["temperature"])
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{folder / CONFIG_NAME} lacks an entry or has a wrong one: {error}") from error
    weights = {key: value.float() for key, value in read_checkpoint(folder / WEIGHTS_NAME).items()}
    model = load_illama(weights, config, str(folder / WEIGHTS_NAME)).requires_grad_(False)
    return IllamaClassifier(model.to(torch.float32), names, temperature=temperature)


def load_illama_mini() -> IllamaClassifier:
    """Return the built-in classifier, as the expert `classify` asks for it."""
    return load_classifier("illama-mini")
