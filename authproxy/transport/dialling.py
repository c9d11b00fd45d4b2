"""Owns connecting to an upstream server: the race of a name's addresses, TLS, deadlines.

A name is resolved anew every time (resolving.py), and HostnameEndpoint dials (happy eyeballs). It
gets a view of the reactor that knows the addresses, whose connectTCP builds our transports and
whose descriptors go to our dispatcher.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import protocol, tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IReactorFDSet,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from .interfaces import Outbox
from .resolving import Known, Names
from .sessions import Sessions
from .stream import Stream, TCPClient, UNIXClient

if TYPE_CHECKING:
    from ..settings import Upstream


class _TCPConnector(tcp.Connector):
    def _makeTransport(self) -> TCPClient:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


class _UNIXConnector(unix.Connector):
    def _makeTransport(self) -> UNIXClient:  # type: ignore[override]
        return UNIXClient(self.address, self, self.reactor)


# What endpoints and transports ask for of these; the rest of them nobody calls.
@implementer(IReactorTCP, IReactorUNIX, IReactorTime, IReactorPluggableNameResolver, IReactorFDSet)
class TransportReactor:  # type: ignore[misc]
    """The reactor as our transports see it: their descriptors go to `descriptors`.

    `descriptors` is a Dispatcher, or the reactor itself where there is no epoll.
    """

    def __init__(self, reactor: Any, descriptors: Any) -> None:
        self.outbox: Outbox = getattr(descriptors, "outbox", None) or Outbox()
        self.addReader: Callable[[Any], None] = descriptors.addReader
        self.addWriter: Callable[[Any], None] = descriptors.addWriter
        self.removeReader: Callable[[Any], None] = descriptors.removeReader
        self.removeWriter: Callable[[Any], None] = descriptors.removeWriter
        self.callLater: Callable[..., IDelayedCall] = reactor.callLater
        self.seconds: Callable[[], float] = reactor.seconds
        self.getDelayedCalls = reactor.getDelayedCalls
        self.installNameResolver = reactor.installNameResolver
        self.nameResolver: IHostnameResolver = reactor.nameResolver
        self.names = Names(reactor)

    def that_knows(self, addresses: list[IAddress]) -> TransportReactor:
        """The same, to which a name has these addresses."""
        view = copy.copy(self)
        view.nameResolver = Known(addresses)
        view.connectTCP = self.connectTCP  # type: ignore[method-assign]  # it outlives the copy
        return view

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> tcp.Connector:
        """As IReactorTCP, with our transport."""
        connector = _TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0
    ) -> unix.Connector:
        """As IReactorUNIX, with our transport."""
        connector = _UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector


class DialTimeout(Exception):
    """The TLS handshake with upstream took too long."""


class _Landing(protocol.Protocol):
    """Holds a connection from its TCP connect until its TLS is verified."""

    transport: Stream

    def __init__(self) -> None:
        self.done: Deferred[Stream] = Deferred(self._cancelled)
        self._deadline: IDelayedCall | None = None
        self._tls: Sessions | None = None

    def start_tls(self, tls: Sessions, timeout: float, reactor: Any) -> None:
        self._tls = tls
        self._deadline = reactor.callLater(timeout, self._too_late)
        self.transport.start_tls(tls.connection(self.transport.socket), self)

    def handshake_completed(self) -> None:
        assert self._tls is not None
        assert self.transport.tls is not None
        self._stop_clock()
        try:
            self._tls.verify(self.transport.tls)
        except Exception as e:
            self._fail(e)
        else:
            self.done.callback(self.transport)

    def handshake_failed(self, reason: Exception) -> None:
        self._fail(reason)

    def _fail(self, reason: Exception | Failure) -> None:
        self._stop_clock()
        self.transport.abortConnection()
        if not self.done.called:
            if self._tls is not None:
                self._tls.forget()
            self.done.errback(reason)

    def _too_late(self) -> None:
        self._deadline = None
        self._fail(DialTimeout("no TLS handshake in time"))

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cancelled(self, done: Deferred[Stream]) -> None:
        self._stop_clock()
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._fail(reason)


class _Landings(protocol.Factory):
    """Makes one of them for each dial."""

    protocol = _Landing
    noisy = False  # or every dial would write two lines to the log


def dial(
    reactor: TransportReactor,
    upstream: Upstream,
    tls: Sessions | None,
    *,
    timeout: float,
    tls_timeout: float,
) -> Deferred[Stream]:
    """Connect to an upstream server.

    Fires with a transport that is ready for a request: set its `protocol` and call makeConnection.
    Fails with what went wrong: NameTimeout or a connect error of Twisted, SSL.Error, DialTimeout,
    or what `tls.verify` raised. Timeouts are seconds; a name has `timeout` to be resolved, too.
    """

    def connected(landing: _Landing) -> Deferred[Stream]:
        transport = landing.transport
        transport.protocol = landing  # the endpoint left its wrapper there
        transport.setTcpNoDelay(True)
        if tls is None:
            landing.done.callback(transport)
        else:
            landing.start_tls(tls, tls_timeout, reactor)
        return landing.done

    return _connect(reactor, upstream, timeout).addCallback(connected)


def _connect(reactor: TransportReactor, upstream: Upstream, timeout: float) -> Deferred[_Landing]:
    """The first of its addresses that accepts."""
    endpoint: Any
    if upstream.kind == "unix":
        endpoint = UNIXClientEndpoint(reactor, upstream.path, timeout)
    elif upstream.is_address:
        # No race to run: HostnameEndpoint would notice a refusal 0.3 s later, with its next turn.
        kind = TCP6ClientEndpoint if ":" in upstream.host else TCP4ClientEndpoint
        endpoint = kind(reactor, upstream.host, upstream.port, timeout)
    else:

        def resolved(addresses: list[IAddress]) -> Deferred[Any]:
            view = reactor.that_knows(addresses)
            racing = HostnameEndpoint(view, upstream.host, upstream.port, timeout)
            return racing.connect(_Landings())

        asking = maybeDeferred(reactor.names.addresses, upstream.host, upstream.port, timeout)
        return asking.addCallback(resolved)
    connecting: Deferred[_Landing] = endpoint.connect(_Landings())
    return connecting
