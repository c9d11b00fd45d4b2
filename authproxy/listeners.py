"""Owns which listeners are open, and the way from one set of them to the next.

A change has two steps, so that it can be given up: `open_new` opens what is missing and leaves the
rest alone; then `commit` closes what nobody asks for any more, or `give_up` what was opened. What
"open" means is the caller's: a port that accepts, or sockets that workers accept on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from .settings import Listen, ListenAddress
from .transport.binding import ListenError, or_unprivileged, wanted

T = TypeVar("T")


@attrs.frozen
class Opened(Generic[T]):
    """One listener: `scheme` "http" or "https", the address that was bound, and what is open."""

    scheme: str
    address: ListenAddress
    what: T


class Listeners(Generic[T]):
    """`bind(scheme, address)` opens one, or raises ListenError; `port_of` tells a TCP port that was
    chosen by the system; `close` closes one; `move(scheme, what)` lets it serve the other scheme.
    """

    def __init__(
        self,
        bind: Callable[[str, ListenAddress], T],
        port_of: Callable[[T], int],
        close: Callable[[T], None],
        move: Callable[[str, T], None],
    ) -> None:
        self._bind = bind
        self._port_of = port_of
        self._close = close
        self._move = move
        # By scheme, and the address as the settings have it.
        self._open: dict[tuple[str, ListenAddress], Opened[T]] = {}
        self._next: dict[tuple[str, ListenAddress], Opened[T]] = {}

    @property
    def open(self) -> list[Opened[T]]:
        """What is open, in the order of the settings."""
        return list(self._open.values())

    @property
    def next(self) -> list[Opened[T]]:
        """What will be, after `commit`."""
        return list(self._next.values())

    @property
    def new(self) -> list[Opened[T]]:
        """What `open_new` opened."""
        known = {id(opened.what) for opened in self.open}
        return [opened for opened in self.next if id(opened.what) not in known]

    @property
    def leaving(self) -> list[Opened[T]]:
        """What `commit` will close."""
        wanted = {id(opened.what) for opened in self.next}
        return [opened for opened in self.open if id(opened.what) not in wanted]

    def open_new(self, listen: Listen) -> None:
        """Open what these settings ask for and is not open. Raises ListenError: then nothing
        was changed."""
        self._next = {}
        try:
            for scheme, asked, fixed in wanted(listen):
                self._next[scheme, asked] = self._kept(scheme, asked) or self._opened(
                    scheme, asked, fixed
                )
        except ListenError:
            self.give_up()
            raise

    def _kept(self, scheme: str, asked: ListenAddress) -> Opened[T] | None:
        """The listener that is open already, perhaps for the other scheme."""
        kept = self._open.get((scheme, asked))
        if kept is None and (asked.port or asked.kind != "tcp"):
            taken = {id(opened.what) for opened in self.next}
            bound = (opened for opened in self.open if opened.address == asked)
            kept = next((opened for opened in bound if id(opened.what) not in taken), None)
        return kept and attrs.evolve(kept, scheme=scheme)

    def _opened(self, scheme: str, asked: ListenAddress, fixed: bool) -> Opened[T]:
        address, what = or_unprivileged(lambda address: self._bind(scheme, address), asked, fixed)
        if address.kind == "tcp" and not address.port:  # any free one: say which
            address = attrs.evolve(address, port=self._port_of(what))
        return Opened(scheme, address, what)

    def commit(self) -> None:
        """Close what is not asked for any more."""
        before = {id(opened.what): opened for opened in self.open}
        self._open, self._next = self._next, {}
        for opened in self.open:
            known = before.pop(id(opened.what), None)
            if known is not None and known.scheme != opened.scheme:
                self._move(opened.scheme, opened.what)
        for opened in before.values():
            self._close(opened.what)

    def give_up(self) -> None:
        """Close what was opened, and stay with what was there before."""
        for opened in self.new:
            self._close(opened.what)
        self._next = {}

    def close(self) -> None:
        """Close everything."""
        for opened in self.open:
            self._close(opened.what)
        self._open = {}
