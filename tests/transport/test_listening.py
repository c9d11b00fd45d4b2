"""Listening sockets of the real kind, on loopback."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from authproxy.deadlines import Deadlines
from authproxy.settings import ListenAddress
from authproxy.transport import binding, listening
from authproxy.transport.admission import Admission
from authproxy.transport.binding import ListenError
from authproxy.transport.dialling import TransportReactor
from authproxy.transport.dispatch import Dispatcher
from authproxy.transport.listening import listen, listen_beside
from authproxy.transport.opening import Listener, Opening

from ..e2e.processes import GLANCE, PATIENCE, free_port

ROOT = pathlib.Path(__file__).parent.parent.parent


class Opened(Protocol):
    """An opened connection."""

    def __init__(self, opening: Opening) -> None:
        self.peer = opening.peer
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost = True


class Loop:
    """A dispatcher and a clock that a test turns by hand, and what was opened."""

    def __init__(self, limit: int = 1000) -> None:
        self.clock = MemoryReactorClock()
        self.dispatcher = Dispatcher()
        self.opened: list[Opened] = []
        self.admission = Admission(limit, 1000, lambda _: False)
        self.listener = Listener(
            build=self.build,
            admission=self.admission,
            deadlines=Deadlines(self.clock, self.clock.seconds),
            tls=None,
            proxy_protocol_from=lambda _: False,
            handshake_timeout=10,
            header_timeout=3,
        )

    def build(self, opening: Opening) -> Opened:
        self.opened.append(Opened(opening))
        return self.opened[-1]

    def listen(self, address: ListenAddress) -> Any:
        return listen(address, self.listener, TransportReactor(self.clock, self.dispatcher))

    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.dispatcher.doRead()
            self.clock.advance(0)

    def until(self, look: Callable[[], object]) -> None:
        """Turn until that is true: what was sent over TCP is not there at once on a busy machine."""
        end = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < end, "it did not happen"
            select.select([self.dispatcher.fileno()], [], [], GLANCE)
            self.turn(1)

    def close(self) -> None:
        self.dispatcher.close()


def tcp(host: str = "127.0.0.1", port: int = 0) -> ListenAddress:
    """Where to listen."""
    return ListenAddress("tcp", host, port)


def queue(port: Any, count: int) -> None:
    """Wait until so many connections are in its queue: their clients know of them before."""
    end = time.monotonic() + PATIENCE
    waiting = 0
    while waiting < count:
        assert time.monotonic() < end, "they do not come"
        information = port.socket.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 104)
        [waiting] = struct.unpack_from("I", information, 24)  # tcpi_unacked, of a listener


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = self.make_loop()
        # Not mktemp: its path can be too long for a socket (108 bytes).
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "authproxy.sock")
        self.unix = ListenAddress("unix", path=self.path)

    def make_loop(self, limit: int = 1000) -> Loop:
        loop = Loop(limit)
        self.addCleanup(loop.close)
        return loop

    def connect(self, port: Any, host: str = "127.0.0.1") -> socket.socket:
        client = socket.create_connection((host, port.getHost().port))
        self.addCleanup(client.close)
        return client

    def heard(self) -> bool:
        """Whether somebody said something."""
        return any(opened.received for opened in self.loop.opened)

    def connect_unix(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(self.path)
        return client


class TCPTests(_Tests):
    def test_accepts(self) -> None:
        port = self.loop.listen(tcp())
        client = self.connect(port)
        client.send(b"hello")
        self.loop.until(self.heard)
        [opened] = self.loop.opened
        self.assertEqual((opened.peer, opened.received), ("127.0.0.1", b"hello"))
        self.assertTrue(opened.transport.getTcpNoDelay())  # type: ignore[union-attr]

    def test_a_burst(self) -> None:
        """A queue longer than Twisted's 50, and longer than one turn's share."""
        port = self.loop.listen(tcp())
        for _ in range(150):
            self.connect(port)
        queue(port, 150)
        self.loop.turn(1)
        self.assertEqual(len(self.loop.opened), listening.ACCEPTS_AT_ONCE)
        self.loop.until(lambda: len(self.loop.opened) == 150)

    def test_limit_of_connections(self) -> None:
        """Who is too many waits in the queue until there is room."""
        self.loop = self.make_loop(limit=2)
        port = self.loop.listen(tcp())
        clients = [self.connect(port) for _ in range(3)]
        self.loop.until(lambda: len(self.loop.opened) == 2)
        self.loop.turn(5)
        self.assertEqual(len(self.loop.opened), 2)
        clients[2].send(b"hello")
        clients[0].close()
        self.loop.until(self.heard)
        self.assertEqual(self.loop.opened[2].received, b"hello")
        self.assertEqual(self.loop.admission.open, 2)

    def test_stop(self) -> None:
        """What is open stays open."""
        port = self.loop.listen(tcp())
        where = port.getHost()
        client = self.connect(port)
        self.loop.until(lambda: self.loop.opened)
        port.stopListening()
        self.loop.turn(5)
        address = (where.host, where.port)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address)
        client.send(b"hello")
        self.loop.until(self.heard)
        self.assertEqual(self.loop.opened[0].received, b"hello")

    def test_who_waits_when_it_is_given_up(self) -> None:
        """Closing resets what is in the queue: connections that their clients have already."""
        port: Any = self.loop.listen(tcp())
        clients = [self.connect(port) for _ in range(150)]
        queue(port, 150)
        port.accept_all()
        port.stopListening()
        self.loop.turn(5)
        self.assertEqual(len(self.loop.opened), 150)
        clients[-1].send(b"hello")
        self.loop.until(self.heard)
        self.assertEqual(self.loop.opened[-1].received, b"hello")

    def test_a_connection_that_cannot_be_opened(self) -> None:
        """It costs itself only: its place and its descriptor are free again."""
        port = self.loop.listen(tcp())

        def fail(_: Opening) -> Opened:
            raise RuntimeError("a bug")

        self.loop.listener.build = fail
        client = self.connect(port)
        queue(port, 1)
        self.loop.turn(5)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        client.settimeout(PATIENCE)
        self.assertIn(_end_of(client), ("end", "reset"))
        self.assertEqual(self.loop.admission.open, 0)
        self.loop.listener.build = self.loop.build
        self.connect(port).send(b"hello")
        self.loop.until(self.heard)
        self.assertEqual([opened.received for opened in self.loop.opened], [b"hello"])


def _end_of(client: socket.socket) -> str:
    try:
        return "data" if client.recv(1) else "end"
    except ConnectionResetError:
        return "reset"


class DualStackTests(_Tests):
    def setUp(self) -> None:
        super().setUp()
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            raise SkipTest("no IPv6 here") from None

    def test_ipv4_clients_are_ipv4_clients(self) -> None:
        port = self.loop.listen(tcp("::"))
        for count, host in enumerate(("127.0.0.1", "::1"), 1):
            self.connect(port, host)
            self.loop.until(lambda count=count: len(self.loop.opened) == count)
        self.assertEqual([opened.peer for opened in self.loop.opened], ["127.0.0.1", "::1"])

    def test_one_address_is_not_dual(self) -> None:
        port = self.loop.listen(tcp("::1", free_port()))
        self.assertRaises(ConnectionRefusedError, self.connect, port)

    def test_without_ipv6(self) -> None:
        self.patch(binding, "_have_ipv6", lambda: False)
        port = self.loop.listen(tcp("::"))
        self.assertEqual(port.getHost().host, "0.0.0.0")


class ErrorTests(_Tests):
    def error(self, address: ListenAddress) -> ListenError:
        error: ListenError = self.assertRaises(ListenError, self.make_loop().listen, address)
        return error

    def test_in_use(self) -> None:
        """The message names who has it, and the cure."""
        self.patch(binding, "held_here", lambda _: False)
        port = self.loop.listen(tcp())
        number = port.getHost().port
        error = self.error(tcp(port=number))
        self.assertIn(f"127.0.0.1:{number} is already in use", str(error))
        self.assertIn(f"(pid {os.getpid()})", str(error))
        self.assertIn("[listen]", str(error))
        self.assertEqual((error.host, error.port), ("127.0.0.1", number))
        self.assertFalse(error.no_permission)

    def test_in_use_by_ourselves(self) -> None:
        """To stop that is no cure then: [::]:443 beside 192.0.2.1:443, at a start or a reload."""
        number = self.loop.listen(tcp()).getHost().port
        error = str(self.error(tcp(port=number)))
        self.assertIn(f"127.0.0.1:{number} is already in use by another listener of this", error)
        self.assertNotIn("Stop that", error)

    def test_in_use_by_somebody_unknown(self) -> None:
        self.patch(binding, "held_here", lambda _: False)
        port = self.loop.listen(tcp())
        self.patch(binding, "describe_holder", lambda _: "")
        error = self.error(tcp(port=port.getHost().port))
        self.assertIn("is already in use.", str(error))

    def test_not_permitted(self) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        self.patch(binding, "_internet_socket", refuse)
        error = self.error(tcp(port=443))
        self.assertTrue(error.no_permission)
        self.assertIn("CAP_NET_BIND_SERVICE", str(error))

    def test_an_address_of_another_machine(self) -> None:
        self.assertIn("no interface", str(self.error(tcp("192.0.2.1"))))

    def test_a_directory_that_does_not_exist(self) -> None:
        error = self.error(ListenAddress("unix", path="/nonexistent/authproxy.sock"))
        self.assertIn("/nonexistent/authproxy.sock", str(error))

    def test_systemd_passed_nothing(self) -> None:
        error = self.error(ListenAddress("systemd", name="https"))
        self.assertIn("FileDescriptorName=https", str(error))


class UNIXTests(_Tests):
    def test_accepts(self) -> None:
        self.loop.listen(self.unix)
        self.connect_unix().send(b"hello")
        self.loop.turn(5)
        [opened] = self.loop.opened
        self.assertEqual((opened.peer, opened.received), ("unix:", b"hello"))
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o660)

    def test_its_file_goes_with_it(self) -> None:
        port = self.loop.listen(self.unix)
        port.stopListening()
        self.loop.turn(5)
        self.assertFalse(os.path.exists(self.path))

    def test_a_file_that_is_somebody_elses_by_now_stays(self) -> None:
        port = self.loop.listen(self.unix)
        os.unlink(self.path)
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(self.path)
            port.stopListening()
            self.loop.turn(5)
            self.assertTrue(os.path.exists(self.path))

    def test_somebody_elses_keeps_its_mode_and_stays(self) -> None:
        """What systemd made by SocketMode= is not opened to everybody."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        for ours, expected in ((False, 0o600), (True, 0o640)):
            path = os.path.join(directory, f"{ours}.sock")
            skt = socket.socket(socket.AF_UNIX)
            skt.bind(path)
            skt.setblocking(False)
            os.chmod(path, 0o600)
            port = listen_beside(skt, Factory(), MemoryReactorClock(), ours=ours, mode=0o640)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), expected)
            port.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(os.path.exists(path), not ours)

    def test_a_stale_file_is_replaced(self) -> None:
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(self.path)
            killed.listen()
        self.assertTrue(os.path.exists(self.path))
        self.loop.listen(self.unix)
        self.connect_unix()
        self.loop.turn(5)
        self.assertEqual(len(self.loop.opened), 1)

    def test_a_live_one_is_not(self) -> None:
        self.loop.listen(self.unix)
        error = self.assertRaises(ListenError, self.make_loop().listen, self.unix)
        self.assertIn("is already in use", str(error))
        self.connect_unix().send(b"hello")
        self.loop.turn(5)
        self.assertEqual(self.loop.opened[-1].received, b"hello")

    def test_a_file_that_is_no_socket_is_not(self) -> None:
        with open(self.path, "w") as file:
            file.write("precious")
        self.assertRaises(ListenError, self.loop.listen, self.unix)
        with open(self.path) as file:
            self.assertEqual(file.read(), "precious")


class ProcessTests(_Tests):
    def alone(self, *arguments: str) -> dict[str, Any]:
        """What happened in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.transport.alone", *arguments],
            cwd=ROOT, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def test_descriptors_run_out(self) -> None:
        """Accepting pauses, says so once, and goes on; nobody who waited is dropped."""
        result = self.alone("descriptors")
        self.assertEqual(result["opened"], [1, 1, 1, 3])
        self.assertEqual(result["received"], ["hello"] * 3)
        self.assertEqual(result["logged"], ["accepting pauses"])

    def test_sockets_of_systemd(self) -> None:
        """By name; the file of a unix one, and its mode, stay as systemd made them."""
        result = self.alone("systemd", os.path.dirname(self.path))
        self.assertEqual(result["peers"], [["127.0.0.1", "hello"], ["unix:", "hello"]])
        self.assertIn("passed: https, local", result["missing"])
        self.assertEqual(result["mode"], 0o600)
