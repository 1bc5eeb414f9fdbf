"""Train the text tower towards the teacher's features of many names.

A tower of width 64 can only reach 64 of the 192 feature directions, so its targets are the
teacher's features projected on the 64 directions that keep most of the photo classes' features. The
image tower learns against the same projected rows: neither tower waits for the other.

Legend: N names, P phrases, D features (192).
"""

from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipes.bundled_encoder.blocks import run_text_tower
from recipes.bundled_encoder.prompts import (
    SENTENCES,
    TEMPLATES,
    Names,
    random_phrases,
    vocabulary_words,
)

NAME_SHARES = (0.5, 0.35, 0.15)
"""how often a photo class, an ImageNet name and a sign is drawn"""
TEACHER_SCALE = 20.0
SPREAD_SCALE = 12.0


@dataclass(frozen=True)
class TextPlan:
    """How long and how hard the text tower trains."""

    steps: int = 600
    names_per_step: int = 192
    phrases_per_step: int = 96
    learning_rate: float = 3e-3
    spread_weight: float = 0.5


@torch.no_grad()
def embed_names(
    model: open_clip.CLIP,
    tokenizer: open_clip.SimpleTokenizer,
    names: list[str],
    templates: tuple[str, ...] = TEMPLATES,
) -> Tensor:
    """Zero-shot classifier [N, D]: normalised features averaged over templates, normalised."""
    rows = [
        F.normalize(model.encode_text(tokenizer([form.format(name) for name in names])), dim=-1)
        for form in templates
    ]
    return F.normalize(torch.stack(rows).mean(dim=0), dim=-1)


def project_rows(rows: Tensor, classes: int, directions: int) -> Tensor:
    """Rows [N, D] of length 1, projected on the main directions of the first `classes` rows."""
    _, _, axes = torch.linalg.svd(rows[:classes], full_matrices=False)
    kept = axes[:directions]  # [directions, D]
    return F.normalize(rows @ kept.T @ kept, dim=-1)


def train_text_tower(
    student: open_clip.CLIP,
    targets: Tensor,
    names: Names,
    tokenizer: open_clip.SimpleTokenizer,
    plan: TextPlan = TextPlan(),
    seed: int = 0,
) -> None:
    """Train the student's text tower in place towards `targets` [N, D], one a name."""
    generator = torch.Generator().manual_seed(seed)
    words = vocabulary_words(tokenizer)
    parameters = text_parameters(student)
    optimizer = torch.optim.AdamW(parameters, plan.learning_rate, (0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.learning_rate, plan.steps, pct_start=0.05
    )
    for step in range(plan.steps):
        drawn = _draw_names(names, plan.names_per_step, generator)
        phrases = random_phrases(words, plan.phrases_per_step, generator)
        texts = [names.all()[number] for number in drawn.tolist()] + phrases + phrases
        prompts = tokenizer(_in_sentences(texts, generator))
        features = F.normalize(run_text_tower(student, prompts), dim=-1)
        of_names, of_phrases = features[: len(drawn)], features[len(drawn) :]
        meaning = meaning_loss(of_names, targets, drawn)
        spread = spread_loss(of_phrases, phrases, targets)
        loss = meaning + plan.spread_weight * spread
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == plan.steps - 1:
            print(f"text: step {step}, meaning {meaning:.3f}, spread {spread:.3f}", flush=True)


def meaning_loss(features: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
    """Features [B, D] of the names `drawn` [B]: cosine to their rows, and told from all rows."""
    distance = 1 - (features * targets[drawn]).sum(dim=-1).mean()
    same = (targets @ targets[drawn].T).T > 0.999  # [B, N]; a name can be listed twice
    logits = TEACHER_SCALE * features @ targets.T
    right = torch.logsumexp(logits.masked_fill(~same, -torch.inf), dim=-1)
    return distance * 4 + (torch.logsumexp(logits, dim=-1) - right).mean()


def spread_loss(features: Tensor, phrases: list[str], targets: Tensor) -> Tensor:
    """InfoNCE over features [2P, D]: a phrase in two sentences, against other phrases and names."""
    first, second = features.chunk(2)
    repeated = torch.tensor([[a == b for b in phrases] for a in phrases])
    repeated.fill_diagonal_(False)
    count = len(phrases)
    itself = repeated | torch.eye(count, dtype=torch.bool)
    across = (SPREAD_SCALE * first @ second.T).masked_fill(repeated, -torch.inf)
    within = (SPREAD_SCALE * first @ first.T).masked_fill(itself, -torch.inf)
    names = SPREAD_SCALE * first @ targets.T
    return F.cross_entropy(torch.cat([across, within, names], dim=1), torch.arange(count))


def text_parameters(model: open_clip.CLIP) -> list[Tensor]:
    """The text tower's parameters, the temperature excluded."""
    return [parameter for name, parameter in model.named_parameters() if _is_text(name)]


def _draw_names(names: Names, count: int, generator: torch.Generator) -> Tensor:
    sizes = (len(names.photo_classes), len(names.imagenet), len(names.signs))
    weights = torch.cat(
        [torch.full((size,), share / size) for size, share in zip(sizes, NAME_SHARES, strict=True)]
    )
    return torch.multinomial(weights, count, replacement=True, generator=generator)


def _in_sentences(texts: list[str], generator: torch.Generator) -> list[str]:
    forms = torch.randint(len(SENTENCES), (len(texts),), generator=generator).tolist()
    return [SENTENCES[form].format(text) for form, text in zip(forms, texts, strict=True)]


def save_text_tower(model: open_clip.CLIP, path: Path) -> None:
    """Write the text tower alone."""
    weights = {name: value for name, value in model.state_dict().items() if _is_text(name)}
    save_file({name: value.contiguous() for name, value in weights.items()}, path)


def load_text_tower(model: open_clip.CLIP, path: Path) -> None:
    """Put a saved text tower into the model; raises KeyError when a weight is missing."""
    saved = load_file(path)
    wanted = {name: saved[name] for name in model.state_dict() if _is_text(name)}
    model.load_state_dict(wanted, strict=False)


def _is_text(name: str) -> bool:
    return not name.startswith("visual.") and name != "logit_scale"
