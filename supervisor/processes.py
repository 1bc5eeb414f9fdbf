"""Which processes make up the service, and where its API will answer.

The environment is handed on to the processes as it is; only the address is read, for the ready
line and the ready check.
"""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict

MIGRATE = ("app", ["app", "migrate"])
SERVE = (("app", ["app"]), ("worker", ["worker"]))
"""Name in the log, and what follows `python -m`."""


class Address(BaseSettings):
    """Of the API; the names and defaults are those of the API's own settings."""

    model_config = SettingsConfigDict(
        env_prefix="EMEND_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    host: str = "127.0.0.1"
    port: int = 8000

    @property
    def url(self) -> str:
        """For people and for the ready check; a wildcard host is reached on loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
