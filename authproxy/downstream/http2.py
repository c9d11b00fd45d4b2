"""Owns one HTTP/2 connection from a client (RFC 9113): streams, windows, turns, its end.

Frames, HPACK and the states of streams are the h2 library's, which does no I/O. What comes passes
the gate (http2_gate.py) first; each stream (http2_stream.py) carries an exchange as an HTTP/1.1
connection does. What streams have to send goes out once for each batch of events, in turn: one
frame of one stream, one of the next. There are no priorities.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError as H2Error
from hpack.exceptions import HPACKError
from twisted.internet import protocol
from twisted.python.failure import Failure

from .. import trust
from ..deadlines import NEVER
from ..wire import http2
from ..wire.errors import ProtocolError
from ..wire.heads import RequestHead, ResponseHead
from .http2_gate import ConnectionFault, Gate
from .http2_library import NO_LIMIT, follow_table_size, goaway_frame, server
from .http2_outgoing import EARNED, Turns
from .http2_stream import LARGE_HEAD, Stream
from .lingering import Lingering

if TYPE_CHECKING:
    from ..gateway import Gateway
    from ..transport.opening import Opening
    from ..transport.stream import Stream as Transport

# Octets that wait for a client's kernel. Content waits elsewhere; heads of no more than
# limits.http2_streams responses can be here as long as the client opens no streams beyond.
UNREAD = 1 << 22
BARRIER = b"GOAWAY??"  # of the PING before the first GOAWAY: 8 octets


class Connection(protocol.Protocol):
    """A client's connection. `opening` says who the peer is; `streams` are the open ones."""

    transport: Transport

    def __init__(self, gateway: Gateway, opening: Opening) -> None:
        self.deadline = NEVER
        self.gateway = gateway
        self.opening = opening
        self.streams: dict[int, Stream] = {}
        self._gate = Gate(gateway.limits.head_bytes, gateway.now, self.streams)
        self._head: RequestHead | None = None
        self.settings_changed()
        self._receive = self._receive_frames
        self._resets: set[int] = set()  # streams that are reset by what is told just now
        self._going = False  # the first GOAWAY is out
        self._last: int | None = None  # the stream after which the final GOAWAY lets none begin
        self._highest = 0  # of the streams that began
        self._requests = 0
        self._worn = False  # it is to end when no stream is open: some clients lose what runs
        now = gateway.now()
        self._expires = now + gateway.timeouts.connection_age
        self._idle_deadline = now + gateway.timeouts.head
        self._head_deadline = self._barrier_deadline = NEVER

    def settings_changed(self) -> None:
        """The next request is looked at anew: nothing of one before says what it means now."""
        self._client = self._peer = self.gateway.client_of(self.opening)
        if self._head is not None:
            self._head.received = None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.opening.peer} requests={self._requests}"
            f" streams={len(self.streams)}>"
        )

    def connectionMade(self) -> None:
        """TLS is there, and chose h2."""
        gateway, limits = self.gateway, self.gateway.limits
        gateway.connections.add(self)
        gateway.deadlines.add(self)
        self.transport.bufferSize = limits.buffer
        self._most_streams = limits.http2_streams  # as the client is told, whatever changes
        self.h2 = server(limits, gateway.settings.listen.http2_websockets)
        self.turns = Turns(gateway, self.h2, self.transport, self._gate.frames)
        self.turns.flush()
        if gateway.draining:
            self.drain()
        self._watch()

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        self._receive(data)

    # What comes.

    def _receive_frames(self, data: bytes) -> None:
        self.turns.held = True
        try:
            events = self.h2.receive_data(self._gate.admit(data))
            if len(events) > 1:
                # A request that is taken back in the same breath is not worth beginning.
                self._resets = {e.stream_id for e in events if type(e) is StreamReset}
            for event in events:
                act = _ACTS.get(type(event))
                if act is not None:
                    act(self, event)
        except ConnectionFault as e:
            self._end(goaway_frame(self._highest, e.code, e.reason.encode()), e)
            return
        except H2Error as e:
            self._refused_by_library(e)
            return
        finally:
            self.turns.held = False
        self._perhaps_over()
        self.turns.flush()
        if self.transport.buffered > UNREAD:
            error = ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "a client that does not read")
            self._end(goaway_frame(self._highest, error.code), error)
        elif self._gate.in_head:
            if self._head_deadline == NEVER:  # absolute: drips do not move it
                self._head_deadline = self.gateway.now() + self.gateway.timeouts.head
                self._watch()
        elif self._head_deadline != NEVER:
            self._head_deadline = NEVER
            self._watch()
        if self._gate.more:
            self.transport.pauseProducing()
            self.gateway.deadlines.next_turn(self._go_on, self.transport.abortConnection)

    def _refused_by_library(self, error: H2Error) -> None:
        # It has made its GOAWAY. Its words may repeat what the client sent.
        code, goaway = ErrorCodes(error.error_code), b""
        if isinstance(error.__cause__, HPACKError) and code == ErrorCodes.PROTOCOL_ERROR:
            # RFC 9113 4.3. The library's GOAWAY says otherwise; it is the last that it made.
            code = ErrorCodes.COMPRESSION_ERROR
            goaway = goaway_frame(self._highest, code)
            self.transport.write(self.h2.data_to_send()[: -len(goaway)])
        self._end(goaway, ProtocolError(400, f"HTTP/2 {code.name} of a client"))

    def _go_on(self) -> None:
        """Others had their turn."""
        self.transport.resumeProducing()
        self._receive(b"")

    @staticmethod
    def _receive_nothing(data: bytes) -> None:
        pass

    def _request(self, event: RequestReceived) -> None:
        number, gateway = event.stream_id, self.gateway
        if self._last is None:  # what comes later is refused, and earns nothing
            self._gate.frames.earn(EARNED)
        now = gateway.now()
        if number in self._resets:
            self._idle_deadline = now + gateway.timeouts.keepalive
            self._watch()
            if now >= self._expires:
                self.drain()
            return
        ended = event.stream_ended is not None
        if self._last is not None or len(self.streams) >= self._most_streams:
            if self._last is None:
                gateway.count_refused("too many HTTP/2 streams at once")
                self._gate.reset()
            self.h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        self._highest = number
        self._requests += 1
        stream = self.streams[number] = Stream(self, number, ended)
        if len(self.streams) == 1:
            self._watch()  # it is not idle any more
        limits = gateway.limits
        self._worn = self._requests >= limits.requests_per_connection or now >= self._expires
        if self._requests >= limits.requests_per_connection + limits.http2_streams:
            self.drain()  # it is never without a request
        try:
            head = http2.parse_request(event.headers, ended, gateway.head_limits, self._head)
            if head.upgrade:
                self._open_websocket(head)
        except ProtocolError as e:
            stream.refuse(e)
            return
        before, self._head = self._head, head
        if before is None or head.fields is not before.fields:  # else the same says the same
            self._client = trust.identify(head, self._peer, gateway.networks)
        stream.begin(head, self._client, now)
        if len(head.forwarded) > LARGE_HEAD:
            self._head = None  # thousands of idle connections would hold one each

    def _open_websocket(self, head: RequestHead) -> None:
        if not self.gateway.settings.listen.http2_websockets:
            raise ProtocolError(405, "the method is not allowed here")
        if not self.opening.begin_tunnel():  # ended by the stream
            raise ProtocolError(503, "as many connections as there may be", "limits.connections")
        # HTTP/1.1 has a key that proves that the server read it (RFC 6455 4.1).
        key = base64.b64encode(secrets.token_bytes(16))
        head.fields.append((b"sec-websocket-key", key))
        head.named[b"sec-websocket-key"] = key

    def refusal(self, error: ProtocolError) -> tuple[ResponseHead, bytes]:
        """The answer to what is no request."""
        return self.gateway.refusal(self._peer, error)

    def _data(self, event: DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        ended = event.stream_ended is not None
        if not event.data and not ended:
            self._gate.empty()  # padding alone
        if stream is not None and event.stream_id not in self._resets:
            stream.receive(event.data, event.flow_controlled_length, ended)
        elif event.flow_controlled_length:
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _request_trailers(self, event: TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None or event.stream_id in self._resets:
            return
        try:
            stream.end_request(http2.parse_fields(event.headers, self.gateway.head_limits))
        except ProtocolError as e:
            stream.refuse(e)

    def _stream_reset(self, event: StreamReset) -> None:
        if not event.remote_reset:
            self._gate.reset()  # the client made us do it (CVE-2025-8671)
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.cancel()

    def _window(self, event: WindowUpdated) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.window_opened()

    def _settings(self, event: RemoteSettingsChanged) -> None:
        follow_table_size(self.h2.encoder)
        for stream in self.streams.values():  # the initial window may have grown
            stream.window_opened()

    # Deadlines.

    def _watch(self) -> None:
        idle = NEVER if self.streams else self._idle_deadline
        self.deadline = min(idle, self._head_deadline, self._barrier_deadline)

    def deadline_passed(self, now: float) -> None:
        """The client is too slow, or idle for long enough."""
        if self._head_deadline <= now:
            error = ProtocolError(408, "the request head was not complete in time")
            self._end(goaway_frame(self._highest, ErrorCodes.NO_ERROR, b"timeout"), error)
        elif self._barrier_deadline <= now:
            self._go_finally()
        else:
            self._end(goaway_frame(self._highest, ErrorCodes.NO_ERROR, b"idle"), None)

    # The end.

    def forget(self, number: int) -> None:
        """A stream is over."""
        if self.streams.pop(number, None) is not None and not self.streams:
            self._idle_deadline = self.gateway.now() + self.gateway.timeouts.keepalive
            self._watch()
            if self._worn and not self.turns.closed:
                self.drain()
            if not self.turns.held:
                self._perhaps_over()

    def _perhaps_over(self) -> None:
        """Close, if no stream is open and none may begin."""
        none_may = self._last is not None or self._gate.farewell
        if none_may and not self.streams and not self.turns.closed:
            self._end(b"", None)

    def drain(self) -> None:
        """Let the client begin no more streams, without losing those on their way here: the final
        GOAWAY, with their number, comes when it has answered a PING (RFC 9113 6.8)."""
        if self._going:
            return
        self._going = True
        self._barrier_deadline = self.gateway.now() + self.gateway.timeouts.linger
        self._watch()
        # PING first, in the same write: clients made with the h2 library fail on any frame that
        # comes behind a GOAWAY, also together with the end of a response.
        self.h2.ping(BARRIER)
        self._say_goodbye(NO_LIMIT)
        self.turns.flush()

    def _ping_answered(self, event: PingAckReceived) -> None:
        if self._going and event.ping_data == BARRIER and self._last is None:
            self._go_finally()

    def _go_finally(self) -> None:
        self._last = self._highest
        self._barrier_deadline = NEVER
        self._watch()
        self._say_goodbye(self._last)
        self._perhaps_over()

    def _say_goodbye(self, last: int) -> None:
        # Behind what was made before: for some clients it is the end.
        self.transport.write(self.h2.data_to_send() + goaway_frame(last, ErrorCodes.NO_ERROR))

    def _end(self, goaway: bytes, error: ProtocolError | None) -> None:
        """Send what there is, and this; then close, without losing it to a reset."""
        if self.turns.closed:
            return  # by an event before this one
        if error is not None:
            self.gateway.refused_request(self._peer.address, error)
        self._leave()
        self.transport.write(self.h2.data_to_send() + goaway)
        Lingering(self.gateway, self.transport)

    def _leave(self) -> None:
        self._receive = self._receive_nothing
        self.deadline = NEVER
        self.gateway.deadlines.discard(self)
        self.gateway.connections.discard(self)
        self.turns.close()
        for stream in list(self.streams.values()):
            stream.cancel()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """The client is gone."""
        self._leave()


_ACTS: dict[type, Callable[[Connection, Any], None]] = {
    RequestReceived: Connection._request,
    DataReceived: Connection._data,
    TrailersReceived: Connection._request_trailers,
    StreamReset: Connection._stream_reset,
    WindowUpdated: Connection._window,
    RemoteSettingsChanged: Connection._settings,
    PingAckReceived: Connection._ping_answered,
}
