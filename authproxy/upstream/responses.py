"""Owns how responses are read on one connection to upstream: their heads, those that are only
informational, a 101, and where their content ends (RFC 9112 4, 6; RFC 9110 15.2).

What is read is told to the exchange that has the lease. What follows from it for the connection is
the connection's business, which every call is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..wire import bodies, websocket
from ..wire.errors import ProtocolError
from ..wire.heads import UNTIL_CLOSE, HeadLimits, ResponseHead
from ..wire.incomplete import Incomplete
from ..wire.responses import parse_response, refuse_early

if TYPE_CHECKING:
    from .connection import Connection

# A 1xx costs an upstream nothing to send; a response of nothing else would never end.
MOST_INFORMATIONAL = 32


class Responses:
    """One after the other, on one connection.

    `content` reads that of the response under way: None until its head was read, and where it came
    whole. `now` is the clock, `idle` the seconds in which more of it must come.
    """

    __slots__ = (
        "_head",
        "_idle",
        "_incomplete",
        "_informational",
        "_keep",
        "_limits",
        "_now",
        "content",
    )

    def __init__(self, limits: HeadLimits, now: Callable[[], float], idle: float) -> None:
        self.content: bodies.Reader | None = None
        self._limits = limits
        self._now = now
        self._idle = idle
        self._head: ResponseHead | None = None  # the last one: the next may repeat it
        self._incomplete: Incomplete | None = None  # a head
        self._informational = 0  # 1xx of the response under way
        self._keep = True

    def receive_head(self, connection: Connection, data: bytes) -> None:
        """Octets of a head, of what is informational before it, and of what comes after it."""
        connection.silent = False
        if self._incomplete is not None:
            data = self._incomplete.more(data)
            if not data:
                return
            self._incomplete = None
        while True:
            parsed = parse_response(data, self._limits, connection.method, self._head)
            if parsed is None:
                self._incomplete = Incomplete(data, self._limits, refuse_early)
                return
            head, consumed = parsed
            data = data[consumed:]
            if head.status >= 200:
                self._head = head
                self._informational = 0
                self._begin(connection, head, data)
                return
            if head.status == 101:
                self._switch(connection, head, data)
                return
            self._informational += 1
            if self._informational > MOST_INFORMATIONAL:
                raise ProtocolError(502, "too many informational responses")
            if head.status == 100:  # no other 1xx lets the client go on
                connection.client_may_go_on()
            exchange = connection.exchange
            assert exchange is not None
            exchange.response_informational(head)
            if connection.exchange is not exchange:
                return  # it was cancelled meanwhile
            if not data:
                return

    def _begin(self, connection: Connection, head: ResponseHead, data: bytes) -> None:
        exchange = connection.exchange
        assert exchange is not None
        length = head.length
        keep = head.keep_alive and length != UNTIL_CLOSE
        if 0 <= length <= len(data):  # all of it is here: no reader needed
            clean = length == len(data)
            connection.response_ended(clean, keep)
            exchange.response_whole(head, data if clean else data[:length])
            return
        self._keep = keep
        self.content = bodies.reader_for(length, 502)
        connection.receive = self.receive_content
        connection.deadline = self._now() + self._idle
        exchange.response_head(head)
        if data and connection.exchange is exchange:
            self.receive_content(connection, data)

    def receive_content(self, connection: Connection, data: bytes) -> None:
        """Octets of the content, its framing, and what comes after it."""
        reader, exchange = self.content, connection.exchange
        assert reader is not None
        assert exchange is not None
        if not connection.paused:
            connection.deadline = self._now() + self._idle
        content = reader.receive(data)
        if content:
            exchange.response_content(content)
        if reader.finished and connection.exchange is exchange:
            self.content = None
            connection.response_ended(not reader.rest, self._keep)
            exchange.response_end(reader.trailers)

    def _switch(self, connection: Connection, head: ResponseHead, early: bytes) -> None:
        if connection.key is None:
            raise ProtocolError(502, "a 101 that nobody asked for")
        websocket.check_switching(head, connection.key)
        exchange = connection.exchange
        assert exchange is not None
        connection.leave()
        exchange.response_switching(head, early)
