"""The desk: questions that come together are answered together, and nobody is answered in vain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from prometheus_client import CollectorRegistry

from app.answer_desk import WAITING_FOR_EACH_ROW, AnswerDesk
from app.tickets import Asked, Ticket
from app.vlm_metrics import VlmMetrics
from encoder.adapter import Adapter
from encoder.deltas import Dense
from encoder.vlm.dialogue import LlavaDialogue, Piece, Turn
from tests.support.service import (
    RunningService,
    data_uri,
    noisy_deltas,
    picture,
    problem_of,
    running_service,
    store_version,
)
from tests.support.waiting import wait_for

QUESTION = "What is this?"
OPTIONS = ("a stop sign", "a cat", "yes", "no")
ROWS = 2
LONG = 450  # tokens of an answer that nobody should wait for


@dataclass(frozen=True)
class Holding(LlavaDialogue):
    """A format that takes its time to be written down."""

    go_on: threading.Event = field(default_factory=threading.Event)

    def pieces(self, turns: Sequence[Turn]) -> list[Piece]:
        assert self.go_on.wait(60)
        return super().pieces(turns)


@contextmanager
def busy(service: RunningService) -> Iterator[None]:
    """The desk has its hands full until the end of the block."""
    vlm, encoder = service.services.vlm.model(), service.services.encoder.at(0)[1]
    held = Holding(go_on=threading.Event())

    async def ask() -> None:
        ticket = Ticket(
            Asked(replace(vlm, dialogue=held), 0, encoder, None, (Turn("user", "x"),), ("a", "b"))
        )
        service.services.desk.submit(ticket)
        await ticket.begun()

    asyncio.run(ask())
    try:
        yield
    finally:
        held.go_on.set()


@pytest.fixture(scope="module")
def narrow_service(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, vlm_folder: Path
) -> Iterator[RunningService]:
    """It answers few questions together, so that few can wait."""
    settings: dict[str, Any] = {"vlm": str(vlm_folder), "vlm_batch": ROWS}
    with running_service(tmp_path_factory.mktemp("data"), tiny_encoder, **settings) as running:
        running.wait_for_vlm()
        yield running


def _count(service: RunningService, name: str, **labels: str) -> float:
    return service.services.metrics.registry.get_sample_value(f"emend_vlm_{name}", labels) or 0.0


def _chat(tokens: int, seed: int = 1, **fields: Any) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": data_uri(picture(seed))}}
    content = [{"type": "text", "text": QUESTION}, image]
    return {
        "model": "tiny-vlm0",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        **fields,
    }


def test_what_gathers_while_it_is_busy_is_answered_together_and_the_same(
    asked_service: RunningService,
) -> None:
    alone = [asked_service.ask(picture(seed), QUESTION, *OPTIONS) for seed in range(8)]
    texts = [asked_service.ask(picture(seed), QUESTION) for seed in range(4)]
    questions = _count(asked_service, "questions_total", answer="option")
    batches = _count(asked_service, "batch_questions_count")
    with ThreadPoolExecutor(12) as pool:
        with busy(asked_service):
            with_options = [
                pool.submit(asked_service.ask, picture(seed), QUESTION, *OPTIONS)
                for seed in range(8)
            ]
            in_words = [
                pool.submit(asked_service.ask, picture(seed), QUESTION) for seed in range(4)
            ]
            wait_for(lambda: _count(asked_service, "waiting") == 12, seconds=30, what="all to wait")
        together = [each.result() for each in with_options]
        told = [each.result() for each in in_words]
    assert _count(asked_service, "batch_questions_count") == batches + 2  # the one held, and these
    assert _count(asked_service, "questions_total", answer="option") == questions + 9
    for one, other in zip(alone, together, strict=True):
        assert other["answer"] == one["answer"]
        for mine, yours in zip(one["options"], other["options"], strict=True):
            assert mine["log_likelihood"] == pytest.approx(yours["log_likelihood"], abs=1e-3)
    assert [each["answer"] for each in told] == [each["answer"] for each in texts]


def test_versions_are_answered_together_and_each_sees_for_itself(
    asked_service: RunningService,
) -> None:
    def ask(version: int) -> dict[str, Any]:
        return asked_service.ask(picture(1), QUESTION, *OPTIONS, adapter=str(version))

    alone = [ask(0), ask(1)]
    with ThreadPoolExecutor(2) as pool:
        with busy(asked_service):
            asked = [pool.submit(ask, version) for version in (0, 1)]
            wait_for(lambda: _count(asked_service, "waiting") == 2, seconds=30, what="both")
        together = [each.result() for each in asked]
    for one, other in zip(alone, together, strict=True):
        assert one["encoder_digest"] == other["encoder_digest"]
        assert [each["log_likelihood"] for each in one["options"]] == pytest.approx(
            [each["log_likelihood"] for each in other["options"]], abs=1e-3
        )


def test_a_question_comes_in_between_two_tokens_of_a_long_answer(
    asked_service: RunningService,
) -> None:
    stream = _chat(LONG, stream=True)
    with asked_service.http.stream("POST", "/v1/chat/completions", json=stream) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert asked_service.ask(picture(2), QUESTION, *OPTIONS)["answer"] in OPTIONS
        assert _count(asked_service, "answers_open") == 1
        assert "[DONE]" in "".join(lines)


@pytest.mark.parametrize("streamed", [True, False])
def test_who_goes_away_is_not_answered_any_further(
    asked_service: RunningService, streamed: bool
) -> None:
    before = _count(asked_service, "steps_total")
    content = _chat(LONG, stream=streamed)
    with httpx.Client(base_url=asked_service.url) as http:
        if streamed:
            with http.stream("POST", "/v1/chat/completions", json=content) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                http.post("/v1/chat/completions", json=content, timeout=0.2)
    wait_for(
        lambda: (
            _count(asked_service, "answers_open") == 0
            and _count(asked_service, "steps_total") > before
        ),
        seconds=30,
        what="the desk to notice",
    )
    steps = _count(asked_service, "steps_total") - before
    assert 0 < steps < LONG - 1
    asked_service.ask(picture(2), QUESTION, *OPTIONS)  # the desk comes round once more
    assert _count(asked_service, "steps_total") - before == steps


def test_more_than_may_wait_are_sent_away_at_once(narrow_service: RunningService) -> None:
    places = ROWS * WAITING_FOR_EACH_ROW

    def ask(seed: int) -> httpx.Response:
        data = {"question": QUESTION, "option": list(OPTIONS)}
        return narrow_service.http.post("/vqa", files={"image": picture(seed)}, data=data)

    with ThreadPoolExecutor(places) as pool:
        with busy(narrow_service):
            asked = [pool.submit(ask, seed) for seed in range(places)]
            wait_for(
                lambda: _count(narrow_service, "waiting") == places, seconds=3, what="all to wait"
            )
            answer = ask(99)
        assert problem_of(answer, 503)["type"] == "urn:emend:problem:too-many-questions"
        assert int(answer.headers["retry-after"]) > 0
        assert {each.result().status_code for each in asked} == {200}


def test_who_waits_too_long_is_told_and_makes_room(narrow_service: RunningService) -> None:
    with busy(narrow_service):
        data = {"question": QUESTION, "option": list(OPTIONS)}
        answer = narrow_service.http.post("/vqa", files={"image": picture(1)}, data=data)
        assert problem_of(answer, 503)["type"] == "urn:emend:problem:no-answer-in-time"
        chat = narrow_service.http.post("/v1/chat/completions", json=_chat(1))
        assert chat.json()["error"]["code"] == "no_answer_in_time"
        assert chat.json()["error"]["message"].endswith("ask again")  # nothing may have been done
    questions = _count(narrow_service, "questions_total", answer="option")
    assert narrow_service.ask(picture(1), QUESTION, *OPTIONS)["answer"] in OPTIONS
    assert _count(narrow_service, "questions_total", answer="option") <= questions + 2


def test_a_version_that_sees_no_numbers_is_told_and_spoils_no_other_answer(
    asked_service: RunningService,
) -> None:
    services = asked_service.services
    base = services.encoder.at(0)[1]
    sane = noisy_deltas(base, seed=3)
    deltas = {name: Dense(torch.full_like(d.values, torch.nan)) for name, d in sane.deltas.items()}
    broken = store_version(services.engine, services.store, Adapter(deltas, sane.provenance))
    for options in ((), OPTIONS):
        data = {"question": QUESTION, "option": list(options), "adapter": str(broken)}
        answer = asked_service.http.post("/vqa", files={"image": picture(1)}, data=data)
        problem = problem_of(answer, 500)
        assert problem["type"] == "urn:emend:problem:not-finite"
        assert f"version {broken}" in problem["detail"]
    stream = _chat(LONG, stream=True)
    with asked_service.http.stream("POST", "/v1/chat/completions", json=stream) as answer:
        lines = answer.iter_lines()
        next(lines)
        content = {**_chat(4, temperature=1.0), "model": f"tiny-vlm0@{broken}"}
        refused = httpx.post(f"{asked_service.url}/v1/chat/completions", json=content)
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "not_finite")
        assert "[DONE]" in "".join(lines)


def test_a_stop_waits_for_no_long_step(asked_service: RunningService) -> None:
    vlm, encoder = asked_service.services.vlm.model(), asked_service.services.encoder.at(0)[1]
    held = Holding(go_on=threading.Event())
    desk = AnswerDesk(ROWS, VlmMetrics(CollectorRegistry()))
    desk.start()

    async def ask_and_stop() -> None:
        asked = Asked(replace(vlm, dialogue=held), 0, encoder, None, (Turn("user", "x"),), OPTIONS)
        ticket = Ticket(asked)
        desk.submit(ticket)
        await ticket.begun()
        await asyncio.wait_for(asyncio.to_thread(desk.stop), 30)

    try:
        asyncio.run(ask_and_stop())
    finally:
        held.go_on.set()


def test_a_failure_is_told_to_whom_it_concerns_and_the_desk_goes_on(
    asked_service: RunningService,
) -> None:
    vlm, encoder = asked_service.services.vlm.model(), asked_service.services.encoder.at(0)[1]

    async def ask() -> None:
        broken = replace(vlm, words=None)  # type: ignore[arg-type]
        ticket = Ticket(Asked(broken, 0, encoder, None, (Turn("user", "x"),), ("a", "b")))
        asked_service.services.desk.submit(ticket)
        await ticket.begun()
        await ticket.scores()

    with pytest.raises(AttributeError):
        asyncio.run(ask())
    assert asked_service.ask(picture(1), QUESTION, *OPTIONS)["answer"] in OPTIONS
