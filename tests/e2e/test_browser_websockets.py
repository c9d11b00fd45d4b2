"""What else WebSockets inside HTTP/2 (RFC 8441) have to do in real browsers: negotiation, many of
them, silence, both ends' closes, refusals, a drain of the proxy. And forms, and no upstream.
"""

from __future__ import annotations

import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from .browsers import Browser, Chromium, Firefox
from .processes import (
    HOST,
    LOOPBACK,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    free_port,
    read_all,
    read_exactly,
    read_head,
    until,
)
from .test_websockets import switching

MANY = 20
SILENCE = 2500  # milliseconds; more than twice timeouts.keepalive of that test
BLANK = "/slow?seconds=0"  # of the stand-in: a text, without a WebSocket of its own
INSIDE = {"http2_websockets": True}
# Firefox does not end its side of a stream after a close: the access line waits for this.
SOON = {"linger": 0.2}

# A WebSocket whose messages (not the stand-in's ticks) and whose end can be awaited.
SCRIPT = """
window.answer = null;
async function connect(path, protocols = []) {
  const socket = new WebSocket("wss://" + location.host + path, protocols);
  const waiting = [], came = [];
  socket.onmessage = ({data}) => {
    if (data.startsWith('{"time"')) return;
    waiting.length ? waiting.shift()(data) : came.push(data);
  };
  socket.next = () => came.length ? came.shift() : new Promise(take => waiting.push(take));
  let opened = false;
  socket.closed = new Promise(resolve => socket.onclose = event => resolve(
    {opened, clean: event.wasClean, code: event.code, reason: event.reason}));
  await Promise.race([socket.closed, new Promise(resolve => socket.onopen = () => {
    opened = true;
    resolve();
  })]);
  return socket;
}
const pause = time => new Promise(resolve => setTimeout(resolve, time));
(async () => {
%s
})().then(value => window.answer = {value}, error => window.answer = {error: String(error)});
"""


class _Browsing(EndToEnd):
    """One browser, and a proxy with WebSockets inside HTTP/2."""

    kind: ClassVar[type[Chromium | Firefox]]
    browser: ClassVar[Browser]
    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        home = Path(stage.directory, "home")
        home.mkdir()
        cls.browser = cls.kind(home)
        stage.keep(cls.browser)
        cls.origin = stage.origin(HOST)
        cls.proxy = stage.proxy(stage.configuration(cls.origin.port, listen=INSIDE, timeouts=SOON))

    def _answer(self, script: str) -> Any:
        """What the body of an async function returns, in the page that is open."""
        self.browser.run(SCRIPT % script)
        answer = self.browser.until("return window.answer")
        self.assertNotIn("error", answer)
        return answer["value"]

    def _talk(self, proxy: Proxy, script: str, lines: dict[int, int]) -> Any:
        """The same in a page of that proxy, where it has WebSockets in HTTP/2: so many access lines
        of each status, and none of HTTP/1.1."""
        before = len(proxy.stdout)
        self.browser.open(proxy.url + BLANK)
        answer = self._answer(script)

        def look() -> bool:
            said = re.findall(r'"GET /ws/\S+ HTTP/2\.0" (\d+) ', proxy.stdout[before:])
            return {status: said.count(str(status)) for status in lines} == lines

        until(look, f"access lines of WebSockets {lines}: {proxy.stdout[before:]}")
        self.assertNotIn("HTTP/1.1", proxy.stdout[before:])
        return answer

    def test_negotiation(self) -> None:
        """Subprotocol and permessage-deflate are agreed by the two ends, as they asked."""
        protocol, extensions, handshake = self._talk(
            self.proxy,
            """
            const socket = await connect("/ws/client/", ["guacamole", "other"]);
            const handshake = await socket.next();
            socket.close();
            await socket.closed;
            return [socket.protocol, socket.extensions, handshake];""",
            {101: 1},
        )
        self.assertEqual(protocol, "guacamole")
        self.assertIn("permessage-deflate", extensions)
        for text in ("permessage-deflate", "guacamole, other", self.proxy.url):
            self.assertIn(text, handshake)

    def test_many(self) -> None:
        """All of them inside HTTP/2. Chromium takes its time to open so many, over HTTP/1.1 too."""
        echoes, ends = self._talk(
            self.proxy,
            f"""
            const sockets = await Promise.all(
              Array.from({{length: {MANY}}}, () => connect("/ws/client/")));
            const echoes = await Promise.all(sockets.map(async (socket, number) => {{
              await socket.next();
              socket.send(number + "x".repeat(65536));
              return (await socket.next()).length;
            }}));
            for (const socket of sockets) socket.close(4000, "enough");
            return [echoes, await Promise.all(sockets.map(socket => socket.closed))];""",
            {101: MANY},
        )
        self.assertEqual(echoes, [65536 + len(str(number)) for number in range(MANY)])
        self.assertEqual({(end["clean"], end["code"]) for end in ends}, {(True, 1000)})
        self.assertLessEqual(_connections(self.proxy.https), 2)  # Chromium may have a spare one

    def _scripted(self, **timeouts: float) -> Proxy:
        """A proxy in front of `_upstream`."""
        stage = self.own_stage()
        origin = stage.scripted(_upstream)
        return stage.proxy(stage.configuration(origin.url, listen=INSIDE, timeouts=SOON | timeouts))

    def test_close_of_the_server(self) -> None:
        end = self._talk(self._scripted(), 'return (await connect("/ws/close")).closed;', {101: 1})
        self.assertEqual(
            end, {"opened": True, "clean": True, "code": 4001, "reason": "as you wish"}
        )

    def test_refused(self) -> None:
        """Failed handshakes, and the connection goes on."""
        ends, text = self._talk(
            self._scripted(),
            """
            const ends = [];
            for (const path of ["/ws/403", "/ws/404"])
              ends.push(await (await connect(path)).closed);
            return [ends, await (await fetch("/after")).text()];""",
            {101: 0, 403: 1, 404: 1},
        )
        refused = {"opened": False, "clean": False, "code": 1006, "reason": ""}
        self.assertEqual((ends, text), ([refused, refused], "fine"))

    def test_silent_beside_requests(self) -> None:
        """Nothing of a WebSocket for longer than a connection may be without requests."""
        texts = self._talk(
            self._scripted(keepalive=1),
            f"""
            const socket = await connect("/ws/echo"), texts = [];
            texts.push(await (await fetch("/a")).text());
            await pause({SILENCE});
            texts.push(await (await fetch("/b")).text());
            socket.send("still here");
            texts.push(await socket.next());
            socket.close(4000, "enough");
            texts.push((await socket.closed).code);
            return texts;""",
            {101: 1},
        )
        self.assertEqual(texts, ["fine", "fine", "still here", 4000])

    def test_drain(self) -> None:
        """A page sees the end of the proxy, and gets its WebSocket from the next one."""
        stage = self.own_stage()
        listen = INSIDE | {"https": [f"{LOOPBACK}:{free_port()}"]}
        document = self.stage.configuration(self.origin.port, listen=listen)
        first = stage.proxy(document)
        self.browser.open(first.url + BLANK)
        self._answer("""
            window.ends = [];
            (async () => {
              while (true) {
                const socket = await connect("/ws/client/");
                window.current = socket;
                window.ends.push(await socket.closed);
                await pause(200);
              }
            })();
            while (!window.current) await pause(20);
            return await window.current.next();""")
        first.signal(signal.SIGTERM)
        first.wait()
        self.assertRegex(first.stdout, r'"GET /ws/client/ HTTP/2\.0" 101 ')
        end = self.browser.until("return window.ends[0]")
        self.assertEqual((end["opened"], end["code"]), (True, 1006))  # the proxy reads no frames
        second = stage.proxy(document)
        self.browser.until("return window.current.readyState === 1")
        self.browser.open(self.proxy.url + BLANK)
        until(lambda: '"GET /ws/client/ HTTP/' in second.stdout, "the WebSocket of the next one")

    def test_form_that_navigates(self) -> None:
        self.browser.open(f"{self.proxy.url}{BLANK}")
        self.browser.run("""
            const form = document.createElement("form");
            form.method = "post";
            form.action = "/if/flow/login/?next=%2F";
            form.innerHTML = "<input name=uid value=akadmin><input name=password value=x>";
            document.body.append(form);
            form.submit();""")
        # Left before its WebSocket is open, the page would have no 101 to wait for.
        text = self.browser.until(
            'return document.body.innerText.includes("POST /if/flow/login/")'
            ' && document.getElementById("state").dataset.state === "open"'
            " && document.body.innerText"
        )
        self.assertRegex(text, r"(?i)content-length\s+22")
        before = self.proxy.stdout.count('" 101 ')
        self.browser.open(self.proxy.url + BLANK)  # ends that page's WebSocket
        until(lambda: self.proxy.stdout.count('" 101 ') > before, "its access line")

    def test_upstream_is_down(self) -> None:
        with socket.socket() as taken:
            taken.bind((LOOPBACK, 0))  # and does not listen
            stage = self.own_stage()
            upstream = f"http://{LOOPBACK}:{taken.getsockname()[1]}"
            self.browser.open(f"{stage.proxy(stage.configuration(upstream)).url}/if/user/")
            seen = self.browser.run("""
                const [entry] = performance.getEntriesByType("navigation");
                return [entry.nextHopProtocol, document.title, document.body.innerText];""")
            self.browser.open(self.proxy.url + BLANK)  # that page would ask again
        self.assertEqual(seen[:2], ["h2", "503 Service Unavailable"])
        self.assertIn("cannot be reached", seen[2])


class ChromiumTests(_Browsing):
    kind = Chromium


class FirefoxTests(_Browsing):
    kind = Firefox


del _Browsing


def _connections(port: int) -> int:
    """How many are established to a port of this machine. Linux."""
    ours = f"{int.from_bytes(socket.inet_aton(LOOPBACK), 'little'):08X}:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    return sum(row[1] == ours and row[3] == "01" for row in rows)


def _heads(sock: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield read_head(sock)
        except (AssertionError, OSError):  # the proxy needs this connection no more
            return


def _upstream(sock: socket.socket) -> None:
    """By path: a refusal, a WebSocket that the server closes, or one that echoes; else a page."""
    for head in _heads(sock):
        path = head.split(b" ")[1]
        if path == b"/ws/echo":
            sock.sendall(switching(head))
            opcode = b""
            while opcode != b"\x88":
                opcode, length = struct.unpack("cB", read_exactly(sock, 2))
                mask = read_exactly(sock, 4)
                octets = read_exactly(sock, length & 127)
                plain = bytes(octet ^ mask[n % 4] for n, octet in enumerate(octets))
                sock.sendall(opcode + bytes([len(plain)]) + plain)
            return
        if path == b"/ws/close":
            words = struct.pack("!H", 4001) + b"as you wish"
            sock.sendall(switching(head) + b"\x88" + bytes([len(words)]) + words)
            read_all(sock)
            return
        status = {b"/ws/403": b"403 Forbidden", b"/ws/404": b"404 Not Found"}.get(path, b"200 OK")
        content = b"fine" if status == b"200 OK" else b""
        sock.sendall(
            b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(content), content)
        )
