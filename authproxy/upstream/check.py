"""Owns one health check: a GET on a connection of its own, and what its answer means.

The connection is made as those of requests are (same address, same verification) and closed after
one response (RFC 9112 9.6): so it tests what a client needs, takes no place in the pool, and finds
no server alive because of an old connection. Schedule and consequences are health.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import ConnectFailed, NotVerified, TimedOut, UpstreamError
from ..wire.errors import ProtocolError
from ..wire.heads import Fields, RequestHead, ResponseHead
from .dials import Dial
from .server import Server

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from .connection import Connection

OK = "ok"
# The results that are counted, each the label of a metric.
RESULTS = (OK, "connect", "certificate", "timeout", "protocol", "status")
ENOUGH = 65536  # octets of an answer's content; more are not waited for

log = Logger()


class Check:
    """One GET. `done(result, words)` hears one of RESULTS, and what is wrong.

    It is the pool of its connection, and its lessee.
    """

    def __init__(
        self, server: Server, target: str, fields: bytes, done: Callable[[str, str], None]
    ) -> None:
        self._name = server.name
        self._upstream = server.upstream
        self._target = target
        self._fields = fields
        self._done: Callable[[str, str], None] | None = done
        self._dialling: Deferred[Connection] | None = None
        self._connection: Connection | None = None
        self._status = 0
        self._received = 0
        self.started, self.moved = 0.0, 0  # no pool has it: it never gives way

    def begin(self, dial: Dial) -> None:
        """Connect and ask."""
        self._dialling = dialling = dial(Server(self, self._upstream))
        dialling.addCallbacks(self._connected, self._not_connected)
        dialling.addErrback(lambda reason: log.failure("A health check failed", reason))

    def close(self) -> None:
        """Give it up; nobody is told."""
        self._done = None
        dialling, self._dialling = self._dialling, None
        connection, self._connection = self._connection, None
        if dialling is not None:
            dialling.cancel()
        if connection is not None:
            connection.abort()

    def halted_at(self) -> str:
        """What it waits for, in words."""
        if self._connection is None:
            return f"{self._name} does not answer. Is a firewall in between?"
        return (
            f"{self._name} accepts connections, but GET {self._target} gets no"
            f" {'end of its ' if self._status else ''}answer. Does authentik hang?"
        )

    def _connected(self, connection: Connection) -> None:
        self._dialling = None
        self._connection = connection
        head = RequestHead(b"GET", self._target.encode("ascii"), 11, [])
        connection.start(self, head, self._fields, b"", True)

    def _not_connected(self, reason: Failure) -> None:
        self._dialling = None
        if self._done is None:
            return  # given up
        error = reason.value
        if not isinstance(error, UpstreamError):
            log.failure("Dialling {upstream} failed", reason, upstream=self._name)
            error = ConnectFailed("an internal error while dialling")
        self._end(_result_of(error), str(error))

    def _end(self, result: str, words: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(result, words)

    def _answered(self) -> None:
        status = self._status
        if 200 <= status < 300:
            self._end(OK, "")
        elif status == 503:
            self._end(
                "status",
                f"GET {self._target} is answered with 503: authentik starts, or does not reach its"
                " database.",
            )
        else:
            self._end(
                "status",
                f"GET {self._target} is answered with {status} instead of 200. Is {self._name}"
                " authentik? The path is health.path in the configuration.",
            )

    # As the pool of its connection.

    def give_back(self, connection: Connection) -> None:
        """Upstream would keep it; we do not."""
        connection.close()

    def forget(self, connection: Connection) -> None:
        """It counts nowhere."""

    # As its lessee.

    def response_informational(self, head: ResponseHead) -> None:
        """Not yet."""

    def response_whole(self, head: ResponseHead, content: bytes) -> None:
        """The answer, all of it."""
        self._connection = None
        self._status = head.status
        self._answered()

    def response_head(self, head: ResponseHead) -> None:
        """The answer begins. It counts when it ends: a server may hang in the middle, too."""
        self._status = head.status

    def response_content(self, data: bytes) -> None:
        """Some of it."""
        self._received += len(data)
        if self._received > ENOUGH:
            connection, self._connection = self._connection, None
            assert connection is not None
            connection.abort()
            self._answered()

    def response_end(self, trailers: Fields) -> None:
        """It is complete."""
        self._connection = None
        self._answered()

    def response_flush(self) -> None:
        """Nothing is held back."""

    def response_switching(self, head: ResponseHead, early: bytes) -> None:
        """Never: no upgrade was asked for."""

    def upstream_failed(self, error: UpstreamError | ProtocolError) -> None:
        """The connection broke, or what came is not HTTP."""
        self._connection = None
        if isinstance(error, ProtocolError):
            self._end("protocol", f"what answers GET {self._target} is not HTTP: {error.reason}.")
        else:
            self._end(_result_of(error), f"{str(error).removesuffix('.')}.")

    def pause_request(self) -> None:
        """There is no more than its head."""

    def resume_request(self) -> None:
        """There is no more than its head."""


def _result_of(error: UpstreamError) -> str:
    if isinstance(error, TimedOut):
        return "timeout"
    if isinstance(error, NotVerified):
        return "certificate"
    return "connect" if isinstance(error, ConnectFailed) else "protocol"
