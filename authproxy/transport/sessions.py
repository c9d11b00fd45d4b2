"""Owns what is kept of a TLS handshake with an upstream server, so that the next one is shorter.

A connection that resumes a session (RFC 8446 2.2, RFC 5077) has no certificates to send, parse and
verify, and keeps none of its own: 3 kB less for each WebSocket, and half a handshake less where
many come at once. Who knows the session's secret is who was verified when it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from OpenSSL import SSL

from . import octets

# Seconds after which upstream is verified again, whatever the server would accept (often a day):
# its certificate may have expired, or be another one.
LIFETIME = 600


class ClientTLS(Protocol):
    """Makes and verifies the client side of a TLS connection (upstream_tls.UpstreamTLS).

    `groups` are those of the key exchange, b"" for OpenSSL's own list.
    """

    groups: bytes

    def connection(self, sock: Any) -> SSL.Connection:
        """An OpenSSL connection in connect state, bound to this socket."""

    def verify(self, connection: SSL.Connection) -> None:
        """Raise when the peer is not who it should be. Called before anything is sent to it."""


class Sessions:
    """Connections with one upstream, which resume the session of one that was verified.

    `seconds` is a clock that never goes back.
    """

    def __init__(self, tls: ClientTLS, seconds: Callable[[], float]) -> None:
        self._tls = tls
        self._seconds = seconds
        self._session: SSL.Session | None = None
        # The connection that was verified. It is asked for its session when the next one is made:
        # what makes that resumable comes after the handshake (RFC 8446 4.6.1). It is kept, though
        # closed: OpenSSL spoils the session of a connection that it frees and that was cut.
        self._verified: SSL.Connection | None = None
        self._until = 0.0

    def connection(self, sock: Any) -> SSL.Connection:
        """An OpenSSL connection in connect state, bound to this socket."""
        connection = self._tls.connection(sock)
        if self._tls.groups:
            octets.limit_groups(connection, self._tls.groups)
        session = self._current()
        if session is not None:
            connection.set_session(session)
        return connection

    def verify(self, connection: SSL.Connection) -> None:
        """Raise when the peer is not who it should be. Called before anything is sent to it."""
        if octets.resumed(connection):
            return
        self.forget()  # what there was is not accepted any more
        self._tls.verify(connection)
        self._verified = connection
        self._until = self._seconds() + LIFETIME

    def forget(self) -> None:
        """The next connection begins anew: a handshake failed, or hung, and perhaps for this."""
        self._session = self._verified = None

    def _current(self) -> SSL.Session | None:
        if not octets.knows_resumed or self._seconds() >= self._until:
            self.forget()
        if self._session is None and self._verified is not None:
            self._session = self._verified.get_session()
        return self._session
