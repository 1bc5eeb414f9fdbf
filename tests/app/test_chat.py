"""`/v1`: OpenAI's own client library against the service as it is started."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from encoder.clip import load_encoder
from registry import schema
from registry.artifacts import ArtifactStore
from registry.session import default_url, open_database
from tests.support.api_process import ApiProcess
from tests.support.service import data_uri, noisy_deltas, picture, store_version

ANSWER_TOKENS = 12
LIMIT = 1024 * 1024  # bytes of a request


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, vlm_folder: Path
) -> Iterator[ApiProcess]:
    """A process of the service, with version 0 live and version 1 beside it."""
    process = ApiProcess(
        tmp_path_factory.mktemp("chat") / "data",
        {
            "EMEND_ENCODER": str(tiny_encoder),
            "EMEND_VLM": str(vlm_folder),
            "EMEND_MAX_REQUEST_BYTES": str(LIMIT),
        },
    )
    location = default_url(process.folder)
    schema.upgrade(location)
    process.start()
    try:
        process.wait_until_ready()
        engine = open_database(location)
        adapter = noisy_deltas(load_encoder(str(tiny_encoder)), seed=1)
        store_version(engine, ArtifactStore(process.folder / "artifacts"), adapter)
        engine.dispose()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def client(api: ApiProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def name(client: openai.OpenAI) -> str:
    """Of the live model."""
    return client.models.list().data[0].id


def _about(seed: int, question: str = "What is this?") -> list[ChatCompletionMessageParam]:
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": question},
                {"type": "image_url", "image_url": {"url": data_uri(picture(seed))}},
            ],
        }
    ]


def test_an_answer_names_its_version_and_what_it_used(client: openai.OpenAI, name: str) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=name, messages=_about(1), max_tokens=ANSWER_TOKENS, user="somebody", store=False
    )
    answer = raw.parse()
    assert raw.headers["x-adapter-version"] == "0"
    assert answer.model == f"{name}@0"
    assert answer.object == "chat.completion"
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= ANSWER_TOKENS
    assert answer.usage.prompt_tokens > len("What is this?")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = client.chat.completions.create(
        model=answer.model, messages=_about(1), max_completion_tokens=ANSWER_TOKENS
    )
    assert again.choices == answer.choices
    assert again.system_fingerprint == answer.system_fingerprint


def test_a_stream_says_the_same_piece_by_piece(client: openai.OpenAI, name: str) -> None:
    whole = client.chat.completions.create(model=name, messages=_about(2), max_tokens=ANSWER_TOKENS)
    stream = client.chat.completions.create(
        model=name,
        messages=_about(2),
        max_tokens=ANSWER_TOKENS,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert stream.response.headers["x-adapter-version"] == "0"
    assert {(chunk.id, chunk.model) for chunk in chunks} == {(chunks[0].id, f"{name}@0")}
    *told, last = chunks
    assert told[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in told)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in told] == [None] * (len(told) - 1) + [
        whole.choices[0].finish_reason
    ]
    assert len(told) > 3
    assert last.choices == []
    assert last.usage == whole.usage


def test_a_stream_ends_as_clients_without_a_library_expect(api: ApiProcess, name: str) -> None:
    content = {"model": name, "messages": _about(2), "max_tokens": 3, "stream": True}
    lines = httpx.post(f"{api.url}/v1/chat/completions", json=content).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all(line.startswith("data: {") for line in lines[:-2])
    assert '"usage":{' not in "".join(lines)


def test_the_async_client_asks_many_at_once(api: ApiProcess, name: str) -> None:
    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="unused") as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model=name, messages=_about(seed % 4), max_tokens=ANSWER_TOKENS
                    )
                    for seed in range(16)
                )
            )
        return [answer.choices[0].message.content for answer in answers]

    texts = asyncio.run(ask())
    assert texts == texts[:4] * 4  # who is answered together with whom changes nothing
    assert len(set(texts)) > 1


def test_every_version_is_a_model(client: openai.OpenAI, name: str) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids == [name, f"{name}@1", f"{name}@0"]
    assert client.models.retrieve(f"{name}@1").id == f"{name}@1"
    edited = client.chat.completions.create(
        model=f"{name}@1", messages=_about(3), max_tokens=ANSWER_TOKENS
    )
    live = client.chat.completions.create(model=name, messages=_about(3), max_tokens=ANSWER_TOKENS)
    assert (live.model, edited.model) == (f"{name}@0", f"{name}@1")
    assert live.choices != edited.choices


def test_a_conversation_has_a_system_and_goes_on(client: openai.OpenAI, name: str) -> None:
    def said(*messages: ChatCompletionMessageParam) -> str | None:
        answer = client.chat.completions.create(
            model=name, messages=messages, max_tokens=ANSWER_TOKENS
        )
        return answer.choices[0].message.content

    system: ChatCompletionMessageParam = {"role": "system", "content": "Answer briefly."}
    asked = _about(1)
    answered: ChatCompletionMessageParam = {"role": "assistant", "content": "a cat"}
    then: ChatCompletionMessageParam = {"role": "user", "content": "Are you sure?"}
    found = {said(*asked), said(system, *asked), said(*asked, answered, then), said(then)}
    assert len(found) == 4  # each is another prompt


def test_sampling_follows_its_seed(client: openai.OpenAI, name: str) -> None:
    def drawn(seed: int, temperature: float = 1.5) -> str | None:
        answer = client.chat.completions.create(
            model=name, messages=_about(1), max_tokens=20, temperature=temperature, seed=seed
        )
        return answer.choices[0].message.content

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1, temperature=0) == drawn(2, temperature=0)


def test_an_answer_ends_before_a_stop_text(client: openai.OpenAI, name: str) -> None:
    whole = client.chat.completions.create(model=name, messages=_about(1), max_tokens=20)
    text = whole.choices[0].message.content or ""
    stop = text[4:6]
    cut = client.chat.completions.create(model=name, messages=_about(1), max_tokens=20, stop=[stop])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


TEXT = [{"role": "user", "content": "hello"}]
HTTP_IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
TWO_IMAGES = [{"role": "user", "content": [*_about(1)[0]["content"], *_about(2)[0]["content"]]}]
A_WORD = {"type": "text", "text": "a"}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "messages", "at least 1"),
    ({"messages": None}, "messages", "required"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content", "no text"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "system"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "user"),
    ({"messages": [{"role": "user", "content": [HTTP_IMAGE]}]}, "image_url.url", "fetches nothing"),
    ({"messages": TWO_IMAGES}, "messages[0].content[3]", "one image"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url", "required"),
    ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "content[0]", "type"),
    ({"messages": [*TEXT, {"role": "assistant", "content": "x"}]}, "messages", "last message"),
    (
        {"messages": [{"role": "assistant", "content": _about(1)[0]["content"]}, *TEXT]},
        "messages[0].content[1]",
        "user's message",
    ),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}, *TEXT]},
        "messages[0].tool_calls",
        "not supported",
    ),
    ({"messages": [{"role": "user", "content": "x" * 3000}]}, "", "tokens"),
    ({"messages": [{"role": "user", "content": "x" * 900_000}]}, "", "at least"),
    ({"messages": [{"role": "user", "content": [A_WORD] * 33}]}, "messages[0].content", "32"),
    ({"n": 2}, "n", "one answer"),
    ({"tools": [{"type": "function"}]}, "tools", "no tools"),
    ({"logprobs": True}, "logprobs", "POST /vqa"),
    ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
    ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
    ({"stranger": 1}, "stranger", "unknown"),
    ({"max_tokens": 0}, "max_tokens", "greater than"),
    ({"max_tokens": True}, "max_tokens", "integer"),
    ({"temperature": "hot"}, "temperature", "number"),
    ({"temperature": 2.5}, "temperature", "less than"),
    ({"top_p": 0}, "top_p", "greater than"),
    ({"stop": ["a"] * 5}, "stop", "at most 4"),
    ({"stop": [""]}, "stop[0]", "at least 1"),
    ({"stream": "yes"}, "stream", "boolean"),
    ({"model": 3}, "model", "string"),
]


@pytest.mark.parametrize(("fields", "param", "named"), REFUSED)
def test_what_cannot_be_asked_is_a_bad_request_that_names_its_place(
    client: openai.OpenAI, name: str, fields: dict[str, Any], param: str, named: str
) -> None:
    content = {"model": name, "messages": TEXT, **fields}
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/chat/completions", body=content, cast_to=httpx.Response)
    assert named in refused.value.message
    assert (refused.value.param or "").endswith(param)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.code


def test_what_asks_for_nothing_is_taken(client: openai.OpenAI, name: str) -> None:
    answer = client.chat.completions.create(
        model=name,
        messages=TEXT,  # type: ignore[arg-type]
        n=1,
        logprobs=False,
        tools=[],
        presence_penalty=0,
        response_format={"type": "text"},
        metadata={"why": "a test"},
        service_tier="auto",
        max_tokens=2,
    )
    assert answer.choices[0].message.content is not None


@pytest.mark.parametrize("image", [b"no image", b"", picture(1)[:40]])
def test_an_image_that_is_none_is_a_bad_request(
    client: openai.OpenAI, name: str, image: bytes
) -> None:
    part: Any = {"type": "image_url", "image_url": {"url": data_uri(image)}}
    text: Any = {"type": "text", "text": "x"}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": [text, part]}]
        )
    assert "image" in refused.value.message
    assert refused.value.param == "messages[0].content[1].image_url.url"


def test_what_is_not_there_is_not_found(client: openai.OpenAI, name: str) -> None:
    for model in ("gpt-4o", f"{name}@99", f"{name}@live", "gpt@1", f"{name}@{'9' * 40}"):
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model=model, messages=_about(1))
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(model)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=name, input="x", encoding_format="float")


def test_every_failure_of_these_paths_has_openais_shape(api: ApiProcess) -> None:
    path, headers = "/v1/chat/completions", {"content-type": "application/json"}
    with httpx.Client(base_url=api.url, headers=headers) as http:
        answers = [
            (404, http.get("/v1/nowhere")),
            (405, http.get(path)),
            (400, http.post(path, content=b"{")),
            (400, http.post(path, content=b"[]")),
            (400, http.post(path, content=b"{}", headers={"content-type": "text/plain"})),
            (413, http.post(path, content=b" " * (LIMIT + 1))),
        ]
    for status, answer in answers:
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert error["message"]
