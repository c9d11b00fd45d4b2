"""Who the client is: what peers say of it, and what of that is believed."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.trust import (
    MOST_ENTRIES,
    UNIX_PEER,
    Client,
    TrustedNetworks,
    TrustedProxies,
    direct,
    identify,
    normal_address,
)
from authproxy.wire.heads import RequestHead

from .examples import EXAMPLES

BALANCER = "10.0.0.2"
STRANGER = "198.51.100.7"
INSIDE = TrustedProxies(["10.0.0.0/8", "fd00::/8"])


def client_of(
    *fields: tuple[bytes, bytes],
    peer: str = BALANCER,
    scheme: bytes = b"http",
    networks: TrustedProxies = INSIDE,
    host: bytes = b"sso.example.com",
) -> Client:
    """The client of a request with these fields."""
    head = RequestHead(b"GET", b"/", 11, [(b"host", host), *fields], host)
    return identify(head, direct(peer, scheme, networks), networks)


def listed(*values: bytes, peer: str = BALANCER) -> str:
    """The client's address where these are the X-Forwarded-For lines."""
    return client_of(*[(b"x-forwarded-for", value) for value in values], peer=peer).address


class NormalAddressTests(SynchronousTestCase):
    def test_table(self) -> None:
        for text, expected in (
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::FFFF:c000:0201", "192.0.2.1"),
            ("0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1"),
            ("::192.0.2.1", "::c000:201"),  # IPv4-compatible is another thing, and IPv6
            ("::1", "::1"),
        ):
            self.assertEqual(normal_address(text), expected)

    def test_what_is_none(self) -> None:
        for text in (
            "", " ", "localhost", "unknown", "_hidden", "192.0.2", "192.0.2.1.", "192.0.2.256",
            "192.0.2.01", "0300.0.2.1", "3221225985", "0xc0000201", "192.0.2.1/32", "192.0.2.1:80",
            "[::1]", "fe80::1%eth0", "::1%", "::ffff:192.0.2.1%eth0", "1::2::3", ":::",
            "\xb9.0.2.1",
            "192.0.2.1\n", " 192.0.2.1", "9" * 10000,
        ):  # fmt: skip
            self.assertIsNone(normal_address(text), repr(text))


class TrustedNetworksTests(SynchronousTestCase):
    def test_nobody(self) -> None:
        networks = TrustedNetworks([])
        self.assertFalse(networks)
        for peer in (STRANGER, "127.0.0.1", "::1", UNIX_PEER):
            self.assertFalse(networks.contains(peer))

    def test_edges_of_a_network(self) -> None:
        networks = TrustedNetworks(["10.0.0.0/30", "2001:db8::/127"])
        self.assertTrue(networks)
        for peer, expected in (
            ("9.255.255.255", False), ("10.0.0.0", True), ("10.0.0.3", True), ("10.0.0.4", False),
            ("2001:db8::1", True), ("2001:db8::2", False), ("::a00:0", False),
        ):  # fmt: skip
            for _ in range(2):  # the second answer is remembered
                self.assertIs(networks.contains(peer), expected, peer)

    def test_unix_sockets_are_trusted_by_name_only(self) -> None:
        self.assertFalse(TrustedNetworks(["0.0.0.0/0", "::/0"]).contains(UNIX_PEER))
        only = TrustedNetworks([UNIX_PEER])
        self.assertTrue(only)
        self.assertTrue(only.contains(UNIX_PEER))
        self.assertFalse(only.contains("127.0.0.1"))
        both = TrustedNetworks([UNIX_PEER, "10.0.0.0/8"])
        self.assertTrue(both.contains(UNIX_PEER) and both.contains(BALANCER))

    def test_a_peer_with_a_zone(self) -> None:
        self.assertTrue(TrustedNetworks(["fe80::/10"]).contains("fe80::1%eth0"))

    def test_what_is_remembered_is_bounded(self) -> None:
        networks = TrustedNetworks(["10.0.0.0/8"])
        for number in range(10000):
            networks.contains(str(ipaddress.ip_address(number)))
        self.assertLessEqual(len(networks._known), 5000)
        self.assertTrue(networks.contains(BALANCER))


class UntrustedPeerTests(SynchronousTestCase):
    def test_nothing_is_believed(self) -> None:
        client = client_of(
            (b"x-forwarded-for", b"192.0.2.66"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", b"evil.example"),
            peer=STRANGER,
        )
        self.assertEqual((client.address, client.scheme), (STRANGER, b"http"))
        self.assertEqual((client.host, client.chain), (b"sso.example.com", ()))
        self.assertFalse(client.trusted)

    def test_a_client_inside_the_list_of_a_stranger(self) -> None:
        """An address of ours in the list makes nobody trusted: only the peer counts."""
        self.assertEqual(listed(b"192.0.2.66, 10.0.0.1", peer=STRANGER), STRANGER)

    def test_one_connection_may_carry_many_clients(self) -> None:
        """What one request said of its client must not stick to the connection."""
        connection = direct(BALANCER, b"http", INSIDE)
        first = RequestHead(
            b"GET", b"/", 11,
            [(b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", b"https"),
             (b"x-forwarded-host", b"a.example")],
            b"b.example",
        )  # fmt: skip
        identify(first, connection, INSIDE)
        second = identify(RequestHead(b"GET", b"/", 11, [], b"b.example"), connection, INSIDE)
        self.assertEqual((second.address, second.scheme), (BALANCER, b"http"))
        self.assertEqual((second.host, second.chain), (b"b.example", ()))


class AddressTests(SynchronousTestCase):
    def test_table(self) -> None:
        """From the right past trusted ones; garbage ends the walk at the last good address."""
        for values, expected in (
            ([], BALANCER),
            ([b"192.0.2.1"], "192.0.2.1"),
            ([b"192.0.2.66, 192.0.2.1"], "192.0.2.1"),
            ([b"192.0.2.66, 192.0.2.1, 10.0.0.9, fd00::1"], "192.0.2.1"),
            ([b"10.0.0.8, 10.0.0.9"], "10.0.0.8"),
            ([b"192.0.2.66", b"192.0.2.1"], "192.0.2.1"),
            ([b"192.0.2.1", b"10.0.0.9"], "192.0.2.1"),
            ([b"192.0.2.66,garbage,10.0.0.9"], "10.0.0.9"),
            ([b"192.0.2.66, unknown"], BALANCER),
            ([b"192.0.2.66,"], BALANCER),
            ([b"192.0.2.66, ,10.0.0.9"], "10.0.0.9"),
            ([b"192.0.2.66", b""], BALANCER),
            ([b""], BALANCER),
            ([b",,,,"], BALANCER),
            ([b" \t192.0.2.1\t ,\t10.0.0.9"], "192.0.2.1"),
            ([b"192.0.2.1:4711"], "192.0.2.1"),
            ([b"[2001:DB8::1]"], "2001:db8::1"),
            ([b"[2001:db8::1]:4711"], "2001:db8::1"),
            ([b"2001:db8::1"], "2001:db8::1"),
            ([b"::ffff:192.0.2.1"], "192.0.2.1"),
            ([b"[::ffff:192.0.2.1]:80"], "192.0.2.1"),
            ([b"192.0.2.1, ::ffff:10.0.0.9"], "192.0.2.1"),  # trusted in its IPv6 clothes too
            ([b"192.0.2.1, 10.0.0.9:1, [fd00::2]:65535"], "192.0.2.1"),
        ):
            self.assertEqual(listed(*values), expected, values)

    def test_garbage(self) -> None:
        for entry in (
            b"fe80::1%eth0", b"[fe80::1%25eth0]", b"192.0.2.1%eth0", b"[192.0.2.1", b"192.0.2.1]",
            b"[::1", b"::1]", b"[[::1]]", b"[]", b"[]:80", b"192.0.2.1:", b"192.0.2.1:port",
            b"192.0.2.1:123456", b"192.0.2.1:80:80", b"[::1]80", b"[::1]:", b":80",
            b"192.0.2.1 192.0.2.2",
            b"for=192.0.2.1", b'"192.0.2.1"', b"192.0.2.1;", b"192.0.2.1/32", b"192.0.2.01",
            b"\xb2.0.2.1", b"\xff", b"0", b"1.2.3", b"a" * 30000, b"1" * 30000, b":" * 30000,
        ):  # fmt: skip
            self.assertEqual(listed(entry), BALANCER, entry[:40])
            self.assertEqual(
                listed(b"192.0.2.66, " + entry + b", 10.0.0.9"), "10.0.0.9", entry[:40]
            )

    def test_a_long_list(self) -> None:
        """10 000 entries: the right end counts, and no more is looked at than is bounded."""
        forged = b"192.0.2.66, " * 10000
        self.assertEqual(listed(forged + b"192.0.2.1"), "192.0.2.1")
        self.assertEqual(listed(forged + b"192.0.2.1, 10.0.0.9"), "192.0.2.1")
        client = client_of((b"x-forwarded-for", b", ".join([b"10.0.0.9"] * 10000)))
        self.assertEqual(client.address, "10.0.0.9")
        self.assertLessEqual(len(client.chain), MOST_ENTRIES + 1)
        self.assertEqual(listed(b"192.0.2.1, " + b", ".join([b"10.0.0.9"] * 10000)), "10.0.0.9")

    def test_many_lines_count_as_one_list(self) -> None:
        lines = [b"192.0.2.66"] * 5000 + [b"192.0.2.1"] + [b"10.0.0.9"] * 3
        self.assertEqual(listed(*lines), "192.0.2.1")

    def test_chain(self) -> None:
        """The believed addresses from the client to the peer, and no other."""
        for values, peer, expected in (
            ([b"192.0.2.66, 192.0.2.1, 10.0.0.9"], BALANCER, ("192.0.2.1", "10.0.0.9", BALANCER)),
            ([b"garbage"], BALANCER, ()),
            ([], BALANCER, ()),
            ([b"192.0.2.1"], STRANGER, ()),
        ):
            client = client_of(*[(b"x-forwarded-for", v) for v in values], peer=peer)
            self.assertEqual(client.chain, expected)

    def test_unix_peer(self) -> None:
        networks = TrustedProxies([UNIX_PEER])
        found = client_of((b"x-forwarded-for", b"192.0.2.1"), peer=UNIX_PEER, networks=networks)
        self.assertEqual((found.address, found.chain), ("192.0.2.1", ("192.0.2.1",)))
        for value in (b"garbage", b"", b"unix:"):
            lost = client_of((b"x-forwarded-for", value), peer=UNIX_PEER, networks=networks)
            self.assertEqual((lost.address, lost.chain), (UNIX_PEER, ()))
        stranger = client_of((b"x-forwarded-for", b"192.0.2.1"), peer=UNIX_PEER)
        self.assertEqual(stranger.address, UNIX_PEER)

    def test_nobody_becomes_the_unix_peer(self) -> None:
        networks = TrustedProxies([UNIX_PEER, "10.0.0.0/8"])
        client = client_of((b"x-forwarded-for", b"192.0.2.66, unix:"), networks=networks)
        self.assertEqual(client.address, BALANCER)

    @EXAMPLES
    @given(st.lists(st.binary(max_size=60) | st.sampled_from([b"192.0.2.1", b"10.0.0.9", b","])))
    def test_always_one_address(self, values: list[bytes]) -> None:
        """Whatever a trusted peer passes on, the result is one address in its canonical form."""
        address = listed(*values)
        self.assertEqual(str(ipaddress.ip_address(address)), address)


class SchemeTests(SynchronousTestCase):
    def test_table(self) -> None:
        for values, expected in (
            ([], b"http"),
            ([b"https"], b"https"),
            ([b"HTTPS"], b"https"),
            ([b"https", b"https"], b"http"),
            ([b"https", b"http"], b"http"),
            ([b"https,http"], b"http"),
            ([b"https, https"], b"http"),
            ([b"wss"], b"http"),
            ([b"on"], b"http"),
            ([b""], b"http"),
            ([b"https "], b"http"),  # the parser strips; what is left of white space is odd
        ):
            client = client_of(*[(b"x-forwarded-proto", value) for value in values])
            self.assertEqual(client.scheme, expected, values)

    def test_http_behind_our_tls(self) -> None:
        self.assertEqual(
            client_of((b"x-forwarded-proto", b"http"), scheme=b"https").scheme, b"http"
        )


class HostTests(SynchronousTestCase):
    def test_table(self) -> None:
        own = b"sso.example.com"
        for values, expected in (
            ([b"login.example.org"], b"login.example.org"),
            ([b"login.example.org:8443"], b"login.example.org:8443"),
            ([b"[2001:db8::1]:8443"], b"[2001:db8::1]:8443"),
            ([b"a.example", b"a.example"], own),
            ([b"a.example", b"b.example"], own),
            ([b"a.example, b.example"], own),
            ([b""], own),
            ([b"a.example/x"], own),
            ([b"user@a.example"], own),
            ([b"a.example:0"], own),
            ([b"a.example:"], own),
            ([b"a b"], own),
            ([b"a.example\xff"], own),
            ([b"<script>"], own),
            ([b"2001:db8::1"], own),
            ([b"a" * 63 + (b"." + b"a" * 63) * 3 + b".aaaaaaa"], own),  # longer than any name
        ):
            client = client_of(*[(b"x-forwarded-host", value) for value in values])
            self.assertEqual(client.host, expected, values)

    def test_http_1_0_without_host(self) -> None:
        client = client_of((b"x-forwarded-host", b"a.example"), host=b"")
        self.assertEqual(client.host, b"a.example")


class AddressFieldTests(SynchronousTestCase):
    """A CDN's own field for the address of its client, and the same of a proxy."""

    EDGE, EDGE6 = "203.0.113.9", "2001:db8:cf::9"
    CDN = TrustedProxies(
        ["10.0.0.0/8"], cdns=[(["203.0.113.0/24", "2001:db8:cf::/48"], b"cf-connecting-ip")]
    )

    def named(self, *values: bytes, peer: str = EDGE, more: bytes = b"") -> str:
        """The client's address where the field has these values."""
        fields = [(b"cf-connecting-ip", value) for value in values]
        if more:
            fields.append((b"x-forwarded-for", more))
        return client_of(*fields, peer=peer, networks=self.CDN).address

    def test_from_the_cdn(self) -> None:
        for peer in (self.EDGE, self.EDGE6):
            for value, expected in (
                (b"192.0.2.1", "192.0.2.1"),
                (b"2001:DB8::1", "2001:db8::1"),
                (b"::ffff:192.0.2.1", "192.0.2.1"),
            ):
                self.assertEqual(self.named(value, peer=peer), expected)
                self.assertEqual(self.named(value, peer=peer, more=b"192.0.2.66"), expected)

    def test_from_anybody_else(self) -> None:
        """A forged field from outside, and from a proxy that is no CDN."""
        self.assertEqual(self.named(b"192.0.2.66", peer=STRANGER), STRANGER)
        self.assertEqual(self.named(b"192.0.2.66", peer=BALANCER), BALANCER)
        self.assertEqual(self.named(b"192.0.2.66", peer=BALANCER, more=b"192.0.2.1"), "192.0.2.1")
        self.assertEqual(self.named(b"192.0.2.66", peer=UNIX_PEER), UNIX_PEER)

    def test_two_fields_or_garbage(self) -> None:
        """Then X-Forwarded-For counts, and without that the peer."""
        for values in (
            (b"192.0.2.66", b"192.0.2.67"), (b"192.0.2.66", b"192.0.2.66"), (b"192.0.2.66", b""),
            (b"192.0.2.66, 192.0.2.67",), (b"",), (b"garbage",), (b"fe80::1%eth0",),
            (b"192.0.2.66 192.0.2.67",), (b"\xff" * 100,), (b"1" * 30000,), (b"unix:",), (),
        ):  # fmt: skip
            self.assertEqual(self.named(*values), self.EDGE, values)
            self.assertEqual(self.named(*values, more=b"192.0.2.5, 192.0.2.1"), "192.0.2.1")

    def test_a_balancer_behind_the_cdn(self) -> None:
        """The peer is the balancer: its list is walked, past the CDN's addresses too."""
        self.assertEqual(
            self.named(b"192.0.2.66", peer=BALANCER, more=b"192.0.2.66, 192.0.2.1, 203.0.113.9"),
            "192.0.2.1",
        )

    def test_what_else_is_believed_of_a_cdn(self) -> None:
        """The scheme, which it writes. Not the host, which it passes on as its client sent it."""
        client = client_of(
            (b"cf-connecting-ip", b"192.0.2.1"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", b"evil.example"),
            peer=self.EDGE,
            networks=self.CDN,
        )
        self.assertEqual((client.scheme, client.host), (b"https", b"sso.example.com"))
        self.assertFalse(client.trusted)  # nor client certificates
        self.assertEqual(client.chain, ("192.0.2.1", self.EDGE))

    def test_a_cdn_that_is_also_named_as_a_proxy(self) -> None:
        networks = TrustedProxies(["0.0.0.0/0"], cdns=[(["203.0.113.0/24"], b"cf-connecting-ip")])
        client = client_of(
            (b"x-forwarded-host", b"evil.example"), peer=self.EDGE, networks=networks
        )
        self.assertEqual((client.host, client.trusted), (b"sso.example.com", False))

    def test_a_field_of_proxies(self) -> None:
        networks = TrustedProxies(["10.0.0.0/8", UNIX_PEER], b"x-real-ip")
        fields = [(b"x-real-ip", b"192.0.2.1"), (b"x-forwarded-for", b"192.0.2.66")]
        client = client_of(*fields, peer=BALANCER, networks=networks)
        self.assertEqual((client.address, client.trusted), ("192.0.2.1", True))
        self.assertEqual(client.chain, ("192.0.2.1", BALANCER))
        client = client_of(*fields, peer=UNIX_PEER, networks=networks)
        self.assertEqual((client.address, client.chain), ("192.0.2.1", ("192.0.2.1",)))
        self.assertEqual(client_of(*fields, peer=STRANGER, networks=networks).address, STRANGER)
        self.assertEqual(client_of(fields[0]).address, BALANCER)  # no such field is configured

    def test_a_field_of_proxies_that_cannot_be_read(self) -> None:
        """Twice, or no address: the proxy passes on what clients sent, perhaps their list too."""
        networks = TrustedProxies(["10.0.0.0/8"], b"x-real-ip")
        for values in ((b"192.0.2.1", b"192.0.2.66"), (b"unix:",), (b"",), (b"a, b",)):
            fields = [(b"x-real-ip", value) for value in values]
            fields.append((b"x-forwarded-for", b"192.0.2.66"))
            client = client_of(*fields, peer=BALANCER, networks=networks)
            self.assertEqual((client.address, client.chain), (BALANCER, ()), values)
            self.assertTrue(client.obscured)
        client = client_of((b"x-forwarded-for", b"192.0.2.1"), peer=BALANCER, networks=networks)
        self.assertEqual((client.address, client.obscured), ("192.0.2.1", False))

    def test_a_peer_that_names_nobody(self) -> None:
        """Of a PROXY header without an address: what comes is somebody's, and not the peer's."""
        networks = TrustedProxies(["10.0.0.0/8"], cdns=[(["203.0.113.0/24"], b"cf-connecting-ip")])
        said = [
            (b"x-forwarded-for", b"192.0.2.66"), (b"cf-connecting-ip", b"192.0.2.66"),
            (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"evil.example"),
        ]  # fmt: skip
        head = RequestHead(b"GET", b"/", 11, said, b"sso.example.com")
        for peer in (BALANCER, "203.0.113.9", STRANGER, UNIX_PEER):
            client = identify(head, direct(peer, b"http", networks, True), networks)
            self.assertEqual((client.address, client.chain), (peer, ()))
            self.assertEqual((client.scheme, client.host), (b"http", b"sso.example.com"))
            self.assertEqual((client.trusted, client.obscured), (False, True))
