"""Owns what one process is made of, and what of it changes with the settings.

    assemble    settings and certificates -> the parts that service.py runs
    _adopt      the same parts, with other settings

What may fail of a change comes first: after it everything is replaced, without an event between.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.interfaces import IProtocol

from . import guards
from .accesslog import AccessLog
from .deadlines import Deadlines
from .downstream import http1, http2
from .gateway import Gateway, Site
from .identity import Identity
from .linefile import Lines
from .memory import Surplus
from .service import Parts
from .settings import ListenAddress, Settings, SiteSettings
from .transport.admission import Admission, connections_allowed
from .transport.dialling import TransportReactor
from .transport.dispatch import Dispatcher
from .transport.listening import listen, listen_on
from .transport.opening import Listener, Opening
from .trust import UNIX_PEER, TrustedNetworks
from .upstream.dialler import Dialler
from .upstream.health import watch
from .upstream.pool import Pool
from .upstream_tls import UpstreamTLS


def assemble(
    settings: Settings,
    identity: Identity,
    reactor: Any,
    sockets: Mapping[ListenAddress, socket.socket] | None = None,
    lines: Lines | None = None,
) -> Parts:
    """Put one process together. Nothing is bound here.

    `sockets` are those that a worker was given and accepts on, instead of binding its own; `lines`
    takes its access lines. Raises CertificateError, or OSError for the access log.
    """
    dispatcher = Dispatcher()
    view = TransportReactor(reactor, dispatcher)
    deadlines = Deadlines(reactor, time.monotonic)
    access = AccessLog(settings.log.access, settings.log.format, time.time, lines)
    names = identity.server_names(settings)
    diallers = [_dialler(settings, site, deadlines, view) for site in settings.sites]
    gateway = Gateway(
        settings, _sites(settings, identity, diallers, deadlines, None), deadlines, access
    )
    admission = Admission(
        connections_allowed(settings.limits.connections),
        settings.limits.unproven_per_address,
        # Behind a unix socket there is one peer for everybody.
        lambda address: address == UNIX_PEER or gateway.networks.contains(address),
    )

    deadlines.add(Surplus(deadlines.now, lambda: admission.open))

    def opened(address: ListenAddress, listener: Listener) -> Any:
        if sockets is None:
            return listen(address, listener, view)
        return listen_on(sockets[address], listener, view)

    http, https = (
        Listener(
            partial(_connection, gateway),
            admission,
            deadlines,
            tls,
            say=gateway.say,
            handshakes=gateway.handshakes,
            failures=gateway.failed_openings,
        )
        for tls in (None, names)
    )
    parts = Parts(
        gateway=gateway,
        deadlines=deadlines,
        access=access,
        dispatcher=dispatcher,
        http=http,
        https=https,
        listen=opened,
        adopt=lambda settings, identity: _adopt(parts, view, settings, identity),
    )
    _set_rules(parts)
    return parts


def _adopt(parts: Parts, view: TransportReactor, settings: Settings, identity: Identity) -> None:
    """Go on with other settings. Raises CertificateError or OSError: then nothing has changed."""
    gateway, deadlines = parts.gateway, parts.deadlines
    names = identity.server_names(settings)
    diallers = [_dialler(settings, site, deadlines, view) for site in settings.sites]
    parts.access.adopt(settings.log.access, settings.log.format)
    # From here on nothing fails.
    before = gateway.sites
    sites = _sites(settings, identity, diallers, deadlines, gateway)
    gateway.adopt(settings, sites)
    kept = {site.pool for site in sites}
    for site in before:
        if site.pool not in kept:
            site.pool.retire()
    if names is not None:
        parts.https.tls = names
    parts.https.admission.adopt(
        connections_allowed(settings.limits.connections), settings.limits.unproven_per_address
    )
    _set_rules(parts)


def _set_rules(parts: Parts) -> None:
    """What the connections of all listeners begin with."""
    settings = parts.gateway.settings
    for listener in (parts.http, parts.https):
        listener.proxy_protocol_from = TrustedNetworks(settings.listen.proxy_protocol_from).contains
        listener.handshake_timeout = settings.timeouts.tls_handshake
        listener.header_timeout = settings.timeouts.proxy_header


def _dialler(
    settings: Settings, site: SiteSettings, deadlines: Deadlines, view: TransportReactor
) -> Dialler:
    """What makes the connections to the servers of one site."""
    verify = site.upstream_verify
    tls = {
        upstream: UpstreamTLS(verify.mode, verify.value, site.server_name(upstream))
        for upstream in site.upstreams
        if upstream.scheme == "https"
    }
    return Dialler(view, tls, deadlines, settings.timeouts, settings.limits)


def _sites(
    settings: Settings,
    identity: Identity,
    diallers: list[Dialler],
    deadlines: Deadlines,
    before: Gateway | None,
) -> list[Site]:
    """The sites at work, each with its pool: the one that it had, where nothing has changed that
    its connections were made with."""
    pools = {}
    if before is not None and _of_connections(before.settings) == _of_connections(settings):
        known = zip(before.settings.sites, before.sites, strict=True)
        pools = {site_settings: site.pool for site_settings, site in known}
    sites = []
    for number, (site, dialler) in enumerate(zip(settings.sites, diallers, strict=True)):
        pool = pools.get(site)
        if pool is None:
            pool = Pool(site.upstreams, settings.pool, deadlines, dialler.dial)
        else:
            pool.dial_with(dialler.dial)  # a CA's file may say something else now
        hsts = b"max-age=%d" % site.hsts if site.hsts else None
        if number in identity.self_signed:
            hsts = b""
        append = site.x_forwarded_for == "append"
        guarded = guards.prepared(site.guards)
        made = Site(site.hosts, pool, append=append, hsts=hsts, guards=guarded)
        watch(pool, made.name, site.first_name, settings.health, dialler.dial, deadlines)
        sites.append(made)
    return sites


def _of_connections(settings: Settings) -> tuple[object, ...]:
    """What all connections to upstream are made with."""
    return settings.pool, settings.timeouts, settings.limits


def _connection(gateway: Gateway, opening: Opening) -> IProtocol:
    """The HTTP version that client and server agreed on (RFC 7301)."""
    version = http2 if opening.transport.negotiatedProtocol == b"h2" else http1
    connection: IProtocol = version.Connection(gateway, opening)
    return connection
