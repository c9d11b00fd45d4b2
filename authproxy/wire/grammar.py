"""The productions of RFC 9110 and RFC 9112 that the parsers need, each under its ABNF.

Every expression here is linear in its input. Two rules make that visible without a stopwatch:
each quantifier is possessive (``++``, ``*+``, ``{m,n}+``) or bounded, so nothing is ever tried a
second time, and what follows a quantifier is never a member of the class it repeats, so being
possessive loses no match.

No expression uses ``$``, which also matches before a final LF: callers use fullmatch, or the
expression ends in the CRLF itself.
"""

from __future__ import annotations

import re
from typing import Final

CRLF: Final = b"\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"

# tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~"
#       / DIGIT / ALPHA                                                       RFC 9110 5.6.2
_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"

# A method longer than this is none that anybody implements: 501 (RFC 9112 3).
METHOD_OCTETS: Final = 32

# request-line  = method SP request-target SP HTTP-version CRLF               RFC 9112 3
# origin-form   = absolute-path [ "?" query ]                                 RFC 9112 3.2.1
# This expression takes origin-form and the two known versions, which is what well-behaved clients
# send; everything else is looked at by requests._unusual_line. The target may hold every visible
# ASCII octet but "#": browsers send octets that RFC 3986 reserves ("|", "^", "[") as they are.
REQUEST_LINE: Final = re.compile(
    rb"(" + _TCHAR + rb"{1,%d}+) (/[\x21\x22\x24-\x7e]*+) HTTP/1\.([01])\r\n" % METHOD_OCTETS
)
TARGET: Final = re.compile(rb"[\x21\x22\x24-\x7e]++")
METHOD: Final = re.compile(_TCHAR + rb"++")
# What the first octets of a request may be while its line is incomplete.
METHOD_SO_FAR: Final = re.compile(_TCHAR + rb"{1,%d}+(?: |\Z)" % METHOD_OCTETS)
HTTP_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")

# absolute-form = scheme "://" authority path-abempty [ "?" query ]           RFC 9112 3.2.2
ABSOLUTE_FORM: Final = re.compile(
    rb"(?i:https?)://([\x21\x22\x24-\x2e\x30-\x3e\x40-\x7e]++)((?:/[\x21\x22\x24-\x3e\x40-\x7e]*+)?+)"
    rb"((?:\?[\x21\x22\x24-\x7e]*+)?+)"
)

# Host = uri-host [ ":" port ]                                                RFC 9110 7.2
# Narrower than RFC 3986: no user information, no percent-encoding, no sub-delims, no empty host and
# no empty port, since the value is used for routing, redirects and X-Forwarded-Host.
_PORT = rb"(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
HOST: Final = re.compile(
    rb"(?:[0-9A-Za-z_-]{1,63}+(?:\.[0-9A-Za-z_-]{1,63}+)*+\.?+|\[[0-9A-Fa-f:.]{2,45}+\])"
    rb"(?::" + _PORT + rb")?+"
)
HOST_OCTETS: Final = 253 + 1 + 6  # RFC 1035 2.3.4, a final dot, ":65535"

# status-line = HTTP-version SP status-code SP [ reason-phrase ] CRLF         RFC 9112 4
# The second SP is often missing where the phrase is empty; that much is let pass.
STATUS_LINE: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?+\r\n"
)

# field-line = field-name ":" OWS field-value OWS                             RFC 9112 5
# field-value = *( field-vchar / SP / HTAB ), obs-text included               RFC 9110 5.5
# The white space around the value is still in the second group.
FIELD_LINE: Final = re.compile(rb"(" + _TCHAR + rb"++):([\t\x20-\x7e\x80-\xff]*+)")
FIELD_NAME: Final = METHOD

# field-vchar / SP / HTAB, obs-text included                                  RFC 9110 5.5
FIELD_TEXT: Final = bytes(
    octet for octet in range(256) if octet == 0x09 or (octet >= 0x20 and octet != 0x7F)
)

# Content-Length = 1*DIGIT                                                    RFC 9110 8.6
CONTENT_LENGTH_DIGITS: Final = 19  # 2^63 - 1 has 19 digits

# chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF                       RFC 9112 7.1
# Both sides of a boundary in one expression, so that one match takes the reader from the last
# octet of one chunk to the first of the next. Extensions are skipped, never interpreted; control
# octets in them, HTAB too, are what the published desynchronisations are made of.
CHUNK_DIGITS: Final = 16
CHUNK_EXTENSION_OCTETS: Final = 256
_CHUNK_SIZE = rb"([0-9A-Fa-f]{1,%d}+)" % CHUNK_DIGITS
_CHUNK_EXTENSION = rb"((?:;[\x20-\x7e\x80-\xff]{0,%d}+)?+)" % (CHUNK_EXTENSION_OCTETS - 1)
FIRST_CHUNK: Final = re.compile(_CHUNK_SIZE + _CHUNK_EXTENSION + rb"\r\n")
NEXT_CHUNK: Final = re.compile(rb"\r\n" + _CHUNK_SIZE + _CHUNK_EXTENSION + rb"\r\n")
# The beginnings of what the two above match: an incomplete line that fails them can be refused.
FIRST_CHUNK_SO_FAR: Final = re.compile(rb"(?:" + _CHUNK_SIZE + _CHUNK_EXTENSION + rb"\r?+)?+")
NEXT_CHUNK_SO_FAR: Final = re.compile(
    rb"\r?+|\r\n(?:" + _CHUNK_SIZE + _CHUNK_EXTENSION + rb"\r?+)?+"
)

# Sec-WebSocket-Key: base64 of 16 octets                                      RFC 6455 4.1
WEBSOCKET_KEY: Final = re.compile(rb"[0-9A-Za-z+/]{21}[AQgw]==")
