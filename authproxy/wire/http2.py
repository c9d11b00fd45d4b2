"""Heads of HTTP/2: a decoded field list <-> the same heads that HTTP/1.1 has. RFC 9113 8.

Owns what a request of HTTP/2 may say and what it means in the terms of the other modules. It knows
no frames and no HPACK: downstream/http2.py gets field lists from the h2 library, whose own checks
are switched off, since they look at every octet of every value in Python (a request with a cookie
of 4 KiB: 150 us for them, 5 for these). Nothing here is laxer than they are.
"""

from __future__ import annotations

import re
from typing import Final

from hpack import NeverIndexedHeaderTuple

from . import framing
from .errors import ProtocolError
from .grammar import HOST, HOST_OCTETS, TARGET
from .heads import CHUNKED, Fields, HeadLimits, RequestHead, ResponseHead
from .requests import check_method

_METHOD, _SCHEME, _AUTHORITY, _PATH = b":method", b":scheme", b":authority", b":path"
_PROTOCOL = b":protocol"  # RFC 8441 4
_PSEUDO = frozenset((_METHOD, _SCHEME, _AUTHORITY, _PATH, _PROTOCOL))
# What a browser sends first; the order among them is free.
_USUAL = frozenset((_METHOD, _SCHEME, _AUTHORITY, _PATH))

# field-name without upper case, RFC 9113 8.2.1; LF stands between the names of a list.
_NAMES: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++(?:\n[!#$%&'*+\-.^_`|~0-9a-z]++)*+")
# field-value, neither beginning nor ending with white space; LF between the values of a list.
_VALUE = rb"(?:[\x21-\x7e\x80-\xff]++(?:[\t ]++[\x21-\x7e\x80-\xff]++)*+)?+"
_VALUES: Final = re.compile(_VALUE + rb"(?:\n" + _VALUE + rb")*+")

# RFC 9113 8.2.2: fields of one connection make the message malformed.
_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
# Never in HPACK's table (RFC 7541 7.1.3): they are secrets, and seldom come twice.
_SECRET = frozenset((b"set-cookie", b"location"))
_OF_HANDSHAKE = frozenset((b"connection", b"upgrade", b"sec-websocket-accept", b"content-length"))
_COMPARED = 64  # fields; a longer list is not kept for comparing


def parse_request(
    headers: Fields, ended: bool, limits: HeadLimits, before: RequestHead | None = None
) -> RequestHead:
    """The head that a field list means; `ended`: no content follows.

    `before` is the head that came before it on the same connection: what repeats its fields means
    the same. A WebSocket of RFC 8441 becomes the GET that HTTP/1.1 has for it, with `upgrade`; its
    Sec-WebSocket-Key is the caller's to add. Raises ProtocolError with the status of the answer.
    """
    pseudo: dict[bytes, bytes] = {}
    for name, value in headers:
        if name[:1] != b":":
            break
        if name in pseudo or name not in _PSEUDO:
            raise ProtocolError(400, "a pseudo-header field that is unknown or there twice")
        pseudo[name] = value
    method, target = _request_line(pseudo, limits)
    authority = pseudo.get(_AUTHORITY)
    received = headers[len(pseudo) :]
    if (
        before is not None
        and ended
        and authority == before.host
        and received == before.received
        and len(pseudo) == 4
    ):
        return _again(method, target, before)

    fields = parse_fields(received, limits)
    named = framing.by_name(fields, 400)
    host = _host(authority, named.get(b"host"))
    if _PROTOCOL in pseudo:
        return _websocket(pseudo, target, fields, host, named, ended)
    length = _length(named, ended)
    head = RequestHead(
        method, target, 20, fields, host, length,
        b"expect" in named and _expects_continue(named[b"expect"], length),
        True, False, (), named,
    )  # fmt: skip
    # Kept for comparing where nothing but the fields decides.
    if (
        ended
        and authority == host
        and len(received) <= _COMPARED
        and b"content-length" not in named
    ):
        head.received = received
    return head


def _again(method: bytes, target: bytes, before: RequestHead) -> RequestHead:
    """A head with the fields of another: everything but method and target follows from them."""
    head = RequestHead(
        method, target, 20, before.fields, before.host, 0, False, True, False, before.dropped,
        before.named, b"", before.forwarded,
    )  # fmt: skip
    head.received = before.received
    return head


def _request_line(pseudo: dict[bytes, bytes], limits: HeadLimits) -> tuple[bytes, bytes]:
    """Method and target, valid. RFC 9113 8.3.1."""
    method, target = pseudo.get(_METHOD), pseudo.get(_PATH)
    if method is None:
        raise ProtocolError(400, "a request without :method")
    if method == b"CONNECT" and _PROTOCOL in pseudo:
        method = b"GET"
    elif _PROTOCOL in pseudo:
        raise ProtocolError(400, ":protocol with a method other than CONNECT")
    check_method(method)
    if target is None or pseudo.get(_SCHEME, b"").lower() not in (b"https", b"http"):
        raise ProtocolError(400, "a request without :path, or without a :scheme of HTTP")
    if len(target) > limits.line_bytes:
        raise ProtocolError(414, "the request target is too long", "limits.line_bytes")
    if target[:1] != b"/" and (target != b"*" or method != b"OPTIONS"):
        raise ProtocolError(400, "a :path that does not begin with /")
    if not TARGET.fullmatch(target):
        raise ProtocolError(400, "bad characters in :path")
    return method, target


def parse_fields(received: Fields, limits: HeadLimits) -> Fields:
    """The fields of a request, or its trailers, valid and as HTTP/1.1 has them: crumbs of a cookie
    are joined (RFC 9113 8.2.3). Raises ProtocolError."""
    if not received:
        return []
    names = b"\n".join([field[0] for field in received])
    values = b"\n".join([field[1] for field in received])
    between = len(received) - 1
    if not _NAMES.fullmatch(names) or names.count(b"\n") != between:
        raise ProtocolError(400, "a field name that is no token in lower case")
    if not _VALUES.fullmatch(values) or values.count(b"\n") != between:
        raise ProtocolError(400, "bad characters, or white space around, a field value")
    fields: Fields = [(name, value) for name, value in received if name != b"cookie"]
    crumbs = len(received) - len(fields)
    if crumbs == 1:
        fields = list(received)
    elif crumbs:
        cookie = b"; ".join([value for name, value in received if name == b"cookie"])
        fields.append((b"cookie", cookie))
    if len(fields) > limits.fields:
        raise ProtocolError(431, "too many fields", "limits.fields")
    longest = max([len(name) + len(value) for name, value in fields]) + 2
    if longest > limits.line_bytes:
        raise ProtocolError(431, "a field line is too long", "limits.line_bytes")
    for name, value in fields:
        if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
            raise ProtocolError(400, "a field of HTTP/1.1 connections in HTTP/2")
    return fields


def _host(authority: bytes | None, host: bytes | None) -> bytes:
    """The one authority. RFC 9113 8.3.1: where both say it they must agree."""
    if authority is not None and host is not None and authority.lower() != host.lower():
        raise ProtocolError(400, ":authority is not what Host says")
    only = host if authority is None else authority
    if only is None:
        raise ProtocolError(400, "neither :authority nor Host")
    if len(only) > HOST_OCTETS or not HOST.fullmatch(only):
        raise ProtocolError(400, "bad characters in :authority or Host")
    return only


def _length(named: dict[bytes, bytes], ended: bool) -> int:
    length = framing.content_length(named, 20, 400)
    if length is None:
        return 0 if ended else CHUNKED
    if ended and length:
        raise ProtocolError(400, "less content than Content-Length says")
    return length


def _expects_continue(value: bytes, length: int) -> bool:
    if value.lower() != b"100-continue":
        raise ProtocolError(417, "an expectation other than 100-continue")
    return length != 0


def _websocket(
    pseudo: dict[bytes, bytes],
    target: bytes,
    fields: Fields,
    host: bytes,
    named: dict[bytes, bytes],
    ended: bool,
) -> RequestHead:
    """RFC 8441 5: the opening handshake, without key and without Upgrade."""
    if pseudo[_PROTOCOL] != b"websocket" or named.get(b"sec-websocket-version") != b"13":
        raise ProtocolError(501, "an extended CONNECT for something other than a WebSocket")
    if ended or b"content-length" in named or b"sec-websocket-key" in named:
        raise ProtocolError(400, "a malformed WebSocket handshake")
    return RequestHead(b"GET", target, 20, fields, host, 0, False, True, True, (), named)


def response_fields(head: ResponseHead) -> Fields:
    """What goes over the wire: :status and the fields, marked where HPACK is not to index them."""
    fields: Fields = [(b":status", b"%d" % head.status)]
    for field in head.fields:
        fields.append(NeverIndexedHeaderTuple(*field) if field[0] in _SECRET else field)
    return fields


def switching_fields(head: ResponseHead) -> Fields:
    """The same for the 101 that a WebSocket got: a 200, without what RFC 8441 5 has no use for."""
    switched = [field for field in head.fields if field[0] not in _OF_HANDSHAKE]
    return response_fields(ResponseHead(200, b"", 20, switched))
