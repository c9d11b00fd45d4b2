"""Owns listening sockets: binding, adopting systemd's, and the accept loop.

The accept loop is ours because the stock one closes clients that wait in the queue when descriptors
run out. This one stops accepting, leaves them where they are, and goes on when there is room.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.endpoints import _SystemdParser
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.systemd import ListenFDs

from ..settings import ListenAddress
from .opening import Listener
from .portholder import describe_holder
from .stream import TCPServer, UNIXServer

if TYPE_CHECKING:
    _Base = tcp.Port
else:
    _Base = object

BACKLOG = 4096  # Twisted's default of 50 refuses clients in a burst
ACCEPTS_AT_ONCE = 64  # then the connections that are open have their turn
SAID_AGAIN = 60.0  # seconds between two messages about that
RETRY = 0.2  # seconds until accepting is tried again when descriptors ran out
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = Logger()


class ListenError(Exception):
    """A listener cannot be opened; the message names the address, the cause and the cure.

    `no_permission`: the port may not be bound by this user.
    """

    def __init__(self, message: str, address: ListenAddress, no_permission: bool = False) -> None:
        super().__init__(message)
        self.host, self.port = address.host, address.port
        self.no_permission = no_permission


class _Accepting(_Base):
    """The accept loop."""

    factory: Any  # Listener
    if TYPE_CHECKING:
        reactor: Any
    _silent_until = 0.0

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

    def _accepted(self, skt: socket.socket, address: Any) -> None:
        transport = None
        try:
            if self.addressFamily != socket.AF_UNIX:
                skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            protocol = self.factory.buildProtocol(self._buildAddr(address))
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
            " or lower limits.connections"
        )
        self.stopReading()
        self.reactor.callLater(RETRY, self._resume)

    def _full(self) -> None:
        self._say(
            f"{self.factory.admission.open} connections are open, as many as"
            " limits.connections or the limit of descriptors (LimitNOFILE, ulimit -n) allows"
        )
        self.stopReading()

    def _say(self, why: str) -> None:
        now = self.reactor.seconds()
        if now >= self._silent_until:
            self._silent_until = now + SAID_AGAIN
            log.error("Accepting pauses: {why}. Clients wait in the queue.", why=why)

    def _resume(self) -> None:
        if self.connected and not self.disconnecting:
            self.startReading()


class TCPPort(_Accepting, tcp.Port):
    """A TCP listening socket."""

    transport = TCPServer

    def createInternetSocket(self) -> socket.socket:
        """Dual-stack for [::], whatever the system's default is."""
        skt: socket.socket = super().createInternetSocket()
        if self.addressFamily == socket.AF_INET6:
            skt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self.interface != "::"))
        return skt


class UNIXPort(_Accepting, unix.Port):
    """A unix listening socket."""

    transport = UNIXServer

    def _buildAddr(self, name: Any) -> Any:
        return super()._buildAddr(name or None)

    def outlived(self) -> None:
        """The socket is somebody else's: its file keeps its mode and stays, and it is not shut down
        when we close it. (tcp.Port does so for sockets that it was given; unix.Port does not.)"""
        self._bindPath = b"\0" + self._bindPath  # as if it were an abstract address
        self._shouldShutdown = False

    def connectionLost(self, reason: Any) -> None:
        """As Twisted's, also where the file is gone already."""
        try:
            super().connectionLost(reason)
        except FileNotFoundError:
            tcp.Port.connectionLost(self, reason)


def listen(address: ListenAddress, listener: Listener, reactor: Any) -> IListeningPort:
    """Open one listener. Raises ListenError.

    `reactor` is the transports' view of the reactor (dialling.TransportReactor).
    """
    try:
        if address.kind == "systemd":
            return _adopt(address, listener, reactor)
        if address.kind == "unix":
            return _listen_unix(address.path, listener, reactor)
        return _listen_tcp(address.host, address.port, listener, reactor)
    except CannotListenError as e:
        raise _explained(address, e.socketError) from None
    except OSError as e:
        raise _explained(address, e) from None


def _listen_tcp(host: str, port: int, listener: Any, reactor: Any) -> IListeningPort:
    if host == "::" and not _have_ipv6():
        log.warn("This kernel has no IPv6: listening on 0.0.0.0:{port} instead.", port=port)
        host = "0.0.0.0"  # noqa: S104  (what [::] means here)
    opened = TCPPort(port, listener, BACKLOG, host, reactor)
    opened.startListening()
    return opened


def _have_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    net = "/proc/self/net"
    return os.path.exists(f"{net}/if_inet6") or not os.path.exists(net)


def _listen_unix(path: str, listener: Any, reactor: Any) -> IListeningPort:
    _remove_stale(path)
    opened = UNIXPort(os.fsencode(path), listener, BACKLOG, 0o660, reactor)
    opened.startListening()
    return opened


def _remove_stale(path: str) -> None:
    """Remove the socket file of a process that is gone; a live one stays, and binding fails."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError:
        return


def _adopt(address: ListenAddress, listener: Listener, reactor: Any) -> IListeningPort:
    """Listen on the socket that systemd passed by this name (sd_listen_fds(3), LISTEN_FDNAMES)."""
    name = address.name
    passed = _passed_by_systemd()
    if name not in passed:
        names = ", ".join(sorted(passed)) or "none"
        raise ListenError(
            f"systemd passed no socket named {name!r} (passed: {names}). Set"
            f" FileDescriptorName={name} in the .socket unit and start that unit.",
            address,
        )
    with socket.socket(fileno=os.dup(passed[name])) as skt:
        family = skt.family
        skt.setblocking(False)
    opened: Any
    if family == socket.AF_UNIX:
        opened = UNIXPort._fromListeningDescriptor(reactor, passed[name], listener)
        opened.backlog = BACKLOG  # it is set anew
        opened.outlived()
    else:
        opened = TCPPort._fromListeningDescriptor(reactor, passed[name], family, listener)
    opened.startListening()
    port: IListeningPort = opened
    return port


def _passed_by_systemd() -> dict[str, int]:
    """Descriptors by name.

    Whoever asks Twisted for them takes them out of the environment. Its own endpoints do, when they
    are imported, which under twistd is before this module: what they found is in their parser.
    """
    # Of a copy: there are as many calls as sockets.
    ours = ListenFDs.fromEnvironment(dict(os.environ))
    return ours.inheritedNamedDescriptors() or _SystemdParser._sddaemon.inheritedNamedDescriptors()


def _explained(address: ListenAddress, reason: Any) -> ListenError:
    no_permission = getattr(reason, "errno", None) in (errno.EACCES, errno.EPERM)
    return ListenError(_explain(address, reason), address, no_permission)


def _explain(address: ListenAddress, reason: Any) -> str:
    code = getattr(reason, "errno", None)
    if code == errno.EADDRINUSE:
        holder = describe_holder(address.port) if address.kind == "tcp" else ""
        by = f" by {holder}" if holder else ""
        return f"{address} is already in use{by}. Stop that, or choose another address in [listen]."
    if code in (errno.EACCES, errno.EPERM):
        return (
            f"{address}: permission denied. Ports below 1024 need CAP_NET_BIND_SERVICE (the shipped"
            " systemd unit gives it), and a unix socket a directory that this user may write."
        )
    if code == errno.EADDRNOTAVAIL:
        return f"{address}: no interface of this machine has that address."
    return f"{address}: {reason}."
