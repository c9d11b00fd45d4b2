"""The rules of trust against a slow reading of them that is written down independently.

Whatever peers say, authentik gets one address, one host and one scheme, and they are those of the
rules: docs/life-of-a-request.md, docs/fleets.md.
"""

from __future__ import annotations

import ipaddress
import re

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy import forwarding
from authproxy.trust import UNIX_PEER, TrustedProxies, direct, identify
from authproxy.wire.heads import Fields, RequestHead

from .examples import EXAMPLES

SETTINGS = settings(EXAMPLES, max_examples=400)
HOST = b"sso.example.com"
FIELD = b"cf-connecting-ip"
CDN = ["203.0.113.0/24", "2001:db8:cf::/48"]
ENTRIES = (
    b"192.0.2.1", b"10.0.0.9", b"203.0.113.7", b"[2001:db8::1]:443", b"192.0.2.5:80", b"unknown",
    b"", b" 10.0.0.3 ", b"::ffff:10.0.0.4", b"fe80::1%eth0", b"unix:", b"127.0.0.1",
    b"2001:db8:cf::1", b"[::ffff:192.0.2.1]", b"192.0.2.1 10.0.0.1", b"\xb2.0.0.1",
)  # fmt: skip
PEERS = (
    "198.51.100.7", "10.0.0.2", "203.0.113.9", UNIX_PEER, "2001:db8:cf::9", "127.0.0.1", "fe80::1",
)  # fmt: skip


@frozen
class SetUp:
    """What is configured."""

    proxies: list[str]
    field: bytes
    cdn: list[str]


SET_UPS = st.builds(
    SetUp,
    st.sampled_from([[], ["10.0.0.0/8"], ["10.0.0.0/8", UNIX_PEER],
                     ["203.0.113.0/24", "10.0.0.0/8"], ["0.0.0.0/0", "::/0"]]),
    st.sampled_from([b"", b"x-real-ip", FIELD]),
    st.sampled_from([[], CDN, [*CDN, "10.0.0.0/30"], [*CDN, UNIX_PEER]]),
)  # fmt: skip
LISTS = st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=4).map(b",".join)
SAID = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"x-forwarded-for", b"x-real-ip", FIELD, b"forwarded"]), LISTS),
        st.tuples(st.sampled_from([b"x_forwarded_for", b"x-forwarded-port"]), LISTS),
        st.tuples(st.just(b"x-forwarded-proto"),
                  st.sampled_from([b"https", b"HTTP", b"wss", b"https,http", b""])),
        st.tuples(st.just(b"x-forwarded-host"),
                  st.sampled_from([b"evil.example", b"evil example", b"a.b:80", b""])),
        st.just((b"connection", b"X-Forwarded-For, Host, X-Real-IP, Via")),
    ),
    max_size=6,
)  # fmt: skip


def inside(address: str, cidrs: list[str]) -> bool:
    if address == UNIX_PEER:
        return UNIX_PEER in cidrs
    parsed = ipaddress.ip_address(address)
    return any(parsed in ipaddress.ip_network(cidr) for cidr in cidrs if cidr != UNIX_PEER)


def one_address(entry: bytes) -> str:
    """The address of an entry, "" for garbage."""
    text = entry.strip(b" \t").decode("latin-1")
    text = re.sub(r"\A([0-9.]+):[0-9]{1,5}\Z", r"\1", text)
    text = re.sub(r"\A\[([0-9A-Fa-f:.]+)\](:[0-9]{1,5})?\Z", r"\1", text)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if "%" in text:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def chain_of(setup: SetUp, peer: str, said: Fields) -> list[str]:
    """The believed addresses from the client to the peer."""
    trusted = setup.proxies + setup.cdn
    if not inside(peer, trusted):
        return [peer]
    last = [peer] if peer != UNIX_PEER else []
    field = FIELD if inside(peer, setup.cdn) else setup.field
    named = [value for name, value in said if field and name == field]
    if len(named) == 1 and one_address(named[0]):
        return [one_address(named[0]), *last]
    if named and not inside(peer, setup.cdn):
        return last or [peer]
    entries = b",".join(value for name, value in said if name == b"x-forwarded-for").split(b",")
    chain = last
    for entry in reversed(entries):
        address = one_address(entry)
        if not address:
            break
        chain = [address, *chain]
        if not inside(address, trusted):
            break
    return chain or [peer]


def scheme_of(setup: SetUp, peer: str, said: Fields) -> bytes:
    values = [value.lower() for name, value in said if name == b"x-forwarded-proto"]
    if not inside(peer, setup.proxies + setup.cdn) or values not in ([b"https"], [b"http"]):
        return b"http"
    return values[0]


def host_of(setup: SetUp, peer: str, said: Fields) -> bytes:
    values = [value for name, value in said if name == b"x-forwarded-host"]
    if inside(peer, setup.cdn) or not inside(peer, setup.proxies) or len(values) != 1:
        return HOST
    return values[0] if re.fullmatch(rb"[a-z.]+(:[0-9]+)?", values[0]) else HOST


class RulesTests(SynchronousTestCase):
    @SETTINGS
    @given(setup=SET_UPS, peer=st.sampled_from(PEERS), said=SAID, append=st.booleans())
    def test_what_authentik_hears(
        self, setup: SetUp, peer: str, said: Fields, append: bool
    ) -> None:
        cdns = [(setup.cdn, FIELD)] if setup.cdn else []
        networks = TrustedProxies(setup.proxies, setup.field, cdns)
        head = RequestHead(b"GET", b"/", 11, [(b"host", HOST), *said], HOST)
        client = identify(head, direct(peer, b"http", networks), networks)
        fields = forwarding.request(head, client, append).fields
        chain = chain_of(setup, peer, said)
        listed = ", ".join(chain if append else chain[:1]).replace(UNIX_PEER, "127.0.0.1")
        host = host_of(setup, peer, said)
        for name, value in (
            (b"x-forwarded-for", listed.encode()),
            (b"x-forwarded-proto", scheme_of(setup, peer, said)),
            (b"x-forwarded-host", host),
            (b"host", host),
        ):
            self.assertEqual([v for n, v in fields if n == name], [value], (name, client.chain))
        ours = {b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"via"}
        self.assertEqual({name for name, _ in fields}, ours)
