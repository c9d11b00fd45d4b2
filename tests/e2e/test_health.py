"""Two upstream servers, one of which dies, hangs, starts or is cut off, under steady load."""

from __future__ import annotations

import re
import signal
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

from .processes import (
    HOST,
    LOOPBACK,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    connect,
    free_port,
    request,
    response,
    until,
)

CLIENTS = 6
# Seconds until a check has failed; a server that is up must not meet them twice in a row because
# the machine stands still.
UNANSWERED = 3
MANY = 60  # requests that are enough to see where they go


class Load:
    """Clients that send one GET after the other on connections that stay. Whatever is not a 200 is
    in `failed`."""

    def __init__(self, proxy: Proxy, path: str = "/load") -> None:
        self.failed: list[str] = []
        self.done = 0
        self._path = path
        self._port = proxy.http
        self._over = False
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        self.more(20 * CLIENTS)

    def _run(self) -> None:
        try:
            with connect(self._port) as sock:
                while not self._over:
                    sock.sendall(request(self._path))
                    answer = response(sock)
                    if answer.status != 200:
                        self.failed.append(f"{answer.status}: {answer.content!r}")
                    self.done += 1
        except Exception as e:
            self.failed.append(repr(e))

    def more(self, count: int = MANY) -> None:
        """Wait until so many more are done, or one has failed."""
        wanted = self.done + count
        until(lambda: self.done >= wanted or self.failed, "requests are served")

    def end(self) -> None:
        """No more; every client has its answer."""
        self._over = True
        for thread in self._threads:
            thread.join()


class HealthTests(EndToEnd):
    def proxy(
        self, stage: Stage, upstreams: list[str], health: dict[str, Any] | None = None, **more: Any
    ) -> Proxy:
        quick = {"path": "/-/health/ready/", "interval": 1, "interval_down": 0.5,
                 "timeout": UNANSWERED}  # fmt: skip
        listen = {"http": [f"{LOOPBACK}:0"], "https": [], "plain_http": "serve"}
        document = stage.configuration(
            "", {"upstream": upstreams}, listen=listen | more, health=health or quick,
            limits={"requests_per_connection": 1_000_000},
        )  # fmt: skip
        return stage.proxy(document)

    def url(self, origin: Origin) -> str:
        return f"http://{LOOPBACK}:{origin.port}"

    def two(self, **more: Any) -> tuple[Stage, list[Origin], Proxy]:
        stage = self.own_stage()
        origins = [stage.origin(port=free_port()), stage.origin(port=free_port())]
        return stage, origins, self.proxy(stage, [self.url(each) for each in origins], **more)

    def get(self, proxy: Proxy, path: str, *fields: str, content: str = "") -> Any:
        method = "POST" if content else "GET"
        if content:
            fields = (*fields, f"Content-Length: {len(content)}")
        with connect(proxy.http) as sock:
            sock.sendall(request(path, *fields, method=method) + content.encode())
            return response(sock, method)

    def served_by(self, proxy: Proxy, path: str) -> set[str]:
        """The upstreams of all requests for this path, the last of which was for it with /end."""
        self.get(proxy, f"{path}/end")
        proxy.says(f"GET {path}/end ", "stdout")
        return set(re.findall(rf'"GET {path} .* (http://\S+)', proxy.stdout))

    def goes_to(self, proxy: Proxy, path: str, count: int = 10) -> set[str]:
        """The upstreams that so many requests go to."""
        for _ in range(count):
            self.assertEqual(self.get(proxy, path).status, 200)
        return self.served_by(proxy, path)

    def back(self, proxy: Proxy, origin: Origin) -> None:
        """This one is up again, and gets requests."""
        proxy.says(rf"{self.url(origin)} is up again; it was down for \d+ s\.")
        load = Load(proxy, "/back")
        load.more()
        load.end()
        self.assertEqual(load.failed, [])
        self.assertIn(self.url(origin), self.served_by(proxy, "/back"))

    def checked(self, admin: str, count: int) -> None:
        """So many servers were found to be up: from now on what ends the check that is under way
        is not enough."""
        good = r'(?m)^authproxy_upstream_checks_total\{.*result="ok".*\} [1-9]'

        def look() -> bool:
            with urllib.request.urlopen(f"http://{admin}/metrics") as read:
                return len(re.findall(good, read.read().decode())) == count

        until(look, "checks of all servers")

    def test_killed(self) -> None:
        admin = f"{LOOPBACK}:{free_port()}"
        stage, [first, second], proxy = self.two(admin=admin)
        load = Load(proxy)
        self.checked(admin, 2)
        first.stop()
        load.more()
        words = "nothing listens"
        proxy.says(rf"Site {HOST}: {self.url(first)} is down \(others are asked\): {words}")
        load.more()
        load.end()
        self.assertEqual(load.failed, [])
        self.assertEqual(self.goes_to(proxy, "/without"), {self.url(second)})

        def refused() -> bool:
            with urllib.request.urlopen(f"http://{admin}/metrics") as read:
                checks = r'(?m)^authproxy_upstream_checks_total\{.*result="connect".*\} [1-9]'
                return re.search(checks, read.read().decode()) is not None

        until(refused, "a check that nothing answers")
        with urllib.request.urlopen(f"http://{admin}/metrics") as read:
            text = read.read().decode()
        for origin, up in ((first, 0), (second, 1)):
            labels = f'site="{HOST}",upstream="{self.url(origin)}"'
            self.assertIn(f"authproxy_upstream_up{{{labels}}} {up}.0\n", text)
        self.back(proxy, stage.origin(port=first.port))
        self.assertEqual(len(re.findall("is down", proxy.stderr)), 1)

    def test_hung(self) -> None:
        """What it has already got waits for it; once that is noticed, nothing else does."""
        _, [first, second], proxy = self.two()
        load = Load(proxy)
        first.signal(signal.SIGSTOP)
        proxy.says(rf"{self.url(first)} is down \(others are asked\): .* Does authentik hang\?")
        self.assertEqual(self.goes_to(proxy, "/meanwhile", MANY), {self.url(second)})
        first.signal(signal.SIGCONT)
        self.back(proxy, first)
        load.end()
        self.assertEqual(load.failed, [])

    def test_not_ready(self) -> None:
        _, [first, second], proxy = self.two()
        load = Load(proxy)
        first.signal(signal.SIGUSR1)
        proxy.says(rf"{self.url(first)} is down \(others are asked\): .* is answered with 503")
        load.more()
        self.assertEqual(self.goes_to(proxy, "/meanwhile"), {self.url(second)})
        first.signal(signal.SIGUSR1)
        load.more()
        load.end()
        self.assertEqual(load.failed, [])
        self.back(proxy, first)

    def test_all_are_not_ready(self) -> None:
        """They are asked as if all were."""
        _, origins, proxy = self.two()
        for origin in origins:
            origin.signal(signal.SIGUSR1)
        proxy.says("is down \\(and so is every other")
        load = Load(proxy)
        load.more()
        load.end()
        self.assertEqual(load.failed, [])

    def test_all_killed(self) -> None:
        admin = f"{LOOPBACK}:{free_port()}"
        stage, origins, proxy = self.two(admin=admin)
        self.goes_to(proxy, "/before")
        self.checked(admin, 2)
        for origin in origins:
            origin.stop()
        proxy.says("is down \\(and so is every other.*Is authentik running")
        answer = self.get(proxy, "/", "Accept: application/json")
        self.assertEqual((answer.status, answer.fields["Retry-After"]), (503, "5"))
        proxy.says(r"503 \(request \S+\): nothing listens at http://127.* Is authentik running\?")
        stage.origin(port=origins[1].port)
        # Nobody waits for a check: the first request finds it.
        self.assertEqual(self.get(proxy, "/").status, 200)
        self.back(proxy, origins[1])

    def test_reload(self) -> None:
        """Checks begin, and end, on a pool that goes on."""
        stage = self.own_stage()
        origin = stage.origin()
        proxy = self.proxy(stage, [self.url(origin)], {"path": ""})
        self.goes_to(proxy, "/before", 1)
        origin.signal(signal.SIGUSR1)
        config = Path(proxy.popen.args[-1])  # type: ignore[index]
        without = config.read_text()
        config.write_text(without.replace('path = ""', "interval_down = 0.5"))
        proxy.signal(signal.SIGHUP)
        proxy.says("is down .* is answered with 503")
        origin.signal(signal.SIGUSR1)
        proxy.says("is up again")
        mark = len(proxy.stderr)
        config.write_text(without)
        proxy.signal(signal.SIGHUP)
        until(lambda: "Reloaded" in proxy.stderr[mark:], "the reload")
        origin.signal(signal.SIGUSR1)
        self.goes_to(proxy, "/after", 1)
        self.assertNotIn("is down", proxy.stderr[mark:])

    def test_it_starts(self) -> None:
        """authentik's own answer passes: it says more than ours would."""
        stage = self.own_stage()
        starting = stage.origin(options=["--starting=600"])
        proxy = self.proxy(stage, [self.url(starting)])
        proxy.says("is down \\(it is asked all the same, there is no other\\)")
        answer = self.get(proxy, "/", "Accept: application/json")
        self.assertEqual((answer.status, answer.fields["Retry-After"]), (503, "5"))
        self.assertIn(b"authentik starting", answer.content)

    def test_the_first_address_fails(self) -> None:
        """Nothing was sent: the next one is tried for any method. By the dial alone, no check."""
        stage = self.own_stage()
        origin = stage.origin()
        gone = f"http://{LOOPBACK}:{free_port()}"
        proxy = self.proxy(stage, [gone, self.url(origin)], {"path": ""})
        answer = self.get(proxy, "/echo", content="hello")
        self.assertEqual((answer.status, answer.content), (200, b"hello"))

    def test_a_black_hole(self) -> None:
        """No refusal, no answer: beside its dial the other one is dialled."""
        stage = self.own_stage()
        origin = stage.origin()
        hole = socket.socket()
        self.addCleanup(hole.close)
        hole.bind((LOOPBACK, 0))
        hole.listen(0)
        # Linux drops what comes when the queue is full.
        for _ in range(2):
            waiting = socket.socket()
            self.addCleanup(waiting.close)
            waiting.setblocking(False)
            waiting.connect_ex(hole.getsockname())
        url = f"http://{LOOPBACK}:{hole.getsockname()[1]}"
        proxy = self.proxy(stage, [url, self.url(origin)], {"path": ""})
        for path in ("/echo", "/echo", "/echo"):
            self.assertEqual(self.get(proxy, path, content="hello").status, 200)
