"""`/edit-jobs`: what becomes of corrections."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.dependencies import Cursor, Limit, ServicesOf
from app.event_stream import HEADERS, changes
from app.job_desk import cancel, job_state, served_page, served_state, start
from app.json_route import StrictJsonRoute
from app.schemas.edit_jobs import EditJobDetail, EditJobPage, EditJobRequest

router = APIRouter(prefix="/edit-jobs", tags=["edit jobs"], route_class=StrictJsonRoute)


@router.post("", status_code=202)
def create_edit_job(
    services: ServicesOf, response: Response, asked: EditJobRequest | None = None
) -> EditJobDetail:
    """Starts an edit at once, on what has gathered or was not applied so far."""
    job = start(services.engine, asked or EditJobRequest())
    response.headers["Location"] = f"/edit-jobs/{job.id}"
    services.edit_queue.nudge(job.id)
    return job


@router.get("")
async def edit_jobs(services: ServicesOf, cursor: Cursor = None, limit: Limit = 50) -> EditJobPage:
    """Every edit job, newest first."""
    slots = services.news_slots
    return await to_thread.run_sync(served_page, services, cursor, limit, limiter=slots)


@router.get("/{job_id}")
async def edit_job(job_id: str, services: ServicesOf) -> EditJobDetail:
    """An edit job: where it stands, what it is made of, what came of it."""
    return await to_thread.run_sync(served_state, services, job_id, limiter=services.news_slots)


@router.get("/{job_id}/events", response_class=StreamingResponse)
async def edit_job_events(job_id: str, request: Request, services: ServicesOf) -> StreamingResponse:
    """The job's states as server-sent events, each a JSON document, until it has ended."""
    await run_in_threadpool(job_state, services.engine, job_id)
    stream = changes(request, lambda: edit_job(job_id, services), services.stopping)
    return StreamingResponse(stream, media_type="text/event-stream", headers=HEADERS)


@router.delete("/{job_id}", status_code=202)
def cancel_edit_job(job_id: str, services: ServicesOf) -> EditJobDetail:
    """Cancels a job: a queued one at once, a running one within its next step."""
    return cancel(services.engine, job_id)
