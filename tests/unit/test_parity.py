"""The parity runner itself: what it finds, what it calls a failure, how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.parity import FAMILIES, compare, main, max_abs_diff
from benchmarks.parity_families.decoding import cut_at_eos, teacher_forced_loss, uncovered

SAMPLING = Path(__file__).parents[1] / "golden" / "sampling"


def write_fixture(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"fixture": name}))
    return folder


def copied_sampling(folder: Path, error: float) -> Path:
    write_fixture(folder, "sampling/copy")
    save_file(load_file(SAMPLING / "inputs.safetensors"), folder / "inputs.safetensors")
    outputs = {
        key: value for key, value in load_file(SAMPLING / "outputs.safetensors").items() if key.startswith("t1.0_p0.5")
    }
    outputs["t1.0_p0.5.filtered_probs"][0, 0] += error
    save_file(outputs, folder / "outputs.safetensors")
    return folder


def test_fixtures_are_found_recursively_and_printed_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied_sampling(tmp_path / "deep" / "down", 0.0)
    assert main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "sampling/copy:t1.0_p0.5.filtered_probs",
        "sampling/copy:t1.0_p0.5.kept",
    ]
    assert all(line.split()[2] == "PASS" for line in lines)


def test_one_output_over_its_tolerance_fails_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied_sampling(tmp_path / "wrong", 0.25)
    assert main([str(tmp_path)]) == 1
    assert "filtered_probs 0.25 FAIL" in capsys.readouterr().out


def test_an_unknown_family_fails_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fixture(tmp_path / "new", "unheard_of/base")
    assert main([str(tmp_path)]) == 1
    assert "unheard_of/base:UnknownName inf FAIL" in capsys.readouterr().out


def test_a_damaged_fixture_does_not_hide_the_next_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fixture(tmp_path / "a", "llama_adapter_v1")
    copied_sampling(tmp_path / "b", 0.0)
    assert main([str(tmp_path)]) == 1
    assert "kept 0 PASS" in capsys.readouterr().out


def test_folders_without_fixtures_fail_and_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1
    assert main([]) == 2
    assert main([str(tmp_path / "absent")]) == 2


def test_another_shape_or_a_nan_is_an_infinite_difference() -> None:
    assert max_abs_diff(np.zeros(2), np.zeros(3)) == float("inf")
    assert max_abs_diff(np.array([np.nan]), np.zeros(1)) == float("inf")
    assert max_abs_diff(np.array([1, 5]), np.array([1, 2])) == 3


def test_an_output_nobody_produced_is_a_failure() -> None:
    ((name, produced, expected, tolerance),) = uncovered({"a": torch.zeros(1), "b": torch.zeros(0)}, {"a"})
    assert name == "b"
    assert not max_abs_diff(produced, expected) <= tolerance


def test_every_family_names_a_module_that_exists() -> None:
    assert all(callable(FAMILIES.load(name)) for name in FAMILIES.names())


def test_a_family_reports_its_outputs_under_the_fixture_name() -> None:
    assert {name.partition(":")[0] for name, _, _ in compare("sampling/anything", SAMPLING)} == {"sampling/anything"}


def test_ids_end_before_the_first_end_of_text() -> None:
    assert cut_at_eos([5, 2, 7, 2]) == [5]
    assert cut_at_eos([5, 7]) == [5, 7]


def test_the_teacher_forced_loss_ignores_label_zero_and_is_zero_without_labels() -> None:
    logits = torch.randn(2, 4, 6)
    labels = torch.tensor([[0, 0, 3, 5], [0, 2, 0, 0]])
    log_probabilities = logits.log_softmax(-1)
    expected = -(log_probabilities[0, 1, 3] + log_probabilities[0, 2, 5] + log_probabilities[1, 0, 2]) / 3
    torch.testing.assert_close(teacher_forced_loss(logits, labels), expected)
    assert float(teacher_forced_loss(logits, torch.zeros_like(labels))) == 0
