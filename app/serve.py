"""Runs the service with uvicorn until it is told to stop, or cannot go on."""

from __future__ import annotations

import contextlib
import logging
import sys
from types import FrameType

import uvicorn

from app.main import create_app
from app.services import Services
from app.settings import Settings

STOP_SECONDS = 5


class Server(uvicorn.Server):
    """Ends event streams when it is told to stop, so that they do not hold it up."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGINT and SIGTERM, on the main thread."""
        self._services.stopping.set()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> int:
    """The exit status: 1 when the encoder could not be loaded or a thread that must run ended,
    which is said on stderr.

    Raises what `create_app` raises.
    """
    _log_our_rooms()
    app = create_app(settings)
    services: Services = app.state.services
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = Server(config, services)
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        failures.append(error)
        sys.stderr.write(f"Emend cannot start: {error}\n")
        services.stopping.set()
        server.should_exit = True

    services.encoder.on_failure = fail
    services.vlm.on_failure = fail
    services.desk.on_failure = fail
    services.predictions.on_failure = fail
    with contextlib.suppress(KeyboardInterrupt):  # raised again by uvicorn once it has stopped
        server.run()
    return 1 if failures or not server.started else 0


def _log_our_rooms() -> None:
    """Our rooms from INFO on; libraries that log through the root only their errors."""
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    for room in ("app", "encoder", "registry"):
        logging.getLogger(room).setLevel(logging.INFO)
