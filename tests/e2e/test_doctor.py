"""`authproxy doctor` through a real proxy: one that is fine, and what is broken in the field."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import ssl
from typing import Any

from authproxy.commands import doctor
from authproxy.doctor import names

from .. import handshakes
from .processes import (
    COMMAND,
    HOST,
    LOOPBACK,
    PATIENCE,
    ROOT,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    free_port,
    read_all,
    read_head,
)

FRONT = (
    "name", "connect", "certificate", "tls", "redirect", "hsts", "live", "ready", "loop", "scheme",
    "host", "forged", "client", "websocket", "head", "http2",
)  # fmt: skip
BEHIND = ("upstream", "trust", "upstream ws")
DEFAULTS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fe80::/10,::1/128"


class Examination:
    """What doctor printed of one target with --json."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.status = status
        self.document = document
        [self.target] = document["targets"]
        self.checks = {check["name"]: check for check in self.target["checks"]}

    def named(self, status: str) -> set[str]:
        return {name for name, check in self.checks.items() if check["status"] == status}

    def cure(self, name: str) -> str:
        return "\n".join(self.checks[name]["cure"])

    def words(self, name: str) -> str:
        words: str = self.checks[name]["words"]
        return words


class DoctorTests(EndToEnd):
    """In this process, where HOST resolves; what it talks to are others."""

    def setUp(self) -> None:
        super().setUp()
        self.addresses = [LOOPBACK]
        self.patch(names, "resolve", lambda host, port, timeout: self.addresses)

    def run_doctor(self, *arguments: str) -> tuple[int, str]:
        """Exit status and stdout."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = doctor.run([f"--timeout={PATIENCE:g}", *arguments], {})
        return status, out.getvalue()

    def examine(self, stage: Stage, proxy: Proxy, *arguments: str) -> Examination:
        """The proxy, at its ports, trusting the stage's authority."""
        status, out = self.run_doctor(
            proxy.url, f"--ca={stage.ca}", f"--http-port={proxy.http}", "--json", *arguments
        )
        return Examination(status, json.loads(out))

    def assert_failed(self, seen: Examination, *failed: str) -> None:
        self.assertEqual(seen.named("failed"), set(failed), json.dumps(seen.document, indent=1))
        self.assertEqual(seen.status, 1 if failed else 0)
        self.assertEqual(seen.document["ok"], not failed)


class Fine(DoctorTests):
    proxy: Proxy

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        origin = stage.origin(HOST)
        cls.proxy = stage.proxy(stage.configuration(origin.port))

    @property
    def config(self) -> str:
        return f"--config={self.stage.directory / 'authproxy-0.toml'}"

    def test_all(self) -> None:
        seen = self.examine(self.stage, self.proxy, self.config)
        self.assert_failed(seen)
        self.assertEqual(seen.named("ok"), {*FRONT, *BEHIND}, json.dumps(seen.document, indent=1))

    def test_in_order(self) -> None:
        seen = self.examine(self.stage, self.proxy, self.config)
        self.assertEqual([check["name"] for check in seen.target["checks"]], [*FRONT, *BEHIND])

    def test_documented(self) -> None:
        """Every check has its row."""
        text = (ROOT / "docs" / "doctor.md").read_text()
        for name in (*FRONT, *BEHIND):
            self.assertRegex(text, rf"\n\| (`\w+`, )?`{name}`(, `\w+`)? \| ")

    def test_without_configuration(self) -> None:
        """A client's view, from any machine."""
        seen = self.examine(self.stage, self.proxy)
        self.assert_failed(seen)
        self.assertEqual(seen.named("ok"), set(FRONT))
        self.assertEqual(seen.named("skipped"), {"upstream"})

    def test_schema(self) -> None:
        """What scripts may rely on."""
        document = self.examine(self.stage, self.proxy).document
        self.assertEqual(set(document), {"authproxy", "ok", "targets"})
        for target in document["targets"]:
            self.assertEqual(set(target), {"url", "ok", "checks"})
            self.assertEqual(target["url"], f"{self.proxy.url}/")
            for check in target["checks"]:
                self.assertEqual(set(check), {"name", "status", "words", "cure"})
                self.assertIn(check["status"], ("ok", "warning", "failed", "skipped"))
                self.assertIsInstance(check["words"], str)
                for line in check["cure"]:
                    self.assertIsInstance(line, str)

    def test_text(self) -> None:
        """A line for each check, and nothing that a terminal of 100 columns would wrap."""
        status, out = self.run_doctor(
            self.proxy.url, f"--ca={self.stage.ca}", f"--http-port={self.proxy.http}"
        )
        lines = out.splitlines()
        self.assertEqual((status, lines[0]), (0, f"{self.proxy.url}/"))
        self.assertEqual(lines[-2], f"{len(FRONT)} ok, 1 skipped.")
        for name in FRONT:
            self.assertTrue(any(re.match(rf"ok +{name}  ", line) for line in lines), name)
        self.assertLessEqual(max(map(len, lines)), 100)

    def test_connect(self) -> None:
        """A name that leads elsewhere; --connect leads here."""
        self.addresses = ["192.0.2.1"]
        seen = self.examine(self.stage, self.proxy, f"--connect={LOOPBACK}:{self.proxy.https}")
        self.assert_failed(seen)
        self.assertIn("192.0.2.1; --connect goes to 127.0.0.1", seen.words("name"))

    def test_command(self) -> None:
        """As it is installed, in a process of its own. Nothing is resolved: the URL has an address."""
        url = f"https://{LOOPBACK}:{self.proxy.https}"
        options = ["--ca", str(self.stage.ca), f"--timeout={PATIENCE:g}"]
        process = self.stage.process([*COMMAND, "doctor", url, *options])
        self.assertEqual(process.wait(), 1, str(process))
        self.assertIn(f"not for {LOOPBACK}, but for {HOST}", process.stdout)
        self.assertNotIn("Traceback", process.stderr)


class Demo(DoctorTests):
    def test_demo(self) -> None:
        """The line that `authproxy demo` prints to try: nothing fails."""
        options = [f"--{name}=0" for name in ("https", "http", "upstream", "admin")]
        demo = self.own_stage().process([*COMMAND, "demo", *options])
        line = demo.says(r"^ +\S+ doctor (https\S+) --insecure --http-port (\d+)$", "stdout")
        status, out = self.run_doctor(line[1], "--insecure", f"--http-port={line[2]}")
        self.assertEqual(status, 0, out)
        self.assertIn(f"{len(FRONT) - 1} ok, 2 skipped.", out)
        self.assertIn("means nothing for localhost", out)


class Upstreams(DoctorTests):
    """What is wrong behind the proxy."""

    def test_untrusted(self) -> None:
        """1: authentik ignores what this proxy says."""
        stage = self.own_stage()
        origin = stage.origin(options=["--trusted", "10.0.0.0/8"])
        proxy = stage.proxy(stage.configuration(f"http://{LOOPBACK}:{origin.port}"))
        config = f"--config={stage.directory / 'authproxy-0.toml'}"
        seen = self.examine(stage, proxy, config)
        self.assert_failed(seen, "scheme", "trust")
        self.assertIn("authentik believes http", seen.words("scheme"))
        for name in ("scheme", "trust"):
            self.assertIn(f"AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS={DEFAULTS}\n", seen.cure(name))
            self.assertIn("127.0.0.1 is trusted by default", seen.cure(name))
        # Without the configuration nobody knows the address; the line says where it goes.
        seen = self.examine(stage, proxy)
        self.assert_failed(seen, "scheme")
        self.assertIn(f"{DEFAULTS},ADDRESS/32\n", seen.cure("scheme"))

    def test_untrusted_over_tls(self) -> None:
        """The scheme is right by luck, because 9443 is TLS too; every client is the proxy."""
        stage = self.own_stage()
        origin = stage.origin(HOST, options=["--trusted", "10.0.0.0/8"])
        proxy = stage.proxy(stage.configuration(origin.port))
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assert_failed(seen, "trust")
        self.assertEqual(seen.checks["scheme"]["status"], "ok")

    def test_down(self) -> None:
        """3: nothing listens at upstream."""
        stage = self.own_stage()
        port = free_port()
        proxy = stage.proxy(stage.configuration(f"http://{LOOPBACK}:{port}"))
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assert_failed(seen, "live", "ready", "upstream")
        self.assertIn("the proxy does not reach authentik", seen.words("ready"))
        asked = re.search(r"journalctl -u authproxy \| grep -F '(.*)' \| tail", seen.cure("ready"))
        assert asked is not None
        proxy.says(re.escape(asked[1]))
        self.assertIn("connection refused", seen.words("upstream"))
        self.assertIn("Nothing listens there", seen.cure("upstream"))
        self.assertEqual(
            seen.named("skipped"), {"loop", "scheme", "host", "forged", "client", "head"}
        )

    def test_starting(self) -> None:
        """That is no fault of anybody's, and goes by."""
        stage = self.own_stage()
        origin = stage.origin(HOST, options=["--starting=3600"])
        proxy = stage.proxy(stage.configuration(origin.port))
        seen = self.examine(stage, proxy)
        self.assert_failed(seen)
        self.assertIn("503 (authentik starting)", seen.words("ready"))
        self.assertEqual(seen.named("warning"), {"ready", "websocket"})

    def test_other_certificate(self) -> None:
        """12: the verification of 9443, with the cures that the proxy's log has too."""
        stage = self.own_stage()
        origin = stage.origin("other.example.com")
        proxy = stage.proxy(stage.configuration(origin.port))
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assertIn("upstream", seen.named("failed"))
        self.assertIn(f"it is not for {HOST}, but for other.example.com", seen.words("upstream"))
        self.assertIn('    upstream_server_name = "other.example.com"', seen.cure("upstream"))

    def test_not_tls(self) -> None:
        stage = self.own_stage()
        origin = stage.origin()
        proxy = stage.proxy(stage.configuration(origin.port))
        config = f"--config={stage.directory / 'authproxy-0.toml'}"
        seen = self.examine(stage, proxy, config, "--timeout=2")  # the stand-in waits for more
        self.assertIn("http:// with 9000", seen.cure("upstream"))

    def test_websockets_refused(self) -> None:
        """4: authentik's own 403 is not a lost Upgrade."""
        stage = self.own_stage()
        origin = stage.origin(HOST, options=["--refused=403"])
        proxy = stage.proxy(stage.configuration(origin.port))
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assert_failed(seen, "websocket")
        self.assertIn("authentik refuses the handshake", seen.words("websocket"))
        self.assertIn("grep /ws/client/", seen.cure("websocket"))
        self.assertIn("403 there too", seen.words("upstream ws"))

    def test_upgrade_dropped(self) -> None:
        """4: a proxy between authproxy and authentik that knows no WebSockets."""
        stage = self.own_stage()
        origin = stage.origin()

        def without_upgrade(sock: socket.socket) -> None:
            head = read_head(sock)
            head = re.sub(rb"(?im)^(upgrade|connection):.*\r\n", b"", head)
            head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            with socket.create_connection((LOOPBACK, origin.port), PATIENCE) as onward:
                onward.sendall(head)
                sock.sendall(read_all(onward))

        between = stage.scripted(without_upgrade)
        proxy = stage.proxy(stage.configuration(between.url))
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assert_failed(seen, "websocket")
        self.assertIn("is 426 instead of 101", seen.words("websocket"))
        self.assertIn("proxy_set_header Upgrade $http_upgrade;", seen.cure("websocket"))
        self.assertIn("without the proxy", seen.words("upstream ws"))

    def test_silent(self) -> None:
        """Every check ends by its deadline, and all of them together not long after."""
        stage = self.own_stage()

        def silent(sock: socket.socket) -> None:
            read_all(sock)

        origin = stage.scripted(silent)
        proxy = stage.proxy(stage.configuration(origin.url))
        seen = self.examine(
            stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}", "--timeout=2"
        )
        self.assertEqual(seen.status, 1)
        self.assertIn("no answer in time", seen.words("ready"))
        self.assertIn("no answer in time", seen.words("upstream"))
        self.assertEqual(set(seen.checks) - {*FRONT, *BEHIND}, set())


class Certificates(DoctorTests):
    """2: what browsers will not have. The other checks go on."""

    origin: Origin

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin(HOST)

    def issued(self, stage: Stage, pair: Any, *chain: Any) -> dict[str, str]:
        certificate = stage.file("c.pem", handshakes.chain_pem(pair.certificate, *chain))
        key = stage.file("k.pem", handshakes.key_pem(pair.key))
        return {"certificate": str(certificate), "private_key": str(key)}

    def seen_with(self, pair: Any, *arguments: str, chain: bool = True) -> Examination:
        stage = self.own_stage()
        site = self.issued(stage, pair, *(pair.chain if chain else ()))
        proxy = stage.proxy(stage.configuration(self.origin.port, site))
        if self.authority is not None:
            ca = stage.file("own.pem", handshakes.chain_pem(self.authority.certificate))
            arguments = (*arguments, f"--ca={ca}")
        return self.examine(stage, proxy, *arguments)

    def setUp(self) -> None:
        super().setUp()
        self.authority: Any = handshakes.issue(ca=True, common_name="root")

    def test_self_signed(self) -> None:
        self.authority = None
        seen = self.seen_with(handshakes.issue(HOST))
        self.assert_failed(seen, "certificate")
        self.assertIn("it is self-signed", seen.words("certificate"))
        self.assertIn(
            f'certificate = "/etc/letsencrypt/live/{HOST}/fullchain.pem"', seen.cure("certificate")
        )

    def test_insecure(self) -> None:
        stage = self.own_stage()
        proxy = stage.proxy(
            stage.configuration(self.origin.port, self.issued(stage, handshakes.issue(HOST)))
        )
        status, out = self.run_doctor(proxy.url, "--insecure", "--json")
        seen = Examination(status, json.loads(out))
        self.assert_failed(seen)
        self.assertIn("not verified: --insecure", seen.words("certificate"))
        self.assertEqual(seen.named("skipped"), {"redirect", "upstream"})
        self.assertIn("--http-port PORT", seen.words("redirect"))

    def test_expired(self) -> None:
        """Also where nobody asks who issued it."""
        pair = handshakes.issue(HOST, by=self.authority, days=(-90, -3))
        seen = self.seen_with(pair)
        self.assert_failed(seen, "certificate")
        self.assertRegex(seen.words("certificate"), r"^expired on \d{4}-\d\d-\d\d, [23] days ago$")
        self.assertIn("    certbot renew", seen.cure("certificate"))

    def test_almost_expired(self) -> None:
        """90 days that have 9 left: certbot renews at 30."""
        seen = self.seen_with(handshakes.issue(HOST, by=self.authority, days=(-81, 9)))
        self.assert_failed(seen)
        self.assertEqual(seen.named("warning"), {"certificate"})

    def test_short_lived(self) -> None:
        """Six days that have three left are as they should be."""
        seen = self.seen_with(handshakes.issue(HOST, by=self.authority, days=(-3, 3)))
        self.assert_failed(seen)
        self.assertEqual(seen.named("warning"), set())

    def test_wrong_name(self) -> None:
        seen = self.seen_with(handshakes.issue("other.example.com", by=self.authority))
        self.assert_failed(seen, "certificate")
        self.assertIn(f"not for {HOST}, but for other.example.com", seen.words("certificate"))

    def test_chain_missing(self) -> None:
        """cert.pem instead of fullchain.pem."""
        between = handshakes.issue(by=self.authority, ca=True, common_name="between")
        pair = handshakes.issue(HOST, by=between)
        seen = self.seen_with(pair, chain=False)
        self.assert_failed(seen, "certificate")
        self.assertIn("fullchain.pem, not cert.pem", seen.cure("certificate"))
        self.assert_failed(self.seen_with(pair))


class Fronts(DoctorTests):
    """What is wrong with the proxy's own settings, or in front of it."""

    origin: Origin

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin(HOST)

    def test_nothing_listens(self) -> None:
        """7: one failure, not ten."""
        stage = self.own_stage()
        port = free_port()
        status, out = self.run_doctor(f"https://{HOST}:{port}/", "--json")
        seen = Examination(status, json.loads(out))
        self.assert_failed(seen, "connect")
        self.assertIn(f"127.0.0.1 port {port}: connection refused", seen.words("connect"))
        self.assertIn("systemctl start authproxy", seen.cure("connect"))
        self.assertEqual(seen.named("skipped"), {*FRONT[2:], "upstream"})
        stage.close()

    def test_text_of_much(self) -> None:
        """What is skipped for one reason is one line, and a cure is printed once."""
        stage = self.own_stage()
        port = free_port()
        status, out = self.run_doctor(f"https://{HOST}:{port}/")
        text = " ".join(out.split())
        self.assertEqual(status, 1)
        self.assertIn(f"skipped {', '.join(FRONT[2:])}: no connection", text)
        self.assertIn(f"1 ok, 1 failed, {len(FRONT) - 1} skipped.", text)
        proxy = stage.proxy(stage.configuration(f"http://{LOOPBACK}:{port}"))
        status, out = self.run_doctor(proxy.url, f"--ca={stage.ca}")
        self.assertEqual(out.count("journalctl"), 1)
        self.assertIn("The cure is the same as that of live.", out)

    def test_proxy_header_wanted(self) -> None:
        """A balancer's listener is not spoken to without its header."""
        stage = self.own_stage()
        listen = {"proxy_protocol_from": ["127.0.0.0/8"]}
        proxy = stage.proxy(stage.configuration(self.origin.port, listen=listen))
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assert_failed(seen, "certificate", "redirect")
        self.assertIn("must begin with a PROXY header", seen.cure("certificate"))

    def test_name_refused(self) -> None:
        """unknown_sni = "refuse": the name is in no site."""
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port, tls={"unknown_sni": "refuse"}))
        url = f"https://other.example.com:{proxy.https}/"
        status, out = self.run_doctor(url, f"--ca={stage.ca}", "--json")
        seen = Examination(status, json.loads(out))
        self.assert_failed(seen, "certificate")
        self.assertIn("add other.example.com to hosts in [[site]]", seen.cure("certificate"))

    def test_no_such_name(self) -> None:
        def fails(host: str, port: int, timeout: float) -> list[str]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        self.patch(names, "resolve", fails)
        status, out = self.run_doctor(f"https://{HOST}/", "--json")
        seen = Examination(status, json.loads(out))
        self.assert_failed(seen, "name")
        self.assertEqual(seen.named("skipped"), {*FRONT[1:], "upstream"})

    def test_one_address_is_dead(self) -> None:
        """An AAAA record that leads nowhere makes clients wait."""
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port))
        self.addresses = ["127.0.0.2", LOOPBACK]  # the proxy listens on the second alone
        seen = self.examine(stage, proxy)
        self.assert_failed(seen)
        self.assertIn("127.0.0.2 port", seen.words("connect"))
        self.assertEqual(seen.named("warning"), {"connect"})

    def test_small_limits(self) -> None:
        """5: [limits] below what authentik needs."""
        stage = self.own_stage()
        limits = {"line_bytes": 8192}
        proxy = stage.proxy(stage.configuration(self.origin.port, limits=limits))
        config = stage.directory / "authproxy-0.toml"
        seen = self.examine(stage, proxy, f"--config={config}")
        self.assert_failed(seen, "head")
        self.assertIn("refused with 431", seen.words("head"))
        self.assertIn("    line_bytes = 32768    # is 8192", seen.cure("head"))
        self.assertNotIn("head_bytes =", seen.cure("head"))
        self.assertIn(str(config), seen.cure("head"))

    def test_no_redirect(self) -> None:
        """6: plain HTTP is served."""
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port, listen={"plain_http": "serve"}))
        config = f"--config={stage.directory / 'authproxy-0.toml'}"
        seen = self.examine(stage, proxy, config)
        self.assert_failed(seen, "redirect")
        self.assertIn('    plain_http = "redirect"', seen.cure("redirect"))
        seen = self.examine(stage, proxy)
        self.assertIn('    plain_http = "redirect"', seen.cure("redirect"))

    def test_nothing_on_the_plain_port(self) -> None:
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port, listen={"http": []}))
        port = free_port()
        proxy.http = port
        seen = self.examine(stage, proxy)
        self.assert_failed(seen)
        self.assertIn(f'    http = ["[::]:{port}"]', seen.cure("redirect"))

    def test_redirect_to_another_port(self) -> None:
        """Complaint 6: the public port is lost."""
        stage = self.own_stage()
        proxy = stage.proxy(
            stage.configuration(self.origin.port, listen={"public_https_port": 8443})
        )
        seen = self.examine(stage, proxy)
        self.assert_failed(seen, "redirect")
        self.assertIn(f"    public_https_port = {proxy.https}", seen.cure("redirect"))

    def test_redirect_loop(self) -> None:
        """6 and complaint 7: a TLS terminator in front, which hands over plain HTTP."""
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port))
        front = Terminator(stage, proxy.http)
        self.addCleanup(front.close)
        status, out = self.run_doctor(f"https://{HOST}:{front.port}/", f"--ca={stage.ca}", "--json")
        seen = Examination(status, json.loads(out))
        self.assertEqual(status, 1)
        self.assertIn("loop", seen.named("failed"))

    def test_front_drops_upgrades(self) -> None:
        """4: it is the proxy in front this time; authentik and authproxy are fine."""
        stage = self.own_stage()
        trust = {"proxies": ["127.0.0.0/8"]}
        proxy = stage.proxy(stage.configuration(self.origin.port, trust=trust))
        front = Terminator(stage, proxy.http, b"X-Forwarded-Proto: https\r\n")
        self.addCleanup(front.close)
        status, out = self.run_doctor(
            f"https://{HOST}:{front.port}/", f"--ca={stage.ca}", "--json",
            f"--config={stage.directory / 'authproxy-0.toml'}",
        )  # fmt: skip
        seen = Examination(status, json.loads(out))
        self.assert_failed(seen, "websocket")
        self.assertIn("proxy_set_header Upgrade $http_upgrade;", seen.cure("websocket"))
        self.assertEqual(seen.checks["upstream ws"]["status"], "ok")

    def test_forgeries_pass(self) -> None:
        """Complaint 13: clients are in trust.proxies, as far as authproxy can see."""
        stage = self.own_stage()
        trust = {"proxies": ["127.0.0.0/8"]}
        proxy = stage.proxy(stage.configuration(self.origin.port, trust=trust))
        seen = self.examine(stage, proxy)
        self.assert_failed(seen, "forged")
        self.assertEqual(
            seen.words("forged"),
            "believed, though a client made it up:"
            " X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host",
        )
        self.assertIn("trust.proxies", seen.cure("forged"))
        # Who has the configuration knows that this machine is meant.
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assert_failed(seen)
        self.assertEqual(seen.checks["forged"]["status"], "skipped")

    def test_http2_off(self) -> None:
        """8: slower, not broken."""
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port, listen={"http2": False}))
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assert_failed(seen)
        self.assertEqual(seen.named("warning"), {"http2"})
        self.assertIn("    http2 = true", seen.cure("http2"))

    def test_no_hsts(self) -> None:
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port, {"hsts": 0}))
        seen = self.examine(stage, proxy, f"--config={stage.directory / 'authproxy-0.toml'}")
        self.assert_failed(seen)
        self.assertEqual(seen.named("warning"), {"hsts"})
        self.assertIn("    hsts = 63072000", seen.cure("hsts"))

    def test_tls_1_2(self) -> None:
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port))
        front = Terminator(stage, proxy.http, newest=ssl.TLSVersion.TLSv1_2)
        self.addCleanup(front.close)
        _, out = self.run_doctor(f"https://{HOST}:{front.port}/", f"--ca={stage.ca}", "--json")
        self.assertIn("tls", Examination(1, json.loads(out)).named("warning"))

    def test_plain_http_where_tls_should_be(self) -> None:
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(self.origin.port))
        status, out = self.run_doctor(f"https://{HOST}:{proxy.http}/", "--json")
        seen = Examination(status, json.loads(out))
        self.assert_failed(seen, "certificate")
        self.assertIn("speaks no TLS", seen.cure("certificate"))

    def test_unknown_host(self) -> None:
        """No site has the name."""
        stage = self.own_stage()
        pair = stage.certificate(HOST, "other.example.com")
        proxy = stage.proxy(stage.configuration(self.origin.port, pair))
        status, out = self.run_doctor(
            f"https://other.example.com:{proxy.https}/", f"--ca={stage.ca}", "--json"
        )
        seen = Examination(status, json.loads(out))
        self.assertEqual(status, 1)
        self.assertIn("Add it to hosts in [[site]]", seen.cure("live"))

    def test_client_by_the_access_log(self) -> None:
        """With authentik, which does not tell the address; here it tells nothing at all."""
        stage = self.own_stage()

        def empty(sock: socket.socket) -> None:
            read_head(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        origin = stage.scripted(empty)
        for form in ("combined", "json"):
            log = {"access": str(stage.directory / f"{form}.log"), "format": form}
            proxy = stage.proxy(stage.configuration(origin.url, log=log))
            config = f"--config={stage.directory / f'authproxy-{len(stage.proxies) - 1}.toml'}"
            seen = self.examine(stage, proxy, config)
            self.assertIn("the access log has 127.0.0.1", seen.words("client"))
            self.assertEqual(seen.checks["client"]["status"], "ok")
            # Without it, doctor says where people find it, and claims nothing.
            seen = self.examine(stage, proxy)
            self.assertEqual(seen.checks["client"]["status"], "skipped")
            self.assertIn("Events > Logs", seen.cure("client"))
            self.assertIn("what answers is not authentik", seen.words("scheme"))


class Terminator:
    """A TLS terminator: one request a connection, no WebSockets, plain HTTP to what is behind."""

    def __init__(
        self,
        stage: Stage,
        behind: int,
        field: bytes = b"",
        newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
    ) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.maximum_version = newest
        pair = stage.certificate(HOST)
        tls.load_cert_chain(pair["certificate"], pair["private_key"])

        def serve(sock: socket.socket) -> None:
            with contextlib.suppress(OSError, AssertionError):
                secure = tls.wrap_socket(sock, server_side=True)
                head = read_head(secure)
                head = re.sub(rb"(?im)^(upgrade|connection):.*\r\n", b"", head)
                head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n" + field + b"\r\n")
                with socket.create_connection((LOOPBACK, behind), PATIENCE) as onward:
                    onward.sendall(head)
                    secure.sendall(read_all(onward))
                secure.unwrap()

        self._origin = stage.scripted(serve)
        self.port = int(self._origin.url.rpartition(":")[2])
        self.close = self._origin.close
