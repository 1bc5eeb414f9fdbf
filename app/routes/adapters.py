"""`/adapters`: the versions of the encoder."""

from __future__ import annotations

import base64
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Response

from app.adapter_shelf import find_version, page_of_adapters, served_detail
from app.dependencies import Cursor, Limit, Reference, ServicesOf
from app.schemas.adapters import AdapterDetail, AdapterPage
from registry.adapters import ADAPTER_MEDIA_TYPE, get_adapter
from registry.session import reading

router = APIRouter(prefix="/adapters", tags=["adapters"])


@router.get("")
def adapters(services: ServicesOf, cursor: Cursor = None, limit: Limit = 50) -> AdapterPage:
    """Every version, newest first; refused candidates too."""
    with reading(services.engine) as session:
        return page_of_adapters(session, cursor, limit, base_bytes=services.encoder.base_bytes)


@router.get("/{version}")
async def adapter(version: Reference, services: ServicesOf) -> AdapterDetail:
    """Where a version comes from, what the gate measured, and whether it is live."""
    return await to_thread.run_sync(served_detail, services, version, limiter=services.news_slots)


@router.get("/{version}/weights", response_class=Response)
def weights(
    version: Reference,
    services: ServicesOf,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The version's changes as a safetensors file, whole and checked against its digest."""
    with reading(services.engine) as session:
        row = get_adapter(session, find_version(session, version))
    etag = f'"{row.digest}"'
    digest = base64.b64encode(bytes.fromhex(row.digest)).decode()
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f'attachment; filename="adapter-{row.version}.safetensors"',
        "X-Adapter-Version": str(row.version),
    }
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(services.store.get(row.digest), headers=headers, media_type=ADAPTER_MEDIA_TYPE)
