"""What Prometheus reads of a running proxy, of one process and of several."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import skipUnless

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from authproxy.control import ask

from ..test_metrics import promtool
from .processes import (
    HOST,
    LOOPBACK,
    PATIENCE,
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
from .test_websockets import UPGRADE, switching

MANY = 16  # requests, each on a connection of its own
OTHER_HOST = "other.example.com"
Labels = dict[str, str]


def upstream(sock: socket.socket) -> None:
    """Answers any number of requests; a WebSocket echoes."""
    while sock.recv(1, socket.MSG_PEEK):
        head = read_head(sock)
        if b"upgrade: websocket" in head.lower():
            sock.sendall(switching(head))
            while data := sock.recv(100):
                sock.sendall(data)
            return
        length = re.search(rb"content-length: (\d+)", head.lower())
        read_exactly(sock, int(length[1]) if length else 0)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


class _Tests(Staged, SynchronousTestCase):
    workers = 1

    def setUp(self) -> None:
        super().setUp()
        self.here = self.own_stage()
        self.proxy = self.start(self.here)

    def start(self, stage: Stage) -> Proxy:
        self.admin = free_port()
        listen = {
            "https": [f"{LOOPBACK}:0"], "http": [f"{LOOPBACK}:0"],
            "admin": f"{LOOPBACK}:{self.admin}",
        }  # fmt: skip
        self.document = stage.configuration(self.scripted(upstream).url, listen=listen)
        self.document["workers"] = self.workers
        other = {"hosts": [OTHER_HOST], "upstream": f"http://{LOOPBACK}:1"}
        self.document["site"].append(other | stage.certificate(OTHER_HOST))
        return stage.proxy(self.document)

    def text(self) -> bytes:
        url = f"http://{LOOPBACK}:{self.admin}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE) as got:
            content: bytes = got.read()
        return content

    def families(self) -> dict[str, Metric]:
        families = text_string_to_metric_families(self.text().decode())
        return {family.name.removeprefix("authproxy_"): family for family in families}

    def value(self, name: str, suffix: str = "", **labels: str) -> float:
        """The sum of what has these labels."""
        return sum(
            sample.value
            for sample in self.families()[name].samples
            if sample.name.endswith(suffix) and labels.items() <= sample.labels.items()
        )

    def connected(self) -> ssl.SSLSocket:
        sock = self.here.connect(self.proxy)
        self.addCleanup(sock.close)
        return sock

    def websocket(self, path: str) -> ssl.SSLSocket:
        sock = self.connected()
        sock.sendall(request(path, *UPGRADE))
        self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 101 "))
        return sock

    def reload(self) -> None:
        """What was counted stays, of sites that changed too; certificates are the new ones."""
        with self.connected() as sock:
            sock.sendall(request("/"))
            response(sock)
        until(lambda: self.value("requests", site=HOST) == 1, "it is counted")
        expiry = self.value("certificate_expiry_timestamp_seconds", site=HOST)
        leaf = self.here.authority.issue_cert(HOST, not_after=datetime(2040, 1, 1, tzinfo=UTC))
        site, other = self.document["site"]
        renewed = {
            "certificate": str(self.here.file("new.pem", leaf.cert_chain_pems[0].bytes())),
            "private_key": str(self.here.file("new.key", leaf.private_key_pem.bytes())),
            "x_forwarded_for": "append",
        }
        document = self.document | {"site": [site | renewed, other], "pool": {"idle": 7}}
        Path(self.proxy.popen.args[-1]).write_text(toml(document))  # type: ignore[index]
        control = self.document["listen"]["control"]
        self.assertEqual(ask(control, "reload", PATIENCE), {"problem": ""}, str(self.proxy))
        with self.connected() as sock:
            sock.sendall(request("/"))
            response(sock)
        until(lambda: self.value("requests", site=HOST) == 2, "both are counted")
        self.assertEqual(self.value("upstream_dials", site=HOST), 2)
        self.assertEqual(self.value("tls_handshakes"), 2)
        now = self.value("certificate_expiry_timestamp_seconds", site=HOST)
        self.assertNotEqual(now, expiry)
        self.assertEqual(now, datetime(2040, 1, 1, tzinfo=UTC).timestamp())


class OneProcessTests(_Tests):
    def test_a_reload(self) -> None:
        self.reload()

    def test_requests(self) -> None:
        sockets = [self.connected() for _ in range(MANY)]
        for sock in sockets:
            sock.sendall(request("/", "X-Forwarded-For: 192.0.2.1"))
            self.assertEqual(response(sock).content, b"hello")
        curl = self.here.curl(self.proxy, "--http2")
        answer = curl("--data-binary", "@-", f"{self.proxy.url}/", content=b"x" * 1000)
        self.assertEqual(answer.status, 200)
        gone = self.here.curl(self.proxy)(f"https://{OTHER_HOST}:{self.proxy.https}/")
        self.assertEqual(gone.status, 503)
        until(lambda: self.value("requests") == MANY + 2, "all are counted")
        ours: Labels = {"site": HOST}
        for expected, name, labels in (
            (MANY, "requests", {"method": "GET", "status": "2xx", "version": "1.1"}),
            (1, "requests", {"method": "POST", "status": "2xx", "version": "2"}),
            (5 * (MANY + 1), "content_sent_bytes", {}),
            (1000, "content_received_bytes", {}),
            (0, "upstream_waiting", {}),
            (0, "upstream_connections", {"state": "leased"}),
            (0, "upstream_dial_failures", {}),
        ):  # fmt: skip
            self.assertEqual(self.value(name, **ours, **labels), expected, (name, labels))
        for name in ("request_seconds", "upstream_first_byte_seconds"):
            self.assertEqual(self.value(name, "_count", site=HOST), MANY + 1)
            self.assertEqual(self.value(name, "_bucket", site=HOST, le="+Inf"), MANY + 1)
        dials, reuses = self.value("upstream_dials", site=HOST), self.value("upstream_reuses")
        self.assertEqual(dials + reuses, MANY + 1)
        self.assertEqual(self.value("upstream_faults", site=OTHER_HOST, reason="no connection"), 1)
        self.assertEqual(self.value("upstream_faults"), 1)
        self.assertEqual(self.value("requests", site=OTHER_HOST, status="5xx"), 1)
        self.assertEqual(self.value("dropped_fields", field="x-forwarded-for"), MANY)
        self.assertEqual(self.value("client_connections", version="1"), MANY)

    def test_connections(self) -> None:
        self.connected()
        with connect(self.proxy.https) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            self.assertIn(b" 400 ", read_head(sock))
        untrusting = ssl.create_default_context()
        with connect(self.proxy.https) as sock, self.assertRaises(ssl.SSLError):
            untrusting.wrap_socket(sock, server_hostname=HOST)
        until(lambda: self.value("failed_openings") == 2, "both are counted")
        reasons = {s.labels["reason"] for s in self.families()["failed_openings"].samples}
        self.assertEqual(
            reasons,
            {"plain HTTP on the TLS port", "TLS: the client refused the certificate"},
        )
        self.assertEqual(
            self.value("tls_handshakes", tls="TLSv1.3", protocol="http/1.1", session="new"), 1
        )

    def test_resumed_sessions(self) -> None:
        context = self.here.client_tls("http/1.1")
        session = None
        for _ in range(2):
            with (
                connect(self.proxy.https) as sock,
                context.wrap_socket(sock, server_hostname=HOST, session=session) as tls,
            ):
                tls.sendall(request("/"))
                response(tls)
                session = tls.session
        self.assertEqual(self.value("tls_handshakes", session="new"), 1)
        self.assertEqual(self.value("tls_handshakes", session="resumed"), 1)

    def test_certificates(self) -> None:
        for site in (HOST, OTHER_HOST):
            expiry = self.value("certificate_expiry_timestamp_seconds", site=site)
            self.assertGreater(expiry, time.time() + 86400)

    @skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_promtool_has_no_objection(self) -> None:
        sock = self.connected()
        sock.sendall(request("/"))
        response(sock)
        self.websocket("/ws/client/")
        self.assertEqual(promtool("check", "metrics", text=self.text()), (0, ""))


class WebSocketTests(_Tests):
    def test_paths_and_octets(self) -> None:
        outpost, _ = self.websocket("/ws/outpost/1/"), self.websocket("/ws/client/?x=1")
        outpost.sendall(b"12345")
        self.assertEqual(outpost.recv(5), b"12345")
        until(lambda: self.value("websocket_sent_bytes") == 5, "the octets of open ones")
        self.assertEqual(self.value("websockets", path="/ws/outpost/"), 1)
        self.assertEqual(self.value("websockets", path="/ws/client/"), 1)
        self.assertEqual(self.value("websockets"), 2)
        self.assertEqual(self.value("websocket_received_bytes", site=HOST), 5)
        outpost.close()
        until(lambda: self.value("websockets") == 1, "it is closed")
        self.assertEqual(self.value("websockets_opened"), 2)
        self.assertEqual(self.value("websocket_received_bytes", site=HOST), 5)
        self.assertEqual(self.value("requests", status="1xx"), 1)
        self.assertEqual(self.value("request_seconds", "_count"), 0)


class TwoWorkersTests(_Tests):
    workers = 2

    def test_a_reload(self) -> None:
        self.reload()

    def test_sums(self) -> None:
        sockets = [self.connected() for _ in range(2 * MANY)]
        for sock in sockets:
            sock.sendall(request("/"))
            response(sock)
        self.websocket("/ws/rac/1/")
        whole: dict[str, Any] = {"site": HOST, "method": "GET", "status": "2xx", "version": "1.1"}
        until(lambda: self.value("requests", **whole) == 2 * MANY, "all are counted")
        until(lambda: self.value("websockets", path="/ws/rac/") == 1, "it is counted")
        self.assertEqual(self.value("request_seconds", "_count", site=HOST), 2 * MANY)
        self.assertEqual(self.value("tls_handshakes"), 2 * MANY + 1)
        self.assertEqual(self.value("workers"), 2)
        self.assertEqual(self.value("worker_restarts"), 0)

    def test_what_is_said_once(self) -> None:
        """A sum of the workers' would be a day far away."""
        expiry = self.value("certificate_expiry_timestamp_seconds", site=HOST)
        [pair] = self.here.directory.glob(f"{HOST}-*.pem")
        decoded = ssl._ssl._test_decode_cert(str(pair))  # type: ignore[attr-defined]
        self.assertEqual(expiry, ssl.cert_time_to_seconds(decoded["notAfter"]))
