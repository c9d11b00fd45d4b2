"""WebSocket frames for the tables, also those that no library would make. RFC 6455 5 and 7692."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
MASK = b"\x37\xfa\x21\x3d"
TAIL = b"\0\0\xff\xff"  # RFC 7692 7.2.1
DEFLATE = "permessage-deflate"


@dataclass(frozen=True)
class Case:
    """`sent` in order. What has to come: `messages` (opcode, octets), then a Close with `code`.

    0: a Close without a code, -1: none. A Close with 1000 is sent at the end where the case has none, so the
    code is 1000 where nothing is wrong. `extensions` are offered, and messages come inflated.
    """

    name: str
    sent: tuple[bytes, ...]
    messages: tuple[tuple[int, bytes], ...] = ()
    code: int | tuple[int, ...] = 1000
    path: str = "/"
    extensions: str = ""

    @property
    def codes(self) -> tuple[int, ...]:
        """Those that are right."""
        return (self.code,) if isinstance(self.code, int) else self.code


def frame(
    opcode: int, payload: bytes = b"", flags: int = FIN, mask: bytes | None = MASK, form: int = 0
) -> bytes:
    """One frame. `mask` None: unmasked. `form`: 126 or 127, a longer form of the length."""
    size = len(payload)
    form = form or (size if size < 126 else 126 if size < 65536 else 127)
    length = size.to_bytes({126: 2, 127: 8}[form]) if form >= 126 else b""
    masked = 0 if mask is None else 0x80
    head = bytes((flags | opcode, masked | form)) + length
    if mask is None:
        return head + payload
    return head + mask + masking(payload, mask)


def masking(payload: bytes, mask: bytes) -> bytes:
    """The payload under a mask."""
    size = len(payload)
    stream = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(size)


def text(payload: bytes, **options: int) -> bytes:
    return frame(TEXT, payload, **options)


def binary(payload: bytes, **options: int) -> bytes:
    return frame(BINARY, payload, **options)


def fragments(opcode: int, *pieces: bytes, first: int = 0) -> tuple[bytes, ...]:
    """One message in pieces; `first` are flags of the first frame."""
    last = len(pieces) - 1
    return tuple(
        frame(
            CONTINUATION if n else opcode,
            piece,
            (FIN if n == last else 0) | (0 if n else first),
        )
        for n, piece in enumerate(pieces)
    )


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason)


class Deflater:
    """A sender's side of permessage-deflate, with its context."""

    def __init__(self, bits: int = 15) -> None:
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, -bits)

    def __call__(self, payload: bytes) -> bytes:
        data = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(TAIL)


def received_frames(data: bytes) -> list[tuple[int, bytes]]:
    """(first octet, payload) of each frame of a server in these octets. All must be complete."""
    found = []
    while data:
        first, size, start = data[0], data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        if size > len(data) - start:
            raise AssertionError(f"a frame that is cut: {data[:20]!r}")
        found.append((first, data[start : start + size]))
        data = data[start + size :]
    return found
