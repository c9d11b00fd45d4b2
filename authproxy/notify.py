"""Owns what is said to systemd: readiness, status and the watchdog, as in sd_notify(3).

Plain Python instead of libsystemd: one datagram to the socket in $NOTIFY_SOCKET. It must not know
what the lines mean; service.py says them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .counters import Snapshot

SEND_TIMEOUT = 1.0  # seconds: longer than a busy systemd needs, short beside any watchdog


def status(counters: Snapshot) -> str:
    """The line that `systemctl status` shows."""
    connections, websockets, requests = (
        int(sum(counters.get(name, {}).values()))  # of none, where no worker has reported yet
        for name in ("client_connections", "websockets", "requests")
    )
    return f"STATUS={connections} connections, {websockets} WebSockets, {requests} requests"


class Notifier:
    """The way to the service manager. Without one, everything here does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_usec = environ.get("WATCHDOG_USEC", "")
        self._watchdog_pid = environ.get("WATCHDOG_PID", "")

    def send(self, *lines: str) -> None:
        """Send lines like "READY=1", all in one datagram. Never raises: nothing depends on it."""
        if self._address[:1] not in ("/", "@"):
            return  # unset, or a kind of address that this module does not know (vsock:)
        # "@" stands for the NUL byte with which an abstract address begins.
        address = os.fsencode(self._address)
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as skt:
                skt.settimeout(SEND_TIMEOUT)
                skt.sendto("\n".join(lines).encode(), address)
        except OSError:
            return

    @property
    def watchdog_interval(self) -> float:
        """Seconds within which systemd wants to hear WATCHDOG=1, 0.0 if it does not.

        The variables are inherited by children, hence the pid: see sd_watchdog_enabled(3). It is
        compared here and not at the start, because twistd may fork in between.
        """
        if self._watchdog_pid and self._watchdog_pid != str(os.getpid()):
            return 0.0
        if not (self._watchdog_usec.isascii() and self._watchdog_usec.isdigit()):
            return 0.0
        return int(self._watchdog_usec) / 1e6
