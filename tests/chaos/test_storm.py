"""A small storm over the real stack: the room cannot rot, and nothing is lost in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.local_stack import local_stack
from chaos.report import lines, to_json
from chaos.storm import Plan, Storm
from servers import postgres, redis
from tests.support.servers import require_server

FAULTS = (("worker killed while training", "broker flushed"), ("database restarted",))
CORRECTIONS = 30


@pytest.mark.timeout(240)
def test_a_small_storm_loses_nothing(tmp_path: Path) -> None:
    require_server(postgres.why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    require_server(redis.why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    said: list[str] = []
    with local_stack(apis=1, workers=1, keep=tmp_path) as stack:
        plan = Plan(seed=7, corrections=CORRECTIONS, faults=FAULTS, every=1.5, between=0.5)
        outcome = Storm(stack, plan, said.append).run()
    facts = {"full_disk": stack.full_disk, "commit": "here"}
    report = to_json(outcome, seed=7, seconds=1.0, facts=facts)
    assert outcome.violations == [], "\n".join(lines(report))
    assert report["losses"] == 0
    assert report["faults"] == {
        "broker flushed": 1,
        "database restarted": 1,
        "worker killed while training": 1,
    }
    assert report["processes_that_died"] == {"worker-1 killed": 1}
    assert report["corrections"]["accepted"] >= CORRECTIONS
    assert report["corrections"]["live"] > 0
    assert report["messages_delivered_twice"] > 0
    assert json.loads(json.dumps(report)) == report
    assert len(said) >= len(FAULTS)
