"""A client of HTTP/2 that sends what a case says, and calls by one name what the proxy did."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from h2.errors import ErrorCodes
from hpack import Decoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from .frames import PREFACE, ask, ping, settings

PROBE = 10001  # the stream that shows whether the connection still serves
BEGINNING = PREFACE + settings()
_PING = b"sequence"
_SILENCE = 60.0  # seconds: nothing came of what was allowed


@dataclass(frozen=True)
class Answered:
    """A step: wait until this stream is over."""

    stream: int


@dataclass(frozen=True)
class Case:
    """`sent` in order, then what one of `allowed` must be what happens to `stream`.

    Of RFC 9113 or the one that is named in `section`. The names of what happens: "connection CODE"
    (GOAWAY, and the end), "stream CODE" (RST_STREAM), "status N", "closed" (the end, without a
    reason), "ignored" (nothing). After all but the first and "closed" the connection must serve.
    `why` argues what the section does not say.
    """

    name: str
    section: str
    sent: tuple[bytes | Answered, ...]
    allowed: tuple[str, ...]
    stream: int = 1
    beginning: bytes = BEGINNING
    why: str = ""


class Peer:
    """One connection."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        sock.settimeout(_SILENCE)
        self._received = b""
        self._decoder = Decoder()
        self._statuses: dict[int, int] = {}
        self._over: dict[int, str] = {}  # what happened, by stream
        self._goaway: int | None = None
        self._ended = False
        self._how = ""  # it ended, where that was no proper end
        self.pings: list[bytes] = []
        self.acknowledged = 0  # SETTINGS

    def run(self, case: Case) -> str:
        """What happened."""
        self._send(case.beginning)
        for step in case.sent:
            if isinstance(step, bytes):
                self._send(step)
            else:
                self._receive_until([step.stream])
        probed = ping(_PING) + ask(PROBE)
        self._send(probed)
        awaited = [PROBE] if "ignored" in case.allowed else [PROBE, case.stream]
        self._receive_until(awaited)
        return self._verdict(case.stream)

    def _verdict(self, stream: int) -> str:
        happened = self._over.get(stream)
        if self._goaway:
            return f"connection {ErrorCodes(self._goaway).name}{self._how}"
        if happened is None and self._ended:
            return f"closed{self._how}"
        if self._over.get(PROBE) != "status 200" and self._goaway is None:
            return f"{happened}, and then the connection served no more{self._how}"
        return happened or "ignored"

    def _send(self, octets: bytes) -> None:
        if self._ended:
            return
        # If the proxy has closed: what it said before is still to be read.
        with suppress(ConnectionError, ssl.SSLError):
            self._sock.sendall(octets)

    def _receive_until(self, streams: Sequence[int]) -> None:
        while not self._ended and not all(stream in self._over for stream in streams):
            try:
                octets = self._sock.recv(65536)
            except (ssl.SSLEOFError, ConnectionError):
                self._ended, self._how = True, ", cut"
                return
            except TimeoutError:
                self._ended, self._how = True, f", no answer in time ({self._over})"
                return
            if not octets:
                self._ended = True
                return
            self._received += octets
            self._take_frames()

    def _take_frames(self) -> None:
        while len(self._received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._received[:9]))
            if len(self._received) < 9 + length:
                return
            frame.parse_body(memoryview(self._received[9 : 9 + length]))
            self._received = self._received[9 + length :]
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        number = frame.stream_id
        if isinstance(frame, GoAwayFrame):
            self._goaway = frame.error_code
        elif isinstance(frame, SettingsFrame) and "ACK" in frame.flags:
            self.acknowledged += 1
        elif isinstance(frame, PingFrame) and "ACK" in frame.flags:
            self.pings.append(frame.opaque_data)
        elif isinstance(frame, PingFrame):  # before a GOAWAY
            self._send(ping(frame.opaque_data, flags=1))
        elif isinstance(frame, RstStreamFrame):
            code = ErrorCodes(frame.error_code)
            # 5.4.2: what comes behind an answer may be answered once more; a refusal stays one.
            refused = self._over.get(number, "").startswith("status 4")
            if number not in self._over or not (refused or code == ErrorCodes.NO_ERROR):
                self._over[number] = f"stream {code.name}"
        elif isinstance(frame, HeadersFrame):
            fields = dict(self._decoder.decode(frame.data))
            if ":status" in fields and not fields[":status"].startswith("1"):
                self._statuses[number] = int(fields[":status"])
        if isinstance(frame, HeadersFrame | DataFrame) and "END_STREAM" in frame.flags:
            self._over[number] = f"status {self._statuses[number]}"
