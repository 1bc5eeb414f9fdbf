"""What is done with questions that were taken together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import torch

from app.answer_batch import read_questions, score_options
from app.tickets import Asked, Ticket
from encoder.errors import OutOfMemory
from encoder.vlm.dialogue import Turn
from tests.support.service import RunningService
from tests.support.tiny_encoder import SIDE

OPTIONS = ("a stop sign", "a cat")


def test_what_one_version_fails_with_is_not_told_to_others(
    asked_service: RunningService,
) -> None:
    vlm, encoder = asked_service.services.vlm.model(), asked_service.services.encoder.at(0)[1]
    starved = replace(vlm, connector=_Starved())
    seen = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)

    async def ask() -> list[Any]:
        turns = (Turn("user", "x", has_image=True),)
        tickets = [
            Ticket(Asked(starved, 1, encoder, seen, turns, OPTIONS)),
            Ticket(Asked(vlm, 0, encoder, None, (Turn("user", "x"),), OPTIONS)),
        ]
        prompted = read_questions(tickets)
        assert [each.ticket for each in prompted] == tickets[1:]
        with pytest.raises(OutOfMemory):
            await tickets[0].scores()
        score_options(prompted)
        return list(await tickets[1].scores())

    assert [each.option for each in asyncio.run(ask())] == list(OPTIONS)


class _Starved(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        raise MemoryError(f"no room for {len(tokens)} images")
