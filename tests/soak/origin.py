"""An upstream server whose every answer follows from the request: python -m tests.soak.origin.

    GET  /bytes/ID?size=N&framing=length|chunked     `content(ID, N)`
    POST /sink/ID                                    JSON: how many octets came, and their SHA-256
    POST /mirror/ID                                  what came
    GET  /ws/ID, with an Upgrade                     every octet after the head comes back

TLS, a thread for each connection. What is posted is noted, one ID a line, in the file --noted: a
second line with the same ID is a request that was doubled.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import socket
import ssl
import threading
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import h11

LOOPBACK = "127.0.0.1"
PIECE = 65536
PATIENCE = 120.0  # seconds without an octet
CLOSING = 50  # requests after which a connection is not kept
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Fields = list[tuple[str, str]]


def content(name: str, size: int) -> bytes:
    """The octets that belong to this ID."""
    return hashlib.shake_128(name.encode()).digest(size)


def sunk(data: bytes) -> bytes:
    """The answer of /sink."""
    return json.dumps({"octets": len(data), "sha256": hashlib.sha256(data).hexdigest()}).encode()


class Conversation:
    """One connection."""

    def __init__(self, sock: ssl.SSLSocket, noted: int) -> None:
        self._sock = sock
        self._noted = noted
        self._h11 = h11.Connection(h11.SERVER)
        self._left = CLOSING

    def run(self) -> None:
        """Until it ends."""
        while self._h11.our_state is h11.IDLE:
            asked = self._next()
            if not isinstance(asked, h11.Request):
                return
            target = urlsplit(asked.target.decode())
            if target.path.startswith("/ws/"):
                self._echo(dict(asked.headers))
                return
            self._answer(target.path, parse_qs(target.query))
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                return
            self._h11.start_next_cycle()

    def _next(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self._send(go_on)
            self._h11.receive_data(self._sock.recv(PIECE))
        return event

    def _content(self) -> bytes:
        data = bytearray()
        while isinstance(event := self._next(), h11.Data):
            data += event.data
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionError(f"cut: {event!r}")
        return bytes(data)

    def _answer(self, path: str, query: dict[str, list[str]]) -> None:
        _, kind, name = path.split("/")
        came = self._content()
        if kind == "bytes":
            data = content(name, int(query["size"][0]))
        else:
            os.write(self._noted, f"{name}\n".encode())
            data = sunk(came) if kind == "sink" else came
        chunked = query.get("framing") == ["chunked"]
        framing = (
            ("transfer-encoding", "chunked") if chunked else ("content-length", str(len(data)))
        )
        fields: Fields = [framing, ("content-type", "application/octet-stream")]
        self._left -= 1
        if not self._left:
            fields.append(("connection", "close"))
        self._send(h11.Response(status_code=200, headers=fields))
        for start in range(0, len(data), PIECE):
            self._send(h11.Data(data[start : start + PIECE]))
        self._send(h11.EndOfMessage())

    def _send(self, event: h11.Event) -> None:
        if data := self._h11.send(event):
            self._sock.sendall(data)

    def _echo(self, fields: dict[bytes, bytes]) -> None:
        key = fields[b"sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        switching = [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-accept", accept),
        ]
        self._content()
        self._send(h11.InformationalResponse(status_code=101, headers=switching))
        early, _ = self._h11.trailing_data
        self._sock.sendall(early)
        while data := self._sock.recv(PIECE):
            self._sock.sendall(data)


def converse(raw: socket.socket, tls: ssl.SSLContext, noted: int) -> None:
    """One connection, until it ends, however it ends: the clients know what has to come."""
    raw.settimeout(PATIENCE)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with raw, suppress(OSError, h11.ProtocolError), tls.wrap_socket(raw, server_side=True) as sock:
        Conversation(sock, noted).run()


def main() -> None:
    """Listen, say where, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--noted", required=True)
    chosen = parser.parse_args()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chosen.certificate, chosen.key)
    noted = os.open(chosen.noted, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    listener = socket.create_server((LOOPBACK, chosen.port), backlog=512)
    print("listening", listener.getsockname()[1], flush=True)
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=converse, args=(raw, tls, noted), daemon=True).start()


if __name__ == "__main__":
    main()
