"""Owns a request over HTTP/2 (RFC 9113, by h2), as a browser makes it where ALPN offers that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error

from .requests import FAULTS, USER_AGENT
from .results import Result, failed, ok, warning
from .stream import PIECE, Stream, words_of
from .target import Target

HTTP2 = "http2"
PATH = "/-/health/live/"


def check(target: Target) -> list[Result]:
    """ALPN, then a real request."""
    with target.connect(target.offering(b"h2", b"http/1.1")) as stream:
        if stream.protocol != b"h2":
            return [warning(HTTP2, "not offered: a page needs more connections", *_off(target))]
        try:
            status = request(stream, target.authority, PATH)
        except (*FAULTS, H2Error) as e:
            return [
                failed(
                    HTTP2, f"agreed on, but a request fails: {words_of(e)}",
                    "Browsers will fail likewise. Until the cause is found:",
                    "    [listen]\n    http2 = false",
                )
            ]  # fmt: skip
    if status == 400:
        return [
            failed(
                HTTP2, f"{PATH} is 400 over HTTP/2",
                "With HTTP/2 there is no Host but :authority; whoever translates must make one of"
                " the other. authproxy does; a proxy in front or behind does not.",
            )
        ]  # fmt: skip
    return [ok(HTTP2, f"{PATH} is {status} over HTTP/2")]


def request(stream: Stream, authority: str, path: str) -> int:
    """The status of a GET. Raises FAULTS or H2Error."""
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
    connection.initiate_connection()
    number = connection.get_next_available_stream_id()
    connection.send_headers(
        number,
        [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
            ("user-agent", USER_AGENT),
        ],
        end_stream=True,
    )
    status = 0
    while True:
        stream.sendall(connection.data_to_send())
        data = stream.recv(PIECE)
        if not data:
            raise EOFError("the connection was closed")
        for event in connection.receive_data(data):
            if isinstance(event, ResponseReceived):
                status = _status(event.headers)
            elif isinstance(event, DataReceived):
                connection.acknowledge_received_data(event.flow_controlled_length or 0, number)
            elif isinstance(event, StreamEnded):
                return status
            elif isinstance(event, (StreamReset, ConnectionTerminated)):
                raise ConnectionError(f"ended by the server with code {event.error_code}")


def _status(fields: Iterable[tuple[Any, Any]]) -> int:
    return next((int(value) for name, value in fields if name in (":status", b":status")), 0)


def _off(target: Target) -> tuple[str, ...]:
    settings = target.settings
    if settings is not None and not settings.listen.http2:
        return ("http2 is false in [listen]. Without that line it is offered:", "    http2 = true")
    return (
        "authproxy offers it unless [listen] says http2 = false. Otherwise something in front"
        " terminates TLS: switch HTTP/2 on there.",
    )
