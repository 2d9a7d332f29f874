"""The ASGI app: routers, middleware, and a lifespan that binds at once and loads behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from core.telemetry import EventLog
from server import __version__
from server.batch_runs import BatchRunner
from server.context import AppContext, Service
from server.error_handlers import documented_errors, install_error_handlers
from server.guards import ApiKeyMiddleware, OriginMiddleware, SecurityHeadersMiddleware, check_exposure
from server.heap import keep_trimming
from server.middleware import TraceMiddleware
from server.response_runs import fail_interrupted
from server.routes import ROUTERS
from server.settings import Settings
from server.throttle import ThrottleMiddleware

ServiceBuilder = Callable[[Settings], Service]
LoadObserver = Callable[[AppContext, float], None]


def create_app(
    settings: Settings, build: ServiceBuilder, on_loaded: LoadObserver = lambda context, seconds: None
) -> FastAPI:
    """Return the app.

    `build` runs in a thread once the socket is about to be bound; `on_loaded` hears of its end, good or bad.
    Raises `ConfigError` for a key file that cannot be read, and for a server open to the network without a key.
    """
    log = EventLog("bindchat.server")
    context = AppContext(settings, log)
    check_exposure(settings, context.keys)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = asyncio.create_task(_load(app, build, on_loaded)), asyncio.create_task(keep_trimming())
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await context.end_background()
            if context.loaded is not None:
                await context.loaded.stop()
            if context.tracer is not None:
                await asyncio.to_thread(context.tracer.close)
            log.event("server_stopped")

    app = FastAPI(title="BindChat", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.context = context
    app.state.batches = BatchRunner(app, context)
    for name in ROUTERS.names():
        app.include_router(ROUTERS.load(name), responses=documented_errors())
    install_error_handlers(app)
    _add_middleware(app, context)
    return app


def _add_middleware(app: FastAPI, context: AppContext) -> None:
    """Wrap the endpoints; what is added last is the outermost."""
    settings = context.settings
    app.add_middleware(ThrottleMiddleware, throttle=context.throttle)
    app.add_middleware(ApiKeyMiddleware, keys=context.keys)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(
        OriginMiddleware,
        allowed_hosts=settings.allowed_hosts,
        trusted_origins=settings.cors_origins,
        keys=context.keys,
    )
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(TraceMiddleware, **context.watch)


async def _load(app: FastAPI, build: ServiceBuilder, on_loaded: LoadObserver) -> None:
    started_s = time.perf_counter()
    context: AppContext = app.state.context
    try:
        service = await asyncio.to_thread(build, context.settings)
        await service.pipeline.start()
        service.measurements.listen(context.metrics.observe)
        if context.tracer is not None:
            service.measurements.listen(context.tracer.observe)
        if service.stored_documents is not None:
            await asyncio.to_thread(fail_interrupted, service.stored_documents)
        context.loaded = service
        await app.state.batches.resume()
        context.log.event("model_ready", model=context.settings.model, load_s=round(time.perf_counter() - started_s, 3))
    except Exception as error:
        context.load_error = error
        context.log.fault("load_failed", error, model=context.settings.model)
    on_loaded(context, time.perf_counter() - started_s)
