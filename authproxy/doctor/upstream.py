"""Owns the checks of authentik itself, asked from this machine without the proxy between.

They tell which side is at fault, and from which address this machine reaches authentik. Only where
the configuration has the site; and only what this machine sees, which is what the proxy sees if it
runs here.
"""

from __future__ import annotations

import re

from attrs import field, frozen

from ..certificates import CertificateError
from ..settings import SiteSettings, Upstream
from ..upstream_tls import UpstreamTLS, VerificationError
from .cures import trust_us
from .health import PATHS, verdict
from .identity import Get, believed
from .names import resolve
from .requests import FAULTS, JSON, Answer, ask
from .results import Result, failed, ok, skipped, warning
from .stream import Stream, dial, source_towards, words_of
from .target import Target
from .websocket import PATH as SOCKET_PATH
from .websocket import converse

UPSTREAM, TRUST, SOCKET = "upstream", "trust", "upstream ws"


@frozen
class Findings:
    """What came of it: results; our addresses towards authentik; whether it believes them."""

    results: list[Result]
    sources: tuple[str, ...] = ()
    trusts: bool | None = field(default=None)


def check(target: Target) -> Findings:
    """Each server of the site."""
    site = target.site
    if site is None:
        why = "the configuration has no such site"
        if target.settings is None:
            why = "no configuration: --config FILE, on the proxy's machine"
        return Findings([skipped(UPSTREAM, why)])
    results: list[Result] = []
    sources: dict[str, None] = {}
    verdicts: list[bool | None] = []
    for upstream in site.upstreams:
        try:
            found = _one(target.begun(), site, upstream)
        except FAULTS as e:
            found = Findings([failed(UPSTREAM, f"{upstream}: {words_of(e)}")])
        results += found.results
        sources |= dict.fromkeys(found.sources)
        verdicts.append(found.trusts)
    trusts = False if False in verdicts else True if True in verdicts else None
    return Findings(results, tuple(sources), trusts)


def _one(target: Target, site: SiteSettings, upstream: Upstream) -> Findings:
    try:
        address = _address(target, upstream)
        source = source_towards(address, upstream.port) if upstream.kind == "tcp" else ""
        with _open(target, site, upstream, address) as stream:
            said = _verified(site, upstream, stream)
            if said is not None:
                return Findings([said], (source,))
            health = ask(stream, target.authority, PATHS["ready"], JSON, *_forwarded("https"))
    except FAULTS as e:
        return Findings([_unreached(upstream, e)])
    sources = (source,) if source else ()
    where = f", from {source}" if source else ""
    result = verdict(UPSTREAM, f"{upstream} {PATHS['ready']}", health, target)
    if result.status != "ok":
        return Findings([result], sources)
    results = [ok(UPSTREAM, f"{result.words}{where}{_verification(site, upstream)}")]

    def get(path: str, *fields: tuple[str, str]) -> Answer:
        with _open(target, site, upstream, address) as stream:
            return ask(stream, target.authority, path, *fields)

    trusts = _trusts(target, get)
    results.append(_trust_result(sources, trusts, upstream))
    with _open(target, site, upstream, address) as stream:
        results.append(_websocket(target, upstream, stream))
    return Findings(results, sources, trusts)


def _address(target: Target, upstream: Upstream) -> str:
    if upstream.kind == "unix":
        return upstream.path
    if upstream.is_address:
        return upstream.host
    return resolve(upstream.host, upstream.port, target.timeout)[0]


def _open(target: Target, site: SiteSettings, upstream: Upstream, address: str) -> Stream:
    stream = dial(address, upstream.port, target.end)
    if upstream.scheme == "https":
        try:
            stream.secure(_tls(site, upstream))
        except TimeoutError:
            stream.close()
            raise ConnectionError("it accepts, and begins no TLS in time") from None
        except BaseException:
            stream.close()
            raise
    return stream


def _tls(site: SiteSettings, upstream: Upstream) -> UpstreamTLS:
    verify = site.upstream_verify
    try:
        return UpstreamTLS(verify.mode, verify.value, site.server_name(upstream))
    except CertificateError as e:
        raise OSError(str(e)) from None


def _verified(site: SiteSettings, upstream: Upstream, stream: Stream) -> Result | None:
    """What is wrong with authentik's certificate, by the site's own rule."""
    if stream.tls is None:
        return None
    try:
        _tls(site, upstream).verify(stream.tls)
    except VerificationError as e:
        words, *lines = str(e).split("\n")
        what, _, cure = words.partition(". ")
        return failed(UPSTREAM, f"{upstream}: {what}.", cure, *lines)
    return None


def _verification(site: SiteSettings, upstream: Upstream) -> str:
    if upstream.scheme != "https":
        return ""
    mode = site.upstream_verify.mode
    return ", certificate not verified" if mode == "off" else f", certificate verified ({mode})"


def _unreached(upstream: Upstream, error: BaseException) -> Result:
    words = f"{upstream}: {words_of(error)}"
    if any(sign in words for sign in ("wrong version number", "packet length", "begins no TLS")):
        return failed(
            UPSTREAM, words, "Is that a TLS port? https:// goes with 9443, http:// with 9000."
        )
    if isinstance(error, ConnectionRefusedError) or "refused" in words:
        cure = "Nothing listens there. Is authentik running, its port published, the address right?"
        paste = f"    docker compose ps; ss -ltn 'sport = :{upstream.port}'"
        return failed(UPSTREAM, words, cure, paste)
    if isinstance(error, TimeoutError):
        return failed(
            UPSTREAM, words,
            "Packets are dropped, or authentik hangs: a firewall in between, a wrong address?",
        )  # fmt: skip
    return failed(UPSTREAM, words, "Is upstream in [[site]] the address of authentik?")


def _forwarded(scheme: str, client: str = "192.0.2.1") -> tuple[tuple[str, str], ...]:
    return (("X-Forwarded-For", client), ("X-Forwarded-Proto", scheme))


def _trusts(target: Target, get: Get) -> bool | None:
    """Whether what we say of the scheme is what authentik believes; None where it does not tell."""
    seen = []
    for scheme in ("https", "http"):
        try:
            belief = believed(get, target.path, *_forwarded(scheme))
        except FAULTS:
            return None
        if belief is None:
            return None
        seen.append(belief.scheme)
    return seen == ["https", "http"]


def _trust_result(sources: tuple[str, ...], trusts: bool | None, upstream: Upstream) -> Result:
    source = sources[0] if sources else "this machine"
    if trusts is None:
        return skipped(TRUST, "no page of authentik's told what it believes")
    if trusts:
        return ok(TRUST, f"authentik believes what {source} says of scheme and client")
    words = f"{upstream} ignores X-Forwarded-* from {source}: every client has that address there"
    return failed(TRUST, words, *trust_us(sources))


def _websocket(target: Target, upstream: Upstream, stream: Stream) -> Result:
    path = target.path + SOCKET_PATH
    try:
        status, fault = converse(stream, target.authority, path, *_forwarded("https"))
    except FAULTS as e:
        status, fault = 0, words_of(e)
    if status == 101 and not fault:
        return ok(SOCKET, f"{path} opens there, without the proxy")
    words = f"{path} is {status} there too, without the proxy" if status else f"{path}: {fault}"
    if status == 101:
        words = f"{path} opens there, but {fault}"
    return warning(
        SOCKET, words,
        "The fault is on authentik's side of authproxy: authentik itself, or a proxy in front of it"
        f" at {re.sub(r'[^!-~]', '', str(upstream))}.",
    )  # fmt: skip
