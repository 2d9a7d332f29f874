"""The Ray Serve application: ingress, encoder and decoder replicas of one model. `serve run docker/ray/serve.yaml`.

Of the server the only importer of ray. The ingress is the same app as ever; its backend and encoders are elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import TaskCancelledError
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import ConfigError
from core.telemetry import EventLog
from engine.scale.backend import DECODERS, ENCODERS
from engine.scale.replicas import DecoderReplica, EncoderReplica
from server.app import create_app
from server.configuration import load_settings
from server.logs import configure_logging
from server.settings import Settings
from server.wiring import build_decoder, build_encoders, build_front

# A key, that is a conversation or the digest of a medium, keeps its replica while others come and go.
AFFINITY = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
FIRST_BACKOFF_S = 0.01  # before a request that found its replicas busy asks them again


class Decoders(DecoderReplica):
    """One decoder: `native`, or `vllm` over as many GPUs as its replica has."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging(settings.log_dir, settings.log_level)
        check_gpus(settings, len(ray.get_gpu_ids()))
        backend = await asyncio.to_thread(build_decoder, settings)
        super().__init__(backend, stall_after_s=settings.stall_after_s, log=EventLog("engine"))
        await self.start()

    async def __del__(self) -> None:
        await self.stop()


class Encoders(EncoderReplica):
    """The encoders of one model, on the GPU that the replica has, else on the CPU."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging(settings.log_dir, settings.log_level)
        device = "cuda" if ray.get_gpu_ids() else "cpu"
        super().__init__(await asyncio.to_thread(build_encoders, settings, device), EventLog("engine"))
        await self.start()

    async def __del__(self) -> None:
        await self.stop()


class Ingress:
    """The HTTP API. `others` are the deployments that it depends on, which it finds by their names."""

    def __init__(self, settings: Settings, *others: Any) -> None:
        self._settings = settings
        configure_logging(settings.log_dir, settings.log_level)

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = create_app(self._settings, build_front)
        app.add_middleware(DisconnectMiddleware)
        return app


class DisconnectMiddleware:
    """Say that the client has left as ASGI does, where Serve cancels the call that waits for its next message."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def next_message() -> Message:
            try:
                return await receive()
            except TaskCancelledError:
                return {"type": "http.disconnect"}

        await self._app(scope, next_message, send)


def build(arguments: dict[str, Any]) -> Application:
    """Return the application for settings by name; variables of the environment count too.

    `backend` is that of the decoder replicas. Replicas, resources and autoscaling are Serve's own options of the
    deployments `Ingress`, `Encoders` and `Decoders`. Raises `ConfigError` for a setting that cannot be, and for those
    that need a single process.
    """
    settings = load_settings(arguments)
    check_settings(settings)
    common = {
        "graceful_shutdown_timeout_s": settings.drain_timeout_s,
        "health_check_period_s": 5,
        "health_check_timeout_s": 30,
    }
    affine = common | {
        "request_router_config": RequestRouterConfig(request_router_class=AFFINITY, initial_backoff_s=FIRST_BACKOFF_S),
    }
    decoders = serve.deployment(
        Decoders,
        name=DECODERS,
        max_ongoing_requests=settings.max_slots,  # more wait in the ingress, for whichever replica is free first
        max_queued_requests=settings.max_queue,
        **affine,
    )
    encoders = serve.deployment(Encoders, name=ENCODERS, max_ongoing_requests=32, max_queued_requests=128, **affine)
    ingress = serve.deployment(
        serve.ingress()(Ingress), name="Ingress", max_ongoing_requests=settings.ray_max_in_flight, **common
    )
    front = settings.model_copy(update={"backend": "ray", "device": "auto"})
    return ingress.bind(front, decoders.bind(settings), encoders.bind(settings))


def check_settings(settings: Settings) -> None:
    """Raise `ConfigError` for settings that one process alone can honour."""
    if settings.backend == "ray":
        raise ConfigError("backend names what the decoder replicas run: native, vllm or echo", param="backend")
    if settings.files_dir is not None:
        raise ConfigError(
            "files_dir keeps files, responses and batches for one process, and a Ray application has several; "
            "leave it out, or serve one process with bindchat serve",
            param="files_dir",
        )


def check_gpus(settings: Settings, num_gpus: int) -> None:
    """Raise `ConfigError` when a vLLM replica on GPUs has another number of them than it splits its model over."""
    wanted = settings.vllm_tensor_parallel_size * settings.vllm_pipeline_parallel_size
    if settings.backend == "vllm" and num_gpus not in (0, wanted):
        raise ConfigError(
            f"a decoder replica has {num_gpus} GPUs; vllm_tensor_parallel_size x vllm_pipeline_parallel_size is "
            f"{wanted}: set num_gpus of Decoders to {wanted}",
            param="vllm_tensor_parallel_size",
        )
