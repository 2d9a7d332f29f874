"""What a long-running server keeps is bounded: measured in a process of its own, whose caches are empty at first."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from engine.backends.native.linears import has_onednn_bfloat16
from tests.architecture.source_tree import ROOT
from tests.support.live_server import chat_body, image_part, picture

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


# Frees nine of ten pages all over a heap of 200 MB, and ends once most of them are the system's again.
FREE_PAGES = """
import asyncio, ctypes
from server.heap import keep_trimming, share_one_heap

def resident_bytes():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

async def wait_for_half():
    before = resident_bytes()
    assert before > 200_000_000
    trimming = asyncio.create_task(keep_trimming(every_s=0))
    async with asyncio.timeout(30):
        while resident_bytes() > before / 2:
            await asyncio.sleep(0)
    trimming.cancel()

share_one_heap()
pages = [ctypes.create_string_buffer(b"x", 4096) for _ in range(50_000)]
kept = pages[::10]
del pages
asyncio.run(wait_for_half())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim")
def test_free_pages_between_used_ones_go_back_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREE_PAGES],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


ARENA_BYTES = 64 * 1024 * 1024  # what glibc sets aside for the heap of one thread, at a multiple of it


def num_thread_heaps(pid: int) -> int:
    """Count the heaps beside the one that all threads may share: a part that is in use, and the rest set aside."""
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()]
    mappings = [(*(int(end, 16) for end in fields[0].split("-")), fields[1]) for fields in lines]
    return sum(
        start % ARENA_BYTES == 0 and (rights, rest_rights) == ("rw-p", "---p") and rest_end == start + ARENA_BYTES
        for (start, _, rights), (_, rest_end, rest_rights) in pairwise(mappings)
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have one heap")
def test_all_threads_of_a_server_share_one_heap(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC")}
    arguments = ["serve", "--port", "0", "--model", "tiny", "--set", "dtype=float32", "--set", "num_threads=1"]
    with subprocess.Popen(
        [sys.executable, "-m", "server.cli", *arguments, "--log-dir", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[3]
            while "is ready" not in process.stdout.readline():
                continue
            bodies = [chat_body([image_part(picture((40 * i, 90, 20)))]) for i in range(6)]
            with ThreadPoolExecutor(3) as clients:
                ask = partial(httpx.post, f"{address}/v1/chat/completions", timeout=60)
                answers = list(clients.map(lambda body: ask(json=body), bodies))
            assert {answer.status_code for answer in answers} == {200}
            assert num_thread_heaps(process.pid) == 0
        finally:
            process.terminate()
