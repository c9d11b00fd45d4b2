"""The rows of attacks on HTTP/2: what ends a stream, what the connection, and what never matters."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from twisted.trial.unittest import SynchronousTestCase

from authproxy.downstream.http2_gate import FRAMES, FRAMES_A_TURN, RESETS
from authproxy.settings import Limits, Settings, Timeouts

from ..http2_client import Client, is_goaway, request
from ..http2_client import frames as frames_of
from ..world import OK, World, say

MANY = 2 * FRAMES


def headers(client: Client, number: int, fields: Any = None, *, ended: bool = True) -> HeadersFrame:
    """A HEADERS frame that is a whole head."""
    frame = HeadersFrame(number, client.block(fields or request()))
    frame.flags.add("END_HEADERS")
    if ended:
        frame.flags.add("END_STREAM")
    return frame


def reset(number: int) -> RstStreamFrame:
    """A client's RST_STREAM."""
    return RstStreamFrame(number, int(ErrorCodes.CANCEL))


def _settings(begin: int, count: int) -> bytes:
    """SETTINGS of so many identifiers from `begin` on. (hyperframe makes only those up to 255.)"""
    values = [number.to_bytes(2) + b"\0\0\0\1" for number in range(begin, begin + count)]
    return (6 * count).to_bytes(3) + b"\4\0\0\0\0\0" + b"".join(values)


class _Tests(SynchronousTestCase):
    def world(self, **limits: int) -> World:
        return World(evolve(Settings(), limits=evolve(Limits(), **limits)))

    def client(self, **limits: int) -> Client:
        return Client(self.world(**limits))

    def assert_goaway(self, client: Client, code: ErrorCodes) -> None:
        """The connection ended with this, and left nothing behind."""
        goaway = [frame for frame in frames_of(client.transport.take()) if is_goaway(frame)][-1]
        self.assertEqual(ErrorCodes(goaway.error_code), code)
        self.assert_over(client)

    def assert_over(self, client: Client) -> None:
        world = client.world
        self.assertEqual(client.transport.ended, "half")
        self.assertEqual(world.gateway.exchanges, 0)
        self.assertEqual([server.leased for server in world.pool.servers], [0])

    def flood(self, client: Client, *frames: Frame | bytes) -> int:
        """The same segment until the connection ends. Returns how often."""
        for count in range(MANY):
            if client.transport.ended:
                return count
            client.raw(*frames)
        return MANY


class FloodTests(_Tests):
    def test_rapid_reset_in_one_segment(self) -> None:
        """Never reaches upstream (CVE-2023-44487)."""
        client = self.client()
        for number in range(1, 2 * MANY, 2):
            if client.transport.ended:
                break
            client.raw(headers(client, number), reset(number))
        self.assertEqual(number // 2, RESETS + 1)
        self.assertEqual(client.world.origins, [])
        self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_rapid_reset_in_two(self) -> None:
        client = self.client()
        for number in range(1, 2 * MANY, 2):
            if client.transport.ended:
                break
            client.raw(headers(client, number))
            client.raw(reset(number))
        self.assertEqual(number // 2, RESETS + 1)
        self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertEqual({origin.ended for origin in client.world.origins}, {"abort"})

    def test_resets_at_the_pace_of_people(self) -> None:
        client = self.client()
        for number in range(1, 2 * MANY, 2):
            client.raw(headers(client, number), reset(number))
            if number % 60 == 59:
                client.world.advance(1)
        self.assertEqual(client.transport.ended, "")

    def test_made_to_reset(self) -> None:
        """The client has us reset its streams, while upstream works on (CVE-2025-8671)."""
        client = self.client(requests_per_connection=10_000)
        for number in range(1, 2 * MANY, 2):
            if client.transport.ended:
                break
            # Content on a stream whose request is complete.
            client.raw(headers(client, number))
            client.raw(DataFrame(number, b"x"))
        self.assertEqual(number // 2, RESETS + 1)
        self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertEqual({origin.ended for origin in client.world.origins}, {"abort"})

    def test_frames_that_carry_nothing(self) -> None:
        unknown = b"\0\0\0\xf0\0\0\0\0\0"
        for frame in (
            PingFrame(0, b"12345678"),
            SettingsFrame(0),
            PriorityFrame(7, depends_on=5),
            WindowUpdateFrame(0, 1),
            unknown,
        ):
            client = self.client()
            self.assertLess(self.flood(client, frame), FRAMES + 10, repr(frame))
            self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_empty_and_padded_data(self) -> None:
        padding = DataFrame(1, b"", pad_length=10)
        padding.flags.add("PADDED")
        for frame in (DataFrame(1, b""), padding):
            client = self.client()
            client.raw(headers(client, 1, request(method=b"POST"), ended=False))
            self.assertLess(self.flood(client, frame), FRAMES + 10)
            self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_frames_for_a_stream_that_was_reset(self) -> None:
        """Each is answered by a reset of the library's."""
        for frame in (DataFrame(1, b"x"), WindowUpdateFrame(1, 1)):
            client = self.client()
            client.raw(headers(client, 1, request(method=b"POST"), ended=False), reset(1))
            self.assertLess(self.flood(client, frame), FRAMES + 10)
            self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_settings_while_streams_wait_for_their_windows(self) -> None:
        """Of a stream that has no window nothing goes out, so it allows nothing."""
        client = self.client()
        client.h2.update_settings({4: 0})
        client.talk()
        for _ in range(5):
            client.ask()
            say(client.world.origins[-1], OK)
        self.assertLess(self.flood(client, SettingsFrame(0)), FRAMES + 100)
        self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_ordinary_frames_are_not_a_flood(self) -> None:
        """A client that opens its windows for all that it gets, request after request."""
        client = self.client(requests_per_connection=10_000)
        client.ask()
        say(client.world.origins[0], OK)
        client.talk()
        for _ in range(MANY):
            number = client.ask()
            say(client.world.origins[0], OK)
            client.h2.increment_flow_control_window(5)
            client.raw(WindowUpdateFrame(number, 5))
            client.talk()
        self.assertEqual(client.transport.ended, "")

    def test_settings_that_nobody_knows(self) -> None:
        """Ignored (RFC 9113 6.5.2), and not kept: a client can make up 65,536 of them."""
        client = self.client()
        before = len(client.server.h2.remote_settings)
        for begin in range(16, 60_000, 2700):
            client.raw(_settings(begin, 2700))
        self.assertEqual(len(client.server.h2.remote_settings), before)
        client.raw(_settings(SettingsFrame.INITIAL_WINDOW_SIZE, 1))
        self.assertEqual(client.server.h2.remote_settings.initial_window_size, 1)
        self.assertEqual(client.transport.ended, "")

    def test_everybody_has_a_turn(self) -> None:
        """Frames beyond what is fair wait, unread like those behind them."""
        client = self.client()
        client.ask()
        head = headers(client, 3, request(method=b"POST"), ended=False)
        content = [b"%d " % number for number in range(10 * FRAMES_A_TURN)]
        frames = [DataFrame(3, piece) for piece in content]
        frames[-1].flags.add("END_STREAM")
        client.raw(head, *frames)
        self.assertTrue(client.transport.paused)
        self.assertEqual(len(client.world.origins), 1)
        client.world.clock.advance(0)
        self.assertFalse(client.transport.paused)
        self.assertIn(b"".join(content), client.world.origins[-1].take())

    def test_the_end_in_between(self) -> None:
        """A fault in what waited, and the client's own end."""
        for end in (lambda client: None, lambda client: client.transport.finish()):
            client = self.client()
            frames = [DataFrame(1, b"x")] * FRAMES_A_TURN
            client.raw(headers(client, 1, request(method=b"POST"), ended=False), *frames)
            client.raw(b"\0\0\x08\x06\0\0\0\0\x01ping ing")  # no stream has it
            end(client)
            client.world.clock.advance(0)
            self.assertFalse(client.transport.paused)
            self.assertEqual(client.world.gateway.exchanges, 0)

    def test_time_gives_some_back(self) -> None:
        client = self.client()
        client.ask()
        for count in range(MANY):
            client.raw(PingFrame(0, b"12345678"))
            if count % 50 == 49:
                client.world.advance(0.5)
        self.assertEqual(client.transport.ended, "")


class HeadTests(_Tests):
    def test_continuation_flood(self) -> None:
        """Octets, however they are cut (CVE-2024-27316)."""
        client = self.client()
        client.raw(HeadersFrame(1, client.block(request())))
        count = self.flood(client, ContinuationFrame(1, b"\0\1a\x7f\x80\x7f" + b"b" * 4000))
        self.assertLess(count, 20)
        self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)

    def test_empty_continuations(self) -> None:
        client = self.client()
        client.raw(HeadersFrame(1, client.block(request())))
        self.assertLess(self.flood(client, ContinuationFrame(1, b"")), 70)
        self.assert_over(client)

    def test_head_that_unpacks(self) -> None:
        """A field of 4 KiB in the table, named in one octet each time."""
        client = self.client()
        block = client.block(request(b"/", (b"x", b"y" * 4000)))
        frame = HeadersFrame(1, block + b"\xbe" * 100)
        frame.flags |= {"END_HEADERS", "END_STREAM"}
        client.raw(frame)
        self.assert_goaway(client, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertEqual(client.world.origins, [])

    def test_too_many_fields(self) -> None:
        client = self.client()
        crumbs = [(b"cookie", b"a=%d" % number) for number in range(500)]
        number = client.ask(request(b"/", *crumbs))
        self.assertEqual(client.status(number), 0)  # they are joined: it went upstream
        number = client.ask(request(b"/", *[(b"x-%d" % n, b"") for n in range(101)]))
        self.assertEqual(client.status(number), 431)
        self.assertEqual(len(client.world.origins), 1)

    def test_frame_that_is_too_large(self) -> None:
        """Refused at its header, before 16 MiB are here."""
        client = self.client()
        client.raw(b"\x00\x40\x01\0\0\0\0\0\1")
        self.assert_goaway(client, ErrorCodes.FRAME_SIZE_ERROR)

    def test_head_that_drips(self) -> None:
        client = self.client()
        client.ask(request(method=b"POST"))
        head = headers(client, 3, request(b"/a/long/path")).serialize()
        client.raw(head[:9])
        for octet in head[9:14]:
            client.world.advance(2.5)
            self.assertEqual(client.transport.ended, "")
            client.raw(bytes([octet]))
        client.world.advance(3)
        self.assert_over(client)

    def test_a_frame_inside_a_head(self) -> None:
        for frame in (PingFrame(0, b"12345678"), DataFrame(1, b""), headers(self.client(), 3)):
            client = self.client()
            client.raw(HeadersFrame(1, client.block(request())), frame)
            self.assert_goaway(client, ErrorCodes.PROTOCOL_ERROR)

    def test_malformed(self) -> None:
        """A 400 on the stream; the others go on."""
        client = self.client()
        good = client.ask()
        for fields in (
            request(b"/", (b"x", b"a\r\nb")),
            request(b"/", (b"x", b"a\0")),
            request(b"/", (b"X-Upper", b"a")),
            request(b"/", (b"connection", b"close")),
            request(b"/", (b"transfer-encoding", b"chunked")),
            request(b"/", (b"te", b"gzip")),
            request(b"/", (b"host", b"other.example.com")),
            request(b"/", (b"content-length", b"5")),
            request(b"/#a"),
            request(b"/")[:2] + request(b"/")[3:],
        ):
            client.raw(headers(client, number := client.h2.get_next_available_stream_id(), fields))
            client.h2.send_headers(number, fields, end_stream=True)
            client.h2.data_to_send()
            client.talk()
            self.assertEqual(client.status(number), 400, fields)
        say(client.world.origins[0], OK)
        client.talk()
        self.assertEqual((client.status(good), len(client.world.origins)), (200, 1))

    def test_content_of_another_length(self) -> None:
        for content in (b"1234", b"123456"):
            client = self.client()
            client.raw(headers(client, 1, request(b"/", (b"content-length", b"5")), ended=False))
            data = DataFrame(1, content)
            data.flags.add("END_STREAM")
            client.raw(data)
            self.assert_goaway(client, ErrorCodes.PROTOCOL_ERROR)
            self.assertEqual(client.world.origins, [])


class StallTests(_Tests):
    def opened(self, octets: int, window: int = 65535) -> tuple[Client, int, Any]:
        """A client that takes `window` octets of a stream, and an answer of so many on its way."""
        client = self.client()
        client.h2.update_settings({4: window})
        client.talk()
        number = client.ask()
        [origin] = client.world.origins
        say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % octets + b"x" * octets)
        client.talk()
        return client, number, origin

    def test_window_that_is_never_opened(self) -> None:
        client, number, _ = self.opened(50_000, window=100)
        self.assertEqual(len(client.content(number)), 100)
        other = client.ask(request(b"/other"))
        say(client.world.origins[-1], b"HTTP/1.1 204 No Content\r\n\r\n")
        client.talk()
        self.assertEqual(client.status(other), 204)
        client.world.advance(59)
        client.talk()
        self.assertIsNone(client.reset(number))
        client.world.advance(2)
        client.talk()
        self.assertEqual(client.reset(number), ErrorCodes.CANCEL)
        self.assertEqual(client.transport.ended, "")

    def test_window_that_is_opened_in_drips(self) -> None:
        client, number, _ = self.opened(50_000, window=100)
        for _ in range(13):
            client.world.advance(5)
            if client.reset(number) is None:
                client.h2.increment_flow_control_window(1, number)
            client.talk()
        self.assertEqual(client.reset(number), ErrorCodes.CANCEL)

    def test_slow_but_not_too_slow(self) -> None:
        client, number, _ = self.opened(200_000, window=100)
        for _ in range(30):
            client.world.advance(5)
            client.h2.increment_flow_control_window(3000, number)
            client.talk()
        self.assertIsNone(client.reset(number))

    def test_window_of_the_connection(self) -> None:
        client, number, _origin = self.opened(90_000, window=1 << 20)
        self.assertEqual(len(client.content(number)), 65535)
        client.world.advance(61)
        self.assertEqual(client.transport.ended, "abort")
        client.transport.finish()
        self.assertEqual(client.world.gateway.exchanges, 0)

    def test_pings_of_who_does_not_read(self) -> None:
        """The transport asks for a pause with each answer that is written: no more time for that."""
        client, _, _ = self.opened(90_000)
        client.transport.buffered = 100_000
        for _ in range(7):
            client.raw(PingFrame(0, b"12345678"))
            client.server.turns.pauseProducing()
            client.world.advance(10)
        self.assertEqual(client.transport.ended, "abort")

    def test_heads_for_who_reads_slowly(self) -> None:
        """What is written meanwhile does not count as not taken."""
        client, _, _ = self.opened(90_000)
        client.transport.buffered = 500_000
        client.server.turns.pauseProducing()
        client.transport.buffered += 20_000
        client.server.turns.pauseProducing()
        for _ in range(12):
            client.world.advance(10)
            client.transport.buffered -= 6100
        self.assertEqual(client.transport.ended, "")

    def test_windows_opened_for_a_stream_whose_turn_does_not_come(self) -> None:
        """Its window was empty; then it is the kernel that is full, of what is for others."""
        client, number, _ = self.opened(50_000, window=100)
        client.transport.buffered = 500_000
        client.server.turns.pauseProducing()
        client.raw(WindowUpdateFrame(number, 50_000))
        for _ in range(13):
            client.world.advance(5)
            client.transport.buffered -= 3000
        client.transport.buffered = 0
        client.server.turns.resumeProducing()
        client.h2.increment_flow_control_window(50_000, number)
        client.talk()
        self.assertIsNone(client.reset(number))
        self.assertTrue(client.ended(number))

    def on_its_way(self, window: int, to_connection: int) -> tuple[Client, int]:
        """A client whose window is empty, and 300 kB of that are still on their way to it."""
        client = self.client()
        client.h2.update_settings({4: window})
        if to_connection:
            client.h2.increment_flow_control_window(to_connection)
        client.talk()
        number = client.ask()
        client.transport.buffered = 300_000
        say(client.world.origins[-1], b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n")
        for _ in range(9):
            say(client.world.origins[-1], b"x" * 100_000)
        return client, number

    def took(self, client: Client, octets: int, seconds: int) -> None:
        for _ in range(seconds):
            client.world.advance(1)
            client.transport.buffered = max(0, client.transport.buffered - octets)

    def test_a_window_whose_content_is_on_its_way(self) -> None:
        """Who takes it slowly opens the window when he has it; then it is for him to do so."""
        for window, more in ((400_000, 1 << 20), (1 << 20, 400_000)):
            client, number = self.on_its_way(window, more)
            self.took(client, 2000, 170)
            client.talk()
            self.assertEqual((client.reset(number), client.transport.ended), (None, ""))
            self.took(client, 0, 125)
            client.talk()
            ended = (client.reset(number), client.transport.ended)
            self.assertIn(ended, [(ErrorCodes.CANCEL, ""), (None, "abort")])

    def test_one_whose_content_is_not_taken(self) -> None:
        for window, more in ((400_000, 1 << 20), (1 << 20, 400_000)):
            client, number = self.on_its_way(window, more)
            self.took(client, 400, 62)
            client.talk()
            ended = (client.reset(number), client.transport.ended)
            self.assertIn(ended, [(ErrorCodes.CANCEL, ""), (None, "abort")])

    def test_what_is_on_its_way_of_others(self) -> None:
        """It excuses nobody who had all of his own."""
        client, number = self.on_its_way(400_000, 1 << 24)
        self.took(client, 2500, 100)
        other = client.ask(request(b"/other"))
        say(client.world.origins[-1], b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n")
        for _ in range(4):
            say(client.world.origins[-1], b"x" * 100_000)
        client.transport.buffered += 400_000
        self.took(client, 2500, 150)
        self.assertGreater(client.transport.buffered, 0)
        client.talk()
        self.assertEqual((client.reset(number), client.reset(other)), (ErrorCodes.CANCEL, None))

    def test_windows_that_are_opened_in_turn(self) -> None:
        """Now its own is what the stream waits for, now the connection's."""
        client, number, _ = self.opened(90_000)
        for _ in range(5):
            client.raw(SettingsFrame(0, {4: 65_635}), WindowUpdateFrame(0, 1))  # its own has room
            client.world.advance(40)
            client.raw(SettingsFrame(0, {4: 65_535}), WindowUpdateFrame(0, 1))
            client.world.advance(2)
        resets = [f for f in frames_of(client.transport.take()) if isinstance(f, RstStreamFrame)]
        self.assertEqual([frame.stream_id for frame in resets], [number])

    def test_a_stream_behind_others(self) -> None:
        """It gets nothing for long, since they get what the connection's window has."""
        client, number, _ = self.opened(90_000, window=1 << 20)
        for _ in range(30):
            client.world.advance(5)
            client.h2.increment_flow_control_window(100)
            client.talk()
            client.server.turns.sent += 3000  # to others
        self.assertIsNone(client.reset(number))

    def test_upstream_waits_for_its_own_stream_only(self) -> None:
        client = self.client()
        client.h2.update_settings({4: 100})
        client.talk()
        slow, quick = client.ask(request(b"/slow")), client.ask(request(b"/quick"))
        first, second = client.world.origins
        say(first, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000)
        say(second, b"HTTP/1.1 200 OK\r\n\r\n")
        client.talk()
        self.assertEqual((first.paused, second.paused), (True, False))
        client.h2.increment_flow_control_window(60_000, slow)
        client.talk()
        self.assertFalse(first.paused)
        self.assertEqual(client.status(quick), 200)


class TooManyTests(_Tests):
    def test_malformed_ones_count(self) -> None:
        """A client that asks nothing right has a connection no longer than others."""
        client = self.client(requests_per_connection=10)
        for number in range(1, 19, 2):
            client.raw(headers(client, number, request(b"no path")))
        client.world.advance(3)
        self.assertEqual(client.transport.ended, "")
        client.raw(headers(client, 19, request(b"no path")))
        client.world.advance(3)
        self.assertEqual(client.transport.ended, "half")

    def test_taken_back_ones_do_not_keep_it(self) -> None:
        """A request that is reset at once, again and again."""
        client = self.client()
        for number in range(1, 201, 2):
            client.raw(headers(client, number), reset(number))
            client.world.advance(60)
            if client.transport.ended:
                break
        self.assertIn(number // 2, (60, 61, 62))

    def test_streams_at_once(self) -> None:
        """Before it has heard of the limit, a client may: it can ask again."""
        client = self.client(http2_streams=3)
        client.raw(*[headers(client, number) for number in (1, 3, 5, 7)])
        sent = frames_of(client.transport.take())
        [refused] = [frame for frame in sent if isinstance(frame, RstStreamFrame)]
        self.assertEqual((refused.stream_id, refused.error_code), (7, ErrorCodes.REFUSED_STREAM))
        self.assertEqual(len(client.world.origins), 3)

    def test_as_many_as_it_was_told(self) -> None:
        """A reload that lowers the limit is for connections to come: this one has its word."""
        client = self.client(http2_streams=4)
        gateway = client.world.gateway
        lower = evolve(gateway.settings, limits=evolve(gateway.limits, http2_streams=1))
        gateway.adopt(lower, gateway.sites)
        client.raw(*[headers(client, number) for number in (1, 3, 5, 7)])
        sent = frames_of(client.transport.take())
        self.assertEqual([frame for frame in sent if isinstance(frame, RstStreamFrame)], [])
        self.assertEqual(len(client.world.origins), 4)

    def test_table_of_the_encoder(self) -> None:
        client = self.client()
        client.h2.update_settings({1: (1 << 32) - 1})
        client.talk()
        self.assertEqual(client.server.h2.encoder.header_table_size, 4096)

    def test_idle(self) -> None:
        world = World(evolve(Settings(), timeouts=evolve(Timeouts(), keepalive=20)))
        client = Client(world)
        client.ask()
        world.advance(30)  # a request runs
        say(world.origins[0], OK)
        client.talk()
        self.assertEqual(client.transport.ended, "")
        world.advance(21)
        self.assert_goaway(client, ErrorCodes.NO_ERROR)
