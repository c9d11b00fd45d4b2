"""The opening handshake of a WebSocket, seen from between the two sides. RFC 6455 4.

Owns which requests are a proper handshake and whether a 101 answers one properly. The frames that
follow are opaque to this proxy.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from . import framing
from .errors import ProtocolError
from .grammar import WEBSOCKET_KEY
from .heads import ResponseHead

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


def is_valid_key(key: bytes) -> bool:
    """Whether `key` is the base64 form of exactly 16 octets."""
    return WEBSOCKET_KEY.fullmatch(key) is not None


def accept_value(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that proves that the server read this key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def asks_for_websocket(
    method: bytes, version: int, length: int, named: Mapping[bytes, bytes]
) -> bool:
    """Whether a request is a complete handshake; any other Upgrade (h2c, say) is not followed.

    named: the request's fields as framing.by_name gives them. A request with content is none: its
    content and the frames after it would look alike.
    """
    return (
        method == b"GET"
        and version == 11
        and length == 0
        and named.get(b"upgrade", b"").lower() == b"websocket"
        and b"upgrade" in framing.options(named.get(b"connection", b""))
        and named.get(b"sec-websocket-version") == b"13"
        and is_valid_key(named.get(b"sec-websocket-key", b""))
    )


def check_switching(head: ResponseHead, key: bytes) -> None:
    """Raises ProtocolError 502 unless `head` is a 101 that accepts the handshake with `key`.

    Without this check a client could make upstream answer 101 to something else and get a tunnel
    behind the proxy's rules.
    """
    named = framing.by_name(head.fields, 502)
    if head.status != 101 or head.version != 11:
        raise ProtocolError(502, "not a 101 of HTTP/1.1")
    if named.get(b"upgrade", b"").lower() != b"websocket":
        raise ProtocolError(502, "a 101 without Upgrade: websocket")
    if b"upgrade" not in framing.options(named.get(b"connection", b"")):
        raise ProtocolError(502, "a 101 without Connection: upgrade")
    if named.get(b"sec-websocket-accept") != accept_value(key):
        raise ProtocolError(502, "a 101 with a wrong Sec-WebSocket-Accept")
