"""The header with which a load balancer says whose connection this is: PROXY protocol v1 and v2.

Owns the two forms and how strictly they are read; pure, without a socket. It does not know which
peers may send one: whoever calls this has looked at the peer before, since the header lets its
sender claim any address. "The PROXY protocol", HAProxy, sections 2.1 and 2.2.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

from ..wire.errors import ProtocolError

# 2.1: the longest line there is, UNKNOWN with two full IPv6 addresses, its CRLF counted.
V1_OCTETS: Final = 107
# 2.2 leaves room for 65551 octets. This is what fits in one segment of the smallest IPv4 MTU,
# which 2.2 tells senders to stay within: 16 + 216 (two unix addresses) + 304 of TLVs.
V2_OCTETS: Final = 536

_V1_BEGINNING: Final = b"PROXY "
# Its CR LF NUL stop every HTTP, SMTP or TLS parser that gets it by mistake (2.2).
_V2_BEGINNING: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED: Final = 16  # signature, version and command, family and protocol, length

# Port without leading zeros: there is one way to write it. At most five digits, before int().
_PORT = rb"(0|[1-9][0-9]{0,4}+)"
_LAST_PORT: Final = 65535
_V1_LINE: Final = re.compile(
    rb"PROXY (?:TCP4 ([0-9.]++) ([0-9.]++)|TCP6 ([0-9A-Fa-f:.]++) ([0-9A-Fa-f:.]++)) "
    + _PORT
    + rb" "
    + _PORT
)
# 2.1: what follows UNKNOWN is to be ignored up to the CRLF.
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: .*+)?+", re.DOTALL)
_V1_PROTOCOLS: Final = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r")
# What an incomplete line may hold; with UNKNOWN, anything.
_V1_SO_FAR: Final = re.compile(rb"PROXY TCP[46] [0-9A-Fa-f:. ]*+\r?+")

_VERSION_2 = 2
_LOCAL = 0
_PROXY = 1
_TCP4 = 0x11
_TCP6 = 0x21
# Family and protocol -> octets of its addresses. Datagrams and reserved values are not among them:
# this is a TCP listener, and 2.2 has receivers refuse what it does not define.
_FAMILIES: Final = {0x00: 0, _TCP4: 12, _TCP6: 36, 0x31: 216}


@attrs.frozen
class ProxyHeader:
    """A complete header.

    length: its octets, so that what follows can be read from there. source: the textual address of
    the client, an IPv4-mapped one as IPv4; None where the header names none (LOCAL, UNKNOWN, UNSPEC
    and unix sockets: then the peer is all that is known). local: the sender speaks for itself, a
    health check.
    """

    length: int
    source: str | None = None
    source_port: int = 0
    local: bool = False


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of `data`; None: it has not ended yet, more octets are needed.

    None also means that all of `data` is header. Raises ProtocolError with 400 as soon as the
    octets cannot become a header.
    """
    if data.startswith(_V1_BEGINNING):
        return _parse_v1(data)
    if data.startswith(_V2_BEGINNING):
        return _parse_v2(data)
    if not _V1_BEGINNING.startswith(data) and not _V2_BEGINNING.startswith(data):
        raise ProtocolError(400, "no PROXY header")
    return None


# Version 1: a line of text.


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, V1_OCTETS)
    if end < 0:
        if len(data) >= V1_OCTETS:
            raise ProtocolError(400, "a PROXY line without an end in 107 octets")
        _refuse_early_v1(data)
        return None
    line = data[:end]
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(end + 2)
    words = _V1_LINE.fullmatch(line)
    if words is None:
        raise ProtocolError(400, "a malformed PROXY line")
    source4, target4, source6, target6, source_port, target_port = words.groups(b"")
    source = _address(source4, source6)
    _address(target4, target6)
    _port(target_port)
    return ProxyHeader(end + 2, source, _port(source_port))


def _refuse_early_v1(data: bytes) -> None:
    for beginning in _V1_PROTOCOLS:
        if beginning.startswith(data):
            return
    if not data.startswith(_V1_PROTOCOLS):
        raise ProtocolError(400, "a PROXY line of an unknown protocol")
    if not data.startswith(b"PROXY UNKNOWN") and not _V1_SO_FAR.fullmatch(data):
        raise ProtocolError(400, "a malformed PROXY line")


def _address(text4: bytes, text6: bytes) -> str:
    """The address in the one of the two texts that is not empty, in its usual form."""
    try:
        if text4:
            return str(ipaddress.IPv4Address(text4.decode("ascii")))
        return _unmapped(ipaddress.IPv6Address(text6.decode("ascii")))
    except ValueError:
        # Not its words: they repeat the input.
        raise ProtocolError(400, "a bad address in a PROXY line") from None


def _port(digits: bytes) -> int:
    port = int(digits)
    if port > _LAST_PORT:
        raise ProtocolError(400, "a bad port in a PROXY line")
    return port


# Version 2: binary.


def _parse_v2(data: bytes) -> ProxyHeader | None:
    local = _check_v2(data)
    if len(data) < _V2_FIXED:
        return None
    family = data[13]
    length = _V2_FIXED + int.from_bytes(data[14:16], "big")
    if length > V2_OCTETS:
        raise ProtocolError(400, "a PROXY header of more than 536 octets")
    if not local and length < _V2_FIXED + _FAMILIES[family]:
        raise ProtocolError(400, "a PROXY header that is too short for its addresses")
    if len(data) < length:
        return None
    # What follows the addresses are TLVs, of which none is used here.
    if local or family not in (_TCP4, _TCP6):
        return ProxyHeader(length, local=local)
    if family == _TCP4:
        source = str(ipaddress.IPv4Address(data[16:20]))
        return ProxyHeader(length, source, int.from_bytes(data[24:26], "big"))
    source = _unmapped(ipaddress.IPv6Address(data[16:32]))
    return ProxyHeader(length, source, int.from_bytes(data[48:50], "big"))


def _check_v2(data: bytes) -> bool:
    """Whether the command is LOCAL; refuses the octets after the signature one by one."""
    if len(data) == len(_V2_BEGINNING):
        return False
    version, command = divmod(data[12], 16)
    if version != _VERSION_2:
        raise ProtocolError(400, "a PROXY header of an unknown version")
    if command not in (_LOCAL, _PROXY):
        raise ProtocolError(400, "a PROXY header with an unknown command")
    # 2.2: with LOCAL the family is ignored, whatever it is.
    if command == _PROXY and data[13:14] and data[13] not in _FAMILIES:
        raise ProtocolError(400, "a PROXY header of a family or protocol that is not accepted")
    return command == _LOCAL


def _unmapped(address: ipaddress.IPv6Address) -> str:
    # An IPv4 client of a dual-stack balancer is that IPv4 address everywhere.
    return str(address.ipv4_mapped or address)
