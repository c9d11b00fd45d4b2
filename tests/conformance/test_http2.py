"""RFC 9113's error conditions: raw frames over TLS to the running proxy, see the tables."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import ClassVar

from tests.e2e.processes import HOST, EndToEnd, Origin, Proxy, Stage, connect

from .frames import ask, ping, settings
from .http2_frame_cases import (
    CONTINUATIONS,
    FORMAT,
    FRAME_CASES,
    HPACK,
    PADDING,
    PLACES,
    PREFACES,
    SIZES,
    STATES,
)
from .http2_message_cases import (
    CONTENT,
    FIELDS,
    MESSAGE_CASES,
    PINGS,
    PSEUDO,
    SETTINGS_VALUES,
    WINDOWS,
)
from .http2_peer import Case, Peer

LEAST = 100


class Http2(EndToEnd):
    """Each case on a connection of its own."""

    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]
    tls: ClassVar[ssl.SSLContext]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = stage.origin()
        cls.tls = stage.client_tls("h2")
        cls.proxy = stage.proxy(stage.configuration(f"http://127.0.0.1:{cls.origin.port}"))

    def peer(self) -> Peer:
        raw = connect(self.proxy.https)
        self.addCleanup(raw.close)
        sock = self.tls.wrap_socket(raw, server_hostname=HOST, suppress_ragged_eofs=False)
        self.addCleanup(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Peer(sock)

    def run_all(self, cases: Sequence[Case]) -> None:
        wrong = []
        for case in cases:
            happened = self.peer().run(case)
            if happened not in case.allowed:
                allowed = " or ".join(case.allowed)
                wrong.append(f"{case.name} ({case.section}): {happened}; allowed: {allowed}")
        if wrong:
            self.fail("\n".join(wrong))

    def test_prefaces(self) -> None:
        self.run_all(PREFACES)

    def test_format(self) -> None:
        self.run_all(FORMAT)

    def test_sizes(self) -> None:
        self.run_all(SIZES)

    def test_hpack(self) -> None:
        self.run_all(HPACK)

    def test_states(self) -> None:
        self.run_all(STATES)

    def test_padding(self) -> None:
        self.run_all(PADDING)

    def test_places(self) -> None:
        self.run_all(PLACES)

    def test_continuations(self) -> None:
        self.run_all(CONTINUATIONS)

    def test_settings(self) -> None:
        self.run_all(SETTINGS_VALUES)

    def test_pings(self) -> None:
        self.run_all(PINGS)

    def test_windows(self) -> None:
        self.run_all(WINDOWS)

    def test_content(self) -> None:
        self.run_all(CONTENT)

    def test_fields(self) -> None:
        self.run_all(FIELDS)

    def test_pseudo_header_fields(self) -> None:
        self.run_all(PSEUDO)

    def test_number_of_cases(self) -> None:
        """Each has a name of its own, by which its failure is found."""
        cases = [*FRAME_CASES, *MESSAGE_CASES]
        self.assertGreaterEqual(len(cases), LEAST)
        names = [(case.name, case.section) for case in cases]
        self.assertEqual(sorted(set(names)), sorted(names))

    def test_acknowledgements(self) -> None:
        """6.5.3, 6.7: each SETTINGS, and each PING with its own octets, in their order."""
        peer = self.peer()
        sent = (settings(), ping(b"the 1st."), settings((4, 9)), ping(b"the 2nd."), ask(1))
        case = Case("", "", (*sent, settings((4, 65535))), ("status 200",))
        self.assertEqual(peer.run(case), "status 200")
        self.assertEqual(peer.pings, [b"the 1st.", b"the 2nd.", b"sequence"])
        self.assertEqual(peer.acknowledged, 4)
