"""`authproxy pin`: the line on stdout, what the certificate says on stderr."""

from __future__ import annotations

import contextlib
import io
import pathlib
import socket
import ssl
import threading
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from authproxy import config
from authproxy.certificates import Pair
from authproxy.commands import pin
from authproxy.upstream_tls import spki_pin

from ..handshakes import chain_pem, issue, key_pem

LOOPBACK = "127.0.0.1"
PATIENCE = 60.0


class PinTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = pathlib.Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def pin(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = pin.run(list(arguments), {})
        return status, out.getvalue(), err.getvalue()

    def serve(self, converse: Callable[[socket.socket], None], host: str = LOOPBACK) -> int:
        """A server for one connection, on this port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, 0), family=family)
        listener.settimeout(PATIENCE)

        def accept() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as sock:
                sock.settimeout(PATIENCE)
                converse(sock)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        self.addCleanup(thread.join, PATIENCE)
        self.addCleanup(listener.close)
        self.addCleanup(lambda: socket.create_connection(listener.getsockname()[:2]).close())
        port: int = listener.getsockname()[1]
        return port

    def tls(self, pair: Pair, host: str = LOOPBACK, **by_name: Pair) -> int:
        """A TLS server; `by_name` has certificates for those who ask for them, "_" for "."."""
        asked = self.asked = []  # type: list[str | None]

        def context(pair: Pair) -> ssl.SSLContext:
            chain, key = self.directory / "c.pem", self.directory / "k.pem"
            chain.write_bytes(chain_pem(pair.certificate, *pair.chain))
            key.write_bytes(key_pem(pair.key))
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            made.load_cert_chain(chain, key)
            return made

        first = context(pair)
        others = {name.replace("_", "."): context(each) for name, each in by_name.items()}

        def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            asked.append(name)
            tls.context = others.get(name or "", first)

        first.sni_callback = choose

        def converse(sock: socket.socket) -> None:
            with first.wrap_socket(sock, server_side=True) as secure:
                secure.recv(1)

        return self.serve(converse, host)

    def test_a_line_that_can_be_used(self) -> None:
        authority = issue(ca=True, common_name="Our CA")
        pair = issue("authentik.example", by=authority, common_name="the server")
        port = self.tls(pair)
        status, out, err = self.pin(f"{LOOPBACK}:{port}")
        self.assertEqual(status, 0)
        self.assertEqual(out, f'upstream_verify = "pin:{spki_pin(pair.certificate)}"\n')
        text = f'[[site]]\nupstream = "https://10.0.0.5:9443"\n{out}'
        self.assertEqual(config.loads(text, "f")[1], [])
        for words in ("subject  CN=the server", "issuer   CN=Our CA", "names    authentik.example",
                      f"until {pair.certificate.not_valid_after_utc:%Y-%m-%d} (29 days)"):  # fmt: skip
            self.assertIn(words, err)
        self.assertNotIn("warning", err)
        self.assertNotIn("note", err)
        self.assertEqual(self.asked, [None])  # no name: an address is none

    def test_by_name(self) -> None:
        """authentik chooses its certificate by SNI."""
        pair = issue("sso.example.com")
        fallback = issue("*", common_name=pin.FALLBACK)
        port = self.tls(fallback, sso_example_com=pair)
        status, out, err = self.pin(f"{LOOPBACK}:{port}", "--server-name", "SSO.example.com")
        self.assertEqual((status, self.asked), (0, ["sso.example.com"]))
        self.assertIn(spki_pin(pair.certificate), out)
        self.assertIn("note: it is self-signed.", err)
        self.assertNotIn("warning", err)

    def test_the_fallback(self) -> None:
        fallback = issue("*", common_name=pin.FALLBACK)
        for arguments in ((), ("--server-name", "sso.example.com")):
            status, out, err = self.pin(f"{LOOPBACK}:{self.tls(fallback)}", *arguments)
            self.assertEqual((status, len(out.splitlines())), (0, 1))
            self.assertIn("warning: this is authentik's fallback certificate", err)
            self.assertIn("--server-name", err)
            self.assertNotIn("note", err)

    def test_another_name(self) -> None:
        port = self.tls(issue("other.example"))
        _, _, err = self.pin(f"{LOOPBACK}:{port}", "--server-name=sso.example.com")
        self.assertIn("note: it is not for sso.example.com.", err)

    def test_url_and_host_name(self) -> None:
        pair = issue("localhost")
        for written in ("https://localhost:{}", "https://localhost:{}/", "localhost:{}"):
            status, out, _ = self.pin(written.format(self.tls(pair)))
            self.assertEqual((status, self.asked), (0, ["localhost"]), written)
            self.assertIn(spki_pin(pair.certificate), out)

    def test_ipv6(self) -> None:
        pair = issue("localhost")
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            return  # no IPv6 here: how it is written is tested below
        status, out, _ = self.pin(f"[::1]:{self.tls(pair, '::1')}")
        self.assertEqual((status, self.asked), (0, [None]))
        self.assertIn(spki_pin(pair.certificate), out)

    def test_how_servers_are_written(self) -> None:
        for given, expected in (
            ("10.0.0.5", "https://10.0.0.5:9443"),
            ("10.0.0.5:443", "https://10.0.0.5:443"),
            ("authentik", "https://authentik:9443"),
            ("[2001:db8::5]", "https://[2001:db8::5]:9443"),
            ("[2001:db8::5]:443", "https://[2001:db8::5]:443"),
            ("https://authentik", "https://authentik:443"),
            ("https://authentik:9443/", "https://authentik:9443"),
        ):
            self.assertEqual(str(pin._server(given)), expected)

    def test_wrong(self) -> None:
        for given, words in (
            ("http://10.0.0.5:9000", "has no TLS"),
            ("unix:/run/a.sock", "has no TLS"),
            ("https://a/b", "is no server"),
            ("2001:db8::5", "is no server"),
            ("a b", "is no server"),
            ("", "is no server"),
            ("a:99999", "is no server"),
            ("nowhere.invalid:9443", "no name that can be resolved"),
        ):
            status, out, err = self.pin(given)
            self.assertEqual((status, out), (1, ""), given)
            self.assertTrue(err.startswith("authproxy pin: "), err)
            self.assertIn(words, err)
            self.assertEqual(len(err.splitlines()), 1)
        status, _, err = self.pin("10.0.0.5", "--server-name=*.example.com")
        self.assertIn("--server-name: must be one name", err)

    def test_nobody_there(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as listener:
            port = listener.getsockname()[1]
        status, out, err = self.pin(f"{LOOPBACK}:{port}")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("nothing listens on https://127.0.0.1:", err)
        self.assertIn("AUTHENTIK_LISTEN__HTTPS", err)

    def test_no_tls(self) -> None:
        def plain(sock: socket.socket) -> None:
            sock.recv(1)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        status, _, err = self.pin(f"{LOOPBACK}:{self.serve(plain)}")
        self.assertEqual(status, 1)
        self.assertIn("does not speak TLS. authentik's port 9000 is plain HTTP", err)

    def test_cut(self) -> None:
        status, out, err = self.pin(f"{LOOPBACK}:{self.serve(lambda sock: None)}")
        self.assertEqual((status, out, len(err.splitlines())), (1, "", 1))

    def test_silence(self) -> None:
        self.patch(pin, "TIMEOUT", 0.1)
        status, _, err = self.pin(
            f"{LOOPBACK}:{self.serve(lambda sock: sock.recv(65536) and sock.recv(1) and None)}"
        )
        self.assertEqual(status, 1)
        self.assertIn("accepts connections, and says nothing then. Is it a TLS server?", err)

    def test_what_a_stranger_writes(self) -> None:
        pair = issue("a.example", common_name="x\x1b[31m\nupstream_verify = evil")
        _, out, err = self.pin(f"{LOOPBACK}:{self.tls(pair)}")
        self.assertEqual(len(out.splitlines()), 1)
        self.assertNotIn("\x1b", err)
        self.assertNotIn("\nupstream_verify", err)
