"""What of a head reaches the other side."""

from __future__ import annotations

import re
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy import forwarding
from authproxy.trust import ADDRESS_FIELDS, UNIX_PEER, Client
from authproxy.wire.heads import CHUNKED, UNTIL_CLOSE, Fields, RequestHead, ResponseHead

from .examples import EXAMPLES
from .wire.generated import token, value

HOST = b"sso.example.com:8443"
CLIENT = Client("192.0.2.1", b"https", False, (), HOST)
TRUSTED = Client("192.0.2.1", b"https", True, ("192.0.2.1", "10.0.0.9", "10.0.0.2"), HOST)
OURS = [
    (b"x-forwarded-for", b"192.0.2.1"),
    (b"x-forwarded-host", HOST),
    (b"x-forwarded-proto", b"https"),
    (b"via", b"1.1 authproxy"),
]
CERTIFICATES: Fields = [
    (b"ssl-client-cert", b"-----BEGIN"),
    (b"ssl-client-verify", b"SUCCESS"),
    (b"ssl-client-subject-dn", b"CN=akadmin"),
    (b"ssl-client-issuer-dn", b"CN=CA"),
    (b"client-cert", b":MII:"),
    (b"client-cert-chain", b":MII:"),
    (b"x-forwarded-client-cert", b"Hash=1"),
    (b"x-forwarded-tls-client-cert", b"MII"),
]


def head_of(*fields: tuple[bytes, bytes], **how: int) -> RequestHead:
    """The head of a request with these fields after its Host."""
    head = RequestHead(b"GET", b"/path?query", 11, [(b"host", HOST), *fields], HOST)
    for name, wanted in how.items():
        setattr(head, name, wanted)
    return head


def sent(
    *fields: tuple[bytes, bytes], client: Client = CLIENT, append: bool = False, **how: int
) -> Fields:
    """What upstream gets for them."""
    return forwarding.request(head_of(*fields, **how), client, append).fields


def others(fields: Fields) -> Fields:
    """What is neither Host nor one of the fields about the client."""
    ours = {b"host", b"via", *(name for name, _ in OURS)}
    return [field for field in fields if field[0] not in ours]


class RequestTests(SynchronousTestCase):
    def test_a_plain_request(self) -> None:
        self.assertEqual(sent(), [(b"host", HOST), *OURS])

    def test_the_line(self) -> None:
        """Method and target as they came; to upstream it is always HTTP/1.1 (AUTHENTIK.md)."""
        for version in (10, 11, 20):
            head = forwarding.request(head_of(version=version), CLIENT, False)
            self.assertEqual((head.method, head.target), (b"GET", b"/path?query"))
            self.assertEqual((head.version, head.host, head.keep_alive), (11, HOST, True))

    def test_via_names_the_version_that_was_received(self) -> None:
        for version, via in (
            (10, b"1.0 authproxy"),
            (11, b"1.1 authproxy"),
            (20, b"2.0 authproxy"),
        ):
            self.assertEqual(sent((b"via", b"1.1 before"), version=version).count((b"via", via)), 1)
        found = [v for name, v in sent((b"via", b"1.1 before")) if name == b"via"]
        self.assertEqual(found, [b"1.1 before", b"1.1 authproxy"])

    def test_what_authentik_needs_passes(self) -> None:
        """In its order, repeated fields repeated (AUTHENTIK.md, "Never delete")."""
        fields = [
            (b"x-authentik-csrf", b"a"), (b"x-authentik-remote-ip", b"192.0.2.9"),
            (b"x-authentik-outpost-token", b"b"), (b"x-rac-token", b"c"), (b"cookie", b"d=1"),
            (b"authorization", b"Bearer e"), (b"origin", b"https://sso.example.com"),
            (b"referer", b"https://sso.example.com/"), (b"sec-fetch-mode", b"cors"),
            (b"traceparent", b"00-1"), (b"cookie", b"f=2"), (b"accept", b""), (b"x-1", b"\xff"),
        ]  # fmt: skip
        self.assertEqual(others(sent(*fields)), fields)

    def test_the_head_that_came_is_not_changed(self) -> None:
        head = head_of((b"connection", b"x-a"), (b"x-a", b"1"))
        before = list(head.fields)
        forwarding.request(head, CLIENT, False)
        self.assertEqual(head.fields, before)


class RemovedTests(SynchronousTestCase):
    def test_hop_by_hop(self) -> None:
        for name in (
            b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"transfer-encoding",
            b"proxy-authorization", b"proxy-connection", b"proxy-authenticate", b"proxy-x",
        ):  # fmt: skip
            self.assertEqual(others(sent((name, b"x"), (name, b"y"))), [], name)

    def test_forged_identity(self) -> None:
        """Every copy goes, whoever sent it; ours is there once."""
        for client in (CLIENT, TRUSTED):
            for name in (
                b"forwarded", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-host",
                b"x-forwarded-proto", b"x-forwarded-port", b"x-forwarded-prefix",
                b"x-forwarded-server", b"x-forwarded-scheme", b"x-forwarded-ssl", b"x-forwarded-",
                b"x-forwarded-anything", b"x-forwarded-tls-client-cert-info",
                b"cf-connecting-ip", b"cf-connecting-ipv6", b"true-client-ip", b"fastly-client-ip",
                *ADDRESS_FIELDS,
            ):  # fmt: skip
                fields = sent((name, b"192.0.2.66"), (name, b"192.0.2.67"), client=client)
                self.assertEqual(fields, [(b"host", HOST), *OURS], name)

    def test_client_certificates(self) -> None:
        """Believed of a trusted proxy, deleted of anybody else."""
        self.assertEqual(others(sent(*CERTIFICATES)), [])
        self.assertEqual(others(sent(*CERTIFICATES, client=TRUSTED)), CERTIFICATES)

    def test_odd_names(self) -> None:
        """WSGI folds them into the names that are trusted. Dropped and counted, of anybody."""
        names = [
            b"x_forwarded_for", b"x_forwarded-for", b"x-forwarded_for", b"x.forwarded.for",
            b"x-real_ip", b"ssl_client_cert", b"x~forwarded~for", b"x'forwarded", b"_", b"!",
            b"host_",
            b"content_length", b"transfer_encoding", b"x+y", b"a|b", b"a`", b"a^b", b"a#", b"a$b",
            b"a*",
        ]  # fmt: skip
        for client in (CLIENT, TRUSTED):
            head = head_of(*[(name, b"192.0.2.66") for name in names])
            forwarded = forwarding.request(head, client, False)
            self.assertEqual(others(forwarded.fields), [])
            self.assertEqual(forwarded.dropped, (forwarding.ODD_NAME,) * len(names))

    def test_connection_names_fields(self) -> None:
        for connection, left in (
            ([b"x-a"], {b"x-b"}),
            ([b"X-A, x-b"], set()),
            ([b"close,X-A\t, ,x-b ,"], set()),
            ([b"keep-alive", b"x-a"], {b"x-b"}),
            ([b"x-a", b"x-b"], set()),
            ([b""], {b"x-a", b"x-b"}),
            ([b"keep-alive, Upgrade"], {b"x-a", b"x-b"}),
            ([b"x-a-b"], {b"x-a", b"x-b"}),
        ):
            lines = [(b"connection", listed) for listed in connection]
            fields = others(sent((b"x-a", b"1"), *lines, (b"x-b", b"2"), (b"x-a", b"3")))
            self.assertEqual({name for name, _ in fields}, left, connection)

    def test_connection_names_our_own_fields(self) -> None:
        """They are set afterwards, so nobody can take them away (DEFENCES.md)."""
        attack = (
            b"host, x-forwarded-for, X-Forwarded-Host, x-forwarded-proto, via, content-length,"
            b" transfer-encoding, x-real-ip, connection, upgrade"
        )
        for how in ({}, {"length": 5}, {"length": CHUNKED}):
            plain = sent((b"x-forwarded-for", b"192.0.2.66"), **how)
            attacked = sent((b"connection", attack), (b"x-forwarded-for", b"192.0.2.66"), **how)
            self.assertEqual(attacked, plain)

    def test_connection_names_a_trusted_certificate(self) -> None:
        """A field that the proxy before us wants gone goes, even where it could be believed."""
        fields = sent((b"connection", b"ssl-client-cert"), *CERTIFICATES, client=TRUSTED)
        self.assertEqual(others(fields), CERTIFICATES[1:])


class HostTests(SynchronousTestCase):
    def test_one_host_and_the_same_twice(self) -> None:
        client = Client("192.0.2.1", b"http", True, (), b"login.example.org")
        fields = sent((b"host", b"second.example"), client=client)
        self.assertEqual(fields[0], (b"host", b"login.example.org"))
        self.assertEqual([v for n, v in fields if n == b"host"], [b"login.example.org"])
        self.assertEqual(dict(fields)[b"x-forwarded-host"], b"login.example.org")


class AddressTests(SynchronousTestCase):
    def address(self, client: Client, append: bool) -> bytes:
        [found] = [v for n, v in sent(client=client, append=append) if n == b"x-forwarded-for"]
        return found

    def test_one_address(self) -> None:
        """The one form that every authentik reads right: no port, no list."""
        self.assertEqual(self.address(CLIENT, False), b"192.0.2.1")
        self.assertEqual(self.address(TRUSTED, False), b"192.0.2.1")

    def test_append(self) -> None:
        self.assertEqual(self.address(CLIENT, True), b"192.0.2.1")
        self.assertEqual(self.address(TRUSTED, True), b"192.0.2.1, 10.0.0.9, 10.0.0.2")

    def test_unix_peer(self) -> None:
        """Never missing and never a word that is no address (CVE-2024-47070)."""
        for append in (False, True):
            client = Client(UNIX_PEER, b"http", False, (), HOST)
            self.assertEqual(self.address(client, append), b"127.0.0.1")


class FramingTests(SynchronousTestCase):
    def test_table(self) -> None:
        for fields, length, expected in (
            ([], 0, []),
            ([(b"content-length", b"0")], 0, [(b"content-length", b"0")]),
            ([(b"content-length", b"5")], 5, [(b"content-length", b"5")]),
            ([(b"content-length", b"0005")], 5, [(b"content-length", b"5")]),
            ([(b"transfer-encoding", b"Chunked")], CHUNKED, [(b"transfer-encoding", b"chunked")]),
        ):
            self.assertEqual(others(sent(*fields, length=length)), expected)


class UpgradeTests(SynchronousTestCase):
    WEBSOCKET: ClassVar[Fields] = [
        (b"connection", b"keep-alive, Upgrade"),
        (b"upgrade", b"WebSocket"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", b"guacamole"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
    ]

    def test_websocket(self) -> None:
        fields = sent(*self.WEBSOCKET, upgrade=1)
        for wanted in (
            *self.WEBSOCKET[2:],
            (b"connection", b"upgrade"),
            (b"upgrade", b"websocket"),
        ):
            self.assertEqual(fields.count(wanted), 1)
        self.assertEqual(sum(name == b"connection" for name, _ in fields), 1)
        self.assertEqual(fields[-4:], OURS)

    def test_forged_fields_do_not_pass_with_it(self) -> None:
        forged = [(b"x-forwarded-for", b"192.0.2.66"), (b"x_forwarded_for", b"192.0.2.66"),
                  (b"forwarded", b"for=192.0.2.66"), (b"proxy-a", b"b"), *CERTIFICATES]  # fmt: skip
        self.assertEqual(
            sent(*forged, *self.WEBSOCKET, upgrade=1), sent(*self.WEBSOCKET, upgrade=1)
        )

    def test_any_other_upgrade_is_none(self) -> None:
        fields = sent(
            (b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c"),
            (b"http2-settings", b"AAMAAABk"),
        )  # fmt: skip
        self.assertEqual(fields, [(b"host", HOST), *OURS])


class ResponseTests(SynchronousTestCase):
    def received(
        self, *fields: tuple[bytes, bytes], status: int = 200, hsts: bytes | None = None
    ) -> Fields:
        head = ResponseHead(status, b"Fine", 11, list(fields), 5)
        return forwarding.response(head, hsts).fields

    def test_the_line(self) -> None:
        head = forwarding.response(ResponseHead(299, b"Fine", 10, [], UNTIL_CLOSE), None)
        self.assertEqual((head.status, head.reason, head.length), (299, b"Fine", UNTIL_CLOSE))

    def test_what_passes(self) -> None:
        """Several Set-Cookie lines stay several, in order; names are upstream's own affair."""
        fields = [
            (b"server", b"authentik"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"),
            (b"location", b"/"), (b"x_odd.name", b"1"), (b"content-length", b"5"), (b"set-cookie",
            b"a=3"),
        ]  # fmt: skip
        self.assertEqual(self.received(*fields), fields)

    def test_hop_by_hop(self) -> None:
        for name in (b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding",
                     b"upgrade",
                     b"proxy-authenticate", b"proxy-connection"):  # fmt: skip
            self.assertEqual(self.received((name, b"x"), (name, b"x")), [], name)

    def test_connection_names_fields(self) -> None:
        fields = self.received(
            (b"x-a", b"1"), (b"connection", b"close, X-A"), (b"connection", b"x-b, content-length"),
            (b"x-b", b"2"), (b"x-c", b"3"), (b"content-length", b"5"),
        )  # fmt: skip
        self.assertEqual(fields, [(b"x-c", b"3"), (b"content-length", b"5")])

    def test_hsts(self) -> None:
        """Replaced, never doubled; b"" for none at all, None for upstream's own."""
        theirs = (b"strict-transport-security", b"max-age=1")
        ours = (b"strict-transport-security", b"max-age=63072000")
        for fields, hsts, expected in (
            ([], ours[1], [ours]),
            ([theirs], ours[1], [ours]),
            ([theirs, theirs], ours[1], [ours]),
            ([theirs, (b"connection", b"strict-transport-security")], ours[1], [ours]),
            ([theirs], b"", []),
            ([theirs], None, [theirs]),
            ([], None, []),
            ([], b"", []),
        ):
            self.assertEqual(self.received(*fields, hsts=hsts), expected)

    def test_informational(self) -> None:
        """No HSTS in them: whether it belongs there is said of the final response."""
        for status in (100, 103):
            fields = self.received(
                (b"link", b"</a>"), (b"strict-transport-security", b"max-age=1"),
                (b"content-length", b"0"), status=status,
            )  # fmt: skip
            self.assertEqual(fields, [(b"link", b"</a>")])

    def test_no_length_where_there_is_no_content(self) -> None:
        length = (b"content-length", b"5")
        for status, expected in ((204, []), (304, [length]), (200, [length])):
            self.assertEqual(self.received(length, status=status), expected)

    def test_switching(self) -> None:
        fields = self.received(
            (b"upgrade", b"WebSocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept",
            b"x"),
            (b"sec-websocket-protocol", b"guacamole"), status=101, hsts=b"max-age=1",
        )  # fmt: skip
        self.assertEqual(
            fields,
            [
                (b"sec-websocket-accept", b"x"), (b"sec-websocket-protocol", b"guacamole"),
                (b"connection", b"upgrade"), (b"upgrade", b"websocket"),
                (b"strict-transport-security", b"max-age=1"),
            ],
        )  # fmt: skip


class TrailerTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Some recipients merge them into the head: nothing passes that could not pass there."""
        removed = [
            b"x-forwarded-for", b"x-forwarded-anything", b"x-real-ip", b"forwarded", b"host",
            b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"te",
            b"trailer",
            b"upgrade", b"proxy-authorization", b"ssl-client-cert", b"x-forwarded-client-cert",
            b"x_forwarded_for", b"x.real.ip", b"strict-transport-security",
        ]  # fmt: skip
        kept = [(b"server-timing", b"a"), (b"x-checksum", b"b"), (b"digest", b"c")]
        fields = [kept[0], *((name, b"x") for name in removed), *kept[1:]]
        self.assertEqual(forwarding.trailers(fields), kept)


NAMES = st.sampled_from(
    [name for name, _ in OURS]
    + [name for name, _ in CERTIFICATES]
    + [
        b"connection",
        b"host",
        b"forwarded",
        b"x-real-ip",
        b"te",
        b"x-a",
        b"cookie",
        b"x_forwarded_for",
    ]
)
FIELDS = st.lists(st.tuples(NAMES | token.map(bytes.lower), NAMES | value), max_size=12)


class AnyRequestTests(SynchronousTestCase):
    @EXAMPLES
    @given(FIELDS, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0, 5, CHUNKED]))
    def test_whatever_is_sent(
        self, fields: Fields, trusted: bool, append: bool, upgrade: bool, length: int
    ) -> None:
        client = TRUSTED if trusted else CLIENT
        found = sent(*fields, client=client, append=append, upgrade=upgrade, length=length)
        for name, expected in OURS[1:3]:
            self.assertEqual([v for n, v in found if n == name], [expected])
        self.assertEqual([v for n, v in found if n == b"host"], [HOST])
        self.assertEqual(sum(n == b"x-forwarded-for" for n, _ in found), 1)
        self.assertEqual(sum(n == b"connection" for n, _ in found), int(upgrade))
        allowed = {name for name, _ in (*OURS, *(CERTIFICATES if trusted else []))}
        for name, _ in found:
            self.assertTrue(re.fullmatch(rb"[a-z0-9-]+", name), name)
            self.assertTrue(not name.startswith(b"x-forwarded-") or name in allowed, name)
            self.assertNotIn(name, {b"forwarded", b"x-real-ip", b"te"})
