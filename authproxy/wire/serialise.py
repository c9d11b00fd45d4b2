"""Heads and chunks -> octets. RFC 9112 3, 4, 7.1.

Owns the form of what this proxy sends: always HTTP/1.1, lower-case field names, one space after
the colon. It writes the fields that it is given: framing and forwarding have been decided before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .heads import Fields, ResponseHead

_CHUNKED, _CLOSE = b"transfer-encoding: chunked\r\n", b"connection: close\r\n"
# What a response says of its connection, by (chunked, the connection's last, to HTTP/1.0).
CONNECTION_FIELDS: Final = {
    (False, False, False): b"",
    (False, False, True): b"connection: keep-alive\r\n",
    (False, True, False): _CLOSE,
    (False, True, True): _CLOSE,
    (True, False, False): _CHUNKED,
    (True, True, False): _CHUNKED + _CLOSE,
}

_colon = b": ".join
_crlf = b"\r\n".join


def section(fields: Fields) -> bytes:
    """Field lines, each with its CRLF."""
    return _crlf([*map(_colon, fields), b""])


def request_head(method: bytes, target: bytes, fields: bytes) -> bytes:
    """Request line, a field section and the empty line."""
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, fields)


def response_head(head: ResponseHead, more: bytes = b"") -> bytes:
    """Status line, fields (and more of them) and the empty line.

    The reason phrase may be empty; its SP stays.
    """
    fields = head.section
    if not fields:
        fields = head.section = section(head.fields)  # kept: the head may be sent again
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (head.status, head.reason, fields, more)


def chunk(data: bytes) -> bytes:
    """One chunk; b"" for no data, since an empty chunk would end the content."""
    if not data:
        return b""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The end of chunked content with its trailer fields, if any."""
    return _crlf([b"0", *map(_colon, trailers), b"", b""])
