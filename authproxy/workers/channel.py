"""Owns the talk between supervisor and worker: JSON objects, one a line, over a socket pair.

    supervisor to worker    handover (once, first), drain, abort
    worker to supervisor    ready, counters (once a second), log, leaving

The end of either process is the end of the channel.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

DESCRIPTOR = 3  # the worker's end, in the worker
FIRST_SOCKET = 4  # and the listening sockets behind it, in the order of the handover
LONGEST = 1 << 26  # octets: a handover has every certificate chain


class Channel(LineOnlyReceiver):
    """One end. `received` gets each message, `closed` is called once at the end."""

    delimiter = b"\n"
    MAX_LENGTH = LONGEST

    def __init__(
        self, received: Callable[[dict[str, Any]], None], closed: Callable[[], None]
    ) -> None:
        self._received = received
        self._closed = closed

    def lineReceived(self, line: bytes) -> None:
        """A message of the other side."""
        self._received(json.loads(line))

    def tell(self, kind: str, **parts: Any) -> None:
        """Say something. Nothing happens when the other side is gone."""
        if self.transport is not None:
            self.sendLine(json.dumps({"kind": kind, **parts}).encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other process is gone, or has closed its end."""
        self.transport = None
        self._closed()


def adopt(reactor: Any, descriptor: int, family: int, channel: Channel) -> None:
    """Let a channel speak over a connected socket (duplicated: close yours)."""
    factory: Any = Factory.forProtocol(lambda: channel)
    factory.noisy = False
    reactor.adoptStreamConnection(descriptor, family, factory)
