"""Redis at the worker's end, proof against losing it in the middle of a job.

A message is acknowledged after its job. Where Redis went away meanwhile, that fails, and kombu goes
on to count the message as one that the worker is busy with: with a prefetch of 1 it never asks for
another, hence never finds out that the connection is gone, and stays deaf. Here the message counts
as done with; the next question then meets the loss, and the worker connects anew.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual

SCHEMES = ("redis", "rediss")


class QoS(redis.QoS):
    def ack(self, delivery_tag: Any) -> None:
        channel: Any = self.channel
        try:
            super().ack(delivery_tag)
        except channel.connection_errors:
            # It stays in Redis, if that kept anything, and is sent again to find nothing to do.
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(redis.Channel):
    QoS = QoS


class Transport(redis.Transport):
    Channel = Channel


def use_transport() -> None:
    """From now on it is the one behind redis:// and rediss:// in this process."""
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
