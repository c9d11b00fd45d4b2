"""Micro benchmarks: microseconds for each step of a request, and for one event of a connection.

    script/bench --micro

The steps run in this process, on what a browser and authentik send. An event is what the proxy does
when a peer's message came: dispatch, read, a protocol that writes as much back. Numbers are the
least of several runs, the one that was disturbed least, and move with the machine: compare two of
one day.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

from OpenSSL import SSL
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock

from authproxy import forwarding
from authproxy.accesslog import AccessLog
from authproxy.certificates import server_context
from authproxy.self_signed import self_signed
from authproxy.transport.dialling import TransportReactor
from authproxy.transport.dispatch import Dispatcher
from authproxy.transport.stream import TCPServer
from authproxy.trust import Client
from authproxy.wire import serialise
from authproxy.wire.heads import HeadLimits, RequestHead, ResponseHead
from authproxy.wire.requests import parse_request
from authproxy.wire.responses import parse_response

from .sockets import client_context

RUNS = 5
SECONDS = 0.1  # of one run
CONNECTIONS = 32  # whose events come in one batch
MESSAGE = b"x" * 400
HOST = b"sso.example.com"
REQUEST = b"\r\n".join(
    [
        b"GET /if/flow/default-authentication-flow/?next=%2F HTTP/1.1",
        b"Host: " + HOST,
        b"Connection: keep-alive",
        b'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"',
        b"sec-ch-ua-mobile: ?0",
        b'sec-ch-ua-platform: "Linux"',
        b"Upgrade-Insecure-Requests: 1",
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
        b" Chrome/130.0.0.0 Safari/537.36",
        b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        b"Sec-Fetch-Site: same-origin",
        b"Sec-Fetch-Mode: navigate",
        b"Sec-Fetch-User: ?1",
        b"Sec-Fetch-Dest: document",
        b"Referer: https://sso.example.com/",
        b"Accept-Encoding: gzip, deflate, br, zstd",
        b"Accept-Language: en-GB,en;q=0.9",
        b"Cookie: authentik_csrf=" + b"c" * 32 + b"; authentik_session=" + b"s" * 250,
        b"",
        b"",
    ]
)
RESPONSE = b"\r\n".join(
    [
        b"HTTP/1.1 200 OK",
        b"Content-Length: 1234",
        b"Content-Type: text/html; charset=utf-8",
        b"Date: Wed, 01 Jan 2025 00:00:00 GMT",
        b"Referrer-Policy: same-origin",
        b"Set-Cookie: authentik_session=" + b"s" * 250 + b"; HttpOnly; Path=/; SameSite=None",
        b"Vary: Accept-Encoding",
        b"Vary: Cookie",
        b"X-Authentik-Id: 0123456789abcdef0123456789abcdef",
        b"X-Content-Type-Options: nosniff",
        b"X-Frame-Options: DENY",
        b"",
        b"",
    ]
)

Timed = tuple[str, float]  # what, microseconds


def steps(runs: int) -> Iterator[Timed]:
    """Parse, forward, serialise, both ways; a line of the access log."""
    limits = HeadLimits()
    client = Client("192.0.2.1", b"https", False, (), HOST)
    parsed = parse_request(REQUEST, limits)
    answered = parse_response(RESPONSE, limits, b"GET")
    assert parsed is not None
    assert answered is not None
    head, answer = parsed[0], answered[0]
    upstream = forwarding.request(head, client, False)
    answer.octets = b""  # as one that is not met again: what is made of it is not kept
    downstream = forwarding.response(answer, b"max-age=63072000")
    access_log = AccessLog("/dev/null", "combined")
    line = partial(access_log.line, head, client, 200, 1234, 0.012, "https://10.0.0.5:9443", "-")
    timed: dict[str, Callable[[], object]] = {
        "parse a request": partial(parse_request, REQUEST, limits),
        "the same fields again": partial(parse_request, REQUEST, limits, head),
        "forwarding.request": partial(forwarding.request, head, client, False),
        "serialise.request_head": partial(_request_octets, upstream),
        "parse a response": partial(parse_response, RESPONSE, limits, b"GET"),
        "forwarding.response": partial(forwarding.response, answer, b"max-age=63072000"),
        "serialise.response_head": partial(_response_octets, downstream),
        "an access line, its share of the writing": line,
    }
    for name, call in timed.items():
        yield name, _least(call, runs)
    access_log.close()


def _request_octets(head: RequestHead) -> bytes:
    return serialise.request_head(head.method, head.target, serialise.section(head.fields))


def _response_octets(head: ResponseHead) -> bytes:
    head.section = b""  # which would keep them
    return serialise.response_head(head)


def _least(call: Callable[[], object], runs: int) -> float:
    """Microseconds of a call."""
    best = float("inf")
    for _ in range(runs):
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < SECONDS:
            for _ in range(100):
                call()
            count += 100
        best = min(best, took / count)
    return best * 1e6


class _Echo(Protocol):
    transport: TCPServer

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def handshake_completed(self) -> None:
        """TLS is ready."""

    def handshake_failed(self, reason: Exception) -> None:
        raise reason


class Events:
    """Connections to echoes, and the dispatcher that serves them. `tls`: with TLS."""

    def __init__(self, tls: bool) -> None:
        self._dispatcher = Dispatcher()
        self._reactor = TransportReactor(MemoryReactorClock(), self._dispatcher)
        self._context: SSL.Context | None = self._make_context() if tls else None
        self._peers = [self._connect() for _ in range(CONNECTIONS)]

    def close(self) -> None:
        self._dispatcher.close()
        for peer in self._peers:
            peer.close()

    def cost(self, runs: int) -> float:
        """Microseconds of one event: a message read, a message written."""
        best = float("inf")
        for _ in range(runs):
            took, count, end = 0.0, 0, time.perf_counter() + SECONDS
            while time.perf_counter() < end:
                for peer in self._peers:
                    peer.sendall(MESSAGE)
                began = time.perf_counter()
                self._dispatcher.doRead()
                took += time.perf_counter() - began
                for peer in self._peers:
                    assert len(peer.recv(65536)) == len(MESSAGE)
                count += len(self._peers)
            best = min(best, took / count)
        return best * 1e6

    def _make_context(self) -> SSL.Context:
        with tempfile.TemporaryDirectory() as directory:
            pair, _ = self_signed(directory, ["localhost"])
        return server_context(pair)

    def _connect(self) -> socket.socket:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            sock, address = listener.accept()
        sock.setblocking(False)
        echo = _Echo()
        stream = TCPServer(sock, echo, address, None, 0, self._reactor)  # type: ignore[arg-type]
        stream.setTcpNoDelay(True)
        if self._context is not None:
            connection = SSL.Connection(self._context, sock)
            connection.set_accept_state()
            stream.start_tls(connection, echo)
            peer = self._secured(peer)
        echo.makeConnection(stream)
        return peer

    def _secured(self, sock: socket.socket) -> socket.socket:
        """The peer's side of the handshake, in turns with ours."""
        sock.setblocking(False)
        peer = client_context().wrap_socket(
            sock, server_hostname="localhost", do_handshake_on_connect=False
        )
        while True:
            try:
                peer.do_handshake()
            except OSError:  # it wants to read
                self._dispatcher.doRead()
            else:
                break
        self._dispatcher.doRead()
        peer.setblocking(True)
        return peer


def events(runs: int) -> Iterator[Timed]:
    """One event, of 32 in a batch, without TLS and with it."""
    for name, tls in (("an event: read and write", False), ("the same with TLS", True)):
        connections = Events(tls)
        try:
            yield name, connections.cost(runs)
        finally:
            connections.close()


def main(runs: int = RUNS) -> None:
    for measure in (steps, events):
        for name, microseconds in measure(runs):
            print(f"{name:42} {microseconds:7.2f} us", flush=True)
