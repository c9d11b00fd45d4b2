"""Owns listening sockets until somebody accepts on them: binding, adopting systemd's, the messages.

Knows nothing of reactors: what it makes is handed to listening.py, or through the supervisor to a
worker's.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from twisted.internet.endpoints import _SystemdParser
from twisted.logger import Logger
from twisted.python.systemd import ListenFDs

from ..settings import Listen, ListenAddress
from .portholder import describe_holder, held_here

BACKLOG = 4096  # Twisted's default of 50 refuses clients in a burst
UNPRIVILEGED = {80: 8080, 443: 8443}  # where to listen when the default ports may not be bound

Opened = TypeVar("Opened")

log = Logger()


class ListenError(Exception):
    """A listener cannot be opened; the message names the address, the cause and the cure.

    `no_permission`: the port may not be bound by this user.
    """

    def __init__(self, message: str, address: ListenAddress, no_permission: bool = False) -> None:
        super().__init__(message)
        self.host, self.port = address.host, address.port
        self.no_permission = no_permission


def wanted(listen: Listen) -> Iterator[tuple[str, ListenAddress, bool]]:
    """(scheme, address, whether it was written down) of every listener that settings ask for."""
    for address in listen.http:
        yield "http", address, listen.http_explicit
    for address in listen.https:
        yield "https", address, listen.https_explicit


def or_unprivileged(
    opened: Callable[[ListenAddress], Opened], address: ListenAddress, fixed: bool
) -> tuple[ListenAddress, Opened]:
    """What `opened` makes of an address, and which address that was in the end.

    A default port that this user may not bind has another in its place; one that was written down
    (`fixed`) has not. Raises ListenError, as `opened` does.
    """
    try:
        return address, opened(address)
    except ListenError as e:
        other = None if fixed else UNPRIVILEGED.get(address.port)
        if other is None or not e.no_permission:
            raise
    log.info(
        "Port {port} may not be bound by this user: listening on {other} instead.",
        port=address.port,
        other=other,
    )
    address = ListenAddress(kind="tcp", host=address.host, port=other)
    return address, opened(address)


def bind(address: ListenAddress, copies: int = 1, mask: int = 0o117) -> list[socket.socket]:
    """Listening, non-blocking sockets of an address. Raises ListenError.

    A TCP port gets `copies` of them, among which the kernel divides the connections (SO_REUSEPORT)
    where there are several; unix sockets and systemd's are one for all. `mask` is the umask of a
    unix socket's file: without one, proxies of the same group may connect.
    """
    try:
        if address.kind == "systemd":
            return [_passed(address)]
        if address.kind == "unix":
            return [_bind_unix(address.path, mask)]
        return _bind_tcp(address.host, address.port, copies)
    except OSError as e:
        no_permission = e.errno in (errno.EACCES, errno.EPERM)
        raise ListenError(_explain(address, e), address, no_permission) from None


def _bind_tcp(host: str, port: int, copies: int) -> list[socket.socket]:
    if host == "::" and not _have_ipv6():
        log.warn("This kernel has no IPv6: listening on 0.0.0.0:{port} instead.", port=port)
        host = "0.0.0.0"  # noqa: S104  (what [::] means here)
    if copies == 1:
        skt = _internet_socket(host, port, reuse=False)
        skt.listen(BACKLOG)
        return [skt]
    # Alone first: whoever listens here already would otherwise keep a share of the connections, and
    # nobody would notice.
    _internet_socket(host, port, reuse=False).close()
    made: list[socket.socket] = []
    try:
        for _ in range(copies):
            made.append(_internet_socket(host, port, reuse=True))
            port = made[0].getsockname()[1]  # where any free one was asked for
        for skt in made:  # together: while one of a group listens, the next must not be missing
            skt.listen(BACKLOG)
    except OSError:
        for skt in made:
            skt.close()
        raise
    return made


def _internet_socket(host: str, port: int, *, reuse: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    skt = socket.socket(family, socket.SOCK_STREAM)
    try:
        skt.setblocking(False)
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse:
            skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Dual-stack for [::], whatever the system's default is.
            skt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        # Resolved: an address may carry a zone.
        [*_, where] = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0]
        skt.bind(where)
    except OSError:
        skt.close()
        raise
    return skt


def _have_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    net = "/proc/self/net"
    return os.path.exists(f"{net}/if_inet6") or not os.path.exists(net)


def _bind_unix(path: str, mask: int) -> socket.socket:
    _remove_stale(path)
    skt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(mask)
    try:
        skt.setblocking(False)
        skt.bind(path)
        skt.listen(BACKLOG)
    except OSError:
        skt.close()
        raise
    finally:
        os.umask(before)
    return skt


def _remove_stale(path: str) -> None:
    """Remove the socket file of a process that is gone; a live one stays, and binding fails."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a live one whose queue is full would hold us up
            probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError:
        return


def _passed(address: ListenAddress) -> socket.socket:
    """The socket that systemd passed by this name (sd_listen_fds(3), LISTEN_FDNAMES)."""
    name = address.name
    passed = _passed_by_systemd()
    if name not in passed:
        names = ", ".join(sorted(passed)) or "none"
        raise ListenError(
            f"systemd passed no socket named {name!r} (passed: {names}). Set"
            f" FileDescriptorName={name} in the .socket unit and start that unit.",
            address,
        )
    # A duplicate: systemd's own stays open for as long as the process lives.
    skt = socket.socket(fileno=os.dup(passed[name]))
    os.set_inheritable(skt.fileno(), False)
    skt.setblocking(False)
    if skt.family == socket.AF_UNIX:
        skt.listen(BACKLOG)  # it is set anew
    return skt


def _passed_by_systemd() -> dict[str, int]:
    """Descriptors by name.

    Whoever asks Twisted for them takes them out of the environment. Its own endpoints do, when they
    are imported, which under twistd is before this module: what they found is in their parser.
    """
    # Of a copy: there are as many calls as sockets.
    ours = ListenFDs.fromEnvironment(dict(os.environ))
    return ours.inheritedNamedDescriptors() or _SystemdParser._sddaemon.inheritedNamedDescriptors()


def _explain(address: ListenAddress, reason: Any) -> str:
    code = getattr(reason, "errno", None)
    if code == errno.EADDRINUSE:
        if address.kind == "tcp" and held_here(address.port):
            return (
                f"{address} is already in use by another listener of this authproxy, which overlaps"
                " it. Leave one of them out; one that is open is changed by a restart alone."
            )
        holder = describe_holder(address.port) if address.kind == "tcp" else ""
        by = f" by {holder}" if holder else ""
        return f"{address} is already in use{by}. Stop that, or choose another address in [listen]."
    if code in (errno.EACCES, errno.EPERM):
        return (
            f"{address}: permission denied. Ports below 1024 need CAP_NET_BIND_SERVICE (the shipped"
            " systemd unit gives it), and a unix socket a directory that this user may write."
        )
    if code == errno.EADDRNOTAVAIL:
        return (
            f"{address}: no interface of this machine has that address. Correct it, or write [::]"
            " for all of them."
        )
    if address.kind == "unix" and code in (errno.ENOENT, errno.ENOTDIR):
        directory = os.path.dirname(address.path)
        return f"{address}: there is no directory {directory}. Make it, or choose another path."
    if address.kind == "unix" and code is None:  # Python's own: sun_path has 108 octets
        return f"{address}: {reason}. Choose a shorter one."
    return f"{address}: {getattr(reason, 'strerror', None) or reason}."
