"""X-Forwarded-For lists and PROXY headers, beside slow and obvious readings of the same rules."""

from __future__ import annotations

import ipaddress
import socket
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.transport.proxy_header import ProxyHeader, parse
from authproxy.trust import TrustedProxies, direct, identify
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import RequestHead

from .wire import feeding  # its profile
from .wire.feeding import octet_by_octet

TRUSTED = ("10.0.0.0/8", "2001:db8:1::/48")
PEER = "10.0.0.1"

ADDRESSES = st.one_of(
    st.sampled_from(["10.0.0.2", "10.9.9.9", "2001:db8:1::5", "::ffff:10.0.0.3", "192.0.2.1"]),
    st.ip_addresses().map(str),
)
ENTRIES = st.one_of(
    ADDRESSES,
    ADDRESSES.map(lambda text: f"[{text}]:443" if ":" in text else f"{text}:443"),
    ADDRESSES.map(lambda text: f"[{text}]" if ":" in text else text),
    ADDRESSES.map(lambda text: f" {text}\t"),
    st.sampled_from(["", "unknown", "_hidden", "fe80::1%eth0", "010.0.0.2", "10.0.0.2:", "10.0.0"]),
    st.text("0123456789.:[]a %", max_size=12),
)


def obvious_address(entry: str) -> str | None:
    """The address in an entry, with the standard library's opinion of each possible reading."""
    text = entry.strip(" \t")
    if text.startswith("["):
        inside, bracket, port = text[1:].partition("]")
        if not bracket or (port and not is_port(port)):
            return None
        text = inside
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not is_port(":" + port) or "." not in text:
            return None
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def is_port(text: str) -> bool:
    digits = text[1:]
    return text[:1] == ":" and digits.isascii() and digits.isdigit() and len(digits) <= 5


def obvious_client(entries: list[str]) -> str:
    """The one that the last trusted one has named."""
    client = PEER
    while entries and any(
        ipaddress.ip_address(client) in ipaddress.ip_network(cidr) for cidr in TRUSTED
    ):
        address = obvious_address(entries.pop())
        if address is None:
            break
        client = address
    return client


class ForwardedFor(SynchronousTestCase):
    @given(st.lists(ENTRIES, max_size=6), st.integers(0, 6))
    def test_beside_the_obvious(self, entries: list[str], cut: int) -> None:
        fields = [
            (b"x-forwarded-for", ",".join(some).encode())
            for some in (entries[:cut], entries[cut:])
            if some
        ]
        networks = TrustedProxies(TRUSTED)
        head = RequestHead(b"GET", b"/", 11, fields, b"a")
        client = identify(head, direct(PEER, b"https", networks), networks)
        self.assertEqual(client.address, obvious_client(entries[:]), fields)


V2 = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = st.integers(0, 65535)


def version_1(source: str, target: str, ports: tuple[int, int]) -> bytes:
    return (
        f"PROXY TCP{4 if '.' in source else 6} {source} {target} {ports[0]} {ports[1]}\r\n".encode()
    )


def version_2(source: str, target: str, ports: tuple[int, int], extra: bytes) -> bytes:
    family = socket.AF_INET if "." in source else socket.AF_INET6
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    body = addresses + struct.pack("!HH", *ports) + extra
    kind = 0x11 if family == socket.AF_INET else 0x21
    return V2 + struct.pack("!BBH", 0x21, kind, len(body)) + body


PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), st.ip_addresses(v=4).map(str)),
    st.tuples(
        st.ip_addresses(v=6).map(lambda a: a.exploded),
        st.ip_addresses(v=6).map(lambda a: a.exploded),
    ),
)


class ProxyHeaders(SynchronousTestCase):
    """What a balancer may write is read, at its last octet and not before."""

    @given(PAIRS, st.tuples(PORTS, PORTS), st.booleans(), st.binary(max_size=300))
    def test_good_ones(
        self, pair: tuple[str, str], ports: tuple[int, int], old: bool, extra: bytes
    ) -> None:
        header = version_1(*pair, ports) if old else version_2(*pair, ports, extra)
        for end in range(len(header)):
            self.assertIsNone(parse(header[:end]))
        for behind in (b"", b"GET / HTTP/1.1\r\n"):
            expected = ProxyHeader(len(header), obvious_address(pair[0]), ports[0])
            self.assertEqual(parse(header + behind), expected)

    @given(
        PAIRS, st.tuples(PORTS, PORTS), st.booleans(), st.integers(0, 600), st.binary(max_size=3)
    )
    def test_damaged_ones(
        self, pair: tuple[str, str], ports: tuple[int, int], old: bool, at: int, piece: bytes
    ) -> None:
        """The verdict does not depend on how it arrives, and never reaches behind the header."""
        header = version_1(*pair, ports) if old else version_2(*pair, ports, b"")
        at %= len(header)
        octets = header[:at] + piece + header[at + 1 :] + b"GET / HTTP/1.1\r\n\r\n"
        self.assertEqual(verdict([octets]), verdict(octet_by_octet(octets)), octets)


def verdict(segments: list[bytes]) -> object:
    try:
        return feeding.feed(parse, segments)
    except ProtocolError as e:
        return e.status
