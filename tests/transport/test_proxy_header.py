"""The PROXY header: every form whole, octet by octet, cut everywhere and with octets behind it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.transport.proxy_header import V1_OCTETS, V2_OCTETS, ProxyHeader, parse
from authproxy.wire.errors import ProtocolError
from tests.wire.feeding import feed, octet_by_octet, refusal, segmentations

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
TCP4 = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + b"\xdd\xd5\x01\xbb"  # ports 56789, 443
TCP6_SOURCE = bytes.fromhex("20010db8000000000000000000000001")
TCP6 = TCP6_SOURCE + TCP6_SOURCE[::-1] + b"\xdd\xd5\x01\xbb"
MAPPED = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]) + TCP6[16:]
LONGEST_ADDRESS = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + body


# What a header says: source, source port, local.
ACCEPTED: list[tuple[bytes, str | None, int, bool]] = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n", "192.0.2.1", 56789, False),
    (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        "255.255.255.255",
        65535,
        False,
    ),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0", 0, False),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 56789 443\r\n", "2001:db8::1", 56789, False),
    (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 ::1 1 1\r\n", "2001:db8::1", 1, False),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 56789 443\r\n", "192.0.2.1", 56789, False),
    (b"PROXY TCP6 ::FFFF:C000:0201 ::1 56789 443\r\n", "192.0.2.1", 56789, False),
    (b"PROXY UNKNOWN\r\n", None, 0, False),
    (b"PROXY UNKNOWN what follows \0\xff is ignored\n\r\n", None, 0, False),
    (
        b"PROXY UNKNOWN %b %b 65535 65535\r\n" % (LONGEST_ADDRESS, LONGEST_ADDRESS),
        None,
        0,
        False,
    ),
    (v2(0x21, 0x11, TCP4), "192.0.2.1", 56789, False),
    (v2(0x21, 0x21, TCP6), "2001:db8::1", 56789, False),
    (v2(0x21, 0x21, MAPPED), "192.0.2.1", 56789, False),
    (v2(0x21, 0x11, TCP4 + b"\x01\x00\x02h2\x04\x00\x00"), "192.0.2.1", 56789, False),
    (v2(0x21, 0x11, TCP4 + bytes(V2_OCTETS - 28)), "192.0.2.1", 56789, False),
    (v2(0x21, 0x31, b"/run/a.sock".ljust(108, b"\0") * 2), None, 0, False),
    (v2(0x21, 0x00, b""), None, 0, False),
    (v2(0x21, 0x00, b"\x04\x00\x01\x00"), None, 0, False),
    (v2(0x20, 0x00, b""), None, 0, True),
    # With LOCAL the family is ignored, and the addresses too.
    (v2(0x20, 0x11, TCP4), None, 0, True),
    (v2(0x20, 0x12, b""), None, 0, True),
    (v2(0x20, 0xFF, b"abc"), None, 0, True),
]

REFUSED: list[tuple[str, bytes]] = [
    ("no header but a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no header but TLS", TLS_HELLO),
    ("no header but a request with P", b"POST / HTTP/1.1\r\n"),
    ("lower case", b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("HT for SP", b"PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("two spaces", b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("two spaces between addresses", b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n"),
    ("a space at the end", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"),
    ("one word more", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"),
    ("one word less", b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"),
    ("no words", b"PROXY TCP4\r\n"),
    ("nothing", b"PROXY \r\n"),
    ("a protocol there is not", b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("UNKNOWN that goes on", b"PROXY UNKNOWNS\r\n"),
    ("UNKNOWN and a bare CR", b"PROXY UNKNOWN\rx\r\n"),
    ("bare LF", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n"),
    ("bare CR", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n"),
    ("NUL", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\0\r\n"),
    ("IPv6 for TCP4", b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n"),
    ("IPv6 target for TCP4", b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n"),
    ("IPv4 for TCP6", b"PROXY TCP6 192.0.2.1 ::1 1 2\r\n"),
    ("a zone", b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n"),
    ("brackets", b"PROXY TCP6 [::1] ::1 1 2\r\n"),
    ("three numbers", b"PROXY TCP4 192.0.1 192.0.2.2 1 2\r\n"),
    ("256", b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n"),
    ("an address with a leading zero", b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n"),
    ("a bad target", b"PROXY TCP4 192.0.2.1 192.0.2 1 2\r\n"),
    ("two ::", b"PROXY TCP6 1::2::3 ::1 1 2\r\n"),
    ("port 65536", b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n"),
    ("target port 65536", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"),
    ("a port of six digits", b"PROXY TCP4 192.0.2.1 192.0.2.2 100000 2\r\n"),
    ("a port with a leading zero", b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"),
    ("a port with a sign", b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n"),
    ("a negative port", b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n"),
    ("a hexadecimal port", b"PROXY TCP4 192.0.2.1 192.0.2.2 1f 2\r\n"),
    ("a port with _", b"PROXY TCP4 192.0.2.1 192.0.2.2 1_0 2\r\n"),
    ("an empty port", b"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n"),
    ("108 octets", b"PROXY UNKNOWN " + b"a" * 92 + b"\r\n"),
    ("no end", b"PROXY UNKNOWN " + b"a" * 500),
    ("a cut signature", SIGNATURE[:-1] + b"\r"),
    ("version 1", v2(0x11, 0x11, TCP4)),
    ("version 3", v2(0x31, 0x11, TCP4)),
    ("command 2", v2(0x22, 0x11, TCP4)),
    ("TCP4 as DGRAM", v2(0x21, 0x12, TCP4)),
    ("TCP6 as DGRAM", v2(0x21, 0x22, TCP6)),
    ("unix DGRAM", v2(0x21, 0x32, bytes(216))),
    ("family 4", v2(0x21, 0x41, TCP4)),
    ("protocol 3", v2(0x21, 0x13, TCP4)),
    ("IPv4 of no protocol", v2(0x21, 0x10, TCP4)),
    ("STREAM of no family", v2(0x21, 0x01, TCP4)),
    ("too short for TCP4", v2(0x21, 0x11, TCP4[:-1])),
    ("too short for TCP6", v2(0x21, 0x21, TCP6[:-1])),
    ("TCP6 with IPv4 addresses", v2(0x21, 0x21, TCP4)),
    ("too short for unix", v2(0x21, 0x31, bytes(215))),
    ("no addresses", v2(0x21, 0x11, b"")),
    ("537 octets", v2(0x21, 0x11, TCP4 + bytes(V2_OCTETS - 27))),
    ("LOCAL of 537 octets", v2(0x20, 0x00, bytes(V2_OCTETS - 15))),
    ("65551 octets", v2(0x21, 0x00, b"", 65535)),
]

# The shortest beginnings that show what they are not. One octet less is still waited for.
EARLY: list[bytes] = [
    b"G",
    b"\x16",
    b"PO",
    b"PROXY U ",
    b"PROXY TCP5",
    b"PROXY TCP4 192.0.2.1\n",
    b"PROXY TCP4 192.0.2.1\r ",
    b"PROXY UNKNOWNS",
    b"\r\n\r\nG",
    SIGNATURE + b"\x11",
    SIGNATURE + b"\x22",
    SIGNATURE + b"\x21\x12",
    SIGNATURE + b"\x21\x11\x00\x0b",
    SIGNATURE + b"\x21\x11\x02\x09",
    SIGNATURE + b"\x20\x00\x02\x09",
    b"PROXY UNKNOWN " + b"a" * (V1_OCTETS - 14),
]


class TableTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        for data, source, port, local in ACCEPTED:
            expected = ProxyHeader(len(data), source, port, local)
            for segments in segmentations(data):
                self.assertEqual(feed(parse, segments), expected, data)

    def test_accepted_with_octets_behind(self) -> None:
        for data, source, port, local in ACCEPTED:
            expected = ProxyHeader(len(data), source, port, local)
            for behind in (b"\r\n", TLS_HELLO, data, b"\0" * 70000):
                self.assertEqual(parse(data + behind), expected, data)

    def test_wants_more_until_the_last_octet(self) -> None:
        for data, *_ in ACCEPTED:
            for cut in range(len(data)):
                self.assertIsNone(parse(data[:cut]), data[:cut])

    def test_refused(self) -> None:
        for what, data in REFUSED:
            for segments in segmentations(data):
                error = refusal(feed, parse, segments)
                if error is None:
                    self.fail(f"not refused: {what}")
                self.assertEqual(error.status, 400, what)

    def test_refused_with_octets_behind(self) -> None:
        for what, data in REFUSED:
            self.assertIsNotNone(refusal(parse, data + b"a\r\n" * 300), what)

    def test_refused_early(self) -> None:
        for data in EARLY:
            self.assertIsNone(parse(data[:-1]), data)
            self.assertRaises(ProtocolError, parse, data)

    def test_longest_line_is_107_octets(self) -> None:
        longest = [data for data, *_ in ACCEPTED if data.startswith(b"PROXY ")]
        self.assertEqual(max(map(len, longest)), V1_OCTETS)
        binary = [data for data, *_ in ACCEPTED if data.startswith(SIGNATURE)]
        self.assertEqual(max(map(len, binary)), V2_OCTETS)

    def test_reasons_do_not_repeat_the_input(self) -> None:
        error = refusal(parse, b"PROXY TCP4 192.0.2.777 192.0.2.2 1 2\r\n")
        assert error is not None
        self.assertNotIn("777", str(error))
        self.assertTrue(error.__suppress_context__)


WORDS = st.sampled_from(
    [b"PROXY", b"TCP4", b"TCP6", b"UNKNOWN", b"192.0.2.1", b"::1", b"1", b"65535", b"\r\n", b"\r"]
)
NEARLY_V1 = st.lists(WORDS, max_size=8).map(b" ".join)
NEARLY_V2 = st.builds(
    lambda head, length, body: SIGNATURE + bytes(head) + length.to_bytes(2, "big") + body,
    st.tuples(st.sampled_from([0x20, 0x21, 0x22, 0x11]), st.integers(0, 255)),
    st.integers(0, 600),
    st.binary(max_size=600),
)
ANYTHING = st.one_of(
    st.binary(max_size=200),
    NEARLY_V1.map(lambda text: text + b"\r\n"),
    st.binary(max_size=120).map(lambda text: b"PROXY " + text + b"\r\n"),
    NEARLY_V2,
)


class GeneratedTests(SynchronousTestCase):
    @given(ANYTHING)
    def test_returns_waits_or_refuses_in_every_segmentation(self, data: bytes) -> None:
        whole: object
        try:
            whole = parse(data)
        except ProtocolError:
            whole = ProtocolError
        split: object
        try:
            split = feed(parse, octet_by_octet(data))
        except ProtocolError:
            split = ProtocolError
        self.assertEqual(whole, split)

    @given(st.ip_addresses(v=4), st.integers(0, 65535))
    def test_every_ipv4_address(self, source: IPv4Address, port: int) -> None:
        line = f"PROXY TCP4 {source} 192.0.2.1 {port} 443\r\n".encode()
        binary = v2(0x21, 0x11, source.packed + bytes(4) + port.to_bytes(2, "big") + bytes(2))
        for data in (line, binary):
            self.assertEqual(parse(data), ProxyHeader(len(data), str(source), port))

    @given(st.ip_addresses(v=6), st.integers(0, 65535))
    def test_every_ipv6_address(self, source: IPv6Address, port: int) -> None:
        expected = str(source.ipv4_mapped or source)
        for text in (str(source), source.exploded.upper()):
            line = f"PROXY TCP6 {text} ::1 {port} 443\r\n".encode()
            self.assertEqual(parse(line), ProxyHeader(len(line), expected, port))
        data = v2(0x21, 0x21, source.packed + bytes(16) + port.to_bytes(2, "big") + bytes(2))
        self.assertEqual(parse(data), ProxyHeader(len(data), expected, port))
