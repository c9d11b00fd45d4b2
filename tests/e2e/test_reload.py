"""A running proxy gets other settings and certificates: what changes, and what nobody notices."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from authproxy.control import ask

from .clients import HTTP2, Asked
from .processes import (
    COMMAND,
    HOST,
    LOOPBACK,
    PATIENCE,
    ROOT,
    Origin,
    Proxy,
    Stage,
    Staged,
    connect,
    free_port,
    read_exactly,
    read_head,
    request,
    response,
    toml,
    until,
)
from .test_websockets import UPGRADE
from .test_workers import workers_of

OTHER = "other.example.com"
PING = b"\x89\x82\0\0\0\0hi"  # of a WebSocket; the key of its mask is 0
PONG = b"\x8a\x02hi"


class Reloads(Staged, SynchronousTestCase):
    """With one process; see below for two."""

    workers = 1
    origin: Origin

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin(HOST)

    def setUp(self) -> None:
        super().setUp()
        self.stage = self.own_stage()
        self.document = self.stage.configuration(self.origin.port)
        self.document["workers"] = self.workers
        self.control = self.document["listen"]["control"]

    def start(self) -> Proxy:
        self.proxy = self.stage.proxy(self.document)
        self.config = Path(self.proxy.popen.args[-1])  # type: ignore[index]
        return self.proxy

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments, "--config", str(self.config), "--control", self.control],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip

    def reload(self, document: dict[str, Any] | None = None) -> None:
        """Let it go on with this, and expect that to go well."""
        self.config.write_text(toml(document or self.document))
        self.assertEqual(ask(self.control, "reload", PATIENCE), {"problem": ""}, str(self.proxy))

    def site(self, **settings: Any) -> dict[str, Any]:
        """The document with other settings of its site."""
        [site] = self.document["site"]
        return self.document | {"site": [site | settings]}

    def websocket(self) -> ssl.SSLSocket:
        sock = self.stage.connect(self.proxy)
        self.addCleanup(sock.close)
        sock.sendall(request("/ws/client/", *UPGRADE))
        self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 101 "))
        self.still_there(sock)
        return sock

    def still_there(self, websocket: ssl.SSLSocket) -> None:
        websocket.sendall(PING)
        came = b""
        while PONG not in came:  # the stand-in has something to say by itself
            came += read_exactly(websocket, 1)

    # What changes.

    def test_the_next_request_of_a_connection(self) -> None:
        """Also where it repeats the one before, which is then not parsed again."""
        proxy = self.start()
        with self.stage.connect(proxy) as sock:
            asked = request("/", "Accept: application/json", "X-Forwarded-For: 192.0.2.66")
            for trusted, seen in (([], LOOPBACK), ([LOOPBACK], "192.0.2.66"), ([], LOOPBACK)):
                self.reload(self.document | {"trust": {"proxies": trusted}})
                for _ in range(3):
                    sock.sendall(asked)
                    self.assertEqual(response(sock).seen("x-forwarded-for"), [seen])

    def test_the_next_request_of_an_http2_connection(self) -> None:
        proxy = self.start()
        client = HTTP2(self.stage.connect(proxy, protocols=("h2",)))
        self.addCleanup(client.close)
        fields = (("accept", "application/json"), ("x-forwarded-for", "192.0.2.66"))
        for trusted, seen in (([], b'"127.0.0.1"'), ([LOOPBACK], b'"192.0.2.66"')):
            self.reload(self.document | {"trust": {"proxies": trusted}})
            for _ in range(2):
                answer = client.ask(Asked(fields=fields))
                self.assertIn(seen, bytes(answer.content))

    def test_another_upstream(self) -> None:
        """What runs goes on with the old one."""
        proxy = self.start()
        other = self.stage.origin(HOST)
        websocket = self.websocket()
        with self.stage.connect(proxy) as slow, self.stage.connect(proxy) as sock:
            slow.sendall(request("/slow?seconds=3"))
            sock.sendall(request("/"))
            response(sock)
            self.reload(self.site(upstream=f"https://{LOOPBACK}:{other.port}"))
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 200)
            self.assertEqual(response(slow).status, 200)
        self.still_there(websocket)
        upstreams = [line.split()[-2] for line in until(lambda: self.lines(3), "access lines")]
        self.assertEqual(
            sorted(upstreams),
            sorted([f"https://{LOOPBACK}:{port}"
                    for port in (self.origin.port, self.origin.port, other.port)]),
        )  # fmt: skip

    def lines(self, count: int) -> list[str]:
        lines = self.proxy.stdout.splitlines()
        return lines if len(lines) >= count else []

    def test_another_site_and_its_certificate(self) -> None:
        proxy = self.start()
        [site] = self.document["site"]
        other = (
            site | {"hosts": [OTHER], "upstream_server_name": HOST} | self.stage.certificate(OTHER)
        )
        with self.stage.connect(proxy) as before:
            before.sendall(request("/", host=OTHER))
            self.assertEqual(response(before).status, 421)
            self.reload(self.document | {"site": [site, other]})
            before.sendall(request("/", host=OTHER))
            self.assertEqual(response(before).status, 200)
        with self.stage.connect(proxy, OTHER) as after:
            after.sendall(request("/", host=OTHER))
            self.assertEqual(response(after).status, 200)

    def test_limits(self) -> None:
        proxy = self.start()
        with self.stage.connect(proxy) as sock:
            sock.sendall(request("/", f"X-Long: {'a' * 4000}"))
            self.assertEqual(response(sock).status, 200)
            self.reload(self.document | {"limits": {"line_bytes": 2000}})
            sock.sendall(request("/", f"X-Long: {'a' * 4000}"))
            self.assertEqual(response(sock).status, 431)

    def test_listeners(self) -> None:
        """Those that are gone serve what they accepted; those that stay are the same sockets."""
        proxy = self.start()
        port = free_port()
        listen = self.document["listen"]
        websocket = self.websocket()
        with self.stage.connect(proxy) as old:
            old.sendall(request("/"))
            response(old)
            wanted = listen | {"https": [f"{LOOPBACK}:{port}"]}
            self.reload(self.document | {"listen": wanted})
            old.sendall(request("/"))
            self.assertEqual(response(old).status, 200)
            self.assertRaises(ConnectionRefusedError, connect, proxy.https)
            for _ in range(8):
                with self.stage.client_tls().wrap_socket(
                    connect(port), server_hostname=HOST
                ) as new:
                    new.sendall(request("/"))
                    self.assertEqual(response(new).status, 200)
        self.still_there(websocket)
        with connect(proxy.http) as plain:  # and redirects know the port
            plain.sendall(request("/"))
            location = response(plain).fields["location"]
            self.assertEqual(location, f"https://{HOST}:{port}/")
        self.reload()  # and back: the system chooses another
        self.assertRaises(ConnectionRefusedError, connect, port)

    def test_admin_listener(self) -> None:
        """It moves; where it cannot, nothing has changed."""
        proxy = self.start()
        listen = self.document["listen"]
        with socket.create_server((LOOPBACK, 0)) as taken:
            busy, port = taken.getsockname()[1], free_port()
            self.reload(self.document | {"listen": listen | {"admin": f"{LOOPBACK}:{port}"}})
            self.assertEqual(self.scrape(port), 200)
            wrong = listen | {"admin": f"{LOOPBACK}:{busy}", "http": []}
            self.config.write_text(toml(self.document | {"listen": wrong}))
            self.assertIn("in use", ask(self.control, "reload", PATIENCE)["problem"])
            self.assertEqual(self.scrape(port), 200)
            connect(proxy.http).close()
        self.reload()
        self.assertRaises(ConnectionRefusedError, self.scrape, port)

    def scrape(self, port: int) -> int:
        with connect(port) as sock:
            sock.sendall(request("/metrics", host=f"{LOOPBACK}:{port}"))
            return response(sock).status

    def test_access_log(self) -> None:
        proxy = self.start()
        path = self.stage.directory / "access.log"
        with self.stage.connect(proxy) as sock:
            for number, document in enumerate(
                (self.document, self.document | {"log": {"access": str(path), "format": "json"}})
            ):
                self.reload(document)
                sock.sendall(request(f"/?number={number}"))
                response(sock)
            until(lambda: path.exists() and "number=1" in path.read_text(), "the line")
            until(lambda: "number=0" in proxy.stdout, "the line before")
        self.assertNotIn("number=1", proxy.stdout)

    def test_the_level_of_the_log(self) -> None:
        """In every process: what a connection did wrong is said by whoever accepted it."""
        proxy = self.start()
        for level in ("error", "debug"):
            self.reload(self.document | {"log": {"level": level}})
            for _ in range(8):
                with socket.create_connection((LOOPBACK, proxy.https)) as client:
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    client.recv(1000)
            if level == "error":
                self.assertNotIn("plain HTTP on the TLS port", proxy.stderr)
                self.assertNotIn("Reloaded", proxy.stderr)
        proxy.says(" debug .*client: plain HTTP on the TLS port")

    def test_sighup(self) -> None:
        proxy = self.start()
        self.config.write_text(toml(self.site(hosts=[HOST, OTHER])))
        proxy.signal(signal.SIGHUP)
        proxy.says("Reloaded: new settings are in force")
        with self.stage.connect(proxy) as sock:
            sock.sendall(request("/", host=OTHER))
            self.assertEqual(response(sock).status, 200)

    # What is refused.

    def test_wrong_settings(self) -> None:
        proxy = self.start()
        websocket = self.websocket()
        with self.stage.connect(proxy) as sock, connect(proxy.http) as blocker:
            for text, reason in (
                ("[[site]", "this is not TOML"),
                (toml(self.site(upstreem="x")), "did you mean"),
                (toml(self.site(certificate="/nowhere.pem")), "there is no such file"),
                (toml(self.site(upstream_verify="ca:/nowhere.pem")), "there is no such file"),
                (
                    toml(self.document | {"listen": self.document["listen"]
                         | {"https": [f"{LOOPBACK}:{blocker.getsockname()[1]}"]}}),
                    "in use",
                ),
            ):  # fmt: skip
                self.config.write_text(text)
                done = self.command("reload")
                self.assertEqual(done.returncode, 1, reason)
                self.assertIn(reason.lower(), done.stderr.lower())
                sock.sendall(request("/"))
                self.assertEqual(response(sock).status, 200)
                proxy.says("The reload is refused, and the old settings stay")
            self.assertIn("refused: ", self.command("status").stdout)
        with self.stage.connect(proxy) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 200)
        self.still_there(websocket)
        self.config.write_text(toml(self.document))
        done = self.command("reload")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("in force", done.stdout)
        self.assertIn("in force", self.command("status").stdout)

    def test_nobody_to_ask(self) -> None:
        self.start()
        self.assertEqual(self.command("status").returncode, 0)
        self.proxy.signal(signal.SIGTERM)
        self.proxy.wait()
        done = self.command("reload")
        self.assertEqual(done.returncode, 1)
        self.assertIn("Is it running?", done.stderr)
        self.assertFalse(os.path.exists(self.control))

    def test_the_control_socket_is_its_owners(self) -> None:
        self.start()
        status = os.stat(self.control)
        self.assertEqual((status.st_mode & 0o777, status.st_uid), (0o600, os.geteuid()))

    # Under load.

    def test_no_request_fails_under_load(self) -> None:
        """Twenty reloads, each with another upstream, while 8 clients ask on and on."""
        proxy = self.start()
        other = self.stage.origin(HOST)
        websockets = [self.websocket() for _ in range(8)]
        stop = threading.Event()
        statuses: list[list[int]] = [[] for _ in range(8)]
        errors: list[BaseException] = []

        def client(number: int) -> None:
            try:
                while not stop.is_set():
                    with self.stage.connect(proxy) as sock:
                        for _ in range(20):
                            sock.sendall(request("/-/health/live/", f"X-Number: {number}"))
                            statuses[number].append(response(sock).status)
            except BaseException as e:  # to be raised in the test's own thread
                errors.append(e)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        try:
            for number in range(20):
                port = (self.origin, other)[number % 2].port
                self.reload(self.site(upstream=f"https://{LOOPBACK}:{port}"))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(errors, [])
        for seen in statuses:
            self.assertEqual(set(seen), {200})
        for websocket in websockets:
            self.still_there(websocket)

    # Certificates by themselves.

    def serial(self) -> int:
        with self.stage.connect(self.proxy) as sock:
            der = sock.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

    def test_renewed_certificates(self) -> None:
        """certbot's way: live/ has symlinks into archive/, replaced one after the other."""
        live = self.stage.directory / "live"
        live.mkdir()

        def renew(**pair: str) -> None:
            for name, target in pair.items():
                fresh = live / f"{name}.new"
                fresh.symlink_to(target)
                fresh.rename(live / f"{name}.pem")

        renew(**self.stage.certificate(HOST))
        self.document = self.site(
            certificate=str(live / "certificate.pem"), private_key=str(live / "private_key.pem")
        )
        proxy = self.start()
        websocket = self.websocket()
        first = self.serial()
        renew(private_key=self.stage.certificate(HOST)["private_key"])  # and not its chain
        proxy.says("cannot be used; the old ones stay")
        proxy.says("this key does not belong to the certificate")
        self.assertEqual(self.serial(), first)
        renew(**self.stage.certificate(HOST))
        until(lambda: self.serial() != first, "the new certificate")
        proxy.says("new connections get the new ones")
        self.still_there(websocket)
        with self.stage.connect(proxy) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 200)


class ReloadsOfWorkers(Reloads):
    """The same with two workers."""

    workers = 2

    def test_who_takes_the_place_of_a_dead_one(self) -> None:
        proxy = self.start()
        port = free_port()
        listen = self.document["listen"] | {"https": [f"{LOOPBACK}:{port}"]}
        self.reload(self.site(hosts=[OTHER], upstream_server_name=HOST) | {"listen": listen})
        before = workers_of(proxy)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        for number in (1, 2):
            proxy.says(rf"Worker {number} \(pid \d+\) serves")
        self.assertFalse(set(before) & set(workers_of(proxy)))
        context = self.stage.client_tls()
        context.check_hostname = False
        for _ in range(8):
            with context.wrap_socket(connect(port), server_hostname=HOST) as sock:
                sock.sendall(request("/", host=OTHER))
                self.assertEqual(response(sock).status, 200)
