"""LoRA on the language model alone: what edits of the encoder are compared with.

Low-rank pairs on every linear of the decoder's blocks (not on its output layer, as is usual) are
trained on the same questions and answers, by the same loss, loop and early stop as an edit of the
encoder; tower and connector are frozen. Nothing guards it: the product has no such edit.

Legend: B questions of a batch, S image side.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from editing.answer_lesson import AnswerLesson
from editing.answer_task import AnswerTask
from editing.course import Course, Lessons
from editing.fewshot import EditTask
from editing.guard_term import GuardTerm
from editing.methods import LoraConfig
from editing.parametrize import parametrise
from editing.progress import Progress, silent
from editing.selection import Selection
from editing.trainer import History, train
from editing.vision import VisionFunction
from encoder.clip import Encoder
from encoder.deltas import Delta
from encoder.vlm.model import VisionLanguageModel

T = TypeVar("T")


@dataclass(frozen=True)
class TunedDecoder:
    """vlm        with the change merged in; shares every other weight with the one it came from
    deltas     by name in the decoder
    seconds    that fitting took, process time of all threads
    """

    vlm: VisionLanguageModel
    deltas: dict[str, Delta]
    history: History
    seconds: float

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(delta.parameters for delta in self.deltas.values())


def tune_decoder(
    encoder: Encoder,
    task: AnswerTask,
    config: LoraConfig,
    *,
    seed: int,
    progress: Progress = silent,
) -> TunedDecoder:
    """Fit the decoder of `task.vlm`, which is left untouched. Same inputs, same bytes.

    Raises LossDiverged, PromptTooLong, AnswerTooLong.
    """
    began = time.process_time()
    lesson = _DecoderLesson(encoder, task, config)
    generator = torch.Generator().manual_seed(seed)
    selection = Selection(rows=dict.fromkeys(decoder_linears(task.vlm)))
    forms = config.forms.at_pace(config.rate_for(0, len(task)))
    edited = parametrise(lesson.frozen, selection, forms, generator=generator)
    lessons = Lessons(labels=None, answers=lesson)
    guard = GuardTerm(encoder, EditTask.of_answers(task), config, generator)  # of nothing
    course = Course(lesson.vision, lessons, guard, generator)
    history = train(edited, course, config, progress=progress)
    deltas = edited.extract()
    return TunedDecoder(_merged(task.vlm, deltas), deltas, history, time.process_time() - began)


def decoder_linears(vlm: VisionLanguageModel) -> list[str]:
    """Names of the matrices of every linear but the output layer."""
    decoder: Any = vlm.decoder
    output = decoder.get_output_embeddings()
    return [
        f"{path}.weight"
        for path, module in vlm.decoder.named_modules()
        if isinstance(module, nn.Linear) and module is not output
    ]


class _DecoderLesson(AnswerLesson):
    """Questions as a function of the decoder's weights, on a private copy of its modules."""

    def __init__(self, encoder: Encoder, task: AnswerTask, config: LoraConfig) -> None:
        private = replace(task.vlm, decoder=_copied(task.vlm.decoder, {}))
        vision = VisionFunction(encoder, precision=config.precision)
        super().__init__(vision, replace(task, vlm=private), config)
        self._encoder = encoder
        self._decoder = _Swapping(private.decoder)

    def frozen(self, name: str) -> Tensor:
        """The decoder's own, fp32."""
        return self.task.vlm.decoder.get_parameter(name).detach().float()

    def likelihoods(
        self,
        weights: Mapping[str, Tensor],
        pixels: Tensor,
        rows: Sequence[int],
        candidates: Sequence[Sequence[str]],
    ) -> Sequence[Tensor]:
        images = self.task.vlm.image_tokens(self._encoder, pixels)
        swapped = {f"decoder.{name}": weight for name, weight in weights.items()}

        def ask() -> Sequence[Tensor]:
            with self.vision.autocast():
                return self.ask(images, rows, candidates)

        found: Sequence[Tensor] = functional_call(self._decoder, swapped, (ask,))
        return found


class _Swapping(nn.Module):
    """While it is called, other weights are in the decoder's place."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, call: Callable[[], T]) -> T:
        return call()


def _merged(vlm: VisionLanguageModel, deltas: Mapping[str, Delta]) -> VisionLanguageModel:
    weights = dict(vlm.decoder.named_parameters())
    changed = {
        id(weights[name]): nn.Parameter(delta.apply(weights[name]), requires_grad=False)
        for name, delta in deltas.items()
    }
    return replace(vlm, decoder=_copied(vlm.decoder, changed))


def _copied(decoder: nn.Module, changed: Mapping[int, nn.Parameter]) -> nn.Module:
    """The same modules anew over the same tensors, but for those that are changed (by id)."""
    shared: dict[int, Any] = {
        id(each): each for each in (*decoder.parameters(), *decoder.buffers())
    }
    return copy.deepcopy(decoder, {**shared, **changed})
