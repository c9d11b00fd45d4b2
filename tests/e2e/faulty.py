"""Faults of the world around the proxy: origins that misbehave, a resolver and a clock to turn.

FaultTests is what all tests of them share.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .clients import HTTP1, HTTP2, Asked, Seen
from .processes import (
    HOST,
    LOOPBACK,
    ROOT,
    Origin,
    Proxy,
    Stage,
    Staged,
    read_exactly,
    request,
    response,
    until,
)

FAULTY = "faulty.example.com"
# Deadlines that a test waits for. The neighbour has them too, and a machine that stands still for
# a moment must not meet them.
SOON = 3.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BODY = bytes(range(256)) * 256

# What Python imports before anything else. CLOCK has seconds that are added to the wall clock,
# NAMES a host and its address in each line; who is not in it does not resolve, and for "hangs" no
# server answers until that changes.
_WORLD = """
import os, socket, time
_wall, _resolve = time.time, socket.getaddrinfo
_clock, _names = os.environ["WORLD_CLOCK"], os.environ["WORLD_NAMES"]

def _time():
    try:
        with open(_clock) as file:
            return _wall() + float(file.read())
    except FileNotFoundError:  # the test is over: a worker that survives its supervisor has to end
        return _wall()

def _getaddrinfo(host, *rest, **more):
    if isinstance(host, bytes):
        host = host.decode()
    if not host or host.replace(".", "").isdecimal() or ":" in host:
        return _resolve(host, *rest, **more)
    while True:
        with open(_names) as file:
            names = dict(line.split() for line in file)
        if names.get(host) != "hangs":
            break
        time.sleep(0.05)
    if host not in names:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _resolve(names[host], *rest, **more)

time.time, socket.getaddrinfo = _time, _getaddrinfo
"""


class World:
    """A wall clock and a resolver for a proxy, by `environ`; both change while it runs."""

    def __init__(self, stage: Stage) -> None:
        directory = stage.directory / "world"
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(_WORLD)
        self._clock, self._names = directory / "clock", directory / "names"
        self.turn(0)
        self.name({})
        self.environ = {
            "PYTHONPATH": os.pathsep.join((str(directory), str(ROOT))),
            "WORLD_CLOCK": str(self._clock),
            "WORLD_NAMES": str(self._names),
        }

    def turn(self, seconds: float) -> None:
        """The wall clock is so many seconds ahead."""
        _replace(self._clock, str(seconds))

    def name(self, names: dict[str, str]) -> None:
        """These hosts have these addresses, others have none."""
        _replace(self._names, "".join(f"{host} {address}\n" for host, address in names.items()))


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.rename(path)


PACE = 0.02  # seconds between two requests of a neighbour


class Neighbour:
    """A client that behaves: one request after the other to HOST, on a connection that stays, over
    TLS. Each must have the answer that is its own; whatever else comes is in `failed`."""

    def __init__(self, stage: Stage, proxy: Proxy) -> None:
        self.failed: list[str] = []
        self.done = 0
        self.port = 0  # its own
        self._stage = stage
        self._proxy = proxy
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.more()

    def _run(self) -> None:
        try:
            with self._stage.connect(self._proxy) as sock:
                self.port = sock.getsockname()[1]
                while not self._over.wait(PACE):
                    content = f"neighbour {self.done}".encode()
                    length = f"Content-Length: {len(content)}"
                    sock.sendall(request("/echo", length, method="POST", host=HOST) + content)
                    answer = response(sock, "POST")
                    if (answer.status, answer.content) != (200, content):
                        self.failed.append(f"{answer.status}: {answer.content[:200]!r}")
                        return
                    self.done += 1
        except Exception as e:
            self.failed.append(f"{e!r}, after {self.done} answers")

    def more(self, count: int = 3) -> None:
        """Wait until so many more are answered, or one is not."""
        wanted = self.done + count
        until(lambda: self.done >= wanted or self.failed, "the neighbour is served")

    def end(self) -> list[str]:
        """No more. Returns what failed."""
        self._over.set()
        self._thread.join()
        return self.failed


def cut(sock: socket.socket) -> None:
    """Reset it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def take(sock: socket.socket) -> bytes:
    """A request, with the content that its Content-Length says. b"" where none came."""
    data = bytearray()
    with suppress(ConnectionError):
        while not data.endswith(b"\r\n\r\n"):
            piece = sock.recv(1)
            if not piece:
                return b""
            data += piece
        for line in bytes(data).lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                data += read_exactly(sock, int(line.partition(b":")[2]))
        return bytes(data)
    return b""


class BlackHole:
    """Accepts no connection and refuses none: its queue is full, and Linux drops what comes."""

    def __init__(self) -> None:
        self._sockets = [socket.socket()]
        self._sockets[0].bind((LOOPBACK, 0))
        self._sockets[0].listen(0)
        self.port: int = self._sockets[0].getsockname()[1]
        for _ in range(2):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex((LOOPBACK, self.port))
            self._sockets.append(waiting)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


Conversation = Callable[[socket.socket], None]


class FaultTests(Staged, SynchronousTestCase):
    """Two sites: HOST, whose upstream is well, and FAULTY."""

    good: Origin

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        """The one that is well is everybody's."""
        cls.good = stage.origin()

    def setUp(self) -> None:
        super().setUp()
        self.stage = self.own_stage()
        self.came: list[bytes] = []
        self.neighbour: Neighbour | None = None

    def nobody_else_was_hurt(self) -> None:
        """By whatever happened in the test."""
        neighbour, self.neighbour = self.neighbour, None
        if neighbour is not None:
            try:
                neighbour.more()
            finally:
                self.assertEqual(neighbour.end(), [])

    def ends(self) -> None:
        """The proxy, in time and in good manners."""
        self.nobody_else_was_hurt()
        self.proxy.signal(signal.SIGTERM)
        self.assertIn(self.proxy.wait(), (0, 143, -signal.SIGTERM))

    @property
    def good_url(self) -> str:
        """Of HOST's upstream."""
        return f"http://{LOOPBACK}:{self.good.port}"

    def start(self, upstream: str, site: dict[str, Any] | None = None, **more: Any) -> Proxy:
        """The proxy, where this is FAULTY's upstream, and the neighbour.

        `options` are for the process; `ready` waits until it serves, and knows the https port.
        """
        options = {"environ": more.pop("environ", None)} | more.pop("options", {})
        workers, good = more.pop("workers", 1), more.pop("good", self.good_url)
        ready = more.pop("ready", Proxy.ready)
        limits = {"requests_per_connection": 1_000_000}
        document = self.stage.configuration(good, **{"limits": limits} | more)
        faulty = {"hosts": [FAULTY], "upstream": upstream} | self.stage.certificate(FAULTY)
        document["workers"] = workers
        document["site"].append(faulty | (site or {}))
        self.proxy = self.stage.starting_proxy(document, **options)
        ready(self.proxy)
        self.neighbour = Neighbour(self.stage, self.proxy)
        self.addCleanup(self.nobody_else_was_hurt)  # trial has these before tearDown
        return self.proxy

    def script(self, conversation: Conversation) -> Any:
        """An upstream server, for each connection of which `conversation` is asked."""
        self.conversation = conversation

        def converse(sock: socket.socket) -> None:
            self.conversation(sock)

        return self.scripted(converse)

    def take(self, sock: socket.socket) -> bytes:
        """A request, noted."""
        came = take(sock)
        if came:
            self.came.append(came)
        return came

    def ask(self, asked: Asked | None = None, version: str = "http/1.1") -> Seen:
        """A request for FAULTY, on a connection of its own."""
        asked = asked or Asked(host=FAULTY)
        with self.stage.connect(self.proxy, FAULTY, (version,)) as sock:
            client = HTTP2(sock) if version == "h2" else HTTP1(sock)
            return client.ask(asked)

    def fails(self, status: int, words: str) -> None:
        """By either version: a page of this status; and these words are in the log, once each."""
        for version in ("http/1.1", "h2"):
            seen = self.ask(version=version)
            self.assertEqual((seen.status, seen.ended, seen.cut), (status, True, False), seen)
            self.proxy.says(rf"upstream: Site {FAULTY}, {status} \(request \w+\): .*{words}")
            retry = [value for name, value in seen.fields if name == "retry-after"]
            self.assertEqual(retry, ["5"] if status == 503 else [])
