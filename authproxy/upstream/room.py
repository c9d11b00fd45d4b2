"""Owns who gives way when all connections of a pool are in use and somebody waits for one.

An upload that does not go on, and a response that is not taken, keep a connection for as long as
their client has time, which costs it next to nothing: 300 streams of HTTP/2 that ask to be told to
go on (22 kB) kept everybody else out for half a minute. So the connections of such requests are
taken away, one for each that waits: first of those that moved the least for their age, for a
download that goes on looks like one that does not. While there is room, nobody gives way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..deadlines import NEVER

if TYPE_CHECKING:
    from .connection import Connection
    from .server import Server

# Seconds that a request may take, client and all, before it gives way. Most take less, and who
# waits for a place has 5 (pool.wait).
LEAST = 3.0
LOOK = 1.0  # seconds until it is looked again, where too few were so slow


def make_room(servers: Iterable[Server], wanted: int, now: float) -> int:
    """Take away up to so many connections whose clients are waited for. Returns how many."""
    slow = [
        (connection.rate(now), connection.waits_since, id(connection), connection)
        for server in servers
        for connection in server.connections
        if connection.waits_since <= now - LEAST
    ]
    slowest = sorted(slow)[:wanted]  # of several that stand still, the oldest
    for *_, connection in slowest:
        _take(connection)
    return len(slowest)


def _take(connection: Connection) -> None:
    if connection.waits_since < NEVER:  # the end of another may have been the end of this
        connection.give_way()
