"""The wiring: command line -> settings -> the parts -> one service. twistd's plugin leads here.

The only module that imports the reactor.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python import usage

from . import __version__, config, crosschecks
from .admin.listener import Admin, Sources
from .announcement import Announcement
from .assembly import assemble
from .config import ConfigError
from .control import NO_FILE, Control, default_path
from .daemon import Daemon
from .deadlines import make_steady
from .identity import Identity
from .linefile import Lines
from .loading import Loaded, Source
from .notify import Notifier, status
from .operations_log import THRESHOLD
from .reloads import Reloads
from .service import FrontDoor
from .settings import ListenAddress, Settings
from .workers.processors import processors
from .workers.supervisor import Supervisor


class Options(usage.Options):
    """The command line of `twistd authproxy`."""

    synopsis = "[options]"
    longdesc = "The front door of an authentik server. `authproxy check` tests a configuration."
    optParameters: ClassVar = [
        ["config", "c", None, f"configuration file (default: {config.DEFAULT_PATH}, if it exists)"],
        ["upstream", "u", None, "authentik's address, e.g. https://10.0.0.5:9443"],
        ["host", None, None, "the host name to serve"],
        ["certificate", None, None, "certificate chain, PEM"],
        ["private-key", None, None, "its private key, PEM"],
        ["http", None, None, "listen for http here, e.g. [::]:80"],
        ["https", None, None, "listen for https here, e.g. [::]:443"],
        ["access-log", None, None, 'path of the access log, "-" for stdout, "" for none'],
    ]
    source: Source
    loaded: Loaded

    def postOptions(self) -> None:
        """Read settings and certificates; what is wrong with them ends twistd with a message."""
        overrides = {
            name.replace("-", "_"): value
            for name, value in self.items()
            if name != "config" and value is not None
        }
        self.source = Source(self["config"], overrides, dict(os.environ))
        try:
            self.loaded = self.source.load()
        except ConfigError as e:
            # Not UsageError: a page of options would come before what is wrong with a file.
            raise SystemExit(str(e)) from None
        parent: Mapping[str, Any] = self.parent or {}
        if self.loaded.settings.log.access == "-" and parent and not parent.get("nodaemon"):
            raise usage.UsageError(
                'log.access = "-" writes to stdout, which a daemon does not have. Name a file,'
                " or run in the foreground (twistd --nodaemon)."
            )


def make_service(
    settings: Settings,
    identity: Identity,
    reactor: Any,
    sockets: Mapping[ListenAddress, socket.socket] | None = None,
    lines: Lines | None = None,
) -> FrontDoor:
    """Put one process together. Nothing is bound here.

    `sockets` are those that a worker was given, and `lines` takes its access lines: it binds none,
    announces nothing. Raises CertificateError.
    """
    parts = assemble(settings, identity, reactor, sockets, lines)
    if sockets is not None:
        return FrontDoor(reactor, parts, Notifier({}))
    said = announcement(settings, identity)
    return FrontDoor(reactor, parts, Notifier(os.environ), said, identity)


def announcement(settings: Settings, identity: Identity) -> Announcement:
    """What is said once everything serves."""
    warnings = [*crosschecks.warnings(settings), *identity.remarks]
    return Announcement(settings, tuple(identity.notes), tuple(warnings))


def make_supervisor(source: Source, loaded: Loaded, workers: int, reactor: Any) -> Supervisor:
    """Put the process together that starts so many workers. Nothing is bound here."""
    return Supervisor(
        reactor,
        loaded,
        workers,
        source.overrides,
        Notifier(os.environ),
        announcement(loaded.settings, loaded.identity),
    )


def make_admin(
    door: FrontDoor | Supervisor,
    in_force: Callable[[], tuple[Settings, Identity]],
    last_reload: Callable[[], tuple[str, float] | None],
    reactor: Any,
) -> Admin:
    """The admin listener, which reads what all processes do."""
    sources = Sources(
        read=door.counters,
        settings=lambda: in_force()[0],
        identity=lambda: in_force()[1],
        draining=lambda: door.draining,
        last_reload=last_reload,
        steady=time.monotonic,
        wall=time.time,
    )
    return Admin(sources, reactor)


def control(options: Options, door: Any, reloads: Reloads, reactor: Any) -> Control:
    """What the control socket answers."""

    def about() -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "version": __version__,
            "configuration": reloads.loaded.settings.path or NO_FILE,
            "serving": status(door.counters()).partition("=")[2],
            "last_reload": reloads.told(),
        }

    path = options.loaded.settings.listen.control or default_path(options.source.environ)
    return Control(
        path,
        {"reload": lambda: reloads.reload().addCallback(_problem), "status": about},
        reactor,
    )


def _problem(problem: str) -> dict[str, str]:
    return {"problem": problem}


def makeService(options: Options) -> IService:
    """What twistd calls."""
    from twisted.internet import reactor  # noqa: PLC0415  (importing installs one)

    make_steady(reactor)
    loaded = options.loaded
    wanted = loaded.settings.workers
    THRESHOLD.set(loaded.settings.log.level)
    workers = processors() if isinstance(wanted, str) else wanted
    door: Any
    if workers > 1:
        door = make_supervisor(options.source, loaded, workers, reactor)
    else:
        door = make_service(loaded.settings, loaded.identity, reactor)
    twistd: Mapping[str, Any] = options.parent or {}
    own_log = any(twistd.get(name) for name in ("logfile", "logger", "syslog"))

    def adopt(loaded: Loaded) -> Deferred[Any]:
        admin.open_new()
        return maybeDeferred(door.reload, loaded).addCallbacks(admin.commit, admin.give_up)

    reloads = Reloads(options.source, loaded, adopt, Notifier(os.environ), reactor)
    reloads.setServiceParent(door)
    control(options, door, reloads, reactor).setServiceParent(door)
    admin = make_admin(
        door,
        lambda: (reloads.loaded.settings, reloads.loaded.identity),
        lambda: reloads.last,
        reactor,
    )
    daemon: Any = Daemon(  # an IService, which mypy cannot see
        door, admin, reloads, reactor, foreground=bool(twistd.get("nodaemon")), own_log=own_log
    )
    service: IService = daemon
    return service
