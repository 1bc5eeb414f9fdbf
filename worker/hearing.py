"""Does anybody still hear the broker's messages?

A loop that waits on a connection which is closed does not fail, nor does a broker that hangs:
messages are sent, and nobody takes them. It shows in the database only, where jobs are due and none
runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

DEAF_SECONDS = 8.0
"""Two messages went unheard; an idle worker takes one within milliseconds."""


@dataclass
class Hearing:
    """Shared by the thread that sends and the one that hears."""

    _since: float | None = None  # monotonic seconds of the first message that nobody took up

    def sent(self) -> None:
        """A message that should start a job was handed to the broker."""
        if self._since is None:
            self._since = time.monotonic()

    def settle(self) -> None:
        """Somebody heard, or there is nothing to be heard."""
        self._since = None

    @property
    def lost(self) -> bool:
        return self._since is not None and time.monotonic() - self._since > DEAF_SECONDS
