"""`docker compose up` on a real engine: healthy, safe, and it does what the product promises."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from client import EmendClient
from tests.support.deployed import agree_within_a_second, improve_and_roll_back, known_to
from tests.support.stack import Stack, docker

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]
HEALTHY_SECONDS = 60


def test_one_command_makes_everything_healthy(
    stack: Stack, record_property: pytest.RecordProperty
) -> None:
    """From nothing: no volume, no secret, no table."""
    stack.end()
    assert not stack.volumes()
    seconds = stack.up()
    record_property("seconds_until_healthy", round(seconds, 1))
    assert seconds <= HEALTHY_SECONDS
    for container in stack.containers():
        assert stack.inspect(container)["State"]["Health"]["Status"] == "healthy"
    with EmendClient(stack.url) as client:
        assert client.get("/health/ready")["live"] == 0


def test_nobody_runs_as_root_or_can_write_the_root(service: EmendClient, stack: Stack) -> None:
    assert service.get("/health/live")
    for container in stack.containers():
        users = docker("top", container, "-eo", "pid,uid").split()[3::2]
        assert users
        assert "0" not in users
        assert stack.inspect(container)["HostConfig"]["ReadonlyRootfs"]


def test_only_the_door_has_a_port_and_on_loopback(service: EmendClient, stack: Stack) -> None:
    assert service.get("/health/live")
    published = {
        container: ports
        for container in stack.containers()
        if (ports := stack.inspect(container)["HostConfig"]["PortBindings"])
    }
    (ports,) = published.values()
    assert ports == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]}


def test_no_password_shows_anywhere(service: EmendClient, stack: Stack) -> None:
    assert service.get("/health/live")
    api = f"{stack.project}-api-1"
    files = [f"/run/secrets/{each}/password" for each in ("database", "broker")]
    passwords = [docker("exec", api, "cat", file) for file in files]
    assert len({*passwords}) == 2
    everything = stack.run("config").stdout + stack.run("logs").stdout
    for container in stack.containers():
        everything += docker("inspect", container) + docker("top", container, "-eo", "pid,args")
        everything += docker("exec", container, "env")
    for password in passwords:
        assert len(password) >= 32
        assert password not in everything


def test_corrections_become_a_better_encoder_and_roll_back(service: EmendClient) -> None:
    improve_and_roll_back(service)


def test_three_replicas_and_two_workers_agree_within_a_second(
    service: EmendClient, stack: Stack
) -> None:
    """Follows the loop's test: version 1 is there."""
    stack.up("--scale", "api=3", "--scale", "worker=2")
    assert len(stack.containers("worker")) == 2
    with ExitStack() as open_clients:
        replicas = [
            open_clients.enter_context(stack.replica(each)) for each in stack.containers("api")
        ]
        assert len(replicas) == 3
        agree_within_a_second(service, replicas)


def test_down_leaves_the_volumes_and_up_finds_everything(
    service: EmendClient, stack: Stack
) -> None:
    """Follows the loop's test: its versions and corrections are what must still be there."""
    known = known_to(service)
    volumes = stack.volumes()
    assert {"database", "artifacts", "database-secret", "broker-secret"} <= set(volumes)
    stack.run("down")
    assert stack.volumes() == volumes
    assert not stack.containers()
    stack.up()
    assert known_to(service) == known
