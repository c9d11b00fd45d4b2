"""Owns the control socket: how somebody on this machine asks a running proxy for something.

A unix socket that only its owner (and root) may open, and never a TCP port, which any page in a
local browser could reach. One line of JSON is asked, one is answered:

    {"command": "reload"}    {"problem": "" or why the old settings stay}
    {"command": "status"}    {"status": one line of figures, "last_reload": ..., "pid": ...}
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from .certificate_copies import runtime_directory
from .self_signed import state_directory
from .settings import ListenAddress
from .transport.binding import ListenError, bind
from .transport.listening import listen_beside

NAME = "control.sock"
OF_ROOT = "/run/authproxy"
NO_FILE = "built-in defaults"  # the configuration of a proxy that was started without a file
LONGEST = 4096  # octets of what is asked
SILENT = 10.0  # seconds until somebody who has asked nothing is no longer waited for

log = Logger()

Command = Callable[[], Any]  # returns an answer that JSON can carry, or a Deferred of one


def default_path(environ: Mapping[str, str]) -> str:
    """Where the socket is unless listen.control says otherwise.

    In a unit's runtime directory, root's /run/authproxy (which is that of the shipped unit, so root
    finds it from any shell), the user's runtime directory, or the state directory.
    """
    directory = runtime_directory(environ)
    if not directory and os.geteuid() == 0:
        directory = OF_ROOT
    elif not directory and environ.get("XDG_RUNTIME_DIR"):
        directory = os.path.join(environ["XDG_RUNTIME_DIR"], "authproxy")
    return os.path.join(directory or state_directory(environ), NAME)


class Control(Service):
    """Listens at `path` and answers `commands`. Nothing depends on it: where the socket cannot be
    made that is said, and the proxy serves without."""

    def __init__(self, path: str, commands: Mapping[str, Command], reactor: Any) -> None:
        self.path = path
        self._commands = commands
        self._reactor = reactor
        self._port: Any = None
        self._inode = 0

    def startService(self) -> None:
        """Open it: as the user who serves, so that he may remove it, too."""
        super().startService()
        directory = os.path.dirname(self.path)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            _only_ours(directory)
            [skt] = bind(ListenAddress("unix", path=self.path), mask=0o177)
            self._inode = os.stat(self.path).st_ino
        except (OSError, ListenError) as e:
            reason = e.strerror if isinstance(e, OSError) else str(e)
            log.warn(
                "this machine: No control socket at {path}: {reason} `authproxy reload` will not"
                " work, SIGHUP does. Set control in [listen] to a path of its own.",
                path=self.path,
                reason=reason,
            )
            return
        factory: Any = Factory.forProtocol(lambda: _Conversation(self._commands, self._reactor))
        factory.noisy = False
        self._port = listen_beside(skt, factory, self._reactor, ours=True, mode=0o600)

    def stopService(self) -> Any:
        """Close it, and remove its file if it is still ours."""
        super().stopService()
        port, self._port = self._port, None
        if port is None:
            return None
        ours = False
        with suppress(OSError):
            ours = os.stat(self.path).st_ino == self._inode
        if not ours:
            port._bindPath = b"\0"  # what it would unlink: as if it were an abstract address
        return port.stopListening()


def _only_ours(directory: str) -> None:
    """Who may write the directory may put a socket of his own there. Raises PermissionError."""
    status = os.stat(directory)
    if status.st_uid not in (0, os.geteuid()):
        name = str(status.st_uid)
        with suppress(KeyError):
            name = pwd.getpwuid(status.st_uid).pw_name
        raise PermissionError(0, f"its directory is {name}'s.")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.filemode(status.st_mode)
        raise PermissionError(0, f"its directory may be written by others than its owner ({mode}).")


class _Conversation(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = LONGEST

    def __init__(self, commands: Mapping[str, Command], reactor: Any) -> None:
        self._commands = commands
        self._reactor = reactor
        self._patience: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Somebody wants something."""
        transport: Any = self.transport
        self._patience = self._reactor.callLater(SILENT, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """He is gone, perhaps before he asked."""
        self._waited()

    def _waited(self) -> bool:
        """Whether it was still waited for what he wants; it is no more."""
        patience, self._patience = self._patience, None
        if patience is None:
            return False
        if patience.active():
            patience.cancel()
        return True

    def lineReceived(self, line: bytes) -> None:
        """A command; there is one in a conversation."""
        if not self._waited():
            return
        try:
            command = json.loads(line)["command"]
            what = self._commands[command]
        except (ValueError, LookupError, TypeError, RecursionError):
            self._answer({"problem": f"There are these commands: {', '.join(self._commands)}."})
            return
        asked: Deferred[Any] = maybeDeferred(what)
        asked.addErrback(lambda reason: {"problem": f"an internal error: {reason.value!r}"})
        asked.addCallback(self._answer)

    def _answer(self, answer: Any) -> None:
        if self.transport is not None:
            self.sendLine(json.dumps(answer).encode())
            transport: Any = self.transport
            transport.loseConnection()


def ask(path: str, command: str, timeout: float) -> dict[str, Any]:
    """Ask a running proxy. Blocks. Raises OSError where nobody answers in `timeout` seconds, and
    ValueError where it is no answer of ours."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as skt:
        skt.settimeout(timeout)
        skt.connect(path)
        skt.sendall(json.dumps({"command": command}).encode() + b"\n")
        answer = b""
        while piece := skt.recv(65536):
            answer += piece
    said = json.loads(answer)
    if not isinstance(said, dict):
        raise ValueError("not an answer of authproxy")
    return said
