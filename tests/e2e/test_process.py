"""authproxy as a process: how it starts, what it says, how it stops, what it does when it is full."""

from __future__ import annotations

import os
import re
import resource
import shlex
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SkipTest

from .processes import (
    COMMAND,
    FOREGROUND,
    HOST,
    LOOPBACK,
    PATIENCE,
    ROOT,
    TWISTD,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    connect,
    read_all,
    read_head,
    request,
    response,
    until,
)
from .test_websockets import UPGRADE, switching

LONG_DRAIN = {"drain": 600.0}  # longer than any test: nothing ends because of it
UNPRIVILEGED = 8443  # instead of 443
LISTED = "127.0.0.2"  # loopback has many addresses (Linux): this one plays the load balancer
V2 = b"\r\n\r\n\0\r\nQUIT\n"
# What systemd does: the socket as descriptor 3, and our own pid in the environment.
ACTIVATE = """
import os, sys
passed = [int(number) for number in sys.argv[1].split(",")]
for target, descriptor in enumerate(passed, 3):
    os.dup2(descriptor, target)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)))
os.execv(sys.argv[2], sys.argv[2:])
"""
# What Python imports before anything else: the first import of twisted says so, and lasts.
SLOW_IMPORT = """
import sys, time

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "twisted":
            print("imported", flush=True)
            time.sleep(600)

sys.meta_path.insert(0, Finder())
"""
if sys.platform != "linux":
    skip = "/proc, prlimit and loopback's many addresses are Linux's"


class Starts(EndToEnd):
    """The first start, and the ones that fail."""

    def test_without_any_configuration(self) -> None:
        """An ordinary user, nothing configured: it listens where it may, with a certificate of its
        own, and says all of it."""
        if os.path.exists("/etc/authproxy"):
            raise SkipTest("this machine has a configuration")
        stage = self.own_stage()
        environ = {"XDG_STATE_HOME": str(stage.directory / "state")}
        proxy = stage.run([*_ordinary(), *TWISTD, *FOREGROUND, "authproxy"], environ=environ)
        until(lambda: proxy.popen.poll() is not None or "any host ->" in proxy.stderr, "a start")
        if "already in use" in proxy.stderr:
            raise SkipTest("something on this machine uses the default ports")
        proxy.ready()
        self.assertIn((proxy.https, proxy.http), [(8443, 8080), (443, 80)])
        if proxy.https == UNPRIVILEGED:
            self.assertIn("Port 443 may not be bound by this user", proxy.stderr)
        self.assertIn("any host -> https://127.0.0.1:9443", proxy.stderr)
        state = stage.directory / "state" / "authproxy"
        self.assertIn(f"self-signed one in {state}", proxy.stderr)
        with connect(proxy.http) as sock:
            sock.sendall(request("/a"))
            answer = response(sock)
        shown = f":{proxy.https}" if proxy.https == UNPRIVILEGED else ""
        self.assertEqual(answer.status, 301)
        self.assertEqual(answer.fields["location"], f"https://{HOST}{shown}/a")
        self._private(state)

    def _private(self, directory: Path) -> dict[str, bytes]:
        """The files of the state directory by name; nobody else may look into it or read a key."""
        self.assertEqual(stat.S_IMODE(directory.stat().st_mode), 0o700)
        for key in directory.glob("*.key"):
            self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        return {path.name: path.read_bytes() for path in directory.iterdir()}

    def test_self_signed_certificate_is_kept(self) -> None:
        stage = self.own_stage()
        document = stage.configuration(f"http://{LOOPBACK}:1")
        document["site"] = [{"hosts": [HOST], "upstream": f"http://{LOOPBACK}:1"}]
        state = stage.directory / "state"
        shown, kept = [], []
        for verb in ("made", "uses"):
            proxy = stage.proxy(document, environ={"STATE_DIRECTORY": str(state)})
            proxy.says(f"authproxy {verb} a self-signed one in {state}")
            shown.append(ssl.get_server_certificate((LOOPBACK, proxy.https)))
            kept.append(self._private(state))
            proxy.popen.terminate()
            self.assertIn(proxy.wait(), _TERMINATED)
        self.assertEqual(shown[0], shown[1])
        self.assertEqual(kept[0], kept[1])
        self.assertEqual(len(kept[0]), 2)

    def test_self_signed_certificate_sends_no_hsts(self) -> None:
        """It would lock browsers out for two years."""
        stage = self.own_stage()
        document = stage.configuration(f"http://{LOOPBACK}:1")
        document["site"] = [{"hosts": [HOST], "upstream": f"http://{LOOPBACK}:1"}]
        proxy = stage.proxy(document, environ={"STATE_DIRECTORY": str(stage.directory / "state")})
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with connect(proxy.https) as raw, context.wrap_socket(raw, server_hostname=HOST) as sock:
            sock.sendall(request())
            self.assertNotIn("strict-transport-security", response(sock).fields)

    def test_port_in_use(self) -> None:
        stage = self.own_stage()
        with socket.create_server((LOOPBACK, 0)) as holder:
            taken = f"{LOOPBACK}:{holder.getsockname()[1]}"
            document = stage.configuration(f"http://{LOOPBACK}:1", listen={"https": [taken]})
            proxy = stage.starting_proxy(document)
            self.assertNotIn(proxy.wait(), (0, None))
        [line] = [line for line in proxy.stderr.splitlines() if "already in use" in line]
        self.assertIn(f" error this machine: {taken} is already in use by ", line)
        self.assertIn(f"(pid {os.getpid()})", line)
        self.assertNotIn("Traceback", proxy.stderr + proxy.stdout)

    def test_a_directory_that_may_not_be_entered(self) -> None:
        """As after su from root's home."""
        stage = self.own_stage()
        closed = stage.directory / "closed"
        closed.mkdir(mode=0o700)
        config = stage.config(stage.configuration(f"http://{LOOPBACK}:1"))
        code = (
            "import os, sys; from authproxy.commands import main;"
            " os.chdir(sys.argv.pop(1)); os.chmod('.', 0); sys.exit(main())"
        )
        command = [*_ordinary(), sys.executable, "-c", code, str(closed), "run"]
        stage.run([*command, "--config", str(config)]).ready()

    def test_port_that_may_not_be_bound(self) -> None:
        """One that was written down is not replaced by another."""
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1:
            raise SkipTest("everybody may bind every port here")
        stage = self.own_stage()
        document = stage.configuration(f"http://{LOOPBACK}:1", listen={"http": [f"{LOOPBACK}:1"]})
        proxy = stage.starting_proxy(document, before=_ordinary())
        self.assertEqual(proxy.wait(), 1)
        self.assertIn(f"this machine: {LOOPBACK}:1: permission denied", proxy.stderr)
        self.assertNotIn("Traceback", proxy.stderr)

    def test_every_problem_at_once(self) -> None:
        stage = self.own_stage()
        config = stage.file(
            "wrong.toml",
            """
            [listen]
            htps = ["[::]:443"]
            http = "0.0.0.0:80"
            [timeouts]
            head = "15s"
            [tls]
            minimum_version = "1.1"
            [[site]]
            hosts = ["https://sso.example.com/"]
            upstream = "10.0.0.5:9443"
            certificate = "/nowhere/chain.pem"
            private_key = "/nowhere/key.pem"
        """,
        )
        proxy = stage.twistd("--config", str(config))
        self.assertEqual(proxy.wait(), 1)
        said = proxy.stderr + proxy.stdout
        for key in ("listen.htps", "listen.http", "timeouts.head", "tls.minimum_version",
                    "site[1].hosts[1]", "site[1].upstream", "site[1].certificate"):  # fmt: skip
            self.assertRegex(said, f"(?m)^.*{re.escape(str(config))}: {re.escape(key)}(\\[1\\])?: ")
        self.assertIn("Did you mean https?", said)
        self.assertNotIn("Traceback", said)

        check = stage.process([*COMMAND, "check", "--config", str(config)])
        self.assertEqual(check.wait(), 1)
        for line in check.stderr.splitlines()[:-1]:
            self.assertIn(line, said)

    def test_no_such_configuration(self) -> None:
        stage = self.own_stage()
        proxy = stage.twistd("--config", "/nowhere/authproxy.toml")
        self.assertEqual(proxy.wait(), 1)
        self.assertIn("/nowhere/authproxy.toml: there is no such file", proxy.stderr + proxy.stdout)
        self.assertNotIn("Traceback", proxy.stderr + proxy.stdout)

    def test_options_of_the_command_line(self) -> None:
        stage = self.own_stage()
        origin = stage.origin()
        pair = stage.certificate(HOST)
        log = stage.directory / "access.log"
        proxy = stage.twistd(
            "--upstream", f"http://{LOOPBACK}:{origin.port}", "--host", HOST,
            "--certificate", pair["certificate"], "--private-key", pair["private_key"],
            "--http", f"{LOOPBACK}:0", "--https", f"{LOOPBACK}:0", "--access-log", str(log),
        ).ready()  # fmt: skip
        with stage.connect(proxy) as sock:
            sock.sendall(request("/by-option"))
            self.assertEqual(response(sock).status, 200)
        until(lambda: "/by-option" in log.read_text(), "the access line")

    def test_daemon(self) -> None:
        """Without --nodaemon twistd leaves the terminal, once it listens; and SIGTERM ends it."""
        stage = self.own_stage()
        origin = stage.origin()
        pidfile, log = stage.directory / "pid", stage.directory / "twistd.log"
        document = stage.configuration(
            f"http://{LOOPBACK}:{origin.port}", log={"access": str(stage.directory / "access.log")}
        )
        parent = stage.starting_proxy(
            document, twistd=["--pidfile", str(pidfile), "--logfile", str(log)]
        )
        self.assertEqual(parent.wait(), 0)
        pid = int(pidfile.read_text())
        self.addCleanup(_kill, pid)
        found = until(
            lambda: re.search(r"Listening for http on \S+:(\d+)\.", log.read_text()), "its port"
        )
        with connect(int(found[1])) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 301)
        os.kill(pid, signal.SIGTERM)
        until(lambda: not pidfile.exists(), "the end of the daemon")


class Commands(EndToEnd):
    """The `authproxy` command."""

    def test_run(self) -> None:
        stage = self.own_stage()
        origin = stage.origin(HOST)
        config = stage.config(stage.configuration(origin.port))
        proxy = stage.run([*COMMAND, "run", "--config", str(config)]).ready()
        with stage.connect(proxy) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 200)
        proxy.popen.terminate()
        self.assertIn(proxy.wait(), _TERMINATED)

    def test_demo(self) -> None:
        """What script/demo starts: it prints where to look, and a page is there."""
        stage = self.own_stage()
        options = ["--https=0", "--http=0", "--upstream=0", "--admin=0"]
        demo = stage.process([*COMMAND, "demo", *options])
        port = int(demo.says(r"^ +https://localhost:(\d+)/ ", "stdout")[1])
        plain = int(demo.says(r"^ +http://localhost:(\d+)/ ", "stdout")[1])
        demo.says(rf"curl -k https://localhost:{port}/ -H 'Accept: application/json'", "stdout")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host = f"localhost:{port}"
        with connect(port) as raw, context.wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(request("/", "Accept: text/html", host=host))
            page = response(sock)
            self.assertEqual(page.status, 200)
            self.assertIn(f"https://{host}/", page.content.decode())
            sock.sendall(request("/ws/client/", *UPGRADE, host=host))
            self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 101 "))
        with connect(plain) as sock:
            sock.sendall(request("/", host=f"localhost:{plain}"))
            self.assertEqual(response(sock).fields["location"], f"https://{host}/")
        admin = int(demo.says(r"^ +http://localhost:(\d+)/ +the status page", "stdout")[1])
        with connect(admin) as sock:
            sock.sendall(request("/readyz", host=f"localhost:{admin}"))
            self.assertEqual(response(sock).content, b"ready\n")
        demo.popen.terminate()
        self.assertIn(demo.wait(), _TERMINATED)
        self.assertNotIn("Traceback", demo.stderr)

    def test_commands_of_the_demo(self) -> None:
        """What it prints to try does what the words beside it say."""
        stage = self.own_stage()
        options = [f"--{name}=0" for name in ("https", "http", "upstream", "admin")]
        demo = stage.process([*COMMAND, "demo", *options])
        demo.says("Ctrl-C stops both", "stdout")
        curls = re.findall(r"^ +(curl .*?)(?: +#.*)?$", demo.stdout, re.MULTILINE)
        answers = [
            subprocess.run(
                shlex.split(curl),
                check=True,
                capture_output=True,
                text=True,
                env={"HOME": "/nowhere"},
            ).stdout
            for curl in curls
        ]
        self.assertEqual(len(answers), 5)
        self.assertIn(f'"client": "{LOOPBACK}"', answers[0])
        self.assertNotIn("192.0.2.66", answers[1])
        self.assertIn("301", answers[2].splitlines()[0])
        self.assertIn("200", answers[3].splitlines()[0])
        self.assertIn("400", answers[4].splitlines()[0])

    def test_interrupt_of_the_demo(self) -> None:
        stage = self.own_stage()
        options = [f"--{name}=0" for name in ("https", "http", "upstream", "admin")]
        demo = stage.process([*COMMAND, "demo", *options], environ={"TMPDIR": str(stage.directory)})
        demo.says("Ctrl-C stops both", "stdout")
        demo.signal(signal.SIGINT)
        self.assertEqual(demo.wait(), 0)
        self.assertNotIn("Traceback", demo.stderr)
        self.assertEqual(list(stage.directory.glob("authproxy-demo-*")), [])

    def test_demo_when_its_ports_are_taken(self) -> None:
        """It takes free ones."""
        stage = self.own_stage()
        with socket.create_server((LOOPBACK, 0)) as holder:
            taken = holder.getsockname()[1]
            options = [f"--https={taken}", "--http=0", "--upstream=0", "--admin=0"]
            demo = stage.process([*COMMAND, "demo", *options])
            self.assertNotEqual(int(demo.says(r"^ +https://localhost:(\d+)/ ", "stdout")[1]), taken)

    def test_check(self) -> None:
        stage = self.own_stage()
        config = stage.config(stage.configuration(f"http://{LOOPBACK}:1"))
        check = stage.process([*COMMAND, "check", "--config", str(config)])
        self.assertEqual(check.wait(), 0, check.stderr)
        self.assertIn("no problem found", check.stdout)


class Stops(EndToEnd):
    """SIGTERM, SIGTERM again, SIGHUP."""

    def test_running_request_finishes(self) -> None:
        asked, answer = threading.Event(), threading.Event()

        def upstream(sock: socket.socket) -> None:
            read_head(sock)
            asked.set()
            answer.wait(PATIENCE)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

        origin = self.scripted(upstream)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(origin.url, timeouts=LONG_DRAIN))
        with stage.connect(proxy) as running, stage.connect(proxy) as idle:
            running.sendall(request("/slow"))
            asked.wait(PATIENCE)
            proxy.signal(signal.SIGTERM)
            proxy.says("Draining: 1 requests and 0 WebSockets are open")
            self.assertEqual(read_all(idle), b"")
            for port in (proxy.https, proxy.http):
                with self.assertRaises(ConnectionRefusedError):
                    connect(port)
            self.assertIsNone(proxy.popen.poll())
            answer.set()
            done = response(running)
            self.assertEqual((done.status, done.content), (200, b"slow"))
            self.assertEqual(done.fields["connection"], "close")
            self.assertEqual(read_all(running), b"")
        self.assertIn(proxy.wait(), _TERMINATED)
        self.assertNotIn("Not drained in time", proxy.stderr)
        self.assertIn('"GET /slow HTTP/1.1" 200 4 ', proxy.stdout)

    def test_websockets_are_closed(self) -> None:
        """Their idle limit is an hour, and the drain's is long here: they are closed on purpose."""

        def upstream(sock: socket.socket) -> None:
            sock.sendall(switching(read_head(sock)))
            self.assertEqual(read_all(sock), b"")

        origin = self.scripted(upstream)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(origin.url, timeouts=LONG_DRAIN))
        sockets = [stage.connect(proxy) for _ in range(5)]
        for sock in sockets:
            self.addCleanup(sock.close)
            sock.sendall(request("/ws/client/", *UPGRADE))
            self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 101 "))
        proxy.signal(signal.SIGTERM)
        for sock in sockets:
            self.assertEqual(sock.recv(1), b"")  # close_notify, not a reset
        self.assertIn(proxy.wait(), _TERMINATED)
        proxy.says("Draining: 0 requests and 5 WebSockets are open")
        self.assertEqual(proxy.stdout.count(" 101 "), 5)

    def test_second_sigterm_aborts(self) -> None:
        asked = threading.Event()

        def upstream(sock: socket.socket) -> None:
            read_head(sock)
            asked.set()
            read_all(sock)  # never an answer

        origin = self.scripted(upstream)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(origin.url, timeouts=LONG_DRAIN))
        with stage.connect(proxy) as sock:
            sock.sendall(request("/never"))
            asked.wait(PATIENCE)
            proxy.signal(signal.SIGTERM)
            proxy.says("Draining: 1 requests")
            proxy.signal(signal.SIGTERM)
            self.assertNotIn(b"200", read_all(sock))
            self.assertIn(proxy.wait(), _TERMINATED)
        self.assertIn("Not drained in time: 1 connections are cut", proxy.stderr)
        self.assertIn('"GET /never HTTP/1.1" 499 ', proxy.stdout)

    def test_drain_has_an_end(self) -> None:
        """timeouts.drain: what is not done by then is cut."""

        def upstream(sock: socket.socket) -> None:
            read_head(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart")
            read_all(sock)

        origin = self.scripted(upstream)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(origin.url, timeouts={"drain": 1}))
        with stage.connect(proxy) as sock:
            sock.sendall(request("/"))
            read_head(sock)
            proxy.signal(signal.SIGTERM)
            self.assertIn(proxy.wait(), _TERMINATED)
            with self.assertRaises((ConnectionError, ssl.SSLError)):  # a cut, not an end
                while sock.recv(100):
                    pass
        self.assertIn("Not drained in time: 1 connections are cut", proxy.stderr)

    def test_sigint_while_it_is_imported(self) -> None:
        """KeyboardInterrupt would be a traceback there, or be lost, and nothing would end."""
        stage = self.own_stage()
        stage.file("sitecustomize.py", SLOW_IMPORT)
        path = os.pathsep.join((str(stage.directory), str(ROOT)))
        proxy = stage.process([*COMMAND, "run"], environ={"PYTHONPATH": path})
        proxy.says("^imported$", "stdout")
        proxy.signal(signal.SIGINT)
        self.assertEqual(proxy.wait(), -signal.SIGINT)
        self.assertEqual((proxy.stdout, proxy.stderr), ("imported\n", ""))

    def test_sigint(self) -> None:
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(f"http://{LOOPBACK}:1"))
        with stage.connect(proxy):  # it runs
            proxy.signal(signal.SIGINT)
            self.assertIn(proxy.wait(), (0, 130, -signal.SIGINT))


class Full(EndToEnd):
    """No descriptors left: who is inside is served, the others wait."""

    def _proxy(self, descriptors: int = 0) -> tuple[Stage, Proxy]:
        stage = self.own_stage()
        origin = stage.origin(HOST)
        limits: dict[str, Any] = {}
        if descriptors:
            # The interpreter of the tests is the parent: prlimit before exec touches only the child.
            limits = {"preexec_fn": partial(_limit, descriptors)}
        proxy = stage.proxy(stage.configuration(origin.port, listen={"http": []}), **limits)
        return stage, proxy

    def _client(self, stage: Stage, proxy: Proxy) -> ssl.SSLSocket:
        """A client that has not begun its handshake."""
        raw = connect(proxy.https)
        self.addCleanup(raw.close)
        client = stage.client_tls().wrap_socket(
            raw, server_hostname=HOST, do_handshake_on_connect=False
        )
        self.addCleanup(client.close)
        return client

    def _waits(self, client: ssl.SSLSocket) -> None:
        """Nobody answers this one, for as long as the test has time to look."""
        client.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            client.do_handshake()
        client.settimeout(PATIENCE)

    def test_few_descriptors_from_the_start(self) -> None:
        """RLIMIT_NOFILE is small: accepting stops before it is reached."""
        stage, proxy = self._proxy(64 + 2 * 4)  # four connections, by authproxy's own reckoning
        clients = [self._client(stage, proxy) for _ in range(12)]
        self._waits(clients[4])
        for client in clients:  # each in its turn, the first ones are inside
            client.do_handshake()
            client.sendall(request("/", "Connection: close"))
            self.assertEqual(response(client).status, 200)
            client.close()
        self.assertNotIn("Too many open files", proxy.stderr)
        with stage.connect(proxy) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 200)

    def test_no_descriptors_suddenly(self) -> None:
        """The limit falls while it runs: every request whose head was read gets a response, nobody
        is dropped, and when others leave, those who wait are served."""
        stage, proxy = self._proxy()
        with stage.connect(proxy) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 200)
        inside = [stage.connect(proxy) for _ in range(8)]
        for sock in inside:
            self.addCleanup(sock.close)
            sock.sendall(request("/-/health/live/"))
            self.assertEqual(response(sock).status, 200)
        _, most = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (proxy.descriptors(), most))
        outside = [connect(proxy.https) for _ in range(8)]
        for raw in outside:
            self.addCleanup(raw.close)
        proxy.says("Accepting pauses: Too many open files")
        # One upstream connection is there; who asks while it is busy gets a 503, not silence.
        for sock in inside:
            sock.sendall(request("/slow?seconds=0.3"))
        statuses = [response(sock).status for sock in inside]
        self.assertIn(200, statuses)
        self.assertLessEqual(set(statuses), {200, 503})
        for sock in inside:
            sock.sendall(request("/", "Connection: close"))
        self.assertLessEqual({response(sock).status for sock in inside}, {200, 503})
        for sock in inside:
            sock.close()
        context = stage.client_tls()
        for raw in outside:
            with context.wrap_socket(raw, server_hostname=HOST) as sock:
                sock.sendall(request("/", "Connection: close"))
                self.assertEqual(response(sock).status, 200)

    def test_limit_of_connections(self) -> None:
        """limits.connections: the next one waits, and is served when one leaves."""
        stage = self.own_stage()
        origin = stage.origin(HOST)
        limits = {"connections": 2}
        proxy = stage.proxy(stage.configuration(origin.port, limits=limits))
        inside = [stage.connect(proxy) for _ in range(2)]
        waiting = self._client(stage, proxy)
        for sock in inside:
            self.addCleanup(sock.close)
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 200)
        self._waits(waiting)
        inside[0].close()
        waiting.do_handshake()
        waiting.sendall(request("/"))
        self.assertEqual(response(waiting).status, 200)
        inside[1].sendall(request("/"))
        self.assertEqual(response(inside[1]).status, 200)


class ProxyProtocol(EndToEnd):
    """listen.proxy_protocol_from: LISTED must begin with a PROXY header, nobody else may."""

    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin()
        listen = {"proxy_protocol_from": [f"{LISTED}/32"], "plain_http": "serve"}
        url = f"http://{LOOPBACK}:{cls.origin.port}"
        trust = {"presets": ["cloudflare"]}
        cls.proxy = stage.proxy(stage.configuration(url, listen=listen, trust=trust))

    def _client(self, header: bytes, *fields: str) -> str:
        """The client that upstream sees, over TLS; the header is in a segment with the handshake."""
        tls = self.stage.client_tls()
        with connect(self.proxy.https, source=LISTED) as raw:
            raw.sendall(header)
            with tls.wrap_socket(raw, server_hostname=HOST) as sock:
                sock.sendall(request("/", "Accept: application/json", *fields))
                answer = response(sock)
        self.assertEqual(answer.seen("x-forwarded-for"), [answer.json["client"]])
        self.assertEqual(answer.seen("cf-connecting-ip"), [])
        return str(answer.json["client"])

    def test_version_1(self) -> None:
        self.assertEqual(self._client(b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\n"), "192.0.2.7")
        self.assertEqual(
            self._client(b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n"), "2001:db8::7"
        )
        self.assertEqual(self._client(b"PROXY UNKNOWN\r\n"), LISTED)

    def test_version_2(self) -> None:
        ports = (40000).to_bytes(2, "big") + (443).to_bytes(2, "big")
        for family, code in ((socket.AF_INET, b"\x11"), (socket.AF_INET6, b"\x21")):
            texts = {socket.AF_INET: ("192.0.2.8", "192.0.2.1")}
            source, target = texts.get(family, ("2001:db8::8", "2001:db8::1"))
            addresses = socket.inet_pton(family, source) + socket.inet_pton(family, target) + ports
            header = V2 + b"\x21" + code + len(addresses).to_bytes(2, "big") + addresses
            self.assertEqual(self._client(header), source)
        self.assertEqual(self._client(V2 + b"\x20\x00\0\0"), LISTED)  # LOCAL: a health check

    def test_cloudflare_behind_a_balancer(self) -> None:
        """Who the header names is the peer: Cloudflare's word is taken, a stranger's is not."""
        named = "CF-Connecting-IP: 192.0.2.77"
        for source, client in (
            ("104.16.0.7", "192.0.2.77"), ("192.0.2.7", "192.0.2.7"),
        ):  # fmt: skip
            header = f"PROXY TCP4 {source} 192.0.2.1 40000 443\r\n".encode()
            self.assertEqual(self._client(header, named), client)
        header = b"PROXY TCP6 2606:4700::7 2001:db8::1 40000 443\r\n"
        self.assertEqual(self._client(header, named), "192.0.2.77")
        self.assertEqual(self._client(header, named, named), "2606:4700::7")

    def test_header_and_request_in_one_segment(self) -> None:
        with connect(self.proxy.http, source=LISTED) as sock:
            header = b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 80\r\n"
            sock.sendall(header + request("/", "Accept: application/json"))
            self.assertEqual(response(sock).json["client"], "192.0.2.9")

    def test_header_octet_by_octet(self) -> None:
        with connect(self.proxy.http, source=LISTED) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for octet in b"PROXY TCP4 192.0.2.9 192.0.2.1 40000 80\r\n":
                sock.sendall(bytes([octet]))
            sock.sendall(request("/", "Accept: application/json"))
            self.assertEqual(response(sock).json["client"], "192.0.2.9")

    def test_missing_header(self) -> None:
        with connect(self.proxy.http, source=LISTED) as sock:
            sock.sendall(request("/without-header"))
            self.assertEqual(read_all(sock), b"")
        self.proxy.says(f"A connection from {LISTED} was closed: no PROXY header")

    def test_header_that_never_comes(self) -> None:
        """timeouts.proxy_header ends the wait."""
        stage = self.own_stage()
        listen = {"proxy_protocol_from": [f"{LISTED}/32"]}
        settings = {"listen": listen, "timeouts": {"proxy_header": 1}}
        proxy = stage.proxy(stage.configuration(f"http://{LOOPBACK}:1", **settings))
        with connect(proxy.http, source=LISTED) as sock:
            sock.sendall(b"PROXY TCP4 192.")
            self.assertEqual(read_all(sock), b"")

    def test_header_of_somebody_else(self) -> None:
        for header in (
            b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\n",
            V2 + b"\x21\x11\0\x0c" + bytes(12),
        ):
            with connect(self.proxy.http) as sock:
                sock.sendall(header + request("/", "Accept: application/json"))
                self.assertEqual(response(sock).status, 400)
                self.assertEqual(read_all(sock), b"")

    def test_others_are_served_without(self) -> None:
        with self.stage.connect(self.proxy) as sock:
            sock.sendall(request("/", "Accept: application/json"))
            self.assertEqual(response(sock).json["client"], LOOPBACK)


class Sockets(EndToEnd):
    """Other ways to listen and to dial."""

    def test_unix_sockets_on_both_sides(self) -> None:
        stage = self.own_stage()
        upstream, listener = (str(stage.directory / name) for name in ("up.sock", "down.sock"))
        stage.origin(options=[f"--unix={upstream}"])
        document = stage.configuration(
            f"unix:{upstream}",
            listen={"http": [f"unix:{listener}"], "https": [], "plain_http": "serve"},
            trust={"proxies": ["unix:"]},
        )
        for _ in range(2):  # the second finds the first one's socket file, if it left one
            proxy = stage.proxy(document)
            self.assertEqual(stat.S_IMODE(os.stat(listener).st_mode), 0o660)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(listener)
                sock.sendall(request("/", "Accept: application/json", "X-Forwarded-Proto: https",
                                     "X-Forwarded-For: 192.0.2.5"))  # fmt: skip
                answer = response(sock)
            self.assertEqual(answer.json["client"], "192.0.2.5")
            self.assertEqual(answer.json["scheme"], "https")
            proxy.popen.kill()
            proxy.wait()

    def test_unix_socket_in_use(self) -> None:
        stage = self.own_stage()
        path = str(stage.directory / "in-use.sock")
        with socket.socket(socket.AF_UNIX) as holder:
            holder.bind(path)
            holder.listen()
            listen = {"http": [f"unix:{path}"], "https": [], "plain_http": "serve"}
            proxy = stage.starting_proxy(stage.configuration(f"http://{LOOPBACK}:1", listen=listen))
            self.assertNotIn(proxy.wait(), (0, None))
        self.assertIn(f"unix:{path} is already in use", proxy.stderr)
        self.assertNotIn("Traceback", proxy.stderr)

    def test_socket_activation(self) -> None:
        """Sockets by name, as authproxy.socket passes them."""
        stage = self.own_stage()
        origin = stage.origin(HOST)
        with (
            socket.create_server((LOOPBACK, 0)) as plain,
            socket.create_server((LOOPBACK, 0)) as secure,
        ):
            listen = {"http": ["systemd:web"], "https": ["systemd:web-tls"]}
            descriptors = (plain.fileno(), secure.fileno())
            proxy = stage.starting_proxy(
                stage.configuration(origin.port, listen=listen),
                before=[sys.executable, "-c", ACTIVATE, ",".join(map(str, descriptors))],
                pass_fds=descriptors,
                environ={"LISTEN_FDNAMES": "web:web-tls"},
            ).ready()
            proxy.http, proxy.https = plain.getsockname()[1], secure.getsockname()[1]
        # Ours are closed: who answers now is the proxy.
        with connect(proxy.http) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 301)
        with stage.connect(proxy) as tls:
            tls.sendall(request("/", "Accept: application/json"))
            answer = response(tls)
        self.assertEqual((answer.status, answer.json["client"]), (200, LOOPBACK))

    def test_socket_that_was_not_passed(self) -> None:
        stage = self.own_stage()
        listen = {"https": ["systemd:web"], "http": []}
        proxy = stage.starting_proxy(stage.configuration(f"http://{LOOPBACK}:1", listen=listen))
        self.assertNotIn(proxy.wait(), (0, None))
        self.assertIn("systemd passed no socket named 'web' (passed: none)", proxy.stderr)
        self.assertNotIn("Traceback", proxy.stderr)

    def test_all_addresses(self) -> None:
        """[::] serves IPv4 clients too, under their IPv4 address."""
        if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
            raise SkipTest("no IPv6 here")
        stage = self.own_stage()
        origin = stage.origin()
        listen = {"http": ["[::]:0"], "https": [], "plain_http": "serve"}
        url = f"http://{LOOPBACK}:{origin.port}"
        proxy = stage.proxy(stage.configuration(url, listen=listen))
        with connect(proxy.http) as sock:
            sock.sendall(request("/", "Accept: application/json"))
            self.assertEqual(response(sock).json["client"], LOOPBACK)


class Systemd(EndToEnd):
    """Type=notify."""

    def setUp(self) -> None:
        super().setUp()
        self.stage = self.own_stage()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.path = str(self.stage.directory / "notify.sock")
        self.manager.bind(self.path)
        self.manager.settimeout(PATIENCE)

    def start(self, workers: int, **environ: str) -> Proxy:
        document = self.stage.configuration(f"http://{LOOPBACK}:1") | {"workers": workers}
        environ["NOTIFY_SOCKET"] = self.path
        return self.stage.proxy(document, environ=environ)

    def heard(self) -> list[str]:
        return self.manager.recv(4096).decode().splitlines()

    def test_ready_reloading_and_stopping(self) -> None:
        for workers in (1, 2):
            proxy = self.start(workers)
            ready = self.heard()
            self.assertIn("READY=1", ready)
            self.assertIn(f"MAINPID={proxy.pid}", ready)
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            proxy.signal(signal.SIGHUP)
            reloading, moment, _ = self.heard()
            self.assertEqual(reloading, "RELOADING=1")
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self.assertTrue(before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= now)
            self.assertEqual(self.heard(), ["READY=1", "STATUS=serving; reloaded"])
            Path(proxy.popen.args[-1]).write_text("nonsense")  # type: ignore[index]
            proxy.signal(signal.SIGHUP)
            self.assertEqual(self.heard()[0], "RELOADING=1")
            self.assertEqual(
                self.heard(), ["READY=1", "STATUS=serving; the last reload was refused"]
            )
            with self.stage.connect(proxy):
                proxy.signal(signal.SIGTERM)
                self.assertIn("STOPPING=1", self.heard())
            self.assertIn(proxy.wait(), _TERMINATED)

    def test_watchdog(self) -> None:
        """A line of figures comes with it."""
        proxy = self.start(1, WATCHDOG_USEC="200000")
        self.assertIn("READY=1", self.heard())
        with self.stage.connect(proxy) as sock:
            sock.sendall(request("/", host="unknown.example.com"))
            self.assertEqual(response(sock).status, 421)
            for _ in range(100):
                watchdog, figures = self.heard()
                self.assertEqual(watchdog, "WATCHDOG=1")
                if figures == "STATUS=1 connections, 0 WebSockets, 1 requests":
                    break
            else:
                self.fail(figures)


_TERMINATED = (0, 143, -signal.SIGTERM)


def _limit(descriptors: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def _ordinary() -> list[str]:
    """What to begin a command with so that it runs without root's privileges."""
    if os.geteuid():
        return []
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise SkipTest("the tests run as root, and setpriv cannot take that away") from None
    return command


def _kill(pid: int) -> None:
    """What a test's daemon left."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
