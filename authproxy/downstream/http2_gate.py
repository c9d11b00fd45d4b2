"""Owns what a client may make us do with frames: reads their headers ahead of the h2 library.

The library checks what frames say (RFC 9113). What it does not bound is counted here, before it
works for it: frames that carry nothing, streams that are opened to be reset, a head in many pieces,
a frame that is larger than we ever allowed. It also takes GOAWAY out of what the library sees: that
would end every open stream, while RFC 9113 6.8 lets them finish.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from h2.errors import ErrorCodes

from ..wire.errors import ProtocolError

PREFACE = 24  # octets, RFC 9113 3.4; the library compares them
FRAME_HEADER = 9
GOAWAY_LEAST = 8  # octets of its payload
LARGEST_FRAME = 16384  # RFC 9113 4.2: what we announce by announcing nothing
# RFC 9113 10.5. Clients open and reset streams while they scroll; hundreds at once, not for long.
RESETS, RESETS_A_SECOND = 1000, 33
# Frames that carry nothing: a client may send some for each of ours (`earn`), and these besides.
FRAMES, FRAMES_A_SECOND = 1000, 100
# Frames that are passed at once. One read may bring 6,500 of one octet of content each: 150 ms of
# work, in which everybody else waits.
FRAMES_A_TURN = 32

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 7, 9
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4


class ConnectionFault(ProtocolError):
    """The connection ends, with this error code of RFC 9113 7."""

    def __init__(self, code: ErrorCodes, reason: str, limit: str = "") -> None:
        super().__init__(400, reason, limit)
        self.code = code


class Budget:
    """So many at once, and so many a second."""

    __slots__ = ("_burst", "_left", "_now", "_rate", "_since")

    def __init__(self, burst: int, rate: int, now: Callable[[], float]) -> None:
        self._burst = self._left = float(burst)
        self._rate = rate
        self._now = now
        self._since = now()

    def spend(self) -> bool:
        """Take one. False where none was left."""
        self._left -= 1
        if self._left < 0:  # the clock is only asked then
            now = self._now()
            self.earn((now - self._since) * self._rate)
            self._since = now
        return self._left >= 0

    def earn(self, number: float) -> None:
        """Put some back, up to the burst."""
        self._left = min(self._burst, self._left + number)


class Gate:
    """What one client's octets pass before the library.

    `streams` holds the numbers of those that are open.
    `in_head` says that a head has begun and is not complete; `farewell` that the client sent
    GOAWAY; `more` that whole frames wait for the next turn. `frames` and `resets` are what it has
    left.
    """

    __slots__ = (
        "_block",
        "_block_open",
        "_greeted",
        "_in_payload",
        "_limit",
        "_opened",
        "_partial",
        "_skipping",
        "_streams",
        "farewell",
        "frames",
        "in_head",
        "more",
        "resets",
    )

    def __init__(self, head_bytes: int, now: Callable[[], float], streams: Container[int]) -> None:
        self._streams = streams
        self.frames = Budget(FRAMES, FRAMES_A_SECOND, now)
        self.resets = Budget(RESETS, RESETS_A_SECOND, now)
        self.in_head = False
        self.farewell = False
        self.more = False
        self._limit = head_bytes
        self._block = 0  # octets of the header block that is open
        self._block_open = False
        self._in_payload = PREFACE
        self._greeted = False  # SETTINGS have come
        self._skipping = False
        self._partial = b""
        self._opened = 0  # the stream that these octets opened last, to send content

    def admit(self, data: bytes) -> bytes:
        """What of these octets the library gets. Raises ConnectionFault."""
        if self._partial:
            data = self._partial + data
        size = len(data)
        position = self._in_payload
        passed: list[bytes] = []
        self._opened = 0
        start = position if self._skipping else 0
        turn = FRAMES_A_TURN
        self.more = False
        while position + FRAME_HEADER <= size:
            if not turn:
                self.more = True
                break
            turn -= 1
            kind = data[position + 3]
            if not self._greeted:
                self._greet(kind, data[position + 4])
            length = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
            if length > LARGEST_FRAME:
                raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "an HTTP/2 frame too large")
            number = int.from_bytes(data[position + 5 : position + FRAME_HEADER])
            self._count(kind, length, data[position + 4], number)
            # What is malformed is the library's to refuse.
            self._skipping = (
                kind == _GOAWAY and length >= GOAWAY_LEAST and not number and not self._block_open
            )
            if self._skipping:
                self.farewell = True
                passed.append(data[start:position])
                start = position + FRAME_HEADER + length
            position += FRAME_HEADER + length
        # Less than a frame header is held until the rest of it is here; more, until the next turn.
        self._partial = data[position:]
        self._in_payload = max(0, position - size)
        if not self._in_payload:
            self._skipping = False
        self.in_head = self._block_open or (self.in_head and self._in_payload > 0)
        if not passed and start == 0 and not self._partial:
            return data
        passed.append(data[start:position])
        return b"".join(passed)

    def _greet(self, kind: int, flags: int) -> None:
        """The first frame. RFC 9113 3.4; of another protocol anything may stand there."""
        if kind != _SETTINGS or flags & _ACK:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "HTTP/2 that begins without SETTINGS")
        self._greeted = True

    def _count(self, kind: int, length: int, flags: int, number: int) -> None:
        self.in_head = False
        if kind in (_HEADERS, _CONTINUATION):
            if kind == _HEADERS:
                self.empty()  # a request earns more
                self._opened = 0 if flags & _END_STREAM else number
            self._block = length + (self._block if kind == _CONTINUATION else 0)
            self._block_open = not flags & _END_HEADERS
            self.in_head = True
            if self._block > self._limit:
                raise ConnectionFault(
                    ErrorCodes.ENHANCE_YOUR_CALM, "the head is too large", "limits.head_bytes"
                )
        elif kind == _RST_STREAM:
            self._opened = 0
            self.reset()
        elif kind == _SETTINGS and flags & _ACK and length:  # RFC 9113 6.5
            raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "an acknowledgement with SETTINGS")
        elif (
            kind != _DATA
            or not (length or flags & _END_STREAM)
            # The library answers each, where it was reset.
            or (number != self._opened and number not in self._streams)
        ):
            self.empty()

    def empty(self) -> None:
        """A frame that carries nothing. Raises ConnectionFault."""
        if not self.frames.spend():
            raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "a flood of HTTP/2 frames")

    def reset(self) -> None:
        """A stream was reset, by the client or because of what it sent. Raises ConnectionFault."""
        if not self.resets.spend():
            raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "a flood of HTTP/2 resets")
