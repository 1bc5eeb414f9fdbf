from __future__ import annotations

import pytest

from encoder.vlm.dialogue import (
    SHORT_ANSWER,
    LlavaDialogue,
    Mark,
    MiniGptDialogue,
    Piece,
    Turn,
    check_turns,
)
from encoder.vlm.errors import DialogueInvalid

TALK = [
    Turn("system", "Be short."),
    Turn("user", "What is this?", has_image=True),
    Turn("assistant", "A cat."),
    Turn("user", "Sure?"),
]


def spelled(pieces: list[Piece]) -> str:
    """With marks as the families' own papers write them."""
    marks = {Mark.IMAGE: "<image>", Mark.BEGIN: "<s>", Mark.END: "</s>"}
    return "".join(marks[piece] if isinstance(piece, Mark) else piece for piece in pieces)


def test_llava_is_asked_as_it_was_trained() -> None:
    dialogue = LlavaDialogue()
    turns = dialogue.question("What is this?", has_image=True)
    expected = f"<s>USER: <image>\nWhat is this?\n{SHORT_ANSWER} ASSISTANT:"
    assert spelled(dialogue.pieces(turns)) == expected
    assert SHORT_ANSWER == "Answer the question using a single word or phrase."
    assert spelled(dialogue.pieces(TALK)) == (
        "<s>Be short. USER: <image>\nWhat is this? ASSISTANT: A cat.</s>USER: Sure? ASSISTANT:"
    )


def test_a_llava_without_a_sentence_for_short_answers_is_asked_plainly() -> None:
    dialogue = LlavaDialogue(short_answer="")
    turns = dialogue.question("What is this?", has_image=True)
    assert spelled(dialogue.pieces(turns)) == "<s>USER: <image>\nWhat is this? ASSISTANT:"
    turns = dialogue.question("What is this?", has_image=False)
    assert spelled(dialogue.pieces(turns)) == "<s>USER: What is this? ASSISTANT:"


def test_minigpt_is_asked_as_it_was_trained() -> None:
    dialogue = MiniGptDialogue()
    turns = dialogue.question("What is this?", has_image=True)
    assert spelled(dialogue.pieces(turns)) == (
        "<s>[INST] <Img><image></Img> [vqa] Based on the image, respond to this question with a "
        "short answer: What is this? [/INST]"
    )
    assert spelled(dialogue.pieces(TALK)) == (
        "<s>[INST] <<SYS>>\nBe short.\n<</SYS>>\n\n<Img><image></Img> What is this? [/INST] A cat."
        "</s><s>[INST] Sure? [/INST]"
    )


@pytest.mark.parametrize("dialogue", [LlavaDialogue(), MiniGptDialogue()])
def test_the_prompt_ends_with_the_anchor_and_text_is_in_one_piece(
    dialogue: LlavaDialogue | MiniGptDialogue,
) -> None:
    pieces = dialogue.pieces(TALK)
    assert isinstance(pieces[-1], str)
    assert pieces[-1].endswith(dialogue.anchor)
    kinds = [isinstance(piece, str) for piece in pieces]
    assert not any(kinds[i] and kinds[i + 1] for i in range(len(kinds) - 1))


@pytest.mark.parametrize(
    ("turns", "has_image", "told"),
    [
        ([], False, "last turn"),
        ([Turn("user", "a"), Turn("assistant", "b")], False, "last turn"),
        ([Turn("user", "a")], True, "must come together"),
        ([Turn("user", "a", has_image=True)], False, "must come together"),
        ([Turn("user", "a", has_image=True)] * 2, True, "2 images"),
        ([Turn("system", "a", has_image=True), Turn("user", "b")], True, "only a user's"),
    ],
)
def test_dialogues_that_cannot_be_put_are_refused(
    turns: list[Turn], has_image: bool, told: str
) -> None:
    with pytest.raises(DialogueInvalid, match=told):
        check_turns(turns, has_image=has_image)
    check_turns(TALK, has_image=True)
