"""`/adapters`: the versions of the encoder."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Response

from app.adapter_shelf import find_version, page_of_adapters, served_detail, weights_file
from app.dependencies import Cursor, Limit, Reference, ServicesOf
from app.schemas.adapters import AdapterDetail, AdapterPage
from registry.adapters import ADAPTER_MEDIA_TYPE, get_adapter
from registry.session import reading

Names = Annotated[
    Literal["open_clip", "transformers"], Query(description="whose names the parameters have")
]
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
    names: Names = "open_clip",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The version's changes as a safetensors file, whole and checked against its digest.

    `names=transformers`: the same changes under the names of transformers' CLIP
    (`vision_model.encoder.layers.0.self_attn.q_proj.weight`), with q, k and v apart and
    `visual.proj` transposed as `visual_projection.weight`; for LLaVA, put `vision_tower.` in front
    and leave the last block and the projection out, which it does not read. 422 for encoders that
    transformers' CLIP cannot be.
    """
    with reading(services.engine) as session:
        row = get_adapter(session, find_version(session, version))
    suffix = "" if names == "open_clip" else f"-{names}"
    headers = {
        "ETag": f'"{row.digest}{suffix}"',
        "Content-Disposition": f'attachment; filename="adapter-{row.version}{suffix}.safetensors"',
        "X-Adapter-Version": str(row.version),
    }
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    data, digest = weights_file(services, row, names)
    shown = base64.b64encode(bytes.fromhex(digest)).decode()
    headers["Repr-Digest"] = f"sha-256=:{shown}:"
    return Response(data, headers=headers, media_type=ADAPTER_MEDIA_TYPE)
