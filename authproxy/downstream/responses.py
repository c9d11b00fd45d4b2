"""Owns how responses are written on a client's HTTP/1.x connection: their framing, and the fields
that are the connection's own (RFC 9112 6, 9).

It is what an exchange sees of the client. What follows from a response for the connection is the
connection's business, and so is reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..wire import serialise
from ..wire.heads import Fields, ResponseHead

if TYPE_CHECKING:
    from ..gateway import Gateway
    from ..transport.stream import Stream
    from .http1 import Connection


class Responses:
    """One after the other, on one connection."""

    __slots__ = ("_chunked", "_connection", "_gateway", "_out")

    def __init__(self, gateway: Gateway, connection: Connection) -> None:
        self._gateway = gateway
        self._connection = connection
        self._chunked = False
        self._out: list[bytes] = []

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx; HTTP/1.0 knows none."""
        connection = self._connection
        if connection.head is not None and connection.head.version >= 11:
            self._out.append(serialise.response_head(head))
        if head.status == 100 and connection.content is not None and not connection.stopped:
            connection.content.go_on()

    def send_whole(self, head: ResponseHead, content: bytes) -> None:
        """The final response with all its content, of known length."""
        self.send_head(head)
        out = self._out
        if content:
            out.append(content)
        data = b"".join(out)
        out.clear()
        self._connection.response_ended(data)

    def send_head(self, head: ResponseHead) -> None:
        """The final response's head, with the fields that are this connection's own."""
        connection = self._connection
        old = connection.head is not None and connection.head.version < 11
        self._chunked = head.length < 0 and not old
        # What of HTTP/1.0 has no length ends with the connection.
        if not connection.request_ended or self._gateway.draining or (old and head.length < 0):
            connection.last = True
        own = serialise.CONNECTION_FIELDS[self._chunked, connection.last, old]
        self._out.append(serialise.response_head(head, own))

    def send_content(self, data: bytes) -> None:
        """Some content."""
        self._out.append(serialise.chunk(data) if self._chunked else data)

    def send_end(self, trailers: Fields) -> None:
        """The response is complete."""
        out = self._out
        if self._chunked:
            out.append(serialise.last_chunk(trailers))
        data = b"".join(out)
        out.clear()
        self._connection.response_ended(data)

    def flush(self) -> None:
        """One write for all that came together."""
        out = self._out
        if out:
            self._connection.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def abort(self) -> None:
        """Cut the response: a reset, where a clean end would look like a whole response."""
        self._connection.abort()

    def pause_reading(self) -> None:
        """Upstream takes no more of the request."""
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        """It takes more again."""
        self._connection.resume_reading()

    def switch(self, head: ResponseHead, early: bytes, upstream: Stream) -> None:
        """Leave HTTP: upstream's 101 and what came with it, then bytes both ways."""
        self._out += (serialise.response_head(head), early)
        self.flush()
        self._connection.switch(upstream)
