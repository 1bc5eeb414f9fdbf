"""Between which answers a correction decides.

A row of the vocabulary is a label *under certain prompt templates*: one label in two label sets
with other templates is two rows. An image's own possible answers all share their templates, so its
label never stands against itself. A caption that the answer to a question makes is a prompt of its
own, and stands against the captions of other answers to this question.

Legend: N corrections, V rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from encoder.classifier import DEFAULT_TEMPLATES
from encoder.prompts import Prompt, Templates
from registry.captions import implied_caption
from registry.tables import Correction, LabelSet

AS_IT_IS = ("{}",)


@dataclass(frozen=True)
class Answers:
    """What one image could have been called; `labels` includes the right one."""

    label: str
    labels: tuple[str, ...]
    templates: Templates


@dataclass(frozen=True)
class Vocabulary:
    """prompts V · targets long [N] · allowed bool [N, V]"""

    prompts: tuple[Prompt, ...]
    targets: Tensor
    allowed: Tensor

    def label(self, row: int) -> str:
        return self.prompts[row][0]


def possible_answers(
    corrections: Sequence[Correction],
    label_sets: Mapping[str, LabelSet],
    everyday: Sequence[str],
) -> list[Answers]:
    """Each correction's own answers, in order.

    Its label set decides; without one the labels that its wrong prediction chose from; without
    these every label that somebody could confuse it with: those of the other corrections, the
    wrong predictions, the label sets that hold its label, and everyday things.
    """
    captions = [_own_caption(each) for each in corrections]
    plain = [each for each, own in zip(corrections, captions, strict=True) if own is None]
    shared = [each.label for each in plain]
    shared += [each.predicted for each in plain if each.predicted]
    same_question: dict[str, list[str]] = {}
    for each, own in zip(corrections, captions, strict=True):
        if own is not None and each.label:
            same_question.setdefault(each.question, []).append(own)
    return [
        _answers(each, label_sets, shared, everyday)
        if own is None
        else _caption_answers(each, own, same_question.get(each.question, ()), everyday)
        for each, own in zip(corrections, captions, strict=True)
    ]


def _own_caption(correction: Correction) -> str | None:
    """The whole sentence that a correction's answer makes, if it is no label.

    What implies no caption has one too, so that it has a row; it stands against nothing there.
    """
    if not correction.question or correction.label_set is not None:
        return None
    if not correction.label:
        return f"{correction.question} {correction.answer}"
    answers = str(correction.answer), correction.wrong_answer
    implied = implied_caption(correction.question, *answers)
    if implied is None or not implied.own_prompt or implied.label != correction.label:
        return None
    return correction.label


def _caption_answers(
    correction: Correction, caption: str, others: Sequence[str], everyday: Sequence[str]
) -> Answers:
    if not correction.label:
        return Answers(caption, (caption,), AS_IT_IS)
    wrong = [correction.predicted] if correction.predicted else []
    labels = _distinct(caption, (*wrong, *others))
    if len(labels) == 1:
        labels = _distinct(caption, everyday)
    return Answers(caption, labels, AS_IT_IS)


def _answers(
    correction: Correction,
    label_sets: Mapping[str, LabelSet],
    shared: Sequence[str],
    everyday: Sequence[str],
) -> Answers:
    label = correction.label
    chosen = label_sets.get(correction.label_set) if correction.label_set else None
    templates = tuple(chosen.templates) if chosen is not None else ()
    named = chosen.labels if chosen is not None else correction.vocabulary
    labels = _distinct(label, named or ())
    if len(labels) == 1:  # nothing named, and one possible answer would teach nothing
        others = [
            *shared,
            *(
                each
                for names in label_sets.values()
                if label in names.labels
                for each in names.labels
            ),
            *everyday,
        ]
        spellings = label.casefold()
        labels = _distinct(label, (each for each in others if each.casefold() != spellings))
    return Answers(label, labels, templates or tuple(DEFAULT_TEMPLATES))


def _distinct(label: str, others: Iterable[str]) -> tuple[str, ...]:
    """The label first, then every other one once."""
    return tuple(dict.fromkeys((label, *others)))


def join_answers(answers: Sequence[Answers]) -> Vocabulary:
    """One vocabulary of all answers, rows in the order of their first appearance."""
    rows: dict[Prompt, int] = {}
    for each in answers:
        for label in each.labels:
            rows.setdefault((label, each.templates), len(rows))
    targets = torch.tensor([rows[each.label, each.templates] for each in answers])
    allowed = torch.zeros(len(answers), len(rows), dtype=torch.bool)
    for index, each in enumerate(answers):
        allowed[index, [rows[label, each.templates] for label in each.labels]] = True
    return Vocabulary(tuple(rows), targets.long(), allowed)
