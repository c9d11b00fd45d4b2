"""Many streams on one connection of HTTP/2: what one of them does, the others do not feel."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
from typing import Any, ClassVar

from h2.errors import ErrorCodes

from .clients import HTTP2, Asked
from .processes import (
    HOST,
    PATIENCE,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    read_exactly,
    read_head,
    until,
    whole_lines,
)

MIB = 1024 * 1024
LARGE = 50 * MIB
STREAMS = 100  # limits.http2_streams
ROUNDS = 5
STILL = 30  # looks in a row without any processor time: nothing moves
SMALL_BUFFER = 64 * 1024
# What the kernel's buffers between the proxy and an upstream server may hold, on top of ours.
KERNEL = 8 * MIB
MEMORY = 8 * MIB  # what the proxy's memory may grow by
PIECE = b"0123456789abcdef" * 4096
PATTERN = b"0123456789abcdef"


class Flows:
    """An upstream server: by target, one that sends or reads without end, or never answers.

    `sent` and `read` are octets by target, `begun` and `gone` the targets of connections that got
    a request and that the proxy closed. `/small` is answered at once.
    """

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.read: dict[str, int] = {}
        self.begun: list[str] = []
        self.gone: list[str] = []
        self.read_on = threading.Event()

    def __call__(self, sock: socket.socket) -> None:
        target = ""
        try:
            while True:
                target = read_head(sock).split(b" ")[1].decode()
                self.begun.append(target)
                how = target.strip("/").partition("?")[0]
                if how == "small":
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")
                elif how == "endless":
                    self._send(sock, target)
                elif how == "unread":
                    self._read(sock, target)
                else:
                    read_exactly(sock, 1)  # silent: no answer
        except (AssertionError, OSError):  # the proxy closed
            self.gone.append(target)

    def _send(self, sock: socket.socket, target: str) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.sent[target] = 0
        while True:
            sock.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
            self.sent[target] += len(PIECE)

    def _read(self, sock: socket.socket, target: str) -> None:
        self.read_on.wait(PATIENCE)
        digest, left = hashlib.sha256(), int(target.rpartition("=")[2])
        self.read[target] = 0
        while left:
            piece = sock.recv(min(left, MIB))
            if not piece:
                raise ConnectionError
            digest.update(piece)
            left -= len(piece)
            self.read[target] += len(piece)
        content = digest.hexdigest().encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))


class Bulk(EndToEnd):
    """A lot of octets, with a client that takes them."""

    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin(HOST)
        cls.proxy = stage.proxy(stage.configuration(cls.origin.port))

    def test_download(self) -> None:
        answer = self.stage.curl(self.proxy, "--http2")(f"{self.proxy.url}/stream?bytes={LARGE}")
        self.assertEqual((answer.version, answer.status), ("HTTP/2", 200))
        wanted = hashlib.sha256(PATTERN * (LARGE // len(PATTERN))).hexdigest()
        self.assertEqual(hashlib.sha256(answer.content).hexdigest(), wanted)

    def test_upload(self) -> None:
        """And down again, with and without its length said."""
        content = os.urandom(MIB) * (LARGE // MIB)
        wanted = hashlib.sha256(content).hexdigest()
        for fields in ((), ("--header", "Transfer-Encoding: chunked")):
            answer = self.stage.curl(self.proxy, "--http2")(
                f"{self.proxy.url}/echo", "--data-binary", "@-", *fields, content=content
            )
            self.assertEqual((answer.version, answer.status), ("HTTP/2", 200))
            self.assertEqual(answer.fields["x-body-length"], str(LARGE))
            self.assertEqual(hashlib.sha256(answer.content).hexdigest(), wanted)

    def test_several_at_once(self) -> None:
        """Streams that share a connection do not mix, with windows of another size either."""
        size = 2 * MIB + 1
        wanted = hashlib.sha256((PATTERN * (size // len(PATTERN) + 1))[:size]).digest()
        for window in (1000, 65535, 4 * MIB):
            sock = self.stage.connect(self.proxy, protocols=["h2"])
            self.addCleanup(sock.close)
            client = HTTP2(sock, window)
            asked = Asked(target=f"/stream?bytes={size if window > 1000 else size // 16}")
            for seen in client.ask_all(*[asked] * 8):
                self.assertEqual((seen.status, seen.ended), (200, True))
                if window > 1000:
                    self.assertEqual(hashlib.sha256(seen.content).digest(), wanted)
                else:
                    self.assertEqual(len(seen.content), size // 16)


class Streams(EndToEnd):
    """A client and an upstream server that do what we say, and no more."""

    if not sys.platform.startswith("linux"):
        skip = "memory is read from /proc"

    flows: ClassVar[Flows]
    proxy: ClassVar[Proxy]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.flows = Flows()
        log = {"access": str(stage.directory / "access.log"), "format": "json"}
        cls.proxy = stage.proxy(
            stage.configuration(
                stage.scripted(cls.flows).url, log=log, timeouts={"write_stall": 600}
            )
        )

    def setUp(self) -> None:
        super().setUp()
        self.client = HTTP2(self.stage.connect(self.proxy, protocols=["h2"]))
        self.addCleanup(self.client.close)
        self.proxy.forget_peak()
        self.before = self.proxy.memory()

    def stalled(self, target: str) -> int:
        """A stream whose window the client leaves shut, once nothing moves any more."""
        number = self.client.begin(Asked(target=target))
        self.client.shut.add(number)
        seen = self.client.streams[number]
        self.client.until(lambda: len(seen.content) == 65535)
        self.nothing_moves()
        return number

    def others(self, count: int) -> None:
        """So many requests at once on the same connection: all are answered."""
        for seen in self.client.ask_all(*[Asked(target="/small")] * count):
            self.assertEqual((seen.status, seen.content, seen.ended), (200, b"small", True))

    def nothing_moves(self) -> None:
        """Wait until the proxy has used no processor time for a while: every buffer is full.

        On a machine so slow that this is wrong, what is bounded is bounded all the same.
        """
        ticks = [-1] * STILL

        def still() -> bool:
            ticks.append(self.proxy.processor_ticks())
            return len(set(ticks[-STILL:])) == 1

        until(still, "the proxy has come to a halt")

    def entry(self, target: str) -> dict[str, Any]:
        """Its access line."""

        def look() -> dict[str, Any] | None:
            lines = whole_lines((self.stage.directory / "access.log").read_text())
            entries = [json.loads(line) for line in lines]
            return next((entry for entry in entries if entry["target"] == target), None)

        return until(look, f"the access line of {target}")

    def grown(self) -> int:
        return self.proxy.memory("VmHWM") - self.before

    def test_shut_window(self) -> None:
        """It stops its own upstream connection, and nothing else."""
        number = self.stalled("/endless?shut")
        for _ in range(ROUNDS):
            self.others(20)
        self.assertEqual(len(self.client.streams[number].content), 65535)
        self.assertLess(self.flows.sent["/endless?shut"], KERNEL)
        self.assertLess(self.grown(), MEMORY)
        # It opens: the stream goes on where it was.
        seen = self.client.streams[number]
        self.client.shut.discard(number)
        self.client.h2.acknowledge_received_data(65535, number)
        self.client.flush()
        self.client.until(lambda: len(seen.content) > 2 * KERNEL)
        self.assertGreater(self.flows.sent["/endless?shut"], KERNEL)
        whole = PIECE * (len(seen.content) // len(PIECE) + 1)
        self.assertTrue(seen.content == whole[: len(seen.content)])
        self.client.reset(number)

    def test_one_of_a_hundred(self) -> None:
        """The stalled one has the last but 99 of the places: the 99 go on, again and again."""
        number = self.stalled("/endless?hundred")
        for _ in range(ROUNDS):
            self.others(STREAMS - 1)
        self.assertFalse(self.client.streams[number].over)
        self.assertLess(self.flows.sent["/endless?hundred"], KERNEL)

    def test_too_many(self) -> None:
        """One more than is allowed is refused, so that it may be asked again, and only that."""
        self.client.until(lambda: self.client.h2.remote_settings.max_concurrent_streams == STREAMS)
        silent = [self.client.begin(Asked(target=f"/silent?many{n}")) for n in range(STREAMS)]
        until(lambda: sum("many" in t for t in self.flows.begun) == STREAMS, "all at upstream")
        self.client.h2.remote_settings[3] = STREAMS + 1  # MAX_CONCURRENT_STREAMS, not minded
        self.client.h2.remote_settings.acknowledge()
        refused = self.client.ask(Asked(target="/small?refused"))
        self.assertEqual((refused.status, refused.reset), (0, ErrorCodes.REFUSED_STREAM))
        self.assertNotIn("/small?refused", self.flows.begun)
        self.client.reset(silent[50])
        self.others(1)
        for number in silent[:50] + silent[51:]:
            self.client.reset(number)
        until(lambda: sum("many" in t for t in self.flows.gone) == STREAMS, "all closed")

    def test_upload_that_upstream_does_not_read(self) -> None:
        """What is taken from the client is bounded; then upstream reads, and gets all of it."""
        self.flows.read_on.clear()
        number = self.client.begin(
            Asked("PUT", f"/unread?octets={LARGE}", [("content-length", str(LARGE))], pieces=[b""])
        )
        digest, taken, pieces = hashlib.sha256(), 0, memoryview(PIECE)

        def send_what_may_be() -> None:
            nonlocal taken
            self.client.come()
            while (room := self.client.room(number)) and taken < LARGE:
                piece = bytes(pieces[: min(room, LARGE - taken)])
                self.client.h2.send_data(number, piece)
                digest.update(piece)
                taken += len(piece)
                self.client.flush()

        seen = [-1] * STILL

        def still() -> bool:
            send_what_may_be()
            seen.append(taken + self.proxy.processor_ticks())
            return len(set(seen[-STILL:])) == 1

        until(still, "no more is taken")
        self.assertGreaterEqual(taken, 65535)
        self.assertLess(taken, KERNEL + MIB)
        for _ in range(ROUNDS):
            self.others(20)
        self.assertLess(self.grown(), MEMORY)
        self.flows.read_on.set()
        while taken < LARGE:
            send_what_may_be()
            if taken < LARGE and not self.client.room(number):
                self.client.receive()
        self.client.end(number)
        answer = self.client.streams[number]
        self.client.until(lambda: answer.over)
        self.assertEqual((answer.status, answer.content.decode()), (200, digest.hexdigest()))
        self.assertLess(self.grown(), MEMORY)

    def test_cancelled_before_the_answer(self) -> None:
        """Upstream's connection closes, at upstream; the access line says 499."""
        kept = self.client.begin(Asked(target="/endless?kept"))
        number = self.client.begin(Asked(target="/silent?before"))
        until(lambda: "/silent?before" in self.flows.begun, "the request at upstream")
        self.client.reset(number)
        until(lambda: "/silent?before" in self.flows.gone, "its end at upstream")
        entry = self.entry("/silent?before")
        self.assertEqual((entry["status"], entry["sent"], entry["version"]), (499, 0, 2.0))
        self._lives_on(kept)

    def test_cancelled_in_the_middle(self) -> None:
        """As above, with what was answered: its status."""
        kept = self.client.begin(Asked(target="/endless?kept2"))
        number = self.client.begin(Asked(target="/endless?middle"))
        seen = self.client.streams[number]
        self.client.until(lambda: len(seen.content) > MIB)
        self.client.reset(number)
        until(lambda: "/endless?middle" in self.flows.gone, "its end at upstream")
        entry = self.entry("/endless?middle")
        self.assertEqual((entry["status"], entry["version"]), (200, 2.0))
        self.assertGreater(entry["sent"], MIB)
        self._lives_on(kept)

    def test_cancelled_while_stalled(self) -> None:
        """Nobody waits for a window that nobody opens."""
        number = self.stalled("/endless?stalled")
        self.client.reset(number)
        until(lambda: "/endless?stalled" in self.flows.gone, "its end at upstream")
        self.others(20)

    def test_cancelled_upload(self) -> None:
        """In the middle of a request's content, of which upstream has some."""
        number = self.client.begin(Asked("PUT", "/silent?upload", pieces=[b""]))
        self.client.send(number, PIECE * 4)  # more than is collected before the lease
        until(lambda: "/silent?upload" in self.flows.begun, "the request at upstream")
        self.client.reset(number)
        until(lambda: "/silent?upload" in self.flows.gone, "its end at upstream")
        self.assertEqual(self.entry("/silent?upload")["status"], 499)
        self.others(20)

    def test_connection_lost(self) -> None:
        """All of its streams are cancelled."""
        targets = [f"/silent?lost{n}" for n in range(10)] + [f"/endless?lost{n}" for n in range(10)]
        for target in targets:
            self.client.begin(Asked(target=target))
        until(lambda: set(targets) <= set(self.flows.begun), "all at upstream")
        self.client.close()
        until(lambda: set(targets) <= set(self.flows.gone), "their end at upstream")
        self.assertEqual(self.entry("/silent?lost0")["status"], 499)

    def _lives_on(self, kept: int) -> None:
        before = len(self.client.streams[kept].content)
        self.client.until(lambda: len(self.client.streams[kept].content) > before + MIB)
        self.others(20)
        self.client.reset(kept)
