"""Failures in OpenAI's shape, for the paths that its clients know.

Their libraries choose an exception by the status (400 and not 422 for what is not valid), read
`error.code` and `error.param`, and ask a 503 again unless a header says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

PREFIX = "/v1/"
INVALID = (415, 422)
CODES = {
    "field-invalid": "invalid_value",
    "unsupported": "unsupported_parameter",
    "model-unknown": "model_not_found",
    "adapter-unknown": "model_not_found",
    "question-too-long": "context_length_exceeded",
    "image-undecodable": "invalid_image",
}


def speaks_openai(path: str) -> bool:
    """Whether a path is one of those whose failures have OpenAI's shape."""
    return path.startswith(PREFIX)


def openai_error(status: int, slug: str, detail: str, param: str | None) -> dict[str, Any]:
    """The document: `code` is the problem's stable type, or OpenAI's own word for it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = CODES.get(slug, slug.replace("-", "_"))
    return {"error": {"message": detail, "type": kind, "param": param, "code": code}}


def openai_document(
    status: int, slug: str, detail: str, param: str | None, headers: Mapping[str, str]
) -> JSONResponse:
    """The answer. What will not pass is not to be asked again."""
    own = dict(headers)
    if status >= 500 and "Retry-After" not in own:
        own["X-Should-Retry"] = "false"
    return JSONResponse(
        openai_error(status, slug, detail, param),
        status_code=400 if status in INVALID else status,
        headers=own,
    )


def event_of(document: Mapping[str, Any]) -> str:
    """A failure in the middle of a stream, as an event of it."""
    return f"data: {json.dumps(document)}\n\n"
