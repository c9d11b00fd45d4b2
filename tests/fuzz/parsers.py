"""Fuzz targets without a reactor: octets in, a verdict or a ProtocolError, and nothing else.

Each target also compares: the verdict may not depend on how the octets arrive, what is accepted is
accepted again when it is written anew, and a slow reading of the same rules agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from authproxy import config
from authproxy.guards import Guard, Guards
from authproxy.settings import Settings
from authproxy.spellings import readings
from authproxy.transport.proxy_header import parse
from authproxy.trust import TrustedProxies, direct, identify, normal_address
from authproxy.wire.bodies import ChunkedReader
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import RequestHead
from authproxy.wire.requests import parse_request
from authproxy.wire.responses import parse_response
from authproxy.wire.sections import parse_fields

from ..wire.feeding import COMPLETIONS, LIMITS, feed

PEER = "10.0.0.1"
TRUSTED = TrustedProxies(("10.0.0.0/8", "2001:db8::/32"))
ADMIN = Guards([Guard("/if/admin/", ("10.0.0.0/8",), ())])
STATUSES = {400, 405, 414, 417, 431, 501, 502, 505}
MOST_READINGS = 300


def verdict(call: Callable[[], object]) -> object:
    """What it returns, or what is refused with: nothing but a ProtocolError is let pass."""
    try:
        return call()
    except ProtocolError as e:
        assert e.status in STATUSES, e
        return e.status, e.reason


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """The first octet says where the others are cut in two."""
    octets = data[1:]
    at = data[0] * len(octets) // 256 if data else 0
    return [octets[:at], octets[at:]], octets


def _head(read: Callable[[bytes], object], data: bytes) -> object:
    """The verdict on a head, which may not depend on how it arrives. None: it is incomplete."""
    segments, octets = _cut(data)
    whole = verdict(lambda: read(octets))
    cut = verdict(lambda: feed(read, segments))
    if whole is None and cut is not None:
        # A fault that showed in the first segment; of a longer one it is not worth while to look.
        for end in COMPLETIONS:
            assert refused(verdict(lambda end=end: read(octets + end))) is not False, cut
    elif refused(whole):
        # Perhaps for another reason, which shows earlier.
        assert refused(cut), (whole, cut)
    elif whole is not None:
        assert isinstance(whole, tuple)
        assert isinstance(cut, tuple), cut
        assert (cut[1], repr(cut[0])) == (whole[1], repr(whole[0])), (whole, cut)
        assert cut[0].fields == whole[0].fields
    return whole


def refused(found: object) -> bool | None:
    """None: it is incomplete."""
    if found is None:
        return None
    return isinstance(found, tuple) and isinstance(found[0], int)


def request_head(data: bytes) -> None:
    found = _head(lambda held: parse_request(held, LIMITS), data)
    if not isinstance(found, tuple) or not isinstance(found[0], RequestHead):
        return
    head = found[0]
    lines = b"".join(b"\r\n%b: %b" % field for field in head.fields)
    assert parse_fields(lines, LIMITS, 400) == head.fields
    assert not any(octet in head.target for octet in b"\r\n\0 #"), head.target


def response_head(data: bytes) -> None:
    for method in (b"GET", b"HEAD"):
        _head(partial(parse_response, limits=LIMITS, method=method), data)


def _read_chunks(segments: list[bytes]) -> object:
    reader = ChunkedReader()
    content = b"".join(map(reader.receive, segments))
    return content, reader.finished, reader.rest, reader.trailers


def chunks(data: bytes) -> None:
    segments, octets = _cut(data)
    whole = verdict(lambda: _read_chunks([octets]))
    cut = verdict(lambda: _read_chunks(segments))
    drop = verdict(lambda: _read_chunks([octets[i : i + 1] for i in range(len(octets))]))
    for other in (cut, drop):
        if isinstance(whole, tuple) and len(whole) == 2:
            assert isinstance(other, tuple), other
            assert len(other) == 2, (whole, other)
        else:
            assert other == whole, (whole, other)


def proxy_header(data: bytes) -> None:
    segments, octets = _cut(data)
    whole = verdict(lambda: parse(octets))
    cut = verdict(lambda: feed(parse, segments))
    assert whole == cut or (isinstance(whole, tuple) and isinstance(cut, tuple)), (whole, cut)


def trust_lists(data: bytes) -> None:
    fields = [(b"x-forwarded-for", part) for part in data.split(b"\n")]
    head = RequestHead(b"GET", b"/", 11, fields, b"a")
    client = identify(head, direct(PEER, b"https", TRUSTED), TRUSTED)
    assert normal_address(client.address) == client.address, client.address
    assert not client.chain or client.chain[0] == client.address, client.chain
    assert all(map(TRUSTED.contains, client.chain[1:])), client.chain


def spellings(data: bytes) -> None:
    target = b"/" + data
    path = target.partition(b"?")[0].lower()
    asked = ADMIN.of(target)
    if asked == ():  # open: then no server that we know of may find the guarded path in it
        for number, reading in enumerate(readings(path)):
            assert not ADMIN._all[0].covers(reading), (target, reading)
            if number > MOST_READINGS:
                break


def configuration(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found, wrong = config.loads(text, "f.toml")
    assert isinstance(found, Settings)
    for problem in wrong:
        assert str(problem).isprintable(), repr(str(problem))
