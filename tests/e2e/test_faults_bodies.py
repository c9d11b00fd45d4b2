"""Content that is cut, on either side, in either direction, by either version; see test_faults.py.

An upload that is cut is never a complete request to upstream, an answer that came early is not lost
with the upload that it ends, and no connection with a rest on it serves anybody again.
"""

from __future__ import annotations

import contextlib  # trial takes a module's `suppress` for its own
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .clients import HTTP2, Asked, Seen
from .faulty import BODY, FAULTY, OK, FaultTests, cut
from .processes import PATIENCE, connect, read_all, read_head, request, response, until

SENT = BODY * 4  # octets of an upload that come: more than the proxy collects
WHOLE = 2 * len(SENT)  # what it says that it has
EARLY = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much"
VERSIONS = ("http/1.1", "h2")


@dataclass
class Came:
    """An upload as upstream had it: `ended` once its connection has."""

    head: bytes = b""
    wire: bytearray = field(default_factory=bytearray)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def chunked(self) -> bool:
        return b"transfer-encoding: chunked" in self.head.lower()

    @property
    def content(self) -> bytes:
        """Without its chunks' framing, and what there is of the last of them."""
        if not self.chunked:
            return bytes(self.wire)
        content, rest = bytearray(), bytes(self.wire)
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            content += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return bytes(content)

    @property
    def complete(self) -> bool:
        """Whether upstream takes it for all of the request."""
        if self.chunked:
            return self.wire.endswith(b"\r\n0\r\n\r\n")
        return len(self.wire) >= WHOLE


class BodyTests(FaultTests):
    """Upstream takes uploads and notes them in `came_of`, by target; others get OK."""

    def setUp(self) -> None:
        super().setUp()
        self.came_of: dict[str, Came] = {}
        self.meanwhile: Callable[[socket.socket, Came], None] = lambda sock, came: None
        self.origin = self.script(self._converse)
        self.start(self.origin.url, listen={"plain_http": "serve"})

    def _converse(self, sock: socket.socket) -> None:
        with contextlib.suppress(AssertionError, ConnectionError):
            while True:
                head = read_head(sock)
                method, target, _ = head.decode("ascii").split(" ", 2)
                if method == "GET" and target == "/":
                    sock.sendall(OK)
                    continue
                came = self.came_of[target] = Came(head)
                try:
                    self.meanwhile(sock, came)
                    with contextlib.suppress(OSError):
                        while piece := sock.recv(65536):
                            came.wire += piece
                finally:
                    came.ended.set()
                return

    def seen_by_upstream(self, target: str) -> Came:
        """Once its connection has ended there."""
        came = until(lambda: self.came_of.get(target), f"{target} at upstream")
        self.assertTrue(came.ended.wait(PATIENCE), "upstream waits for more")
        return came

    def line(self, target: str, status: int) -> None:
        """The access log has one of it, with this status."""
        self.proxy.says(rf' {target} \S+" {status} ', "stdout")
        self.assertEqual(self.proxy.stdout.count(f" {target} "), 1)

    def others_are_served(self) -> None:
        """By a connection that had nothing of what was cut."""
        before = self.origin.connections
        for version in VERSIONS:
            self.assertEqual(self.ask(version=version).content, b"hello")
        self.assertGreater(self.origin.connections, before)

    def uploading(self, version: str, chunked: bool, target: str) -> Upload:
        """One of which upstream has some."""
        sock = self.stage.connect(self.proxy, FAULTY, (version,))
        self.addCleanup(sock.close)
        upload = Upload(sock, version == "h2", chunked, target)
        upload.send(SENT)
        until(lambda: target in self.came_of, "it begins at upstream")
        return upload


class Upload:
    """A client in the middle of its request's content."""

    def __init__(self, sock: Any, two: bool, chunked: bool, target: str) -> None:
        self.sock = sock
        self._chunked = chunked
        self.client = HTTP2(sock) if two else None
        if self.client is None:
            length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {WHOLE}"
            sock.sendall(request(target, length, method="PUT", host=FAULTY))
            return
        length = () if chunked else (("content-length", str(WHOLE)),)
        asked = Asked("PUT", target, fields=length, pieces=[b""], host=FAULTY)
        self.number = self.client.begin(asked)

    def send(self, data: bytes) -> None:
        if self.client is not None:
            self.client.send(self.number, data)
        elif self._chunked:
            self.sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self.sock.sendall(data)

    def answer(self) -> Seen:
        """Without sending more."""
        if self.client is not None:
            seen = self.client.streams[self.number]
            self.client.until(lambda: seen.over)
            return seen
        answer = response(self.sock, "PUT")
        return Seen(answer.status, content=bytearray(answer.content), ended=True)


def every(test: Callable[[Any, str, bool], None]) -> Callable[[Any], None]:
    """A test for both versions and both framings."""

    def all_of_them(self: Any) -> None:
        for version in VERSIONS:
            for chunked in (False, True):
                test(self, version, chunked)

    all_of_them.__doc__ = test.__doc__
    return all_of_them


class ClientCuts(BodyTests):
    @every
    def test_upload(self, version: str, chunked: bool) -> None:
        """By a reset, by an end that is announced, by one that is not."""
        for name, end in (("reset", cut), ("close", _close), ("shutdown", _shut_down)):
            target = f"/{version}/{chunked}/{name}"
            upload = self.uploading(version, chunked, target)
            end(upload.sock)
            self._incomplete(target)

    def test_stream(self) -> None:
        """One of a connection that goes on."""
        for chunked in (False, True):
            upload = self.uploading("h2", chunked, f"/{chunked}")
            assert upload.client is not None
            upload.client.reset(upload.number)
            self._incomplete(f"/{chunked}")
            self.assertEqual(upload.client.ask(Asked(host=FAULTY)).content, b"hello")

    def test_malformed(self) -> None:
        """Chunks that stop to be chunks: no end is made up for upstream, and the client hears it."""
        upload = self.uploading("http/1.1", True, "/malformed")
        upload.sock.sendall(b"nonsense\r\n")
        self.assertEqual(response(upload.sock, "PUT").status, 400)
        self._incomplete("/malformed", 400)

    def test_small_upload(self) -> None:
        """Upstream hears nothing of what was not collected."""
        before = self.origin.connections
        with self.stage.connect(self.proxy, FAULTY) as sock:
            sock.sendall(request("/small", "Content-Length: 10", method="PUT", host=FAULTY))
            sock.sendall(b"123456789")
            _close(sock)
        self.line("/small", 499)
        self.assertEqual((self.came_of, self.origin.connections), ({}, before))

    def _incomplete(self, target: str, status: int = 499) -> None:
        came = self.seen_by_upstream(target)
        self.assertFalse(came.complete)
        self.assertTrue(SENT.startswith(came.content))
        self.line(target, status)
        self.others_are_served()

    def test_download(self) -> None:
        """Upstream's connection is closed, whatever it still has."""

        def endless(sock: socket.socket, came: Came) -> None:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
            while True:
                sock.sendall(BODY)

        self.meanwhile = endless
        for version in VERSIONS:
            for name, end in (("reset", cut), ("close", _close)):
                target = f"/{version}/{name}"
                with self.stage.connect(self.proxy, FAULTY, (version,)) as sock:
                    if version == "h2":
                        client = HTTP2(sock)
                        seen = client.streams[client.begin(Asked(target=target, host=FAULTY))]
                        client.until(lambda seen=seen: len(seen.content) > 3 * len(BODY))
                        self.assertTrue((BODY * 999).startswith(bytes(seen.content)))
                    else:
                        sock.sendall(request(target, host=FAULTY))
                        self.assertIn(b" 200 ", read_head(sock))
                    end(sock)
                self.seen_by_upstream(target)
                self.line(target, 200)
                self.others_are_served()

    def test_half_closed(self) -> None:
        """A client that ends its side has gone: it gets no half of an answer, and upstream hears
        it. The words of the documentation: HTTP clients do not half-close."""
        self.meanwhile = lambda sock, came: None  # never an answer
        with connect(self.proxy.http) as sock:
            sock.sendall(request("/half", host=FAULTY))
            until(lambda: "/half" in self.came_of, "it is at upstream")
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(read_all(sock), b"")
        self.seen_by_upstream("/half")
        self.line("/half", 499)
        self.others_are_served()


class UpstreamCuts(BodyTests):
    @every
    def test_upload(self, version: str, chunked: bool) -> None:
        """Before its end: a 502, and nobody else gets the request."""
        for name, end in (("reset", cut), ("close", socket.socket.close)):
            self.meanwhile = lambda sock, came, end=end: (  # type: ignore[misc]
                self._take_some(sock, came),
                end(sock),
            )
            target = f"/{version}/{chunked}/{name}"
            before = self.origin.connections
            upload = self.uploading(version, chunked, target)
            seen = upload.answer()
            self.assertEqual((seen.status, seen.ended), (502, True))
            self.proxy.says(rf"upstream: Site {FAULTY}, 502 .*closed the connection before its")
            self.line(target, 502)
            self.assertLessEqual(self.origin.connections - before, 1)
            self.assertFalse(self.came_of[target].complete)
            self.others_are_served()

    def _take_some(self, sock: socket.socket, came: Came) -> None:
        came.wire += sock.recv(len(BODY))

    @every
    def test_early_answer(self, version: str, chunked: bool) -> None:
        """Upstream answers, and closes with unread input: the network makes a reset of that. The
        client still has the answer, whether it waits or sends on."""

        def refuse(sock: socket.socket, came: Came) -> None:
            self._take_some(sock, came)
            sock.sendall(EARLY)
            sock.close()

        self.meanwhile = refuse
        for attempt in range(4):
            target = f"/{version}/{chunked}/{attempt}"
            upload = self.uploading(version, chunked, target)
            if attempt % 2:
                with contextlib.suppress(ConnectionError):
                    upload.send(BODY)
            seen = upload.answer()
            self.assertEqual((seen.status, bytes(seen.content)), (413, b"too much"), target)
            self.line(target, 413)
            self.assertFalse(self.came_of[target].complete)
        self.others_are_served()

    @every
    def test_early_answer_on_a_connection_that_stays(self, version: str, chunked: bool) -> None:
        """Upstream would take the rest for the next request: the connection is not used again."""

        def refuse(sock: socket.socket, came: Came) -> None:
            sock.sendall(EARLY.replace(b"Connection: close\r\n", b""))

        self.meanwhile = refuse
        target = f"/{version}/{chunked}"
        upload = self.uploading(version, chunked, target)
        self.assertEqual(upload.answer().status, 413)
        self.assertFalse(self.seen_by_upstream(target).complete)
        self.line(target, 413)
        self.others_are_served()


def _close(sock: Any) -> None:
    """In good manners: what is said of the end comes before it."""
    sock.settimeout(PATIENCE)
    with contextlib.suppress(OSError):
        sock.unwrap()
    sock.close()


def _shut_down(sock: Any) -> None:
    """Our side alone, and without a word of TLS."""
    sock.shutdown(socket.SHUT_WR)
