"""Checks an edit's config against the schema that the workers published for its method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from sqlalchemy.orm import Session

from app.errors import ConfigInvalid, MethodUnknown, NoMethodsAnnounced
from registry.methods import list_methods


def check_config(session: Session, method: str, config: Mapping[str, Any]) -> None:
    """Raises `NoMethodsAnnounced`, `MethodUnknown`, or `ConfigInvalid` naming each wrong field."""
    schemas = {row.name: row.config_schema for row in list_methods(session)}
    if not schemas:
        raise NoMethodsAnnounced
    if method not in schemas:
        raise MethodUnknown(method, tuple(schemas))
    problems = [
        problem
        for error in Draft202012Validator(schemas[method]).iter_errors(dict(config))
        for problem in _problems(error)
    ]
    if problems:
        raise ConfigInvalid(method, tuple(sorted(problems)))


def _problems(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(field, reason) pairs of one violation."""
    path = [str(part) for part in error.absolute_path]
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
        for name in sorted(set(error.instance) - set(known)):
            yield ".".join(["config", *path, name]), "unknown field"
    else:
        yield ".".join(["config", *path]), error.message[:200]
