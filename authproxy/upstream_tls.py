"""Owns who upstream must be: the client side of TLS, and the verification of its certificate.

OpenSSL verifies the chain during the handshake, but a fault does not end the handshake, where it
could only be an opaque error: it is kept with its connection, and `verify` says it in words, with
the cures. Nothing is sent to upstream before `verify` has returned.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Sequence
from enum import Flag, auto
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags

from .certificate_names import covers, is_address, names_of, normal_host
from .certificates import CertificateError, damaged, read_pem

PIN_LENGTH = hashlib.sha256().digest_size
NAMES_SHOWN = 5
# What upstream's certificate says is foreign input: in logs, and in lines that people paste.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._:*-]{1,253}")

_NO_ISSUER = SSL.X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
_LEAF_ALONE = SSL.X509VerificationCodes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
_WORDS = {
    code: name.removeprefix("ERR_").replace("_", " ").lower()
    for name, code in vars(SSL.X509VerificationCodes).items()
    if name.startswith("ERR_")
} | {
    SSL.X509VerificationCodes.ERR_CERT_HAS_EXPIRED: "it, or a certificate above it, has expired",
    SSL.X509VerificationCodes.ERR_CERT_NOT_YET_VALID: "it is not valid yet",
    SSL.X509VerificationCodes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: "it is self-signed",
    SSL.X509VerificationCodes.ERR_SELF_SIGNED_CERT_IN_CHAIN: (
        "its chain ends in a CA that is not trusted here"
    ),
    _NO_ISSUER: ("the CA that issued it is not trusted here"),
    _LEAF_ALONE: (
        "no CA that is trusted here issued it, or the server sends no intermediate certificate"
    ),
    # pyOpenSSL has no names for these: what OpenSSL's security level refuses.
    66: "its key is too small",
    67: "the key of a CA above it is too small",
    68: "a signature in its chain is too weak",
}

_DATES = {
    SSL.X509VerificationCodes.ERR_CERT_HAS_EXPIRED,
    SSL.X509VerificationCodes.ERR_CERT_NOT_YET_VALID,
}

# Without verification there is nobody between us and upstream to hide from (mode "off"), who could
# keep what passes for the day of quantum computers: OpenSSL's first choice, a hybrid with ML-KEM,
# only costs. It keeps the private key, 8.8 kB, as long as the connection.
GROUPS_UNVERIFIED = b"X25519:P-256:P-384:P-521"


class Wrong(Flag):
    """What is wrong with a certificate, by what cures it."""

    NAME = auto()
    ISSUER = auto()
    DATE = auto()


class VerificationError(Exception):
    """Upstream's certificate is not the one that the settings ask for.

    Its text has several lines: what is wrong, then settings that cure it, ready to paste.
    """


class _Chain:
    """What OpenSSL found of the chain of one connection."""

    __slots__ = ("faults", "seen")

    def __init__(self) -> None:
        self.seen = False  # without this nothing was verified at all
        self.faults: list[int] = []


def _collect(connection: SSL.Connection, _cert: X509, code: int, depth: int, ok: int) -> bool:
    chain = connection.get_app_data()
    chain.seen = True
    if code == _NO_ISSUER and depth == 0:  # OpenSSL says both, or with PARTIAL_CHAIN this alone
        code = _LEAF_ALONE
    if not ok and code not in chain.faults:
        chain.faults.append(code)
    return True  # go on: verify() decides, and can say why


class UpstreamTLS:
    """The client side of TLS towards one upstream.

    `mode` is "system", "ca" (`value` is a PEM file), "pin" (`value` is "sha256/BASE64" of the
    subject public key info: alone sufficient, no name is compared) or "off". `server_name`, a DNS
    name or an address, is what SNI asks for and what the certificate must be for. Raises
    CertificateError. `protocols` are what it offers by ALPN.
    """

    def __init__(
        self, mode: str, value: str, server_name: str, protocols: Sequence[bytes] = (b"http/1.1",)
    ) -> None:
        self._mode = mode
        self._name = normal_host(server_name)
        self._sni = b""
        if self._name and not is_address(self._name):  # RFC 6066 3: no addresses in SNI
            try:
                self._sni = self._name.encode("ascii")
            except UnicodeError:
                raise CertificateError(
                    f"upstream_server_name {server_name!r} is not a host name. Write it in"
                    " A-labels (xn--...)."
                ) from None
        self._pin = _checked_pin(value) if mode == "pin" else ""
        self.groups = GROUPS_UNVERIFIED if mode == "off" else b""
        context = self._context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        # Renegotiation could also change the certificate after it was verified.
        context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_alpn_protos(list(protocols))
        if mode == "system":
            _trust_system(context)
        elif mode == "ca":
            _trust_file(context, value)
        elif mode not in ("pin", "off"):
            raise ValueError(f"unknown mode {mode!r}")
        if mode in ("system", "ca"):
            context.set_verify(SSL.VERIFY_PEER, _collect)

    def connection(self, sock: Any) -> SSL.Connection:
        """An OpenSSL connection in connect state, bound to this socket."""
        connection = SSL.Connection(self._context, sock)
        if self._mode in ("system", "ca"):  # else nothing is collected
            connection.set_app_data(_Chain())
        if self._sni:
            connection.set_tlsext_host_name(self._sni)
        connection.set_connect_state()
        return connection

    def verify(self, connection: SSL.Connection) -> None:
        """Raise VerificationError unless upstream is who it should be.

        To be called after the handshake, before anything is sent.
        """
        if self._mode == "off":
            return
        certificate = _certificate_of(connection)
        if self._mode == "pin":
            if spki_pin(certificate) != self._pin:
                raise _error("its key is not the pinned one", certificate, Wrong.ISSUER)
            return
        faults = self.chain_faults(connection)
        wrong = self._wrong(connection)
        if not covers(certificate, self._name):
            wrong |= Wrong.NAME
            faults.append(
                f"it is not for {self._name or 'a name that we know'},"
                f" but for {_shown(names_of(certificate))}"
            )
        if faults:
            raise _error("; ".join(faults), certificate, wrong)

    def chain_faults(self, connection: SSL.Connection) -> list[str]:
        """What is wrong with the chain of its certificates, in words; of "system" and "ca" only."""
        chain = connection.get_app_data()
        faults = [_WORDS.get(code, f"X.509 error {code}") for code in chain.faults]
        if not chain.seen:
            faults.append("its chain was not verified")
        return faults

    def _wrong(self, connection: SSL.Connection) -> Wrong:
        chain = connection.get_app_data()
        dates = Wrong.DATE if _DATES.intersection(chain.faults) else Wrong(0)
        only_dates = chain.seen and _DATES.issuperset(chain.faults)
        return dates if only_dates else dates | Wrong.ISSUER


def spki_pin(certificate: x509.Certificate) -> str:
    """The pin "sha256/BASE64" of a certificate's subject public key info (as RFC 7469 2.4)."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256/" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii")


def _checked_pin(value: str) -> str:
    kind, _, text = value.partition("/")
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if kind != "sha256" or len(digest) != PIN_LENGTH:
        raise CertificateError(
            f'upstream_verify "pin:{value}": a pin is "pin:sha256/" and {PIN_LENGTH} octets in'
            " base64. What fails to verify is logged with its pin."
        )
    return "sha256/" + base64.b64encode(digest).decode("ascii")


def _trust_file(context: SSL.Context, path: str) -> None:
    # OpenSSL reads it, not cryptography: bundles hold roots that are not quite RFC 5280.
    read_pem(path, "upstream_verify")
    try:
        context.load_verify_locations(path)
    except SSL.Error:
        raise damaged(path, "upstream_verify") from None
    store = context.get_cert_store()
    if store is not None:
        # Whatever the file holds is trusted: an intermediate CA, the server's own certificate too.
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)


def _trust_system(context: SSL.Context) -> None:
    """The system's CAs; those of $SSL_CERT_FILE and $SSL_CERT_DIR where they are set.

    The OpenSSL in cryptography's wheels has default paths that exist nowhere; pyOpenSSL then takes
    the distribution's (seen on Debian 12). With these variables it takes nothing else, and of a
    path that does not exist OpenSSL says nothing.
    """
    file = os.environ.get("SSL_CERT_FILE")
    if file:
        read_pem(file, "SSL_CERT_FILE")
    directory = os.environ.get("SSL_CERT_DIR")
    # OpenSSL's list of directories: one that exists is enough.
    if directory and not any(os.path.isdir(part) for part in directory.split(":")):
        raise CertificateError(
            f"SSL_CERT_DIR {directory}: there is no such directory. Correct or unset the variable."
        )
    context.set_default_verify_paths()


def _certificate_of(connection: SSL.Connection) -> x509.Certificate:
    try:
        certificate = connection.get_peer_certificate(as_cryptography=True)
    except ValueError:
        certificate = None
    if certificate is None:
        raise VerificationError(
            "Upstream sent no certificate that can be read. Give it another one."
        )
    try:
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise VerificationError(
            "Upstream's certificate has a key of an unknown kind. Give it one with an EC or RSA"
            " key."
        ) from None
    return certificate


def _error(fault: str, certificate: x509.Certificate, wrong: Wrong) -> VerificationError:
    """With those settings that cure what is wrong, and no others."""
    ends = certificate.not_valid_after_utc
    lines = [
        f'upstream_verify = "pin:{spki_pin(certificate)}"'
        "  # not for authentik's fallback certificate: it is new at every start",
        'upstream_verify = "off"  # only where nobody else can reach the network in between',
    ]
    if Wrong.ISSUER in wrong:
        ca = 'upstream_verify = "ca:/path/to/ca.pem"  # the CA that issued it, or the certificate'
        lines.insert(0, ca)
    if Wrong.NAME in wrong:
        lines.insert(0, _by_name(certificate))
    cure = "One of these lines in [[site]] cures it:"
    if Wrong.NAME in wrong and wrong != Wrong.NAME:
        cure = (
            "These lines in [[site]] cure it, the wrong name by the first, the rest by one of the"
            " others:"
        )
    if Wrong.DATE in wrong:
        cure = f"Renew it, and look at both clocks; what follows is for the meantime. {cure}"
    return VerificationError(
        f"Upstream's certificate (valid until {ends:%Y-%m-%d}) is not accepted: {fault}. {cure}\n"
        + "\n".join(f"    {line}" for line in lines)
    )


def _by_name(certificate: x509.Certificate) -> str:
    """To expect one of the certificate's own names, or to ask for another certificate."""
    names = [name for name in names_of(certificate) if _usable(name)]
    if names:
        return f'upstream_server_name = "{names[0]}"'
    return (
        'upstream_server_name = "sso.example.com"'
        "  # a host for which authentik has a certificate: it chooses by name"
    )


def _usable(name: str) -> bool:
    return "*" not in name and _PLAIN_NAME.fullmatch(name) is not None


def _shown(names: tuple[str, ...]) -> str:
    plain = [name if _PLAIN_NAME.fullmatch(name) else "(odd name)" for name in names[:NAMES_SHOWN]]
    if len(names) > NAMES_SHOWN:
        plain.append(f"{len(names) - NAMES_SHOWN} more")
    return ", ".join(plain) or "no name at all"
