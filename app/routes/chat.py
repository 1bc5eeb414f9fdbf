"""`/v1`: the same questions, as clients of OpenAI's API ask them."""

from __future__ import annotations

from contextlib import ExitStack

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from app.chat_answer import ChatStream, whole_answer
from app.chat_request import read_chat
from app.dependencies import ServicesOf
from app.documentation import CHAT_BODY
from app.model_shelf import model_list, named_model
from app.schemas.chat import ChatAnswer, Model, ModelList

router = APIRouter(prefix="/v1", tags=["ask, as OpenAI's clients do"])


@router.post("/chat/completions", openapi_extra=CHAT_BODY, response_model=ChatAnswer)
async def chat_completions(
    request: Request, response: Response, services: ServicesOf
) -> ChatAnswer | Response:
    """Goes on with a conversation about an image, whole or as a stream."""
    chat = await read_chat(request, services.answers.model().name)
    with ExitStack() as question:
        ticket = question.enter_context(
            await services.answers.ask(chat.wanted, services.decode_slots)
        )
        await ticket.begun()
        if chat.streamed:
            first = await ticket.piece()
            question.pop_all()  # the stream drops it
            return ChatStream(ticket, first, with_usage=chat.with_usage, stopping=services.stopping)
        answer = await whole_answer(ticket, request)
    response.headers["X-Adapter-Version"] = str(ticket.asked.version)
    return answer


@router.get("/models")
async def models(services: ServicesOf) -> ModelList:
    """The live version and the newest ones, each as a model."""
    return await to_thread.run_sync(model_list, services)


@router.get("/models/{model:path}")
async def model(model: str, services: ServicesOf) -> Model:
    """One of them, or any other version."""
    return await to_thread.run_sync(named_model, services, model)
