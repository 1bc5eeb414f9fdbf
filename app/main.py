"""Puts the HTTP application together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import Depends, FastAPI
from starlette.concurrency import run_in_threadpool

from app.body_limit import BodyLimit
from app.deadline import Deadline
from app.dependencies import refuse_nul
from app.documentation import DESCRIPTION, RESPONSES, add_documentation
from app.metrics import RequestMeter
from app.problems import answer_with_problems
from app.routes import (
    adapters,
    chat,
    classify,
    control_sets,
    corrections,
    edit_jobs,
    edit_methods,
    health,
    index,
    label_sets,
    promotions,
    vqa,
)
from app.services import Services
from app.settings import Settings
from app.start import read_settings

ROUTES = (
    index,
    classify,
    vqa,
    chat,
    corrections,
    edit_jobs,
    edit_methods,
    adapters,
    promotions,
    label_sets,
    control_sets,
    health,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service, opened but not started; the settings are the environment's unless given.

    Raises whatever `Services` raises when the process must not start.
    """
    services = Services(settings or read_settings())

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        services.start()
        yield
        await run_in_threadpool(services.stop)

    app = FastAPI(
        title="Emend",
        version=_release(),
        description=DESCRIPTION,
        lifespan=running,
        responses=RESPONSES,
        dependencies=[Depends(refuse_nul)],
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    services.metrics.build.info({"version": app.version, "encoder": services.settings.encoder})
    for routes in ROUTES:
        app.include_router(routes.router)
    add_documentation(app)
    answer_with_problems(app, services.metrics.problems)
    app.add_middleware(BodyLimit, limit=services.settings.max_request_bytes)
    app.add_middleware(Deadline, counted=services.metrics.problems)
    app.add_middleware(RequestMeter, metrics=services.metrics)
    return app


def _release() -> str:
    try:
        return version("emend")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
