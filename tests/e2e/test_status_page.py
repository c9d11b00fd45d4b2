"""The status page in Chromium: without scripts, live, light and dark, on a phone; and a real proxy
behind it, up, down and draining."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, ClassVar

from tests.admin.busy import HOSTILE

from .browsers import Chromium, Firefox
from .processes import (
    HOST,
    LOOPBACK,
    PATIENCE,
    EndToEnd,
    Process,
    Stage,
    connect,
    free_port,
    toml,
    until,
)
from .test_process import LONG_DRAIN

PICTURES = os.environ.get("AUTHPROXY_TEST_PICTURES", "")  # a directory, to look at them
PHONE, DESK = 360, 1280
MARK = "document.querySelector('[data-v=\"requests\"]').textContent"
# Every chart of the page as the server drew it, and as the script draws it from the same numbers.
DRAWN = "return [...document.querySelectorAll('path[data-series]')].map(p => p.getAttribute('d'))"
TEXT = "return document.body.innerText"


class PageTests(EndToEnd):
    """Of tests/admin/busy.py: a process that has something to show of everything."""

    browser: ClassVar[Chromium]
    page: ClassVar[str]
    busy: ClassVar[Process]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.busy = stage.process([sys.executable, "-m", "tests.admin.busy", "0"])
        cls.page = cls.busy.says(r"^(http://\S+)$", "stdout")[1]
        home = Path(stage.directory, "home")
        home.mkdir()
        cls.browser = Chromium(home)
        stage.keep(cls.browser)

    def setUp(self) -> None:
        super().setUp()
        self.browser.scripts(True)
        self.browser.screen(DESK)
        self.browser.console()

    def quiet(self) -> None:
        """No error and no violation of the policy has come up."""
        self.assertEqual(self.browser.console(), [])

    def test_live(self) -> None:
        """Numbers move without the page being loaded again."""
        self.browser.open(self.page)
        before = self.browser.run(f"window.here = true; return {MARK}")
        self.browser.until(f"return {MARK} !== {before!r}")
        self.assertTrue(self.browser.run("return window.here"))
        self.assertEqual(
            self.browser.run("return document.querySelector('#live').className"), "live"
        )
        self.quiet()

    def test_charts_of_both_sides_are_the_same(self) -> None:
        self.browser.open(self.page)
        self.browser.until("return document.querySelector('#live').className === 'live'")

        def same() -> bool | None:
            """Between two samples, which are five seconds apart."""
            script = self.browser.run(DRAWN)
            self.browser.run(
                "window.served = null; fetch('/').then(a => a.text()).then(t => window.served ="
                " new DOMParser().parseFromString(t, 'text/html'))"
            )
            self.browser.until("return window.served !== null")
            server: Any = self.browser.run(DRAWN.replace("document.", "window.served."))
            self.assertEqual(len(server), 8)
            return server == script or None

        until(same, "the same paths")

    def test_without_scripts(self) -> None:
        self.browser.scripts(False)
        self.browser.open(self.page)
        text = self.browser.run(TEXT)
        for words in ("ready", "sso.example.com", "partly up", "days left", "/ws/outpost/",
                      "asks again every 10 s", "Is authentik running?"):  # fmt: skip
            self.assertIn(words, text)
        self.assertTrue(all(self.browser.run(DRAWN)))
        self.assertEqual(
            self.browser.run("return document.querySelector('noscript meta').content"), "10"
        )
        self.quiet()

    def test_what_clients_sent_stays_text(self) -> None:
        self.browser.open(self.page)
        self.browser.until(f"return {MARK} !== ''")
        self.assertNotEqual(self.browser.run("return document.title"), "hurt")
        self.assertEqual(self.browser.run("return document.querySelectorAll('img').length"), 0)
        self.assertIn(HOSTILE.replace("\x1b", "\ufffd"), self.browser.run(TEXT))
        self.quiet()

    def test_a_script_that_got_in_would_not_run(self) -> None:
        self.browser.open(self.page)
        self.browser.run(
            "const s = document.createElement('script'); s.textContent = 'window.hurt = true';"
            "document.body.append(s); document.body.setAttribute('onclick', 'window.hurt = true');"
            "document.body.click()"
        )
        self.assertIsNone(self.browser.run("return window.hurt"))
        # The browser tells the driver of it when it has the time.
        until(lambda: "Content Security Policy" in "".join(self.browser.console()), "its refusal")

    def test_settings_stay_open(self) -> None:
        """When the page is drawn anew too."""
        self.browser.open(self.page)
        self.browser.until("return document.querySelector('#live').className === 'live'")
        self.browser.run(
            "document.querySelector('#settings').open = true;"
            "document.querySelector('main').dataset.old = true;"
        )
        self.busy.signal(signal.SIGUSR1)  # an upstream goes down
        self.browser.until("return !document.querySelector('main').dataset.old")
        self.assertTrue(self.browser.run("return document.querySelector('#settings').open"))
        self.assertIn("no upstream is up", self.browser.run(TEXT))
        self.assertTrue(self.browser.run("return document.title").startswith("not ready"))
        self.picture("alarm")
        self.busy.signal(signal.SIGUSR1)
        self.browser.until("return document.title.startsWith('ready')")
        self.quiet()

    def test_pointing_at_a_chart(self) -> None:
        self.browser.open(self.page)
        self.browser.until("return document.querySelector('#live').className === 'live'")
        said = self.browser.until(
            "const svg = document.querySelector('.chart svg'), box = svg.getBoundingClientRect();"
            "svg.dispatchEvent(new PointerEvent('pointermove', {bubbles: true,"
            " clientX: box.left + box.width / 2, clientY: box.top + 5}));"
            "return document.querySelector('.pointed .ago')?.innerText"
        )
        self.assertRegex(said, r"^[678] min ago$")

    def test_it_says_when_nobody_answers(self) -> None:
        stage = self.own_stage()
        busy = stage.process([sys.executable, "-m", "tests.admin.busy", "0"])
        self.browser.open(busy.says(r"^(http://\S+)$", "stdout")[1])
        self.browser.until("return document.querySelector('#live').className === 'live'")
        busy.stop()
        self.browser.until("return document.querySelector('#live').className === 'lost'")

    def picture(self, name: str) -> bytes:
        picture = self.browser.picture()
        if PICTURES:
            Path(PICTURES, f"{name}.png").write_bytes(picture)
        return picture

    def test_on_a_phone(self) -> None:
        for settings_open in (False, True):
            self.browser.screen(PHONE, 780)
            self.browser.open(self.page)
            opened = json.dumps(settings_open)
            self.browser.run(f"document.querySelector('#settings').open = {opened}")
            height, width = self.browser.run(
                "const e = document.documentElement; return [e.scrollHeight, e.scrollWidth]"
            )
            self.assertEqual(width, PHONE)
            wide = self.browser.run(
                "return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect()"
                f".right > {PHONE}).map(e => e.outerHTML.slice(0, 80))"
            )
            self.assertEqual(wide, [])
            self.browser.screen(PHONE, height)
            self.picture(f"phone{'-settings' if settings_open else ''}")

    def test_light_and_dark(self) -> None:
        seen = []
        for dark in (False, True):
            self.browser.screen(DESK, dark=dark)
            self.browser.open(self.page)
            height = self.browser.run("return document.documentElement.scrollHeight")
            self.browser.screen(DESK, height, dark)
            seen.append(corner(self.picture("dark" if dark else "light")))
            colours = self.browser.run(
                "const c = name => getComputedStyle(document.querySelector(name)).color;"
                "return ['body', '.soft', '.state.good', '.state.warn', '.state.bad', '.faults .soft']"
                ".map(c)"
            )
            card = self.browser.run(
                "return getComputedStyle(document.querySelector('.card')).backgroundColor"
            )
            for colour in colours:  # WCAG 2.2 1.4.3
                self.assertGreater(contrast(colour, card), 4.5, (dark, colour, card))
        self.assertGreater(seen[0], 200)
        self.assertLess(seen[1], 50)


class FirefoxTests(EndToEnd):
    """The same page where another browser's script runs it."""

    def test_live(self) -> None:
        stage = self.own_stage()
        busy = stage.process([sys.executable, "-m", "tests.admin.busy", "0"])
        home = Path(stage.directory, "home")
        home.mkdir()
        browser = Firefox(home)
        stage.keep(browser)
        browser.open(busy.says(r"^(http://\S+)$", "stdout")[1])
        before = browser.run(f"return {MARK}")
        browser.until(f"return {MARK} !== {before!r}")
        self.assertEqual(browser.run("return document.querySelector('#live').className"), "live")
        self.assertTrue(browser.run("return document.documentElement.scrollWidth <= innerWidth"))


def corner(png: bytes) -> int:
    """The red of the first pixel."""
    at, data, channels = 8, b"", 0
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IHDR":
            channels = {2: 3, 6: 4}[png[at + 17]]
        elif kind == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    assert channels
    return zlib.decompressobj().decompress(data, 2)[
        1
    ]  # after the filter's number, which may be any


def contrast(one: str, other: str) -> float:
    """The ratio of two colours as CSS computes them (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


class ProxyTests(EndToEnd):
    """The admin listener of a real proxy."""

    def start(self, stage: Stage, upstream: int, workers: int, **more: Any) -> None:
        self.port = free_port()
        listen = {"http": [], "https": [f"{LOOPBACK}:0"], "admin": f"{LOOPBACK}:{self.port}"}
        document = stage.configuration(upstream, listen=listen, **more)
        self.proxy = stage.proxy(document | {"workers": workers})

    def ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def status(self) -> Any:
        return json.loads(self.ask("/status.json")[1])

    def draining(self, workers: int) -> None:
        stage = self.own_stage()
        self.start(stage, stage.origin(HOST).port, workers, timeouts=LONG_DRAIN)
        self.assertEqual(self.ask("/readyz"), (200, b"ready\n"))
        held = stage.connect(self.proxy)
        self.addCleanup(held.close)
        held.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n".encode())  # it waits for the rest
        until(lambda: self.status()["connections"] == 1, "the connection is counted")
        self.proxy.signal(signal.SIGTERM)
        until(lambda: self.ask("/readyz") == (503, b"draining\n"), "it drains")
        self.assertEqual(self.ask("/healthz"), (200, b"ok\n"))
        until(lambda: self.status()["state"] == "draining", "it says so everywhere")
        held.sendall(b"\r\n")
        self.assertIn(b" 200 ", held.recv(20))
        held.close()
        self.proxy.wait()
        self.assertNotIn("Traceback", self.proxy.stderr)

    def test_draining_one_process(self) -> None:
        self.draining(1)

    def test_draining_workers(self) -> None:
        self.draining(2)

    def test_errors_of_workers_are_seen(self) -> None:
        stage = self.own_stage()
        checked = {"path": "/-/health/ready/", "interval": 1, "interval_down": 1}
        self.start(stage, free_port(), 2, health=checked)  # nobody listens there
        curl = stage.curl(self.proxy)
        for _ in range(3):
            self.assertEqual(curl(f"{self.proxy.url}/").status, 503)
        fault = until(lambda: self.status()["errors"], "the error is seen")[0]
        self.assertIn("Is authentik running?", fault["text"])
        self.assertEqual(fault["level"], "error")
        self.assertIn(fault["worker"], (1, 2))
        status, reasons = until(
            lambda: a if (a := self.ask("/readyz"))[0] == 503 else None, "its upstream is down"
        )
        self.assertIn(f"site {HOST}: no upstream is up".encode(), reasons)
        status, page = self.ask("/")
        self.assertEqual(status, 200)
        self.assertIn(b"Is authentik running?", page)
        [certificate] = self.status()["certificates"]
        self.assertEqual((certificate["site"], certificate["state"]), (HOST, "valid"))

    def test_reloads(self) -> None:
        """What is in force is shown, and why what is in the file is not."""
        stage = self.own_stage()
        self.port = free_port()
        listen = {"http": [], "admin": f"{LOOPBACK}:{self.port}"}
        document = stage.configuration(stage.origin(HOST).port, listen=listen)
        for workers in (1, 2):
            config = stage.config(document | {"workers": workers})
            proxy = stage.twistd("--config", str(config)).ready()
            self.assertIsNone(self.status()["last_reload"])
            config.write_text("[timeouts]\nhead = 'soon'\n")
            proxy.signal(signal.SIGHUP)
            refused = until(lambda: self.status()["last_reload"], "the reload is refused")
            self.assertIn("timeouts.head", refused["problem"])
            self.assertIn(b"was refused", self.ask("/")[1])
            config.write_text(toml(document | {"workers": workers, "timeouts": {"head": 5001}}))
            proxy.signal(signal.SIGHUP)
            until(lambda: not self.status()["last_reload"]["problem"], "the reload is in force")
            until(lambda: b"<td>5001</td>" in self.ask("/")[1], "it is shown")
            self.assertNotIn(b"was refused", self.ask("/")[1])
            proxy.signal(signal.SIGTERM)
            proxy.wait()

    def test_names_of_others(self) -> None:
        stage = self.own_stage()
        self.start(stage, stage.origin(HOST).port, 1)
        with connect(self.port) as sock:
            sock.sendall(b"GET /status.json HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            self.assertIn(b" 421 ", sock.recv(100))

    def test_unix_socket(self) -> None:
        stage = self.own_stage()
        where = stage.directory / "admin.sock"
        document = stage.configuration(stage.origin(HOST).port, listen={"admin": f"unix:{where}"})
        proxy = stage.proxy(document)
        curl = stage.curl(proxy)
        answer = curl("--unix-socket", str(where), "http://anything/readyz")
        self.assertEqual((answer.status, answer.content), (200, b"ready\n"))
