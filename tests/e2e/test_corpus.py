"""Every file of tests/corpus over a real socket, with an upstream server that records.

Of a request that is refused upstream sees nothing, nor of what came behind it. Of one that is
accepted it sees exactly that, framed anew, and the next one. Of a response that is refused the
client sees a 502 or a cut; and none is ever given to another request than its own.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from typing import ClassVar

from authproxy.wire.heads import UNTIL_CLOSE, RequestHead, ResponseHead

from ..wire.corpus import Sample, load
from ..wire.feeding import (
    LIMITS,
    NEXT_REQUEST,
    Message,
    octet_by_octet,
    read_request,
    read_response,
    refusal,
)
from .processes import LOOPBACK, PATIENCE, EndToEnd, Proxy, Stage, read_all, read_head
from .recording import OK, Forwarded, Recorded, RecordingOrigin

LAST = NEXT_REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
CUT = "the connection closed"  # the parser's words where nothing but the end is wrong
LARGE = 2048  # octets; from here on the sample exists for the sake of a limit
ANSWER = re.compile(rb"HTTP/1\.[01] [0-9]{3} ")
HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: %b\r\n"
)


def segmented(octets: bytes) -> Iterator[list[bytes]]:
    """Whole, octet by octet, and cut in the middle of the first end of a line."""
    yield [octets]
    if len(octets) < LARGE:
        yield octet_by_octet(octets)
        cut = octets.find(b"\n")
        if cut > 0:
            yield [octets[:cut], octets[cut:]]


class Corpus(Forwarded, EndToEnd):
    """All in front of one proxy, one after the other: what comes too late is the next one's."""

    origin: ClassVar[RecordingOrigin]
    proxy: ClassVar[Proxy]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = RecordingOrigin()
        upstream = stage.scripted(cls.origin.converse)
        cls.proxy = stage.proxy(
            stage.configuration(
                upstream.url,
                {"hosts": []},
                listen={"plain_http": "serve"},
                limits={"upstream_head_bytes": LIMITS.head_bytes, "upstream_fields": LIMITS.fields},
            )
        )

    def send(self, segments: list[bytes], end: bool = False) -> bytes:
        """Everything that the proxy answers until it closes; `end`: the client closes first."""
        with socket.create_connection((LOOPBACK, self.proxy.http), PATIENCE) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for segment in segments:
                    sock.sendall(segment)
                if end:
                    sock.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass  # it was refused before its end; what was answered may still be there
            return read_all(sock)

    def test_refused_requests(self) -> None:
        for sample in load("requests/invalid"):
            octets = sample.octets
            end = CUT in str(refusal(read_request, [octets]))
            if not end:
                octets += LAST
            for segments in segmented(octets):
                answer = self.send(segments, end)
                how = f"{sample.name} in {len(segments)} segments"
                self.assertEqual(self.origin.take(), [], how)
                if end:
                    continue
                if answer or len(octets) < LARGE:  # an upload that is cut off may lose its answer
                    self.assertIn(b"HTTP/1.1 %d " % sample.status, answer[:13], how)
                    self.assertEqual(len(ANSWER.findall(answer)), 1, how)
        self.nothing_came_late()

    def nothing_came_late(self) -> None:
        self.send([LAST])
        self.assertEqual([one.target for one in self.origin.take()], [b"/next"])

    def test_accepted_requests(self) -> None:
        for sample in load("requests/valid"):
            message = read_request([sample.octets])
            assert message is not None
            assert isinstance(message.head, RequestHead)
            for segments in segmented(sample.octets + LAST):
                answer = self.send(segments)
                how = f"{sample.name} in {len(segments)} segments: {answer[:300]!r}"
                came = self.origin.take()
                if message.head.target == b"*":  # this proxy's own to answer
                    self.assertEqual([one.target for one in came], [b"/next"], how)
                    continue
                self.assertEqual(len(came), 1 + message.head.keep_alive, how)
                self.is_the_same(sample, message, came[0], how)
                if message.head.keep_alive:
                    self.assertEqual(came[1].target, b"/next", how)
        self.nothing_came_late()

    def is_the_same(self, sample: Sample, message: Message, came: Recorded, how: str) -> None:
        head = message.head
        assert isinstance(head, RequestHead)
        self.assertEqual(came.content, message.content, how)
        host = head.host or b"localhost"  # of HTTP/1.0; authentik wants one
        self.is_forwarded(came, head, host, b"http", how)
        for name in sample.settings.get("lacks", b"").split():
            self.assertEqual(came.values(name), [], f"{name!r} of {how}")
        for name in sample.settings.get("keeps", b"").split():
            self.assertEqual(came.values(name), [head.get(name)], f"{name!r} of {how}")

    def test_content(self) -> None:
        """The files of bodies/, as the content of a request."""
        for sample in (*load("bodies/invalid"), *load("bodies/valid")):
            word = sample.settings["length"]
            if word == b"until-close":
                continue
            framing = b"Transfer-Encoding: chunked"
            if word != b"chunked":
                framing = b"Content-Length: " + word
            head = b"POST /content HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing
            octets = head + sample.octets
            end = CUT in str(refusal(read_request, [octets]))
            for segments in segmented(octets if end else octets + LAST):
                answer = self.send(segments, end)
                how = f"{sample.name} in {len(segments)} segments: {answer[:300]!r}"
                came = self.origin.take()
                if sample.name.startswith("bodies/invalid"):
                    self.assertEqual(came, [], how)
                    if not end:
                        self.assertIn(b"HTTP/1.1 %d " % sample.status, answer[:13], how)
                    continue
                self.assertEqual([one.target for one in came], [b"/content", b"/next"], how)
                self.assertEqual(came[0].content, sample.settings["content"], how)
        self.nothing_came_late()

    def test_responses(self) -> None:
        for kind in ("invalid", "valid"):
            for number, sample in enumerate(load(f"responses/{kind}")):
                if sample.settings.get("limit") == b"limits.line_bytes":
                    continue  # for upstream's heads there is no such setting: the head's is it
                method = sample.settings.get("method", b"GET")
                target = b"/%b/%d" % (kind.encode(), number)
                handshake = b""
                if "key" in sample.settings:
                    handshake = HANDSHAKE % sample.settings["key"]
                self.origin.answers[target] = sample.octets
                asked = b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, target, handshake)
                answer = self.send([asked if kind == "valid" and handshake else asked + LAST])
                targets = [one.target for one in self.origin.take()]
                self.assertEqual(targets[:1], [target], sample.name)
                self.assertIn(targets[1:], ([], [b"/next"]), sample.name)
                # No 101 at all is an ordinary answer to a handshake, on an ordinary connection.
                ordinary = handshake and b" 101" not in sample.octets[:13]
                if kind == "invalid" and not ordinary:
                    self.is_no_answer(sample, answer)
                else:
                    self.is_its_answer(sample, method, answer)
        self.nothing_came_late()

    def is_no_answer(self, sample: Sample, answer: bytes) -> None:
        """A 502, and then perhaps the next answer; or one that is cut."""
        if answer.startswith(b"HTTP/1.1 502 "):
            self.assertLessEqual(len(ANSWER.findall(answer)), 2, sample.name)
            return
        self.assertEqual(len(ANSWER.findall(answer)), 1, f"{sample.name}: {answer[:300]!r}")
        cut = str(refusal(read_response, [answer]))
        self.assertIn(CUT, cut, f"{sample.name} has a clean end: {answer[:300]!r}")

    def is_its_answer(self, sample: Sample, method: bytes, answer: bytes) -> None:
        original = read_response([sample.octets], method)
        assert original is not None
        assert isinstance(original.head, ResponseHead)
        message = read_response([answer], method)
        assert message is not None, f"{sample.name}: {answer[:300]!r}"
        assert isinstance(message.head, ResponseHead)
        if original.head.status in (100, 103):
            return  # the end of the connection is the 502 of what should have followed
        self.assertEqual(message.head.status, original.head.status, sample.name)
        for name in (b"keep-alive", b"proxy-connection", b"trailer", b"x-private"):
            self.assertIsNone(message.head.get(name), sample.name)
        if message.head.status != 101:
            self.assertIsNone(message.head.get(b"upgrade"), sample.name)
        content = message.content
        if message.head.length == UNTIL_CLOSE:
            content = content.partition(b"HTTP/1.1 200")[0]
        self.assertEqual(content, original.content, sample.name)

    def test_responses_to_old_clients(self) -> None:
        """Never chunked, no 1xx; what has no length ends with the connection."""
        for number, sample in enumerate(load("responses/valid")):
            method = sample.settings.get("method", b"GET")
            original = read_response([sample.octets], method)
            assert original is not None
            assert isinstance(original.head, ResponseHead)
            if original.head.status < 200:
                continue
            target = b"/old/%d" % number
            self.origin.answers[target] = sample.octets
            answer = self.send([b"%b %b HTTP/1.0\r\nHost: a\r\n\r\n" % (method, target)])
            message = read_response([answer], method)
            assert message is not None, sample.name
            self.assertIsNone(message.head.get(b"transfer-encoding"), sample.name)
            self.assertEqual(message.content, original.content, sample.name)
            self.assertEqual([one.target for one in self.origin.take()], [target])

    def test_what_comes_behind_a_response_is_nobodys(self) -> None:
        """Response queue poisoning: the second answer must not be given to the next request."""
        stolen = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
        for number, sample in enumerate(load("responses/valid")):
            method = sample.settings.get("method", b"GET")
            parsed = read_response([sample.octets], method)
            assert parsed is not None
            if parsed.head.length == UNTIL_CLOSE or b" 1" in sample.octets[:10]:
                continue
            target = b"/behind/%d" % number
            self.origin.answers[target] = sample.octets + stolen
            asked = b"%b %b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, target)
            answer = self.send([asked + LAST])
            self.assertNotIn(b"stolen", answer, sample.name)
            self.assertNotIn(b"stolen", self.send([LAST]), sample.name)
            self.origin.take()
        self.assertIn(OK[-2:], self.send([LAST]))


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


class Pauses(EndToEnd):
    """What is sent after a pause, or after an answer that came early, is no request."""

    def proxy_before(self, url: str, **timeouts: float) -> Proxy:
        stage = self.own_stage()
        document = stage.configuration(
            url, {"hosts": []}, listen={"plain_http": "serve"}, timeouts=timeouts
        )
        return stage.proxy(document)

    def test_content_that_comes_after_the_deadline(self) -> None:
        origin = RecordingOrigin()
        proxy = self.proxy_before(self.scripted(origin.converse).url, body_idle=1)
        for framing in (b"Content-Length: %d" % len(SMUGGLED), b"Transfer-Encoding: chunked"):
            head = b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing
            with socket.create_connection((LOOPBACK, proxy.http), PATIENCE) as sock:
                sock.sendall(head)
                answer = sock.recv(65536)  # which takes as long as the deadline
                self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)
                with contextlib.suppress(ConnectionError):
                    sock.sendall(SMUGGLED)
                self.assertEqual(ANSWER.findall(read_all(sock)), [])
        self.assertEqual(origin.take(), [])

    def test_content_behind_an_early_answer(self) -> None:
        """Expect-based desync, and CL.0: upstream answers without having read the content."""
        came: list[bytes] = []

        def refuse_early(sock: socket.socket) -> None:
            with contextlib.suppress(AssertionError, ConnectionError):  # the proxy closed
                while True:
                    came.append(read_head(sock))
                    sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        proxy = self.proxy_before(self.scripted(refuse_early).url)
        head = (
            b"POST /early HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        )
        with socket.create_connection((LOOPBACK, proxy.http), PATIENCE) as sock:
            sock.sendall(head % len(SMUGGLED))
            self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 403 "))
            with contextlib.suppress(ConnectionError):
                sock.sendall(SMUGGLED)
            self.assertEqual(read_all(sock), b"")
        self.assertEqual([one.split(b" ")[1] for one in came], [b"/early"])

    def test_a_host_that_is_nobodys(self) -> None:
        origin = RecordingOrigin()
        upstream = self.scripted(origin.converse)
        stage = self.own_stage()
        proxy = stage.proxy(stage.configuration(upstream.url, listen={"plain_http": "serve"}))
        with socket.create_connection((LOOPBACK, proxy.http), PATIENCE) as sock:
            sock.sendall(LAST)
            self.assertIn(b" 421 ", read_all(sock)[:20])
        self.assertEqual(origin.take(), [])
