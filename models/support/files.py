"""Files of users: what is refused before anything looks inside."""

from __future__ import annotations

import codecs
import os
import stat


class FileError(ValueError):
    """A file that cannot be used. `code` is short and stable, `detail` one line for people."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


def check_readable(path: str | os.PathLike[str], error: type[FileError] = FileError) -> None:
    """Raises an `error` unless the path is a regular file that may be read and holds anything."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise error("unreadable", "not a regular file")
        with open(path, "rb"):
            pass
    except PermissionError:
        raise error("permission_denied", "permission denied") from None
    except OSError as problem:
        raise error("missing_file", problem.strerror or "cannot be found") from problem
    if status.st_size == 0:
        raise error("empty_file", "zero bytes")


def list_lines(data: bytes) -> list[tuple[int, str]]:
    """The lines of a list with their numbers from 1 on, without empty ones and those that begin with `#`.

    In UTF-8 or, with a byte-order mark, UTF-16; names that are no text stay the bytes that they are. ValueError for
    what is no list at all.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16")
    else:
        text = data.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")
    if "\0" in text:
        raise ValueError("is no text")
    lines = enumerate((line.strip() for line in text.split("\n")), start=1)
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
