"""What a worker is told, and what it makes of it."""

from __future__ import annotations

import json
import os
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy import config
from authproxy.identity import Identity
from authproxy.self_signed import self_signed
from authproxy.settings import ListenAddress
from authproxy.workers.handover import Handover

HTTP = ListenAddress("tcp", "127.0.0.1", 8080)
HTTPS = ListenAddress("tcp", "::", 8443)
UNIX = ListenAddress("unix", path="/run/x.sock")


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = pathlib.Path(self.mktemp())
        self.environ = {"STATE_DIRECTORY": str(self.directory)}

    def handed(self, text: str, **overrides: str) -> Handover:
        """What a worker gets of this configuration, through JSON."""
        settings, problems = config.loads(text, "f.toml", overrides)
        self.assertEqual(problems, [])
        identity = Identity.load(settings, self.environ)
        listeners = (("http", HTTP), ("https", HTTPS), ("http", UNIX))
        sent = Handover(text, "f.toml", overrides, 2, listeners, identity)
        return Handover.of_message(json.loads(json.dumps(sent.message())))


class SettingsTests(_Tests):
    def test_of_the_text(self) -> None:
        """Not of the file, which may be another by now."""
        made = self.handed("[timeouts]\nhead = 7\n").settings()
        self.assertEqual((made.timeouts.head, made.path), (7, "f.toml"))

    def test_options_of_the_command_line(self) -> None:
        made = self.handed("", upstream="http://127.0.0.1:1", host="a.example").settings()
        self.assertEqual(str(made.sites[0].upstreams[0]), "http://127.0.0.1:1")
        self.assertEqual(made.sites[0].hosts, ("a.example",))

    def test_addresses_are_those_that_are_bound(self) -> None:
        listen = self.handed('[listen]\nhttp = ["[::]:0"]\n').settings().listen
        self.assertEqual((listen.http, listen.https), ((HTTP, UNIX), (HTTPS,)))
        self.assertTrue(listen.http_explicit)
        self.assertTrue(listen.https_explicit)

    def test_totals_are_shared(self) -> None:
        self.assertEqual(
            self.handed("[pool]\nconnections = 9\nidle = 9\n").settings().pool.connections, 5
        )

    def test_the_admin_side_is_the_supervisors(self) -> None:
        self.assertIsNone(self.handed("").settings().listen.admin)


class IdentityTests(_Tests):
    def test_self_signed(self) -> None:
        made = self.handed("[[site]]\nhosts = ['a.example']\n")
        expected, created = self_signed(str(self.directory), ["a.example"])
        self.assertFalse(created)
        [pair] = made.identity.pairs
        self.assertEqual(pair.certificate, expected.certificate)
        self.assertEqual(pair.key.private_numbers(), expected.key.private_numbers())  # type: ignore[union-attr]
        self.assertEqual(made.identity.self_signed, {0})

    def test_a_pair_that_the_worker_could_not_read(self) -> None:
        """It comes as text: a worker may run as another user."""
        self_signed(str(self.directory), ["a.example"])
        certificate, key = self.directory / "c.pem", self.directory / "k.pem"
        for path in self.directory.iterdir():
            data = path.read_bytes()
            (key if b"PRIVATE KEY" in data else certificate).write_bytes(data)
        text = (
            f'[[site]]\nhosts = ["a.example"]\ncertificate = "{certificate.resolve()}"\n'
            f'private_key = "{key.resolve()}"\n'
        )
        made = self.handed(text)
        os.unlink(key)
        self.assertEqual(made.identity.self_signed, set())
        self.assertIsNotNone(made.identity.server_names(made.settings()))

    def test_nothing_where_nothing_is_https(self) -> None:
        made = self.handed('[listen]\nhttps = []\nplain_http = "serve"\n')
        self.assertEqual(made.identity.pairs, [])
        self.assertIsNone(made.identity.server_names(made.settings()))
