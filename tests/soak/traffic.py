"""What clients do in a soak. Each function is one connection, from its begin to its end.

They block, each in a thread of its own, and tell the record of every answer. A connection that
breaks raises OSError; `since` is then when its last answer was complete.
"""

from __future__ import annotations

import itertools
import os
import random
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import h11

from ..e2e.clients import HTTP1, HTTP2, Asked, Seen
from ..e2e.processes import HOST, Proxy, Stage, read_exactly, read_head, request
from .origin import content, sunk
from .record import Record

PAUSE = 0.1  # seconds at most, between two requests of a client
SMALL = 20_000  # octets
LARGE = 3 << 20
SIZES = (0, 1, 100, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 131_073)
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
CUT = (OSError, ssl.SSLError, h11.ProtocolError, AssertionError)


class Client:
    """One of many: `kind` is the function that it runs again and again until `over`."""

    def __init__(self, stage: Stage, proxy: Proxy, record: Record, over: threading.Event) -> None:
        self.stage = stage
        self.proxy = proxy
        self.record = record
        self.over = over
        self.random = random.Random(os.urandom(8))
        self.since = 0.0
        self.kind = self.name = ""
        self._count = 0
        self._letters = os.urandom(4).hex()

    def run(self, kind: Callable[[Client], None]) -> None:
        """Connect, converse, end; again and again."""
        self.kind = kind.__name__
        while not self.over.is_set():
            self.since = time.monotonic()
            self.name = f"{self.kind}-{self._letters}-connecting"
            try:
                kind(self)
            except CUT as e:
                self.record.failed(self.kind, self.name, self.since, repr(e))
            except Exception as e:  # of the client itself, or the proxy broke a protocol
                self.record.wrong.append(f"{self.name}: {e!r}")
            self.pause()

    def next(self) -> str:
        """The ID of the next request."""
        self._count += 1
        self.name = f"{self.kind}-{self._letters}-{self._count}"
        return self.name

    def pause(self) -> None:
        self.over.wait(self.random.random() * PAUSE)

    def size(self, most: int = SMALL) -> int:
        """Octets, often at the edges of records, frames and buffers."""
        if self.random.random() < 0.3:
            return self.random.choice(SIZES)
        return self.random.randrange(most)

    def connect(self, *protocols: str, **options: Any) -> ssl.SSLSocket:
        return self.stage.connect(self.proxy, protocols=protocols, **options)

    def went_on(self, count: int) -> bool:
        """Whether this connection goes on for another request, of about so many."""
        return not self.over.is_set() and self.random.random() > 1 / count

    def download(self, most: int = SMALL) -> tuple[Asked, str, bytes]:
        """A request, its ID, and the answer that is due."""
        size, name = self.size(most), self.next()
        framing = self.random.choice(("length", "chunked"))
        target = f"/bytes/{name}?size={size}&framing={framing}"
        return Asked(target=target), name, content(name, size)

    def upload(self, most: int = SMALL) -> tuple[Asked, str, bytes]:
        """With a length or without, with 100-continue or without, to be counted or mirrored."""
        size, name = self.size(most), self.next()
        data = content(name, size)
        where = self.random.choice(("sink", "mirror"))
        fields = [("expect", "100-continue")] if data and self.random.random() < 0.2 else []
        due = sunk(data) if where == "sink" else data
        target = f"/{where}/{name}"
        if data and self.random.random() < 0.5:
            cuts = sorted(self.random.randrange(size) for _ in range(self.random.randrange(8)))
            edges = [0, *cuts, size]
            pieces = [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
            return Asked("POST", target, fields, pieces=pieces), name, due
        return Asked("POST", target, fields, content=data), name, due

    def judged(self, name: str, seen: Seen, due: bytes) -> bool:
        """Tell the record. Whether the connection can go on."""
        came = bytes(seen.content)
        self.record.judge(
            self.kind, name, self.since, seen.status, seen.ended and not seen.cut, came, due
        )
        if seen.ended:
            self.since = time.monotonic()
        return seen.ended and not seen.cut and seen.status == 200


def keep_alive(client: Client) -> None:
    """One GET or POST after the other."""
    with client.connect() as sock:
        http = HTTP1(sock)
        while client.went_on(20):
            asked, name, due = client.random.choice((client.download, client.upload))()
            if not client.judged(name, http.ask(asked), due):
                return
            client.pause()


def uploads(client: Client) -> None:
    """Larger ones."""
    with client.connect() as sock:
        http = HTTP1(sock)
        while client.went_on(5):
            asked, name, due = client.upload(LARGE)
            if not client.judged(name, http.ask(asked), due):
                return
            client.pause()


def downloads(client: Client) -> None:
    """Larger ones."""
    with client.connect() as sock:
        http = HTTP1(sock)
        while client.went_on(5):
            asked, name, due = client.download(LARGE)
            if not client.judged(name, http.ask(asked), due):
                return
            client.pause()


def pipelined(client: Client) -> None:
    """Some GETs at once, answered in their order."""
    with client.connect() as sock:
        while client.went_on(5):
            several = [client.download(SMALL) for _ in range(client.random.randrange(2, 8))]
            sock.sendall(b"".join(request(asked.target) for asked, _, _ in several))
            reading = h11.Connection(h11.CLIENT)
            for _, name, due in several:
                client.name = name
                seen = _answer(reading, sock)
                if not client.judged(name, seen, due):
                    return
            client.pause()


def _answer(reading: h11.Connection, sock: ssl.SSLSocket, pause: float = 0.0) -> Seen:
    """One response of several; what is read ahead stays in `reading`."""
    reading.send(h11.Request(method="GET", target="/", headers=[("host", HOST)]))
    reading.send(h11.EndOfMessage())
    seen = Seen()
    while not seen.over:
        event = reading.next_event()
        if event is h11.NEED_DATA:
            time.sleep(pause)
            reading.receive_data(sock.recv(65536))
        elif isinstance(event, h11.Response):
            seen.status = event.status_code
        elif isinstance(event, h11.Data):
            seen.content += event.data
        elif isinstance(event, h11.EndOfMessage):
            seen.ended = True
    if reading.their_state is h11.DONE:
        reading.start_next_cycle()
    return seen


def slow_reader(client: Client) -> None:
    """A large response through a small window, with pauses."""
    with client.connect(receive_buffer=8192) as sock:
        size, name = LARGE // 2, client.next()
        sock.sendall(request(f"/bytes/{name}?size={size}"))
        seen = _answer(h11.Connection(h11.CLIENT), sock, 0.005)
        client.judged(name, seen, content(name, size))


def http2(client: Client) -> None:
    """Streams beside each other, uploads among them, some cancelled."""
    http = HTTP2(client.connect("h2"))
    with http.sock:
        while client.went_on(10):
            several = [client.download(4 * SMALL) for _ in range(client.random.randrange(1, 12))]
            numbers = [http.begin(asked) for asked, _, _ in several]
            asked, name, due = client.upload(4 * SMALL)
            client.judged(name, http.ask(asked), due)
            if client.random.random() < 0.2 and not http.streams[numbers[-1]].over:
                http.reset(numbers.pop())
                several.pop()
            http.wait(numbers)
            for number, (_, name, due) in zip(numbers, several, strict=True):
                client.judged(name, http.streams[number], due)
            http.streams = {n: seen for n, seen in http.streams.items() if not seen.over}
            client.pause()


def websocket(client: Client) -> None:
    """Numbered messages of all sizes; each comes back before the one after the next is sent."""
    with client.connect() as sock:
        name = client.next()
        sock.sendall(request(f"/ws/{name}", *UPGRADE, f"Sec-WebSocket-Key: {KEY}"))
        head = read_head(sock)
        if not head.startswith(b"HTTP/1.1 101 "):
            client.record.failed(client.kind, name, client.since, f"{head[:60]!r}")
            return
        sent: list[bytes] = []
        number = 0
        while client.went_on(200) or sent:
            if len(sent) < 2 and not client.over.is_set():
                sent.append(_message(name, number, client.size()))
                sock.sendall(sent[-1])
                number += 1
                if client.random.random() < 0.5:
                    continue
            due = sent.pop(0)
            came = read_exactly(sock, len(due))
            client.record.judge(client.kind, name, client.since, 200, True, came, due)
            client.since = time.monotonic()
            client.pause()


def _message(name: str, number: int, size: int) -> bytes:
    """A masked binary frame (the key of the mask is 0) with its number in front."""
    data = struct.pack("!Q", number) + content(f"{name}.{number}", size)
    if len(data) < 126:
        length = bytes([0x80 | len(data)])
    elif len(data) < 65536:
        length = b"\xfe" + struct.pack("!H", len(data))
    else:
        length = b"\xff" + struct.pack("!Q", len(data))
    return b"\x82" + length + b"\0\0\0\0" + data


KINDS: tuple[Callable[[Client], None], ...] = (
    keep_alive, keep_alive, pipelined, http2, http2, websocket, websocket, uploads, downloads,
    slow_reader,
)  # fmt: skip
