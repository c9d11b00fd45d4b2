"""Owns the names in certificates: which there are, and whether a host is one of them (RFC 9525)."""

from __future__ import annotations

import ipaddress

from cryptography import x509
from service_identity import CertificateError as UnusableNames
from service_identity import VerificationError as NameMismatch
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and addresses that a certificate is for (its SAN only, RFC 9525 6.3)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses))


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether a certificate is for this host: a DNS name, an address, or "*.example.com"."""
    host = normal_host(host)
    if host.startswith("*."):
        return host in (name.lower() for name in names_of(certificate))
    try:
        if is_address(host):
            verify_certificate_ip_address(certificate, host)
        else:
            verify_certificate_hostname(certificate, host)
    except (NameMismatch, UnusableNames, ValueError, x509.DuplicateExtension):
        return False
    return True


def normal_host(host: str) -> str:
    """A host as names are compared: lower case, no trailing dot, IDNA in A-labels, no brackets."""
    host = host.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    if is_address(host):
        return str(ipaddress.ip_address(host))
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return host  # no name at all: it matches nothing


def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
