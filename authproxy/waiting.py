"""Owns how much waits for clients in all HTTP/2 connections together: of their responses, and
large heads of requests that run.

limits.buffer bounds the first for each stream. But what fits into that is taken from upstream
whole, so a client that never opens its windows can have 12 MiB on each connection for 4 kB of
requests. And HPACK makes heads of 64 KiB of a few octets each: 100 requests whose content does not
come had 6 MiB for 7 kB.
"""

from __future__ import annotations

from typing import Protocol

from .deadlines import NEVER

# Octets in one process: for a thousand slow clients what limits.buffer lets a stream have, twice.
MOST = 128 << 20


class Holder(Protocol):
    """What one connection has to send: so many octets wait. It can be ended."""

    octets: int

    def shed(self) -> None:
        """End it at once."""


class Waiting:
    """`octets` is the sum of all `holders`. Where it is above MOST, those with the most of them are
    ended with the next sweep, until a fourth is free."""

    def __init__(self) -> None:
        self.octets = 0
        self.deadline = NEVER
        self.holders: set[Holder] = set()

    def changed(self, octets: int) -> None:
        """So much more waits, or less."""
        self.octets += octets
        if self.octets > MOST:
            self.deadline = 0.0

    def deadline_passed(self, now: float) -> None:
        """Too much waited."""
        self.deadline = NEVER
        excess = self.octets - MOST * 3 // 4 if self.octets > MOST else 0
        for holder in sorted(self.holders, key=lambda holder: -holder.octets):
            if excess <= 0:
                return
            excess -= holder.octets
            holder.shed()
