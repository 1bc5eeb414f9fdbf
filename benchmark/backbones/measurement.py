"""One model edited by one method, the whole path once, from random weights to a merged file.

Score and select, train, extract, save, load, merge: the product's own functions, in one process of
its own, so that its peak memory is what the path needs. Images and texts are random: nothing here
says how good an edit is.

Legend: B images of a batch, S image side, V labels, E embedding width.
"""

from __future__ import annotations

import math
import platform
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional

from benchmark import methods
from benchmark.backbones.counting import paper_numbers
from benchmark.backbones.models import build_backbone, tower_weights
from benchmark.backbones.phases import Phases
from editing.fewshot import EditTask
from editing.methods import Fit, LorsuConfig, MethodConfig, fit
from editing.methods.fitting import Start
from editing.parametrize import Parametrisation
from editing.selection import Selection
from encoder.adapter import Adapter, Provenance, adapter_digest
from encoder.clip import Encoder

LABELS = 16  # V
EPOCH = 800  # images, of the paper's few-shot updates and of its scoring
LIBRARIES = ("torch", "open_clip_torch", "timm", "numpy", "safetensors")
THREADS = 1


@dataclass(frozen=True)
class Plan:
    """What is measured; `repeats` steps are timed after a first one, whose FLOPs are counted."""

    model: str
    method: str
    precision: str
    batch: int
    repeats: int
    seed: int

    @property
    def title(self) -> str:
        """The model's, wherever its folder lies."""
        return Path(self.model).name

    @property
    def config(self) -> MethodConfig:
        """The paper's step: a batch of images, no guard. Raises UnknownMethod, InvalidConfig."""
        values = {
            "batch_size": self.batch,
            "epochs": 1 + self.repeats,
            "min_steps": 0,
            "rounds": 1,
            "stop_margin": 100,
            "guard_weight": 0,
            "guard_images": 0,
            "precision": self.precision,
        }
        own = LorsuConfig.PAPER if self.method == "lorsu" else {}
        return methods.parse(self.method, {**values, **own})

    def facts(self) -> dict[str, Any]:
        """Everything that the numbers depend on but the code: JSON-able."""
        return {**asdict(self), "model": self.title, "config": self.config.model_dump(mode="json")}


def measure(plan: Plan) -> dict[str, Any]:
    """Everything that is told about it, JSON-able. Sets the number of torch's threads.

    Raises UnknownEncoder, UnknownTowerLayout, UnknownMethod, InvalidConfig.
    """
    config = plan.config
    torch.set_num_threads(THREADS)
    phases = Phases(counted=("training", 0))
    with phases.phase("build"):
        base = build_backbone(plan.model, seed=plan.seed)
    method, edited = watched(config)
    with phases.phase("prepare"):  # ends when the fit tells of its first batch
        found = fit(base, random_task(base, plan), method, seed=plan.seed, progress=phases)
    merged, size = _through_a_file(base, found, plan, phases)
    return {
        **plan.facts(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "threads": THREADS,
        **_numbers(base, found, config),
        **_costs(plan, phases),
        "adapter_bytes": size,
        "selection": found.selection.summary(),
        "losses": list(found.history.losses),
        "merged_as_trained": merges_as_trained(base, merged, edited[0]),
    }


def random_task(base: Encoder, plan: Plan) -> EditTask:
    """As many images of noise as a batch has, each with one of V random directions as its text."""
    generator = torch.Generator().manual_seed(plan.seed)
    side = base.preprocessing.image_size
    shape = (plan.batch, 3, side, side)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    width = base.embed_images(pixels[:1]).shape[1]  # E
    texts = torch.randn(LABELS, width, generator=generator)
    return EditTask(
        pixels=pixels,
        targets=torch.arange(plan.batch) % LABELS,
        allowed=torch.ones(plan.batch, LABELS, dtype=torch.bool),
        text_features=functional.normalize(texts, dim=1),
        new=torch.ones(plan.batch, dtype=torch.bool),
        guard_pixels=pixels[:0],
    )


def _through_a_file(base: Encoder, found: Fit, plan: Plan, phases: Phases) -> tuple[Encoder, int]:
    """The encoder that serving would make of the adapter's file, and the file's bytes."""
    origin = Provenance(
        method=plan.method,
        config=plan.config.model_dump(mode="json"),
        seed=plan.seed,
        parent=None,
        stacked_on=base.chain,
        base_name=base.name,
        base_pretrained=base.pretrained,
        base_digest=base.base_digest,
    )
    with tempfile.TemporaryDirectory(prefix="emend-backbones-") as folder:
        path = Path(folder) / "adapter.safetensors"
        with phases.phase("save"):
            data = Adapter(found.deltas, origin).to_bytes()
            path.write_bytes(data)
            digest = adapter_digest(data)
            del data
        with phases.phase("load"):
            adapter = Adapter.from_bytes(path.read_bytes(), digest=digest)
        size = path.stat().st_size
    with phases.phase("merge"):
        return base.merged([adapter]), size


def watched(config: MethodConfig) -> tuple[MethodConfig, list[Parametrisation]]:
    """The same method, and a list that gets the trainable numbers of its fits."""
    seen: list[Parametrisation] = []
    own: Any = type(config)

    class Watched(own):  # type: ignore[misc]
        def prepare(self, selection: Selection, start: Start) -> Parametrisation:
            edited: Parametrisation = super().prepare(selection, start)
            seen.append(edited)
            return edited

    return Watched.model_validate(config.model_dump()), seen


def merges_as_trained(base: Encoder, merged: Encoder, edited: Parametrisation) -> bool:
    """Whether every weight of `merged` is bit by bit what training computed with: the edited ones
    from the trained numbers, all others the base's own."""
    before, after = (dict(each.model.named_parameters()) for each in (base, merged))
    with torch.no_grad():
        return all(
            torch.equal(edited.parts[name][0].weight(), after[name])
            if name in edited.parts
            else after[name] is before[name]
            for name in before
        )


def _numbers(base: Encoder, found: Fit, config: MethodConfig) -> dict[str, Any]:
    shapes = {name: tuple(weight.shape) for name, weight in tower_weights(base).items()}
    rank = config.forms.rank
    return {
        "tower_parameters": sum(math.prod(shape) for shape in shapes.values()),
        "trained": found.parameters,
        "trained_by_the_papers_count": paper_numbers(
            found.selection, base.tower, shapes, rank=rank
        ),
    }


def _costs(plan: Plan, phases: Phases) -> dict[str, Any]:
    """CPU seconds a phase or image, FLOPs, memory."""
    first, *timed = phases.of("training")
    steps = [span.cpu_seconds for span in timed]
    step = median(steps)
    scoring = sum(span.cpu_seconds for span in phases.of("scoring"))
    once = {name: phases.of(name)[0].cpu_seconds for name in ("build", "save", "load", "merge")}
    peaks: dict[str, int] = {}
    for span in phases.spans:
        peaks[span.phase] = max(span.peak_bytes, peaks.get(span.phase, 0))
    return {
        "flops_a_step": first.flops,
        "cpu_seconds": {
            **{name: round(seconds, 3) for name, seconds in once.items()},
            "scoring_an_image": round(scoring / plan.batch, 3),
            "first_step": round(first.cpu_seconds, 3),
            "steps": [round(seconds, 3) for seconds in steps],
            "step": round(step, 3),
        },
        "cpu_minutes_an_epoch": round(EPOCH / plan.batch * step / 60, 2),
        "cpu_minutes_of_scoring": round(EPOCH / plan.batch * scoring / 60, 2),
        "peak_bytes": max(peaks.values()),
        "peak_bytes_by_phase": peaks,
    }
