"""What every contestant's process does: read runs as JSON lines, answer each with its seconds. Only stdlib."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

Decode = Callable[[list[list[int]], int], int]
"""Takes prompts and the number of new tokens of each; returns how many tokens it made."""


def serve_runs(decode: Decode) -> None:
    """Answer `{"prompts", "num_new"}` with `{"seconds", "tokens"}` until standard input ends; a ready line comes first.

    Whatever else a library prints goes to standard error.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        run = json.loads(line)
        started = time.perf_counter()
        tokens = decode(run["prompts"], run["num_new"])
        answers.write(json.dumps({"seconds": time.perf_counter() - started, "tokens": tokens}) + "\n")
