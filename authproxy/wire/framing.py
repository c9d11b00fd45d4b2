"""What the fields say about the message itself: its length, the fate of the connection.

Stricter than RFC 9112 6.3 wherever it leaves a choice, since two recipients that choose
differently are what request smuggling is: one Content-Length, one Transfer-Encoding, never both.
"""

from __future__ import annotations

from .errors import ProtocolError
from .grammar import CONTENT_LENGTH_DIGITS, METHOD
from .heads import CHUNKED, Fields

# Fields of which a second one is refused, even one with the same value.
_SINGLE = (b"host", b"content-length", b"transfer-encoding")
# Fields that are read by this package and are lists, or whose repetition must be seen in the value.
_JOINED = (
    b"connection",
    b"expect",
    b"upgrade",
    b"sec-websocket-accept",
    b"sec-websocket-key",
    b"sec-websocket-version",
)
_NAMES = {b"host": "Host", b"content-length": "Content-Length"}


def by_name(fields: Fields, status: int) -> dict[bytes, bytes]:
    """Name -> value, right for the fields that this package reads (RFC 9110 5.3).

    Raises ProtocolError for two Host, Content-Length or Transfer-Encoding fields. For other names
    that come repeatedly the value is one of them.
    """
    named = dict(fields)
    if len(named) != len(fields):
        names = [name for name, _ in fields]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise ProtocolError(
                    status, f"more than one {_NAMES.get(name, 'Transfer-Encoding')} field"
                )
        for name in _JOINED:
            if names.count(name) > 1:
                named[name] = b", ".join([value for other, value in fields if other == name])
    return named


def content_length(named: dict[bytes, bytes], version: int, status: int) -> int | None:
    """Octets of content, CHUNKED, or None where the fields do not say. RFC 9112 6.3.

    Raises ProtocolError with `status`, or 501 for a client's transfer coding that is not known.
    """
    if b"transfer-encoding" in named:
        if b"content-length" in named:
            raise ProtocolError(status, "both Transfer-Encoding and Content-Length")
        if version == 10:
            # RFC 9112 6.1: faulty framing.
            raise ProtocolError(status, "Transfer-Encoding in HTTP/1.0")
        coding = named[b"transfer-encoding"].lower()
        if coding != b"chunked":
            raise _coding_fault(coding, status)
        return CHUNKED
    value = named.get(b"content-length")
    if value is None:
        return None
    # bytes.isdigit knows ASCII only, and refuses the empty value, signs, spaces and lists.
    if not value.isdigit() or len(value) > CONTENT_LENGTH_DIGITS:
        raise ProtocolError(status, "a Content-Length that is not one number of 1 to 19 digits")
    return int(value)


def _coding_fault(coding: bytes, status: int) -> ProtocolError:
    """501 for an orderly list with a coding that is not known (RFC 9112 6.1), else malformed."""
    codings = [name.strip(b" \t") for name in coding.split(b",")]
    orderly = all(map(METHOD.fullmatch, codings)) and b"chunked" not in codings[:-1]
    if orderly and status == 400:
        return ProtocolError(501, "a transfer coding other than chunked")
    return ProtocolError(status, "a Transfer-Encoding other than exactly chunked")


def options(value: bytes) -> set[bytes]:
    """The members of a list of tokens without case, such as Connection. RFC 9110 5.6.1, 7.6.1."""
    return {member.strip(b" \t") for member in value.lower().split(b",")}


def keeps_alive(connection: bytes | None, version: int) -> bool:
    """Whether the connection outlives the message. RFC 9112 9.3."""
    if connection is None:
        return version == 11
    if connection == b"keep-alive":
        return True
    wanted = options(connection)
    return b"close" not in wanted and (version == 11 or b"keep-alive" in wanted)
