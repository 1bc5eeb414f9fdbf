"""The registry of methods: their configs, and what is wrong with one."""

from __future__ import annotations

import pytest

from editing.errors import InvalidConfig, UnknownMethod
from editing.methods import METHODS, LorsuConfig, config_schema, parse_config


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"rank": 0}, "rank"),
        ({"fc1_fraction": 2}, "fc1_fraction"),
        ({"fc1_fraction": 0}, "fc1_fraction"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"heads": 0}, "heads"),
        ({"mode": "loose"}, "mode"),
        ({"rnak": 8}, "rnak"),
        ({"augmentation": {"crop": 0}}, "augmentation.crop"),
    ],
)
def test_a_wrong_config_is_refused_by_field(values: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse_config("lorsu", values)
    assert [name for name, _ in caught.value.problems] == [field]
    assert field in str(caught.value)


def test_a_config_keeps_what_it_is_given_and_fills_in_the_rest() -> None:
    config = parse_config("lorsu", {"rank": 8})
    assert isinstance(config, LorsuConfig)
    assert config.rank == 8
    assert config.heads == LorsuConfig().heads
    assert LorsuConfig.model_validate_json(config.model_dump_json()) == config


def test_an_unknown_method_is_an_error_with_its_name() -> None:
    with pytest.raises(UnknownMethod, match="'magic'"):
        parse_config("magic", {})
    with pytest.raises(UnknownMethod, match="lorsu"):
        config_schema("magic")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_config_that_survives_json(method: str) -> None:
    config = parse_config(method, {"epochs": 3})
    assert type(config) is METHODS[method]
    assert parse_config(method, config.model_dump(mode="json")) == config
    with pytest.raises(InvalidConfig, match="learning_rate"):
        parse_config(method, {"learning_rate": 0})


def test_a_method_takes_only_its_own_settings() -> None:
    for method in ("full_finetune", "layernorm"):
        with pytest.raises(InvalidConfig, match="rank"):
            parse_config(method, {"rank": 8})


def test_every_setting_says_what_it_is_and_where_it_ends() -> None:
    for method in METHODS:
        schema = config_schema(method)
        assert schema["additionalProperties"] is False
        for name, field in schema["properties"].items():
            assert field.get("description"), name
            bounded = {"minimum", "exclusiveMinimum", "enum", "$ref"} & field.keys()
            assert bounded, name


def test_small_jobs_take_the_step_sizes_that_were_measured_for_them() -> None:
    peaks = {}
    for method in METHODS:
        config = parse_config(method, {})
        assert config.rate_for(1) < config.rate_for(1000) == 1
        peaks[method] = config.rate_for(1) * config.learning_rate
    assert peaks == pytest.approx(
        {"lorsu": 5e-4, "lora": 5e-4, "full_finetune": 5e-5, "layernorm": 5e-3, "spu": 5e-5}
    )
