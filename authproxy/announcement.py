"""Owns what the log says once everything serves: where, for whom, and what was seldom meant."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen
from twisted.logger import Logger

from .settings import ListenAddress, Settings

log = Logger()


@frozen
class Announcement:
    """`notes` are sentences, `warnings` are (key of the setting, sentence)."""

    settings: Settings
    notes: tuple[str, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()

    def make(self, listeners: Iterable[tuple[str, ListenAddress]], workers: int = 1) -> None:
        """Say it. `listeners` are (scheme, address) of what is open."""
        for scheme, address in listeners:
            log.info("Listening for {scheme} on {address}.", scheme=scheme, address=address)
        if workers > 1:
            log.info("{workers} workers serve.", workers=workers)
        for site in self.settings.sites:
            log.info(
                "{hosts} -> {upstreams}",
                hosts=", ".join(site.hosts) or "any host",
                upstreams=", ".join(map(str, site.upstreams)),
            )
        for note in self.notes:
            log.info("{note}", note=note)
        for key, warning in self.warnings:
            log.warn("{key}: {warning}", key=key, warning=warning)
