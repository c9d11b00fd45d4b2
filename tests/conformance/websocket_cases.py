"""RFC 6455 and 7692: frames of a client, and what an echoing server has to say to them."""

from __future__ import annotations

from .websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE,
    FIN,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    Case,
    Deflater,
    binary,
    close,
    fragments,
    frame,
    text,
)

WRONG, NO_TEXT, TOO_BIG = 1002, 1007, 1009
SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 70000)


def _pattern(size: int) -> bytes:
    return bytes(range(32, 127)) * (size // 95) + bytes(range(32, 32 + size % 95))


LENGTHS = (
    *(Case(f"text of {n}", (text(_pattern(n)),), ((TEXT, _pattern(n)),)) for n in SIZES),
    *(Case(f"binary of {n}", (binary(bytes(n)),), ((BINARY, bytes(n)),)) for n in SIZES),
    *(
        Case(f"{n} octets in {size} fragments", fragments(BINARY, *[bytes(n // size)] * size),
             ((BINARY, bytes(n)),))
        for n, size in ((4, 4), (256, 2), (65536, 4), (65536, 64), (131072, 2))
    ),
    Case("length of 5 in 16 bits", (text(b"hello", form=126),), (), WRONG),
    Case("length of 5 in 64 bits", (text(b"hello", form=127),), (), WRONG),
    Case("length of 126 in 64 bits", (binary(bytes(126), form=127),), (), WRONG),
    Case("length of 65535 in 64 bits", (binary(bytes(65535), form=127),), (), WRONG),
    Case("length with its highest bit", (b"\x82\xff" + b"\xff" * 8,), (), WRONG),
    Case("four messages at once", (b"".join(text(b"%d" % n) for n in range(4)),),
         tuple((TEXT, b"%d" % n) for n in range(4))),
    Case("a hundred messages at once", (text(b"x") * 100,), ((TEXT, b"x"),) * 100),
    Case("a hundred empty ones", (binary(b"") * 100,), ((BINARY, b""),) * 100),
)  # fmt: skip

MASKS = (
    *(
        Case(f"mask {mask.hex()}", (frame(TEXT, b"masked text", FIN, mask),), ((TEXT, b"masked text"),))
        for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\2\3\4", b"\x80\0\0\1")
    ),
    Case("text without a mask", (frame(TEXT, b"x", FIN, None),), (), WRONG),
    Case("binary without a mask", (frame(BINARY, b"", FIN, None),), (), WRONG),
    Case("ping without a mask", (frame(PING, b"", FIN, None),), (), WRONG),
    Case("a mask that looks like HTTP", (frame(BINARY, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", FIN, b"GET "),),
         ((BINARY, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),)),
)  # fmt: skip

RESERVED = (
    *(
        Case(f"reserved bits {bits:#x} of {opcode}", (text(b"before"), frame(opcode, b"x", FIN | bits)),
             ((TEXT, b"before"),), WRONG)
        for bits in (RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3)
        for opcode in (TEXT, PING)
    ),
    *(
        Case(f"opcode {opcode}", (text(b"before"), frame(opcode, b"x")), ((TEXT, b"before"),), WRONG)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    Case("opcode 3 as a fragment", (frame(3, b"x", 0),), (), WRONG),
)  # fmt: skip

FRAGMENTS = (
    Case("text in two", fragments(TEXT, b"ab", b"cd"), ((TEXT, b"abcd"),)),
    Case("text in three, the middle empty", fragments(TEXT, b"ab", b"", b"cd"), ((TEXT, b"abcd"),)),
    Case("three empty ones", fragments(TEXT, b"", b"", b""), ((TEXT, b""),)),
    Case("an octet each", fragments(TEXT, *[b"x"] * 50), ((TEXT, b"x" * 50),)),
    Case("two messages in pieces", fragments(TEXT, b"a", b"b") + fragments(BINARY, b"c", b"d"),
         ((TEXT, b"ab"), (BINARY, b"cd"))),
    Case("a continuation of nothing", (frame(CONTINUATION, b"x"),), (), WRONG),
    Case("a continuation of nothing, not the last", (frame(CONTINUATION, b"x", 0),), (), WRONG),
    Case("a continuation of what is over", (*fragments(TEXT, b"a", b"b"), frame(CONTINUATION, b"x")),
         ((TEXT, b"ab"),), WRONG),
    Case("text amid text", (frame(TEXT, b"a", 0), text(b"b")), (), WRONG),
    Case("binary amid text", (frame(TEXT, b"a", 0), binary(b"b", flags=0)), (), WRONG),
    Case("a message that is not over", (frame(TEXT, b"a", 0),)),
    Case("ping amid a message", (frame(TEXT, b"a", 0), frame(PING, b"p"), frame(CONTINUATION, b"b")),
         ((PONG, b"p"), (TEXT, b"ab"))),
    Case("ping amid each piece", (
        frame(BINARY, b"a", 0), frame(PING, b"1"), frame(CONTINUATION, b"b", 0), frame(PING, b"2"),
        frame(PING, b"3"), frame(CONTINUATION, b"c")),
        ((PONG, b"1"), (PONG, b"2"), (PONG, b"3"), (BINARY, b"abc"))),
    Case("pong amid a message", (frame(TEXT, b"a", 0), frame(PONG, b"p"), frame(CONTINUATION, b"b")),
         ((TEXT, b"ab"),)),
    Case("close amid a message", (frame(TEXT, b"a", 0), close(1001)), (), 1001),
)  # fmt: skip

CONTROL = (
    *(Case(f"ping of {n}", (frame(PING, bytes(n)),), ((PONG, bytes(n)),)) for n in (0, 1, 4, 124, 125)),
    Case("ping of 126", (frame(PING, bytes(126)),), (), WRONG),
    Case("pong of 126", (frame(PONG, bytes(126)),), (), WRONG),
    Case("close of 126", (frame(CLOSE, b"\x03\xe8" + b"x" * 124),), (), WRONG),
    Case("ping of 65536", (frame(PING, bytes(65536)),), (), WRONG),
    *(Case(f"{opcode} in pieces", (frame(opcode, b"", 0),), (), WRONG) for opcode in (CLOSE, PING, PONG)),
    Case("pong that nothing asked for", (frame(PONG, b"x"), text(b"y")), ((TEXT, b"y"),)),
    Case("ten pings", (frame(PING, b"p") * 10,), ((PONG, b"p"),) * 10),
    Case("ping with all octets", (frame(PING, bytes(range(131, 256))),), ((PONG, bytes(range(131, 256))),)),
)  # fmt: skip

_GOOD = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
_BAD = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
# Registered after RFC 6455 (IANA): servers differ, the proxy has no say.
_NEWER = {1012: 1012, 1013: 1013, 1014: WRONG}
CLOSES = (
    *(Case(f"close with {code}", (close(code),), (), code) for code in _GOOD),
    *(Case(f"close with {code}", (close(code),), (), WRONG) for code in _BAD),
    *(Case(f"close with {code}", (close(code),), (), echoed) for code, echoed in _NEWER.items()),
    Case("close without a code", (close(),), (), 0),
    Case("close of one octet", (frame(CLOSE, b"\x03"),), (), WRONG),
    Case("close with a reason", (close(1000, b"goodbye"),)),
    Case("close with the longest reason", (close(1000, b"x" * 123),)),
    Case("close with a reason in UTF-8", (close(3000, "grüße".encode()),), (), 3000),
    Case("close with a reason that is no UTF-8", (close(1000, b"\xff\xfe"),), (), NO_TEXT),
    Case("text behind a close", (close(1000) + text(b"late"),)),
    Case("ping behind a close", (close(1000) + frame(PING, b"late"),)),
    Case("two closes", (close(1000) + close(1001),)),
    Case("close behind a message", (text(b"x") + close(1001),), ((TEXT, b"x"),), 1001),
)  # fmt: skip

_GOOD_TEXT = {
    "two octets": "ü".encode(), "three": "€".encode(), "four": "𐍈".encode(),
    "a mixture": "Hello-µ@ßöäüàá-UTF-8!!".encode(), "kosme": "κόσμε".encode(),
    "the least of two": b"\xc2\x80", "the last of three": b"\xef\xbf\xbf",
    "the last there is": b"\xf4\x8f\xbf\xbf", "before the surrogates": b"\xed\x9f\xbf",
    "behind the surrogates": b"\xee\x80\x80", "NUL": b"\0", "a noncharacter": b"\xef\xbf\xbe",
    "a mark of order": b"\xef\xbb\xbfx",
}  # fmt: skip
_BAD_TEXT = {
    "a continuation alone": b"\x80", "the last continuation": b"\xbf", "0xfe": b"\xfe", "0xff": b"\xff",
    "a beginning alone": b"\xc3", "three without the last": b"\xe2\x82", "four cut": b"\xf0\x9d\x84",
    "overlong /": b"\xc0\xaf", "overlong NUL": b"\xc0\x80", "overlong of three": b"\xe0\x80\xaf",
    "overlong of four": b"\xf0\x80\x80\xaf", "a surrogate": b"\xed\xa0\x80",
    "the last surrogate": b"\xed\xbf\xbf", "beyond the last": b"\xf4\x90\x80\x80",
    "five octets": b"\xf8\x88\x80\x80\x80", "six octets": b"\xfc\x84\x80\x80\x80\x80",
    "in the middle": "κόσμε".encode() + b"\xed\xa0\x80" + b"edited",
}  # fmt: skip
UTF8 = (
    *(Case(f"text: {name}", (text(octets),), ((TEXT, octets),)) for name, octets in _GOOD_TEXT.items()),
    *(
        Case(f"an octet a frame: {name}",
             fragments(TEXT, *(octets[n : n + 1] for n in range(len(octets)))), ((TEXT, octets),))
        for name, octets in _GOOD_TEXT.items() if len(octets) > 1
    ),
    *(Case(f"no text: {name}", (text(octets),), (), NO_TEXT) for name, octets in _BAD_TEXT.items()),
    *(
        Case(f"no text in two frames: {name}", fragments(TEXT, b"ok" + octets[:1], octets[1:]), (),
             NO_TEXT)
        for name, octets in _BAD_TEXT.items()
    ),
    Case("binary is not looked at", (binary(b"\xff\xc0\x80"),), ((BINARY, b"\xff\xc0\x80"),)),
    Case("no text is found before the message is over", (frame(TEXT, b"\xff", 0),), (), NO_TEXT),
)  # fmt: skip

LIMITS = (
    Case("at the limit", (binary(bytes(1000)),), ((BINARY, bytes(1000)),), path="/limited"),
    Case("beyond the limit", (binary(bytes(1001)),), (), TOO_BIG, "/limited"),
    Case("far beyond the limit", (binary(bytes(65536)),), (), TOO_BIG, "/limited"),
    Case("pieces at the limit", fragments(BINARY, bytes(500), bytes(500)), ((BINARY, bytes(1000)),),
         path="/limited"),
    Case("pieces beyond the limit", fragments(BINARY, bytes(500), bytes(501)), (), TOO_BIG, "/limited"),
)  # fmt: skip

_HELLO = Deflater()(b"hello")
_NO_CONTEXT = DEFLATE + "; client_no_context_takeover; server_no_context_takeover"


def _deflated(payload: bytes, opcode: int = TEXT, deflate: Deflater | None = None) -> bytes:
    return frame(opcode, (deflate or Deflater())(payload), FIN | RSV1)


def _with_context(*payloads: bytes) -> tuple[bytes, ...]:
    deflate = Deflater()
    return tuple(_deflated(payload, TEXT, deflate) for payload in payloads)


_LONG = b"the same again and again, " * 40
COMPRESSION = (
    *(
        Case(f"deflated, {n} octets", (_deflated(_pattern(n)),), ((TEXT, _pattern(n)),),
             extensions=DEFLATE)
        for n in (0, 1, 125, 126, 65535, 65536)
    ),
    Case("context takeover", _with_context(_LONG, _LONG, _LONG), ((TEXT, _LONG),) * 3, extensions=DEFLATE),
    Case("no context takeover", tuple(_deflated(_LONG) for _ in range(3)), ((TEXT, _LONG),) * 3,
         extensions=_NO_CONTEXT),
    # RFC 7692 7.1.1.2: the offer is a hint, which this server does not follow.
    Case("context that the client offered not to keep", _with_context(_LONG, _LONG),
         ((TEXT, _LONG),) * 2, extensions=_NO_CONTEXT),
    *(
        Case(f"server_max_window_bits={bits}", _with_context(_LONG, _LONG), ((TEXT, _LONG),) * 2,
             extensions=f"{DEFLATE}; server_max_window_bits={bits}")
        for bits in (9, 12, 15)
    ),
    Case("client_max_window_bits", (_deflated(_LONG),), ((TEXT, _LONG),),
         extensions=DEFLATE + "; client_max_window_bits"),
    Case("not deflated, though it may be", (text(b"plain"),), ((TEXT, b"plain"),), extensions=DEFLATE),
    Case("one so and one so", (_deflated(b"a"), text(b"b")), ((TEXT, b"a"), (TEXT, b"b")),
         extensions=DEFLATE),
    Case("deflated in pieces", fragments(TEXT, _HELLO[:2], _HELLO[2:], first=RSV1), ((TEXT, b"hello"),),
         extensions=DEFLATE),
    Case("deflated, an octet each",
         fragments(TEXT, *(_HELLO[n : n + 1] for n in range(len(_HELLO))), first=RSV1),
         ((TEXT, b"hello"),), extensions=DEFLATE),
    Case("deflated, ping between",
         (frame(TEXT, _HELLO[:2], RSV1), frame(PING, b"p"), frame(CONTINUATION, _HELLO[2:])),
         ((PONG, b"p"), (TEXT, b"hello")), extensions=DEFLATE),
    Case("RSV1 of a continuation", (frame(TEXT, _HELLO[:2], RSV1), frame(0, _HELLO[2:], FIN | RSV1)),
         (), WRONG, extensions=DEFLATE),
    Case("RSV1 of a ping", (frame(PING, b"p", FIN | RSV1),), (), WRONG, extensions=DEFLATE),
    Case("RSV2 with deflate", (frame(TEXT, _HELLO, FIN | RSV2),), (), WRONG, extensions=DEFLATE),
    Case("RSV1 without an extension", (frame(TEXT, _HELLO, FIN | RSV1),), (), WRONG),
    # RFC 7692 7: the connection fails; versions of this server do it with a Close or without.
    Case("octets that do not inflate", (frame(BINARY, b"\xff" * 20, FIN | RSV1),), (), (-1, NO_TEXT),
         extensions=DEFLATE),
    Case("inflates to no text", (_deflated(b"\xff\xfe"),), (), NO_TEXT, extensions=DEFLATE),
    Case("a stored block", (frame(TEXT, b"\x00\x05\x00\xfa\xffhello\x00", FIN | RSV1),),
         ((TEXT, b"hello"),), extensions=DEFLATE),
    Case("no octet of deflate", (frame(TEXT, b"\0", FIN | RSV1),), ((TEXT, b""),), extensions=DEFLATE),
    Case("an unknown extension", (text(b"x"),), ((TEXT, b"x"),), extensions="x-unknown; a=b"),
)  # fmt: skip
CASES = (
    *LENGTHS, *MASKS, *RESERVED, *FRAGMENTS, *CONTROL, *CLOSES, *UTF8, *LIMITS, *COMPRESSION,
)  # fmt: skip
