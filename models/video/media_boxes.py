"""Walking the boxes of MP4 (ISO/IEC 14496-12) and the elements of Matroska (RFC 8794) without reading what they hold.

A box that claims to be larger than the box around it, or cannot be parsed, ends the walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

Part = tuple[bytes, int, int]  # name, and where in the file its contents begin and end
Walk = Callable[[BinaryIO, int, int], Iterator[Part]]

MAX_PARTS = 100_000  # side by side; a day of video has fewer clusters


def iso_boxes(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """Boxes that lie side by side; a size of 0 reaches to the end, of 1 is followed by one of 64 bits."""
    for _ in range(MAX_PARTS):
        head = _read(file, start, min(end, start + 16))
        size, name, content = int.from_bytes(head[:4]), head[4:8], start + 8
        if size == 1:
            size, content = int.from_bytes(head[8:16]), start + 16
        stop = end if size == 0 else start + size
        if len(head) < 8 or not content <= stop <= end:
            return
        yield name, content, stop
        start = stop


def ebml_elements(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """Elements that lie side by side; an unknown size reaches to the end."""
    for _ in range(MAX_PARTS):
        head = _read(file, start, min(end, start + 12))
        name_length = _vint_length(head[:1], longest=4)
        size_length = _vint_length(head[name_length : name_length + 1], longest=8)
        content = start + name_length + size_length
        if not name_length or not size_length or content > start + len(head):
            return
        unknown = (1 << 7 * size_length) - 1
        size = int.from_bytes(head[name_length:][:size_length]) & unknown
        stop = end if size == unknown else content + size
        if stop > end:
            return
        yield head[:name_length], content, stop
        start = stop


def descend(walk: Walk, file: BinaryIO, part: Part, path: tuple[bytes, ...]) -> Iterator[Part]:
    """All parts that are reached by these names, one level after the other."""
    if not path:
        yield part
        return
    for child in walk(file, *part[1:]):
        if child[0] == path[0]:
            yield from descend(walk, file, child, path[1:])


def content(file: BinaryIO, part: Part, most: int) -> bytes:
    """The first bytes of what a part holds, `most` at most."""
    return _read(file, part[1], min(part[2], part[1] + most))


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(max(0, end - start))


def _vint_length(first: bytes, longest: int) -> int:
    """Bytes of a variable-length integer, given by its leading zeros; 0 where it is none."""
    length = 9 - first[0].bit_length() if first else 0
    return length if length <= longest else 0
