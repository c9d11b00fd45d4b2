"""Owns lines to paste that more than one check prints. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

# authentik's defaults; AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS replaces them, so they are repeated.
TRUSTED_BY_DEFAULT = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fe80::/10",
    "::1/128",
)
VARIABLE = "AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS"


def cidr_of(address: str) -> str:
    """An address as a CIDR of its own: with /32 or /128; IPv4 for an IPv4-mapped one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return f"{parsed}/{parsed.max_prefixlen}"


def trusted_by_default(address: str) -> bool:
    """Whether authentik, left as it is, believes this peer."""
    network = ipaddress.ip_network(cidr_of(address))
    return any(
        network.version == known.version and network.subnet_of(known)  # type: ignore[arg-type]
        for known in map(ipaddress.ip_network, TRUSTED_BY_DEFAULT)
    )


def trusted_line(addresses: Iterable[str]) -> str:
    """The line of authentik's environment that lets it believe these addresses too."""
    added = [cidr_of(address) for address in addresses if not trusted_by_default(address)]
    return f"{VARIABLE}={','.join([*TRUSTED_BY_DEFAULT, *dict.fromkeys(added)])}"


def trust_us(addresses: Iterable[str]) -> tuple[str, ...]:
    """The cure where authentik ignores what we say of the client.

    `addresses` are those that authentik sees as its peer, as far as they are known.
    """
    addresses = list(addresses)
    restart = "in authentik's environment (.env), then restart its server and worker."
    if not addresses:
        return (
            "authentik ignores what its proxy says of the scheme (or that is not authproxy, and"
            " says nothing). It must trust that proxy's address. Set (the line replaces the"
            " defaults, so it repeats them)",
            f"    {trusted_line(())},ADDRESS/32",
            restart + " ADDRESS is the proxy's, as authentik sees it: run doctor with --config on"
            " the proxy's machine, and it fills the line in.",
        )
    far = [address for address in addresses if not trusted_by_default(address)]
    if far:
        return (
            f"authentik ignores the fields of this proxy: it does not trust {', '.join(far)}."
            " Set (the line replaces the defaults, so it repeats them)",
            f"    {trusted_line(addresses)}",
            restart,
        )
    return (
        f"authentik ignores the fields of this proxy, though {', '.join(addresses)} is trusted by"
        f" default: {VARIABLE} is set without it, or authentik sees another address (NAT, a"
        " container's gateway; its log has it as remote). Set",
        f"    {trusted_line(addresses)}",
        restart + " If it sees another address, add that with /32 or /128.",
    )
