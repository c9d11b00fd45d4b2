"""What systemd hears, over a real datagram socket."""

from __future__ import annotations

import os
import socket
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from authproxy.notify import Notifier


class SendTests(SynchronousTestCase):
    def bound(self, address: str) -> socket.socket:
        skt = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(skt.close)
        skt.settimeout(5)
        skt.bind(address)
        return skt

    def test_path(self) -> None:
        # Not mktemp: its path can be too long for a socket (108 bytes).
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "notify")
        systemd = self.bound(path)
        Notifier({"NOTIFY_SOCKET": path}).send("READY=1", "STATUS=zwölf")
        self.assertEqual(systemd.recv(4096), "READY=1\nSTATUS=zwölf".encode())

    def test_abstract(self) -> None:
        name = f"authproxy-test-{os.getpid()}"
        systemd = self.bound(f"\0{name}")
        notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"})
        notifier.send("WATCHDOG=1")
        notifier.send("STOPPING=1")
        self.assertEqual(systemd.recv(4096), b"WATCHDOG=1")
        self.assertEqual(systemd.recv(4096), b"STOPPING=1")

    def test_nobody_listens(self) -> None:
        addresses = ("", "/nonexistent/notify", "@authproxy-test-nobody", "vsock:2:1", "/" * 200)
        for address in addresses:
            Notifier({"NOTIFY_SOCKET": address}).send("READY=1")
        Notifier({}).send("READY=1")


class WatchdogTests(SynchronousTestCase):
    def interval(self, **environ: str) -> float:
        return Notifier(environ).watchdog_interval

    def test_seconds(self) -> None:
        self.assertEqual(self.interval(WATCHDOG_USEC="30500000"), 30.5)

    def test_ours(self) -> None:
        self.assertEqual(self.interval(WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid())), 1.0)

    def test_of_another_process(self) -> None:
        parent = str(os.getppid())
        self.assertEqual(self.interval(WATCHDOG_USEC="1000000", WATCHDOG_PID=parent), 0.0)

    def test_none(self) -> None:
        self.assertEqual(self.interval(), 0.0)
        for nonsense in ("", "0", "-5", "soon", "1e6", "²"):
            self.assertEqual(self.interval(WATCHDOG_USEC=nonsense), 0.0, nonsense)
