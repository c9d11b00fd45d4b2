"""The self-signed pair: kept, private, renewed."""

from __future__ import annotations

import os
import time

from twisted.trial.unittest import SynchronousTestCase

from authproxy.certificate_names import covers
from authproxy.certificates import CertificateError, Pair, ServerNames, server_context
from authproxy.self_signed import self_signed, state_directory

from .handshakes import client, handshake, issue, key_pem, sockets, write

DAYS = 86400
OTHER = issue("other.example.com")


class SelfSignedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.join(self.mktemp(), "state", "authproxy")

    def make(self, *hosts: str, days: float = 0) -> tuple[Pair, bool]:
        return self_signed(self.directory, hosts, clock=lambda: time.time() + days * DAYS)

    def test_made_once(self) -> None:
        first, made = self.make("sso.example.com", "::1")
        self.assertTrue(made)
        for host in ("sso.example.com", "localhost", "127.0.0.1", "::1"):
            self.assertTrue(covers(first.certificate, host), host)
        second, made = self.make("SSO.example.com", "::1")
        self.assertFalse(made)
        self.assertEqual(first.certificate, second.certificate)

    def test_modes(self) -> None:
        """Whatever the umask is; nothing else stays in the directory."""
        self.addCleanup(os.umask, os.umask(0))
        modes = []
        replace = os.replace

        def watched(source: str, target: str) -> None:
            modes.append(os.stat(source).st_mode & 0o777)
            replace(source, target)

        self.patch(os, "replace", watched)
        self.make("sso.example.com")
        self.assertEqual(modes, [0o600, 0o600])
        self.assertEqual(os.stat(self.directory).st_mode & 0o777, 0o700)
        self.assertEqual(
            sorted(os.listdir(self.directory)),
            ["self-signed-sso.example.com.key", "self-signed-sso.example.com.pem"],
        )
        for name in os.listdir(self.directory):
            mode = os.stat(os.path.join(self.directory, name)).st_mode & 0o777
            self.assertEqual(mode, 0o600)

    def test_renewed(self) -> None:
        first, _ = self.make("sso.example.com")
        life = first.certificate.not_valid_after_utc - first.certificate.not_valid_before_utc
        self.assertEqual(life.days, 825)
        self.assertFalse(self.make("sso.example.com", days=794)[1])
        self.assertFalse(self.make("sso.example.com", days=-0.02)[1])
        self.assertTrue(self.make("sso.example.com", days=796)[1])
        self.assertTrue(self.make("sso.example.com")[1])  # what is kept is not valid yet

    def test_other_hosts(self) -> None:
        self.make("a.example")
        pair, made = self.make("a.example", "b.example")
        self.assertTrue(made)
        self.assertTrue(covers(pair.certificate, "b.example"))
        self.assertTrue(self.make("a.example")[1])

    def test_sites_do_not_replace_each_other(self) -> None:
        self.make("a.example")
        self.make("b.example")
        self.assertFalse(self.make("a.example")[1])

    def test_damaged(self) -> None:
        self.make("a.example")
        write(os.path.join(self.directory, "self-signed-a.example.key"), key_pem(OTHER.key))
        self.assertTrue(self.make("a.example")[1])
        self.assertFalse(self.make("a.example")[1])

    def test_cannot_be_written(self) -> None:
        path = self.mktemp()
        write(path, b"a file where a directory should be")
        self.directory = path + "/state"
        words = str(self.assertRaises(CertificateError, self.make, "a.example"))
        self.assertIn("STATE_DIRECTORY", words)
        self.assertNotIn("\n", words)

    def test_odd_hosts(self) -> None:
        long = "a" * 60 + ".example.com"
        self.assertTrue(covers(self.make(long)[0].certificate, long))
        self.assertTrue(covers(self.make("bücher.example")[0].certificate, "bücher.example"))
        self.assertRaises(CertificateError, self.make, "ü" * 80)
        self.make("../../escape")
        self.assertFalse([n for n in os.listdir(self.directory) if not n.startswith("self-")])

    def test_it_works(self) -> None:
        pair, _ = self.make("a.example")
        here, there = sockets()
        server = ServerNames([((), server_context(pair))]).connection(here)
        self.assertEqual(handshake(server, client(there)), [True, True])


class StateDirectoryTests(SynchronousTestCase):
    def test_order(self) -> None:
        environ = {"STATE_DIRECTORY": "/a:/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}
        self.assertEqual(state_directory(environ), "/a")
        environ["STATE_DIRECTORY"] = ""
        self.assertEqual(state_directory(environ), "/x/authproxy")
        environ["XDG_STATE_HOME"] = "relative"
        self.assertEqual(state_directory(environ), "/h/.local/state/authproxy")

    def test_no_home(self) -> None:
        path = state_directory({})
        self.assertTrue(os.path.isabs(path))
        self.assertTrue(path.endswith("/.local/state/authproxy"))
