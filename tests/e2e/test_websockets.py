"""WebSockets through the proxy, TLS on both sides: the `websockets` client, autobahn, raw octets."""

# mypy: disable-error-code="no-untyped-call,misc"
# autobahn says that it is typed; much of it is not.

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, TypeVar

import websockets
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from .processes import (
    HOST,
    LOOPBACK,
    PATIENCE,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    Staged,
    connect,
    read_all,
    read_exactly,
    read_head,
    request,
    response,
    until,
)

reactor: Any = global_reactor
MIB = 1024 * 1024
CROWD = 50
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}",
           "Sec-WebSocket-Version: 13")  # fmt: skip
# autobahn would give up after a second, and call that unclean.
UNHURRIED = {"openHandshakeTimeout": PATIENCE, "closeHandshakeTimeout": PATIENCE}
Result = TypeVar("Result")


# The `websockets` client and the stand-in (autobahn under twisted.web).


class Conversations(EndToEnd):
    """A browser's part, by the `websockets` client."""

    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]
    tls: ClassVar[ssl.SSLContext]  # to make one for each takes its time

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.tls = stage.client_tls()
        cls.origin = stage.origin(HOST)
        cls.proxy = stage.proxy(stage.configuration(cls.origin.port))

    def _talk(
        self,
        conversation: Callable[[Any], Awaitable[Result]],
        path: str = "/ws/client/",
        **options: Any,
    ) -> Result:
        """Connect, have a conversation, close."""

        async def talk() -> Result:
            async with self._connect(path, **options) as client:
                return await conversation(client)

        return asyncio.run(asyncio.wait_for(talk(), PATIENCE))

    def _connect(self, path: str = "/ws/client/", **options: Any) -> Any:
        return websockets.connect(
            f"wss://{HOST}:{self.proxy.https}{path}",
            ssl=self.tls,
            host=LOOPBACK,
            port=self.proxy.https,
            max_size=None,
            open_timeout=PATIENCE,
            close_timeout=PATIENCE,
            ping_interval=None,
            **options,
        )

    def test_handshake_as_upstream_saw_it(self) -> None:
        """Path with its slash, query, and what says who asks."""

        async def first(client: Any) -> Any:
            return json.loads(await client.recv())

        seen = self._talk(first, "/ws/client/?a=b%20c&d", additional_headers=[
            ("X-Forwarded-For", "192.0.2.66"), ("Cookie", "authentik_session=x"),
        ])  # fmt: skip
        self.assertEqual(seen["url"], f"https://{HOST}:{self.proxy.https}/ws/client/?a=b%20c&d")
        self.assertEqual((seen["scheme"], seen["client"]), ("https", LOOPBACK))
        fields = [(name.lower(), value) for name, value in seen["headers"]]
        self.assertEqual([v.lower() for n, v in fields if n == "connection"], ["upgrade"])
        self.assertEqual([v for n, v in fields if n == "upgrade"], ["websocket"])
        self.assertEqual([v for n, v in fields if n == "cookie"], ["authentik_session=x"])
        self.assertEqual([v for n, v in fields if n == "sec-websocket-version"], ["13"])
        self.assertEqual([v for n, v in fields if n == "x-forwarded-for"], [LOOPBACK])

    def test_text_and_binary(self) -> None:
        async def echoes(client: Any) -> None:
            await client.recv()
            for message in (
                "",
                "héllo",
                b"",
                b"\x00\xff" * 100,
                "x" * 125,
                "x" * 126,
                b"y" * 65536,
            ):
                await client.send(message)
                self.assertEqual(await _echo(client), message)

        self._talk(echoes)

    def test_large_messages(self) -> None:
        async def echoes(client: Any) -> None:
            await client.recv()
            for _ in range(8):
                message = os.urandom(MIB)
                await client.send(message)
                self.assertTrue(await _echo(client) == message)

        self._talk(echoes)
        self._talk(echoes, compression=None)

    def test_fragmented_message(self) -> None:
        async def echoes(client: Any) -> None:
            await client.recv()
            pieces = [b"a" * size for size in (1, 0, 300, 70000, 5)]
            await client.send(iter(pieces))
            self.assertEqual(await _echo(client), b"".join(pieces))

        self._talk(echoes)

    def test_ping_and_pong(self) -> None:
        async def pings(client: Any) -> None:
            await (await client.ping(b"are you there"))

        self._talk(pings)

    def test_compression_is_negotiated(self) -> None:
        async def extensions(client: Any) -> str:
            await client.recv()
            await client.send("a" * 10000)
            self.assertEqual(await _echo(client), "a" * 10000)
            return str(client.response.headers.get("Sec-WebSocket-Extensions", ""))

        self.assertIn("permessage-deflate", self._talk(extensions))
        self.assertEqual(self._talk(extensions, compression=None), "")

    def test_subprotocol_is_echoed(self) -> None:
        async def chosen(client: Any) -> Any:
            return client.subprotocol

        self.assertEqual(self._talk(chosen, subprotocols=["guacamole"]), "guacamole")
        self.assertIsNone(self._talk(chosen))

    def test_close_of_the_client(self) -> None:
        async def closes(client: Any) -> None:
            await client.recv()
            await client.close(4000, "enough")
            self.assertEqual(client.close_code, 1000)  # the stand-in's answer

        self._talk(closes)

    def test_crowd(self) -> None:
        """Many at once, each with its own."""

        async def one(number: int, everybody: asyncio.Barrier) -> None:
            async with self._connect(f"/ws/client/?{number}") as client:
                self.assertEqual(json.loads(await client.recv())["url"].rpartition("?")[2],
                                 str(number))  # fmt: skip
                await everybody.wait()
                for size in (1, 1000, 100_000):
                    message = bytes([number]) * size
                    await client.send(message)
                    self.assertTrue(await _echo(client) == message)
                await everybody.wait()

        async def crowd() -> None:
            everybody = asyncio.Barrier(CROWD)
            await asyncio.gather(*(one(number, everybody) for number in range(CROWD)))

        asyncio.run(asyncio.wait_for(crowd(), 3 * PATIENCE))

    def test_nothing_stays_open(self) -> None:
        """When a WebSocket ends, both its connections do."""

        async def nothing(client: Any) -> None:
            await client.recv()

        self._talk(nothing)
        before = self.proxy.descriptors()
        for _ in range(10):
            self._talk(nothing)
        until(lambda: self.proxy.descriptors() <= before, "no more descriptors than before")

    def test_access_line(self) -> None:
        async def nothing(client: Any) -> None:
            await client.recv()

        self._talk(nothing, "/ws/client/?logged")
        self.proxy.says(r'"GET /ws/client/\?logged HTTP/1\.1" 101 \d+ ', "stdout")


async def _echo(client: Any) -> Any:
    """The next message that is not the stand-in's tick."""
    while True:
        message = await client.recv()
        if not (isinstance(message, str) and message.startswith('{"time"')):
            return message


class UpstreamRestarts(EndToEnd):
    """authentik recycles a worker."""

    def test_close_code_1012(self) -> None:
        stage = self.own_stage()
        origin = stage.origin(HOST)
        proxy = stage.proxy(stage.configuration(origin.port))

        async def ends() -> tuple[int, str]:
            client: Any = await websockets.connect(
                f"wss://{HOST}:{proxy.https}/ws/client/",
                ssl=stage.client_tls(), host=LOOPBACK, port=proxy.https, open_timeout=PATIENCE,
            )  # fmt: skip
            await client.recv()
            origin.popen.terminate()
            await client.wait_closed()
            return client.close_code, client.close_reason

        code, reason = asyncio.run(asyncio.wait_for(ends(), PATIENCE))
        self.assertEqual((code, reason), (1012, "Service Restart"))


# autobahn on both sides, without twisted.web.


@implementer(IProtocolNegotiationFactory)
class Servers(WebSocketServerFactory):
    """The server's factory; with HTTP/1.1 in ALPN, since the proxy offers it."""

    def __init__(self) -> None:
        super().__init__()
        self.handshakes: list[Any] = []
        self.pings: list[bytes] = []
        self.ends: DeferredQueue[int | None] = DeferredQueue()
        self.setProtocolOptions(
            perMessageCompressionAccept=_deflate_offered, echoCloseCodeReason=True, **UNHURRIED
        )

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


class Server(WebSocketServerProtocol):
    """Echoes; "close CODE" closes with it; every handshake is kept."""

    def onConnect(self, request: Any) -> Any:
        self.factory.handshakes.append(request)
        return "guacamole" if "guacamole" in request.protocols else None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        word, _, code = payload.partition(b" ")
        if word == b"close":
            self.sendCloseFrame(code=int(code), reasonUtf8=b"as you wish")
        elif word == b"fragments":
            self.beginMessage(isBinary=True)
            for number in range(int(code)):
                self.sendMessageFrame(b"%03d" % number * 100)
            self.endMessage()
        else:
            self.sendMessage(payload, isBinary)

    def onPing(self, payload: bytes) -> None:
        self.factory.pings.append(payload)
        super().onPing(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.ends.put(code)


class Client(WebSocketClientProtocol):
    """Messages and pongs in queues; how it opened and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[Any] = Deferred()
        self.ended: Deferred[tuple[bool, int | None, str | None]] = Deferred()
        self.messages: DeferredQueue[Any] = DeferredQueue()
        self.pongs: DeferredQueue[bytes] = DeferredQueue()
        self.response: Any = None

    def onConnect(self, response: Any) -> None:
        self.response = response

    def onOpen(self) -> None:
        self.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.put(payload if isBinary else payload.decode())

    def onPong(self, payload: bytes) -> None:
        self.pongs.put(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self.opened.called:
            self.opened.errback(AssertionError(f"{code}: {reason}"))
        self.ended.callback((wasClean, code, reason))


def _deflate_accepted(answer: object) -> PerMessageDeflateResponseAccept | None:
    if isinstance(answer, PerMessageDeflateResponse):
        return PerMessageDeflateResponseAccept(answer)
    return None


def _deflate_offered(offers: list[object]) -> PerMessageDeflateOfferAccept | None:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


class Autobahn(Staged, TestCase):
    """autobahn's client and its server, in the reactor of the tests; the proxy between them."""

    timeout = 2 * PATIENCE

    async def _open(self, path: str = "/ws/outpost/?x=%2F", **options: Any) -> Client:
        """A server, a proxy, a client."""
        stage = self.own_stage()
        pair = stage.certificate(HOST)
        with open(pair["private_key"], "rb") as key, open(pair["certificate"], "rb") as chain:
            tls = PrivateCertificate.loadPEM(key.read() + chain.read()).options()
        self.server = Servers()
        self.server.protocol = Server
        port = reactor.listenSSL(0, self.server, tls, interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        self.proxy = stage.proxy(stage.configuration(port.getHost().port))

        factory = WebSocketClientFactory(f"wss://{HOST}:{self.proxy.https}{path}", **options)
        factory.protocol = Client
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()],
            perMessageCompressionAccept=_deflate_accepted,
            serverConnectionDropTimeout=PATIENCE,
            **UNHURRIED,
        )
        trust = Certificate.loadPEM(stage.ca.read_bytes())
        endpoint = wrapClientTLS(
            optionsForClientTLS(HOST, trust), HostnameEndpoint(reactor, LOOPBACK, self.proxy.https)
        )
        client: Any = await endpoint.connect(factory)
        self.addCleanup(self._gone, client)
        opened: Client = await client.opened
        return opened

    def _gone(self, client: Client) -> Deferred[Any]:
        if not client.ended.called:
            client.sendClose()
        return client.ended

    async def test_messages(self) -> None:
        client = await self._open()
        for message in ("text", "", "héllo", "x" * MIB):
            client.sendMessage(message.encode())
            self.assertTrue(await client.messages.get() == message)
        for content in (b"\x00\x01", b"", os.urandom(MIB)):
            client.sendMessage(content, True)
            self.assertTrue(await client.messages.get() == content)

    async def test_fragments_both_ways(self) -> None:
        client = await self._open()
        client.beginMessage(isBinary=True)
        for piece in (b"a" * 10, b"", b"b" * 70000, b"c"):
            client.sendMessageFrame(piece)
        client.endMessage()
        self.assertTrue(await client.messages.get() == b"a" * 10 + b"b" * 70000 + b"c")
        client.sendMessage(b"fragments 200")
        wanted = b"".join(b"%03d" % number * 100 for number in range(200))
        self.assertTrue(await client.messages.get() == wanted)

    async def test_ping(self) -> None:
        client = await self._open()
        client.sendPing(b"a ping")
        self.assertEqual(await client.pongs.get(), b"a ping")
        self.assertEqual(self.server.pings, [b"a ping"])

    async def test_negotiation(self) -> None:
        client = await self._open(protocols=["other", "guacamole"])
        self.assertEqual(client.response.protocol, "guacamole")
        self.assertEqual(len(client.response.extensions), 1)
        [handshake] = self.server.handshakes
        self.assertEqual((handshake.path, handshake.params), ("/ws/outpost/", {"x": ["/"]}))
        self.assertEqual(handshake.headers["host"], f"{HOST}:{self.proxy.https}")
        self.assertEqual(handshake.headers["x-forwarded-proto"], "https")

    async def test_normal_close_of_the_server(self) -> None:
        await self._closes(1000)

    async def test_service_restart_of_the_server(self) -> None:
        await self._closes(1012)

    async def test_own_close_code_of_the_server(self) -> None:
        await self._closes(4000)

    async def _closes(self, code: int) -> None:
        client = await self._open()
        client.sendMessage(b"close %d" % code)
        self.assertEqual(await client.ended, (True, code, "as you wish"))

    async def test_close_of_the_client(self) -> None:
        client = await self._open()
        client.sendClose(4000, "enough")
        self.assertEqual(await client.ended, (True, 4000, "enough"))
        self.assertEqual(await self.server.ends.get(), 4000)


# Raw octets: what no library does on purpose.


class Raw(EndToEnd):
    """The moments around the 101."""

    def _between(self, conversation: Callable[[socket.socket], None]) -> tuple[Stage, Proxy]:
        """A proxy in front of a scripted upstream server."""
        origin = self.scripted(conversation)
        stage = self.own_stage()
        return stage, stage.proxy(stage.configuration(origin.url))

    def test_octets_behind_the_101(self) -> None:
        """Upstream's first frame in the segment of its 101, and glued to the client's handshake a
        first frame: both arrive, behind the heads."""
        got: list[bytes] = []

        def upstream(sock: socket.socket) -> None:
            head = read_head(sock)
            sock.sendall(switching(head) + b"first of upstream")
            got.append(read_exactly(sock, len(b"first of client")))
            sock.sendall(b", second")
            got.append(read_all(sock))

        stage, proxy = self._between(upstream)
        with stage.connect(proxy) as sock:
            sock.sendall(request("/ws/client/", *UPGRADE) + b"first of client")
            head = read_head(sock)
            self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
            self.assertEqual(read_exactly(sock, 25), b"first of upstream, second")
            sock.sendall(b", last")
            sock.unwrap()
        until(lambda: len(got) == 2, "upstream saw the end")
        self.assertEqual(got, [b"first of client", b", last"])

    def test_nothing_goes_upstream_before_the_101(self) -> None:
        """Early octets of a client are held until upstream has agreed."""
        agreed = threading.Event()
        seen: list[bytes] = []

        def upstream(sock: socket.socket) -> None:
            head = read_head(sock)
            sock.settimeout(0.2)  # only a proxy that is wrong is caught sooner or later
            with contextlib.suppress(TimeoutError):
                seen.append(sock.recv(100))
            sock.settimeout(PATIENCE)
            agreed.set()
            sock.sendall(switching(head))
            seen.append(read_exactly(sock, 5))

        stage, proxy = self._between(upstream)
        with stage.connect(proxy) as sock:
            sock.sendall(request("/ws/client/", *UPGRADE) + b"early")
            agreed.wait(PATIENCE)
            read_head(sock)
            read_all(sock)
        self.assertEqual(seen, [b"early"])

    def test_one_octet_at_a_time(self) -> None:
        """Handshake, 101 and frames in the smallest pieces that there are."""

        def upstream(sock: socket.socket) -> None:
            for octet in _octets(switching(read_head(sock)) + b"upstream's"):
                sock.sendall(octet)
            for octet in _octets(read_exactly(sock, 8)):
                sock.sendall(octet)

        stage, proxy = self._between(upstream)
        with stage.connect(proxy) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for octet in _octets(request("/ws/client/", *UPGRADE)):
                sock.sendall(octet)
            self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 101 "))
            for octet in _octets(b"client's"):
                sock.sendall(octet)
            self.assertEqual(read_all(sock), b"upstream'sclient's")

    def test_refused_handshake(self) -> None:
        """A 403 with an empty body is an ordinary response on an ordinary connection."""
        targets: list[bytes] = []

        def upstream(sock: socket.socket) -> None:
            for status in (b"403 Forbidden", b"200 OK"):
                targets.append(read_head(sock).split(b" ")[1])
                sock.sendall(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)

        stage, proxy = self._between(upstream)
        with stage.connect(proxy) as sock:
            sock.sendall(request("/ws/rac/x/", *UPGRADE))
            refused = response(sock)
            self.assertEqual((refused.status, refused.content), (403, b""))
            self.assertEqual(refused.fields["content-length"], "0")
            self.assertNotIn("upgrade", refused.fields)
            sock.sendall(request("/after"))
            self.assertEqual(response(sock).status, 200)
        self.assertEqual(targets, [b"/ws/rac/x/", b"/after"])

    def test_refused_handshake_with_octets_behind_it(self) -> None:
        """They were meant for a tunnel that there is not: as a request they are refused."""

        def upstream(sock: socket.socket) -> None:
            read_head(sock)
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual(read_all(sock), b"")

        stage, proxy = self._between(upstream)
        with stage.connect(proxy) as sock:
            frame = b"\x81\x85\r\n\r\n" + bytes(5)
            sock.sendall(request("/ws/client/", *UPGRADE) + frame)
            answers = read_all(sock)  # perhaps in one segment
        statuses = re.findall(rb"^HTTP/1\.1 (\d+) ", answers, re.MULTILINE)
        self.assertEqual(statuses, [b"403", b"400"])

    def test_false_101(self) -> None:
        """One that does not accept our key is no agreement."""

        def upstream(sock: socket.socket) -> None:
            head = read_head(sock)
            sock.sendall(switching(head.replace(KEY.encode(), b"x" * 22 + b"==")))
            read_all(sock)

        stage, proxy = self._between(upstream)
        with stage.connect(proxy) as sock:
            sock.sendall(request("/ws/client/", *UPGRADE))
            self.assertEqual(response(sock).status, 502)
        proxy.says("Sec-WebSocket-Accept")

    def test_101_that_nobody_asked_for(self) -> None:
        def upstream(sock: socket.socket) -> None:
            sock.sendall(switching(read_head(sock) + f"sec-websocket-key: {KEY}\r\n".encode()))
            read_all(sock)

        stage, proxy = self._between(upstream)
        with stage.connect(proxy) as sock:
            sock.sendall(request("/", "Upgrade: h2c", "Connection: Upgrade"))
            self.assertEqual(response(sock).status, 502)

    def test_client_that_vanishes(self) -> None:
        """A reset of one side ends the other."""
        ended = threading.Event()

        def upstream(sock: socket.socket) -> None:
            sock.sendall(switching(read_head(sock)))
            read_all(sock)
            ended.set()

        stage, proxy = self._between(upstream)
        sock = stage.connect(proxy)
        sock.sendall(request("/ws/client/", *UPGRADE))
        read_head(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        self.assertTrue(ended.wait(PATIENCE))

    def test_upstream_that_vanishes(self) -> None:
        """The client sees the end of TLS, not a cut."""

        def upstream(sock: socket.socket) -> None:
            sock.sendall(switching(read_head(sock)) + b"last words")

        stage, proxy = self._between(upstream)
        with stage.connect(proxy) as sock:
            sock.sendall(request("/ws/client/", *UPGRADE))
            read_head(sock)
            self.assertEqual(read_exactly(sock, 10), b"last words")
            self.assertEqual(sock.recv(1), b"")

    def test_over_plain_http_behind_a_terminator(self) -> None:
        """plain_http = "serve": WebSockets work there too."""

        def upstream(sock: socket.socket) -> None:
            head = read_head(sock)
            self.assertIn(b"x-forwarded-proto: http\r\n", head.lower())
            sock.sendall(switching(head) + b"hello")

        origin = self.scripted(upstream)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(origin.url, listen={"plain_http": "serve"}))
        with connect(proxy.http) as sock:
            sock.sendall(request("/ws/client/", *UPGRADE))
            self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 101 "))
            self.assertEqual(read_all(sock), b"hello")


def switching(head: bytes) -> bytes:
    """The 101 for a handshake."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    fields = {name.lower(): value.strip() for name, _, value in lines}
    digest = hashlib.sha1(fields[b"sec-websocket-key"] + GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(digest)
    )


def _octets(data: bytes) -> Iterator[bytes]:
    return (data[start : start + 1] for start in range(len(data)))
