"""Decode speed of SmolLM2-135M with a condition, beside other engines on the same weights and prompts.

    python -m benchmarks.decode [--quick] [--json] [--vllm-python PATH] [--llama-python PATH]

64 new tokens at concurrency 1, 8, 32 and 64, two threads. Every contestant runs in a process of its own and they take
turns within one run, so that what else the machine does meets all of them; the best round counts. The peers decode text
alone, ours with a condition on every request. llama.cpp reads the 4-bit GGUF file itself (`--llama-python`: a Python
with the `xllamacpp` wheel), vLLM the same weights in bfloat16 (`--vllm-python`). A peer that would take longer than
`--patience` seconds for a run is left out there, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.decode_limits import Limits, measure_limits
from models.llama.weights import decoder_slots
from models.mini.assets import decoder_file
from models.registry import load_model

ROOT = Path(__file__).parent.parent
CONCURRENCIES = (1, 8, 32, 64)
OURS = "bindchat"
OFFICIAL = "official loop"
OFFICIAL_REQUESTS = 2
QUICK_TOKENS = 16
END_TIMEOUT_S = 30
QUESTIONS = (
    "What is this?",
    "Write a short story about a robot who learns to cook.",
    "Explain in two sentences how a rainbow forms.",
    "List three things to pack for a trip to the mountains.",
)


class ContestantFailed(Exception):
    """A contestant's process ended or made another number of tokens; what it printed is above."""


@dataclass(slots=True)
class Contestant:
    """One engine in its process. `rates` holds the tokens per second of its rounds by concurrency."""

    name: str
    process: subprocess.Popen[str]
    rates: dict[int, list[float]] = field(default_factory=dict)
    has_failed: bool = False

    def run(self, prompts: list[list[int]], num_new: int) -> float:
        """Decode and return tokens per second."""
        answer = self._ask({"prompts": prompts, "num_new": num_new})
        if answer["tokens"] != len(prompts) * num_new:
            raise ContestantFailed(f"{self.name} made {answer['tokens']} tokens of {len(prompts) * num_new}")
        return float(answer["tokens"] / answer["seconds"])

    def note(self, concurrency: int, rate: float | None) -> None:
        """Keep the rate of a round that was run."""
        if rate is not None:
            self.rates.setdefault(concurrency, []).append(rate)

    def wait_until_ready(self) -> None:
        self._ask(None)

    def best(self, concurrency: int) -> float | None:
        return max(self.rates.get(concurrency, []), default=None)

    def expected_s(self, concurrency: int, num_new: int) -> float:
        """Return a guess from the nearest concurrency measured: steps take longer with the root of the batch."""
        if not self.rates:
            return 0.0
        nearest = min(self.rates, key=lambda measured: abs(measured - concurrency))
        step_s = nearest / max(self.rates[nearest])
        return num_new * step_s * float((concurrency / nearest) ** 0.5)

    def _ask(self, run: dict[str, Any] | None) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        if run is not None:
            self.process.stdin.write(json.dumps(run) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ContestantFailed(f"{self.name} ended early; its messages are above")
        return json.loads(line)


@contextmanager
def contestant(name: str, python: str, module: str, *arguments: str) -> Iterator[Contestant]:
    """Start a contestant's process, wait until it is ready, and end it with the block."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": arguments[-1] if module.startswith("vllm") else os.environ.get("OMP_NUM_THREADS", ""),
    }
    if not environment["OMP_NUM_THREADS"]:
        del environment["OMP_NUM_THREADS"]
    if module == "ours":
        environment.setdefault("GOMP_SPINCOUNT", "1000")  # as server/wiring.py sets it for the server
    command = [python, "-m", f"benchmarks.decode_peers.{module}", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    started = Contestant(name, process)
    try:
        began = time.perf_counter()
        started.wait_until_ready()
        print(f"{name}: ready after {time.perf_counter() - began:.1f} s", file=sys.stderr)
        yield started
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Let a contestant end by itself, so that the processes it started end too; terminate it when it does not."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()


def export_decoder(folder: Path) -> None:
    """Write the decoder as a Hugging Face folder in bfloat16, for engines that read one."""
    from safetensors.torch import save_file

    decoder = load_model("mini", torch.bfloat16).decoder
    config, parameters = decoder.config, dict(decoder.named_parameters())
    tensors = {
        key: parameters[slot.parameter][slot.start : slot.start + slot.shape[0]].clone()
        for key, slot in decoder_slots(config).items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    description = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.hidden_width,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.max_context,
        "tie_word_embeddings": config.tied_embeddings,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": None,  # no engine may end early
    }
    (folder / "config.json").write_text(json.dumps(description))


def make_prompts(count: int, *, num_tokens: int | None = None) -> list[list[int]]:
    """Return `count` different chat prompts, or prompts of exactly `num_tokens`."""
    tokenizer = load_model("mini", torch.bfloat16).tokenizer
    prompts = []
    for number in range(count):
        question = f"{QUESTIONS[number % len(QUESTIONS)]} (case {number})"
        token_ids = tokenizer.apply_chat_template([{"role": "user", "content": question}])
        if num_tokens is not None:
            token_ids = (token_ids * (num_tokens // len(token_ids) + 1))[:num_tokens]
        prompts.append(token_ids)
    return prompts


def start_all(stack: ExitStack, arguments: argparse.Namespace, folder: Path) -> list[Contestant]:
    """Start ours and every peer that is installed."""
    threads, here = str(arguments.threads), sys.executable
    wanted: list[tuple[str, ...]] = [(OURS, here, "ours", threads, arguments.weights_dtype, "1")]
    if find_spec("transformers") is not None:
        wanted.append(("transformers static", here, "transformers_peer", str(folder), threads, "static"))
        if not arguments.quick:
            wanted.append(("transformers continuous", here, "transformers_peer", str(folder), threads, "continuous"))
    if arguments.llama_python:
        wanted.append(("llama.cpp", arguments.llama_python, "llama_cpp_peer", str(decoder_file()), threads))
    if arguments.vllm_python:
        wanted.append(("vLLM", arguments.vllm_python, "vllm_peer", str(folder), threads))
    started = []
    for entry in wanted:
        try:
            started.append(stack.enter_context(contestant(*entry)))
        except ContestantFailed as error:
            if entry[0] == OURS:
                raise
            print(f"left out: {error}", file=sys.stderr)
    return started


def take_turns(contestants: list[Contestant], arguments: argparse.Namespace) -> None:
    """Run every contestant at every concurrency, one after the other, round by round; only peers are left out."""
    prompts = make_prompts(max(arguments.concurrency))
    for one in contestants:
        for concurrency in (1, *arguments.concurrency):  # engines make code for a size when they first meet it
            if one.name == OURS or one.expected_s(concurrency, 2) <= arguments.patience:
                one_turn(one, prompts[:concurrency], 2)
    for turn, concurrency in product(range(arguments.rounds), arguments.concurrency):
        for one in contestants if turn % 2 == 0 else reversed(contestants):
            if one.name == OURS or one.expected_s(concurrency, arguments.tokens) <= arguments.patience:
                one.note(concurrency, one_turn(one, prompts[:concurrency], arguments.tokens))


def one_turn(one: Contestant, prompts: list[list[int]], num_new: int) -> float | None:
    """Return tokens per second; a peer that fails is told and left out from then on, ours must not fail."""
    if one.has_failed:
        return None
    try:
        return one.run(prompts, num_new)
    except (ContestantFailed, BrokenPipeError) as error:
        if one.name == OURS:
            raise
        one.has_failed = True
        print(f"left out: {error}", file=sys.stderr)
        return None


def summarise(contestants: list[Contestant], concurrencies: list[int]) -> list[dict[str, Any]]:
    """Return one row per concurrency, as `--json` prints them."""
    ours, *peers = contestants
    rows = []
    for concurrency in concurrencies:
        rates = {peer.name: rate for peer in peers if (rate := peer.best(concurrency)) is not None}
        rate = ours.best(concurrency)
        assert rate is not None
        best = max(rates.values(), default=None)
        rows.append(
            {
                "concurrency": concurrency,
                "ours": round(rate, 1),
                "peers": {name: round(value, 1) for name, value in rates.items()},
                "ratio_to_best_peer": None if best is None else round(rate / best, 3),
            }
        )
    return rows


def print_table(rows: list[dict[str, Any]], names: list[str], limits: Limits) -> None:
    """Print tokens per second of every contestant, and ours against what the machine allows."""
    print("tokens/s".ljust(26) + "".join(f"{row['concurrency']:>9}" for row in rows))
    for name in names:
        rates = [row["ours"] if name == OURS else row["peers"].get(name) for row in rows]
        print(name.ljust(26) + "".join("  skipped" if rate is None else f"{rate:>9.1f}" for rate in rates))
    ratios = [row["ratio_to_best_peer"] for row in rows]
    print("ours / best peer".ljust(26) + "".join("        -" if r is None else f"{r:>9.2f}" for r in ratios))
    print(
        f"\nlimit: reads {limits.bytes_per_s / 1e9:.1f} GB/s, multiplies {limits.flops_per_s / 1e12:.3f} TFLOP/s bf16, "
        f"{limits.int8_ops_per_s / 1e12:.3f} TOP/s int8"
    )
    for row in rows:
        print(limits.describe(row["concurrency"], row["ours"]))


def measure_official(ours: Contestant, arguments: argparse.Namespace) -> str:
    """Compare with the official generation loop, requests one after the other, at concurrency 32."""
    prompts = make_prompts(OFFICIAL_REQUESTS)
    with contestant(OFFICIAL, sys.executable, "official_loop", str(arguments.threads)) as official:
        official.run(prompts[:1], 2)
        rate = official.run(prompts, arguments.tokens)
    reached = ours.best(32) or ours.best(max(ours.rates))
    assert reached is not None
    return f"official ImageBind-LLM loop, float32, one at a time: {rate:.1f} tokens/s; ours is {reached / rate:.1f} x"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare decode speed with other engines.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TOKENS} tokens, one round, within a minute")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON in the last line")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each request")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCIES))
    parser.add_argument("--weights-dtype", default="auto", choices=["auto", "bfloat16", "int8", "int4"])
    parser.add_argument("--patience", type=float, default=60.0, help="longest run of a peer, in seconds, by its rate")
    parser.add_argument("--vllm-python", help="a Python that can import vllm")
    parser.add_argument("--llama-python", help="a Python that can import xllamacpp")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tokens, arguments.rounds, arguments.patience = QUICK_TOKENS, 1, 5.0
    return arguments


def main() -> None:
    arguments = parse_arguments()
    limits = measure_limits(arguments.threads, seconds=0.5 if arguments.quick else 3.0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        export_decoder(folder)
        contestants = start_all(stack, arguments, folder)
        take_turns(contestants, arguments)
        rows = summarise(contestants, arguments.concurrency)
        print_table(rows, [one.name for one in contestants], limits)
        if not arguments.quick:
            print(measure_official(contestants[0], arguments))
    if arguments.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
