"""Finding videos and pictures: in a folder, by a glob pattern, in a list, or below a URI."""

from __future__ import annotations

import glob
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...engine.records.sample import Drop
from ...engine.steps.step import UnreachableError
from ...engine.storage.place import Place, is_uri, without_secrets
from ...models.data.pictures import PANORAMA_SUFFIXES
from ...models.support.files import list_lines
from .fetch import open_place, store_of

VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts"))


@dataclass(frozen=True)
class Kind:
    """What is looked for: its name in messages, and how its files are named."""

    word: str
    suffixes: frozenset[str]


VIDEOS = Kind("video", VIDEO_SUFFIXES)
PICTURES = Kind("picture", PANORAMA_SUFFIXES)
_LIST_SUFFIXES = frozenset({".txt", ".list"})
_NO_LISTS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".xlsx"})  # though people keep lists in them
_SPLIT = re.compile(r"[a-z][a-z0-9_]*")

RIGHTS = ("license", "source_url", "attribution")
"""What a list may say of the rights to a video."""

_TEXT_KINDS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
)


@dataclass(frozen=True)
class Video:
    """A video, or a picture, as found: where it is, its path relative to where it was looked for, its size.

    bytes: -1 where it is not known. mtime_ns: when it was last written, 0 where that is not known. From its list, if
    there: seconds; its split; the segment that is wanted, in seconds from its first frame; what is known of the rights.
    """

    uri: str
    relative: str
    bytes: int
    mtime_ns: int = 0
    seconds: float | None = None
    split: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    license: str | None = None
    source_url: str | None = None
    attribution: str | None = None

    @property
    def video_id(self) -> str:
        """A name without dots that stays when the folder moves: the file's own, and a hash of its relative path.

        Segments of one video have ids of their own.
        """
        stem = re.sub(r"[^A-Za-z0-9]+", "-", PurePosixPath(self.relative).stem).strip("-")[:48]
        whole = self.start_s is None and self.end_s is None
        name = self.relative if whole else f"{self.relative}\n{self.start_s} {self.end_s}"
        return f"{stem or 'video'}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:10]}"

    @property
    def listed(self) -> dict[str, Any]:
        """Segment and rights as its list has them, without what it does not say."""
        names = ("start_s", "end_s", *RIGHTS)
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def unlicensed(found: Video, licenses: Sequence[str], key: str) -> Drop | None:
    """The drop of what its list gives none of these licences; None if there are none to look for."""
    allowed = {license.casefold() for license in licenses}
    if not allowed or (found.license or "").casefold() in allowed:
        return None
    return Drop(key, "license", found.license or "the list says no licence")


def find_videos(source: str, notes: list[str] | None = None, kind: Kind = VIDEOS) -> list[Video]:
    """All videos, or pictures, of a folder, glob pattern, list, here or in an object store, sorted by id.

    `notes` takes a line for what lies there and is left out: files of other kinds, folders that cannot be read.

    Folders are searched to their depth, linked folders too; a link that leads back to where it came from is left out.
    A parquet list has a column `uri`, and may have `seconds` and `bytes`, which are used where they make sense,
    `split`, `start_s` and `end_s` of a segment, `license`, `source_url` and `attribution`. What is named twice, also
    through a link, is one video, of one split and licence; so is a segment.

    Raises:
        UnreachableError: a URI that cannot be listed from here.
        ValueError: nothing is there, it holds no video, or names one with two splits or licences.
    """
    try:
        found = _find(source, kind, [] if notes is None else notes)
    except (OSError, ValueError) as error:
        is_elsewhere = is_uri(source) and not source.startswith("file:")
        raised = UnreachableError if is_elsewhere else ValueError
        text = str(error).removeprefix(f"{source}: ")
        raise raised(f"{kind.word}s: {without_secrets(source)}: {' '.join(text.split())[:300]}") from error
    if not found:
        raise ValueError(f"{kind.word}s: {source}: holds no {kind.word} ({' '.join(sorted(kind.suffixes))})")
    shortest_last = sorted(found, key=lambda video: (len(video.relative), video.relative), reverse=True)
    once: dict[Any, Video] = {}
    for video in shortest_last:
        segment = (video.uri, video.start_s, video.end_s)
        if said := _contradiction(once.get(segment, video), video):
            listed_twice = f"{without_secrets(video.relative)} is listed twice, with {said}"
            raise ValueError(f"{kind.word}s: {without_secrets(source)}: {listed_twice}")
        once[segment] = video
    return sorted(once.values(), key=lambda video: video.video_id)


def _contradiction(one: Video, other: Video) -> str:
    """What a list says of one video that it does not say of it elsewhere; empty if it agrees."""
    values = ((name, getattr(one, name), getattr(other, name)) for name in ("split", "license"))
    return next((f"the {name} {this!r} and {that!r}" for name, this, that in values if this != that), "")


def _find(source: str, kind: Kind, notes: list[str]) -> list[Video]:
    place = Place.parse(source)
    if place.is_local and Path(place.path).is_dir():
        return _below(Path(place.path), kind, notes)
    suffix = PurePosixPath(place.path).suffix
    if suffix in _LIST_SUFFIXES:
        with open_place(place) as stream:
            return _text_list(stream.read(), place)
    if suffix == ".parquet":
        with open_place(place) as stream:
            return _parquet_list(stream, place)
    if suffix.lower() in _NO_LISTS:
        raise ValueError(f"is no {kind.word}, and no list: lists are {', '.join(sorted(_LIST_SUFFIXES))} or .parquet")
    return _on_disk(place.path, kind) if place.is_local else _in_store(place, kind, notes)


def _on_disk(source: str, kind: Kind) -> list[Video]:
    if Path(source).is_file():
        return [_local(Path(source), Path(source).name)]
    if glob.has_magic(source):
        if found := _matching(source, kind):
            return found
        raise FileNotFoundError(f"holds no {kind.word}: * ? [ ] are wildcards, and [[] stands for [ itself")
    raise FileNotFoundError("no such file or folder")


def _below(folder: Path, kind: Kind, notes: list[str]) -> list[Video]:
    found, others = [], Counter[str]()
    for path in _files(folder, (), notes):
        if _is_one(path, kind):
            found.append(_local(path, path.relative_to(folder).as_posix()))
        else:
            others[path.suffix.lower()] += 1
    _note_others(others, str(folder), kind, notes)
    return found


def _note_others(others: Counter[str], folder: str, kind: Kind, notes: list[str]) -> None:
    if others:
        kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in others.most_common())
        notes.append(f"{folder}: {others.total()} files are no {kind.word}s, or of kinds that are not read: {kinds}")


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
        if os.path.isdir(path):
            yield from _files(path, (*above, here), notes)
        else:
            yield path


def _matching(pattern: str, kind: Kind) -> list[Video]:
    """Matches of a glob, relative to the folder above its first part with a wildcard: ids are as in the folder."""
    root = Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    paths = (Path(match) for match in glob.glob(pattern, recursive=True))
    return [_local(path, path.relative_to(root).as_posix()) for path in paths if _is_one(path, kind)]


def _names_one(name: str, kind: Kind) -> bool:
    return PurePosixPath(name).suffix.lower() in kind.suffixes


def _is_one(path: Path, kind: Kind) -> bool:
    return _names_one(path.name, kind) and os.path.isfile(path)


def _local(path: Path, relative: str) -> Video:
    uri = str(Place("", str(path)).absolute())
    try:
        status = path.stat()
    except OSError:  # not there, or hidden from us: reading it will tell
        return Video(uri, relative, -1)
    return Video(uri, relative, status.st_size if path.is_file() else -1, status.st_mtime_ns)


def _in_store(place: Place, kind: Kind, notes: list[str]) -> list[Video]:
    """Those below a place of an object store, or the one that it names."""
    if _names_one(place.path, kind) and (info := store_of(place).info(place.path)):
        return [Video(str(place), place.name, info.bytes, info.mtime_ns)]
    found, others = [], Counter[str]()
    for name, entry in store_of(place).entries(place.path.rstrip("/")).items():
        if _names_one(name, kind):
            found.append(Video(str(place.below(name)), name, entry.bytes, entry.mtime_ns))
        else:
            others[PurePosixPath(name).suffix.lower()] += 1
    _note_others(others, place.public, kind, notes)
    return found


def _text_list(data: bytes, place: Place) -> list[Video]:
    return [_entry(line, place, number) for number, line in list_lines(data)]


def _parquet_list(stream: IO[bytes], place: Place) -> list[Video]:
    table = pq.read_table(stream)
    if "uri" not in table.column_names:
        raise ValueError(f"has no column 'uri', only {table.column_names}")
    kind = table.schema.field("uri").type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in _TEXT_KINDS):
        raise ValueError(f"its column 'uri' holds {kind}, not text")
    names = ("uri", "seconds", "bytes", "split", "start_s", "end_s", *RIGHTS)
    known = [name for name in names if name in table.column_names]
    rows = enumerate(table.select(known).to_pylist(), start=1)
    return [_reported(row, place, number) for number, row in rows if row["uri"]]


def _reported(row: Mapping[str, Any], place: Place, number: int) -> Video:
    """An entry with what its list says of it; length and size as far as they are possible values."""
    video, seconds, size = _entry(os.fsdecode(row["uri"]), place, number), row.get("seconds"), row.get("bytes")
    if isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0:
        video = replace(video, seconds=float(seconds))
    if isinstance(size, int) and size >= 0 and not Place.parse(video.uri).is_local:
        video = replace(video, bytes=size)
    texts = {name: str(row[name]).strip() or None for name in RIGHTS if row.get(name) is not None}
    return replace(video, split=_split(row, number), **_segment(row, number), **texts)


def _split(row: Mapping[str, Any], number: int) -> str | None:
    split = row.get("split")
    if split and not (isinstance(split, str) and _SPLIT.fullmatch(split)):
        raise ValueError(f"row {number}: split {split!r}: is no name such as train, val or test")
    return split or None


def _segment(row: Mapping[str, Any], number: int) -> dict[str, float | None]:
    """start_s and end_s, null and nan for the video's own; ValueError if they are no segment."""
    ends = {name: row.get(name) for name in ("start_s", "end_s")}
    try:
        found = {n: None if value is None or math.isnan(value) else float(value) for n, value in ends.items()}
    except TypeError as error:
        raise ValueError(f"row {number}: start_s and end_s are seconds, not {ends}") from error
    start_s, end_s = found["start_s"] or 0.0, found["end_s"]
    if not 0 <= start_s < (math.inf if end_s is None else end_s):
        raise ValueError(f"row {number}: no segment lies from {start_s:g} s to {end_s} s")
    return found


def _entry(entry: str, of_list: Place, number: int) -> Video:
    """An entry of a list: a URI, or a path relative to the list. What is not there stays in, to be dropped."""
    try:
        place = Place.parse(entry)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not is_uri(entry) and not entry.startswith("/"):
        place = of_list.parent.below(entry)
    return _local(Path(place.path), entry) if place.is_local else Video(str(place), entry, -1)
