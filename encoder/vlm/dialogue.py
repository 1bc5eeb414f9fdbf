"""How a family of vision-language models writes a dialogue down.

A dialogue becomes pieces: text, and marks for what has no text (the image, the tokens that begin
and end). Marks are never written as text, so that nothing in a user's words can stand for one.

Sources: LLaVA-1.5's conversation `v1` (turns `USER: … ASSISTANT: …</s>`, the image before the words
of its turn) and the prompt that it was trained to answer shortly with; MiniGPT-v2's
`[INST] <Img>…</Img> [vqa] … [/INST]` and Llama 2's `<<SYS>>` for a system's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol, TypeAlias

from encoder.vlm.errors import DialogueInvalid

SHORT_ANSWER = "Answer the question using a single word or phrase."
"""What LLaVA-1.5 was trained to be asked with for short answers."""


class Mark(Enum):
    """What stands in a prompt without being text."""

    IMAGE = "image"
    BEGIN = "begin"
    END = "end"


Piece: TypeAlias = str | Mark


@dataclass(frozen=True)
class Turn:
    """What one side said. Only a user's turn has an image, one in a dialogue."""

    role: Literal["system", "user", "assistant"]
    text: str
    has_image: bool = False


class Dialogue(Protocol):
    """A family's prompt format."""

    @property
    def anchor(self) -> str:
        """The text after which an answer begins, a space between them."""

    def pieces(self, turns: Sequence[Turn]) -> list[Piece]:
        """The prompt, up to where the next answer begins. Turns are checked already."""

    def question(self, question: str, *, has_image: bool) -> list[Turn]:
        """The turns that ask one question for a short answer."""


@dataclass(frozen=True)
class LlavaDialogue:
    """`USER: <image>\\n{question} ASSISTANT:`; an answer is followed by the end token."""

    short_answer: str = SHORT_ANSWER  # a line after the question of `question`; "" for none
    anchor: str = "ASSISTANT:"

    def pieces(self, turns: Sequence[Turn]) -> list[Piece]:
        found = _Pieces([Mark.BEGIN])
        for turn in turns:
            if turn.role == "system":
                found.write(f"{turn.text} ")
            elif turn.role == "assistant":
                found.write(f"{self.anchor} {turn.text}")
                found.mark(Mark.END)
            else:
                found.write("USER: ")
                if turn.has_image:
                    found.mark(Mark.IMAGE)
                    found.write("\n")
                found.write(f"{turn.text} ")
        found.write(self.anchor)
        return found.pieces

    def question(self, question: str, *, has_image: bool) -> list[Turn]:
        text = f"{question}\n{self.short_answer}" if self.short_answer else question
        return [Turn("user", text, has_image)]


@dataclass(frozen=True)
class MiniGptDialogue:
    """`[INST] <Img>…</Img> [vqa] {question} [/INST]`; a token begins and one ends an exchange."""

    short_answer: str = "Based on the image, respond to this question with a short answer: "
    anchor: str = "[/INST]"

    def pieces(self, turns: Sequence[Turn]) -> list[Piece]:
        found = _Pieces([])
        system = ""
        for turn in turns:
            if turn.role == "system":
                system += f"<<SYS>>\n{turn.text}\n<</SYS>>\n\n"
            elif turn.role == "assistant":
                found.write(f" {turn.text}")
                found.mark(Mark.END)
            else:
                found.mark(Mark.BEGIN)
                found.write(f"[INST] {system}")
                if turn.has_image:
                    found.write("<Img>")
                    found.mark(Mark.IMAGE)
                    found.write("</Img> ")
                found.write(f"{turn.text} {self.anchor}")
                system = ""
        return found.pieces

    def question(self, question: str, *, has_image: bool) -> list[Turn]:
        return [Turn("user", f"[vqa] {self.short_answer}{question}", has_image)]


def check_turns(turns: Sequence[Turn], *, has_image: bool) -> None:
    """Raise DialogueInvalid unless the user speaks last and the image, if any, has its turn."""
    if not turns or turns[-1].role != "user":
        raise DialogueInvalid("the last turn must be the user's")
    if any(turn.has_image and turn.role != "user" for turn in turns):
        raise DialogueInvalid("only a user's turn may have an image")
    images = sum(turn.has_image for turn in turns)
    if images > 1:
        raise DialogueInvalid(f"it has {images} images, one is supported")
    if images != has_image:
        raise DialogueInvalid("an image and the turn that has it must come together")


class _Pieces:
    """Text that grows until a mark interrupts it: one piece is tokenised as a whole."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces

    def write(self, text: str) -> None:
        if self.pieces and isinstance(self.pieces[-1], str):
            self.pieces[-1] += text
        else:
            self.pieces.append(text)

    def mark(self, mark: Mark) -> None:
        self.pieces.append(mark)
