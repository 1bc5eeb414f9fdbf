"""A request of `/v1/chat/completions`: what it asks, and what it may not ask.

A field that would change the answer and means nothing here is refused by name; one that would not
(who asks, where it is stored) is taken and has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from app.errors import FieldInvalid, JsonInvalid, ModelUnknown, Unsupported, UnsupportedMediaType
from app.schemas.chat import ChatRequest, ImagePart, Message, TextPart
from app.uploads import JSON, VERSION_DIGITS, image_from_uri, parse_aside, parse_json
from app.visual_answers import Wanted
from encoder.vlm.answering import Sampling
from encoder.vlm.dialogue import Turn

ANSWER_TOKENS = 256  # unless the request says otherwise
WITHOUT_EFFECT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "parallel_tool_calls",  # of tools, which are refused
    }
)
# Values that ask for what is done anyway.
NOTHING_ASKED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
INSTEAD = {
    "n": "one answer is given",
    "logprobs": "ask POST /vqa with options for likelihoods",
    "tools": "no tools are called",
    "response_format": "answers are plain text",
}
PART_TYPES = ("text", "image_url")
ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


@dataclass(frozen=True)
class Chat:
    """A conversation, by the name of the model that should go on with it."""

    model: str
    wanted: Wanted
    streamed: bool
    with_usage: bool


async def read_chat(request: Request, name: str) -> Chat:
    """The conversation in a request's body, for the model ``name``.

    Raises `UnsupportedMediaType`, `JsonInvalid`, `BodyTooLarge`, `FieldInvalid`, `ModelUnknown`.
    """
    content_type = request.headers.get("content-type")
    if (content_type or "").partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaType(content_type, (JSON,))
    return await parse_aside(partial(_chat, name), await request.body())


def _chat(name: str, body: bytes) -> Chat:
    """Raises `JsonInvalid`, `FieldInvalid`, `ModelUnknown`."""
    content = parse_json(body)
    if not isinstance(content, dict):
        raise JsonInvalid("an object was expected")
    asked = _checked({key: value for key, value in content.items() if value is not None})
    turns, image, place = _turns(asked.messages)
    wanted = Wanted(
        image,
        turns,
        version_of_model(asked.model, name),
        sampling=_sampling(asked),
        place=place,
    )
    options = asked.stream_options
    return Chat(
        asked.model, wanted, bool(asked.stream), options is not None and bool(options.include_usage)
    )


def version_of_model(model: str, name: str) -> int | None:
    """The version of `NAME@VERSION`, None for `NAME`. Raises `ModelUnknown`."""
    if model == name:
        return None
    asked, _, version = model.rpartition("@")
    digits = version.isascii() and version.isdigit() and len(version) <= VERSION_DIGITS
    if asked != name or not digits:
        raise ModelUnknown(model, (name, f"{name}@VERSION"))
    return int(version)


def _checked(content: dict[str, Any]) -> ChatRequest:
    """Raises `FieldInvalid`, `Unsupported`."""
    for field in content.keys() & NOTHING_ASKED.keys():
        if not any(_is(content[field], nothing) for nothing in NOTHING_ASKED[field]):
            raise Unsupported(field, INSTEAD.get(field, "this is not supported"))
    known = ChatRequest.model_fields.keys() | NOTHING_ASKED.keys() | WITHOUT_EFFECT
    for field in content:
        if field not in known:
            raise Unsupported(field, f"this field is unknown; known: {', '.join(sorted(known))}")
    try:
        asked = ChatRequest.model_validate(content)
    except ValidationError as invalid:
        raise _first(invalid) from invalid
    for index, message in enumerate(asked.messages):
        _refuse_unknown(message, f"messages[{index}]")
        for place, part in enumerate(message.content):
            _refuse_unknown(part, f"messages[{index}].content[{place}]")
    return asked


def _first(invalid: ValidationError) -> FieldInvalid:
    """What is wrong first, with its place as a program would write it."""
    error = invalid.errors(include_url=False, include_input=False)[0]
    place = ""
    for before, part in zip((None, *error["loc"]), error["loc"], strict=False):
        if isinstance(part, int):
            place += f"[{part}]"
        elif not isinstance(before, int) or part not in PART_TYPES:  # which pydantic puts in
            place += f".{part}" if place else part
    return FieldInvalid(place or "body", error["msg"])


def _is(value: Any, nothing: Any) -> bool:
    """Equal, and of one kind: True is 1 for Python, and not for whoever asks."""
    return bool(value == nothing) and isinstance(value, bool) == isinstance(nothing, bool)


def _refuse_unknown(part: BaseModel, place: str) -> None:
    """Raises `Unsupported` for what a message has besides its words and its image."""
    for field, value in (part.model_extra or {}).items():
        if value not in (None, [], ""):
            raise Unsupported(f"{place}.{field}", "this is not supported")


def _turns(messages: list[Message]) -> tuple[tuple[Turn, ...], bytes | None, str]:
    """The conversation, its image, and where that is. Raises `FieldInvalid`, `Unsupported`."""
    turns: list[Turn] = []
    image: bytes | None = None
    at = ""
    for index, message in enumerate(messages):
        words: list[str] = []
        has_image = False
        for place, part in enumerate(message.content):
            field = f"messages[{index}].content[{place}]"
            if isinstance(part, TextPart):
                words.append(part.text)
                continue
            if message.role != "user":
                raise Unsupported(field, "only a user's message may hold an image")
            if image is not None:
                raise Unsupported(
                    field, "a conversation may hold one image, and this is the second"
                )
            at = f"{field}.image_url.url"
            image, has_image = _image(part, at), True
        text = "\n".join(words).strip()
        if not text:
            raise FieldInvalid(f"messages[{index}].content", "it has no text")
        turns.append(Turn(ROLES[message.role], text, has_image))
    if turns[-1].role != "user":
        raise FieldInvalid("messages", "the last message must be the user's")
    return tuple(turns), image, at


def _image(part: ImagePart, field: str) -> bytes:
    url = part.image_url.url
    if url[:8].lower().startswith(("http://", "https://", "file://")):
        raise Unsupported(
            field, "this service fetches nothing: send the image itself as a data URI"
        )
    return image_from_uri(url, field)


def _sampling(asked: ChatRequest) -> Sampling:
    wanted = asked.max_completion_tokens or asked.max_tokens or ANSWER_TOKENS
    return Sampling(
        max_tokens=wanted,
        temperature=asked.temperature or 0.0,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop=tuple(asked.stop or ()),
    )
