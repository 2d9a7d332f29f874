"""The texts of experts as context of the last question, inside delimiters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from core.types import ChatMessage, Modality
from engine.experts.cleaning import DELIMITER, shortened
from engine.experts.service import ExpertReport
from engine.prompting import last_question, with_last_question

NOUNS = {
    Modality.IMAGE: "picture",
    Modality.AUDIO: "recording",
    Modality.VIDEO: "film",
    Modality.POINT_CLOUD: "shape",
    Modality.DEPTH: "depth map",
    Modality.THERMAL: "thermal picture",
    Modality.IMU: "movement",
}
MIN_CHARS = 16  # less of a text says nothing


def with_room(reports: Sequence[ExpertReport], max_chars: int) -> list[ExpertReport]:
    """Return the reports with what of each text joins the prompt; together at most `max_chars`, short ones first."""
    room, shares = max_chars, {}
    speaking = sorted(
        (place for place, report in enumerate(reports) if report.text), key=lambda p: len(reports[p].text)
    )
    for rank, place in enumerate(speaking):
        share = room // (len(speaking) - rank)
        text = reports[place].text
        shares[place] = shortened(text, share) if share >= min(MIN_CHARS, len(text)) else ""
        room -= len(shares[place])
    return [replace(report, in_prompt=shares.get(place, "")) for place, report in enumerate(reports)]


def with_context(
    messages: Sequence[ChatMessage], reports: Sequence[ExpertReport], wording: Callable[[str], tuple[str, str]]
) -> tuple[ChatMessage, ...]:
    """Return the messages with the experts' texts before the question of the last user turn.

    `wording` gives what stands before an expert's text and after the question.
    """
    joined = [report for report in reports if report.in_prompt]
    if not joined:
        return tuple(messages)
    num_media = len({report.medium for report in reports})
    sections = [
        f"{wording(report.expert)[0].format(medium=_noun(report, num_media))}\n"
        f"{DELIMITER}\n{report.in_prompt}\n{DELIMITER}"
        for report in joined
    ]
    question = last_question(messages).strip()
    if question:
        instructions = dict.fromkeys(wording(report.expert)[1] for report in joined)
        sections.append("\n".join(filter(None, [f"Question: {question}", *instructions])))
    return with_last_question(messages, "\n\n".join(sections))


def _noun(report: ExpertReport, num_media: int) -> str:
    noun = NOUNS.get(Modality(report.modality), "medium")
    return f"the {noun}" if num_media == 1 else f"{noun} {report.medium + 1}"
