"""`python -m benchmark.vqa_speed`: what a question costs, and questions asked together.

A question with five options, in CPU seconds of this process (other work on the machine then counts
less) and turn by turn: the tower's pass, one pass over the prompt alone, the five options together
in one pass, and in five separate passes. Ratios are medians of the turns' own.

Then answers a second, by the clock: many questions together against one at a time, from image files
to answers. `answers_a_second` is what a service in front of the model can be held against.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from benchmark.loop import RESULTS, say
from benchmark.random_vlm import random_encoder, random_vlm
from benchmark.record import add_out, commit_of
from encoder.clip import Encoder, Precision, load_encoder
from encoder.images import decode_image
from encoder.vlm.answering import Question, Reply, answer_questions, score_options
from encoder.vlm.decoder import DTYPES
from encoder.vlm.decoder_pass import hidden_states, logits
from encoder.vlm.load import load_vlm
from encoder.vlm.model import Prompt, VisionLanguageModel

QUESTION = (
    "Somebody took this photo from a moving car on a rainy evening in October. Which of these "
    "traffic signs does it show: {}?"
)
OPTIONS = ("stop", "yield", "no entry", "road work", "wild animals")
IMAGE_LIMIT = 1 << 24
RANDOM = "random"
WORDS = 8  # tokens of a free answer: random weights hardly ever end one


@dataclass(frozen=True)
class Asked:
    """A question as it comes in."""

    image: bytes  # a file
    question: str
    options: tuple[str, ...] = ()  # none: to be answered in words


@dataclass(frozen=True)
class Amounts:
    """How long it is measured."""

    turns: int
    questions: int  # of each throughput; 0: none
    together: int


def answers_a_second(
    vlm: VisionLanguageModel,
    encoder: Encoder,
    asked: Sequence[Asked],
    *,
    together: int,
    max_tokens: int = WORDS,
) -> float:
    """By the clock, from files to answers, so many questions at a time."""
    begun = time.perf_counter()
    for start in range(0, len(asked), together):
        ask(vlm, encoder, asked[start : start + together], max_tokens)
    return len(asked) / (time.perf_counter() - begun)


def ask(
    vlm: VisionLanguageModel, encoder: Encoder, asked: Sequence[Asked], max_tokens: int
) -> list[Reply]:
    """Answers, with one pass of the tower and one batch of questions."""
    pixels = [
        vlm.pixels(encoder, decode_image(each.image, max_bytes=IMAGE_LIMIT, max_pixels=IMAGE_LIMIT))
        for each in asked
    ]
    tokens = vlm.image_tokens(encoder, torch.stack(pixels))
    questions = [
        Question(each.question, image, each.options)
        for each, image in zip(asked, tokens, strict=True)
    ]
    return answer_questions(vlm, questions, max_tokens=max_tokens)


def some_questions(count: int, options: tuple[str, ...], *, side: int, seed: int) -> list[Asked]:
    """Questions about pictures of noise, with options in random order, or to be answered freely."""
    draw = random.Random(seed)
    found: list[Asked] = []
    for _ in range(count):
        noise = Image.frombytes("RGB", (16, 16), draw.randbytes(16 * 16 * 3)).resize((side, side))
        file = io.BytesIO()
        noise.save(file, "jpeg", quality=90)
        order = tuple(draw.sample(options, len(options)))
        found.append(Asked(file.getvalue(), QUESTION.format(", ".join(order or OPTIONS)), order))
    return found


def cost_of_options(
    vlm: VisionLanguageModel, encoder: Encoder, asked: Asked, *, turns: int
) -> dict[str, Any]:
    """CPU seconds of one question's parts and ways, and what they are of each other."""
    image = decode_image(asked.image, max_bytes=IMAGE_LIMIT, max_pixels=IMAGE_LIMIT)
    pixels = vlm.pixels(encoder, image)[None]
    prompt = vlm.question(asked.question, vlm.image_tokens(encoder, pixels)[0])
    ways: dict[str, Callable[[], object]] = {
        "tower": lambda: vlm.image_tokens(encoder, pixels),
        "prompt": lambda: _prompt_pass(vlm, prompt),
        "together": lambda: score_options(vlm, [prompt], [asked.options]),
        "separate": lambda: [score_options(vlm, [prompt], [[each]]) for each in asked.options],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            if turn:  # the first one warms up
                seconds[name].append(time.process_time() - begun)
    (together,) = score_options(vlm, [prompt], [asked.options])
    separate = [score_options(vlm, [prompt], [[each]])[0][0] for each in asked.options]
    return {
        "image_tokens": prompt.image_tokens,
        "text_tokens": prompt.text_tokens,
        "option_tokens": [score.tokens for score in together],
        "turns": turns,
        "seconds": {name: round(median(found), 5) for name, found in seconds.items()},
        "passes_of_the_prompt": _ratios(seconds, tower=False),
        "passes_of_tower_and_prompt": _ratios(seconds, tower=True),
        "largest_difference_nats": max(
            abs(one.log_likelihood - other.log_likelihood)
            for one, other in zip(together, separate, strict=True)
        ),
    }


def throughput(
    vlm: VisionLanguageModel, encoder: Encoder, options: tuple[str, ...], amounts: Amounts
) -> dict[str, Any]:
    """Answers a second together and one by one, in turns."""
    asked = some_questions(amounts.questions, options, side=vlm.reading.image_size, seed=0)
    turns, together = max(1, amounts.turns // 2), amounts.together
    ask(vlm, encoder, asked[:together], WORDS)
    batched: list[float] = []
    single: list[float] = []
    for _ in range(turns):
        batched.append(answers_a_second(vlm, encoder, asked, together=together))
        single.append(answers_a_second(vlm, encoder, asked, together=1))
    ratios = [many / one for many, one in zip(batched, single, strict=True)]
    return {
        "questions": len(asked),
        "together": together,
        "turns": turns,
        "answers_a_second": round(median(batched), 3),
        "one_by_one": round(median(single), 3),
        "ratio": round(median(ratios), 3),
    }


def measure(vlm: VisionLanguageModel, encoder: Encoder, amounts: Amounts) -> dict[str, Any]:
    """Everything about one model."""
    (asked,) = some_questions(1, OPTIONS, side=vlm.reading.image_size, seed=1)
    found = {
        "tower": encoder.name,
        "decoder_parameters": sum(weight.numel() for weight in vlm.decoder.parameters()),
        "five_options": cost_of_options(vlm, encoder, asked, turns=amounts.turns),
    }
    if amounts.questions:
        found["answers_by_option"] = throughput(vlm, encoder, OPTIONS, amounts)
        found["answers_in_words"] = throughput(vlm, encoder, (), amounts)
    return found


def _prompt_pass(vlm: VisionLanguageModel, prompt: Prompt) -> None:
    """What the first token of an answer needs."""
    with torch.inference_mode():
        logits(vlm, hidden_states(vlm, prompt.embeddings[None])[:, -1])


def _ratios(seconds: dict[str, list[float]], *, tower: bool) -> dict[str, float]:
    """Of one pass, median over the turns."""
    eye = seconds["tower"] if tower else [0.0] * len(seconds["tower"])
    return {
        way: round(
            median(
                (taken + seen) / (passed + seen)
                for taken, passed, seen in zip(seconds[way], seconds["prompt"], eye, strict=True)
            ),
            3,
        )
        for way in ("together", "separate")
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmark.vqa_speed")
    parser.add_argument("--models", nargs="+", default=["random", "bundled"])
    parser.add_argument("--encoder", default="bundled", help="whose tower the models read")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--questions", type=int, default=32, help="0: no throughput")
    parser.add_argument("--together", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    add_out(parser, RESULTS)
    options = parser.parse_args(arguments)
    run = {
        "commit": commit_of(parser, options.out, allow_dirty=options.allow_dirty),
        "threads": options.threads,
    }
    amounts = Amounts(options.turns, options.questions, options.together)
    torch.set_num_threads(options.threads)
    for name in options.models:
        encoder = random_encoder() if name == RANDOM else load_encoder(options.encoder)
        for precision in options.precisions:
            key = f"{Path(name).name} {precision}"
            say(f"{key}: {amounts}")
            found = measure(load(name, encoder, precision), encoder, amounts)
            say(json.dumps(found))
            keep(options.out / "vqa_speed.json", key, {**run, **found})
    return 0


def keep(path: Path, key: str, found: dict[str, Any]) -> None:
    """Put one model's numbers in the place of its former ones; those of others stay."""
    results = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**results, key: found}, indent=1, sort_keys=True) + "\n")


def load(name: str, encoder: Encoder, precision: Precision) -> VisionLanguageModel:
    """The random model, or one that `load_vlm` knows."""
    if name == RANDOM:
        text = " ".join([QUESTION, *OPTIONS])
        return random_vlm(text, precision=precision)
    return load_vlm(name, encoder, precision=precision)


if __name__ == "__main__":
    sys.exit(main())
