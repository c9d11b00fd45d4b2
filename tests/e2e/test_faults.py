"""What breaks around the proxy, one thing after the other: what the client sees, what the log says,
that a request of somebody else is not hurt, and that nothing is lost or doubled.

Here are dials, handshakes and responses. Further faults are where their subject is:

    uploads and downloads that are cut     test_faults_bodies.py
    a network that loses packets, or is gone; an upstream host that starts anew
                                           test_faults_network.py
    no descriptors, full disks, a clock that jumps      test_faults_machine.py
    nobody reads stderr or stdout          test_faults_logs.py
    a worker is killed under load          test_faults_workers.py
    a worker or the supervisor is killed   test_workers.py
    one of two upstream servers dies, hangs, is a black hole or not ready    test_health.py
    a pinned or wrong CA or key            test_tls.py
    a slow reader on either side           test_slow_reader.py
    HTTP/2 streams that are cut            test_http2_streams.py, test_http2_ends.py
    all of them at random, for long        script/soak
"""

from __future__ import annotations

import datetime
import signal
import socket
import ssl
import threading
from typing import Any

from .clients import Asked
from .faulty import BODY, FAULTY, OK, SOON, BlackHole, FaultTests, World, cut, take
from .processes import HOST, LOOPBACK, free_port, read_all, request, response, until


class Dialling(FaultTests):
    def test_refused(self) -> None:
        self.start(f"http://{LOOPBACK}:{free_port()}")
        self.fails(503, r"nothing listens at .* Is authentik running\?")

    def test_black_hole(self) -> None:
        hole = BlackHole()
        self.addCleanup(hole.close)
        self.start(f"http://{LOOPBACK}:{hole.port}", timeouts={"connect": SOON})
        self.fails(503, r"does not answer \(timeouts\.connect\)\. Is a firewall in between\?")

    def test_name_that_does_not_resolve(self) -> None:
        world = World(self.stage)
        self.start("http://origin.test:9000", environ=world.environ)
        self.fails(503, r"the name in http://origin\.test:9000 does not resolve\. Correct it")

    def test_name_that_changes(self) -> None:
        """What is open stays, what is dialled from then on goes to the new address."""
        world = World(self.stage)
        with socket.create_server((LOOPBACK, 0)) as first:
            port = first.getsockname()[1]
            with socket.create_server(("127.0.0.2", port)) as second:
                world.name({"origin.test": LOOPBACK})
                self.start(f"http://origin.test:{port}", environ=world.environ)
                self.assertEqual(self._answered_by(first, second), first)
                world.name({"origin.test": "127.0.0.2"})
                self.assertEqual(self._answered_by(first, second), second)
                world.name({})
                self.fails(503, "does not resolve")
                world.name({"origin.test": LOOPBACK})
                self.assertEqual(self._answered_by(first, second), first)

    def test_name_server_that_hangs(self) -> None:
        """Requests for it fail in time, more of them than there are threads; a name that another
        server knows is resolved meanwhile, and what has hung is forgotten once it answers."""
        world = World(self.stage)
        world.name({"origin.test": "hangs", "good.test": LOOPBACK})
        good = f"http://good.test:{self.good.port}"
        self.start(
            f"http://origin.test:{self.good.port}",
            good=good, environ=world.environ, timeouts={"connect": SOON},
        )  # fmt: skip
        words = "503 .*the name in http://origin.test:.* is not resolved"
        asking = [threading.Thread(target=self.ask) for _ in range(40)]
        for thread in asking:
            thread.start()
        self.proxy.says(words)
        for thread in asking:
            thread.join()
        with self.stage.connect(self.proxy, HOST) as sock:
            # Two at once: one of them on a new connection.
            sock.sendall(request("/slow?seconds=0.5"))
            with self.stage.connect(self.proxy, HOST) as other:
                other.sendall(request("/slow?seconds=0.5"))
                self.assertEqual(response(other).status, 200)
            self.assertEqual(response(sock).status, 200)
        self.fails(503, "is not resolved in time")
        world.name({"origin.test": LOOPBACK, "good.test": LOOPBACK})
        until(lambda: self.ask().status == 200, "it is resolved")

    def test_end_while_a_name_server_hangs(self) -> None:
        world = World(self.stage)
        world.name({"origin.test": "hangs"})
        document = self.stage.configuration("http://origin.test:9000", timeouts={"connect": SOON})
        proxy = self.stage.proxy(document, environ=world.environ)
        with self.stage.connect(proxy) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 503)
        proxy.signal(signal.SIGTERM)
        self.assertIn(proxy.wait(), (0, 143, -signal.SIGTERM))

    def _answered_by(self, *listeners: socket.socket) -> socket.socket:
        """Which of them gets the connection of a request. It is not kept."""
        got: list[socket.socket] = []

        def serve(listener: socket.socket) -> None:
            sock, _ = listener.accept()
            with sock:
                got.append(listener)
                take(sock)
                sock.sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

        threads = [threading.Thread(target=serve, args=(each,), daemon=True) for each in listeners]
        for thread in threads:
            thread.start()
        self.assertEqual(self.ask().content, b"hello")
        for listener in listeners:
            if listener not in got:  # it still waits
                with socket.create_connection(listener.getsockname()) as sock:
                    sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    sock.recv(1000)
        for thread in threads:
            thread.join()
        return got[0]


class Handshakes(FaultTests):
    """Of TLS with upstream."""

    def start_tls(self, origin: Any, **timeouts: float) -> None:
        verified = {"upstream_verify": f"ca:{self.stage.ca}", "upstream_server_name": FAULTY}
        self.start(origin.url.replace("http:", "https:"), verified, timeouts=timeouts)

    def test_silence(self) -> None:
        def silent(sock: socket.socket) -> None:
            read_all(sock)

        self.start_tls(self.script(silent), upstream_tls=SOON)
        self.fails(504, "accepts connections but did not finish a TLS handshake in time")

    def test_half_of_one(self) -> None:
        """The first record's header, and the connection is gone."""
        end: Any = cut

        def half(sock: socket.socket) -> None:
            sock.recv(65536)
            sock.sendall(b"\x16\x03\x03\x00\x7a\x02\x00")
            end(sock)

        self.start_tls(self.script(half))
        self.fails(503, "closed the connection during the TLS handshake")
        end = socket.socket.close
        self.fails(503, "closed the connection during the TLS handshake")

    def test_garbage(self) -> None:
        def garbage(sock: socket.socket) -> None:
            sock.recv(65536)
            sock.sendall(b"\x16\x03\x03\x00\x20" + b"\xff" * 32)
            sock.recv(65536)

        self.start_tls(self.script(garbage))
        self.fails(503, "the TLS handshake with .* failed")

    def test_expired(self) -> None:
        """The client gets a 502, and the log the lines that cure it."""
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        leaf = self.stage.authority.issue_cert(FAULTY, not_after=yesterday)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(tls)
        self.start_tls(self.script(lambda sock: self._serve_tls(tls, sock)))
        self.fails(502, r"is not accepted: it, or a certificate above it, has expired")
        self.proxy.says(r'^\s+upstream_verify = "pin:sha256/')
        self.assertEqual(self.came, [])  # nobody who is not upstream is told anything

    def test_wrong_name(self) -> None:
        """As above, with another cure; the key is known, the name is not."""
        leaf = self.stage.authority.issue_cert("other.example.net")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(tls)
        self.start_tls(self.script(lambda sock: self._serve_tls(tls, sock)))
        self.fails(502, rf"it is not for {FAULTY}, but for other\.example\.net")
        self.proxy.says(r'^\s+upstream_server_name = "other\.example\.net"')
        self.assertEqual(self.came, [])

    def _serve_tls(self, tls: ssl.SSLContext, sock: socket.socket) -> None:
        try:
            with tls.wrap_socket(sock, server_side=True) as wrapped:
                self.take(wrapped)
        except OSError:  # the proxy has seen enough
            pass


class Answering(FaultTests):
    def serve(self, *answers: bytes, end: Any = cut) -> None:
        """Each connection of upstream takes one request from now on, sends this, and ends."""

        def conversation(sock: socket.socket) -> None:
            if self.take(sock):
                for piece in answers:
                    sock.sendall(piece)
                end(sock)

        self.came.clear()
        self.conversation = conversation


class Silence(Answering):
    def test_silence(self) -> None:
        """Before the head a page, in the content a cut."""
        origin = self.script(lambda sock: None)
        self.start(origin.url, timeouts={"first_byte": SOON, "upstream_idle": SOON})
        self.serve(end=read_all)
        self.fails(504, "")
        self.serve(OK[:-2], end=read_all)
        for version in ("http/1.1", "h2"):
            seen = self.ask(version=version)
            self.assertEqual((seen.status, seen.content, seen.cut), (200, b"hel", True))


class Responses(Answering):
    """What is wrong with an answer, after the request was sent."""

    def setUp(self) -> None:
        super().setUp()
        self.origin = self.script(lambda sock: None)
        self.start(self.origin.url)

    def test_cut_before_an_octet(self) -> None:
        """On a connection that is new: nobody may ask twice."""
        for end in (cut, socket.socket.close):
            self.serve(end=end)
            self.fails(502, "closed the connection before its response was complete")
            self.assertEqual(len(self.came), 2)

    def test_cut_in_the_head(self) -> None:
        self.serve(OK[:20])
        self.fails(502, "closed the connection before its response was complete")
        self.assertEqual(len(self.came), 2)

    def test_cut_in_the_content(self) -> None:
        """The client sees that something is missing; what came was right."""
        chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
        for head, content in (
            (b"Content-Length: %d" % (2 * len(BODY)), BODY),
            (b"Transfer-Encoding: chunked", chunk),
            (b"Transfer-Encoding: chunked", chunk + b"20000\r\nabc"),
        ):
            # In order: a reset would take with it what was sent before.
            self.serve(
                b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", content, end=socket.socket.close
            )
            for version in ("http/1.1", "h2"):
                self.came.clear()
                seen = self.ask(version=version)
                self.assertEqual((seen.status, seen.ended, seen.cut), (200, False, True))
                self.assertTrue((BODY + b"abc").startswith(bytes(seen.content)))
                self.assertEqual(len(self.came), 1)
            self.proxy.says(rf"upstream: Site {FAULTY}, a response was cut")

    def test_garbage(self) -> None:
        self.serve(b"\x15\x03\x01\x00\x02\x02\x16" * 20)
        self.fails(502, "a malformed status line")

    def test_garbage_after_a_response(self) -> None:
        """It is nobody's answer: the connection is not used again."""
        both = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers"
        self.serve(both, end=read_all)
        with self.stage.connect(self.proxy, FAULTY) as sock:
            for _ in range(3):
                sock.sendall(request("/", host=FAULTY))
                self.assertEqual(response(sock).content, b"hello")
        self.assertEqual(len(self.came), 3)

    def test_slow(self) -> None:
        """Octet by octet, but it goes on: nothing is lost. By one segment each."""

        def drip(sock: socket.socket) -> None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self.take(sock):
                for octet in OK:
                    sock.sendall(bytes([octet]))

        self.conversation = drip
        for version in ("http/1.1", "h2"):
            seen = self.ask(version=version)
            self.assertEqual((seen.status, seen.content, seen.ended), (200, b"hello", True))

    def test_closed_at_the_moment_of_reuse(self) -> None:
        """A pooled connection ends when the next request is on its way. What may be asked twice is
        asked again on a new one; what may not is a 502, and upstream has it once at most."""

        def once(sock: socket.socket) -> None:
            """Serve one request, and cut once an octet of the next is there."""
            if self.take(sock):
                sock.sendall(OK)
                if sock.recv(1):
                    cut(sock)

        self.conversation = once
        for method, content, status in (
            ("GET", None, 200), ("PUT", b"content", 200), ("DELETE", None, 200),
            ("POST", b"content", 502), ("POST", None, 502), ("PATCH", b"content", 502),
        ):  # fmt: skip
            for version in ("http/1.1", "h2"):
                self.assertEqual(self.ask().content, b"hello")
                self.came.clear()
                before = self.origin.connections
                seen = self.ask(Asked(method, "/", content=content, host=FAULTY), version)
                self.assertEqual((seen.status, seen.ended), (status, True), (method, version))
                # What is counted was taken whole: by a new connection.
                again = 1 if status == 200 else 0
                self.assertEqual(len(self.came), again)
                self.assertEqual(self.origin.connections - before, again)
