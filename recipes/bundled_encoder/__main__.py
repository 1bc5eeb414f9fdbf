"""Train the bundled encoder from random weights and write it in open_clip's format.

    python -m recipes.bundled_encoder --lab ../shared/lab

The cache (6 GB) keeps unpacked photos, teacher targets and checkpoints; a second start goes on from
what it finds there. Keep it outside the repository. `--stage measure` trains nothing: it prints
accuracy and speed of the encoder in `--out`.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from recipes.bundled_encoder.evaluation import best_logit_scale, embed_photos
from recipes.bundled_encoder.export import export_encoder
from recipes.bundled_encoder.image_tower import (
    ImagePlan,
    Run,
    TrainingData,
    adopt_average,
    resume_run,
    start_run,
    train_image_tower,
)
from recipes.bundled_encoder.losses import Rows
from recipes.bundled_encoder.measurement import measure_encoder
from recipes.bundled_encoder.photos import hold_out, load_photos, read_class_names
from recipes.bundled_encoder.prompts import Names, read_names
from recipes.bundled_encoder.student import MODEL_CONFIG, create_student
from recipes.bundled_encoder.teacher import compute_targets, load_targets, load_teacher
from recipes.bundled_encoder.text_tower import (
    embed_names,
    load_text_tower,
    project_rows,
    save_text_tower,
    train_text_tower,
)

HELD_OUT_PER_CLASS = 5
SHIPPED = Path(__file__).resolve().parents[2] / "encoder" / "bundled"
CACHE = Path("~/.cache/emend/bundled-encoder")


@dataclass(frozen=True)
class Language:
    """The names, and what the teacher says about them."""

    tokenizer: open_clip.SimpleTokenizer
    names: Names
    targets: Tensor
    """[names, 192] for the text tower: the teacher's features, projected"""
    rows: Rows
    """the classifiers that the image tower learns against"""


def main() -> None:
    """Run the recipe from the command line."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    if options.stage == "measure":
        print(measure_encoder(options.out, options.lab / "pretrain.zip"))
        return
    if options.stage == "export":
        require_checkpoints(options)
    options.cache.mkdir(parents=True, exist_ok=True)
    teacher, tokenizer = load_teacher(options.lab / "base")
    language = read_language(options.lab, teacher, tokenizer)
    student = create_student(options.seed)
    if options.stage in ("all", "text"):
        make_text_tower(student, language, options)
    if options.stage == "text":
        return
    data = read_data(language, teacher, options)
    run = make_image_tower(student, data, options)
    if options.stage != "image":
        finish(run, data, language, options)


def read_language(
    lab: Path, teacher: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer
) -> Language:
    """Read the lab's names and let the teacher embed them."""
    names = read_names(lab, list(read_class_names(lab / "pretrain.zip").values()))
    sign_forms = tuple(json.loads((lab / "classes-gtsrb.json").read_text())["templates"])
    class_rows = embed_names(teacher, tokenizer, names.photo_classes)
    wide_rows = embed_names(teacher, tokenizer, names.imagenet)
    sign_rows = embed_names(teacher, tokenizer, names.signs, sign_forms)
    every_row = torch.cat([class_rows, wide_rows, sign_rows])
    targets = project_rows(every_row, len(class_rows), MODEL_CONFIG["text_cfg"]["width"])
    rows = Rows(targets[: len(class_rows)], class_rows, wide_rows)
    return Language(tokenizer, names, targets, rows)


def make_text_tower(
    student: open_clip.CLIP, language: Language, options: argparse.Namespace
) -> None:
    """Train the text tower and keep it in the cache; does nothing when it is there."""
    path = text_path(options)
    if not path.exists():
        train_text_tower(
            student, language.targets, language.names, language.tokenizer, seed=options.seed
        )
        save_text_tower(student, path)


def read_data(
    language: Language, teacher: open_clip.CLIP, options: argparse.Namespace
) -> TrainingData:
    """Unpack the training photos, and ask the teacher about them on first use."""
    photos = load_photos(options.lab / "pretrain.zip", "train", options.cache)
    compute_targets(teacher, photos.pixels, options.cache)
    members, tuning = hold_out(photos.labels, HELD_OUT_PER_CLASS)
    return TrainingData(photos, load_targets(options.cache), language.rows, members, tuning)


def make_image_tower(
    student: open_clip.CLIP, data: TrainingData, options: argparse.Namespace
) -> Run:
    """Train the image tower from the last checkpoint, or only read that checkpoint to export it."""
    plan = ImagePlan(epochs=options.epochs, minutes=options.minutes)
    run = start_run(student, data.rows.teacher.shape[1], plan)
    checkpoint = image_path(options)
    if checkpoint.exists():
        resume_run(run, checkpoint)
    if options.stage != "export":
        train_image_tower(run, data, plan, checkpoint=checkpoint, seed=options.seed)
    return run


def finish(run: Run, data: TrainingData, language: Language, options: argparse.Namespace) -> None:
    """Join both towers, set the temperature, write the encoder and measure it."""
    student, names = run.student, language.names.photo_classes
    adopt_average(run)
    load_text_tower(student, text_path(options))
    rows = embed_names(student, language.tokenizer, names)
    closeness = (rows * language.rows.student).sum(dim=-1).mean()
    tuning = embed_photos(student, data.photos.pixels[data.tuning])
    scale = best_logit_scale(tuning, rows, data.photos.labels[data.tuning])
    export_encoder(student, scale, names, options.out)
    print(
        f"step {run.step}, {run.seconds / 60:.1f} min; text rows' cosine to targets {closeness:.3f}"
    )
    print(f"temperature e^{scale:.3f} = {math.exp(scale):.1f}")
    print(measure_encoder(options.out, options.lab / "pretrain.zip"))


def require_checkpoints(options: argparse.Namespace) -> None:
    """End with a sentence rather than export random weights. Raises SystemExit."""
    for path in (text_path(options), image_path(options)):
        if not path.is_file():
            raise SystemExit(f"There is nothing to export: {path} is missing.")


def image_path(options: argparse.Namespace) -> Path:
    """Where the image tower's last checkpoint lies in the cache."""
    return Path(options.cache) / "image-run.safetensors"


def text_path(options: argparse.Namespace) -> Path:
    """Where the finished text tower lies in the cache."""
    return Path(options.cache) / "text-tower.safetensors"


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read `arguments`, or the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.bundled_encoder", description=__doc__)
    parser.add_argument("--lab", type=Path, required=True, help="folder with the lab's files")
    parser.add_argument(
        "--out", type=Path, default=SHIPPED, help="folder of the finished encoder (%(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE.expanduser(),
        help="folder for data and checkpoints (%(default)s)",
    )
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="limit for the image tower")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stage",
        choices=("all", "text", "image", "export", "measure"),
        default="all",
        help="text and image train one tower each, at the same time if you like",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
