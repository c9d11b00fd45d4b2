"""An HTTP/2 client on a fake transport: the h2 library's, and raw frames where it would refuse."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from hyperframe.frame import Frame, GoAwayFrame

from authproxy.downstream.http2 import Connection

from .transports import FakeTransport, connect
from .world import FakeOpening, World

Fields = list[tuple[bytes, bytes]]


def request(path: bytes = b"/", *fields: tuple[bytes, bytes], method: bytes = b"GET") -> Fields:
    """The field list of a request."""
    return [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", b"sso.example.com"),
        (b":path", path),
        *fields,
    ]


class Client:
    """A client's connection in a world. `events` is everything that it was told, in order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.opening = FakeOpening("198.51.100.7", secure=True)
        self.server = Connection(world.gateway, self.opening)  # type: ignore[arg-type]
        self.transport: FakeTransport = connect(self.server)
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.events: list[Event] = []
        self.h2.initiate_connection()
        self.talk()

    def talk(self) -> list[Event]:
        """Exchange what both sides have to say. Returns what was new to us."""
        new: list[Event] = []
        while True:
            sent = self.h2.data_to_send()
            if sent:
                self.transport.protocol.dataReceived(sent)
            received = self.transport.take()
            if received:
                new += self.h2.receive_data(received)
            if not sent and not received:
                self.events += new
                return new

    def raw(self, *frames: Frame | bytes) -> None:
        """Say this, in one segment."""
        self.transport.protocol.dataReceived(
            b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames)
        )

    def ask(self, fields: Fields | None = None, content: bytes | None = None) -> int:
        """A request. Returns its stream."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, fields or request(), end_stream=content is None)
        if content is not None:
            self.h2.send_data(number, content, end_stream=True)
        self.talk()
        return number

    def block(self, fields: Fields) -> bytes:
        """A header block of this connection's HPACK."""
        return self.h2.encoder.encode(fields)

    def status(self, number: int) -> int:
        """The status of the answer on this stream; 0: none came."""
        for event in self.events:
            if isinstance(event, ResponseReceived) and event.stream_id == number:
                return int(dict(event.headers)[b":status"])
        return 0

    def fields(self, number: int) -> Any:
        """The fields of that answer."""
        [event] = [
            e for e in self.events if isinstance(e, ResponseReceived) and e.stream_id == number
        ]
        return event.headers

    def content(self, number: int) -> bytes:
        """What came of the answer's content."""
        return b"".join(
            event.data
            for event in self.events
            if isinstance(event, DataReceived) and event.stream_id == number
        )

    def ended(self, number: int) -> bool:
        """Whether the answer is complete."""
        return any(isinstance(e, StreamEnded) and e.stream_id == number for e in self.events)

    def reset(self, number: int) -> int | None:
        """The code with which the server reset this stream; None: it did not."""
        for event in self.events:
            if isinstance(event, StreamReset) and event.stream_id == number:
                return int(event.error_code)
        return None

    def farewell(self) -> GoAwayFrame | None:
        """The last GOAWAY in what the server has just sent: look before `talk`."""
        return next((f for f in reversed(frames(self.transport.take())) if is_goaway(f)), None)


def is_goaway(frame: Frame) -> bool:
    """Whether it is one."""
    return isinstance(frame, GoAwayFrame)


def frames(data: bytes) -> list[Any]:
    """The frames in these octets."""
    found = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        found.append(frame)
        data = data[9 + length :]
    return found
