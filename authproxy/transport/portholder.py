"""Owns one question: which process listens on a TCP port of this machine? (Linux, from /proc.)

For the message about a port in use. Everything here may be unknown (another user's process, no
/proc), and then the answer is "".
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection
from contextlib import suppress

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


def describe_holder(port: int) -> str:
    """Who listens on this port, as "nginx (pid 1234)" or "a process of user 33", or ""."""
    inodes = _sockets(port)
    if not inodes:
        return ""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if _holds(process, inodes):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue  # it ended, or is another user's
    user = next(iter(inodes.values()))
    return f"a process of user id {user}"


def held_here(port: int) -> bool:
    """Whether this process listens on the port, at some address."""
    with suppress(OSError):
        return _holds(pathlib.Path("/proc/self"), _sockets(port))
    return False


def _holds(process: pathlib.Path, inodes: Collection[str]) -> bool:
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists the directory
            target = os.readlink(descriptor)
            if target.startswith("socket:[") and target[8:-1] in inodes:
                return True
    return False


def _sockets(port: int) -> dict[str, str]:
    """Socket inode -> user id, of all that listen on this port."""
    # "self": where only processes are visible (ProcSubset=pid in the unit), /proc/net is not.
    tables = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
    return {inode: user for table in tables for inode, user in _listening(table, port).items()}


def _listening(table: str, port: int) -> dict[str, str]:
    """Socket inode -> user id, of the listening sockets on this port."""
    try:
        lines = pathlib.Path(table).read_text().splitlines()[1:]
    except OSError:
        return {}
    found = {}
    for columns in map(str.split, lines):
        if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
            found[columns[9]] = columns[7]
    return found
