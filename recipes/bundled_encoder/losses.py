"""What the image tower is asked to match.

Legend: B photos, C classes (100), M names (1,000), D features (192), G cells a side (8),
K cells that went through the tower.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.bundled_encoder.batches import Batch

TEACHER_SCALE = 20.0
"""the base model's own temperature"""
HARD_SHARE = 0.5
"""weight of the true class in the class target; the rest is the teacher's opinion"""


@dataclass(frozen=True)
class Rows:
    """Text features that classify, all of length 1."""

    student: Tensor
    """[C, D] the finished text tower's features of the photo classes"""
    teacher: Tensor
    """[C, D] the teacher's features of the same classes"""
    wide: Tensor
    """[M, D] the teacher's features of the ImageNet names"""


@dataclass(frozen=True)
class Outputs:
    """What the image tower said about a batch."""

    features: Tensor
    """[B, D] of length 1"""
    scale: Tensor
    """[] factor on the cosines"""
    tokens: tuple[Tensor, Tensor]
    """two of [B, K, D], projected to the teacher's width"""
    kept: Tensor
    """[B, K] which cells the tokens belong to, row by row"""


def total_loss(outputs: Outputs, batch: Batch, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and its parts by name."""
    parts = {
        "classes": class_loss(outputs, batch, rows),
        "names": opinion_loss(outputs.features, batch.features, rows.wide),
        "feature": 1 - (outputs.features * batch.features).sum(dim=-1).mean(),
        "halfway": token_loss(outputs.tokens[0], batch.tokens[0], outputs.kept),
        "final": token_loss(outputs.tokens[1], batch.tokens[1], outputs.kept),
    }
    weights = {"classes": 1.0, "names": 0.5, "feature": 1.0, "halfway": 0.5, "final": 1.0}
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum(), parts


def class_loss(outputs: Outputs, batch: Batch, rows: Rows) -> Tensor:
    """Cross-entropy to true classes and teacher's opinion, through the student's own text rows."""
    opinion = (TEACHER_SCALE * batch.features @ rows.teacher.T).softmax(dim=-1)
    wanted = HARD_SHARE * batch.classes + (1 - HARD_SHARE) * opinion
    return F.cross_entropy(outputs.scale * outputs.features @ rows.student.T, wanted)


def opinion_loss(features: Tensor, teacher_features: Tensor, rows: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the two opinions about the names in `rows` [M, D]."""
    wanted = (TEACHER_SCALE * teacher_features @ rows.T).log_softmax(dim=-1)
    said = (TEACHER_SCALE * features @ rows.T).log_softmax(dim=-1)
    return F.kl_div(said, wanted, reduction="batchmean", log_target=True)


def token_loss(tokens: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """One minus the mean cosine of tokens [B, K, D] and cells `kept` of targets [B, D, G, G]."""
    cells = wanted.flatten(2).transpose(1, 2)  # [B, G*G, D]
    targets = cells.gather(1, kept[:, :, None].expand(-1, -1, cells.shape[2]))
    return 1 - F.cosine_similarity(tokens.float(), targets.float(), dim=-1).mean()
