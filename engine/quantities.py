"""Numbers as people read them."""

from __future__ import annotations

_DURATIONS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def duration(seconds: float) -> str:
    """`3 h 12 min`, `41 s`, `2.5 s`, `35 ms`: the two largest units."""
    for large_s, large, small_s, small in _DURATIONS:
        if round(seconds / small_s) * small_s >= large_s:
            count, rest = divmod(round(seconds / small_s), large_s // small_s)
            return f"{count} {large}" + (f" {rest} {small}" if rest else "")
    if seconds >= 10 or seconds == 0:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def size(count: float) -> str:
    """`1.4 TiB`, `312 KiB`, `7 B`."""
    power = 0
    while round(count) >= 1024 and power < len(_SIZES) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.1f} {_SIZES[power]}" if power and count < 10 else f"{count:.0f} {_SIZES[power]}"


def hours(amount: float) -> str:
    """`41`, `2.5`, `0.003`: hours of cores or GPUs."""
    return f"{amount:.0f}" if amount >= 10 else f"{amount:.2g}"
