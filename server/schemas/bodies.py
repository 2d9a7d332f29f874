"""Check JSON bodies against their models, and describe them in the OpenAPI document."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from core.errors import InvalidRequest, UnsupportedMedia
from server.error_handlers import invalid_request_from
from server.schemas.parts import PART_TYPES
from server.uploads import BodyLimits, body_kind, read_json

BodyModel = TypeVar("BodyModel", bound=BaseModel)


async def read_json_only(request: Request, limits: BodyLimits) -> dict[str, Any]:
    """Return the JSON object of an endpoint that takes no form.

    Raises `UnsupportedMedia` for another content type and `InvalidRequest` for any other JSON value.
    """
    if body_kind(request) != "json":
        raise UnsupportedMedia("this endpoint takes application/json only", code="unsupported_content_type")
    body = await read_json(request, limits)
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    return body


def parse_body(model: type[BodyModel], body: dict[str, Any], *, tags: frozenset[str] = frozenset()) -> BodyModel:
    """Check a decoded JSON object; `tags` are names of a union's members that clients do not write.

    Raises `InvalidRequest` naming the field and what is allowed.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid_request_from(error, tags=PART_TYPES | tags) from None


def described_body(path: str, model: type[BaseModel]) -> dict[str, Any]:
    """Return what a route's `openapi_extra` says about a JSON body that the route reads itself."""
    escaped = path.replace("/", "~1").replace("{", "{{").replace("}", "}}")
    place = f"#/paths/{escaped}/post/requestBody/content/application~1json/schema/$defs/{{model}}"
    schema = model.model_json_schema(ref_template=place)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
