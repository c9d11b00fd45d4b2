"""Message heads: what the parsers return, forwarding rewrites and the serialiser takes.

One object for each direction, the same for HTTP/1.1 and HTTP/2. A head is plain data: whoever
builds one answers for its fields being valid; the parsers of this package do.
"""

from __future__ import annotations

from typing import Final

import attrs

# (lower-case name, value) pairs in the order in which they came; a repeated field stays repeated.
Fields = list[tuple[bytes, bytes]]

# The two values of `length` that are no number of octets.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2


# The fields of a request that its access line has.
SAID: Final = (b"referer", b"user-agent")


@attrs.frozen
class HeadLimits:
    """The bounds of a head.

    head_bytes counts from the first octet to the end of the empty line, line_bytes one line
    without its CRLF, fields the field lines. known is what sections.parse_fields remembers of lines
    that were within these bounds.
    """

    head_bytes: int = 65536
    line_bytes: int = 32768
    fields: int = 100
    known: dict[bytes, tuple[bytes, bytes]] = attrs.field(
        factory=dict, init=False, eq=False, repr=False
    )


class RequestHead:
    """The head of a request.

    target is in origin-form ("/path?query") or b"*"; version is 10, 11 or 20. host is the one
    authority of the request, b"" for an HTTP/1.0 request that names none. length is the number of
    octets of content (0: none) or CHUNKED. expects_continue: the client waits for a 100 before it
    sends the content. keep_alive: what version and Connection say. upgrade: this is a complete and
    proper WebSocket handshake; any other Upgrade is not one. dropped has a word for each field that
    forwarding left out for its name. named is name -> value for single look-ups, of the request as
    it came (of a repeated field, one of its values): forwarding does not change it. section is the
    field section as it came, where it is worth being compared with the next one's. forwarded is the
    field section that goes upstream for it, as octets, once it was made; like all the rest a head
    that repeats the fields of another has it from there. received is to a request of HTTP/2
    what section is to others.
    """

    __slots__ = (
        "dropped",
        "expects_continue",
        "fields",
        "forwarded",
        "host",
        "keep_alive",
        "length",
        "method",
        "named",
        "received",
        "section",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: int,
        fields: Fields,
        host: bytes = b"",
        length: int = 0,
        expects_continue: bool = False,
        keep_alive: bool = True,
        upgrade: bool = False,
        dropped: tuple[str, ...] = (),
        named: dict[bytes, bytes] | None = None,
        section: bytes = b"",
        forwarded: bytes = b"",
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.host = host
        self.length = length
        self.expects_continue = expects_continue
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.dropped = dropped
        self.named = dict(fields) if named is None else named
        self.section = section
        self.forwarded = forwarded
        self.received: Fields | None = None

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of this lower-case name."""
        return _first(self.fields, name)

    def summary(self) -> RequestHead:
        """What is said of the request when it is over: of its fields only those that are SAID."""
        named = self.named
        fields: Fields = [(name, named[name]) for name in SAID if name in named]
        return RequestHead(self.method, self.target, self.version, fields, self.host)

    def __repr__(self) -> str:
        # Without query and values: both carry secrets (code, state, Cookie).
        path = self.target.partition(b"?")[0].decode("latin-1")
        flags = [
            name for name in ("expects_continue", "keep_alive", "upgrade") if getattr(self, name)
        ]
        return (
            f"<RequestHead {self.method.decode('latin-1')} {path} {self.version} "
            f"host={self.host.decode('latin-1')} {len(self.fields)} fields "
            f"length={_length_word(self.length)} {' '.join(flags)}>"
        )


class ResponseHead:
    """The head of a response.

    version is 10, 11 or 20; reason may be b"". length is the number of octets of content that
    follow on the wire (0 for a response to HEAD, 1xx, 204 and 304, whatever Content-Length says),
    CHUNKED or UNTIL_CLOSE. octets is the head as it came, where it is worth being compared with the
    next one's; to_head says that it answers a HEAD. section is the same as fields, as octets, where
    somebody has made them. forwarded is what was made of it for the client with this value of hsts.
    A head may be met again: nobody changes it but who made it.
    """

    __slots__ = (
        "fields",
        "forwarded",
        "hsts",
        "keep_alive",
        "length",
        "octets",
        "reason",
        "section",
        "status",
        "to_head",
        "version",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        version: int,
        fields: Fields,
        length: int = 0,
        keep_alive: bool = True,
        octets: bytes = b"",
        to_head: bool = False,
    ) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self.fields = fields
        self.length = length
        self.keep_alive = keep_alive
        self.octets = octets
        self.to_head = to_head
        self.section = b""
        self.forwarded: ResponseHead | None = None
        self.hsts: bytes | None = None

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of this lower-case name."""
        return _first(self.fields, name)

    def __repr__(self) -> str:
        return (
            f"<ResponseHead {self.status} {self.version} {len(self.fields)} fields "
            f"length={_length_word(self.length)}{' keep_alive' if self.keep_alive else ''}>"
        )


def _first(fields: Fields, name: bytes) -> bytes | None:
    for known, value in fields:
        if known == name:
            return value
    return None


def _length_word(length: int) -> str:
    return {CHUNKED: "chunked", UNTIL_CLOSE: "until-close"}.get(length, str(length))
