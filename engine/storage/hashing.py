"""What stands for the content of files and folders in receipts: sha256, hexadecimal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

LIVE = "training/"
"""What lies here in a folder was written while the rest was made, such as a log: it is no part of the content."""


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(files: dict[str, str]) -> str:
    """sha256 of a folder from the hashes of its files by relative path."""
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def folder_files(folder: Path) -> list[Path]:
    """All files of a local folder's content, sorted by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if not path.relative_to(folder).as_posix().startswith(LIVE))


def hash_local(path: Path) -> str:
    """sha256 of a local file or folder, as `Output.sha256` states it."""
    if path.is_dir():
        return hash_folder({p.relative_to(path).as_posix(): hash_file(p) for p in folder_files(path)})
    return hash_file(path)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: one value, one byte string."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
