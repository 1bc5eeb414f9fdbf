"""THE CLIENT: Emend's HTTP contract as Python calls. Knows no room of the service."""

from client.emend_client import EmendClient, EmendError, JobEnded

__all__ = ["EmendClient", "EmendError", "JobEnded"]
