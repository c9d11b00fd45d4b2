"""TLS on both sides: which versions, which certificate, who is believed."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
from pathlib import Path
from typing import Any, ClassVar

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .processes import (
    HOST,
    LOOPBACK,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    connect,
    free_port,
    read_all,
    request,
    response,
)

OTHER = "other.example.org"
WRONG = "wrong.example.net"


class Handshakes(EndToEnd):
    """Two sites with a certificate each, and the settings' defaults."""

    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]
    tls: ClassVar[dict[str, str]] = {}

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin()
        document = stage.configuration(f"http://{LOOPBACK}:{cls.origin.port}", tls=cls.tls)
        [site] = document["site"]
        document["site"].append(site | {"hosts": [OTHER]} | stage.certificate(OTHER))
        cls.proxy = stage.proxy(document)

    def _shake(self, name: str | None, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """The handshake of a client that asks for this name; closed with the test."""
        context = context or self.stage.client_tls()
        context.check_hostname = False
        raw = connect(self.proxy.https)
        self.addCleanup(raw.close)
        sock = context.wrap_socket(raw, server_hostname=name)
        self.addCleanup(sock.close)
        return sock

    def _names(self, name: str | None) -> list[str]:
        certificate = self._shake(name).getpeercert()
        assert certificate is not None
        alternatives: Any = certificate["subjectAltName"]
        return [value for _, value in alternatives]

    def _at_most(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = self.stage.client_tls()
        context.maximum_version = version
        return context


class Defaults(Handshakes):
    """[tls] is empty."""

    def test_certificate_by_name(self) -> None:
        self.assertEqual(self._names(HOST), [HOST])
        self.assertEqual(self._names(OTHER), [OTHER])
        self.assertEqual(self._names(OTHER.upper()), [OTHER])

    def test_unknown_name_gets_the_first(self) -> None:
        self.assertEqual(self._names(WRONG), [HOST])
        self.assertEqual(self._names(None), [HOST])
        sock = self._shake(WRONG)
        sock.sendall(request(host=WRONG))
        self.assertEqual(response(sock).status, 421)

    def test_both_sites_are_served(self) -> None:
        for name in (HOST, OTHER):
            sock = self._shake(name)
            sock.sendall(request("/", "Accept: application/json", host=name))
            self.assertEqual(response(sock).json["host"], name)

    def test_tls_1_3(self) -> None:
        self.assertEqual(self._shake(HOST).version(), "TLSv1.3")

    def test_tls_1_2_is_refused(self) -> None:
        with self.assertRaisesRegex(ssl.SSLError, "(?i)protocol.version"):
            self._shake(HOST, self._at_most(ssl.TLSVersion.TLSv1_2))

    def test_alpn(self) -> None:
        for offered, chosen in (
            (["http/1.1", "h2"], "h2"),  # the server's preference counts
            (["http/1.1"], "http/1.1"),
            (["h2"], "h2"),
            (["h3"], None),
            ([], None),
        ):
            context = ssl.create_default_context()
            self.stage.authority.configure_trust(context)
            if offered:
                context.set_alpn_protocols(offered)
            sock = self._shake(HOST, context)
            self.assertEqual(sock.selected_alpn_protocol(), chosen, offered)

    def test_plain_http_on_the_tls_port(self) -> None:
        with connect(self.proxy.https) as sock:
            sock.sendall(request())
            answer = response(sock)
            self.assertEqual(answer.status, 400)
            self.assertIn(b"https://", answer.content)
            self.assertEqual(read_all(sock), b"")

    def test_tls_on_the_plain_port(self) -> None:
        with connect(self.proxy.http) as sock, self.assertRaises(ssl.SSLError):
            self.stage.client_tls().wrap_socket(sock, server_hostname=HOST)

    def test_garbage(self) -> None:
        """It ends one connection, and nothing else."""
        with connect(self.proxy.https) as sock:
            sock.sendall(b"\xff" * 1000)
            self.assertNotIn(b"HTTP", read_all(sock))
        self.assertEqual(self._names(HOST), [HOST])

    def test_end_of_a_response_is_announced(self) -> None:
        """With close_notify: without it a client cannot tell an end from a cut."""
        sock = self._shake(HOST)
        sock.sendall(request("/", "Connection: close"))
        self.assertEqual(response(sock).status, 200)
        self.assertEqual(sock.recv(1), b"")
        sock.unwrap()


class OldClients(Handshakes):
    """tls.minimum_version = "1.2"."""

    tls: ClassVar[dict[str, str]] = {"minimum_version": "1.2"}

    def test_tls_1_2(self) -> None:
        sock = self._shake(HOST, self._at_most(ssl.TLSVersion.TLSv1_2))
        self.assertEqual(sock.version(), "TLSv1.2")
        cipher = sock.cipher()
        assert cipher is not None
        self.assertRegex(cipher[0], r"ECDHE-.*(GCM|POLY1305)")
        sock.sendall(request())
        self.assertEqual(response(sock).status, 200)

    def test_tls_1_2_order_is_ours(self) -> None:
        """But who prefers ChaCha20 gets it."""
        gcm, chacha = "ECDHE-ECDSA-AES%d-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"
        aes_128, aes_256 = gcm % 128, "ECDHE-ECDSA-AES256-GCM-SHA384"
        chosen = []
        for offered in ((aes_128, aes_256), (aes_256, aes_128), (chacha, aes_128)):
            context = self._at_most(ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(":".join(offered))
            cipher = self._shake(HOST, context).cipher()
            assert cipher is not None
            chosen.append(cipher[0])
        self.assertEqual(chosen[0], chosen[1])
        self.assertEqual(chosen[2], chacha)

    def test_tls_1_2_without_forward_secrecy_is_refused(self) -> None:
        context = self._at_most(ssl.TLSVersion.TLSv1_2)
        context.set_ciphers("AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
        with self.assertRaises(ssl.SSLError):
            self._shake(HOST, context)

    def test_tls_1_3(self) -> None:
        self.assertEqual(self._shake(HOST).version(), "TLSv1.3")


class UnknownNamesRefused(Handshakes):
    """tls.unknown_sni = "refuse"."""

    tls: ClassVar[dict[str, str]] = {"unknown_sni": "refuse"}

    def test_unknown_name(self) -> None:
        with self.assertRaises(ssl.SSLError):
            self._shake(WRONG)

    def test_known_names(self) -> None:
        self.assertEqual(self._names(HOST), [HOST])
        self.assertEqual(self._names(OTHER), [OTHER])
        self.assertEqual(self._names(None), [HOST])


class Upstream(EndToEnd):
    """upstream_verify: who upstream must be."""

    origin: ClassVar[Origin]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin(HOST)

    def _proxy(self, verify: str, *, ca: Path | None = None, **site: Any) -> Proxy:
        stage = self.own_stage()
        settings = {"upstream_verify": verify} | site
        url = f"https://{LOOPBACK}:{self.origin.port}"
        environ = {"SSL_CERT_FILE": str(ca)} if ca else {}
        return stage.proxy(stage.configuration(url, settings), environ=environ)

    def _status(self, proxy: Proxy) -> int:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with connect(proxy.https) as raw, context.wrap_socket(raw, server_hostname=HOST) as sock:
            sock.sendall(request("/", "Connection: close"))
            return response(sock).status

    def _pin(self, pem: bytes) -> str:
        key = x509.load_pem_x509_certificate(pem).public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return "pin:sha256/" + base64.b64encode(hashlib.sha256(der).digest()).decode()

    def _served(self) -> bytes:
        """The certificate that the origin shows for HOST."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection((LOOPBACK, self.origin.port)) as raw,
            context.wrap_socket(raw, server_hostname=HOST) as sock,
        ):
            der = sock.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der).encode()

    def test_system(self) -> None:
        """The machine's CAs, here by SSL_CERT_FILE; SNI is the site's host."""
        proxy = self._proxy("system", ca=self.stage.ca)
        self.assertEqual(self._status(proxy), 200)

    def test_system_without_this_ca(self) -> None:
        stranger = self.stage.file("stranger.pem", trustme.CA().cert_pem.bytes())
        proxy = self._proxy("system", ca=stranger)
        self.assertEqual(self._status(proxy), 502)
        self.assertEqual(self._cures(proxy).keys(), {"ca", "pin"})

    def test_ca(self) -> None:
        self.assertEqual(self._status(self._proxy(f"ca:{self.stage.ca}")), 200)

    def test_pin(self) -> None:
        self.assertEqual(self._status(self._proxy(self._pin(self._served()))), 200)

    def test_wrong_pin(self) -> None:
        proxy = self._proxy(self._pin(self.stage.ca.read_bytes()))
        self.assertEqual(self._status(proxy), 502)
        proxy.says("its key is not the pinned one")

    def test_wrong_name(self) -> None:
        proxy = self._proxy(f"ca:{self.stage.ca}", upstream_server_name=WRONG)
        self.assertEqual(self._status(proxy), 502)
        cures = self._cures(proxy)
        self.assertIn(f"it is not for {WRONG}, but for {HOST}", proxy.stderr)
        self.assertEqual(cures.keys(), {"upstream_server_name", "pin"})
        self.assertEqual(cures["upstream_server_name"], HOST)

    def test_cures_work(self) -> None:
        """What the log says of a wrong certificate can be pasted."""
        wrong = self._proxy(f"ca:{self.stage.ca}", upstream_server_name=WRONG)
        self.assertEqual(self._status(wrong), 502)
        cures = self._cures(wrong)
        self.assertEqual(cures["pin"], self._pin(self._served()))
        name = cures["upstream_server_name"]
        working: list[dict[str, Any]] = [
            {"verify": f"ca:{self.stage.ca}", "upstream_server_name": name},
            {"verify": cures["pin"], "upstream_server_name": WRONG},
            {"verify": "off", "upstream_server_name": WRONG},
        ]
        for settings in working:
            self.assertEqual(self._status(self._proxy(**settings)), 200, settings)

    def _cures(self, proxy: Proxy) -> dict[str, str]:
        """The lines that the log offers, by what they set."""
        proxy.says(r'^\s+upstream_verify = "off"')
        said = proxy.stderr
        found = {
            "upstream_server_name": r'^\s+upstream_server_name = "([^"]+)"',
            "ca": r'^\s+upstream_verify = "(ca:[^"]+)"',
            "pin": r'^\s+upstream_verify = "(pin:[^"]+)"',
        }
        cures = {}
        for name, pattern in found.items():
            if match := re.search(pattern, said, re.MULTILINE):
                cures[name] = match[1]
        return cures

    def test_off(self) -> None:
        stage = self.own_stage()
        stranger = trustme.CA()
        pair = stage.certificate(WRONG, issuer=stranger)
        options = ["--certificate", pair["certificate"], "--key", pair["private_key"]]
        origin = stage.origin(options=options)
        url = f"https://{LOOPBACK}:{origin.port}"
        for verify, status in (("off", 200), (f"ca:{stage.ca}", 502)):
            proxy = stage.proxy(stage.configuration(url, {"upstream_verify": verify}))
            self.assertEqual(self._status(proxy), status, verify)

    def test_off_is_the_default_on_loopback_only(self) -> None:
        stage = self.own_stage()
        document = stage.configuration(f"https://{LOOPBACK}:{self.origin.port}")
        stranger = stage.file("stranger.pem", trustme.CA().cert_pem.bytes())
        proxy = stage.proxy(document, environ={"SSL_CERT_FILE": str(stranger)})
        self.assertEqual(self._status(proxy), 200)

    def test_new_certificate_of_upstream(self) -> None:
        """authentik gets another certificate: connections made from then on are judged by it."""
        stage = self.own_stage()
        origin = stage.origin(HOST, port=free_port())
        proxy = stage.proxy(stage.configuration(origin.port))
        self.assertEqual(self._status(proxy), 200)
        origin.stop()
        pair = stage.certificate(WRONG)
        tls = ["--certificate", pair["certificate"], "--key", pair["private_key"]]
        stage.origin(port=origin.port, options=tls)
        self.assertEqual(self._status(proxy), 502)
        self.assertTrue(Path(pair["certificate"]).exists())
