"""Readers of content: octets after a head -> octets of content, and where they end. RFC 9112 6, 7.

A reader is fed segments as they come and gives back the content found in each; it keeps at most
one incomplete line of a chunk, or an incomplete trailer section. Extensions of chunks are checked
and dropped: content is framed anew on the other side.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from .errors import ProtocolError
from .grammar import (
    END_OF_HEAD,
    FIRST_CHUNK,
    FIRST_CHUNK_SO_FAR,
    NEXT_CHUNK,
    NEXT_CHUNK_SO_FAR,
)
from .heads import CHUNKED, UNTIL_CLOSE, Fields, HeadLimits
from .incomplete import Incomplete, refuse_incomplete
from .sections import parse_fields

# Trailers carry a checksum or a status; nobody sends as much as in a head.
TRAILER_LIMITS: Final = HeadLimits(head_bytes=16384, line_bytes=8192, fields=32)

# Fields that would change the meaning of a message that is already under way (RFC 9110 6.5.1).
_NO_TRAILERS = frozenset([b"content-length", b"host", b"trailer", b"transfer-encoding"])

# How many octets of extensions may come beyond the octets of content, in all: without a bound a
# peer makes the proxy work for hours on a message of a few octets (compare CVE-2023-39326).
_EXTENSIONS_AHEAD: Final = 16384


class Reader:
    """What all readers have in common.

    finished: the end of the content was seen. rest: the octets after it. trailers: of chunked
    content, once finished.
    """

    __slots__ = ("finished", "rest", "status", "trailers")

    def __init__(self, status: int = 400) -> None:
        self.finished = False
        self.rest = b""
        self.trailers: Fields = []
        self.status = status

    def receive(self, data: bytes) -> bytes:
        """The content in this segment. Raises ProtocolError; after that the reader is of no use."""
        raise NotImplementedError

    def end_of_input(self) -> None:
        """The peer closed. Raises ProtocolError if the content is not complete."""
        if not self.finished:
            raise ProtocolError(self.status, "the connection closed before the end of the content")


class LengthReader(Reader):
    """Content of a known number of octets."""

    __slots__ = ("_remaining",)

    def __init__(self, length: int, status: int = 400) -> None:
        super().__init__(status)
        self._remaining = length
        self.finished = length == 0

    def receive(self, data: bytes) -> bytes:
        remaining = self._remaining
        size = len(data)
        if size < remaining:
            self._remaining = remaining - size
            return data
        if self.finished:
            self.rest += data
            return b""
        self.finished = True
        self._remaining = 0
        if size == remaining:
            return data
        self.rest = data[remaining:]
        return data[:remaining]


class UntilCloseReader(Reader):
    """Content that ends with the connection: responses only."""

    __slots__ = ()

    def receive(self, data: bytes) -> bytes:
        return data

    def end_of_input(self) -> None:
        self.finished = True


class ChunkedReader(Reader):
    """Content in chunks.

    A segment is walked once: one match takes the reader over the end of a chunk and the size of
    the next. What is kept between segments is the beginning of such a boundary, under 300 octets,
    or of the trailer section, within the limits. So short a beginning may be matched again with
    every octet; a trailer section is not.
    """

    __slots__ = ("_ahead", "_boundary", "_held", "_incomplete", "_limits", "_remaining", "_so_far")

    def __init__(self, limits: HeadLimits = TRAILER_LIMITS, status: int = 400) -> None:
        super().__init__(status)
        self._limits = limits  # of the trailer section
        self._remaining = 0  # octets of the current chunk that are still to come
        self._held = b""  # the beginning of a boundary
        self._boundary = FIRST_CHUNK
        self._so_far = FIRST_CHUNK_SO_FAR
        self._incomplete: Incomplete | None = None  # the trailer section
        self._ahead = 0  # octets of extensions not outweighed by content

    def receive(self, data: bytes) -> bytes:
        size = len(data)
        if size <= self._remaining:
            # The usual segment of a large chunk: nothing to cut, nothing to copy.
            self._remaining -= size
            return data
        if self.finished:
            self.rest += data
            return b""
        if self._incomplete is not None:
            self._read_trailers(data, 0)
            return b""
        if self._held:
            data = self._held + data
            self._held = b""
        return self._read_chunks(data)

    def _read_chunks(self, data: bytes) -> bytes:
        content: list[bytes] = []
        size = len(data)
        chunk_end = self._remaining  # nothing is held while a chunk is under way
        if chunk_end:
            content.append(data[:chunk_end])
        while (line := self._boundary.match(data, chunk_end)) is not None:
            digits, extension = line.groups()
            length = int(digits, 16)  # at most 16 digits
            if extension:
                self._weigh(len(extension) - length)
            start = line.end()
            if not length:
                self._remaining = 0
                self._read_trailers(data, start - 2)
                return b"".join(content)
            self._boundary = NEXT_CHUNK
            self._so_far = NEXT_CHUNK_SO_FAR
            chunk_end = start + length
            content.append(data[start:chunk_end])
            if chunk_end >= size:
                self._remaining = chunk_end - size
                break
        else:
            self._remaining = 0
            self._held = data[chunk_end:]
            if not self._so_far.fullmatch(self._held):
                raise ProtocolError(self.status, "a malformed chunk")
        return content[0] if len(content) == 1 else b"".join(content)

    def _weigh(self, excess: int) -> None:
        self._ahead = max(0, self._ahead + excess)
        if self._ahead > _EXTENSIONS_AHEAD:
            raise ProtocolError(self.status, "too many octets of chunk extensions")

    def _read_trailers(self, data: bytes, start: int) -> None:
        """Read the trailer section in `data`; `start` is at the CRLF before it.

        With that CRLF the section ends with an empty line in any case, like a head.
        """
        limits = self._limits
        try:
            if self._incomplete is not None:
                data = self._incomplete.more(data)
                if not data:
                    return
            end = data.find(END_OF_HEAD, start, start + limits.head_bytes)
            if end < 0:
                refuse = partial(refuse_incomplete, status=self.status)
                self._incomplete = Incomplete(data[start:], limits, refuse)
                return
            fields = parse_fields(data[start:end], limits, self.status)
        except ProtocolError as e:
            # Without the name of a limit: those of heads are settings, these are not.
            raise ProtocolError(e.status, f"in the trailers: {e.reason}") from None
        if not _NO_TRAILERS.isdisjoint([name for name, _ in fields]):
            raise ProtocolError(self.status, "a trailer field that may not be one")
        self.trailers = fields
        self.finished = True
        self.rest = data[end + 4 :]


def reader_for(length: int, status: int = 400) -> Reader:
    """The reader for a head's length. status: of its errors; 400 for a client, 502 for upstream."""
    if length == CHUNKED:
        return ChunkedReader(status=status)
    if length == UNTIL_CLOSE:
        return UntilCloseReader(status)
    return LengthReader(length, status)
