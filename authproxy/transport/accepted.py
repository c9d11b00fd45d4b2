"""Owns what a TCP connection knows of itself from the moment when it was accepted."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv6Address


class Accepted(tcp.Server):
    """As tcp.Server, without the two texts that it makes of each connection."""

    logstr = "authproxy"

    def __init__(
        self,
        sock: socket.socket,
        protocol: Any,
        client: Any,
        server: Any,
        number: int,
        reactor: Any,
    ) -> None:
        tcp.Connection.__init__(self, sock, protocol, reactor)
        if len(client) != 2:
            self._addressType = IPv6Address
        self.client = client
        self.server = server
        self.sessionno = number
        self.hostname = client[0]
        self.startReading()
        self.connected = 1

    def __repr__(self) -> str:
        protocol = type(getattr(self, "protocol", None)).__name__
        return f"<{protocol} #{self.sessionno} of {self.hostname}>"
