"""Heads and chunks -> octets. RFC 9112 3, 4, 7.1.

Owns the form of what this proxy sends: always HTTP/1.1, lower-case field names, one space after
the colon. It writes the fields that it is given: framing and forwarding have been decided before.
"""

from __future__ import annotations

from collections.abc import Iterable

from .heads import RequestHead, ResponseHead

_colon = b": ".join
_crlf = b"\r\n".join


def request_head(head: RequestHead) -> bytes:
    """Request line, fields and the empty line."""
    return _crlf(
        [b"%b %b HTTP/1.1" % (head.method, head.target), *map(_colon, head.fields), b"", b""]
    )


def response_head(head: ResponseHead) -> bytes:
    """Status line, fields and the empty line. The reason phrase may be empty; its SP stays."""
    return _crlf(
        [b"HTTP/1.1 %d %b" % (head.status, head.reason), *map(_colon, head.fields), b"", b""]
    )


def chunk(data: bytes) -> bytes:
    """One chunk; b"" for no data, since an empty chunk would end the content."""
    if not data:
        return b""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The end of chunked content with its trailer fields, if any."""
    return _crlf([b"0", *map(_colon, trailers), b"", b""])
