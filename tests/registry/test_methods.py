from __future__ import annotations

import pytest
from sqlalchemy.exc import StatementError

from registry.methods import list_methods, publish_method
from tests.support.database import NOON, Memory, together


def test_a_published_schema_replaces_the_earlier_one(memory: Memory) -> None:
    for rank in (4, 8):
        with memory.writing() as session:
            publish_method(session, "lorsu", {"properties": {"rank": rank}}, now=NOON)
    with memory.reading() as session:
        [row] = list_methods(session)
        assert (row.name, row.config_schema) == ("lorsu", {"properties": {"rank": 8}})


def test_what_json_cannot_say_is_refused(memory: Memory) -> None:
    with pytest.raises((ValueError, StatementError), match="JSON"), memory.writing() as session:
        publish_method(session, "lorsu", {"default": float("nan")}, now=NOON)


def test_workers_may_publish_at_once(memory: Memory) -> None:
    def publish(_: int) -> None:
        with memory.writing() as session:
            publish_method(session, "lorsu", {}, now=NOON)

    assert together(4, publish) == [None] * 4
