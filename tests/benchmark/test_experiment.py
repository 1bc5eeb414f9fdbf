"""Experiments as files: layers, and what is refused with the file and the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.experiment import (
    DEFAULTS,
    EXPERIMENTS,
    ExperimentInvalid,
    StudyUnknown,
    load_study,
    merged,
    studies,
)
from editing.methods import LorsuConfig, SpuConfig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A study of one experiment."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "defaults.toml").write_text("shots = 5\n[config]\nepochs = 3\n")
    write(tmp_path, 'title = "LoRSU"\nmethod = "lorsu"\n[config]\nrank = 4\n')
    return tmp_path


def write(root: Path, text: str) -> None:
    (root / "mine" / "lorsu.toml").write_text(text)


def test_later_layers_win_field_by_field(root: Path) -> None:
    [experiment] = load_study("mine", root=root)
    config = experiment.parsed()
    assert isinstance(config, LorsuConfig)
    assert (experiment.shots, config.epochs, config.rank) == (5, 3, 4)
    assert config.batch_size == 16  # of the file that all share
    assert config.fc1_fraction == LorsuConfig().fc1_fraction  # of the method
    [changed] = load_study("mine", root=root, changes={"shots": 1, "config": {"epochs": 9}})
    assert (changed.shots, changed.parsed().epochs, changed.config["rank"]) == (1, 9, 4)


def test_merging_leaves_its_parts_alone() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merged(below, {"a": {"b": 9}}) == {"a": {"b": 9, "c": 2}, "d": 3}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}


def test_facts_hold_the_whole_config_and_not_the_name(root: Path) -> None:
    [experiment] = load_study("mine", root=root)
    facts = experiment.facts
    assert facts["config"]["fc1_fraction"] == LorsuConfig().fc1_fraction
    assert not {"name", "title", "study", "seeds"} & set(facts)


def test_limits_are_facts_where_there_are_any(root: Path) -> None:
    [plain] = load_study("mine", root=root)
    assert "within" not in plain.facts  # nor in those of runs that were kept before
    [limited] = load_study("mine", root=root, changes={"within": {"lab/ten": {"lost": 0.5}}})
    assert limited.facts["within"] == {"lab/ten": {"lost": 0.5, "flips": 100}}
    assert limited.facts["config"] == plain.facts["config"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('title = "x"\nmethod = "lorsu"\n[config]\nranks = 4\n', "ranks"),
        ('title = "x"\nmethod = "lorsu"\n[config]\nrank = 0\n', "rank"),
        ('title = "x"\nmethod = "magic"\n', "magic"),
        ('title = "x"\nprotocol = "online"\n', "protocol"),
        ('title = "x"\nshot = 4\n', "shot"),
        ("method = 'lorsu'\n", "title"),
        ('title = "x"\n[within.mine]\nlost = 1\n', "within 'mine': it is not among the controls"),
        ('title = "x"\n[within."lab/ten"]\nlost = -1\n', "within: lab/ten: lost"),
        ("title = \n", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_field(root: Path, text: str, told: str) -> None:
    write(root, text)
    with pytest.raises(ExperimentInvalid, match=told) as refused:
        load_study("mine", root=root)
    assert "lorsu.toml" in str(refused.value)


def test_what_there_is_not_is_told_with_what_there_is(root: Path) -> None:
    with pytest.raises(StudyUnknown, match="'yours'; there are mine"):
        load_study("yours", root=root)
    with pytest.raises(StudyUnknown, match="'spu'; there are lorsu"):
        load_study("mine", names=["spu"], root=root)


@pytest.mark.parametrize("study", studies())
def test_every_file_of_ours_is_an_experiment(study: str) -> None:
    experiments = load_study(study)
    assert experiments
    titles = [each.title for each in experiments]
    assert len(set(titles)) == len(titles)


def test_the_papers_study_has_every_method_of_the_paper() -> None:
    experiments = {each.name: each for each in load_study("lab-continual")}
    methods = {each.method for each in experiments.values()}
    assert methods == {None, "lorsu", "full_finetune", "layernorm", "lora", "spu"}
    lorsu, spu = experiments["lorsu"].parsed(), experiments["spu"].parsed()
    assert isinstance(lorsu, LorsuConfig)
    assert isinstance(spu, SpuConfig)
    assert (lorsu.heads, lorsu.rank, lorsu.fc1_fraction, spu.fc1_fraction) == (2, 32, 0.05, 0.1)
    assert {each.parsed().loss for each in experiments.values() if each.method} == {"contrastive"}
    steps = {(c.epochs, c.batch_size, c.rounds) for c in (lorsu, spu)}
    assert len(steps) == 1
    assert DEFAULTS.exists()
    assert EXPERIMENTS.is_dir()
