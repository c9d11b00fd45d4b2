"""Listening sockets before anybody accepts on them."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from authproxy.settings import Listen, ListenAddress
from authproxy.transport.binding import ListenError, bind, or_unprivileged, wanted

PATIENCE = 60  # seconds


def tcp(port: int = 0, host: str = "127.0.0.1") -> ListenAddress:
    return ListenAddress("tcp", host, port)


class CopiesTests(SynchronousTestCase):
    def bound(self, address: ListenAddress, copies: int) -> list[socket.socket]:
        sockets = bind(address, copies)
        for skt in sockets:
            self.addCleanup(skt.close)
        return sockets

    def test_one_port_for_all(self) -> None:
        sockets = self.bound(tcp(), 3)
        self.assertEqual(len({skt.getsockname() for skt in sockets}), 1)
        self.assertEqual(len({skt.fileno() for skt in sockets}), 3)

    def test_the_kernel_divides_connections(self) -> None:
        sockets = self.bound(tcp(), 2)
        clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(64)]
        for client in clients:
            self.addCleanup(client.close)
        accepted = [0, 0]
        while sum(accepted) < 64:  # the last acknowledgement may still be on its way
            select.select(sockets, [], [], PATIENCE)
            more = [self.accept_all(skt) for skt in sockets]
            self.assertTrue(any(more), accepted)
            accepted = [count + new for count, new in zip(accepted, more, strict=True)]
        self.assertEqual(sum(accepted), 64)
        self.assertTrue(all(accepted), accepted)  # one in 2 ** 63 runs has them all in one

    def accept_all(self, skt: socket.socket) -> int:
        count = 0
        while True:
            try:
                skt.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    def test_what_waits_outlives_who_accepted(self) -> None:
        """A worker's end costs its own connections only: the queue is the socket's."""
        [skt] = self.bound(tcp(), 1)
        worker = skt.dup()
        client = socket.create_connection(skt.getsockname())
        self.addCleanup(client.close)
        worker.close()
        select.select([skt], [], [], PATIENCE)
        accepted, _ = skt.accept()
        self.addCleanup(accepted.close)
        client.send(b"hello")
        self.assertEqual(accepted.recv(5), b"hello")

    def test_a_port_that_somebody_has(self) -> None:
        """Even who would share it: he is another proxy, and would get half of the connections."""
        other = socket.socket()
        self.addCleanup(other.close)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        error = self.assertRaises(ListenError, bind, tcp(port), 2)
        self.assertIn(f"127.0.0.1:{port} is already in use", str(error))

    def test_unix_sockets_are_one_for_all(self) -> None:
        path = f"{self.mktemp()[-60:]}.sock"
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self.assertEqual(len(self.bound(ListenAddress("unix", path=path), 4)), 1)

    def test_unix_sockets_without_a_directory(self) -> None:
        for path in ("/nowhere/x.sock", "/dev/null/x.sock"):
            error = self.assertRaises(ListenError, bind, ListenAddress("unix", path=path))
            self.assertEqual(
                str(error),
                f"unix:{path}: there is no directory {os.path.dirname(path)}. Make it, or choose"
                " another path.",
            )

    def test_a_unix_path_that_is_too_long(self) -> None:
        error = self.assertRaises(ListenError, bind, ListenAddress("unix", path="/" + "x" * 200))
        self.assertIn("too long. Choose a shorter one.", str(error))

    def test_not_inherited_by_accident(self) -> None:
        for skt in self.bound(tcp(), 2):
            self.assertFalse(skt.get_inheritable())
            self.assertFalse(skt.getblocking())


class WantedTests(SynchronousTestCase):
    def test_http_first(self) -> None:
        listen = Listen(http=(tcp(80),), https=(tcp(443), tcp(444)), https_explicit=True)
        self.assertEqual(
            list(wanted(listen)),
            [("http", tcp(80), False), ("https", tcp(443), True), ("https", tcp(444), True)],
        )


class UnprivilegedTests(SynchronousTestCase):
    def refusing(self, refused: int, no_permission: bool) -> Callable[[ListenAddress], Any]:
        def opened(address: ListenAddress) -> str:
            if address.port == refused:
                raise ListenError("refused", address, no_permission)
            return f"opened {address}"

        return opened

    def test_another_port(self) -> None:
        self.assertEqual(
            or_unprivileged(self.refusing(443, True), tcp(443), False),
            (tcp(8443), "opened 127.0.0.1:8443"),
        )

    def test_not_where_it_was_written_down(self) -> None:
        self.assertRaises(ListenError, or_unprivileged, self.refusing(443, True), tcp(443), True)

    def test_not_for_another_reason(self) -> None:
        self.assertRaises(ListenError, or_unprivileged, self.refusing(443, False), tcp(443), False)

    def test_not_for_other_ports(self) -> None:
        self.assertRaises(ListenError, or_unprivileged, self.refusing(81, True), tcp(81), False)
