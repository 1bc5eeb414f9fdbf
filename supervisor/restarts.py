"""When a process that died may start again, and when to stop trying."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.errors import DiesAtOnce


@dataclass(frozen=True)
class RestartPolicy:
    """Seconds unless said otherwise; a process that lived for `settled` has a clean slate."""

    first_delay: float = 0.5
    longest_delay: float = 10.0
    settled: float = 30.0
    deaths_at_once: int = 3  # count


@dataclass
class RestartRecord:
    """How one process has fared; clock readings are `time.monotonic()` seconds."""

    policy: RestartPolicy
    started_at: float = 0.0
    deaths: int = 0  # in a row, before it settled
    refusals: int = 0  # of these, the ones where it ended by itself

    def started(self, now: float) -> None:
        self.started_at = now

    def delay_after_death(
        self, name: str, exit_code: int, now: float, *, has_served: bool = False
    ) -> float:
        """Seconds to wait before the next start.

        Raises `DiesAtOnce` when the process keeps ending by itself before it settled. A process
        that a signal killed did not refuse to run, so it is always started again; and a service
        that `has_served` was set up well, so what ails it now (a full disk, a database that is
        away) may pass: it is tried for as long as it takes.
        """
        if now - self.started_at >= self.policy.settled:
            self.deaths = self.refusals = 0
        self.deaths += 1
        if exit_code >= 0:
            self.refusals += 1
        if self.refusals >= self.policy.deaths_at_once and not has_served:
            raise DiesAtOnce(name, deaths=self.refusals, exit_code=exit_code)
        return min(self.policy.first_delay * 2.0 ** (self.deaths - 1), self.policy.longest_delay)
