"""Owns what the streams of an HTTP/2 connection have to send: whose turn it is, and who waits.

`Turns` makes one write of what all streams have at the end of a batch of events: one frame of one
stream, one of the next, as far as the client's windows and its kernel take it. `Outgoing` is what
one stream has. A client that takes too little of either window, or of its TCP connection, is not
waited for (limits.body_rate over timeouts.write_stall).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from h2.connection import H2Connection
from twisted.logger import Logger

from ..deadlines import NEVER
from ..wire.heads import Fields
from .http2_gate import LARGEST_FRAME, Budget
from .pace import Uptake

if TYPE_CHECKING:
    from ..gateway import Gateway
    from ..transport.stream import Stream as Transport

WRITE_SIZE = 65536  # octets of frames that are made before the transport is asked again
EARNED = 4  # frames that carry nothing (window updates, above all) which a frame of ours allows

log = Logger()


class Sender(Protocol):
    """A stream, as its outgoing side needs it."""

    def response_sent(self) -> None:
        """The last frame is out."""

    def response_taken(self) -> None:
        """There is room for more again."""

    def response_stalled(self) -> None:
        """The client takes too little."""


class Outgoing:
    """The response of one stream: `pending` octets of content, then perhaps its end.

    `queued` says that it is in the turns' queue; `waits` that it found its own window empty.
    """

    __slots__ = (
        "_all_before",
        "_beside",
        "_ended",
        "_last",
        "_number",
        "_pending",
        "_sender",
        "_sent",
        "_sent_before",
        "_start",
        "_taken_before",
        "_trailers",
        "_turns",
        "deadline",
        "full",
        "queued",
        "waits",
    )

    def __init__(self, turns: Turns, number: int, sender: Sender) -> None:
        self.deadline = NEVER
        self.queued = False
        self.waits = False
        self.full = False
        self._turns = turns
        self._number = number
        self._sender = sender
        self._beside = 0
        self._pending = b""  # from _start on
        self._start = 0
        self._ended = False
        self._trailers: Fields = []
        self._sent = self._sent_before = self._all_before = self._taken_before = 0
        self._last = 0  # of what the turns sent, where our last octet was when we began to wait

    @property
    def pending(self) -> int:
        """Octets that wait."""
        return len(self._pending) - self._start

    @property
    def unfinished(self) -> bool:
        """Whether there is something to send."""
        return self._ended or len(self._pending) > self._start

    def content(self, data: bytes) -> None:
        """Some content. `full` says from then on whether there is more than should wait."""
        if self._start:
            self._pending = self._pending[self._start :]
            self._start = 0
        self._pending += data
        self._turns.changed(len(data))
        self.full = len(self._pending) > self._turns.buffer
        self._turns.queue(self)

    def count_beside(self, octets: int) -> None:
        """So many are kept of the request: until the end, or until this is said again."""
        self._turns.changed(octets - self._beside)
        self._beside = octets

    def end(self, trailers: Fields) -> None:
        """The content is complete."""
        self._ended = True
        self._trailers = trailers
        self._turns.queue(self)

    def send_some(self, most: int) -> int:
        """Send one frame of up to so many octets. Returns how many it had; 0 may be the end."""
        h2, number = self._turns.h2, self._number
        pending, start = self._pending, self._start
        size = left = len(pending) - start
        if left:
            size = min(left, most, h2.local_flow_control_window(number))
            if size <= 0:
                self.waits = True
                if self.deadline == NEVER:
                    self._last = self._turns.sent + WRITE_SIZE  # what is made is counted later
                    self._measure()
                return 0
        ends = self._ended and size == left
        if size or not self._trailers:
            data = pending if size == len(pending) else pending[start : start + size]
            h2.send_data(number, data, ends and not self._trailers)
        self._sent += size
        self._turns.changed(-size)
        self.waits = False
        if size == left:
            self._pending = b""
            self._start = 0
            self.deadline = NEVER  # else it is still measured: drips do not move it
        else:
            self._start = start + size
        if ends:
            if self._trailers:
                h2.send_headers(number, self._trailers, True)
            self.forget()
            self._sender.response_sent()
        elif self.full and left - size <= self._turns.buffer // 2:
            self.full = False
            self._sender.response_taken()
        return size

    def _measure(self) -> None:
        turns = self._turns
        gateway = turns.gateway
        self._sent_before = self._sent
        self._all_before = turns.sent
        self._taken_before = turns.taken
        self.deadline = gateway.now() + gateway.timeouts.write_stall
        gateway.deadlines.add(self)

    def deadline_passed(self, now: float) -> None:
        """It had to wait for its window. Does the client take nearly nothing?

        Of a stream whose own window has room by now, or all streams: else both windows could be
        opened in turn, a few octets each, for ever. (Of what the kernel holds the turns know.) And
        it cannot open a window for what is still on its way.
        """
        turns = self._turns
        stream = turns.h2.streams.get(self._number)  # `waits` is of when it last had its turn
        waits = stream is None or stream.outbound_flow_control_window <= 0
        sent = self._sent - self._sent_before if waits else turns.sent - self._all_before
        taken = turns.taken - self._taken_before if self._taken_before < self._last else 0
        if not turns.too_little(sent):
            self._last = turns.sent
        elif turns.too_little(taken) and (waits or not turns.blocked):
            self.deadline = NEVER
            self._sender.response_stalled()
            return
        self._measure()

    def forget(self) -> None:
        """Nothing of it goes out any more."""
        if self._pending:
            self._turns.changed(-self.pending)
            self._pending = b""
            self._start = 0
        if self._beside:
            self.count_beside(0)
        self._ended = False
        self.deadline = NEVER
        self._turns.gateway.deadlines.discard(self)


class Turns:
    """What all streams of one connection have to send. `buffer` bounds, about, what waits of one.

    `octets` is what waits of all, and large heads of requests; `sent` what went out, of content.
    `blocked` says that the client's kernel takes no more. `frames` is what the client may send of
    frames that carry nothing: each of ours allows some.
    """

    def __init__(
        self, gateway: Gateway, h2: H2Connection, transport: Transport, frames: Budget
    ) -> None:
        self.deadline = NEVER
        self.gateway = gateway
        self.h2 = h2
        self.buffer = gateway.limits.buffer
        self.octets = 0
        self.held = False  # while events are told: nothing goes out in between
        self.closed = False
        self._transport = transport
        self._frames = frames
        self._queue: deque[Outgoing] = deque()
        self._flushing = False  # send_unsent will be called
        self.blocked = False
        self._stalled = False  # its connection window is empty, and there is something for it
        self.sent = self._sent_before = self._taken_before = 0
        self._uptake = Uptake(gateway.limits, gateway.timeouts)
        transport.registerProducer(self, True)
        gateway.deadlines.add(self)
        gateway.waiting.holders.add(self)

    def changed(self, octets: int) -> None:
        """So much more waits, or less."""
        self.octets += octets
        self.gateway.waiting.changed(octets)

    def queue(self, outgoing: Outgoing) -> None:
        """This one has something to send."""
        if not outgoing.queued:
            outgoing.queued = True
            self._queue.append(outgoing)

    def flush(self) -> None:
        """Send at the end of this batch of events."""
        if not self.held and not self._flushing:
            self._flushing = True
            self._transport.reactor.outbox.at_the_end(self)

    def send_unsent(self) -> None:
        """The batch of events is over: send what there is, in turn."""
        self._flushing = False
        if self.closed:
            return
        try:
            self._send_in_turn()
        except Exception:
            log.failure("Sending HTTP/2 failed")
            self._transport.abortConnection()

    def _send_in_turn(self) -> None:
        queue, h2 = self._queue, self.h2
        made = 0
        while queue and not self.blocked:
            window = min(h2.outbound_flow_control_window, LARGEST_FRAME)
            if window <= 0 and queue[0].pending:
                break  # nobody's turn: it is the connection's
            outgoing = queue.popleft()
            outgoing.queued = False
            if not outgoing.unfinished:
                continue  # it was reset meanwhile
            made += outgoing.send_some(window)
            if outgoing.waits:
                continue  # nothing of it went out
            self._frames.earn(EARNED)
            if outgoing.unfinished:
                self.queue(outgoing)
            if made >= WRITE_SIZE:  # does the transport take more?
                self.sent += made
                made = 0
                self._transport.write(h2.data_to_send())
        self.sent += made
        data = h2.data_to_send()
        if data:
            self._transport.write(data)
        if not self.blocked and bool(queue) is not self._stalled:
            self._stalled = not self._stalled
            self._measure()

    # The transport's producer.

    def pauseProducing(self) -> None:
        """The client does not take what we write. Said with each write, an answer to a PING too,
        and measured from the first."""
        if self.blocked:
            self._uptake.more(self._transport.outstanding)
            return
        self.blocked = True
        self._stalled = False
        self.deadline = self._uptake.restart(self._transport.outstanding, self.gateway.now())

    def resumeProducing(self) -> None:
        """It took everything."""
        self.blocked = False
        self.deadline = NEVER
        self.flush()

    def stopProducing(self) -> None:
        """The transport is gone; the protocol's connectionLost follows."""

    # Who takes too little.

    def too_little(self, octets: int) -> bool:
        """Whether this is what we do not wait for, over timeouts.write_stall."""
        gateway = self.gateway
        return octets < max(1, gateway.limits.body_rate * gateway.timeouts.write_stall)

    @property
    def taken(self) -> int:
        """About how much of what was sent is not on its way any more."""
        return self.sent - self._transport.outstanding

    def _measure(self) -> None:
        """Begin, or cease, to measure what the client takes of its connection window."""
        self.deadline = NEVER
        if self._stalled:
            self._sent_before, self._taken_before = self.sent, self.taken
            self.deadline = self.gateway.now() + self.gateway.timeouts.write_stall

    def deadline_passed(self, now: float) -> None:
        """It could not send for long: was it nearly nothing?"""
        if self.blocked:
            outstanding = self._transport.outstanding
            stalled = self._uptake.too_little(outstanding)
            self.deadline = self._uptake.restart(outstanding, now)
        else:
            sent, taken = self.sent - self._sent_before, self.taken - self._taken_before
            stalled = self.too_little(max(sent, taken))
            self._measure()
        if stalled:
            self.gateway.count_refused("the client did not read its response")
            self._transport.abortConnection()

    def shed(self) -> None:
        """The client has more than others of what waits in all."""
        self.gateway.count_refused("more waits for one client than for others, too much for all")
        self._transport.abortConnection()

    def close(self) -> None:
        """Nothing goes out any more."""
        self.closed = True
        self._queue.clear()
        self.deadline = NEVER
        self.gateway.deadlines.discard(self)
        self.gateway.waiting.holders.discard(self)
        self._transport.unregisterProducer()
