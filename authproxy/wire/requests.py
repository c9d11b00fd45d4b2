"""Heads of requests: octets -> RequestHead. RFC 9112 3, RFC 9110 7.2, 7.8, 10.1.1.

Owns what may stand in a request line, which authority a request has, and what its fields ask of
the connection. It does not know which hosts exist or what is forwarded.
"""

from __future__ import annotations

from . import framing
from .errors import ProtocolError
from .grammar import (
    ABSOLUTE_FORM,
    CRLF,
    END_OF_HEAD,
    HOST,
    HOST_OCTETS,
    HTTP_VERSION,
    METHOD,
    METHOD_OCTETS,
    METHOD_SO_FAR,
    REQUEST_LINE,
    TARGET,
)
from .heads import HeadLimits, RequestHead
from .incomplete import Incomplete, refuse_incomplete
from .sections import parse_fields
from .websocket import asks_for_websocket

# A longer field section is not kept for comparing: thousands of idle connections hold one each.
COMPARED = 4096

_COMMON_METHODS = frozenset([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])
# CONNECT would make a tunnel of the proxy; TRACE echoes Cookie and Authorization (RFC 9110 9.3.8).
_REFUSED_METHODS = frozenset([b"CONNECT", b"TRACE"])


def parse_request(
    data: bytes, limits: HeadLimits, before: RequestHead | None = None
) -> tuple[RequestHead, int] | None:
    """The head at the beginning of `data` and the number of its octets; None: more are needed.

    `before` is the head that came before it on the same connection. Clients mostly repeat their
    fields, octet for octet; then what they mean is known (a fourth of the work on a request).

    One empty line before the request line is skipped (RFC 9112 2.2) and counted as consumed.
    Where more octets are needed, an Incomplete with refuse_early knows when to come back. Raises
    ProtocolError with the status that the client is to get.
    """
    start = 2 if data.startswith(CRLF) else 0
    end = data.find(END_OF_HEAD, start, start + limits.head_bytes)
    if end < 0:
        Incomplete(data, limits, refuse_early)
        return None
    line = REQUEST_LINE.match(data, start)
    if line is None:
        method, target, version, authority, line_end = _unusual_line(data, start, limits)
    else:
        method, target, minor = line.groups()
        version = 11 if minor == b"1" else 10
        authority = None
        line_end = line.end() - 2
        if line_end - start > limits.line_bytes:
            raise _line_too_long()
    if method not in _COMMON_METHODS:
        check_method(method)
    section = data[line_end:end]
    if (
        before is not None
        and section
        and section == before.section
        and version == before.version
        and authority is None
    ):
        return _again(method, target, before), end + 4
    fields = parse_fields(section, limits, 400)

    named = framing.by_name(fields, 400)
    host = named.get(b"host")
    if authority is not None or host is None:
        host = _authority(authority, host, version)
    elif before is None or host != before.host or not host:  # else it was looked at then
        _check_host(host)
    length = framing.content_length(named, version, 400) or 0
    expects_continue = b"expect" in named and _expects_continue(named[b"expect"], version, length)
    keep_alive = framing.keeps_alive(named.get(b"connection"), version)
    upgrade = b"upgrade" in named and asks_for_websocket(method, version, length, named)
    # Kept for comparing where the fields alone decide: neither the authority of an absolute-form
    # nor the method, of which an upgrade depends, has a part in it then.
    if len(section) > COMPARED or authority is not None or b"upgrade" in named:
        section = b""
    head = RequestHead(
        method, target, version, fields, host, length, expects_continue, keep_alive, upgrade,
        (), named, section,
    )  # fmt: skip
    return head, end + 4


def _again(method: bytes, target: bytes, before: RequestHead) -> RequestHead:
    """A head with the fields of another: everything but method and target follows from them."""
    return RequestHead(
        method, target, before.version, before.fields, before.host, before.length,
        before.expects_continue, before.keep_alive, False, before.dropped, before.named,
        before.section, before.forwarded,
    )  # fmt: skip


def refuse_early(seen: Incomplete, limits: HeadLimits) -> None:
    """Refuse an incomplete head that cannot become a good one, as far as that is cheap to know."""
    start = 2 if seen.octets.startswith(CRLF) else 0
    if not seen.lines:
        _refuse_line(seen.octets, start, seen.looked, limits)
    refuse_incomplete(seen, limits, 400, start)


def _refuse_line(data: bytearray, start: int, looked: int, limits: HeadLimits) -> None:
    """The same for a request line of which no end is within the octets already looked at."""
    line_end = data.find(CRLF, max(start, looked), start + limits.line_bytes + 2)
    if line_end < 0:
        # One octet more may be the CR of the line's end.
        if len(data) - start > limits.line_bytes + 1:
            raise _line_too_long()
        # A TLS hello, a PROXY header or a bare LF in the wrong place show in the first octets.
        beginning = bytes(data[start : start + METHOD_OCTETS + 1])
        if beginning not in (b"", b"\r") and not METHOD_SO_FAR.match(beginning):
            check_method(bytes(data[start:]).partition(b" ")[0])
    elif bytes(data[line_end - 9 : line_end]) not in (b" HTTP/1.1", b" HTTP/1.0"):
        # HTTP/0.9 sends nothing after this line, and waits.
        _unusual_line(data, start, limits)


def _unusual_line(
    data: bytes | bytearray, start: int, limits: HeadLimits
) -> tuple[bytes, bytes, int, bytes | None, int]:
    """A request line other than origin-form in HTTP/1.0 or 1.1: what it says, or its fault.

    Method, target, version, authority of an absolute-form (else None), index of the line's end.
    """
    end = data.find(CRLF, start)
    line = bytes(data[start:end])
    if len(line) > limits.line_bytes:
        raise _line_too_long()
    parts = line.split(b" ")
    if len(parts) != 3:
        raise ProtocolError(400, "a request line that is not method, target and version")
    method, target, version = parts
    if not HTTP_VERSION.fullmatch(version):
        raise ProtocolError(400, "a malformed HTTP version")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise ProtocolError(505, "an HTTP version other than 1.0 and 1.1")
    check_method(method)
    if b"#" in target:
        raise ProtocolError(400, "a fragment in the request target")
    if not TARGET.fullmatch(target):
        raise ProtocolError(400, "bad characters in the request target")
    authority = None
    if target != b"*":
        authority, target = _reduce(method, target)
    elif method != b"OPTIONS":
        raise ProtocolError(400, "the target * with a method other than OPTIONS")
    return method, target, 11 if version == b"HTTP/1.1" else 10, authority, end


def _reduce(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    """Authority and origin-form of an absolute-form. RFC 9112 3.2.2, 3.2.4."""
    form = ABSOLUTE_FORM.fullmatch(target)
    if form is None:
        raise ProtocolError(400, "a request target in none of the known forms")
    authority, path, query = form.groups()
    if not path and not query and method == b"OPTIONS":
        return authority, b"*"
    return authority, (path or b"/") + query


def _authority(authority: bytes | None, host: bytes | None, version: int) -> bytes:
    """The one authority of a request with an absolute-form or without Host. RFC 9112 3.2."""
    if host is None:
        if version != 10:
            raise ProtocolError(400, "no Host field")
        if authority is None:
            return b""
    elif authority is not None and authority.lower() != host.lower():
        raise ProtocolError(400, "the authority of the target is not that of Host")
    only = authority if authority is not None else host or b""
    _check_host(only)
    return only


def _check_host(host: bytes) -> None:
    if not HOST.fullmatch(host) or len(host) > HOST_OCTETS:
        raise ProtocolError(400, "bad characters in Host")


def check_method(method: bytes) -> None:
    """Refuse what no site gets. Without case: some servers fold it."""
    if not METHOD.fullmatch(method):
        raise ProtocolError(400, "a method that is no token")
    if len(method) > METHOD_OCTETS:
        raise ProtocolError(501, "a method that is too long to be one")
    if method.upper() in _REFUSED_METHODS:
        raise ProtocolError(405, "the method is not allowed here")


def _expects_continue(value: bytes, version: int, length: int) -> bool:
    """RFC 9110 10.1.1: ignored from HTTP/1.0; without content there is nothing to wait for."""
    if value.lower() != b"100-continue":
        raise ProtocolError(417, "an expectation other than 100-continue")
    return version == 11 and length != 0


def _line_too_long() -> ProtocolError:
    return ProtocolError(414, "the request line is too long", "limits.line_bytes")
