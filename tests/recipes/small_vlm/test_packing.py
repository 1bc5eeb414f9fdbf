"""Many questions in one row, each as if it were alone."""

import pytest
import torch
from tokenizers import Tokenizer

from recipes.small_vlm.model import SmallVlm
from recipes.small_vlm.packing import IGNORED, answer_ids, pack, question_ids
from recipes.small_vlm.questions import Asked, Questions
from recipes.small_vlm.vocabulary import BEGIN, END

ASKED = [
    Asked("What is this?", "goldfish"),
    Asked("Is this a goldfish?", "yes"),
    Asked("Describe the picture.", "A photo of a goldfish."),
]


def logits(model: SmallVlm, tokenizer: Tokenizer, rows: list[list[Asked]]) -> torch.Tensor:
    """Scores where the first row's answers are given, [answer tokens, vocabulary]."""
    tokens = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(1))
    packed = pack(tokenizer, rows, model.prefix_length(4))
    states = model.hidden(tokens.expand(len(rows), -1, -1), packed)
    return model.logits(states[0][packed.targets[0] != IGNORED])


def test_a_question_is_answered_as_if_it_were_alone(model: SmallVlm, tokenizer: Tokenizer) -> None:
    together = logits(model, tokenizer, [ASKED])
    alone = torch.cat([logits(model, tokenizer, [[asked]]) for asked in ASKED])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing(model: SmallVlm, tokenizer: Tokenizer) -> None:
    short, long = ASKED[:1], ASKED
    padded = logits(model, tokenizer, [short, long])
    torch.testing.assert_close(padded, logits(model, tokenizer, [short]), atol=1e-5, rtol=1e-4)


def test_what_should_be_said_is_the_answer_and_its_end(tokenizer: Tokenizer) -> None:
    packed = pack(tokenizer, [ASKED[:2]], 7)
    said = packed.targets[0][packed.targets[0] != IGNORED].tolist()
    assert said == answer_ids(tokenizer, "goldfish") + answer_ids(tokenizer, "yes")
    assert tokenizer.decode(said) == " goldfish yes"


@pytest.mark.parametrize("text", ["What is this?", "Ist das ein Käfer? 🐞", "a\tb  c"])
def test_the_tokenizer_writes_any_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(answer_ids(tokenizer, text)) == f" {text}"


def test_pieces_of_a_prompt_join_to_the_whole(tokenizer: Tokenizer) -> None:
    ids = question_ids(tokenizer, "What is this?") + answer_ids(tokenizer, "pig")
    whole = tokenizer.encode("\nWhat is this? ASSISTANT: pig", add_special_tokens=False).ids
    assert ids == [*whole, tokenizer.token_to_id(END)]
    assert tokenizer.encode("x").ids[0] == tokenizer.token_to_id(BEGIN)


def test_number_words_are_short(tokenizer: Tokenizer, questions: Questions) -> None:
    assert "seven" not in questions.names
    assert len(answer_ids(tokenizer, "seven")) <= 3
