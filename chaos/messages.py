"""The broker's messages: seen as they are sent, delivered twice, sent for one job to all."""

from __future__ import annotations

import ast
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from registry.broker import QUEUE, TASK, broker_settings

PUSHED = re.compile(rb'"LPUSH" "' + QUEUE.encode() + rb'" (".*")\r\n$')
ASK_SECONDS = 2.0
COUNT_EVERY_SECONDS = 0.1


@dataclass
class Duplicator:
    """Sends every message to the queue once more, as a broker does that missed its acknowledgement.

    It learns of them from MONITOR, so none is too quick for it; what comes before MONITOR is heard
    again after the broker was away is not sent twice. `counted` is what the broker itself has
    counted meanwhile, less the copies: what was sent at all, but for the last moment of a broker
    that went away.
    """

    url: str
    duplicated: int = 0
    counted: int = 0
    _known: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._threads = [
            threading.Thread(target=run, name="duplicator", daemon=True)
            for run in (self._run, self._count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=5 * ASK_SECONDS)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with Redis.from_url(self.url, socket_timeout=ASK_SECONDS) as broker:
                    for message in _pushed(self.url, self._over):
                        self._again(broker, message)
            except (RedisError, OSError):
                self._over.wait(0.1)  # it is down for the moment

    def _count(self) -> None:
        """A broker that came back counts from nothing."""
        before, latest = 0, 0
        while not self._over.wait(COUNT_EVERY_SECONDS):
            try:
                with Redis.from_url(self.url, socket_timeout=ASK_SECONDS) as broker:
                    while not self._over.wait(COUNT_EVERY_SECONDS):
                        now = _pushes(broker)
                        if now < latest:
                            before += latest
                        latest = now
                        self.counted = before + latest - self.duplicated
            except (RedisError, OSError):
                continue  # it is down for the moment

    def _again(self, broker: Redis, message: bytes) -> None:
        name = str(json.loads(message)["headers"]["id"])
        if name in self._known:
            return
        self._known.add(name)
        broker.lpush(QUEUE, message)
        self.duplicated += 1


def _pushes(broker: Redis) -> int:
    """How often anybody has put something into a list, since the broker was started."""
    told: Any = broker.info("commandstats")
    return int(told.get("cmdstat_lpush", {}).get("calls", 0))


def _pushed(url: str, over: threading.Event) -> Iterator[bytes]:
    """Every message from now on. Raises OSError when the broker goes away."""
    place = urlsplit(url)
    address = (str(place.hostname), place.port or 6379)
    with socket.create_connection(address, timeout=ASK_SECONDS) as line:
        line.sendall(b"MONITOR\r\n")
        heard = b""
        while not over.is_set():
            try:
                more = line.recv(65536)
            except TimeoutError:
                continue
            if not more:
                raise ConnectionError("the broker closed the connection")
            *lines, heard = (heard + more).split(b"\n")
            for said in lines:
                if found := PUSHED.search(said + b"\n"):
                    # Redis escapes as Python does.
                    yield ast.literal_eval("b" + found[1].decode("ascii"))


def send_to_all(url: str, job_id: str, copies: int) -> None:
    """As many messages for one job, at once. Raises kombu's OperationalError."""
    sender = Celery("emend", set_as_current=False)
    sender.conf.update(broker_settings(url, Path()))
    for _ in range(copies):
        sender.send_task(TASK, [job_id], queue=QUEUE, retry=False)
    sender.close()


def flush(url: str) -> None:
    """Every message is lost."""
    with Redis.from_url(url, socket_timeout=ASK_SECONDS) as broker:
        broker.flushall()
