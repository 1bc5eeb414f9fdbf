"""THE CLIENT: Emend's HTTP contract as Python calls. Knows no room of the service."""

from client.emend_client import EmendClient, EmendError, JobEnded
from client.local_service import LocalService, ServiceEnded, local_service

__all__ = ["EmendClient", "EmendError", "JobEnded", "LocalService", "ServiceEnded", "local_service"]
