"""Methods that the service does not offer, a module each: a file here is a method of its name.

A module holds one subclass of `MethodConfig`; whatever else it needs lies elsewhere.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from editing.errors import EditError, UnknownMethod
from editing.methods import METHODS, MethodConfig, validated


class NotOneMethod(EditError):
    """A module of this folder holds no method, or several."""

    def __init__(self, module: str, found: list[str]) -> None:
        held = " and ".join(found) or "none"
        super().__init__(f"{module} must hold one subclass of MethodConfig; it holds {held}")
        self.found = found


class NameTaken(EditError):
    """A module of this folder has the name of a method of the service."""

    def __init__(self, module: str) -> None:
        super().__init__(f"{module} has the name of a method of the service; give it another one")


def method_names() -> list[str]:
    """The service's methods, then those of this folder."""
    return [*METHODS, *_modules()]


def find_method(name: str) -> type[MethodConfig]:
    """The method of this name. Raises UnknownMethod, NotOneMethod, NameTaken."""
    modules = _modules()
    if name in METHODS:
        if name in modules:
            raise NameTaken(f"{__name__}.{name}")
        return METHODS[name]
    if name not in modules:
        raise UnknownMethod(name, method_names())
    module = importlib.import_module(f"{__name__}.{name}")
    found = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, MethodConfig) and member.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise NotOneMethod(module.__name__, [each.__name__ for each in found])
    return found[0]


def parse(name: str, values: Mapping[str, Any]) -> MethodConfig:
    """The method's config with `values` over its defaults.

    Raises UnknownMethod, NotOneMethod, NameTaken, InvalidConfig.
    """
    return validated(find_method(name), name, values)


def _modules() -> list[str]:
    return sorted(found.name for found in pkgutil.iter_modules(__path__))
