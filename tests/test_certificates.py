"""Certificates from files, the server side of TLS, the choice by name."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from authproxy.certificate_names import covers
from authproxy.certificate_notes import notes
from authproxy.certificates import (
    CertificateError,
    Pair,
    ServerNames,
    load_pair,
    server_context,
)

from .handshakes import chain_pem, client, handshake, issue, key_pem, sockets, write

DAYS = 86400
PAIR = issue("sso.example.com")
OTHER = issue("other.example.com")


class LoadPairTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)

    def file(self, name: str, content: bytes) -> str:
        return write(os.path.join(self.directory, name), content)

    def error(self, certificate: bytes | str, key: bytes | str, **how: Any) -> str:
        """What load_pair says of these, contents or paths."""
        if isinstance(certificate, bytes):
            certificate = self.file("cert.pem", certificate)
        if isinstance(key, bytes):
            key = self.file("key.pem", key)
        words = str(self.assertRaises(CertificateError, load_pair, certificate, key, **how))
        self.assertNotIn("\n", words)
        return words

    def test_chain(self) -> None:
        root = issue(ca=True)
        middle = issue(ca=True, by=root)
        leaf = issue("sso.example.com", by=Pair(middle.certificate, (), middle.key))
        certificate = self.file("cert", chain_pem(leaf.certificate, middle.certificate))
        pair = load_pair(certificate, self.file("key", key_pem(leaf.key)))
        self.assertEqual(pair.certificate, leaf.certificate)
        self.assertEqual(pair.chain, (middle.certificate,))
        server_context(pair)
        words = self.error(chain_pem(middle.certificate, leaf.certificate), key_pem(leaf.key))
        self.assertIn("wrong order", words)

    def test_key_and_certificate_in_one_file(self) -> None:
        path = self.file("both", chain_pem(PAIR.certificate) + key_pem(PAIR.key))
        self.assertEqual(load_pair(path, path).certificate, PAIR.certificate)

    def test_key_with_parameters(self) -> None:
        """As `openssl ecparam -genkey` writes it."""
        parameters = (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        )
        key = PAIR.key
        load_pair(
            self.file("c", chain_pem(PAIR.certificate)), self.file("k", parameters + key_pem(key))
        )

    def test_readable(self) -> None:
        """A configured path is opened where its copy is."""
        copies = {
            "/c": self.file("1", chain_pem(PAIR.certificate)),
            "/k": self.file("2", key_pem(PAIR.key)),
        }
        pair = load_pair("/c", "/k", readable=copies.__getitem__)
        self.assertEqual(pair.certificate, PAIR.certificate)

    def test_missing(self) -> None:
        words = self.error(self.directory + "/none.pem", key_pem(PAIR.key))
        self.assertIn("none.pem: there is no such file", words)
        words = self.error(chain_pem(PAIR.certificate), self.directory + "/none.key")
        self.assertIn("private_key", words)
        self.assertIn("none.key: there is no such file", words)

    def test_unreadable(self) -> None:
        def readable(path: str) -> str:
            if path.endswith("key.pem"):
                raise PermissionError(13, "Permission denied")
            return path

        words = self.error(chain_pem(PAIR.certificate), key_pem(PAIR.key), readable=readable)
        self.assertIn("key.pem: user ", words)
        self.assertIn("systemd unit copies", words)
        self.assertIn("group permission", words)

    def test_directory(self) -> None:
        self.assertIn("directory", self.error(self.directory, key_pem(PAIR.key)))

    def test_no_certificate(self) -> None:
        self.assertIn("no certificate", self.error(b"", key_pem(PAIR.key)))
        der = PAIR.certificate.public_bytes(Encoding.DER)
        words = self.error(der, key_pem(PAIR.key))
        self.assertIn("in DER form, not PEM. Convert it: openssl x509 -inform der -in ", words)
        pem = chain_pem(PAIR.certificate).replace(b"MII", b"xxx", 1)
        self.assertIn("damaged", self.error(pem, key_pem(PAIR.key)))

    def test_no_key(self) -> None:
        self.assertIn("no key", self.error(chain_pem(PAIR.certificate), b"hello"))
        damaged = b"-----BEGIN PRIVATE KEY-----\nMIIx\n-----END PRIVATE KEY-----\n"
        self.assertIn("damaged", self.error(chain_pem(PAIR.certificate), damaged))

    def test_binary_keys(self) -> None:
        der = PAIR.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        words = self.error(chain_pem(PAIR.certificate), der)
        self.assertIn("in DER form, not PEM. Convert it: openssl pkey -inform der -in ", words)
        self.assertIn("in DER form", self.error(chain_pem(PAIR.certificate), b"\x30"))

    def test_pkcs12(self) -> None:
        """What Windows exports, as .pfx: openssl x509 cannot read it."""
        data = serialize_key_and_certificates(
            b"sso", PAIR.key, PAIR.certificate, None, NoEncryption()
        )
        path = self.file("sso.pfx", data)
        self.assertIn(
            f"the file is PKCS #12, not PEM. Convert it: openssl pkcs12 -nokeys -in {path} -out"
            f" {path}.pem",
            self.error(path, key_pem(PAIR.key)),
        )
        self.assertIn(
            f"Convert it: openssl pkcs12 -nocerts -nodes -in {path} -out {path}.key",
            self.error(chain_pem(PAIR.certificate), path),
        )

    def test_swapped(self) -> None:
        words = self.error(key_pem(PAIR.key), chain_pem(PAIR.certificate))
        self.assertIn("swapped", words)
        words = self.error(chain_pem(PAIR.certificate), chain_pem(PAIR.certificate))
        self.assertIn("a certificate and no key", words)

    def test_encrypted(self) -> None:
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            pem = PAIR.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
            words = self.error(chain_pem(PAIR.certificate), pem)
            self.assertIn("encrypted", words)
            self.assertIn("openssl pkey -in", words)

    def test_mismatch(self) -> None:
        words = self.error(chain_pem(PAIR.certificate), key_pem(OTHER.key))
        self.assertIn("does not belong", words)
        self.assertIn("cert.pem", words)
        self.assertIn("key.pem", words)

    def test_weak(self) -> None:
        for key, cause in (
            (rsa.generate_private_key(65537, 1024), "RSA key of 1024 bits is too small"),
            (ec.generate_private_key(ec.SECP224R1()), "EC key of 224 bits is too small"),
            (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
            (dsa.generate_private_key(2048), "of this kind"),
        ):
            words = self.error(chain_pem(PAIR.certificate), key_pem(key))
            self.assertIn(cause, words)
            self.assertIn("P-256", words)

    def test_ed25519(self) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        certificate = issue("sso.example.com", by=issue(ca=True), key=key).certificate
        pair = load_pair(self.file("c", chain_pem(certificate)), self.file("k", key_pem(key)))
        server_context(pair)

    def test_openssl_refuses(self) -> None:
        """What OpenSSL finds too weak in spite of our own look is an error in words, too."""
        weak = issue("sso.example.com", key=rsa.generate_private_key(65537, 1024))
        words = str(self.assertRaises(CertificateError, server_context, weak))
        self.assertIn("sso.example.com: OpenSSL refuses it", words)
        self.assertIn("too small", words)


class NotesTests(SynchronousTestCase):
    def notes(self, days: float, *hosts: str) -> str:
        return " ".join(notes(PAIR, hosts, time.time() + days * DAYS))

    def test_dates(self) -> None:
        """PAIR is valid for 30 days."""
        self.assertEqual(self.notes(0), "")
        self.assertEqual(self.notes(22), "")
        self.assertIn("expires on", self.notes(24))
        self.assertIn("expired on", self.notes(31))
        self.assertIn("valid only from", self.notes(-2))

    def test_hosts(self) -> None:
        self.assertEqual(self.notes(0, "SSO.example.com."), "")
        words = self.notes(0, "sso.example.com", "www.example.com", "192.0.2.1", "*.example.com")
        self.assertIn("not for www.example.com, 192.0.2.1, *.example.com (it is for sso.", words)
        self.assertIn("no name", " ".join(notes(issue(), ["a.example"], time.time())))

    def test_the_certificate_alone(self) -> None:
        """cert.pem instead of fullchain.pem: browsers that saw the issuer before are content, and
        nobody else is."""
        middle = issue(ca=True, by=issue(ca=True))
        url = "http://ca.example/middle.der"
        pair = issue("sso.example.com", by=middle, issuer_at=url)
        self.assertEqual(notes(pair, [], time.time()), [])
        [words] = notes(Pair(pair.certificate, (), pair.key), [], time.time())
        self.assertIn("Name the whole chain (certbot's fullchain.pem)", words)
        for own in (issue("sso.example.com", by=middle), issue("sso.example.com")):
            self.assertEqual(notes(Pair(own.certificate, (), own.key), [], time.time()), [])

    def test_covers(self) -> None:
        certificate = issue("*.Example.com", "192.0.2.1", "2001:db8::1").certificate
        for host in ("a.example.com", "*.example.com", "192.0.2.1", "[2001:DB8::1]"):
            self.assertTrue(covers(certificate, host), host)
        for host in ("example.com", "b.a.example.com", "192.0.2.2", "", "not a name", "bü..x"):
            self.assertFalse(covers(certificate, host), host)
        self.assertTrue(covers(issue("xn--bcher-kva.example").certificate, "bücher.example"))


class ContextTests(SynchronousTestCase):
    def connect(
        self, minimum: str = "1.3", **how: Any
    ) -> tuple[SSL.Connection, SSL.Connection, list[object]]:
        here, there = sockets()
        context = server_context(PAIR, minimum_version=minimum, alpn=(b"h2", b"http/1.1"))
        server = ServerNames([((), context)]).connection(here)
        peer = client(there, **how)
        return server, peer, handshake(server, peer)

    def test_alpn(self) -> None:
        """Our order decides; with nothing in common the handshake goes on without."""
        for offered, chosen in (
            ([b"http/1.1", b"h2"], b"h2"),
            ([b"http/1.0", b"http/1.1"], b"http/1.1"),
            ([b"imap"], b""),
            ([], b""),
        ):
            server, peer, outcome = self.connect(alpn=offered)
            self.assertEqual(outcome, [True, True])
            self.assertEqual(server.get_alpn_proto_negotiated(), chosen)
            self.assertEqual(peer.get_alpn_proto_negotiated(), chosen)

    def test_only_1_3_by_default(self) -> None:
        self.assertEqual(self.connect()[1].get_protocol_version_name(), "TLSv1.3")
        outcome = self.connect(newest=SSL.TLS1_2_VERSION)[2]
        self.assertIsInstance(outcome[0], SSL.Error)
        self.assertIn("unsupported protocol", str(outcome[0]))

    def test_1_2_by_choice(self) -> None:
        _, peer, outcome = self.connect("1.2", newest=SSL.TLS1_2_VERSION)
        self.assertEqual(outcome, [True, True])
        self.assertEqual(peer.get_protocol_version_name(), "TLSv1.2")
        name = str(peer.get_cipher_name())
        self.assertTrue(name.startswith("ECDHE-"), name)
        self.assertTrue("GCM" in name or "POLY1305" in name, name)
        outcome = self.connect("1.2", newest=SSL.TLS1_1_VERSION)[2]
        self.assertIsInstance(outcome[0], SSL.Error)

    def test_no_cbc(self) -> None:
        here, there = sockets()
        server = ServerNames([((), server_context(PAIR, minimum_version="1.2"))]).connection(here)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA")
        peer = SSL.Connection(context, there)
        peer.set_connect_state()
        self.assertIn("no shared cipher", str(handshake(server, peer)[0]))

    def test_no_renegotiation(self) -> None:
        server, peer, outcome = self.connect("1.2", newest=SSL.TLS1_2_VERSION)
        self.assertEqual(outcome, [True, True])
        self.assertTrue(peer.renegotiate())
        self.assertIsNone(handshake(peer)[0])
        self.assertRaises(SSL.WantReadError, server.recv, 10)
        refused = self.assertRaises(SSL.Error, peer.do_handshake)
        self.assertIn("no renegotiation", str(refused))

    def test_resumption(self) -> None:
        context = server_context(PAIR, minimum_version="1.2")
        names = ServerNames([((), context)])
        peers: list[SSL.Connection] = []
        for _ in range(2):
            here, there = sockets()
            after = peers[0] if peers else None
            peers.append(client(there, newest=SSL.TLS1_2_VERSION, after=after))
            self.assertEqual(handshake(names.connection(here), peers[-1]), [True, True])
        first, second = peers  # in TLS 1.2 a session has one master secret
        self.assertEqual(first.master_key(), second.master_key())


class ServerNamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pairs = {name: issue(name) for name in ("first", "exact", "wild", "any", "new")}
        self.contexts = {name: server_context(pair) for name, pair in self.pairs.items()}
        self.hooked: list[object] = []
        self.patch(sys, "excepthook", lambda *args: self.hooked.append(args))

    def tearDown(self) -> None:
        self.assertEqual(self.hooked, [])

    def names(self, unknown: str = "first", **hosts: tuple[str, ...]) -> ServerNames:
        return ServerNames([(hosts[name], self.contexts[name]) for name in hosts], unknown)

    def chosen(self, names: ServerNames, name: bytes | None) -> str:
        """Which certificate a client that asks for this name gets; "" where the handshake fails."""
        here, there = sockets()
        peer = client(there, name)
        server = names.connection(here)
        outcome = handshake(server, peer)
        if outcome != [True, True]:
            self.assertIsInstance(outcome[0], SSL.Error)
            self.assertIn("handshake failure", str(outcome[1]))
            return ""
        got = peer.get_peer_certificate(as_cryptography=True)
        return next(name for name, pair in self.pairs.items() if pair.certificate == got)

    def test_choice(self) -> None:
        names = self.names(
            first=("first.example",),
            wild=("*.example.com",),
            exact=("exact.example.com", "[2001:DB8::1]"),
        )
        for name, expected in (
            (b"first.example", "first"),
            (b"exact.example.com", "exact"),
            (b"EXACT.Example.Com", "exact"),
            (b"exact.example.com.", "exact"),
            (b"other.example.com", "wild"),
            (b"a.b.example.com", "first"),
            (b"example.com", "first"),
            (b"unknown", "first"),
            (b"\xff\xfe", "first"),
            (None, "first"),
        ):
            self.assertEqual(self.chosen(names, name), expected, name)

    def test_any_host(self) -> None:
        for unknown in ("first", "refuse"):
            names = self.names(unknown, first=("first.example",), any=(), wild=("*.example.com",))
            self.assertEqual(self.chosen(names, b"unknown.example"), "any")
            self.assertEqual(self.chosen(names, b"a.example.com"), "wild")
            self.assertEqual(self.chosen(names, None), "first")

    def test_first_entry_has_the_name(self) -> None:
        names = self.names(first=("a.example",), exact=("b.example",), wild=("b.example",))
        self.assertEqual(self.chosen(names, b"b.example"), "exact")

    def test_refuse(self) -> None:
        names = self.names("refuse", first=("first.example",), wild=("*.example.com",))
        self.assertEqual(self.chosen(names, b"unknown.example"), "")
        self.assertEqual(self.chosen(names, b"first.example"), "first")
        self.assertEqual(self.chosen(names, b"a.example.com"), "wild")
        self.assertEqual(self.chosen(names, None), "first")

    def test_alpn_of_the_chosen(self) -> None:
        """A switched context negotiates too."""
        names = self.names(first=("first.example",), exact=("b.example",))
        here, there = sockets()
        server, peer = names.connection(here), client(there, b"b.example", alpn=[b"http/1.1"])
        self.assertEqual(handshake(server, peer), [True, True])
        self.assertEqual(peer.get_alpn_proto_negotiated(), b"http/1.1")

    def test_plain_http(self) -> None:
        """The error that the listener knows plain HTTP by."""
        here, there = sockets()
        there.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        outcome = handshake(self.names(first=()).connection(here))
        self.assertIn("http request", str(outcome[0]))

    def test_wrong_arguments(self) -> None:
        self.assertRaises(ValueError, ServerNames, [])
        self.assertRaises(ValueError, self.names, "perhaps", first=())
