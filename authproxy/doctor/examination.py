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

Check = Callable[[], list[Result]]


def examine(target: Target) -> Iterator[Result]:
    """All results, in order, each as soon as those before it are there."""
    with ThreadPoolExecutor(8) as pool:
        direct = pool.submit(upstream.check, target)
        results, addresses = names.check_name(target)
        yield from results
        results, address = names.check_connect(target, addresses)
        yield from results
        why = "no connection"
        works = False
        if address:
            target = target.at(address)
            results, works = certificate.check(target)
            yield from results
            why = "no TLS connection"
        else:
            yield from (skipped(name, why) for name in (certificate.CERTIFICATE, "tls"))
        plain = (names_of_plain, lambda: redirects.check_plain(target))
        rest: list[tuple[tuple[str, ...], Check]] = [
            ((redirects.HSTS,), lambda: redirects.check_hsts(target)),
            (("live", "ready"), lambda: health.check(target)),
            ((redirects.LOOP,), lambda: redirects.check_loop(target)),
            (
                (identity.SCHEME, identity.HOST, identity.FORGED, identity.CLIENT),
                lambda: identity.check(target, direct.result().sources, direct.result().trusts),
            ),
            ((websocket.WEBSOCKET,), lambda: websocket.check(target)),
            ((heads.HEAD,), lambda: heads.check(target)),
            ((http2.HTTP2,), lambda: http2.check(target)),
        ]
        running = [
            (named, pool.submit(guarded, named, check) if able else None)
            for able, (named, check) in [(bool(address), plain), *((works, one) for one in rest)]
        ]
        for named, future in running:
            if future is None:
                yield from (skipped(name, why) for name in named)
            else:
                yield from future.result()
        yield from direct.result().results


names_of_plain = (redirects.REDIRECT,)


def guarded(named: tuple[str, ...], check: Check) -> list[Result]:
    """The results of a check; where the connection failed it under way, that."""
    try:
        return check()
    except FAULTS as e:
        cure = "The proxy's log says what it thought of that: journalctl -u authproxy -n 20"
        first, *others = named
        return [
            failed(first, f"no answer: {words_of(e)}", cure),
            *(skipped(name, "no answer") for name in others),
        ]
