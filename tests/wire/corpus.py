"""Reads the files of tests/corpus; its README says what is in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent / "corpus"

_ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "s": b" ", "\\": b"\\"}
_PIECE = re.compile(
    r"\\x(?P<hex>[0-9a-f]{2})"
    r"|\\\{(?P<times>[0-9]+)\*(?P<text>[^}]+)\}"
    r"|\\(?P<escape>[rnt0s\\])"
    r"|(?P<plain>[\x20-\x5b\x5d-\x7e])"
)


class Sample(NamedTuple):
    """One file. words: the first line; settings: the lines `# name: value`."""

    name: str
    words: str
    settings: dict[str, bytes]
    octets: bytes

    @property
    def status(self) -> int:
        """The expected one, of a sample that is refused."""
        return int(self.words.partition(" ")[0])


def unescape(text: str) -> bytes:
    """The octets that `text` stands for; raises ValueError for what the README does not allow."""
    octets: list[bytes] = []
    at = 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise ValueError(f"not allowed in a corpus file: {text[at : at + 10]!r}")
        if piece["hex"]:
            octets.append(bytes.fromhex(piece["hex"]))
        elif piece["times"]:
            octets.append(unescape(piece["text"]) * int(piece["times"]))
        elif piece["escape"]:
            octets.append(_ESCAPES[piece["escape"]])
        else:
            octets.append(piece["plain"].encode())
        at = piece.end()
    return b"".join(octets)


def parse_sample(name: str, text: str) -> Sample:
    head, rule, message = text.partition("\n---\n")
    lines = head.split("\n")
    if not rule or not all(line.startswith("# ") for line in lines):
        raise ValueError(f"{name}: no # lines before ---")
    settings: dict[str, bytes] = {}
    for line in lines[1:]:
        key, colon, value = line[2:].partition(": ")
        if colon:
            settings[key] = unescape(value)
    return Sample(name, lines[0][2:], settings, unescape(message.replace("\n", "")))


def load(directory: str) -> list[Sample]:
    """All samples of tests/corpus/`directory`; raises ValueError if there are none."""
    paths = sorted((ROOT / directory).glob("*.http"))
    if not paths:
        raise ValueError(f"no samples in {directory}")
    return [
        parse_sample(f"{directory}/{path.name}", path.read_text(encoding="ascii")) for path in paths
    ]
