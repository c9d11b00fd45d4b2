"""What passes the gate, wherever the octets are cut."""

from __future__ import annotations

from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from authproxy.downstream.http2_gate import FRAMES_A_TURN, Budget, ConnectionFault, Gate

from ..examples import EXAMPLES

BEGINNING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
GOODBYE = GoAwayFrame(0, last_stream_id=0, error_code=0, additional_data=b"bye")


def octets(*frames: Frame) -> bytes:
    """The preface, SETTINGS and these frames."""
    return BEGINNING + b"".join(frame.serialize() for frame in frames)


def headers(number: int, block: bytes, *flags: str) -> HeadersFrame:
    """A HEADERS frame."""
    frame = HeadersFrame(number, block)
    for flag in flags:
        frame.flags.add(flag)
    return frame


class GateTests(SynchronousTestCase):
    def gate(self, limit: int = 65536) -> Gate:
        return Gate(limit, lambda: 0.0, {1})

    def everywhere(self, data: bytes, wanted: bytes) -> None:
        """Cut at every position, and octet by octet."""
        for cut in range(len(data) + 1):
            gate = self.gate()
            self.assertEqual(gate.admit(data[:cut]) + gate.admit(data[cut:]), wanted, cut)
            self.assertFalse(gate.in_head)
        gate = self.gate()
        self.assertEqual(b"".join([gate.admit(bytes([octet])) for octet in data]), wanted)

    @EXAMPLES
    @given(
        st.lists(
            st.builds(
                lambda kind, flags, number, payload: (
                    len(payload).to_bytes(3) + bytes([kind, flags]) + number.to_bytes(4) + payload
                ),
                st.sampled_from([0, 1, 1, 3, 6, 7, 9, 9, 8, 200]),
                st.sampled_from([0, 1, 4, 5]),
                st.sampled_from([0, 1, 3]),
                st.sampled_from([b"", b"x", b"12345678", b"y" * 40]),
            ),
            max_size=8,
        ),
        st.integers(1, 60),
        st.integers(20, 200),
    )
    def test_cuts_change_nothing(self, some: list[bytes], size: int, limit: int) -> None:
        """Neither what passes nor the verdict, whatever the frames are."""
        data = BEGINNING + b"".join(some)

        def verdict(pieces: list[bytes]) -> tuple[bytes, object, bool]:
            gate, passed = self.gate(limit), b""
            for piece in pieces:
                try:
                    passed += gate.admit(piece)
                except ConnectionFault as e:
                    return b"", e.code, False
            return passed, gate.in_head, gate.farewell

        whole = verdict([data])
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        self.assertEqual(verdict(pieces), whole)

    def test_passes_what_is_ordinary(self) -> None:
        data = octets(
            headers(1, b"abc", "END_HEADERS"), DataFrame(1, b"hello"), PingFrame(0, b"12345678")
        )
        self.everywhere(data, data)

    def test_takes_goaway_out(self) -> None:
        before, after = PingFrame(0, b"12345678"), DataFrame(1, b"hello")
        self.everywhere(octets(before, GOODBYE, GOODBYE, after), octets(before, after))
        gate = self.gate()
        gate.admit(octets(GOODBYE))
        self.assertTrue(gate.farewell)

    def test_leaves_a_malformed_goaway_to_the_library(self) -> None:
        for data in (
            b"\0\0\7\7\0\0\0\0\0" + b"x" * 7,
            b"\0\0\x08\7\0\0\0\0\1" + b"x" * 8,
        ):
            self.everywhere(BEGINNING + data, BEGINNING + data)
        inside = octets(headers(1, b"abc"), GOODBYE)
        gate = self.gate()
        self.assertEqual(gate.admit(inside), inside)

    def test_knows_when_a_head_is_open(self) -> None:
        gate = self.gate()
        gate.admit(octets())
        self.assertFalse(gate.in_head)
        begun = headers(1, b"abc").serialize()
        gate.admit(begun[:10])
        self.assertTrue(gate.in_head)
        gate.admit(begun[10:])
        self.assertTrue(gate.in_head)
        more = ContinuationFrame(1, b"abc")
        more.flags.add("END_HEADERS")
        end = more.serialize()
        gate.admit(end[:-1])
        self.assertTrue(gate.in_head)
        gate.admit(end[-1:])
        self.assertFalse(gate.in_head)

    def test_head_in_pieces(self) -> None:
        gate = self.gate(10)
        gate.admit(octets(headers(1, b"12345")))
        gate.admit(ContinuationFrame(1, b"12345").serialize())
        with self.assertRaises(ConnectionFault) as caught:
            gate.admit(ContinuationFrame(1, b"6").serialize())
        self.assertEqual(caught.exception.limit, "limits.head_bytes")

    def test_frame_too_large(self) -> None:
        gate = self.gate()
        gate.admit(octets())
        gate.admit(b"\x00\x40\x00\0\0\0\0\0\1" + b"x" * 16384)
        with self.assertRaises(ConnectionFault) as caught:
            gate.admit(b"\x00\x40\x01\0\0\0\0\0\1")
        self.assertEqual(caught.exception.code, ErrorCodes.FRAME_SIZE_ERROR)


class TurnTests(SynchronousTestCase):
    def test_so_many_frames_a_turn(self) -> None:
        """Then the rest, and what came meanwhile, in their order."""
        gate = Gate(65536, lambda: 0.0, {1})
        frames = [DataFrame(1, b"%d" % number).serialize() for number in range(FRAMES_A_TURN)]
        first = octets() + b"".join(frames[:-1])
        self.assertEqual(gate.admit(octets() + b"".join(frames) + frames[0][:5]), first)
        self.assertTrue(gate.more)
        self.assertEqual(gate.admit(frames[0][5:]), frames[-1] + frames[0])
        self.assertFalse(gate.more)

    def test_a_goaway_at_the_end_of_a_turn(self) -> None:
        gate = Gate(65536, lambda: 0.0, {1})
        data = [DataFrame(1, b"x").serialize()] * (FRAMES_A_TURN - 2)
        end = DataFrame(1, b"end").serialize()
        passed = gate.admit(octets() + b"".join(data) + GOODBYE.serialize() + end)
        self.assertEqual(passed, octets() + b"".join(data))
        self.assertEqual((gate.farewell, gate.more), (True, True))
        self.assertEqual(gate.admit(b""), end)


class BudgetTests(SynchronousTestCase):
    def test_burst_and_rate(self) -> None:
        clock = Clock()
        budget = Budget(10, 2, clock.seconds)
        self.assertEqual([budget.spend() for _ in range(11)], [True] * 10 + [False])
        clock.advance(3)
        self.assertEqual([budget.spend() for _ in range(6)], [True] * 5 + [False])

    def test_earned(self) -> None:
        budget = Budget(10, 0, lambda: 0.0)
        for _ in range(10):
            budget.spend()
        budget.earn(3)
        self.assertEqual([budget.spend() for _ in range(4)], [True] * 3 + [False])
        budget.earn(100)
        self.assertEqual(sum(budget.spend() for _ in range(100)), 10)
