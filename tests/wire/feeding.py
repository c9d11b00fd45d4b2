"""How octets reach a parser: whole, octet by octet, cut in two everywhere.

Importing this module loads the profile of generated tests, see examples.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from authproxy.wire.bodies import reader_for
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import Fields, HeadLimits, RequestHead, ResponseHead
from authproxy.wire.requests import parse_request
from authproxy.wire.responses import parse_response

from .. import examples  # noqa: F401  # the profile

T = TypeVar("T")
H = TypeVar("H", RequestHead, ResponseHead)

LIMITS = HeadLimits()
# What may be missing of a head.
COMPLETIONS = (b"\r\n\r\n", b"\n\r\n", b"\r\n", b"\n")
NEXT_REQUEST = b"GET /next HTTP/1.1\r\nHost: next.example\r\n\r\n"

# Messages up to this size are cut at every octet; in larger ones, which exist for the sake of a
# limit, some cuts must do.
_EVERY_CUT = 2048
_SOME_CUTS = 41


class Message(NamedTuple):
    """A complete message and what came after it."""

    head: RequestHead | ResponseHead
    content: bytes
    trailers: Fields
    rest: bytes


def octet_by_octet(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def segmentations(data: bytes) -> Iterator[list[bytes]]:
    """All the ways in which a test lets `data` arrive."""
    yield [data]
    large = len(data) > _EVERY_CUT
    step = len(data) // _SOME_CUTS if large else 1
    for cut in range(1, len(data), step):
        yield [data[:cut], data[cut:]]
    if large:
        yield [data[i : i + 509] for i in range(0, len(data), 509)]
    else:
        yield octet_by_octet(data)


def feed(parse: Callable[[bytes], T | None], segments: Iterable[bytes]) -> T | None:
    """What `parse` makes of a growing buffer; None if it still wants more at the end."""
    buffer = b""
    for segment in segments:
        buffer += segment
        result = parse(buffer)
        if result is not None:
            return result
    return None


def read_request(segments: Iterable[bytes], limits: HeadLimits = LIMITS) -> Message | None:
    """A whole request; None if it is incomplete. Raises ProtocolError."""
    return _read(lambda data: parse_request(data, limits), segments, 400)


def read_response(segments: Iterable[bytes], method: bytes = b"GET") -> Message | None:
    """A whole response, after whose segments the connection closes. Raises ProtocolError."""
    return _read(lambda data: parse_response(data, LIMITS, method), segments, 502)


def _read(
    parse: Callable[[bytes], tuple[H, int] | None], segments: Iterable[bytes], status: int
) -> Message | None:
    arriving = iter(segments)
    buffer = b""
    for segment in arriving:
        buffer += segment
        parsed = parse(buffer)
        if parsed is not None:
            break
    else:
        return None
    head, consumed = parsed
    reader = reader_for(head.length, status)
    content = reader.receive(buffer[consumed:])
    for segment in arriving:
        content += reader.receive(segment)
    reader.end_of_input()
    return Message(head, content, reader.trailers, reader.rest)


def refusal(call: Callable[..., object], *args: object) -> ProtocolError | None:
    """The ProtocolError that `call` raises, None if it raises none; others are not caught."""
    try:
        call(*args)
    except ProtocolError as e:
        return e
    return None
