"""Owns what a worker is told at its start, and that it understands it as the supervisor did.

The configuration goes as the text that the supervisor has read and checked: a worker never reads
the file, which may have changed since, or the keys, which it may not be allowed to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .. import config
from ..identity import Identity
from ..settings import ListenAddress, Settings
from .totals import divided

# What is open: (scheme, address that was bound).
Addresses = tuple[tuple[str, ListenAddress], ...]


@attrs.frozen
class Handover:
    """`text` of the configuration file `path`, command-line options that override it, how many
    workers there are, and where the sockets that come with it listen."""

    text: str
    path: str
    overrides: Mapping[str, str]
    workers: int
    listeners: Addresses
    identity: Identity

    def message(self) -> dict[str, Any]:
        """The parts of the message that carries it."""
        return {
            "text": self.text,
            "path": self.path,
            "overrides": dict(self.overrides),
            "workers": self.workers,
            "listeners": [[scheme, attrs.asdict(address)] for scheme, address in self.listeners],
            "identity": self.identity.dump(),
        }

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Handover:
        """What `message` was made of."""
        listeners = [(scheme, ListenAddress(**parts)) for scheme, parts in message["listeners"]]
        return cls(
            message["text"],
            message["path"],
            message["overrides"],
            message["workers"],
            tuple(listeners),
            Identity.restore(message["identity"]),
        )

    def settings(self) -> Settings:
        """The settings of this worker: its share of the totals, and the addresses that are bound
        instead of those that were asked for. Raises ConfigError."""
        settings, problems = config.loads(self.text, self.path, self.overrides)
        if problems:
            raise config.ConfigError(problems)
        listen = attrs.evolve(
            settings.listen,
            http=self._addresses("http"),
            https=self._addresses("https"),
            http_explicit=True,
            https_explicit=True,
            admin=None,
        )
        return divided(attrs.evolve(settings, listen=listen), self.workers)

    def _addresses(self, wanted: str) -> tuple[ListenAddress, ...]:
        return tuple(address for scheme, address in self.listeners if scheme == wanted)
