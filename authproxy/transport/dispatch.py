"""Owns events: an epoll object of our own, that dispatches straight to our transports.

Twisted's reactors wrap every event in a logging context (five frames, 3 us). The dispatcher is one
reader of the reactor: the reactor wraps one call per batch, and each event of the batch costs one
frame. It has the four methods that transports call on their reactor (IReactorFDSet), so a transport
does not know which of the two it talks to.

Three rules hold it together:

- It never returns a reason or raises: the reactor would drop it, and with it every connection.
- An event is delivered only if its descriptor still belongs to the transport that it was reported
  for: descriptors are reused within a batch.
- Whatever a transport's code raises costs that transport only.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet import error, main
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .interfaces import Descriptor, Outbox, Writer

BATCH = 512  # events taken from the kernel at once; the rest comes with the next turn
# What transports write while they are called is sent when so many events were delivered, together:
# a peer that sleeps is woken once for several of its connections, not once for each. On one machine
# with its origin that is a tenth of the proxy's time (docs/performance.md).
WRITES_TOGETHER = 16
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_GONE = select.EPOLLHUP | select.EPOLLERR
# The ends of nearly all connections; a Failure of its own for each would cost 7 us.
_USUAL: dict[Exception, Failure] = {
    why: Failure(why) for why in (main.CONNECTION_DONE, main.CONNECTION_LOST)
}

log = Logger()


@implementer(IReadDescriptor)
class Dispatcher:
    """Delivers readiness to transports.

    `attach` makes it a reader of a reactor; `close` drops every transport that is left. Without an
    attached reactor nothing happens until `doRead` is called, which is how tests drive it.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}
        self._owners: dict[int, Descriptor] = {}
        self._reactor: Any = None
        self.outbox = Outbox()
        self.fileno = self._epoll.fileno

    def attach(self, reactor: IReactorFDSet) -> None:
        """Become a reader of this reactor."""
        self._reactor = reactor
        reactor.addReader(self)

    def logPrefix(self) -> str:
        """The reactor's log prefix while it calls us."""
        return "authproxy"

    # What transports call on their reactor.

    def addReader(self, transport: Descriptor) -> None:
        """Report to this transport when it is readable."""
        self._add(transport, _IN)

    def addWriter(self, transport: Descriptor) -> None:
        """Report to this transport when it is writable."""
        self._add(transport, _OUT)

    def removeReader(self, transport: Descriptor) -> None:
        """Stop reporting readability."""
        self._remove(transport, _IN)

    def removeWriter(self, transport: Descriptor) -> None:
        """Stop reporting writability."""
        self._remove(transport, _OUT)

    def _add(self, transport: Descriptor, event: int) -> None:
        fd = transport.fileno()
        mask = self._masks.get(fd)
        if mask is None:
            self._epoll.register(fd, event)
            self._masks[fd] = event
            self._owners[fd] = transport
        elif not mask & event:
            self._epoll.modify(fd, mask | event)
            self._masks[fd] = mask | event

    def _remove(self, transport: Descriptor, event: int) -> None:
        fd = transport.fileno()
        mask = self._masks.get(fd)
        if mask is None or not mask & event or self._owners[fd] is not transport:
            return
        mask &= ~event
        if mask:
            self._epoll.modify(fd, mask)
            self._masks[fd] = mask
        else:
            # Nothing is asked for: unregister, since epoll reports a hang-up even for an
            # empty mask, again and again, and a paused transport would not read it.
            self._epoll.unregister(fd)
            del self._masks[fd], self._owners[fd]

    # What the reactor calls.

    def doRead(self) -> None:
        """Take a batch of events and deliver them."""
        try:
            events = self._epoll.poll(0, BATCH)
        except (OSError, ValueError):
            log.failure("Polling failed")
            return
        owners, outbox = self._owners, self.outbox
        unsent = outbox.transports = []
        for fd, event, transport in [(fd, event, owners.get(fd)) for fd, event in events]:
            if transport is None or owners.get(fd) is not transport:
                continue
            if event == _IN:  # nearly always: without a frame of its own
                try:
                    why = transport.doRead()
                except Exception as e:
                    log.failure("An event of a connection failed")
                    why = e
                if why:
                    self._disconnect(transport, why, True)
            else:
                self._deliver(transport, fd, event)
            if len(unsent) >= WRITES_TOGETHER:
                self._send_all(unsent)
                unsent = outbox.transports = []
        outbox.transports = None
        self._send_all(unsent)

    def _send_all(self, unsent: list[Writer]) -> None:
        for writer in unsent:
            try:
                why = writer.send_unsent()
            except Exception as e:
                log.failure("Sending failed")
                why = e
            if why:
                self._disconnect(writer, why, False)  # type: ignore[arg-type]

    def _deliver(self, transport: Descriptor, fd: int, event: int) -> None:
        why: Any = None
        reading = False
        try:
            if event & _IN:
                reading = True
                why = transport.doRead()
            elif event & _GONE:
                why = main.CONNECTION_LOST
            if not why and event & _OUT and self._owners.get(fd) is transport:
                why = transport.doWrite()
        except Exception as e:
            log.failure("An event of a connection failed")
            why = e
        if why:
            self._disconnect(transport, why, reading)

    def _disconnect(self, transport: Descriptor, why: Exception, reading: bool) -> None:
        try:
            reason = _USUAL.get(why) or Failure(why)
            self.removeReader(transport)
            if reading and isinstance(why, error.ConnectionDone):
                transport.readConnectionLost(reason)
            else:
                self.removeWriter(transport)
                transport.connectionLost(reason)
        except Exception:
            log.failure("The end of a connection failed")

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops, or dropped us: end every connection, none would ever be served."""
        self.close()

    def close(self) -> None:
        """Drop every transport and the epoll object."""
        if self._epoll.closed:
            return
        if self._reactor is not None:
            self._reactor.removeReader(self)
        for transport in list(self._owners.values()):
            self._disconnect(transport, error.ConnectionAborted(), False)
        self._epoll.close()
