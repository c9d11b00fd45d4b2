"""Guards against who is already connected: behind what was refused, held or on its way, and by
words of a trusted and an untrusted peer that may mean an inner address."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Any, ClassVar

from authproxy.control import ask

from ..test_guards import SPELLINGS
from .clients import HTTP2, Asked
from .processes import (
    HOST,
    LOOPBACK,
    PATIENCE,
    EndToEnd,
    Proxy,
    Stage,
    connect,
    read_all,
    request,
    response,
    toml,
    until,
)
from .recording import OK, RecordingOrigin, read_recorded

OUTSIDE, INSIDE = "198.51.100.7", "10.1.2.3"
GUARDED = "/if/admin/"
STRANGER = "127.0.0.9"  # loopback, but in no list
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
OPEN = [target.decode() for target, word in SPELLINGS if word == "open" and len(target) < 100]
CLOSED = [
    target.decode()
    for target, word in SPELLINGS
    if word != "open" and target.startswith(b"/") and len(target) < 100
]


class _Guarded(EndToEnd):
    origin: ClassVar[RecordingOrigin]
    proxy: ClassVar[Proxy]

    @classmethod
    def stand(cls, stage: Stage, **trust: Any) -> None:
        cls.origin = RecordingOrigin()
        upstream = stage.scripted(cls.origin.converse)
        guard = {"path": GUARDED, "allow": ["10.0.0.0/8", "fc00::/7"]}
        cls.proxy = stage.proxy(
            stage.configuration(
                upstream.url, {"guard": [guard]}, listen={"plain_http": "serve"}, trust=trust
            )
        )

    def setUp(self) -> None:
        super().setUp()
        self.origin.take()

    def seen(self) -> list[str]:
        return [one.target.decode() for one in self.origin.take()]

    def connect(self, *protocols: str) -> ssl.SSLSocket:
        sock = self.stage.connect(self.proxy, protocols=protocols)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.addCleanup(sock.close)
        return sock


class FromOutside(_Guarded):
    """Nobody is trusted, and loopback is not allowed."""

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.stand(stage)

    def test_forms(self) -> None:
        """test_guards.py has the spellings; here by absolute-form, and by other methods."""
        sock = self.connect()
        http2 = HTTP2(self.connect("h2"))
        for target in CLOSED:
            for scheme, host in (("https", HOST), ("HTTP", HOST.upper() + ".:443")):
                sock.sendall(request(f"{scheme}://{host}{target}", host=host))
                self.assertIn(response(sock).status, (400, 403), target)
            for method in ("HEAD", "POST", "OPTIONS", "PROPFIND"):
                answer = http2.ask(Asked(method=method, target=target, host=HOST.upper()))
                self.assertIn(answer.status, (400, 403), (method, target))
        self.assertEqual(self.seen(), [])
        for target in OPEN:
            sock.sendall(request(f"https://{HOST}{target}"))
            self.assertEqual(response(sock).status, 200, target)
            self.assertEqual(http2.ask(Asked(method="POST", target=target)).status, 200, target)
        self.assertEqual(self.seen(), [target for target in OPEN for _ in range(2)])

    def test_behind_what_is_allowed(self) -> None:
        """In one segment with a request that is: as the next, in its content, in its chunks."""
        smuggled = request(GUARDED, "Connection: close")
        chunk = b"%x\r\n%b\r\n" % (len(smuggled), smuggled)
        for before, seen, refused in (
            (request("/"), ["/"], 1),
            (request("/") * 3, ["/"] * 3, 1),
            (request("/", method="HEAD"), ["/"], 1),
            (request("/", *WEBSOCKET), ["/"], 1),
            (request("/", "Connection: Upgrade", "Upgrade: h2c"), ["/"], 1),
            (request(GUARDED, *WEBSOCKET), [], 2),
            (request("/if/%61dmin/"), [], 2),
            (request("/", "Content-Length: 5", method="POST") + b"abcde", ["/"], 1),
            (request("/", "Content-Length: 5", "Expect: 100-continue", method="POST") + b"abcde",
             ["/"], 1),
            (request("/", "Transfer-Encoding: chunked", method="POST") + chunk + b"0\r\n\r\n",
             ["/"], 1),
            (request(GUARDED, "Transfer-Encoding: chunked", method="POST") + chunk + b"0\r\n\r\n",
             [], 2),
            (request(GUARDED, f"Content-Length: {len(smuggled)}") + smuggled, [], 2),
        ):  # fmt: skip
            sock = self.connect()
            sock.sendall(before + smuggled)
            answers = read_all(sock)
            self.assertEqual(self.seen(), seen, before)
            count = answers.count(b"HTTP/1.1 403 ") + answers.count(b"HTTP/1.1 400 ")
            # A refusal whose content had not come yet ends the connection.
            self.assertIn(count, (1, refused), before)

    def test_content_of_a_refused_request(self) -> None:
        """It is not the next request, however late it comes."""
        for framing in (f"Content-Length: {len(request(GUARDED))}", "Transfer-Encoding: chunked"):
            sock = self.connect()
            sock.sendall(request(GUARDED, framing, method="POST"))
            self.assertEqual(response(sock, "POST").status, 403)
            with contextlib.suppress(ConnectionError):  # it may have closed by now
                sock.sendall(request("/"))
            self.assertEqual(read_all(sock), b"")
        self.assertEqual(self.seen(), [])

    def test_words_of_a_stranger(self) -> None:
        """Every name for an address, by two versions, and twice."""
        http2 = HTTP2(self.connect("h2"))
        sock = self.connect()
        for name in (
            "X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP",
            "X-Cluster-Client-IP", "Fastly-Client-IP", "Fly-Client-IP", "X-Azure-ClientIP",
            "X_Forwarded_For", "X-Forwarded", "X-Originating-IP", "X-Remote-IP", "X-Remote-Addr",
            "Client-IP", "X-Host", "Forwarded", "X-ProxyUser-Ip", "X-Forwarded-For-Original",
        ):  # fmt: skip
            value = "for=10.1.2.3" if name == "Forwarded" else INSIDE
            for fields in ([(name, value)], [(name, value)] * 2, [(name, f"{value}, {value}")]):
                lines = [f"{one}: {said}" for one, said in fields]
                sock.sendall(request(GUARDED, *lines))
                self.assertEqual(response(sock).status, 403, lines)
                low = [(one.lower(), said) for one, said in fields]
                self.assertEqual(http2.ask(Asked(target=GUARDED, fields=low)).status, 403, low)
        self.assertEqual(self.seen(), [])


class BehindOurProxy(_Guarded):
    """Loopback is a trusted proxy, and says who the client is."""

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.stand(stage, proxies=[f"{LOOPBACK}/32", "10.200.0.0/16"])

    def test_lists(self) -> None:
        """Which address is the client's, as a guard and upstream have it."""
        http2 = HTTP2(self.connect("h2"))
        for values, client, status in (
            ([INSIDE], INSIDE, 200),
            (["::ffff:10.1.2.3"], INSIDE, 200),
            (["[::ffff:10.1.2.3]:443"], INSIDE, 200),
            (["fd00::1"], "fd00::1", 200),
            ([f"{OUTSIDE}, {INSIDE}"], INSIDE, 200),
            ([f"{INSIDE}, {OUTSIDE}"], OUTSIDE, 403),
            ([INSIDE, OUTSIDE], OUTSIDE, 403),
            ([f"{INSIDE}, {OUTSIDE}, 10.200.0.1"], OUTSIDE, 403),
            ([f"{INSIDE}, {OUTSIDE}, ::ffff:10.200.0.1"], OUTSIDE, 403),
            (["::ffff:198.51.100.7"], OUTSIDE, 403),
            (["::10.1.2.3"], "::a01:203", 403),
            (["64:ff9b::10.1.2.3"], "64:ff9b::a01:203", 403),
            (["2002:a01:203::"], "2002:a01:203::", 403),
            (["fe80::1"], "fe80::1", 403),
            # Nobody knows who that is: the address is this proxy's, and opens nothing.
            *(
                ([said], LOOPBACK, 403)
                for said in (
                    "fe80::1%eth0", "10.1.2.3%eth0", "::ffff:10.1.2.3%1", "010.1.2.3", "10.1.515",
                    "10.1.2", "167838211", "0xa.1.2.3", "0x0a010203", "10.1.2.3/32", "unknown",
                    "localhost", "", ",", f"{INSIDE},", f"{INSIDE} {OUTSIDE}", '"10.1.2.3"',
                    "10.1.2.3\t10.1.2.4", "for=10.1.2.3", "[10.1.2.3]x", "\uff11\uff10.1.2.3",
                )
            ),
            ([INSIDE, ""], LOOPBACK, 403),
            ([f"{INSIDE}, unknown, 10.200.0.1"], "10.200.0.1", 403),
        ):  # fmt: skip
            sock = self.connect()
            lines = [f"X-Forwarded-For: {value}".encode() for value in values]
            for target in ("/", GUARDED):
                octets = b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n"
                octets = octets.replace(b"Host: a", f"Host: {HOST}".encode())
                sock.sendall(octets % (target.encode(), b"\r\n".join(lines)))
                self.assertEqual(response(sock).status, 200 if target == "/" else status, values)
            fields = [("x-forwarded-for", value) for value in values]
            self.assertEqual(http2.ask(Asked(target=GUARDED, fields=fields)).status, status, values)
            came = [one.values(b"x-forwarded-for") for one in self.origin.take()]
            expected = [[client.encode()]] * (3 if status == 200 else 1)
            self.assertEqual(came, expected, values)

    def test_clients_of_one_connection(self) -> None:
        """A proxy has them all on it: what one may is not the next one's."""
        sock = self.connect()
        http2 = HTTP2(self.connect("h2"))
        for _ in range(3):
            for client, status in ((INSIDE, 200), (OUTSIDE, 403), (INSIDE, 200), ("", 403)):
                field = f"X-Forwarded-For: {client}"
                sock.sendall(request(GUARDED, field))
                self.assertEqual(response(sock).status, status)
                asked = Asked(target=GUARDED, fields=[("x-forwarded-for", client)])
                self.assertEqual(http2.ask(asked).status, status)
        both = [
            Asked(target=GUARDED, fields=[("x-forwarded-for", client)])
            for client in (INSIDE, OUTSIDE) * 5
        ]
        self.assertEqual([seen.status for seen in http2.ask_all(*both)], [200, 403] * 5)
        without = [Asked(target=GUARDED), *both[:1], Asked(target=GUARDED)]
        self.assertEqual([seen.status for seen in http2.ask_all(*without)], [403, 200, 403])

    def test_another_peer(self) -> None:
        """The same words of somebody who is not in the list."""
        with connect(self.proxy.http, source=STRANGER) as sock:
            for field in (f"X-Forwarded-For: {INSIDE}", "X-Forwarded-Proto: https"):
                sock.sendall(request(GUARDED, field))
                self.assertEqual(response(sock).status, 403)
        self.assertEqual(self.seen(), [])


class Reloads(EndToEnd):
    """A guard that is new in the middle of connections."""

    def setUp(self) -> None:
        super().setUp()
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.targets: list[str] = []

        def converse(sock: socket.socket) -> None:
            """Answers "/slow" when the gate opens."""
            while sock.recv(1, socket.MSG_PEEK):
                target = read_recorded(sock).target.decode()
                self.targets.append(target)
                if target == "/slow":
                    self.gate.wait(PATIENCE)
                sock.sendall(OK)

        stage = self.guarded_stage = self.own_stage()
        self.document = stage.configuration(self.scripted(converse).url)
        self.config = stage.config(self.document)
        self.proxy = stage.twistd("--config", str(self.config)).ready()

    def guard(self) -> None:
        """From now on the page is for nobody here."""
        [site] = self.document["site"]
        guarded = site | {"guard": [{"path": GUARDED, "allow": ["203.0.113.0/24"]}]}
        self.config.write_text(toml(self.document | {"site": [guarded]}))
        control = self.document["listen"]["control"]
        self.assertEqual(ask(control, "reload", PATIENCE), {"problem": ""}, str(self.proxy))

    def test_the_next_request(self) -> None:
        """By both versions, though it repeats the one before; a content that was not complete is
        of a request that had passed."""
        stage = self.guarded_stage
        http1, upload = stage.connect(self.proxy), stage.connect(self.proxy)
        http2 = HTTP2(stage.connect(self.proxy, protocols=["h2"]))
        self.addCleanup(http1.close)
        self.addCleanup(upload.close)
        self.addCleanup(http2.close)
        for _ in range(2):
            http1.sendall(request(GUARDED))
            self.assertEqual(response(http1).status, 200)
            self.assertEqual(http2.ask(Asked(target=GUARDED)).status, 200)
        upload.sendall(request(GUARDED, "Content-Length: 5", method="POST") + b"ab")
        http1.sendall(request(GUARDED)[:-2])  # its head is not complete: it has not begun
        begun = http2.begin(Asked(method="POST", target=GUARDED, pieces=[b""]))
        http2.ask(Asked(target="/"))  # the proxy has seen what came before it
        self.guard()
        http1.sendall(b"\r\n")
        self.assertEqual(response(http1).status, 403)
        self.assertEqual(http2.ask(Asked(target=GUARDED)).status, 403)
        http2.end(begun)
        http2.wait([begun])
        self.assertEqual(http2.streams[begun].status, 200)
        del self.targets[:]
        upload.sendall(b"cde")
        self.assertEqual(response(upload, "POST").status, 200)
        upload.sendall(request(GUARDED))
        self.assertEqual(response(upload).status, 403)
        self.assertEqual(self.targets, [GUARDED])

    def test_a_request_that_is_held(self) -> None:
        """It came before the reload, and begins after it."""
        sock = self.guarded_stage.connect(self.proxy)
        self.addCleanup(sock.close)
        sock.sendall(request("/slow") + request(GUARDED) + request("/", "Connection: close"))
        until(lambda: self.targets, "upstream has the first")
        self.guard()
        self.gate.set()
        answers = read_all(sock)
        self.assertEqual(answers.count(b"HTTP/1.1 200 "), 2)
        self.assertEqual(answers.count(b"HTTP/1.1 403 "), 1)
        self.assertEqual(self.targets, ["/slow", "/"])
