"""Owns who we are to clients: certificates and keys from files, and the choice among them by name.

Reading is separate from using: `load_pair` names the file, the cause and the cure of whatever is
wrong, `server_context` makes the OpenSSL side of it, `ServerNames` chooses by SNI (RFC 6066 3).
Knows no settings and no sockets beyond the one that a connection is bound to.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from OpenSSL import SSL

from .certificate_names import names_of, normal_host

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
# Of TLS 1.2 only what has forward secrecy and authenticated encryption (RFC 9325 4.2).
CIPHERS_1_2 = b"ECDHE+AESGCM:ECDHE+CHACHA20"
# OpenSSL's: a client that prefers ChaCha20 (it has no AES in hardware) gets it. Not in pyOpenSSL.
OP_PRIORITIZE_CHACHA = 0x200000
RSA_BITS = 2048
EC_BITS = 256
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # what TLS 1.3 signs with (RFC 8446 4.2.3)
# One value for all contexts: a session made under one name may be resumed after a change of it.
SESSION_ID_CONTEXT = b"authproxy"

_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_SEQUENCE = b"\x30"  # what DER begins with, of all that is looked for here
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class CertificateError(Exception):
    """A certificate, key or CA file cannot be used. One line: the file, the cause, the cure."""


@attrs.frozen
class Pair:
    """A certificate with its chain (towards the root, without it) and its private key."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


def as_configured(path: str) -> str:
    """The default of `readable`: the path itself can be opened."""
    return path


# Reading.


def load_pair(
    certificate: str, private_key: str, *, readable: Callable[[str], str] = as_configured
) -> Pair:
    """Read a PEM certificate chain, the server's own first, and its PEM private key.

    `readable` maps a configured path to one that can be opened: a copy that root made, where only
    root may read the original. Raises CertificateError.
    """
    chain = read_certificates(certificate, "certificate", readable)
    key = read_key(private_key, readable)
    ours = _public(key)
    if _public(chain[0]) != ours:
        if any(_public(other) == ours for other in chain[1:]):
            raise CertificateError(
                f"certificate {certificate}: the chain is in the wrong order, the key belongs to a"
                " later certificate of the file. Put the server's own certificate first, the one"
                " that signed it second."
            )
        raise CertificateError(
            f"private_key {private_key}: this key does not belong to the certificate in"
            f" {certificate}. Name the key that this certificate was issued for."
        )
    return Pair(chain[0], tuple(chain[1:]), key)


def read_certificates(
    path: str, setting: str, readable: Callable[[str], str] = as_configured
) -> list[x509.Certificate]:
    """All certificates of a PEM file, at least one. `setting` is its name in error messages."""
    try:
        return x509.load_pem_x509_certificates(read_pem(path, setting, readable))
    except ValueError:
        raise damaged(path, setting) from None


def read_pem(path: str, setting: str, readable: Callable[[str], str] = as_configured) -> bytes:
    """The content of a file that has certificates in it."""
    data = read_file(path, setting, readable)
    if _CERTIFICATE not in data:
        if _KEY.search(data):
            cause = "the file holds a private key and no certificate. Are certificate and"
            cure = " private_key swapped?"
        elif data[:1] == _SEQUENCE:
            cause = _binary(data)
            form = "pkcs12 -nokeys" if _is_pkcs12(data) else "x509 -inform der"
            cure = f" openssl {form} -in {path} -out {path}.pem"
        else:
            cause = "there is no certificate in the file. Name a PEM file"
            cure = ' that has "BEGIN CERTIFICATE" in it.'
        raise CertificateError(f"{setting} {path}: {cause}{cure}")
    return data


def damaged(path: str, setting: str) -> CertificateError:
    """For a file that looks like PEM and is not."""
    return CertificateError(
        f"{setting} {path}: a certificate in the file is damaged. Copy it again from whoever"
        " issued it."
    )


def read_file(path: str, setting: str, readable: Callable[[str], str] = as_configured) -> bytes:
    """The content of a file that `setting` names. Raises CertificateError."""
    try:
        with open(readable(path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        cause = "there is no such file. Correct the path."
        if setting == "certificate":
            cause += (
                " Until there is one, leave certificate and private_key out: authproxy makes a"
                " self-signed one."
            )
    except PermissionError:
        cause = (
            f"user {user_name()} may not read it. The shipped systemd unit copies files that only"
            " root may read; without it, give the user's group permission (chgrp, chmod 640, and"
            " chmod g+x on the directories above)."
        )
    except (OSError, ValueError) as e:
        cause = f"it cannot be read ({getattr(e, 'strerror', None) or e}). Name a PEM file."
    raise CertificateError(f"{setting} {path}: {cause}")


def read_key(path: str, readable: Callable[[str], str] = as_configured) -> PrivateKey:
    """The private key of a PEM file, strong enough for TLS. Raises CertificateError."""
    data = read_file(path, "private_key", readable)
    found = _KEY.search(data)
    if found is None:
        if _CERTIFICATE in data:
            cause = "the file holds a certificate and no key. Are the two settings swapped?"
        elif data[:1] == _SEQUENCE:
            form = "pkcs12 -nocerts -nodes" if _is_pkcs12(data) else "pkey -inform der"
            cause = f"{_binary(data)} openssl {form} -in {path} -out {path}.key"
        else:
            cause = 'there is no key in the file. Name a PEM file that has "PRIVATE KEY" in it.'
        raise CertificateError(f"private_key {path}: {cause}")
    if b"ENCRYPTED" in found[0]:
        raise CertificateError(
            f"private_key {path}: the key is encrypted, and a service has nobody to ask for the"
            f" password. Decrypt it: openssl pkey -in {path} -out {path}.plain"
        )
    try:
        key = load_pem_private_key(found[0], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(
            f"private_key {path}: the key is damaged, too small or of a kind that TLS does not"
            " use. Make a new key and have a certificate issued for it."
        ) from None
    if isinstance(key, PrivateKey):
        weakness = _weakness(key)
        if not weakness:
            return key
    else:
        weakness = "keys of this kind are not used in TLS"
    raise CertificateError(
        f"private_key {path}: {weakness}. Make a new key (EC P-256, or RSA of 2048 bits) and have a"
        " certificate issued for it."
    )


def _binary(data: bytes) -> str:
    return f"the file is {'PKCS #12' if _is_pkcs12(data) else 'in DER form'}, not PEM. Convert it:"


def _is_pkcs12(data: bytes) -> bool:
    """A .p12 or .pfx: a sequence whose first element is the number 3 (RFC 7292 4)."""
    length = data[1] & 0x7F if data[1:2] > b"\x80" else 0
    return data[2 + length :].startswith(b"\x02\x01\x03")


def _weakness(key: PrivateKey) -> str:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS:
        return f"an RSA key of {key.key_size} bits is too small"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.key_size < EC_BITS:
            return f"an EC key of {key.curve.key_size} bits is too small"
        if key.curve.name not in CURVES:
            return f"TLS 1.3 has no signatures on the curve {key.curve.name}"
    return ""


def _public(holder: x509.Certificate | PrivateKey) -> bytes:
    """The subject public key info, DER; b"" of a certificate whose key we do not know."""
    try:
        return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""


def user_name() -> str:
    """Who we run as, for messages."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


# Using.


def server_context(
    pair: Pair, *, minimum_version: str = "1.3", alpn: tuple[bytes, ...] = (b"http/1.1",)
) -> SSL.Context:
    """The server side of TLS with one certificate.

    `minimum_version` is "1.3" or "1.2"; `alpn` are our protocols, the preferred first (RFC 7301).
    Raises CertificateError where OpenSSL refuses the pair.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(VERSIONS[minimum_version])
    context.set_cipher_list(CIPHERS_1_2)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    if minimum_version == "1.2":
        # Of TLS 1.3 every suite is as good, and clients know what they are fast at.
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | OP_PRIORITIZE_CHACHA)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_id(SESSION_ID_CONTEXT)
    try:
        context.use_certificate(pair.certificate)
        for certificate in pair.chain:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(pair.key)
    except SSL.Error as e:
        words = e.args[0][0][-1] if e.args and e.args[0] else "no reason given"
        raise CertificateError(
            f"certificate for {', '.join(names_of(pair.certificate))}: OpenSSL refuses it"
            f" ({words}). Have a new one issued."
        ) from None

    def choose(_connection: SSL.Connection, offered: list[bytes]) -> Any:
        for protocol in alpn:
            if protocol in offered:
                return protocol
        return SSL.NO_OVERLAPPING_PROTOCOLS

    context.set_alpn_select_callback(choose)
    # On every context, since any may be the one that a connection begins with; the table that it
    # chooses from comes with the connection, because a context cannot be changed once in use.
    context.set_tlsext_servername_callback(_switch)
    return context


def _switch(connection: SSL.Connection) -> None:
    """Go on with the context of the name that the client asks for.

    Called in the handshake. An exception here would reach sys.excepthook: a name is refused by a
    context that cannot finish instead.
    """
    table = connection.get_app_data()
    name = connection.get_servername()
    if isinstance(table, _Table) and name is not None:
        context = table.find(name.decode("ascii", "replace"))
        if context is not connection.get_context():
            connection.set_context(context)


class _Table:
    """Which context serves which name. Never changed: connections in their handshake hold it."""

    def __init__(
        self, entries: Sequence[tuple[tuple[str, ...], SSL.Context]], unknown: str
    ) -> None:
        if not entries or unknown not in ("first", "refuse"):
            raise ValueError("needs entries, and unknown as 'first' or 'refuse'")
        self.first = self._otherwise = entries[0][1]
        self._names: dict[str, SSL.Context] = {}
        if unknown == "refuse":
            self._otherwise = SSL.Context(SSL.TLS_METHOD)  # has no certificate to go on with
        for hosts, context in reversed(entries):  # of two entries with a name the first has it
            self._names.update((normal_host(host), context) for host in hosts)
            if not hosts:
                self._otherwise = context

    def find(self, name: str) -> SSL.Context:
        """Exact before wildcard (of exactly one label) before an entry for any host."""
        name = name.lower().removesuffix(".")
        found = self._names.get(name)
        if found is None:
            found = self._names.get("*." + name.partition(".")[2])
        return self._otherwise if found is None else found


class ServerNames:
    """The server side of TLS for all our names.

    `entries` are (hosts, context) in order; no hosts: any host. A name that nobody has gets the
    first certificate, or with `unknown` "refuse" a failed handshake; a client that names no host
    gets the first. (A session that a client made under a known name it may resume under any: no
    certificate is sent then, and the host is refused by HTTP, with a 421.)
    """

    def __init__(
        self, entries: Sequence[tuple[tuple[str, ...], SSL.Context]], unknown: str = "first"
    ) -> None:
        self._table = _Table(entries, unknown)

    def connection(self, sock: Any) -> SSL.Connection:
        """An OpenSSL connection in accept state, bound to this socket."""
        table = self._table
        connection = SSL.Connection(table.first, sock)
        connection.set_app_data(table)
        connection.set_accept_state()
        return connection
