"""How many replicas, processors and GPUs a request rate takes, from the rates of one replica of each part.

    python -m benchmarks.scale_plan [RATES.json ...] [--requests-per-s 10 1000 100000] [--set PART.NAME=NUMBER]

Without a file it reads every profile of `benchmarks/scale_rates`. A profile states the workload, what one replica of
each part does, and what a core and a GPU cost; a decoder whose rates are modelled gives its sizes instead (`model`).
docs/scaling.md has the formulas.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).parent / "scale_rates"
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The mean request. `media_share` of them bring a medium, `memo_share` of these one that is known.

    `utilisation` is how much of a replica is planned for; the rest takes peaks and the loss of replicas.
    """

    prompt_tokens: float
    reply_tokens: float
    media_share: float
    memo_share: float
    utilisation: float
    condition_bytes: float
    media_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of replica: seconds of one replica that the mean request takes, and what a replica occupies."""

    name: str
    seconds_per_request: float
    cores: float
    gpus: float
    source: str

    @property
    def saturates_at(self) -> float:
        """The requests a second of the whole application at which one replica is fully busy."""
        return math.inf if self.seconds_per_request == 0 else 1 / self.seconds_per_request

    def replicas(self, requests_per_s: float, utilisation: float) -> int:
        """Return the replicas needed, at least two: one may die."""
        return max(2, math.ceil(round(requests_per_s * self.seconds_per_request / utilisation, 6)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one request rate takes; `cost_per_million` is of requests, in the profile's currency."""

    requests_per_s: float
    replicas: dict[str, int]
    cores: float
    gpus: float
    cost_per_hour: float
    cost_per_million: float
    gigabits_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderModel:
    """Sizes from which the rates of a decoder on GPUs follow; `efficiency` is the share of the limits it reaches."""

    parameters: float
    bytes_per_weight: float
    kv_bytes_per_token: float
    batch: int
    bandwidth_bytes_per_s: float
    flops_per_s: float
    efficiency: float

    def reply_tokens_per_s(self, context: float) -> float:
        """Batch over step: its weights, keys and values are read once, and every weight is used for every row."""
        read_bytes = self.parameters * self.bytes_per_weight + self.batch * context * self.kv_bytes_per_token
        read_s = read_bytes / self.bandwidth_bytes_per_s
        compute_s = 2 * self.parameters * self.batch / self.flops_per_s
        return self.batch * self.efficiency / max(read_s, compute_s)

    def prompt_tokens_per_s(self) -> float:
        """Two operations per parameter and token."""
        return self.efficiency * self.flops_per_s / (2 * self.parameters)


def parts_of(profile: Mapping[str, Any], workload: Workload) -> list[Part]:
    """Return ingress, encoder and decoder of a profile."""
    encoded = workload.media_share * (1 - workload.memo_share)
    ingress, encoder, decoder = (dict(profile[name]) for name in ("ingress", "encoder", "decoder"))
    if "model" in decoder:
        model = DecoderModel(**decoder["model"])
        context = workload.prompt_tokens + workload.reply_tokens / 2  # the mean over a reply
        decoder |= {
            "reply_tokens_per_s": model.reply_tokens_per_s(context),
            "prompt_tokens_per_s": model.prompt_tokens_per_s(),
        }
    seconds = {
        "ingress": 1 / ingress["requests_per_s"] + workload.reply_tokens / ingress["tokens_per_s"],
        "encoder": encoded * (1 / encoder.get("media_decoded_per_s", math.inf) + 1 / encoder["media_encoded_per_s"]),
        "decoder": workload.prompt_tokens / decoder["prompt_tokens_per_s"]
        + workload.reply_tokens / decoder["reply_tokens_per_s"],
    }
    return [
        Part(
            name=name, seconds_per_request=seconds[name], cores=part["cores"], gpus=part["gpus"], source=part["source"]
        )
        for name, part in (("ingress", ingress), ("encoder", encoder), ("decoder", decoder))
    ]


def plan(profile: Mapping[str, Any], rates: Sequence[float]) -> tuple[list[Part], list[Row]]:
    """Return the parts of a profile and one row per request rate."""
    workload = Workload(**profile["workload"])
    parts = parts_of(profile, workload)
    return parts, [_row(profile, workload, parts, rate) for rate in rates]


def _row(profile: Mapping[str, Any], workload: Workload, parts: Sequence[Part], rate: float) -> Row:
    replicas = {part.name: part.replicas(rate, workload.utilisation) for part in parts}
    cores = sum(replicas[part.name] * part.cores for part in parts)
    gpus = sum(replicas[part.name] * part.gpus for part in parts)
    cost = cores * profile["cost_per_core_hour"] + gpus * profile["cost_per_gpu_hour"]
    moved = workload.media_share * ((1 - workload.memo_share) * workload.media_bytes + workload.condition_bytes)
    return Row(
        requests_per_s=rate,
        replicas=replicas,
        cores=cores,
        gpus=gpus,
        cost_per_hour=cost,
        cost_per_million=cost / (rate * SECONDS_PER_HOUR) * 1e6,
        gigabits_per_s=rate * moved * 8 / 1e9,
    )


def overridden(profile: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the profile with `part.name=number` put in. Raises `SystemExit` for a name it does not have."""
    changed: dict[str, Any] = json.loads(json.dumps(profile))
    for assignment in assignments:
        path, _, value = assignment.partition("=")
        *folders, name = path.split(".")
        place = changed
        for folder in folders:
            place = place.get(folder, {})
        if name not in place:
            raise SystemExit(f"{path} is not in the profile {profile['name']!r}")
        place[name] = float(value)
        if "source" in place:
            place["source"] = "given as an argument"
    return changed


def table(profile: Mapping[str, Any], rates: Sequence[float]) -> str:
    """Return the plan of one profile as Markdown."""
    parts, rows = plan(profile, rates)
    money = profile["currency"]
    work = ", ".join(f"{field.name} {profile['workload'][field.name]:g}" for field in fields(Workload))
    lines = [
        f"**{profile['name']}**: {work}; {profile['cost_per_core_hour']:g} {money} per core-hour, "
        f"{profile['cost_per_gpu_hour']:g} {money} per GPU-hour.",
        "",
        "| part | one replica is full at | cores | GPUs | its rates are |",
        "|---|---|---|---|---|",
        *(f"| {p.name} | {p.saturates_at:,.3g} requests/s | {p.cores:g} | {p.gpus:g} | {p.source} |" for p in parts),
        "",
        "| requests/s | ingress | encoders | decoders | cores | GPUs | an hour | a million requests | network |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        counts = " | ".join(f"{row.replicas[part.name]:,}" for part in parts)
        costs = f"{row.cost_per_hour:,.2f} {money} | {row.cost_per_million:,.0f} {money}"
        lines.append(
            f"| {row.requests_per_s:,.0f} | {counts} | {row.cores:,.0f} | {row.gpus:,.0f} | {costs} "
            f"| {row.gigabits_per_s:,.3g} Gbit/s |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Plan replicas, processors and GPUs for request rates.")
    parser.add_argument("profiles", nargs="*", type=Path, help="JSON files; without any, those shipped")
    parser.add_argument("--requests-per-s", nargs="+", type=float, default=[10, 1000, 100_000])
    parser.add_argument("--set", nargs="+", default=[], metavar="PART.NAME=NUMBER", help="a rate measured elsewhere")
    parser.add_argument("--json", action="store_true", help="one JSON object per profile and request rate")
    chosen = parser.parse_args()
    for path in chosen.profiles or sorted(PROFILES.glob("*.json")):
        profile = overridden(json.loads(path.read_text(encoding="utf-8")), chosen.set)
        if chosen.json:
            for row in plan(profile, chosen.requests_per_s)[1]:
                print(json.dumps({"profile": profile["name"], **{f.name: getattr(row, f.name) for f in fields(row)}}))
        else:
            print(table(profile, chosen.requests_per_s), end="\n\n")


if __name__ == "__main__":
    main()
