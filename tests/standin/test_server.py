"""The stand-in over real loopback TCP, asked by Twisted's HTTP client and autobahn's WebSocket."""

# mypy: disable-error-code="no-untyped-call, misc"
# Neither trial's assertions nor autobahn's clients have types.

from __future__ import annotations

import json
import os
from collections.abc import Callable
from io import BytesIO
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, cast

import trustme
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from OpenSSL import SSL
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredQueue, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate as TrustedCertificate
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import Clock, deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from authproxy.standin.server import StandIn

reactor: Any = global_reactor
FROM_PROXY = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "sso.example.com:8443",
}


class Viewer(WebSocketClientProtocol):
    """A browser tab: messages in a queue, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: DeferredQueue[bytes] = DeferredQueue()
        self.ended: Deferred[int | None] = Deferred()
        self.answer: Any = None

    def onConnect(self, response: Any) -> None:
        self.answer = response

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.put(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.ended.callback(code)


class Raw(Protocol):
    """Keeps what it receives; does not read while paused."""

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[None] = Deferred()
        self.transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.ended.callback(None)


def deflate_accepted(response: object) -> PerMessageDeflateResponseAccept | None:
    if isinstance(response, PerMessageDeflateResponse):
        return PerMessageDeflateResponseAccept(response)
    return None


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for what another connection does."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not happen")


class StandInCase(TestCase):
    """A stand-in that listens on loopback, and its clients."""

    timeout = 180  # seconds, on a machine that is far too slow

    def setUp(self) -> None:
        self.clock: Any = reactor
        self.start()

    def start(self, starting_for: float = 0.0) -> None:
        self.stand_in = StandIn(self.clock, starting_for)
        self.listen(self.stand_in.site)

    def listen(self, factory: Any) -> None:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port: int = port.getHost().port
        # Cleanups run in reverse: the port first, then what it accepted.
        self.addCleanup(self.stand_in.close)
        self.addCleanup(lambda: maybeDeferred(port.stopListening))

    async def request(
        self,
        path: str = "/",
        method: str = "GET",
        fields: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> tuple[Any, bytes]:
        """(response, content)"""
        agent: Any = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        response = await agent.request(
            method.encode(),
            f"http://127.0.0.1:{self.port}{path}".encode(),
            Headers({name: [value] for name, value in (fields or {}).items()}),
            None if content is None else FileBodyProducer(BytesIO(content)),
        )
        return response, await readBody(response)

    async def json(self, path: str = "/", fields: dict[str, str] | None = None) -> Any:
        _, content = await self.request(
            path, fields={"Accept": "application/json"} | (fields or {})
        )
        return json.loads(content)

    async def raw(self, request: bytes) -> Raw:
        """A connection that has sent these bytes."""
        endpoint: Any = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        client = cast(Raw, await endpoint.connect(Factory.forProtocol(Raw)))
        client.transport.write(request)
        return client

    async def viewer(self, headers: dict[str, str] | None = None, **options: Any) -> Viewer:
        """An open WebSocket."""
        url = options.pop("url", f"ws://127.0.0.1:{self.port}/ws/client/")
        factory = WebSocketClientFactory(url, headers=headers, reactor=reactor, **options)
        factory.protocol = Viewer
        factory.setProtocolOptions(
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            perMessageCompressionOffers=[PerMessageDeflateOffer()],
            perMessageCompressionAccept=deflate_accepted,
        )
        endpoint: Any = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        if url.startswith("wss:"):
            endpoint = wrapClientTLS(self.client_tls, endpoint)
        viewer = cast(Viewer, await endpoint.connect(factory))
        await viewer.is_open
        return viewer

    async def stuck(self) -> tuple[Viewer, Any]:
        """A viewer that sends 8 MiB and reads nothing; its socket here, which has noticed."""
        viewer = await self.viewer()
        transport = cast(Any, viewer.transport)
        await viewer.messages.get()
        transport.pauseProducing()
        [socket] = self.stand_in._sockets._open
        # Else the kernel's buffers could take all that is under way.
        transport.getHandle().setsockopt(SOL_SOCKET, SO_RCVBUF, 65536)
        socket.transport.getHandle().setsockopt(SOL_SOCKET, SO_SNDBUF, 65536)
        incompressible = os.urandom(1024 * 1024)
        for _ in range(8):
            viewer.sendMessage(incompressible, True, doNotCompress=True)
        await until(lambda: socket._paused)
        return viewer, socket

    client_tls: Any = None


class HealthTests(StandInCase):
    async def test_get_and_head(self) -> None:
        for path in ("/-/health/live/", "/-/health/ready/"):
            for method in ("GET", "HEAD"):
                response, content = await self.request(path, method)
                self.assertEqual((response.code, content), (200, b""))

    async def test_other_methods(self) -> None:
        response, _ = await self.request("/-/health/live/", "DELETE")
        self.assertEqual(response.code, 405)
        self.assertEqual(response.headers.getRawHeaders("allow"), ["GET, HEAD"])

    async def test_no_server_field(self) -> None:
        response, _ = await self.request("/-/health/live/")
        self.assertFalse(response.headers.hasHeader("server"))


class StartingTests(StandInCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.start(starting_for=10.0)

    async def refused(self, path: str = "/", accept: str = "*/*") -> tuple[str, bytes]:
        """(media type, content) of the 503."""
        response, content = await self.request(path, fields={"Accept": accept})
        self.assertEqual(response.code, 503)
        self.assertEqual(response.headers.getRawHeaders("retry-after"), ["5"])
        return response.headers.getRawHeaders("content-type")[0], content

    async def test_json(self) -> None:
        media_type, content = await self.refused(accept="application/json")
        self.assertEqual(media_type, "application/json")
        self.assertEqual(json.loads(content), {"error": "authentik starting"})

    async def test_html(self) -> None:
        media_type, content = await self.refused(accept="text/html,application/xhtml+xml,*/*;q=0.8")
        self.assertEqual(media_type, "text/html; charset=utf-8")
        self.assertIn(b'<meta http-equiv="refresh" content="5">', content)

    async def test_text(self) -> None:
        media_type, content = await self.refused()
        self.assertEqual(media_type, "text/plain; charset=utf-8")
        self.assertEqual(content, b"authentik starting")

    async def test_live_and_ready(self) -> None:
        await self.refused("/-/health/ready/")
        response, _ = await self.request("/-/health/live/")
        self.assertEqual(response.code, 200)

    async def test_no_websocket(self) -> None:
        await self.refused("/ws/client/")

    async def test_started(self) -> None:
        self.clock.advance(9.9)
        await self.refused()
        self.clock.advance(0.1)
        response, _ = await self.request("/-/health/ready/")
        self.assertEqual(response.code, 200)


class PageTests(StandInCase):
    async def test_json_through_a_proxy(self) -> None:
        shown = await self.json("/if/flow/?next=%2F", FROM_PROXY)
        headers = shown.pop("headers")
        self.assertEqual(
            shown,
            {
                "scheme": "https",
                "host": "sso.example.com:8443",
                "client": "203.0.113.9",
                "url": "https://sso.example.com:8443/if/flow/?next=%2F",
                "method": "GET",
                "path": "/if/flow/",
                "http_version": "HTTP/1.1",
            },
        )
        self.assertIn(["X-Forwarded-For", "203.0.113.9"], headers)

    async def test_json_without_a_proxy(self) -> None:
        shown = await self.json()
        host = f"127.0.0.1:{self.port}"
        self.assertEqual(shown["url"], f"http://{host}/")
        self.assertEqual((shown["scheme"], shown["host"]), ("http", host))
        self.assertEqual(shown["client"], "127.0.0.1")

    async def test_what_authentik_does_not_believe(self) -> None:
        for scheme in ("wss", "https, http", ""):
            self.assertEqual(
                (await self.json(fields={"X-Forwarded-Proto": scheme}))["scheme"], "http"
            )
        shown = await self.json(fields={"X-Forwarded-For": "198.51.100.1, 203.0.113.9"})
        self.assertEqual(shown["client"], "203.0.113.9")

    async def test_fields_in_order(self) -> None:
        client = await self.raw(
            b"GET /any HTTP/1.1\r\nB: 1\r\nHost: a\r\nA: 2\r\nB: 3\r\n"
            b"Accept: application/json\r\nConnection: close\r\n\r\n"
        )
        await client.ended
        shown = json.loads(client.received.partition(b"\r\n\r\n")[2])
        self.assertEqual(shown["headers"][:4], [["B", "1"], ["Host", "a"], ["A", "2"], ["B", "3"]])

    async def test_big_head(self) -> None:
        value = "x" * 32 * 1024
        shown = await self.json(fields={"Cookie": value, "X-Authentik-Csrf": value})
        self.assertIn(["Cookie", value], shown["headers"])

    async def test_html(self) -> None:
        response, content = await self.request("/any/path/", fields=FROM_PROXY)
        self.assertEqual(
            response.headers.getRawHeaders("content-type"), ["text/html; charset=utf-8"]
        )
        self.assertIn(b"https://sso.example.com:8443/any/path/", content)
        self.assertIn(b"from X-Forwarded-Proto", content)
        self.assertIn(b"new WebSocket(", content)

    async def test_no_resources_of_others(self) -> None:
        _, content = await self.request(fields={"X-Forwarded-Proto": "https"})
        for other in (b"src=", b"@import", b"url(", b"<form"):
            self.assertNotIn(other, content)

    async def test_escaping(self) -> None:
        attack = "<script>alert(1)</script>&\"'$url"
        for name in ("X-Forwarded-Host", "X-Forwarded-For", "X-Other"):
            _, content = await self.request(fields={name: attack})
            self.assertNotIn(b"<script>alert", content)
            self.assertIn(b"&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;$url", content)

    async def test_head(self) -> None:
        response, content = await self.request("/", "HEAD")
        self.assertEqual((response.code, content), (200, b""))
        self.assertGreater(int(response.headers.getRawHeaders("content-length")[0]), 1000)

    async def test_other_methods(self) -> None:
        for method in ("POST", "DELETE", "OPTIONS", "PATCH"):
            response, content = await self.request(
                method=method, fields={"Accept": "application/json"}, content=b"x"
            )
            self.assertEqual(response.code, 200)
            self.assertEqual(json.loads(content)["method"], method)


class BodyTests(StandInCase):
    async def test_echo(self) -> None:
        for method in ("POST", "PUT"):
            for content in (b"", b"a=1&b=%20", bytes(range(256)) * 8192):
                response, echoed = await self.request(
                    "/echo", method, {"Content-Type": "application/x-www-form-urlencoded"}, content
                )
                self.assertEqual(response.code, 200)
                self.assertEqual(echoed, content)
                length = response.headers.getRawHeaders("x-body-length")
                self.assertEqual(length, [str(len(content))])

    async def test_echo_of_nothing(self) -> None:
        response, _ = await self.request("/echo")
        self.assertEqual(response.code, 405)

    async def test_echo_to_one_who_leaves(self) -> None:
        size = 16 * 1024 * 1024
        client = await self.raw(
            b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
        )
        client.transport.write(b"x" * size)
        await until(lambda: client.received)
        client.transport.abortConnection()
        await client.ended
        await self.json()

    async def test_stream(self) -> None:
        for length in (0, 1, 65536, 3_000_001):
            response, content = await self.request(f"/stream?bytes={length}")
            self.assertEqual(len(content), length)
            self.assertEqual(content[:32], (b"0123456789abcdef" * 2)[:length])
            self.assertFalse(response.headers.hasHeader("content-length"))

    async def test_stream_is_chunked(self) -> None:
        client = await self.raw(
            b"GET /stream?bytes=10 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        await client.ended
        self.assertIn(b"transfer-encoding: chunked", client.received.lower())
        self.assertTrue(client.received.endswith(b"\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"))

    async def test_stream_waits(self) -> None:
        client = await self.raw(b"GET /stream?bytes=1e12 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.transport.pauseProducing()
        await until(lambda: self.stand_in._channels)
        [channel] = self.stand_in._channels
        transport = cast(Any, channel.transport)
        await until(lambda: transport.producerPaused)
        self.assertLess(len(transport.dataBuffer) + transport._tempDataLen, 1024 * 1024)
        client.transport.abortConnection()
        await client.ended

    async def test_stream_to_one_who_leaves(self) -> None:
        client = await self.raw(b"GET /stream?bytes=1e12 HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: len(client.received) > 1_000_000)
        client.transport.abortConnection()
        await until(lambda: not self.stand_in._channels)

    async def test_bad_numbers(self) -> None:
        for query in ("", "?bytes=", "?bytes=-1", "?bytes=nan", "?seconds=inf", "?seconds=x"):
            for path in ("/stream", "/slow"):
                response, _ = await self.request(path + query)
                self.assertEqual(response.code, 400)


class SlowTests(StandInCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.start()

    def waiting(self) -> list[float]:
        """How many seconds each /slow has still to wait."""
        calls = self.clock.getDelayedCalls()
        left = [call.getTime() - self.clock.seconds() for call in calls if call.args[:1] == (200,)]
        return cast(list[float], left)

    async def test_answers_after_its_time(self) -> None:
        answered = Deferred.fromCoroutine(self.request("/slow?seconds=2.5"))
        await until(self.waiting)
        self.assertEqual(self.waiting(), [2.5])
        self.assertNoResult(answered)
        self.clock.advance(2.5)
        response, content = await answered
        self.assertEqual((response.code, content), (200, b"after 2.5 seconds\n"))

    async def test_bounded(self) -> None:
        client = await self.raw(b"GET /slow?seconds=1000 HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(self.waiting)
        self.assertEqual(self.waiting(), [60.0])
        client.transport.abortConnection()
        await until(lambda: not self.waiting())


class WebSocketTests(StandInCase):
    async def test_handshake_shows_its_fields(self) -> None:
        viewer = await self.viewer(FROM_PROXY, origin="https://sso.example.com:8443")
        shown = json.loads(await viewer.messages.get())
        self.assertEqual(shown["scheme"], "https")
        self.assertEqual(shown["host"], "sso.example.com:8443")
        self.assertEqual(shown["client"], "203.0.113.9")
        self.assertEqual(shown["url"], "https://sso.example.com:8443/ws/client/")
        self.assertIn(["Origin", "https://sso.example.com:8443"], shown["headers"])

    async def test_host_and_origin_of_other_ports(self) -> None:
        for origin in ("https://sso.example.com", "http://localhost:1", "null"):
            viewer = await self.viewer(url="ws://sso.example.com:443/ws/client/", origin=origin)
            shown = json.loads(await viewer.messages.get())
            self.assertEqual(shown["host"], "sso.example.com:443")

    async def test_echo(self) -> None:
        viewer = await self.viewer()
        await viewer.messages.get()
        for payload, binary in ((b'{"echo":1}', False), (b"\0" * 300_000, True), (b"", True)):
            viewer.sendMessage(payload, binary)
            self.assertEqual(await viewer.messages.get(), payload)

    async def test_deflate_is_accepted(self) -> None:
        viewer = await self.viewer()
        [extension] = viewer.answer.extensions
        self.assertEqual(extension.EXTENSION_NAME, "permessage-deflate")

    async def test_subprotocol(self) -> None:
        viewer = await self.viewer(protocols=["guacamole", "other"])
        self.assertEqual(viewer.answer.protocol, "guacamole")

    async def test_ticks(self) -> None:
        self.clock = Clock()
        self.start()
        viewer = await self.viewer()
        await viewer.messages.get()
        for second in (1.0, 2.0):
            self.clock.advance(1.0)
            message = json.loads(await viewer.messages.get())
            self.assertEqual(message, {"time": second, "message": "1 open WebSocket"})

    async def test_count(self) -> None:
        self.assertEqual(self.stand_in.sockets, 0)
        viewers = [await self.viewer() for _ in range(3)]
        await until(lambda: self.stand_in.sockets == 3)
        for viewer in viewers:
            viewer.sendClose(1000)
            self.assertEqual(await viewer.ended, 1000)
        await until(lambda: self.stand_in.sockets == 0)

    async def test_a_viewer_that_vanishes(self) -> None:
        viewer = await self.viewer()
        cast(Any, viewer.transport).abortConnection()
        await until(lambda: self.stand_in.sockets == 0)

    async def test_not_an_upgrade(self) -> None:
        response, _ = await self.request("/ws/client/")
        self.assertEqual(response.code, 426)

    async def test_bad_handshake(self) -> None:
        client = await self.raw(
            b"GET /ws/client/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
            b"Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await client.ended
        self.assertTrue(client.received.startswith(b"HTTP/1.1 400 "))

    async def test_echo_waits_for_one_who_does_not_read(self) -> None:
        viewer, socket = await self.stuck()
        await deferLater(reactor, 0.1)
        own = socket.transport
        self.assertLess(len(own.dataBuffer) + own._tempDataLen, 4 * 1024 * 1024)
        cast(Any, viewer.transport).resumeProducing()
        for _ in range(8):
            while len(await viewer.messages.get()) < 1024:
                pass  # a tick


class CloseTests(StandInCase):
    async def test_viewers_see_a_restart(self) -> None:
        viewer = await self.viewer()
        await self.stand_in.close()
        self.assertEqual(await viewer.ended, 1012)
        self.assertEqual(self.stand_in.sockets, 0)

    async def test_one_who_does_not_read_is_cut(self) -> None:
        viewer, _ = await self.stuck()
        await self.stand_in.close()
        cast(Any, viewer.transport).abortConnection()
        await viewer.ended

    async def test_requests_end(self) -> None:
        client = await self.raw(b"GET /slow?seconds=50 HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: self.stand_in._channels)
        await self.stand_in.close()
        await client.ended

    async def test_nothing_to_close(self) -> None:
        await self.stand_in.close()


class TLSTests(StandInCase):
    def start(self, starting_for: float = 0.0) -> None:
        authority = trustme.CA()
        pair = authority.issue_cert("sso.example.com")
        context = SSL.Context(SSL.TLS_METHOD)
        pair.configure_cert(context)
        options = CertificateOptions()
        options._context = context
        self.stand_in = StandIn(self.clock, starting_for)
        self.listen(cast(Any, TLSMemoryBIOFactory)(options, False, self.stand_in.site))
        trusted = TrustedCertificate.loadPEM(authority.cert_pem.bytes())
        self.client_tls = optionsForClientTLS(
            "sso.example.com", trustRootFromCertificates([trusted])
        )

    async def raw(self, request: bytes) -> Raw:
        plain: Any = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        endpoint = cast(Any, wrapClientTLS(self.client_tls, plain))
        client = cast(Raw, await endpoint.connect(Factory.forProtocol(Raw)))
        client.transport.write(request)
        return client

    async def test_the_scheme_of_the_connection(self) -> None:
        client = await self.raw(
            b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        )
        await client.ended
        self.assertIn(b'"scheme": "https", "host": "a"', client.received)

    async def test_websocket(self) -> None:
        viewer = await self.viewer(url="wss://sso.example.com/ws/client/")
        self.assertEqual(json.loads(await viewer.messages.get())["scheme"], "https")
        viewer.sendMessage(b"x" * 100_000, True)
        self.assertEqual(len(await viewer.messages.get()), 100_000)
        viewer.sendClose(1000)
        self.assertEqual(await viewer.ended, 1000)

    async def test_close(self) -> None:
        viewer = await self.viewer(url="wss://sso.example.com/ws/client/")
        await self.stand_in.close()
        self.assertEqual(await viewer.ended, 1012)

    async def test_close_does_not_wait_for_the_viewer(self) -> None:
        client = await self.raw(
            b"GET /ws/client/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
            b"Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await until(lambda: self.stand_in.sockets)
        await self.stand_in.close()
        await client.ended
        self.assertIn(b" 101 ", client.received)
