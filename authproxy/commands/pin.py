"""Owns `authproxy pin`: the line that pins the key of a server's certificate.

It trusts what it is shown: whoever is in between at this moment is pinned. What the certificate
says of itself goes to stderr, for a person to compare; stdout has the line alone.
"""

from __future__ import annotations

import argparse
import re
import socket
import ssl
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from .. import places
from ..certificate_names import covers, is_address, names_of
from ..settings import Upstream
from ..upstream_tls import spki_pin

DEFAULT_PORT = 9443  # authentik's for https
TIMEOUT = 10.0  # seconds, for TCP and TLS each
# The name of the certificate that authentik makes in memory at every start, for names (and for
# clients that ask for none) to which no brand's certificate belongs.
FALLBACK = "authentik default certificate"
DESCRIPTION = (
    "Connect to an authentik server and print the line for [[site]] that pins the public key of its"
    " certificate. Compare what is said of the certificate with what you know: nothing is verified."
)


class PinError(Exception):
    """There is no pin to be had; str() says why, and what to do."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="authproxy pin", description=DESCRIPTION)
    made.add_argument(
        "server", metavar="HOST:PORT",
        help=f'where it listens, or its URL as in upstream (a host alone: port {DEFAULT_PORT})',
    )  # fmt: skip
    made.add_argument(
        "--server-name", metavar="NAME", default="",
        help="the name to ask for (SNI): authentik chooses its certificate by it. Default: HOST, if"
        " it is a name. Where upstream is an address, authproxy asks for the site's first host",
    )  # fmt: skip
    return made


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command. Returns 0, or 1 with the reason on stderr."""
    chosen = parser().parse_args(arguments)
    try:
        server = _server(chosen.server)
        name = _name(chosen.server_name, server)
        certificate = _certificate(server, name)
        pin = spki_pin(certificate)
    except PinError as e:
        print(f"authproxy pin: {e}", file=sys.stderr)
        return 1
    except (ValueError, UnsupportedAlgorithm):
        print("authproxy pin: the certificate has a key that cannot be read.", file=sys.stderr)
        return 1
    for line in _said(certificate, name, datetime.now(UTC)):
        print(line, file=sys.stderr)
    print(f'upstream_verify = "pin:{pin}"')
    return 0


def _server(given: str) -> Upstream:
    if given.startswith(("unix:", "http:")):
        raise PinError(f"{given} has no TLS, and so no certificate.")
    url = given if "://" in given else f"https://{given}"
    if "://" not in given and not re.search(r":[0-9]+\Z", given.rpartition("]")[2]):
        url += f":{DEFAULT_PORT}"
    try:
        return places.upstream(url)
    except ValueError:
        raise PinError(
            f"{given!r} is no server. Write 10.0.0.5:9443, [2001:db8::5]:9443,"
            " authentik.example:9443, or the URL as in upstream."
        ) from None


def _name(given: str, server: Upstream) -> str:
    """What to ask for, "" for nothing (RFC 6066 3: no addresses)."""
    if not given:
        return "" if server.is_address else server.host
    try:
        name = places.server_name(given)
    except ValueError as e:
        raise PinError(f"--server-name: {e}") from None
    return "" if is_address(name.strip("[]")) else name


def _certificate(server: Upstream, name: str) -> x509.Certificate:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((server.host, server.port), TIMEOUT) as sock:
            found = _presented(tls, sock, server, name)
    except (OSError, UnicodeError) as e:
        raise PinError(_why(server, name, e)) from None
    if not found:
        raise PinError(f"{server} sent no certificate.")
    return x509.load_der_x509_certificate(found)


def _presented(
    tls: ssl.SSLContext, sock: socket.socket, server: Upstream, name: str
) -> bytes | None:
    try:
        with tls.wrap_socket(sock, server_hostname=name or None) as secure:
            return secure.getpeercert(binary_form=True)
    except TimeoutError:
        raise PinError(
            f"{server} accepts connections, and says nothing then. Is it a TLS server? authentik's"
            f" port 9000 is plain HTTP; the one for https is {DEFAULT_PORT}."
        ) from None


def _why(server: Upstream, name: str, error: Exception) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"{server.host} is no name that can be resolved. Correct it, or write an address."
    if isinstance(error, ConnectionRefusedError):
        return (
            f"nothing listens on {server}. authentik's port for https is {DEFAULT_PORT}, or what"
            " AUTHENTIK_LISTEN__HTTPS says; in a container it must be published."
        )
    if isinstance(error, TimeoutError):
        return f"{server} does not answer. Is there a firewall, or is it another host?"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "it was cut").replace("_", " ").lower()
        if "wrong version" in reason or "record layer" in reason or "http request" in reason:
            return (
                f"{server} does not speak TLS. authentik's port 9000 is plain HTTP; the one for"
                f" https is {DEFAULT_PORT}."
            )
        asked = f" for {name}" if name else ""
        return (
            f"the TLS handshake with {server}{asked} failed: {reason}. Try another --server-name."
        )
    return f"{server}: {getattr(error, 'strerror', None) or 'the connection was cut'}."


def _said(certificate: x509.Certificate, name: str, now: datetime) -> list[str]:
    """What a person should know of the certificate."""
    ends = certificate.not_valid_after_utc
    days = (ends - now).days
    lines = [
        f"subject  {_printable(certificate.subject.rfc4514_string())}",
        f"issuer   {_printable(certificate.issuer.rfc4514_string())}",
        f"names    {_printable(', '.join(names_of(certificate)) or 'none')}",
        f"valid    until {ends:%Y-%m-%d} ({days} days); a pin does not look at dates",
    ]
    if _is_fallback(certificate):
        lines.append(
            "warning: this is authentik's fallback certificate, which is new at every start: this"
            " pin fails with the next one. Give the brand a certificate (System, Brands, Web"
            " certificate), and ask for the brand's host: --server-name sso.example.com."
        )
    elif certificate.subject == certificate.issuer:
        lines.append("note: it is self-signed. Where its key is kept, a pin is the right way.")
    if name and not _is_fallback(certificate) and not covers(certificate, name):
        lines.append(
            f"note: it is not for {name}. A pin does not look at names; but is it the server that"
            " you mean?"
        )
    return lines


def _is_fallback(certificate: x509.Certificate) -> bool:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return any(name.value == FALLBACK for name in names)


def _printable(text: str) -> str:
    """What a stranger wrote, for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)[:300]
