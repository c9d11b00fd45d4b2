"""One list of scenarios, HTTP/1.1 and HTTP/2: whichever a client speaks, it is the same proxy."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar

from h2.errors import ErrorCodes

from .clients import HTTP1, HTTP2, Asked, Fields, Seen
from .processes import HOST, EndToEnd, Proxy, Stage, request, response, until, whole_lines

CONTENT = b"0123456789abcdef" * 4096 * 3 + b"end"  # more than a window, than a frame, than a chunk
TRAILERS = [("x-checksum", "abc"), ("server-timing", "db;dur=1")]
FRAMINGS = ("empty", "length", "chunked", "close")
# Of one version only: the framing of a response in HTTP/1.1, and the same said by frames.
NOT_COMPARED = {"transfer-encoding", "connection"}
RESET_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset


@dataclass
class Upstream:
    """The request as it arrived there."""

    line: str
    fields: Fields
    content: bytes = b""
    trailers: Fields = field(default_factory=list)

    @property
    def chunked(self) -> bool:
        return ("transfer-encoding", "chunked") in self.fields

    def without(self, *names: str) -> Fields:
        return [(name, value) for name, value in self.fields if name not in names]


class Script:
    """An upstream server: the first word of the target says how it answers. `seen`, by target."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Upstream]] = {}

    def __call__(self, sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError), sock.makefile("rb") as stream:
            while line := stream.readline():
                if not self._answer(sock, stream, line.decode().rstrip()):
                    return

    def _answer(self, sock: socket.socket, stream: BinaryIO, line: str) -> bool:
        """Read one request and answer it. False: nothing more on this connection."""
        seen = Upstream(line, list(_fields(stream)))
        method, target, _ = line.split(" ")
        self.seen.setdefault(target, []).append(seen)
        if ("expect", "100-continue") in seen.fields:
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = next((int(value) for name, value in seen.fields if name == "content-length"), 0)
        seen.content = stream.read(length)
        if seen.chunked:
            while size := int(stream.readline(), 16):
                seen.content += stream.read(size)
                stream.readline()
            seen.trailers = list(_fields(stream))
        how = target.strip("/").partition("?")[0]
        sock.sendall(_head(how) if method == "HEAD" else _whole(how))
        if how.startswith("cut"):
            if how == "cut-close":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
            return False
        return how != "close"


def _fields(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    while line := stream.readline().decode().rstrip():
        name, _, value = line.partition(": ")
        yield name.lower(), value


def _head(how: str) -> bytes:
    final = "HTTP/1.1 200 OK\r\nX-How: " + how + "\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
    hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    chunked = "Transfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n"
    return {
        "204": "HTTP/1.1 204 No Content\r\nX-How: 204\r\n\r\n",
        "304": 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 7\r\n\r\n',
        "103": f"{hint}{hint}{final}Content-Length: {len(CONTENT)}\r\n\r\n",
        "empty": f"{final}Content-Length: 0\r\n\r\n",
        "length": f"{final}Content-Length: {len(CONTENT)}\r\n\r\n",
        "chunked": f"{final}{chunked}\r\n",
        "close": f"{final}Connection: close\r\n\r\n",
        "cut-length": f"{final}Content-Length: {len(CONTENT) + 1}\r\n\r\n",
        "cut-chunked": f"{final}{chunked}\r\n",
        "cut-close": f"{final}Connection: close\r\n\r\n",
        "cut-head": "HTTP/1.1 200 OK\r\nX-How",
    }[how].encode()


def _whole(how: str) -> bytes:
    head = _head(how)
    if how in {"204", "304", "empty", "cut-head"}:
        return head
    if how not in {"chunked", "cut-chunked"}:
        return head + CONTENT
    half = len(CONTENT) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part)
                      for part in (CONTENT[:half], CONTENT[half:]))  # fmt: skip
    trailers = "".join(f"{name}: {value}\r\n" for name, value in TRAILERS).encode()
    return head + chunks + (b"0\r\n" + trailers + b"\r\n" if how == "chunked" else b"")


REQUESTS = {
    "GET": Asked("GET"),
    "HEAD": Asked("HEAD"),
    "POST of nothing": Asked("POST"),
    "POST with length 0": Asked("POST", content=b""),
    "POST with length": Asked("POST", content=CONTENT),
    "POST with a small length": Asked("POST", content=b"a=b"),
    "POST of unknown length": Asked(
        "POST", pieces=[CONTENT, b"middle", CONTENT], trailers=[("x-sum", "12")]
    ),
    "POST of unknown length, small": Asked("POST", pieces=[b"a", b"=b"]),
    "POST that expects 100": Asked("POST", fields=[("expect", "100-continue")], content=CONTENT),
    "POST of unknown length that expects 100": Asked(
        "POST", fields=[("expect", "100-continue")], pieces=[CONTENT, CONTENT]
    ),
}
COMMON = (
    ("accept", "*/*"),
    ("cookie", "a=b; c=d"),
    ("x-authentik-csrf", "e"),
    ("x-forwarded-for", "192.0.2.66"),
    ("te", "trailers"),
    ("user-agent", "test/1"),
)


class Versions(EndToEnd):
    """Each scenario is played by both clients, and what both ends see is compared."""

    script: ClassVar[Script]
    proxy: ClassVar[Proxy]
    clients: list[HTTP1 | HTTP2]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.script = Script()
        log = {"access": str(stage.directory / "access.log"), "format": "json"}
        origin = stage.scripted(cls.script)
        cls.proxy = stage.proxy(stage.configuration(origin.url, log=log))

    def setUp(self) -> None:
        super().setUp()
        self.script.seen.clear()
        self.log = self.stage.directory / "access.log"
        self.connect()

    def connect(self) -> None:
        """New connections."""
        self.clients = [
            HTTP1(self.stage.connect(self.proxy)),
            HTTP2(self.stage.connect(self.proxy, protocols=["h2"])),
        ]
        for client in self.clients:
            self.addCleanup(client.close)

    def both(self, asked: Asked, how: str, name: str = "") -> Iterator[tuple[Seen, Upstream]]:
        """What client and upstream saw, in HTTP/1.1 and then in HTTP/2."""
        for client in self.clients:
            target = f"/{how}?{name.replace(' ', '-')}&{client.version}"
            seen = client.ask(
                Asked(
                    asked.method,
                    target,
                    (*COMMON, *asked.fields),
                    asked.content,
                    asked.pieces,
                    asked.trailers,
                    asked.host,
                )
            )
            [arrived] = self.script.seen[target]
            yield seen, arrived

    def test_matrix(self) -> None:
        for name, asked in REQUESTS.items():
            for how in FRAMINGS:
                scenario = f"{name}, {how}"
                (seen1, up1), (seen2, up2) = self.both(asked, how, f"matrix {name}")
                for seen in (seen1, seen2):
                    self._answered(scenario, asked, how, seen)
                self.assertEqual(_compared(seen1), _compared(seen2), scenario)
                self.assertEqual(seen1.trailers, seen2.trailers, scenario)
                for arrived in (up1, up2):
                    self.assertEqual(arrived.content, b"".join(asked.sent), scenario)
                self._same_upstream(scenario, up1, up2)
        self._logged(4 * len(REQUESTS))

    def _answered(self, scenario: str, asked: Asked, how: str, seen: Seen) -> None:
        nothing = asked.method == "HEAD" or how == "empty"
        self.assertEqual((seen.status, seen.ended, seen.cut), (200, True, False), scenario)
        self.assertTrue(seen.content == (b"" if nothing else CONTENT), scenario)
        self.assertEqual(seen.value("x-how"), how)
        trailers = TRAILERS if how == "chunked" and not nothing else []
        self.assertEqual(seen.trailers, trailers, scenario)
        informational = [(100, [])] if asked.expects else []
        self.assertEqual(seen.informational, informational, scenario)

    def _same_upstream(self, scenario: str, up1: Upstream, up2: Upstream) -> None:
        self.assertEqual(up1.line.replace("&HTTP/1.1", "&HTTP/2.0"), up2.line)
        self.assertEqual(up1.without("via"), up2.without("via"), scenario)
        self.assertEqual(up1.trailers, up2.trailers, scenario)
        self.assertIn(("via", "1.1 authproxy"), up1.fields)
        self.assertIn(("via", "2.0 authproxy"), up2.fields)
        self.assertNotIn(("x-forwarded-for", "192.0.2.66"), up2.fields)

    def _logged(self, count: int) -> None:
        """So many requests of each version, said with their status, octets and upstream."""

        def entries() -> list[dict[str, Any]] | None:
            lines = [line for line in whole_lines(self.log.read_text()) if "?matrix" in line]
            return [json.loads(line) for line in lines] if len(lines) == 2 * count else None

        by_version: dict[str, list[tuple[Any, ...]]] = {}
        for entry in until(entries, "all access lines"):
            target, _, version = entry["target"].rpartition("&")
            self.assertEqual(f"HTTP/{entry['version']:.1f}", version)
            said = (entry["method"], target, entry["status"], entry["sent"], entry["upstream"])
            by_version.setdefault(version, []).append(said)
        self.assertEqual(len(by_version["HTTP/1.1"]), count)
        self.assertEqual(by_version["HTTP/1.1"], by_version["HTTP/2.0"])

    def test_without_content(self) -> None:
        for how, status in (("204", 204), ("304", 304)):
            for name in ("GET", "HEAD"):
                (seen1, _), (seen2, _) = self.both(REQUESTS[name], how, name)
                for seen in (seen1, seen2):
                    self.assertEqual((seen.status, seen.ended), (status, True), (how, name))
                    self.assertEqual(seen.content, b"")
                self.assertEqual(_compared(seen1), _compared(seen2))

    def test_early_hints(self) -> None:
        for name in ("GET", "HEAD", "POST with length"):
            for seen, _ in self.both(REQUESTS[name], "103", name):
                hint = (103, [("link", "</a.css>; rel=preload")])
                self.assertEqual(seen.informational, [hint, hint])
                self.assertEqual((seen.status, seen.ended), (200, True))
                self.assertEqual(seen.content, b"" if name == "HEAD" else CONTENT)

    def test_cut(self) -> None:
        """Upstream breaks off in the middle: no client may take that for an end."""
        for how in ("cut-length", "cut-chunked", "cut-close"):
            self.connect()
            for client, (seen, _) in zip(self.clients, self.both(Asked(), how), strict=True):
                self.assertEqual((seen.status, seen.ended, seen.cut), (200, False, True), how)
                self.assertTrue(CONTENT.startswith(seen.content))
                if isinstance(client, HTTP2):
                    self.assertEqual(seen.reset, ErrorCodes.INTERNAL_ERROR)
                    # That stream, and no other.
                    self.assertEqual(client.ask(Asked(target="/length")).status, 200)

    def test_cut_before_the_head_is_complete(self) -> None:
        (seen1, _), (seen2, _) = self.both(Asked(), "cut-head")
        for seen in (seen1, seen2):
            self.assertEqual((seen.status, seen.ended), (502, True))
        self.assertEqual({name for name, _ in _compared(seen1)[1]},
                         {name for name, _ in _compared(seen2)[1]})  # fmt: skip

    def test_refusals_of_ours(self) -> None:
        """Pages that are made here have the same statuses and fields."""
        for asked in (
            Asked(host="unknown.example"),
            Asked("TRACE"),
            Asked("OPTIONS", "*"),
            Asked("PUT", fields=[("expect", "something")], content=b"x"),
            Asked(fields=[("x-long", "x" * 40000)]),
        ):
            seen1, seen2 = (client.ask(asked) for client in self.clients)
            self.assertEqual(seen1.status, seen2.status)
            self.assertIn(seen1.status, {204, 405, 417, 421, 431}, asked)
            self.assertEqual([name for name, _ in _compared(seen1)[1]],
                             [name for name, _ in _compared(seen2)[1]])  # fmt: skip
            self.connect()

    def test_the_harness_agrees(self) -> None:
        """A third client, for what the two could have in common: the harness's own."""
        with self.stage.connect(self.proxy) as sock:
            sock.sendall(request("/length?own"))
            answer = response(sock)
        self.assertEqual((answer.status, answer.content), (200, CONTENT))
        self.assertIn(("host", HOST), self.script.seen["/length?own"][0].fields)


def _compared(seen: Seen) -> tuple[int, Fields]:
    return seen.status, [field for field in seen.fields if field[0] not in NOT_COMPARED]
