"""RFC 9113 3 to 6: frames, their sizes, the states of streams. What a case is: http2_peer.py."""

from __future__ import annotations

from hpack import Encoder

from .frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ask,
    block,
    continuation,
    data,
    frame,
    goaway,
    headers,
    ping,
    post,
    request,
    reset,
    settings,
    window,
)
from .http2_peer import Answered, Case

PROTOCOL = ("connection PROTOCOL_ERROR",)
SIZE = ("connection FRAME_SIZE_ERROR",)
COMPRESSION = ("connection COMPRESSION_ERROR",)
FLOW = ("connection FLOW_CONTROL_ERROR",)
IGNORED = ("ignored",)
OK = ("status 200",)
# 5.1: in "closed" what comes behind RST_STREAM or END_STREAM is an error of one or the other kind.
CLOSED = ("connection STREAM_CLOSED", "stream STREAM_CLOSED")
# 5.4.1: whoever finds a connection error may be unable to say so.
NO_PREFACE = ("connection PROTOCOL_ERROR", "closed")

BLOCK = block(request())
HEAD, TAIL = BLOCK[:10], BLOCK[10:]
MORE = END_STREAM  # HEADERS without END_HEADERS
LARGEST = 16384
TOP = 0x80000000

PREFACES = (
    Case("another preface", "3.4", (), NO_PREFACE, beginning=PREFACE.replace(b"SM", b"MS")),
    Case("a request of HTTP/1.1", "3.4", (), NO_PREFACE,
         beginning=b"GET / HTTP/1.1\r\nHost: sso.example.com\r\n\r\n"),
    Case("HEADERS before SETTINGS", "3.4", (ask(1),), NO_PREFACE, beginning=PREFACE),
    Case("PING before SETTINGS", "3.4", (ping(),), NO_PREFACE, beginning=PREFACE),
    Case("unknown frame before SETTINGS", "3.4", (frame(0x42),), NO_PREFACE, beginning=PREFACE),
    Case("SETTINGS ACK instead of SETTINGS", "3.4", (settings(flags=ACK),), NO_PREFACE,
         beginning=PREFACE),
    Case("SETTINGS with a value each", "3.4", (ask(1),), OK,
         beginning=PREFACE + settings((1, 0), (2, 0), (3, 100), (4, 65535), (5, LARGEST), (6, 9999))),
    Case("another SETTINGS before the first is acknowledged", "3.4",
         (settings(), settings(), ask(1)), OK),
)  # fmt: skip

FORMAT = (
    Case("unknown type on a stream of ours", "4.1", (frame(0x42, 0xFF, 1, b"x" * 99),), IGNORED),
    Case("unknown type on the connection", "4.1", (frame(0xFE, 0, 0, b"x" * 99),), IGNORED),
    Case("unknown type, largest", "4.1", (frame(0x42, 0, 0, bytes(LARGEST)),), IGNORED),
    Case("unknown type, empty", "4.1", (frame(0x42),), IGNORED),
    Case("ALTSVC, which is for clients", "4.1", (frame(0x0A, 0, 0, b"\0\0"),), IGNORED),
    Case("ORIGIN, which is for clients", "4.1", (frame(0x0C),), IGNORED),
    Case("PRIORITY_UPDATE", "4.1", (frame(0x10, 0, 0, b"\0\0\0\1u=1"),), IGNORED,
         why="RFC 9218; a type that is not known here"),
    Case("undefined flags of HEADERS", "4.1",
         (headers(1, BLOCK, 0xD2 | END_STREAM | END_HEADERS),), OK),
    Case("undefined flags of SETTINGS", "4.1", (settings(flags=0xFE), ask(1)), OK),
    Case("undefined flags of PING", "4.1", (ping(flags=0xFE), ask(1)), OK),
    Case("undefined flags of WINDOW_UPDATE", "4.1",
         (frame(WINDOW_UPDATE, 0xFF, 0, b"\0\0\0\1"), ask(1)), OK),
    Case("undefined flags of DATA", "4.1", (post(1), data(1, b"x", 0xF6 | END_STREAM)), OK),
    Case("reserved bit of a stream's number", "4.1", (ask(TOP | 1),), OK),
    Case("reserved bit of the connection's number", "4.1", (ping(stream=TOP), ask(1)), OK),
)  # fmt: skip

SIZES = (
    Case("DATA, largest", "4.2", (post(1), data(1, bytes(LARGEST), END_STREAM)), OK),
    Case("DATA, too large", "4.2", (post(1), data(1, bytes(LARGEST + 1), END_STREAM)),
         (*SIZE, "stream FRAME_SIZE_ERROR")),
    Case("HEADERS, too large", "4.2", (headers(1, bytes(LARGEST + 1)),), SIZE),
    Case("SETTINGS, too large", "4.2", (settings(*[(0x99, 0)] * 2731),), SIZE),
    Case("unknown type, too large", "4.2", (frame(0x42, 0, 0, bytes(LARGEST + 1)),),
         (*SIZE, "ignored")),
    Case("SETTINGS, largest", "4.2", (settings(*[(0x99, 0)] * 2730), ask(1)), OK),
    *(
        Case(f"{name} with {size} octets", section, (frame(kind, 0, stream, bytes(size)),), SIZE)
        for name, section, kind, stream, sizes in (
            ("SETTINGS", "6.5", SETTINGS, 0, (1, 5, 7)),
            ("PING", "6.7", PING, 0, (0, 7, 9)),
            ("GOAWAY", "6.8", GOAWAY, 0, (0, 7)),
            ("WINDOW_UPDATE", "6.9", WINDOW_UPDATE, 0, (0, 3, 5)),
        )
        for size in sizes
    ),
    *(
        Case(f"RST_STREAM with {size} octets", "6.4",
             (post(1), frame(RST_STREAM, 0, 1, bytes(size))), SIZE)
        for size in (0, 3, 5)
    ),
    *(
        Case(f"PRIORITY with {size} octets", "6.3", (post(1), frame(PRIORITY, 0, 1, bytes(size))),
             ("stream FRAME_SIZE_ERROR", *SIZE), why="5.4.2 lets a stream error be one of the connection")
        for size in (0, 4, 6)
    ),
    Case("WINDOW_UPDATE of a stream with 3 octets", "6.9",
         (post(1), frame(WINDOW_UPDATE, 0, 1, bytes(3))), SIZE),
    Case("SETTINGS ACK that is not empty", "6.5", (settings((3, 1), flags=ACK),), SIZE),
)  # fmt: skip


def _broken(name: str, octets: bytes) -> Case:
    return Case(f"HPACK: {name}", "4.3", (headers(1, octets),), COMPRESSION)


HPACK = (
    _broken("index 0", b"\x80"),
    _broken("index beyond the table", b"\xbe"),
    _broken("index far beyond", b"\xff\x80\x80\x80\x08"),
    _broken("integer that does not end", BLOCK + b"\xff" + b"\xff" * 20),
    _broken("literal that is cut", BLOCK + b"\x10\x05ab"),
    _broken("length that is cut", BLOCK + b"\x10"),
    _broken("literal with the index of no name", BLOCK + b"\x1f\xff\x7f\x01x"),
    _broken("Huffman: EOS", BLOCK + b"\x10\x01a\x84\xff\xff\xff\xff"),
    _broken("Huffman: padding of zeros", BLOCK + b"\x10\x01a\x81\x18"),
    _broken("Huffman: eight octets of padding", BLOCK + b"\x10\x01a\x82\x1f\xff"),
    _broken("table size above the setting", b"\x3f\xe2\x1f" + BLOCK),
    _broken("table size at the end", BLOCK + b"\x20"),
    Case("HPACK: table size 0", "4.3", (headers(1, b"\x20" + BLOCK),), OK),
    Case("HPACK: table size 0 and 4096", "4.3", (headers(1, b"\x20\x3f\xe1\x1f" + BLOCK),), OK),
    Case("HPACK: the table", "4.3", (headers(1, bytes(Encoder().encode(request()))),), OK),
    Case("HPACK: a refused stream counts for the table", "4.3",
         (headers(1, block(request(path=None)) + b"\x40\x01a\x01b"),
          headers(3, BLOCK + b"\xbe")), OK, 3),
)  # fmt: skip

STATES = (
    Case("DATA, idle", "5.1", (data(1, b"x", END_STREAM),), PROTOCOL),
    Case("RST_STREAM, idle", "5.1", (reset(1),), PROTOCOL),
    Case("WINDOW_UPDATE, idle", "5.1", (window(1, 1),), PROTOCOL),
    Case("CONTINUATION, idle", "5.1", (continuation(1, BLOCK),), PROTOCOL),
    Case("PRIORITY, idle", "5.1", (frame(PRIORITY, 0, 5, bytes(5)), ask(7)), OK, 7),
    Case("DATA, half-closed", "5.1", (ask(1, path="/slow?seconds=20"), data(1, b"x")), CLOSED),
    Case("HEADERS, half-closed", "5.1", (ask(1, path="/slow?seconds=20"), ask(1)), CLOSED),
    Case("CONTINUATION, half-closed", "5.1",
         (ask(1, path="/slow?seconds=20"), continuation(1, BLOCK)), (*PROTOCOL, *CLOSED)),
    Case("WINDOW_UPDATE, half-closed", "5.1", (ask(1, path="/slow?seconds=0.1"), window(1, 5)), OK),
    Case("PRIORITY, half-closed", "5.1",
         (ask(1, path="/slow?seconds=0.1"), frame(PRIORITY, 0, 1, bytes(5))), OK),
    Case("RST_STREAM, half-closed", "5.1", (ask(1, path="/slow?seconds=20"), reset(1)), IGNORED),
    Case("DATA behind the end", "5.1", (ask(1), Answered(1), data(1, b"x")), CLOSED),
    Case("HEADERS behind the end", "5.1", (ask(1), Answered(1), ask(1)),
         (*CLOSED, "connection PROTOCOL_ERROR"), why="5.1.1: a number that was used"),
    Case("DATA behind the end, which is empty", "5.1",
         (ask(1), Answered(1), data(1, b"", END_STREAM)), CLOSED),
    Case("WINDOW_UPDATE behind the end", "5.1", (ask(1), Answered(1), window(1, 9)), OK),
    Case("RST_STREAM behind the end", "5.1", (ask(1), Answered(1), reset(1)), OK),
    Case("PRIORITY behind the end", "5.1", (ask(1), Answered(1), frame(PRIORITY, 0, 1, bytes(5))),
         OK),
    Case("DATA behind RST_STREAM", "5.1", (post(1), reset(1), data(1, b"x")), CLOSED),
    Case("HEADERS behind RST_STREAM", "5.1", (post(1), reset(1), ask(1)),
         (*CLOSED, "connection PROTOCOL_ERROR"), why="5.1.1: a number that was used"),
    Case("RST_STREAM behind RST_STREAM", "5.1", (post(1), reset(1), reset(1)),
         (*CLOSED, "ignored"), why="5.4.2: no RST_STREAM is answered with one"),
    Case("WINDOW_UPDATE behind RST_STREAM", "5.1", (post(1), reset(1), window(1, 9)),
         (*CLOSED, "ignored"), why="it may have been on its way"),
    Case("even number", "5.1.1", (ask(2),), PROTOCOL, 2),
    Case("lower number", "5.1.1", (ask(5), Answered(5), ask(3)), (*PROTOCOL, *CLOSED[:1]), 3),
    Case("DATA on a number that was passed over", "5.1.1", (ask(5), Answered(5), data(3, b"x")),
         (*PROTOCOL, *CLOSED), 3),
    Case("numbers with gaps", "5.1.1", (ask(1), ask(9), ask(4001)), OK, 4001),
    Case("too many at once", "5.1.2", (*(post(n) for n in range(1, 203, 2)), reset(1)),
         ("stream REFUSED_STREAM", "stream PROTOCOL_ERROR"), 201),
    Case("a stream that depends on itself", "5.3.2",
         (headers(1, b"\0\0\0\1\x10" + BLOCK, PRIORITISED | END_STREAM | END_HEADERS),),
         (*OK, "stream PROTOCOL_ERROR", *PROTOCOL),
         why="RFC 7540 5.3.1 had a stream error, which 5.4 lets be the connection's"),
    Case("PRIORITY that depends on itself", "5.3.2", (frame(PRIORITY, 0, 1, b"\0\0\0\1\x10"),),
         (*IGNORED, *PROTOCOL), why="RFC 7540 5.3.1 had an error; RFC 9113 has none"),
)  # fmt: skip

PADDING = (
    Case("DATA padded", "6.1", (post(1), data(1, b"\x05abc" + bytes(5), PADDED | END_STREAM)), OK),
    Case("DATA padded, nothing else", "6.1", (post(1), data(1, b"\x05" + bytes(5), PADDED | END_STREAM)),
         OK),
    Case("DATA padded with nothing", "6.1", (post(1), data(1, b"\0abc", PADDED | END_STREAM)), OK),
    Case("DATA with more padding than frame", "6.1", (post(1), data(1, b"\x05abc", PADDED)), PROTOCOL),
    Case("DATA whose padding is all and the length", "6.1", (post(1), data(1, b"\x04abc", PADDED)),
         PROTOCOL),
    Case("DATA without the length of its padding", "6.1", (post(1), data(1, b"", PADDED)),
         (*SIZE, *PROTOCOL)),
    Case("HEADERS padded", "6.2", (headers(1, b"\x03" + BLOCK + bytes(3), 0xD),), OK),
    Case("HEADERS padded, with priority", "6.2",
         (headers(1, b"\x03\0\0\0\0\x0f" + BLOCK + bytes(3), 0x2D),), OK),
    Case("HEADERS with priority", "6.2", (headers(1, b"\x80\0\0\x03\xff" + BLOCK, 0x25),), OK),
    Case("HEADERS with more padding than frame", "6.2", (headers(1, b"\xff" + BLOCK, 0xD),), PROTOCOL),
    Case("HEADERS without the length of its padding", "6.2", (headers(1, b"", 0xD),),
         (*SIZE, *PROTOCOL)),
    Case("HEADERS with half a priority", "6.2", (headers(1, b"\0\0\0", 0x25),), (*SIZE, *PROTOCOL)),
)  # fmt: skip

PLACES = (
    Case("DATA on the connection", "6.1", (data(0, b"x"),), PROTOCOL),
    Case("HEADERS on the connection", "6.2", (headers(0, BLOCK),), PROTOCOL),
    Case("PRIORITY on the connection", "6.3", (frame(PRIORITY, 0, 0, bytes(5)),), PROTOCOL),
    Case("RST_STREAM on the connection", "6.4", (reset(0),), PROTOCOL),
    Case("CONTINUATION on the connection", "6.10", (continuation(0, BLOCK),), PROTOCOL),
    Case("SETTINGS on a stream", "6.5", (post(1), settings(stream=1)), PROTOCOL),
    Case("PING on a stream", "6.7", (post(1), ping(stream=1)), PROTOCOL),
    Case("GOAWAY on a stream", "6.8", (post(1), goaway(stream=1)), PROTOCOL),
    Case("PUSH_PROMISE", "6.6", (post(1), frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + BLOCK)), PROTOCOL),
    Case("PUSH_PROMISE on the connection", "6.6", (frame(PUSH_PROMISE, 4, 0, b"\0\0\0\2" + BLOCK),),
         PROTOCOL),
    Case("RST_STREAM with an unknown code", "7", (post(1), reset(1, 0xFFFFFFFF), ask(3)), OK, 3),
    Case("GOAWAY with an unknown code", "7", (ask(1, path="/slow?seconds=0.1"), goaway(0, 0xBEEF)),
         OK),
)  # fmt: skip

CONTINUATIONS = (
    Case("HEADERS and CONTINUATION", "6.10", (headers(1, HEAD, MORE), continuation(1, TAIL)), OK),
    Case("an octet each", "6.10", (
        headers(1, b"", MORE), *(continuation(1, BLOCK[n : n + 1], 0) for n in range(len(BLOCK))),
        continuation(1, b"")), OK),
    Case("empty ones", "6.10", (
        headers(1, b"", MORE), continuation(1, BLOCK, 0), continuation(1, b"", 0),
        continuation(1, b"")), OK),
    Case("END_STREAM of a CONTINUATION", "6.10",
         (headers(1, HEAD, MORE), continuation(1, TAIL, END_HEADERS | END_STREAM)), OK,
         why="it is not defined there, and ignored"),
    Case("behind END_HEADERS", "6.10", (post(1), continuation(1, TAIL)), PROTOCOL),
    Case("behind DATA", "6.10", (post(1), data(1, b"x"), continuation(1, TAIL)), PROTOCOL),
    Case("of another stream", "6.10", (headers(1, HEAD, MORE), continuation(3, TAIL)), PROTOCOL),
    *(
        Case(f"{name} in between", "6.10", (headers(1, HEAD, MORE), octets, continuation(1, TAIL)),
             PROTOCOL)
        for name, octets in (
            ("DATA", data(1, b"x")), ("HEADERS", headers(1, TAIL)), ("PING", ping()),
            ("SETTINGS", settings()), ("WINDOW_UPDATE", window(0, 1)), ("RST_STREAM", reset(1)),
            ("PRIORITY", frame(PRIORITY, 0, 1, bytes(5))), ("GOAWAY", goaway()),
            ("unknown type", frame(0x42)), ("HEADERS of another stream", ask(3)),
        )
    ),
    Case("trailers in two", "6.10", (
        post(1), data(1, b"x"), headers(1, b"\x10\x01a", MORE), continuation(1, b"\x01b")), OK),
)  # fmt: skip
FRAME_CASES = (
    *PREFACES, *FORMAT, *SIZES, *HPACK, *STATES, *PADDING, *PLACES, *CONTINUATIONS,
)  # fmt: skip
