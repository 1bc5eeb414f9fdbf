"""`/corrections`: the right label for an image."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.correction_intake import accept, read_batch
from app.dependencies import Cursor, Limit, ServicesOf
from app.documentation import CORRECTIONS_BODY
from app.schemas.corrections import CorrectionDetail, CorrectionPage, CorrectionsAccepted
from registry.artifacts import get_artifact, release_artifacts
from registry.corrections import forget, get_correction, list_corrections
from registry.errors import CorrectionMissing, RegistryError
from registry.session import reading, transaction

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/corrections", tags=["corrections"])


@router.post("", status_code=202, openapi_extra=CORRECTIONS_BODY)
async def create_corrections(
    request: Request, response: Response, services: ServicesOf
) -> CorrectionsAccepted:
    """Accepts 1 to 64 corrections whole, or none. Durable when answered."""
    batch = await read_batch(request)
    await services.check(batch.images)
    async with services.write_slots:
        submission = await run_in_threadpool(accept, services, batch)
    response.headers["Location"] = f"/edit-jobs/{submission.edit_job.id}"
    if submission.edit_job.starts_at <= datetime.now(UTC):
        services.edit_queue.nudge(submission.edit_job.id)
    return CorrectionsAccepted.of(submission)


@router.get("")
def corrections(services: ServicesOf, cursor: Cursor = None, limit: Limit = 50) -> CorrectionPage:
    """Every correction, newest first."""
    with reading(services.engine) as session:
        page = list_corrections(session, cursor=cursor, limit=limit)
    details = [CorrectionDetail.of(row) for row in page.items]
    return CorrectionPage(corrections=details, next=page.next_cursor)


@router.get("/{correction_id}")
def correction(correction_id: str, services: ServicesOf) -> CorrectionDetail:
    """A correction's state, its job, and the answers before and after the edit."""
    with reading(services.engine) as session:
        return CorrectionDetail.of(get_correction(session, correction_id))


@router.get("/{correction_id}/image", response_class=Response)
def correction_image(correction_id: str, services: ServicesOf) -> Response:
    """The image as it was sent; gone once the correction is forgotten."""
    with reading(services.engine) as session:
        digest = get_correction(session, correction_id).image_sha256
        if digest is None:
            raise CorrectionMissing(correction_id)
        media_type = get_artifact(session, digest).media_type
    headers = {"ETag": f'"{digest}"', "X-Content-Type-Options": "nosniff"}
    return Response(services.store.get(digest), media_type=media_type, headers=headers)


@router.delete("/{correction_id}", status_code=204)
def forget_correction(correction_id: str, services: ServicesOf) -> None:
    """Forgets a correction: its image is removed, and the next edit is fitted without it."""
    with transaction(services.engine) as session:
        unnamed = forget(session, correction_id, now=datetime.now(UTC))
    try:
        with transaction(services.engine) as session:
            release_artifacts(session, services.store, unnamed)
    except RegistryError as error:  # it is forgotten; a worker's sweep removes the file
        logger.warning("the image of correction %s is removed later: %s", correction_id, error)
