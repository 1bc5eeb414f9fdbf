"""Asks the API whether it is ready, until it is."""

from __future__ import annotations

import http.client
import threading
import urllib.parse

from supervisor.events import Events, Ready

ASK_EVERY_SECONDS = 0.25
ANSWER_WITHIN_SECONDS = 5.0


def is_ready(url: str) -> bool:
    """True when `GET {url}/health/ready` answers 200."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=ANSWER_WITHIN_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def announce_when_ready(url: str, events: Events, stopped: threading.Event) -> None:
    """Puts `Ready` on the queue once; runs in a thread of its own."""
    while not is_ready(url):
        if stopped.wait(ASK_EVERY_SECONDS):
            return
    events.put(Ready())
