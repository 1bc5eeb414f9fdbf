"""The rows of the study's table: which method, in which protocol, with which settings.

All rows of the continual protocol share objective, epochs, batches and augmentation; step sizes
were each method's defaults, and stay what the kept runs were made with. Negatives
are the update's own labels: with the whole vocabulary, updates without replay push down what
earlier ones taught.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmark.experiment import shared_variations
from editing.methods import LorsuConfig, MethodConfig, parse_config

Protocol = Literal["none", "continual", "refit"]
Objective = Literal["caption", "likelihood"]
Part = Literal["encoder", "decoder"]

CONTINUAL: Mapping[str, Any] = {
    "epochs": 2,
    "rounds": 1,
    "min_steps": 0,
    "small_job_rate": 1,
    "stop_margin": 100,  # never: all methods take the same steps
    "guard_weight": 0,
    "replay": "stack",
}
ANSWERS: Mapping[str, Any] = {**CONTINUAL, "epochs": 1, "answer_batch_size": 8}
REFIT: Mapping[str, Any] = {
    "epochs": 1.5,
    "rounds": 1,
    "answer_batch_size": 8,
    "guard_batch_size": 8,
    "max_images": 1000,
}
_STEP_SIZES = ("learning_rate", "fc1_learning_rate")
LORSU: Mapping[str, Any] = {
    **LorsuConfig.PAPER,
    "learning_rate": 1e-3,
    "fc1_learning_rate": 1e-3,
}


def rate(size: float) -> dict[str, float]:
    """Peak step size of everything dense or low-rank."""
    return {"learning_rate": size}


@dataclass(frozen=True)
class Row:
    """One line of the table. `method` is one of `editing.methods`, None for no edit."""

    name: str
    title: str
    method: str | None
    protocol: Protocol
    settings: Mapping[str, Any]
    objective: Objective = "caption"
    part: Part = "encoder"

    def config(self) -> MethodConfig:
        """With the variations of photos that all studies share.

        Raises InvalidConfig, UnknownMethod, ExperimentInvalid; ValueError for a row that edits
        nothing.
        """
        if self.method is None:
            raise ValueError(f"{self.name} edits nothing")
        return parse_config(self.method, {"augmentation": shared_variations(), **self.settings})

    def at_pace(self, factor: float) -> Row:
        """The same with all step sizes times `factor`, under a name of its own."""
        rates = {key: value * factor for key, value in self.settings.items() if key in _STEP_SIZES}
        name = f"{self.name}-x{factor:g}"
        return replace(self, name=name, settings={**self.settings, **rates})


ZERO_SHOT = Row("zero-shot", "Zr-shot", None, "none", {})
ROWS: tuple[Row, ...] = (
    ZERO_SHOT,
    Row("lorsu", "LoRSU", "lorsu", "continual", {**CONTINUAL, **LORSU}),
    Row("full-finetune", "F-FT", "full_finetune", "continual", {**CONTINUAL, **rate(1e-4)}),
    Row("lora", "LoRA", "lora", "continual", {**CONTINUAL, **rate(1e-3)}),
    Row("spu", "SPU", "spu", "continual", {**CONTINUAL, **rate(1e-4), "fc1_learning_rate": 1e-3}),
    Row("layernorm", "LN", "layernorm", "continual", {**CONTINUAL, **rate(1e-3)}),
    Row(
        "lorsu-likelihood",
        "LoRSU, by the answer's likelihood",
        "lorsu",
        "continual",
        {**ANSWERS, **LORSU},
        "likelihood",
    ),
    Row(
        "lorsu-refit",
        "LoRSU, likelihood, refit with replay and guard",
        "lorsu",
        "refit",
        {**REFIT, **LORSU},
        "likelihood",
    ),
    Row(
        "full-finetune-refit",
        "F-FT, likelihood, refit with replay and guard",
        "full_finetune",
        "refit",
        {**REFIT, **rate(1e-4)},
        "likelihood",
    ),
    Row(
        "lorsu-refit-caption",
        "LoRSU, caption, refit with replay and guard",
        "lorsu",
        "refit",
        {**REFIT, **LORSU, "batch_size": 8},  # as many photos a step as questions
    ),
    Row(
        "decoder-lora",
        "LoRA on the language model alone",
        "lora",
        "continual",
        {**ANSWERS, **rate(1e-3)},
        "likelihood",
        "decoder",
    ),
)


def get_row(name: str) -> Row:
    """Raises KeyError."""
    return {row.name: row for row in ROWS}[name]
