"""Clients of a running proxy, for script/systemd-check: who fails, and who waits for how long.

    load.py PORT HOST CLIENTS WEBSOCKETS FILE

CLIENTS threads open a connection for each request, WEBSOCKETS connections stay open. Ends at
SIGTERM, and writes one JSON object to FILE. Needs nothing but Python.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

PATIENCE = 60.0  # seconds


class Load:
    """What was seen: `longest` is seconds from connect() to the end of the response."""

    def __init__(self, port: int, host: str) -> None:
        self.port = port
        self.host = host
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.requests = 0
        self.longest = 0.0
        self.failures: list[str] = []
        self.websockets: list[ssl.SSLSocket] = []
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE

    def connect(self) -> ssl.SSLSocket:
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        return self.tls.wrap_socket(sock, server_hostname=self.host)

    def ask(self) -> None:
        """Request after request, until it is over."""
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                with self.connect() as sock:
                    sock.sendall(
                        f"GET /-/health/live/ HTTP/1.1\r\nHost: {self.host}\r\n"
                        "Connection: close\r\n\r\n".encode()
                    )
                    answer = b""
                    while piece := sock.recv(65536):
                        answer += piece
                failure = "" if answer[9:12] in (b"200", b"204") else repr(answer[:60])
            except OSError as e:
                failure = f"{type(e).__name__}: {e}"
            took = time.monotonic() - began
            with self.lock:
                self.requests += 1
                self.longest = max(self.longest, took)
                if failure:
                    self.failures.append(f"{failure} after {took:.2f} s")
            time.sleep(0.01)

    def open_websocket(self) -> None:
        sock = self.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET /ws/client/ HTTP/1.1\r\nHost: {self.host}\r\nConnection: upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
            .encode()
        )  # fmt: skip
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise OSError(repr(head[:60]))
        self.websockets.append(sock)

    def websockets_alive(self) -> int:
        """How many still answer a ping."""
        alive = 0
        for sock in self.websockets:
            try:
                sock.settimeout(5)
                sock.sendall(b"\x89\x82\0\0\0\0hi")
                came = b""
                while b"\x8a\x02hi" not in came:
                    piece = sock.recv(4096)
                    if not piece:
                        break
                    came += piece
                else:
                    alive += 1
            except OSError:
                continue
        return alive


def main() -> None:
    port, host, clients, websockets, path = sys.argv[1:]
    load = Load(int(port), host)
    signal.signal(signal.SIGTERM, lambda *_: load.stop.set())
    for _ in range(int(websockets)):
        load.open_websocket()
    threads = [threading.Thread(target=load.ask) for _ in range(int(clients))]
    for thread in threads:
        thread.start()
    print("loading", flush=True)
    load.stop.wait(300)
    for thread in threads:
        thread.join()
    seen = {
        "requests": load.requests,
        "failed": len(load.failures),
        "failures": load.failures[:5],
        "longest": round(load.longest, 2),
        "websockets": int(websockets),
        "alive": load.websockets_alive(),
    }
    Path(path).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
