"""What `/docs` and `/openapi.json` say beyond what the routes say themselves.

`/docs` is Swagger UI, whose script comes from a content network. Where that cannot be reached the
page lists the paths by itself from `/openapi.json`.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse

from app.schemas.chat import ChatRequest
from app.vocabulary_limit import TOP_K_LIMIT
from registry.questions import MAX_OPTIONS, MAX_QUESTION

DESCRIPTION = """Fixes the mistakes of a CLIP vision encoder in production.

Send a misclassified image with its correct label to `/corrections`; an edit job fits an adapter, a
gate judges it, and the better encoder goes live. Every error is `application/problem+json`
(RFC 9457) with a stable `type`.
"""
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
TEXT: dict[str, Any] = {"type": "string"}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}
FILES: dict[str, Any] = {"type": "array", "items": {"type": "string", "format": "binary"}}
TOP: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": TOP_K_LIMIT, "default": 5}
VERSION: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "const": "live"}],
    "default": "live",
}


def _body(
    images: str, form: dict[str, Any], json: dict[str, Any], example: dict[str, Any]
) -> dict[str, Any]:
    """The declaration of a body that is read as multipart and as JSON alike."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {images: FILES, **form}}
                },
                "application/json": {
                    "schema": {"type": "object", "properties": {"images": TEXTS, **json}},
                    "example": example,
                },
            },
        }
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its definitions where they are used: it has no document of its own."""
    known = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(each) for each in part]
        if not isinstance(part, dict):
            return part
        name = part.get("$ref", "").removeprefix("#/$defs/")
        whole = known[name] if name else part
        return {key: inlined(value) for key, value in whole.items() if key != "discriminator"}

    found: dict[str, Any] = inlined(schema)
    return found


CLASSIFY_BODY = _body(
    "image",
    {
        "label": TEXTS,
        "label_set": TEXT,
        "template": TEXTS,
        "adapter": VERSION,
        "top_k": TOP,
    },
    {
        "labels": TEXTS,
        "label_set": TEXT,
        "templates": TEXTS,
        "adapter": VERSION,
        "top_k": TOP,
    },
    {"images": [PIXEL], "labels": ["stop", "yield"], "adapter": "live", "top_k": 2},
)
QUESTION: dict[str, Any] = {"type": "string", "maxLength": MAX_QUESTION}
OPTIONS: dict[str, Any] = {**TEXTS, "maxItems": MAX_OPTIONS, "uniqueItems": True}
_QUESTION = {
    "adapter": VERSION,
    "model": TEXT,
    "normalise": {"type": "boolean", "default": False},
}
VQA_BODY = _body(
    "image",
    {"question": QUESTION, "option": OPTIONS, **_QUESTION},
    {"question": QUESTION, "options": OPTIONS, **_QUESTION},
    {"images": [PIXEL], "question": "What is this?", "options": ["a cup", "a truck"]},
)
CHAT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _inlined(ChatRequest.model_json_schema()),
                "example": {
                    "model": "bundled",
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "text", "text": "What is this?"},
                                {"type": "image_url", "image_url": {"url": PIXEL}},
                            ],
                        }
                    ],
                },
            }
        },
    }
}
_CORRECTION = {
    "label_set": TEXT,
    "predicted": TEXTS,
    "prediction": TEXTS,
    "note": TEXTS,
    "replace": {"type": "boolean", "default": False},
}
_QUESTIONED = {"question": TEXTS, "answer": TEXTS, "wrong_answer": TEXTS}
_QUESTION_OBJECT: dict[str, Any] = {
    "type": "object",
    "required": ["question"],
    "properties": {"question": TEXT, "answer": TEXT, "options": TEXTS},
}
CORRECTIONS_BODY = _body(
    "image",
    {"label": TEXTS, **_CORRECTION, **_QUESTIONED},
    {"labels": TEXTS, **_CORRECTION, **_QUESTIONED},
    {"images": [PIXEL], "labels": ["yield"], "predicted": ["stop"], "note": "partly covered"},
)
CONTROL_IMAGES_BODY = _body(
    "image",
    {"label": TEXTS, "question": TEXTS, "answer": TEXTS, "option": TEXTS},
    {"labels": TEXTS, "questions": {"type": "array", "items": _QUESTION_OBJECT}},
    {
        "images": [PIXEL],
        "questions": [
            {"question": "What is this?", "answer": "a cup", "options": ["a cup", "a hat"]}
        ],
    },
)

PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "stable for each error class"},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"field": TEXT, "detail": TEXT}},
        },
    },
    "example": {
        "type": "urn:emend:problem:image-undecodable",
        "title": "An image cannot be decoded",
        "status": 422,
        "detail": "image[0]: the image cannot be decoded: truncated",
        "errors": [{"field": "image[0]", "detail": "the image cannot be decoded: truncated"}],
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem document (RFC 9457)",
        "content": {"application/problem+json": {"schema": PROBLEM}},
    }
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Emend</title>
<link rel="stylesheet" href="https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui.css">
<style>body { margin: 0 auto; font-family: sans-serif } #plain { max-width: 60em; margin: 2em auto }
#plain code { font-weight: bold } #plain li { margin: .5em 0 }</style>
</head>
<body>
<div id="ui"></div>
<div id="plain"></div>
<script src="https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui-bundle.js"></script>
<script>
const openapi = "OPENAPI";
const make = (tag, text) => Object.assign(document.createElement(tag), {textContent: text});
async function plain(page) {
  const description = await (await fetch(openapi)).json();
  page.append(make("h1", description.info.title), make("p", description.info.description));
  const list = page.appendChild(make("ul", ""));
  for (const [path, methods] of Object.entries(description.paths))
    for (const [method, route] of Object.entries(methods)) {
      const item = list.appendChild(make("li", ""));
      item.append(make("code", method.toUpperCase() + " " + path), " ", route.description || "");
    }
  page.append(Object.assign(make("a", "openapi.json"), {href: openapi}));
}
if (window.SwaggerUIBundle) SwaggerUIBundle({url: openapi, dom_id: "#ui"});
else plain(document.getElementById("plain"));
</script>
</body>
</html>
"""


def add_documentation(app: FastAPI) -> None:
    """Serves `/docs`."""

    async def docs(request: Request) -> HTMLResponse:
        root = str(request.scope.get("root_path", ""))
        return HTMLResponse(PAGE.replace("OPENAPI", root + str(app.openapi_url)))

    app.add_route("/docs", docs, include_in_schema=False)
