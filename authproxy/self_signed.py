"""Owns the certificate of last resort: self-signed, made once, kept in the state directory.

It lets the first start work without any configuration, and renews itself. The key never exists in
a file that others may read, not even for a moment.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .certificate_names import is_address, names_of, normal_host
from .certificates import CertificateError, Pair, load_pair, user_name

LIFE = timedelta(days=825)  # the most that Apple's platforms accept of one that a user trusts
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)  # of a client whose clock is behind ours
ALWAYS = ("localhost", "127.0.0.1", "::1")
COMMON_NAME_LENGTH = 64  # RFC 5280 appendix A.1, ub-common-name-length


def state_directory(environ: Mapping[str, str]) -> str:
    """Where state is kept: $STATE_DIRECTORY (systemd's), or the user's own directory for state."""
    ours = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if ours:
        return ours
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the XDG specification: relative paths are to be ignored
        state = os.path.join(environ.get("HOME") or _home(), ".local", "state")
    return os.path.join(state, "authproxy")


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"  # a container's user without a name; self_signed says what to do


def self_signed(
    directory: str, hosts: Sequence[str], *, clock: Callable[[], float] = time.time
) -> tuple[Pair, bool]:
    """The self-signed pair of these hosts, and whether it was made now.

    It is also for localhost and its addresses. One pair is kept for each first host; it is made
    again for other hosts, and when less than 30 days of it remain. `clock` gives seconds since the
    epoch. Raises CertificateError where the directory cannot be written.
    """
    names = list(dict.fromkeys([*(normal_host(host) for host in hosts), *ALWAYS]))
    stem = "self-signed-" + re.sub(r"[^a-z0-9.-]", "_", names[0])
    certificate = os.path.join(directory, stem + ".pem")
    key = os.path.join(directory, stem + ".key")
    now = datetime.fromtimestamp(clock(), UTC)
    try:
        pair = load_pair(certificate, key)
    except CertificateError:
        pass  # there is none, or it cannot be used: make one
    else:
        if _serves(pair, names, now):
            return pair, False
    pair = _make(names, now)
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        _write(key, pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        _write(certificate, pair.certificate.public_bytes(Encoding.PEM))
    except OSError as e:
        raise CertificateError(
            f"{directory}: user {user_name()} cannot keep a self-signed certificate there"
            f" ({e.strerror}). Set STATE_DIRECTORY to a directory that this user may write, or name"
            " certificate and private_key in [[site]]."
        ) from None
    return pair, True


def _serves(pair: Pair, names: list[str], now: datetime) -> bool:
    kept = pair.certificate
    return (
        set(names_of(kept)) == set(names)
        and kept.not_valid_before_utc <= now < kept.not_valid_after_utc - RENEW_BEFORE
    )


def _make(names: list[str], now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    common_name = names[0] if len(names[0]) <= COMMON_NAME_LENGTH else "authproxy"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "authproxy self-signed"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    begins = now - CLOCK_SKEW
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + LIFE)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    return Pair(builder.sign(key, hashes.SHA256()), (), key)


def _general(name: str) -> x509.GeneralName:
    try:
        if is_address(name):
            return x509.IPAddress(ipaddress.ip_address(name))
        return x509.DNSName(name)
    except ValueError:
        raise CertificateError(
            f"hosts: {name!r} is not a host name. Write it in A-labels (xn--...)."
        ) from None


def _write(path: str, content: bytes) -> None:
    """Write a whole file of mode 0600, or leave what is there as it was."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))  # of mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
