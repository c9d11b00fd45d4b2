"""Field sections: of requests, responses and trailers alike. RFC 9110 5, RFC 9112 5.

Owns what is the same for all of them: where a head ends, what is a field, the limits, and which
fault an unacceptable section has. Which fields mean something is not known here.
"""

from __future__ import annotations

from .errors import ProtocolError
from .grammar import CRLF, FIELD_LINE, FIELD_NAME, FIELD_TEXT
from .heads import Fields, HeadLimits


def parse_fields(section: bytes, limits: HeadLimits, status: int) -> Fields:
    """The fields of a section that is empty or ends with the CRLF of its last line.

    Names in lower case, values without the white space around them. Raises ProtocolError with
    `status` for a malformed section; what is over a limit is 431 for a client, else `status`.
    """
    # What is left without text must be CRLF CRLF CRLF ... . This finds control octets and most
    # misplaced CRs and LFs at the speed of memory, gives the number of lines before anything is
    # allocated for them, and it keeps the expression linear: between two CRs there is now exactly
    # one LF, so "not CR" can run over at most one of them.
    breaks = section.translate(None, FIELD_TEXT)
    lines = len(breaks) >> 1
    if breaks != CRLF * lines:
        raise ProtocolError(status, _fault(section))
    if lines > limits.fields:
        raise over_limit(status, "too many fields", "limits.fields")
    if len(section) > limits.line_bytes and longest_line(section) > limits.line_bytes:
        raise over_limit(status, "a field line is too long", "limits.line_bytes")
    # Every match starts where a line starts and takes at least one CRLF. There are as many of
    # them as CRLFs, so each took one line and no line is left over.
    found = FIELD_LINE.findall(section)
    if len(found) != lines:
        raise ProtocolError(status, _fault(section))
    # strip() takes more than OWS, but no VT, FF, CR or LF is left at this point.
    return [(name.lower(), value.strip()) for name, value in found]


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
        raise ProtocolError(status, _fault(data[start:]))
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


def _fault(section: bytes) -> str:
    """What is wrong with a section that was refused: the words for the log and the page."""
    lines = section.split(CRLF)
    if b"\n" in section.replace(CRLF, b""):
        return "a line ends with LF alone"
    if any(b"\r" in line for line in lines[:-1]) or b"\r" in lines[-1][:-1]:
        return "a CR without LF"
    if b"\0" in section:
        return "a NUL octet in the field section"
    if section.replace(CRLF, b"").translate(None, FIELD_TEXT):
        return "a control octet in the field section"
    for line in lines[:-1]:
        if line[:1] in (b" ", b"\t"):
            return "a folded field line"
        name, colon, _ = line.partition(b":")
        if not colon:
            return "a field line without a colon"
        if not name:
            return "an empty field name"
        if name[-1:] in (b" ", b"\t"):
            return "white space between field name and colon"
        if not FIELD_NAME.fullmatch(name):
            return "a field name that is no token"
    return "a malformed field section"
