"""Owns who the client is: the trusted networks, and what their words are worth.

A peer (the TCP neighbour) outside the trusted networks is the client, whatever it says. What a peer
inside them says of the client in X-Forwarded-For, -Proto and -Host is believed, as far as it can
be; of a CDN, which passes its clients' fields on, only what it writes itself: the address in a
field of its own, and X-Forwarded-Proto. RFC 7239 has no part in this: authentik does not read
Forwarded.

Pure: no sockets, no clock.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from .wire.grammar import HOST, HOST_OCTETS
from .wire.heads import RequestHead

UNIX_PEER = "unix:"  # a peer on a unix socket has no address; this word stands for it in settings
MOST_ENTRIES = 64  # of an X-Forwarded-For; a longer one is walked no further
# Fields that proxies and CDNs use for the one address of the client. Nothing but the one that is
# chosen is read, and none of them reaches upstream (forwarding.py).
ADDRESS_FIELDS = {
    b"cf-connecting-ip": "Cloudflare",
    b"true-client-ip": "Akamai; Cloudflare's enterprise plan",
    b"fastly-client-ip": "Fastly",
    b"fly-client-ip": "Fly.io",
    b"x-azure-clientip": "Azure Front Door",
    b"x-client-ip": "some load balancers",
    b"x-cluster-client-ip": "some load balancers",
    b"x-real-ip": "nginx's habit",
}
_REMEMBERED = 4096  # verdicts on addresses; the same few peers ask for every request
# An IPv4 address with a port, an IPv6 one in brackets with or without: proxies write all of them.
_ENTRY = re.compile(r"(?:([0-9.]{7,15})(?::[0-9]{1,5})?|\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?)")


@lru_cache(_REMEMBERED)
def normal_address(text: str) -> str | None:
    """The canonical form of an IP address, IPv4 for an IPv4-mapped one; None: it is none.

    Zone names ("%eth0") are refused: they mean something on one machine only.
    """
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


class TrustedNetworks:
    """A set of CIDRs, and perhaps UNIX_PEER."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        cidrs = list(cidrs)
        self._networks = [ipaddress.ip_network(cidr) for cidr in cidrs if cidr != UNIX_PEER]
        self._unix = UNIX_PEER in cidrs
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks) or self._unix

    def contains(self, address: str) -> bool:
        """Whether an address (in its normal form, or UNIX_PEER) is in one of them."""
        if not self._networks:
            return self._unix and address == UNIX_PEER
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[address] = self._look_up(address)
        return known

    def _look_up(self, address: str) -> bool:
        if address == UNIX_PEER:
            return self._unix
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._networks)


class TrustedProxies(TrustedNetworks):
    """The trusted networks, and whose word is worth what.

    `proxies` are believed wholly, the client's address first from `address_field` (in lower case;
    b"": there is none). `cdns` are (networks, field): of them address and scheme are believed.
    """

    def __init__(
        self,
        proxies: Iterable[str],
        address_field: bytes = b"",
        cdns: Iterable[tuple[Iterable[str], bytes]] = (),
    ) -> None:
        proxies = list(proxies)
        cdns = [(list(networks), field) for networks, field in cdns]
        super().__init__([*proxies, *(cidr for networks, _ in cdns for cidr in networks)])
        self._proxies = TrustedNetworks(proxies)
        self._address_field = address_field
        self._cdns = [(TrustedNetworks(networks), field) for networks, field in cdns]

    def word_of(self, peer: str) -> tuple[bool, bytes]:
        """(whether this peer, which is in one of the networks, is believed wholly; the field that
        has the client's address, or b"")."""
        for networks, field in self._cdns:
            if networks.contains(peer):
                return False, field
        return True, self._address_field


class Client:
    """Who asks, as far as it can be believed.

    address: text, UNIX_PEER where nobody knows. scheme: b"https" or b"http", as the client used it.
    trusted: the peer is a proxy whose every word is believed. chain: where a peer spoke for the
    client, the believed addresses from the client to the peer, else (), as where all of it is
    garbage. obscured: the address is that of a proxy of which nobody knows for whom it speaks: its
    word of its client is garbage, or its PROXY header names none. host: the effective host with its
    port, b"" where the request has none.

    Of a connection (`direct`) alone: believed says that something of what it says is, see
    TrustedProxies; address_field is the field with its client's address, or b"".
    """

    __slots__ = (
        "address", "address_field", "believed", "chain", "host", "obscured", "scheme", "trusted",
    )  # fmt: skip
    believed: bool
    address_field: bytes

    def __init__(
        self, address: str, scheme: bytes, trusted: bool, chain: tuple[str, ...], host: bytes
    ) -> None:
        self.address = address
        self.scheme = scheme
        self.trusted = trusted
        self.chain = chain
        self.host = host
        self.obscured = False


def direct(peer: str, scheme: bytes, networks: TrustedProxies, nameless: bool = False) -> Client:
    """The client of a connection, as long as no head says otherwise. `nameless`: the peer relays
    octets of somebody whom it does not name, so nothing of what comes is its own word."""
    believed = not nameless and networks.contains(peer)
    wholly, address_field = networks.word_of(peer) if believed else (False, b"")
    client = Client(peer, scheme, wholly, (), b"")
    client.obscured = nameless
    client.believed = believed
    client.address_field = address_field
    return client


def identify(head: RequestHead, connection: Client, networks: TrustedProxies) -> Client:
    """The client of one request on a connection; `connection` is what `direct` made."""
    client = Client(connection.address, connection.scheme, connection.trusted, (), head.host)
    if connection.believed:
        _believe(head, client, connection.address_field, networks)
    elif connection.obscured:
        client.obscured = True
    return client


def _believe(
    head: RequestHead, client: Client, address_field: bytes, networks: TrustedNetworks
) -> None:
    listed: list[bytes] = []
    schemes: list[bytes] = []
    hosts: list[bytes] = []
    named: list[bytes] = []
    for name, value in head.fields:
        if name == address_field:
            named.append(value)
        elif name == b"x-forwarded-for":
            listed.append(value)
        elif name == b"x-forwarded-proto":
            schemes.append(value)
        elif name == b"x-forwarded-host":
            hosts.append(value)
    # One valid address or none at all: two fields say that one of them came from a client.
    address = _address_of(named[0]) if len(named) == 1 else None
    if address is not None:
        client.chain = (address, client.address) if client.address != UNIX_PEER else (address,)
        client.address = address
    elif named and client.trusted:
        # Who leaves two of the field, or what his client wrote, may not rule the list either. (Of a
        # CDN it is known that he does.)
        client.obscured = True
    elif listed:
        _walk(b",".join(listed), client, networks)
    # One valid value or none at all: a list says that somebody appended to what a client sent.
    if len(schemes) == 1 and (scheme := schemes[0].lower()) in (b"https", b"http"):
        client.scheme = scheme
    if not client.trusted:
        return  # a CDN passes its clients' X-Forwarded-Host on
    if len(hosts) == 1 and len(hosts[0]) <= HOST_OCTETS and HOST.fullmatch(hosts[0]):
        client.host = hosts[0]


def _walk(listed: bytes, client: Client, networks: TrustedNetworks) -> None:
    """The client's address: from the right past trusted ones. Garbage ends the walk at the last
    good address: what stands further left was written by nobody whom we know."""
    chain = [client.address] if client.address != UNIX_PEER else []
    known = len(chain)
    for entry in reversed(listed.rsplit(b",", MOST_ENTRIES)[-MOST_ENTRIES:]):
        address = _address_of(entry)
        if address is None:
            client.obscured = True
            break
        chain.append(address)
        client.address = address
        if not networks.contains(address):
            break
    if len(chain) > known:
        client.chain = tuple(reversed(chain))


def _address_of(entry: bytes) -> str | None:
    """The address in one entry of the list; a port and brackets are dropped."""
    text = entry.strip(b" \t").decode("latin-1")
    match = _ENTRY.fullmatch(text)
    return normal_address((match[1] or match[2]) if match else text)
