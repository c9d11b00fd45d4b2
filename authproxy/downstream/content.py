"""Owns the content of one request, as a client of HTTP/1.x sends it: where it ends
(RFC 9112 6), and until when more of it is waited for.

The deadline is the connection's: it has one at a time. While upstream takes no more, and until a
client that expects a 100 has it, there is none; while the client takes nothing of a response,
that one runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..deadlines import NEVER
from ..wire import bodies
from ..wire.errors import ProtocolError
from ..wire.heads import RequestHead
from .pace import Pace

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..gateway import Gateway
    from .http1 import Connection


class RequestContent:
    """While it is there, `receive_content` takes what the client sends."""

    __slots__ = ("_connection", "_exchange", "_gateway", "_pace", "_reader")

    def __init__(
        self,
        gateway: Gateway,
        connection: Connection,
        exchange: Exchange,
        head: RequestHead,
        now: float,
    ) -> None:
        self._gateway = gateway
        self._connection = connection
        self._exchange = exchange
        self._reader = bodies.reader_for(head.length)
        self._pace = Pace(gateway.limits, now)
        # Who waits for a 100 has his time from then on.
        connection.deadline = NEVER if head.expects_continue else now + gateway.timeouts.body_idle

    def receive_content(self, data: bytes) -> None:
        """Octets from the client: content, its framing, and what comes after it."""
        reader, connection, exchange = self._reader, self._connection, self._exchange
        try:
            content = reader.receive(data)
            if not reader.finished:
                now = self._gateway.now()
                self._pace.came(len(data), now)
                if not connection.stopped and not connection.blocked:
                    connection.deadline = now + self._gateway.timeouts.body_idle
        except ProtocolError as e:
            connection.refuse_content(e)
            return
        if reader.finished:
            connection.content_ended(reader.rest)
        if content:
            exchange.request_content(content)
        if reader.finished and connection.exchange is exchange:
            exchange.request_end(reader.trailers)

    def go_on(self) -> None:
        """The client may send; its rate is measured from here."""
        now = self._gateway.now()
        self._pace.restart(now)
        if not self._connection.blocked:
            self._connection.deadline = now + self._gateway.timeouts.body_idle
