"""An upstream server in a process of its own: the stand-in of authentik.

    python -m tests.e2e.origin [--port N | --unix PATH] [--certificate PEM --key PEM]
        [--trusted CIDR ...] [--refused STATUS]

Prints its address once it listens ("listening 40123"), and ends with SIGTERM. At SIGUSR1 it is no
longer ready, at the next one it is again; it says so.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.ssl import PrivateCertificate
from twisted.python import log

from authproxy.standin.server import StandIn

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Listen, say where, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--unix", default="")
    parser.add_argument("--certificate", default="")
    parser.add_argument("--key", default="")
    parser.add_argument("--starting", type=float, default=0.0)
    parser.add_argument("--trusted", nargs="*", default=None)
    parser.add_argument("--refused", type=int, default=0)
    chosen = parser.parse_args()
    log.startLogging(sys.stderr, setStdout=False)
    reactor: Any = global_reactor
    stand_in = StandIn(reactor, chosen.starting, trusted=chosen.trusted, refused=chosen.refused)
    if chosen.unix:
        reactor.listenUNIX(chosen.unix, stand_in.site)
        where = chosen.unix
    elif chosen.certificate:
        pem = Path(chosen.key).read_bytes() + Path(chosen.certificate).read_bytes()
        options = PrivateCertificate.loadPEM(pem).options()
        port = reactor.listenSSL(chosen.port, stand_in.site, options, interface=LOOPBACK)
        where = str(port.getHost().port)
    else:
        port = reactor.listenTCP(chosen.port, stand_in.site, interface=LOOPBACK)
        where = str(port.getHost().port)

    def turn(number: int, frame: FrameType | None) -> None:
        stand_in.ready = not stand_in.ready
        print("ready" if stand_in.ready else "not ready", flush=True)

    signal.signal(signal.SIGUSR1, turn)
    reactor.addSystemEventTrigger("before", "shutdown", stand_in.close)
    reactor.callWhenRunning(print, "listening", where, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
