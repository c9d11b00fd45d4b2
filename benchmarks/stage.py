"""Owns what every measurement stands on: a directory, a certificate, the origins.

The origin of small requests is nginx, the cheapest that there is (ours where it is missing); that
of WebSockets, uploads and downloads is ours (origin.py), which sees that every octet came.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authproxy.self_signed import self_signed

from . import machine
from .children import Child

ROOT = Path(__file__).resolve().parents[1]
SMALL = 100  # octets of the content of a small response
NGINX_ORIGIN = """
daemon off; master_process off; pid {dir}/origin.pid; error_log {dir}/origin.err;
events {{ worker_connections 16384; }}
http {{
  client_body_temp_path {dir}/o-b; proxy_temp_path {dir}/o-p;
  fastcgi_temp_path {dir}/o-f; uwsgi_temp_path {dir}/o-u; scgi_temp_path {dir}/o-s;
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
  server {{
    listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{tls} ssl backlog=4096;
    ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ default_type text/html; return 200 "{body}"; }}
  }}
}}
"""


@dataclass(frozen=True)
class Ports:
    """Where an origin listens."""

    plain: int
    tls: int


class Stage:
    """The directory, the certificate and the origins, until `close`."""

    def __init__(self) -> None:
        self._ending = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="authproxy-bench-"))
        self._ending.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.proxy_core, self.other_core = machine.processors()
        self.certificate = self.directory / "cert.pem"
        self.key = self.directory / "key.pem"
        try:
            self._make_certificate()
            self.ours = self._our_origin()
            self.small = self.ours if machine.missing("nginx") else self._nginx_origin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        self._ending.close()

    def start(
        self, command: list[str], core: int, port: int, said: Path | None = None, **environ: str
    ) -> Child:
        """A process that listens on this port. `said` is where its output goes."""
        child = Child(command, core=core, said=said or self.file("said", ""), environ=environ)
        self._ending.callback(child.stop)
        child.wait_for(port)
        return child

    def file(self, name: str, text: str) -> Path:
        """A file in the directory."""
        path = self.directory / name
        path.write_text(text)
        return path

    def _make_certificate(self) -> None:
        made, _ = self_signed(str(self.directory), ["localhost"])
        self.certificate.write_bytes(made.certificate.public_bytes(Encoding.PEM))
        self.key.write_bytes(
            made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        # HAProxy wants both in one file.
        self.file("both.pem", self.certificate.read_text() + self.key.read_text())

    def _our_origin(self) -> Ports:
        ports = Ports(machine.free_port(), machine.free_port())
        command = [sys.executable, "-m", "benchmarks.origin", str(ports.plain), str(ports.tls)]
        command += [str(self.certificate), str(self.key)]
        self.start(command, self.other_core, ports.tls, PYTHONPATH=str(ROOT))
        return ports

    def _nginx_origin(self) -> Ports:
        ports = Ports(machine.free_port(), machine.free_port())
        text = NGINX_ORIGIN.format(
            dir=self.directory, plain=ports.plain, tls=ports.tls, body="x" * SMALL
        )
        command = [shutil.which("nginx") or "nginx", "-p", str(self.directory)]
        command += ["-c", str(self.file("origin.conf", text))]
        self.start(command, self.other_core, ports.tls)
        return ports
