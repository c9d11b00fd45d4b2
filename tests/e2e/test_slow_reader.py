"""Backpressure, measured: whoever does not read costs the proxy no memory, and loses nothing."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Callable

from .processes import (
    HOST,
    EndToEnd,
    Process,
    Proxy,
    read_exactly,
    read_head,
    request,
    until,
)
from .test_websockets import UPGRADE, switching

MIB = 1024 * 1024
LARGE = 200 * MIB  # far more than all buffers of the way together
MOST = 8 * MIB  # what the proxy's memory may grow by
SMALL_BUFFER = 64 * 1024
PATTERN = b"0123456789abcdef" * 4096
STILL = 30  # looks in a row without any processor time: nothing moves


class SlowReaders(EndToEnd):
    """200 MiB for somebody who does not read until nothing moves any more, and then reads all."""

    if not sys.platform.startswith("linux"):
        skip = "memory is read from /proc"

    def test_response(self) -> None:
        """Of a download."""
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(stage.origin(HOST).port))
        with stage.connect(proxy, receive_buffer=SMALL_BUFFER) as sock:
            proxy.forget_peak()
            before = proxy.memory()
            sock.sendall(request(f"/stream?bytes={LARGE}", "Connection: close", version="1.0"))
            read_head(sock)
            self._nothing_moves(proxy)
            self._not_grown(proxy, before)
            digest = self._read_on(sock)
        self.assertEqual(digest, _digest_of_all())
        self._not_grown(proxy, before)

    def test_request(self) -> None:
        """Of an upload: it is upstream who does not read."""
        digests: list[bytes] = []

        def upstream(sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            read_head(sock)
            self._nothing_moves(proxy)
            digests.append(self._read_on(sock))
            sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        origin = self.scripted(upstream)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(origin.url))
        with stage.connect(proxy) as sock:
            proxy.forget_peak()
            before = proxy.memory()
            sock.sendall(request("/", f"Content-Length: {LARGE}", method="PUT"))
            _send_all(sock)
            self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 204 "))
        self.assertEqual(digests, [_digest_of_all()])
        self._not_grown(proxy, before)

    def test_relay_to_the_client(self) -> None:
        """Of a WebSocket: the client does not read."""

        def upstream(sock: socket.socket) -> None:
            sock.sendall(switching(read_head(sock)))
            _send_all(sock)

        self._relay(upstream, self._read_late)

    def test_relay_to_upstream(self) -> None:
        """Of a WebSocket: upstream does not read."""
        digests: list[bytes] = []

        def upstream(sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            sock.sendall(switching(read_head(sock)))
            digests.append(self._read_late(self.proxy, sock))

        def client(proxy: Proxy, sock: socket.socket) -> bytes:
            _send_all(sock)
            until(lambda: digests, "upstream has read everything")
            return digests[0]

        self._relay(upstream, client)

    def _relay(
        self,
        upstream: Callable[[socket.socket], None],
        client: Callable[[Proxy, socket.socket], bytes],
    ) -> None:
        origin = self.scripted(upstream)
        stage = self.own_stage()
        self.proxy = proxy = stage.proxy(stage.configuration(origin.url))
        with stage.connect(proxy, receive_buffer=SMALL_BUFFER) as sock:
            proxy.forget_peak()
            before = proxy.memory()
            sock.sendall(request("/ws/client/", *UPGRADE))
            read_head(sock)
            self.assertEqual(client(proxy, sock), _digest_of_all())
        self._not_grown(proxy, before)

    def _read_late(self, proxy: Process, sock: socket.socket) -> bytes:
        self._nothing_moves(proxy)
        return self._read_on(sock)

    def _read_on(self, sock: socket.socket) -> bytes:
        """The digest of LARGE octets."""
        digest, left = hashlib.sha256(), LARGE
        while left:
            piece = read_exactly(sock, min(left, MIB))
            digest.update(piece)
            left -= len(piece)
        return digest.digest()

    def _nothing_moves(self, proxy: Process) -> None:
        """Wait until the proxy has used no processor time for a while: every buffer is full.

        On a machine so slow that this is wrong, the peak of the memory still tells the truth.
        """
        ticks = [-1] * STILL

        def still() -> bool:
            ticks.append(proxy.processor_ticks())
            return len(set(ticks[-STILL:])) == 1

        until(still, "the proxy has come to a halt")

    def _not_grown(self, proxy: Process, before: int) -> None:
        grown = proxy.memory("VmHWM") - before
        self.assertLess(grown, MOST, f"the proxy's memory has grown by {grown / MIB:.1f} MiB")


def _send_all(sock: socket.socket) -> None:
    left = LARGE
    while left:
        piece = PATTERN[:left]
        sock.sendall(piece)
        left -= len(piece)


def _digest_of_all() -> bytes:
    digest = hashlib.sha256()
    for _ in range(LARGE // len(PATTERN)):
        digest.update(PATTERN)
    return digest.digest()
