"""What holds for the service's methods holds for those of the benchmark."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmark.methods import method_names, parse
from editing.methods import METHODS
from tests.editing.methods import test_fitting as fitting
from tests.support.tiny_encoder import LAYOUTS

OWN = [name for name in method_names() if name not in METHODS]
EVERY_OWN = pytest.mark.parametrize("method", OWN)


@pytest.mark.parametrize(
    "holds",
    [
        fitting.test_no_steps_change_nothing,
        fitting.test_what_was_not_selected_stays_bit_identical,
        fitting.test_a_stored_edit_is_the_one_that_was_trained,
        fitting.test_its_features_in_training_are_those_of_the_merged_encoder,
        fitting.test_the_same_seed_gives_the_same_bytes,
        fitting.test_the_loss_falls_and_corrections_become_right,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
@pytest.mark.parametrize("layout", LAYOUTS)
@EVERY_OWN
def test_it_holds_on_every_layout(
    method: str, layout: str, holds: Callable[[str, str], None]
) -> None:
    holds(layout, method)


@EVERY_OWN
def test_its_summary_is_plain_and_complete(method: str) -> None:
    fitting.test_the_summary_is_plain_and_complete(method)


@EVERY_OWN
def test_its_config_survives_json_and_says_what_it_is(method: str) -> None:
    config = parse(method, {"epochs": 3})
    assert parse(method, config.model_dump(mode="json")) == config
    for name, field in type(config).model_fields.items():
        assert field.description, name
