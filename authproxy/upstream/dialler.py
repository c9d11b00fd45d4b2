"""Owns making a pooled connection: dial, verify, and say in words what went wrong.

The one place where errors of sockets, resolvers and OpenSSL become errors of ours, each with its
cure where there is one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from ..deadlines import Deadlines
from ..errors import ConnectFailed, NotVerified, Starved, TimedOut, UpstreamError
from ..settings import Limits, Timeouts, Upstream
from ..transport.dialling import DialTimeout, TransportReactor, dial
from ..transport.resolving import NameTimeout
from ..transport.sessions import ClientTLS, Sessions
from ..transport.stream import Stream
from ..upstream_tls import VerificationError
from ..wire.heads import HeadLimits
from .connection import Connection
from .server import Server

_STARVED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_ROUTE = "Correct its address, or this machine's network (ip route get ADDRESS)."
_CURES = {
    errno.ENETUNREACH: _NO_ROUTE,
    errno.EHOSTUNREACH: _NO_ROUTE,
    errno.ENOENT: "Correct the path, or start who makes that socket.",
    errno.EACCES: "Let the user of authproxy write to the socket (its group and mode).",
}


class Dialler:
    """Makes connections to the servers of one site. A server that is not in `tls` is plain."""

    def __init__(
        self,
        reactor: TransportReactor,
        tls: Mapping[Upstream, ClientTLS],
        deadlines: Deadlines,
        timeouts: Timeouts,
        limits: Limits,
    ) -> None:
        self._reactor = reactor
        self._tls = {server: Sessions(each, reactor.seconds) for server, each in tls.items()}
        self._deadlines = deadlines
        self._timeouts = timeouts
        self._head_limits = HeadLimits(
            limits.upstream_head_bytes, limits.upstream_head_bytes, limits.upstream_fields
        )
        self._buffer = limits.buffer

    def dial(self, server: Server) -> Deferred[Connection]:
        """An open connection, or a failure whose value is an UpstreamError."""
        dialling = dial(
            self._reactor,
            server.upstream,
            self._tls.get(server.upstream),
            timeout=self._timeouts.connect,
            tls_timeout=self._timeouts.upstream_tls,
        )

        def connected(transport: Stream) -> Connection:
            connection = Connection(
                server, self._deadlines, self._timeouts, self._head_limits, self._buffer
            )
            transport.protocol = connection
            connection.makeConnection(transport)
            return connection

        def failed(reason: Failure) -> Failure:
            return Failure(explain(reason.value, server.name))

        return dialling.addCallbacks(connected, failed)


def explain(reason: BaseException | None, name: str) -> UpstreamError:
    """The error of ours for what a dial failed with; `name` says of which upstream."""
    if isinstance(reason, VerificationError):
        return NotVerified(str(reason))
    if isinstance(reason, DialTimeout):
        return TimedOut(
            f"{name} accepts connections but did not finish a TLS handshake in time. Is it"
            " overloaded, or no TLS server?"
        )
    if isinstance(reason, SSL.Error):
        return ConnectFailed(_explain_tls(reason, name))
    if isinstance(reason, error.DNSLookupError):
        return ConnectFailed(
            f"the name in {name} does not resolve. Correct it, or this machine's DNS."
        )
    if isinstance(reason, NameTimeout):
        return ConnectFailed(
            f"the name in {name} is not resolved in time (timeouts.connect). Does this machine's"
            " DNS answer?"
        )
    if isinstance(reason, error.ConnectionRefusedError):
        return ConnectFailed(f"nothing listens at {name}. Is authentik running?")
    if isinstance(reason, (CancelledError, error.ConnectingCancelledError)):
        return ConnectFailed("the proxy is stopping")
    if isinstance(reason, (error.TimeoutError, error.UserError)):
        return ConnectFailed(
            f"{name} does not answer (timeouts.connect). Is a firewall in between?"
        )
    number = getattr(reason, "osError", None) or getattr(reason, "errno", None)
    if number in _STARVED:
        return Starved(
            f"no connection to {name}: {os.strerror(number)}. Raise LimitNOFILE (systemd) or"
            " ulimit -n, or lower limits.connections."
        )
    if number in _CURES:
        return ConnectFailed(f"cannot connect to {name}: {os.strerror(number)}. {_CURES[number]}")
    return ConnectFailed(f"cannot connect to {name}: {reason}")


def _explain_tls(reason: SSL.Error, name: str) -> str:
    words = str(reason)
    if "wrong version number" in words or "packet length too long" in words:
        return (
            f"{name} does not speak TLS there. authentik's plain port is 9000 (http://),"
            " its TLS port 9443 (https://)."
        )
    if isinstance(reason, SSL.SysCallError):
        return f"{name} closed the connection during the TLS handshake. Its log may say why."
    return f"the TLS handshake with {name} failed: {words}"
