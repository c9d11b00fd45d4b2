"""Several processes: who dies, who stays, and what the operator sees of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from .processes import (
    HOST,
    LOOPBACK,
    PATIENCE,
    Proxy,
    Stage,
    Staged,
    connect,
    free_port,
    read_all,
    read_head,
    request,
    response,
    until,
)
from .test_process import ACTIVATE, LONG_DRAIN
from .test_websockets import UPGRADE, switching

MANY = 32  # connections: that all of them are one worker's happens once in 2 ** 31 runs
_WORKERS = re.compile(r"python\S*\s-P\s-m\sauthproxy\.worker")


def workers_of(proxy: Proxy) -> list[int]:
    """Process ids of its workers, in the order of their starts."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            arguments = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if parent == proxy.pid and _WORKERS.search(arguments):
                found.append(int(process.name))
    return sorted(found)


class WorkersTests(Staged, SynchronousTestCase):
    def start(self, stage: Stage, upstream: str | int, **more: Any) -> Proxy:
        document = stage.configuration(upstream, **more)
        self.proxy = stage.proxy(document | {"workers": 2})
        self.assertEqual(len(workers_of(self.proxy)), 2)
        return self.proxy

    def connections(self, stage: Stage, count: int = MANY) -> list[ssl.SSLSocket]:
        """TLS connections that each had an answer."""
        made = []
        for _ in range(count):
            sock = stage.connect(self.proxy)
            self.addCleanup(sock.close)
            self.assertEqual(self.ask(sock), 200)
            made.append(sock)
        return made

    def ask(self, sock: ssl.SSLSocket) -> int:
        """The status of a request, 0 where the connection is gone."""
        try:
            sock.sendall(request("/-/health/live/"))
            return response(sock).status
        except (OSError, ssl.SSLError, ConnectionError):
            return 0
        except Exception as e:  # http.client's word for a connection that ended
            self.assertIn("RemoteDisconnected", type(e).__name__)
            return 0

    def replaced(self, old: list[int]) -> list[int]:
        """The workers, once there are two and one of them is new."""

        def look() -> list[int] | None:
            now = workers_of(self.proxy)
            return now if len(now) == len(old) and now != old else None

        return until(look, "another worker")


class ServingTests(WorkersTests):
    def test_all_serve(self) -> None:
        """The kernel divides connections; who dies takes its own, and only those, with it."""
        stage = self.own_stage()
        self.start(stage, stage.origin(HOST).port)
        sockets = self.connections(stage)
        before = workers_of(self.proxy)
        os.kill(before[0], signal.SIGKILL)
        self.proxy.says(r"Worker \d \(pid \d+\) was ended by SIGKILL")
        statuses = [self.ask(sock) for sock in sockets]
        self.assertEqual(set(statuses), {0, 200})
        # Nobody who comes meanwhile is refused, whichever socket he comes to.
        self.connections(stage)
        self.assertIn(before[1], self.replaced(before))
        self.proxy.says(r"Worker 1 \(pid \d+\) serves|Worker 2 \(pid \d+\) serves")

    def test_what_waits_in_the_queue_is_not_lost(self) -> None:
        stage = self.own_stage()
        self.start(stage, stage.origin(HOST).port)
        before = workers_of(self.proxy)
        for pid in before:
            os.kill(pid, signal.SIGSTOP)  # they accept no more: all connections wait
        waiting = [connect(self.proxy.https) for _ in range(MANY)]
        for sock in waiting:
            self.addCleanup(sock.close)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        context = stage.client_tls()
        for sock in waiting:
            with context.wrap_socket(sock, server_hostname=HOST) as tls:
                self.assertEqual(self.ask(tls), 200)

    def test_websockets_of_the_other(self) -> None:
        def upstream(sock: socket.socket) -> None:
            sock.sendall(switching(read_head(sock)))
            while data := sock.recv(100):
                sock.sendall(data)

        stage = self.own_stage()
        self.start(stage, self.scripted(upstream).url)
        sockets = []
        for _ in range(MANY):  # nobody waits for the others' handshakes: that has its deadline
            sock = stage.connect(self.proxy)
            self.addCleanup(sock.close)
            sock.sendall(request("/ws/client/", *UPGRADE))
            self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 101 "))
            sockets.append(sock)
        os.kill(workers_of(self.proxy)[0], signal.SIGKILL)
        self.proxy.says("was ended by SIGKILL")
        alive = 0
        for sock in sockets:
            with contextlib.suppress(OSError, ssl.SSLError):
                sock.sendall(b"hello")
                alive += sock.recv(5) == b"hello"
        self.assertTrue(0 < alive < MANY, alive)

    def test_one_that_is_told_to_leave(self) -> None:
        """It finishes what runs, and has a successor meanwhile."""
        asked, answer = threading.Event(), threading.Event()

        def upstream(sock: socket.socket) -> None:
            head = read_head(sock)
            if b"/slow" in head:
                asked.set()
                answer.wait(PATIENCE)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
            read_all(sock)

        stage = self.own_stage()
        self.start(stage, self.scripted(upstream).url, timeouts=LONG_DRAIN)
        with stage.connect(self.proxy) as running:
            running.sendall(request("/slow"))
            asked.wait(PATIENCE)
            before = workers_of(self.proxy)
            for pid in before:
                os.kill(pid, signal.SIGTERM)
            until(lambda: len(set(workers_of(self.proxy)) - set(before)) == 2, "two new ones")
            with stage.connect(self.proxy) as other:
                self.assertEqual(self.ask(other), 200)
            answer.set()
            self.assertEqual(response(running).content, b"slow")
        until(lambda: not set(before) & set(workers_of(self.proxy)), "the old ones are gone")

    def test_unix_socket(self) -> None:
        stage = self.own_stage()
        path = str(stage.directory / "shared.sock")
        listen = {"http": [f"unix:{path}"], "https": [], "plain_http": "serve"}
        self.start(stage, stage.origin(HOST).port, listen=listen)
        for _ in range(MANY):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(path)
                sock.sendall(request("/-/health/live/"))
                self.assertEqual(response(sock).status, 200)
        self.proxy.signal(signal.SIGTERM)
        self.proxy.wait()
        self.assertFalse(os.path.exists(path))

    def test_socket_activation(self) -> None:
        stage = self.own_stage()
        origin = stage.origin(HOST)
        with socket.create_server((LOOPBACK, 0)) as secure:
            descriptor = secure.fileno()
            document = stage.configuration(
                origin.port, listen={"http": [], "https": ["systemd:web-tls"]}
            )
            proxy = stage.starting_proxy(
                document | {"workers": 2},
                before=[sys.executable, "-c", ACTIVATE, str(descriptor)],
                pass_fds=(descriptor,),
                environ={"LISTEN_FDNAMES": "web-tls"},
            ).ready()
            proxy.https = secure.getsockname()[1]
        self.proxy = proxy
        self.connections(stage)


class TellingTests(WorkersTests):
    def metrics(self) -> dict[str, float]:
        """The sums of all that has a name."""
        url = f"http://{LOOPBACK}:{self.admin}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE) as got:
            self.assertTrue(got.headers["content-type"].startswith("text/plain; version=0.0.4"))
            lines = got.read().decode().splitlines()
        sums: dict[str, float] = {}
        for line in lines:
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                sums[name] = sums.get(name, 0) + float(value)
        return sums

    def with_admin(self, stage: Stage, upstream: int, **more: Any) -> None:
        self.admin = free_port()
        listen = {"http": [], "https": [f"{LOOPBACK}:0"], "admin": f"{LOOPBACK}:{self.admin}"}
        self.start(stage, upstream, listen=listen, **more)

    def test_counters_are_summed(self) -> None:
        stage = self.own_stage()
        self.with_admin(stage, stage.origin(HOST).port)
        self.connections(stage)
        # The workers tell what they counted once a second.
        until(lambda: self.metrics().get("authproxy_requests_total") == MANY, "all are counted")
        self.assertEqual(self.metrics()["authproxy_client_connections"], MANY)
        self.assertEqual(self.metrics()["authproxy_workers"], 2)
        os.kill(workers_of(self.proxy)[0], signal.SIGKILL)

        def seen() -> bool:
            now = self.metrics()
            return now["authproxy_worker_restarts_total"] == 1 and now["authproxy_workers"] == 2

        until(seen, "the restart is counted")
        now = self.metrics()
        self.assertEqual(now["authproxy_requests_total"], MANY)  # they happened
        self.assertTrue(0 < now["authproxy_client_connections"] < MANY)

    def test_counters_of_one_process(self) -> None:
        stage = self.own_stage()
        self.admin = free_port()
        listen = {"admin": f"{LOOPBACK}:{self.admin}"}
        document = stage.configuration(stage.origin(HOST).port, listen=listen)
        self.proxy = stage.proxy(document | {"workers": 1})
        self.connections(stage, 3)
        self.assertEqual(self.metrics()["authproxy_requests_total"], 3)
        self.assertNotIn("authproxy_workers", self.metrics())

    def test_nothing_is_uploaded_to_the_admin_side(self) -> None:
        """twisted.web would put it into a file, as large as it comes."""
        stage = self.own_stage()
        self.with_admin(stage, stage.origin(HOST).port)
        for framing in (b"Content-Length: 300000000", b"Transfer-Encoding: chunked"):
            with connect(self.admin) as sock:
                sock.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % framing)
                self.assertEqual(read_all(sock), b"")
        self.assertEqual(self.metrics()["authproxy_workers"], 2)

    def test_admin_port_in_use(self) -> None:
        """One that was written down must be had."""
        stage = self.own_stage()
        with socket.create_server((LOOPBACK, 0)) as holder:
            where = f"{LOOPBACK}:{holder.getsockname()[1]}"
            document = stage.configuration(f"http://{LOOPBACK}:1", listen={"admin": where})
            for workers in (1, 2):
                proxy = stage.starting_proxy(document | {"workers": workers})
                self.assertNotIn(proxy.wait(), (0, None))
                self.assertIn(f"{where} is already in use", proxy.stderr)
                self.assertNotIn("Traceback", proxy.stderr)

    def test_one_access_log_on_stdout(self) -> None:
        """Whole lines, also long ones, of all workers."""
        stage = self.own_stage()
        self.start(stage, stage.origin(HOST).port)
        paths = set()
        for n, sock in enumerate(self.connections(stage)):
            for m in range(3):
                path = f"/-/health/live/?{n}-{m}-{'x' * (9000 if n % 2 else 9)}"
                paths.add(path)
                sock.sendall(request(path))
                self.assertEqual(response(sock).status, 200)
        paths.add("/-/health/live/")  # of the first requests
        count = 4 * MANY
        until(lambda: self.proxy.stdout.count("\n") == count, "all are written")
        found = re.findall(
            r'^127\.0\.0\.1 - - \[[^]]+\] "GET (\S+) HTTP/1\.1" 200 0 "-" "-" \S+ \S+ \S+ -$',
            self.proxy.stdout,
            re.MULTILINE,
        )
        self.assertEqual((len(found), set(found)), (count, paths))

    def test_one_access_log_in_a_file(self) -> None:
        stage = self.own_stage()
        path = stage.directory / "access.log"
        self.start(stage, stage.origin(HOST).port, log={"access": str(path)})
        self.connections(stage)
        until(lambda: path.exists() and path.read_text().count("\n") == MANY, "all are written")
        self.assertEqual(self.proxy.stdout, "")

    def test_faults_are_in_the_one_log(self) -> None:
        stage = self.own_stage()
        self.start(stage, f"http://{LOOPBACK}:1")
        with stage.connect(self.proxy) as sock:
            sock.sendall(request("/"))
            self.assertEqual(response(sock).status, 503)
        self.proxy.says(r"\[worker \d\] upstream: Site \S+, 503 .*nothing listens at")


class StoppingTests(WorkersTests):
    def test_all_drain(self) -> None:
        """A request that runs in one of them is finished."""
        asked, answer = threading.Event(), threading.Event()

        def upstream(sock: socket.socket) -> None:
            read_head(sock)
            asked.set()
            answer.wait(PATIENCE)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

        stage = self.own_stage()
        self.start(stage, self.scripted(upstream).url, timeouts=LONG_DRAIN)
        with stage.connect(self.proxy) as running:
            running.sendall(request("/slow"))
            asked.wait(PATIENCE)
            self.proxy.signal(signal.SIGTERM)
            self.proxy.says("Draining: 1 requests")
            until(lambda: len(workers_of(self.proxy)) == 1, "the idle one is gone")
            with self.assertRaises(ConnectionRefusedError):
                connect(self.proxy.https)
            answer.set()
            done = response(running)
            self.assertEqual((done.content, done.fields["connection"]), (b"slow", "close"))
        self.assertEqual(self.proxy.wait(), 0)
        self.assertIn('"GET /slow HTTP/1.1" 200 4 ', self.proxy.stdout)
        self.assertNotIn("was ended by", self.proxy.stderr)

    def test_second_sigterm_aborts(self) -> None:
        asked = threading.Event()

        def upstream(sock: socket.socket) -> None:
            read_head(sock)
            asked.set()
            read_all(sock)  # never an answer

        stage = self.own_stage()
        self.start(stage, self.scripted(upstream).url, timeouts=LONG_DRAIN)
        with stage.connect(self.proxy) as sock:
            sock.sendall(request("/never"))
            asked.wait(PATIENCE)
            self.proxy.signal(signal.SIGTERM)
            self.proxy.says("Draining: 1 requests")
            self.proxy.signal(signal.SIGTERM)
            self.assertNotIn(b"200", read_all(sock))
            self.assertEqual(self.proxy.wait(), 0)
        self.assertIn('"GET /never HTTP/1.1" 499 ', self.proxy.stdout)

    def test_interrupt_of_a_terminal(self) -> None:
        """Ctrl-C reaches all processes of the group; the workers leave it to the supervisor."""
        stage = self.own_stage()
        document = stage.configuration(f"http://{LOOPBACK}:1") | {"workers": 2}
        self.proxy = stage.starting_proxy(document, start_new_session=True).ready()
        os.killpg(self.proxy.pid, signal.SIGINT)
        self.assertEqual(self.proxy.wait(), 0)
        self.assertNotIn("SIGINT", self.proxy.stderr)
        self.assertNotIn("KeyboardInterrupt", self.proxy.stderr)

    def test_interrupt_while_workers_start(self) -> None:
        """Python's own answer to Ctrl-C would be a traceback of each."""
        stage = self.own_stage()
        document = stage.configuration(f"http://{LOOPBACK}:1") | {"workers": 2}
        self.proxy = stage.starting_proxy(document, start_new_session=True)
        until(lambda: len(workers_of(self.proxy)) == 2, "two workers")
        os.killpg(self.proxy.pid, signal.SIGINT)
        os.killpg(self.proxy.pid, signal.SIGHUP)
        self.proxy.wait()
        self.assertNotIn("KeyboardInterrupt", self.proxy.stderr)
        self.assertNotIn("was ended by", self.proxy.stderr)

    def test_supervisor_killed(self) -> None:
        """Workers do not stay behind, on ports that the next one needs."""
        stage = self.own_stage()
        document = stage.configuration(f"http://{LOOPBACK}:1") | {"workers": 2}
        proxy = stage.proxy(document)
        before = workers_of(proxy)
        proxy.popen.kill()
        proxy.popen.wait()
        until(lambda: not any(_lives(pid) for pid in before), "the workers are gone")

    def test_port_of_somebody_who_shares(self) -> None:
        """Another authproxy with workers does not silently get half of the connections."""
        stage = self.own_stage()
        self.start(stage, f"http://{LOOPBACK}:1")
        listen = {"http": [], "https": [f"{LOOPBACK}:{self.proxy.https}"]}
        document = stage.configuration(f"http://{LOOPBACK}:1", listen=listen)
        second = stage.starting_proxy(document | {"workers": 2})
        self.assertNotIn(second.wait(), (0, None))
        self.assertRegex(second.stderr, rf"{self.proxy.https} is already in use by \S+ \(pid \d+\)")

    def test_ready_is_told_once_all_serve(self) -> None:
        stage = self.own_stage()
        path = str(stage.directory / "notify.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(PATIENCE)
            document = stage.configuration(f"http://{LOOPBACK}:1") | {"workers": 2}
            self.proxy = stage.starting_proxy(
                document, environ={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
            )
            # At once: Linux keeps ten of them, and the rest would be lost.
            alive: list[str] = []
            while (said := manager.recv(4096).decode().splitlines())[0] != "READY=1":
                alive = said  # while they start
            self.assertEqual(said[1], f"MAINPID={self.proxy.pid}")
            alive = alive or manager.recv(4096).decode().splitlines()
            self.assertEqual(alive[0], "WATCHDOG=1")
            self.assertRegex(alive[1], r"^STATUS=\d+ connections, \d+ WebSockets, \d+ requests$")
            self.proxy.signal(signal.SIGTERM)
            while "STOPPING=1" not in manager.recv(4096).decode().splitlines():
                pass
            self.assertEqual(self.proxy.wait(), 0)

    def test_daemon(self) -> None:
        """What workers say is in twistd's log, and a pid file is one process's."""
        stage = self.own_stage()
        log, pidfile = stage.directory / "twistd.log", stage.directory / "twistd.pid"
        document = stage.configuration(
            f"http://{LOOPBACK}:1", log={"access": str(stage.directory / "access.log")}
        )
        parent = stage.starting_proxy(
            document | {"workers": 2},
            twistd=[f"--logfile={log}", f"--pidfile={pidfile}", f"--rundir={stage.directory}"],
        )
        self.assertEqual(parent.wait(), 0)
        pid = int(until(lambda: pidfile.exists() and pidfile.read_text(), "a pid file"))
        self.addCleanup(_kill, pid)
        port = until(
            lambda: re.search(r"Listening for https on \S+:(\d+)\.", log.read_text()), "it serves"
        )[1]
        with (
            connect(int(port)) as sock,
            stage.client_tls().wrap_socket(sock, server_hostname=HOST) as tls,
        ):
            tls.sendall(request("/"))
            self.assertEqual(response(tls).status, 503)
        until(lambda: "] upstream: Site " in log.read_text(), "the fault in the log")
        os.kill(pid, signal.SIGTERM)
        until(lambda: not _lives(pid), "it ends")


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if not Path("/proc/self/stat").exists():
    raise SkipTest("no /proc here")
