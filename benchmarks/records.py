"""Records of TLS 1.3 made by hand, for what no library sends: RFC 8446 4.6.3, 5.2, 7.1-7.3.

A library does the handshake and gives its secrets away (its key log); the client's records after
that are made here.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
KEY_UPDATE = b"\x18\0\0\1\0"  # that asks for none in return
SECRET = b"CLIENT_TRAFFIC_SECRET_0 "


class Records:
    """What a client writes after its handshake. `cipher` is the suite's name, `keylog` the lines of
    the library's key log."""

    def __init__(self, cipher: str, keylog: bytes) -> None:
        self._hash = hashes.SHA384() if cipher.endswith("SHA384") else hashes.SHA256()
        self._octets = 16 if "128" in cipher else 32
        self._aead = ChaCha20Poly1305 if "CHACHA20" in cipher else AESGCM
        [line] = [line for line in keylog.splitlines() if line.startswith(SECRET)]
        self._use(bytes.fromhex(line.split()[2].decode()))

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = self._aead(self._expand(b"key", self._octets))
        self._iv = int.from_bytes(self._expand(b"iv", 12))
        self._number = 0

    def _expand(self, label: bytes, octets: int) -> bytes:
        """HKDF-Expand-Label, without a context. RFC 8446 7.1."""
        info = octets.to_bytes(2) + bytes([6 + len(label)]) + b"tls13 " + label + b"\0"
        return HKDFExpand(self._hash, octets, info).derive(self._secret)

    def record(self, content: bytes, kind: int = APPLICATION_DATA) -> bytes:
        """The next record."""
        inner = content + bytes([kind])
        head = b"\x17\3\3" + (len(inner) + 16).to_bytes(2)
        nonce = (self._iv ^ self._number).to_bytes(12)
        self._number += 1
        return head + self._cipher.encrypt(nonce, inner, head)

    def key_update(self) -> bytes:
        """A KeyUpdate, behind which other keys are used."""
        made = self.record(KEY_UPDATE, HANDSHAKE)
        self._use(self._expand(b"traffic upd", self._hash.digest_size))
        return made
