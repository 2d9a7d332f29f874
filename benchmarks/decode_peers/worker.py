"""What every contestant's process does: read runs as JSON lines, answer each with its seconds. Only stdlib."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

Decode = Callable[[list[list[int]], int], int]
"""Takes prompts and the number of new tokens of each; returns how many tokens it made."""


def _keep_standard_output() -> TextIO:
    """Return standard output for the answers alone; what libraries print, on import too, goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


_answers = _keep_standard_output()


def serve_runs(decode: Decode) -> None:
    """Answer `{"prompts", "num_new"}` with `{"seconds", "tokens"}` until standard input ends, after a ready line."""
    _answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        run = json.loads(line)
        started = time.perf_counter()
        tokens = decode(run["prompts"], run["num_new"])
        _answers.write(json.dumps({"seconds": time.perf_counter() - started, "tokens": tokens}) + "\n")
