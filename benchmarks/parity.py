"""Compare every model family with recorded outputs of the reference code: `python -m benchmarks.parity DIR...`.

A fixture is a folder with a `config.json` whose `fixture` field names the family, up to the first slash. Prints
`name max_abs_diff PASS|FAIL` per output and exits 1 when any output fails, a family is unknown or nothing was found.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.parity_families import Output
from core.registry import Registry
from core.types import AnyArray

Outputs = Callable[[Path], Iterator[Output]]

_ADAPTER = "benchmarks.parity_families.llama_adapter"

FAMILIES: Registry[Outputs] = Registry(
    "fixture family",
    {
        "imagebind": "benchmarks.parity_families.imagebind:outputs",
        "imagebind_preprocessing": "benchmarks.parity_families.imagebind:outputs",
        "pointbert": "benchmarks.parity_families.points:outputs",
        "pointbind_i2pmae": "benchmarks.parity_families.points:outputs",
        "pointcloud_normalize": "benchmarks.parity_families.points:outputs",
        "illama": "benchmarks.parity_families.illama:outputs",
        "illama_schedules": "benchmarks.parity_families.illama:outputs",
        "illama_pos_interp": "benchmarks.parity_families.illama:outputs",
        "imagebind_llm": "benchmarks.parity_families.imagebind_llm:outputs",
        "llama_adapter_v1": f"{_ADAPTER}:v1_outputs",
        "llama_adapter_v2_multimodal": f"{_ADAPTER}:v2_multimodal_outputs",
        "llama_adapter_v2_chat65b": f"{_ADAPTER}:chat_outputs",
        "sampling": "benchmarks.parity_families.text:sampling_outputs",
        "llama_tokenizer": "benchmarks.parity_families.text:tokenizer_outputs",
        "chat_prompt": "benchmarks.parity_families.text:chat_prompt_outputs",
    },
)


def find_fixtures(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return (fixture name, folder) of every `config.json` with a `fixture` field below the folders."""
    found = {}
    for folder in folders:
        for config_path in sorted(folder.rglob("config.json")):
            name = json.loads(config_path.read_text(encoding="utf-8")).get("fixture")
            if name is not None:
                found[config_path.parent.resolve()] = str(name)
    return [(name, path) for path, name in found.items()]


def max_abs_diff(produced: AnyArray, expected: AnyArray) -> float:
    """Return the largest absolute difference; infinite for another shape, a missing value or a NaN."""
    produced, expected = np.asarray(produced), np.asarray(expected)
    if produced.shape != expected.shape:
        return float("inf")
    if produced.size == 0:
        return 0.0
    difference = np.abs(produced.astype(np.float64) - expected.astype(np.float64))
    return float("inf") if np.isnan(difference).any() else float(difference.max())


def compare(name: str, folder: Path) -> Iterator[tuple[str, float, bool]]:
    """Yield (output name, difference, passed) of one fixture; a family that raises fails with its own line."""
    try:
        outputs = FAMILIES.load(name.partition("/")[0])
        for output_name, produced, expected, tolerance in outputs(folder):
            difference = max_abs_diff(produced, expected)
            yield f"{name}:{output_name}", difference, difference <= tolerance
    except Exception as error:  # one broken fixture must not hide the others; it is printed and counted as a failure
        traceback.print_exception(error, file=sys.stderr)
        yield f"{name}:{type(error).__name__}", float("inf"), False


def main(arguments: Sequence[str]) -> int:
    """Run every fixture below the folders and return the exit status."""
    folders = [Path(argument) for argument in arguments]
    if not folders or not all(folder.is_dir() for folder in folders):
        print("usage: python -m benchmarks.parity DIR...   (folders that hold fixtures)", file=sys.stderr)
        return 2
    num_outputs = num_failures = 0
    for name, folder in find_fixtures(folders):
        for output_name, difference, passed in compare(name, folder):
            print(f"{output_name} {difference:.3g} {'PASS' if passed else 'FAIL'}", flush=True)
            num_outputs += 1
            num_failures += not passed
    print(f"{num_outputs} outputs, {num_failures} failures", file=sys.stderr)
    return 1 if num_failures or not num_outputs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
