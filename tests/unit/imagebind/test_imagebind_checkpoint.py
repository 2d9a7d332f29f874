from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.errors import CheckpointError
from models.imagebind.checkpoint import load_imagebind, weights_digest
from models.imagebind.config import ImageBindConfig
from models.imagebind.model import ImageBind

CLS = "modality_preprocessors.vision.cls_token"


class Touch:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_saved_weights_load_again_bit_for_bit(
    form: str, tmp_path: Path, tiny_imagebind: ImageBind, tiny_config: ImageBindConfig
) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(tiny_imagebind.state_dict(), path)
    else:
        torch.save(tiny_imagebind.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    loaded = load_imagebind(path, config=tiny_config)
    assert weights_digest(loaded) == weights_digest(tiny_imagebind)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_logit_scales_stay_float32_in_a_bfloat16_load(
    tmp_path: Path, tiny_imagebind: ImageBind, tiny_config: ImageBindConfig
) -> None:
    torch.save(tiny_imagebind.state_dict(), tmp_path / "w.pth")
    loaded = load_imagebind(tmp_path / "w.pth", torch.bfloat16, tiny_config)
    kinds = {key: value.dtype for key, value in loaded.state_dict().items()}
    assert kinds["modality_postprocessors.audio.1.log_logit_scale"] == torch.float32
    assert kinds[CLS] == torch.bfloat16


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_a_key_that_does_not_fit_is_named_with_its_file(
    fault: str, tmp_path: Path, tiny_imagebind: ImageBind, tiny_config: ImageBindConfig
) -> None:
    tensors = dict(tiny_imagebind.state_dict())
    if fault == "missing":
        del tensors[CLS]
    else:
        tensors[CLS if fault == "shape" else f"{CLS}.extra"] = torch.zeros(2)
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"w\.pth .*{CLS}"):
        load_imagebind(tmp_path / "w.pth", config=tiny_config)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_truncated_file_is_refused_by_name(
    suffix: str, tmp_path: Path, tiny_imagebind: ImageBind, tiny_config: ImageBindConfig
) -> None:
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save(tiny_imagebind.state_dict(), path)
    else:
        save_file(tiny_imagebind.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match=rf"w\.{suffix}"):
        load_imagebind(path, config=tiny_config)


@pytest.mark.parametrize("zip_form", [True, False])
def test_code_inside_a_file_is_refused_and_not_run(zip_form: bool, tmp_path: Path) -> None:
    torch.save({CLS: Touch(tmp_path / "ran")}, tmp_path / "w.pth", _use_new_zipfile_serialization=zip_form)
    with pytest.raises(CheckpointError, match=r"w\.pth"):
        load_imagebind(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_not_a_flat_dictionary_is_of_another_family(tmp_path: Path) -> None:
    torch.save({"model": {CLS: torch.zeros(1)}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: model is dict"):
        load_imagebind(tmp_path / "w.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pth"):
        load_imagebind(tmp_path / "nothing.pth")


def test_the_digest_changes_with_any_weight(tiny_imagebind: ImageBind) -> None:
    before = weights_digest(tiny_imagebind)
    tiny_imagebind.get_parameter(CLS)[0, 0, 0] += 1
    assert weights_digest(tiny_imagebind) != before
