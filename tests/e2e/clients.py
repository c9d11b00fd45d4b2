"""Two clients that see alike what comes: HTTP/1.1 by h11, HTTP/2 by h2, each on a socket.

They block, in the thread of the test. Of HTTP/2 everything is in the test's hand: which stream's
window stays shut, what is reset, which frames are sent raw.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import h11

from .processes import HOST, PATIENCE

Fields = list[tuple[str, str]]
PIECE = 65536
CONNECTION_WINDOW = 1 << 30  # octets: never what stops a stream here
_FRAME_HEADER = 9
_GOAWAY = 7


@dataclass
class Seen:
    """A response: `ended` well, or `cut`; `reset` is the code of RST_STREAM."""

    status: int = 0
    fields: Fields = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    trailers: Fields = field(default_factory=list)
    informational: list[tuple[int, Fields]] = field(default_factory=list)
    ended: bool = False
    cut: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.cut

    def value(self, name: str) -> str:
        """Of a field that must be there once."""
        [value] = [value for other, value in self.fields if other == name]
        return value


@dataclass(frozen=True)
class Asked:
    """A request. `content` is None where there is none; `pieces` has no length that is said."""

    method: str = "GET"
    target: str = "/"
    fields: Sequence[tuple[str, str]] = ()
    content: bytes | None = None
    pieces: Sequence[bytes] = ()
    trailers: Sequence[tuple[str, str]] = ()
    host: str = HOST

    @property
    def expects(self) -> bool:
        return ("expect", "100-continue") in self.fields

    @property
    def sent(self) -> list[bytes]:
        """Its content."""
        return list(self.pieces) if self.content is None else [self.content]

    @property
    def empty(self) -> bool:
        return self.content is None and not self.pieces


class HTTP1:
    """One request after the other."""

    version = "HTTP/1.1"

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._h11 = h11.Connection(h11.CLIENT)

    def close(self) -> None:
        self._sock.close()

    def ask(self, asked: Asked) -> Seen:
        """Send it, and receive all of the response."""
        fields = [("host", asked.host), *asked.fields]
        if asked.content is not None:
            fields.append(("content-length", str(len(asked.content))))
        elif asked.pieces:
            fields.append(("transfer-encoding", "chunked"))
        self._send(h11.Request(method=asked.method, target=asked.target, headers=fields))
        seen = Seen()
        if asked.expects:
            self._receive_until(seen, lambda: bool(seen.informational or seen.status))
        for piece in asked.sent:
            self._send(h11.Data(piece))
        self._send(h11.EndOfMessage(headers=list(asked.trailers)))
        self._receive_until(seen, lambda: seen.over)
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return seen

    def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self._sock.sendall(data)

    def _receive_until(self, seen: Seen, enough: Callable[[], bool]) -> None:
        while not enough():
            try:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    self._h11.receive_data(self._sock.recv(PIECE))
                    continue
            except (h11.RemoteProtocolError, ConnectionError, ssl.SSLError):
                seen.cut = True
                return
            if isinstance(event, h11.InformationalResponse):
                seen.informational.append((event.status_code, _texts(event.headers)))
            elif isinstance(event, h11.Response):
                seen.status, seen.fields = event.status_code, _texts(event.headers)
            elif isinstance(event, h11.Data):
                seen.content += event.data
            elif isinstance(event, h11.EndOfMessage):
                seen.trailers = _texts(event.headers)
                seen.ended = True
            else:
                raise AssertionError(event)


class HTTP2:
    """Many streams. `goaways` are (last stream, code) of each; `lost` says that it is over.

    A stream in `shut` never gets more than its first window; `acknowledged` are its octets.
    """

    version = "HTTP/2.0"

    def __init__(self, sock: ssl.SSLSocket, window: int = 65535) -> None:
        self.sock = sock
        # A frame waits for the acknowledgement of the one before otherwise, and that for 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.streams: dict[int, Seen] = {}
        self.shut: set[int] = set()
        self.goaways: list[tuple[int, int]] = []
        self.lost = False
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
            },
        )
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION_WINDOW)
        self._partial = b""
        self.flush()

    def close(self) -> None:
        self.sock.close()

    def ask(self, asked: Asked) -> Seen:
        """Send it, and receive all of the response."""
        number = self.begin(asked)
        seen = self.streams[number]
        if not asked.empty:
            if asked.expects:
                self.until(lambda: seen.informational or seen.status or seen.over)
            for piece in asked.sent:
                self.send(number, piece)
            self.end(number, asked.trailers)
        self.until(lambda: seen.over)
        return seen

    def ask_all(self, *all_asked: Asked) -> list[Seen]:
        """Several without content, at once."""
        numbers = [self.begin(asked) for asked in all_asked]
        self.wait(numbers)
        return [self.streams[number] for number in numbers]

    def wait(self, numbers: Sequence[int]) -> None:
        """Until these are over."""
        left = list(numbers)

        def none_left() -> bool:
            while left and self.streams[left[-1]].over:
                left.pop()
            return not left

        self.until(none_left)

    def begin(self, asked: Asked) -> int:
        """Send its head, and END_STREAM where it has no content. Returns the stream's number."""
        number = self.h2.get_next_available_stream_id()
        fields = [
            (":method", asked.method),
            (":scheme", "https"),
            (":authority", asked.host),
            (":path", asked.target),
            *asked.fields,
        ]
        if asked.content is not None:
            fields.append(("content-length", str(len(asked.content))))
        self.streams[number] = Seen()
        self.h2.send_headers(number, fields, end_stream=asked.empty)
        self.flush()
        return number

    def send(self, number: int, data: bytes) -> None:
        """All of it, as the proxy's windows open; or until the stream is over."""
        while data and not self.streams[number].over:
            window = self.room(number)
            if not window:
                self.receive()
                continue
            piece, data = data[:window], data[window:]
            self.h2.send_data(number, piece)
            self.flush()

    def room(self, number: int) -> int:
        """Octets that one frame of it may have now."""
        return min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)

    def end(self, number: int, trailers: Sequence[tuple[str, str]] = ()) -> None:
        """Its request is complete, if the proxy still wants to know."""
        if self.streams[number].cut or self.streams[number].reset is not None:
            return
        if trailers:
            self.h2.send_headers(number, trailers, end_stream=True)
        else:
            self.h2.end_stream(number)
        self.flush()

    def reset(self, number: int) -> None:
        """Cancel it."""
        self.h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
        self.streams[number].cut = True
        self.flush()

    def until(self, enough: Callable[[], object]) -> None:
        """Receive until that is true. The connection must not be lost before."""
        while not enough():
            if self.lost:
                raise AssertionError(f"the connection is gone: {self.goaways}")
            self.receive()

    def drain(self) -> None:
        """Receive until the proxy closes."""
        while not self.lost:
            self.receive()

    def come(self) -> None:
        """Receive what is there, without waiting."""
        self.sock.settimeout(0.0)
        try:
            while not self.lost:
                self.receive()
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        finally:
            self.sock.settimeout(PATIENCE)
        self.flush()

    def receive(self) -> None:
        """Wait for some octets and take them; answer what wants an answer."""
        try:
            data = self.sock.recv(PIECE)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            data = b""
        if not data:
            self.lost = True
            for seen in self.streams.values():
                seen.cut = seen.cut or not seen.ended
            return
        for event in self.h2.receive_data(self._without_goaway(data)):
            self._take(event)
        if self.sock.gettimeout():
            self.flush()

    def flush(self) -> None:
        """Send what the library has made."""
        data = self.h2.data_to_send()
        if data:
            # If it is over: what came before is still read.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                self.sock.sendall(data)

    def _without_goaway(self, data: bytes) -> bytes:
        """The library would take it for the end of every stream (but see RFC 9113 6.8)."""
        data = self._partial + data
        passed = bytearray()
        start = 0
        while len(data) - start >= _FRAME_HEADER:
            size = _FRAME_HEADER + int.from_bytes(data[start : start + 3])
            frame = data[start : start + size]
            if len(frame) < size:
                break
            if frame[3] == _GOAWAY:
                self.goaways.append((int.from_bytes(frame[9:13]), int.from_bytes(frame[13:17])))
            else:
                passed += frame
            start += size
        self._partial = data[start:]
        return bytes(passed)

    def _take(self, event: h2.events.Event) -> None:
        seen = self.streams.get(getattr(event, "stream_id", 0))
        if seen is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            status, *fields = event.headers
            seen.informational.append((int(status[1]), _texts(fields)))
        elif isinstance(event, h2.events.ResponseReceived):
            status, *fields = event.headers
            seen.status, seen.fields = int(status[1]), _texts(fields)
        elif isinstance(event, h2.events.DataReceived):
            seen.content += event.data
            if event.stream_id not in self.shut and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            seen.trailers = _texts(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            seen.ended = True
        elif isinstance(event, h2.events.StreamReset):
            seen.reset = event.error_code
            seen.cut = not seen.ended


def _texts(fields: object) -> Fields:
    return [
        (name, value) if isinstance(name, str) else (name.decode(), value.decode())
        for name, value in fields  # type: ignore[attr-defined]
    ]
