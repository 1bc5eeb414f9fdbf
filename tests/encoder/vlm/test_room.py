from __future__ import annotations

import pytest

from encoder.vlm.answering import score_options
from encoder.vlm.errors import AnswerTooLong, PromptTooLong
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.room import Room
from tests.support.tiny_encoder import random_pixels, tiny_encoder
from tests.support.tiny_vlm import VLM_CONTEXT


def test_there_is_room_exactly_for_what_can_be_answered(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    room = Room(tiny_vlm, encoder)
    [tokens] = tiny_vlm.image_tokens(encoder, random_pixels(1))
    prompt = tiny_vlm.question("What is this?", tokens)
    left = VLM_CONTEXT - len(prompt.embeddings)
    fits = next(
        answer
        for answer in ("z" * count for count in range(left, 0, -1))
        if len(tiny_vlm.answer_ids(answer)) <= left
    )
    room.check("What is this?", ["yes", fits])
    score_options(tiny_vlm, [prompt], [["yes", fits]])
    with pytest.raises(AnswerTooLong):
        room.check("What is this?", ["yes", fits + "z"])
    with pytest.raises(AnswerTooLong):
        score_options(tiny_vlm, [prompt], [["yes", fits + "z"]])


def test_a_question_that_fills_the_context_leaves_no_room(tiny_vlm: VisionLanguageModel) -> None:
    with pytest.raises(PromptTooLong):
        Room(tiny_vlm, tiny_encoder()).check("why? " * VLM_CONTEXT, [])
