"""Strategies for messages: mostly good ones, nearly good ones, and octets out of the blue."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from authproxy.wire.heads import RequestHead, ResponseHead

VISIBLE = bytes(range(0x21, 0x7F))
_TOKEN = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
_VALUE = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))


def text_of(octets: bytes, min_size: int = 0, max_size: int = 20) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(octets), min_size=min_size, max_size=max_size).map(bytes)


token = text_of(_TOKEN, min_size=1)
value = text_of(_VALUE).map(lambda octets: octets.strip(b" \t"))
origin_form = text_of(VISIBLE.replace(b"#", b"")).map(lambda octets: b"/" + octets)
host = st.sampled_from([b"example.org", b"a", b"a:8080", b"[::1]:1", b"192.0.2.1", b"a_b."])

# Names that mean nothing to the parsers, so that a message stays good whatever the value.
_KNOWN = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
other_field = st.tuples(token.map(bytes.lower).filter(lambda name: name not in _KNOWN), value)

# Fields that mean something, with values that are good, odd or bad.
_MEANINGFUL: list[tuple[bytes, list[bytes]]] = [
    (b"Host", [b"example.org", b"a:8080", b"", b"a b", b"a,b"]),
    (b"Content-Length", [b"0", b"5", b"05", b"5, 5", b"-1", b"", b"9" * 19, b"9" * 20]),
    (b"Transfer-Encoding", [b"chunked", b"Chunked", b"gzip", b"chunked, chunked", b""]),
    (b"Connection", [b"close", b"keep-alive", b"Upgrade", b"a, close", b""]),
    (b"Expect", [b"100-continue", b"100-Continue", b"200"]),
    (b"Upgrade", [b"websocket", b"h2c"]),
    (b"Sec-WebSocket-Key", [b"dGhlIHNhbXBsZSBub25jZQ==", b"a"]),
    (b"Sec-WebSocket-Version", [b"13", b"8"]),
]
meaningful_field = st.one_of(
    *[st.tuples(st.just(name), st.sampled_from(values)) for name, values in _MEANINGFUL]
)
_EDGE = st.sampled_from([b"", b" ", b"\t", b" \t "])
_END = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r", b"\r\n "])


def _line(field: tuple[bytes, bytes], before: bytes, after: bytes) -> bytes:
    return field[0] + b":" + before + field[1] + after


field_line = st.one_of(
    st.builds(_line, other_field, _EDGE, _EDGE),
    st.builds(_line, meaningful_field, _EDGE, _EDGE),
)
HOST_LINE = b"Host: example.org"


def _lines(first: bytes, fields: list[bytes]) -> bytes:
    return b"\r\n".join([first, *fields, b"", b""])


_method = st.one_of(
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"PROPFIND", b"TRACE", b"get"]), token
)
_target = st.one_of(
    origin_form,
    origin_form.map(lambda path: b"http://example.org" + path),
    st.sampled_from([b"*", b"http://a", b"HTTPS://example.org?b", b"example.org:80", b"/a#b"]),
)
_version = st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"HTTP/2.0"])
_request_line = st.tuples(_method, _target, _version).map(b" ".join)

# Complete heads, most of which are good or have one fault.
REQUESTS = st.builds(
    lambda blank, line, fields, with_host: (
        blank + _lines(line, [HOST_LINE, *fields] if with_host else fields)
    ),
    st.sampled_from([b"", b"", b"", b"\r\n"]),
    _request_line,
    st.lists(field_line, max_size=4),
    st.sampled_from([True, True, True, False]),
)
_status_line = st.builds(
    lambda version, status, rest: version + b" %d" % status + rest,
    st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"HTTP/1.2"]),
    st.integers(90, 620),
    st.one_of(st.just(b""), value.map(lambda reason: b" " + reason)),
)
RESPONSES = st.builds(_lines, _status_line, st.lists(field_line, max_size=4))


def _damaged(message: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Messages in which some octets were replaced, removed or added."""
    return st.builds(
        lambda octets, at, length, piece: (
            octets[: at % (len(octets) + 1)] + piece + octets[at % (len(octets) + 1) + length :]
        ),
        message,
        st.integers(0, 500),
        st.integers(0, 3),
        st.one_of(
            st.binary(max_size=3), st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b" ", b":"])
        ),
    )


def _assembled(first: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Lines with ends of all kinds."""
    return st.builds(
        lambda line, end, lines: line + end + b"".join(map(b"".join, lines)) + b"\r\n",
        first,
        _END,
        st.lists(st.tuples(field_line, _END), max_size=4),
    )


REQUEST_OCTETS = st.one_of(
    REQUESTS, _damaged(REQUESTS), _assembled(_request_line), st.binary(max_size=100)
)
RESPONSE_OCTETS = st.one_of(
    RESPONSES, _damaged(RESPONSES), _assembled(_status_line), st.binary(max_size=100)
)

# Good heads as objects, as forwarding would make them.
GOOD_REQUESTS = st.builds(
    lambda method, target, fields, authority: RequestHead(
        method, target, 11, [(b"host", authority), *fields], host=authority
    ),
    st.sampled_from([b"GET", b"POST", b"M-SEARCH"]),
    origin_form,
    st.lists(other_field, max_size=6),
    host,
)
GOOD_RESPONSES = st.builds(
    lambda status, reason, fields: ResponseHead(status, reason, 11, fields),
    st.integers(100, 599),
    value,
    st.lists(other_field, max_size=6),
)

# Chunked content.
_extension = st.sampled_from([b""] * 5 + [b";a", b'; a="b;c"', b";\xff", b";" + b"a" * 255])
CHUNKED_CONTENT = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), _extension, st.booleans()), max_size=5
)
TRAILERS = st.lists(other_field.filter(lambda field: field[0] != b"trailer"), max_size=3)


def chunked(chunks: list[tuple[bytes, bytes, bool]], trailers: list[tuple[bytes, bytes]]) -> bytes:
    """Chunked content on the wire; the flag of a chunk: its size in upper case with a zero."""
    return b"".join(
        [
            (b"0%X" if odd else b"%x") % len(data) + extension + b"\r\n" + data + b"\r\n"
            for data, extension, odd in chunks
        ]
        + [b"0\r\n", *[name + b": " + text + b"\r\n" for name, text in trailers], b"\r\n"]
    )


CHUNKED_OCTETS = st.builds(chunked, CHUNKED_CONTENT, TRAILERS)
NEARLY_CHUNKED = st.one_of(
    CHUNKED_OCTETS,
    _damaged(CHUNKED_OCTETS),
    st.lists(
        st.sampled_from([b"0", b"1", b"a", b";", b"\r\n", b"\r", b"\n", b" ", b"x", b"5"]),
        max_size=12,
    ).map(b"".join),
    st.binary(max_size=30),
)
