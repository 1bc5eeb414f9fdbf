"""What a running worker holds between jobs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sqlalchemy import Engine

from editing.gate import GateConfig
from encoder.clip import Encoder
from registry.artifacts import ArtifactStore
from worker.control_questions import QuestionLoader
from worker.control_sets import ControlLoader
from worker.settings import Settings
from worker.training_set import TrainingSetBuilder


@dataclass(frozen=True)
class Workshop:
    """`name` tells this process from every other worker, also from itself after a restart."""

    name: str
    settings: Settings
    engine: Engine
    store: ArtifactStore
    base: Encoder
    controls: ControlLoader
    questions: QuestionLoader
    training_sets: TrainingSetBuilder
    gate: GateConfig = field(default_factory=GateConfig)
    stopping: threading.Event = field(default_factory=threading.Event)
