"""Readers of content: what is kept and given back between segments, and generated chunks."""

from __future__ import annotations

import h11
from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire import serialise
from authproxy.wire.bodies import ChunkedReader, LengthReader, Reader, UntilCloseReader, reader_for
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import CHUNKED, UNTIL_CLOSE, Fields, HeadLimits
from tests.wire import generated
from tests.wire.feeding import NEXT_REQUEST, octet_by_octet, refusal, segmentations

CHUNKS = b"5;a=b\r\nhello\r\n00A\r\n0123456789\r\n0;c\r\nX: y\r\n\r\n"


def read(reader: Reader, segments: list[bytes]) -> bytes:
    return b"".join(map(reader.receive, segments))


def outcome(segments: list[bytes]) -> object:
    """Content, trailers, rest, finished; or the refusal."""
    reader = ChunkedReader()
    try:
        content = read(reader, segments)
    except ProtocolError as e:
        return ("refused", e.status)
    return (content, reader.trailers, reader.rest, reader.finished)


def accepted(octets: bytes) -> tuple[bytes, Fields, bytes] | None:
    """Content, trailers and rest of complete chunked content that is not refused."""
    reader = ChunkedReader()
    try:
        content = reader.receive(octets)
    except ProtocolError:
        return None
    return (content, reader.trailers, reader.rest) if reader.finished else None


class LengthReaderTests(SynchronousTestCase):
    def test_in_every_segmentation(self) -> None:
        for behind in (b"", NEXT_REQUEST):
            for segments in segmentations(b"hello" + behind):
                reader = LengthReader(5)
                self.assertEqual(read(reader, segments), b"hello")
                self.assertTrue(reader.finished)
                self.assertEqual(reader.rest, behind)
                reader.end_of_input()

    def test_content_is_given_back_at_once(self) -> None:
        reader = LengthReader(5)
        for octet in octet_by_octet(b"hell"):
            self.assertEqual(reader.receive(octet), octet)
            self.assertFalse(reader.finished)
        self.assertEqual(reader.receive(b"o"), b"o")
        self.assertTrue(reader.finished)

    def test_a_segment_that_is_all_content_is_not_copied(self) -> None:
        reader = LengthReader(6)
        for data in (b"abc", b"def"):
            self.assertIs(reader.receive(data), data)

    def test_no_content(self) -> None:
        reader = LengthReader(0)
        self.assertTrue(reader.finished)
        self.assertEqual(reader.receive(NEXT_REQUEST), b"")
        self.assertEqual(reader.rest, NEXT_REQUEST)

    def test_empty_segments(self) -> None:
        reader = LengthReader(1)
        self.assertEqual(reader.receive(b""), b"")
        self.assertFalse(reader.finished)

    def test_cut(self) -> None:
        for status in (400, 502):
            reader = LengthReader(5, status)
            reader.receive(b"hell")
            error = refusal(reader.end_of_input)
            assert error is not None
            self.assertEqual(error.status, status)


class UntilCloseReaderTests(SynchronousTestCase):
    def test_all_is_content_until_the_end(self) -> None:
        for segments in segmentations(b"0\r\n\r\n" + NEXT_REQUEST):
            reader = UntilCloseReader()
            self.assertEqual(read(reader, segments), b"0\r\n\r\n" + NEXT_REQUEST)
            self.assertFalse(reader.finished)
            reader.end_of_input()
            self.assertTrue(reader.finished)
            self.assertEqual(reader.rest, b"")


class ChunkedReaderTests(SynchronousTestCase):
    def test_in_every_segmentation(self) -> None:
        for behind in (b"", b"\r\n", NEXT_REQUEST, CHUNKS):
            for segments in segmentations(CHUNKS + behind):
                reader = ChunkedReader()
                self.assertEqual(read(reader, segments), b"hello0123456789")
                self.assertTrue(reader.finished)
                self.assertEqual(reader.trailers, [(b"x", b"y")])
                self.assertEqual(reader.rest, behind)
                reader.end_of_input()

    def test_in_segments_of_every_size(self) -> None:
        octets = CHUNKS + NEXT_REQUEST
        for size in range(1, len(octets)):
            segments = [octets[i : i + size] for i in range(0, len(octets), size)]
            whole = (b"hello0123456789", [(b"x", b"y")], NEXT_REQUEST, True)
            self.assertEqual(outcome(segments), whole)

    def test_not_finished_until_the_last_octet(self) -> None:
        for cut in range(len(CHUNKS)):
            reader = ChunkedReader()
            reader.receive(CHUNKS[:cut])
            self.assertFalse(reader.finished)
            self.assertRaises(ProtocolError, reader.end_of_input)

    def test_content_is_given_back_at_once(self) -> None:
        reader = ChunkedReader()
        self.assertEqual(reader.receive(b"5\r\nhel"), b"hel")
        self.assertEqual(reader.receive(b"lo"), b"lo")
        self.assertEqual(reader.receive(b"\r\n3\r\nabc\r"), b"abc")
        self.assertEqual(reader.receive(b"\n0\r"), b"")
        self.assertEqual(reader.receive(b"\n\r\n"), b"")
        self.assertTrue(reader.finished)

    def test_a_segment_within_a_chunk_is_not_copied(self) -> None:
        reader = ChunkedReader()
        reader.receive(b"10\r\n")
        for data in (b"01234567", b"01234567"):
            self.assertIs(reader.receive(data), data)

    def test_a_malformed_chunk_is_refused_with_its_first_wrong_octet(self) -> None:
        for good, wrong in [
            (b"", b"g"),
            (b"", b"\r"),
            (b"", b";"),
            (b"5", b"\n"),
            (b"5", b" "),
            (b"5\r", b"h"),
            (b"0" * 16, b"0"),
            (b"5;a", b"\n"),
            (b"5;a\r", b"b"),
            (b"5;" + b"a" * 255, b"a"),
            (b"5\r\nhello", b"!"),
            (b"5\r\nhello", b"\n"),
            (b"5\r\nhello\r", b"0"),
            (b"5\r\nhello\r\n", b"\r"),
        ]:
            for before in ([good], octet_by_octet(good)):
                reader = ChunkedReader()
                read(reader, before)
                self.assertRaises(ProtocolError, reader.receive, wrong)
            self.assertIsNotNone(refusal(ChunkedReader().receive, good + wrong))

    def test_the_largest_size(self) -> None:
        reader = ChunkedReader()
        self.assertEqual(reader.receive(b"f" * 16 + b"\r\nabc"), b"abc")
        self.assertEqual(reader.receive(b"0\r\n\r\n"), b"0\r\n\r\n")
        self.assertFalse(reader.finished)

    def test_what_is_held_is_bounded(self) -> None:
        for octets in (b"5;" + b"a" * 10000, b"0" * 10000, b"0\r\n" + b"a: b\r\n" * 10000):
            reader = ChunkedReader()
            fed = 0
            with self.assertRaises(ProtocolError):
                for octet in octet_by_octet(octets):
                    reader.receive(octet)
                    fed += 1
            self.assertLess(fed, 300)

    def test_extensions_are_bounded_in_all(self) -> None:
        chunk = b"1;" + b"a" * 254 + b"\r\nx\r\n"
        for segments in ([chunk * 200], [chunk] * 200):
            self.assertEqual(outcome(segments), ("refused", 400))

    def test_extensions_outweighed_by_content(self) -> None:
        chunk = b"100;" + b"a" * 255 + b"\r\n" + b"x" * 256 + b"\r\n"
        self.assertEqual(outcome([chunk] * 200), (b"x" * 51200, [], b"", False))

    def test_limits_of_trailers(self) -> None:
        # The empty line that ends the last chunk's line is counted, as a head's request line is.
        fits = b"0\r\nA: b\r\nC: d\r\n\r\n"
        for limits, over in [
            (HeadLimits(head_bytes=len(fits) - 1), fits.replace(b"d", b"dd")),
            (HeadLimits(line_bytes=4), fits.replace(b"d", b"dd")),
            (HeadLimits(fields=2), fits.replace(b"C", b"A: b\r\nC")),
        ]:
            for segments in segmentations(fits):
                reader = ChunkedReader(limits)
                read(reader, segments)
                self.assertEqual(reader.trailers, [(b"a", b"b"), (b"c", b"d")])
            for segments in segmentations(over):
                error = refusal(read, ChunkedReader(limits), segments)
                assert error is not None
                self.assertEqual(error.status, 431)
                error = refusal(read, ChunkedReader(limits, 502), segments)
                assert error is not None
                self.assertEqual(error.status, 502)


class ReaderForTests(SynchronousTestCase):
    def test_the_reader_for_a_length(self) -> None:
        for length, kind in [
            (CHUNKED, ChunkedReader),
            (UNTIL_CLOSE, UntilCloseReader),
            (0, LengthReader),
            (5, LengthReader),
        ]:
            reader = reader_for(length, 502)
            self.assertIs(type(reader), kind)
            self.assertEqual(reader.status, 502)
            self.assertEqual(reader.finished, length == 0)


class GeneratedTests(SynchronousTestCase):
    @given(generated.NEARLY_CHUNKED, st.sampled_from([b"", NEXT_REQUEST]))
    @example(b"0\r\n\r", b"\n")
    @example(b"1\r\na\r\n0\r", b"\n\r\n")
    def test_only_protocol_errors_and_split_invariance(self, octets: bytes, behind: bytes) -> None:
        data = octets + behind
        expected = outcome([data])
        for segments in segmentations(data):
            self.assertEqual(outcome(segments), expected, segments)

    @given(generated.CHUNKED_CONTENT, generated.TRAILERS)
    def test_good_chunks(
        self, chunks: list[tuple[bytes, bytes, bool]], trailers: list[tuple[bytes, bytes]]
    ) -> None:
        content = b"".join([data for data, _, _ in chunks])
        octets = generated.chunked(chunks, trailers)
        self.assertEqual(accepted(octets + NEXT_REQUEST), (content, trailers, NEXT_REQUEST))

    @given(generated.NEARLY_CHUNKED)
    def test_what_is_accepted_h11_reads_alike(self, octets: bytes) -> None:
        found = accepted(octets)
        if found is None:
            assume(False)
            raise AssertionError
        content, trailers, rest = found
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + octets
        )
        connection.next_event()
        read_by_h11 = b""
        while isinstance(event := connection.next_event(), h11.Data):
            read_by_h11 += event.data
        assert isinstance(event, h11.EndOfMessage), event
        self.assertEqual(read_by_h11, content)
        self.assertEqual(list(event.headers), trailers)
        self.assertEqual(connection.trailing_data[0], rest)

    @given(st.lists(st.binary(max_size=50), max_size=6), generated.TRAILERS)
    def test_round_trip(self, pieces: list[bytes], trailers: list[tuple[bytes, bytes]]) -> None:
        octets = b"".join(map(serialise.chunk, pieces)) + serialise.last_chunk(trailers)
        self.assertEqual(accepted(octets), (b"".join(pieces), trailers, b""))
