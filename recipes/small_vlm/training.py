"""The training loop: questions about random pictures, against the clock or a number of steps.

Matrices inside the decoder's blocks learn by Muon, everything else by AdamW; an average of the
weights is what ships. bfloat16 products, fp32 weights. Every step draws from generators seeded by
its number.

Legend: B pictures a step, T image tokens, W tower width.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from recipes.small_vlm.model import SmallVlm
from recipes.small_vlm.packing import IGNORED, pack
from recipes.small_vlm.questions import Asked, Questions
from recipes.small_vlm.tokens import TokenFile


@dataclass(frozen=True)
class Plan:
    """How long and how hard; it ends at whichever limit comes first."""

    steps: int = 1600
    minutes: float = math.inf
    batch: int = 32
    learning_rate: float = 3e-3
    warmup: float = 0.03
    average_decay: float = 0.99
    class_token: bool = False
    report_every: int = 100


@dataclass(frozen=True)
class Source:
    """Pictures of one kind, and how many of them are in every step."""

    file: TokenFile
    count: int


def train(
    model: SmallVlm,
    tokenizer: Tokenizer,
    questions: Questions,
    sources: Sequence[Source],
    *,
    plan: Plan,
    seed: int,
    report: Callable[[int, float, float], None],
) -> list[float]:
    """Train `model` in place and leave it with the averaged weights; returns the losses.

    `report` is called now and then with step, minutes and mean loss, while the model has the
    averaged weights. Held-out pictures are never drawn.
    """
    optimizers = _optimizers(model, plan)
    trained = dict(model.named_parameters())
    average = {name: value.detach().clone() for name, value in trained.items()}
    streams = [_stream(source, seed + index) for index, source in enumerate(sources)]
    losses: list[float] = []
    started = time.monotonic()
    for step in range(plan.steps):
        minutes = (time.monotonic() - started) / 60
        if minutes >= plan.minutes:
            break
        draw = random.Random(seed * 104729 + step)
        tokens, labels = _draw(sources, streams, class_token=plan.class_token)
        rows = [questions.about(label, draw) for label in labels]
        loss = answer_loss(model, tokenizer, tokens, rows)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = learning_rate(plan, max(step / plan.steps, minutes / plan.minutes))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        decay = min(plan.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in trained.items():
                average[name].lerp_(value, 1 - decay)
        losses.append(loss.item())
        if (step + 1) % plan.report_every == 0:
            now = _exchange(model, average)
            report(step + 1, minutes, float(np.mean(losses[-plan.report_every :])))
            _exchange(model, now)
    _exchange(model, average)
    return losses


def answer_loss(
    model: SmallVlm, tokenizer: Tokenizer, tokens: Tensor, rows: Sequence[Sequence[Asked]]
) -> Tensor:
    """Mean cross-entropy of all answer tokens about pictures [B, T, W]."""
    packed = pack(tokenizer, rows, model.prefix_length(tokens.shape[1]))
    said = packed.targets != IGNORED  # [B, Q]
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(model.hidden(tokens, packed)[said])
    return functional.cross_entropy(logits.float(), packed.targets[said])


def learning_rate(plan: Plan, progress: float) -> float:
    """Linear warm-up, then half a cosine to zero, over progress 0..1."""
    if progress < plan.warmup:
        return plan.learning_rate * max(progress / plan.warmup, 0.02)
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _optimizers(model: SmallVlm, plan: Plan) -> list[torch.optim.Optimizer]:
    named = dict(model.named_parameters())
    blocks = [p for name, p in named.items() if ".layers." in name and p.ndim == 2]
    chosen = {id(parameter) for parameter in blocks}
    others = [p for p in named.values() if id(p) not in chosen and p.ndim == 2]
    free = [p for p in named.values() if p.ndim < 2]
    groups = [{"params": others, "weight_decay": 0.05}, {"params": free, "weight_decay": 0.0}]
    return [
        torch.optim.AdamW(groups, plan.learning_rate, (0.9, 0.98)),
        torch.optim.Muon(
            blocks, lr=plan.learning_rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
        ),
    ]


def _draw(
    sources: Sequence[Source], streams: Sequence[Iterator[int]], *, class_token: bool
) -> tuple[Tensor, list[str]]:
    """Tower tokens fp32 [B, T, W] and labels."""
    tokens, labels = [], []
    for source, stream in zip(sources, streams, strict=True):
        numbers = np.array([next(stream) for _ in range(source.count)])
        tokens.append(source.file.rows(numbers, class_token=class_token))
        labels += [source.file.labels[number] for number in numbers]
    return torch.cat(tokens), labels


def _stream(source: Source, seed: int) -> Iterator[int]:
    """Numbers of pictures that are not held out, each once before any comes again."""
    members = np.flatnonzero(~source.file.held_out)
    order = np.random.default_rng(seed)
    while True:
        yield from order.permutation(members)


@torch.no_grad()
def _exchange(model: SmallVlm, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the model `weights` and return those it had."""
    had = {name: value.detach().clone() for name, value in model.named_parameters()}
    for name, value in model.named_parameters():
        value.copy_(weights[name])
    return had
