"""Owns how the h2 library is set up, and where it does otherwise than it would by itself."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hpack.hpack import Encoder
from hyperframe.frame import GoAwayFrame

from ..settings import Limits

NO_LIMIT = (1 << 31) - 1
# A client may ask for a table of 4 GiB (RFC 7541 4.2); more than the default helps nobody here.
ENCODER_TABLE = 4096

_KNOWN = frozenset(map(int, SettingCodes))
_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    # wire/http2.py checks what comes, and every head that is sent was made by us.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


def server(limits: Limits, websockets: bool) -> H2Connection:
    """A server's connection (RFC 9113 3.4), with what it has to say first not sent yet."""
    h2 = H2Connection(_CONFIG)
    values = {
        SettingCodes.MAX_CONCURRENT_STREAMS: limits.http2_streams,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.head_bytes,
        SettingCodes.INITIAL_WINDOW_SIZE: limits.http2_stream_window,
    }
    if websockets:
        values[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
    h2.local_settings = Settings(client=False, initial_values=values)
    h2.remote_settings = ClientSettings()
    h2.decoder.max_header_list_size = limits.head_bytes
    h2.initiate_connection()
    # For the library this limit is a client's crime. It may not have heard of it yet, and what is
    # over it can be asked for again: that is ours to refuse (RFC 9113 5.1.2).
    h2.local_settings.max_concurrent_streams = NO_LIMIT
    h2.local_settings.acknowledge()
    if limits.http2_connection_window > 65535:
        h2.increment_flow_control_window(limits.http2_connection_window - 65535)
    return h2


def follow_table_size(encoder: Encoder) -> None:
    """Tell a client's decoder of the sizes that its SETTINGS gave our table.

    The library would tell all of them, also what is over the client's limit by now, and nothing
    where it was told the same size twice. RFC 7541 4.2: the least and the last.
    """
    if encoder.table_size_changes:
        size = encoder.header_table_size = min(encoder.header_table_size, ENCODER_TABLE)
        encoder.table_size_changes = sorted({min(encoder.table_size_changes), size})
        encoder.header_table.resized = True


def goaway_frame(last: int, code: ErrorCodes, words: bytes = b"") -> bytes:
    """A GOAWAY frame (RFC 9113 6.8). For the library, one of its own is the end."""
    return GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=words).serialize()


class ClientSettings(Settings):
    """What is kept of a client's SETTINGS: not what nobody knows, which we ignore (RFC 9113 6.5.2).

    The library keeps a deque for each identifier that a client makes up, and walks through all of
    them for each SETTINGS: 390 kB of frames took 53 MiB, and after them every 9 octets 7 ms.
    """

    def __init__(self) -> None:
        super().__init__(client=True)

    def __setitem__(self, key: SettingCodes | int, value: int) -> None:
        """Set, where it is one."""
        if key in _KNOWN:
            super().__setitem__(key, value)
