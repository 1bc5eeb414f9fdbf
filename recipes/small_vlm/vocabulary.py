"""The decoder's tokenizer: byte-level BPE, trained on the recipe's own texts, for any text."""

import random
from collections.abc import Iterable
from functools import cache

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from recipes.bundled_encoder.prompts import FAVOURED_WORDS
from recipes.small_vlm.questions import Questions

BEGIN, END, PAD, IMAGE = "<s>", "</s>", "<pad>", "<image>"
SPECIAL = (PAD, BEGIN, END, IMAGE)
ENTRIES = 1536


@cache
def common_words() -> tuple[str, ...]:
    """Everyday words and open_clip's names of a thousand things, for spelling them."""
    return (*FAVOURED_WORDS, *IMAGENET_CLASSNAMES)


def train_tokenizer(questions: Questions, *, seed: int) -> Tokenizer:
    """A tokenizer that begins every text with `<s>`, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(questions, random.Random(seed)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN} $A $B",
        special_tokens=[(BEGIN, token_id(tokenizer, BEGIN))],
    )
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The number of a special token. Raises KeyError when there is none."""
    number = tokenizer.token_to_id(token)
    if number is None:
        raise KeyError(token)
    return int(number)


def _texts(questions: Questions, draw: random.Random) -> Iterable[str]:
    for label in questions.names:
        for _ in range(20):
            for asked in questions.about(label, draw):
                yield f"USER: \n{asked.question} ASSISTANT: {asked.answer}"
    for word in common_words():
        yield from (f" {word}", f" {word}")
