"""The towers that an edit moves: the one of images, or those of images and of texts."""

from __future__ import annotations

from torch import Tensor

from editing.errors import InvalidTask
from editing.fewshot import EditTask
from editing.label_texts import FrozenTexts, LabelTexts, MovingTexts
from editing.text import TextFunction
from editing.training_config import TrainingConfig
from editing.vision import VisionFunction
from encoder.clip import Encoder


class Towers:
    """Both as functions of their weights; `text` is None where it stays as it is."""

    def __init__(self, encoder: Encoder, config: TrainingConfig) -> None:
        """Raises UnknownTowerLayout where a text tower that is to move is none of open_clip's."""
        self.vision = VisionFunction(encoder, precision=config.precision)
        self.text: TextFunction | None = None
        if config.towers == "both":
            self.text = TextFunction(encoder, precision=config.precision)
        self._tokenizer = encoder.tokenizer

    def weight(self, name: str) -> Tensor:
        """The encoder's own weight, fp32, without gradient; named as in the whole model."""
        if self.text is not None and name in self.text.weights:
            return self.text.weight(name)
        return self.vision.weight(name)

    def label_texts(self, task: EditTask) -> LabelTexts:
        """Of the task's labels.

        Raises InvalidTask where the text tower moves and the task does not say what it should read,
        ClassifierError for a template that is none.
        """
        features = task.text_features.to(self.vision.device)
        if self.text is None:
            return FrozenTexts(features)
        if task.prompts is None:
            raise InvalidTask("the text tower cannot move without its labels' prompts")
        return MovingTexts(self.text, self._tokenizer, task.prompts, features)
