"""A PNG read back: a decoder of the tests' own, for the one kind of PNG that the project writes."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple


class Picture(NamedTuple):
    """The pixels of a picture, row by row, as ``#rrggbb``."""

    width: int
    height: int
    rows: list[list[str]]


def read(data: bytes) -> Picture:
    """Decode a PNG of eight palette bits and no filter, checking every checksum."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size) == (zlib.crc32(name + body),)
        chunks[name] = body
        at += size + 12
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 3, 0, 0, 0]
    colours = [f"#{chunks[b'PLTE'][n : n + 3].hex()}" for n in range(0, len(chunks[b"PLTE"]), 3)]
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (width + 1)
    lines = [raw[n * (width + 1) : (n + 1) * (width + 1)] for n in range(height)]
    assert {line[0] for line in lines} == {0}
    return Picture(width, height, [[colours[index] for index in line[1:]] for line in lines])
