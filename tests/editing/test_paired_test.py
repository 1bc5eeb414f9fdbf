from __future__ import annotations

import pytest

from editing.paired_test import binomial_tail, flip_p_value, loss_p_value


def test_tails_of_hand_computed_cases() -> None:
    assert binomial_tail(8, 10, 0.5) == pytest.approx(56 / 1024)
    assert binomial_tail(1, 3, 0.1) == pytest.approx(1 - 0.9**3)
    assert binomial_tail(0, 5, 0.2) == 1
    assert binomial_tail(3, 3, 1.0) == 1
    assert binomial_tail(1, 3, 0.0) == 0


def test_without_allowance_it_is_the_exact_mcnemar_test() -> None:
    assert loss_p_value(broken=9, fixed=1, allowed=0) == pytest.approx(11 / 1024)
    assert loss_p_value(broken=0, fixed=0, allowed=0) == 1


def test_allowed_losses_make_the_same_loss_less_remarkable() -> None:
    strict = loss_p_value(broken=9, fixed=1, allowed=0)
    lenient = loss_p_value(broken=9, fixed=1, allowed=4)
    assert strict < 0.05 < lenient
    assert loss_p_value(broken=9, fixed=1, allowed=10) == 1


def test_flips_are_compared_with_the_allowed_share() -> None:
    assert flip_p_value(flips=8, images=100, allowed=0.08) > 0.4
    assert flip_p_value(flips=16, images=100, allowed=0.08) < 0.01
    assert flip_p_value(flips=0, images=0, allowed=0.08) == 1
