"""How methods are found by the names of their files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import benchmark.methods
from benchmark.methods import NotOneMethod, find_method, method_names, parse
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


def test_the_services_methods_are_found_by_their_names(write: Write) -> None:
    write("lorsu", WIDER)
    for name, config in METHODS.items():
        assert find_method(name) is config
    assert method_names() == list(METHODS)


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
