"""Keys of samples: what one may look like, and in which order they stand in a shard."""

from __future__ import annotations

import re
from collections.abc import Callable

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,199}")


class ColumnError(ValueError):
    """An object that is not what its codec says, or a row that a codec cannot hold."""


def check_key(key: str) -> str:
    """Returns the key; raises ColumnError unless it is 1 to 200 of [A-Za-z0-9_-] (a dot would end the key)."""
    if not _KEY.fullmatch(key):
        raise ColumnError(f"bad sample key {key!r}: use letters, digits, '_' and '-', up to 200 of them")
    return key


class RisingKeys:
    """Refuses a key that is not above the one before it."""

    def __init__(self) -> None:
        self._last = ""

    def check(self, key: str) -> None:
        check_key(key)
        if key <= self._last:
            raise ColumnError(f"key {key!r} after {self._last!r}: the keys of a shard must rise")
        self._last = key

    def mark(self) -> Callable[[], None]:
        last = self._last

        def undo() -> None:
            self._last = last

        return undo


class UniqueKeys:
    """Refuses a key that was there before."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}  # in the order they came

    def check(self, key: str) -> None:
        check_key(key)
        if key in self._seen:
            raise ColumnError(f"key {key!r} comes twice")
        self._seen[key] = None

    def mark(self) -> Callable[[], None]:
        count = len(self._seen)

        def undo() -> None:
            while len(self._seen) > count:
                self._seen.popitem()

        return undo
