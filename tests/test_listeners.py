"""From one set of listeners to the next, and back."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from authproxy.listeners import Listeners
from authproxy.settings import Listen, ListenAddress
from authproxy.transport.binding import ListenError


class Port:
    def __init__(self, scheme: str, address: ListenAddress) -> None:
        self.scheme = scheme
        self.address = address
        self.open = True


def at(*ports: int) -> tuple[ListenAddress, ...]:
    return tuple(ListenAddress("tcp", "127.0.0.1", port) for port in ports)


class ListenersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.refused: set[int] = set()
        self.made: list[Port] = []
        self.listeners: Listeners[Port] = Listeners(
            self.bind, lambda port: 54321, self.close, self.move
        )
        self.change(at(1), at(2))

    def bind(self, scheme: str, address: ListenAddress) -> Port:
        if address.port in self.refused:
            raise ListenError("refused", address)
        self.made.append(Port(scheme, address))
        return self.made[-1]

    def close(self, port: Port) -> None:
        self.assertTrue(port.open)
        port.open = False

    def move(self, scheme: str, port: Port) -> None:
        self.assertTrue(port.open)
        port.scheme = scheme

    def change(self, http: tuple[ListenAddress, ...], https: tuple[ListenAddress, ...]) -> None:
        self.listeners.open_new(self.listen(http, https))
        self.listeners.commit()

    def listen(self, http: tuple[ListenAddress, ...], https: tuple[ListenAddress, ...]) -> Listen:
        return attrs.evolve(
            Listen(), http=http, https=https, http_explicit=True, https_explicit=True
        )

    def open(self) -> list[tuple[str, int]]:
        """What the listeners say, which must be what is open."""
        said = [(opened.scheme, opened.address.port) for opened in self.listeners.open]
        there = [(port.scheme, port.address.port or 54321) for port in self.made if port.open]
        self.assertEqual(sorted(said), sorted(there))
        return said

    def test_what_stays_is_not_touched(self) -> None:
        before = list(self.made)
        self.change(at(1, 3), at(2))
        self.assertEqual(self.open(), [("http", 1), ("http", 3), ("https", 2)])
        self.assertEqual(self.made[:2], before)
        self.assertEqual(len(self.made), 3)

    def test_the_old_ones_close_last(self) -> None:
        self.listeners.open_new(self.listen(at(3), at(2)))
        self.assertEqual([port.open for port in self.made], [True, True, True])
        self.assertEqual([opened.address.port for opened in self.listeners.new], [3])
        self.listeners.commit()
        self.assertEqual(self.open(), [("http", 3), ("https", 2)])

    def test_one_that_fails_changes_nothing(self) -> None:
        self.refused = {4}
        wanted = self.listen(at(3, 4), ())
        self.assertRaises(ListenError, self.listeners.open_new, wanted)
        self.assertEqual(self.open(), [("http", 1), ("https", 2)])
        self.assertFalse(self.made[-1].open)

    def test_given_up(self) -> None:
        self.listeners.open_new(self.listen(at(3), at(1)))
        self.listeners.give_up()
        self.assertEqual(self.open(), [("http", 1), ("https", 2)])
        self.assertEqual([port.scheme for port in self.made if port.open], ["http", "https"])

    def test_an_address_that_serves_the_other_scheme(self) -> None:
        """It cannot be bound again while it is open."""
        self.refused = {1, 2}
        self.change(at(2), at(1))
        self.assertEqual(self.open(), [("http", 2), ("https", 1)])

    def test_any_free_port(self) -> None:
        """Of two schemes is two ports, and the same ones as long as nothing else is asked for."""
        self.change(at(0), at(0))
        self.assertEqual(self.open(), [("http", 54321), ("https", 54321)])
        count = len(self.made)
        self.change(at(0), at(0))
        self.assertEqual(len(self.made), count)

    def test_the_port_that_was_taken_instead(self) -> None:
        """443 was not permitted, so 8443 listens; then somebody writes 8443 down."""

        def bind(scheme: str, address: ListenAddress) -> Port:
            if address.port < 1024:
                raise ListenError("permission", address, no_permission=True)
            return self.bind(scheme, address)

        self.listeners = Listeners(bind, lambda port: 54321, self.close, self.move)
        self.made.clear()
        self.listeners.open_new(attrs.evolve(Listen(), http=(), https=at(443)))
        self.listeners.commit()
        self.assertEqual(self.open(), [("https", 8443)])
        self.change((), at(8443))
        self.assertEqual(self.open(), [("https", 8443)])
        self.assertEqual(len(self.made), 1)

    def test_close(self) -> None:
        self.listeners.close()
        self.assertEqual(self.open(), [])
