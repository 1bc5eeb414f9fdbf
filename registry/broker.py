"""Celery's configuration for the broker, as plain values; Celery itself is not needed here.

The broker is only a nudge: losing every message delays a job by one sweep of the worker, no more.
"""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl

from registry.addresses import parts_of, place_of, reason_of
from registry.errors import BrokerInvalid, BrokerUnavailable

QUEUE = "edits"
TASK = "emend.run_edit_jobs"
HARD_LIMIT = timedelta(hours=6)
"""The longest an edit is expected to take. One that takes longer goes on: its message is sent
again, and whoever gets it finds nothing to claim."""


def broker_settings(url: str | None, data: Path) -> dict[str, Any]:
    """For a redis:// or rediss:// URL, or, without one, for files in `data/broker` (created here).

    Raises BrokerInvalid, or BrokerUnavailable where the folder cannot be made.
    """
    if url is None:
        return {**_SHARED, **_files(data / "broker")}
    parts = read_url(url)
    # An unacknowledged message is sent again after this: later than any job can take.
    visibility = int(HARD_LIMIT.total_seconds()) + 600
    encrypted = {"broker_use_ssl": _trust(parts.query)} if parts.scheme == "rediss" else {}
    return {
        **_SHARED,
        **encrypted,
        "broker_url": url,
        "broker_transport_options": {
            "visibility_timeout": visibility,
            "socket_connect_timeout": 3,
            "socket_timeout": 5,
            "socket_keepalive": True,
            "max_retries": 0,  # of a nudge: the next one comes soon enough
        },
    }


def read_url(url: str) -> SplitResult:
    """Raises BrokerInvalid, which shows no password, wherever in the URL it may stand."""
    parts = parts_of(url)
    if parts is None or not parts.scheme:
        raise BrokerInvalid
    if parts.scheme not in ("redis", "rediss"):
        raise BrokerInvalid(place_of(parts))
    return parts


def _trust(query: str) -> dict[str, Any]:
    """Whose certificates are accepted: those of the system, or of `?ssl_ca_certs=`. Kombu would
    accept any."""
    files = dict(parse_qsl(query))
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        **({"ssl_ca_certs": files["ssl_ca_certs"]} if "ssl_ca_certs" in files else {}),
    }


_SHARED: dict[str, Any] = {
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    "task_default_queue": QUEUE,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_time_limit": int(HARD_LIMIT.total_seconds()),
    "worker_prefetch_multiplier": 1,
    "worker_send_task_events": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_timeout": 3,
    "broker_connection_max_retries": None,  # a worker never gives up
    "enable_utc": True,
}


def _files(folder: Path) -> dict[str, Any]:
    """Kombu's filesystem transport: what one process writes out the other reads in."""
    messages, control = folder / "messages", folder / "control"
    try:
        for one in (messages, control):
            one.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BrokerUnavailable(f"in the folder {folder}", reason_of(problem)) from problem
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(messages),
            "data_folder_out": str(messages),
            "control_folder": str(control),
            "store_processed": False,
        },
        "worker_enable_remote_control": False,  # broadcasts would pile up as files
    }
