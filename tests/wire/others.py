"""Other parsers as oracles: what h11 and llhttp (httptools) make of the same octets.

Each reading ends where the connection would: after a message that does not keep it, at a refusal,
or where octets are missing.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import h11
import httptools

from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import RequestHead

from .feeding import read_request

ROOM = 1 << 20  # octets that h11 may hold; limits are not what is compared
INCOMPLETE = "the connection closed"
AFTER_THE_LAST = "Data after `Connection: close`"
_AUTHORITY = re.compile(rb"(?i:https?)://[^/?]*")


class Framed(NamedTuple):
    """Where one request was seen, and what in it."""

    method: bytes
    target: bytes
    version: int
    content: bytes
    keep_alive: bool


class Reading(NamedTuple):
    """The requests of a stream; refused has the words of the parser that refused to go on."""

    requests: list[Framed]
    refused: str = ""


def reduced(method: bytes, target: bytes) -> bytes:
    """The origin-form of an absolute-form, by two string operations."""
    match = _AUTHORITY.match(target)
    if match is None:
        return target
    rest = target[match.end() :]
    if not rest and method == b"OPTIONS":
        return b"*"
    return rest if rest.startswith(b"/") else b"/" + rest


def ours(octets: bytes) -> Reading:
    """By our parser, until it wants more or refuses."""
    seen: list[Framed] = []
    while octets:
        try:
            message = read_request([octets])
        except ProtocolError as e:
            # Of content that is incomplete it says so where the input ends.
            return Reading(seen, "" if INCOMPLETE in e.reason else e.reason)
        if message is None:
            break
        head = message.head
        assert isinstance(head, RequestHead)
        seen.append(
            Framed(head.method, head.target, head.version, message.content, head.keep_alive)
        )
        if not head.keep_alive:
            break
        octets = message.rest
    return Reading(seen)


def by_h11(octets: bytes) -> Reading:
    """By h11, which answers each request in order to read the next."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=ROOM)
    connection.receive_data(octets)
    seen: list[Framed] = []
    request: h11.Request | None = None
    content = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as e:
            return Reading(seen, str(e))
        if isinstance(event, h11.Request):
            request, content = event, b""
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            # Only the answer decides: an upgrade that was asked for is declined here.
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            keeps = connection.their_state is h11.DONE
            target = reduced(request.method, request.target)
            version = 11 if request.http_version == b"1.1" else 10
            seen.append(Framed(request.method, target, version, content, keeps))
            if not keeps:
                return Reading(seen)
            connection.start_next_cycle()
        else:
            return Reading(seen)


class _Listener:
    """What httptools calls."""

    def __init__(self) -> None:
        self.parser: Any = httptools.HttpRequestParser(self)
        self.seen: list[Framed] = []
        self._target = self._content = b""

    def on_message_begin(self) -> None:
        self._target = self._content = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._content += body

    def on_message_complete(self) -> None:
        method = self.parser.get_method()
        version = 11 if self.parser.get_http_version() == "1.1" else 10
        keeps = self.parser.should_keep_alive()
        target = reduced(method, self._target)
        self.seen.append(Framed(method, target, version, self._content, keeps))


def by_llhttp(octets: bytes) -> Reading:
    """By llhttp; after an upgrade, which this proxy's upstream declines, it begins anew."""
    seen: list[Framed] = []
    while True:
        listener = _Listener()
        try:
            listener.parser.feed_data(octets)
        except httptools.HttpParserUpgrade as e:
            seen += listener.seen
            octets = octets[e.args[0] :]
            if octets:
                continue
        except httptools.HttpParserError as e:
            if str(e) == AFTER_THE_LAST:
                return Reading(seen + listener.seen)
            return Reading(seen + listener.seen, f"{type(e).__name__}: {e}")
        else:
            seen += listener.seen
        return Reading(seen)


class _Answer:
    """What httptools calls for a response; the first one counts."""

    def __init__(self) -> None:
        self.parser: Any = httptools.HttpResponseParser(self)
        self.status = 0
        self.content = b""
        self.complete = False

    def on_headers_complete(self) -> None:
        self.status = self.status or self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self.content += body

    def on_message_complete(self) -> None:
        self.complete = True


def response_by_llhttp(octets: bytes) -> tuple[int | str, bytes]:
    """Status and content of the first response, or the words of a refusal before its end."""
    answer = _Answer()
    try:
        answer.parser.feed_data(octets)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as e:
        if not answer.complete:
            return str(e), b""
    return answer.status, answer.content
