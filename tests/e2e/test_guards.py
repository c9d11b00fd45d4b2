"""Guards, in a real proxy: an upstream server that sees nothing of what is guarded from outside."""

from __future__ import annotations

import re
import socket
from typing import ClassVar

from ..test_guards import SPELLINGS
from .clients import HTTP2, Asked
from .processes import EndToEnd, Proxy, ScriptedOrigin, Stage, connect, read_head, request, response

OUTSIDE, INSIDE = "198.51.100.7", "10.1.2.3"
VERDICTS = {"guarded": (403, 200), "odd": (400, 400), "open": (200, 200)}
TARGETS = [
    (target.decode(), word)
    for target, word in SPELLINGS
    if target.startswith(b"/") and len(target) < 100
]
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


class Guards(EndToEnd):
    """Behind a trusted proxy on loopback, which says who the client is."""

    origin: ClassVar[ScriptedOrigin]
    proxy: ClassVar[Proxy]
    seen: ClassVar[list[tuple[str, str]]]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.seen = []

        def record(sock: socket.socket) -> None:
            """Answer everything; keep (client, target)."""
            try:
                while True:
                    head = read_head(sock).decode()
                    client = re.search("^x-forwarded-for: (.*)\r$", head, re.MULTILINE)
                    assert client is not None
                    cls.seen.append((client[1], head.split(" ")[1]))
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            except (AssertionError, OSError):  # the proxy closed
                return

        cls.origin = stage.scripted(record)
        guard = {"path": "/if/admin/", "allow": ["10.0.0.0/8"]}
        cls.proxy = stage.proxy(
            stage.configuration(
                cls.origin.url, {"guard": [guard]}, trust={"proxies": ["127.0.0.1/32"]}
            )
        )

    def setUp(self) -> None:
        super().setUp()
        self.seen.clear()

    def check(self, statuses: list[tuple[int, int]]) -> None:
        """What both clients got, and that upstream saw what got through, and nothing else."""
        for (target, word), got in zip(TARGETS, statuses, strict=True):
            self.assertEqual(got, VERDICTS[word], target)
        for client, place in ((OUTSIDE, 0), (INSIDE, 1)):
            wanted = [target for target, word in TARGETS if VERDICTS[word][place] == 200]
            self.assertEqual([t for seen, t in self.seen if seen == client], wanted)
        self.assertGreater(len(self.seen), 10)

    def test_http_1(self) -> None:
        sock = self.stage.connect(self.proxy)
        self.addCleanup(sock.close)

        def status(target: str, client: str) -> int:
            sock.sendall(request(target, f"X-Forwarded-For: {client}"))
            return response(sock).status

        self.check([(status(t, OUTSIDE), status(t, INSIDE)) for t, _ in TARGETS])

    def test_http_2(self) -> None:
        client = HTTP2(self.stage.connect(self.proxy, protocols=["h2"]))
        self.addCleanup(client.close)

        def status(target: str, address: str) -> int:
            return client.ask(Asked(target=target, fields=[("x-forwarded-for", address)])).status

        self.check([(status(t, OUTSIDE), status(t, INSIDE)) for t, _ in TARGETS])

    def test_websockets(self) -> None:
        for target, status in (("/if/admin/ws", 403), ("/if/%61dmin/ws", 400)):
            sock = self.stage.connect(self.proxy)
            self.addCleanup(sock.close)
            sock.sendall(request(target, f"X-Forwarded-For: {OUTSIDE}", *WEBSOCKET))
            self.assertEqual(response(sock).status, status)
        self.assertEqual(self.seen, [])

    def test_plain_http_goes_to_https_first(self) -> None:
        sock = connect(self.proxy.http)
        self.addCleanup(sock.close)
        sock.sendall(request("/if/admin/", f"X-Forwarded-For: {OUTSIDE}"))
        self.assertEqual(response(sock).status, 301)
        self.assertEqual(self.seen, [])

    def test_who_is_not_seen_through(self) -> None:
        """The trusted proxy's word for its client is none: it is let in nowhere."""
        sock = self.stage.connect(self.proxy)
        self.addCleanup(sock.close)
        sock.sendall(request("/if/admin/", "X-Forwarded-For: unknown"))
        self.assertEqual(response(sock).status, 403)
        self.assertEqual(self.seen, [])
        self.proxy.says(r"403 for 127\.0\.0\.1: /if/admin/ is guarded\. .*trust")
