"""Guest-physical memory: sparse 4 KiB pages over a shared image, shared with snapshots until written.

A snapshot costs a few microseconds because pages are handed over as immutable ``bytes`` and copied only when
written next. Nothing here knows what an instruction or a VMCB is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PAGE = 4096
_OFFSET = PAGE - 1
M64 = (1 << 64) - 1
ZERO = bytes(PAGE)

Pages = tuple[tuple[int, bytes], ...]


class Image:
    """What memory holds before anything runs: page number to 4 KiB of bytes; immutable and hashable."""

    __slots__ = ("_hash", "pages")

    def __init__(self, pages: Mapping[int, bytes] | None = None) -> None:
        self.pages = dict(pages or {})
        self._hash = hash(tuple(sorted(self.pages.items())))

    def __eq__(self, other: object) -> bool:
        """Equal when every page is."""
        return self is other or (isinstance(other, Image) and self.pages == other.pages)

    def __hash__(self) -> int:
        """Return a hash computed once."""
        return self._hash

    @staticmethod
    def of(layers: Iterable[Mapping[int, bytes]]) -> Image:
        """Lay out byte strings at their addresses; a later layer overwrites an earlier one."""
        memory = Memory()
        for chunks in layers:
            for address, data in chunks.items():
                memory.write_bytes(address, data)
        return Image(dict(memory.freeze()))


class Memory:
    """Bytes at 64-bit addresses; a page never written reads as the image, or as zero.

    ``on_code_write`` is called when a page in ``code_pages`` is written, so that whoever decoded it can forget.
    ``log``, when it is a list, gets ``(address, size, old, new)`` for every write.
    """

    __slots__ = ("_changed", "_live", "code_pages", "image", "log", "on_code_write", "pages")

    def __init__(self, image: Image | None = None) -> None:
        self.image = Image() if image is None else image
        self.pages: dict[int, bytes] = dict(self.image.pages)
        self._changed: dict[int, bytes] = {}
        self._live: dict[int, bytearray] = {}
        self.code_pages: set[int] = set()
        self.on_code_write: Callable[[], None] | None = None
        self.log: list[tuple[int, int, int, int]] | None = None

    def read(self, address: int, size: int) -> int:
        """Return ``size`` (1 to 8) bytes at ``address``, little-endian; addresses wrap at 2**64."""
        offset = address & _OFFSET
        if offset + size > PAGE:
            return int.from_bytes(self.read_bytes(address, size), "little")
        number = address >> 12
        page = self._live.get(number) or self.pages.get(number)
        return 0 if page is None else int.from_bytes(page[offset : offset + size], "little")

    def write(self, address: int, size: int, value: int) -> None:
        """Store the low ``size`` (1 to 8) bytes of ``value`` at ``address``, little-endian."""
        offset, number = address & _OFFSET, address >> 12
        page = self._live.get(number)
        if page is None or offset + size > PAGE or number in self.code_pages or self.log is not None:
            self.write_bytes(address, value.to_bytes(size, "little"))
        else:
            page[offset : offset + size] = value.to_bytes(size, "little")

    def read_bytes(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes from ``address`` on."""
        start = address & _OFFSET
        if start + size <= PAGE:
            number = (address & M64) >> 12
            page = self._live.get(number) or self.pages.get(number) or ZERO
            return bytes(page if size == PAGE else page[start : start + size])
        out = bytearray()
        while size:
            offset, number = address & _OFFSET, (address & M64) >> 12
            count = min(size, PAGE - offset)
            page = self._live.get(number) or self.pages.get(number) or ZERO
            out += page[offset : offset + count]
            address, size = (address + count) & M64, size - count
        return bytes(out)

    def write_bytes(self, address: int, data: bytes) -> None:
        """Store ``data`` from ``address`` on."""
        if self.log is not None:
            self._log(address, data)
        while data:
            offset, number = address & _OFFSET, (address & M64) >> 12
            count = min(len(data), PAGE - offset)
            page = self._live.get(number)
            if page is None:
                page = self._live[number] = bytearray(self.pages.get(number, ZERO))
            page[offset : offset + count] = data[:count]
            if number in self.code_pages and self.on_code_write is not None:
                self.on_code_write()
            address, data = (address + count) & M64, data[count:]

    def _log(self, address: int, data: bytes) -> None:
        assert self.log is not None
        for i in range(0, len(data), 8):
            chunk = data[i : i + 8]
            at = (address + i) & M64
            old = int.from_bytes(self.read_bytes(at, len(chunk)), "little")
            self.log.append((at, len(chunk), old, int.from_bytes(chunk, "little")))

    def freeze(self) -> Pages:
        """Return the pages that differ from the image, by number: the same bytes give the same value."""
        for number, page in self._live.items():
            base = self.image.pages.get(number)
            if page == (base or ZERO):
                self._changed.pop(number, None)
                self.pages.pop(number, None)
                if base is not None:
                    self.pages[number] = base
            elif self._changed.get(number, b"") != page:
                self._changed[number] = self.pages[number] = bytes(page)
        self._live.clear()
        return tuple(sorted(self._changed.items()))

    def thaw(self, pages: Pages) -> None:
        """Put back what ``freeze`` returned."""
        before = {n: self._live.get(n) or self.pages.get(n) for n in self.code_pages}
        self._live.clear()
        for number in self._changed:
            self.pages.pop(number, None)
            if number in self.image.pages:
                self.pages[number] = self.image.pages[number]
        self._changed = dict(pages)
        self.pages.update(pages)
        if self.on_code_write is not None and any(self.pages.get(n) is not page for n, page in before.items()):
            self.on_code_write()
