"""Field sections: of requests, responses and trailers alike. RFC 9110 5, RFC 9112 5.

Owns what is the same for all of them: where a head ends, what is a field, the limits, and which
fault an unacceptable section has. Which fields mean something is not known here.
"""

from __future__ import annotations

from typing import NoReturn

from .errors import ProtocolError
from .grammar import CRLF, FIELD_LINE, FIELD_NAME, FIELD_TEXT
from .heads import Fields, HeadLimits

# Lines of these fields are remembered: the same few come with every message. Not those that carry a
# secret, which would stay in memory.
_REMEMBERED_NAMES = frozenset(
    b"accept accept-charset accept-encoding accept-language accept-ranges allow alt-svc"
    b" cache-control connection content-encoding content-language content-length"
    b" content-security-policy content-type date dnt host keep-alive origin permissions-policy"
    b" pragma priority"
    b" referrer-policy sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode"
    b" sec-fetch-site sec-fetch-user server strict-transport-security te transfer-encoding"
    b" upgrade-insecure-requests user-agent vary x-content-type-options x-frame-options"
    b" x-powered-by".split()
)
_REMEMBERED_LINE = 512  # octets; a longer line is not remembered
_REMEMBERED_LINES = 2048  # more begin anew: whoever sends new ones all the time gains nothing


def parse_fields(section: bytes, limits: HeadLimits, status: int) -> Fields:
    """The fields of a section in which every line has its CRLF before it, not behind it.

    Names in lower case, values without the white space around them. Raises ProtocolError with
    `status` for a malformed section; what is over a limit is 431 for a client, else `status`.
    """
    if section.count(CRLF) > limits.fields:  # before anything is allocated for them
        _refuse(section, limits, status)
    # A section is well-formed if each of its lines is, and one that was seen before is known to be.
    known = limits.known
    fields = []
    for line in section.split(CRLF)[1:]:  # nothing stands before the first
        field = known.get(line)
        if field is None:
            if len(line) > limits.line_bytes or (match := FIELD_LINE.fullmatch(line)) is None:
                _refuse(section, limits, status)
            # strip() takes more than OWS, but no VT, FF, CR or LF is left at this point.
            field = (match[1].lower(), match[2].strip())
            if field[0] in _REMEMBERED_NAMES and len(line) <= _REMEMBERED_LINE:
                if len(known) >= _REMEMBERED_LINES:
                    known.clear()
                known[line] = field
        fields.append(field)
    return fields


def _refuse(section: bytes, limits: HeadLimits, status: int) -> NoReturn:
    """Say what is wrong with a section in which something is, the gravest first."""
    breaks = section.translate(None, FIELD_TEXT)
    lines = len(breaks) >> 1
    if breaks != CRLF * lines:
        raise ProtocolError(status, text_fault(section))
    if lines > limits.fields:
        raise over_limit(status, "too many fields", "limits.fields")
    if longest_line(section) > limits.line_bytes:
        raise over_limit(status, "a field line is too long", "limits.line_bytes")
    raise ProtocolError(status, _line_fault(section))


def longest_line(section: bytes) -> int:
    """Octets of the longest line, its CRLF not counted."""
    return max(map(len, section.split(CRLF)))


def over_limit(status: int, reason: str, limit: str) -> ProtocolError:
    """431 (RFC 6585 5) where the fault is a client's; upstream's stays what it is."""
    return ProtocolError(431 if status == 400 else status, reason, limit)


def text_fault(text: bytes) -> str:
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
