"""PROXY headers over sockets: whom upstream, guards, limits and the access log then believe."""

from __future__ import annotations

import contextlib
import socket
from typing import ClassVar

from .clients import HTTP2, Asked
from .processes import (
    HOST,
    LOOPBACK,
    EndToEnd,
    Proxy,
    Stage,
    connect,
    read_all,
    request,
    response,
    until,
)
from .recording import RecordingOrigin

BALANCER, TRUSTED_BALANCER = "127.0.0.3", "127.0.0.4"
OUTSIDE, INSIDE = "198.51.100.7", "10.1.2.3"
EDGE, PROXY_OF_OURS = "104.16.0.7", "192.0.2.40"
UNPROVEN = 4
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TLVS = b"\x01\0\x02h2" + b"\x02\0\x05a.com" + b"\x04\0\x03abc" + b"\x20\0\x05\x01\0\0\0\0"
CRC = b"\x03\0\x04\0\0\0\0"  # of an encrypting balancer; wrong, and of no meaning here


def v1(source: str, family: str = "TCP4") -> bytes:
    target = "192.0.2.1" if family == "TCP4" else "2001:db8::1"
    return f"PROXY {family} {source} {target} 40000 443\r\n".encode()


def v2(source: str, more: bytes = b"", *, command: int = 0x21) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    target = "2001:db8::1" if ":" in source else "192.0.2.1"
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    return block(0x21 if ":" in source else 0x11, addresses + b"\x9c\x40\x01\xbb" + more, command)


def block(family: int, rest: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    """A header of version 2, whatever is in it."""
    said = len(rest) if length is None else length
    return SIGNATURE + bytes((command, family)) + said.to_bytes(2, "big") + rest


# The balancer relays, and says not for whom.
NAMELESS = {
    "UNKNOWN": b"PROXY UNKNOWN\r\n",
    "UNKNOWN with addresses": b"PROXY UNKNOWN 10.1.2.3 10.1.2.4 1 2\r\n",
    "UNSPEC": block(0, b""),
    "UNSPEC with addresses": block(0, bytes((10, 1, 2, 3)) * 3),
    "a unix socket": block(0x31, bytes(216)),
}
LOCAL = block(0, b"", 0x20)
GUARDED = "/if/admin/"


class ProxyHeaders(EndToEnd):
    """The balancers must send a header; one of them is a trusted proxy, too."""

    origin: ClassVar[RecordingOrigin]
    proxy: ClassVar[Proxy]
    hasty: ClassVar[Proxy]  # it does not wait for long for a header that is not complete

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = RecordingOrigin()
        upstream = stage.scripted(cls.origin.converse)
        guard = {"path": GUARDED, "allow": ["10.0.0.0/8", "127.0.0.0/8"]}
        balancers = [f"{BALANCER}/32", f"{TRUSTED_BALANCER}/32"]
        cls.proxy, cls.hasty = (
            stage.proxy(
                stage.configuration(
                    upstream.url,
                    {"guard": [guard]},
                    listen={"proxy_protocol_from": balancers, "plain_http": "serve"},
                    trust={
                        "presets": ["cloudflare"],
                        "proxies": [f"{PROXY_OF_OURS}/32", f"{TRUSTED_BALANCER}/32"],
                        "address_field": "X-Real-IP",
                    },
                    timeouts=timeouts,
                    limits={"unproven_per_address": UNPROVEN},
                )
            )
            for timeouts in ({}, {"proxy_header": 1})
        )

    def setUp(self) -> None:
        super().setUp()
        self.origin.take()

    def ask(
        self,
        header: bytes,
        *fields: str,
        target: str = "/",
        source: str = BALANCER,
        proxy: Proxy | None = None,
    ) -> tuple[int, list[bytes]]:
        """The status, and the X-Forwarded-For that upstream saw, by plain HTTP."""
        with connect((proxy or self.proxy).http, source=source) as sock:
            sock.sendall(header + request(target, *fields, "Connection: close"))
            answer = read_all(sock)
        status = int(answer[9:12]) if answer else 0
        return status, [value for one in self.origin.take() for value in one.values(FOR)]

    def both(self, header: bytes, *fields: str, **how: str) -> tuple[bytes, int]:
        """Whom upstream sees, and what the guard says to the same."""
        status, seen = self.ask(header, *fields, **how)
        self.assertEqual(status, 200, (header, fields))
        [client] = seen
        guarded, seen = self.ask(header, *fields, target=GUARDED, **how)
        self.assertEqual(seen, [client] if guarded == 200 else [])
        return client, guarded

    def test_who_is_named(self) -> None:
        for header, client, status in (
            (v1(OUTSIDE), OUTSIDE, 403),
            (v2(OUTSIDE), OUTSIDE, 403),
            (v2(OUTSIDE, TLVS), OUTSIDE, 403),
            (v2(OUTSIDE, TLVS + CRC), OUTSIDE, 403),
            (v2(OUTSIDE, bytes(508)), OUTSIDE, 403),
            (v2(OUTSIDE, b"\x04\xff\xff"), OUTSIDE, 403),  # a TLV beyond the end of the header
            (v1(INSIDE), INSIDE, 200),
            (v2(INSIDE), INSIDE, 200),
            (v1("::ffff:10.1.2.3", "TCP6"), INSIDE, 200),
            (v2("::ffff:10.1.2.3"), INSIDE, 200),
            (v1("::ffff:198.51.100.7", "TCP6"), OUTSIDE, 403),
            (v2("::ffff:198.51.100.7"), OUTSIDE, 403),
            (v2("64:ff9b::10.1.2.3"), "64:ff9b::a01:203", 403),
            (v2("::10.1.2.3"), "::a01:203", 403),
            (v1("FE80::1", "TCP6"), "fe80::1", 403),
            (LOCAL, BALANCER, 200),  # its own connection: a health check
            (v2(OUTSIDE, command=0x20), BALANCER, 200),
        ):
            self.assertEqual(self.both(header), (client.encode(), status), header)
            self.proxy.says(rf'^{client} - - .* "GET {GUARDED} HTTP/1.1" {status} ', "stdout")

    def test_whose_words_then_count(self) -> None:
        forged = "X-Forwarded-For: 10.1.2.3"
        for header, fields, client, status in (
            # A stranger's, never.
            (v1(OUTSIDE), [forged], OUTSIDE, 403),
            (v1(OUTSIDE), ["CF-Connecting-IP: 10.1.2.3"], OUTSIDE, 403),
            (v2(OUTSIDE), ["X-Real-IP: 10.1.2.3", forged], OUTSIDE, 403),
            (v1(OUTSIDE), ["Forwarded: for=10.1.2.3"], OUTSIDE, 403),
            # Somebody inside who speaks like a proxy: who is behind it?
            (v1(INSIDE), [forged], INSIDE, 403),
            (v1(INSIDE), ["CF-Connecting-IP: 10.1.2.3"], INSIDE, 403),
            # Cloudflare's own field; not that of others.
            (v1(EDGE), [f"CF-Connecting-IP: {OUTSIDE}", forged], OUTSIDE, 403),
            (v2(EDGE), [f"CF-Connecting-IP: {OUTSIDE}", forged], OUTSIDE, 403),
            (v1(EDGE), ["X-Real-IP: 10.1.2.3"], EDGE, 403),
            (v2("2606:4700::7"), [f"CF-Connecting-IP: {OUTSIDE}"], OUTSIDE, 403),
            (v2("::ffff:104.16.0.7"), [f"CF-Connecting-IP: {OUTSIDE}"], OUTSIDE, 403),
            # A proxy of ours: the field that is named, once.
            (v1(PROXY_OF_OURS), [f"X-Real-IP: {OUTSIDE}", forged], OUTSIDE, 403),
            (v1(PROXY_OF_OURS), ["X-Real-IP: 10.1.2.3"], INSIDE, 200),
            (v1(PROXY_OF_OURS), ["X-Real-IP: ::ffff:10.1.2.3"], INSIDE, 200),
            (v1(PROXY_OF_OURS), ["X-Real-IP: [::ffff:10.1.2.3]:443"], INSIDE, 200),
            (v1(PROXY_OF_OURS), ["CF-Connecting-IP: 10.1.2.3"], PROXY_OF_OURS, 403),
            (v1(PROXY_OF_OURS), ["X-Real-IP: fe80::1%lo"], PROXY_OF_OURS, 403),
        ):
            self.assertEqual(
                self.both(header, *fields), (client.encode(), status), (header, fields)
            )

    def test_a_named_field_that_cannot_be_read(self) -> None:
        """A proxy that adds its field to what its client sent also passes its client's
        X-Forwarded-For: where one of two is a client's, neither list nor field says who it is."""
        forged = "X-Forwarded-For: 10.1.2.3"
        for fields in (
            [f"X-Real-IP: {OUTSIDE}", "X-Real-IP: 10.1.2.3"],
            ["X-Real-IP: 10.1.2.3", f"X-Real-IP: {OUTSIDE}"],
            [f"X-Real-IP: 10.1.2.3, {OUTSIDE}"],
            ["X-Real-IP: unix:"],
            ["X-Real-IP:"],
        ):
            for more in ([], [forged]):
                self.assertEqual(
                    self.both(v1(PROXY_OF_OURS), *fields, *more),
                    (PROXY_OF_OURS.encode(), 403),
                    fields,
                )
        # Cloudflare appends to the list, whatever came.
        fields = [f"CF-Connecting-IP: {OUTSIDE}", "CF-Connecting-IP: 10.1.2.3"]
        appended = f"X-Forwarded-For: 10.1.2.3, {OUTSIDE}"
        self.assertEqual(self.both(v1(EDGE), *fields), (EDGE.encode(), 403))
        self.assertEqual(self.both(v2(EDGE), *fields, appended), (OUTSIDE.encode(), 403))

    def test_nobody_is_named(self) -> None:
        """Everybody may be behind the balancer: its own address opens nothing, and what came
        through it is not its word."""
        for name, header in NAMELESS.items():
            for source in (BALANCER, TRUSTED_BALANCER):
                for fields in (
                    [],
                    ["X-Real-IP: 10.1.2.3"],
                    ["X-Forwarded-For: 10.1.2.3", "X-Forwarded-Proto: https"],
                    ["X-Forwarded-Host: evil.example"],
                ):
                    how = f"{name} of {source} with {fields}"
                    believed = self.both(header, *fields, source=source)
                    self.assertEqual(believed, (source.encode(), 403), how)

    def test_no_certificate_of_nobody(self) -> None:
        for header in NAMELESS.values():
            with connect(self.proxy.http, source=TRUSTED_BALANCER) as sock:
                sock.sendall(header + request("/", "SSL-Client-Cert: a", "Connection: close"))
                self.assertIn(b" 200 ", read_all(sock)[:20])
            [one] = self.origin.take()
            self.assertEqual(one.values(b"ssl-client-cert"), [])
            self.assertEqual(one.values(b"x-forwarded-host"), [HOST.encode()])
            self.assertEqual(one.values(b"x-forwarded-proto"), [b"http"])

    def test_two_headers(self) -> None:
        """The first names the client; the second is no request, nor a TLS hello."""
        self.assertTrue(self.shakes(v1(OUTSIDE), BALANCER))
        for first in (v1(OUTSIDE), v2(OUTSIDE), LOCAL, NAMELESS["UNKNOWN"]):
            for second in (v1(INSIDE), v2(INSIDE), LOCAL):
                status, seen = self.ask(first + second)
                self.assertEqual((status, seen), (400, []), (first, second))
                self.assertFalse(self.shakes(first + second, BALANCER), (first, second))

    def test_a_header_within_the_connection(self) -> None:
        for header in (v1(INSIDE), v2(INSIDE)):
            with connect(self.proxy.http, source=BALANCER) as sock:
                sock.sendall(v1(OUTSIDE) + request("/1") + header + request(GUARDED))
                answers = read_all(sock)
            self.assertEqual(answers.count(b"HTTP/1.1 "), 2)
            self.assertIn(b"HTTP/1.1 400 ", answers)
            self.assertEqual([one.target for one in self.origin.take()], [b"/1"])

    def test_wrong_lengths(self) -> None:
        """Closed without a word, whatever is behind."""
        for header in (
            block(0x11, bytes(11)),
            block(0x21, bytes(35)),
            block(0x31, bytes(215)),
            block(0x11, b"", length=0),
            block(0x11, bytes(12), length=521),
            block(0x11, bytes(12), length=65535),
            block(0x12, bytes(12)),  # datagrams
            block(0x41, bytes(12)),
            block(0x11, bytes(12), 0x22),
            block(0x11, bytes(12), 0x11),
            SIGNATURE[:-1] + b"\r\x21\x11\0\x0c" + bytes(12),
            b"PROXY TCP4 10.1.2.3 10.1.2.4 1 2\n",
            b"PROXY TCP4 10.1.2.3  10.1.2.4 1 2\r\n",
            b"PROXY TCP4 10.1.2.03 10.1.2.4 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 10.1.2.3 10.1.2.4 1 2\r\n",
            b"PROXY TCP6 fe80::1%lo fe80::2 1 2\r\n",
            b"PROXY TCP4 10.1.2.3 10.1.2.4 1 65536\r\n",
            b"PROXY UDP4 10.1.2.3 10.1.2.4 1 2\r\n",
            b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
            b"proxy TCP4 10.1.2.3 10.1.2.4 1 2\r\n",
            b" PROXY TCP4 10.1.2.3 10.1.2.4 1 2\r\n",
            b"",
        ):
            self.assertEqual(self.ask(header), (0, []), header)

    def test_a_length_that_takes_the_request(self) -> None:
        """It was a part of the header, then: nobody asked anything."""
        status, seen = self.ask(block(0x11, v2(OUTSIDE)[16:], length=500), proxy=self.hasty)
        self.assertEqual((status, seen), (0, []))

    def shakes(self, header: bytes, source: str) -> bool:
        """Whether there is TLS behind these octets."""
        with connect(self.proxy.https, source=source) as raw:
            raw.sendall(header)
            try:
                # Where it has closed already wrap_socket does nothing, and says nothing.
                with self.stage.client_tls().wrap_socket(raw, server_hostname=HOST) as sock:
                    return sock.version() is not None
            except OSError:
                return False

    def test_before_tls_and_http_2(self) -> None:
        """In one segment with the handshake, and octet by octet."""
        for header, client, status in (
            (v1(OUTSIDE), OUTSIDE, 403), (v2(OUTSIDE, TLVS), OUTSIDE, 403),
            (v2(INSIDE), INSIDE, 200), (NAMELESS["UNSPEC"], BALANCER, 403),
        ):  # fmt: skip
            for pieces in ([header], [header[at : at + 1] for at in range(len(header))]):
                raw = connect(self.proxy.https, source=BALANCER)
                self.addCleanup(raw.close)
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    raw.sendall(piece)
                sock = self.stage.client_tls("h2").wrap_socket(
                    raw, server_hostname=HOST, suppress_ragged_eofs=False
                )
                http2 = HTTP2(sock)
                self.addCleanup(http2.close)
                forged = [("x-forwarded-for", "10.1.2.3")] if client == OUTSIDE else []
                self.assertEqual(http2.ask(Asked(fields=forged)).status, 200)
                self.assertEqual(http2.ask(Asked(target=GUARDED, fields=forged)).status, status)
                seen = {value for one in self.origin.take() for value in one.values(FOR)}
                self.assertEqual(seen, {client.encode()})
                http2.close()

    def test_http_2_without_tls(self) -> None:
        """Prior knowledge is none here, with or without a header."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
        for header, source in ((v1(INSIDE), BALANCER), (b"", LOOPBACK)):
            with connect(self.proxy.http, source=source) as sock:
                sock.sendall(header + preface)
                self.assertRegex(read_all(sock), rb"\AHTTP/1\.1 (400|505) ")
        self.assertEqual(self.origin.take(), [])

    def test_of_somebody_else(self) -> None:
        for header in (v1(INSIDE), v2(INSIDE), LOCAL, NAMELESS["UNKNOWN"]):
            for target in ("/", GUARDED):
                status, seen = self.ask(header, target=target, source=LOOPBACK)
                self.assertEqual((status, seen), (400, []))
            self.assertFalse(self.shakes(header, LOOPBACK), header)

    def test_limit_of_the_client(self) -> None:
        """The address that is named has so many that were not answered, not the balancer."""
        for header, other in ((v1(OUTSIDE), v1("198.51.100.8")), (v2("2001:db8::1"), v1(INSIDE))):
            waiting = [connect(self.proxy.http, source=BALANCER) for _ in range(UNPROVEN)]
            try:
                for sock in waiting:
                    sock.sendall(header)
                before = "too many unproven connections of one address"
                until(lambda h=header: self.refused(h), before)
                self.assertEqual(self.ask(other)[0], 200)
            finally:
                for sock in waiting:
                    sock.close()
            until(lambda h=header: not self.refused(h), "a place")

    def refused(self, header: bytes) -> bool:
        with contextlib.suppress(ConnectionError):
            return self.ask(header)[0] == 0
        return True

    def test_an_answer_proves(self) -> None:
        """Not to be taken for the limit of the balancer: more than so many of one address."""
        socks = []
        for _ in range(UNPROVEN + 2):
            sock = connect(self.proxy.http, source=BALANCER)
            self.addCleanup(sock.close)
            socks.append(sock)
            sock.sendall(v1(OUTSIDE) + request("/"))
            self.assertEqual(response(sock).status, 200)


FOR = b"x-forwarded-for"
