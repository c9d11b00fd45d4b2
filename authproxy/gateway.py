"""Owns what all exchanges share: sites and their pools, trust, limits, counters, the access log.

Decides where a request goes (`route`) and answers the ones that go nowhere: plain HTTP that belongs
on https, a host that no site has, ACME challenges, faults. Everything that is told of an exchange
once it is over is told here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import acme, pages, presets
from .accesslog import AccessLog
from .deadlines import Deadlines
from .errors import UpstreamError, kind_of
from .exchange import Exchange
from .guards import Guards, near
from .saying import CLIENT, HERE, UPSTREAM, Sayings
from .settings import Settings
from .sitecounts import SiteCounts
from .sites import SiteTable, hsts_applies, name_of
from .trust import Client, direct
from .upstream.pool import Pool
from .waiting import Waiting
from .wire.errors import ProtocolError
from .wire.heads import HeadLimits, RequestHead, ResponseHead

if TYPE_CHECKING:
    from .relay import Relay
    from .transport.opening import Opening

SAFE = (b"GET", b"HEAD")
MOST_HOPS = 4  # proxies like this one that a request may pass (RFC 9110 7.6.3: Via finds loops)
NO_REQUEST = RequestHead(b"-", b"-", 11, [])  # in the access line of what was none
NO_SITE = "-"  # in counts
# The reasons of refusals are texts of ours, some with the name of an error in them: there are about
# a hundred. Should one ever repeat what a client sent, it cannot make up more than this.
MOST_REASONS = 200
REMEMBERED = 1024  # hosts; there are few, but a client can make up more


class Site:
    """A site at work: its rules prepared, and its pool.

    `hsts` is the value of Strict-Transport-Security, b"" for none at all, None where upstream's own
    passes. `guards`: which paths are open to whom, None where all are to everybody. `counts` are
    the gateway's for a site of this name, once it has one.
    """

    __slots__ = ("append", "counts", "fallback_host", "guards", "hosts", "hsts", "name", "pool")

    def __init__(
        self,
        hosts: tuple[str, ...],
        pool: Pool,
        *,
        append: bool = False,
        hsts: bytes | None = None,
        guards: Guards | None = None,
    ) -> None:
        self.guards = guards
        self.hosts = hosts
        self.name = name_of(hosts)
        self.pool = pool
        self.counts = SiteCounts(self.name)
        self.append = append
        self.hsts = hsts
        named = [host for host in hosts if not host.startswith("*")]
        self.fallback_host = (named[0] if named else "localhost").encode()


class Gateway:
    """What the connections of all listeners serve.

    `sites` are those that requests are routed to, `https_port` is the port in redirects (0: left
    out). `connections` and `relays` are the open ones, for draining. `counts` are those of each
    site that there was, by its name; of what belongs to no site they are `elsewhere`'s.
    """

    def __init__(
        self,
        settings: Settings,
        sites: list[Site],
        deadlines: Deadlines,
        access: AccessLog,
    ) -> None:
        self.deadlines = deadlines
        self.now = deadlines.now
        self.draining = False
        self.https_port = 0
        self.connections: set[Any] = set()
        self.relays: set[Relay] = set()
        self.waiting = Waiting()
        self.exchanges = 0
        self.elsewhere = SiteCounts(NO_SITE)
        self.counts = {NO_SITE: self.elsewhere}
        self.dropped_fields: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.handshakes: dict[str, int] = {}  # and failed_openings: counted by the listeners
        self.failed_openings: dict[str, int] = {}
        self._access = access
        self._hsts_applies: dict[bytes, bool] = {}
        self.adopt(settings, sites)
        self.sayings = Sayings(self.now)
        self.say = self.sayings.say
        deadlines.add(self.sayings)
        deadlines.add(self.waiting)

    def adopt(self, settings: Settings, sites: list[Site]) -> None:
        """Go on with these: for every request that begins from now on.

        Those that run keep the site that they were routed to.
        """
        limits = settings.limits
        self.settings = settings
        self.limits = limits
        self.timeouts = settings.timeouts
        self.retries = settings.pool.retries
        self.head_limits = HeadLimits(limits.head_bytes, limits.line_bytes, limits.fields)
        self.networks = presets.trusted(settings.trust)
        self.sites = sites
        self._table = SiteTable(sites)
        self.count_sites(sites)
        self._redirects = settings.listen.plain_http == "redirect"
        # Where no site is known (a 421, what is no request): only if every site has it. A browser
        # that got this far without a warning asked for a name of our certificates.
        values = [site.hsts or b"" for site in sites]
        self._hsts_elsewhere = values[0] if values and all(values) else b""
        for connection in self.connections:
            connection.settings_changed()

    def count_sites(self, sites: Iterable[Site]) -> None:
        """Let these, and their pools, go on with what earlier sites of their names counted."""
        for site in sites:
            if site.name not in self.counts:
                self.counts[site.name] = SiteCounts(site.name)
            site.counts = site.pool.counts = self.counts[site.name]

    def client_of(self, opening: Opening) -> Client:
        """The client of a connection, as long as no head says otherwise."""
        scheme = b"https" if opening.secure else b"http"
        return direct(opening.peer, scheme, self.networks, opening.nameless)

    # Routing.

    def route(self, exchange: Exchange) -> Site | None:
        """The site that this request goes to, or None: it was answered."""
        self.exchanges += 1
        head, client = exchange.head, exchange.client
        plain = client.scheme == b"http"
        if plain and self.settings.listen.acme_webroot and self._challenge(exchange):
            return None
        site = self._table.find(client.host)
        if site is None:
            self.count_refused("unknown host")
            self.answer_page(exchange, 421, 0, "no site here has this host")
            return None
        exchange.site = site
        if not client.host:
            client.host = site.fallback_host  # HTTP/1.0 without Host
        if not client.trusted and not client.chain and b"x-forwarded-proto" in head.named:
            self._doubt(client)
        if b"via" in head.named and _in_a_loop(head):
            self.count_refused("loop")
            self.say(
                f"508: requests for {site.name} come back here. Is its upstream this proxy?"
                " Correct upstream in [[site]].",
                side=HERE,
            )
            self.answer_page(exchange, 508, 0, "upstream leads back to this proxy")
        elif plain and self._redirects:
            self._redirect(exchange)
        elif head.target == b"*":
            exchange.answer(*pages.complete(204, [(b"allow", pages.METHODS)], b""))
        elif site.guards is not None and self._stopped(exchange, site, site.guards):
            pass  # answered
        elif head.length > self.limits.body_bytes > 0:
            exchange.refuse(ProtocolError(413, "the request is too large", "limits.body_bytes"))
        else:
            return site
        return None

    def _stopped(self, exchange: Exchange, site: Site, guards: Guards) -> bool:
        """Whether a guard does not let this request pass. It is answered then."""
        refusal = guards.refusal(exchange.head, exchange.client)
        if refusal is None:
            return False
        self.count_refused(refusal.reason)
        self.say(
            f"Site {site.name}, {refusal.status} for {exchange.client.address}: {refusal.words}",
            f"guard {site.name} {refusal.kind}",  # not the address: a client may have many
            side=CLIENT,
        )
        self.answer_page(exchange, refusal.status, 0, refusal.detail)
        return True

    def _doubt(self, client: Client) -> None:
        """A neighbour that speaks like a proxy and is not trusted: most often one was forgotten."""
        address = client.address
        if near(address) and not client.obscured:  # to trust who names nobody would change nothing
            self.say(
                f"{address} sends X-Forwarded-Proto, and what it says is ignored. If it is a proxy"
                f' of yours, write [trust] proxies = ["{address}"].',
                f"doubt {address}",
                3600,
                side=CLIENT,
                level="warn",
            )

    def _challenge(self, exchange: Exchange) -> bool:
        """Whether the request was one for an ACME challenge (RFC 8555 8.3), now answered."""
        target = exchange.head.target
        if not target.startswith(acme.PREFIX):
            return False
        content = acme.challenge(self.settings.listen.acme_webroot, target)
        if content is None or exchange.head.method not in SAFE:
            self.answer_page(exchange, 404, 0, "")
        else:
            fields = [(b"content-type", b"application/octet-stream")]
            exchange.answer(*pages.complete(200, fields, content))
        return True

    def _redirect(self, exchange: Exchange) -> None:
        head, host = exchange.head, exchange.client.host
        if host.endswith(b"]"):
            name = host
        else:
            name, colon, port = host.rpartition(b":")
            if not colon:
                name = port
        location = b"https://" + name
        if self.https_port:
            location += b":%d" % self.https_port
        location += b"/" if head.target == b"*" else head.target
        # A POST that is redirected by 301 becomes a GET in browsers; 308 keeps it.
        exchange.answer(*pages.redirect(location, 301 if head.method in SAFE else 308))

    def hsts(self, exchange: Exchange) -> bytes | None:
        """What Strict-Transport-Security this response has: see Site.hsts."""
        if exchange.client.scheme != b"https":
            return b""  # RFC 6797 7.2
        site = exchange.site
        value = self._hsts_elsewhere if site is None else site.hsts
        host = exchange.client.host
        applies = self._hsts_applies.get(host)
        if applies is None:
            if len(self._hsts_applies) >= REMEMBERED:
                self._hsts_applies.clear()
            applies = self._hsts_applies[host] = hsts_applies(host)
        return value if applies else b""

    def refusal(self, client: Client, error: ProtocolError) -> tuple[ResponseHead, bytes]:
        """The answer to what is no request, and so names no host; it has its access line."""
        request_id = pages.new_request_id()
        head, content = pages.answer(error.status, None, request_id=request_id, detail=error.reason)
        if client.scheme == b"https" and self._hsts_elsewhere:
            head.fields.append((b"strict-transport-security", self._hsts_elsewhere))
        self.refused_head(client, error, request_id, len(content))
        return head, content

    # Answers made here, and what is told of an exchange.

    def answer_page(self, exchange: Exchange, status: int, retry_after: int, detail: str) -> None:
        """Answer with one of our own pages."""
        exchange.request_id = exchange.request_id or pages.new_request_id()
        head, content = pages.answer(
            status,
            exchange.head.get(b"accept"),
            request_id=exchange.request_id,
            detail=detail,
            retry_after=retry_after,
        )
        exchange.answer(head, content)

    def finished(self, exchange: Exchange) -> None:
        """An exchange is over: count it and write its access line."""
        self.exchanges -= 1
        now = self.now()
        site = exchange.site
        (self.elsewhere if site is None else site.counts).over(exchange, now)
        self._access.line(
            exchange.head,
            exchange.client,
            exchange.status,
            exchange.sent,
            now - exchange.started,
            exchange.upstream,
            exchange.request_id,
        )

    def count_refused(self, reason: str) -> None:
        """A request, or what should have been one, was refused."""
        if len(self.refused) >= MOST_REASONS and reason not in self.refused:
            reason = "other"
        self.refused[reason] += 1

    def refused_head(
        self, client: Client, error: ProtocolError, request_id: str, sent: int
    ) -> None:
        """What came was no request: its access line, and the limit that it met, if any."""
        self.refused_request(client.address, error)
        self._access.line(NO_REQUEST, client, error.status, sent, 0.0, "", request_id)

    def refused_request(self, address: str, error: ProtocolError) -> None:
        """Count a refusal; one that a setting decides is logged with the setting's name."""
        self.count_refused(error.reason)
        if error.limit:
            self.say(
                f"{error.status} for {address}: {error.reason}. The limit is {error.limit} in the"
                " configuration: raise it if such requests are right.",
                error.reason,  # not the address: who has many could write as many lines
                side=CLIENT,
            )

    def upstream_fault(self, exchange: Exchange, error: Exception, status: int) -> None:
        """Say what went wrong with upstream."""
        where = exchange.site.name if exchange.site else ""
        faults = (exchange.site.counts if exchange.site else self.elsewhere).faults
        kind = kind_of(error)
        faults[kind] = faults.get(kind, 0) + 1
        words = error.reason if isinstance(error, ProtocolError) else str(error)
        if isinstance(error, ProtocolError) and error.limit:
            words += f" (the limit is {error.limit})"
        if exchange.upstream and exchange.upstream not in words:
            words = f"{exchange.upstream}: {words}"
        if exchange.responding:
            answer = "a response was cut"
        else:
            exchange.request_id = pages.new_request_id()
            answer = f"{status} (request {exchange.request_id})"
        side = HERE if isinstance(error, UpstreamError) and error.here else UPSTREAM
        self.say(f"Site {where}, {answer}: {words}", f"{status} {where} {words}", side=side)


def _in_a_loop(head: RequestHead) -> bool:
    """Whether this request has passed more proxies like this one than anybody puts in a row."""
    passed = [value for name, value in head.fields if name == b"via" and b" authproxy" in value]
    return b",".join(passed).count(b" authproxy") > MOST_HOPS
