"""What the answer's `bind` object tells about one medium; never its content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.types import Modality, Scene

if TYPE_CHECKING:
    from engine.blends import NamedPart
    from engine.encoding.caches import CacheReport, ItemMetadata, Neighbour
    from engine.encoding.service import MediumReport
    from engine.experts.service import ExpertReport


def medium_object(report: MediumReport) -> dict[str, Any]:
    """Return what was sampled, how sure the encoder is (null where it cannot tell), and milliseconds."""
    return {
        "modality": str(report.modality),
        "container": report.container,
        "weight": report.weight,
        "sampled": _sampled(report),
        "confidence": report.confidence,
        "from_memo": report.from_memo,
        "stages_ms": dict(report.stages_ms),
    }


def expert_object(report: ExpertReport) -> dict[str, Any]:
    """Return what an expert said about which medium, what it found where, how much the prompt holds, and its error."""
    return {
        "expert": report.expert,
        "medium": report.medium,
        "text": report.text,
        "objects": [{"name": found.name, "score": found.score, "box": list(found.box)} for found in report.objects],
        "prompt_chars": len(report.in_prompt),
        "elapsed_ms": report.elapsed_ms,
        "from_memo": report.from_memo,
        "error": report.error,
    }


def part_object(named: NamedPart) -> dict[str, Any]:
    """Return what one of the unlike things of a blend was taken for, the runner-up where the encoder is unsure."""
    part = named.part
    return {
        "medium": part.medium,
        "name": named.name,
        "other": named.other,
        "weight": part.weight,
        "confidence": part.confidence,
    }


def cache_object(report: CacheReport) -> dict[str, Any]:
    """Return from which index and how strongly the embedding was refined, and the neighbours it was pulled to."""
    return {
        "index": report.index,
        "k": report.settings.top_k,
        "inverse_temperature": report.settings.inverse_temperature,
        "blend": report.settings.weight,
        "neighbours": [neighbour_object(neighbour) for neighbour in report.neighbours],
    }


def neighbour_object(neighbour: Neighbour) -> dict[str, Any]:
    """Return an item of an index with its similarity."""
    return {"id": neighbour.id, "score": neighbour.score, **item_fields(neighbour.metadata)}


def item_fields(item: ItemMetadata) -> dict[str, Any]:
    """Return what is known of an item of an index."""
    return {"file": item.file, "caption": item.caption, "label": item.label, "metadata": dict(item.extra)}


def _sampled(report: MediumReport) -> dict[str, Any]:
    shape = report.shape
    match report.modality:
        case Modality.IMAGE if len(shape) == 3:
            return {"width_px": shape[1], "height_px": shape[0]}
        case Modality.VIDEO if len(shape) == 4:
            rate = report.frames_per_s
            return {
                "num_frames": shape[0],
                "frames_per_s": rate,
                "frame_times_s": [round(time_s, 3) for time_s in report.frame_times_s],
                "width_px": shape[2],
                "height_px": shape[1],
                "scenes": [_scene_object(scene) for scene in report.scenes],
            }
        case Modality.AUDIO if len(shape) == 2 and report.sample_rate_hz:
            seconds = shape[1] / report.sample_rate_hz
            return {"seconds": seconds, "sample_rate_hz": report.sample_rate_hz, "num_channels": shape[0]}
        case Modality.POINT_CLOUD:
            return {"num_points": shape[0]}
    return {"shape": list(shape)}


def _scene_object(scene: Scene) -> dict[str, Any]:
    fields = ("start_s", "end_s", "share", "name", "confidence")
    return {name: getattr(scene, name) for name in fields}
