"""HTTP/2 as programs speak it: curl, nghttp, h2load and httpx, each against a real process."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from typing import ClassVar

import httpx
from twisted.trial.unittest import SkipTest

from .processes import HOST, LOOPBACK, PATIENCE, EndToEnd, Origin, Proxy, Stage

AS_JSON = ("--header", "Accept: application/json")
KIB = 1024
REQUESTS = 4000  # of h2load


def program(name: str) -> str:
    """Where it is."""
    found = shutil.which(name)
    if found is None:
        raise SkipTest(f"{name} is not installed")
    return found


class Programs(EndToEnd):
    """One proxy in front of the stand-in."""

    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]
    limits: ClassVar[dict[str, int]] = {}
    workers: ClassVar[int] = 0

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin()
        document = stage.configuration(f"http://{LOOPBACK}:{cls.origin.port}", limits=cls.limits)
        document["site"][0]["hosts"] = [HOST, LOOPBACK, "localhost"]
        if cls.workers:
            document["workers"] = cls.workers
        cls.proxy = stage.proxy(document)

    @property
    def local(self) -> str:
        """The proxy, for programs that cannot be told where a name is."""
        return f"https://localhost:{self.proxy.https}"

    def run_program(self, *command: str) -> str:
        """What it says on stdout; it must end well."""
        done = subprocess.run(
            [program(command[0]), *command[1:]],
            capture_output=True, timeout=2 * PATIENCE, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode(errors="replace")

    def load(self, requests: int, path: str = "/-/health/live/", *options: str) -> None:
        """h2load: all of so many requests get a 2xx."""
        said = self.run_program(
            "h2load", f"-n{requests}", "-c8", "-m4", "-t1", *options, self.local + path
        )
        self.assertIn("Application protocol: h2\n", said)
        self.assertIn(
            f"requests: {requests} total, {requests} started, {requests} done,"
            f" {requests} succeeded, 0 failed, 0 errored, 0 timeout",
            said,
        )
        self.assertIn(f"status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx", said)

    def session(self) -> httpx.AsyncClient:
        # The name is not known to the resolver, but the proxy's for localhost.
        return httpx.AsyncClient(
            base_url=self.local,
            http1=False,
            http2=True,
            verify=self._tls(),
            timeout=PATIENCE,
            trust_env=False,
            limits=httpx.Limits(max_connections=1),
        )

    def _tls(self) -> object:
        context = self.stage.client_tls("h2")
        context.check_hostname = False  # the certificate is for the site's other name
        return context


class Each(Programs):
    """Default settings."""

    def test_curl(self) -> None:
        curl = self.stage.curl(self.proxy, "--http2")
        answer = curl(f"{self.proxy.url}/a?b=c", *AS_JSON)
        self.assertEqual((answer.status, answer.version), (200, "HTTP/2"))
        self.assertEqual(answer.json["url"], f"{self.proxy.url}/a?b=c")
        self.assertEqual(answer.seen("via"), ["2.0 authproxy"])
        content = os.urandom(300 * KIB)
        echoed = curl(f"{self.proxy.url}/echo", "--data-binary", "@-", content=content)
        self.assertEqual(echoed.status, 200)
        self.assertTrue(echoed.content == content)
        head = curl(f"{self.proxy.url}/", "--head")
        self.assertEqual((head.status, head.info["size_download"]), (200, 0))

    def test_curl_at_once(self) -> None:
        """Fifty requests at once, on one connection."""
        curl = self.stage.curl(self.proxy, "--http2")
        urls = [f"{self.proxy.url}/stream?bytes={20000 + number}" for number in range(50)]
        outputs = [argument for _ in urls for argument in ("--output", "/dev/null")]
        done = curl.run(
            "--parallel", "--parallel-max", "50", "--write-out",
            "%{http_code} %{http_version} %{num_connects} %{size_download}\n", *outputs, *urls,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        self.assertEqual({(status, version) for status, version, _, _ in lines}, {("200", "2")})
        self.assertEqual(sum(int(connects) for _, _, connects, _ in lines), 1)
        self.assertEqual(sorted(int(size) for *_, size in lines), list(range(20000, 20050)))

    def test_nghttp(self) -> None:
        """Several targets on one connection, with their octets."""
        sizes = (0, 1, 16384, 16385, 100_000)
        said = self.run_program(
            "nghttp", "--no-push", "--no-verify-peer", "--null-out", "--stat",
            *(f"{self.local}/stream?bytes={size}" for size in sizes),
        )  # fmt: skip
        found = re.findall(r" (\d{3}) +(\S+) /stream\?bytes=(\d+)$", said, re.MULTILINE)
        self.assertEqual({int(size) for _, _, size in found}, set(sizes))
        self.assertEqual({status for status, _, _ in found}, {"200"})
        whole = self.run_program("nghttp", "--no-push", "--no-verify-peer",
                                 f"{self.local}/stream?bytes=100000")  # fmt: skip
        self.assertEqual(whole, ("0123456789abcdef" * 6250))

    def test_nghttp_post(self) -> None:
        """With content, its length said and not."""
        content = "".join(f"{number:07} " for number in range(40000))
        path = self.stage.file("content", content)
        for options in ((), ("--no-content-length",)):
            echoed = self.run_program("nghttp", "--no-push", "--no-verify-peer", "-d", str(path),
                                      *options, f"{self.local}/echo")  # fmt: skip
            self.assertTrue(echoed == content)
            said = self.run_program(
                "nghttp", "--no-push", "--no-verify-peer", "-nv", "-d", str(path), *options,
                f"{self.local}/echo",
            )  # fmt: skip
            self.assertIn(":status: 200", said)
            self.assertNotIn("RST_STREAM", said)

    def test_nghttp_trailers(self) -> None:
        """Of a request: they do no harm."""
        path = self.stage.file("content", "abc")
        echoed = self.run_program("nghttp", "--no-push", "--no-verify-peer", "-d", str(path),
                                  "--trailer", "x-sum: 1", f"{self.local}/echo")  # fmt: skip
        self.assertEqual(echoed, "abc")

    def test_h2load(self) -> None:
        self.load(REQUESTS)

    def test_h2load_posts(self) -> None:
        path = self.stage.file("content", os.urandom(20000))
        self.load(REQUESTS // 8, "/echo", "-d", str(path))

    def test_h2load_bulk(self) -> None:
        """Windows that are smaller than the response, on both levels."""
        self.load(200, "/stream?bytes=200000", "-w14", "-W15")

    def test_httpx(self) -> None:
        """Two hundred requests at once on one connection: a hundred wait for their turn."""

        async def ask() -> list[httpx.Response]:
            async with self.session() as session:
                await session.get("/")
                return await asyncio.gather(*[
                    session.post("/echo", content=b"%d" % number * 3000) for number in range(200)
                ])  # fmt: skip

        for number, answer in enumerate(asyncio.run(ask())):
            self.assertEqual((answer.status_code, answer.http_version), (200, "HTTP/2"))
            self.assertTrue(answer.content == b"%d" % number * 3000)


class TwoWorkers(Programs):
    """workers = 2: each has its share of the connections."""

    workers: ClassVar[int] = 2

    def test_h2load(self) -> None:
        self.load(REQUESTS // 2)

    def test_httpx(self) -> None:
        async def ask() -> list[httpx.Response]:
            async with self.session() as session:
                return await asyncio.gather(*[session.get("/") for _ in range(50)])

        statuses = {(one.status_code, one.http_version) for one in asyncio.run(ask())}
        self.assertEqual(statuses, {(200, "HTTP/2")})


class FewRequests(Programs):
    """limits.requests_per_connection is small: clients come again, and nothing is lost."""

    limits: ClassVar[dict[str, int]] = {"requests_per_connection": 10}

    def test_curl(self) -> None:
        curl = self.stage.curl(self.proxy, "--http2")
        urls = [f"{self.proxy.url}/-/health/live/?{number}" for number in range(100)]
        done = curl.run("--write-out", "%{http_code} %{http_version} %{num_connects}\n", *urls)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        self.assertEqual([line[:2] for line in lines], [["200", "2"]] * 100)
        self.assertGreaterEqual(sum(int(line[2]) for line in lines), 5)

    def test_curl_at_once(self) -> None:
        curl = self.stage.curl(self.proxy, "--http2")
        urls = [f"{self.proxy.url}/-/health/live/?{number}" for number in range(100)]
        done = curl.run("--parallel", "--parallel-max", "8", "--write-out",
                        "%{http_code} %{http_version}\n", *urls)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.decode().splitlines(), ["200 2"] * 100)

    def test_httpx(self) -> None:
        """It takes any GOAWAY for the end of every stream: none may come before the response."""

        async def ask() -> list[int]:
            async with self.session() as session:
                return [(await session.get("/-/health/live/")).status_code for _ in range(100)]

        self.assertEqual(asyncio.run(ask()), [200] * 100)
