"""`/vqa`: what does this image show?"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.dependencies import ServicesOf
from app.documentation import VQA_BODY
from app.schemas.vqa import VqaAnswer
from app.visual_answers import Wanted
from app.visual_question import GREEDILY, answer_of, read_visual_question

router = APIRouter(tags=["ask"])


@router.post("/vqa", openapi_extra=VQA_BODY)
async def vqa(request: Request, response: Response, services: ServicesOf) -> VqaAnswer:
    """Answers a question about an image: by the likeliest of its options, or greedily in words."""
    question = await read_visual_question(request)
    if question.model is not None:
        services.answers.check_model(question.model)
    sampling = None if question.options else GREEDILY
    wanted = Wanted(question.image, question.question, question.version, question.options, sampling)
    with await services.answers.ask(wanted, services.decode_slots) as ticket:
        answer = await answer_of(question, ticket, request)
    response.headers["X-Adapter-Version"] = str(answer.adapter)
    return answer
