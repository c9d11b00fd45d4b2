"""When a running proxy reads again, and what becomes of what it read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import trustme
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from authproxy.loading import Loaded, Source
from authproxy.reloads import AGAIN, LOOK, Reloads
from authproxy.settings import ListenAddress
from authproxy.transport.binding import ListenError

AUTHORITY = trustme.CA()


class Notes:
    """What systemd hears."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, ...]] = []

    def send(self, *lines: str) -> None:
        self.lines.append(lines)


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.config = self.directory / "authproxy.toml"
        self.renew()
        self.write()
        self.clock = Clock()
        self.notes: Any = Notes()
        self.adopted: list[Loaded] = []
        self.answers: list[Any] = []  # what adopting leads to: None, a Deferred, an exception
        self.source = Source(str(self.config), {}, {})
        loaded = self.source.load()
        self.reloads = Reloads(self.source, loaded, self.adopt, self.notes, self.clock)
        self.reloads.startService()
        self.addCleanup(self.reloads.stopService)
        self.said: list[str] = []

        def observe(event: Any) -> None:
            self.said.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def write(self, more: str = "", hosts: str = "sso.example.com") -> None:
        self.config.write_text(
            f'workers = 1\n{more}\n[[site]]\nhosts = ["{hosts}"]\n'
            f'certificate = "{self.directory}/chain.pem"\nprivate_key = "{self.directory}/key.pem"\n'
        )

    def renew(self, *parts: str) -> None:
        """Other files, as certbot does it: each replaced at once."""
        leaf = AUTHORITY.issue_cert("sso.example.com")
        for name, content in (
            ("key", leaf.private_key_pem.bytes()),
            ("chain", leaf.cert_chain_pems[0].bytes()),
        ):
            if not parts or name in parts:
                fresh = self.directory / f"{name}.new"
                fresh.write_bytes(content)
                fresh.rename(self.directory / f"{name}.pem")

    def adopt(self, loaded: Loaded) -> Any:
        self.adopted.append(loaded)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def serial(self) -> int:
        return self.adopted[-1].identity.pairs[0].certificate.serial_number

    def logged(self, words: str) -> bool:
        return any(words in line for line in self.said)


class ReloadTests(_Tests):
    def test_good(self) -> None:
        self.write(hosts="other.example.com")
        self.assertEqual(self.successResultOf(self.reloads.reload()), "")
        [loaded] = self.adopted
        self.assertEqual(loaded.settings.sites[0].hosts, ("other.example.com",))
        self.assertIs(self.reloads.loaded, loaded)
        self.assertTrue(self.logged("new settings are in force"))
        self.assertIn("in force", self.reloads.told())

    def test_what_systemd_hears(self) -> None:
        self.successResultOf(self.reloads.reload())
        (begun, moment, _), (ready, _) = self.notes.lines
        self.assertEqual((begun, ready), ("RELOADING=1", "READY=1"))
        self.assertRegex(moment, r"\AMONOTONIC_USEC=[0-9]+\Z")

    def test_wrong(self) -> None:
        """Nobody is asked to adopt it; all that is wrong is said, and READY."""
        before = self.reloads.loaded
        self.write("[listen]\nhtttp = []\nadmin = 3")
        problem = self.successResultOf(self.reloads.reload())
        self.assertEqual(len(problem.splitlines()), 2)
        self.assertIn("listen.htttp", problem)
        self.assertEqual(self.adopted, [])
        self.assertIs(self.reloads.loaded, before)
        self.assertTrue(self.logged("The reload is refused, and the old settings stay"))
        self.assertEqual(self.notes.lines[-1][0], "READY=1")
        self.assertIn("refused: ", self.reloads.told())

    def test_what_cannot_be_adopted(self) -> None:
        before = self.reloads.loaded
        address = ListenAddress("tcp", "::", 443)
        for answer, words in (
            (ListenError("[::]:443 is already in use.", address), "[::]:443 is already in use."),
            (OSError(13, "Permission denied", "/var/log/x"), "/var/log/x: Permission denied"),
            (RuntimeError("never seen"), "an internal error: RuntimeError('never seen')"),
        ):
            self.answers = [answer]
            problem = self.successResultOf(self.reloads.reload())
            self.assertIn(words, problem)
            self.assertIs(self.reloads.loaded, before)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_one_at_a_time(self) -> None:
        """Who asks meanwhile gets the one after: the file may have changed again."""
        first: Deferred[None] = Deferred()
        self.answers = [first]
        begun = self.reloads.reload()
        self.write(hosts="later.example.com")
        second = self.reloads.reload()
        self.assertEqual(len(self.adopted), 1)
        first.callback(None)
        self.assertEqual(self.successResultOf(begun), "")
        self.assertEqual(self.successResultOf(second), "")
        self.assertEqual(self.adopted[-1].settings.sites[0].hosts, ("later.example.com",))

    def test_a_storm(self) -> None:
        """All who ask while one runs share the one after it."""
        first: Deferred[None] = Deferred()
        self.answers = [first]
        asked = [self.reloads.reload() for _ in range(100)]
        first.callback(None)
        for each in asked:
            self.assertEqual(self.successResultOf(each), "")
        self.assertEqual(len(self.adopted), 2)

    def test_pauses(self) -> None:
        """A reload that took a while gives requests as long before the next, however many ask."""

        def adopt(loaded: Loaded) -> None:
            self.clock.rightNow += 0.2  # nothing else can run meanwhile
            self.adopted.append(loaded)

        self.reloads._adopt = adopt
        self.successResultOf(self.reloads.reload())
        asked = [self.reloads.reload() for _ in range(100)]
        self.assertEqual(len(self.adopted), 1)
        self.clock.advance(0.1)
        asked += [self.reloads.reload() for _ in range(100)]
        self.clock.advance(0.11)
        for each in asked:
            self.assertEqual(self.successResultOf(each), "")
        self.assertEqual(len(self.adopted), 2)
        self.clock.rightNow += 1.0
        self.successResultOf(self.reloads.reload())

    def test_a_stop_while_one_runs(self) -> None:
        """systemd hears nothing of READY after STOPPING."""
        first: Deferred[None] = Deferred()
        self.answers = [first]
        begun, later = self.reloads.reload(), self.reloads.reload()
        self.reloads.stopService()
        first.callback(None)
        self.assertEqual(self.successResultOf(begun), "")
        self.assertIn("stopping", self.successResultOf(later))
        self.assertNotIn("READY=1", [line for lines in self.notes.lines for line in lines])
        self.reloads.startService()

    def test_addresses_that_stay_until_a_restart(self) -> None:
        self.write('listen.control = "/run/other.sock"\nlisten.admin = "127.0.0.1:9"')
        self.assertEqual(self.successResultOf(self.reloads.reload()), "")
        self.assertTrue(self.logged("listen.control: it moves at the next restart."))
        self.assertFalse(self.logged("listen.admin"))

    def test_the_number_of_workers(self) -> None:
        self.config.write_text(self.config.read_text().replace("workers = 1", "workers = 3"))
        self.successResultOf(self.reloads.reload())
        self.assertTrue(self.logged("at the next restart"))

    def test_stopping(self) -> None:
        self.reloads.stopService()
        self.assertIn("stopping", self.successResultOf(self.reloads.reload()))
        self.assertEqual(self.adopted, [])
        self.reloads.startService()


class CertificateTests(_Tests):
    def test_nothing_happens(self) -> None:
        self.clock.pump([LOOK] * 10)
        self.assertEqual(self.adopted, [])

    def test_renewed(self) -> None:
        """Within 30 s, and once."""
        self.renew()
        self.clock.pump([1.0] * 30)
        self.assertEqual(len(self.adopted), 1)
        self.assertTrue(self.logged("new connections get the new ones"))
        self.clock.pump([LOOK] * 10)
        self.assertEqual(len(self.adopted), 1)

    def test_settings_stay_as_they_are_in_force(self) -> None:
        """A file that somebody is editing is not taken for a renewal."""
        before = self.reloads.loaded.settings
        self.write(hosts="other.example.com")
        self.renew()
        self.clock.pump([1.0] * 30)
        self.assertIs(self.adopted[-1].settings, before)

    def test_half_of_a_pair(self) -> None:
        """Between the two files nothing is looked at; one that stays alone is refused, and said
        once."""
        self.clock.advance(LOOK)
        self.renew("key")
        self.clock.advance(LOOK)
        self.renew()
        self.clock.pump([LOOK] * 2)
        self.assertEqual(len(self.adopted), 1)
        serial = self.serial()
        self.assertFalse(self.logged("cannot be used"))
        self.renew("key")
        self.clock.pump([LOOK] * 10)
        self.assertEqual(len(self.adopted), 1)
        self.assertEqual(self.reloads.loaded.identity.pairs[0].certificate.serial_number, serial)
        self.assertEqual(sum("cannot be used; the old ones stay" in line for line in self.said), 1)

    def test_files_that_are_gone_for_a_while(self) -> None:
        os.rename(self.directory / "key.pem", self.directory / "elsewhere")
        self.clock.pump([LOOK] * 3)
        self.assertTrue(self.logged("there is no such file"))
        self.assertEqual(self.adopted, [])
        self.renew()
        self.clock.pump([LOOK] * 3)
        self.assertEqual(len(self.adopted), 1)

    def test_after_a_reload_that_named_others(self) -> None:
        self.renew()
        self.successResultOf(self.reloads.reload())
        self.clock.pump([LOOK] * 5)
        self.assertEqual(len(self.adopted), 1)  # the reload had them

    def test_a_reload_that_is_refused_takes_no_certificates(self) -> None:
        """They are new all the same: a typo in the file must not keep the old ones for ever."""
        self.renew()
        good = self.config.read_text()
        self.config.write_text("[[site")
        self.assertNotEqual(self.successResultOf(self.reloads.reload()), "")
        self.assertEqual(self.adopted, [])
        self.clock.pump([LOOK] * 3)
        self.assertEqual(len(self.adopted), 1)
        # And the file is as wrong as it was.
        self.assertIn("refused: ", self.reloads.told())
        self.config.write_text(good)
        self.successResultOf(self.reloads.reload())
        self.assertIn("in force", self.reloads.told())

    def test_replaced_while_a_reload_runs(self) -> None:
        """Workers take their time; what they were told is what was read before."""
        running: Deferred[None] = Deferred()
        self.answers = [running]
        begun = self.reloads.reload()
        self.renew()
        running.callback(None)
        self.assertEqual(self.successResultOf(begun), "")
        self.clock.pump([LOOK] * 3)
        self.assertEqual(len(self.adopted), 2)
        self.assertTrue(self.logged("new connections get the new ones"))

    def test_other_content_of_the_same_size_and_time(self) -> None:
        """As cp -p leaves it: only the inode's own time tells."""
        path = self.directory / "key.pem"
        status = os.stat(path)
        content = path.read_bytes()
        path.write_bytes(b"#" * len(content))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.clock.pump([LOOK] * 3)
        self.assertTrue(self.logged("there is no key in the file"))

    def test_what_was_refused_is_tried_again(self) -> None:
        """Something else may have been wrong; it is not said twice."""
        self.renew()
        self.answers = [OSError(24, "Too many open files", "x")] * 2
        self.clock.pump([LOOK] * 3)
        self.clock.pump([AGAIN] * 2)
        self.clock.pump([LOOK] * 15)
        self.assertEqual(len(self.adopted), 3)
        self.assertEqual(sum("cannot be used; the old ones stay" in line for line in self.said), 1)
        self.assertIn("in force", self.reloads.told())

    def test_a_ca_that_is_damaged(self) -> None:
        """Workers would read it by themselves, and could not start with it."""
        ca = self.directory / "ca.pem"
        ca.write_bytes(AUTHORITY.cert_pem.bytes())
        with self.config.open("a") as file:
            file.write(f'upstream = "https://127.0.0.1:9"\nupstream_verify = "ca:{ca}"\n')
        self.successResultOf(self.reloads.reload())
        ca.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
        self.clock.pump([LOOK] * 3)
        self.assertEqual(len(self.adopted), 1)
        self.assertTrue(self.logged("ca.pem: a certificate in the file is damaged"))
