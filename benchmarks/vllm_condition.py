"""What the condition costs vLLM: our backend beside vLLM itself on the same weights, prompts and settings.

    python -m benchmarks.vllm_condition --vllm-python PATH [--rounds 4] [--concurrency 1 8 32 64] [--json]

Three processes take turns, in the other order every second round: vLLM's own `LLM.generate` on text, our vLLM backend
on text, and our vLLM backend with a condition on every request. A ratio is the median of the rounds' own ratios, so
that what else the machine does meets both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.decode import CONCURRENCIES, Contestant, contestant, export_decoder, make_prompts

PLAIN, TEXT, CONDITIONED = "vLLM, text", "backend, text", "backend, condition"
GOAL = 0.97


def start_all(stack: ExitStack, python: str, folder: Path, threads: str) -> list[Contestant]:
    """Start the three, one after the other."""
    return [
        stack.enter_context(contestant(name, python, module, argument, threads))
        for name, module, argument in (
            (PLAIN, "vllm_peer", str(folder)),
            (TEXT, "vllm_backend", "0"),
            (CONDITIONED, "vllm_backend", "1"),
        )
    ]


def take_turns(contestants: list[Contestant], arguments: argparse.Namespace) -> None:
    """Run everyone at every concurrency, round by round; the first, unmeasured turn warms up."""
    prompts = make_prompts(max(arguments.concurrency))
    for concurrency in arguments.concurrency:
        for one in contestants:
            one.run(prompts[:concurrency], 4)
        for turn in range(arguments.rounds):
            for one in contestants if turn % 2 == 0 else reversed(contestants):
                rate = one.run(prompts[:concurrency], arguments.tokens)
                one.note(concurrency, rate)
                print(f"{concurrency} at once, round {turn + 1}, {one.name}: {rate:.1f} tokens/s", file=sys.stderr)


def median_ratio(upper: Contestant, lower: Contestant, concurrency: int) -> float:
    """Return the median over the rounds of one's rate over the other's."""
    pairs = zip(upper.rates[concurrency], lower.rates[concurrency], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def summarise(contestants: list[Contestant], concurrencies: list[int]) -> list[dict[str, Any]]:
    """Return one row per concurrency: median tokens per second of each and the ratios."""
    plain, text, conditioned = contestants
    return [
        {
            "concurrency": concurrency,
            "tokens_per_s": {one.name: round(statistics.median(one.rates[concurrency]), 1) for one in contestants},
            "condition_to_plain": round(median_ratio(conditioned, plain, concurrency), 3),
            "condition_to_text": round(median_ratio(conditioned, text, concurrency), 3),
        }
        for concurrency in concurrencies
    ]


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rates, ratios and whether the goal is met."""
    print("tokens/s".ljust(26) + "".join(f"{row['concurrency']:>9}" for row in rows))
    for name in (PLAIN, TEXT, CONDITIONED):
        print(name.ljust(26) + "".join(f"{row['tokens_per_s'][name]:>9.1f}" for row in rows))
    for key in ("condition_to_plain", "condition_to_text"):
        print(key.replace("_", " ").ljust(26) + "".join(f"{row[key]:>9.3f}" for row in rows))
    met = all(row["condition_to_plain"] >= GOAL for row in rows)
    print(f"goal: condition to plain at least {GOAL} at every concurrency: {'met' if met else 'missed'}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the condition costs vLLM.")
    parser.add_argument("--vllm-python", required=True, help="a Python that can import vllm")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each request")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCIES))
    parser.add_argument("--json", action="store_true", help="print the rows as JSON in the last line")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        export_decoder(folder)
        contestants = start_all(stack, arguments.vllm_python, folder, str(arguments.threads))
        take_turns(contestants, arguments)
        rows = summarise(contestants, arguments.concurrency)
    print_table(rows)
    if arguments.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
