"""Who upstream must be: every way of saying so, right and wrong."""

from __future__ import annotations

import os
from base64 import b64encode
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from authproxy.certificates import CertificateError, Pair, server_context
from authproxy.upstream_tls import UpstreamTLS, VerificationError, spki_pin

from .handshakes import chain_pem, handshake, issue, sockets, step, write

NAME = "authentik.example"
CA = issue(ca=True)
GOOD = issue(NAME, by=CA)
OTHER_CA = issue(ca=True)


def server(sock: Any, pair: Pair) -> SSL.Connection:
    """Upstream's end."""
    connection = SSL.Connection(server_context(pair), sock)
    connection.set_accept_state()
    return connection


class UpstreamTLSTests(SynchronousTestCase):
    def setUp(self) -> None:
        for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            self.setenv(variable, None)

    def setenv(self, variable: str, value: str | None) -> None:
        """Set an environment variable for this test, for OpenSSL too."""

        def put(value: str | None) -> None:
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value

        self.addCleanup(put, os.environ.get(variable))
        put(value)

    def ca(self, *trusted: Pair) -> str:
        path: str = self.mktemp()
        return write(path, chain_pem(*(pair.certificate for pair in trusted)))

    def connect(self, tls: UpstreamTLS, pair: Pair) -> SSL.Connection:
        """A connection whose handshake, never mind the certificate, is over."""
        here, there = sockets()
        connection = tls.connection(here)
        self.peer = server(there, pair)
        self.assertEqual(handshake(connection, self.peer), [True, True])
        return connection

    def accepted(self, tls: UpstreamTLS, pair: Pair) -> None:
        tls.verify(self.connect(tls, pair))

    def refused(self, tls: UpstreamTLS, pair: Pair, *, by: str = "ca pin off") -> str:
        """What is said, with these settings as cures and no others."""
        connection = self.connect(tls, pair)
        words = str(self.assertRaises(VerificationError, tls.verify, connection))
        cures = {
            "name": 'upstream_server_name = "',
            "ca": 'upstream_verify = "ca:/path/to/ca.pem"',
            "pin": f'upstream_verify = "pin:{spki_pin(pair.certificate)}"',
            "off": 'upstream_verify = "off"',
        }
        lines = words.split("\n")[1:]
        self.assertEqual(len(lines), len(by.split()), words)
        for line, cure in zip(lines, by.split(), strict=True):
            self.assertTrue(line.startswith(f"    {cures[cure]}"), line)
        return words

    # Trust in a CA.

    def test_ca(self) -> None:
        self.accepted(UpstreamTLS("ca", self.ca(OTHER_CA, CA), NAME), GOOD)

    def test_ca_name_is_normalised(self) -> None:
        self.accepted(UpstreamTLS("ca", self.ca(CA), "Authentik.Example."), GOOD)

    def test_other_ca(self) -> None:
        words = self.refused(UpstreamTLS("ca", self.ca(OTHER_CA), NAME), GOOD)
        self.assertIn("CA that is not trusted here", words)
        self.assertNotIn("it is not for", words)
        self.assertIn(" One of these lines in [[site]] cures it:\n", words)

    def test_self_signed(self) -> None:
        pair = issue(NAME)
        words = self.refused(UpstreamTLS("ca", self.ca(CA), NAME), pair)
        self.assertIn("it is self-signed", words)
        self.accepted(UpstreamTLS("ca", self.ca(pair), NAME), pair)

    def test_ca_file_with_the_certificate_or_an_intermediate(self) -> None:
        self.accepted(UpstreamTLS("ca", self.ca(GOOD), NAME), GOOD)
        middle = issue(ca=True, by=CA)
        leaf = issue(NAME, by=middle)
        self.accepted(UpstreamTLS("ca", self.ca(middle), NAME), leaf)
        self.accepted(UpstreamTLS("ca", self.ca(CA), NAME), leaf)

    def test_an_intermediate_that_is_not_sent(self) -> None:
        middle = issue(ca=True, by=CA)
        leaf = issue(NAME, by=middle)
        words = self.refused(
            UpstreamTLS("ca", self.ca(CA), NAME), Pair(leaf.certificate, (), leaf.key)
        )
        self.assertIn("not accepted: no CA that is trusted here issued it, or the server", words)
        self.assertEqual(words.count("trusted here"), 1)

    def test_wrong_name(self) -> None:
        words = self.refused(
            UpstreamTLS("ca", self.ca(CA), "other.example"), GOOD, by="name pin off"
        )
        self.assertIn("it is not for other.example, but for authentik.example.", words)
        self.assertIn(f'upstream_server_name = "{NAME}"\n', words)
        self.assertNotIn("trusted here", words)

    def test_both_wrong(self) -> None:
        words = self.refused(
            UpstreamTLS("ca", self.ca(OTHER_CA), "other.example"), GOOD, by="name ca pin off"
        )
        self.assertIn("not trusted here", words)
        self.assertIn("it is not for other.example", words)

    def test_no_name(self) -> None:
        words = self.refused(UpstreamTLS("ca", self.ca(CA), NAME), issue(by=CA), by="name pin off")
        self.assertIn("but for no name at all", words)
        words = self.refused(UpstreamTLS("ca", self.ca(CA), ""), GOOD, by="name pin off")
        self.assertIn("a name that we know", words)

    def test_name_in_the_subject_only(self) -> None:
        """RFC 9525 6.3: the common name does not count."""
        pair = issue(by=CA, common_name=NAME)
        self.refused(UpstreamTLS("ca", self.ca(CA), NAME), pair, by="name pin off")

    def test_authentik_fallback_certificate(self) -> None:
        words = self.refused(UpstreamTLS("ca", self.ca(CA), NAME), issue("*"), by="name ca pin off")
        self.assertIn("but for *.", words)
        self.assertIn('upstream_server_name = "sso.example.com"  #', words)
        self.assertIn("new at every start", words)

    def test_hostile_names(self) -> None:
        """Nothing that a certificate says gets into logs or into a line that is pasted."""
        pair = issue('x"\nupstream_verify = "off', "\x1b[2J", *(f"n{i}.example" for i in range(9)))
        words = self.refused(UpstreamTLS("ca", self.ca(CA), NAME), pair, by="name ca pin off")
        self.assertEqual(words.count("\n"), 4)
        self.assertNotIn("\x1b", words)
        self.assertIn("(odd name), (odd name), n0.example, n1.example, n2.example, 6 more", words)
        self.assertIn('upstream_server_name = "n0.example"', words)

    def test_addresses(self) -> None:
        pair = issue("192.0.2.1", "2001:db8::1", by=CA)
        for name in ("192.0.2.1", "2001:db8::1", "[2001:DB8::1]"):
            self.accepted(UpstreamTLS("ca", self.ca(CA), name), pair)
            self.assertIsNone(self.peer.get_servername())
        words = self.refused(UpstreamTLS("ca", self.ca(CA), "192.0.2.2"), pair, by="name pin off")
        self.assertIn("not for 192.0.2.2, but for 192.0.2.1, 2001:db8::1", words)
        self.assertIn('upstream_server_name = "192.0.2.1"', words)

    def test_wildcard(self) -> None:
        tls = UpstreamTLS("ca", self.ca(CA), "a.example.com")
        self.accepted(tls, issue("*.example.com", by=CA))
        self.refused(tls, issue("*.a.example.com", by=CA), by="name pin off")

    def test_dates(self) -> None:
        tls = UpstreamTLS("ca", self.ca(CA), NAME)
        for days, words in (((-9, -2), "has expired"), ((2, 9), "is not valid yet")):
            said = self.refused(tls, issue(NAME, by=CA, days=days), by="pin off")
            self.assertIn(f"{words}. Renew it, and look at both clocks; what follows", said)
        self.refused(tls, issue(NAME, by=OTHER_CA, days=(-9, -2)))

    def test_purpose(self) -> None:
        """A certificate for clients is none for servers, though the CA is the same."""
        pair = issue(NAME, by=CA, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        words = self.refused(UpstreamTLS("ca", self.ca(CA), NAME), pair)
        self.assertIn("purpose", words)

    def test_signed_by_what_is_no_ca(self) -> None:
        pair = issue(NAME, by=issue("attacker.example", by=CA))
        self.assertIn("invalid ca", self.refused(UpstreamTLS("ca", self.ca(CA), NAME), pair))

    # CA files.

    def test_ca_files(self) -> None:
        def error(path: str) -> str:
            words = str(self.assertRaises(CertificateError, UpstreamTLS, "ca", path, NAME))
            self.assertNotIn("\n", words)
            self.assertIn(path, words)
            return words

        self.assertIn("no such file", error("/nowhere/ca.pem"))
        self.assertIn("no certificate", error(write(self.mktemp(), b"")))
        damaged = chain_pem(CA.certificate).replace(b"MII", b"xxx", 1)
        self.assertIn("damaged", error(write(self.mktemp(), damaged)))
        directory = self.mktemp()
        os.mkdir(directory)
        self.assertIn("directory", error(directory))

    # The system's CAs.

    def test_system(self) -> None:
        """A CA of ours is not among them, unless the environment says so."""
        self.refused(UpstreamTLS("system", "", NAME), GOOD)
        self.setenv("SSL_CERT_FILE", self.ca(CA))
        self.accepted(UpstreamTLS("system", "", NAME), GOOD)
        self.refused(UpstreamTLS("system", "", "other.example"), GOOD, by="name pin off")

    def test_system_directory(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        self.setenv("SSL_CERT_DIR", directory)
        self.refused(UpstreamTLS("system", "", NAME), GOOD)

    def test_environment_names_nothing(self) -> None:
        for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            self.setenv(variable, "/nowhere")
            error = self.assertRaises(CertificateError, UpstreamTLS, "system", "", NAME)
            self.assertIn(f"{variable} /nowhere", str(error))
            self.setenv(variable, None)

    # A pin.

    def test_pin(self) -> None:
        """It is enough: neither CA, name nor date count."""
        pair = issue("whatever", days=(-9, -2))
        self.accepted(UpstreamTLS("pin", spki_pin(pair.certificate), NAME), pair)

    def test_pin_survives_renewal(self) -> None:
        """It is of the key, not of the certificate."""
        renewed = issue(NAME, key=GOOD.key)
        self.accepted(UpstreamTLS("pin", spki_pin(GOOD.certificate), NAME), renewed)

    def test_wrong_pin(self) -> None:
        words = self.refused(UpstreamTLS("pin", spki_pin(CA.certificate), NAME), GOOD)
        self.assertIn("not the pinned one", words)
        self.assertIn("new at every start", words)

    def test_bad_pin(self) -> None:
        for pin in ("", "sha256/", "sha256/AAAA", "sha1/" + "A" * 27 + "=", "sha256/ü"):
            error = self.assertRaises(CertificateError, UpstreamTLS, "pin", pin, NAME)
            self.assertIn("sha256", str(error))

    def test_pin_of_known_key(self) -> None:
        """The form that other tools make: openssl dgst -sha256 -binary | base64 of the SPKI."""
        key = rsa.generate_private_key(65537, 2048)
        pin = spki_pin(issue(NAME, key=key).certificate)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(pin, "sha256/" + b64encode(sha256(spki).digest()).decode())

    # None at all.

    def test_off(self) -> None:
        self.accepted(UpstreamTLS("off", "", NAME), issue("whatever", days=(-9, -2)))

    def test_unknown_mode(self) -> None:
        self.assertRaises(ValueError, UpstreamTLS, "on", "", NAME)

    # The handshake.

    def test_hello(self) -> None:
        """SNI in A-labels without the final dot, and HTTP/1.1 by ALPN."""
        names = {"A.example.": b"a.example", "bücher.example": b"xn--bcher-kva.example"}
        for name, sni in names.items():
            connection = self.connect(UpstreamTLS("off", "", name), GOOD)
            self.assertEqual(self.peer.get_servername(), sni)
            self.assertEqual(connection.get_alpn_proto_negotiated(), b"http/1.1")

    def test_impossible_name(self) -> None:
        error = self.assertRaises(CertificateError, UpstreamTLS, "off", "", "ü" * 80)
        self.assertIn("upstream_server_name", str(error))

    def test_versions(self) -> None:
        """TLS 1.2 will do, 1.1 will not."""
        for newest, completes in ((SSL.TLS1_2_VERSION, True), (SSL.TLS1_1_VERSION, False)):
            here, there = sockets()
            context = SSL.Context(SSL.TLS_METHOD)
            context.set_max_proto_version(newest)
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.use_certificate(GOOD.certificate)
            context.use_privatekey(GOOD.key)
            peer = SSL.Connection(context, there)
            peer.set_accept_state()
            tls = UpstreamTLS("ca", self.ca(CA), NAME)
            connection = tls.connection(here)
            outcome = handshake(connection, peer)
            self.assertEqual(outcome[0] is True, completes)
            if completes:
                tls.verify(connection)

    def test_no_renegotiation(self) -> None:
        """It could bring another certificate after the first was verified."""
        here, there = sockets()
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.use_certificate(GOOD.certificate)
        context.use_privatekey(GOOD.key)
        peer = SSL.Connection(context, there)
        peer.set_accept_state()
        connection = UpstreamTLS("off", "", NAME).connection(here)
        self.assertEqual(handshake(connection, peer), [True, True])
        peer.renegotiate()
        step(peer)  # sends the HelloRequest
        self.assertRaises(SSL.WantReadError, connection.recv, 10)
        refused = self.assertRaises(SSL.Error, peer.recv, 10)
        self.assertIn("no renegotiation", str(refused))

    def test_interleaved(self) -> None:
        """Each connection has its own result, in whatever order things happen."""
        tls = UpstreamTLS("ca", self.ca(CA), NAME)
        for order in (1, -1):
            ends = []
            pairs = [GOOD, issue(NAME, by=OTHER_CA), GOOD, issue("other.example", by=CA)]
            for pair in pairs[::order]:
                here, there = sockets()
                ends.append((tls.connection(here), server(there, pair)))
            everyone = [connection for pair_of_ends in ends for connection in pair_of_ends]
            self.assertEqual(handshake(*everyone), [True] * 8)
            verdicts = []
            for connection, _ in reversed(ends):
                try:
                    tls.verify(connection)
                except VerificationError as e:
                    verdicts.append("trusted here" if "trusted here" in str(e) else "not for")
                else:
                    verdicts.append("good")
            expected = ["good", "trusted here", "good", "not for"]
            self.assertEqual(verdicts[::-1], expected[::order])

    def test_not_connected(self) -> None:
        """Nothing is believed of a handshake that has not been."""
        tls = UpstreamTLS("ca", self.ca(CA), NAME)
        here, _there = sockets()
        connection = tls.connection(here)
        self.assertIsNone(step(connection))
        self.assertRaises(VerificationError, tls.verify, connection)
