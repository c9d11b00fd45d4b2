"""One request on a stream: by its deadline, whatever the server does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from authproxy.doctor.requests import FAULTS, Answer, ask
from authproxy.doctor.stream import dial, is_ours, source_towards

PATIENCE = 60.0  # seconds
LOOPBACK = "127.0.0.1"


class AskTests(SynchronousTestCase):
    def conversation(self, serve: Callable[[socket.socket], None]) -> int:
        """A server for one connection; returns its port."""
        listener = socket.create_server((LOOPBACK, 0))
        listener.settimeout(PATIENCE)

        def run() -> None:
            with listener, listener.accept()[0] as sock:
                sock.settimeout(PATIENCE)
                serve(sock)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join, PATIENCE)
        return int(listener.getsockname()[1])

    def ask(self, port: int, target: str = "/", timeout: float = PATIENCE) -> Answer:
        with dial(LOOPBACK, port, time.monotonic() + timeout) as stream:
            return ask(stream, "a.example", target, ("Accept", "*/*"))

    def test_request(self) -> None:
        """Where a redirect leads to may be anything; it stays one line."""
        received = []

        def serve(sock: socket.socket) -> None:
            received.append(sock.recv(65536))
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more")

        answer = self.ask(self.conversation(serve), "/a b\r\nX: ü%20")
        self.assertEqual((answer.status, answer.content, answer.source), (200, b"hi", LOOPBACK))
        [head] = received
        self.assertTrue(head.startswith(b"GET /a%20b%0D%0AX:%20%C3%BC%20 HTTP/1.1\r\n"), head)
        self.assertIn(b"\r\nHost: a.example\r\n", head)
        self.assertTrue(head.endswith(b"\r\nAccept: */*\r\n\r\n"))

    def test_drips(self) -> None:
        """An octet now and then does not move the deadline."""
        ended = threading.Event()

        def serve(sock: socket.socket) -> None:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            try:
                while not ended.wait(0.01):
                    sock.sendall(b"x")
            except OSError:
                pass  # the client has left

        port = self.conversation(serve)
        self.addCleanup(ended.set)
        self.assertRaises(TimeoutError, self.ask, port, timeout=0.5)

    def test_no_http(self) -> None:
        for said in (
            b"",
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
        ):

            def serve(sock: socket.socket, said: bytes = said) -> None:
                sock.recv(65536)
                sock.sendall(said)

            with self.assertRaises(FAULTS):
                self.ask(self.conversation(serve))


class AddressTests(SynchronousTestCase):
    def test_ours(self) -> None:
        self.assertTrue(is_ours(LOOPBACK))
        self.assertFalse(is_ours("192.0.2.1"))

    def test_source(self) -> None:
        self.assertEqual(source_towards(LOOPBACK, 9443), LOOPBACK)
