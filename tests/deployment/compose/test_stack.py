"""`docker compose up` on a real engine: healthy, safe, and it does what the product promises."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from client import EmendClient
from demo.photos import Pictures, digits
from tests.support.pictures import first_of_each
from tests.support.stack import Stack, docker

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]
HEALTHY_SECONDS = 60
AGREE_SECONDS = 1.0


def _right(service: EmendClient, pictures: Pictures) -> float:
    answers = service.answers(pictures.images, label_set="digits")
    pairs = zip(answers, pictures.labels, strict=True)
    return sum(answer == label for answer, label in pairs) / len(pictures.labels)


def test_one_command_makes_everything_healthy(
    stack: Stack, record_property: pytest.RecordProperty
) -> None:
    """From nothing: no volume, no secret, no table."""
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
    material = digits(seed=1)
    given = first_of_each(material.corrections, 3, labels=4)
    held_out = first_of_each(material.held_out, 10, labels=4)
    service.put_label_set("digits", list(dict.fromkeys(given.labels)), [material.template])
    before = service.classify(held_out.images, label_set="digits")
    right_before = _right(service, held_out)
    assert _right(service, given) < 0.7
    (job,) = service.correct(given.images, given.labels, label_set="digits")
    ended = service.wait_job(job)
    assert service.adapter("live")["version"] == ended["adapter"] == 1
    assert _right(service, given) >= 0.98
    assert _right(service, held_out) >= right_before + 0.2
    service.promote(0, "undo")
    assert service.adapter("live")["version"] == 0
    after = service.classify(held_out.images, label_set="digits")
    assert [each["labels"] for each in after] == [each["labels"] for each in before]


def test_three_replicas_and_two_workers_agree_within_a_second(
    service: EmendClient, stack: Stack
) -> None:
    """Follows the loop's test: version 1 is there. No question that is asked more than a second
    after a promotion is answered by the version before."""
    stack.up("--scale", "api=3", "--scale", "worker=2")
    assert len(stack.containers("worker")) == 2
    image = digits(seed=1).held_out.images[0]
    with ExitStack() as open_clients:
        replicas = [
            open_clients.enter_context(stack.replica(each)) for each in stack.containers("api")
        ]
        assert len(replicas) == 3
        for version in (1, 0, 1):
            service.promote(version, "do they agree?")
            promoted = time.monotonic()
            for replica in replicas:
                asked = time.monotonic()
                while _version(replica, image) != version:
                    assert asked - promoted <= AGREE_SECONDS
                    asked = time.monotonic()


def _version(service: EmendClient, image: bytes) -> int:
    """Which one answers."""
    labels = {"label": ["one", "two"]}
    answer = service.request("POST", "/classify", files={"image": image}, data=labels)
    return int(answer.headers["X-Adapter-Version"])


def test_down_leaves_the_volumes_and_up_finds_everything(
    service: EmendClient, stack: Stack
) -> None:
    """Follows the loop's test: its versions and corrections are what must still be there."""
    known = [service.get(path) for path in ("/promotions", "/corrections", "/edit-jobs")]
    weights = service.request("GET", "/adapters/1/weights").content
    volumes = stack.volumes()
    assert {"database", "artifacts", "database-secret", "broker-secret"} <= set(volumes)
    stack.run("down")
    assert stack.volumes() == volumes
    assert not stack.containers()
    stack.up()
    assert [service.get(path) for path in ("/promotions", "/corrections", "/edit-jobs")] == known
    assert service.request("GET", "/adapters/1/weights").content == weights
