"""What happens between the rules of HTTP/2: orders of events, ends inside of ends."""

from __future__ import annotations

from typing import Any

from h2.errors import ErrorCodes
from hyperframe.frame import Frame, HeadersFrame, PingFrame, RstStreamFrame
from twisted.trial.unittest import SynchronousTestCase

from authproxy.settings import Settings

from ..http2_client import Client, request
from ..world import OK, World, say

EXPECT = (b"expect", b"100-continue")


def headers(client: Client, number: int, fields: Any, *, ended: bool = True) -> HeadersFrame:
    """A HEADERS frame that is a whole head."""
    frame = HeadersFrame(number, client.block(fields))
    frame.flags.add("END_HEADERS")
    if ended:
        frame.flags.add("END_STREAM")
    return frame


def reset(number: int) -> RstStreamFrame:
    """A client's RST_STREAM."""
    return RstStreamFrame(number, int(ErrorCodes.CANCEL))


def ack(data: bytes) -> Frame:
    """The answer to a PING."""
    frame = PingFrame(0, data)
    frame.flags.add("ACK")
    return frame


class ContentTests(SynchronousTestCase):
    """A client that asks for a 100, and sends without having got it (RFC 9110 10.1.1)."""

    def setUp(self) -> None:
        self.world = World(Settings())
        self.client = Client(self.world)
        self.number = self.client.h2.get_next_available_stream_id()
        fields = request(b"/", (b"content-length", b"5"), EXPECT, method=b"PUT")
        self.client.h2.send_headers(self.number, fields)
        self.client.talk()
        self.world.advance(1)

    def send(self, data: bytes, *, ended: bool) -> None:
        self.client.h2.send_data(self.number, data, ended)
        self.client.talk()

    def test_all_of_it(self) -> None:
        self.send(b"hello", ended=True)
        [origin] = self.world.origins
        self.assertTrue(origin.take().endswith(b"\r\n\r\nhello"))
        say(origin, OK)
        self.client.talk()
        self.assertEqual(self.client.status(self.number), 200)

    def test_some_of_it(self) -> None:
        self.send(b"he", ended=False)
        self.world.advance(29)
        self.client.talk()
        self.assertEqual(self.client.status(self.number), 0)
        self.world.advance(2)
        self.client.talk()
        self.assertEqual(self.client.status(self.number), 408)
