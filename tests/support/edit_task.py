"""Edit tasks a tiny encoder can learn: images of noise, random directions as text features.

`control_set` makes a control set of the same kind, labelled with the base encoder's own answers.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.methods import find_method, parse
from editing.augmentation import Augmentation
from editing.control import ControlSet
from editing.fewshot import EditTask
from editing.methods import LorsuConfig, MethodConfig
from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder
from encoder.prompts import Prompt, prompt_features
from tests.support.tiny_encoder import EMBEDDING, random_pixels

LABELS = 6  # V
STILL = Augmentation(crop=1, stretch=0, rotation=0, jitter=0, grayscale=0)
QUICK_LORSU: dict[str, object] = {"rank": 4, "alpha": 6, "heads": 1, "fc1_learning_rate": 1e-2}
QUICK: dict[str, object] = {
    "epochs": 20,
    "min_steps": 0,
    "rounds": 1,
    "learning_rate": 3e-2,
    "guard_weight": 0.1,
    "precision": "fp32",
    "augmentation": STILL,
}


def text_features(labels: int = LABELS, *, seed: int = 0) -> Tensor:
    """fp32 [labels, E], unit rows."""
    rows = torch.randn(labels, EMBEDDING, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(rows, dim=1)


def edit_task(targets: list[int], *, guard: int = 4, seed: int = 0) -> EditTask:
    """One image of noise for every target."""
    count = len(targets)
    return EditTask(
        pixels=random_pixels(count, seed=seed),
        targets=torch.tensor(targets),
        allowed=torch.ones(count, LABELS, dtype=torch.bool),
        text_features=text_features(),
        new=torch.ones(count, dtype=torch.bool),
        guard_pixels=random_pixels(guard, seed=seed + 1),
    )


WORDS = ("apple", "leaf", "sea", "stone", "cloud", "night")
PROMPTS: tuple[Prompt, ...] = tuple((word, ("a {}", "one {}")) for word in WORDS)


def read_task(encoder: Encoder, targets: list[int], *, guard: int = 4, seed: int = 0) -> EditTask:
    """The same with labels that are words, as this encoder reads them."""
    return replace(
        edit_task(targets, guard=guard, seed=seed),
        text_features=prompt_features(encoder, PROMPTS, TextFeatureCache(LABELS)),
        prompts=PROMPTS,
    )


def with_earlier(task: EditTask, earlier: list[int]) -> EditTask:
    """The same task with the corrections at these positions marked as earlier ones."""
    new = task.new.clone()
    new[earlier] = False
    return replace(task, new=new)


def quick_config(**changes: object) -> LorsuConfig:
    """LoRSU for two-block towers: exact, few steps, nothing random but what a test asks for."""
    return LorsuConfig.model_validate({**QUICK, **QUICK_LORSU, **changes})


def quick_method(method: str, **changes: object) -> MethodConfig:
    """Any method as `quick_config` has LoRSU, by its name, the benchmark's and "lorsu code-parity"
    too."""
    if method == "lorsu code-parity":
        return quick_config(mode="code-parity", **changes)
    own: dict[str, dict[str, object]] = {
        "full_finetune": {"learning_rate": 3e-3},
        "lora": {"rank": 4, "alpha": 6},
        "spu": {"fc1_learning_rate": 1e-2},
    }
    if issubclass(find_method(method), LorsuConfig):
        own[method] = QUICK_LORSU
    return parse(method, {**QUICK, **own.get(method, {}), **changes})


def control_set(
    encoder: Encoder, *, images: int = 40, budget: float, labelled: bool = True, seed: int = 10
) -> ControlSet:
    """Labels, if any, are the encoder's own answers, so that it starts at 100 percent."""
    pixels = random_pixels(images, seed=seed)
    texts = text_features(12, seed=seed)
    answers = (encoder.embed_images(pixels) @ texts.T).argmax(dim=1)
    return ControlSet(
        name="noise",
        pixels=pixels,
        targets=answers if labelled else None,
        text_features=texts,
        budget=budget,
    )
