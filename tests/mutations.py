"""Seeded damage to media files: bytes flipped, cut, moved and repeated; boxes and elements resized, moved, renamed."""

import io
from collections.abc import Callable, Iterator

import numpy as np

from dap_engine.models.video.media_boxes import Part, Walk, ebml_elements, iso_boxes

MASTERS = {  # boxes and elements that hold others
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf"),
    *(b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"),
    *(b"\x1f\x43\xb6\x75", b"\xa0", b"\x11\x4d\x9b\x74", b"\x4d\xbb", b"\x1c\x53\xbb\x6b", b"\xbb", b"\xb7"),
}
ODD_NUMBERS = (0, 1, 2, 7, 8, 9, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

Rng = np.random.Generator
Damage = Callable[[bytes, Rng], bytes]


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Damaged versions of a file, the same for the same seed."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for number in range(count):
        yield DAMAGES[number % len(DAMAGES)](data, rng)


def _flip(data: bytes, rng: Rng) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.integers(1, 24)):
        broken[rng.integers(len(data))] = rng.integers(256)
    return bytes(broken)


def _cut(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(len(data))]


def _rearrange(data: bytes, rng: Rng) -> bytes:
    """A slice left out, repeated, put elsewhere, or blanked."""
    start, stop = sorted(rng.integers(len(data), size=2).tolist())
    stop = min(stop, start + int(rng.integers(1, 4096)))
    part, at = data[start:stop], int(rng.integers(len(data)))
    match rng.integers(4):
        case 0:
            return data[:start] + data[stop:]
        case 1:
            return data[:at] + part + data[at:]
        case 2:
            rest = data[:start] + data[stop:]
            return rest[:at] + part + rest[at:]
        case _:
            return data[:start] + bytes(len(part)) + data[stop:]


def _resize(data: bytes, rng: Rng) -> bytes:
    """The size of a box says something else: nothing, to the end, 64 bits of anything, a little more, a lot more."""
    _, content, stop = _any_part(data, rng)
    start = _start(data, content)
    if not _is_iso(data):
        return _resize_element(data, start, content, rng)
    size = int(rng.choice((*ODD_NUMBERS, max(0, stop - start + int(rng.integers(-16, 17))))))
    return data[:start] + size.to_bytes(4) + data[start + 4 :]


def _resize_element(data: bytes, start: int, content: int, rng: Rng) -> bytes:
    length = content - start
    sizes = length - (1 if length < 3 else max(1, length // 2))
    odd = rng.bytes(length - sizes) if rng.integers(2) else b"\x01" + b"\xff" * (length - sizes - 1)
    return data[: start + sizes] + odd + data[content:]


def _widen(data: bytes, rng: Rng) -> bytes:
    """A box whose size is told in 64 bits, right or wrong."""
    _, content, stop = _any_part(data, rng)
    start = _start(data, content)
    if not _is_iso(data):
        return data[:start] + data[start : start + 1] + b"\x01" + rng.bytes(7) + data[content:]
    sizes = (stop - start + 8, stop - start, 0, 1, 15, 16, 2**31, 2**32 + 7, 2**62, 2**63, 2**64 - 1)
    wide = int(sizes[rng.integers(len(sizes))])
    return data[:start] + (1).to_bytes(4) + data[start + 4 : content] + wide.to_bytes(8) + data[content:]


def _move(data: bytes, rng: Rng) -> bytes:
    """A box left out, doubled, put elsewhere, or under another's name."""
    name, content, stop = _any_part(data, rng)
    start, (other, elsewhere, _) = _start(data, content), _any_part(data, rng)
    box = data[start:stop]
    match rng.integers(4):
        case 0:
            return data[:start] + data[stop:]
        case 1:
            return data[:stop] + box + data[stop:]
        case 2:
            rest = data[:start] + data[stop:]
            return rest[:elsewhere] + box + rest[elsewhere:]
        case _:
            return data[:start] + box.replace(name, other, 1) + data[stop:]


def _odd_numbers(data: bytes, rng: Rng) -> bytes:
    """Extreme numbers in the tables and fields of a box."""
    broken = bytearray(data)
    _, content, stop = _any_part(data, rng)
    for _ in range(rng.integers(1, 4)):
        at = content + 4 * int(rng.integers(max(1, min(stop - content, 128) // 4)))
        broken[at : at + 4] = int(rng.choice(ODD_NUMBERS)).to_bytes(4)
    return bytes(broken[: len(data)])


DAMAGES: tuple[Damage, ...] = (_flip, _resize, _odd_numbers, _cut, _move, _rearrange, _widen)


def _any_part(data: bytes, rng: Rng) -> Part:
    parts = list(_parts(io.BytesIO(data), 0, len(data), iso_boxes if _is_iso(data) else ebml_elements))
    return parts[rng.integers(len(parts))]


def _parts(file: io.BytesIO, start: int, end: int, walk: Walk) -> Iterator[Part]:
    for part in walk(file, start, end):
        yield part
        if part[0] in MASTERS:
            yield from _parts(file, *part[1:], walk)
        if part[0] == b"stsd":
            yield from _parts(file, part[1] + 8, part[2], walk)
        if part[0] in (b"avc1", b"hev1", b"hvc1"):
            yield from _parts(file, part[1] + 78, part[2], walk)


def _is_iso(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def _start(data: bytes, content: int) -> int:
    """Where the head of a part begins, told by where its contents do: files here have 32-bit sizes, and short ids."""
    if _is_iso(data):
        return content - 8
    return max(at for at in range(max(0, content - 12), content - 1) if _head_ends_at(data, at, content))


def _head_ends_at(data: bytes, at: int, content: int) -> bool:
    part = next(ebml_elements(io.BytesIO(data), at, len(data)), None)
    return part is not None and part[1] == content
