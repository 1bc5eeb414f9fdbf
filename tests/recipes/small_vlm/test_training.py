"""A tiny decoder learns what tower tokens mean, and is written as a folder that loads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from encoder.clip import Encoder
from encoder.vlm.errors import TowerForeign
from encoder.vlm.load import load_vlm
from recipes.small_vlm.evaluation import evaluate
from recipes.small_vlm.export import export_vlm
from recipes.small_vlm.model import Size, SmallVlm
from recipes.small_vlm.packing import IGNORED, answer_ids, pack
from recipes.small_vlm.pictures import Picture
from recipes.small_vlm.questions import Asked, Questions
from recipes.small_vlm.tokens import TokenFile, compute_tokens, load_tokens, tower_tokens
from recipes.small_vlm.training import Plan, Source, train
from tests.support.tiny_encoder import tiny_encoder

PLAN = Plan(steps=60, batch=10, learning_rate=1e-2, report_every=1000)


@pytest.fixture
def coded(questions: Questions) -> TokenFile:
    """Four of every name, each name one direction; the last of each is held out."""
    directions = np.random.default_rng(0).standard_normal((len(questions.names), 1, 8))
    noise = np.random.default_rng(1).standard_normal((4 * len(questions.names), 5, 8))
    tokens = directions.repeat(4, axis=0) * 2 + 0.3 * noise
    labels = [name for name in questions.names for _ in range(4)]
    held_out = np.arange(len(labels)) % 4 == 3
    return TokenFile(tokens.astype(np.float16), labels, held_out)


def silent(*_: float) -> None:
    """Reports to nobody."""


def learn(
    model: SmallVlm, tokenizer: Tokenizer, questions: Questions, coded: TokenFile
) -> list[float]:
    return train(
        model,
        tokenizer,
        questions,
        [Source(coded, 10)],
        plan=PLAN,
        seed=0,
        report=silent,
    )


def test_it_learns_to_name_what_it_did_not_train_on(
    model: SmallVlm, tokenizer: Tokenizer, questions: Questions, coded: TokenFile
) -> None:
    losses = learn(model, tokenizer, questions, coded)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    numbers = np.flatnonzero(coded.held_out)
    labels = [coded.labels[number] for number in numbers]
    tokens = coded.rows(numbers, class_token=False)
    seen = evaluate(model, tokenizer, questions, tokens, labels)
    blank = evaluate(model, tokenizer, questions, torch.zeros_like(tokens), labels)
    assert seen.options == 100
    assert blank.options <= 40
    assert blank.yes_no <= 60


def test_the_same_seed_gives_the_same_weights(
    tokenizer: Tokenizer, questions: Questions, coded: TokenFile
) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        model = SmallVlm(tokenizer, 8, Size(width=32, layers=1, heads=2, mlp=32))
        train(
            model,
            tokenizer,
            questions,
            [Source(coded, 4)],
            plan=Plan(steps=3),
            seed=2,
            report=silent,
        )
        found.append(model.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.fixture
def encoder() -> Encoder:
    return tiny_encoder()


@pytest.fixture
def trained(tokenizer: Tokenizer, encoder: Encoder) -> SmallVlm:
    torch.manual_seed(0)
    width = encoder.model.get_parameter("visual.class_embedding").numel()
    return SmallVlm(tokenizer, width, Size(width=32, layers=2, heads=2, mlp=64))


@pytest.mark.parametrize("class_token", [False, True])
def test_the_folder_says_what_the_trained_model_says(
    trained: SmallVlm, tokenizer: Tokenizer, encoder: Encoder, tmp_path: Path, class_token: bool
) -> None:
    export_vlm(trained, tokenizer, encoder, class_token=class_token, out=tmp_path)
    vlm = load_vlm(str(tmp_path), encoder)
    image = Image.new("RGB", (40, 30), (200, 90, 20))
    pixels = vlm.pixels(encoder, image)[None]
    prompt = vlm.question("What is this?", vlm.image_tokens(encoder, pixels)[0])
    tower = tower_tokens(encoder, pixels)[:, 0 if class_token else 1 :]
    packed = pack(
        tokenizer, [[Asked("What is this?", "pig")]], trained.prefix_length(tower.shape[1])
    )
    with torch.no_grad():
        served = vlm.decoder(inputs_embeds=prompt.embeddings[None]).logits[0, -1]
        states = trained.hidden(tower, packed)[packed.targets != IGNORED]
        said = trained.logits(states)[0]
    torch.testing.assert_close(served, said, atol=2e-3, rtol=2e-2)  # the file is fp16
    assert vlm.answer_ids("pig") == answer_ids(tokenizer, "pig")[:-1]


def test_the_folder_is_refused_over_another_tower(
    trained: SmallVlm, tokenizer: Tokenizer, encoder: Encoder, tmp_path: Path
) -> None:
    export_vlm(trained, tokenizer, encoder, class_token=False, out=tmp_path)
    with pytest.raises(TowerForeign, match=encoder.name):
        load_vlm(str(tmp_path), tiny_encoder(seed=1))


def test_tokens_are_computed_once_and_read_again(encoder: Encoder, tmp_path: Path) -> None:
    images = [Image.new("RGB", (20, 20), (level, 90, 20)) for level in (10, 200)]
    shown = [Picture(images[0], "pig", held_out=False), Picture(images[1], "sock", held_out=True)]
    path = tmp_path / "cache" / "shown.npy"
    compute_tokens(encoder, lambda: iter(shown), path)
    file = load_tokens(path)
    assert (file.labels, file.held_out.tolist()) == (["pig", "sock"], [False, True])
    pixels = torch.stack([encoder.preprocessing.to_pixels(image) for image in images])
    expected = tower_tokens(encoder, pixels)
    numbers = np.array([0, 1])
    torch.testing.assert_close(file.rows(numbers, class_token=True), expected, atol=1e-3, rtol=1e-3)
    assert file.rows(numbers, class_token=False).shape[1] == expected.shape[1] - 1
    compute_tokens(encoder, lambda: iter([]), path)
    assert load_tokens(path).labels == file.labels
