"""An experiment: one method in one protocol, as small TOML files say it.

`defaults.toml` holds what all share, `experiments/<study>/defaults.toml` what a study changes,
`experiments/<study>/<name>.toml` what this one changes: later wins, field by field, also within
`[config]`. A study is a table: its experiments are its rows.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.methods import parse
from benchmark.within import Limits
from editing.errors import InvalidConfig, UnknownMethod
from editing.methods import MethodConfig

HERE = Path(__file__).parent
DEFAULTS = HERE / "defaults.toml"
EXPERIMENTS = HERE / "experiments"
SHARED = "defaults.toml"


class ExperimentInvalid(Exception):
    """A file that says something which cannot be, with the field."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.path, self.problems = path, tuple(problems)
        super().__init__(f"{path}: {'; '.join(problems)}")


class StudyUnknown(Exception):
    """There is no such study, or no such experiment in it."""

    def __init__(self, what: str, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f"no {what} {name!r}; there are {', '.join(known) or 'none'}")


class Experiment(BaseModel):
    """One row of a study's table."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    study: str
    name: str
    title: str = Field(min_length=1, description="as the tables name it")
    method: str | None = Field(None, description="None: the encoder as it is")
    config: Mapping[str, Any] = Field(
        default_factory=dict, description="over the method's own defaults"
    )
    data: str = Field(description="what is learnt, by the name of its loader")
    encoder: str = Field("", description="as `load_encoder` takes it; empty: the data's own")
    pretrained: str | None = Field(None, description="tag or file of an open_clip model's weights")
    protocol: Literal["offline", "continual", "refit"] = Field(
        description="one update on all; updates on top of each other without replay; each update "
        "fitted from the base on all images so far"
    )
    shots: int = Field(ge=0, description="photos a class; 0: all")
    updates: int = Field(ge=1, le=1000, description="in which the classes come")
    seeds: tuple[int, ...] = Field(min_length=1, description="of draws and fits")
    controls: tuple[str, ...] = Field((), description="sets that must not change, by name")
    watched: tuple[str, ...] = Field((), description="those that are asked after every update")
    guard: str = Field("", description="control set whose photos train the guard term; half of it")
    within: Mapping[str, Limits] = Field(
        default_factory=dict,
        description="what control sets bear, by name: an edit then has no more strength than that",
    )
    probe: int = Field(ge=1, description="test photos a class that are asked after every update")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.guard and self.guard not in self.controls:
            raise ValueError(f"guard {self.guard!r} is not among the controls")
        for name in self.within:
            if name not in self.controls:
                raise ValueError(f"within {name!r}: it is not among the controls")
        if self.protocol == "offline" and self.updates != 1:
            raise ValueError(f"offline is one update, not {self.updates}")
        return self

    def parsed(self) -> MethodConfig:
        """The method's whole config. Raises UnknownMethod, InvalidConfig, ValueError for none."""
        if self.method is None:
            raise ValueError(f"{self.name} has no method")
        return parse(self.method, self.config)

    @property
    def facts(self) -> dict[str, Any]:
        """Everything of it that a result depends on, the method's own defaults included."""
        told = self.model_dump(mode="json", exclude={"study", "name", "title", "seeds", "config"})
        if not self.within:
            del told["within"]  # as runs are kept that were made before there were limits
        told["config"] = {} if self.method is None else config_facts(self.parsed())
        return told


def config_facts(config: MethodConfig) -> dict[str, Any]:
    """All its settings, JSON-able; the same for runs that were kept before there was one that only
    some use."""
    told = config.model_dump(mode="json")
    if not config.averaging:
        del told["averaging"]
    return told


def shared_variations() -> dict[str, float]:
    """Of photos, in every study that does not say its own. Fields of `Augmentation`, those that the
    shared file says. Raises ExperimentInvalid."""
    shared: dict[str, float] = _read(DEFAULTS).get("config", {}).get("augmentation", {})
    return shared


def studies(root: Path = EXPERIMENTS) -> list[str]:
    """Names of all studies."""
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def load_study(
    study: str,
    *,
    names: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    root: Path = EXPERIMENTS,
) -> list[Experiment]:
    """Its experiments, all or those of these names, with `changes` over what the files say.

    Raises StudyUnknown, ExperimentInvalid.
    """
    files = _files(study, root)
    for name in names:
        if name not in files:
            raise StudyUnknown(f"experiment of {study}", name, sorted(files))
    chosen = {name: files[name] for name in names} if names else files
    return [_load(study, name, path, changes or {}) for name, path in chosen.items()]


def experiment_names(study: str, root: Path = EXPERIMENTS) -> list[str]:
    """Names of a study's experiments. Raises StudyUnknown."""
    return list(_files(study, root))


def _files(study: str, root: Path) -> dict[str, Path]:
    if study not in studies(root):
        raise StudyUnknown("study", study, studies(root))
    files = {path.stem: path for path in sorted((root / study).glob("*.toml"))}
    files.pop(Path(SHARED).stem, None)
    return files


def _load(study: str, name: str, path: Path, changes: Mapping[str, Any]) -> Experiment:
    told: dict[str, Any] = {"study": study, "name": name}
    for each in (DEFAULTS, path.parent / SHARED, path):
        if each.exists():
            told = merged(told, _read(each))
    told = merged(told, changes)
    try:
        experiment = Experiment.model_validate(told)
        if experiment.method is not None:
            experiment.parsed()
    except ValidationError as error:
        problems = [": ".join([*map(str, e["loc"]), e["msg"]]) for e in error.errors()]
        raise ExperimentInvalid(path, problems) from error
    except (InvalidConfig, UnknownMethod) as error:
        raise ExperimentInvalid(path, [str(error)]) from error
    return experiment


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentInvalid(path, [f"it is not TOML ({error})"]) from error


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, field by field, tables within tables too."""
    told = dict(below)
    for key, value in above.items():
        old = told.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        told[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return told
