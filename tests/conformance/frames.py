"""HTTP/2 frames for the tables, also those that no library would make. RFC 9113 4 and 6."""

from __future__ import annotations

from hpack import Encoder

from tests.e2e.processes import HOST

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = list[tuple[str | bytes, str | bytes]]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Any frame; of `stream` also the reserved bit is what is said here."""
    head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
    return head + payload


def data(stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return frame(DATA, flags, stream, payload)


def headers(stream: int, block: bytes, flags: int = END_STREAM | END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, block)


def continuation(stream: int, block: bytes, flags: int = END_HEADERS) -> bytes:
    return frame(CONTINUATION, flags, stream, block)


def reset(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def settings(*pairs: tuple[int, int], flags: int = 0, stream: int = 0) -> bytes:
    payload = b"".join(number.to_bytes(2) + value.to_bytes(4) for number, value in pairs)
    return frame(SETTINGS, flags, stream, payload)


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def ping(payload: bytes = b"conform.", flags: int = 0, stream: int = 0) -> bytes:
    return frame(PING, flags, stream, payload)


def goaway(last: int = 0, code: int = 0, words: bytes = b"", stream: int = 0) -> bytes:
    return frame(GOAWAY, 0, stream, last.to_bytes(4) + code.to_bytes(4) + words)


def block(fields: Fields) -> bytes:
    """A header block that neither reads nor changes the table: it is good on every connection."""
    encoder = Encoder()
    return bytes(
        encoder.encode([(_octets(name), _octets(value), True) for name, value in fields], False)
    )


def request(*fields: tuple[str | bytes, str | bytes], **pseudo: str | None) -> Fields:
    """The fields of a GET of /; `pseudo` replaces a pseudo-header field, or with None omits it."""
    known = {"method": "GET", "scheme": "https", "authority": HOST, "path": "/"} | pseudo
    return [(f":{name}", value) for name, value in known.items() if value is not None] + [*fields]


def ask(
    stream: int,
    *fields: tuple[str | bytes, str | bytes],
    flags: int = END_STREAM | END_HEADERS,
    **pseudo: str | None,
) -> bytes:
    """HEADERS with a request."""
    return headers(stream, block(request(*fields, **pseudo)), flags)


def post(stream: int, *fields: tuple[str | bytes, str | bytes], **pseudo: str | None) -> bytes:
    """HEADERS of a request whose content is to come, to where it is echoed."""
    return ask(stream, *fields, flags=END_HEADERS, **{"method": "POST", "path": "/echo"} | pseudo)


def _octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
