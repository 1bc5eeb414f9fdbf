"""`/control-sets`: images that no edit is about, and what an edit may cost them."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from app.control_intake import add_images, describe, describe_all, read_control_upload
from app.dependencies import ServicesOf
from app.documentation import CONTROL_IMAGES_BODY
from app.json_route import StrictJsonRoute
from app.schemas.control_sets import (
    ControlImagesAdded,
    ControlSetDetail,
    ControlSetList,
    ControlSetRequest,
)
from registry.control_sets import put_control_set
from registry.session import reading, transaction

router = APIRouter(prefix="/control-sets", tags=["control sets"], route_class=StrictJsonRoute)


@router.put("/{name}")
def define_control_set(
    name: str, asked: ControlSetRequest, services: ServicesOf
) -> ControlSetDetail:
    """Makes a control set, or changes the label set and budget of one; its images stay."""
    with transaction(services.engine) as session:
        put_control_set(
            session,
            name,
            label_set=asked.label_set,
            budget=asked.budget,
            now=datetime.now(UTC),
        )
        return describe(session, name)


@router.post("/{name}/images", status_code=201, openapi_extra=CONTROL_IMAGES_BODY)
async def add_control_set_images(
    name: str, request: Request, services: ServicesOf
) -> ControlImagesAdded:
    """Adds images to a control set, all or none, labelled or not; or questions about them, answered
    or not. One image may be asked several questions, one question about several images; else each
    is asked about the image in its place."""
    upload = await read_control_upload(request)
    await services.check(upload.images)
    async with services.write_slots:
        return await run_in_threadpool(add_images, services, name, upload)


@router.get("")
def control_sets(services: ServicesOf) -> ControlSetList:
    """Every control set, by name."""
    with reading(services.engine) as session:
        return ControlSetList(control_sets=describe_all(session))


@router.get("/{name}")
def control_set(name: str, services: ServicesOf) -> ControlSetDetail:
    """One control set."""
    with reading(services.engine) as session:
        return describe(session, name)
