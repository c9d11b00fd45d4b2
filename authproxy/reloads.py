"""Owns the moments at which a running proxy reads its configuration again.

    reload    all of it, because somebody asked (SIGHUP, the control socket)
    look      only the certificates, when their files have changed on disk

What is read is checked first. If anything is wrong with it, all of it is refused and the old one
stays. One change is made at a time; all who ask meanwhile share the one after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from . import crosschecks
from .certificate_copies import readable_copy
from .certificates import CertificateError
from .config import ConfigError
from .loading import Loaded, Source
from .notify import Notifier
from .settings import Settings
from .transport.binding import ListenError

# Seconds between two looks at the files. What has changed is taken at the look after, if it has not
# changed again: certbot replaces a key and its chain one after the other.
LOOK = 5.0
# Seconds until files that were refused are tried again as they are: what was wrong may have been a
# directory, or a shortage, that has passed.
AGAIN = 60.0
# While settings are read and adopted nobody is served: as long as that took, and this many seconds
# at most, are between it and the next reload.
MOST_PAUSE = 1.0

log = Logger()

# What tells that a file is another one, or may be read by others: (path, inode, octets, nanoseconds
# of its content and of its inode: cp -p and chmod move only the second).
Entry = tuple[str, int, int, int, int]
Signature = tuple[Entry, ...]


class Reloads(Service):
    """`adopt` lets the proxy go on with what was loaded; it raises, or fires with a failure, where
    that cannot be, and then nothing has changed.

    `loaded` is what is in force, `last` what came of the last change: ("" if it went well, else
    why not; seconds since the epoch), None where there was none. A reload that was refused is the
    last one until another: certificates that are renewed meanwhile do not make the file right.
    """

    def __init__(
        self,
        source: Source,
        loaded: Loaded,
        adopt: Callable[[Loaded], Any],
        notifier: Notifier,
        reactor: Any,
    ) -> None:
        self.loaded = loaded
        self.last: tuple[str, float] | None = None
        self._source = source
        self._adopt = adopt
        self._notifier = notifier
        self._lock = DeferredLock()
        self._asking: list[Deferred[str]] = []  # whose reload has not begun
        self._free_at = 0.0  # when the next may begin
        self._refused: tuple[str, float] | None = None  # `last`, where it was a reload
        # Of the files: what the last look saw, what is in force, what could not be used.
        self._known = self._taken = self._read = self._signature()
        self._unusable: Signature = ()
        self._unusable_until = 0.0
        self._looks = LoopingCall(self.look)
        self._looks.clock = self._clock = reactor

    def startService(self) -> None:
        """Look after the certificates."""
        super().startService()
        self._looks.start(LOOK, now=False)

    def stopService(self) -> None:
        """No more."""
        super().stopService()
        if self._looks.running:
            self._looks.stop()

    def told(self) -> str:
        """What came of the last change, for a reader."""
        if self.last is None:
            return "none since the start"
        problem, when = self.last
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
        return f"{moment}, refused: {problem}" if problem else f"{moment}, in force"

    # All of it.

    def reload(self) -> Deferred[str]:
        """Read everything again. Fires with "" or, one a line, the reasons why the old settings
        stay."""
        answer: Deferred[str] = Deferred()
        self._asking.append(answer)
        if len(self._asking) == 1:
            self._lock.run(self._begin)
        return answer

    def _begin(self) -> Deferred[None]:
        pause = min(self._free_at - self._clock.seconds(), MOST_PAUSE)
        if pause <= 0:
            return self._answer()
        paused: Deferred[None] = deferLater(self._clock, pause)
        return paused.addCallback(lambda _: self._answer())

    def _answer(self) -> Deferred[None]:
        asking, self._asking = self._asking, []
        begun = self._clock.seconds()

        def answer(result: str | Failure) -> None:
            now = self._clock.seconds()
            self._free_at = now + (now - begun)
            for each in asking:
                each.callback(result)

        return maybeDeferred(self._reload).addBoth(answer)

    def _reload(self) -> Deferred[str]:
        if not self.running:
            return succeed("authproxy is stopping.")
        before = self.loaded.settings
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")
        return self._change(self._source.load).addCallback(self._reloaded, before)

    def _reloaded(self, problem: str, before: Settings) -> str:
        if problem:
            log.error(
                "this machine: The reload is refused, and the old settings stay:\n{why}",
                why=problem,
            )
            status = "STATUS=serving; the last reload was refused"
            self._refused = self.last
        else:
            self._refused = None
            log.info("Reloaded: new settings are in force.")
            self._warn_of_restart(before, self.loaded.settings)
            self._warn(crosschecks.warnings(self.loaded.settings))
            status = "STATUS=serving; reloaded"
        if self.running:  # else systemd has heard STOPPING=1 meanwhile
            self._notifier.send("READY=1", status)
        return problem

    def _warn_of_restart(self, before: Settings, after: Settings) -> None:
        if before.workers != after.workers:
            log.warn("this machine: workers: their number changes at the next restart.")
        if before.listen.control != after.listen.control:
            log.warn("this machine: listen.control: it moves at the next restart.")

    def _change(self, load: Callable[[], Loaded]) -> Deferred[str]:
        """Load and adopt. Fires with the reasons why not, or ""."""
        before = self.loaded
        # As they are before they are read: a file that changes after that is not what was read.
        self._read = self._signature()

        def adopt() -> Any:
            self.loaded = load()
            found = {entry[0]: entry for entry in self._read}
            self._read = tuple(found.get(entry[0], entry) for entry in self._signature())
            return self._adopt(self.loaded)

        def failed(reason: Failure) -> str:
            self.loaded = before
            error = reason.value
            if isinstance(error, (ListenError, ConfigError, CertificateError)):
                return str(error)
            if isinstance(error, OSError):  # of the access log
                return f"{error.filename}: {error.strerror}."
            log.failure("A reload failed", reason)
            return f"an internal error: {error!r}"

        def done(problem: str) -> str:
            if not problem:  # else what is new in the files is not in force: a look may take it
                self._taken = self._read
            self.last = problem, time.time()
            return problem

        return maybeDeferred(adopt).addCallbacks(lambda _: "", failed).addCallback(done)

    # Certificates alone.

    def look(self) -> Deferred[Any] | None:
        """Take certificates that have changed on disk, once they have settled."""
        signature = self._signature()
        settled = signature == self._known
        self._known = signature
        if signature == self._taken or not settled or self._lock.locked:
            return None
        if signature == self._unusable and self._clock.seconds() < self._unusable_until:
            return None
        return self._lock.run(self._renew)

    def _renew(self) -> Deferred[str]:
        before, last = self.loaded, self.last
        return self._change(lambda: self._source.renewed(before)).addCallback(self._renewed, last)

    def _renewed(self, problem: str, last: tuple[str, float] | None) -> str:
        if problem:
            said = self._unusable == self._known and last is not None and last[0] == problem
            self._unusable = self._known
            self._unusable_until = self._clock.seconds() + AGAIN
            if said:
                self.last = last
                return problem
            log.error(
                "this machine: Certificate files have changed and cannot be used; the old ones"
                " stay:\n{why}",
                why=problem,
            )
        else:
            self._unusable = ()
            self.last = self._refused or self.last
            log.info("Certificate files have changed: new connections get the new ones.")
            self._warn([])
        return problem

    def _warn(self, warnings: list[tuple[str, str]]) -> None:
        for key, words in (*warnings, *self.loaded.identity.remarks):
            log.warn("{key}: {words}", key=key, words=words)

    def _signature(self) -> Signature:
        return tuple(self._signatures(self.loaded.settings))

    def _signatures(self, settings: Settings) -> Iterator[Entry]:
        for site in settings.sites:
            verify = site.upstream_verify
            paths = [site.certificate, site.private_key]
            if verify.mode == "ca":
                paths.append(verify.value)
            for path in filter(None, paths):
                try:
                    status = os.stat(readable_copy(path, self._source.environ))
                except OSError:
                    yield path, 0, 0, 0, 0
                else:
                    yield (
                        path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
                    )  # fmt: skip
