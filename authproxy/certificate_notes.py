"""Owns what an operator should hear of a certificate that works: not for long, or not for all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from .certificate_names import covers, names_of
from .certificates import Pair

EXPIRES_SOON = timedelta(days=7)


def notes(pair: Pair, hosts: Sequence[str], now: float) -> list[str]:
    """What is to be said of a pair: dates, hosts that it does not cover, a chain that is missing.

    `now` is in seconds since the epoch.
    """
    certificate = pair.certificate
    moment = datetime.fromtimestamp(now, UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    said = []
    if moment < begins:
        said.append(
            f"The certificate is valid only from {begins:%Y-%m-%d %H:%M} UTC. Wait, or correct the"
            " clock of this machine."
        )
    if moment > ends:
        said.append(f"The certificate expired on {ends:%Y-%m-%d %H:%M} UTC. Renew it.")
    elif moment > ends - EXPIRES_SOON:
        said.append(f"The certificate expires on {ends:%Y-%m-%d %H:%M} UTC. Renew it.")
    uncovered = [host for host in hosts if not covers(certificate, host)]
    if uncovered:
        names = ", ".join(names_of(certificate)) or "no name"
        said.append(
            f"The certificate is not for {', '.join(uncovered)} (it is for {names}): browsers will"
            " refuse it there. Have one issued for them, or correct hosts."
        )
    if not pair.chain and _has_issuer_to_fetch(certificate):
        said.append(
            "The file has the server's certificate alone, without the one that signed it: clients"
            " that do not know that one refuse it. Name the whole chain (certbot's fullchain.pem)."
        )
    return said


def _has_issuer_to_fetch(certificate: x509.Certificate) -> bool:
    """Whether it says where its issuer's certificate is (RFC 5280 4.2.2.1): public CAs say so,
    whose issuers are never roots. What a root of one's own signed needs no chain."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    issuers = AuthorityInformationAccessOID.CA_ISSUERS
    return any(entry.access_method == issuers for entry in extension.value)
