"""Owns a request to the stand-in: its fields in order, its query's numbers, its answer.

Knows nothing of paths; what the request means is page.py's.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of what these classes inherit from Twisted has no types.

from __future__ import annotations

from http import HTTPStatus
from math import isfinite
from typing import Any

from twisted.web.http_headers import Headers
from twisted.web.server import NOT_DONE_YET, Request

from .page import Arrived, Seen, seen


class FieldsInOrder(Headers):
    """Fields by name, as Twisted wants them, and in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.in_order: list[tuple[bytes, bytes]] = []

    def addRawHeader(self, name: str | bytes, value: str | bytes) -> None:
        super().addRawHeader(name, value)
        self.in_order.append((_bytes(name), _bytes(value)))


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class Inquiry(Request):
    """A request that keeps its fields in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requestHeaders = self.fields = FieldsInOrder()

    def seen(self) -> Seen:
        """What authentik would believe of it."""
        peer = str(getattr(self.getClientAddress(), "host", ""))
        site: Any = self.site
        return seen(
            Arrived(
                method=self.method,
                target=self.uri,
                version=self.clientproto,
                fields=self.fields.in_order,
                peer=peer,
                secure=self.isSecure(),
                trusted=site.stand_in.trusts(peer),
            )
        )

    def field(self, name: bytes) -> bytes:
        """The last value of a field, or nothing."""
        return self.getHeader(name) or b""

    def number(self, name: bytes, highest: float) -> float | None:
        """A number of the query, at most `highest`; None when there is none or it is not one."""
        try:
            value = float(self.args[name][0])
        except (KeyError, ValueError):
            return None
        return min(value, highest) if isfinite(value) and value >= 0 else None

    def answer(self, status: int, media_type: bytes = b"", content: bytes = b"") -> int:
        """The whole response. Returns what render() has to."""
        self.setResponseCode(status, HTTPStatus(status).phrase.encode())
        if media_type:
            self.setHeader(b"content-type", media_type)
        self.setHeader(b"content-length", b"%d" % len(content))
        self.write(content)
        self.finish()
        return NOT_DONE_YET
