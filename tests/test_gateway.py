"""Where requests go, and the answers that are made here: conversations through a whole proxy."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from authproxy.gateway import Site
from authproxy.settings import Limits, Listen, Settings, Trust

from .transports import FakeTransport
from .world import OK, World, fields_of, get, say

HSTS = b"max-age=63072000"
NAME = "sso.example.com"
BALANCER = "10.0.0.2"
STRANGER = "198.51.100.7"
WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
FORGED = (
    b"X-Forwarded-For: 192.0.2.66", b"x-forwarded-for: 192.0.2.67, 127.0.0.1",
    b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-Port: 1", b"X-Forwarded-Prefix: /a", b"X-Forwarded-Server: evil",
    b"Forwarded: for=192.0.2.66;host=evil.example", b"X-Real-IP: 192.0.2.66",
    b"X_Forwarded_For: 192.0.2.66", b"X.Forwarded.For: 192.0.2.66", b"ssl-client-cert: evil",
    b"SSL_CLIENT_CERT: evil", b"X-Forwarded-TLS-Client-Cert: evil",
    b"X-Forwarded-Client-Cert: evil", b"Proxy-Authorization: evil", b"Keep-Alive: evil",
)  # fmt: skip
NAMES_OURS = b"Connection: x-forwarded-for, host, x-forwarded-host, x-forwarded-proto, via"
EVIL = (b"192.0.2.6", b"evil", b"127.0.0.1", b"keep-alive", b"forwarded:")


def request(host: bytes = b"", method: bytes = b"GET", path: bytes = b"/", *fields: bytes) -> bytes:
    """A request for this host."""
    data = get(path, *fields, method=method)
    return data.replace(b"Host: " + NAME.encode(), b"Host: " + (host or NAME.encode()), 1)


class Conversation(SynchronousTestCase):
    def world(self, *, hosts: tuple[str, ...] = (NAME,), hsts: bytes | None = HSTS,
              append: bool = False, limits: Any = None, **listen: Any) -> World:  # fmt: skip
        """A site behind a load balancer at BALANCER."""
        settings = evolve(
            Settings(),
            listen=evolve(Listen(), **listen),
            trust=Trust(("10.0.0.0/8",)),
            limits=evolve(Limits(), **(limits or {})),
        )
        return World(settings, hosts=hosts, hsts=hsts, append=append)

    def answer(
        self, world: World, data: bytes, peer: str = STRANGER, secure: bool = True
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, fields and content of an answer that is made here."""
        client = world.client(peer, secure)
        say(client, data)
        head, _, content = client.take().partition(b"\r\n\r\n")
        self.assertEqual(world.origins, [], "upstream heard of it")
        fields = fields_of(head)
        self.assertEqual(len(fields), len(dict(fields)), fields)
        return int(head[9:12]), dict(fields), content

    def forwarded(
        self, world: World, data: bytes, peer: str = STRANGER, secure: bool = True
    ) -> tuple[FakeTransport, FakeTransport, list[tuple[bytes, bytes]]]:
        """The client, the upstream server, and the fields that it got."""
        client = world.client(peer, secure)
        say(client, data)
        origin = world.origins[-1]
        return client, origin, fields_of(origin.value())


class RedirectTests(Conversation):
    def location(self, world: World, data: bytes, status: int = 301) -> bytes:
        found, fields, content = self.answer(world, data, secure=False)
        self.assertEqual((found, content), (status, b""))
        self.assertEqual(fields[b"content-length"], b"0")
        self.assertNotIn(b"strict-transport-security", fields)
        return fields[b"location"]

    def test_host_path_and_query_are_kept(self) -> None:
        for path in (
            b"/",
            b"/if/user/",
            b"/a?next=%2Fb&c=d%20e",
            b"//evil.example/",
            b"/\"<>'",
            b"/?",
        ):
            location = self.location(self.world(), request(path=path))
            self.assertEqual(location, b"https://sso.example.com" + path)

    def test_method(self) -> None:
        """301 makes a GET of a POST in browsers; 308 keeps method and content."""
        for method, status in ((b"GET", 301), (b"HEAD", 301), (b"POST", 308), (b"PUT", 308),
                               (b"DELETE", 308), (b"PATCH", 308), (b"OPTIONS", 308)):  # fmt: skip
            location = self.location(self.world(), request(method=method, path=b"/x"), status)
            self.assertEqual(location, b"https://sso.example.com/x")

    def test_content_is_not_waited_for(self) -> None:
        data = request(b"", b"POST", b"/x", b"Content-Length: 1000000")
        self.assertEqual(self.location(self.world(), data, 308), b"https://sso.example.com/x")

    def test_port(self) -> None:
        """The client's port is that of http; what is public of https takes its place."""
        for host in (b"sso.example.com", b"sso.example.com:80", b"sso.example.com:8080"):
            for port, expected in ((0, b""), (8443, b":8443")):
                world = self.world()
                world.gateway.https_port = port
                location = self.location(world, request(host))
                self.assertEqual(location, b"https://sso.example.com" + expected + b"/")

    def test_ipv6(self) -> None:
        for host in (b"[2001:db8::1]", b"[2001:db8::1]:8080"):
            world = self.world(hosts=("[2001:db8::1]",))
            world.gateway.https_port = 8443
            self.assertEqual(self.location(world, request(host)), b"https://[2001:db8::1]:8443/")

    def test_host_as_the_client_wrote_it(self) -> None:
        location = self.location(self.world(), request(b"SSO.Example.COM."))
        self.assertEqual(location, b"https://SSO.Example.COM./")

    def test_http_1_0_without_host(self) -> None:
        self.assertEqual(
            self.location(self.world(), b"GET /a HTTP/1.0\r\n\r\n"), b"https://sso.example.com/a"
        )

    def test_websocket(self) -> None:
        location = self.location(self.world(), request(b"", b"GET", b"/ws/client/", *WEBSOCKET))
        self.assertEqual(location, b"https://sso.example.com/ws/client/")

    def test_hostile_hosts(self) -> None:
        """Nobody is sent to where we are not: refused before there is a redirect."""
        for host, status in (
            (b"evil.example", 421),
            (b"sso.example.com.evil.example", 421),
            (b"evil.example:80", 421),
            (b"sso.example.com@evil.example", 400),
            (b"sso.example.com/..//evil.example", 400),
            (b"sso.example.com:80:80", 400),
            (b"sso.example.com:", 400),
            (b"sso.example.com:0", 400),
            (b"sso.example.com:99999", 400),
            (b"sso.example.com, evil.example", 400),
            (b"sso.example.com\tevil", 400),
            (b"sso.example.com\\evil", 400),
            (b'"><script>', 400),
            (b"sso.example.com\xff", 400),
            (b"[::1", 400),
            (b"sso.example.com\r\nHost: evil.example", 400),
        ):
            found, fields, content = self.answer(self.world(), request(host), secure=False)
            self.assertEqual(found, status, host)
            self.assertNotIn(b"location", fields)
            self.assertNotIn(b"evil", content)

    def test_a_forwarded_host_of_a_stranger_is_not_redirected_to(self) -> None:
        data = request(b"", b"GET", b"/", b"X-Forwarded-Host: evil.example")
        self.assertEqual(self.location(self.world(), data), b"https://sso.example.com/")

    def test_a_trusted_forwarded_host_is(self) -> None:
        world = self.world()
        data = request(b"internal", b"GET", b"/", b"X-Forwarded-Host: sso.example.com")
        status, fields, _ = self.answer(world, data, BALANCER, False)
        self.assertEqual((status, fields[b"location"]), (301, b"https://sso.example.com/"))

    def test_serve(self) -> None:
        world = self.world(plain_http="serve")
        client, origin, fields = self.forwarded(world, request(), secure=False)
        self.assertEqual(dict(fields)[b"x-forwarded-proto"], b"http")
        say(origin, OK.replace(b"\r\n\r\n", b"\r\nStrict-Transport-Security: max-age=1\r\n\r\n", 1))
        self.assertNotIn(b"strict-transport-security", dict(fields_of(client.take())))


class TrustedSchemeTests(Conversation):
    def test_https_on_the_plain_port_is_served(self) -> None:
        """TLS ended before us: a redirect would go round in a circle."""
        world = self.world()
        data = request(
            b"", b"GET", b"/", b"X-Forwarded-Proto: https", b"X-Forwarded-For: 192.0.2.1"
        )
        client, origin, fields = self.forwarded(world, data, BALANCER, False)
        self.assertEqual(dict(fields)[b"x-forwarded-proto"], b"https")
        self.assertEqual(dict(fields)[b"x-forwarded-for"], b"192.0.2.1")
        say(origin, OK)
        self.assertEqual(dict(fields_of(client.take()))[b"strict-transport-security"], HSTS)
        self.assertEqual(
            (world.access.lines[0][0], world.access.lines[0][-1]), ("192.0.2.1", b"https")
        )

    def test_anybody_else_is_redirected(self) -> None:
        for peer, fields in (
            (STRANGER, (b"X-Forwarded-Proto: https",)),
            ("unix:", (b"X-Forwarded-Proto: https",)),
            (BALANCER, (b"X-Forwarded-Proto: http",)),
            (BALANCER, (b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: https")),
            (BALANCER, (b"X-Forwarded-Proto: https, http",)),
            (BALANCER, (b"X_Forwarded_Proto: https",)),
            (BALANCER, (b"Forwarded: proto=https",)),
            (BALANCER, ()),
        ):
            data = request(b"", b"GET", b"/", *fields)
            status, _, _ = self.answer(self.world(), data, peer, False)
            self.assertEqual(status, 301, fields)

    def test_http_on_the_tls_port_is_redirected(self) -> None:
        data = request(b"", b"GET", b"/", b"X-Forwarded-Proto: http")
        self.assertEqual(self.answer(self.world(), data, BALANCER)[0], 301)

    def test_effective_host(self) -> None:
        """Routing, 421, Host and X-Forwarded-Host all follow it."""
        world = self.world()
        data = request(b"internal:80", b"GET", b"/", b"X-Forwarded-Host: sso.example.com:8443")
        _, _, fields = self.forwarded(world, data, BALANCER)
        for name in (b"host", b"x-forwarded-host"):
            self.assertEqual([v for n, v in fields if n == name], [b"sso.example.com:8443"])
        self.assertEqual(world.access.lines, [])
        data = request(b"", b"GET", b"/", b"X-Forwarded-Host: evil.example")
        self.assertEqual(self.answer(self.world(), data, BALANCER)[0], 421)


class MisdirectedTests(Conversation):
    def test_unknown_host(self) -> None:
        for secure in (True, False):
            world = self.world()
            status, fields, content = self.answer(
                world,
                request(b"evil.example", b"GET", b"/", b"Accept: application/json"),
                secure=secure,
            )
            self.assertEqual(status, 421)
            self.assertEqual(json.loads(content)["request_id"], world.access.lines[0][-2])
            self.assertNotIn(b"evil", content)
            self.assertEqual(fields.get(b"strict-transport-security"), HSTS if secure else None)
            self.assertEqual(world.access.statuses, [421])
            self.assertEqual(world.gateway.refused["unknown host"], 1)

    def test_a_proxy_that_was_forgotten_in_trust_is_named(self) -> None:
        for peer, said in (("192.168.1.2", 1), ("127.0.0.1", 1), ("8.8.8.8", 0), ("10.0.0.9", 0)):
            told: list[str] = []
            world = self.world()
            world.gateway.say = lambda message, *_, **__: told.append(message)  # noqa: B023
            client = world.client(peer=peer)
            for _ in range(2):
                say(client, request(b"", b"GET", b"/", b"X-Forwarded-Proto: https"))
                say(world.origins[0], b"HTTP/1.1 204 No Content\r\n\r\n")
            self.assertEqual(len(told), 2 * said, peer)
            if said:
                self.assertIn(f'proxies = ["{peer}"]', told[0])

    def test_a_loop_ends(self) -> None:
        """Upstream is this proxy itself: Via grows with every turn."""
        world = self.world()
        for lines, status in (
            ([b"Via: 1.1 authproxy"] * 4, 0),
            ([b"Via: 1.1 authproxy"] * 5, 508),
            ([b"Via: 1.1 authproxy, 1.1 authproxy, 1.1 authproxy", b"Via: 1.1 authproxy,"
              b" 1.1 authproxy"], 508),
            ([b"Via: 1.1 varnish"] * 9, 0),
        ):  # fmt: skip
            client = world.client()
            say(client, request(NAME.encode(), b"GET", b"/", *lines))
            self.assertEqual(int(client.take()[9:12] or b"0"), status, lines)

    def test_a_site_for_every_host(self) -> None:
        _, _, fields = self.forwarded(self.world(hosts=()), request(b"any.example:8443"))
        self.assertEqual(dict(fields)[b"host"], b"any.example:8443")

    def test_http_1_0_without_host(self) -> None:
        """It belongs to the only site; upstream never gets an empty Host."""
        _, _, fields = self.forwarded(self.world(), b"GET / HTTP/1.0\r\n\r\n")
        for name in (b"host", b"x-forwarded-host"):
            self.assertEqual([v for n, v in fields if n == name], [NAME.encode()])

    def test_the_connection_goes_on(self) -> None:
        world = self.world()
        client = world.client()
        say(client, request(b"evil.example") + request())
        self.assertTrue(client.take().startswith(b"HTTP/1.1 421 "))
        self.assertEqual(len(world.origins), 1)

    def test_absolute_form(self) -> None:
        data = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        self.assertEqual(self.answer(self.world(), data)[0], 421)
        data = b"GET http://sso.example.com/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        self.assertEqual(self.answer(self.world(), data)[0], 400)


class ChallengeTests(Conversation):
    def setUp(self) -> None:
        root = pathlib.Path(self.mktemp()).absolute()
        (root / ".well-known/acme-challenge").mkdir(parents=True)
        (root / ".well-known/acme-challenge/token").write_bytes(b"authorization")
        (root / "secret").write_bytes(b"secret")
        self.webroot = str(root)

    def ask(self, path: bytes, **how: Any) -> tuple[int, dict[bytes, bytes], bytes]:
        data = request(how.pop("host", b""), how.pop("method", b"GET"), path)
        return self.answer(self.world(acme_webroot=self.webroot), data, **how, secure=False)

    def test_served(self) -> None:
        """Before anything else: the host may be one that no site has yet."""
        for host in (b"", b"new.example"):
            status, fields, content = self.ask(b"/.well-known/acme-challenge/token", host=host)
            self.assertEqual((status, content), (200, b"authorization"))
            self.assertEqual(fields[b"content-length"], b"13")
            self.assertNotIn(b"strict-transport-security", fields)

    def test_head(self) -> None:
        status, fields, content = self.ask(b"/.well-known/acme-challenge/token", method=b"HEAD")
        self.assertEqual((status, fields[b"content-length"], content), (200, b"13", b""))

    def test_nothing_else_is(self) -> None:
        for path in (b"missing", b"", b"../../secret", b"..%2f..%2fsecret", b"token/", b"token?a"):
            status, _, content = self.ask(b"/.well-known/acme-challenge/" + path)
            self.assertEqual(status, 404, path)
            self.assertNotIn(b"secret", content)
        self.assertEqual(self.ask(b"/.well-known/acme-challenge/token", method=b"POST")[0], 404)
        self.assertEqual(self.ask(b"/.well-known/other")[0], 301)
        self.assertEqual(self.ask(b"/x/.well-known/acme-challenge/token")[0], 301)

    def test_not_over_https_and_not_without_a_webroot(self) -> None:
        data = request(path=b"/.well-known/acme-challenge/token")
        self.forwarded(self.world(acme_webroot=self.webroot), data)
        self.assertEqual(self.answer(self.world(), data, secure=False)[0], 301)


class LocalAnswerTests(Conversation):
    def test_options_of_the_server(self) -> None:
        status, fields, content = self.answer(self.world(), request(b"", b"OPTIONS", b"*"))
        self.assertEqual((status, content), (204, b""))
        self.assertIn(b"GET", fields[b"allow"])
        self.assertNotIn(b"content-length", fields)
        self.assertEqual(fields[b"strict-transport-security"], HSTS)

    def test_options_of_a_resource_is_forwarded(self) -> None:
        _, origin, _ = self.forwarded(self.world(), request(b"", b"OPTIONS", b"/"))
        self.assertTrue(origin.value().startswith(b"OPTIONS / HTTP/1.1\r\n"))

    def test_too_large(self) -> None:
        for fields, content in (
            ((b"Content-Length: 11",), b""),
            ((b"Content-Length: 9999999999999999999",), b""),
            ((b"Transfer-Encoding: chunked",), b"b\r\nhello world\r\n"),
        ):
            world = self.world(limits={"body_bytes": 10})
            data = request(b"", b"POST", b"/", *fields) + content
            status, found, _ = self.answer(world, data)
            self.assertEqual(status, 413)
            self.assertEqual(found[b"connection"], b"close")
            self.assertEqual(found[b"strict-transport-security"], HSTS)
            self.assertEqual(world.access.statuses, [413])

    def test_not_too_large(self) -> None:
        data = request(b"", b"POST", b"/", b"Content-Length: 10") + b"0123456789"
        _, origin, _ = self.forwarded(self.world(limits={"body_bytes": 10}), data)
        self.assertTrue(origin.value().endswith(b"\r\n\r\n0123456789"))

    def test_head_has_no_content(self) -> None:
        status, fields, content = self.answer(self.world(), request(b"evil.example", b"HEAD"))
        self.assertEqual((status, content), (421, b""))
        self.assertNotEqual(fields[b"content-length"], b"0")


class HSTSTests(Conversation):
    def hsts(self, world: World, data: bytes, response: bytes, **how: Any) -> list[bytes]:
        """The values of Strict-Transport-Security that the client gets."""
        client, origin, _ = self.forwarded(world, data, **how)
        say(origin, response)
        found = fields_of(client.take())
        return [value for name, value in found if name == b"strict-transport-security"]

    THEIRS = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=1\r\n"
        b"strict-transport-security: max-age=2\r\n\r\n"
    )

    def test_on_every_response_of_upstream(self) -> None:
        for status in (b"200 OK", b"204 No Content", b"302 Found", b"304 Not Modified", b"404 No",
                       b"500 Error", b"503 Starting"):  # fmt: skip
            response = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
            self.assertEqual(self.hsts(self.world(), request(), response), [HSTS], status)
        self.assertEqual(self.hsts(self.world(), request(), self.THEIRS), [HSTS])

    def test_on_the_answer_to_what_is_no_request(self) -> None:
        """No host is known then; every site must have it."""
        for hsts, secure, expected in (
            (HSTS, True, [HSTS]), (HSTS, False, []), (b"", True, []), (None, True, []),
        ):  # fmt: skip
            client = self.world(hsts=hsts).client(secure=secure)
            say(client, b"nonsense\r\n\r\n")
            found = fields_of(client.take())
            values = [value for name, value in found if name == b"strict-transport-security"]
            self.assertEqual(values, expected)

    def test_on_a_switch(self) -> None:
        data = request(b"", b"GET", b"/ws/client/", *WEBSOCKET)
        self.assertEqual(self.hsts(self.world(), data, SWITCHING + b"\r\n"), [HSTS])

    def test_not_in_informational_responses(self) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nStrict-Transport-Security: max-age=1\r\n\r\n"
        for world, secure in ((self.world(), True), (self.world(plain_http="serve"), False)):
            client, origin, _ = self.forwarded(world, request(), secure=secure)
            say(origin, early)
            head = client.take()
            self.assertTrue(head.startswith(b"HTTP/1.1 103 "))
            self.assertNotIn(b"strict-transport-security", head.lower())

    def test_on_faults_answered_here(self) -> None:
        for response in (b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"):
            self.assertEqual(self.hsts(self.world(), request(), response), [HSTS])

    def test_zero_lets_upstream_s_own_pass(self) -> None:
        found = self.hsts(self.world(hsts=None), request(), self.THEIRS)
        self.assertEqual(found, [b"max-age=1", b"max-age=2"])
        self.assertEqual(self.hsts(self.world(hsts=None), request(), OK), [])

    def test_never_with_our_self_signed_certificate(self) -> None:
        self.assertEqual(self.hsts(self.world(hsts=b""), request(), self.THEIRS), [])

    def test_never_for_localhost_and_addresses(self) -> None:
        for host in (b"localhost", b"LOCALHOST:8443", b"a.localhost", b"127.0.0.1",
                     b"192.0.2.1:8443",
                     b"[::1]", b"[2001:db8::1]:443"):  # fmt: skip
            for hsts in (HSTS, None, b""):
                for _ in range(2):  # the second answer may be remembered
                    world = self.world(hosts=(), hsts=hsts)
                    self.assertEqual(self.hsts(world, request(host), self.THEIRS), [], host)

    def test_never_on_plain_http(self) -> None:
        for hsts in (HSTS, None):
            world = self.world(hsts=hsts, plain_http="serve")
            self.assertEqual(self.hsts(world, request(), self.THEIRS, secure=False), [])
        data = request(b"", b"GET", b"/", b"X-Forwarded-Proto: http")
        world = self.world(plain_http="serve")
        self.assertEqual(self.hsts(world, data, self.THEIRS, peer=BALANCER), [])


class ForgedFieldsTests(Conversation):
    def check(self, data: bytes, origin: FakeTransport, address: bytes = STRANGER.encode()) -> None:
        """Of all that was forged nothing came through; ours is there exactly once."""
        head = origin.value()
        for word in EVIL:
            self.assertNotIn(word, head.partition(b"\r\n\r\n")[0].lower().replace(
                b"x-forwarded:", b""), data)  # fmt: skip
        fields = fields_of(head)
        for name, expected in (
            (b"x-forwarded-for", address),
            (b"x-forwarded-host", NAME.encode()),
            (b"x-forwarded-proto", b"https"),
            (b"host", NAME.encode()),
        ):
            self.assertEqual([v for n, v in fields if n == name], [expected])

    def test_on_every_path(self) -> None:
        old = request(b"", b"GET", b"/", *FORGED).replace(b"HTTP/1.1", b"HTTP/1.0")
        for data in (
            request(b"", b"GET", b"/", *FORGED),
            request(b"", b"HEAD", b"/", *FORGED),
            request(b"", b"POST", b"/", *FORGED, b"Content-Length: 3") + b"abc",
            request(b"", b"POST", b"/", *FORGED, b"Content-Length: 3", b"Expect: 100-continue"),
            request(b"", b"POST", b"/", *FORGED, b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
            request(b"", b"GET", b"/ws/client/", *FORGED, *WEBSOCKET),
            request(b"", b"GET", b"/", *FORGED, b"Connection: Upgrade", b"Upgrade: h2c"),
            old,
            old.replace(b"Host: sso.example.com\r\n", b""),
            request(b"", b"GET", b"https://sso.example.com/", *FORGED),
            request(b"", b"GET", b"/", *FORGED, NAMES_OURS),
            request() + request(b"", b"GET", b"/", *FORGED),
        ):  # fmt: skip
            world = self.world()
            client = world.client()
            say(client, data)
            [origin] = world.origins
            if data.startswith(request()):
                origin.take()
                say(origin, OK)
            self.check(data, origin)
            self.assertEqual(world.gateway.dropped_fields["odd name"], 3, data)

    def test_on_a_retry(self) -> None:
        world = self.world()
        client, first, _ = self.forwarded(world, request())
        say(first, OK)
        say(client, request(b"", b"GET", b"/", *FORGED))
        first.finish()
        self.assertEqual(len(world.origins), 2)
        self.check(b"retry", world.origins[1])
        say(world.origins[1], OK)
        self.assertEqual(world.access.statuses, [200, 200])

    def test_in_trailers(self) -> None:
        trailers = b"".join(line + b"\r\n" for line in FORGED)
        data = request(b"", b"POST", b"/", b"Transfer-Encoding: chunked")
        data += b"1\r\nx\r\n0\r\n"
        for limits in ({}, {"body_collect": 1}):  # collected, and streamed
            world = self.world(limits=limits)
            _, origin, _ = self.forwarded(world, data + trailers + b"X-Checksum: 1\r\n\r\n")
            content = origin.value().partition(b"\r\n\r\n")[2]
            self.assertTrue(content.lower().endswith(b"\r\n0\r\nx-checksum: 1\r\n\r\n"), content)
            self.check(data, origin)
        self.assertEqual(self.answer(self.world(), data + b"Host: evil\r\n\r\n")[0], 400)

    def test_of_a_trusted_peer(self) -> None:
        """It is believed once, and what it says twice is not; the copies go all the same."""
        data = request(b"", b"GET", b"/", b"X-Forwarded-For: 192.0.2.66, 192.0.2.1", *FORGED[2:])
        world = self.world()
        _, _, fields = self.forwarded(
            world, data.replace(b"X-Forwarded-Host: evil.example\r\n", b""), BALANCER
        )
        found = dict(fields)
        self.assertEqual(found[b"x-forwarded-for"], b"192.0.2.1")
        self.assertEqual(found[b"x-forwarded-proto"], b"https")
        self.assertEqual(found[b"ssl-client-cert"], b"evil")
        self.assertEqual(found[b"x-forwarded-client-cert"], b"evil")
        self.assertNotIn(b"x-forwarded-port", found)
        self.assertNotIn(b"x-real-ip", found)
        self.assertNotIn(b"forwarded", found)

    def test_a_trusted_list_of_thousands(self) -> None:
        line = b"X-Forwarded-For: " + b"192.0.2.66, " * 2000 + b"192.0.2.1"
        _, _, fields = self.forwarded(self.world(), request(b"", b"GET", b"/", line), BALANCER)
        self.assertEqual(dict(fields)[b"x-forwarded-for"], b"192.0.2.1")

    def test_append(self) -> None:
        """As nginx does it, but of believed addresses only."""
        for peer, expected in ((BALANCER, b"192.0.2.1, 10.0.0.2"), (STRANGER, STRANGER.encode())):
            data = request(b"", b"GET", b"/", b"X-Forwarded-For: 192.0.2.66, 192.0.2.1")
            _, _, fields = self.forwarded(self.world(append=True), data, peer)
            self.assertEqual(dict(fields)[b"x-forwarded-for"], expected)

    def test_what_connection_takes_from_a_handshake(self) -> None:
        """Its own key: then upstream was not asked properly, and its 101 is none."""
        data = request(b"", b"GET", b"/ws/client/", *WEBSOCKET[1:],
                       b"Connection: Upgrade, Sec-WebSocket-Key")  # fmt: skip
        client, origin, fields = self.forwarded(self.world(), data)
        self.assertNotIn(b"sec-websocket-key", dict(fields))
        say(origin, SWITCHING + b"\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 502 "))


class SiteTests(SynchronousTestCase):
    def test_names(self) -> None:
        for hosts, name, fallback in (
            ((), "default", b"localhost"),
            (("*.example.com",), "*.example.com", b"localhost"),
            (("*.example.com", "a.example"), "*.example.com", b"a.example"),
        ):
            site = Site(hosts, None)  # type: ignore[arg-type]
            self.assertEqual((site.name, site.fallback_host), (name, fallback))


class SeveralSitesTests(Conversation):
    def test_each_has_its_own_rules(self) -> None:
        world = self.world()
        other = Site(("b.example",), world.pool, append=True, hsts=None)
        world.gateway.adopt(world.settings, [world.site, other])
        for host, hsts in ((b"", [HSTS]), (b"b.example", [])):
            client, origin, _ = self.forwarded(world, request(host))
            say(origin, OK)
            found = fields_of(client.take())
            self.assertEqual([v for n, v in found if n == b"strict-transport-security"], hsts)
        client = world.client()
        say(client, b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 421 "))


class OtherSettingsTests(Conversation):
    """A gateway that goes on with other settings, in the middle of conversations."""

    def test_a_request_that_repeats_the_one_before(self) -> None:
        """Its fields mean something else now: nothing of what was made of them is used again."""
        world = self.world()
        client = world.client(BALANCER)
        asked = request(b"", b"GET", b"/", b"X-Forwarded-For: 192.0.2.9")
        for trusted, seen in (
            (("10.0.0.0/8",), b"192.0.2.9"),
            ((), BALANCER.encode()),
            (("10.0.0.0/8",), b"192.0.2.9"),
        ):
            world.gateway.adopt(evolve(world.settings, trust=Trust(trusted)), [world.site])
            for _ in range(2):
                say(client, asked)
                origin = world.origins[-1]
                fields = dict(fields_of(origin.take()))
                self.assertEqual(fields[b"x-forwarded-for"], seen)
                say(origin, OK)
                client.take()

    def test_one_that_runs(self) -> None:
        """It keeps the site that it was routed to, its rules and its pool."""
        world = self.world()
        client, origin, _ = self.forwarded(world, request())
        other = Site((NAME,), world.pool, hsts=b"max-age=1")
        world.gateway.adopt(world.settings, [other])
        say(origin, OK)
        self.assertIn((b"strict-transport-security", HSTS), fields_of(client.take()))
        say(client, request())
        say(origin, OK)
        self.assertIn((b"strict-transport-security", b"max-age=1"), fields_of(client.take()))

    def test_the_first_octets_of_a_head_are_there(self) -> None:
        world = self.world()
        client = world.client()
        say(client, request()[:30])
        world.gateway.adopt(world.settings, [Site(("other.example",), world.pool)])
        say(client, request()[30:])
        self.assertTrue(client.take().startswith(b"HTTP/1.1 421 "))
