"""Owns the order of the checks: what needs what, what goes on, and how long all may take.

What needs a connection is skipped without one; checks that do not need each other run beside each
other, so that a proxy that never answers costs a few timeouts, not fifteen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from . import (
    certificate,
    heads,
    health,
    http2,
    identity,
    names,
    redirects,
    upstream,
    websocket,
)
from .requests import FAULTS
from .results import Result, failed, skipped
from .stream import words_of
from .target import Target

Check = Callable[[Target], list[Result]]


def examine(target: Target) -> Iterator[Result]:
    """All results, in order, each as soon as those before it are there."""
    with ThreadPoolExecutor(8) as pool:
        direct = pool.submit(upstream.check, target)
        results, addresses = names.check_name(target)
        yield from results
        results, address = names.check_connect(target, addresses)
        yield from results
        works, why = False, "no connection"
        if address:
            target = target.at(address)
            results, works = certificate.check(target)
            yield from results
            why = "no TLS connection"
        else:
            yield skipped(certificate.CERTIFICATE, why)
            yield skipped(certificate.VERSION, why)

        def beliefs(target: Target) -> list[Result]:
            found = direct.result()
            return identity.check(target.begun(), found.sources, found.trusts)

        checks: list[tuple[tuple[str, ...], Check]] = [
            ((redirects.REDIRECT,), redirects.check_plain),
            ((redirects.HSTS,), redirects.check_hsts),
            (tuple(health.PATHS), health.check),
            ((redirects.LOOP,), redirects.check_loop),
            ((identity.SCHEME, identity.HOST, identity.FORGED, identity.CLIENT), beliefs),
            ((websocket.WEBSOCKET,), websocket.check),
            ((heads.HEAD,), heads.check),
            ((http2.HTTP2,), http2.check),
        ]
        running = []
        for named, check in checks:
            able = bool(address) if check is redirects.check_plain else works
            running.append((named, pool.submit(guarded, named, check, target) if able else None))
        for named, future in running:
            if future is None:
                yield from (skipped(name, why) for name in named)
            else:
                yield from future.result()
        yield from direct.result().results


def guarded(named: tuple[str, ...], check: Check, target: Target) -> list[Result]:
    """The results of a check; where the connection failed it under way, that."""
    try:
        return check(target.begun())
    except FAULTS as e:
        cure = "The proxy's log says what it thought of that: journalctl -u authproxy -n 20"
        first, *others = named
        return [
            failed(first, f"no answer: {words_of(e)}", cure),
            *(skipped(name, "no answer") for name in others),
        ]
