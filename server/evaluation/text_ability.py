"""Text ability by EleutherAI's lm-evaluation-harness, asked of a server over HTTP.

A served model is a harness model: likelihoods come from `/v1/completions` with `echo` and `logprobs`, ids from
`/tokenize`. A condition never reaches text alone, so what could harm text is what a family merges into the decoder:
compare the model with its base.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, InvalidRequest
from server.evaluation.text_asker import TextAsker

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

MISSING = "text ability is measured with lm-evaluation-harness; install the extra: pip install 'bindchat[eval]'"
MAX_STOPS = 4  # of one request
HARMED_Z = 2.0  # standard errors below the base


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessPlan:
    """Which tasks, with how many examples in front, on how many of their questions."""

    tasks: tuple[str, ...]
    folder: Path | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    seed: int = 0


def run_harness(plan: HarnessPlan, asker: Callable[[], TextAsker]) -> dict[str, dict[str, float]]:
    """Return the numbers of each task, as the harness names them; `asker` opens a connection in the running loop.

    Raises `ConfigError` without lm-eval and `InvalidRequest` for a task that it does not know.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise ConfigError(MISSING) from None

    manager = TaskManager(
        include_path=None if plan.folder is None else str(plan.folder), include_defaults=plan.folder is None
    )
    if unknown := [name for name in plan.tasks if name not in manager.all_tasks]:
        known = f": {', '.join(sorted(manager.all_tasks)[:20])}" if plan.folder else "; `lm_eval ls tasks` lists them"
        raise InvalidRequest(f"no task {', '.join(unknown)} among the {len(manager.all_tasks)} of the harness{known}")
    found = simple_evaluate(
        model=harness_model(asker),
        tasks=list(plan.tasks),
        num_fewshot=plan.num_fewshot,
        limit=plan.limit,
        task_manager=manager,
        log_samples=False,
        bootstrap_iters=1000,
        random_seed=plan.seed,
        numpy_random_seed=plan.seed,
        torch_random_seed=plan.seed,
        fewshot_random_seed=plan.seed,
    )
    return {task: _plain_numbers(row) for task, row in found["results"].items()}


def _plain_numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return a task's numbers by metric, the harness's filter "none" left out of the names."""
    return {
        key.replace(",none", "").replace(",", " "): round(float(value), 5)
        for key, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def compare(
    model: dict[str, dict[str, float]], base: dict[str, dict[str, float]]
) -> dict[str, dict[str, float | bool | None]]:
    """Return, for each task and metric with a standard error, both values and whether the model is clearly worse.

    Worse is two standard errors of the difference below the base; both answered the same questions, so that the true
    error is smaller than the one taken here.
    """
    rows: dict[str, dict[str, float | bool | None]] = {}
    for task, numbers in model.items():
        for metric, value in numbers.items():
            error, other = numbers.get(f"{metric}_stderr"), base.get(task, {}).get(metric)
            if error is None or other is None:
                continue
            spread = math.hypot(error, base[task].get(f"{metric}_stderr", 0.0))
            difference = value - other
            rows[f"{task} {metric}"] = {
                "model": value,
                "base": other,
                "difference": round(difference, 5),
                "standard_error": round(spread, 5),
                "harmed": difference < -HARMED_Z * spread,
            }
    return rows


def harness_model(asker: Callable[[], TextAsker]) -> Any:
    """Return a served model as an `lm_eval.api.model.LM`."""
    from lm_eval.api.model import LM

    class ServedModel(LM):  # type: ignore[misc, unused-ignore]
        """Three questions of the harness as HTTP requests, all of one kind in flight together."""

        def loglikelihood(self, requests: list[Instance], **_: Any) -> list[tuple[float, bool]]:
            pairs = [(str(request.args[0]), str(request.args[1])) for request in requests]
            return _gathered(asker, lambda one: [_pair_likelihood(one, *pair) for pair in pairs])

        def loglikelihood_rolling(self, requests: list[Instance], **_: Any) -> list[float]:
            texts = [str(request.args[0]) for request in requests]
            return _gathered(asker, lambda one: [_text_likelihood(one, text) for text in texts])

        def generate_until(self, requests: list[Instance], **_: Any) -> list[str]:
            asked = [(str(request.args[0]), dict(request.args[1])) for request in requests]
            return _gathered(asker, lambda one: [_continuation(one, *pair) for pair in asked])

    return ServedModel()


def _gathered(asker: Callable[[], TextAsker], work: Callable[[TextAsker], Sequence[Any]]) -> list[Any]:
    async def run() -> list[Any]:
        async with asker() as one:
            return list(await asyncio.gather(*work(one)))

    return asyncio.run(run())


async def _pair_likelihood(asker: TextAsker, context: str, continuation: str) -> tuple[float, bool]:
    """Return the log-likelihood of a continuation, and whether each of its tokens is the most likely one.

    A space at the end of the context belongs to the continuation, where tokenizers put it.
    """
    bare = context.rstrip()
    context, continuation = bare, context[len(bare) :] + continuation
    whole = await asker.token_ids(context + continuation)
    start = len(await asker.token_ids(context)) if context else 1
    places = (await asker.scores(whole))[min(start, len(whole) - 1) :]
    return sum(place.logprob for place in places), all(place.is_likeliest for place in places)


async def _text_likelihood(asker: TextAsker, text: str) -> float:
    """Return the log-likelihood of a text without its first token, in windows that overlap by one token."""
    ids, width = await asker.token_ids(text), asker.max_context - 1
    windows = [ids[start : start + width] for start in range(0, max(1, len(ids) - 1), width - 1)]
    scored = await asyncio.gather(*(asker.scores(window) for window in windows if len(window) > 1))
    return sum(place.logprob for places in scored for place in places[1:])


async def _continuation(asker: TextAsker, context: str, options: dict[str, Any]) -> str:
    stops = options.get("until") or []
    stops = [stops] if isinstance(stops, str) else list(stops)
    is_drawn = bool(options.get("do_sample"))
    text = await asker.continuation(
        context,
        max_tokens=int(options.get("max_gen_toks", 256)),
        stop=[stop for stop in stops if stop][:MAX_STOPS],
        temperature=float(options.get("temperature", 1.0)) if is_drawn else 0.0,
    )
    ends = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
