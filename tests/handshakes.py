"""TLS between two ends of a socket pair, and certificates of every kind for it."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from authproxy.certificate_names import is_address
from authproxy.certificates import Pair

DAY = timedelta(days=1)
ROUNDS = 50


def issue(
    *names: str,
    by: Pair | None = None,
    key: Any = None,
    ca: bool = False,
    days: tuple[int, int] = (-1, 30),
    usage: Any = ExtendedKeyUsageOID.SERVER_AUTH,
    common_name: str = "",
    issuer_at: str = "",
) -> Pair:
    """A certificate for these names, signed `by` a CA or by itself; `days` from now.

    `issuer_at`: the URL at which it says that its issuer's certificate is.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    common_name = common_name or os.urandom(8).hex()  # CAs must differ in theirs
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        general = [
            x509.IPAddress(ipaddress.ip_address(name)) if is_address(name) else x509.DNSName(name)
            for name in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    if issuer_at:
        where = x509.UniformResourceIdentifier(issuer_at)
        access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    certificate = builder.sign(by.key if by else key, hashes.SHA256())
    chain = (by.certificate, *by.chain) if by else ()
    return Pair(certificate, chain, key)


def key_pem(key: Any) -> bytes:
    """An unencrypted private key."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def chain_pem(*certificates: x509.Certificate) -> bytes:
    """Certificates, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def write(path: str, content: bytes) -> str:
    """Write a file; returns its path."""
    with open(path, "wb") as file:
        file.write(content)
    return path


def sockets() -> tuple[socket.socket, socket.socket]:
    """Two ends, both non-blocking."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


def client(
    sock: socket.socket,
    name: bytes | None = None,
    *,
    alpn: Iterable[bytes] = (),
    newest: int | None = None,
    after: SSL.Connection | None = None,
) -> SSL.Connection:
    """A client that believes anything; `after`: it resumes the session of that one."""
    context = after.get_context() if after else SSL.Context(SSL.TLS_METHOD)
    if after is None and newest is not None:
        context.set_max_proto_version(newest)
    if after is None and alpn:
        context.set_alpn_protos(list(alpn))
    connection = SSL.Connection(context, sock)
    if name is not None:
        connection.set_tlsext_host_name(name)
    if after is not None:
        session = after.get_session()
        assert session is not None
        connection.set_session(session)
    connection.set_connect_state()
    return connection


def step(connection: SSL.Connection) -> object:
    """One step of a handshake: None (not over), True (completed) or the error."""
    try:
        connection.do_handshake()
    except (SSL.WantReadError, SSL.WantWriteError):
        return None
    except SSL.Error as e:
        return e
    return True


def handshake(*connections: SSL.Connection) -> list[object]:
    """Drive handshakes in turn; what came of each (see step)."""
    outcomes: list[object] = [None] * len(connections)
    for _ in range(ROUNDS):
        for i, connection in enumerate(connections):
            if outcomes[i] is None:
                outcomes[i] = step(connection)
    return outcomes
