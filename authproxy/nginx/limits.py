"""Owns the way from nginx's times, sizes and numbers to [timeouts], [limits], [pool] and the like.

These are settings of the whole here and of a location there: the largest wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..settings import Limits, PoolSettings, Timeouts
from .blocks import Http, Scope
from .draft import Draft, Kind
from .origins import Pass
from .reading import Directive

T = TypeVar("T", int, float)

_TIME = re.compile(r"(?:\d{1,9}(?:ms|[smhdwMy])\s*)+|\d{1,9}")
_PART = re.compile(r"(\d+)(ms|[smhdwMy])")
_UNITS = {
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86400,
    "w": 604800,
    "M": 2592000,
    "y": 31536000,
}
_SIZE = re.compile(r"(\d{1,12})([kKmMgG]?)")
_LONGEST, _SHORTEST = 7 * 86400.0, 0.1
_REQUEST = 600.0  # a proxy_read_timeout beyond this was meant for WebSockets

# Directives that mean the same as one setting of [timeouts].
_TIMES = {
    "client_header_timeout": "head",
    "client_body_timeout": "body_idle",
    "send_timeout": "write_stall",
    "keepalive_timeout": "keepalive",
}


def seconds(text: str) -> float | None:
    """A time of nginx's ("60", "1h 30m", "500ms"), None for what is none."""
    if not _TIME.fullmatch(text):
        return None
    parts = _PART.findall(text)
    return sum(int(n) * _UNITS[unit] for n, unit in parts) if parts else float(text)


def octets(text: str) -> int | None:
    """A size of nginx's ("8k", "1g"), None for what is none."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()]


def put(draft: Draft, http: Http, scopes: list[Scope], passes: list[Pass]) -> None:
    """All of them. `scopes` are those of the locations that were taken."""
    for name, key in _TIMES.items():
        found = _found(scopes, name, 0, seconds)
        if found and max(found.values()) == 0:
            words = f"{key} cannot be 0: it is {getattr(Timeouts(), key)} s by default."
            draft.say(draft.table("timeouts"), Kind.DIFFERENT, words, *found)
        elif found:
            _time(draft, key, max(found.values()), found)
    _connect(draft, scopes)
    _read(draft, scopes)
    _body(draft, scopes)
    _heads(draft, scopes)
    _pool(draft, http, passes)


def _found(
    scopes: Iterable[Scope], name: str, place: int, read: Callable[[str], T | None]
) -> dict[Directive, T]:
    """The values of a directive where it is in force."""
    found = {}
    for scope in scopes:
        directive = scope.first(name)
        if directive is not None and len(directive.args) > place:
            value = read(directive.args[place])
            if value is not None:
                found[directive] = value
    return found


def _time(draft: Draft, key: str, value: float, found: Iterable[Directive], *above: str) -> None:
    """A setting of [timeouts], or nothing where it is the default."""
    table = draft.table("timeouts")
    default = getattr(Timeouts(), key)
    if value == default:
        draft.say(table, Kind.UNNEEDED, f"{key} is that by default.", *found)
        return
    fitting = min(max(value, _SHORTEST), _LONGEST)
    if fitting != value:
        above = (*above, f"nginx had {value:g} s; this is the nearest that can be.")
    draft.put(table, key, int(fitting) if fitting >= 1 else fitting, found, *above)


def _connect(draft: Draft, scopes: list[Scope]) -> None:
    found = _found(scopes, "proxy_connect_timeout", 0, seconds)
    if not found:
        return
    value, default = max(found.values()), Timeouts().connect
    if value < default:
        _time(draft, "connect", value, found)
    else:
        words = f"connect is {default} s: a request does not wait longer for a connection."
        draft.say(draft.table("timeouts"), Kind.DIFFERENT, words, *found)


def _read(draft: Draft, scopes: list[Scope]) -> None:
    """proxy_read_timeout: for a response, and between the octets of a WebSocket."""
    found = _found(scopes, "proxy_read_timeout", 0, seconds)
    if not found:
        return
    table, defaults = draft.table("timeouts"), Timeouts()
    value = max(found.values())
    if value > defaults.relay_idle:
        _time(draft, "relay_idle", value, found)
    if value > _REQUEST:
        draft.say(
            table, Kind.DIFFERENT,
            "So long a time was meant for WebSockets: they may be silent for relay_idle (an hour by"
            " default). Responses have first_byte and upstream_idle.", *found,
        )  # fmt: skip
    sources = [directive for directive in found if found[directive] <= _REQUEST]
    longest = max((found[directive] for directive in sources), default=defaults.first_byte)
    if longest == defaults.first_byte:
        if sources:
            words = "first_byte and upstream_idle are 60 s by default; WebSockets have an hour."
            draft.say(table, Kind.UNNEEDED, words, *sources)
        return
    _time(draft, "first_byte", longest, sources)
    _time(draft, "upstream_idle", longest, sources)


def _body(draft: Draft, scopes: list[Scope]) -> None:
    """client_max_body_size, which is 1 MiB where nobody writes it."""
    table = draft.table("limits")
    found = _found(scopes, "client_max_body_size", 0, octets)
    if found and len(found) and all(found.values()):
        draft.put(table, "body_bytes", max(found.values()), found)
    elif found:
        draft.say(table, Kind.UNNEEDED, "A request's content has no limit by default.", *found)
    else:
        draft.say(
            table, Kind.DIFFERENT,
            "nginx refused requests over 1 MiB (413), as client_max_body_size is not written. Here"
            " is no limit; body_bytes = 1048576 sets one.",
        )  # fmt: skip


def _heads(draft: Draft, scopes: list[Scope]) -> None:
    """large_client_header_buffers, proxy_buffer_size, keepalive_requests."""
    table, defaults = draft.table("limits"), Limits()
    lines = _found(scopes, "large_client_header_buffers", 1, octets)
    numbers = _found(scopes, "large_client_header_buffers", 0, octets)
    line = max(lines.values(), default=0)
    head = max((lines[d] * numbers.get(d, 1) for d in lines), default=0)
    if head > defaults.head_bytes:
        draft.put(table, "head_bytes", min(head, 1 << 24), lines)
    if line > defaults.line_bytes:
        draft.put(table, "line_bytes", min(line, 1 << 24), lines)
    if lines and line <= defaults.line_bytes and head <= defaults.head_bytes:
        draft.say(
            table, Kind.UNNEEDED,
            "Heads of 64 KiB with lines of 32 KiB are taken by default.", *lines,
        )  # fmt: skip
    answers = _found(scopes, "proxy_buffer_size", 0, octets)
    if max(answers.values(), default=0) > defaults.upstream_head_bytes:
        draft.put(table, "upstream_head_bytes", min(max(answers.values()), 1 << 24), answers)
    elif answers:
        words = "authentik's response heads may have 128 KiB by default."
        draft.say(table, Kind.UNNEEDED, words, *answers)
    requests = _found(scopes, "keepalive_requests", 0, octets)
    most = max(requests.values(), default=0)
    if 0 < most <= 1_000_000_000 and most != defaults.requests_per_connection:
        draft.put(table, "requests_per_connection", most, requests)
    elif requests:
        draft.say(table, Kind.UNNEEDED, "That is the default.", *requests)


def _pool(draft: Draft, http: Http, passes: list[Pass]) -> None:
    """`keepalive` of upstream blocks: idle connections of each nginx worker, of each of ours."""
    table, defaults = draft.table("pool"), PoolSettings()
    found: dict[Directive, int] = {}
    for to in passes:
        block = http.upstreams.get(to.target)
        for directive in (block.block or ()) if block is not None else ():
            if directive.name == "keepalive" and directive.args and directive.args[0].isdecimal():
                found[directive] = int(directive.args[0][:9])
    most = max(found.values(), default=0)
    if most > defaults.idle:
        draft.put(table, "idle", most, found)
        if most > defaults.connections:
            draft.put(table, "connections", most, found)
    elif found:
        words = f"Up to {defaults.idle} connections to upstream are kept alive by default."
        draft.say(table, Kind.UNNEEDED, words, *found)
