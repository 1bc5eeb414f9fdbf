"""What the supervisor cannot repair.

SupervisorError
├── MigrationFailed   the schema could not be upgraded
└── DiesAtOnce        a process ended again and again right after its start
"""

from __future__ import annotations


class SupervisorError(Exception):
    """Root of this room's errors; `str(error)` is one sentence for the terminal."""


class MigrationFailed(SupervisorError):
    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(
            f"The database could not be prepared (`python -m app migrate` ended with code "
            f"{exit_code}); its message stands above."
        )


class DiesAtOnce(SupervisorError):
    def __init__(self, name: str, *, deaths: int, exit_code: int) -> None:
        self.name = name
        self.deaths = deaths
        self.exit_code = exit_code
        super().__init__(
            f"{name} ended {deaths} times right after its start (last exit code {exit_code}); "
            "its own message stands above, for example a port that is in use."
        )
