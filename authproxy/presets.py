"""Owns what is known of CDNs that people put in front: their networks, and what their word is for.

A CDN passes most fields of its clients on as they came. So of a peer in one of these networks only
the fields are believed that the CDN itself writes; `trust.proxies` is for proxies of one's own.

Pure data, and how settings choose from it. The networks change every few years: each preset has the
day on which it was compared, and the addresses of the lists to compare it with.
"""

from __future__ import annotations

from attrs import frozen

from .settings import Trust
from .trust import TrustedProxies


@frozen
class Preset:
    """A CDN. `address_field` is the field, in lower case, in which it writes the client's address.

    compared: the day of the last comparison of `networks` with the lists at `sources`.
    """

    networks: tuple[str, ...]
    address_field: bytes
    compared: str
    sources: tuple[str, ...]


PRESETS = {
    # https://developers.cloudflare.com/fundamentals/reference/http-headers/ : it writes
    # CF-Connecting-IP and X-Forwarded-Proto, appends to X-Forwarded-For, and passes all others on.
    "cloudflare": Preset(
        (
            "173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22",
            "141.101.64.0/18", "108.162.192.0/18", "190.93.240.0/20", "188.114.96.0/20",
            "197.234.240.0/22", "198.41.128.0/17", "162.158.0.0/15", "104.16.0.0/13",
            "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22",
            "2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32",
            "2405:8100::/32", "2a06:98c0::/29", "2c0f:f248::/32",
        ),
        b"cf-connecting-ip",
        "2026-11-26",
        ("https://www.cloudflare.com/ips-v4", "https://www.cloudflare.com/ips-v6"),
    ),
}  # fmt: skip


def trusted(trust: Trust) -> TrustedProxies:
    """The proxies and CDNs that these settings trust."""
    cdns = [
        ((*PRESETS[name].networks, *trust.preset_networks), PRESETS[name].address_field)
        for name in trust.presets
    ]
    return TrustedProxies(trust.proxies, trust.address_field.lower().encode(), cdns)
