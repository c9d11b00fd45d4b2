"""Owns the access log: one line for each request, written in batches.

Lines are escaped (no control octet of a client reaches a terminal or a log parser) and the values
of query parameters that carry secrets are masked. Cookie and Authorization are never written.

A request costs an entry in memory; `flush`, called once a second and whenever many have come
together, makes lines of them, and linefile.py (or a supervisor's) writes them at once.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .linefile import LineFile, Lines

if TYPE_CHECKING:
    from .trust import Client
    from .wire.heads import RequestHead

BATCH = 128  # entries; each may hold two lines of a head
MOST = 4096  # octets of a referer or user agent in a line, before they are escaped
REMEMBERED = 512  # methods, hosts and user agents whose escaped form is kept ...
REMEMBERED_SIZE = 512  # ... where they have no more octets than that
_MASKED = (
    "(?:code|state|token|access_token|refresh_token|id_token|id_token_hint|flow_token|itoken"
    "|samlresponse|samlrequest|password|client_secret)"
)
# A value ends at "&"; but authentik's flows carry a whole request inside next=, percent-encoded,
# perhaps more than once: there it ends at an "&" that is encoded as often as its "=" is.
_SECRET = re.compile(
    rf"([?&;]{_MASKED}=|%(?P<again>(?:25)*)(?:3f|26|3b){_MASKED}%(?P=again)3d)"
    r"(?(again)(?:(?!%(?P=again)26)[^&])*|[^&]*)",
    re.IGNORECASE,
)
_VERSIONS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2.0"}
_UNSAFE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
_ESCAPES = [f"\\x{octet:02x}" if _UNSAFE.match(chr(octet)) else chr(octet) for octet in range(256)]

# The wall clock's second, and what AccessLog.line takes.
Entry = tuple[int, "RequestHead", "Client", int, int, float, str, str]


class AccessLog:
    """The lines of all requests.

    `path` is a file, "-" for file descriptor 1, "" for none. `clock` is the wall clock, in
    seconds, which lines tell; `steady` one that does not jump, for what is done again and again.
    Where there are `lines`, they go there instead.
    """

    def __init__(
        self,
        path: str,
        form: str,
        clock: Callable[[], float] = time.time,
        lines: Lines | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steady = steady
        self._given = lines is not None
        self._clock = clock
        self._entries: list[Entry] = []
        self._escaped: dict[bytes, str] = {}
        self._path = path
        self._file = LineFile(path, steady) if lines is None else lines
        self._choose(form)

    def adopt(self, path: str, form: str) -> None:
        """Go on with another file or form. Raises OSError where the file cannot be opened; then
        nothing has changed."""
        file = None
        if path != self._path and not self._given:
            file = LineFile(path, self._steady)
        self.flush()
        if file is not None:
            self._file.close()
            file.lost = self._file.lost
            self._file = file
        self._path = path
        self._choose(form)

    def _choose(self, form: str) -> None:
        self._as_text = self._json if form == "json" else self._combined
        self._time_format = "%Y-%m-%dT%H:%M:%S%z" if form == "json" else "%d/%b/%Y:%H:%M:%S %z"
        self._second = -1
        self._second_as_text = ""

    def line(
        self,
        head: RequestHead,
        client: Client,
        status: int,
        sent: int,
        duration: float,
        upstream: str,
        request_id: str,
    ) -> None:
        """One request. `sent` is octets of content, `duration` seconds."""
        if not self._path:
            return
        now = int(self._clock())
        self._entries.append((now, head, client, status, sent, duration, upstream, request_id))
        if len(self._entries) >= BATCH:
            self._hand_over()

    def _combined(self, entry: Entry) -> str:
        now, head, client, status, sent, duration, upstream, request_id = entry
        escaped = self._escaped.get
        method, host = head.method, client.host
        referer, user_agent = head.named.get(b"referer"), head.named.get(b"user-agent")
        return (
            f'{client.address} - - [{self._stamp(now)}] "{escaped(method) or self._escape(method)}'
            f' {_safe(_masked(head.target))} {_VERSIONS[head.version]}" {status} {sent}'
            f' "{_safe(_cut(_masked(referer))) if referer else "-"}"'
            f' "{(escaped(user_agent) or self._escape(user_agent)) if user_agent else "-"}"'
            f" {escaped(host) or self._escape(host)} {duration:.3f} {upstream or '-'}"
            f" {request_id or '-'}"
        )

    def _json(self, entry: Entry) -> str:
        now, head, client, status, sent, duration, upstream, request_id = entry
        referer, user_agent = head.named.get(b"referer"), head.named.get(b"user-agent")
        return json.dumps(
            {
                "time": self._stamp(now),
                "address": client.address,
                "method": head.method.decode("latin-1"),
                "target": _masked(head.target),
                "version": head.version / 10,
                "scheme": client.scheme.decode(),
                "host": client.host.decode("latin-1"),
                "status": status,
                "sent": sent,
                "duration": round(duration, 6),
                "referer": None if referer is None else _cut(_masked(referer)),
                "user_agent": None if user_agent is None else _cut(user_agent.decode("latin-1")),
                "upstream": upstream or None,
                "request_id": request_id or None,
            }
        )

    def _stamp(self, seconds: int) -> str:
        if seconds != self._second:
            self._second = seconds
            self._second_as_text = time.strftime(self._time_format, time.localtime(seconds))
        return self._second_as_text

    def _escape(self, value: bytes) -> str:
        """The value as a line has it, remembered: the same few come with every request."""
        text = _safe(_cut(value.decode("latin-1"))) or "-"
        if len(self._escaped) >= REMEMBERED:
            self._escaped.clear()
        if len(value) <= REMEMBERED_SIZE:
            self._escaped[value] = text
        return text

    @property
    def lost(self) -> int:
        """Lines that could not be written, nor held any longer."""
        return self._file.lost

    def flush(self) -> None:
        """Write what is held. Never raises; what could not be written is held for the next time."""
        failing = self._file.failing
        self._hand_over()
        if failing:  # it is only tried again here, once a second
            self._file.flush()

    def _hand_over(self) -> None:
        """Let the heads of requests go: their lines are shorter, and bounded where they wait."""
        lines = list(map(self._as_text, self._entries))
        self._entries.clear()
        self._file.write(lines)

    def close(self) -> None:
        """Write what is held and close."""
        self.flush()
        self._file.close()
        self._path = ""


def _masked(value: bytes) -> str:
    text = value.decode("latin-1")
    return _SECRET.sub(r"\1***", text) if "?" in text or "%" in text else text


def _cut(text: str) -> str:
    return text if len(text) <= MOST else text[:MOST] + "..."


def _safe(text: str) -> str:
    # Octet by octet from a table: a call for each match takes 50 times as long, and HTTP/2's table
    # lets a client repeat 4,000 such octets with one.
    if _UNSAFE.search(text):
        return "".join(map(_ESCAPES.__getitem__, text.encode("latin-1")))
    return text
