"""RFC 9113 6.5, 6.9 and 8: settings, windows, messages. What a case is: http2_peer.py."""

from __future__ import annotations

from .frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    ask,
    block,
    data,
    goaway,
    headers,
    ping,
    post,
    reset,
    settings,
    window,
)
from .http2_frame_cases import FLOW, OK, PROTOCOL
from .http2_peer import Answered, Case

# 8.1.1: a stream error; "a server may send a response before", which says more.
MALFORMED = ("status 400", "stream PROTOCOL_ERROR")
MOST = (1 << 31) - 1
WINDOW = 65536  # limits.http2_stream_window
SLOW = "/slow?seconds=20"

SETTINGS_VALUES = (
    *(
        Case(f"setting {number} is {value}", "6.5.2", (settings((number, value)), ask(1)), OK)
        for number, value in (
            (1, 0), (1, 0xFFFFFFFF), (2, 0), (2, 1), (3, 0), (3, 0xFFFFFFFF), (4, 65535),
            (4, MOST), (5, 16384), (5, 0xFFFFFF), (6, 0), (6, 0xFFFFFFFF), (0, 1), (7, 1), (9, 0),
            (0xFFFF, 0xFFFFFFFF),
        )
    ),
    *(
        Case(f"setting {number} is {value}", "6.5.2", (settings((number, value)),), code)
        for number, value, code in (
            (2, 2, PROTOCOL), (2, 0xFFFFFFFF, PROTOCOL), (4, MOST + 1, FLOW), (4, 0xFFFFFFFF, FLOW),
            (5, 0, PROTOCOL), (5, 16383, PROTOCOL), (5, 0x1000000, PROTOCOL),
        )
    ),
    *(
        Case(f"ENABLE_CONNECT_PROTOCOL of a client is {value}", "RFC 8441 3",
             (settings((8, value)), ask(1)), allowed)
        for value, allowed in ((0, OK), (1, OK), (2, (*OK, *PROTOCOL)))
    ),
    Case("ENABLE_CONNECT_PROTOCOL is taken back", "RFC 8441 3",
         (settings((8, 1)), settings((8, 0)), ask(1)), (*OK, *PROTOCOL),
         why="a sender must not; what a server does is not said, and a client's means nothing"),
    Case("a setting twice in a frame, the last counts", "6.5.3",
         (settings((4, 0), (4, 65535)), ask(1)), OK),
    Case("ACK that nothing asked for", "6.5.3", (settings(flags=ACK), settings(flags=ACK), ask(1)),
         OK),
)  # fmt: skip

PINGS = (
    Case("PING ACK that nothing asked for", "6.7", (ping(flags=ACK), ask(1)), OK),
    Case("PING with another's ACK", "6.7", (ping(b"GOAWAY??", flags=ACK), ask(1)), OK),
    Case(
        "GOAWAY, and the request is answered",
        "6.8",
        (ask(1, path="/slow?seconds=0.1"), goaway()),
        OK,
    ),
    Case(
        "GOAWAY with words", "6.8", (ask(1, path="/slow?seconds=0.1"), goaway(words=b"x" * 999)), OK
    ),
    Case("two GOAWAYs", "6.8", (ask(1, path="/slow?seconds=0.1"), goaway(MOST), goaway()), OK),
    Case("GOAWAY without a stream", "6.8", (goaway(),), ("closed", "ignored")),
)

WINDOWS = (
    Case("WINDOW_UPDATE of 0 for the connection", "6.9", (window(0, 0),), PROTOCOL),
    Case("WINDOW_UPDATE of 0 for a stream", "6.9", (ask(1, path=SLOW), window(1, 0)),
         ("stream PROTOCOL_ERROR", *PROTOCOL), why="5.4.2 lets a stream error be one of the connection"),
    Case("reserved bit, and nothing", "6.9", (window(0, MOST + 1),), PROTOCOL),
    Case("reserved bit of an increment", "6.9", (window(0, MOST + 2), ask(1)), (*OK, *PROTOCOL),
         why="unlike 4.1, 6.9 does not say what its receiver does; hyperframe takes 32 bits"),
    Case("window of the connection at its most", "6.9.1", (window(0, MOST - 65535), ask(1)), OK),
    Case("window of the connection beyond", "6.9.1", (window(0, MOST - 65534),), FLOW),
    Case("window of the connection beyond, in two", "6.9.1", (window(0, MOST - 65535), window(0, 1)),
         FLOW),
    # The answer waits for the client's window, so nothing of what comes is acknowledged.
    Case("content within the window of ours", "6.9.1",
         (settings((4, 0)), post(1, ("X", "1")), *[data(1, bytes(16384))] * (WINDOW // 16384),
          data(1, bytes(WINDOW % 16384)), settings((4, 65535))), ("status 400",)),
    Case("content beyond the window of ours", "6.9.1",
         (settings((4, 0)), post(1, ("X", "1")), *[data(1, bytes(16384))] * (WINDOW // 16384),
          data(1, bytes(WINDOW % 16384 + 1)), settings((4, 65535))),
         ("stream FLOW_CONTROL_ERROR", *FLOW)),
    Case("window of a stream at its most", "6.9.1",
         (ask(1, path="/slow?seconds=0.1"), window(1, MOST - 65535)), OK),
    Case("window of a stream beyond", "6.9.1", (ask(1, path=SLOW), window(1, MOST)),
         ("stream FLOW_CONTROL_ERROR", *FLOW), why="5.4.2 lets a stream error be one of the connection"),
    Case("windows by a setting at their most", "6.9.2",
         (settings((4, 0)), post(1), window(1, 10), settings((4, MOST - 10)), data(1, b"x", END_STREAM)),
         OK),
    Case("windows by a setting beyond", "6.9.2",
         (settings((4, 0)), ask(1, path=SLOW), window(1, 10), settings((4, MOST - 9))), FLOW),
    Case("window that opens by one octet each", "6.9",
         (settings((4, 0)), ask(1, path="/slow?seconds=0"), *[window(1, 1)] * 40, settings((4, 65535))), OK),
    Case("window that a setting makes negative", "6.9.2",
         (ask(1, path="/slow?seconds=0.1"), settings((4, 0)), window(1, 5), settings((4, 65535))), OK),
)  # fmt: skip

CONTENT = (
    Case("content", "8.1", (post(1), data(1, b"x"), data(1, b"y", END_STREAM)), OK),
    Case("empty DATA at the end", "8.1", (post(1), data(1, b"x"), data(1, b"", END_STREAM)), OK),
    Case("no content", "8.1", (post(1), data(1, b"", END_STREAM)), OK),
    Case("trailers", "8.1", (post(1), data(1, b"x"), headers(1, block([("x-sum", "1")]))), OK),
    Case("empty trailers", "8.1", (post(1), data(1, b"x"), headers(1, b"")), OK),
    Case("trailers without END_STREAM", "8.1",
         (post(1), data(1, b"x"), headers(1, block([("x-sum", "1")]), END_HEADERS)),
         (*MALFORMED, *PROTOCOL)),
    Case("trailers with a pseudo-header field", "8.1",
         (post(1), data(1, b"x"), headers(1, block([(":path", "/")]))), MALFORMED),
    Case("trailers in upper case", "8.1", (post(1), data(1, b"x"), headers(1, block([("X-Sum", "1")]))),
         MALFORMED),
    Case("trailers with a field of connections", "8.1",
         (post(1), data(1, b"x"), headers(1, block([("connection", "x")]))), MALFORMED),
    Case("DATA behind trailers", "8.1",
         (post(1, path=SLOW), headers(1, block([("x-sum", "1")])), data(1, b"x")),
         ("connection STREAM_CLOSED", "stream STREAM_CLOSED")),
    *(
        Case(f"content-length {length}, and {name}", "8.1.1",
             (post(1, ("content-length", length)), *frames), allowed)
        for length, name, frames, allowed in (
            ("2", "so much", (data(1, b"xy", END_STREAM),), OK),
            ("0", "nothing", (data(1, b"", END_STREAM),), OK),
            ("3", "less", (data(1, b"xy", END_STREAM),), (*MALFORMED, *PROTOCOL)),
            ("1", "more", (data(1, b"xy", END_STREAM),), (*MALFORMED, *PROTOCOL)),
            ("0", "more", (data(1, b"xy", END_STREAM),), (*MALFORMED, *PROTOCOL)),
            ("3", "trailers before", (data(1, b"xy"), headers(1, b"\x10\x01a\x01b")), MALFORMED),
            ("3", "padding for the rest", (data(1, b"\x01xy\0", END_STREAM | PADDED),),
             (*MALFORMED, *PROTOCOL)),
        )
    ),
    *(
        Case(f"content-length {value!r}", "8.1.1",
             (post(1, ("content-length", value)), data(1, b"xy", END_STREAM)), (*MALFORMED, *PROTOCOL))
        for value in ("+2", "-2", "0x2", "2,2", "2 2", "", "9" * 30, "\u0662")
    ),
    Case("content-length twice", "8.1.1",
         (post(1, ("content-length", "2"), ("content-length", "3")), data(1, b"xy", END_STREAM)),
         (*MALFORMED, *PROTOCOL)),
    Case("content-length and END_STREAM", "8.1.1", (ask(1, ("content-length", "2")),), MALFORMED),
    Case("content-length 0 and END_STREAM", "8.1.1", (ask(1, ("content-length", "0")),), OK),
)  # fmt: skip

# 8.2.1
NAMES = (
    b"X-Upper",
    b"",
    b"a b",
    b"a:b",
    b"a\0b",
    b"a\rb",
    b"a\nb",
    b"a\x7f",
    b"\xe4",
    b"a\tb",
    b":",
)
VALUES = (b"a\0b", b"a\rb", b"a\nb", b"a\r\nx: y", b" a", b"a ", b"\ta", b"a\t", b" ")
# What RFC 9113 leaves to RFC 9110 5.5: an implementation may refuse.
CONTROLS = (b"a\x01b", b"a\x7fb", b"a\x1fb")

FIELDS = (
    *(Case(f"name {name!r}", "8.2.1", (ask(1, (name, "1")),), MALFORMED) for name in NAMES),
    *(Case(f"value {value!r}", "8.2.1", (ask(1, ("x", value)),), MALFORMED) for value in VALUES),
    *(Case(f"value {value!r}", "RFC 9110 5.5", (ask(1, ("x", value)),), (*MALFORMED, *OK))
      for value in CONTROLS),
    *(Case(f"value {value!r}", "8.2.1", (ask(1, ("x", value)),), OK)
      for value in (b"", b"a b", b"a\tb", b"\xe4\xff", b"a" * 4000)),
    *(
        Case(f"{name}: {value}", "8.2.2", (ask(1, (name, value)),), MALFORMED)
        for name, value in (
            ("connection", "close"), ("connection", "x"), ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"), ("transfer-encoding", "chunked"),
            ("transfer-encoding", "identity"), ("upgrade", "h2c"), ("te", "gzip"),
            ("te", "trailers, gzip"),
        )
    ),
    Case("te: trailers", "8.2.2", (ask(1, ("te", "trailers")),), OK),
    Case("crumbs of a cookie", "8.2.3", (ask(1, ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")),), OK),
    Case("a refused request leaves the others alone", "8.1.1",
         (post(3), ask(5, ("X", "1")), data(3, b"x", END_STREAM)), OK, 3),
)  # fmt: skip

_AUTHORITY = "sso.example.com"
PSEUDO = (
    *(
        Case(f"without :{name}", "8.3.1", (ask(1, **{name: None}),), MALFORMED)
        for name in ("method", "scheme", "path")
    ),
    Case("without any", "8.3.1", (headers(1, block([("accept", "*/*")])),), MALFORMED),
    Case("an empty head", "8.3.1", (headers(1, b""),), MALFORMED),
    *(
        Case(f":{name} {value!r}", "8.3.1", (ask(1, **{name: value}),), MALFORMED)
        for name, value in (
            ("method", ""), ("method", "G T"), ("method", "G:T"), ("scheme", ""), ("path", ""),
            ("path", "x"), ("path", "*"), ("path", "/a b"), ("path", "/a#b"), ("path", "/\t"),
            ("path", "https://sso.example.com/"), ("authority", ""),
            ("authority", f"user@{_AUTHORITY}"), ("authority", f"{_AUTHORITY}/"),
            ("authority", f"{_AUTHORITY}, {_AUTHORITY}"), ("authority", "a b"),
        )
    ),
    Case(":scheme of nothing that is served", "8.3.1", (ask(1, scheme="ftp"),), MALFORMED,
         why="8.3.1 does not restrict it to http and https; there is nowhere to forward it to"),
    Case("OPTIONS *", "8.3.1", (ask(1, method="OPTIONS", path="*"),), ("status 204",)),
    Case("Host alone", "8.3.1", (ask(1, ("host", _AUTHORITY), authority=None),), OK),
    Case("neither :authority nor Host", "8.3.1", (ask(1, authority=None),), MALFORMED,
         why="RFC 9112 3.2: upstream's request must have one"),
    Case("the same Host", "8.3.1", (ask(1, ("host", _AUTHORITY)),), OK),
    Case("another Host", "8.3.1", (ask(1, ("host", "other.example")),), MALFORMED),
    Case("Host twice", "8.3.1", (ask(1, ("host", _AUTHORITY), ("host", _AUTHORITY)),), MALFORMED,
         why="RFC 9112 3.2"),
    Case("an authority that is not served here", "9.1.2", (ask(1, authority="other.example"),),
         ("status 421",)),
    *(
        Case(f"{name} twice", "8.3", (headers(1, block([*_all, (name, value)])),), MALFORMED)
        for _all in [[(":method", "GET"), (":scheme", "https"), (":authority", _AUTHORITY), (":path", "/")]]
        for name, value in _all
    ),
    Case("behind a field", "8.3",
         (headers(1, block([(":method", "GET"), (":scheme", "https"), (":authority", _AUTHORITY),
                            ("x", "y"), (":path", "/")])),), MALFORMED),
    Case(":status", "8.3", (ask(1, status="200"),), MALFORMED),
    Case("an unknown one", "8.3", (ask(1, unknown="x"),), MALFORMED),
    Case("in upper case", "8.3", (headers(1, block([(":Method", "GET")])),), MALFORMED),
    Case(":protocol of a GET", "RFC 8441 4", (ask(1, protocol="websocket"),), MALFORMED),
    Case(":protocol that is unknown", "RFC 8441 4",
         (ask(1, method="CONNECT", protocol="connect-udp", flags=END_HEADERS),), ("status 501", *MALFORMED)),
    Case("CONNECT with :path and :scheme", "8.5", (ask(1, method="CONNECT"),),
         ("status 405", *MALFORMED)),
    Case("CONNECT", "8.5",
         (headers(1, block([(":method", "CONNECT"), (":authority", "a.example:443")]), END_HEADERS),),
         ("status 405", "status 501", *MALFORMED)),
    Case("TRACE", "RFC 9110 9.3.8", (ask(1, method="TRACE"),), ("status 405",)),
    Case("HEAD", "8.1", (ask(1, method="HEAD"),), OK),
    Case("an early reset, then the next", "8.6", (ask(1, path=SLOW), reset(1), ask(3)), OK, 3),
    Case("one after the other", "5.1.1", (ask(1), Answered(1), ask(3), Answered(3), ask(5)), OK, 5),
)  # fmt: skip
MESSAGE_CASES = (*SETTINGS_VALUES, *PINGS, *WINDOWS, *CONTENT, *FIELDS, *PSEUDO)
