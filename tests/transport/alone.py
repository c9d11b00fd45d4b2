"""What needs a process of its own: descriptors that run out, descriptors that systemd passes.

    python -m tests.transport.alone NAME [ARGUMENT]

prints what happened, as JSON, for test_listening.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
import stat
import sys
from typing import Any

from authproxy.settings import ListenAddress
from authproxy.transport.binding import ListenError
from authproxy.transport.listening import RETRY

from .test_listening import Loop, queue


def descriptors() -> dict[str, Any]:
    """Three clients come when one descriptor is left; two are served when they are free again."""
    loop = Loop()
    logged: list[str] = []
    port = loop.listen(ListenAddress("tcp", "127.0.0.1", 0))
    where = port.getHost()
    clients = [socket.create_connection((where.host, where.port)) for _ in range(3)]
    queue(port, 3)
    loop.listener.say = lambda message, kind, *_, **__: logged.append(kind)
    loop.turn(0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    loop.turn(5)
    short = len(loop.opened)
    loop.clock.advance(RETRY * 2)
    loop.turn(5)
    still = len(loop.opened)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 100, hard))
    loop.turn(5)
    before_its_time = len(loop.opened)
    loop.clock.advance(RETRY * 2)
    loop.turn(5)
    for client in clients:
        client.send(b"hello")
    loop.until(lambda: all(opened.received for opened in loop.opened))
    return {
        "opened": [short, still, before_its_time, len(loop.opened)],
        "received": [opened.received.decode() for opened in loop.opened],
        "logged": [*set(logged)],
    }


def systemd(directory: str) -> dict[str, Any]:
    """A TCP and a unix socket were passed, as sd_listen_fds(3) says; a client of each."""
    path = os.path.join(directory, "passed.sock")
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    os.chmod(path, 0o600)
    unix.listen()
    where = tcp.getsockname()
    passed = [fcntl.fcntl(skt, fcntl.F_DUPFD, 100) for skt in (tcp, unix)]
    tcp.close()
    unix.close()
    for number, fd in enumerate(passed, 3):
        os.dup2(fd, number)
        os.close(fd)
    os.environ |= {
        "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "https:local",
    }  # fmt: skip
    loop = Loop()
    try:
        loop.listen(ListenAddress("systemd", name="http"))
        missing = ""
    except ListenError as e:
        missing = str(e)
    ports = [loop.listen(ListenAddress("systemd", name=name)) for name in ("https", "local")]
    clients = [socket.create_connection(where), socket.socket(socket.AF_UNIX)]
    clients[1].connect(path)
    for client in clients:
        client.send(b"hello")
    loop.turn(10)
    peers = [(opened.peer, opened.received.decode()) for opened in loop.opened]
    for port in ports:
        port.stopListening()
    loop.turn(5)
    # systemd goes on listening, for the next start.
    queued = socket.socket(socket.AF_UNIX)
    queued.connect(path)
    socket.create_connection(where)
    return {"missing": missing, "peers": sorted(peers), "mode": stat.S_IMODE(os.stat(path).st_mode)}


if __name__ == "__main__":
    print(json.dumps({"descriptors": descriptors, "systemd": systemd}[sys.argv[1]](*sys.argv[2:])))
