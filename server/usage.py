"""OpenAI's `usage` object, the same in a stream and in a whole reply, with the media as an extension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.types import Modality, TokenUsage

if TYPE_CHECKING:
    from engine.encoding.service import MediumReport


def usage_object(by_prompt: Sequence[Sequence[TokenUsage]], media: Mapping[str, float]) -> dict[str, Any]:
    """Return the counts of several prompts, each with the usage of its replies; a prompt is counted once.

    Media cost no tokens here: a reply is conditioned on their embedding, so `audio_tokens` is 0, and
    `prompt_tokens_details.media` says what was read instead.
    """
    usages = [usage for of_one_prompt in by_prompt for usage in of_one_prompt]
    prompt_tokens = sum(max((u.prompt_tokens for u in replies), default=0) for replies in by_prompt)
    cached_tokens = sum(max((u.cached_tokens for u in replies), default=0) for replies in by_prompt)
    completion_tokens = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": 0, "media": dict(media)},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def media_usage(reports: Sequence[MediumReport]) -> dict[str, float]:
    """Return what the media that condition a reply held: items, seconds of sound and film, frames and points.

    A picture is one frame; the seconds are those that were decoded, after `start` and `end`.
    """
    seconds, frames, points = 0.0, 0, 0
    for report in reports:
        match report.modality:
            case Modality.IMAGE | Modality.DEPTH | Modality.THERMAL:
                frames += 1
            case Modality.VIDEO:
                frames += report.shape[0]
                seconds += report.shape[0] / report.frames_per_s if report.frames_per_s else 0.0
            case Modality.AUDIO if report.sample_rate_hz:
                seconds += report.shape[-1] / report.sample_rate_hz
            case Modality.POINT_CLOUD:
                points += report.shape[0]
    return {"items": len(reports), "seconds": round(seconds, 3), "frames": frames, "points": points}
