"""One connection to upstream: what it writes, what it tells its lessee, when it is free again."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionLost

from authproxy.deadlines import NEVER
from authproxy.errors import ConnectionCut, TimedOut
from authproxy.upstream.connection import Connection
from authproxy.wire.heads import CHUNKED, Fields

from .connections import ConnectionTests, head


class RequestTests(ConnectionTests):
    def test_buffer_is_bounded_and_produced(self) -> None:
        self.assertEqual(self.transport.bufferSize, 1234)
        self.assertIs(self.transport.producer, self.connection)

    def test_head_and_content_are_one_write(self) -> None:
        writes: list[bytes] = []
        self.transport.write = writes.append  # type: ignore[method-assign, assignment]
        self.send(head(b"PUT", 5), b"hello", True)
        trailers = [(b"x-sum", b"1")]
        self.send(head(b"PUT", CHUNKED), b"hello", True, trailers)
        self.assertEqual(len(writes), 2)
        self.assertTrue(writes[0].startswith(b"PUT / HTTP/1.1\r\nhost: "))
        self.assertTrue(writes[0].endswith(b"\r\n\r\nhello"))
        self.assertTrue(writes[1].endswith(b"\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"))

    def test_chunked_without_content(self) -> None:
        self.send(head(b"PUT", CHUNKED), b"", True)
        self.assertTrue(self.transport.take().endswith(b"\r\n\r\n0\r\n\r\n"))

    def test_streamed(self) -> None:
        for length, expected in ((CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"), (3, b"abc")):
            self.send(head(b"PUT", length), b"", False)
            self.transport.take()
            self.connection.send_content(b"abc")
            self.connection.send_end([])
            self.assertEqual(self.transport.take(), expected)

    def test_backpressure(self) -> None:
        self.send(head(b"PUT", 10), b"abc", False)
        self.connection.pauseProducing()
        self.connection.resumeProducing()
        self.assertEqual(self.lessee.told, [("pause",), ("resume",)])


class ReuseTests(ConnectionTests):
    def test_what_keeps_it_from_being_used_again(self) -> None:
        for response, ended in (
            (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "lose"),
            (b"HTTP/1.0 204 No Content\r\n\r\n", "lose"),
            (b"HTTP/1.1 204 No Content\r\n\r\nsurplus", "abort"),
        ):
            self.connect()
            self.start()
            self.say(response)
            self.assertEqual(self.lessee.told, [("head", 204), ("end", [])])
            self.assertEqual(self.transport.ended, ended)
            self.assert_gone()

    def test_it_is_free_when_the_lessee_hears_of_the_end(self) -> None:
        """So that the next request of a pipeline finds it."""
        free: list[bool] = []

        def ended(trailers: Fields) -> None:
            free.append(self.server.given_back == [self.connection])
            self.start()

        self.lessee.response_end = ended  # type: ignore[method-assign]
        self.start()
        self.say(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual((free, self.connection.requests), ([True], 2))
        self.say(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(self.lessee.told, [("head", 204)] * 2)

    def test_bytes_that_nobody_asked_for(self) -> None:
        self.say(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        self.assertEqual(self.transport.ended, "abort")
        self.assert_gone()


class EndTests(ConnectionTests):
    def test_cut(self) -> None:
        for response in (b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"):
            self.connect()
            self.start()
            if response:
                self.say(response)
            self.lose(ConnectionDone())
            self.assertEqual(self.lessee.told[-1], ("failed", ConnectionCut))
            self.assert_gone()

    def test_cut_in_the_body(self) -> None:
        for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
            for error in (ConnectionDone(), ConnectionLost()):
                self.connect()
                self.start()
                self.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
                self.lose(error)
                self.assertEqual([entry[0] for entry in self.lessee.told], ["head", "failed"])

    def test_until_close(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        self.lose(ConnectionDone())
        self.assertEqual(self.lessee.told, [("head", 200), ("content", b"abc"), ("end", [])])
        self.assert_gone()

    def test_until_a_reset(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        self.lose(ConnectionLost())
        self.assertEqual(self.lessee.told[-1], ("failed", ConnectionCut))

    def test_idle(self) -> None:
        self.lose(ConnectionDone())
        self.assert_gone()

    def test_abort_and_close_tell_nobody(self) -> None:
        for end, ended in ((Connection.abort, "abort"), (Connection.close, "lose")):
            self.connect()
            self.start()
            end(self.connection)
            self.say(b"HTTP/1.1 200 OK\r\n\r\n")
            self.transport.finish()
            self.assertEqual((self.lessee.told, self.transport.ended), ([], ended))
            self.assert_gone()


class DeadlineTests(ConnectionTests):
    def test_first_byte(self) -> None:
        self.start()
        self.advance(61)
        self.assertIsInstance(self.lessee.failure, TimedOut)
        self.assertIn("timeouts.first_byte", str(self.lessee.failure))
        self.assert_gone()

    def test_it_runs_from_the_last_of_the_request(self) -> None:
        self.send(head(b"PUT", 10), b"", False)
        self.advance(50)
        self.connection.send_content(b"x" * 10)
        self.connection.send_end([])
        self.advance(50)
        self.assertIsNone(self.lessee.failure)
        self.advance(11)
        self.assertIsInstance(self.lessee.failure, TimedOut)

    def test_between_segments(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        self.advance(59)
        self.say(b"h")
        self.advance(59)
        self.assertIsNone(self.lessee.failure)
        self.advance(2)
        self.assertIn("timeouts.upstream_idle", str(self.lessee.failure))

    def test_none_while_the_client_does_not_read(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        self.connection.pause_reading()
        self.assertTrue(self.transport.paused)
        self.say(b"h")  # was on its way
        self.assertEqual(self.connection.deadline, NEVER)
        self.advance(1000)
        self.connection.resume_reading()
        self.assertFalse(self.transport.paused)
        self.advance(61)
        self.assertIsInstance(self.lessee.failure, TimedOut)

    def test_idle(self) -> None:
        """What the pool sets when it keeps the connection."""
        self.connection.deadline = self.deadlines.now() + 25
        self.advance(26)
        self.assertEqual(self.transport.ended, "lose")
        self.assert_gone()

    def test_a_paused_connection_comes_back_reading(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        self.connection.pause_reading()
        self.say(b"hello")
        self.assertFalse(self.transport.paused)
        self.assertEqual(self.server.given_back, [self.connection])
