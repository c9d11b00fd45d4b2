"""Field sections: of requests, responses and trailers alike. RFC 9110 5, RFC 9112 5.

Owns what is the same for all of them: where a head ends, what is a field, the limits, and which
fault an unacceptable section has. Which fields mean something is not known here.
"""

from __future__ import annotations

from .errors import ProtocolError
from .grammar import CRLF, FIELD_NAME, FIELD_START, FIELD_TEXT
from .heads import Fields, HeadLimits


def parse_fields(section: bytes, limits: HeadLimits, status: int) -> Fields:
    """The fields of a section in which every line has its CRLF before it, not behind it.

    Names in lower case, values without the white space around them. Raises ProtocolError with
    `status` for a malformed section; what is over a limit is 431 for a client, else `status`.
    """
    # What is left of the section without text must be CRLF CRLF CRLF ... . This finds control
    # octets at the speed of memory, and counts the lines before anything is allocated for them.
    breaks = section.translate(None, FIELD_TEXT)
    lines = len(breaks) >> 1
    if breaks != CRLF * lines:
        raise ProtocolError(status, _text_fault(section))
    if lines > limits.fields:
        raise over_limit(status, "too many fields", "limits.fields")
    if len(section) > limits.line_bytes and longest_line(section) > limits.line_bytes:
        raise over_limit(status, "a field line is too long", "limits.line_bytes")
    # [b"", name, value, name, value, ...]. If there are as many names as lines, then every CR and
    # LF of the section was one that stands before a name and its colon: no line is left over.
    parts = FIELD_START.split(section)
    if len(parts) != 2 * lines + 1:
        raise ProtocolError(status, _line_fault(section))
    each = iter(parts)
    next(each)
    # strip() takes more than OWS, but no VT, FF, CR or LF is left at this point.
    return [(name.lower(), value.strip()) for name, value in zip(each, each, strict=True)]


def refuse_incomplete(data: bytes, start: int, limits: HeadLimits, status: int) -> None:
    """Raises ProtocolError if the octets from `start`, which hold no end of a head, have no future.

    Only what costs a few passes of memchr: this runs for every segment of a head that drips in.
    """
    size = len(data) - start
    if size >= limits.head_bytes:
        if status == 400 and data.find(CRLF, start) < 0:
            raise ProtocolError(414, "the request line is too long", "limits.head_bytes")
        raise over_limit(status, "the head is too large", "limits.head_bytes")
    lines = data.count(CRLF, start)
    bare_cr = data.count(b"\r", start) - data.endswith(b"\r") != lines
    if bare_cr or data.count(b"\n", start) != lines or data.find(b"\0", start) >= 0:
        raise ProtocolError(status, _text_fault(data[start:]))
    if lines - 1 > limits.fields:
        raise over_limit(status, "too many fields", "limits.fields")
    # One octet more may be the CR of the line's end.
    if lines and len(data) - (data.rfind(CRLF) + 2) > limits.line_bytes + 1:
        raise over_limit(status, "a field line is too long", "limits.line_bytes")


def longest_line(section: bytes) -> int:
    """Octets of the longest line, its CRLF not counted."""
    return max(map(len, section.split(CRLF)))


def over_limit(status: int, reason: str, limit: str) -> ProtocolError:
    """431 (RFC 6585 5) where the fault is a client's; upstream's stays what it is."""
    return ProtocolError(431 if status == 400 else status, reason, limit)


def _text_fault(text: bytes) -> str:
    """Which octet is wrong in a text that holds one: the words for the log and the page."""
    rest = text.replace(CRLF, b"")
    if b"\n" in rest:
        return "a line that ends with LF alone"
    if b"\0" in rest:
        return "a NUL octet in the head"
    if b"\r" in rest:
        return "a CR without LF"
    return "a control octet in the head"


def _line_fault(section: bytes) -> str:
    """What is wrong with a section in which some line is no field line."""
    for line in section.split(CRLF)[1:]:
        name, colon, _ = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            return "a folded field line"
        if not colon:
            return "a field line without a colon"
        if not name:
            return "an empty field name"
        if name[-1:] in (b" ", b"\t"):
            return "white space between field name and colon"
        if not FIELD_NAME.fullmatch(name):
            return "a field name that is no token"
    return "a malformed field section"
