"""What a long-running server keeps is bounded: measured in a process of its own, whose caches are empty at first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.backends.native.linears import has_onednn_bfloat16
from tests.architecture.source_tree import ROOT

# Runs prompts of 17 to 256 tokens through a small decoder, and prints by how many bytes memory grew.
GROWTH_BY_LENGTHS = """
from types import SimpleNamespace
import torch
from engine.backends import DecodingConfig
from engine.backends.native.runner import NativeRunner
from engine.backends.native.scheduler import Row, StepPlan
from models.registry import load_model

def anonymous_bytes():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

torch.set_num_threads(1)
decoder = load_model("tiny", torch.bfloat16).decoder
runner = NativeRunner(decoder, DecodingConfig(max_slots=1, max_context=512, num_threads=1))
sequence = SimpleNamespace(slot=0)

def read_prompt(num_tokens):
    plan = StepPlan((), (Row(sequence, 0, num_tokens, True),))
    decoder.output(runner._fused.forward(torch.zeros(num_tokens, dtype=torch.int64), plan)[-1:])

with torch.inference_mode():
    runner.prepare()
    read_prompt(256)
    before = anonymous_bytes()
    for num_tokens in range(17, 257):
        read_prompt(num_tokens)
print(anonymous_bytes() - before)
"""


@pytest.mark.skipif(not has_onednn_bfloat16(), reason="products of this machine do not go through oneDNN")
def test_prompts_of_ever_new_lengths_do_not_fill_the_memory_with_code_for_each() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN")}
    done = subprocess.run(
        [sys.executable, "-c", GROWTH_BY_LENGTHS],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 100 * 1024 * 1024
