"""A tiny decoder over random tower tokens."""

import pytest
import torch
from tokenizers import Tokenizer

from recipes.small_vlm.model import Size, SmallVlm
from recipes.small_vlm.questions import Questions
from recipes.small_vlm.vocabulary import common_words, train_tokenizer

TOWER_WIDTH = 8


@pytest.fixture(scope="session")
def questions() -> Questions:
    return Questions(("goldfish", "pig", "lemon", "sock", "pizza"), frozenset(), common_words())


@pytest.fixture(scope="session")
def tokenizer(questions: Questions) -> Tokenizer:
    return train_tokenizer(questions, seed=0)


@pytest.fixture
def model(tokenizer: Tokenizer) -> SmallVlm:
    torch.manual_seed(0)
    return SmallVlm(tokenizer, TOWER_WIDTH, Size(width=32, layers=2, heads=2, mlp=64)).eval()
