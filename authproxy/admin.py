"""Owns the admin listener: what operators and their monitoring read over HTTP, never public.

It is twisted.web's server, not ours: no client of authentik reaches it. `/metrics` has the counters
of all processes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from . import metrics
from .counters import Snapshot
from .settings import Listen
from .transport.binding import ListenError, bind

log = Logger()


class _Request(Request):
    def gotLength(self, length: int | None) -> None:
        """No content is wanted: twisted.web would put it into a file, however large it is."""
        if length != 0:
            self.channel.forceAbortClient()
        super().gotLength(0)


class _Site(Site):
    noisy = False
    requestFactory = _Request

    def log(self, request: Any) -> None:
        """A scrape every few seconds is no news."""


class _Metrics(Resource):
    isLeaf = True

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        super().__init__()
        self._read = read

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", metrics.CONTENT_TYPE)
        return metrics.text(self._read)


class Admin(Service):
    """Serves what `read` counts at listen.admin, from privilegedStartService to stopService."""

    def __init__(self, listen: Listen, read: Callable[[], Snapshot], reactor: Any) -> None:
        self.port: Any = None
        self._listen = listen
        self._reactor = reactor
        root = Resource()
        root.putChild(b"metrics", _Metrics(read))
        self._site = _Site(root)

    def privilegedStartService(self) -> None:
        """Bind. Raises ListenError, but where the address is only the default, it is done without:
        a second authproxy on a machine must not fail for its metrics."""
        address = self._listen.admin
        if address is None:
            return
        try:
            [skt] = bind(address)
        except ListenError as e:
            if self._listen.admin_explicit:
                raise
            log.warn('No metrics: {reason} Or set admin = "".', reason=str(e))
            return
        with skt:  # the port duplicates it
            self.port = self._reactor.adoptStreamPort(skt.fileno(), skt.family, self._site)
            if skt.family == socket.AF_UNIX and address.kind == "unix":
                os.chmod(address.path, 0o660)

    def stopService(self) -> Any:
        """Close."""
        port, self.port = self.port, None
        return port.stopListening() if port is not None else None
