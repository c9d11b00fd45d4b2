"""What the admin listener answers, to whom, and what it bears."""

from __future__ import annotations

import json
import os
import re
import socket
from email.message import Message
from email.parser import BytesParser
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase

from authproxy.admin.listener import CONNECTIONS, IDLE, OLDEST, _Site
from authproxy.admin.resources import FRESH, SCRAPES, Answers, Guard, Pages
from authproxy.settings import ListenAddress

from .busy import Busy

PATHS = (b"/", b"/status.json", b"/metrics", b"/healthz", b"/readyz")


class Transport(StringTransport):
    """Remembers its end, and tells its protocol."""

    ended = ""

    def loseConnection(self) -> None:
        self._end("lose")

    def abortConnection(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        if not self.ended:
            self.ended = how
            self.disconnecting = True
            self.protocol.connectionLost(None)


class ListenerTests(SynchronousTestCase):
    unix = False

    def setUp(self) -> None:
        self.clock = Clock()
        self.busy = Busy(self.clock, self.clock.seconds)
        self.busy.fill()
        answers = Answers(self.busy.admin, self.clock.seconds)
        guard = Guard(["10.1.2.3", "Door"], self.unix)
        self.site = _Site(Pages(answers, guard), self.clock)
        self.addCleanup(self.site.close)

    def connect(self) -> Transport:
        channel: Any = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        transport: Any = Transport()
        transport.protocol = channel
        channel.makeConnection(transport)
        return transport  # type: ignore[no-any-return]

    def ask(
        self, path: bytes = b"/healthz", *fields: bytes, method: bytes = b"GET",
        host: bytes | None = b"localhost:9930", version: bytes = b"HTTP/1.1",
    ) -> tuple[int, Message, bytes]:  # fmt: skip
        """Status, fields and content of the answer."""
        transport = self.connect()
        lines = [method + b" " + path + b" " + version, *fields]
        if host is not None:
            lines.append(b"Host: " + host)
        transport.protocol.dataReceived(b"\r\n".join([*lines, b"", b""]))
        head, _, content = transport.value().partition(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        return int(line.split()[1]), BytesParser().parsebytes(rest), content

    def status(self, *given: Any, **named: Any) -> int:
        return self.ask(*given, **named)[0]


class AnswerTests(ListenerTests):
    def test_paths(self) -> None:
        for path, kind in zip(PATHS, ("text/html", "application/json", "text/plain",
                                      "text/plain", "text/plain"), strict=True):  # fmt: skip
            status, fields, content = self.ask(path)
            self.assertEqual((status, fields.get_content_type()), (200, kind), path)
            self.assertEqual(int(fields["content-length"]), len(content))
        for path in (b"/nothing", b"//", b"/status.json/", b"/healthz/x", b"/%2e/"):
            self.assertEqual(self.status(path), 404, path)

    def test_a_query_makes_no_difference(self) -> None:
        self.assertEqual(self.status(b"/healthz?x=1"), 200)

    def test_fields_of_every_answer(self) -> None:
        answers = [self.ask(path) for path in (*PATHS, b"/nothing")]
        answers += [self.ask(method=b"POST"), self.ask(host=b"evil.example")]
        for status, fields, _ in answers:
            self.assertTrue(fields["content-security-policy"].startswith("default-src 'none'; "))
            self.assertIn("frame-ancestors 'none'", fields["content-security-policy"])
            self.assertEqual(
                [fields[name] for name in ("cache-control", "x-content-type-options",
                 "referrer-policy", "x-frame-options", "cross-origin-resource-policy", "server")],
                ["no-store", "nosniff", "no-referrer", "DENY", "same-origin", "authproxy"],
                status,
            )  # fmt: skip
            self.assertIsNone(fields["access-control-allow-origin"])

    def test_head(self) -> None:
        status, fields, content = self.ask(b"/", method=b"HEAD")
        self.assertEqual((status, content), (200, b""))
        self.assertGreater(int(fields["content-length"]), 10_000)

    def test_status_json(self) -> None:
        found = json.loads(self.ask(b"/status.json")[2])
        self.assertEqual((found["state"], found["workers"]), ("ready", 2))
        self.assertEqual(found["sites"][0]["upstreams"][1]["state"], "partly up")

    def test_ready_or_not(self) -> None:
        self.assertEqual(self.ask(b"/readyz")[::2], (200, b"ready\n"))
        self.busy.up = (0, 0, 0)
        status, _, content = self.ask(b"/readyz")
        self.assertEqual((status, content.count(b"\n")), (503, 2))
        self.assertIn(b"site login.example.org: no upstream is up", content)

    def test_draining(self) -> None:
        self.busy.draining = True
        self.assertEqual(self.ask(b"/readyz")[::2], (503, b"draining\n"))
        self.assertEqual(self.ask(b"/healthz")[::2], (200, b"ok\n"))

    def test_a_reload_changes_what_is_shown(self) -> None:
        self.busy.settings = attrs.evolve(self.busy.settings, workers=7)
        self.assertIn(b"<td>7</td>", self.ask(b"/")[2])

    def test_a_flood_costs_two_reports_a_second(self) -> None:
        made = []
        report = self.busy.admin.report
        self.busy.admin.report = lambda: made.append(1) or report()  # type: ignore
        for _ in range(100):
            self.assertEqual(self.status(b"/"), 200)
        self.assertEqual(len(made), 1)
        self.clock.advance(FRESH)
        self.status(b"/")
        self.assertEqual(len(made), 2)

    def test_the_last_reload(self) -> None:
        """Nothing until there was one; then whether it is in force, and when it was."""
        for last, seen in (
            (None, []),
            (("", 1e9), [b"successful 1.0", b"timestamp_seconds 1e+09"]),
            (("a.toml: wrong", 2e9), [b"successful 0.0", b"timestamp_seconds 2e+09"]),
        ):
            self.busy.last_reload = last
            self.clock.advance(1)
            found = re.findall(
                rb"^authproxy_last_reload_(.*)$", self.ask(b"/metrics")[2], re.MULTILINE
            )
            self.assertEqual(found, seen)

    def test_a_flood_of_scrapes(self) -> None:
        made = []
        read = self.busy.admin.counters
        self.busy.admin.counters = lambda: made.append(1) or read()  # type: ignore
        answers = {self.ask(b"/metrics")[2] for _ in range(50)}
        self.assertEqual((len(made), len(answers)), (SCRAPES, 1))
        self.clock.advance(1)
        self.status(b"/metrics")
        self.assertEqual(len(made), SCRAPES + 1)


class GuardTests(ListenerTests):
    def test_hosts_that_are_ours(self) -> None:
        for host in (
            b"localhost", b"LOCALHOST:9930", b"localhost.", b"127.0.0.1", b"127.0.0.1:9930",
            b"[::1]:9930", b"[2001:db8::1]", b"192.0.2.7:80", b"10.1.2.3", b"door", b"Door:9930",
        ):  # fmt: skip
            self.assertEqual(self.status(b"/", host=host), 200, host)

    def test_hosts_that_are_not(self) -> None:
        """A page of theirs, whose name resolves to 127.0.0.1 now, would read all of it."""
        for host in (
            b"evil.example", b"evil.example:9930", b"localhost.evil.example", b"127.0.0.1.nip.io",
            b"", b":9930", b"[::1", b"a@127.0.0.1", b"127.0.0.1/", b"127.1", b"0x7f000001",
            b"door.evil.example", b"localhost:99:30", b"127.0.0.1 evil.example",
        ):  # fmt: skip
            for path in PATHS:
                self.assertIn(self.status(path, host=host), (400, 421), (host, path))

    def test_fields_that_are_no_text(self) -> None:
        """No 500, and no traceback in the log, for octets that are not UTF-8."""
        self.assertEqual(self.status(b"/", host=b"\xff\xfe"), 200 if self.unix else 421)
        for name in (b"Sec-Fetch-Site", b"Sec-Fetch-Mode", b"Sec-Fetch-Dest"):
            self.assertEqual(self.status(b"/healthz", name + b": \xff"), 200)
        more = (b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: navigate", b"Sec-Fetch-Dest: \xff")
        self.assertEqual(self.status(b"/healthz", *more), 403)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_without_a_host(self) -> None:
        """Load balancers that speak HTTP/1.0 have none; browsers always have one."""
        self.assertEqual(self.status(host=None, version=b"HTTP/1.0"), 200)

    def test_two_hosts(self) -> None:
        self.assertEqual(self.status(b"/", b"Host: evil.example"), 421)
        self.assertEqual(self.status(b"/", b"Host: localhost", host=b"evil.example"), 421)

    def test_methods(self) -> None:
        for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"BREW"):
            status, fields, _ = self.ask(b"/", method=method)
            self.assertEqual((status, fields["allow"]), (405, "GET, HEAD"), method)

    def test_content_is_cut_off(self) -> None:
        transport = self.connect()
        transport.protocol.dataReceived(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\n"
        )
        self.assertEqual((transport.ended, transport.value()), ("abort", b""))

    def test_what_other_sites_cause(self) -> None:
        for site, mode, dest, status in (
            (b"cross-site", b"no-cors", b"image", 403),
            (b"cross-site", b"cors", b"empty", 403),
            (b"same-site", b"cors", b"empty", 403),
            (b"cross-site", b"navigate", b"iframe", 403),
            (b"cross-site", b"navigate", b"document", 200),
            (b"same-origin", b"cors", b"empty", 200),
            (b"none", b"navigate", b"document", 200),
        ):
            fields = (b"Sec-Fetch-Site: " + site, b"Sec-Fetch-Mode: " + mode,
                      b"Sec-Fetch-Dest: " + dest)  # fmt: skip
            self.assertEqual(self.status(b"/", *fields), status, fields)


class UnixGuardTests(ListenerTests):
    unix = True

    def test_any_host(self) -> None:
        """No page reaches a unix socket."""
        self.assertEqual(self.status(b"/", host=b"status.internal"), 200)
        self.assertEqual(self.status(b"/", host=b"x", method=b"POST"), 405)


class BearingTests(ListenerTests):
    def test_too_many_connections(self) -> None:
        """The oldest makes room: whoever comes gets an answer."""
        held = [self.connect() for _ in range(CONNECTIONS)]
        self.assertEqual(self.status(b"/healthz"), 200)
        self.assertEqual([transport.ended for transport in held[:2]], ["abort", ""])
        self.assertEqual(len(self.site.open), CONNECTIONS - 1)  # its own is closed

    def test_one_request_a_connection(self) -> None:
        """Whoever asks without reading does not fill our memory."""
        transport = self.connect()
        transport.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        self.assertEqual(transport.value().count(b"HTTP/1.1 "), 1)
        head = transport.value().partition(b"\r\n\r\n")[0]
        self.assertEqual(head.lower().count(b"\r\nconnection: close"), 1)
        self.assertEqual(transport.ended, "lose")

    def test_idle(self) -> None:
        transport = self.connect()
        self.clock.pump([1] * round(IDLE + 1))
        self.assertNotEqual(transport.ended, "")
        self.assertEqual(self.site.open, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_line_now_and_then(self) -> None:
        transport = self.connect()
        transport.protocol.dataReceived(b"GET / HTTP/1.1\r\n")
        for n in range(round(OLDEST / 20)):  # more often than IDLE
            self.assertEqual(transport.ended, "", n)
            transport.protocol.dataReceived(b"X-%d: x\r\n" % n)
            self.clock.advance(20)
        self.assertEqual(transport.ended, "abort")

    def test_a_long_head(self) -> None:
        transport = self.connect()
        transport.protocol.dataReceived(b"GET / HTTP/1.1\r\n" + b"X: %b\r\n" % (b"x" * 8000) * 4)
        self.assertIn(b" 400 ", transport.value().partition(b"\r\n")[0])

    def test_nothing_is_left_at_the_end(self) -> None:
        for _ in range(3):
            self.connect()
        self.site.close()
        self.assertEqual((self.site.open, self.clock.getDelayedCalls()), ({}, []))


class ServiceTests(TestCase):
    def admin(self, address: ListenAddress) -> Busy:
        from twisted.internet import reactor  # noqa: PLC0415

        busy = Busy(reactor)
        listen = attrs.evolve(busy.settings.listen, admin=address)
        busy.settings = attrs.evolve(busy.settings, listen=listen)
        busy.admin.privilegedStartService()
        busy.admin.startService()
        self.addCleanup(busy.admin.stopService)
        return busy

    def test_samples_and_faults(self) -> None:
        busy = self.admin(ListenAddress("tcp", "127.0.0.1", 0))
        Logger().error("it {what}", what="broke")
        self.assertEqual([fault.text for fault in busy.admin.recent.faults()], ["it broke"])
        self.assertEqual(len(busy.admin.history._samples), 1)
        done = busy.admin.stopService()
        Logger().error("later")
        self.assertEqual(len(busy.admin.recent.faults()), 1)
        return done  # type: ignore[no-any-return]

    def test_unix_socket(self) -> None:
        path = self.mktemp()
        os.mkdir(path)
        path = os.path.join(path, "admin.sock")
        busy = self.admin(ListenAddress("unix", path=path))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o660)
        self.assertEqual(busy.admin.port.socket.family, socket.AF_UNIX)

    def test_none(self) -> None:
        busy = Busy(Clock(), Clock().seconds)
        listen = attrs.evolve(busy.settings.listen, admin=None)
        busy.settings = attrs.evolve(busy.settings, listen=listen)
        busy.admin.privilegedStartService()
        busy.admin.startService()
        self.assertFalse(busy.admin._samples.running)
        self.assertIsNone(busy.admin.stopService())


del ListenerTests
