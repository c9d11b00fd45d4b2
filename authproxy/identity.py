"""Owns who we are to clients: the certificate and key of each site, its own or a self-signed one.

They are read once, by whoever may read them; a worker gets them as text (`dump`), because it may
run as a user who cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from . import files
from .certificates import Pair, ServerNames, server_context
from .self_signed import self_signed, state_directory
from .settings import Settings, SiteSettings
from .sites import name_of


class Identity:
    """One pair for each site, none at all where nothing listens for https.

    `self_signed` says which pairs are of our own making, by the site's place: they send no HSTS.
    `notes` and `remarks` (key of the setting, text) are for the log.
    """

    def __init__(self, pairs: list[Pair], self_signed: set[int]) -> None:
        self.pairs = pairs
        self.self_signed = self_signed
        self.notes: list[str] = []
        self.remarks: list[tuple[str, str]] = []

    @classmethod
    def load(cls, settings: Settings, environ: Mapping[str, str]) -> Identity:
        """Read what the settings name, make what they do not. Raises CertificateError."""
        identity = cls([], set())
        identity.remarks = files.remarks(settings, environ)
        if not settings.listen.https:
            return identity
        for number, site in enumerate(settings.sites):
            if site.certificate:
                identity.pairs.append(files.load(site, environ))
            else:
                identity.self_signed.add(number)
                identity._make(site, environ)
        return identity

    def _make(self, site: SiteSettings, environ: Mapping[str, str]) -> None:
        directory = state_directory(environ)
        hosts = [host for host in site.hosts if "*" not in host]
        pair, created = self_signed(directory, hosts or ["localhost"])
        self.pairs.append(pair)
        verb = "made" if created else "uses"
        self.notes.append(
            f"No certificate is configured for {', '.join(site.hosts) or 'any host'}:"
            f" authproxy {verb} a self-signed one in {directory}. Browsers will warn; name"
            " yours with certificate and private_key in [[site]]."
        )

    def server_names(self, settings: Settings) -> ServerNames | None:
        """The server side of TLS with these pairs. Raises CertificateError."""
        if not self.pairs:
            return None
        minimum = settings.tls.minimum_version
        alpn = (b"h2", b"http/1.1") if settings.listen.http2 else (b"http/1.1",)
        entries = [
            (site.hosts, server_context(pair, minimum_version=minimum, alpn=alpn))
            for site, pair in zip(settings.sites, self.pairs, strict=True)
        ]
        return ServerNames(entries, settings.tls.unknown_sni)

    def expiries(self, settings: Settings) -> dict[str, float]:
        """When the certificate of each site expires, in seconds since the epoch, by its name."""
        return {
            name_of(site.hosts): pair.certificate.not_valid_after_utc.timestamp()
            for site, pair in zip(settings.sites, self.pairs, strict=False)  # none without https
        }

    def dump(self) -> dict[str, Any]:
        """As JSON can carry it: PEM texts. It has the private keys, so it goes to nobody else."""
        return {"pairs": [_pem(pair) for pair in self.pairs], "self_signed": [*self.self_signed]}

    @classmethod
    def restore(cls, dumped: Mapping[str, Any]) -> Identity:
        """What `dump` made, without what it has for the log."""
        return cls([_pair(*pem) for pem in dumped["pairs"]], set(dumped["self_signed"]))


def _pem(pair: Pair) -> tuple[str, str]:
    chain = b"".join(
        certificate.public_bytes(Encoding.PEM) for certificate in (pair.certificate, *pair.chain)
    )
    key = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return chain.decode(), key.decode()


def _pair(chain: str, key: str) -> Pair:
    certificate, *others = x509.load_pem_x509_certificates(chain.encode())
    return Pair(certificate, tuple(others), load_pem_private_key(key.encode(), None))  # type: ignore[arg-type]
