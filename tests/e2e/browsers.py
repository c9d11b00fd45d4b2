"""Chromium and Firefox without a screen, driven with what the standard library has.

Chromium by chromedriver's HTTP (W3C WebDriver), Firefox by its own Marionette protocol: JSON with a
length before it. Both do the same few things: open a page, run a script in it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from .processes import LOOPBACK, PATIENCE, free_port

CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--ignore-certificate-errors",
]  # fmt: skip
FIREFOX = {
    "app.update.enabled": False,
    "browser.aboutConfig.showWarning": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.forceResolve": LOOPBACK,  # whatever the name
    "network.http.speculative-parallel-limit": 0,
    # Else it waits before it tries again where a WebSocket failed, up to a minute.
    "network.websocket.delay-failed-reconnects": False,
    "toolkit.telemetry.enabled": False,
}


class Browser:
    """What both can do."""

    _process: subprocess.Popen[bytes]

    def _start(self, command: list[str], home: Path) -> None:
        environ = {**os.environ, "HOME": str(home), "MOZ_HEADLESS": "1"}
        self._process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def stop(self) -> None:
        """End it, and what it started."""
        with suppress(Exception):
            self._quit()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with suppress(ProcessLookupError):  # its own session: nobody else's processes are in it
            os.killpg(self._process.pid, 9)
        self._process.wait()

    def _quit(self) -> None:
        raise NotImplementedError

    def open(self, url: str) -> None:
        """Open this page."""
        raise NotImplementedError

    def run(self, script: str) -> Any:
        """What the body of a function in the page returns."""
        raise NotImplementedError

    def until(self, script: str) -> Any:
        """The same once it is true."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise AssertionError(f"still {value!r} in the page: {script}")
            time.sleep(0.05)
        return value


class Chromium(Browser):
    """By chromedriver."""

    def __init__(self, home: Path) -> None:
        binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if binary is None or driver is None:
            raise SkipTest("chromium and chromedriver (chromium-driver) are not installed")
        port = free_port()
        self._url = f"http://{LOOPBACK}:{port}/session"
        self._start([driver, f"--port={port}"], home)
        arguments = [*CHROMIUM, f"--user-data-dir={home}/chromium",
                     f"--host-resolver-rules=MAP * {LOOPBACK}"]  # fmt: skip
        options = {"binary": binary, "args": arguments}
        wanted = {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
            "acceptInsecureCerts": True,
        }}  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                session = self._call("POST", "", {"capabilities": wanted})
                break
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            except OSError as e:
                if not isinstance(getattr(e, "reason", None), ConnectionError):
                    raise
                time.sleep(0.1)
        self.version = f"Chromium {session['capabilities']['browserVersion']}"
        self._url += "/" + session["sessionId"]

    def _call(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(
            self._url + path, data, {"content-type": "application/json"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=2 * PATIENCE) as answer:
            return json.load(answer)["value"]

    def _quit(self) -> None:
        self._call("DELETE", "")
        self._process.terminate()

    def devtools(self, command: str, **parameters: Any) -> Any:
        """What the DevTools protocol can do beyond WebDriver."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def console(self) -> list[str]:
        """What the console said since the last look, violations of a page's policy included."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def screen(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Show pages so wide (CSS pixels), to a person who likes them light or dark."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        """The whole page as it looks, PNG."""
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def scripts(self, allowed: bool) -> None:
        """Whether pages that are opened from now on may run scripts; ours still run in them."""
        self.devtools("Emulation.setScriptExecutionDisabled", value=not allowed)

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        return self._call("POST", "/execute/sync", {"script": script, "args": []})


class Firefox(Browser):
    """By Marionette."""

    def __init__(self, home: Path, **preferences: Any) -> None:
        binary = shutil.which("firefox-esr") or shutil.which("firefox")
        if binary is None:
            raise SkipTest("firefox-esr is not installed")
        port = free_port()
        profile = home / "firefox"
        profile.mkdir()
        lines = {**FIREFOX, **preferences, "marionette.port": port}
        Path(profile, "user.js").write_text(
            "".join(f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in lines.items())
        )
        self._start([binary, "--headless", "--marionette", "--profile", str(profile)], home)
        deadline = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                self._socket = socket.create_connection((LOOPBACK, port), 2 * PATIENCE)
                break
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self._number = 0
        self._read()
        session = self._call("WebDriver:NewSession", {"acceptInsecureCerts": True})
        self.version = f"Firefox {session['capabilities']['browserVersion']}"

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._socket.recv(1)
        data = b""
        while len(data) < int(length[:-1]):
            data += self._socket.recv(65536)
        return json.loads(data)

    def _call(self, command: str, parameters: Any = None) -> Any:
        self._number += 1
        data = json.dumps([0, self._number, command, parameters or {}]).encode()
        self._socket.sendall(b"%d:%b" % (len(data), data))
        _, _, error, result = self._read()
        if error:
            raise AssertionError(f"{command}: {error}")
        return result

    def _quit(self) -> None:
        self._call("Marionette:Quit", {"flags": ["eForceQuit"]})
        self._socket.close()

    def open(self, url: str) -> None:
        self._call("WebDriver:Navigate", {"url": url})

    def run(self, script: str) -> Any:
        return self._call("WebDriver:ExecuteScript", {"script": script, "args": []})["value"]
