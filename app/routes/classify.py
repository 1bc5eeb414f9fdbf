"""`/classify`: what is in these images?"""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from app.classification import Lookup, read_question
from app.deadline import uncounted
from app.dependencies import ServicesOf
from app.documentation import CLASSIFY_BODY
from app.schemas.classify import ClassifyAnswer

NOTHING = Lookup(vocabulary=None, served=None)
router = APIRouter(tags=["classify"])


@router.post("/classify", openapi_extra=CLASSIFY_BODY)
async def classify(request: Request, response: Response, services: ServicesOf) -> ClassifyAnswer:
    """Ranks labels for 1 to 64 images, by the live version or any other."""
    question = await read_question(request)
    ask, found = services.classification, NOTHING
    if not question.is_whole:
        found = await to_thread.run_sync(ask.look_up, question)
    with uncounted():
        answer = await to_thread.run_sync(
            ask.answer, question, found, limiter=services.forward_slots
        )
    response.headers["X-Adapter-Version"] = str(answer.adapter)
    return answer
