"""Reads the files of tests/corpus; its README says what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from authproxy.wire.heads import Fields

ROOT = Path(__file__).parent.parent / "corpus"

_ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "s": b" ", "\\": b"\\"}
_PIECE = re.compile(
    r"\\x(?P<hex>[0-9a-f]{2})"
    r"|\\\{(?P<times>[0-9]+)\*(?P<text>[^}]+)\}"
    r"|\\(?P<escape>[rnt0s\\])"
    r"|(?P<plain>[\x20-\x5b\x5d-\x7e])"
)


class Sample(NamedTuple):
    """Two files: NAME.http has the octets, NAME.expect the words and the settings."""

    name: str
    words: str  # what it is
    settings: dict[str, bytes]
    octets: bytes

    @property
    def status(self) -> int:
        """That of the answer, where the sample is invalid."""
        return int(self.settings["status"])


class Stream(NamedTuple):
    """The same of HTTP/2: a list of fields, content (None: no DATA at all), trailers."""

    name: str
    words: str
    settings: dict[str, bytes]
    fields: Fields
    content: bytes | None
    trailers: Fields

    @property
    def status(self) -> int:
        """That of the answer, where the sample is invalid."""
        return int(self.settings["status"])


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


def parse_sample(name: str, message: str, expected: str) -> Sample:
    """From the texts of its two files."""
    words, settings = _parse_expected(name, expected)
    return Sample(name, words, settings, unescape(message.replace("\n", "")))


def parse_stream(name: str, message: str, expected: str) -> Stream:
    """From the texts of its two files; raises ValueError for what the README does not allow."""
    words, settings = _parse_expected(name, expected)
    head, *others = message.rstrip("\n").split("\n\n")
    if len(others) > 2:
        raise ValueError(f"{name}: more than fields, content and trailers")
    content = unescape(others[0].replace("\n", "")) if others else None
    trailers = _parse_fields(others[1]) if len(others) == 2 else []
    return Stream(name, words, settings, _parse_fields(head), content, trailers)


def _parse_fields(section: str) -> Fields:
    fields = []
    for line in section.split("\n"):
        # The first octet may be the colon of a pseudo-header field.
        colon = (line + " ").index(": ", 1)
        fields.append((unescape(line[:colon]), unescape(line[colon + 2 :])))
    return fields


def _parse_expected(name: str, expected: str) -> tuple[str, dict[str, bytes]]:
    words, *lines = expected.rstrip("\n").split("\n")
    settings: dict[str, bytes] = {}
    for line in lines:
        key, colon, value = line.partition(": ")
        if not colon:
            raise ValueError(f"{name}: not `name: value`: {line!r}")
        settings[key] = unescape(value)
    return words, settings


def load(directory: str) -> list[Sample]:
    """All samples of tests/corpus/`directory`; raises ValueError if there are none, or half ones."""
    return [parse_sample(*texts) for texts in _texts(directory)]


def load_streams(directory: str) -> list[Stream]:
    """The same of a directory in http2/."""
    return [parse_stream(*texts) for texts in _texts(directory)]


def _texts(directory: str) -> Iterator[tuple[str, str, str]]:
    paths = sorted((ROOT / directory).glob("*.http"))
    if not paths or len(paths) != len(list((ROOT / directory).glob("*.expect"))):
        raise ValueError(f"no samples in {directory}, or not two files of each")
    for path in paths:
        expected = path.with_suffix(".expect").read_text(encoding="ascii")
        yield f"{directory}/{path.stem}", path.read_text(encoding="ascii"), expected
