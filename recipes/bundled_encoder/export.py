"""Write a finished encoder the way open_clip's `local-dir:` reads it, in fp16."""

import copy
import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save

from recipes.bundled_encoder.prompts import TEMPLATES
from recipes.bundled_encoder.student import MODEL_CONFIG, PREPROCESS_CONFIG


def export_encoder(
    student: open_clip.CLIP, logit_scale: float, class_names: list[str], out: Path
) -> None:
    """Write config, weights and `labels.json` into `out`; `logit_scale` is the logarithm."""
    out.mkdir(parents=True, exist_ok=True)
    model_config = copy.deepcopy(MODEL_CONFIG) | {"init_logit_scale": round(logit_scale, 4)}
    config = {"model_cfg": model_config, "preprocess_cfg": PREPROCESS_CONFIG}
    _write_json(out / "open_clip_config.json", config)
    _write_json(out / "labels.json", {"labels": class_names, "templates": list(TEMPLATES)})
    weights = {name: value.detach().half() for name, value in student.state_dict().items()}
    weights["logit_scale"] = torch.tensor(logit_scale, dtype=torch.float16)
    contiguous = {name: value.contiguous() for name, value in weights.items()}
    (out / "open_clip_model.safetensors").write_bytes(save(contiguous, {"format": "pt"}))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
