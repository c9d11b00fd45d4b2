"""The wiring: command line -> settings -> the parts -> one service. twistd's plugin leads here.

The only module that imports the reactor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from . import config, crosschecks, files
from .accesslog import AccessLog
from .certificates import CertificateError, ServerNames, server_context
from .daemon import Daemon
from .deadlines import Deadlines
from .downstream.http1 import Connection
from .gateway import Gateway, Site
from .notify import Notifier
from .self_signed import self_signed, state_directory
from .service import FrontDoor, Parts
from .settings import Settings, SiteSettings
from .transport.admission import Admission, connections_allowed
from .transport.dialling import TransportReactor
from .transport.dispatch import Dispatcher
from .transport.listening import listen
from .transport.opening import Listener, Opening
from .trust import UNIX_PEER, TrustedNetworks
from .upstream.dialler import Dialler
from .upstream.pool import Pool
from .upstream_tls import UpstreamTLS

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

    def postOptions(self) -> None:
        """Read settings and certificates; what is wrong with them ends twistd with a message."""
        path = config.path_or_default(self["config"])
        overrides = {
            name.replace("-", "_"): value
            for name, value in self.items()
            if name != "config" and value is not None
        }
        environ = dict(os.environ)
        self.settings, problems = config.examine(path, overrides)
        for key, message in files.problems(self.settings, environ):
            problems.append(config.named(path or "", key, message, overrides))
        if problems:
            # Not UsageError: a page of options would come before what is wrong with a file.
            raise SystemExit("\n".join(map(str, problems)))
        try:
            self.identity = Identity(self.settings, environ)
        except CertificateError as e:
            raise SystemExit(str(e)) from None
        parent: Mapping[str, Any] = self.parent or {}
        if self.settings.log.access == "-" and parent and not parent.get("nodaemon"):
            raise usage.UsageError(
                'log.access = "-" writes to stdout, which a daemon does not have. Name a file,'
                " or run in the foreground (twistd --nodaemon)."
            )


class Identity:
    """Who we are to clients: the certificate of each site, or our self-signed one.

    `self_signed` says which sites have none of their own: they send no HSTS.
    """

    def __init__(self, settings: Settings, environ: dict[str, str]) -> None:
        entries: list[tuple[tuple[str, ...], Any]] = []
        self.notes: list[str] = []
        self.remarks = files.remarks(settings, environ)
        self.self_signed: set[SiteSettings] = set()
        minimum = settings.tls.minimum_version
        if not settings.listen.https:
            self.names: ServerNames | None = None
            return
        for site in settings.sites:
            if site.certificate:
                pair = files.load(site, environ)
            else:
                directory = state_directory(environ)
                hosts = [host for host in site.hosts if "*" not in host]
                pair, created = self_signed(directory, hosts or ["localhost"])
                verb = "made" if created else "uses"
                self.self_signed.add(site)
                self.notes.append(
                    f"No certificate is configured for {', '.join(site.hosts) or 'any host'}:"
                    f" authproxy {verb} a self-signed one in {directory}. Browsers will warn; name"
                    " yours with certificate and private_key in [[site]]."
                )
            entries.append((site.hosts, server_context(pair, minimum_version=minimum)))
        self.names = ServerNames(entries, settings.tls.unknown_sni)


def build_site(
    settings: Settings,
    site: SiteSettings,
    identity: Identity,
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
    if site in identity.self_signed:
        hsts = b""
    return Site(site.hosts, pool, append=site.x_forwarded_for == "append", hsts=hsts)


def make_service(settings: Settings, identity: Identity, reactor: Any) -> FrontDoor:
    """Put everything together. Nothing is bound here."""
    dispatcher = Dispatcher()
    view = TransportReactor(reactor, dispatcher)
    deadlines = Deadlines(reactor, time.monotonic)
    access = AccessLog(settings.log.access, settings.log.format, time.time)
    sites = [build_site(settings, site, identity, deadlines, view) for site in settings.sites]
    gateway = Gateway(settings, sites, deadlines, access)
    limits, timeouts = settings.limits, settings.timeouts
    admission = Admission(
        connections_allowed(limits.connections),
        limits.unproven_per_address,
        # Behind a unix socket there is one peer for everybody.
        lambda address: address == UNIX_PEER or gateway.networks.contains(address),
    )

    def connection(opening: Opening) -> Any:
        return Connection(gateway, opening)

    def listener(names: ServerNames | None) -> Listener:
        return Listener(
            build=connection,
            admission=admission,
            deadlines=deadlines,
            tls=names,
            proxy_protocol_from=TrustedNetworks(settings.listen.proxy_protocol_from).contains,
            handshake_timeout=timeouts.tls_handshake,
            header_timeout=timeouts.proxy_header,
            say=gateway.say,
        )

    parts = Parts(
        settings=settings,
        gateway=gateway,
        pools=tuple(site.pool for site in sites),
        deadlines=deadlines,
        access=access,
        dispatcher=dispatcher,
        http=listener(None) if settings.listen.http else None,
        https=listener(identity.names) if settings.listen.https else None,
        listen=lambda address, opened: listen(address, opened, view),
    )
    warnings = [*crosschecks.warnings(settings), *identity.remarks]
    return FrontDoor(reactor, parts, Notifier(os.environ), identity.notes, warnings)


def makeService(options: Options) -> IService:
    """What twistd calls."""
    from twisted.internet import reactor  # noqa: PLC0415  (importing installs one)

    door = make_service(options.settings, options.identity, reactor)
    twistd: Mapping[str, Any] = options.parent or {}
    own_log = any(twistd.get(name) for name in ("logfile", "logger", "syslog"))
    daemon: Any = Daemon(  # an IService, which mypy cannot see
        door, reactor, foreground=bool(twistd.get("nodaemon")), own_log=own_log
    )
    service: IService = daemon
    return service
