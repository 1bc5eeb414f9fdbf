"""Shapes of `/v1`, which are OpenAI's; https://platform.openai.com/docs/api-reference/chat.

Only what changes an answer is described here. Null means the same as absent everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

MESSAGES_LIMIT = 256
PARTS_LIMIT = 32  # of a message; each is an object to be checked
STOPS_LIMIT = 4
STOP_CHARACTERS = 100


class _Strict(BaseModel):
    """Numbers are numbers and not text; what is unknown is looked at by `app.chat_request`."""

    model_config = ConfigDict(extra="allow", strict=True)


class TextPart(_Strict):
    """Words of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    """``url`` is a data URI; ``detail`` is for models that read images in parts."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Strict):
    """The image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


def _as_parts(content: Any) -> Any:
    """Text alone is one part of text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Message(_Strict):
    """One turn; ``developer`` is what newer clients call the system."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], Field(max_length=PARTS_LIMIT), BeforeValidator(_as_parts)]
    name: str | None = None


class StreamOptions(_Strict):
    """Whether a stream ends with what it used."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


class ChatRequest(_Strict):
    """A conversation to go on with. ``temperature`` 0, the default, takes the likeliest token."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES_LIMIT)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=STOP_CHARACTERS)]],
            BeforeValidator(_as_list),
            Field(max_length=STOPS_LIMIT),
        ]
        | None
    ) = None
    n: int | None = None


class ChatUsage(BaseModel):
    """Tokens; those of an image count in the prompt."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: str


class ChatAnswer(BaseModel):
    """``model`` names the version that answered, `NAME@VERSION`, and so asks it again;
    ``system_fingerprint`` begins its encoder's digest."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: ChatUsage


class Delta(BaseModel):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_it_does_not_add(self, serialise: SerializerFunctionWrapHandler) -> Any:
        return {name: value for name, value in serialise(self).items() if value is not None}


class ChunkChoice(BaseModel):
    """The one answer, a piece of it."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: None = None
    finish_reason: str | None = None


class ChatChunk(BaseModel):
    """An event of a stream; the one that tells ``usage`` has no choices."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None


class Model(BaseModel):
    """`NAME` answers with whatever version is live, `NAME@VERSION` with that one."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["emend"] = "emend"


class ModelList(BaseModel):
    """The live version first, then the newest ones."""

    object: Literal["list"] = "list"
    data: list[Model]
