"""The harness: authproxy, upstream servers and curl, each a process of its own, on loopback.

Nothing here sleeps in order to be in time: it waits for what a process says or does, with PATIENCE
as the bound of a machine that is far too slow.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import trustme
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks import machine

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
HOST = "sso.example.com"
PATIENCE = 60.0  # seconds
GLANCE = 0.01  # seconds between two looks at what cannot be waited for
# The proxy's deadlines, where a test does not wait for one: none may be met because a machine is
# slow, or stands still for a while.
UNHURRIED = 10 * PATIENCE
DEADLINES = (
    "tls_handshake", "proxy_header", "head", "keepalive", "body_idle", "write_stall", "connect",
    "upstream_tls", "first_byte", "upstream_idle",
)  # fmt: skip
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
FOREGROUND = ("--nodaemon", "--pidfile=")
COMMAND = (
    sys.executable,
    "-c",
    "import sys; from authproxy.commands import main; sys.exit(main())",
)
# Of whoever runs the tests; a test that wants one sets it. Without byte code every start would
# compile all of authproxy, which takes as long as the rest of it.
_NOT_INHERITED = (
    "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "PYTHONDONTWRITEBYTECODE",
    "RUNTIME_DIRECTORY", "SSL_CERT_DIR", "SSL_CERT_FILE", "STATE_DIRECTORY", "XDG_STATE_HOME",
)  # fmt: skip
_SERVING = r" -> (?:https?://|unix:)"
_LISTENING = re.compile(r"Listening for (https?) on (\S+)\.$", re.MULTILINE)

# A shell's background ignores it, and what is started there inherits that: tests would send it in
# vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

free_port = machine.free_port
Seen = TypeVar("Seen")
Kept = TypeVar("Kept", bound="Process")
Table = Mapping[str, Any]


def until(look: Callable[[], Seen | None], what: str) -> Seen:
    """What `look` returns, as soon as that is true."""
    end = time.monotonic() + PATIENCE
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(GLANCE)
    return seen


def whole_lines(log: str) -> list[str]:
    """Of what was read of a log that is being written: a write() may be seen by halves."""
    return log.rpartition("\n")[0].splitlines()


class Process:
    """A process, with what it says in two files. Everything else of `options` is Popen's."""

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        *,
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        own = Path(tempfile.mkdtemp(prefix="process-", dir=directory))
        self._said = own / "stdout", own / "stderr"
        inherited = {
            name: value for name, value in os.environ.items() if name not in _NOT_INHERITED
        }
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        settled = {"HOME": str(directory), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        with self._said[0].open("wb") as stdout, self._said[1].open("wb") as stderr:
            self.popen = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=inherited | settled | dict(environ or {}),
                **{"cwd": ROOT} | options,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stdout(self) -> str:
        """The lines that it has written there so far."""
        return self._lines(0)

    @property
    def stderr(self) -> str:
        """The lines that it has written there so far."""
        return self._lines(1)

    def _lines(self, stream: int) -> str:
        """Whole ones, while it runs: a write() may be seen by halves, also of a character."""
        ended = self.popen.poll() is not None
        octets = self._said[stream].read_bytes()
        return (octets if ended else octets[: octets.rfind(b"\n") + 1]).decode()

    def says(self, pattern: str, stream: str = "stderr") -> re.Match[str]:
        """Wait until it has written something like this; it must not have ended without."""

        def look() -> re.Match[str] | None:
            ended = self.popen.poll() is not None
            match = re.search(pattern, getattr(self, stream), re.MULTILINE)
            if match is None and ended:
                raise AssertionError(f"ended ({self.popen.returncode}) without {pattern!r}: {self}")
            return match

        try:
            return until(look, f"{pattern!r} on {stream}")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self}") from None

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Its exit status (minus the signal that killed it), once it has ended by itself."""
        try:
            return self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end: {self}") from None

    def stop(self) -> None:
        """End it at once, whatever it does. How the proxy stops by itself is test_process.py's."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()

    def memory(self, name: str = "VmRSS") -> int:
        """Octets of memory that it has ("VmRSS"), or had at most ("VmHWM"). Linux."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    def forget_peak(self) -> None:
        """Let VmHWM begin again at VmRSS. Linux."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        """How many it has open. Linux."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def processor_ticks(self) -> int:
        """How much processor time it has used. Linux."""
        columns = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(columns[11]) + int(columns[12])

    def __str__(self) -> str:
        return f"{self.popen.args!r}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Proxy(Process):
    """authproxy under twistd. `http` and `https` are the ports of its first listeners, or 0."""

    http = https = 0

    def ready(self) -> Proxy:
        """Wait until it serves."""
        self.says(_SERVING)
        for scheme, address in reversed(_LISTENING.findall(self.stderr)):
            port = address.rpartition(":")[2]
            setattr(self, scheme, int(port) if port.isdecimal() else 0)
        return self

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.https}"

    @property
    def plain_url(self) -> str:
        return f"http://{HOST}:{self.http}"


class Origin(Process):
    """The stand-in of authentik, see origin.py."""

    address = ""

    def ready(self) -> Origin:
        """Wait until it listens."""
        self.address = self.says(r"listening (\S+)$", "stdout")[1]
        return self

    @property
    def port(self) -> int:
        return int(self.address)


def toml(document: Table) -> str:
    """A configuration file. Texts, numbers and lists of texts are written alike in JSON."""
    lines = [
        f"{name} = {json.dumps(value)}"
        for name, value in document.items()
        if not isinstance(value, (Mapping, list))
    ]
    for name, entry in document.items():
        if not isinstance(entry, (Mapping, list)):
            continue
        for table in entry if isinstance(entry, list) else [entry]:
            lines.append(f"[[{name}]]" if isinstance(entry, list) else f"[{name}]")
            lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


class Stage:
    """A directory, an authority and processes, which end with it."""

    def __init__(self, authority: trustme.CA | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="authproxy-e2e-"))
        self.authority = authority or trustme.CA()
        self.ca = self.file("ca.pem", self.authority.cert_pem.bytes())
        self.proxies: list[Proxy] = []
        self._ending = ExitStack()
        self._ending.callback(shutil.rmtree, self.directory, ignore_errors=True)

    def close(self) -> None:
        self._ending.close()

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def certificate(self, *names: str, issuer: trustme.CA | None = None) -> dict[str, str]:
        """The settings `certificate` and `private_key` with a fresh pair for these names."""
        leaf = (issuer or self.authority).issue_cert(*names)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        stem = f"{names[0]}-{leaf.private_key_pem.bytes()[40:48].hex()}"
        return {
            "certificate": str(self.file(stem + ".pem", chain)),
            "private_key": str(self.file(stem + ".key", leaf.private_key_pem.bytes())),
        }

    def process(self, arguments: Sequence[str], **options: Any) -> Process:
        return self.keep(Process(arguments, self.directory, **options))

    def origin(self, *names: str, port: int = 0, options: Sequence[str] = ()) -> Origin:
        """The stand-in; with TLS if there are names for its certificate."""
        arguments = [sys.executable, "-m", "tests.e2e.origin", f"--port={port}", *options]
        if names:
            pair = self.certificate(*names)
            arguments += ["--certificate", pair["certificate"], "--key", pair["private_key"]]
        return self.keep(Origin(arguments, self.directory)).ready()

    def scripted(self, conversation: Callable[[socket.socket], None]) -> ScriptedOrigin:
        """An upstream server in this process, for as long as the stage."""
        origin = ScriptedOrigin(conversation)
        self._ending.callback(origin.close)
        return origin

    def config(self, document: Table) -> Path:
        """A configuration file."""
        return self.file(f"authproxy-{len(self.proxies)}.toml", toml(document))

    def proxy(self, document: Table, **options: Any) -> Proxy:
        """authproxy with this configuration, see `configuration`."""
        return self.starting_proxy(document, **options).ready()

    def starting_proxy(
        self,
        document: Table,
        *,
        before: Sequence[str] = (),
        twistd: Sequence[str] = FOREGROUND,
        **options: Any,
    ) -> Proxy:
        """As `proxy`, without waiting until it serves.

        `before` is a command that runs the command that follows it; `twistd` are twistd's options.
        """
        config = self.config(document)
        return self.run(
            [*before, *TWISTD, *twistd, "authproxy", "--config", str(config)], **options
        )

    def twistd(self, *arguments: str, **options: Any) -> Proxy:
        """`twistd --nodaemon authproxy` with these arguments."""
        return self.run([*TWISTD, *FOREGROUND, "authproxy", *arguments], **options)

    def run(self, command: Sequence[str], **options: Any) -> Proxy:
        """A command that is a proxy."""
        proxy = self.keep(Proxy(command, self.directory, **options))
        self.proxies.append(proxy)
        return proxy

    def configuration(
        self, upstream: str | int, site: Table | None = None, **sections: Table | list[Table]
    ) -> dict[str, Any]:
        """One site in front of `upstream`, a URL or the port of a TLS server that is verified."""
        if isinstance(upstream, int):
            verified = {"upstream_verify": f"ca:{self.ca}"}
            upstream = f"https://{LOOPBACK}:{upstream}"
        else:
            verified = {}
        listen = {
            "http": [f"{LOOPBACK}:0"],
            "https": [f"{LOOPBACK}:0"],
            "admin": "",
            "control": str(self.directory / f"control-{len(self.proxies)}.sock"),
        }
        served = {"hosts": [HOST], "upstream": upstream} | verified
        if site is None or "certificate" not in site:
            served |= self.certificate(HOST)
        # One process, so that a test can look into it; test_workers.py is about several.
        workers = int(os.environ.get("AUTHPROXY_TEST_WORKERS", "1"))
        document: dict[str, Any] = {"workers": workers}
        document |= {"site": [served | dict(site or {})], "listen": listen}
        # Origins here count their connections, and follow scripts; test_health.py is about checks.
        document["health"] = {"path": ""}
        document["timeouts"] = dict.fromkeys(DEADLINES, UNHURRIED)
        document["pool"] = {"wait": UNHURRIED}
        for name, section in sections.items():
            known = document.get(name, {})
            document[name] = known | dict(section) if isinstance(section, Mapping) else section
        return document

    def curl(self, proxy: Proxy, version: str = "--http1.1") -> Curl:
        return Curl(self.directory, self.ca, (proxy.https, proxy.http), version)

    def client_tls(self, *protocols: str) -> ssl.SSLContext:
        """What a client needs that trusts the authority. `protocols` are what it offers by ALPN."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.set_alpn_protocols(protocols or ["http/1.1"])
        return context

    def connect(
        self, proxy: Proxy, host: str = HOST, protocols: Sequence[str] = (), **options: Any
    ) -> ssl.SSLSocket:
        """A TLS connection to the proxy's https port."""
        sock = connect(proxy.https, **options)
        context = self.client_tls(*protocols)
        # Without suppress_ragged_eofs=False a cut would look like an end.
        return context.wrap_socket(sock, server_hostname=host, suppress_ragged_eofs=False)

    def keep(self, process: Kept) -> Kept:
        """Stop it with the stage."""
        self._ending.callback(process.stop)
        return process


def connect(port: int, *, source: str = "", receive_buffer: int = 0) -> socket.socket:
    """A TCP connection to a port of this machine."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        if source:
            sock.bind((source, 0))
        sock.connect((LOOPBACK, port))
    except BaseException:
        sock.close()
        raise
    return sock


@dataclass
class Answer:
    """A final response. `informational` are the statuses that came before, `info` is curl's."""

    status: int
    version: str
    fields: Message
    content: bytes
    informational: list[int] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    def seen(self, name: str) -> list[str]:
        """The values of a field as the stand-in got it, by its JSON page."""
        return [value for other, value in self.json["headers"] if other.lower() == name.lower()]


class Curl:
    """curl, talking to one proxy for whatever host is asked; `version` is its option for HTTP's."""

    def __init__(self, directory: Path, ca: Path, ports: Sequence[int], version: str) -> None:
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        self._directory = directory
        self._command = ["curl", "-q", "--silent", "--show-error", "--globoff", "--noproxy", "*",
                         "--max-time", str(5 * PATIENCE), "--cacert", str(ca),
                         version]  # fmt: skip
        for port in filter(None, ports):
            self._command += ["--connect-to", f":{port}:{LOOPBACK}:{port}"]

    def run(self, *arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """curl with these arguments and this on its stdin."""
        return subprocess.run(
            [*self._command, *arguments], input=content, capture_output=True, check=False
        )

    def __call__(self, *arguments: str, content: bytes = b"") -> Answer:
        """One request, which must get a response."""
        with tempfile.TemporaryDirectory(dir=self._directory) as own:
            head, body = Path(own, "head"), Path(own, "body")
            done = self.run(
                "--dump-header", str(head), "--output", str(body), "--write-out", "%{json}",
                *arguments, content=content,
            )  # fmt: skip
            if done.returncode:
                raise AssertionError(f"curl {arguments}: {done.returncode}: {done.stderr.decode()}")
            heads = [_parsed(text) for text in head.read_bytes().split(b"\r\n\r\n") if text]
            version, status, fields = heads[-1]
            return Answer(
                status,
                version,
                fields,
                body.read_bytes() if body.exists() else b"",
                [status for _, status, _ in heads[:-1]],
                json.loads(done.stdout),
            )


def _parsed(head: bytes) -> tuple[str, int, Message]:
    line, _, rest = head.partition(b"\r\n")
    version, status, *_ = line.decode("latin-1").split(" ")
    return version, int(status), http.client.parse_headers(_Lines(rest + b"\r\n\r\n"))


class _Lines:
    """What parse_headers wants of a file."""

    def __init__(self, data: bytes) -> None:
        self._lines = data.splitlines(keepends=True)

    def readline(self, limit: int = 0) -> bytes:
        return self._lines.pop(0) if self._lines else b""


def request(
    target: str = "/", *fields: str, method: str = "GET", host: str = HOST, version: str = "1.1"
) -> bytes:
    """A request head, to be sent on a socket."""
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def response(sock: socket.socket, method: str = "GET") -> Answer:
    """Read one response from a socket; of a connection that stays open, not an octet more.

    Only for responses that are sent after what was read before: it keeps what it read ahead.
    """
    answer = http.client.HTTPResponse(sock, method=method)
    answer.begin()
    with answer:
        version = {10: "HTTP/1.0", 11: "HTTP/1.1"}[answer.version]
        return Answer(answer.status, version, answer.headers, answer.read())


def read_exactly(sock: socket.socket, octets: int) -> bytes:
    """So many octets."""
    data = bytearray()
    while len(data) < octets:
        piece = sock.recv(octets - len(data))
        if not piece:
            raise AssertionError(f"it ended after {bytes(data)!r}")
        data += piece
    return bytes(data)


def read_head(sock: socket.socket) -> bytes:
    """A message head with its empty line, and not an octet more."""
    data = bytearray()
    while not data.endswith(b"\r\n\r\n"):
        data += read_exactly(sock, 1)
    return bytes(data)


def read_all(sock: socket.socket) -> bytes:
    """Everything until the end, however it ends."""
    data = bytearray()
    with suppress(ConnectionError, ssl.SSLError):
        while piece := sock.recv(65536):
            data += piece
    return bytes(data)


class ScriptedOrigin:
    """A plain upstream server in this process: `conversation` for each connection, in a thread.

    What goes wrong there is raised by `close`. `connections` counts.
    """

    def __init__(
        self,
        conversation: Callable[[socket.socket], None],
        path: str = "",
        address: tuple[str, int] = (LOOPBACK, 0),
    ) -> None:
        self.connections = 0
        self._conversation = conversation
        self._errors: list[BaseException] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen(128)
        else:
            self._listener = socket.create_server(address, backlog=128)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        name = self._listener.getsockname()
        return f"unix:{name}" if isinstance(name, str) else f"http://{name[0]}:{name[1]}"

    def close(self) -> None:
        """End it. Raises what went wrong in a conversation."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._accepting.join(PATIENCE)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        if self._errors:
            raise self._errors[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            sock.settimeout(PATIENCE)
            self._open.append(sock)
            thread = threading.Thread(target=self._converse, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _converse(self, sock: socket.socket) -> None:
        try:
            with sock:
                self._conversation(sock)
        except BaseException as e:  # to be raised in the test's own thread
            self._errors.append(e)


class Staged:
    """A test case whose tests share a stage: `prepare` sets it, once.

    trial knows no setUpClass. The stage ends when a test of another class begins, or with trial.
    """

    stage: Stage
    _stages: ClassVar[dict[type, Stage]] = {}

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        """Start what all tests of the class need; put it on the class."""

    def setUp(self) -> None:
        """The class's stage."""
        cls = type(self)
        if cls not in Staged._stages:
            end_stages()
            Staged._stages[cls] = Stage()
            try:
                cls.prepare(Staged._stages[cls])
            except BaseException:
                end_stages()
                raise
        self.stage = Staged._stages[cls]
        self._checked = {proxy: len(proxy.stderr) for proxy in self.stage.proxies}

    def tearDown(self) -> None:
        """No test may leave a traceback in the log of a proxy, or end one that others need."""
        for proxy, known in self._checked.items():
            said = proxy.stderr[known:]
            if "Traceback" in said or proxy.popen.poll() is not None:
                raise AssertionError(f"status {proxy.popen.poll()}:\n{said}")

    def own_stage(self) -> Stage:
        """One for this test alone. The authority is the class's, and so may an origin be that the
        test only asks."""
        stage = Stage(self.stage.authority)
        self.addCleanup(stage.close)  # type: ignore[attr-defined]
        self.addCleanup(_no_traceback, stage)  # type: ignore[attr-defined]
        return stage

    def scripted(
        self, conversation: Callable[[socket.socket], None], path: str = ""
    ) -> ScriptedOrigin:
        """An upstream server for this test alone."""
        origin = ScriptedOrigin(conversation, path)
        self.addCleanup(origin.close)  # type: ignore[attr-defined]
        return origin


def _no_traceback(stage: Stage) -> None:
    for proxy in stage.proxies:
        if "Traceback" in proxy.stderr:
            raise AssertionError(str(proxy))


@atexit.register
def end_stages() -> None:
    """End what the tests of a class shared."""
    while Staged._stages:
        _, stage = Staged._stages.popitem()
        stage.close()


class EndToEnd(Staged, SynchronousTestCase):
    """Tests that block."""
