"""Whether the broker answers, asked before a process starts.

Later it may go away and come back: it carries nudges only. But a URL or password that was wrong
from the start would leave every job to wait for the worker's own look, and nobody would know.
"""

from __future__ import annotations

import time

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from registry.addresses import place_of
from registry.broker import read_url
from registry.errors import BrokerUnavailable

ANSWER_SECONDS = 2.0
ASK_AGAIN_SECONDS = 0.25
PATIENCE_SECONDS = 5.0
"""A broker that starts at the same time is waited for so long."""


def check_broker(url: str | None, *, patience: float = PATIENCE_SECONDS) -> None:
    """Nothing to ask for the embedded broker (None). Raises BrokerInvalid, or BrokerUnavailable: at
    once when the broker refuses the password, else after `patience` seconds."""
    if url is None:
        return
    where = place_of(read_url(url))
    deadline = time.monotonic() + patience
    while True:
        try:
            _ask(url)
        except (AuthenticationError, ResponseError) as refusal:
            raise BrokerUnavailable(where, str(refusal)) from refusal
        except (ValueError, TypeError) as refusal:  # of the client: it says what it was given
            raise BrokerUnavailable(
                where, "its URL holds what the client does not know"
            ) from refusal
        except (NoConnection, NoAnswer, OSError) as silence:
            if time.monotonic() >= deadline:
                raise BrokerUnavailable(where, str(silence)) from silence
        except RedisError as problem:
            raise BrokerUnavailable(where, str(problem)) from problem
        else:
            return
        time.sleep(ASK_AGAIN_SECONDS)


def _ask(url: str) -> None:
    timeouts = {"socket_connect_timeout": ANSWER_SECONDS, "socket_timeout": ANSWER_SECONDS}
    with Redis.from_url(url, **timeouts) as broker:
        broker.ping()
