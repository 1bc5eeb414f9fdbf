"""Train the image tower: one pass of the loop, its optimisers, its average.

Every step draws from a generator seeded by the step's number, so a resumed run continues exactly.

Legend: B photos, D features (192), W student width (256).
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recipes.bundled_encoder.batches import Batch, draw_batch
from recipes.bundled_encoder.blocks import run_image_tower
from recipes.bundled_encoder.evaluation import Accuracy, score
from recipes.bundled_encoder.losses import Outputs, Rows, total_loss
from recipes.bundled_encoder.photos import Photos
from recipes.bundled_encoder.student import normalise
from recipes.bundled_encoder.teacher import TeacherTargets

MAX_SCALE = 100.0


@dataclass(frozen=True)
class ImagePlan:
    """How long and how hard the image tower trains; it ends at whichever limit comes first."""

    epochs: float = 20.0
    minutes: float = math.inf
    batch: int = 128
    early_share: float = 0.5
    """share of the cells that go through the tower at first, which nearly doubles the speed"""
    early_until: float = 0.6
    """progress at which all cells begin to go through"""
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup: float = 0.04
    average_decay: float = 0.99
    optimizer: str = "muon"
    save_every: int = 100


@dataclass(frozen=True)
class TrainingData:
    """Everything the loop reads."""

    photos: Photos
    targets: TeacherTargets
    rows: Rows
    members: Tensor
    """[N] numbers of the photos to train on"""
    tuning: Tensor
    """[M] numbers of the photos held out of training, to watch it and to set the temperature"""


@dataclass
class Run:
    """All that changes while training, and can be written to one file."""

    student: open_clip.CLIP
    heads: nn.ModuleList
    optimizers: list[torch.optim.Optimizer]
    average: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters that learn, by name: image tower, temperature, heads."""
        tower = {
            name: parameter
            for name, parameter in self.student.named_parameters()
            if name.startswith("visual.") or name == "logit_scale"
        }
        heads = {f"heads.{name}": parameter for name, parameter in self.heads.named_parameters()}
        return tower | heads


def start_run(student: open_clip.CLIP, teacher_width: int, plan: ImagePlan) -> Run:
    """A run at step 0."""
    width = student.visual.positional_embedding.shape[1]
    heads = nn.ModuleList([nn.Linear(width, teacher_width) for _ in range(2)])
    run = Run(student, heads, [])
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in run.trained().items():
        in_block = "resblocks" in name and parameter.ndim == 2
        (matrices if in_block else others).append(parameter)
    decayed = [parameter for parameter in others if parameter.ndim >= 2]
    free = [parameter for parameter in others if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": free, "weight_decay": 0.0}]
    run.optimizers = [torch.optim.AdamW(groups, plan.learning_rate, (0.9, 0.98))]
    if plan.optimizer == "muon":
        run.optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=plan.learning_rate,
                weight_decay=plan.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    else:
        run.optimizers[0].add_param_group({"params": matrices, "weight_decay": 0.05})
    run.average = {name: value.detach().clone() for name, value in run.trained().items()}
    return run


def look(run: Run, photos: Tensor, kept: Tensor) -> Outputs:
    """Run the cells `kept` [B, K] of photos [B, 3, S, S] in 0..1 through the tower in bfloat16."""
    visual = run.student.visual
    middle = len(visual.transformer.resblocks) // 2
    with torch.autocast("cpu", torch.bfloat16):
        halfway, final = run_image_tower(visual, normalise(photos), middle, kept)
        projected = [head(t[:, 1:]) for head, t in zip(run.heads, (halfway, final), strict=True)]
        pooled = final[:, 1:].mean(dim=1) @ visual.proj
    features = F.normalize(pooled.float(), dim=-1)
    scale = run.student.logit_scale.exp().clamp(max=MAX_SCALE)
    return Outputs(features, scale, (projected[0], projected[1]), kept)


def choose_cells(count: int, share: float, cells: int, generator: torch.Generator) -> Tensor:
    """Which cells [B, K] of `count` photos to look at: a random `share` of them, in order."""
    order = torch.rand(count, cells, generator=generator).argsort(dim=1)
    return order[:, : int(share * cells)].sort(dim=1).values


def take_step(run: Run, batch: Batch, rows: Rows, *, kept: Tensor, rate: float) -> dict[str, float]:
    """One optimiser step at learning rate `rate` on the cells `kept`; return the loss's parts."""
    loss, parts = total_loss(look(run, batch.photos, kept), batch, rows)
    for optimizer in run.optimizers:
        optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(run.trained().values(), 3.0)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    run.step += 1
    return {"loss": loss.item()} | {name: part.item() for name, part in parts.items()}


def learning_rate(plan: ImagePlan, progress: float) -> float:
    """Linear warm-up, then half a cosine to zero, over progress 0..1."""
    if progress < plan.warmup:
        return plan.learning_rate * max(progress / plan.warmup, 0.02)
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@torch.no_grad()
def update_average(run: Run, decay: float) -> None:
    """Move the average towards the current weights; faster while the run is young."""
    decay = min(decay, (1 + run.step) / (10 + run.step))
    for name, value in run.trained().items():
        run.average[name].lerp_(value, 1 - decay)


def train_image_tower(
    run: Run, data: TrainingData, plan: ImagePlan, *, checkpoint: Path, seed: int = 0
) -> None:
    """Train until the plan's end, saving now and then; a run read from a file goes on."""
    steps_per_epoch = len(data.members) // plan.batch
    last = int(plan.epochs * steps_per_epoch)
    started = time.monotonic() - run.seconds
    while run.step < last and run.seconds < plan.minutes * 60:
        generator = torch.Generator().manual_seed(seed * 104729 + run.step)
        members = data.members[_members_of_step(data, plan, run.step, seed)]
        batch = draw_batch(data.photos, data.targets, members, generator)
        progress = max(run.step / last, run.seconds / (plan.minutes * 60))
        share = plan.early_share if progress < plan.early_until else 1.0
        kept = choose_cells(plan.batch, share, batch.tokens[0][0, 0].numel(), generator)
        rate = learning_rate(plan, progress)
        losses = take_step(run, batch, data.rows, kept=kept, rate=rate)
        update_average(run, plan.average_decay)
        run.seconds = time.monotonic() - started
        if run.step % 20 == 0:
            told = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
            print(f"step {run.step}, {run.seconds / 60:.1f} min: {told}", flush=True)
        if run.step % plan.save_every == 0:
            save_run(run, checkpoint)
            print(f"step {run.step}, average on held out photos: {check(run, data)}", flush=True)
    save_run(run, checkpoint)


def _members_of_step(data: TrainingData, plan: ImagePlan, step: int, seed: int) -> Tensor:
    """Positions [B] in this epoch's order."""
    epoch, number = divmod(step, len(data.members) // plan.batch)
    order = torch.randperm(
        len(data.members), generator=torch.Generator().manual_seed(seed * 7919 + epoch)
    )
    return order[number * plan.batch : (number + 1) * plan.batch]


@torch.no_grad()
def check(run: Run, data: TrainingData) -> Accuracy:
    """Accuracy of the averaged weights on the held out photos."""
    kept = {name: value.detach().clone() for name, value in run.trained().items()}
    _overwrite(run, run.average)
    pixels = data.photos.pixels[data.tuning]
    cells = torch.arange(math.prod(run.student.visual.grid_size))
    features = [
        look(run, part.float() / 255, cells.expand(len(part), -1)).features
        for part in torch.split(pixels, 100)
    ]
    _overwrite(run, kept)
    return score(torch.cat(features), data.rows.student, data.photos.labels[data.tuning])


@torch.no_grad()
def adopt_average(run: Run) -> None:
    """Make the averaged weights the student's own."""
    _overwrite(run, run.average)


def save_run(run: Run, path: Path) -> None:
    """Write the whole state as safetensors, in one replacement of the file."""
    tensors = {f"now.{name}": value.detach() for name, value in run.trained().items()}
    tensors |= {f"average.{name}": value for name, value in run.average.items()}
    for number, optimizer in enumerate(run.optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{number}.{index}.{key}"] = torch.as_tensor(value)
    metadata = {"step": str(run.step), "seconds": str(run.seconds)}
    part = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, part, metadata)
    part.replace(path)


def resume_run(run: Run, path: Path) -> None:
    """Continue where `save_run` stopped."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    run.step, run.seconds = int(metadata["step"]), float(metadata["seconds"])
    run.average = {name: tensors[f"average.{name}"] for name in run.trained()}
    _overwrite(run, {name: tensors[f"now.{name}"] for name in run.trained()})
    for number, optimizer in enumerate(run.optimizers):
        whole = optimizer.state_dict()
        whole["state"] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimizer.{number}."):
                index, key = name.split(".")[2:]
                whole["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(whole)


@torch.no_grad()
def _overwrite(run: Run, values: dict[str, Tensor]) -> None:
    for name, parameter in run.trained().items():
        parameter.copy_(values[name])
