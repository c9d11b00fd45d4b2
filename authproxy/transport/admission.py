"""Owns how many connections there are, and who has too many that proved nothing yet.

A connection has *proven* itself once a request of it was answered. Offices hold thousands of open
WebSockets behind one address, so only the others are counted per address (/64 for IPv6): a flood of
connections that send nothing meets that limit, a busy office does not.

A connection is its own descriptor and one to upstream. A WebSocket in a stream of HTTP/2 has one to
upstream besides, and a connection may have 100 of them, so it counts as half a connection. All of
them may have half of everything: that many can be had with a few connections.
"""

from __future__ import annotations

import ipaddress
import resource
from collections.abc import Callable

MOST = 100_000  # connections, whatever the descriptor limit allows
RESERVE = 64  # descriptors for listeners, logs, certificates, the admin side


def connections_allowed(setting: int) -> int:
    """How many connections may be open: the setting, or what RLIMIT_NOFILE allows for 0.

    A connection needs two descriptors: its own, and one to upstream.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = MOST if descriptors == resource.RLIM_INFINITY else (descriptors - RESERVE) // 2
    return max(1, min(setting or MOST, possible, MOST))


def address_key(address: str) -> str:
    """What a limit per address counts: the IPv4 address, or the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, 64), strict=False))
    except ValueError:
        return address


class Admission:
    """Counts connections of all listeners together.

    `exempt` says whose connections are never counted per address (trusted proxies). `on_room` is
    called when a place became free after `full` was True.
    """

    def __init__(self, limit: int, unproven_limit: int, exempt: Callable[[str], bool]) -> None:
        self.limit = limit
        self.open = 0
        self.tunnels = 0
        self.refused = 0
        self._unproven: dict[str, int] = {}
        self._unproven_limit = unproven_limit
        self._exempt = exempt
        self._waiting: list[Callable[[], None]] = []

    def adopt(self, limit: int, unproven_limit: int) -> None:
        """Go on with these limits. Nothing that is open is closed for them."""
        self.limit = limit
        self._unproven_limit = unproven_limit
        self._room()

    def full(self, on_room: Callable[[], None]) -> bool:
        """Whether no further connection may be accepted now; if so, `on_room` is called later."""
        if self._is_room():
            return False
        self._waiting.append(on_room)
        return True

    def _is_room(self) -> bool:
        return self.open + self.tunnels / 2 < self.limit

    def enter(self) -> None:
        """One more connection is open."""
        self.open += 1

    def leave(self) -> None:
        """One less."""
        self.open -= 1
        if self._waiting:
            self._room()

    def begin_tunnel(self) -> bool:
        """Count a WebSocket in a stream; False: there is no room for it."""
        if self.tunnels >= self.limit or not self._is_room():
            return False
        self.tunnels += 1
        return True

    def end_tunnel(self) -> None:
        """It is over."""
        self.tunnels -= 1
        if self._waiting:
            self._room()

    def _room(self) -> None:
        waiting, self._waiting = self._waiting, []
        for on_room in waiting:
            on_room()

    def begin(self, address: str) -> str | None:
        """Count an unproven connection. Returns the key to end it with, or None: too many."""
        if self._exempt(address):
            return ""
        key = address_key(address)
        count = self._unproven.get(key, 0)
        if count >= self._unproven_limit:
            self.refused += 1
            return None
        self._unproven[key] = count + 1
        return key

    def end(self, key: str) -> None:
        """The connection proved itself, or is over."""
        if key:
            count = self._unproven[key] - 1
            if count:
                self._unproven[key] = count
            else:
                del self._unproven[key]
