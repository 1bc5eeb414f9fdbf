"""What a process and the machine it runs on hold in memory, as Linux tells it."""

from __future__ import annotations

from pathlib import Path


def resident_bytes() -> int:
    """Of this process, now."""
    return _told("/proc/self/status", "VmRSS")


def peak_bytes() -> int:
    """Of this process, at most since it began or `forget_peak` was called."""
    return _told("/proc/self/status", "VmHWM")


def forget_peak() -> None:
    """Begin a new peak at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def free_bytes() -> int:
    """What the machine could still give without swapping."""
    return _told("/proc/meminfo", "MemAvailable")


def _told(path: str, name: str) -> int:
    return 1024 * int(Path(path).read_text().split(f"{name}:")[1].split()[0])
