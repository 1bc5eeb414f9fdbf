"""The one table from error classes to HTTP, and the problem documents made from it (RFC 9457).

``type`` is ``urn:emend:problem:<slug>``, stable for each row. The row of an error is that of its
nearest ancestor in the table. ``errors`` lists what is wrong, each entry with the facts of its
error and, where one is to blame, the ``field``.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from app import errors as mine
from app.openai_errors import openai_document, speaks_openai
from encoder import errors as encoding
from encoder.vlm import errors as asking
from registry import errors as stored

logger = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:emend:problem:"
RETRY_SECONDS = 2
PASSING = (503, 507)  # with Retry-After
DETAIL_LIMIT = 1000
Handler = Callable[[Request, Exception], Awaitable[JSONResponse]]


@dataclass(frozen=True)
class Problem:
    """One row: what every error of a class has in common.

    ``told`` is what clients read in place of the error's own sentence and facts, which name the
    inside of the service (its database's address, its folders) and are for the log. What ``stays``
    is not helped by asking again.
    """

    status: int
    slug: str
    title: str
    told: str | None = None
    stays: bool = False


UNEXPECTED = Problem(500, "unexpected", "The service failed")
PROBLEMS: Mapping[type[Exception], Problem] = {
    # the request itself
    mine.FieldInvalid: Problem(422, "field-invalid", "A field is not valid"),
    mine.JsonInvalid: Problem(422, "json-invalid", "The body is not valid JSON"),
    RequestValidationError: Problem(422, "request-invalid", "The request is not valid"),
    mine.UnsupportedMediaType: Problem(415, "media-type", "The media type is not supported"),
    mine.BodyTooLarge: Problem(413, "body-too-large", "The body is too large"),
    # nobody reads this one; the status is nginx's, and is counted
    ClientDisconnect: Problem(499, "client-gone", "The client went away while it was sending"),
    mine.MethodUnknown: Problem(422, "method-unknown", "The edit method is unknown"),
    mine.ConfigInvalid: Problem(422, "config-invalid", "The method's config is not valid"),
    asking.NamesUnmappable: Problem(422, "names-unmappable", "A weight has no such name"),
    mine.Unsupported: Problem(422, "unsupported", "A field asks for what is not supported"),
    # questions
    mine.ModelUnknown: Problem(404, "model-unknown", "No such model"),
    mine.VlmAbsent: Problem(503, "vlm-absent", "No questions are answered here", stays=True),
    mine.VlmUnusable: Problem(503, "vlm-unusable", "The model cannot be loaded", stays=True),
    mine.VlmLoading: Problem(503, "vlm-loading", "The model is being loaded"),
    mine.TooManyQuestions: Problem(503, "too-many-questions", "Too many questions wait"),
    asking.PromptTooLong: Problem(422, "question-too-long", "The question is too long"),
    asking.AnswerTooLong: Problem(422, "question-too-long", "The question is too long"),
    asking.NotFinite: Problem(500, "not-finite", "The model computed no finite number"),
    asking.PromptError: Problem(422, "question-invalid", "The question cannot be put to the model"),
    # images and words
    encoding.ImageEmpty: Problem(422, "image-empty", "An image has no bytes"),
    encoding.ImageTooLarge: Problem(413, "image-too-large", "An image has too many bytes"),
    encoding.ImageTooManyPixels: Problem(413, "image-too-many-pixels", "An image is too big"),
    encoding.ImageError: Problem(422, "image-undecodable", "An image cannot be decoded"),
    encoding.TemplateInvalid: Problem(422, "template-invalid", "A template is not valid"),
    encoding.ClassifierError: Problem(422, "vocabulary-invalid", "The labels cannot be used"),
    stored.LabelInvalid: Problem(422, "label-invalid", "A label is not valid"),
    stored.LabelDuplicate: Problem(422, "label-duplicate", "A label stands twice in a list"),
    stored.LabelOutsideSet: Problem(422, "label-outside-set", "A label is outside its set"),
    stored.QuestionInvalid: Problem(422, "question-invalid", "A question or answer is not valid"),
    stored.CursorInvalid: Problem(422, "cursor-invalid", "The cursor is not valid"),
    stored.Invalid: Problem(422, "value-invalid", "A value is not valid"),
    # what is not there
    stored.CorrectionMissing: Problem(404, "correction-unknown", "No such correction"),
    stored.JobMissing: Problem(404, "edit-job-unknown", "No such edit job"),
    stored.AdapterMissing: Problem(404, "adapter-unknown", "No such adapter"),
    stored.LabelSetMissing: Problem(404, "label-set-unknown", "No such label set"),
    stored.ControlSetMissing: Problem(404, "control-set-unknown", "No such control set"),
    stored.PredictionMissing: Problem(404, "prediction-unknown", "No such prediction is kept"),
    stored.NotFound: Problem(404, "not-found", "Not found"),
    # what the present state does not allow
    stored.CorrectionConflict: Problem(
        409, "correction-conflict", "The image has another label or answer"
    ),
    stored.ControlImageConflict: Problem(
        409, "control-image-conflict", "The control image has another label"
    ),
    stored.ControlQuestionConflict: Problem(
        409, "control-question-conflict", "The control question has another answer"
    ),
    stored.LabelSetNeeded: Problem(409, "label-set-needed", "The control set has no label set"),
    mine.VlmNeeded: Problem(409, "vlm-needed", "It takes a vision-language model"),
    stored.LabelsInUse: Problem(409, "labels-in-use", "Control images have these labels"),
    stored.PromotionConflict: Problem(409, "promotion-conflict", "Another version became live"),
    mine.LiveMoved: Problem(409, "promotion-conflict", "Another version became live"),
    stored.JobFinished: Problem(409, "edit-job-finished", "The edit job has ended"),
    stored.NothingToEdit: Problem(409, "nothing-to-edit", "There is nothing to edit"),
    stored.Conflict: Problem(409, "conflict", "The present state does not allow it"),
    # what the service lacks
    mine.NotReady: Problem(503, "not-ready", "The service is not ready"),
    mine.NoMethodsAnnounced: Problem(503, "no-methods", "No worker has announced itself"),
    mine.NoAnswerInTime: Problem(503, "no-answer-in-time", "The service could not answer in time"),
    stored.StorageFull: Problem(
        507,
        "storage-full",
        "There is no room left to store it",
        "there is no room left to store it; nothing was kept",
    ),
    stored.StorageUnavailable: Problem(
        503,
        "storage-unavailable",
        "The file store is not there",
        "the file store does not answer; the same can be sent again",
    ),
    stored.ArtifactMissing: Problem(500, "artifact-missing", "A stored file is missing"),
    stored.ArtifactCorrupt: Problem(500, "artifact-corrupt", "A stored file is damaged"),
    stored.OutcomeUnknown: Problem(
        503,
        "outcome-unknown",
        "It is not known whether this was done",
        "the database was lost at the last step: all of this was done, or nothing",
    ),
    stored.DatabaseError: Problem(
        503,
        "database-unavailable",
        "The database does not answer",
        "the database does not answer; nothing was changed, and the same can be sent again",
    ),
    encoding.OutOfMemory: Problem(503, "out-of-memory", "There is not enough memory at present"),
    encoding.AdapterError: Problem(500, "adapter-unusable", "A stored adapter cannot be used"),
}


def problem_of(error: Exception) -> Problem:
    """The row of an error; that of an unexpected failure when it has none."""
    if isinstance(error, mine.ImageRefused):
        return problem_of(error.cause)
    if isinstance(error, HTTPException):
        return _of_status(error.status_code)
    rows = (PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    return next(rows, UNEXPECTED)


def told(error: Exception) -> str:
    """What clients may read of an error that has a row in the table."""
    return problem_of(error).told or str(error)


def answer(error: Exception, request: Request) -> JSONResponse:
    """The problem document of an error that has a row in the table.

    It tells the facts of every named failure, 500s too, but for those that would name the inside;
    what has no row is kept inside.
    """
    problem = problem_of(error)
    unexpected = problem is UNEXPECTED
    if problem.status >= UNEXPECTED.status and not isinstance(error, mine.AppError):
        logger.error("%s: %s", type(error).__name__, error)
    detail = problem.title if unexpected else told(error)
    if isinstance(error, stored.OutcomeUnknown):
        detail = f"{detail}; {advice(request.method, request.url.path)}"
    passes = problem.status in PASSING and not problem.stays
    return document(
        problem,
        request,
        detail=detail,
        entries=[] if unexpected else _entries(error),
        headers={"Retry-After": str(RETRY_SECONDS)} if passes else {},
    )


def advice(method: str, path: str) -> str:
    """What to do where it is not known whether a request was carried out."""
    if method == "POST" and path in ("/promotions", "/edit-jobs"):
        return f"it may have been done: look at GET {path} before you send it again"
    return "it may have been done: sending it again does no harm"


def document(
    problem: Problem,
    request: Request,
    *,
    detail: str,
    entries: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem document with this detail and these entries of ``errors``; an error as OpenAI tells
    it where the request was for one of its paths."""
    if speaks_openai(request.url.path):
        field = entries[0].get("field") if entries else None
        own = detail[:DETAIL_LIMIT]
        return openai_document(problem.status, problem.slug, own, field, headers or {})
    return JSONResponse(
        {
            "type": TYPE_PREFIX + problem.slug,
            "title": problem.title,
            "status": problem.status,
            "detail": detail[:DETAIL_LIMIT],
            "errors": entries or [],
        },
        status_code=problem.status,
        headers=dict(headers or {}),
        media_type=MEDIA_TYPE,
    )


def _entries(error: Exception) -> list[dict[str, Any]]:
    if isinstance(error, RequestValidationError):
        return [
            {"field": ".".join(str(part) for part in entry["loc"]), "detail": entry["msg"]}
            for entry in error.errors()
        ]
    if isinstance(error, mine.ConfigInvalid):
        return [{"field": field, "detail": reason} for field, reason in error.problems]
    if isinstance(error, mine.ImageRefused):
        return [{"field": error.field, "detail": str(error.cause), **_facts(error.cause)}]
    if problem_of(error).told is not None:
        return [{"detail": told(error)}]
    return [{"detail": str(error)[:DETAIL_LIMIT], **_facts(error)}]


def _facts(error: Exception) -> dict[str, Any]:
    """The error's public attributes that JSON can hold, text cut to a readable length."""
    return {
        name: value[:DETAIL_LIMIT] if isinstance(value, str) else value
        for name, value in vars(error).items()
        if not name.startswith("_") and isinstance(value, str | int | float | bool | None)
    }


def _of_status(status: int) -> Problem:
    """A row for a status that the framework itself answers with: 404, 405, 400."""
    title = http.HTTPStatus(status).phrase
    return Problem(status, title.lower().replace(" ", "-"), title)


async def _on_known(request: Request, error: Exception) -> JSONResponse:
    return answer(error, request)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    entries = _entries(error)
    detail = "; ".join(f"{entry['field']}: {entry['detail']}" for entry in entries)
    return document(problem_of(error), request, detail=detail, entries=entries)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return document(problem_of(error), request, detail=detail, headers=error.headers)


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Answers; the framework raises the error again, and the server logs it whole."""
    return document(
        UNEXPECTED,
        request,
        detail=f"an unexpected failure: {type(error).__name__}",
        headers={"Connection": "close"},  # which is what the server does next
    )


def answer_with_problems(app: FastAPI, counted: Counter) -> None:
    """Makes every error of the application a problem document, ``counted`` by its slug, from 0:
    what appears with its first problem looks to Prometheus as if it had never changed."""
    for problem in (*PROBLEMS.values(), UNEXPECTED):
        counted.labels(problem.slug)

    def add(kind: type[Exception], handler: Handler) -> None:
        async def handle(request: Request, error: Exception) -> JSONResponse:
            counted.labels(problem_of(error).slug).inc()
            return await handler(request, error)

        app.add_exception_handler(kind, handle)

    for kind in (*PROBLEMS, mine.ImageRefused):
        add(kind, _on_known)
    add(RequestValidationError, _on_invalid)
    add(HTTPException, _on_http)
    add(Exception, _on_unexpected)
