"""A real network between proxy and upstream, and what can happen to it; see test_faults.py."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from typing import ClassVar

from .clients import Asked
from .faulty import BODY, FAULTY, OK, SOON, FaultTests, take
from .network import FAR, Network, ip
from .processes import (
    PATIENCE,
    ScriptedOrigin,
    Stage,
    read_all,
    read_head,
    request,
    response,
    until,
)
from .test_websockets import UPGRADE, switching

VERSIONS = ("http/1.1", "h2")
UPLOAD = BODY * 16
DOWNLOAD = BODY * 48


class NetworkTests(FaultTests):
    timeouts: ClassVar[dict[str, float]] = {}

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        """Nothing: what tests share is outside of their network."""

    def setUp(self) -> None:
        self.network = Network()
        self.addCleanup(self.network.close)
        super().setUp()
        self.good = self.stage.origin()
        self.came_whole: list[bytes] = []
        self.pair = threading.Barrier(2)
        self.goes_on = threading.Event()
        self.addCleanup(self.goes_on.set)
        self.port = 0
        self.far_origin()
        self.start(f"http://{FAR}:{self.port}", timeouts=self.timeouts)

    def far_origin(self) -> None:
        """It listens there, at the port that it had before."""
        with self.network.within(self.network.far):
            origin = ScriptedOrigin(self._converse, address=(FAR, self.port))
        self.port = int(origin.url.rpartition(":")[2])
        self.addCleanup(origin.close)

    def _converse(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while came := take(sock):
                head, _, content = came.partition(b"\r\n\r\n")
                self.came_whole.append(head.split(b" ")[1])
                if b" /ws/" in head:
                    sock.sendall(switching(came))
                    while piece := sock.recv(65536):
                        sock.sendall(piece)
                elif b" /download" in head:
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DOWNLOAD))
                    sock.sendall(DOWNLOAD)
                elif b" /half " in head:  # and the rest later
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DOWNLOAD))
                    sock.sendall(DOWNLOAD[: len(DOWNLOAD) // 2])
                    self.goes_on.wait(PATIENCE)
                    sock.sendall(DOWNLOAD[len(DOWNLOAD) // 2 :])
                elif b" /pair " in head:
                    self.pair.wait(PATIENCE)
                    sock.sendall(OK)
                elif content:
                    digest = hashlib.sha256(content).hexdigest().encode()
                    sock.sendall(OK.replace(b"5\r", b"64\r").replace(b"hello", digest))
                else:
                    sock.sendall(OK)

    def served(self) -> None:
        for version in VERSIONS:
            until(lambda version=version: self.ask(version=version).status == 200, "it is served")


class Dead(NetworkTests):
    timeouts: ClassVar[dict[str, float]] = {
        "connect": SOON, "first_byte": SOON, "upstream_idle": SOON,
    }  # fmt: skip

    def test_black_hole(self) -> None:
        """Of pooled connections a 504, of new ones a 503, in the middle of a response a cut; and all
        is well when the network is."""
        with (
            self.stage.connect(self.proxy, FAULTY) as sock,
            self.stage.connect(self.proxy, FAULTY) as other,
        ):
            for each in (sock, other):
                each.sendall(request("/pair", host=FAULTY))
            for each in (sock, other):  # two connections are in the pool
                self.assertEqual(response(each).content, b"hello")
            sock.sendall(request("/half", host=FAULTY))
            self.assertIn(b" 200 ", read_head(sock))
            self.network.wire.dead = True
            self.goes_on.set()
            came = read_all(sock)
            self.assertTrue(DOWNLOAD.startswith(came))
            self.assertLess(len(came), len(DOWNLOAD))
        self.proxy.says(rf"upstream: Site {FAULTY}, a response was cut: .*came to a halt")
        statuses = [self.ask(Asked("POST", host=FAULTY)).status for _ in range(4)]
        self.assertEqual(set(statuses), {503, 504}, statuses)
        self.fails(503, r"does not answer \(timeouts\.connect\)\. Is a firewall in between\?")
        self.proxy.says(rf"upstream: Site {FAULTY}, 504 .*no response from upstream within")
        self.network.wire.dead = False
        self.served()


class Networks(NetworkTests):
    def test_loss(self) -> None:
        """Packets are lost, doubled, and overtake each other; octets do not."""
        wire = self.network.wire
        wire.loses = wire.repeats = wire.delays = 0.02
        for version in VERSIONS:
            for number in range(3):
                seen = self.ask(Asked(target=f"/download/{version}/{number}", host=FAULTY), version)
                self.assertEqual((seen.status, seen.ended), (200, True))
                self.assertEqual(bytes(seen.content), DOWNLOAD)
                asked = Asked("POST", f"/upload/{version}/{number}", content=UPLOAD, host=FAULTY)
                seen = self.ask(asked, version)
                self.assertEqual(seen.content.decode(), hashlib.sha256(UPLOAD).hexdigest())
        self.assertGreater(wire.lost, 0)
        self.assertEqual(len(self.came_whole), len(set(self.came_whole)))
        self.assertEqual(len(self.came_whole), 12)

    def test_unreachable(self) -> None:
        """A router says so; here it is our own."""
        ip("route", "add", "unreachable", FAR)
        self.fails(503, rf"cannot connect to http://{FAR}:\d+: .*No route to host")
        ip("route", "delete", "unreachable", FAR)
        self.served()

    def test_upstream_starts_anew(self) -> None:
        """The host knows its old connections no more: it resets them at the next packet. What may be
        repeated is; nothing else is, and a WebSocket ends."""
        self.served()
        for version in VERSIONS:
            with self.stage.connect(self.proxy, FAULTY) as websocket:
                websocket.sendall(request("/ws/client/", *UPGRADE, host=FAULTY))
                self.assertTrue(read_head(websocket).startswith(b"HTTP/1.1 101 "))
                self.network.restart_far()
                self.far_origin()
                self.came_whole.clear()
                seen = self.ask(version=version)
                self.assertEqual((seen.status, seen.content), (200, b"hello"))
                self.assertEqual(len(self.came_whole), 1)
                websocket.sendall(b"\x89\x82\0\0\0\0hi")
                self.assertNotIn(b"\x8a\x02hi", read_all(websocket))
            self.network.restart_far()
            self.far_origin()
            self.came_whole.clear()
            seen = self.ask(Asked("POST", content=b"content", host=FAULTY), version)
            self.assertEqual((seen.status, self.came_whole), (502, []))
            self.proxy.says(rf"upstream: Site {FAULTY}, 502 .*closed the connection before its")
            self.served()
