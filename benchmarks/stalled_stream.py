"""One stalled stream among a hundred of one HTTP/2 connection: what do the other 99 notice?

    python -m benchmarks.stalled_stream [--seconds 60]

An origin, authproxy, and a client made with the h2 library, which asks for 99 small files at once,
again and again, and notes how long each took: first with nothing else, then beside a stream whose
window it never opens. Prints p50, p99 and the longest, of both. The client is slower than the
proxy, so most of each figure is its own; what counts is the difference.
"""

from __future__ import annotations

import argparse
import ssl
import time
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset

from . import configurations, machine, sockets
from .proxies import Place, authproxy_command
from .stage import ROOT, Stage

SMALL, LARGE = "/", "/octets/1000000"
OTHERS = 99
PAUSE = 0.05  # seconds between two rounds


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        self._socket = sockets.connect(port, context)
        self._h2 = H2Connection(H2Configuration(header_encoding=None))
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(1 << 24)
        self.stalled = 0
        self.reset = False

    def ask(self, path: str) -> int:
        """A request; `flush` sends it."""
        number = self._h2.get_next_available_stream_id()
        self._h2.send_headers(
            number,
            [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "localhost"),
                (":path", path),
            ],
            end_stream=True,
        )
        return number

    def receive(self) -> list[Any]:
        """What came, after sending what there is."""
        self._socket.sendall(self._h2.data_to_send())
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the proxy closed the connection")
        events = self._h2.receive_data(data)
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id != self.stalled:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, StreamReset):
                self.reset = True
        return events

    def stall(self, path: str) -> None:
        """Ask for something large, and open no window for it."""
        self.stalled = self.ask(path)
        taken = 0
        while taken < 65535:
            taken += sum(
                e.flow_controlled_length for e in self.receive() if isinstance(e, DataReceived)
            )

    def rounds(self, path: str, seconds: float) -> list[float]:
        """Seconds that each of the 99 took, round after round."""
        took: list[float] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begun = {self.ask(path): time.monotonic() for _ in range(OTHERS)}
            while begun:
                ended = [e.stream_id for e in self.receive() if isinstance(e, StreamEnded)]
                now = time.monotonic()
                took += [now - begun.pop(number) for number in ended if number in begun]
            time.sleep(PAUSE)
        return took


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="The cost of a stalled stream to the other 99.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    seconds = parser.parse_args(arguments).seconds
    # A whole measurement long: by default a minute is as long as a stream may stall.
    configuration = configurations.AUTHPROXY + f"[timeouts]\nwrite_stall = {2 * seconds + 60}\n"
    with Stage() as stage:
        log = stage.file("authproxy.log", "")
        place = Place(stage, machine.free_port(), stage.ours.tls, True, log)
        command = authproxy_command(place, configuration, workers=1)
        stage.start(command, stage.proxy_core, place.port, PYTHONPATH=str(ROOT))
        for stalled in (False, True):
            client = Client(place.port)
            if stalled:
                client.stall(LARGE)
            client.rounds(SMALL, 1.0)
            took = sorted(client.rounds(SMALL, seconds))
            if client.reset:
                raise SystemExit("A stream was reset.")
            p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
            print(
                f"{'beside a stalled stream' if stalled else 'with nothing else'}: {len(took)}"
                f" requests, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms,"
                f" longest {took[-1] * 1e3:.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
