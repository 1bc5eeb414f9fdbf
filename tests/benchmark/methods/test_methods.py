"""How methods are found by the names of their files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import benchmark.methods
from benchmark.methods import NameTaken, NotOneMethod, find_method, method_names, parse
from benchmark.run import main
from editing.errors import InvalidConfig, UnknownMethod
from editing.methods import METHODS, LorsuConfig

WIDER = """
from pydantic import Field
from editing.methods import LorsuConfig

class WiderConfig(LorsuConfig):
    width: int = Field(2, ge=1)
"""
Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Adds a file to the folder of methods."""
    monkeypatch.setattr(benchmark.methods, "__path__", [str(tmp_path)])
    known = set(sys.modules)
    yield lambda name, source: (tmp_path / f"{name}.py").write_text(source) and None
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.usefixtures("write")
def test_the_services_methods_are_found_by_their_names() -> None:
    for name, config in METHODS.items():
        assert find_method(name) is config
    assert method_names() == list(METHODS)


def test_a_file_may_not_have_the_name_of_a_method_of_the_service(write: Write) -> None:
    """Its runs would be the service's, under its own title."""
    write("spu", WIDER)
    with pytest.raises(NameTaken, match=r"benchmark\.methods\.spu .* another"):
        find_method("spu")
    assert find_method("lora") is METHODS["lora"]


def test_a_file_is_a_method(write: Write) -> None:
    write("wider", WIDER)
    assert "wider" in method_names()
    assert find_method("wider").__name__ == "WiderConfig"
    config = parse("wider", {"rank": 3, "width": 4})
    assert isinstance(config, LorsuConfig)
    assert (config.rank, config.model_dump()["width"]) == (3, 4)


def test_a_wrong_setting_is_refused_by_field(write: Write) -> None:
    write("wider", WIDER)
    with pytest.raises(InvalidConfig, match="configuration of wider") as caught:
        parse("wider", {"width": 0, "rnak": 1})
    assert sorted(field for field, _ in caught.value.problems) == ["rnak", "width"]


@pytest.mark.parametrize("name", ["magic", "wider.py", "../wider", "wider.inner", ""])
def test_an_unknown_name_is_told_with_all_that_are_known(write: Write, name: str) -> None:
    write("wider", WIDER)
    with pytest.raises(UnknownMethod, match=r"known: lorsu, .*, wider$"):
        parse(name, {})


@pytest.mark.parametrize(
    ("source", "held"),
    [
        ("from editing.methods import LorsuConfig", "it holds none"),
        (WIDER + WIDER.replace("Wider", "Another"), "AnotherConfig and WiderConfig"),
    ],
)
def test_a_file_holds_one_method(write: Write, source: str, held: str) -> None:
    write("odd", source)
    with pytest.raises(NotOneMethod, match=rf"benchmark\.methods\.odd must .*{held}"):
        find_method("odd")


def test_a_study_of_such_a_file_stops_with_a_sentence(
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.delitem(sys.modules, "benchmark.methods.layerwise_lorsu", raising=False)
    write("layerwise_lorsu", WIDER + WIDER.replace("Wider", "Another"))
    assert main(["lab-default", "i-layerwise", "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("the study stopped: benchmark.methods.layerwise_lorsu must hold one")
