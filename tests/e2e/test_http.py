"""HTTP from a real client, curl, to a real server, with TLS on both sides."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from typing import Any, ClassVar

from .processes import (
    HOST,
    LOOPBACK,
    Curl,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    connect,
    free_port,
    read_all,
    request,
    response,
    until,
    whole_lines,
)

AS_JSON = ("--header", "Accept: application/json")
PATTERN = b"0123456789abcdef"  # what /stream repeats
SIZES = (0, 1, 100 * 1024, 5 * 1024 * 1024)
MIB = 1024 * 1024
FORGED = {
    "Forwarded": "for=192.0.2.66;proto=http;host=evil.example",
    "X-Forwarded-For": "192.0.2.66",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Client-Cert": "forged",
    "X-Forwarded-TLS-Client-Cert": "forged",
    "X-Real-IP": "192.0.2.66",
    "ssl-client-cert": "forged",
    "X_Forwarded_For": "192.0.2.66",
}
COMBINED = re.compile(
    r'(?P<address>\S+) - - \[[^\]]+\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<sent>\d+)'
    r' "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<host>\S+) (?P<seconds>[\d.]+)'
    r" (?P<upstream>\S+) (?P<id>\S+)"
)


class _OneProxy(EndToEnd):
    """A proxy in front of the stand-in."""

    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]
    curl: Curl

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin(HOST)
        cls.proxy = stage.proxy(stage.configuration(cls.origin.port, **cls.sections(stage)))

    @classmethod
    def sections(cls, stage: Stage) -> dict[str, Any]:
        return {}

    def setUp(self) -> None:
        super().setUp()
        self.curl = self.stage.curl(self.proxy)


class Requests(_OneProxy):
    """Methods, bodies and fields."""

    def test_get(self) -> None:
        answer = self.curl(f"{self.proxy.url}/if/user/?next=%2F&a=b", *AS_JSON)
        self.assertEqual((answer.status, answer.version), (200, "HTTP/1.1"))
        self.assertEqual(answer.json["url"], f"{self.proxy.url}/if/user/?next=%2F&a=b")
        self.assertEqual(answer.json["client"], LOOPBACK)
        self.assertEqual(answer.json["method"], "GET")
        self.assertEqual(answer.json["http_version"], "HTTP/1.1")

    def test_head(self) -> None:
        page = self.curl(f"{self.proxy.url}/")
        head = self.curl(f"{self.proxy.url}/", "--head")
        self.assertEqual((head.status, head.info["size_download"]), (200, 0))
        self.assertEqual(head.fields["content-type"], page.fields["content-type"])
        self.assertGreater(int(head.fields["content-length"]), 1000)

    def test_other_methods_keep_their_name(self) -> None:
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = self.curl(f"{self.proxy.url}/x", "--request", method, *AS_JSON)
            self.assertEqual((answer.status, answer.json["method"]), (200, method))

    def test_host_with_its_port(self) -> None:
        """What the client asked for, to the port, in both fields."""
        answer = self.curl(f"{self.proxy.url}/", *AS_JSON)
        wanted = [f"{HOST}:{self.proxy.https}"]
        self.assertEqual(answer.seen("host"), wanted)
        self.assertEqual(answer.seen("x-forwarded-host"), wanted)
        self.assertEqual(answer.seen("x-forwarded-proto"), ["https"])
        self.assertEqual(answer.seen("x-forwarded-for"), [LOOPBACK])

    def test_forged_fields_are_replaced(self) -> None:
        headers = [arg for pair in FORGED.items() for arg in ("--header", ": ".join(pair))]
        answer = self.curl(f"{self.proxy.url}/", *headers, *AS_JSON)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json["client"], LOOPBACK)
        self.assertEqual(answer.json["scheme"], "https")
        self.assertEqual(answer.json["host"], f"{HOST}:{self.proxy.https}")
        for forgery in ("192.0.2.66", "evil.example", "forged"):
            self.assertNotIn(forgery, answer.content.decode())

    def test_fields_of_authentik_pass(self) -> None:
        kept = {"X-authentik-CSRF": "a", "Authorization": "Bearer b", "Origin": "https://c.example",
                "Cookie": "authentik_session=d; e=f", "traceparent": "00-g"}  # fmt: skip
        headers = [arg for pair in kept.items() for arg in ("--header", ": ".join(pair))]
        answer = self.curl(f"{self.proxy.url}/", *headers, *AS_JSON)
        self.assertEqual({name: answer.seen(name) for name in kept},
                         {name: [value] for name, value in kept.items()})  # fmt: skip

    def test_hsts(self) -> None:
        """On pages of upstream and on our own; never over plain HTTP."""
        wanted = "max-age=63072000"
        for path in ("/", "/-/health/ready/"):
            answer = self.curl(self.proxy.url + path)
            self.assertEqual(answer.fields.get_all("strict-transport-security"), [wanted])
        refused = self.curl(f"{self.proxy.url}/", "--request", "TRACE")
        self.assertEqual(refused.status, 405)
        plain = self.curl(f"{self.proxy.plain_url}/")
        self.assertNotIn("strict-transport-security", plain.fields)

    def test_post_with_content_length(self) -> None:
        for size in SIZES:
            self._echoes(size)

    def test_post_chunked(self) -> None:
        for size in SIZES:
            self._echoes(size, "--header", "Transfer-Encoding: chunked")

    def test_post_that_expects_continue(self) -> None:
        for size in SIZES[1:]:
            answer = self._echoes(size, "--header", "Expect: 100-continue",
                                  "--expect100-timeout", "60")  # fmt: skip
            self.assertEqual(answer.informational, [100])
        chunked = self._echoes(SIZES[-1], "--header", "Expect: 100-continue", "--header",
                               "Transfer-Encoding: chunked", "--expect100-timeout", "60")  # fmt: skip
        self.assertEqual(chunked.informational, [100])

    def _echoes(self, size: int, *options: str) -> Any:
        content = os.urandom(size)
        answer = self.curl(
            f"{self.proxy.url}/echo", "--header", "Expect:", *options, "--data-binary", "@-",
            content=content,
        )  # fmt: skip
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.fields["x-body-length"], str(size))
        self.assertTrue(answer.content == content, f"{size} octets are not those that were sent")
        return answer

    def test_download(self) -> None:
        """100 MiB of a length that upstream does not say."""
        size = 100 * MIB
        answer = self.curl(f"{self.proxy.url}/stream?bytes={size}")
        self.assertEqual(answer.fields.get_all("transfer-encoding"), ["chunked"])
        self.assertEqual(len(answer.content), size)
        wanted = hashlib.sha256(PATTERN * (size // len(PATTERN))).hexdigest()
        self.assertEqual(hashlib.sha256(answer.content).hexdigest(), wanted)

    def test_connection_is_kept(self) -> None:
        urls = [f"{self.proxy.url}/-/health/live/?{number}" for number in range(20)]
        done = self.curl.run("--write-out", "%{http_code} %{num_connects}\n", *urls)
        wanted = [b"200 1"] + [b"200 0"] * (len(urls) - 1)
        self.assertEqual(done.stdout.splitlines(), wanted)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        with self.stage.connect(self.proxy) as sock:
            targets = [f"/{number}" for number in range(50)]
            last = request("/last", "Accept: application/json", "Connection: close")
            ahead = (request(target, "Accept: application/json") for target in targets)
            sock.sendall(b"".join(ahead) + last)
            said = read_all(sock).decode()
        answered = re.findall(r'"path": "([^"]*)"', said)
        self.assertEqual(answered, [*targets, "/last"])

    def test_two_requests_of_one_client_take_one_upstream_connection(self) -> None:
        """The upstream's port, as the access line has it, says nothing: count descriptors."""
        self.curl(f"{self.proxy.url}/")
        before = self.proxy.descriptors()
        for _ in range(5):
            self.curl(f"{self.proxy.url}/")
        until(lambda: self.proxy.descriptors() <= before, "no more descriptors than before")

    def test_http_1_0(self) -> None:
        answer = self.curl(f"{self.proxy.url}/", "--http1.0", *AS_JSON)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.fields["connection"], "close")
        self.assertEqual(answer.json["http_version"], "HTTP/1.1")
        stream = self.curl(f"{self.proxy.url}/stream?bytes=300000", "--http1.0")
        self.assertNotIn("transfer-encoding", stream.fields)
        self.assertEqual(len(stream.content), 300000)

    def test_http_1_0_without_host(self) -> None:
        with self.stage.connect(self.proxy) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\nAccept: application/json\r\n\r\n")
            answer = response(sock)
        self.assertEqual((answer.status, answer.json["host"]), (200, HOST))

    def test_http_2(self) -> None:
        answer = self.curl(f"{self.proxy.url}/", "--http2", *AS_JSON)
        self.assertEqual((answer.status, answer.version), (200, "HTTP/2"))
        self.assertEqual(answer.seen("via"), ["2.0 authproxy"])
        self.assertEqual(answer.seen("upgrade"), [])

    def test_ambiguous_framing_is_refused(self) -> None:
        with self.stage.connect(self.proxy) as sock:
            sock.sendall(request("/echo", "Content-Length: 3", "Transfer-Encoding: chunked",
                                 method="POST") + b"0\r\n\r\n")  # fmt: skip
            self.assertEqual(response(sock).status, 400)
            self.assertEqual(read_all(sock), b"")

    def test_wrong_host_is_misdirected(self) -> None:
        answer = self.curl(f"{self.proxy.url}/", "--header", "Host: other.example")
        self.assertEqual(answer.status, 421)


class Redirects(_OneProxy):
    """The plain port."""

    def test_get(self) -> None:
        answer = self.curl(f"{self.proxy.plain_url}/if/user/?next=%2F&x=a%20b")
        self.assertEqual(answer.status, 301)
        self.assertEqual(answer.fields["location"], f"{self.proxy.url}/if/user/?next=%2F&x=a%20b")

    def test_post_keeps_its_method(self) -> None:
        url = f"{self.proxy.plain_url}/echo"
        content = os.urandom(200_000)
        answer = self.curl(url, "--data-binary", "@-", content=content)
        self.assertEqual(answer.status, 308)
        followed = self.curl(url, "--location", "--data-binary", "@-", content=content)
        self.assertEqual(followed.status, 200)
        self.assertTrue(followed.content == content)

    def test_port_of_the_outside(self) -> None:
        """Where the outside has another port, redirects name that one; 443 is left out."""
        for port, shown in ((443, ""), (8443, ":8443")):
            listen = {"public_https_port": port}
            proxy = self.own_stage_proxy(listen)
            answer = self.stage.curl(proxy)(f"{proxy.plain_url}/a")
            self.assertEqual(answer.fields["location"], f"https://{HOST}{shown}/a")

    def own_stage_proxy(self, listen: dict[str, Any]) -> Proxy:
        stage = self.own_stage()
        return stage.proxy(stage.configuration(self.origin.port, listen=listen))


class UpstreamDown(EndToEnd):
    """Nobody listens at upstream's address, then somebody does."""

    def test_pages_and_recovery(self) -> None:
        stage = self.own_stage()
        origin = stage.origin(HOST, port=free_port())
        proxy = stage.proxy(stage.configuration(origin.port))
        curl = stage.curl(proxy)
        self.assertEqual(curl(f"{proxy.url}/").status, 200)
        origin.stop()
        for accept, media_type in (
            ("application/json", "application/json"),
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
            ("*/*", "text/plain; charset=utf-8"),
        ):
            answer = curl(f"{proxy.url}/", "--header", f"Accept: {accept}")
            self.assertEqual(answer.status, 503)
            self.assertEqual(answer.fields["retry-after"], "5")
            self.assertEqual(answer.fields["content-type"], media_type)
            self.assertEqual(answer.fields["cache-control"], "no-store")
            self.assertEqual(answer.fields["strict-transport-security"], "max-age=63072000")
        self.assertEqual(
            set(curl(f"{proxy.url}/", *AS_JSON).json), {"error", "status", "request_id"}
        )
        proxy.says(rf"nothing listens at https://{LOOPBACK}:{origin.port}\. Is authentik running")
        stage.origin(HOST, port=origin.port)
        self.assertEqual(curl(f"{proxy.url}/").status, 200)

    def test_pages_of_a_starting_authentik_pass(self) -> None:
        stage = self.own_stage()
        origin = stage.origin(HOST, options=["--starting=600"])
        proxy = stage.proxy(stage.configuration(origin.port))
        answer = stage.curl(proxy)(f"{proxy.url}/", *AS_JSON)
        self.assertEqual((answer.status, answer.json), (503, {"error": "authentik starting"}))
        self.assertEqual(answer.fields.get_all("retry-after"), ["5"])

    def test_wrong_scheme_for_upstream(self) -> None:
        """TLS is asked of a plain server, which answers as most do: the log says so."""

        def plain(sock: socket.socket) -> None:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            read_all(sock)

        origin = self.scripted(plain)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(origin.url.replace("http:", "https:")))
        self.assertEqual(stage.curl(proxy)(f"{proxy.url}/").status, 503)
        proxy.says("does not speak TLS there")


class AccessLogCombined(_OneProxy):
    """log.format = "combined", in a file."""

    @classmethod
    def sections(cls, stage: Stage) -> dict[str, Any]:
        return {"log": {"access": str(stage.directory / "access.log")}}

    def _line(self, wanted: str) -> dict[str, str]:
        path = self.stage.directory / "access.log"
        found = until(
            lambda: [line for line in whole_lines(path.read_text()) if wanted in line],
            f"{wanted} in the access log",
        )
        self.assertEqual(len(found), 1)
        match = COMBINED.fullmatch(found[0])
        assert match is not None, found[0]
        return match.groupdict()

    def test_line(self) -> None:
        self.curl(f"{self.proxy.url}/stream?bytes=70000&code=geheim1&x=y",
                  "--user-agent", 'te"st\t1', "--referer", "https://a.example/?token=geheim2",
                  "--header", "Cookie: geheim3", "--header", "Authorization: geheim4")  # fmt: skip
        line = self._line("bytes=70000")
        self.assertEqual(line["address"], LOOPBACK)
        self.assertEqual(line["request"], "GET /stream?bytes=70000&code=***&x=y HTTP/1.1")
        self.assertEqual((line["status"], line["sent"]), ("200", "70000"))
        self.assertEqual(line["referer"], "https://a.example/?token=***")
        self.assertEqual(line["agent"], r"te\x22st\x091")
        self.assertEqual(line["host"], f"{HOST}:{self.proxy.https}")
        self.assertEqual(line["upstream"], f"https://{LOOPBACK}:{self.origin.port}")
        self.assertEqual(line["id"], "-")
        everything = (self.stage.directory / "access.log").read_text()
        self.assertNotIn("geheim", everything + self.proxy.stderr + self.proxy.stdout)

    def test_refusal(self) -> None:
        """Our own pages carry the id that the line has."""
        answer = self.curl(f"{self.proxy.url}/misdirected", "--header", "Host: other.example",
                           *AS_JSON)  # fmt: skip
        line = self._line("/misdirected")
        self.assertEqual((line["status"], line["host"]), ("421", "other.example"))
        self.assertEqual(line["id"], answer.json["request_id"])
        self.assertEqual(line["upstream"], "-")

    def test_no_request_at_all(self) -> None:
        with connect(self.proxy.http) as sock:
            sock.sendall(b"\x00\x01\r\n\r\n")
            read_all(sock)
        self.assertEqual(self._line('"- - HTTP/1.1"')["status"], "400")

    def test_moved_away(self) -> None:
        """logrotate moves the file: a new one is begun, and no line is lost."""
        path, moved = (self.stage.directory / name for name in ("access.log", "access.log.1"))
        self.curl(f"{self.proxy.url}/before")
        until(lambda: "/before" in path.read_text(), "a line before")
        path.rename(moved)
        self.curl(f"{self.proxy.url}/after")
        until(path.exists, "a new file")
        self.curl(f"{self.proxy.url}/again")
        until(lambda: "/again" in path.read_text(), "a line in the new file")
        self.assertIn("/after", moved.read_text() + path.read_text())


class AccessLogJSON(_OneProxy):
    """log.format = "json", on stdout."""

    @classmethod
    def sections(cls, stage: Stage) -> dict[str, Any]:
        return {"log": {"access": "-", "format": "json"}}

    def test_line(self) -> None:
        content = b"x" * 10
        self.curl(f"{self.proxy.url}/echo?state=geheim&next=%2Fa%3Fcode%3Dgeheim%26b%3Dc",
                  "--data-binary", "@-", "--user-agent", "téstï", content=content)  # fmt: skip
        line = json.loads(self.proxy.says(r'^\{.*"POST".*\}$', "stdout")[0])
        stamp, duration = line.pop("time"), line.pop("duration")
        self.assertRegex(stamp, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}")
        self.assertGreaterEqual(duration, 0)
        self.assertEqual(
            line,
            {
                "address": LOOPBACK,
                "method": "POST",
                "target": "/echo?state=***&next=%2Fa%3Fcode%3D***%26b%3Dc",
                "version": 1.1,
                "scheme": "https",
                "host": f"{HOST}:{self.proxy.https}",
                "status": 200,
                "sent": len(content),
                "referer": None,
                "user_agent": "téstï".encode().decode("latin-1"),
                "upstream": f"https://{LOOPBACK}:{self.origin.port}",
                "request_id": None,
            },
        )
        self.assertNotIn("geheim", self.proxy.stdout + self.proxy.stderr)

    def test_nothing_else_is_on_stdout(self) -> None:
        self.curl(f"{self.proxy.url}/last")
        self.proxy.says(r"/last.*\n", "stdout")
        for line in whole_lines(self.proxy.stdout):
            json.loads(line)
