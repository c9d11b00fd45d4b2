"""Heads of responses: octets -> ResponseHead. RFC 9112 4, 6.3.

Owns what upstream may say in a status line and how the length of its content follows from the
request it answers. Every fault is upstream's: 502.
"""

from __future__ import annotations

from . import framing
from .errors import ProtocolError
from .grammar import CRLF, END_OF_HEAD, STATUS_LINE
from .heads import UNTIL_CLOSE, HeadLimits, ResponseHead
from .incomplete import Incomplete, refuse_incomplete
from .sections import over_limit, parse_fields

_BEGINNING = b"HTTP/1."


# A longer head is not kept for comparing: each upstream connection holds one.
COMPARED = 4096


def parse_response(
    data: bytes, limits: HeadLimits, method: bytes, before: ResponseHead | None = None
) -> tuple[ResponseHead, int] | None:
    """The head at the beginning of `data` and the number of its octets; None: more are needed.

    method: that of the request which this answers. before: the head that came before it on the same
    connection; the same octets are the same head. Where more octets are needed, an Incomplete with
    refuse_early knows when to come back. Raises ProtocolError, always 502.
    """
    end = data.find(END_OF_HEAD, 0, limits.head_bytes)
    if end < 0:
        Incomplete(data, limits, refuse_early)
        return None
    to_head = method == b"HEAD"
    octets = data[:end]
    if before is not None and octets == before.octets != b"" and to_head is before.to_head:
        return before, end + 4
    line = STATUS_LINE.match(data)
    if line is None:
        raise ProtocolError(502, "a malformed status line")
    if line.end() - 2 > limits.line_bytes:
        raise over_limit(502, "the status line is too long", "limits.line_bytes")
    minor, digits, reason = line.groups(b"")
    version = 11 if minor == b"1" else 10
    status = int(digits)
    fields = parse_fields(data[line.end() - 2 : end], limits, 502)

    named = framing.by_name(fields, 502)
    length = framing.content_length(named, version, 502)
    keep_alive = framing.keeps_alive(named.get(b"connection"), version)
    if status < 200 or status in (204, 304) or to_head:
        length = 0
    elif length is None:
        length = UNTIL_CLOSE
        keep_alive = False
    if end > COMPARED:
        octets = b""
    head = ResponseHead(status, reason, version, fields, length, keep_alive, octets, to_head)
    return head, end + 4


def refuse_early(seen: Incomplete, limits: HeadLimits) -> None:
    """Refuse an incomplete head that cannot become a good one, as far as that is cheap to know."""
    data = seen.octets
    if not seen.lines:
        if not _BEGINNING.startswith(bytes(data[: len(_BEGINNING)])):
            raise ProtocolError(502, "a malformed status line")
        # One octet more may be the CR of the line's end.
        too_long = limits.line_bytes + 2
        if len(data) >= too_long and data.find(CRLF, seen.looked, too_long) < 0:
            raise over_limit(502, "the status line is too long", "limits.line_bytes")
    refuse_incomplete(seen, limits, 502)
