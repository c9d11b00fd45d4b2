"""Owns the checks of TLS: who issued the certificate, for which names, until when; version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from ..certificate_names import covers, names_of
from ..trust import TrustedNetworks, normal_address
from .requests import FAULTS
from .results import Result, failed, ok, skipped, warning
from .stream import Stream, source_towards, words_of
from .target import Target

CERTIFICATE, VERSION = "certificate", "tls"
# certbot renews with a third of the life left; half of that later it has failed for weeks.
RENEWED_LATE = 6
LATEST = timedelta(days=30)
SHOWN = 5


def check(target: Target) -> tuple[list[Result], bool]:
    """Results, and whether TLS works at all."""
    try:
        with target.connect() as stream:
            return [_certificate(target, stream), _version(stream)], True
    except FAULTS as e:
        words = words_of(e)
        return [
            failed(CERTIFICATE, f"no TLS connection: {words}", *_no_handshake(target, words)),
            skipped(VERSION, "no TLS connection"),
        ], False


def _no_handshake(target: Target, words: str) -> tuple[str, ...]:
    port = target.connect_port
    settings = target.settings
    if settings is not None and settings.listen.proxy_protocol_from:
        source = source_towards(target.address, port)
        if TrustedNetworks(settings.listen.proxy_protocol_from).contains(
            normal_address(source) or source
        ):
            return (
                f"Connections from {source} must begin with a PROXY header"
                " (listen.proxy_protocol_from), and doctor sends none: run it through the balancer,"
                " or from another address.",
            )
    if "wrong version number" in words or "packet length" in words or "http request" in words:
        return (
            f"What answers on port {port} speaks no TLS: is this the plain http port? List it in"
            " listen.https, or give the right port.",
        )
    if "unrecognized name" in words or "handshake failure" in words:
        return (
            f"The server has no certificate for {target.host}, and refuses other names (authproxy"
            f' with unknown_sni = "refuse"): add {target.host} to hosts in [[site]].',
        )
    if "protocol version" in words or "unsupported protocol" in words:
        return ("It offers nothing newer than TLS 1.1: whatever terminates TLS here is too old.",)
    return (
        f"Is it authproxy that listens on port {port}? Its log says why a handshake failed:",
        "    journalctl -u authproxy -n 20",
    )


def _certificate(target: Target, stream: Stream) -> Result:
    tls = stream.tls
    assert tls is not None
    try:
        certificate = tls.get_peer_certificate(as_cryptography=True)
    except ValueError:
        certificate = None
    if certificate is None:
        return failed(CERTIFICATE, "the server sent none that can be read")
    now = datetime.now(UTC)
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    until = f"valid until {ends:%Y-%m-%d}, {_days((ends - now).days)} left"
    if now >= ends:
        return failed(
            CERTIFICATE, f"expired on {ends:%Y-%m-%d}, {_days((now - ends).days)} ago",
            *_renew(target),
        )  # fmt: skip
    if now < begins:
        return failed(
            CERTIFICATE, f"not valid before {begins:%Y-%m-%d %H:%M} UTC",
            "Is the clock of this machine right? (timedatectl)",
        )  # fmt: skip
    if not covers(certificate, target.host):
        return failed(
            CERTIFICATE, f"not for {target.host}, but for {_names(certificate)}",
            f"Get one for {target.host}, or open a name that it is for. In [[site]] certificate is"
            f" the one that is sent for that site's hosts: does a site list {target.host}?",
        )  # fmt: skip
    faults = target.tls.chain_faults(tls)
    if faults and not target.insecure:
        sent = tls.get_peer_cert_chain(as_cryptography=True) or ()
        return failed(
            CERTIFICATE, f"browsers will not accept it: {'; '.join(faults)}",
            *_untrusted(target, certificate, len(sent)),
        )  # fmt: skip
    issuer = "not verified: --insecure" if faults else f"issued by {_issuer(certificate)}"
    life = ends - begins
    if ends - now < min(life / RENEWED_LATE, LATEST):
        return warning(CERTIFICATE, f"{until}: it should have been renewed", *_renew(target))
    return ok(CERTIFICATE, f"for {_names(certificate)}; {until}; {issuer}")


def _untrusted(target: Target, certificate: x509.Certificate, sent: int) -> tuple[str, ...]:
    if certificate.issuer == certificate.subject:
        file = target.site.certificate if target.site is not None else ""
        own = "" if file else " (without certificate in [[site]] authproxy makes one itself)"
        return (
            f"Get one{own}, for example from Let's Encrypt with certbot, and name it in [[site]]:",
            *_lines(target),
            "To examine the rest meanwhile: --insecure, or --ca FILE if your clients trust it.",
        )
    if sent == 1:
        return (
            "The server sends its certificate alone, without the CA's in between. The file named by"
            " certificate must hold the whole chain: certbot's fullchain.pem, not cert.pem.",
            "If it is from a CA of your own: --ca FILE.",
        )
    return ("If it is from a CA of your own, which your clients trust: --ca FILE.",)


def _renew(target: Target) -> tuple[str, ...]:
    return (
        "Renew it; if a newer one is already on disk, the proxy has not taken it (its log says"
        " why):",
        "    certbot renew",
        "    systemctl status certbot.timer",
    )


def _lines(target: Target) -> tuple[str, str]:
    live = f"/etc/letsencrypt/live/{target.host}"
    return (
        f'    certificate = "{live}/fullchain.pem"',
        f'    private_key = "{live}/privkey.pem"',
    )


def _version(stream: Stream) -> Result:
    assert stream.tls is not None
    version, cipher = stream.tls.get_protocol_version_name(), stream.tls.get_cipher_name()
    if version != "TLSv1.3":
        return warning(
            VERSION, f"{version}, {cipher}; every browser of today speaks 1.3",
            "authproxy always offers 1.3: something else terminates TLS here. Update that.",
        )  # fmt: skip
    return ok(VERSION, f"{version}, {cipher}")


def _names(certificate: x509.Certificate) -> str:
    names = list(names_of(certificate))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more or "no name at all"


def _issuer(certificate: x509.Certificate) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in certificate.issuer.get_attributes_for_oid(kind):
            return str(attribute.value)
    return certificate.issuer.rfc4514_string()


def _days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"
