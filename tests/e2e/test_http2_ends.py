"""The ends of a connection of HTTP/2, and its beginning: drains, ALPN, several hosts on one."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import ExitStack
from typing import Any, ClassVar

from h2.errors import ErrorCodes

from .clients import HTTP2, Asked
from .processes import HOST, LOOPBACK, PATIENCE, EndToEnd, Origin, Proxy, Stage, read_head, until
from .test_process import LONG_DRAIN

OTHER = "other.example.org"
NO_LIMIT = (1 << 31) - 1
AS_JSON = [("accept", "application/json")]


class Drains(EndToEnd):
    """SIGTERM: what runs is finished, what is on its way is answered or refused."""

    def start(self) -> tuple[Proxy, HTTP2]:
        self.begun: list[str] = []
        self.answer = threading.Event()
        self.addCleanup(self.answer.set)

        def upstream(sock: socket.socket) -> None:
            try:
                while True:
                    target = read_head(sock).split(b" ")[1].decode()
                    self.begun.append(target)
                    if "held" in target:
                        self.answer.wait(PATIENCE)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            except (AssertionError, OSError):
                pass  # the proxy closed

        origin = self.scripted(upstream)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(origin.url, timeouts=LONG_DRAIN))
        client = HTTP2(stage.connect(proxy, protocols=["h2"]))
        self.addCleanup(client.close)
        return proxy, client

    def test_running_streams_finish(self) -> None:
        proxy, client = self.start()
        numbers = [client.begin(Asked(target=f"/held?{n}")) for n in range(20)]
        until(lambda: len(self.begun) == 20, "all at upstream")
        proxy.signal(signal.SIGTERM)
        client.until(lambda: len(client.goaways) == 2)
        self.assertEqual(client.goaways, [(NO_LIMIT, 0), (numbers[-1], 0)])
        late = client.begin(Asked(target="/late"))
        self.answer.set()
        client.drain()
        for number in numbers:
            seen = client.streams[number]
            self.assertEqual((seen.status, seen.content, seen.ended), (200, b"done", True))
        self.assertFalse(client.streams[late].ended)
        self.assertNotIn("/late", self.begun)
        self.assertEqual(proxy.wait(), 0)
        self.assertNotIn("Not drained in time", proxy.stderr)
        self.assertEqual(proxy.stdout.count('HTTP/2.0" 200 4 '), 20)

    def test_requests_on_their_way(self) -> None:
        """Each is answered, or refused in a way that says that it may be asked again."""
        proxy, client = self.start()
        held = client.begin(Asked(target="/held"))  # it keeps the connection
        numbers = [client.begin(Asked(target=f"/before{n}")) for n in range(20)]
        proxy.signal(signal.SIGTERM)
        while len(client.goaways) < 2:  # as fast as they may be sent, while the signal comes
            number = client.begin(Asked(target=f"/during{len(numbers)}"))
            numbers.append(number)
            client.until(lambda n=number: client.streams[n].over or len(client.goaways) == 2)
        numbers += [client.begin(Asked(target=f"/after{n}")) for n in range(5)]
        self.answer.set()
        client.drain()
        last, code = client.goaways[-1]
        self.assertEqual(code, 0)
        self.assertTrue(client.streams[held].ended)
        for number in numbers:
            seen = client.streams[number]
            if number <= last:
                self.assertEqual((seen.status, seen.ended), (200, True), number)
            else:
                self.assertIn(seen.reset, (None, ErrorCodes.REFUSED_STREAM))
                self.assertEqual(seen.status, 0)
        self.assertFalse([target for target in self.begun if "after" in target])
        self.assertEqual(proxy.wait(), 0)

    def test_idle_connection(self) -> None:
        proxy, client = self.start()
        self.assertEqual(client.ask(Asked()).status, 200)
        proxy.signal(signal.SIGTERM)
        client.drain()
        self.assertEqual([code for _, code in client.goaways], [0] * len(client.goaways))
        self.assertEqual(proxy.wait(), 0)


class Hosts(EndToEnd):
    """Two sites with one certificate, so that a browser uses one connection for both."""

    origins: ClassVar[list[Origin]]
    proxy: ClassVar[Proxy]
    listen: ClassVar[dict[str, Any]] = {}

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origins = [stage.origin(), stage.origin()]
        first, second = (f"http://{LOOPBACK}:{origin.port}" for origin in cls.origins)
        pair = stage.certificate(HOST, OTHER)
        log = {"access": "-"}  # the upstream of each line
        document = stage.configuration(first, pair, log=log, listen=cls.listen)
        document["site"].append({"hosts": [OTHER], "upstream": second} | pair)
        cls.proxy = stage.proxy(document)

    def chosen(self, *offered: str, host: str = HOST) -> str | None:
        with self.stage.connect(self.proxy, host, protocols=offered) as sock:
            return sock.selected_alpn_protocol()


class Coalescing(Hosts):
    def test_alpn(self) -> None:
        for host in (HOST, OTHER):
            self.assertEqual(self.chosen("h2", "http/1.1", host=host), "h2")
            self.assertEqual(self.chosen("http/1.1", host=host), "http/1.1")

    def test_each_to_its_own_site(self) -> None:
        with ExitStack() as ending:
            client = HTTP2(self.stage.connect(self.proxy, protocols=["h2"]))
            ending.callback(client.close)
            for n in range(3):
                for host, origin in zip((HOST, OTHER), self.origins, strict=True):
                    seen = client.ask(Asked(target=f"/{host}/{n}", host=host, fields=AS_JSON))
                    self.assertEqual(seen.status, 200)
                    self.assertIn(f'"host": "{host}"'.encode(), bytes(seen.content))
                    line = self.proxy.says(rf'"GET /{host}/{n} HTTP/2\.0".*$', "stdout")[0]
                    self.assertIn(f"http://{LOOPBACK}:{origin.port} ", line)

    def test_unknown_host(self) -> None:
        """421: ask for it on another connection. This one stays."""
        client = HTTP2(self.stage.connect(self.proxy, protocols=["h2"]))
        self.addCleanup(client.close)
        self.assertEqual(client.ask(Asked(host="unknown.example")).status, 421)
        self.assertEqual(client.ask(Asked()).status, 200)


class SwitchedOff(Hosts):
    """listen.http2 = false."""

    listen: ClassVar[dict[str, Any]] = {"http2": False}

    def test_alpn(self) -> None:
        self.assertEqual(self.chosen("h2", "http/1.1"), "http/1.1")
        self.assertIsNone(self.chosen("h2"))
