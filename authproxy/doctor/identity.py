"""Owns the checks of what authentik believes: scheme, host, forged fields, client address."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from urllib.parse import urljoin, urlsplit

from ..trust import TrustedNetworks, normal_address
from .beliefs import Belief, is_authentik, of_cookie, of_page, stand_in
from .cures import trust_us
from .requests import FAULTS, HTML, JSON, Answer
from .results import Result, failed, ok, skipped, warning
from .target import Target

SCHEME, HOST, FORGED, CLIENT = "scheme", "host", "forged", "client"
PAGES = ("/if/user/", "/if/flow/default-authentication-flow/")
EXECUTOR = "/api/v3/flows/executor/default-authentication-flow/?query="
MOST_HOPS = 5
# Addresses and names that nobody has (RFC 5737, RFC 2606).
FORGED_ADDRESS, FORGED_HOST = "192.0.2.66", "forged.invalid"
ADDRESS_FORGERY = (
    ("X-Forwarded-For", FORGED_ADDRESS),
    ("X-Real-IP", FORGED_ADDRESS),
    ("Forwarded", f"for={FORGED_ADDRESS};host={FORGED_HOST};proto=http"),
)
HOST_FORGERY = ("X-Forwarded-Host", FORGED_HOST)
LOG_PATIENCE = 3.0  # seconds: access lines are written once a second
LOG_TAIL = 1 << 18  # octets at the end of the access log that are searched
WHERE_SHOWN = (
    "authentik shows it only after a login: log in from another machine, then look at Admin"
    " interface > Events > Logs, column Client IP. It must be that machine's public address, or the"
    " one in your own network. The first column of authproxy's access log is what authproxy sends."
)

Get = Callable[..., Answer]


def believed(get: Get, prefix: str = "", *fields: tuple[str, str]) -> Belief | None:
    """What authentik believes of such requests, by the first of its places that tells. FAULTS."""
    for page in PAGES:
        path = prefix + page
        for _ in range(MOST_HOPS):
            answer = get(path, HTML, *fields)
            if belief := of_page(answer):
                return belief
            location = answer.field("Location")
            if not location:
                break
            parts = urlsplit(urljoin(path, location))
            path = parts.path + ("?" + parts.query if parts.query else "")
    return of_cookie(get(prefix + EXECUTOR, JSON, *fields))


def check(target: Target, sources: Sequence[str], trusts: bool | None) -> list[Result]:
    """All of them.

    `sources` are our addresses as authentik should see them. `trusts`: whether it believes this
    machine, where that was seen.
    """
    answer = target.get(target.path + "/", JSON)
    belief = believed(target.get, target.path)
    if belief is None:
        return [*_unknown(target, answer), *_client(target, answer, trusts)]
    return [
        _scheme(belief, sources, trusts),
        _host(target, belief),
        _forged(target, belief),
        *_client(target, answer, trusts),
    ]


def _unknown(target: Target, answer: Answer) -> list[Result]:
    if answer.status >= 500:
        why = f"authentik does not answer ({answer.status})"
        return [skipped(name, why) for name in (SCHEME, HOST, FORGED)]
    if is_authentik(answer):
        why = "no page of authentik's had an absolute URL"
    else:
        why = "what answers is not authentik, as far as can be seen"
    return [
        skipped(
            name, why,
            f"Look at the first lines of https://{target.authority}{target.path}/if/user/ in a"
            " browser (view source): ak-base-url must be the address that you typed.",
        ) if name == SCHEME else skipped(name, why)
        for name in (SCHEME, HOST, FORGED)
    ]  # fmt: skip


def _scheme(belief: Belief, sources: Sequence[str], trusts: bool | None) -> Result:
    words = f"authentik believes {belief.scheme}, by {belief.source}"
    if belief.scheme == "https":
        return ok(SCHEME, words)
    words += ": mixed content, failed logins, an endless spinner"
    if trusts:
        return failed(
            SCHEME, words,
            "authentik believes this machine, so the proxy told it http: a TLS terminator in front"
            " of authproxy must send X-Forwarded-Proto: https, and be trusted here",
            '    [trust]\n    proxies = ["ADDRESS/32"]',
        )  # fmt: skip
    return failed(SCHEME, words, *trust_us(sources))


def _host(target: Target, belief: Belief) -> Result:
    if not belief.host:
        return skipped(HOST, f"{belief.source} does not tell it")
    shown = belief.host
    words = f"authentik believes {shown}, by {belief.source}"
    same = belief.host.removesuffix(":443" if belief.scheme == "https" else ":80")
    if same == target.authority:
        return ok(HOST, words)
    words += f", but clients use {target.authority}: links lead astray, CSRF checks fail"
    if same.rpartition(":")[0] == target.host or same == target.host:
        return failed(
            HOST, words,
            "The port is lost on the way. authproxy passes Host as it came, with its port: a proxy"
            " in front must do that too (nginx: proxy_set_header Host $http_host;).",
        )  # fmt: skip
    return failed(
        HOST, words,
        "authproxy passes Host as it came: a proxy in front of it replaces it, or sends an"
        " X-Forwarded-Host of its own and is in trust.proxies. It must pass the client's Host.",
    )  # fmt: skip


def _forged(target: Target, belief: Belief) -> Result:
    """Whether a client can choose what authentik believes of it."""
    answer = target.get(target.path + "/", JSON, *ADDRESS_FORGERY)
    settings = target.settings
    if settings is not None and TrustedNetworks(settings.trust.proxies).contains(
        normal_address(answer.source) or answer.source
    ):
        return skipped(FORGED, f"trust.proxies has {answer.source}: from here nothing is forged")
    passed = []
    if stand_in(answer).get("client") == FORGED_ADDRESS:
        passed.append("X-Forwarded-For")
    if _scheme_is_believed(target, belief):
        passed.append("X-Forwarded-Proto")
    if _host_is_believed(target, belief):
        passed.append("X-Forwarded-Host")
    if passed:
        return failed(
            FORGED, f"believed, though a client made it up: {', '.join(passed)}",
            "Anybody can choose the address, the scheme or the host that authentik believes."
            " authproxy removes such fields, except those from trust.proxies: no network that"
            " clients are in belongs there. A proxy in front must overwrite them.",
        )  # fmt: skip
    return ok(FORGED, "a client's own X-Forwarded-* change nothing")


def _scheme_is_believed(target: Target, belief: Belief) -> bool:
    """Of a client's own X-Forwarded-Proto: by authentik, or by a proxy that then redirects."""
    path = target.path + "/"
    forgery = ("X-Forwarded-Proto", "http" if belief.scheme == "https" else "https")
    if target.get(path, HTML, forgery).field("Location") == target.url:
        return target.get(path, HTML).field("Location") != target.url
    fooled = believed(target.get, target.path, forgery)
    return fooled is not None and fooled.scheme != belief.scheme


def _host_is_believed(target: Target, belief: Belief) -> bool:
    """Of a client's own X-Forwarded-Host: by authentik, or by a proxy, whose 421 says so."""
    path = target.path + "/"
    if target.get(path, JSON, HOST_FORGERY).status == 421:
        return target.get(path, JSON).status != 421
    fooled = believed(target.get, target.path, HOST_FORGERY)
    return bool(belief.host) and fooled is not None and fooled.host == FORGED_HOST


def _client(target: Target, answer: Answer, trusts: bool | None) -> list[Result]:
    if trusts is False:
        return [skipped(CLIENT, "for authentik it is the proxy's: see the check named trust")]
    seen = stand_in(answer)
    if seen:
        client = str(seen["client"])
        if client == (normal_address(answer.source) or answer.source):
            return [ok(CLIENT, f"the stand-in sees {client}, which is ours")]
        return [
            warning(
                CLIENT,
                f"the stand-in sees {client}; we come from {answer.source}",
                "Right if an address translation is in between. If it is a proxy's address, that"
                " proxy belongs in trust.proxies, or must speak the PROXY protocol.",
            )
        ]
    logged = _logged(target)
    if logged is None and answer.status >= 500:
        return [skipped(CLIENT, f"authentik does not answer ({answer.status})")]
    if logged is None:
        return [skipped(CLIENT, f"we come from {answer.source}", WHERE_SHOWN)]
    if logged == normal_address(answer.source):
        return [ok(CLIENT, f"the access log has {logged}, which is ours; authentik gets that")]
    return [
        warning(
            CLIENT,
            f"the access log has {logged}; we come from {answer.source}",
            "Right if an address translation is in between. If it is the address of a proxy in"
            " front, or of a CDN:",
            f'    [trust]\n    proxies = ["{logged}/{128 if ":" in logged else 32}"]',
        )
    ]


def _logged(target: Target) -> str | None:
    """The address in the access line of a request that we make, where the log can be read."""
    settings = target.settings
    if settings is None or not os.access(settings.log.access, os.R_OK):
        return None
    token = secrets.token_hex(8)
    try:
        target.get(f"/-/health/live/?authproxy-doctor={token}")
    except FAULTS:
        return None
    end = time.monotonic() + LOG_PATIENCE
    pattern = re.compile(
        rb'^(?:\{[^\n]*"address": ?"([^"\n]+)"|([^ \n]+) )[^\n]*' + token.encode(), re.MULTILINE
    )
    while time.monotonic() < end:
        with open(settings.log.access, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_TAIL))
            if match := pattern.search(file.read()):
                return normal_address((match[1] or match[2]).decode("latin-1"))
        time.sleep(0.1)
    return None
