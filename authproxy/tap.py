"""The wiring: command line -> settings -> the parts -> one service. twistd's plugin leads here.

The only module that imports the reactor.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from twisted.python import usage

from . import config, crosschecks, files
from .accesslog import AccessLog
from .admin import Admin
from .announcement import Announcement
from .certificates import CertificateError, ServerNames
from .daemon import Daemon
from .deadlines import Deadlines
from .downstream import http1, http2
from .gateway import Gateway, Site
from .identity import Identity
from .linefile import Lines
from .notify import Notifier
from .service import FrontDoor, Parts
from .settings import ListenAddress, Settings, SiteSettings
from .transport.admission import Admission, connections_allowed
from .transport.dialling import TransportReactor
from .transport.dispatch import Dispatcher
from .transport.listening import listen, listen_on
from .transport.opening import Listener, Opening
from .trust import UNIX_PEER, TrustedNetworks
from .upstream.dialler import Dialler
from .upstream.pool import Pool
from .upstream_tls import UpstreamTLS
from .workers.handover import Handover, Listeners
from .workers.processors import processors
from .workers.supervisor import Supervisor

log = Logger()


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
    settings: Settings
    identity: Identity
    text: str
    overrides: dict[str, str]

    def postOptions(self) -> None:
        """Read settings and certificates; what is wrong with them ends twistd with a message."""
        path = config.path_or_default(self["config"])
        overrides = {
            name.replace("-", "_"): value
            for name, value in self.items()
            if name != "config" and value is not None
        }
        environ = dict(os.environ)
        self.text, problem = config.read(path)
        if problem is not None:
            raise SystemExit(str(problem))
        self.overrides = overrides
        self.settings, problems = config.loads(self.text, path or "", overrides)
        for key, message in files.problems(self.settings, environ):
            problems.append(config.named(path or "", key, message, overrides))
        if problems:
            # Not UsageError: a page of options would come before what is wrong with a file.
            raise SystemExit("\n".join(map(str, problems)))
        try:
            self.identity = Identity.load(self.settings, environ)
        except CertificateError as e:
            raise SystemExit(str(e)) from None
        parent: Mapping[str, Any] = self.parent or {}
        if self.settings.log.access == "-" and parent and not parent.get("nodaemon"):
            raise usage.UsageError(
                'log.access = "-" writes to stdout, which a daemon does not have. Name a file,'
                " or run in the foreground (twistd --nodaemon)."
            )


def build_site(
    settings: Settings,
    site: SiteSettings,
    self_signed: bool,
    deadlines: Deadlines,
    reactor: TransportReactor,
) -> Site:
    """One site at work: its upstream TLS, its pool, its rules."""
    verify = site.upstream_verify
    tls = {
        upstream: UpstreamTLS(verify.mode, verify.value, site.server_name(upstream))
        for upstream in site.upstreams
        if upstream.scheme == "https"
    }
    dialler = Dialler(reactor, tls, deadlines, settings.timeouts, settings.limits)
    pool = Pool(site.upstreams, settings.pool, deadlines, dialler.dial)
    hsts = b"max-age=%d" % site.hsts if site.hsts else None
    if self_signed:
        hsts = b""
    return Site(site.hosts, pool, append=site.x_forwarded_for == "append", hsts=hsts)


def make_service(
    settings: Settings,
    identity: Identity,
    reactor: Any,
    sockets: Mapping[ListenAddress, socket.socket] | None = None,
    lines: Lines | None = None,
) -> FrontDoor:
    """Put one process together. Nothing is bound here.

    `sockets` are those that a worker was given, and `lines` takes its access lines: it binds none,
    has no admin listener and announces nothing. Raises CertificateError.
    """
    dispatcher = Dispatcher()
    view = TransportReactor(reactor, dispatcher)
    deadlines = Deadlines(reactor, time.monotonic)
    access = AccessLog(settings.log.access, settings.log.format, time.time, lines)
    sites = [
        build_site(settings, site, number in identity.self_signed, deadlines, view)
        for number, site in enumerate(settings.sites)
    ]
    gateway = Gateway(settings, sites, deadlines, access)
    admission = Admission(
        connections_allowed(settings.limits.connections),
        settings.limits.unproven_per_address,
        # Behind a unix socket there is one peer for everybody.
        lambda address: address == UNIX_PEER or gateway.networks.contains(address),
    )
    listener = partial(_listener, gateway, admission)

    def opened(address: ListenAddress, listener: Listener) -> Any:
        if sockets is None:
            return listen(address, listener, view)
        return listen_on(sockets[address], listener, view)

    parts = Parts(
        settings=settings,
        gateway=gateway,
        pools=tuple(site.pool for site in sites),
        deadlines=deadlines,
        access=access,
        dispatcher=dispatcher,
        http=listener(None) if settings.listen.http else None,
        https=listener(identity.server_names(settings)) if settings.listen.https else None,
        listen=opened,
    )
    if sockets is not None:
        return FrontDoor(reactor, parts, Notifier({}))
    door = FrontDoor(reactor, parts, Notifier(os.environ), announcement(settings, identity))
    door.addService(Admin(settings.listen, door.counters, reactor))
    return door


def _listener(gateway: Gateway, admission: Admission, names: ServerNames | None) -> Listener:
    """What the connections of one kind of listener share."""
    settings = gateway.settings
    return Listener(
        build=partial(_connection, gateway),
        admission=admission,
        deadlines=gateway.deadlines,
        tls=names,
        proxy_protocol_from=TrustedNetworks(settings.listen.proxy_protocol_from).contains,
        handshake_timeout=settings.timeouts.tls_handshake,
        header_timeout=settings.timeouts.proxy_header,
        say=gateway.say,
    )


def _connection(gateway: Gateway, opening: Opening) -> IProtocol:
    """The HTTP version that client and server agreed on (RFC 7301)."""
    version = http2 if opening.transport.negotiatedProtocol == b"h2" else http1
    connection: IProtocol = version.Connection(gateway, opening)
    return connection


def announcement(settings: Settings, identity: Identity) -> Announcement:
    """What is said once everything serves."""
    warnings = [*crosschecks.warnings(settings), *identity.remarks]
    return Announcement(settings, tuple(identity.notes), tuple(warnings))


def make_supervisor(options: Options, workers: int, reactor: Any) -> Supervisor:
    """Put the process together that starts so many workers. Nothing is bound here."""
    settings, identity = options.settings, options.identity

    def handover(listeners: Listeners) -> Handover:
        return Handover(
            options.text, settings.path, options.overrides, workers, listeners, identity
        )

    supervisor = Supervisor(
        reactor,
        settings,
        workers,
        handover,
        Notifier(os.environ),
        announcement(settings, identity),
    )
    supervisor.addService(Admin(settings.listen, supervisor.counters, reactor))
    return supervisor


def makeService(options: Options) -> IService:
    """What twistd calls."""
    from twisted.internet import reactor  # noqa: PLC0415  (importing installs one)

    wanted = options.settings.workers
    workers = processors() if isinstance(wanted, str) else wanted
    door: Any
    if workers > 1:
        door = make_supervisor(options, workers, reactor)
    else:
        door = make_service(options.settings, options.identity, reactor)
    twistd: Mapping[str, Any] = options.parent or {}
    own_log = any(twistd.get(name) for name in ("logfile", "logger", "syslog"))
    daemon: Any = Daemon(  # an IService, which mypy cannot see
        door, reactor, foreground=bool(twistd.get("nodaemon")), own_log=own_log
    )
    service: IService = daemon
    return service
