"""CPU per small keep-alive request, TLS to the client and TLS to the origin, beside nginx.

    python benchmarks/small_request.py [--rounds 3] [--seconds 4] [--connections 32]
                                       [--plain] [--vary]

An nginx origin answers 100 bytes over TLS. nginx (as on authentik's reverse-proxy page) and
authproxy stand in front of it in turn, each with one worker on one processor, while wrk asks from
the other. Printed is the CPU time of the proxy's process per request (from /proc/PID/stat) and the
ratio, median of the rounds. Needs Debian's nginx and wrk. Loopback only; stops by itself.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")
NGINX_COMMON = """
daemon off; master_process off; pid {dir}/{name}.pid; error_log {dir}/{name}.err;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {dir}/{name}-b; proxy_temp_path {dir}/{name}-p;
  fastcgi_temp_path {dir}/{name}-f; uwsgi_temp_path {dir}/{name}-u; scgi_temp_path {dir}/{name}-s;
"""
ORIGIN = (
    NGINX_COMMON
    + """
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
  server {{
    listen 127.0.0.1:{port} {ssl}; {certificate}
    location / {{ default_type text/html; return 200 "{body}"; }}
  }}
}}
"""
)
PROXY = (
    NGINX_COMMON
    + """
  access_log {dir}/{name}.log; keepalive_requests 1000000000;
  map $http_upgrade $connection_upgrade_keepalive {{ default upgrade; '' ''; }}
  upstream authentik {{ server 127.0.0.1:{origin}; keepalive 32; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} {ssl}; {certificate} ssl_protocols TLSv1.3;
    add_header Strict-Transport-Security "max-age=63072000" always;
    location / {{
      proxy_pass {scheme}://authentik; proxy_http_version 1.1;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade_keepalive;
    }}
  }}
}}
"""
)
AUTHPROXY = """
[listen]
{listen}
admin = ""
plain_http = "serve"
[log]
access = "{dir}/authproxy.log"
[limits]
requests_per_connection = 1000000000
[[site]]
upstream = "{scheme}://127.0.0.1:{origin}"
upstream_verify = "off"
{certificate}
"""


VARY = """
local n = 0
request = function()
  n = n + 1
  return wrk.format(nil, nil, { ["Host"] = "localhost", ["X-Request"] = n })
end
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


class Bench:
    def __init__(self, directory: str, plain: bool, vary: bool = False) -> None:
        self.dir = directory
        self.vary = vary
        self.plain = plain
        self.scheme = "http" if plain else "https"
        self.processes: list[subprocess.Popen[bytes]] = []
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                f"{directory}/key.pem",
                "-out",
                f"{directory}/cert.pem",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
            ],
            check=True,
            capture_output=True,
        )
        self.origin = self.nginx("origin", ORIGIN, body="x" * 100, core=1)[1]

    def write(self, name: str, text: str) -> str:
        path = f"{self.dir}/{name}"
        pathlib.Path(path).write_text(text)
        return path

    def start(self, command: list[str], core: int, port: int) -> int:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdout=subprocess.DEVNULL,
            stderr=open(f"{self.dir}/stderr", "ab"),
        )
        self.processes.append(process)
        wait_for(port)
        return process.pid

    def nginx(self, name: str, template: str, core: int, **more: object) -> tuple[int, int]:
        port = free_port()
        certificate = (
            ""
            if self.plain
            else f"ssl_certificate {self.dir}/cert.pem; ssl_certificate_key {self.dir}/key.pem;"
        )
        path = self.write(
            f"{name}.conf",
            template.format(
                dir=self.dir,
                name=name,
                port=port,
                ssl="" if self.plain else "ssl",
                certificate=certificate,
                scheme=self.scheme,
                **more,
            ),
        )
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        return self.start([nginx, "-c", path, "-p", self.dir], core, port), port

    def authproxy(self) -> tuple[int, int]:
        port = free_port()
        where = f'["127.0.0.1:{port}"]'
        listen = f"http = {where}\nhttps = []" if self.plain else f"http = []\nhttps = {where}"
        certificate = (
            ""
            if self.plain
            else f'certificate = "{self.dir}/cert.pem"\nprivate_key = "{self.dir}/key.pem"'
        )
        path = self.write(
            "authproxy.toml",
            AUTHPROXY.format(
                dir=self.dir,
                listen=listen,
                scheme=self.scheme,
                origin=self.origin,
                certificate=certificate,
            ),
        )
        twistd = os.path.join(os.path.dirname(sys.executable), "twistd")
        command = [
            sys.executable,
            twistd,
            "--nodaemon",
            "--pidfile=",
            "authproxy",
            "--config",
            path,
        ]
        return self.start(command, 0, port), port

    def load(self, port: int, connections: int, seconds: float) -> int:
        """The number of requests that wrk got answers to."""
        script = ["-s", self.write("vary.lua", VARY)] if self.vary else []
        out = subprocess.run(
            [
                "taskset",
                "-c",
                "1",
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds}s",
                *script,
                f"{self.scheme}://127.0.0.1:{port}/",
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        bad = re.search(r"Non-2xx.*|Socket errors.*", out)
        if bad:
            print("  ", bad.group())
        done = re.search(r"(\d+) requests in", out)
        assert done, out
        return int(done.group(1))

    def measure(self, pid: int, port: int, connections: int, seconds: float) -> float:
        self.load(port, connections, 1)
        before = cpu_seconds(pid)
        requests = self.load(port, connections, seconds)
        return (cpu_seconds(pid) - before) / requests * 1e6

    def stop(self, pid: int) -> None:
        for process in self.processes:
            if process.pid == pid and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--vary", action="store_true", help="no two requests have the same fields")
    parser.add_argument("--plain", action="store_true", help="no TLS on either side")
    args = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    for program in ("nginx", "wrk", "openssl", "taskset"):
        if not shutil.which(program):
            raise SystemExit(f"{program} is missing: apt install {program}")
    figures: dict[str, list[float]] = {"nginx": [], "authproxy": []}
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(directory, args.plain, args.vary)
        try:
            for round_ in range(args.rounds):
                for name in figures:
                    pid, port = (
                        bench.nginx("proxy", PROXY, core=0, origin=bench.origin)
                        if name == "nginx"
                        else bench.authproxy()
                    )
                    figures[name].append(bench.measure(pid, port, args.connections, args.seconds))
                    bench.stop(pid)
                print(
                    f"round {round_ + 1}: "
                    + ", ".join(f"{name} {values[-1]:.1f} us" for name, values in figures.items()),
                    flush=True,
                )
        finally:
            for process in bench.processes:
                bench.stop(process.pid)
    nginx, ours = (statistics.median(figures[name]) for name in ("nginx", "authproxy"))
    print(f"median: nginx {nginx:.1f} us, authproxy {ours:.1f} us: {ours / nginx:.2f} times nginx")


if __name__ == "__main__":
    main()
