"""Owns the talk between supervisor and worker: JSON objects, one a line, over a socket pair.

    supervisor to worker    handover (once, first), reload, drain, abort
    worker to supervisor    ready, counters (once a second), lines (of the access log), log,
                            reloaded, leaving

A reload may bring descriptors (SCM_RIGHTS): they are there before the message is.

The end of either process is the end of the channel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from ..linefile import MOST_HELD

DESCRIPTOR = 3  # the worker's end, in the worker
FIRST_SOCKET = 4  # and the listening sockets behind it, in the order of the handover
LONGEST = 1 << 26  # octets: a handover has every certificate chain


@implementer(IFileDescriptorReceiver)
class Channel(LineOnlyReceiver):
    """One end. `received` gets each message, `closed` is called once at the end.

    `full` says that the other side is so far behind that only what matters should be said.
    `descriptors` are those that came and that nobody has taken yet.
    """

    delimiter = b"\n"
    MAX_LENGTH = LONGEST

    def __init__(
        self, received: Callable[[dict[str, Any]], None], closed: Callable[[], None]
    ) -> None:
        self.full = False
        self.descriptors: list[int] = []
        self._received = received
        self._closed = closed

    def lineReceived(self, line: bytes) -> None:
        """A message of the other side."""
        self._received(json.loads(line))

    def tell(self, kind: str, **parts: Any) -> None:
        """Say something. Nothing happens when the other side is gone."""
        if self.transport is not None:
            self.sendLine(json.dumps({"kind": kind, **parts}).encode())

    def send_descriptors(self, descriptors: Sequence[int]) -> None:
        """Let them come with the message that is told next. They must stay open until it is."""
        if self.transport is not None:
            transport: Any = self.transport
            for descriptor in descriptors:
                transport.sendFileDescriptor(descriptor)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """One of those."""
        self.descriptors.append(descriptor)

    def close(self) -> None:
        """End it, once everything said is on its way."""
        if self.transport is not None:
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()

    # As a producer it learns whether the other side takes what is said.

    def connectionMade(self) -> None:
        """Open."""
        transport: Any = self.transport
        transport.bufferSize = MOST_HELD
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """More than MOST_HELD octets wait."""
        self.full = True

    def resumeProducing(self) -> None:
        """None does."""
        self.full = False

    def stopProducing(self) -> None:
        """The end follows."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other process is gone, or has closed its end."""
        self.transport = None
        self._closed()


def adopt(reactor: Any, descriptor: int, family: int, channel: Channel) -> None:
    """Let a channel speak over a connected socket (duplicated: close yours)."""
    factory: Any = Factory.forProtocol(lambda: channel)
    factory.noisy = False
    reactor.adoptStreamConnection(descriptor, family, factory)
