"""The table of endpoint groups: a new group is one new file and one new line here."""

from __future__ import annotations

from fastapi import APIRouter

from core.registry import Registry

ROUTERS: Registry[APIRouter] = Registry(
    "router",
    {
        "batches": "server.routes.batches:router",
        "cache": "server.routes.cache:router",
        "chat": "server.routes.chat:router",
        "completions": "server.routes.completions:router",
        "embeddings": "server.routes.embeddings:router",
        "files": "server.routes.files:router",
        "models": "server.routes.models:router",
        "operations": "server.routes.operations:router",
        "ranking": "server.routes.ranking:router",
        "responses": "server.routes.responses:router",
        "stored_chats": "server.routes.stored_chats:router",
        "tokenize": "server.routes.tokenize:router",
        "web": "server.routes.web:router",
    },
)
