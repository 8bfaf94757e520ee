"""Finding videos: in a folder, by a glob pattern, in a list, or below a URI."""

from __future__ import annotations

import codecs
import glob
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from ...engine.steps.step import UnreachableError
from .fetch import open_filesystem

VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts"))
_LIST_SUFFIXES = frozenset({".txt", ".list"})
_NO_LISTS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".xlsx"})  # though people keep lists in them


_TEXT_KINDS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
)


@dataclass(frozen=True)
class Video:
    """A video as found: where it is, its path relative to where it was looked for, its size (-1: not known).

    mtime_ns: when it was last written, 0 where that is not known. seconds: from its list, if there.
    """

    uri: str
    relative: str
    bytes: int
    mtime_ns: int = 0
    seconds: float | None = None

    @property
    def video_id(self) -> str:
        """A name without dots that stays when the folder moves: the file's own, and a hash of its relative path."""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", PurePosixPath(self.relative).stem).strip("-")[:48]
        return f"{stem or 'video'}-{hashlib.sha256(os.fsencode(self.relative)).hexdigest()[:10]}"


def find_videos(source: str, notes: list[str] | None = None) -> list[Video]:
    """All videos of a folder, glob pattern, text or parquet list, or object-store URI, sorted by id.

    `notes` takes a line for what lies there and is left out: files that are no videos, folders that cannot be read.

    Folders are searched to their depth, linked folders too; a link that leads back to where it came from is left out.
    A parquet list has a column `uri`, and may have `seconds` and `bytes`, which are used where they make sense.

    Raises:
        UnreachableError: a URI that cannot be listed from here.
        ValueError: nothing is there, or it holds no video.
    """
    try:
        found = _find(source, [] if notes is None else notes)
    except (OSError, ValueError) as error:
        kind = UnreachableError if "://" in source else ValueError
        raise kind(f"videos: {source}: {' '.join(str(error).split())[:200]}") from error
    if not found:
        raise ValueError(f"videos: {source}: holds no video ({' '.join(sorted(VIDEO_SUFFIXES))})")
    by_id = {video.video_id: video for video in found}
    return [by_id[video_id] for video_id in sorted(by_id)]


def _find(source: str, notes: list[str]) -> list[Video]:
    path = Path(source)
    if "://" in source:
        return _at_uri(source)
    if path.suffix in _LIST_SUFFIXES:
        return _text_list(_text(path.read_bytes()), path.parent)
    if path.suffix == ".parquet":
        return _parquet_list(path)
    if path.is_dir():
        return _below(path, notes)
    if path.suffix.lower() in _NO_LISTS:
        raise ValueError(f"is no video, and no list: lists are {', '.join(sorted(_LIST_SUFFIXES))} or .parquet")
    if path.is_file():
        return [_local(path, path.name)]
    if glob.has_magic(source):
        if found := _matching(source):
            return found
        raise FileNotFoundError("holds no video: * ? [ ] are wildcards, and [[] stands for [ itself")
    raise FileNotFoundError("no such file or folder")


def _below(folder: Path, notes: list[str]) -> list[Video]:
    found, others = [], Counter[str]()
    for path in _files(folder, (), notes):
        if _is_video(path):
            found.append(_local(path, path.relative_to(folder).as_posix()))
        else:
            others[path.suffix.lower() or "without a suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
        notes.append(f"{folder}: {others.total()} files are no videos, or of kinds that are not read: {kinds}")
    return found


def _files(folder: Path, above: tuple[Path, ...], notes: list[str]) -> Iterator[Path]:
    """All files below a folder. A folder that is one of those above it is left out: links may go round in a circle."""
    here = folder.resolve()
    if here in above:
        return
    try:
        paths = sorted(folder.iterdir())
    except PermissionError:
        if not above:
            raise
        notes.append(f"{folder}: permission denied: what lies there is left out")
        return
    for path in paths:
        if path.is_dir():
            yield from _files(path, (*above, here), notes)
        else:
            yield path


def _matching(pattern: str) -> list[Video]:
    """Matches of a glob, relative to the folder above its first part with a wildcard: ids are as in the folder."""
    root = Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    paths = (Path(match) for match in glob.glob(pattern, recursive=True))
    return [_local(path, path.relative_to(root).as_posix()) for path in paths if _is_video(path)]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _local(path: Path, relative: str) -> Video:
    if not path.is_file():
        return Video(_address(path), relative, -1)
    status = path.stat()
    return Video(_address(path), relative, status.st_size, status.st_mtime_ns)


def _address(path: Path) -> str:
    """The absolute path; as a file URI where it is no text, which a plan could not hold."""
    path = path.resolve()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.as_uri()
    return str(path)


def _at_uri(uri: str) -> list[Video]:
    """Videos below a URI, or the one that it names."""
    filesystem, root = open_filesystem(uri)
    base, question, options = uri.partition("?")
    if PurePosixPath(root).suffix.lower() in VIDEO_SUFFIXES:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.File:
            return [Video(uri, PurePosixPath(root).name, info.size, info.mtime_ns or 0)]
    found = []
    for info in filesystem.get_file_info(fs.FileSelector(root, recursive=True)):
        relative = info.path[len(root.rstrip("/")) + 1 :]
        if info.type == fs.FileType.File and PurePosixPath(relative).suffix.lower() in VIDEO_SUFFIXES:
            video_uri = f"{base.rstrip('/')}/{quote(relative)}{question}{options}"
            found.append(Video(video_uri, relative, info.size, info.mtime_ns or 0))
    return found


def _text(data: bytes) -> str:
    """The text of a list, in UTF-8 or, with a byte-order mark, UTF-16; bytes that are no text stay what they are."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")


def _text_list(text: str, base: Path) -> list[Video]:
    lines = (line.strip() for line in text.split("\n"))
    return [_entry(line, base) for line in lines if line and not line.startswith("#")]


def _parquet_list(path: Path) -> list[Video]:
    table = pq.read_table(path)
    if "uri" not in table.column_names:
        raise ValueError(f"has no column 'uri', only {table.column_names}")
    kind = table.schema.field("uri").type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in _TEXT_KINDS):
        raise ValueError(f"its column 'uri' holds {kind}, not text")
    known = [name for name in ("uri", "seconds", "bytes") if name in table.column_names]
    return [_reported(row, path.parent) for row in table.select(known).to_pylist() if row["uri"]]


def _reported(row: Mapping[str, Any], base: Path) -> Video:
    """An entry with length and size from its list, as far as they are possible values."""
    video, seconds, size = _entry(os.fsdecode(row["uri"]), base), row.get("seconds"), row.get("bytes")
    if isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0:
        video = replace(video, seconds=float(seconds))
    if isinstance(size, int) and size >= 0 and "://" in video.uri:
        video = replace(video, bytes=size)
    return video


def _entry(entry: str, base: Path) -> Video:
    """An entry of a list: a URI as it is, a path relative to the list. What is not there stays in, to be dropped."""
    return Video(entry, entry, -1) if "://" in entry else _local(base / entry, entry)
