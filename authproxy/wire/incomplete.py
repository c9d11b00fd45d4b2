"""Heads and trailer sections whose end has not come yet.

Owns that each of their octets is looked at once, however small the pieces are in which they come,
and what is refused before the end: what no further octet makes good.
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import ProtocolError
from .grammar import CRLF, END_OF_HEAD
from .heads import HeadLimits
from .sections import over_limit, text_fault


class Incomplete:
    """What is there of a section that a parser asked more octets for.

    octets: all of it. looked: how many of them were looked at; a CR at their end is not yet one of
    them, what comes next says what it is. lines: the CRLFs among these; line: where the last of
    them ended. refuse: looks at the others and raises ProtocolError where the whole has no future.
    """

    __slots__ = ("_limits", "_refuse", "line", "lines", "looked", "octets")

    def __init__(
        self, data: bytes, limits: HeadLimits, refuse: Callable[[Incomplete, HeadLimits], None]
    ) -> None:
        self.octets = bytearray(data)
        self.looked = self.lines = self.line = 0
        self._limits = limits
        self._refuse = refuse
        refuse(self, limits)

    def more(self, data: bytes) -> bytes:
        """All octets, once their end is among them; b"" before that.

        Raises ProtocolError as early as a parser that is given all of them with each piece.
        """
        octets = self.octets
        octets += data
        if octets.find(END_OF_HEAD, max(0, self.looked - 3)) >= 0:
            return bytes(octets)
        self._refuse(self, self._limits)
        return b""


def refuse_incomplete(seen: Incomplete, limits: HeadLimits, status: int, start: int = 0) -> None:
    """Raises ProtocolError if the section that begins at `start` has no future.

    Only what costs a few passes of memchr over what is new.
    """
    octets = seen.octets
    size = len(octets)
    new = max(start, seen.looked)
    if size - start >= limits.head_bytes:
        if status == 400 and not seen.lines and octets.find(CRLF, new) < 0:
            raise ProtocolError(414, "the request line is too long", "limits.head_bytes")
        raise over_limit(status, "the head is too large", "limits.head_bytes")
    lines = octets.count(CRLF, new)
    open_cr = octets.endswith(b"\r")
    bare_cr = octets.count(b"\r", new) - open_cr != lines
    if bare_cr or octets.count(b"\n", new) != lines or octets.find(b"\0", new) >= 0:
        raise ProtocolError(status, text_fault(bytes(octets[new:])))
    if lines:
        seen.lines += lines
        seen.line = octets.rfind(CRLF, new) + 2
    seen.looked = size - open_cr
    if seen.lines - 1 > limits.fields:
        raise over_limit(status, "too many fields", "limits.fields")
    # One octet more may be the CR of the line's end.
    if seen.lines and size - seen.line > limits.line_bytes + 1:
        raise over_limit(status, "a field line is too long", "limits.line_bytes")
