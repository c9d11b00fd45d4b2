"""Every file of tests/corpus, in every segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire import http2
from authproxy.wire.bodies import Reader, reader_for
from authproxy.wire.heads import CHUNKED, UNTIL_CLOSE, Fields, RequestHead, ResponseHead
from authproxy.wire.websocket import check_switching
from tests.wire.corpus import (
    ROOT,
    Sample,
    Stream,
    load,
    load_streams,
    parse_sample,
    parse_stream,
    unescape,
)
from tests.wire.feeding import (
    LIMITS,
    NEXT_REQUEST,
    Message,
    read_request,
    read_response,
    refusal,
    segmentations,
)

LENGTHS = {b"chunked": CHUNKED, b"until-close": UNTIL_CLOSE}


def length_of(word: bytes) -> int:
    return LENGTHS[word] if word in LENGTHS else int(word)


def said(head: RequestHead | ResponseHead, name: str) -> bytes:
    """What a head says, in the words of a sample."""
    value = getattr(head, name)
    if name == "length":
        words = {number: word for word, number in LENGTHS.items()}
        return words.get(value, b"%d" % value)
    return value if isinstance(value, bytes) else str(value).encode()


def trailers_said(trailers: Fields) -> bytes:
    return b", ".join(b"%b: %b" % field for field in trailers)


class CorpusTestCase(SynchronousTestCase):
    def refuses(
        self, sample: Sample, read: Callable[[Iterable[bytes]], object], status: int
    ) -> None:
        for segments in segmentations(sample.octets):
            error = refusal(read, segments)
            how = f"{sample.name} in {len(segments)} segments of {len(segments[0])}"
            if error is None:
                self.fail(f"{how}: not refused")
            self.assertEqual(error.status, status, f"{how}: {error}")
            if "limit" in sample.settings:
                self.assertEqual(error.limit.encode(), sample.settings["limit"], how)

    def says(self, sample: Sample | Stream, message: Message) -> None:
        for name, value in sample.settings.items():
            if name == "content":
                self.assertEqual(message.content, value, sample.name)
            elif name == "trailers":
                self.assertEqual(trailers_said(message.trailers), value, sample.name)
            elif name not in ("method", "key", "lacks", "keeps"):
                self.assertEqual(said(message.head, name), value, f"{sample.name}: {name}")


class RequestTests(CorpusTestCase):
    def test_refused(self) -> None:
        for sample in load("requests/invalid"):
            self.refuses(sample, read_request, sample.status)

    def test_refused_with_another_behind(self) -> None:
        for sample in load("requests/invalid"):
            octets = sample.octets + NEXT_REQUEST
            if "the connection closed" in str(refusal(read_request, [sample.octets])):
                continue
            error = refusal(read_request, [octets])
            if error is None:
                self.fail(f"{sample.name}: not refused")
            self.assertEqual(error.status, sample.status, sample.name)

    def test_accepted(self) -> None:
        for sample in load("requests/valid"):
            for segments in segmentations(sample.octets):
                message = read_request(segments)
                if message is None:
                    self.fail(f"{sample.name}: incomplete")
                self.says(sample, message)
                self.assertEqual(message.rest, b"", sample.name)

    def test_accepted_with_another_behind(self) -> None:
        for sample in load("requests/valid"):
            for segments in segmentations(sample.octets + NEXT_REQUEST):
                message = read_request(segments)
                if message is None:
                    self.fail(f"{sample.name}: incomplete")
                self.says(sample, message)
                following = read_request([message.rest])
                if following is None or not isinstance(following.head, RequestHead):
                    self.fail(f"{sample.name}: the next request is not there")
                self.assertEqual(following.head.target, b"/next", sample.name)


class ResponseTests(CorpusTestCase):
    def read(self, sample: Sample, segments: Iterable[bytes]) -> Message | None:
        message = read_response(segments, sample.settings.get("method", b"GET"))
        if message is not None and "key" in sample.settings:
            assert isinstance(message.head, ResponseHead)
            check_switching(message.head, sample.settings["key"])
        return message

    def test_refused(self) -> None:
        for sample in load("responses/invalid"):
            self.assertEqual(sample.status, 502, sample.name)
            self.refuses(sample, partial(self.read, sample), 502)

    def test_accepted(self) -> None:
        for sample in load("responses/valid"):
            for segments in segmentations(sample.octets):
                message = self.read(sample, segments)
                if message is None:
                    self.fail(f"{sample.name}: incomplete")
                self.says(sample, message)
                self.assertEqual(message.rest, b"", sample.name)

    def test_accepted_with_another_behind(self) -> None:
        # What comes after a complete response is not read as part of it, and is not lost either.
        behind = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        for sample in load("responses/valid"):
            for segments in segmentations(sample.octets + behind):
                message = self.read(sample, segments)
                if message is None:
                    self.fail(f"{sample.name}: incomplete")
                if message.head.length == UNTIL_CLOSE:
                    self.assertTrue(message.content.endswith(behind), sample.name)
                else:
                    self.says(sample, message)
                    self.assertEqual(message.rest, behind, sample.name)


class BodyTests(CorpusTestCase):
    def read(self, sample: Sample, status: int, segments: Iterable[bytes]) -> tuple[bytes, Reader]:
        reader = reader_for(length_of(sample.settings["length"]), status)
        content = b"".join(map(reader.receive, segments))
        reader.end_of_input()
        return content, reader

    def test_refused(self) -> None:
        for sample in load("bodies/invalid"):
            # A client's fault has the sample's status, upstream's is always 502.
            for status, expected in ((400, sample.status), (502, 502)):
                self.refuses(sample, partial(self.read, sample, status), expected)

    def test_accepted(self) -> None:
        for sample in load("bodies/valid"):
            for behind in (b"", NEXT_REQUEST):
                if behind and sample.settings["length"] == b"until-close":
                    continue
                for segments in segmentations(sample.octets + behind):
                    content, reader = self.read(sample, 400, segments)
                    self.assertEqual(content, sample.settings["content"], sample.name)
                    self.assertEqual(reader.rest, behind, sample.name)
                    trailers = sample.settings.get("trailers", b"")
                    self.assertEqual(trailers_said(reader.trailers), trailers, sample.name)


def read_stream(sample: Stream) -> Message:
    """What the parsers make of it; raises ProtocolError."""
    head = http2.parse_request(sample.fields, sample.content is None, LIMITS)
    trailers = http2.parse_fields(sample.trailers, LIMITS)
    return Message(head, sample.content or b"", trailers, b"")


class StreamTests(CorpusTestCase):
    def test_refused(self) -> None:
        for sample in load_streams("http2/invalid"):
            error = refusal(read_stream, sample)
            if error is None:
                self.fail(f"{sample.name}: not refused")
            self.assertEqual(error.status, sample.status, f"{sample.name}: {error}")

    def test_accepted(self) -> None:
        for sample in load_streams("http2/valid"):
            self.says(sample, read_stream(sample))


class FormatTests(SynchronousTestCase):
    def test_every_directory_has_samples_and_every_file_is_one(self) -> None:
        loaders = {"requests": load, "responses": load, "bodies": load, "http2": load_streams}
        self.assertEqual({path.name for path in ROOT.iterdir() if path.is_dir()}, set(loaders))
        loaded = [
            sample.name
            for directory, loader in loaders.items()
            for kind in ("invalid", "valid")
            for sample in loader(f"{directory}/{kind}")
        ]
        files = [path for path in ROOT.rglob("*") if path.is_file() and path.name != "README.md"]
        self.assertEqual(2 * len(loaded), len(files))

    def test_a_directory_without_samples(self) -> None:
        self.assertRaises(ValueError, load, "requests")

    def test_escapes(self) -> None:
        sample = parse_sample(
            "a", "G\\r\\n\n\\0\\\\\\{3*\\xff}\\s\n", "why\nstatus: 400\nlimit: a\\tb\n"
        )
        self.assertEqual(sample.octets, b"G\r\n\0\\\xff\xff\xff ")
        self.assertEqual((sample.status, sample.settings["limit"]), (400, b"a\tb"))
        for wrong in ("\t", "\\", "\\x1", "\\y", "\\{a}", "\x7f", "\xe4"):
            self.assertRaises(ValueError, unescape, wrong)

    def test_fields_of_http_2(self) -> None:
        sample = parse_stream(
            "a", ":path: /: b\nx\\0: \\s\ny:\n\nab\nc\n\nz: 1\n", "why\nlacks: x\n"
        )
        self.assertEqual(sample.fields, [(b":path", b"/: b"), (b"x\0", b" "), (b"y", b"")])
        self.assertEqual((sample.content, sample.trailers), (b"abc", [(b"z", b"1")]))
        self.assertIsNone(parse_stream("a", ":path: /\n", "why\n").content)
        for wrong in ("", ":path", "a: b\n\nc\n\nd: e\n\nf", "a: \xe4"):
            self.assertRaises(ValueError, parse_stream, "a", wrong, "why\n")
