"""`GET /v1/models`: what is served, which modalities it reads, how much it can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from core.errors import UnknownName
from server.context import context_of
from server.schemas.answers import answers
from server.schemas.state_answers import ModelList, ModelObject

if TYPE_CHECKING:
    from engine.pipeline import ModelDescription

router = APIRouter(tags=["models"])


@router.get("/v1/models", **answers(ModelList))
async def list_models(request: Request) -> dict[str, Any]:
    """List the served models."""
    pipeline = context_of(request).service().pipeline
    return {"object": "list", "data": [_model_object(model, pipeline.expert_names) for model in pipeline.describe()]}


@router.get("/v1/models/{model_id:path}", **answers(ModelObject))
async def retrieve_model(request: Request, model_id: str) -> dict[str, Any]:
    """Describe one served model."""
    pipeline = context_of(request).service().pipeline
    models = {model.name: model for model in pipeline.describe()}
    if model_id not in models:
        raise UnknownName(
            f"there is no model {model_id[:80]!r}; models: {', '.join(sorted(models))}",
            param="model",
            code="model_not_found",
        )
    return _model_object(models[model_id], pipeline.expert_names)


def _model_object(model: ModelDescription, experts: Sequence[str]) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_s,
        "owned_by": "bindchat",
        "input_modalities": sorted({"text", *(str(modality) for modality in model.input_modalities)}),
        "output_modalities": ["text"],
        "context_length": model.max_context,
        "experts": list(experts),
    }
