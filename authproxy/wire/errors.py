"""The one exception of this package: what a peer did wrong, and how to answer."""

from __future__ import annotations


class ProtocolError(Exception):
    """A message that is refused.

    status: what the client is told (a client's fault is 4xx, 501 or 505; upstream's is 502).
    reason: a fragment of a sentence for logs and pages; it never repeats what the peer sent.
    limit: the setting that was exceeded ("limits.head_bytes"), "" where none was.
    """

    def __init__(self, status: int, reason: str, limit: str = "") -> None:
        super().__init__(status, reason, limit)
        self.status = status
        self.reason = reason
        self.limit = limit

    def __str__(self) -> str:
        if self.limit:
            return f"{self.status}: {self.reason} ({self.limit})"
        return f"{self.status}: {self.reason}"
