"""Owns moving octets through one TLS connection, with as little as possible in between.

pyOpenSSL's `recv` and `send` allocate 64 KiB for each read, copy, look at three kinds of callbacks
and ask for the error of every success. Here OpenSSL is called as they call it (through cffi), with
one buffer for the reads of all connections: 2.4 instead of 4.4 us for a read and a write of 350
octets. What is no success is left to pyOpenSSL, which knows the exceptions.

The names that this needs are pyOpenSSL's own. Where one of them is missing, its public methods are
used: `fast` says which it is.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

READ_SIZE = 65536
RECORD = 16384  # the most that one TLS record carries (RFC 8446, 5.1)

_ffi: Any = getattr(SSL, "_ffi", None)
_lib: Any = getattr(SSL, "_lib", None)
fast = (
    _ffi is not None
    and hasattr(_lib, "SSL_read")
    and hasattr(_lib, "SSL_write")
    and hasattr(_lib, "SSL_do_handshake")
    and hasattr(_lib, "SSL_get_error")
    and hasattr(_lib, "SSL_get0_alpn_selected")
    and hasattr(SSL.Connection, "_raise_ssl_error")
)


def _public_receive(connection: SSL.Connection, _handle: Any, /) -> bytes:
    return connection.recv(READ_SIZE)


def _public_send(connection: SSL.Connection, _handle: Any, data: Any, /) -> int:
    return connection.send(data)


def _public_handshake(connection: SSL.Connection, _handle: Any, /) -> bool:
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def _public_negotiated(connection: SSL.Connection, _handle: Any, /) -> bytes:
    return connection.get_alpn_proto_negotiated()


def handle_of(connection: Any) -> Any:
    """What `receive` and `send` want beside the connection: OpenSSL's own pointer to it."""
    return connection._ssl if fast else None


def one_message_a_read(connection: Any) -> None:
    """Let a read end after a message that is no content, with WantReadError.

    pyOpenSSL has reads go on until there is content. Who sends KeyUpdates (RFC 8446 4.6.3) as fast
    as they are read, which is 1 MB a second, keeps that one call, and with it every other
    connection, for as long as he likes. What waits behind the message is the socket's: it is
    readable still.
    """
    if hasattr(_lib, "SSL_clear_mode") and hasattr(_lib, "SSL_MODE_AUTO_RETRY"):
        _lib.SSL_clear_mode(connection._ssl, _lib.SSL_MODE_AUTO_RETRY)


def limit_groups(connection: Any, groups: bytes) -> bool:
    """Offer only these groups for the key exchange ("X25519:P-256"), with a share of the first.

    Returns False, and leaves OpenSSL's own list, where it does not know them all.
    """
    if not hasattr(_lib, "SSL_set1_curves_list") or not hasattr(_lib, "ERR_clear_error"):
        return False
    done = bool(_lib.SSL_set1_curves_list(connection._ssl, groups))
    if not done:
        _lib.ERR_clear_error()  # or the next call that fails would be blamed for it
    return done


knows_resumed = hasattr(_lib, "SSL_session_reused")


def resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake was that of a session which was there before (RFC 8446 2.2); False,
    too, where that is not known."""
    return knows_resumed and bool(_lib.SSL_session_reused(connection._ssl))


if fast:
    _read, _write = _lib.SSL_read, _lib.SSL_write
    _buffer = _ffi.new("char[]", READ_SIZE)
    _octets = _ffi.buffer(_buffer, READ_SIZE)
    _pointer_to = _ffi.from_buffer
    _name, _name_length = _ffi.new("unsigned char **"), _ffi.new("unsigned int *")

    def handshake(connection: SSL.Connection, handle: Any, /) -> bool:
        """Go on with the handshake. Returns whether it is over; False: the peer's turn. Else raises
        as SSL.Connection.do_handshake does."""
        done = _lib.SSL_do_handshake(handle)
        if done == 1:
            return True
        if _lib.SSL_get_error(handle, done) != _lib.SSL_ERROR_WANT_READ:
            connection._raise_ssl_error(handle, done)
        return False

    def negotiated(_connection: SSL.Connection, handle: Any, /) -> bytes:
        """The protocol that both agreed to by ALPN (RFC 7301), or b""."""
        _lib.SSL_get0_alpn_selected(handle, _name, _name_length)
        length = _name_length[0]
        return _ffi.buffer(_name[0], length)[:] if length else b""

    def receive(connection: SSL.Connection, handle: Any, /) -> bytes:
        """What one record holds. Raises as SSL.Connection.recv does."""
        taken = _read(handle, _buffer, READ_SIZE)
        if taken > 0:
            data: bytes = _octets[:taken]
            return data
        connection._raise_ssl_error(handle, taken)
        raise SSL.Error("a read that neither failed nor succeeded")

    def send(connection: SSL.Connection, handle: Any, data: Any, /) -> int:
        """Give it one record's worth of a bytes-like object. Returns how many octets it took;
        raises as SSL.Connection.send does."""
        length = len(data)
        if type(data) is bytes:
            taken: int = _write(handle, data, length)
        else:
            with _pointer_to(data) as pointer:
                taken = _write(handle, pointer, length)
        if taken > 0:
            return taken
        connection._raise_ssl_error(handle, taken)
        raise SSL.Error("a write that neither failed nor succeeded")

else:
    receive, send = _public_receive, _public_send
    handshake, negotiated = _public_handshake, _public_negotiated
