"""Finding videos: in a folder, by a glob pattern, in a list, or below a URI."""

from __future__ import annotations

import glob
import hashlib
import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pyarrow.parquet as pq
from pyarrow import fs

from engine.stage import UnreachableError

VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts"))
_LIST_SUFFIXES = frozenset({".txt", ".list"})


@dataclass(frozen=True)
class Video:
    """A video as found: where it is, its path relative to where it was looked for, its size (-1: not there)."""

    uri: str
    relative: str
    bytes: int

    @property
    def video_id(self) -> str:
        """A name without dots that stays when the folder moves: the file's own, and a hash of its relative path."""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", PurePosixPath(self.relative).stem).strip("-")[:48]
        return f"{stem or 'video'}-{hashlib.sha256(self.relative.encode()).hexdigest()[:10]}"


def find_videos(source: str) -> list[Video]:
    """All videos of a folder, glob pattern, text or parquet list, or object-store URI, sorted by id.

    Raises:
        UnreachableError: a URI that cannot be listed from here.
        ValueError: nothing is there, or it holds no video.
    """
    try:
        found = _find(source)
    except (OSError, ValueError) as error:
        kind = UnreachableError if "://" in source else ValueError
        raise kind(f"videos: {source}: {' '.join(str(error).split())[:200]}") from error
    if not found:
        raise ValueError(f"videos: {source}: holds no video ({' '.join(sorted(VIDEO_SUFFIXES))})")
    by_id = {video.video_id: video for video in found}
    return [by_id[video_id] for video_id in sorted(by_id)]


def _find(source: str) -> list[Video]:
    path = Path(source)
    if path.suffix in _LIST_SUFFIXES:
        return _listed(path.read_text().split("\n"), path.parent)
    if path.suffix == ".parquet" and "://" not in source:
        return _listed(_parquet_entries(path), path.parent)
    if "://" in source:
        return _below_uri(source)
    if path.is_dir():
        return _below(path)
    if path.is_file():
        return [_local(path, path.name)]
    if glob.has_magic(source):
        return _matching(source)
    raise FileNotFoundError("no such file or folder")


def _below(folder: Path) -> list[Video]:
    return [_local(path, path.relative_to(folder).as_posix()) for path in folder.rglob("*") if _is_video(path)]


def _matching(pattern: str) -> list[Video]:
    """Matches of a glob, relative to the folder above its first part with a wildcard: ids are as in the folder."""
    root = Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    paths = (Path(match) for match in glob.glob(pattern, recursive=True))
    return [_local(path, path.relative_to(root).as_posix()) for path in paths if _is_video(path)]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _local(path: Path, relative: str) -> Video:
    return Video(str(path.resolve()), relative, path.stat().st_size if path.is_file() else -1)


def _below_uri(uri: str) -> list[Video]:
    filesystem, root = fs.FileSystem.from_uri(uri)
    base, question, options = uri.partition("?")
    infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    found = []
    for info in infos:
        relative = info.path[len(root.rstrip("/")) + 1 :]
        if info.type == fs.FileType.File and PurePosixPath(relative).suffix.lower() in VIDEO_SUFFIXES:
            found.append(Video(f"{base.rstrip('/')}/{quote(relative)}{question}{options}", relative, info.size))
    return found


def _parquet_entries(path: Path) -> list[str]:
    table = pq.read_table(path)
    if "uri" not in table.column_names:
        raise ValueError(f"has no column 'uri', only {table.column_names}")
    return [uri for uri in table["uri"].to_pylist() if uri]


def _listed(lines: list[str], base: Path) -> list[Video]:
    """Entries of a list: URIs as they are, paths relative to the list. What is not there stays in, to be dropped."""
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [Video(entry, entry, -1) if "://" in entry else _local(base / entry, entry) for entry in entries]
