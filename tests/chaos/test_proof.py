"""A storm that did not blow, or of which nothing came, is no proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.faults import Injected
from chaos.proof import (
    clients_lasted,
    corrections_flowed,
    faults_were_injected,
    messages_came_twice,
    services_come_back,
    services_live,
)
from chaos.stack import Death, Window
from tests.chaos.history import NOON, good_evidence, good_ledger

PLANNED = (("api killed",), ("broker flushed", "api killed"))
SERVICES = ("api-1", "worker-1")


def injected(kind: str, *, done: bool) -> Injected:
    return Injected(kind, NOON, 1.0, done)


def death(service: str, code: int = 1, *, planned: bool = False, served: bool = True) -> Death:
    return Death(service, code, planned, served, NOON)


def test_a_kind_needs_one_chance_in_the_whole_storm() -> None:
    both = [injected("api killed", done=True), injected("broker flushed", done=True)]
    assert list(faults_were_injected(PLANNED, both)) == []
    assert list(faults_were_injected(PLANNED, [injected("api killed", done=False), *both])) == []


def test_a_kind_without_a_chance_is_named_and_so_is_one_that_was_never_tried() -> None:
    found = list(faults_were_injected(PLANNED, [injected("api killed", done=False)] * 3))
    assert [one.detail for one in found] == [
        "api killed: no chance in 3 tries",
        "broker flushed: never tried",
    ]


def test_no_message_twice_is_found() -> None:
    assert list(messages_came_twice(1, 9)) == []
    assert len(list(messages_came_twice(0, 9))) == 1


def test_corrections_have_to_flow_and_be_learnt() -> None:
    evidence, accepted = good_evidence(), good_ledger().accepted()

    def found(names: set[str], changed: object = evidence, *, wanted: int = 1) -> int:
        assert isinstance(changed, type(evidence))
        return len(list(corrections_flowed(names, wanted, changed)))

    assert found(set(accepted), wanted=7) == 0
    assert found(set(accepted), wanted=8) == 1
    assert found({"d", "e", "f", "g", "lost"}) == 1, "rejected, failed, forgotten, cancelled, lost"
    assert found(set(accepted), replace(evidence, promotions=evidence.promotions[:1])) == 1
    ended = {name: replace(job, status="failed") for name, job in evidence.jobs.items()}
    assert found(set(accepted), replace(evidence, jobs=ended)) == 1


def test_a_client_that_ended_by_itself_is_found() -> None:
    assert list(clients_lasted([])) == []
    assert len(list(clients_lasted(["Sender"]))) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_who_served_dies_by_our_hand_only(service: str) -> None:
    assert list(services_live([death(service, -9, planned=True)])) == []
    assert list(services_live([death(service, 1, served=False)])) == [], "it refuses to start"
    for code in (0, 1, -6, -9):
        assert len(list(services_live([death(service, code)]))) == 1
    assert len(list(services_live([death(service, -11, served=False)]))) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_who_was_killed_comes_back_within_a_minute(service: str) -> None:
    killed = [death(service, -9, planned=True)]

    def late(*windows: Window, deaths: list[Death] = killed) -> int:
        return len(list(services_come_back(SERVICES, deaths, windows, now=NOON + 90)))

    assert late(Window(service, NOON, NOON + 59)) == 0
    assert late(Window(service, NOON, NOON + 61)) == 1
    assert late(Window(service, NOON, None)) == 1, "it is still down"
    again = replace(killed[0], at=NOON + 40)
    assert late(Window(service, NOON, NOON + 90), deaths=[*killed, again]) == 0, "killed again"
    assert late(Window("redis", NOON, None)) == 0
    assert late(Window(service, NOON - 200, NOON - 100)) == 0, "before it was killed"
