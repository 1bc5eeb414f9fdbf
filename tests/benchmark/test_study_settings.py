"""Runs that studies share, the service's own row, and step sizes tried on training photos."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmark.experiment import config_facts, load_study, shared_variations
from benchmark.head_choice.trial import PARTS, SERVICE, Trial
from benchmark.run import at_pace, main
from benchmark.vqa.rows import ROWS
from editing.augmentation import Augmentation
from editing.methods import parse_config
from tests.support.studies import LITTLE, arguments, kept
from tests.support.tiny_lab import tiny_lab

HEAD_CHOICE = Path(__file__).parents[2] / "benchmark/results/head_choice"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lab(tmp_path_factory.mktemp("lab"))


def test_a_run_that_another_study_keeps_is_taken_from_there(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    little = ["--shots", "2", "--epochs", "1", "--seeds", "0"]
    assert main(arguments(lab, tmp_path, "lab-refit", "full-finetune", *little)) == 0
    assert "kept:" not in capsys.readouterr().out
    assert main(arguments(lab, tmp_path, "lab-default", "k-full-finetune", *little)) == 0
    assert capsys.readouterr().out.count("kept:") == 1
    [first] = kept(tmp_path, "lab-refit").values()
    [taken] = kept(tmp_path, "lab-default").values()
    assert (taken["study"], taken["name"]) == ("lab-default,epochs=1", "k-full-finetune")
    assert taken["title"] == load_study("lab-default", names=["k-full-finetune"])[0].title
    for whole in (first, taken):
        del whole["study"], whole["name"], whole["title"]
    assert taken == first


@pytest.mark.parametrize(
    ("row", "other"),
    [
        ("a-paper", ("lab-continual", "lorsu")),
        ("e-refit", ("lab-refit", "lorsu")),
        ("k-full-finetune", ("lab-refit", "full-finetune")),
    ],
)
def test_recipes_that_other_tables_have_too_are_tuned_alike(
    row: str, other: tuple[str, str]
) -> None:
    [mine], [its] = load_study("lab-default", names=[row]), load_study(other[0], names=[other[1]])
    assert mine.facts == its.facts


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("n-service", "lorsu"),
        ("n-service-within-budgets", "lorsu"),
        ("p-service-full-finetune", "full_finetune"),
        ("v-service-lora-varied", "lora"),
    ],
)
def test_the_row_of_the_service_is_what_the_service_does(name: str, method: str) -> None:
    [row] = load_study("lab-default", names=[name])
    service = parse_config(method, {})
    idle = {"max_images": service.max_images}  # one fit of all photos
    assert row.parsed().model_copy(update=idle) == service


def test_studies_share_their_variations_of_photos() -> None:
    shared = Augmentation(**shared_variations())
    continual = [row for row in ROWS if row.method is not None]
    trials = [Trial("digits", part, "lorsu", 0, 10, 40, 0.01) for part in PARTS if part != SERVICE]
    plain = load_study("lab-continual", names=["lorsu", "full-finetune"])
    configs = [each.config() for each in (*continual, *trials)] + [each.parsed() for each in plain]
    assert {config.augmentation for config in configs} == {shared}


def test_kept_trials_of_heads_are_of_these_settings() -> None:
    """Or the command would do them again. Those of the service change when the service does."""
    kept = [json.loads(path.read_text("utf-8")) for path in HEAD_CHOICE.glob("digits-heads-*.json")]
    assert len(kept) == 24
    for told in kept:
        config = Trial(**told["trial"]).config()
        assert told["facts"]["config"] == config_facts(config)


def test_facts_tell_of_averaging_only_where_there_is_any() -> None:
    """Runs were kept before there was such a setting."""
    rows = load_study("lab-default", names=["n-service", "n-service-averaged"])
    assert [row.facts["config"].get("averaging") for row in rows] == [None, 0.6]


def test_the_request_for_streams_without_replay_is_what_its_row_measures() -> None:
    told = (Path(__file__).parents[2] / "benchmark/README.md").read_text("utf-8")
    [request] = [
        json.loads(found) for found in re.findall(r'`(\{"method": "lora", "config": .*\})`', told)
    ]
    [row] = load_study("lab-default", names=["u-lora-guard-ten-passes"])
    asked = parse_config(request["method"], request["config"])
    # One short round, on top of what is live.
    idle = {name: getattr(asked, name) for name in ("max_steps", "growth", "max_images")}
    measured = row.parsed().model_copy(update={**idle, "replay": "stack"})
    assert (request["method"], asked) == (row.method, measured)


def test_the_request_for_large_jobs_is_what_its_row_measures() -> None:
    told = (Path(__file__).parents[2] / "benchmark/README.md").read_text("utf-8")
    [request] = re.findall(r'`(\{"learning_rate": 2.5e-3, .*\})`', told)
    [row] = load_study("lab-default", names=["n-service-averaged"])
    asked = parse_config("lorsu", json.loads(request))
    assert row.parsed().model_copy(update={"max_images": asked.max_images}) == asked


def test_step_sizes_are_tried_on_training_tracks_only(lab: Path, tmp_path: Path) -> None:
    told = ["lorsu", *LITTLE, "--validate", "0.5", "1"]
    assert main(arguments(lab, tmp_path, "lab-continual", *told)) == 0
    records = kept(tmp_path, "validation/lab-continual")
    assert set(records) == {"lorsu-at-0.00015-2x2-seed0", "lorsu-at-0.0003-2x2-seed0"}
    half, whole = (records[f"lorsu-at-{rate}-2x2-seed0"] for rate in ("0.00015", "0.0003"))
    assert (half["title"], whole["title"]) == (
        "LoRSU, step size 0.00015",
        "LoRSU, step size 0.0003",
    )
    for rate in ("learning_rate", "fc1_learning_rate"):
        assert half["facts"]["config"][rate] == whole["facts"]["config"][rate] / 2
    assert whole["target"]["photos"] < 7 * 8
    assert kept(tmp_path, "lab-continual") == {}
    main(arguments(lab, tmp_path, "lab-continual", "lorsu", *LITTLE))
    [test] = kept(tmp_path, "lab-continual").values()
    assert test["target"]["digest"] != whole["target"]["digest"]


def test_a_step_size_has_one_name_whatever_factor_leads_to_it() -> None:
    [lorsu] = load_study("lab-continual", names=["lorsu"])
    thrice = at_pace(lorsu, 3)
    [larger] = [lorsu.model_copy(update={"config": thrice.config})]
    again = at_pace(larger, 0.3333333)
    assert again.name == at_pace(lorsu, 1).name == "lorsu-at-0.0003"
    assert again.facts == at_pace(lorsu, 1).facts


def test_no_method_has_no_pace() -> None:
    [plain] = load_study("lab-continual", names=["zero-shot"])
    assert at_pace(plain, 2) is plain
