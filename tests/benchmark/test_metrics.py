"""Metrics of a stream, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from benchmark.metrics import (
    average_accuracy,
    backward_transfer,
    flips,
    forgetting,
    percent,
    task_accuracies,
)

R = [[80.0, 10.0, 5.0], [60.0, 90.0, 5.0], [70.0, 50.0, 85.0]]


def test_the_mean_of_the_last_row_is_acc() -> None:
    assert average_accuracy(R) == pytest.approx((70 + 50 + 85) / 3)


def test_backward_transfer_is_against_what_was_just_learnt() -> None:
    assert backward_transfer(R) == pytest.approx(((70 - 80) + (50 - 90)) / 2)


def test_forgetting_is_against_the_best_since() -> None:
    recovered = [[50.0, 0.0], [60.0, 40.0]]
    assert forgetting(R) == pytest.approx(((80 - 70) + (90 - 50)) / 2)
    assert forgetting(recovered) == 0  # better than ever
    assert backward_transfer(recovered) == 10


def test_a_later_peak_counts_as_forgotten_and_not_as_backward_loss() -> None:
    peak = [[50.0, 0.0, 0.0], [90.0, 50.0, 0.0], [50.0, 50.0, 50.0]]
    assert forgetting(peak) == pytest.approx((90 - 50 + 0) / 2)
    assert backward_transfer(peak) == 0


def test_one_task_forgets_nothing() -> None:
    assert (average_accuracy([[42.0]]), backward_transfer([[42.0]]), forgetting([[42.0]])) == (
        42,
        0,
        0,
    )


@pytest.mark.parametrize("matrix", [[], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_a_matrix_that_is_not_square_is_refused(matrix: list[list[float]]) -> None:
    for measure in (average_accuracy, backward_transfer, forgetting):
        with pytest.raises(ValueError, match="rows"):
            measure(matrix)


def test_a_task_is_asked_about_its_own_classes_only() -> None:
    targets, answers = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 0, 0])
    assert task_accuracies(answers, targets, [[0, 1], [2]]) == [pytest.approx(200 / 3), 0]
    with pytest.raises(ValueError, match="nothing"):
        task_accuracies(answers, targets, [[7]])


def test_flips_are_changed_answers_right_or_wrong() -> None:
    assert flips(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 0, 3, 0])) == 50
    assert percent(torch.tensor([True, False, False, False])) == 25
