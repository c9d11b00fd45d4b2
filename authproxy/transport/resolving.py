"""Owns the resolution of names: getaddrinfo, in threads of its own, with a deadline.

getaddrinfo has no deadline and cannot be called off; where DNS hangs it stays for half a minute.
In the reactor's ten threads a few such calls would keep every other name from being resolved, and
the process from ending. So each name is asked for once at a time, whoever wants it meanwhile gets
the same answer, and the threads are daemons, for which nobody waits at the end.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IHostnameResolver, IReactorThreads, IReactorTime
from zope.interface import implementer

Entries = Sequence[tuple[Any, ...]]
_KINDS = {socket.AF_INET: IPv4Address, socket.AF_INET6: IPv6Address}


class NameTimeout(Exception):
    """Nobody said in time which addresses a name has."""


class Names:
    """Asks for addresses. `reactor` needs callFromThread and callLater."""

    def __init__(self, reactor: Any, getaddrinfo: Callable[..., Entries] | None = None) -> None:
        self._threads: IReactorThreads = reactor
        self._time: IReactorTime = reactor
        self._getaddrinfo = getaddrinfo
        self._asking: dict[tuple[str, int], list[Deferred[list[IAddress]]]] = {}

    def addresses(self, host: str, port: int, timeout: float) -> Deferred[list[IAddress]]:
        """All that the name has now, in the system's order.

        Fails with DNSLookupError, NameTimeout (after `timeout` seconds), or OSError where this
        machine cannot ask.
        """
        question = host, port
        waiting = self._asking.get(question)
        if waiting is None:
            try:
                threading.Thread(target=self._ask, args=question, daemon=True).start()
            except RuntimeError as e:
                raise OSError(str(e)) from None
            waiting = self._asking[question] = []
        answer: Deferred[list[IAddress]] = Deferred(waiting.remove)
        waiting.append(answer)

        def too_late() -> None:
            waiting.remove(answer)
            answer.errback(NameTimeout(host))

        call = self._time.callLater(timeout, too_late)

        def over(result: Any) -> Any:
            if call.active():
                call.cancel()
            return result

        return answer.addBoth(over)

    def _ask(self, host: str, port: int) -> None:
        """In a thread. What hangs may come back when there is no reactor any more."""
        ask = self._getaddrinfo or socket.getaddrinfo
        result: list[IAddress] | Exception
        try:
            entries = ask(host, port, type=socket.SOCK_STREAM)
            result = [
                _KINDS[family]("TCP", *where)
                for family, _, _, _, where in entries
                if family in _KINDS
            ]
        except (socket.gaierror, UnicodeError) as e:
            result = DNSLookupError(str(e))
        except Exception as e:
            result = e
        self._threads.callFromThread(self._answered, (host, port), result)

    def _answered(self, question: tuple[str, int], result: list[IAddress] | Exception) -> None:
        waiting = self._asking.pop(question)
        while waiting:  # whoever hears it may call off another
            answer = waiting.pop(0)
            if isinstance(result, Exception):
                answer.errback(result)
            else:
                answer.callback(list(result))


@implementer(IHostnameResolver)
class Known:
    """For an endpoint that asks by itself: a resolver that has the answer."""

    def __init__(self, addresses: list[IAddress]) -> None:
        self._addresses = addresses

    def resolveHostName(self, resolutionReceiver: Any, *asked: Any, **how: Any) -> Any:
        """As IHostnameResolver."""
        resolutionReceiver.resolutionBegan(self)
        for address in self._addresses:
            resolutionReceiver.addressResolved(address)
        resolutionReceiver.resolutionComplete()
        return self
