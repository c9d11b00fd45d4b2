"""What can go wrong between us and upstream, and the one map from errors to statuses.

Whoever notices a fault raises or passes one of these; nobody else chooses a status. The message of
an error is for the log: it says what happened, and where there is a cure, the cure.
"""

from __future__ import annotations

from .wire.errors import ProtocolError


class UpstreamError(Exception):
    """A request did not get its response from upstream."""

    status = 502
    retry_after = 0  # seconds; sent to the client where it is not 0
    kind = "internal error"  # how it is counted
    here = False  # whether the cause is this machine's


class ConnectFailed(UpstreamError):
    """No connection could be made: refused, unreachable, no such name, no TLS."""

    status = 503
    retry_after = 5
    kind = "no connection"


class Starved(ConnectFailed):
    """This machine has no descriptor or memory for a connection."""

    here = True


class NotVerified(UpstreamError):
    """Upstream's certificate is not the one that the settings ask for."""

    kind = "certificate"


class NoCapacity(UpstreamError):
    """Every upstream connection is busy and the queue is full, or its wait was too long."""

    status = 503
    retry_after = 5
    kind = "no capacity"


class ConnectionCut(UpstreamError):
    """Upstream closed the connection before its response was complete."""

    kind = "cut"


class TimedOut(UpstreamError):
    """Upstream was silent for too long."""

    status = 504
    kind = "too slow"


# The parsers name the limits of clients' heads; upstream's have settings of their own.
_UPSTREAM_LIMITS = {
    "limits.head_bytes": "limits.upstream_head_bytes",
    "limits.line_bytes": "limits.upstream_head_bytes",
    "limits.fields": "limits.upstream_fields",
}


def from_upstream(error: ProtocolError) -> ProtocolError:
    """A parser's error about what upstream sent: 502, whatever it would mean from a client."""
    return ProtocolError(502, error.reason, _UPSTREAM_LIMITS.get(error.limit, error.limit))


def status_of(error: Exception) -> tuple[int, int]:
    """(status, seconds of Retry-After or 0) of the answer that an error becomes."""
    if isinstance(error, UpstreamError):
        return error.status, error.retry_after
    if isinstance(error, ProtocolError):
        return error.status, 0
    return 500, 0


def kind_of(error: Exception) -> str:
    """How a fault of upstream is counted: one of a few words."""
    if isinstance(error, ProtocolError):
        return "not HTTP"
    return error.kind if isinstance(error, UpstreamError) else UpstreamError.kind
