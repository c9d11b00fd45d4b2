"""Owns the accept loop, on sockets that binding.py made or the supervisor handed over.

It is ours because the stock one closes clients that wait in the queue when descriptors run out.
This one stops accepting, leaves them where they are, and goes on when there is room.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from ..saying import HERE
from ..settings import ListenAddress
from .binding import BACKLOG, bind
from .opening import Listener
from .stream import TCPServer, UNIXServer

if TYPE_CHECKING:
    _Base = tcp.Port
else:
    _Base = object

ACCEPTS_AT_ONCE = 64  # then the connections that are open have their turn
SAID_AGAIN = 60.0  # seconds between two messages about that
RETRY = 0.2  # seconds until accepting is tried again when descriptors ran out
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = Logger()


class _Accepting(_Base):
    """The accept loop."""

    factory: Any  # Listener
    if TYPE_CHECKING:
        reactor: Any

        def _host_of(self, address: Any) -> str | None: ...

    def doRead(self) -> None:
        """Accept what waits, as far as there is room."""
        for _ in range(ACCEPTS_AT_ONCE):
            if self.disconnecting:
                return
            if self.factory.admission.full(self._resume):
                self._full()
                return
            try:
                skt, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno in _NO_ROOM:
                    self._pause(e)
                    return
                continue  # this one client is gone (ECONNABORTED), or a filter refused it (EPERM)
            self._accepted(skt, address)

    def accept_all(self) -> None:
        """Accept everybody who waits: to their clients these connections are open, and closing
        the socket would cut them. No more than a queue holds, however many come meanwhile."""
        for _ in range(BACKLOG // ACCEPTS_AT_ONCE):
            before = self.sessionno
            self.doRead()
            if before == self.sessionno:
                return

    def _accepted(self, skt: socket.socket, address: Any) -> None:
        transport = None
        try:
            protocol = self.factory.opening(self._host_of(address))
            self.sessionno += 1
            transport = self.transport(skt, protocol, address, self, self.sessionno, self.reactor)
            protocol.makeConnection(transport)
        except Exception:
            log.failure("A connection that was accepted could not be opened")
            if transport is None:
                skt.close()
            else:  # it reads already, and its protocol may count: both must hear of the end
                transport.abortConnection()

    def _pause(self, reason: OSError) -> None:
        self._say(
            f"{os.strerror(reason.errno or 0)}. Raise LimitNOFILE (systemd) or ulimit -n,"
            " or lower limits.connections."
        )
        self.stopReading()
        self.reactor.callLater(RETRY, self._resume)

    def _full(self) -> None:
        self._say(
            f"{self.factory.admission.open} connections are open, as many as"
            " limits.connections or the limit of descriptors (LimitNOFILE, ulimit -n) allows. Raise"
            " both if the machine can serve more."
        )
        self.stopReading()

    def _say(self, why: str) -> None:
        self.factory.say(
            f"Accepting pauses: {why} Clients wait in the queue.",
            "accepting pauses",
            SAID_AGAIN,
            side=HERE,
        )

    def _resume(self) -> None:
        if self.connected and not self.disconnecting:
            self.startReading()


class TCPPort(_Accepting, tcp.Port):
    """A TCP listening socket."""

    transport = TCPServer

    def _host_of(self, address: Any) -> str | None:
        host: str = address[0]
        return host


class UNIXPort(_Accepting, unix.Port):
    """A unix listening socket."""

    transport = UNIXServer
    inode = 0  # of our file

    def _host_of(self, address: Any) -> str | None:
        return None

    def connectionLost(self, reason: Any) -> None:
        """As Twisted's, also where the file is gone already; one in its place is not ours."""
        try:
            if self.inode and os.stat(self._bindPath).st_ino != self.inode:
                self._bindPath = b"\0" + self._bindPath
            super().connectionLost(reason)
        except FileNotFoundError:
            tcp.Port.connectionLost(self, reason)


def listen(address: ListenAddress, listener: Listener, reactor: Any) -> IListeningPort:
    """Open one listener. Raises ListenError.

    `reactor` is the transports' view of the reactor (dialling.TransportReactor).
    """
    [skt] = bind(address)
    return listen_on(skt, listener, reactor, ours=address.kind == "unix")


def listen_on(
    skt: socket.socket, listener: Listener, reactor: Any, *, ours: bool = False
) -> IListeningPort:
    """Accept on a listening socket, which now belongs to the port.

    `ours` says that a unix socket's file goes when the port closes.
    """
    opened: Any
    with skt:  # the port duplicates it
        if skt.family == socket.AF_UNIX:
            opened = UNIXPort._fromListeningDescriptor(reactor, skt.fileno(), listener)
            opened.backlog = BACKLOG  # it is set anew
            _prepare(opened, 0o660, ours)
            if ours:
                opened.inode = os.stat(opened._bindPath).st_ino
        else:
            # What is accepted inherits it.
            skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened = TCPPort._fromListeningDescriptor(reactor, skt.fileno(), skt.family, listener)
    opened.startListening()
    port: IListeningPort = opened
    return port


def listen_beside(
    skt: socket.socket, factory: Any, reactor: Any, *, ours: bool, mode: int = 0o660
) -> Any:
    """The same with Twisted's own connections, for what operators ask. `mode` is that of a unix
    socket's file; adoptStreamPort opens it to everybody, if only until somebody changes that."""
    with skt:
        if skt.family != socket.AF_UNIX:
            return reactor.adoptStreamPort(skt.fileno(), skt.family, factory)
        opened: Any = unix.Port._fromListeningDescriptor(reactor, skt.fileno(), factory)
    opened.backlog = BACKLOG
    _prepare(opened, mode, ours)
    opened.startListening()
    return opened


def _prepare(port: Any, mode: int, ours: bool) -> None:
    """What becomes of a unix socket's file.

    Somebody else's keeps its mode and stays, and the socket is not shut down when we close it.
    (tcp.Port does so for sockets that it was given; unix.Port does not.)
    """
    port.mode = mode
    if not ours:
        port._bindPath = b"\0" + port._bindPath  # as if it were an abstract address
        port._shouldShutdown = False
