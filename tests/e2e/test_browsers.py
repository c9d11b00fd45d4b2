"""Real browsers through the proxy: a hundred files at once, and a WebSocket beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from .browsers import Browser, Chromium, Firefox
from .processes import HOST, EndToEnd, Proxy, Stage, until

RESULT = "return document.documentElement.dataset.result"
OVER = "const r = JSON.parse(document.documentElement.dataset.result || '{}');"
# A conversation of the page's: binary and text, small and large, and a close of its own.
CONVERSATION = """
if (window.said === undefined) {
  window.said = [];
  const socket = new WebSocket(location.origin.replace("https", "wss") + "/ws/client/");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    socket.send(new Uint8Array(70000).fill(7));
    socket.send("x".repeat(65536));
    socket.send("last");
  };
  socket.onmessage = event => {
    const data = event.data;
    if (typeof data !== "string") {
      window.said.push("binary " + data.byteLength + " " + new Uint8Array(data)[69999]);
    } else if (data === "last") {
      window.said.push("last");
      socket.close(4001, "enough");
    } else if (data.startsWith("x")) {
      window.said.push("text " + data.length);
    }
  };
  socket.onclose = event => window.said.push("close " + event.code + " " + event.wasClean);
}
return window.said.length === 4 && window.said;
"""


class _Browsing(EndToEnd):
    """One browser, and a proxy for each answer to "WebSockets over HTTP/2?"."""

    browser: ClassVar[Browser]
    proxies: ClassVar[dict[bool, Proxy]]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        origin = stage.origin(HOST)
        cls.proxies = {
            inside: stage.proxy(
                stage.configuration(origin.port, listen={"http2_websockets": inside})
            )
            for inside in (False, True)
        }
        home = Path(stage.directory, f"home-{cls.__name__}")
        home.mkdir()
        cls.browser = cls.started(home)
        stage.keep(cls.browser)

    @classmethod
    def started(cls, home: Path) -> Browser:
        raise NotImplementedError

    def load(self, inside: bool) -> Any:
        """Open the page with the files. Returns what came of it."""
        self.browser.open(f"{self.proxies[inside].url}/files")
        self.browser.until(OVER + "return r.loaded + r.failed === 100 && r.messages > 1")
        return json.loads(self.browser.run(RESULT))

    def websockets(self, inside: bool) -> set[str]:
        """The requests of WebSockets in the access log, with their HTTP versions."""
        proxy = self.proxies[inside]
        until(lambda: '" 101 ' in proxy.stdout, "an access line of a WebSocket")
        return {line.split('"')[1] for line in proxy.stdout.splitlines() if '" 101 ' in line}

    def _check(self, inside: bool, line: str) -> None:
        result = self.load(inside)
        self.assertEqual((result["loaded"], result["failed"]), (100, 0))
        self.assertEqual(result["protocols"], {"h2": 100})
        self.assertEqual(result["socket"], "open")
        said = self.browser.until(CONVERSATION)
        self.assertEqual(said, ["binary 70000 7", "text 65536", "last", "close 1000 true"])
        self.assertEqual(self.websockets(inside), {line})

    def test_websocket_beside_http_2(self) -> None:
        """It has a connection of HTTP/1.1 of its own."""
        self._check(False, "GET /ws/client/ HTTP/1.1")

    def test_websocket_inside_http_2(self) -> None:
        self._check(True, "GET /ws/client/ HTTP/2.0")

    def test_form(self) -> None:
        """A page that posts a form, and reads the answer."""
        self.browser.open(f"{self.proxies[False].url}/")
        self.browser.run(
            "window.echo = ''; fetch('/echo', {method: 'POST', body: new URLSearchParams("
            "{uid: 'akadmin', password: 'x'})}).then(a => a.text()).then(t => window.echo = t)"
        )
        self.assertEqual(self.browser.until("return window.echo"), "uid=akadmin&password=x")


class ChromiumTests(_Browsing):
    @classmethod
    def started(cls, home: Path) -> Browser:
        return Chromium(home)


class FirefoxTests(_Browsing):
    @classmethod
    def started(cls, home: Path) -> Browser:
        return Firefox(home)


del _Browsing
