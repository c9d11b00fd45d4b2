"""The admin listener and the control socket of a running proxy, against pages and programs."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from pathlib import Path
from typing import Any, ClassVar

from authproxy.control import ask

from .browsers import free_port
from .processes import (
    HOST,
    LOOPBACK,
    PATIENCE,
    EndToEnd,
    Proxy,
    Stage,
    connect,
    read_all,
    request,
    response,
    toml,
    until,
)
from .recording import RecordingOrigin

PATHS = ("/", "/status.json", "/metrics", "/healthz", "/readyz")
ANSWER = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
SECRETS = ("s3cr3t-cookie", "s3cr3t-bearer", "s3cr3t-code", "s3cr3t-path", "s3cr3t-host")
UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


class Admin(EndToEnd):
    """With a public listener beside it, whose clients have nothing to do there."""

    origin: ClassVar[RecordingOrigin]
    proxy: ClassVar[Proxy]
    config: ClassVar[Path]
    document: ClassVar[dict[str, Any]]
    port: ClassVar[int]
    workers: ClassVar[int] = 1

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = RecordingOrigin()
        upstream = stage.scripted(cls.origin.converse)
        cls.port = free_port()
        listen = {"admin": f"{LOOPBACK}:{cls.port}", "plain_http": "serve"}
        cls.document = stage.configuration(upstream.url, {"hosts": []}, listen=listen)
        cls.document["workers"] = cls.workers
        cls.config = stage.config(cls.document)
        cls.proxy = stage.twistd("--config", str(cls.config)).ready()
        stage.proxies.append(cls.proxy)

    def ask(self, octets: bytes, end: bool = False) -> bytes:
        """All that is answered until it closes; `end`: the client sends no more."""
        with connect(self.port) as sock:
            with contextlib.suppress(OSError):  # it may have closed, and has answered then
                sock.sendall(octets)
                if end:
                    sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    def status(self, octets: bytes) -> int:
        """That of the one answer; 0 where there is none."""
        found = ANSWER.findall(self.ask(octets))
        self.assertLess(len(found), 2, octets)
        return int(found[0]) if found else 0

    def serves(self) -> None:
        self.assertEqual(self.status(request("/healthz", host=f"{LOOPBACK}:{self.port}")), 200)

    def test_names_of_others(self) -> None:
        """DNS rebinding: to the browser this is its own origin, so Host is all there is."""
        own = f"{LOOPBACK}:{self.port}"
        for path in PATHS:
            self.assertEqual(self.status(request(path, host=own)), 200, path)
            for octets in (
                request(path, host="evil.example"),
                request(path, host=f"evil.example:{self.port}"),
                request(path, host=f"{LOOPBACK}.evil.example:{self.port}"),
                request(path, host=HOST),  # a name of the proxy's, but not of this machine
                request(path, "Host: evil.example", host=own),
                request(path, f"Host: {own}", host="evil.example"),
                request(path, f"X-Forwarded-Host: {own}", host="evil.example"),
                request(f"http://{own}{path}", host="evil.example"),
                request(path, "Connection: Host", host="evil.example"),
                request(path, host="evil.example", method="HEAD"),
                request(path, *UPGRADE, f"Origin: http://{own}", host="evil.example"),
            ):
                self.assertEqual(self.status(octets), 421, octets)
            # Of an absolute-form nothing is understood; nor is a path that begins otherwise.
            for target in (f"http://evil.example{path}", f"//evil.example{path}", f"{path}/x"):
                self.assertEqual(self.status(request(target, host=own)), 404, target)

    def test_what_pages_cause(self) -> None:
        """Forms, scripts and preflights: nothing is done, and nothing may be read."""
        own = f"{LOOPBACK}:{self.port}"
        evil = "Origin: https://evil.example"
        for method, *fields in (
            ("POST", evil, "Content-Length: 0", "Content-Type: text/plain"),
            ("PUT", evil, "Content-Length: 0"),
            ("DELETE", evil),
            ("OPTIONS", evil, "Access-Control-Request-Method: GET",
             "Access-Control-Request-Private-Network: true"),
            ("TRACE", "Cookie: a=b"),
            ("CONNECT",),
            ("PATCH",),
            ("GET/", evil),
            ("get",),
        ):  # fmt: skip
            for path in PATHS:
                answer = self.ask(request(path, *fields, method=method, host=own))
                self.assertRegex(answer, rb"\AHTTP/1\.1 (405|400) ", (method, path))
                self.assertNotIn(b"access-control", answer.lower())
                self.assertNotIn(b"a=b", answer)
        for octets in (
            request("/status.json", evil, host=own),
            request("/status.json", "Origin: null", host=own),
            request("/status.json?callback=x", evil, host=own),
        ):
            answer = self.ask(octets).lower()
            self.assertNotIn(b"access-control", answer)
            for field in (
                b"cross-origin-resource-policy: same-origin", b"x-content-type-options: nosniff",
                b"x-frame-options: deny", b"cache-control: no-store",
                b"content-type: application/json",
            ):  # fmt: skip
                self.assertIn(field, answer)

    def test_requests_within_requests(self) -> None:
        """At most one answer, to the first; content is not looked at."""
        own = f"{LOOPBACK}:{self.port}"
        inner = request("/metrics", host=own)
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
        for octets, allowed in (
            (request("/healthz", host=own) + inner, (200,)),
            (request("/healthz", host="evil.example") + inner, (421,)),
            (request("/healthz", f"Content-Length: {len(inner)}", host=own) + inner, (0,)),
            (request("/healthz", "Content-Length: 0", host="evil.example") + inner, (421,)),
            (request("/healthz", "Transfer-Encoding: chunked", host=own) + chunked, (0,)),
            (request("/healthz", "Content-Length: 3", "Transfer-Encoding: chunked", host=own)
             + chunked, (0, 400)),
            (request("/healthz", "Content-Length: 0", "Content-Length: 5", host=own) + inner,
             (0, 400)),
            (request("/healthz", "Transfer-Encoding: identity", host=own) + inner, (0, 200, 400)),
            (request("/healthz", "Expect: 100-continue", "Content-Length: 5", host=own), (0,)),
            (request("/healthz", "X: y", " folded: z", host="evil.example") + inner, (400, 421)),
            (request("/healthz", host="evil.example").replace(b"\r\n", b"\n") + inner, (400, 421)),
            (b"\r\n\r\n" + request("/healthz", host="evil.example"), (0, 400, 421)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + inner, (0, 400, 405)),
            (b"GET /healthz HTTP/1.1\r\nHost : %b\r\n\r\n" % own.encode() + inner, (400, 421)),
            (request("/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", host=own)
             + inner, (200,)),
        ):  # fmt: skip
            answer = self.ask(octets, end=True)
            found = [int(status) for status in ANSWER.findall(answer)] or [0]
            self.assertEqual(len(found), 1, octets)
            self.assertIn(found[0], allowed, octets)
            self.assertNotIn(b"authproxy_", answer, octets)
        self.serves()

    def test_large_and_endless(self) -> None:
        own = f"{LOOPBACK}:{self.port}"
        before = self.proxy.memory()
        for octets in (
            request("/" + "a" * (1 << 21), host=own),
            request("/healthz", "X: " + "a" * (1 << 21), host=own),
            request("/healthz", *[f"X-{n}: a" for n in range(100_000)], host=own),
            b"GET / HTTP/1.1\r\n" + b"a" * (1 << 22),
            b"\r\n" * (1 << 20),
            b"\0" * (1 << 22),
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(1 << 20),
            request("/healthz", f"Content-Length: {1 << 40}", method="POST", host=own)
            + b"a" * (1 << 22),
        ):
            self.assertIn(self.status(octets), (0, 400, 404, 413, 414, 421, 431), octets[:60])
        self.serves()
        self.assertLess(self.proxy.memory() - before, 30 << 20)

    def test_many(self) -> None:
        """Who holds all places loses the oldest to whoever comes."""
        held = [connect(self.port) for _ in range(100)]
        try:
            for sock in held:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(b"GET / HTTP/1.1\r\n")
            self.serves()
            self.assertEqual(self.status(request("/status.json", host="evil.example")), 421)
        finally:
            for sock in held:
                sock.close()
        self.serves()

    def public(self, target: str, *fields: str, host: str = HOST) -> int:
        with connect(self.proxy.http) as sock:
            sock.sendall(request(target, *fields, "Connection: close", host=host))
            return int(read_all(sock)[9:12])

    def test_from_outside(self) -> None:
        """The public listener knows nothing of these paths, whatever the host: they are upstream's."""
        own = f"{LOOPBACK}:{self.port}"
        self.origin.take()
        for path in PATHS:
            for target, host in ((path, HOST), (path, own), (f"http://{own}{path}", own)):
                self.assertEqual(self.public(target, host=host), 200)
                [one] = self.origin.take()
                self.assertEqual(
                    (one.target, one.values(b"host")), (path.encode(), [host.encode()])
                )

    def test_what_it_tells(self) -> None:
        """Nothing of what clients send: no secret, and no label of their choice."""
        cookie, bearer, code, path, host = SECRETS
        for target, fields in (
            (f"/?code={code}&state={code}", [f"Cookie: a={cookie}", f"Authorization: {bearer}"]),
            (f"/ws/{path}/", [*UPGRADE, f"Cookie: a={cookie}"]),
            (f"/{path}", [f"X-{path}: a", f"Referer: https://a/?token={code}"]),
            (f"/{path}", [f"X_{path}: a", f"Connection: {path}", f"User-Agent: {path}"]),
            (f"/{path}", [f"X-Forwarded-{path}: a", f"Transfer-Encoding: {path}"]),
            (f"/%{path}", [f"Content-Length: {path}"]),
        ):
            self.public(target, *fields, host=f"{host}.example")
        with connect(self.proxy.http) as sock:
            sock.sendall(request(f"/{path}", "Connection: close", method=path.upper()))
            read_all(sock)
        with connect(self.proxy.http) as sock:
            sock.sendall(f"GET /{path} {path}\r\n\r\n".encode())
            read_all(sock)
        own = f"{LOOPBACK}:{self.port}"
        told = b"".join(self.ask(request(target, host=own)) for target in PATHS).decode().lower()
        self.assertIn("authproxy_", told)
        for secret in (*SECRETS, "private key-----"):
            self.assertNotIn(secret, told)
        key = Path(self.document["site"][0]["private_key"]).read_text().split("\n")[1]
        self.assertNotIn(key.lower(), told)

    def control(self, octets: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(self.document["listen"]["control"])
            with contextlib.suppress(ConnectionError):
                sock.sendall(octets)
            return read_all(sock)

    def test_control_socket(self) -> None:
        """One line that is a command; what is none ends the conversation, and nothing is done."""
        reload = b'{"command": "reload"}\n'
        said = self.proxy.stderr
        for octets in (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\n" + reload,
            b"\n" + reload,
            b"{}\n" + reload,
            b'{"command": ["reload"]}\n' + reload,
            b'{"command": "reload", "command": "x"}\n',
            b'{"command": "__class__"}\n',
            b'{"command": {"reload": 1}}\n',
            b'"reload"\n',
            b"[" * 4000 + b"\n" + reload,
            b"\xff\xfe\n" + reload,
            b'{"command": null}\n',
            b'{"command": "reload\\u0000"}\n',
        ):
            answer = json.loads(self.control(octets))
            self.assertIn("There are these commands", answer["problem"], octets)
        for octets in (b"a" * 100_000, b'{"command": "reload"' + b" " * 5000 + b"}\n"):
            self.assertEqual(self.control(octets), b"")
        self.assertEqual(self.proxy.stderr[len(said) :].count("eload"), 0)
        found = ask(self.document["listen"]["control"], "status", PATIENCE)
        self.assertEqual(found["last_reload"], "none since the start")

    def test_while_it_reloads_and_drains(self) -> None:
        """The same rules in the middle of both; a connection of before gets no other site."""
        stage = self.own_stage()
        upstream = self.scripted(RecordingOrigin().converse)
        port = free_port()
        document = stage.configuration(
            upstream.url, listen={"admin": f"{LOOPBACK}:{port}"}, timeouts={"drain": 600}
        )
        config = stage.config(document)
        proxy = stage.twistd("--config", str(config)).ready()
        begun, busy = connect(port), stage.connect(proxy)
        self.addCleanup(begun.close)
        self.addCleanup(busy.close)
        begun.sendall(b"GET /status.json HTTP/1.1\r\n")
        busy.sendall(request("/", "Content-Length: 5", method="POST") + b"ab")
        config.write_text(toml(document | {"limits": {"buffer": 70000}}))
        problem = ask(document["listen"]["control"], "reload", PATIENCE)
        self.assertEqual(problem, {"problem": ""})

        def status(path: str, host: str) -> int:
            with connect(port) as sock:
                sock.sendall(request(path, host=host))
                return response(sock).status

        for draining in (False, True):
            self.assertEqual(status("/status.json", f"{LOOPBACK}:{port}"), 200)
            self.assertEqual(status("/status.json", "evil.example"), 421)
            begun.sendall(b"X-More: a\r\n")  # or it would be closed as idle
            if not draining:
                proxy.popen.terminate()
                proxy.says("Draining")
                until(lambda: status("/readyz", f"{LOOPBACK}:{port}") == 503, "it is not ready")
        begun.sendall(b"Host: evil.example\r\n\r\n")
        self.assertIn(b" 421 ", read_all(begun)[:20])
        busy.sendall(b"cde")
        self.assertEqual(response(busy, "POST").status, 200)
        proxy.wait()


class AdminOfWorkers(Admin):
    """It is the supervisor's then."""

    workers: ClassVar[int] = 2
