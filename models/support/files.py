"""Files of users: what is refused before anything looks inside."""

from __future__ import annotations

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
