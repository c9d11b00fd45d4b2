"""Owns `authproxy demo`: an authentik stand-in with authproxy in front of it, on loopback.

Both run in this process, joined by real sockets and real TLS. Nothing of the machine's own
configuration is read; the certificates live in a temporary directory.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import attrs
from OpenSSL import crypto
from twisted.internet import ssl
from twisted.internet.error import CannotListenError
from twisted.logger import globalLogBeginner

from .. import tap
from ..identity import Identity
from ..operations_log import Foreground
from ..self_signed import self_signed
from ..settings import Listen, ListenAddress, Settings, SiteSettings, Upstream
from ..standin.server import StandIn
from ..transport.binding import ListenError

LOOPBACK = "127.0.0.1"
DESCRIPTION = "Run an authentik stand-in with authproxy in front of it, on loopback, until Ctrl-C."


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="authproxy demo", description=DESCRIPTION)
    for name, default, what in (
        ("https", 8443, "authproxy's https port"),
        ("http", 8080, "authproxy's http port"),
        ("upstream", 9443, "the stand-in's port"),
        ("admin", 9930, "the status page's port"),
    ):
        made.add_argument(
            f"--{name}", type=_port, default=default, metavar="PORT",
            help=f"{what} (default {default}, or a free one if that is taken; 0: any)",
        )  # fmt: skip
    made.add_argument(
        "--starting", type=_seconds, default=0.0, metavar="SECONDS",
        help="for so long the stand-in answers 503, as authentik does while it starts",
    )  # fmt: skip
    return made


def _port(given: str) -> int:
    port = int(given)
    if not 0 <= port < 1 << 16:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {port}")
    return port


def _seconds(given: str) -> float:
    seconds = float(given)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"a number of seconds, not {given}")
    return seconds


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command. Returns 0 after Ctrl-C or SIGTERM, 1 if it cannot start."""
    chosen = parser().parse_args(arguments)
    globalLogBeginner.beginLoggingTo([Foreground(sys.stderr, environ)], redirectStandardIO=False)
    # Everything is imported: from here on the directory has to be removed, and the reactor takes
    # this one's place.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a shell's background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="authproxy-demo-") as directory:
        try:
            return _serve(chosen, dict(environ, STATE_DIRECTORY=directory))
        except (ListenError, CannotListenError) as e:
            print(f"authproxy demo: {e}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0


def _serve(chosen: argparse.Namespace, environ: dict[str, str]) -> int:
    from twisted.internet import reactor  # noqa: PLC0415  (installs one; not at import)

    loop: Any = reactor
    stand_in = StandIn(loop, chosen.starting)
    upstream_port: Any = loop.listenSSL(
        _free(chosen.upstream), stand_in.site, _certificate(environ), interface=LOOPBACK
    )
    settings = _settings(chosen, upstream_port.getHost().port)
    identity = Identity.load(settings, environ)
    door = tap.make_service(settings, identity, loop)
    admin = tap.make_admin(door, lambda: (settings, identity), lambda: None, loop)
    for service in (admin, door):
        service.privilegedStartService()
        service.startService()
    ports = {opened.scheme: opened.address.port for opened in door.listeners.open}
    ports |= {"upstream": upstream_port.getHost().port, "admin": admin.port.getHost().port}
    # Once it runs: what a Ctrl-C meets before that is not the reactor's, and may be lost.
    loop.callWhenRunning(print, _what_to_try(**ports), flush=True)
    loop.addSystemEventTrigger("before", "shutdown", door.stopService)
    loop.addSystemEventTrigger("after", "shutdown", admin.stopService)
    loop.addSystemEventTrigger("after", "shutdown", stand_in.close)
    loop.run()
    return 0


def _settings(chosen: argparse.Namespace, upstream: int) -> Settings:
    def address(port: int) -> tuple[ListenAddress, ...]:
        return (ListenAddress("tcp", LOOPBACK, _free(port)),)

    listen = Listen(
        http=address(chosen.http), https=address(chosen.https), admin=address(chosen.admin)[0],
        http_explicit=True, https_explicit=True, admin_explicit=True,
    )  # fmt: skip
    site = SiteSettings(upstreams=(Upstream("https", "tcp", LOOPBACK, upstream),))
    return attrs.evolve(Settings(), listen=listen, sites=(site,))


def _free(port: int) -> int:
    """This port, or 0 (any) where somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return 0
    return port


def _certificate(environ: Mapping[str, str]) -> ssl.CertificateOptions:
    """A self-signed one, as authentik's port 9443 has."""
    pair, _ = self_signed(os.path.join(environ["STATE_DIRECTORY"], "standin"), ["localhost"])
    return ssl.CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(pair.key),
        certificate=crypto.X509.from_cryptography(pair.certificate),
    )


def _command() -> str:
    """How this command is called: from a checkout it is in nobody's PATH."""
    return "authproxy" if shutil.which("authproxy") else sys.argv[0]


def _what_to_try(https: int, http: int, upstream: int, admin: int) -> str:
    secure, plain = f"https://localhost:{https}", f"http://localhost:{http}"
    return f"""
An authentik stand-in runs at https://{LOOPBACK}:{upstream}/ and authproxy in front of it:

    {secure}/      its certificate is self-signed: let your browser pass
    {plain}/       redirects there
    http://localhost:{admin}/       the status page; /metrics, /healthz, /readyz

The page shows the scheme, host, client address and fields that authentik would see, and has a live
WebSocket. In another terminal:

    curl -k {secure}/ -H 'Accept: application/json'
    # a forged address is gone:
    curl -k {secure}/ -H 'Accept: application/json' -H 'X-Forwarded-For: 192.0.2.66'
    curl -i '{plain}/if/user/?next=%2F'                 # 301 to https
    curl -ki {secure}/-/health/ready/
    {_command()} doctor {secure}/ --insecure --http-port {http}
    # ambiguous framing is refused:
    curl -ki --http1.1 {secure}/ -H 'Transfer-Encoding: chunked' -H 'Content-Length: 3' -d abc

Below, every request writes an access line. Ctrl-C stops both.
"""
