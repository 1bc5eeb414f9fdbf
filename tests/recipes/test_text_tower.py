"""Targets a narrow tower can reach, and losses that separate names and words."""

from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F

from recipes.bundled_encoder.prompts import FAVOURED_WORDS, Names, random_phrases
from recipes.bundled_encoder.student import create_student
from recipes.bundled_encoder.text_tower import (
    TextPlan,
    embed_names,
    load_text_tower,
    meaning_loss,
    project_rows,
    save_text_tower,
    spread_loss,
    train_text_tower,
)
from tests.recipes.tiny_student import TINY_CONFIG, unit_rows


def test_projected_rows_span_only_the_kept_directions() -> None:
    rows = project_rows(unit_rows(40, 0), 30, 16)
    assert int(torch.linalg.matrix_rank(rows)) == 16
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(40))


def test_meaning_loss_is_least_for_the_right_names() -> None:
    targets, drawn = unit_rows(12, 0), torch.tensor([3, 5])
    right = meaning_loss(targets[drawn], targets, drawn)
    wrong = meaning_loss(targets[drawn.flip(0)], targets, drawn)
    assert float(right) < 0.1 < float(wrong)


def test_a_name_listed_twice_is_no_mistake() -> None:
    targets = unit_rows(12, 0)
    targets[7] = targets[3]
    drawn = torch.tensor([3])
    assert float(meaning_loss(targets[drawn], targets, drawn)) < 0.1


def test_spread_loss_punishes_collapse_but_not_repeated_phrases() -> None:
    names, apart = unit_rows(5, 0), unit_rows(8, 1)
    phrases = [f"word {number}" for number in range(8)]
    together = F.normalize(apart + 20 * apart[:1], dim=-1)
    assert spread_loss(apart.repeat(2, 1), phrases, names) < 0.1
    assert spread_loss(together.repeat(2, 1), phrases, names) > 2
    same = apart[:1].expand(8, -1)
    assert spread_loss(same.repeat(2, 1), ["one"] * 8, names) < 0.1


def test_near_misses_differ_in_at_most_one_word() -> None:
    words = ["river", "castle", "noodle", "kayak"]
    phrases = random_phrases(words, 40, torch.Generator().manual_seed(0))
    assert len(phrases) == 40
    for phrase, miss in zip(phrases[:20], phrases[20:], strict=True):
        changed = sum(a != b for a, b in zip(phrase.split(), miss.split(), strict=True))
        assert changed <= 1
    assert {word for phrase in phrases for word in phrase.split()} <= {*words, *FAVOURED_WORDS}


def test_training_brings_names_to_their_targets(student: open_clip.CLIP) -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    names = Names(["lion", "tea pot"], ["banana"], ["no entry"])
    targets = project_rows(unit_rows(4, 0), 2, 2)
    plan = TextPlan(steps=25, names_per_step=8, phrases_per_step=8)
    before = {name: value.clone() for name, value in student.visual.state_dict().items()}
    close = [_closeness(student, names, targets)]
    train_text_tower(student, targets, names, tokenizer, plan)
    close.append(_closeness(student, names, targets))
    assert close[1] > close[0] + 0.3
    for name, value in student.visual.state_dict().items():
        assert torch.equal(before[name], value), name


def test_a_saved_text_tower_loads_into_another_student(
    student: open_clip.CLIP, tmp_path: Path
) -> None:
    other = create_student(1, TINY_CONFIG)
    save_text_tower(student, tmp_path / "text.safetensors")
    load_text_tower(other, tmp_path / "text.safetensors")
    assert torch.equal(other.token_embedding.weight, student.token_embedding.weight)
    assert not torch.equal(other.visual.proj, student.visual.proj)


def _closeness(student: open_clip.CLIP, names: Names, targets: torch.Tensor) -> float:
    rows = embed_names(student, open_clip.SimpleTokenizer(context_length=32), names.all())
    return float((rows * targets).sum(dim=-1).mean())
