"""Owns how the certificates in use are shown: names, days left, and whether they are valid now.

Pure: `Identity` comes from outside, and so does the time.
"""

from __future__ import annotations

from datetime import UTC, datetime

from attrs import frozen
from cryptography import x509
from cryptography.x509.oid import NameOID

from ..certificate_names import names_of
from ..certificate_notes import notes
from ..identity import Identity
from ..settings import Settings

SOON = 14  # days: certbot renews 30 before the end, so something is wrong by then
DAY = 86400


@frozen
class Certificate:
    """The certificate of one site.

    `state` is "valid", "expires soon", "expired" or "not yet valid"; dates are ISO 8601 in UTC;
    `file` is "" for one of our own making; `notes` are sentences about what is wrong.
    """

    site: str
    state: str
    names: tuple[str, ...]
    issuer: str
    not_before: str
    not_after: str
    days_left: int
    lifetime_days: int
    self_signed: bool
    file: str
    notes: tuple[str, ...]


def certificates(settings: Settings, identity: Identity, now: float) -> list[Certificate]:
    """One for each site; none where nothing listens for https. `now`: seconds since the epoch."""
    found = []
    for number, (site, pair) in enumerate(zip(settings.sites, identity.pairs, strict=False)):
        certificate = pair.certificate
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        found.append(
            Certificate(
                site=site.hosts[0] if site.hosts else "default",
                state=_state(begins, ends, now),
                names=names_of(certificate),
                issuer=_issuer(certificate),
                not_before=f"{begins:%Y-%m-%dT%H:%M:%SZ}",
                not_after=f"{ends:%Y-%m-%dT%H:%M:%SZ}",
                days_left=int((ends.timestamp() - now) // DAY),
                lifetime_days=max(1, (ends - begins).days),
                self_signed=number in identity.self_signed,
                file=site.certificate,
                notes=tuple(notes(pair, site.hosts, now)),
            )
        )
    return found


def _state(begins: datetime, ends: datetime, now: float) -> str:
    moment = datetime.fromtimestamp(now, UTC)
    if moment < begins:
        return "not yet valid"
    if moment > ends:
        return "expired"
    return "expires soon" if ends.timestamp() - now < SOON * DAY else "valid"


def _issuer(certificate: x509.Certificate) -> str:
    """Who signed it, as people call them."""
    try:
        for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
            for attribute in certificate.issuer.get_attributes_for_oid(oid):
                return str(attribute.value)
    except ValueError:
        return "unreadable"
    return "unnamed"
