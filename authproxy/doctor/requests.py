"""Owns one request and its answer on a stream, by http.client. HTTP/1.1 (RFC 9112)."""

from __future__ import annotations

import http.client
import json
from email.message import Message
from typing import Any
from urllib.parse import quote

from attrs import frozen

from .. import __version__
from .stream import Stream

MOST_CONTENT = 1 << 20  # octets of an answer that are read; authentik's pages have some 20 KiB
USER_AGENT = f"authproxy-doctor/{__version__}"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
HTML = ("Accept", "text/html")
JSON = ("Accept", "application/json")
# What can go wrong in `ask`, and is a finding.
FAULTS = (OSError, EOFError, http.client.HTTPException)


@frozen
class Answer:
    """A final response. `source` is the address of this end of the connection."""

    status: int
    fields: Message
    content: bytes
    source: str

    def field(self, name: str) -> str:
        """The first value of a field, or ""."""
        return str(self.fields.get(name, ""))

    @property
    def text(self) -> str:
        """The content, whatever its octets."""
        return self.content.decode("utf-8", "replace")

    @property
    def entries(self) -> dict[str, Any]:
        """The content where it is a JSON object, else nothing."""
        try:
            found = json.loads(self.content)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def request_id(self) -> str:
        """The id of a page that authproxy made itself, "" of anybody else's answer."""
        entries = self.entries
        if {"error", "status", "request_id"} <= entries.keys():
            return str(entries["request_id"])
        return ""


def ask(stream: Stream, host: str, target: str, *fields: tuple[str, str]) -> Answer:
    """GET it, on a stream of its own. Raises FAULTS."""
    own = (("Host", host), ("User-Agent", USER_AGENT), ("Connection", "close"))
    # Where a redirect led may be anything.
    lines = [
        f"GET {quote(target, safe=VISIBLE)} HTTP/1.1",
        *(f"{name}: {value}" for name, value in (*own, *fields)),
    ]
    refused: OSError | None = None
    try:
        stream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    except ConnectionError as e:  # an early answer may still be there to be read
        refused = e
    response = http.client.HTTPResponse(stream)  # type: ignore[arg-type]
    try:
        response.begin()
        content = response.read(MOST_CONTENT)
    except FAULTS as e:
        raise refused or e from None
    return Answer(response.status, response.headers, content, stream.source)
