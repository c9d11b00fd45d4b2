"""Owns what the plain port answers, whether HSTS is sent, and redirects that lead nowhere."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from ..sites import hsts_applies
from .requests import FAULTS, HTML, Answer
from .results import Result, failed, ok, skipped, warning
from .stream import words_of
from .target import HTTPS, Target

REDIRECT, HSTS, LOOP = "redirect", "hsts", "loop"
PROBE = "/if/user/?next=%2F"
STATUSES = (301, 302, 303, 307, 308)
SHORT_MAX_AGE = 15_552_000  # seconds: half a year; below, lists of good practice complain
MOST_HOPS = 10
NOT_TRUSTED = (
    "A TLS terminator in front hands plain HTTP to authproxy, which redirects it again. Name its"
    " address in the configuration, and let it send X-Forwarded-Proto: https",
    '    [trust]\n    proxies = ["ADDRESS/32"]',
)


def check_plain(target: Target) -> list[Result]:
    """The plain port: a redirect that keeps host and URI."""
    if not target.http_port:
        return [skipped(REDIRECT, target.no_http)]
    path = target.path + PROBE
    where = f"http://{target.plain_authority}{path}"
    try:
        answer = target.get_plain(path)
    except FAULTS as e:
        words = f"{where} got no answer: {words_of(e)}"
        cure = "Who types the name without https:// gets no answer. Listen there:"
        line = f'    [listen]\n    http = ["[::]:{target.http_port}"]'
        closed = failed if target.settings is not None else warning
        return [closed(REDIRECT, words, cure, line)]
    location = answer.field("Location")
    wanted = f"https://{target.authority}{path}"
    if answer.status not in STATUSES:
        return [_no_redirect(target, answer, where)]
    if location == wanted:
        if answer.status in (301, 308):
            return [ok(REDIRECT, f"{where} is {answer.status} to https, the URI kept")]
        return [
            warning(
                REDIRECT,
                f"{where} is {answer.status} to https: browsers ask again each time",
                "authproxy answers 301: something else redirects here.",
            )
        ]
    if location.startswith("http://") or location == path:
        return [failed(REDIRECT, f"{where} redirects to {location}: a loop", *NOT_TRUSTED)]
    return [
        failed(
            REDIRECT,
            f"{where} redirects to {location or 'nowhere'}, not to {wanted}",
            *_other_place(target, location),
        )
    ]


def _no_redirect(target: Target, answer: Answer, where: str) -> Result:
    words = f"{where} is {answer.status}, no redirect to https"
    settings = target.settings
    if settings is not None and settings.listen.plain_http == "serve":
        return failed(
            REDIRECT, f"{words}: passwords travel in clear",
            'plain_http = "serve" is for a TLS terminator in front, on a port that nobody else'
            " reaches. Otherwise",
            '    [listen]\n    plain_http = "redirect"',
        )  # fmt: skip
    return failed(
        REDIRECT, words,
        f"Does authproxy listen on port {target.http_port}, or another server? Its answer to plain"
        " HTTP should be a 301:",
        f'    [listen]\n    http = ["[::]:{target.http_port}"]\n    plain_http = "redirect"',
    )  # fmt: skip


def _other_place(target: Target, location: str) -> tuple[str, ...]:
    try:
        parts = urlsplit(location)
        host, port = parts.hostname, parts.port or HTTPS
    except ValueError:
        return ("The Location is no URL. What answers on this port is not authproxy.",)
    if host == target.host and port != target.port:
        return (
            "The port is not the one that people use. Where a router or a container maps ports:",
            f"    [listen]\n    public_https_port = {target.port}",
        )
    return ("The URI and the host must be kept. What answers on this port is not authproxy?",)


def check_hsts(target: Target) -> list[Result]:
    """Strict-Transport-Security on an https response."""
    if not hsts_applies(target.authority.encode()):
        return [skipped(HSTS, f"means nothing for {target.host}")]
    values = target.get("/-/health/live/").fields.get_all("Strict-Transport-Security") or []
    if not values:
        return [warning(HSTS, "no Strict-Transport-Security", *_no_hsts(target))]
    value = str(values[0])
    age = re.search(r'(?i)max-age="?(\d{1,12})', value)
    seconds = int(age[1]) if age else 0
    if len(values) > 1:
        cure = "Browsers take the first. Let one proxy alone send it."
        return [warning(HSTS, f"sent {len(values)} times", cure)]
    if seconds < SHORT_MAX_AGE:
        cure = "Two years, as authentik's page has it: remove hsts from [[site]], or"
        return [warning(HSTS, f"{value}: short", cure, "    hsts = 63072000")]
    return [ok(HSTS, value)]


def _no_hsts(target: Target) -> tuple[str, ...]:
    site = target.site
    if site is not None and not site.certificate:
        return ("authproxy sends none with its self-signed certificate. Name one in [[site]].",)
    if site is not None and not site.hsts:
        return ("hsts is 0 in [[site]]. Without that line it is two years:", "    hsts = 63072000")
    return (
        "A browser's first request may still be plain HTTP. authproxy sends it by itself; another"
        " server may answer here.",
    )


def check_loop(target: Target) -> list[Result]:
    """Follow what / redirects to, as a browser does."""
    url, seen = target.url, []
    while True:
        answer = target.get(_target_of(url), HTML)
        seen.append(url)
        if answer.status not in STATUSES:
            return [_end(seen, answer)]
        url = urljoin(url, answer.field("Location"))
        parts = urlsplit(url)
        if parts.netloc.lower() not in (target.authority, f"{target.host}:{target.port}"):
            if parts.hostname == target.host:
                return [_same_host(target, url, seen)]
            return [ok(LOOP, f"/ leads to another host: {url[:100]}")]
        if parts.scheme == "http":
            return [_same_host(target, url, seen)]
        if url in seen or len(seen) > MOST_HOPS:
            return [failed(LOOP, f"redirects go round: {_target_of(url)[:100]}", *NOT_TRUSTED)]


def _end(seen: list[str], answer: Answer) -> Result:
    if answer.status >= 500:
        return skipped(LOOP, f"authentik does not answer ({answer.status})")
    last = _target_of(seen[-1])
    hops = f"after {len(seen) - 1} redirect{'s' * (len(seen) != 2)}"
    return ok(LOOP, f"no loop: / ends at {last[:80]} with {answer.status} {hops}")


def _same_host(target: Target, url: str, seen: list[str]) -> Result:
    if url.startswith("http://"):
        words = f"{_target_of(seen[-1])} redirects to plain HTTP: {url[:100]}"
        return failed(LOOP, words, "The scheme is lost on the way: see the check named scheme.")
    words = f"{_target_of(seen[-1])} redirects to another port: {url[:100]}"
    return failed(LOOP, words, f"{target.authority} is lost on the way: see the check named host.")


def _target_of(url: str) -> str:
    parts = urlsplit(url)
    path = re.sub(r"[^!-~]", "", parts.path) or "/"
    return f"{path}?{parts.query}" if parts.query else path
