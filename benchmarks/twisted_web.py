"""twisted.web's ReverseProxyResource as a program, for comparison.

    python -m benchmarks.twisted_web PORT UPSTREAM_PORT ACCESS_LOG

Plain HTTP on both sides: it can do nothing else to its upstream. It asks for each response on a
connection of its own and holds whole contents in memory.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.web.proxy import ReverseProxyResource
from twisted.web.server import Site


def main(port: str, upstream: str, access_log: str) -> None:
    reactor: Any = installed
    site = Site(ReverseProxyResource("127.0.0.1", int(upstream), b""), logPath=access_log)
    reactor.listenTCP(int(port), site, backlog=4096, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
