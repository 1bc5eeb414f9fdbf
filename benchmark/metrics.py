"""What a stream of updates did, from answers alone.

R[t][i] is the accuracy (percent) on task i after update t + 1 (Lopez-Paz and Ranzato 2017, GEM;
Chaudhry et al. 2018 for forgetting). Tasks are the classes of an update. In the words of model
editing (arXiv 2110.11309 and its successors) the percentage of right answers about photos taught is
reliability, about other photos of their classes generality, and of answers to unrelated photos that
stayed, 100 - flips, locality.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

Matrix = Sequence[Sequence[float]]
"""R: one row an update, one column a task."""


def percent(hits: Tensor) -> float:
    """Percent of True in a bool tensor. Raises ValueError for an empty one."""
    if not hits.numel():
        raise ValueError("nothing was asked")
    return 100 * hits.float().mean().item()


def task_accuracies(
    answers: Tensor, targets: Tensor, tasks: Sequence[Sequence[int]]
) -> list[float]:
    """One row of R: answers and targets long [N], `tasks` the labels of each task."""
    return [percent((answers == targets)[_of(targets, labels)]) for labels in tasks]


def average_accuracy(matrix: Matrix) -> float:
    """ACC: mean of the last row. Raises ValueError unless R is square."""
    last = _square(matrix)[-1]
    return sum(last) / len(last)


def backward_transfer(matrix: Matrix) -> float:
    """BWT: mean of R[T][i] - R[i][i] over tasks before the last; 0 for one task. Negative: what
    was learnt got lost. Raises ValueError unless R is square."""
    rows = _square(matrix)
    changes = [rows[-1][task] - rows[task][task] for task in range(len(rows) - 1)]
    return sum(changes) / len(changes) if changes else 0.0


def forgetting(matrix: Matrix) -> float:
    """Mean over tasks before the last of the best accuracy since they were learnt minus the final
    one; 0 for one task. Raises ValueError unless R is square."""
    rows = _square(matrix)
    losses = [
        max(row[task] for row in rows[task:]) - rows[-1][task] for task in range(len(rows) - 1)
    ]
    return sum(losses) / len(losses) if losses else 0.0


def flips(before: Tensor, after: Tensor) -> float:
    """Percent of answers (long [N]) that changed."""
    return percent(before != after)


def _of(targets: Tensor, labels: Sequence[int]) -> Tensor:
    mine = targets == -1
    for label in labels:
        mine |= targets == label
    return mine


def _square(matrix: Matrix) -> Matrix:
    if not matrix or any(len(row) != len(matrix) for row in matrix):
        raise ValueError(f"{len(matrix)} rows of {[len(row) for row in matrix]} tasks")
    return matrix
